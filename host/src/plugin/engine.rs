//! The one wasmtime engine of the process, and the thread that moves its epoch.
//!
//! What it does not do: it compiles nothing (`load`) and runs nothing (`hooks`).
//!
//! **Invariant:** every guest runs under an epoch deadline; the ticker lives as long as the engine does.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Length of one epoch tick, while a guest takes its time.
pub const TICK: Duration = Duration::from_millis(1);

/// The largest linear memory that a plugin may be configured to have.
pub const MAX_MEMORY: usize = 64 << 20;

/// Instances alive at once, over all plugins and cores. A hook that finds none free fails, and falls through.
const MAX_INSTANCES: u32 = 1_000;

/// An engine and its ticker. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    wasm: wasmtime::Engine,
    /// Threads that serve: so many instances of a plugin that is reused are made before it is asked.
    pub(super) cores: usize,
    ticker: Arc<Owned>,
    metered: bool,
}

/// Ends the thread with the last engine.
struct Owned(Arc<Ticker>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
        self.0.wake();
    }
}

impl std::ops::Deref for Engine {
    type Target = wasmtime::Engine;
    fn deref(&self) -> &wasmtime::Engine {
        &self.wasm
    }
}

impl Engine {
    /// Sets the engine up for small guests that are made anew for each exchange, all on one thread.
    ///
    /// # Errors
    /// As [`Engine::for_cores`].
    pub fn new() -> wasmtime::Result<Self> {
        Self::for_cores(1)
    }

    /// The same for exchanges on so many threads.
    ///
    /// # Errors
    /// When the platform has no support for wasmtime's pooling allocator, or no thread can be started.
    pub fn for_cores(cores: usize) -> wasmtime::Result<Self> {
        Self::with(cores, false)
    }

    /// An engine whose deadlines are counted in instructions, so that a call ends at the same one on every machine. It is slower.
    ///
    /// # Errors
    /// As those of [`Engine::for_cores`].
    pub fn metered() -> wasmtime::Result<Self> {
        Self::with(1, true)
    }

    fn with(cores: usize, metered: bool) -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(MAX_INSTANCES)
            // A count, not room: a component in Python is made of some forty.
            .total_core_instances(MAX_INSTANCES * 40)
            .total_memories(MAX_INSTANCES)
            .total_tables(MAX_INSTANCES * 2)
            .total_stacks(MAX_INSTANCES)
            .max_component_instance_size(1 << 20)
            .max_core_instance_size(1 << 20)
            .max_core_instances_per_component(64)
            .max_memories_per_component(4)
            .max_tables_per_component(16)
            .table_elements(20_000)
            .max_memory_size(MAX_MEMORY)
            // Measured: 64 KiB that are scrubbed by pagemap scan and kept make a fresh instance twice as fast as pages
            // given back to the kernel after each; without the scan, keeping more is slower.
            .linear_memory_keep_resident(64 << 10)
            .table_keep_resident(64 << 10)
            .pagemap_scan(Enabled::Auto);

        let mut config = Config::new();
        config
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
            .epoch_interruption(true)
            .consume_fuel(metered)
            // The contract has no async functions; without them a call is 1–2 µs cheaper.
            .concurrency_support(false)
            .max_wasm_stack(128 << 10)
            .async_stack_size(256 << 10)
            // After a trap, and only then: the way to what a guest said last (`last_words`).
            .coredump_on_trap(true)
            // Bit for bit the same decision on every node.
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(false);

        let wasm = wasmtime::Engine::new(&config)?;
        let ticker = Ticker::start(wasm.weak())?;
        Ok(Self { wasm, cores, ticker: Arc::new(Owned(ticker)), metered })
    }

    /// Are deadlines counted in instructions?
    pub(super) fn is_metered(&self) -> bool {
        self.metered
    }

    /// To be held while a guest runs: the epoch moves for nobody else.
    pub fn running(&self) -> Running<'_> {
        self.ticker.0.enter()
    }

    /// From now on guests may have deadlines as short as this.
    pub(super) fn expects(&self, deadline: Duration) {
        let ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.ticker.0.shortest.fetch_min(ms, Ordering::Relaxed);
    }
}

/// Moves the epoch while guests run, and rests while none does.
///
/// A wake-up of a thread is the dearest thing that a small node does all day, so there are no more of them than the deadlines
/// need: a guest that runs for longer than [`Ticker::pause`] finds a tick every [`TICK`] from then on; until then nobody has to
/// look.
struct Ticker {
    running: AtomicU32,
    /// Nothing has run for a while, and the thread sleeps until it is woken.
    rests: AtomicBool,
    /// The shortest deadline of any plugin so far, in milliseconds.
    shortest: AtomicU32,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
}

/// A guest runs, or waits in the host, for as long as this is held.
pub struct Running<'a>(&'a Ticker);

impl Ticker {
    /// Longest time between two looks at whether a guest is running; also how long one may compute before it first yields.
    const LONGEST: u32 = 4;
    /// Looks without a running guest before the thread rests.
    const QUIET: u32 = 25;

    fn start(engine: wasmtime::EngineWeak) -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            running: AtomicU32::new(0),
            rests: AtomicBool::new(false),
            shortest: AtomicU32::new(u32::MAX),
            stop: AtomicBool::new(false),
            thread: OnceLock::new(),
        });
        let own = ticker.clone();
        let thread = std::thread::Builder::new().name("epoch".into()).stack_size(64 << 10).spawn(move || own.turn(&engine))?;
        let _ = ticker.thread.set(thread.thread().clone());
        Ok(ticker)
    }

    fn turn(&self, engine: &wasmtime::EngineWeak) {
        let mut quiet = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let busy = self.running.load(Ordering::Relaxed) > 0;
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet > Self::QUIET {
                self.rest();
                quiet = 0;
            }
            #[allow(clippy::disallowed_methods, reason = "a thread of its own whose work is to sleep")]
            std::thread::sleep(if busy { TICK } else { self.pause() });
            if self.running.load(Ordering::Relaxed) > 0 {
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        }
    }

    /// A guest that begins right after a look has a tick within its deadline.
    fn pause(&self) -> Duration {
        TICK * self.shortest.load(Ordering::Relaxed).clamp(1, Self::LONGEST)
    }

    /// Sleeps until a guest runs. Either this thread sees the guest, or the guest sees that this thread rests: each writes
    /// before it reads.
    fn rest(&self) {
        self.rests.store(true, Ordering::SeqCst);
        while self.running.load(Ordering::SeqCst) == 0 && self.rests.load(Ordering::SeqCst) && !self.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.rests.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    fn enter(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::SeqCst);
        if self.rests.load(Ordering::SeqCst) && self.rests.swap(false, Ordering::SeqCst) {
            self.wake();
        }
        Running(self)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
