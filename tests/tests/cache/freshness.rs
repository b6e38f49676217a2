//! How old an answer may be: by the configuration, and by what a client asks.

use std::time::Duration;

use serde_json::json;
use tests::{Act, Answer, FakeUpstream, Fault, Gate, Host, Place, Running, eventually};

/// `ttl` is short; `lines` stand in `[cache]`.
fn host(fake: &FakeUpstream, lines: &str) -> Running {
    Host::new().upstream(fake).provider("retries = 0").section(&format!("[cache]\nttl = \"1s\"\n{lines}")).start()
}

fn its_time_is_over() {
    std::thread::sleep(Duration::from_millis(1_100));
}

fn check(answer: &Answer, cache: &str, content: &str) {
    assert_eq!((answer.status, answer.cache(), answer.content().as_str()), (200, cache, content), "{}", answer.text());
}

/// What is old is served at once, one refresh runs behind all who ask meanwhile, and then there is something new.
#[test]
fn stale_while_revalidate() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "stale_while_revalidate = \"1m\"");
    for (round, streamed) in [false, true].into_iter().enumerate() {
        let question = format!("question {round}");
        let ask = if streamed { host.ask(&question).streamed() } else { host.ask(&question) };
        let before = fake.count();
        let said = |number: usize| format!("Answer {} of tiny-1 to: {question}", before + number);
        check(&ask.send(), "miss", &said(1));
        its_time_is_over();
        let gate = Gate::new();
        fake.next(Act::answer().at(Place::Head(0), Fault::Hold(gate.clone())));
        for _ in 0..5 {
            let stale = ask.send();
            check(&stale, "stale", &said(1));
            assert!(stale.header("age").is_some_and(|age| age != "0"));
            assert_eq!((stale.header("x-pointsman-model"), stale.header("x-pointsman-degraded")), (Some("small"), None));
        }
        fake.wait_for(before + 2);
        gate.open();
        eventually("the new answer is there", || (ask.send().cache() == "exact").then_some(()));
        check(&ask.send(), "exact", &said(2));
        assert_eq!(fake.count(), before + 2, "one refresh for all of them");
    }
    eventually("both are counted", || {
        let metrics = host.metrics();
        (metrics.sum("pointsman_cache_refreshes_total", &["stale", "done"]) == 2.0).then_some(())
    });
    let metrics = host.metrics();
    assert_eq!(metrics.sum("pointsman_cache_lookups_total", &["outcome=\"refresh\""]), 2.0);
    assert!(metrics.sum("pointsman_cache_lookups_total", &["outcome=\"stale\""]) >= 10.0);
    let clients = metrics.sum("pointsman_cache_lookups_total", &[]) - 2.0;
    assert_eq!(metrics.sum("pointsman_exchanges_total", &[]), clients, "a refresh is no client's exchange");
    assert_eq!(
        metrics.sum("pointsman_tokens_total", &["prompt"]),
        2.0 * 7.0,
        "but it costs: the plain one, of which usage is known"
    );
    assert_eq!(fake.last().header("x-request-id"), None);
}

/// A refresh that fails takes nothing away, and is not tried again at once.
#[test]
fn a_refresh_that_fails_leaves_what_is_there() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "stale_while_revalidate = \"1m\"");
    assert_eq!(host.chat("hi").cache(), "miss");
    its_time_is_over();
    fake.always(Act::refuse(500, "broken"));
    check(&host.chat("hi"), "stale", "Answer 1 of tiny-1 to: hi");
    eventually("it has failed", || (host.metrics().sum("pointsman_cache_refreshes_total", &["failed"]) == 1.0).then_some(()));
    for _ in 0..10 {
        check(&host.chat("hi"), "stale", "Answer 1 of tiny-1 to: hi");
    }
    assert_eq!(fake.count(), 2, "it rests");
    assert_eq!(host.metrics().sum("pointsman_errors_total", &[]), 0.0, "no client has got an error");
}

/// Beyond its window nothing stale is served at once; and a client that says how fresh an answer must be gets none either.
#[test]
fn the_window_and_those_who_want_it_fresher() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "stale_while_revalidate = \"1s\"");
    let ask = host.ask("hi");
    assert_eq!(ask.send().cache(), "miss");
    its_time_is_over();
    for directive in ["max-age=60", "min-fresh=1", "no-cache"] {
        let answer = ask.clone().header("cache-control", directive).send();
        assert_eq!(answer.cache(), "miss", "{directive}");
        its_time_is_over();
    }
    std::thread::sleep(Duration::from_millis(1_000));
    assert_eq!(ask.send().cache(), "miss", "it has been over for too long");
    assert_eq!(fake.count(), 5);
}

#[test]
fn stale_if_error_without_degradation() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "stale_if_error = \"1m\"");
    let ask = host.ask("hi");
    assert_eq!(ask.send().cache(), "miss");
    its_time_is_over();
    fake.always(Act::refuse(500, "broken"));
    let stale = ask.send();
    check(&stale, "stale", "Answer 1 of tiny-1 to: hi");
    assert_eq!(fake.count(), 2, "it was asked first");
    for (directive, status) in [("no-cache", 500), ("stale-if-error=0", 500), ("stale-if-error=60", 200), ("max-age=0", 500)] {
        assert_eq!(ask.clone().header("cache-control", directive).send().status, status, "{directive}");
    }
    fake.always(Act::refuse(400, "bad"));
    assert_eq!(ask.send().status, 400, "the request's own fault is no failure of the upstream");
}

#[test]
fn directives_of_a_client() {
    let fake = FakeUpstream::start();
    let host = host(&fake, "stale_if_error = \"1m\"");
    let ask = host.ask("hi");
    let with = |directive: &str| ask.clone().header("cache-control", directive).send();
    let none = with("only-if-cached");
    assert_eq!((none.status, none.code().as_str()), (504, "not_cached"), "{}", none.text());
    assert_eq!(none.json()["error"]["param"], "cache-control");
    assert_eq!(fake.count(), 0, "nobody was asked");
    assert_eq!(with("only-if-cached, no-store").status, 504);
    assert_eq!(ask.send().cache(), "miss");
    assert_eq!(with("only-if-cached").cache(), "exact");
    assert_eq!(with("min-fresh=60").cache(), "miss", "its time is over before then");
    its_time_is_over();
    assert_eq!(with("only-if-cached").status, 504);
    check(&with("only-if-cached, max-stale=60"), "stale", "Answer 2 of tiny-1 to: hi");
    check(&with("max-stale"), "stale", "Answer 2 of tiny-1 to: hi");
    assert_eq!(fake.count(), 2, "and nothing was asked for anew");
    let without = Host::new().upstream(&fake).start();
    assert_eq!(without.ask("hi").header("cache-control", "only-if-cached").send().status, 504, "there is no cache");
}

/// Those that are used are there before their time is over; those that are not, and more than may be, are not asked for.
#[test]
fn refresh_ahead() {
    let fake = FakeUpstream::start();
    let lines = "[cache.refresh_ahead]\nshare = 0.9\nhits = 3\nper_second = 0.001";
    let host = Host::new().upstream(&fake).section(&format!("[cache]\nttl = \"4s\"\n{lines}")).start();
    for question in ["used", "not used", "used too"] {
        assert_eq!(host.chat(question).cache(), "miss");
    }
    std::thread::sleep(Duration::from_millis(600));
    for _ in 0..4 {
        assert_eq!(host.chat("used").cache(), "exact");
    }
    assert_eq!(host.chat("not used").cache(), "exact");
    fake.wait_for(4);
    assert_eq!(fake.last().json()["messages"][0]["content"], json!("used"));
    eventually("the new one is there", || {
        (host.metrics().sum("pointsman_cache_refreshes_total", &["ahead", "done"]) == 1.0).then_some(())
    });
    check(&host.chat("used"), "exact", "Answer 4 of tiny-1 to: used");
    for _ in 0..6 {
        assert_eq!(host.chat("used too").cache(), "exact");
    }
    assert_eq!(fake.count(), 4, "one was all that may be");
}
