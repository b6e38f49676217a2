//! One cell of the table: a fault is let happen to the first try, and what the client and the upstreams have seen is held to what
//! the table says.
//!
//! The upstreams of a cell are one server with several doors: whichever endpoint the host asks first has the fault, all others are
//! good, so that no cell depends on chance.
//!
//! **Invariant:** who holds out upstream is let go by the host, and by nothing else.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::Duration;

use tests::link::{Stop, Then, Weather};
use tests::{Act, Door, FakeUpstream, Fault as Wrong, FaultLink, Gate, Host, Place, Running, eventually};

use super::seen::{is_seen, told};
use super::table::{
    Cascade, EVENTS, FINISH, Fate, Fault, HELD, POLICIES, Phase, Policy, Sees, THEIR_CODE, is_after_first, is_mended, sees,
};

/// What each phase is bounded by: far more than a good answer takes, also on a machine that has much else to do.
const BOUND: Duration = Duration::from_secs(2);
const HEDGE: Duration = Duration::from_millis(300);
/// Bytes of a request of which the upstream reads only the beginning, and of that beginning.
const LARGE: usize = 5 << 20;
const READ: usize = 64 << 10;
/// Doors of a cell's upstream: three for the pool, the last for the provider that falls in.
pub(crate) const DOORS: usize = 4;
/// What the judge doubts, in as many words as a good answer.
pub(crate) const DOUBTED: &str = "Is it? Or is it not?";

/// A cell.
pub(crate) struct Cell {
    pub(crate) what: String,
    pub(crate) policy: &'static Policy,
    pub(crate) streamed: bool,
    /// What happens with the first answers, one after the other.
    pub(crate) acts: Vec<Act>,
    /// What happens with the first connections; none where it is the answers that fail.
    pub(crate) weather: Vec<Weather>,
    pub(crate) fate: Fate,
    /// Whole events that come before it, of all halves.
    pub(crate) passed: usize,
    /// Seams before it.
    pub(crate) seams: usize,
    /// What is asked is longer than what is read.
    pub(crate) large: bool,
    pub(crate) expected: Sees,
    /// Tries that it takes.
    pub(crate) tries: usize,
    /// Micro-dollars that are paid for what the client does not get.
    pub(crate) lost: usize,
}

impl Cell {
    /// A cell of the table.
    pub(crate) fn of(fault: Fault, phase: Phase, fate: Fate, streamed: bool, policy: &'static Policy) -> Self {
        let shape = if streamed { "streamed" } else { "plain" };
        let what = format!("{fault:?} at {phase:?}, {shape}, policy: {}", policy.name);
        let stopped = |after| {
            let fair = matches!(policy.cascade, Some(Cascade::Second)).then(Weather::default);
            fair.into_iter().chain([weather(fault, after)]).collect()
        };
        let (act, weather, passed) = match phase {
            Phase::Accepted => (None, stopped(0), 0),
            Phase::Tls => (None, stopped(100), 0),
            Phase::Sending => (None, stopped(READ), 0),
            _ => (Some(act(fault, phase)), Vec::new(), passed(place(phase))),
        };
        Self { weather, large: phase == Phase::Sending, ..Self::with(what, act, fate, passed, streamed, policy) }
    }

    /// A cell in which an answer fails after so many events.
    pub(crate) fn with(
        what: String,
        act: Option<Act>,
        fate: Fate,
        passed: usize,
        streamed: bool,
        policy: &'static Policy,
    ) -> Self {
        let doubted = matches!(policy.cascade, Some(Cascade::Second)).then(|| Act::say(DOUBTED));
        let tries = 1 + usize::from(is_mended(fate, policy, passed)) + usize::from(doubted.is_some());
        let (acts, expected) = (doubted.into_iter().chain(act).collect(), sees(fate, policy, passed));
        let lost = lost(fate, passed, streamed, policy);
        Self { what, policy, streamed, acts, weather: Vec::new(), fate, passed, seams: 0, large: false, expected, tries, lost }
    }
}

/// What is paid for answers that nobody gets: one a word, or an event of a stream that was left.
fn lost(fate: Fate, passed: usize, streamed: bool, policy: &Policy) -> usize {
    match (policy.cascade, sees(fate, policy, passed)) {
        (_, Sees::Continued) => passed - 1,
        (Some(Cascade::Second), Sees::Kept) => 0,
        (Some(Cascade::Second), _) if streamed => HELD,
        (Some(Cascade::Second), _) => DOUBTED.split(' ').count(),
        // The event that says that it has failed is one, too.
        (Some(Cascade::First(_)), Sees::Whole) if is_after_first(fate) => passed + usize::from(fate == Fate::Theirs),
        _ => 0,
    }
}

/// The policy with this name.
pub(crate) fn policy(name: &str) -> &'static Policy {
    POLICIES.iter().find(|policy| policy.name == name).expect("there is one of that name")
}

/// A provider `name` with its model, and those that fall in for them.
pub(crate) fn section(name: &str, policy: &Policy, pool: &[String], spare: &str) -> String {
    let bound = format!("\"{}ms\"", BOUND.as_millis());
    let bounds =
        ["connect", "tls", "headers", "first_token", "between_tokens"].map(|phase| format!("{phase} = {bound}")).join(", ");
    let hedge = format!("hedge = {{ after = \"{}ms\", budget = 1.0 }}", HEDGE.as_millis());
    let hedge = if policy.hedge { &hedge } else { "" };
    let fallback = if policy.fallback { format!("fallback = [\"{name}-spare\"]") } else { String::new() };
    let retries = policy.retries;
    let continuation = if policy.continues { "continuation = \"vllm\"" } else { "" };
    let (model, cascade) = match policy.cascade {
        None => (name.to_owned(), String::new()),
        Some(cascade) => {
            let held = if let Cascade::First(held) = cascade { held } else { HELD };
            let cascade = format!(
                "[models.{name}]\nchoose = [\"{name}-first\", \"{name}-spare\"]\n[models.{name}.cascade]\nmin_logprob = -0.5\ntokens = {held}\n"
            );
            (format!("{name}-first"), cascade)
        }
    };
    let price = "price = { input = 0.0, output = 1.0 }";
    format!(
        "[providers.{name}]\nkind = \"openai\"\nendpoints = {pool:?}\ntimeouts = {{ {bounds} }}\nretries = {retries}\nretry_budget = 1.0\n{hedge}\n{continuation}\n\
         [models.{model}]\nprovider = \"{name}\"\nname = \"m\"\n{price}\n{fallback}\n{cascade}\n\
         [providers.{name}-spare]\nkind = \"openai\"\nendpoints = [{spare:?}]\ntimeouts = {{ {bounds} }}\nretries = 0\n\
         [models.{name}-spare]\nprovider = \"{name}-spare\"\nname = \"m\"\n{price}\n"
    )
}

fn place(phase: Phase) -> Place {
    match phase {
        Phase::BeforeHead => Place::Head(0),
        Phase::InHead => Place::Head(25),
        Phase::InBody => Place::Body(100),
        Phase::LastByte => Place::BeforeEnd(1),
        Phase::InFirst => Place::Piece(0, 10),
        Phase::AfterFirst => Place::Piece(1, 0),
        Phase::Inside => Place::Piece(3, 30),
        Phase::InFinish => Place::Piece(FINISH, 40),
        Phase::AfterFinish => Place::Piece(FINISH + 1, 0),
        Phase::InDone => Place::Piece(FINISH + 1, 7),
        Phase::AfterBody | Phase::AfterDone => Place::BeforeEnd(0),
        _ => Place::Piece(0, 0),
    }
}

fn passed(place: Place) -> usize {
    if let Place::Piece(event, _) = place { event } else { 0 }
}

fn act(fault: Fault, phase: Phase) -> Act {
    let in_a_plain_body = matches!(phase, Phase::BeforeBody | Phase::InBody | Phase::LastByte | Phase::AfterBody);
    match (fault, phase) {
        (Fault::Busy, _) => Act::refuse(429, THEIR_CODE).header("retry-after", "1"),
        (Fault::Failing, Phase::BeforeHead) => Act::refuse(500, THEIR_CODE),
        (Fault::Garbage, _) if in_a_plain_body => wrong(Act::answer().length(10_000), Fault::Cut, place(phase)),
        _ => wrong(Act::answer(), fault, place(phase)),
    }
}

/// An answer with a fault at a place.
pub(crate) fn wrong(act: Act, fault: Fault, place: Place) -> Act {
    let wrong = match fault {
        Fault::Silence => Wrong::Hold(Gate::new()),
        Fault::Late => Wrong::Pause(BOUND + BOUND / 2),
        Fault::Dribble => Wrong::Dribble,
        Fault::Cut => Wrong::Cut,
        Fault::Reset => Wrong::Reset,
        Fault::HalfOpen => Wrong::HalfOpen,
        Fault::Garbage => Wrong::Garbage,
        Fault::Failing => Wrong::Event("data: {\"error\":{\"message\":\"out of memory\",\"code\":\"their_code\"}}\n\n"),
        Fault::Refused | Fault::Busy => unreachable!("it comes before an answer"),
    };
    // What was sent before has arrived: a reset may overtake it else, and a stream's reset leave it out.
    act.at(place, Wrong::Pause(Duration::from_millis(25))).at(place, wrong)
}

fn weather(fault: Fault, after: usize) -> Weather {
    let fair = Weather::default();
    let said = |code: u16| {
        let head = if code == 429 { "429 Too Many Requests\r\nretry-after: 1" } else { "500 Oh" };
        let body = format!("{{\"error\":{{\"code\":\"{THEIR_CODE}\"}}}}");
        let text = format!(
            "HTTP/1.1 {head}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        // A cell's words live as long as its test.
        Then::Says(text.leak())
    };
    let then = match fault {
        Fault::Late => return Weather { delay: BOUND + BOUND / 2, ..fair },
        Fault::Dribble => return Weather { bytes_per_second: Some(20_000), ..fair },
        Fault::Silence | Fault::Refused => Then::Silence,
        Fault::Cut => Then::Close,
        Fault::Reset => Then::Reset,
        Fault::HalfOpen => Then::HalfOpen,
        Fault::Garbage => Then::Says("SSH-2.0-OpenSSH_9.2\r\n"),
        Fault::Busy => said(429),
        Fault::Failing => said(500),
    };
    Weather { stop: Some(Stop { after, then }), ..fair }
}

/// A host with the provider and model `cell`, whose endpoints are the first of these, and the last the one that falls in.
pub(crate) fn start(policy: &Policy, addresses: &[SocketAddr]) -> Running {
    let urls: Vec<String> = addresses.iter().map(|address| format!("http://{address}/v1")).collect();
    Host::new().section(&section("cell", policy, &urls[..policy.endpoints], &urls[DOORS - 1])).start()
}

/// The cell with a host and upstreams of its own.
pub(crate) fn run(cell: &Cell) {
    let fake = FakeUpstream::with_doors(DOORS);
    let link = (!cell.weather.is_empty()).then(|| FaultLink::to_each(fake.addresses()));
    let host = start(cell.policy, link.as_ref().map_or(fake.addresses(), FaultLink::addresses));
    happen(cell, "cell", &host, &fake, link.as_ref());
}

/// Tries upstream, at most.
pub(crate) fn allowed(policy: &Policy) -> usize {
    1 + policy.retries + usize::from(policy.hedge) + usize::from(policy.fallback || policy.cascade.is_some())
}

/// Lets it happen to a host that has the provider `name`, and looks at everybody.
pub(crate) fn happen(cell: &Cell, name: &str, host: &Door, fake: &FakeUpstream, link: Option<&FaultLink>) {
    let connections = link.map_or(0, FaultLink::connections);
    let requests = fake.count();
    let before = host.metrics();
    cell.acts.iter().for_each(|act| _ = fake.next(act.clone()));
    cell.weather.iter().for_each(|weather| link.expect("there is a link to fail").next(*weather));
    let words = if cell.large { "x".repeat(LARGE) } else { String::new() };
    let ask = host.ask("hi").model(name).set("metadata", serde_json::json!({ "words": words }));
    let answer = if cell.streamed { ask.streamed() } else { ask }.send();

    let tries = match cell.weather.is_empty() {
        true => fake.count() - requests,
        false => link.map_or(0, FaultLink::connections) - connections,
    };
    let (planned, allowed) = (cell.tries, allowed(cell.policy));
    assert!((planned..=allowed).contains(&tries), "{tries} tries, {planned} were planned: {} {}", answer.status, answer.text());
    // A machine with much else to do may make the good look late: the hedge is then one more, and may win.
    let hedged = cell.policy.hedge && tries > planned;
    assert!(tries == planned || hedged, "{tries} tries, {planned} were planned");
    let expected = if hedged && told(&answer) == Sees::Whole { Sees::Whole } else { cell.expected };
    is_seen(cell, &answer, expected);

    let others = usize::from(cell.policy.fallback || cell.policy.cascade.is_some());
    if cell.weather.is_empty() && tries > 1 && cell.policy.endpoints + others > 1 {
        let asked: Vec<_> = fake.requests()[requests..].iter().map(|seen| seen.header("host").map(str::to_owned)).collect();
        assert_ne!(asked[0], asked[1], "the second try went to the same endpoint");
    }
    // The upstream that holds out waits for the host to let go: nothing else ends it. A connection whose answer is all there is kept.
    if cell.streamed || cell.fate != Fate::Fine {
        eventually("the upstream is let go", || (fake.active() == 0).then_some(()));
    }
    let more = |name: &str| host.metrics().sum(name, &[]) - before.sum(name, &[]);
    eventually("it is booked", || (more("pointsman_exchanges_total") == 1.0).then_some(()));
    let lost = more("pointsman_discarded_cost_micro_usd_total");
    // Over HTTP/2 more of a stream may have come than the judge waits for.
    let most = if matches!(cell.policy.cascade, Some(Cascade::Second)) && cell.lost > 0 { EVENTS } else { cell.lost };
    assert!((cell.lost as f64..=most as f64).contains(&lost), "{lost} paid for nothing, and not {}", cell.lost);
    let seams = cell.seams + usize::from(expected == Sees::Continued);
    assert_eq!(more("pointsman_continuations_total"), seams as f64, "it is told how often");
    eventually("nothing in flight", || (host.metrics().sum("pointsman_upstream_in_flight", &[]) == 0.0).then_some(()));
}

/// Does this for each, so many at a time, and says of which it has failed.
pub(crate) fn each<T: Send>(items: Vec<T>, at_a_time: usize, name: impl Fn(&T) -> String + Sync, check: impl Fn(&T) + Sync) {
    let count = items.len();
    let (left, failed) = (Mutex::new(VecDeque::from(items)), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..at_a_time {
            scope.spawn(|| {
                loop {
                    let Some(item) = left.lock().expect("nobody panics with it").pop_front() else { return };
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&item))) {
                        let said = panic
                            .downcast_ref::<String>()
                            .cloned()
                            .or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
                        failed.lock().expect("nobody panics with it").push(format!(
                            "{}:\n    {}",
                            name(&item),
                            said.unwrap_or_default()
                        ));
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("nobody panics with it");
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}
