//! Attacks that are known by name: while one is under way others are served, and afterwards nothing is left of it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tests::h2::Session;
use tests::{Act, Binary, FakeUpstream, Host, eventually};

/// Connections of an attack: fewer than one address may have, so that it is not this bound alone that holds.
const CONNECTIONS: &str = "400";

fn host(fake: &FakeUpstream) -> Binary {
    let deadlines = "first_request = \"1s\"\nheader_read = \"1s\"\nbody_idle = \"1s\"\nbody_total = \"3s\"\nwrite_idle = \"1s\"";
    // A list of models that is long enough to be read slowly.
    let models: String = (0..200).map(|model| format!("[models.m{model}]\nprovider = \"fake\"\nname = \"m\"\n")).collect();
    Host::new().upstream(fake).listen(deadlines).section(&models).spawn()
}

/// Nobody is kept, nothing runs, and the next one is served.
fn is_over(host: &Binary, fake: &FakeUpstream) {
    eventually("its connections are gone", || (host.metrics().sum("pointsman_connections_open", &[]) == 0.0).then_some(()));
    eventually("nothing runs upstream", || (fake.active() == 0).then_some(()));
    assert_eq!(host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
    assert_eq!(host.chat("after").status, 200);
}

/// slowhttptest for five seconds, and good clients beside it.
fn slow(arguments: &[&str], path: &str) {
    let fake = FakeUpstream::start();
    let host = host(&fake);
    let before = host.resident();
    let mut attack = Command::new("slowhttptest")
        .args(["-c", CONNECTIONS, "-r", CONNECTIONS, "-i", "1", "-l", "5", "-p", "3", "-v", "1"])
        .args(arguments)
        .args(["-u", &format!("http://{}{path}", host.address)])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("slowhttptest is there; apt-get install slowhttptest");
    let (mut served, ends) = (0, Instant::now() + Duration::from_secs(30));
    let mut most = before;
    while attack.try_wait().unwrap().is_none() {
        if Instant::now() > ends {
            attack.kill().unwrap();
            panic!("{arguments:?}: slowhttptest does not end");
        }
        let answer = if served % 2 == 0 { host.chat("hi") } else { host.ask("hi").streamed().send() };
        assert_eq!((answer.status, answer.whole), (200, true), "{arguments:?}: {}", answer.text());
        served += 1;
        most = most.max(host.resident());
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = attack.wait_with_output().unwrap();
    println!("{arguments:?}: {served} served meanwhile, {} MiB before, {} at most", before >> 20, most >> 20);
    assert!(said.status.success() && served > 5, "{arguments:?}: {}", String::from_utf8_lossy(&said.stdout));
    assert!(most < before + (64 << 20), "{arguments:?}: {most}");
    assert!(host.metrics().sum("pointsman_connections_total", &["event=\"accepted\""]) > 400.0, "{arguments:?}");
    is_over(&host, &fake);
}

#[test]
fn slow_heads() {
    slow(&["-H"], "/v1/chat/completions");
}

#[test]
fn slow_bodies() {
    slow(&["-B", "-s", "8192"], "/v1/chat/completions");
}

#[test]
fn ranges() {
    slow(&["-R"], "/v1/models");
}

/// Answers that are hardly read, many to a connection.
#[test]
fn slow_reads() {
    slow(&["-X", "-k", "3", "-w", "1", "-y", "64", "-n", "1", "-z", "1"], "/v1/models");
}

/// CVE-2023-44487: streams that are reset as soon as they are opened cost the client nothing.
#[test]
fn rapid_resets() {
    const MOST: usize = 20_000;
    let fake = FakeUpstream::start();
    fake.when("reset", Act::answer().delay(Duration::from_secs(20)));
    let host = host(&fake);
    let body = r#"{"model":"small","messages":[{"role":"user","content":"reset me"}]}"#;
    for _ in 0..5 {
        let mut session = Session::plain(host.address);
        let sent = session.reset_at_once(body, MOST);
        assert!(sent < MOST, "{sent} resets, and the connection is still open");
        assert_eq!(host.chat("meanwhile").status, 200);
    }
    is_over(&host, &fake);
    println!("{} requests went upstream", fake.count());
}
