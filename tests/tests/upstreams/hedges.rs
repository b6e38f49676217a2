//! Hedging: a late answer is asked of a second endpoint too, the first to begin wins, and the other one is told to stop.

use std::time::{Duration, Instant};

use tests::{Act, FakeUpstream, Fault, Host, Place, Running, sse};

const AFTER: Duration = Duration::from_millis(100);

/// Two endpoints; which of them is asked first is left to chance.
fn two(policy: &str) -> ([FakeUpstream; 2], Running) {
    let fakes = [FakeUpstream::start(), FakeUpstream::start()];
    let host = Host::new().upstream(&fakes[0]).upstream(&fakes[1]).provider(policy).start();
    (fakes, host)
}

const AT_ONCE: &str = "hedge = { after = \"100ms\", budget = 1.0 }\nretries = 0";

#[test]
fn a_late_answer_is_overtaken_and_its_upstream_left() {
    for streamed in [false, true] {
        let (fakes, host) = two(AT_ONCE);
        let late = Act::answer().delay(Duration::from_secs(20));
        let (mut overtaken, mut turn) = (0, 0);
        // Which one is asked first is left to chance.
        while (turn < 12 || overtaken == 0) && turn < 200 {
            // One of them is late, by turns.
            fakes[turn % 2].always(late.clone());
            fakes[1 - turn % 2].always(Act::answer());
            let began = Instant::now();
            let ask = host.ask(&format!("turn {turn}"));
            let answer = if streamed { ask.streamed().send() } else { ask.send() };
            assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
            assert!(!streamed || sse::is_done(&answer.body));
            overtaken += usize::from(began.elapsed() >= AFTER);
            turn += 1;
        }
        assert!(overtaken >= 1, "it was never the late one that was asked first");
        assert_eq!(host.metrics().sum("pointsman_hedges_total", &[]), overtaken as f64);
        assert_eq!(host.metrics().sum("pointsman_retries_total", &[]), 0.0);
        let departures: usize = fakes.iter().map(|fake| fake.count()).sum::<usize>() - turn;
        assert_eq!(departures, overtaken, "each late request was asked once, and one beside it");
        tests::eventually("the late ones are left", || fakes.iter().all(|fake| fake.active() == 0).then_some(()));
        assert_eq!(host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
    }
}

/// The first to begin wins, though the other one began to be asked before it: one stream, of one endpoint.
#[test]
fn a_stream_is_of_one_endpoint() {
    let (fakes, host) = two(AT_ONCE);
    for (fake, name) in fakes.iter().zip(["one", "two"]) {
        fake.always(Act::say(name).delay(AFTER + Duration::from_millis(60)));
    }
    for _ in 0..8 {
        let answer = host.ask("hi").streamed().send();
        assert!(["one", "two"].contains(&answer.content().as_str()), "{}", answer.text());
        assert_eq!(answer.text().matches("\"role\"").count(), 1, "{}", answer.text());
    }
}

/// Where the second fails too, the first is waited for.
#[test]
fn a_hedge_that_fails_harms_nobody() {
    let (fakes, host) = two(AT_ONCE);
    for (first, second) in [(0, 1), (1, 0)] {
        fakes[first].always(Act::answer().delay(4 * AFTER));
        fakes[second].always(Act::refuse(500, "broken"));
        for _ in 0..6 {
            let before = fakes[first].count();
            let answer = host.chat("hi");
            // Without retries a request whose first endpoint is the broken one has nothing but its refusal. Where the late one was
            // asked, its answer is waited for, whatever becomes of the hedge.
            let expect = if fakes[first].count() > before { 200 } else { 500 };
            assert_eq!(answer.status, expect, "{}", answer.text());
        }
    }
}

#[test]
fn hedges_keep_to_their_budget() {
    let (fakes, host) = two("hedge = { after = \"1ms\", budget = 0.05 }");
    fakes.iter().for_each(|fake| _ = fake.always(Act::answer().delay(Duration::from_millis(10))));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|_| assert_eq!(host.chat("hi").status, 200)));
        }
    });
    let hedges = host.metrics().sum("pointsman_hedges_total", &[]);
    assert!((10.0..=20.0).contains(&hedges), "{hedges} of 400");
    assert_eq!(fakes.iter().map(FakeUpstream::count).sum::<usize>(), 400 + hedges as usize);
}

/// By percentile: nothing before enough is known, then the slow end alone.
#[test]
fn the_slow_end_is_hedged() {
    let (fakes, host) = two("hedge = { after = \"p90\", budget = 1.0 }");
    for turn in 0..60 {
        let slow = Act::answer().delay(Duration::from_millis(if turn >= 40 && turn % 10 == 0 { 3_000 } else { 20 }));
        fakes.iter().for_each(|fake| _ = fake.always(slow.clone()));
        assert_eq!(host.chat("hi").status, 200);
        if turn < 19 {
            assert_eq!(host.metrics().sum("pointsman_hedges_total", &[]), 0.0);
        }
    }
    let hedges = host.metrics().sum("pointsman_hedges_total", &[]);
    assert!((1.0..=30.0).contains(&hedges), "{hedges}");
}

/// Late answers that were overtaken were counted as the quick ones that had overtaken them. So the slow end was looked for among
/// answers that had nothing wrong with them, and these were hedged until the budget was spent.
#[test]
fn answers_that_were_overtaken_are_still_the_slow_end() {
    let fake = FakeUpstream::with_doors(2);
    let host = fake.addresses().iter().fold(Host::new(), |host, address| host.endpoint(format!("http://{address}/v1")));
    let host = host.provider("hedge = { after = \"p50\", budget = 1.0 }\nretries = 0").start();
    let ask_all = |delays: &[u64]| {
        for delay in delays {
            // Whoever is asked first gets it. A hedge gets what is usual, which is at once.
            fake.next(Act::answer().delay(Duration::from_millis(*delay)));
            assert_eq!(host.chat("hi").status, 200);
        }
    };
    // Nothing is hedged before twenty answers are known, so none of these is late.
    ask_all(&[20, 60, 100, 40, 120, 80].repeat(4));
    // Of ten, four are late; half of all have begun after the fifth of the others.
    let mixed = [20, 9_000, 60, 100, 9_000, 40, 9_000, 120, 80, 9_000];
    ask_all(&mixed.repeat(4));
    let hedges = || host.metrics().sum("pointsman_hedges_total", &[]);
    let before = hedges();
    ask_all(&mixed.repeat(4));
    // The four, and the slowest of the others.
    let share = (hedges() - before) / 40.0;
    assert!((0.4..0.75).contains(&share), "{share}");
}

/// What the loser has read is paid for: where vectors are asked for, where a model judges an answer, and where a stream is gone on with.
#[test]
fn losers_are_paid_for_whatever_they_were_asked() {
    const LATE: Duration = Duration::from_secs(1);
    const WORDS: &str = "one two three four five six seven eight";
    let section = "[models.dear]\nprovider = \"fake\"\nname = \"vectors-1\"\nkind = \"embedding\"\nprice = { input = 4.0, output = 0.0 }\n\
                   [models.judge]\nprovider = \"fake\"\nname = \"judge-1\"\nprice = { input = 4.0, output = 4.0 }\n\
                   [models.steps]\nchoose = [\"small\", \"large\"]\n[models.steps.cascade]\n\
                   self_check = { model = \"judge\", ask = \"Is this good? {answer}\" }";
    // What was paid for nothing, and how many requests there were.
    let paid = |policy: &str, ask: &dyn Fn(&Running)| {
        let fakes = [FakeUpstream::start(), FakeUpstream::start(), FakeUpstream::start()];
        let host =
            Host::new().provider(&format!("continuation = \"vllm\"\nretries = 1\nretry_budget = 1.0\n{policy}")).section(section);
        let host = fakes.iter().fold(host, |host, fake| host.upstream(fake)).start();
        for fake in &fakes {
            // What is said last holds where both marks are there.
            fake.when("count", Act::say(WORDS).at(Place::Piece(4, 9), Fault::Cut));
            fake.when("judge-1", Act::say("yes").delay(LATE));
            fake.when("vectors-1", Act::answer().delay(LATE));
            fake.when("continue_final_message", Act::say("four five six seven eight").delay(LATE));
        }
        ask(&host);
        let metrics = host.metrics();
        let sum = |name: &str| metrics.sum(name, &[]);
        assert_eq!(sum("pointsman_exchanges_total"), 1.0);
        (sum("pointsman_discarded_cost_micro_usd_total"), fakes.iter().map(FakeUpstream::count).sum::<usize>())
    };
    let check = |what: &str, ask: &dyn Fn(&Running)| {
        let (alone, beside) = (paid("", ask), paid("hedge = { after = \"100ms\", budget = 1.0 }", ask));
        assert!(beside.1 > alone.1, "{what}: one was asked beside another");
        assert!(beside.0 > alone.0, "{what}: {beside:?} {alone:?}");
    };
    check("embeddings", &|host| {
        let body = serde_json::json!({ "model": "dear", "input": "a text of some length" }).to_string();
        assert_eq!(host.post("/v1/embeddings", body.as_bytes(), &[]).status, 200);
    });
    check("a self-check", &|host| {
        let answer = host.ask("hi").model("steps").send();
        assert_eq!((answer.status, answer.header("x-pointsman-escalated")), (200, None), "{}", answer.text());
    });
    check("a continuation", &|host| {
        let answer = host.ask("count").model("large").streamed().send();
        assert_eq!((sse::content(&answer.body).as_str(), sse::is_done(&answer.body)), (WORDS, true), "{}", answer.text());
    });
}
