//! Pools under load: an endpoint that turns bad is left alone, by others than the client it failed, and comes back when it is good
//! again; where a whole pool is gone another model answers, or the client is told what was tried.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tests::link::Weather;
use tests::{Act, Connection, FakeUpstream, Fault, FaultLink, Host, Place, Running, eventually, sse, within};

/// What an endpoint does that does nothing bad.
fn good() -> Act {
    Act::answer().delay(Duration::from_millis(5))
}

const WINDOW: Duration = Duration::from_secs(1);
const POOL: &str = "breaker = { window = \"1s\", open = \"500ms\", open_max = \"1s\", slow_start = \"1s\" }\n\
     timeouts = { connect = \"500ms\", headers = \"5s\", first_token = \"5s\" }";

/// Three fakes behind links that can be cut, and a host with a pool of them.
struct Three {
    fakes: [FakeUpstream; 3],
    links: [FaultLink; 3],
    host: Running,
}

impl Three {
    fn start(more: impl FnOnce(Host) -> Host) -> Self {
        let fakes: [FakeUpstream; 3] = std::array::from_fn(|_| FakeUpstream::start());
        fakes.iter().for_each(|fake| _ = fake.always(good()));
        let links: [FaultLink; 3] = std::array::from_fn(|place| FaultLink::to(fakes[place].address()));
        let pool = links.iter().fold(Host::new(), |host, link| host.endpoint(link.url()));
        Self { host: more(pool.provider(POOL)).start(), fakes, links }
    }

    /// The share of the first of them in the requests of so long.
    fn share_of_the_first(&self, during: Duration) -> f64 {
        let counts = || self.fakes.each_ref().map(FakeUpstream::count);
        let before = counts();
        std::thread::sleep(during);
        let seen: Vec<f64> = counts().iter().zip(before).map(|(now, before)| (now - before) as f64).collect();
        seen[0] / seen.iter().sum::<f64>()
    }
}

/// Eight clients ask without a pause while `work` goes on: requests, and those that were not answered with 200.
fn under_load(host: &Running, work: impl FnOnce()) -> (usize, usize) {
    let (stop, asked, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut connection = Connection::open(host.address);
                while !stop.load(Ordering::SeqCst) {
                    let answer = connection.exchange(&host.ask("hi").bytes()).expect("the host answers");
                    asked.fetch_add(1, Ordering::SeqCst);
                    failed.fetch_add(usize::from(answer.status != 200), Ordering::SeqCst);
                }
            });
        }
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::SeqCst);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    (asked.into_inner(), failed.into_inner())
}

/// Its share falls below 5 % within two windows, hardly a client sees an error, and it comes back.
fn check(what: &str, turn_bad: impl FnOnce(&Three), turn_good: impl FnOnce(&Three)) {
    let three = Three::start(|host| host);
    let (asked, failed) = under_load(&three.host, || {
        let share = three.share_of_the_first(WINDOW);
        assert!((0.2..0.5).contains(&share), "{what}: {share} while all is well");
        turn_bad(&three);
        std::thread::sleep(2 * WINDOW);
        let share = three.share_of_the_first(2 * WINDOW);
        assert!(share < 0.05, "{what}: {share}");
        turn_good(&three);
        // What it cost is forgotten after ten seconds; on a busy machine what it costs then may be measured badly once.
        let back = within(Duration::from_secs(45), || (three.share_of_the_first(WINDOW) > 0.1).then_some(()));
        assert!(back.is_some(), "{what}: it does not come back");
    });
    println!("{what}: {failed} of {asked} requests failed");
    assert!(failed * 1_000 <= asked, "{what}: {failed} of {asked}");
    assert_eq!(three.host.metrics().sum("pointsman_upstream_in_flight", &[]), 0.0);
}

fn acts(what: &str, act: Act) {
    check(what, |three| _ = three.fakes[0].always(act), |three| _ = three.fakes[0].always(good()));
}

#[test]
fn one_that_turns_slow_is_left() {
    acts("slow", Act::answer().delay(Duration::from_millis(800)));
}

#[test]
fn one_that_answers_500_is_left() {
    // It takes a moment: who was let go before that was told kept a breaker on probation from opening again.
    acts("500", Act::refuse(500, "broken").delay(Duration::from_millis(30)));
}

#[test]
fn one_that_answers_429_is_left() {
    acts("429", Act::refuse(429, "slow_down"));
}

#[test]
fn one_that_says_when_to_come_back_is_left_until_then() {
    acts("429 with retry-after", Act::refuse(429, "slow_down").header("retry-after", "2"));
}

#[test]
fn one_that_is_dead_is_left() {
    check("dead", |three| three.links[0].set(Weather::dead()), |three| three.links[0].set(Weather::default()));
}

#[test]
fn where_all_are_dead_another_model_answers() {
    let other = FakeUpstream::start();
    let section = format!(
        "[providers.other]\nkind = \"openai\"\nendpoints = [{:?}]\n[models.substitute]\nprovider = \"other\"\nname = \"sub-1\"\n\
         [models.first]\nprovider = \"fake\"\nname = \"tiny-1\"\nfallback = [\"substitute\", \"small\"]\n[cache]",
        other.url()
    );
    let three = Three::start(|host| host.section(&section));
    let ask = || three.host.ask("hi").model("first").send();
    assert_eq!((ask().header("x-pointsman-model"), ask().cache()), (Some("first"), "exact"));
    three.links.iter().for_each(|link| link.set(Weather::dead()));
    let ask = |text: &str| three.host.ask(text).model("first").send();
    for turn in 0..20 {
        let answer = ask(&format!("turn {turn}"));
        assert_eq!((answer.status, answer.header("x-pointsman-model")), (200, Some("substitute")), "{}", answer.text());
    }
    assert_eq!(ask("turn 0").cache(), "miss", "what takes an answer's place is not kept as one");
    let before = other.count();
    three.links.iter().for_each(|link| link.set(Weather::default()));
    eventually("the first model again", || (ask("and now?").header("x-pointsman-model") == Some("first")).then_some(()));
    assert!(other.count() >= before);
}

/// All of it gone: said in time, with what was tried.
#[test]
fn where_everything_is_dead_the_client_is_told() {
    let three = Three::start(|host| host.provider("retries = 2"));
    three.links.iter().for_each(|link| link.set(Weather::dead()));
    let began = Instant::now();
    let answer = three.host.chat("hi");
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_upstream"), "{}", answer.text());
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(answer.text().contains("`fake` of the model `small` gave no whole answer"), "{}", answer.text());
    assert!(!answer.text().contains("127.0.0.1"), "addresses are for the log");
}

/// Retries do not multiply an outage: over many requests they are a share of them.
#[test]
fn retries_keep_to_their_budget() {
    let fake = FakeUpstream::start();
    fake.always(Act::refuse(500, "broken"));
    let host = Host::new().upstream(&fake).provider("retries = 3\nretry_budget = 0.1").start();
    for _ in 0..200 {
        assert_eq!(host.chat("hi").status, 500);
    }
    // A tenth of 200, and three a second that are free, of ten seconds.
    assert!((200 + 15..=200 + 20 + 30).contains(&fake.count()), "{}", fake.count());
}

/// Another endpoint might have answered, and the owner's budget keeps it from being asked: the client is told, and not that the first one broke.
#[test]
fn an_error_says_that_the_budget_is_spent() {
    let fakes = [FakeUpstream::start(), FakeUpstream::start()];
    for fake in &fakes {
        fake.always(Act::answer().at(Place::Head(0), Fault::Cut));
    }
    let policy = "retry_budget = 0.1\nbreaker = { failures = 1000, success_rate = 0.0 }";
    let host = Host::new().upstream(&fakes[0]).upstream(&fakes[1]).provider(policy).start();
    let seen: Vec<_> = (0..100).map(|_| host.chat("hi")).collect();
    let is_spent = |answer: &&tests::Answer| answer.text().contains("`retry_budget`");
    assert!(seen.iter().filter(is_spent).count() > 20, "{}", seen[99].text());
    for answer in &seen {
        assert_eq!((answer.status, answer.code().as_str()), (503, "no_upstream"), "{}", answer.text());
    }
}

/// `retry_budget = 0` still gave three further tries a second: whoever writes 0 means none.
#[test]
fn a_budget_of_nothing_is_none() {
    let fake = FakeUpstream::start();
    fake.always(Act::refuse(500, "broken"));
    let host = Host::new().upstream(&fake).provider("retries = 3\nretry_budget = 0").start();
    (0..40).for_each(|_| assert_eq!(host.chat("hi").status, 500));
    assert_eq!(fake.count(), 40);
}

/// It begins each answer and finishes none, with a clean end or without.
#[test]
fn an_endpoint_whose_streams_break_off_is_left_alone() {
    for fault in [Fault::Cut, Fault::Event("")] {
        let fakes = [FakeUpstream::start(), FakeUpstream::start()];
        fakes[0].always(Act::answer().at(Place::Piece(2, 0), fault.clone()));
        // The quicker one gets what comes, as long as it is asked at all.
        fakes[1].always(Act::answer().delay(Duration::from_millis(40)));
        let policy = "[providers.fake.breaker]\nfailures = 100\nopen = \"1h\"\nopen_max = \"1h\"";
        let host = Host::new().upstream(&fakes[0]).upstream(&fakes[1]).section(policy).start();
        let broken = (0..80).filter(|_| sse::error(&host.ask("hi").streamed().send().body).is_some()).count();
        let asked = fakes[0].count();
        assert!((5..=40).contains(&asked) && broken == asked, "{fault:?}: asked {asked} times, broken {broken}");
    }
}

/// Where there is no other endpoint a busy one is not asked again. Each such request took from the budget all the same, and when it was
/// spent, others that could have been tried again were not.
#[test]
fn a_try_that_is_not_made_leaves_the_budget_as_it_was() {
    let fake = FakeUpstream::start();
    let host =
        Host::new().upstream(&fake).provider("retry_budget = 0.001\nbreaker = { failures = 1000, success_rate = 0.0 }").start();
    fake.always(Act::refuse(503, "busy"));
    // More than the budget has for ten seconds.
    (0..60).for_each(|_| assert_eq!(host.chat("hi").status, 503));
    assert_eq!(fake.count(), 60);
    fake.always(Act::answer()).next(Act::refuse(500, "broken"));
    assert_eq!(host.chat("hi").status, 200, "it is tried again");
}
