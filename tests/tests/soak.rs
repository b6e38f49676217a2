//! A thousand users, most of them with streams, while endpoints fail, the configuration reloads, plugins are swapped, and process
//! after process takes over. For two minutes, or `POINTSMAN_SOAK_SECONDS`; what happens when is drawn from `POINTSMAN_SOAK_SEED`, and is
//! told when the test fails.
//!
//! What it does not do: it loads the host as far as it goes; the users read and think, so that a small machine can be all of them.
//!
//! **Invariant:** what a user sees is an answer that is whole, a stream that says that it broke, or a typed refusal. As many streams may
//! break as faults were done to them, and a thousandth of all requests may be refused.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use tests::link::Weather;
use tests::{Act, Answer, Binary, Connection, Door, FakeUpstream, FaultLink, Gate, Host, Plugin, SOON, eventually, guests, sse};

const USERS: u64 = 1_000;
const ENDPOINTS: usize = 4;
/// Between two words of an answer; it has some fifteen.
const PACE: Duration = Duration::from_millis(100);
/// Resident memory that no process may exceed; at this load one has some 85 MiB.
const MEMORY: u64 = 192 << 20;

/// What the users saw.
#[derive(Default)]
struct Tally {
    whole: AtomicUsize,
    /// Streams that ended with an error event.
    broken: AtomicUsize,
    /// 429 and 503, typed.
    refused: AtomicUsize,
    /// A connection that was kept turned out to be closed when the next request went out on it.
    stale: AtomicUsize,
    wrong: Mutex<Vec<String>>,
    stop: AtomicBool,
}

enum Seen {
    Whole,
    Broken,
    Refused,
}

impl Tally {
    fn note(&self, user: u64, question: &str, seen: Result<Seen, String>) {
        let count = match seen {
            Ok(Seen::Whole) => &self.whole,
            Ok(Seen::Broken) => &self.broken,
            Ok(Seen::Refused) => &self.refused,
            Err(what) => return self.wrong.lock().unwrap().push(format!("user {user}, {question:?}: {what}")),
        };
        count.fetch_add(1, Ordering::SeqCst);
    }

    fn counts(&self) -> (usize, usize, usize, usize) {
        let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (of(&self.whole), of(&self.broken), of(&self.refused), of(&self.stale))
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Sleeps, but not beyond the end.
    fn pause(&self, time: Duration) {
        let ends = Instant::now() + time;
        while !self.is_over() && Instant::now() < ends {
            std::thread::sleep(Duration::from_millis(200).min(ends.saturating_duration_since(Instant::now())));
        }
    }
}

/// One user: asks, reads, thinks. Every second one keeps a connection, the others open one for each request.
fn user(number: u64, seed: u64, door: &Door, tally: &Tally) {
    let mut random = Rng::with_seed(seed.wrapping_add(number));
    let mut kept = None;
    tally.pause(Duration::from_millis(random.u64(0..5_000)));
    for turn in 0.. {
        if tally.is_over() {
            return;
        }
        let streamed = random.u8(0..10) < 8;
        let question = format!("question {turn} of user {number}, and some words that make the answer last");
        let ask = door.ask(&question);
        let bytes = if streamed { ask.streamed().bytes() } else { ask.bytes() };
        let seen = match exchange(door.address, &mut kept, number.is_multiple_of(2), &bytes, tally) {
            Ok(answer) => catch_unwind(AssertUnwindSafe(|| judge(&answer, streamed, &question)))
                .unwrap_or_else(|_| Err(format!("nothing that a client can read: {}", String::from_utf8_lossy(&answer.body)))),
            Err(error) => Err(format!("no answer: {error}")),
        };
        tally.note(number, &question, seen);
        tally.pause(Duration::from_millis(random.u64(1_000..5_000)));
    }
}

/// Asks on the connection that was kept, if it is still open, else on a new one. A new one must be taken and answered.
fn exchange(
    address: SocketAddr,
    kept: &mut Option<Connection>,
    keep: bool,
    bytes: &[u8],
    tally: &Tally,
) -> std::io::Result<Answer> {
    if let Some(mut connection) = kept.take().filter(is_open) {
        match connection.exchange(bytes) {
            Ok(answer) => {
                *kept = Some(connection);
                return Ok(answer);
            }
            // Closed while the request was on its way, as HTTP/1.1 allows; clients ask again.
            Err(_) => _ = tally.stale.fetch_add(1, Ordering::SeqCst),
        }
    }
    let mut connection = Connection::try_open(address)?;
    let answer = connection.exchange(bytes)?;
    *kept = keep.then_some(connection);
    Ok(answer)
}

fn is_open(connection: &Connection) -> bool {
    let socket = connection.socket();
    socket.set_nonblocking(true).unwrap();
    let found = socket.peek(&mut [0]);
    socket.set_nonblocking(false).unwrap();
    found.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

fn judge(answer: &Answer, streamed: bool, question: &str) -> Result<Seen, String> {
    let body = String::from_utf8_lossy(&answer.body);
    match answer.status {
        _ if !answer.whole => Err(format!("{} was cut in its framing: {body}", answer.status)),
        200 if streamed => match (sse::is_done(&answer.body), sse::error(&answer.body)) {
            (true, None) if answer.content().ends_with(question) => Ok(Seen::Whole),
            (false, Some(_)) => Ok(Seen::Broken),
            _ => Err(format!("the stream is neither whole nor broken: {body}")),
        },
        200 if answer.content().ends_with(question) => Ok(Seen::Whole),
        429 | 503 if !answer.code().is_empty() => Ok(Seen::Refused),
        status => Err(format!("{status}: {body}")),
    }
}

/// The endpoints, and the process that runs.
struct World {
    seed: u64,
    began: Instant,
    random: Rng,
    fakes: Vec<FakeUpstream>,
    /// In front of the first endpoint: what a network does.
    link: FaultLink,
    place: tempfile::TempDir,
    revision: u32,
    running: Option<Binary>,
    leaving: Vec<Binary>,
    /// Streams that the link may have broken.
    cut: usize,
    most: u64,
    schedule: String,
}

#[derive(Clone, Copy)]
enum Event {
    Fault,
    Swap,
    Reload,
    TakeOver,
}

impl World {
    fn new(seed: u64) -> Self {
        let fakes: Vec<FakeUpstream> = (0..ENDPOINTS).map(|_| FakeUpstream::start()).collect();
        let link = FaultLink::to(fakes[0].address());
        let mut world = Self {
            seed,
            began: Instant::now(),
            random: Rng::with_seed(seed),
            fakes,
            link,
            place: tempfile::tempdir().unwrap(),
            revision: 0,
            running: None,
            leaving: Vec::new(),
            cut: 0,
            most: 0,
            schedule: String::new(),
        };
        world.heal();
        world.running = Some(world.start());
        world
    }

    fn running(&self) -> &Binary {
        self.running.as_ref().expect("one runs")
    }

    fn start(&self) -> Binary {
        let cache = self.place.path().join("cache");
        let mut host = Host::new()
            .log("info,pointsman::exchange=warn")
            .listen("drain = \"60s\"\nmax_connections_per_address = 5000")
            .listen(&format!("handover = {:?}", self.place.path().join("handover.sock")))
            .plugin(Plugin::router(self.revision))
            .endpoint(self.link.url());
        for fake in &self.fakes[1..] {
            host = host.upstream(fake);
        }
        host.provider("retries = 2")
            .provider("timeouts = { connect = \"5s\", headers = \"5s\", first_token = \"5s\", between_tokens = \"5s\" }")
            .spawn_with(&[("XDG_CACHE_HOME", cache.to_str().unwrap())])
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.schedule, "{:7.2} s  {what}", self.began.elapsed().as_secs_f64()).unwrap();
    }

    /// All endpoints answer.
    fn heal(&self) {
        for fake in &self.fakes {
            fake.always(Act::answer().pace(PACE));
        }
        self.link.set(Weather::default());
    }

    /// One endpoint fails, until the next one does.
    fn fault(&mut self) {
        self.heal();
        let answer = || Act::answer().pace(PACE);
        let later = 400 + self.random.usize(0..2_000);
        let (what, act) = match self.random.u8(0..7) {
            0 => ("answers 500", Act::refuse(500, "broken")),
            1 => ("answers 429", Act::refuse(429, "slow_down").header("retry-after", "1")),
            2 => ("closes connections", Act::raw("")),
            3 => ("cuts answers", answer().cut_at(later)),
            4 => ("resets answers", answer().reset_at(later)),
            5 => ("stalls in its answers", answer().hold_at(later, &Gate::new())),
            _ => {
                self.link.set(Weather::dead());
                self.cut += self.link.cut();
                return self.tell("endpoint 0 is dead");
            }
        };
        let which = self.random.usize(0..ENDPOINTS);
        self.fakes[which].always(act);
        self.tell(&format!("endpoint {which} {what}, byte {later}"));
    }

    fn swap(&mut self) {
        self.revision += 1;
        let reason = format!("revision {:08}", self.revision);
        self.running().folder.write("router.wasm", &guests::router(self.revision));
        eventually(&reason, || (self.running().chat("which?").header("x-pointsman-reason") == Some(&reason)).then_some(()));
        self.tell(&format!("plugin {reason}"));
    }

    fn reload(&mut self) {
        let done = |host: &Binary| host.metrics().sum("pointsman_reloads_total", &["outcome=\"done\""]);
        let before = done(self.running());
        let text = self.running().folder.read("pointsman.toml");
        let (from, to) =
            if text.contains("retries = 2") { ("retries = 2", "retries = 3") } else { ("retries = 3", "retries = 2") };
        self.running().folder.change(from, to);
        eventually("the reload", || (done(self.running()) > before).then_some(()));
        self.tell(&format!("reloaded with {to}"));
    }

    fn take_over(&mut self) {
        let new = self.start();
        self.tell(&format!("process {} takes over", new.id()));
        let old = self.running.replace(new).expect("one ran");
        assert_eq!(old.address, self.running().address);
        self.leaving.push(old);
    }

    /// Lets things happen until the time is over or a user has seen what must not be.
    fn run(&mut self, time: Duration, tally: &Tally) {
        use Event::{Fault, Reload, Swap, TakeOver};
        let mut deck = Vec::new();
        // The first start has built the guests.
        self.began = Instant::now();
        while self.began.elapsed() < time && tally.wrong.lock().unwrap().is_empty() {
            if deck.is_empty() {
                deck = vec![Fault, Fault, Fault, Fault, Swap, Swap, Reload, Reload, TakeOver, TakeOver];
                self.random.shuffle(&mut deck);
            }
            match deck.pop() {
                Some(Fault) => self.fault(),
                Some(Swap) => self.swap(),
                Some(Reload) => self.reload(),
                Some(TakeOver) => self.take_over(),
                None => {}
            }
            self.most = self.most.max(self.running().resident());
            let pause = self.random.u64(500..2_500);
            tally.pause(Duration::from_millis(pause));
        }
    }

    /// Each process that was replaced ends when its last stream has, and cuts none.
    fn all_end(&mut self) -> usize {
        for old in &mut self.leaving {
            let status = old.ends_within(SOON).unwrap_or_else(|| panic!("process {} does not end", old.id()));
            assert_eq!(status.code(), Some(0));
            let drained = old.wait_for_log("\"drained\"");
            assert!(drained.contains("\"cut\":0"), "{drained}");
        }
        self.leaving.len()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("POINTSMAN_SOAK_SEED={}\n{}", self.seed, self.schedule);
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is a whole number")))
}

#[test]
fn a_thousand_users_see_whole_answers_or_are_told() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // The users' ends of their connections are files of this process, and so are the endpoints'.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let time = Duration::from_secs(setting("POINTSMAN_SOAK_SECONDS").unwrap_or(120));
    let seed = setting("POINTSMAN_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    let (mut world, tally) = (World::new(seed), Tally::default());
    let door = Door::clone(world.running());
    std::thread::scope(|scope| {
        for number in 0..USERS {
            let (door, tally) = (&door, &tally);
            let small = std::thread::Builder::new().stack_size(256 << 10);
            small.spawn_scoped(scope, move || user(number, seed, door, tally)).unwrap();
        }
        // However it ends, the users end with it.
        let ran = catch_unwind(AssertUnwindSafe(|| world.run(time, &tally)));
        world.heal();
        tally.stop.store(true, Ordering::SeqCst);
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    let (whole, broken, refused, stale) = tally.counts();
    let faults = world.cut + world.fakes.iter().map(FakeUpstream::faults).sum::<usize>();
    println!(
        "seed {seed}: {whole} whole, {broken} broken for {faults} faults, {refused} refused, {stale} on connections that had closed"
    );
    let wrong = tally.wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} in all; the first of them:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
    let replaced = world.all_end();
    println!("{replaced} processes were replaced, {} revisions of the plugin, {} MiB at most", world.revision, world.most >> 20);
    assert!(replaced >= 2 && world.revision >= 2, "too short a run to show anything");
    assert!(whole > USERS as usize * 5, "{whole} answers: the users were not served");
    assert!(broken > 0 && broken <= faults, "{broken} streams broke, and {faults} faults were done");
    assert!(refused * 1_000 <= whole, "{refused} refused");
    assert!(stale <= replaced * 10, "{stale} connections were closed under a request, in {replaced} handovers");
    assert!(world.most < MEMORY, "{} MiB", world.most >> 20);
}
