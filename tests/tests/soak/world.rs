//! The endpoints and the process that runs, and what happens to them.
//!
//! What it does not do: it asks nothing but to see that a thing has happened; the users do (`users`).
//!
//! **Invariant:** one endpoint fails at a time, in one way, and every fault that an answer has met is counted.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tests::link::Weather;
use tests::{Act, Binary, FakeUpstream, FaultLink, Gate, SOON, eventually, guests};

use crate::setup;
use crate::tally::Tally;
use crate::watch::Watch;

const ENDPOINTS: usize = 4;
/// Between two words of an answer; it has some fifteen.
const PACE: Duration = Duration::from_millis(100);

/// All that users do not see.
pub(crate) struct World {
    seed: u64,
    began: Instant,
    random: Rng,
    fakes: Vec<FakeUpstream>,
    /// In front of the first endpoint: what a network does.
    link: FaultLink,
    place: tempfile::TempDir,
    running: Option<Binary>,
    leaving: Vec<Binary>,
    /// Streams that the link may have broken.
    cut: usize,
    schedule: String,
    /// What is still to happen before anything happens again, and which faults.
    deck: Vec<Event>,
    kinds: Vec<u8>,
    /// The plugin's.
    pub(crate) revision: u32,
    pub(crate) watch: Watch,
}

#[derive(Clone, Copy)]
enum Event {
    Fault,
    Calm,
    Swap,
    Reload,
    TakeOver,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let fakes: Vec<FakeUpstream> = (0..ENDPOINTS).map(|_| FakeUpstream::start()).collect();
        let link = FaultLink::to(fakes[0].address());
        let mut world = Self {
            seed,
            began: Instant::now(),
            random: Rng::with_seed(seed),
            fakes,
            link,
            place: tempfile::tempdir().unwrap(),
            running: None,
            leaving: Vec::new(),
            cut: 0,
            schedule: String::new(),
            deck: Vec::new(),
            kinds: Vec::new(),
            revision: 0,
            watch: Watch::default(),
        };
        world.heal();
        world.running = Some(world.start());
        world
    }

    pub(crate) fn running(&self) -> &Binary {
        self.running.as_ref().expect("one runs")
    }

    /// Faults that answers have met.
    pub(crate) fn faults(&self) -> usize {
        self.cut + self.fakes.iter().map(FakeUpstream::faults).sum::<usize>()
    }

    fn start(&self) -> Binary {
        let mut endpoints = vec![self.link.url()];
        endpoints.extend(self.fakes[1..].iter().map(FakeUpstream::url));
        let cache = self.place.path().join("cache");
        setup::host(&endpoints, &self.place.path().join("handover.sock"), self.revision)
            .spawn_with(&[("XDG_CACHE_HOME", cache.to_str().unwrap())])
    }

    fn tell(&mut self, what: &str) {
        writeln!(self.schedule, "{:7.2} s  {what}", self.began.elapsed().as_secs_f64()).unwrap();
    }

    /// All endpoints answer.
    pub(crate) fn heal(&self) {
        for fake in &self.fakes {
            fake.always(Act::answer().pace(PACE));
        }
        self.link.set(Weather::default());
    }

    /// One endpoint fails, until the next one does.
    fn fault(&mut self) {
        self.heal();
        let answer = || Act::answer().pace(PACE);
        let later = 500 + self.random.usize(0..3_500);
        let kind = draw(&mut self.kinds, &mut self.random, &[0, 1, 2, 3, 4, 5, 6, 7]);
        let (what, act) = match kind {
            0 => ("answers 500", Act::refuse(500, "broken")),
            1 => ("answers 429", Act::refuse(429, "slow_down").header("retry-after", "1")),
            2 => ("closes connections", Act::raw("")),
            3 => ("cuts answers", answer().cut_at(later)),
            4 => ("resets answers", answer().reset_at(later)),
            5 => ("stalls in its answers", answer().hold_at(later, &Gate::new())),
            6 => ("answers late", answer().delay(Duration::from_millis(later as u64))),
            _ => {
                self.link.set(Weather::dead());
                self.cut += self.link.cut();
                return self.tell("endpoint 0 is dead");
            }
        };
        let which = self.random.usize(0..ENDPOINTS);
        self.fakes[which].always(act);
        self.tell(&format!("endpoint {which} {what}, {later}"));
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
        self.watch.replaced();
        let old = self.running.replace(new).expect("one ran");
        assert_eq!(old.address, self.running().address);
        self.leaving.push(old);
    }

    /// Lets things happen until the time is over or a user has seen what must not be.
    pub(crate) fn run(&mut self, time: Duration, tally: &Tally) {
        use Event::{Calm, Fault, Reload, Swap, TakeOver};
        const DECK: [Event; 12] = [Fault, Fault, Fault, Fault, Fault, Calm, Swap, Swap, Reload, Reload, TakeOver, TakeOver];
        // The first start has built the guests.
        self.began = Instant::now();
        while self.began.elapsed() < time && tally.is_sound() {
            match draw(&mut self.deck, &mut self.random, &DECK) {
                Fault => self.fault(),
                Calm => {
                    self.heal();
                    self.tell("all endpoints answer");
                }
                Swap => self.swap(),
                Reload => self.reload(),
                TakeOver => self.take_over(),
            }
            let pause = self.random.u64(500..2_500);
            tally.pause(Duration::from_millis(pause));
            self.watch.look(self.running.as_ref().expect("one runs"));
        }
    }

    /// Each process that was replaced ends when its last stream has, and cuts none. How many there were.
    pub(crate) fn all_end(&mut self) -> usize {
        for old in &mut self.leaving {
            let status = old.ends_within(SOON).unwrap_or_else(|| panic!("process {} does not end", old.id()));
            assert_eq!(status.code(), Some(0));
            let drained = old.wait_for_log("\"drained\"");
            assert!(drained.contains("\"cut\":0"), "{drained}");
        }
        self.leaving.len()
    }
}

/// The next of a deck, which is shuffled anew when it has been dealt: by chance, and yet everything in its turn.
fn draw<T: Copy>(deck: &mut Vec<T>, random: &mut Rng, all: &[T]) -> T {
    if deck.is_empty() {
        deck.extend_from_slice(all);
        random.shuffle(deck);
    }
    deck.pop().expect("it was filled")
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("POINTSMAN_SOAK_SEED={}\n{}", self.seed, self.schedule);
        }
    }
}
