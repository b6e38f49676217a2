//! `pointsman cache warm`: what a file asks is there when an application asks it.

use std::fs;

use serde_json::{Value, json};
use tests::{Act, FakeUpstream, Fault, Gate, Host, Place, SOON, binary, within};

const TWO: &str = concat!(
    r#"{"model":"small","messages":[{"role":"user","content":"first"}],"temperature":0}"#,
    "\n\n",
    r#"{"custom_id":"2","method":"POST","url":"/v1/chat/completions","body":{"model":"small","messages":[{"role":"user","content":"second"}],"stream":true}}"#,
    "\n",
);

fn warm(url: &str, lines: &str, more: &[&str]) -> (i32, Value, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.jsonl");
    fs::write(&file, lines).unwrap();
    let arguments = [&["cache", "warm", "--json", "--url", url, "--file", file.to_str().unwrap()], more].concat();
    let (code, out, err) = binary::run_with(&arguments, &[("POINTSMAN_KEY", "pm-of-a-test")]);
    (code, serde_json::from_str(&out).unwrap_or_default(), err)
}

#[test]
fn what_a_file_asks_is_there() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().start();
    let url = format!("http://{}", host.address);
    let lines = format!("{TWO}\"third\"\n");
    let (code, sum, err) = warm(&url, &lines, &["--model", "small"]);
    assert_eq!(
        (code, sum, err.as_str()),
        (0, json!({"asked": 3, "there": 0, "not_kept": 0, "failed": 0, "failed_lines": []}), "")
    );
    let (code, sum, _) = warm(&url, &lines, &["--model", "small", "--concurrency", "1"]);
    assert_eq!((code, &sum["asked"], &sum["there"]), (0, &0.into(), &3.into()));
    assert_eq!(fake.count(), 3);
    assert_eq!(host.chat("third").cache(), "exact");
}

/// An equal line, or an application's own request, is under way: its answer is there in a moment.
#[test]
fn what_is_under_way_is_not_asked_again() {
    let (fake, gate) = (FakeUpstream::start(), Gate::new());
    fake.next(Act::answer().at(Place::Head(0), Fault::Hold(gate.clone())));
    let host = Host::new().upstream(&fake).cache().start();
    let url = format!("http://{}", host.address);
    let (followed, (code, sum, _)) = std::thread::scope(|scope| {
        let followed = scope.spawn(|| {
            let follows = || (host.metrics().sum("pointsman_flight_followers", &[]) == 1.0).then_some(());
            let followed = within(SOON, follows);
            gate.open();
            followed
        });
        let said = warm(&url, "\"hi\"\n\"hi\"\n", &["--model", "small", "--concurrency", "2"]);
        (followed.join().unwrap(), said)
    });
    assert!(followed.is_some());
    assert_eq!((code, &sum["asked"], &sum["there"], fake.count()), (0, &1.into(), &1.into(), 1), "{sum}");
}

/// What a node gets: a batch's request, with the key, again where it has no room; and what is no answer is told by its line.
#[test]
fn it_asks_as_a_batch_and_waits() {
    let node = FakeUpstream::start();
    node.next(Act::refuse(429, "rate_limit_exceeded").header("retry-after", "0"));
    node.next(Act::refuse(503, "overloaded").header("retry-after", "0"));
    node.when("second", Act::refuse(400, "invalid_request"));
    let (code, sum, err) = warm(&node.url(), TWO, &["--concurrency", "1"]);
    assert_eq!((code, sum), (1, json!({"asked": 0, "there": 0, "not_kept": 1, "failed": 1, "failed_lines": [3]})));
    assert!(err.starts_with("line 3: 400: "), "{err}");
    assert_eq!(node.count(), 4);
    let seen = node.last();
    assert_eq!((seen.header("x-pointsman-priority"), seen.header("authorization")), (Some("batch"), Some("Bearer pm-of-a-test")));
}

#[test]
fn what_cannot_be_read_is_told_before_anything_is_asked() {
    let node = FakeUpstream::start();
    let (code, _, err) = warm(&node.url(), &format!("{TWO}no json\n"), &[]);
    assert!(code == 2 && err.contains("nothing was asked:\nline 4: it is no JSON"), "{err}");
    let (code, _, err) = warm("ftp://there", TWO, &[]);
    assert!(code == 2 && err.contains("`ftp://there/` is no URL of a node"), "{err}");
    assert_eq!(node.count(), 0);
}
