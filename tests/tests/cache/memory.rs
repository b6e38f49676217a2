//! What `[cache] memory` counts is what the cache takes.

use tests::{Connection, FakeUpstream, Host};

/// An answer came as a slice of the connection's read buffer, and the cache kept the slice: each entry of some hundred bytes
/// held eight KiB, so that a cache which counted 85 MB took 790. What is stored is a copy now.
#[test]
fn a_short_answer_does_not_keep_the_buffer_that_it_came_in() {
    const ANSWERS: u64 = 4_000;
    let fake = FakeUpstream::start();
    let host = Host::new().upstream(&fake).cache().listen("threads = 1").spawn();
    let mut connection = Connection::open(host.address);
    let mut ask = |text: String| assert_eq!(connection.exchange(&host.ask(&text).bytes()).unwrap().status, 200);
    (0..200).for_each(|number| ask(format!("warm {number}")));
    let before = host.resident();
    (0..ANSWERS).for_each(|number| ask(format!("question {number}")));
    let grown = host.resident().saturating_sub(before);
    // About 1 KiB an entry with the table's own, and 8 KiB with a buffer.
    assert!(grown < ANSWERS * 4096, "{ANSWERS} short answers took {} KiB", grown >> 10);
}
