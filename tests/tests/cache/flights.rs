//! Equal requests that are under way: one upstream call, and everybody's answer.

mod failures;
mod forms;
mod leaving;
mod pace;
mod purges;
mod shared;

use tests::{Binary, Connection, Door, FakeUpstream, Host, eventually};

/// The real binary, with a cache; `lines` stand in `[cache]`.
fn host(fake: &FakeUpstream, lines: &str) -> Binary {
    let host = Host::new().upstream(fake).provider("retries = 0").section(&format!("[cache]\n{lines}"));
    host.listen("max_connections_per_address = 5000").key("one", "ours").key("two", "ours").key("foreign", "theirs").spawn()
}

/// Waits until so many follow.
fn followed_by(host: &Door, count: usize) {
    eventually(&format!("{count} followers"), || {
        (host.metrics().sum("pointsman_flight_followers", &[]) == count as f64).then_some(())
    });
}

/// Reads a stream until it has so many events.
fn read_events(connection: &mut Connection, count: usize) {
    let mut live = connection.head().unwrap();
    let mut body = Vec::new();
    while body.windows(2).filter(|pair| pair == b"\n\n").count() < count {
        body.extend(live.portion().expect("the stream goes on"));
    }
}

/// So many words.
fn words(count: usize) -> String {
    (0..count).map(|number| format!("word{number}")).collect::<Vec<_>>().join(" ")
}
