//! What one call of a guest can use up: time, memory, tables, stack and what it makes the host allocate.
//!
//! What it does not do: it does not decide what follows when a limit is hit; that is the plugin's `on_failure` (`hooks`).
//!
//! **Invariant:** each bound holds for hostile guests too: in start code, in a host function's arguments, and in results.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime::{ResourceLimiter, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};

use super::engine::TICK;
use super::imports::State;

/// Bytes that one crossing between guest and host may allocate on the host, in either direction, where the request is no larger.
pub const HOSTCALL_BYTES: usize = 2 << 20;

/// What stands for a millisecond where instructions are counted: more than any core runs in one, so that a call which made its deadline
/// makes it again.
const FUEL_PER_MS: u64 = 10_000_000;
/// Longer than any replay.
const UNTIMED: Duration = Duration::from_secs(86_400);

/// The time that one call has left.
pub struct Budget {
    ends: Instant,
    ticks: u32,
}

impl Budget {
    /// A budget of `deadline` from now, and one tick for the one that is under way.
    pub fn of(deadline: Duration) -> Self {
        let ticks = deadline.as_millis() / TICK.as_millis() + 1;
        Self { ends: Instant::now() + deadline, ticks: u32::try_from(ticks).unwrap_or(u32::MAX) }
    }

    /// One tick has passed. A guest that still computes yields the core to the other exchanges on it; one whose time is
    /// up traps.
    fn tick(&mut self) -> UpdateDeadline {
        self.ticks = self.ticks.saturating_sub(1);
        if self.ticks == 0 || Instant::now() >= self.ends { UpdateDeadline::Interrupt } else { UpdateDeadline::Yield(1) }
    }

    /// When a call that waits in the host must be over.
    pub fn ends(&self) -> Instant {
        self.ends
    }
}

/// Bounds on what an instance may hold, and the memory that it has.
pub struct Held {
    bounds: StoreLimits,
    /// Bytes that it may have.
    pub most: usize,
    /// Bytes of linear memory. It never shrinks.
    pub memory: usize,
}

impl ResourceLimiter for Held {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let may = self.bounds.memory_growing(current, desired, maximum)?;
        self.memory += if may { desired - current } else { 0 };
        Ok(may)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.bounds.memory_grow_failed(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        self.bounds.table_growing(current, desired, maximum)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.bounds.table_grow_failed(error)
    }

    fn instances(&self) -> usize {
        self.bounds.instances()
    }

    fn tables(&self) -> usize {
        self.bounds.tables()
    }

    fn memories(&self) -> usize {
        self.bounds.memories()
    }
}

/// The bounds of one instance. A grow that fails traps, so that a guest cannot go on with half its memory.
pub fn of_store(memory: usize) -> Held {
    let bounds = StoreLimitsBuilder::new()
        .memory_size(memory)
        .table_elements(20_000)
        .instances(64)
        .tables(16)
        .memories(4)
        .trap_on_grow_failure(true)
        .build();
    Held { bounds, most: memory, memory: 0 }
}

/// Puts the bounds on a new store.
pub fn apply(store: &mut Store<State>) {
    store.limiter(|state| &mut state.limits);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.epoch_deadline_callback(|mut context| Ok(context.data_mut().budget.tick()));
}

/// A guest may look at all of its request, however large it is: what a client sends is no failure of the guest's. Twice its size,
/// since a list of texts has more around each than the body has.
pub fn allow(store: &mut Store<State>, request: usize) {
    store.set_hostcall_fuel(HOSTCALL_BYTES.max(request * 2));
}

/// Starts the clock of one call. Where instructions are counted no clock ends it.
pub fn start(store: &mut Store<State>, deadline: Duration, is_metered: bool) {
    if is_metered {
        let fuel = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX).saturating_mul(FUEL_PER_MS);
        // It fails where the engine does not count, and this one does.
        let _ = store.set_fuel(fuel);
    }
    store.data_mut().budget = Budget::of(if is_metered { UNTIMED } else { deadline });
    store.set_epoch_deadline(1);
}
