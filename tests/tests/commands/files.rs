//! Open files: a process takes what the system gives it, and says where that is less than its configuration can need.

use tests::{Binary, FakeUpstream, Host};

/// The soft and the hard limit of a process.
fn limits(host: &Binary) -> (String, String) {
    let text = std::fs::read_to_string(format!("/proc/{}/limits", host.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    (words[3].to_owned(), words[4].to_owned())
}

/// Where the soft limit is 1024, as it is by default on most systems, the rest of 10000 connections hung in the backlog.
#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen("max_connections = 100").spawn_after("ulimit -Sn 200; ulimit -Hn 600");
    assert_eq!(limits(&host), ("600".into(), "600".into()));
    assert_eq!(host.chat("hi").status, 200);
    assert!(!host.log().iter().any(|line| line.contains("max_connections")), "{:?}", host.log());
}

#[test]
fn a_limit_that_is_too_low_is_told() {
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).listen("max_connections = 300").spawn_after("ulimit -n 600");
    let line = host.wait_for_log("listen.max_connections = 300");
    assert!(line.contains("\"limit\":600") && line.contains("\"needed\":856") && line.contains("\"WARN\""), "{line}");
}
