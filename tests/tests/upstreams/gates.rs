//! A pool with more to do than it bears: what does not fit is ordered, waits within bounds, and is sent away quickly.

use std::time::{Duration, Instant};

use tests::{Act, FakeUpstream, Gate, Host, Running, eventually};

const FIXED: &str = "concurrency = { start = 2, min = 2, max = 2, queue = 4, wait = \"10s\" }";

fn waiting(host: &Running) -> f64 {
    host.metrics().sum("pointsman_upstream_waiting", &[])
}

/// Two run, four wait, the rest is told at once to come back.
#[test]
fn what_does_not_fit_is_sent_away_at_once() {
    let fake = FakeUpstream::start();
    let gate = Gate::new();
    fake.always(Act::answer().hold_at(0, &gate));
    let host = Host::new().upstream(&fake).provider(FIXED).start();
    std::thread::scope(|scope| {
        let held: Vec<_> = (0..6).map(|_| scope.spawn(|| host.ask("hi").streamed().send())).collect();
        eventually("two run, and four wait", || (waiting(&host) == 4.0 && fake.count() == 2).then_some(()));
        for _ in 0..5 {
            let began = Instant::now();
            let answer = host.chat("one more");
            assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"), "{}", answer.text());
            assert!(answer.header("retry-after").and_then(|after| after.parse::<u32>().ok()).is_some_and(|after| after >= 1));
            assert!(began.elapsed() < Duration::from_secs(2));
        }
        gate.open();
        assert!(held.into_iter().all(|held| held.join().unwrap().status == 200));
    });
    assert_eq!(host.metrics().sum("pointsman_upstream_shed_total", &["priority=\"interactive\""]), 5.0);
    assert_eq!((waiting(&host), host.metrics().sum("pointsman_upstream_in_flight", &[])), (0.0, 0.0));
}

/// The place of a stream is taken until its last byte, and given back by a client that leaves, before its turn or after.
#[test]
fn a_place_is_held_to_the_last_byte_and_given_back_by_who_leaves() {
    let fake = FakeUpstream::start();
    let gate = Gate::new();
    let host =
        Host::new().upstream(&fake).provider("concurrency = { start = 1, min = 1, max = 1, queue = 2, wait = \"10s\" }").start();
    fake.next(Act::answer().hold_at(300, &gate));
    let mut first = tests::Connection::open(host.address);
    let mut live = host.ask("hi").streamed().live(&mut first);
    assert!(live.portion().is_some());
    let mut leaves = tests::Connection::open(host.address);
    leaves.write(&host.ask("leaves").bytes()).unwrap();
    eventually("one waits", || (waiting(&host) == 1.0).then_some(()));
    drop(leaves);
    eventually("it has left the line", || (waiting(&host) == 0.0).then_some(()));
    std::thread::scope(|scope| {
        let next = scope.spawn(|| host.chat("next"));
        eventually("the next waits", || (waiting(&host) == 1.0).then_some(()));
        assert_eq!(fake.count(), 1, "the stream has its place until its end");
        gate.open();
        while live.portion().is_some() {}
        assert_eq!(next.join().unwrap().status, 200);
    });
}

/// Batch waits for everybody else, and gives up its place in a full line.
#[test]
fn the_urgent_go_first() {
    let fake = FakeUpstream::start();
    let gate = Gate::new();
    let host = Host::new()
        .upstream(&fake)
        .provider("concurrency = { start = 1, min = 1, max = 1, queue = 3, wait = \"10s\" }")
        .limited_key("person", "one", "")
        .limited_key("robot", "two", "priority = \"batch\"")
        .start();
    fake.next(Act::answer().hold_at(0, &gate));
    std::thread::scope(|scope| {
        let ask = |text: &str, key: &str, header: Option<&str>| {
            let ask = host.ask(text).key(key);
            let ask = header.map_or(ask.clone(), |priority| ask.header("x-pointsman-priority", priority));
            scope.spawn(move || ask.send().status)
        };
        let first = ask("first", "person", None);
        eventually("it runs", || (fake.count() == 1).then_some(()));
        let mut lined_up = 0.0;
        let mut in_line = |asked| {
            lined_up += 1.0;
            eventually("it waits", || (waiting(&host) == lined_up).then_some(()));
            asked
        };
        let batch = in_line(ask("batch", "robot", None));
        // A key's priority is the most that a request of it may say.
        let pretends = in_line(ask("pretends", "robot", Some("realtime")));
        let patient = in_line(ask("patient", "person", Some("batch")));
        // The line is full: the youngest of the least urgent makes room.
        let person = ask("a person", "person", None);
        let sent_away = [batch, pretends, patient];
        eventually("one is sent away", || (host.metrics().sum("pointsman_upstream_shed_total", &[]) == 1.0).then_some(()));
        gate.open();
        assert_eq!((first.join().unwrap(), person.join().unwrap()), (200, 200));
        let mut others = sent_away.map(|asked| asked.join().unwrap());
        others.sort_unstable();
        assert_eq!(others, [200, 200, 503]);
    });
    // In the order in which the upstream got them: clients may learn of their answers in another.
    let came = fake.requests();
    assert!(came[1].text().contains("a person") && came.len() == 4, "{came:?}");
    let wrong = host.ask("hi").key("person").header("x-pointsman-priority", "asap").send();
    assert_eq!((wrong.status, wrong.code().as_str()), (400, "invalid_request"));
}

/// Where another model can answer, who is sent away at the first is answered by it.
#[test]
fn a_full_pool_falls_back() {
    let (fake, other) = (FakeUpstream::start(), FakeUpstream::start());
    let gate = Gate::new();
    fake.always(Act::answer().hold_at(0, &gate));
    let more = format!(
        "[providers.other]\nkind = \"openai\"\nendpoints = [{:?}]\n[models.substitute]\nprovider = \"other\"\nname = \"sub-1\"\n\
         [models.first]\nprovider = \"fake\"\nname = \"tiny-1\"\nfallback = [\"substitute\"]",
        other.url()
    );
    let full = "concurrency = { start = 1, min = 1, max = 1, queue = 0 }";
    let host = Host::new().upstream(&fake).provider(full).section(&more).start();
    std::thread::scope(|scope| {
        let held = scope.spawn(|| host.ask("held").model("first").send());
        eventually("it runs", || (fake.count() == 1).then_some(()));
        let answer = host.ask("hi").model("first").send();
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("substitute")), "{}", answer.text());
        gate.open();
        assert_eq!(held.join().unwrap().header("x-pointsman-model"), Some("first"));
    });
}
