//! The gate of a pool: how many requests it gets at a time, who waits, who goes first, who is sent away.
//!
//! The number follows what the pool bears. While answers begin as soon as they usually do it grows; when they begin later because
//! requests queue up behind one another, or are refused, it shrinks (`limit`). What does not fit waits here, where it can be ordered:
//! by lane first, within a lane by tenant in turn, within a tenant by age. The line is bounded in length and time. Where it is full, a
//! request of a lower lane gives its place to one of a higher. Some places are kept free of batch while others come who would have to wait
//! (`headroom`).
//!
//! What it does not do: it chooses no endpoint (`pool`).
//!
//! **Invariant:** a pass is held until the last byte of the answer.
//! **Invariant:** who waits and leaves, leaves the line; a pass that was on its way to somebody who has left goes to the next.

mod headroom;
mod limit;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::config::Priority;
use crate::numbers::Count;
use headroom::{ALONE, Headroom};
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
    headroom: Headroom,
    /// By lane.
    running: [u32; 3],
    waiting: u32,
    lanes: [VecDeque<Tenant>; 3],
    next: u64,
    /// For how many seconds a pass is held, of late; none before one has been given back.
    held: Option<f32>,
    /// By lane.
    standing: [Standing; 3],
    /// When a batch has last waited in vain.
    in_vain: Option<Instant>,
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
const FEW: usize = 3;

/// For so long after somebody of a batch has waited in vain nobody else of it waits: he is let in when he comes, or sent away. A batch that
/// comes often still fills every place within moments, and nearly all that it is refused is said to it at once.
const IN_DOUBT: Duration = Duration::from_secs(10);

/// Those of one tenant who wait in one lane.
struct Tenant {
    name: Arc<str>,
    line: VecDeque<(u64, oneshot::Sender<()>)>,
}

impl Gate {
    pub(super) fn new(settings: Settings) -> Arc<Self> {
        let state = State {
            limit: Limit::new(settings),
            headroom: Headroom::default(),
            running: [0; 3],
            waiting: 0,
            lanes: Default::default(),
            next: 0,
            held: None,
            standing: Default::default(),
            in_vain: None,
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
        (state.limit.get(), state.all(), state.waiting)
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
        let ends = now + wait;
        let called = loop {
            // Places that were left free, for others or to measure, come back with time, and nobody calls then.
            let until = ends.min(Instant::now() + if lane == Priority::Batch { ALONE } else { wait / 4 });
            match timeout_at(until, &mut place.called).await {
                Err(_) if until < ends => self.lock().call_and_watch(),
                called => break called,
            }
        };
        if matches!(called, Ok(Ok(()))) {
            place.over = true;
            return Ok(Pass::new(self, lane));
        }
        // Who has less time than anybody may have says nothing of the pool by leaving.
        let mut state = self.lock();
        if called.is_ok() || wait == self.settings.wait {
            self.shed[lane as usize].add(1);
            if lane == Priority::Batch {
                state.in_vain = Some(Instant::now());
            }
        }
        Err(Shed(state.comes_back()))
    }

    /// A pass, if there is room and nobody waits who would be called before.
    pub fn try_enter(self: &Arc<Self>, lane: Priority) -> Option<Pass> {
        let mut state = self.lock();
        state.limit.look_at_the_time();
        let passes = state.ahead(lane as usize + 1) == 0 && state.has_room(lane);
        passes.then(|| {
            state.running[lane as usize] += 1;
            Pass::new(self, lane)
        })
    }

    fn queue(self: &Arc<Self>, lane: Priority, tenant: &Arc<str>, wait: Duration) -> Result<Entered, Shed> {
        let pass = self.try_enter(lane);
        let mut state = self.lock();
        let (limit, is_urgent) = (state.limit.get(), lane != Priority::Batch);
        if let Some(pass) = pass {
            if is_urgent {
                state.headroom.came(false, limit);
            }
            return Ok(Entered::Passed(pass));
        }
        let (full, hopeless) = (state.waiting >= self.settings.queue, state.is_hopeless(lane, tenant, self.settings.wait));
        // Nobody gives up a place for one who cannot use it.
        let late = !hopeless && state.is_late(lane, tenant, wait);
        if hopeless || late || (full && !state.evict_below(lane)) {
            // Nor does it say anything of the pool that a client has less time than anybody may have.
            self.shed[lane as usize].add(u64::from(!late));
            return Err(Shed(state.comes_back()));
        }
        if is_urgent && state.running[Priority::Batch as usize] > 0 {
            state.headroom.came(true, limit);
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
        state.call_and_watch();
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
        let Some(held) = self.held else { return false };
        let before = self.before(lane, tenant) as f32;
        let calls = |places: f32| wait.as_secs_f32() * places / held;
        match lane {
            Priority::Batch if self.in_vain.is_some_and(|last| last.elapsed() < IN_DOUBT) => true,
            // The next to be called keeps nobody waiting, however long answers are.
            Priority::Batch if before == 0.0 => false,
            // What is left of the places changes with whoever is more urgent, so that it must be sure: by four standard deviations.
            Priority::Batch => calls(self.left_to_batch() as f32) < before + 1.0 + 4.0 * (before + 1.0).sqrt(),
            Priority::Realtime | Priority::Interactive => calls(self.limit.now) < before,
        }
    }

    /// The places that nobody more urgent has or may need.
    fn left_to_batch(&self) -> u32 {
        let limit = self.limit.get();
        let urgent = self.all() - self.running[Priority::Batch as usize];
        limit.saturating_sub(self.headroom.of(limit) + urgent).max(1)
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

    /// Those who run.
    fn all(&self) -> u32 {
        self.running.iter().sum()
    }

    fn has_room(&self, lane: Priority) -> bool {
        let limit = self.limit.get();
        let kept = if lane == Priority::Batch { self.headroom.of(limit) } else { 0 };
        self.all() < limit - kept
    }

    /// Lets in those who are next, as far as there is room.
    fn call(&mut self) {
        use Priority::{Batch, Interactive, Realtime};
        self.limit.look_at_the_time();
        let next = |state: &Self| [Realtime, Interactive, Batch].into_iter().find(|lane| !state.lanes[*lane as usize].is_empty());
        while let Some(lane) = next(self).filter(|lane| self.has_room(*lane)) {
            let Some(caller) = self.pop() else { return };
            // Who has left does not take the place.
            self.running[lane as usize] += u32::from(caller.send(()).is_ok());
        }
    }

    fn call_and_watch(&mut self) {
        self.call();
        self.watch();
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

    /// `held`: for how long, where that says something of the pool.
    fn ended(&mut self, lane: Priority, held: Option<Duration>) {
        if let Some(held) = held.map(|held| held.as_secs_f32()) {
            // Each counts a twentieth.
            self.held = Some(self.held.map_or(held, |mean| mean + (held - mean) * 0.05));
        }
        self.running[lane as usize] -= 1;
        self.call_and_watch();
    }

    fn observe(&mut self, sample: Sample, since: Instant) {
        self.limit.observe(sample, since, self.all());
        self.call_and_watch();
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
            state.running[self.lane as usize] -= 1;
        } else {
            state.leave(self.lane, self.number);
        }
        state.call_and_watch();
    }
}

/// Leave to be at work in the pool.
pub struct Pass {
    gate: Arc<Gate>,
    lane: Priority,
    since: Instant,
    /// Its answer has begun, or the pool has had all the time that anybody may have. One whose client left before that says
    /// nothing of how long a pass is held.
    counts: bool,
}

impl Pass {
    fn new(gate: &Arc<Gate>, lane: Priority) -> Self {
        Self { gate: gate.clone(), lane, since: Instant::now(), counts: false }
    }

    /// Its answer has begun.
    pub fn began(&mut self, streamed: bool, after: Duration) {
        self.counts = true;
        self.gate.lock().observe(if streamed { Sample::Began(after) } else { Sample::Whole }, self.since);
    }

    /// The pool has too much to do.
    pub fn overloaded(&mut self) {
        self.counts = true;
        self.gate.lock().observe(Sample::Overloaded, self.since);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.lock().ended(self.lane, self.counts.then(|| self.since.elapsed()));
    }
}

#[cfg(test)]
mod tests;
