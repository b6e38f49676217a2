//! The gate of a pool: how many requests it gets at a time, who waits, who goes first, who is sent away.
//!
//! The number follows what the pool bears. While answers begin as soon as they usually do it grows; when they begin later because
//! requests queue up behind one another, or are refused, it shrinks (`limit`). What does not fit waits here, where it can be ordered:
//! by lane first, within a lane by tenant in turn, within a tenant by age. The line is bounded in length and time. Where it is full, a
//! request of a lower lane gives its place to one of a higher.
//!
//! What it does not do: it chooses no endpoint (`pool`).
//!
//! **Invariant:** a pass is held until the last byte of the answer.
//! **Invariant:** who waits and leaves, leaves the line; a pass that was on its way to somebody who has left goes to the next.

mod limit;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::config::Priority;
use crate::numbers::Count;
use limit::{Limit, Sample};

/// What the owner has written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Requests at a time, at first.
    pub start: u32,
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: u32,
    /// Requests that may wait.
    pub queue: u32,
    /// For how long at most.
    pub wait: Duration,
}

/// A request was sent away; it may come back after this long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shed(pub Duration);

/// The gate.
pub struct Gate {
    settings: Settings,
    state: Mutex<State>,
    /// Requests sent away, by lane.
    pub shed: [Count; 3],
}

struct State {
    limit: Limit,
    running: u32,
    waiting: u32,
    lanes: [VecDeque<Tenant>; 3],
    next: u64,
    /// For how many seconds a pass is held, of late; none before one has been given back.
    held: Option<f32>,
    /// By lane.
    standing: [Standing; 3],
}

/// Whether those who wait before the next of a lane are a burst or stand there.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// Since when somebody has always waited, in this lane or a more urgent one.
    since: Option<Instant>,
    /// The line is kept short until then.
    short_until: Option<Instant>,
}

/// Those who may wait in a line that would stand for ever. At 80 % of what a pool bears one of a hundred requests finds 3 (in a pool of a
/// hundred places) to 18 (of four) before it, by the queueing theory of M/M/c; with these few who is let in waits no longer than then,
/// and yet no place is empty for long.
const FEW: usize = 4;

/// Those of one tenant who wait in one lane.
struct Tenant {
    name: Arc<str>,
    line: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl Gate {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let state = State {
            limit: Limit::new(settings),
            running: 0,
            waiting: 0,
            lanes: Default::default(),
            next: 0,
            held: None,
            standing: Default::default(),
        };
        Arc::new(Self { settings, state: Mutex::new(state), shed: Default::default() })
    }

    /// What the owner has written.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The number that may run, those that do, and those that wait.
    pub fn view(&self) -> (u32, u32, u32) {
        let state = self.lock();
        (state.limit.get(), state.running, state.waiting)
    }

    /// The share of its line that is taken by others than batch, and how many of them were sent away so far.
    pub fn pressed(&self) -> (f32, u64) {
        const URGENT: [usize; 2] = [Priority::Realtime as usize, Priority::Interactive as usize];
        let waiting: usize = {
            let state = self.lock();
            URGENT.iter().flat_map(|lane| &state.lanes[*lane]).map(|tenant| tenant.line.len()).sum()
        };
        let shed = URGENT.iter().map(|lane| self.shed[*lane].get()).sum();
        (waiting as f32 / self.settings.queue.max(1) as f32, shed)
    }

    /// A pass, at once or after a wait.
    ///
    /// # Errors
    /// The line is full, or so long that the time would be over, which are quick to say; or the time is over.
    pub async fn enter(self: &Arc<Self>, lane: Priority, tenant: &Arc<str>, until: Instant) -> Result<Pass, Shed> {
        let now = Instant::now();
        let wait = self.settings.wait.min(until.saturating_duration_since(now));
        let mut place = match self.queue(lane, tenant, wait)? {
            Entered::Passed(pass) => return Ok(pass),
            Entered::Waits(place) => place,
        };
        let called = timeout_at(now + wait, &mut place.called).await;
        if matches!(called, Ok(Ok(()))) {
            place.over = true;
            return Ok(Pass::new(self));
        }
        // Who has less time than anybody may have says nothing of the pool by leaving.
        if called.is_ok() || wait == self.settings.wait {
            self.shed[lane as usize].add(1);
        }
        Err(Shed(self.lock().comes_back()))
    }

    /// A pass, if nobody waits and there is room.
    pub fn try_enter(self: &Arc<Self>) -> Option<Pass> {
        let mut state = self.lock();
        (state.waiting == 0 && state.running < state.limit.get()).then(|| {
            state.running += 1;
            Pass::new(self)
        })
    }

    fn queue(self: &Arc<Self>, lane: Priority, tenant: &Arc<str>, wait: Duration) -> Result<Entered, Shed> {
        if let Some(pass) = self.try_enter() {
            return Ok(Entered::Passed(pass));
        }
        let mut state = self.lock();
        let (full, hopeless) = (state.waiting >= self.settings.queue, state.is_hopeless(lane, tenant, self.settings.wait));
        // Nobody gives up a place for one who cannot use it.
        let late = !hopeless && state.is_late(lane, tenant, wait);
        if hopeless || late || (full && !state.evict_below(lane)) {
            // Nor does it say anything of the pool that a client has less time than anybody may have.
            self.shed[lane as usize].add(u64::from(!late));
            return Err(Shed(state.comes_back()));
        }
        let (caller, called) = oneshot::channel();
        let number = state.next;
        state.next += 1;
        state.waiting += 1;
        let tenants = &mut state.lanes[lane as usize];
        match tenants.iter_mut().find(|known| known.name == *tenant) {
            Some(known) => known.line.push_back((number, caller)),
            None => tenants.push_back(Tenant { name: tenant.clone(), line: VecDeque::from([(number, caller)]) }),
        }
        // Room may have come up in between.
        state.call();
        state.watch();
        drop(state);
        Ok(Entered::Waits(Place { gate: self.clone(), lane, number, called, over: false }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Entered {
    Passed(Pass),
    Waits(Place),
}

impl State {
    /// Would the next of this tenant in this lane wait for too long, or in a line that stands?
    fn is_hopeless(&mut self, lane: Priority, tenant: &Arc<str>, wait: Duration) -> bool {
        let (own, before, now) = (self.own(lane, tenant), self.before(lane, tenant), Instant::now());
        let Standing { since, short_until } = &mut self.standing[lane as usize];
        if since.is_some_and(|since| now >= since + wait) {
            *short_until = Some(now + wait);
        }
        // Whoever has nobody there yet gets his turn like everybody else.
        if own > 0 && before >= FEW && short_until.is_some_and(|until| now < until) {
            // As long as anybody is sent away it is not over.
            *short_until = Some(now + wait);
            return true;
        }
        self.is_late(lane, tenant, wait)
    }

    /// Would it be called after so long?
    fn is_late(&self, lane: Priority, tenant: &Arc<str>, wait: Duration) -> bool {
        let before = self.before(lane, tenant) as f32;
        self.held.is_some_and(|held| before * held / self.limit.now > wait.as_secs_f32())
    }

    /// How many would be called before the next of this tenant in this lane.
    fn before(&self, lane: Priority, tenant: &Arc<str>) -> usize {
        let own = self.own(lane, tenant);
        let of_lane: usize = self.lanes[lane as usize].iter().map(|other| other.line.len().min(own + 1)).sum();
        self.ahead(lane as usize) + of_lane
    }

    /// How many of this tenant wait in this lane.
    fn own(&self, lane: Priority, tenant: &Arc<str>) -> usize {
        self.lanes[lane as usize].iter().find(|known| known.name == *tenant).map_or(0, |known| known.line.len())
    }

    /// Those who wait in more urgent lanes.
    fn ahead(&self, lane: usize) -> usize {
        self.lanes[..lane].iter().flatten().map(|tenant| tenant.line.len()).sum()
    }

    /// Notes since when each lane's line has not been empty.
    fn watch(&mut self) {
        let mut some_wait = false;
        for (tenants, standing) in self.lanes.iter().zip(&mut self.standing) {
            some_wait |= !tenants.is_empty();
            standing.since = some_wait.then(|| standing.since.unwrap_or_else(Instant::now));
        }
    }

    /// Lets in those who are next, as far as there is room.
    fn call(&mut self) {
        while self.running < self.limit.get() {
            let Some(caller) = self.pop() else { return };
            // Who has left does not take the place.
            self.running += u32::from(caller.send(()).is_ok());
        }
    }

    fn pop(&mut self) -> Option<oneshot::Sender<()>> {
        let tenants = self.lanes.iter_mut().find(|tenants| !tenants.is_empty())?;
        let mut tenant = tenants.pop_front()?;
        let (_, caller) = tenant.line.pop_front()?;
        if !tenant.line.is_empty() {
            tenants.push_back(tenant);
        }
        self.waiting -= 1;
        Some(caller)
    }

    /// The youngest of the lowest lane below this one, of the tenant who has most there, is sent away.
    fn evict_below(&mut self, lane: Priority) -> bool {
        let Some(tenants) = self.lanes[lane as usize + 1..].iter_mut().rev().find(|tenants| !tenants.is_empty()) else {
            return false;
        };
        let Some(most) = (0..tenants.len()).max_by_key(|at| tenants[*at].line.len()) else { return false };
        tenants[most].line.pop_back();
        if tenants[most].line.is_empty() {
            tenants.remove(most);
        }
        self.waiting -= 1;
        true
    }

    fn leave(&mut self, lane: Priority, number: u64) {
        let tenants = &mut self.lanes[lane as usize];
        for at in 0..tenants.len() {
            let line = &mut tenants[at].line;
            if let Some(place) = line.iter().position(|(known, _)| *known == number) {
                line.remove(place);
                if line.is_empty() {
                    tenants.remove(at);
                }
                self.waiting -= 1;
                return;
            }
        }
    }

    fn ended(&mut self, since: Instant) {
        let held = since.elapsed().as_secs_f32();
        // Each counts a twentieth.
        self.held = Some(self.held.map_or(held, |mean| mean + (held - mean) * 0.05));
        self.running -= 1;
        self.call();
        self.watch();
    }

    fn observe(&mut self, sample: Sample, since: Instant) {
        self.limit.observe(sample, since, self.running);
        self.call();
        self.watch();
    }

    /// When what waits now will have gone through.
    fn comes_back(&self) -> Duration {
        let each = self.held.unwrap_or(1.0) / self.limit.now;
        Duration::from_secs_f32((self.waiting as f32 * each).clamp(1.0, 30.0).ceil())
    }
}

/// A place in the line.
struct Place {
    gate: Arc<Gate>,
    lane: Priority,
    number: u64,
    called: oneshot::Receiver<()>,
    over: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.called.close();
        let mut state = self.gate.lock();
        if self.called.try_recv().is_ok() {
            // Called just as it left.
            state.running -= 1;
            state.call();
        } else {
            state.leave(self.lane, self.number);
        }
        state.watch();
    }
}

/// Leave to be at work in the pool.
pub struct Pass {
    gate: Arc<Gate>,
    since: Instant,
}

impl Pass {
    fn new(gate: &Arc<Gate>) -> Self {
        Self { gate: gate.clone(), since: Instant::now() }
    }

    /// Its answer has begun.
    pub fn began(&mut self, streamed: bool, after: Duration) {
        self.gate.lock().observe(if streamed { Sample::Began(after) } else { Sample::Whole }, self.since);
    }

    /// The pool has too much to do.
    pub fn overloaded(&mut self) {
        self.gate.lock().observe(Sample::Overloaded, self.since);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.lock().ended(self.since);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::sync::Semaphore;
    use tokio::task::LocalSet;

    use super::limit::WINDOW;
    use super::*;

    fn gate(limit: u32, queue: u32) -> Arc<Gate> {
        Gate::new(Settings { start: limit, min: limit, max: limit, queue, wait: Duration::from_secs(10) })
    }

    fn tenant(name: &str) -> Arc<str> {
        name.into()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// Puts requests in line one after another, and gives the order in which they get in as places are given back.
    async fn order(gate: &Arc<Gate>, asked: &[(Priority, &'static str)]) -> Vec<&'static str> {
        let held = gate.try_enter().unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let tasks = LocalSet::new();
        for (lane, name) in asked {
            let (gate, tell, lane, name) = (gate.clone(), tell.clone(), *lane, *name);
            tasks.spawn_local(async move {
                let of = tenant(name.split(' ').next().unwrap());
                if gate.enter(lane, &of, soon()).await.is_ok() {
                    let _ = tell.send(name);
                }
            });
        }
        drop(tell);
        tasks
            .run_until(async {
                tokio::task::yield_now().await;
                drop(held);
                let mut order = Vec::new();
                while let Some(name) = told.recv().await {
                    order.push(name);
                }
                order
            })
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_go_first_and_tenants_take_turns() {
        use Priority::{Batch, Interactive, Realtime};
        let asked = [
            (Batch, "a 1"),
            (Interactive, "a 2"),
            (Interactive, "a 3"),
            (Interactive, "a 4"),
            (Interactive, "b 5"),
            (Realtime, "c 6"),
            (Interactive, "b 7"),
        ];
        assert_eq!(order(&gate(1, 100), &asked).await, ["c 6", "a 2", "b 5", "a 3", "b 7", "a 4", "a 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_sends_the_lowest_away() {
        let gate = gate(1, 2);
        let (all, mine) = (
            order(
                &gate,
                &[(Priority::Batch, "a 1"), (Priority::Batch, "a 2"), (Priority::Interactive, "b 3"), (Priority::Batch, "a 4")],
            )
            .await,
            ["b 3", "a 1"],
        );
        assert_eq!(all, mine);
        assert_eq!((gate.shed[Priority::Batch as usize].get(), gate.shed[Priority::Interactive as usize].get()), (2, 0));
        assert_eq!(gate.view(), (1, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn batch_is_no_pressure() {
        let gate = gate(1, 4);
        let _held = gate.try_enter().unwrap();
        let who = tenant("a");
        let mut waiting = Vec::new();
        for (lane, pressed) in [
            (Priority::Batch, (0.0, 0)),
            (Priority::Interactive, (0.25, 0)),
            (Priority::Realtime, (0.5, 0)),
            (Priority::Batch, (0.5, 0)),
            (Priority::Batch, (0.5, 0)),
            // The batch that waits makes room, and then there is none.
            (Priority::Interactive, (0.75, 0)),
            (Priority::Interactive, (1.0, 0)),
            (Priority::Interactive, (1.0, 1)),
        ] {
            let mut enters = Box::pin(gate.enter(lane, &who, soon()));
            let _ = futures_util::poll!(&mut enters);
            waiting.push(enters);
            assert_eq!(gate.pressed(), pressed, "{lane:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_or_leaves_is_out_of_the_line() {
        let gate = gate(1, 10);
        let held = gate.try_enter().unwrap();
        let shed = gate.enter(Priority::Batch, &tenant("a"), Instant::now() + Duration::from_millis(5)).await.err();
        assert!(shed.is_some_and(|Shed(after)| after >= Duration::from_secs(1)));
        {
            let who = tenant("a");
            let mut leaves = std::pin::pin!(gate.enter(Priority::Batch, &who, soon()));
            assert!(futures_util::poll!(&mut leaves).is_pending());
            assert_eq!(gate.view(), (1, 1, 1));
        }
        assert_eq!(gate.view(), (1, 1, 0));
        // One that is called and leaves before it hears of it.
        {
            let who = tenant("a");
            let mut leaves = std::pin::pin!(gate.enter(Priority::Batch, &who, soon()));
            assert!(futures_util::poll!(&mut leaves).is_pending());
            drop(held);
            assert_eq!(gate.view(), (1, 1, 0));
        }
        assert_eq!(gate.view(), (1, 0, 0));
    }

    /// A pool that bears 20 at a time, and queues what is more.
    #[tokio::test(start_paused = true)]
    async fn the_limit_finds_what_the_pool_bears() {
        let gate = Gate::new(Settings { start: 4, min: 1, max: 500, queue: 0, wait: Duration::ZERO });
        let mut seen = Vec::new();
        for _ in 0..400 {
            let (limit, ..) = gate.view();
            seen.push(limit);
            let mut held: Vec<Pass> = (0..limit).filter_map(|_| gate.try_enter()).collect();
            let took = Duration::from_millis(100).mul_f32((limit as f32 / 20.0).max(1.0));
            held.iter_mut().for_each(|pass| pass.began(true, took));
            tokio::time::advance(took).await;
        }
        let most = *seen[300..].iter().max().unwrap();
        assert!((18..=40).contains(&most), "{seen:?}");
        // Half as many run now and then, to see what is usual.
        let usual = seen[300..].iter().filter(|limit| **limit >= 18).count();
        assert!(usual >= 80, "{seen:?}");
        // It refuses: fewer.
        for _ in 0..5 * WINDOW {
            gate.try_enter().unwrap().overloaded();
        }
        assert!(gate.view().0 < most / 2);
    }

    /// Whoever could not be called in time was told so when the time was over.
    #[tokio::test(start_paused = true)]
    async fn who_could_not_be_called_in_time_is_sent_away_at_once() {
        let gate = Gate::new(Settings { start: 1, min: 1, max: 1, queue: 100, wait: Duration::from_secs(3) });
        let held = gate.try_enter().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(held);
        let _held = gate.try_enter().unwrap();
        // A second each: the fourth is called in time, the fifth would not be.
        let ask = |name: &str| {
            let (gate, tenant) = (gate.clone(), tenant(name));
            Box::pin(async move { gate.enter(Priority::Interactive, &tenant, soon()).await.is_ok() })
        };
        let mut waiting: Vec<_> = (0..4).map(|_| ask("a")).collect();
        for asked in &mut waiting {
            assert!(futures_util::poll!(asked).is_pending());
        }
        assert_eq!(futures_util::poll!(ask("a")), std::task::Poll::Ready(false));
        assert!(futures_util::poll!(ask("b")).is_pending(), "one who takes turns with them would be called second");
        assert_eq!(gate.view(), (1, 1, 4));
    }

    /// A client's own time is shorter than anybody may wait: it is told at once, and no pressure comes of it.
    #[tokio::test(start_paused = true)]
    async fn who_has_less_time_than_it_takes_is_sent_away_at_once() {
        let gate = Gate::new(Settings { start: 1, min: 1, max: 1, queue: 100, wait: Duration::from_secs(60) });
        let held = gate.try_enter().unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        drop(held);
        let _held = gate.try_enter().unwrap();
        let who = tenant("a");
        let within = |ms| Box::pin(gate.enter(Priority::Interactive, &who, Instant::now() + Duration::from_millis(ms)));
        let mut patient = within(1_500);
        assert!(futures_util::poll!(&mut patient).is_pending());
        assert!(matches!(futures_util::poll!(within(500)), std::task::Poll::Ready(Err(_))), "a second each");
        assert!(patient.await.is_err());
        assert_eq!((gate.shed[Priority::Interactive as usize].get(), gate.view()), (0, (1, 1, 0)));
    }

    /// What became of requests: in how many milliseconds they were answered whole, or sent away.
    #[derive(Default)]
    struct Found {
        whole: RefCell<Vec<u128>>,
        shed: RefCell<Vec<u128>>,
    }

    impl Found {
        fn p99(&self) -> u128 {
            let mut whole = self.whole.borrow().clone();
            whole.sort_unstable();
            whole[whole.len() * 99 / 100]
        }
    }

    /// Asks for a minute, so many times a second in these lanes, before a pool of 20 places in which an answer begins after 40 ms and ends
    /// 300 later: it bears 58 a second. What comes in the first twenty seconds is not counted.
    #[allow(clippy::disallowed_methods, reason = "clients of a simulation, which waits for all of them")]
    async fn load(gate: &Arc<Gate>, rates: [(Priority, f64); 2]) -> [Rc<Found>; 2] {
        let (pool, begun, tasks) = (Rc::new(Semaphore::new(20)), Instant::now(), LocalSet::new());
        let found = rates.map(|(lane, rate)| {
            let (gate, pool, all) = (gate.clone(), pool.clone(), Rc::<Found>::default());
            let found = all.clone();
            tasks.spawn_local(async move {
                while rate > 0.0 && begun.elapsed() < Duration::from_secs(60) {
                    tokio::time::sleep(Duration::from_secs_f64(-fastrand::f64().max(1e-9).ln() / rate)).await;
                    let (gate, pool, found, asked) = (gate.clone(), pool.clone(), found.clone(), Instant::now());
                    tokio::task::spawn_local(async move {
                        let entered = gate.enter(lane, &tenant("a"), asked + Duration::from_secs(60)).await;
                        let list = if entered.is_ok() { &found.whole } else { &found.shed };
                        if let Ok(mut pass) = entered {
                            let sent = Instant::now();
                            let _place = pool.acquire().await.unwrap();
                            tokio::time::sleep(Duration::from_millis(40)).await;
                            pass.began(true, sent.elapsed());
                            tokio::time::sleep(Duration::from_millis(300)).await;
                        }
                        if asked > begun + Duration::from_secs(20) {
                            list.borrow_mut().push(asked.elapsed().as_millis());
                        }
                    });
                }
            });
            all
        });
        tasks.await;
        found
    }

    /// Twice what a pool bears made everybody wait for as long as anybody may: answers took five seconds more, and so did refusals.
    #[tokio::test(start_paused = true)]
    async fn at_twice_what_the_pool_bears_the_excess_is_sent_away_and_the_others_are_as_before() {
        const SEEDS: u64 = 5;
        let settings = Settings { start: 32, min: 4, max: 1024, queue: 256, wait: Duration::from_secs(5) };
        let interactive = |rate| (Priority::Interactive, rate);
        let batch = |rate| (Priority::Batch, rate);
        // How many times as long it took, alone, and with a batch beside as many requests as before.
        let (mut alone, mut beside) = (0.0, 0.0);
        for seed in 0..SEEDS {
            fastrand::seed(seed);
            let gate = Gate::new(settings);
            let [usual, _] = load(&gate, [interactive(47.0), batch(0.0)]).await;
            assert_eq!(usual.shed.borrow().len(), 0);
            let [twice, _] = load(&gate, [interactive(117.0), batch(0.0)]).await;
            assert!(twice.whole.borrow().len() > 40 * 55, "{} are answered", twice.whole.borrow().len());
            assert!(twice.shed.borrow().iter().all(|waited| *waited == 0), "{:?}", twice.shed);
            alone += twice.p99() as f32 / usual.p99() as f32;

            let gate = Gate::new(settings);
            let [usual, _] = load(&gate, [interactive(29.0), batch(18.0)]).await;
            let [people, reports] = load(&gate, [interactive(29.0), batch(88.0)]).await;
            assert_eq!(people.shed.borrow().len(), 0);
            assert!(reports.whole.borrow().len() > 40 * 25, "what is left is the batch's: {}", reports.whole.borrow().len());
            assert!(reports.shed.borrow().iter().all(|waited| *waited == 0), "{:?}", reports.shed);
            beside += people.p99() as f32 / usual.p99() as f32;
        }
        assert!(alone < 1.3 * SEEDS as f32 && beside < 1.3 * SEEDS as f32, "{alone} {beside}");
    }

    /// Some answers are short and some are long, and some begin later than others because their prompts are longer: that is no overload.
    #[tokio::test(start_paused = true)]
    async fn a_mixture_is_no_overload() {
        let gate = Gate::new(Settings { start: 32, min: 1, max: 500, queue: 0, wait: Duration::ZERO });
        fastrand::seed(7);
        for _ in 0..300 {
            let (limit, ..) = gate.view();
            let mut held: Vec<Pass> = (0..limit).filter_map(|_| gate.try_enter()).collect();
            for pass in &mut held {
                match fastrand::u8(..4) {
                    0 => pass.began(false, Duration::from_millis(50)),
                    1 => pass.began(false, Duration::from_secs(20)),
                    _ => pass.began(true, Duration::from_millis(fastrand::u64(50..500))),
                }
            }
        }
        assert!(gate.view().0 >= 32, "{:?}", gate.view());
    }
}
