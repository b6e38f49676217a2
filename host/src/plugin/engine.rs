//! The one wasmtime engine of the process, and the thread that moves its epoch.
//!
//! What it does not do: it compiles nothing (`load`) and runs nothing (`hooks`).
//!
//! **Invariant:** every guest runs under an epoch deadline; the ticker lives as long as the engine does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Length of one epoch tick. A deadline of `n` ticks ends between `n - 1` and `n` milliseconds after it was set, so
/// `limits` adds one.
pub const TICK: Duration = Duration::from_millis(1);

/// The largest linear memory that a plugin may be configured to have.
pub const MAX_MEMORY: usize = 64 << 20;

/// Instances alive at once, over all plugins and cores. A hook that finds none free fails, and falls through.
const MAX_INSTANCES: u32 = 1_000;

/// An engine and its ticker. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    wasm: wasmtime::Engine,
    _ticker: Arc<Ticker>,
}

impl std::ops::Deref for Engine {
    type Target = wasmtime::Engine;
    fn deref(&self) -> &wasmtime::Engine {
        &self.wasm
    }
}

impl Engine {
    /// Sets the engine up for small guests that are made anew for each exchange.
    ///
    /// # Errors
    /// When the platform has no support for wasmtime's pooling allocator, or no thread can be started.
    pub fn new() -> wasmtime::Result<Self> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(MAX_INSTANCES)
            .total_core_instances(MAX_INSTANCES * 4)
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
            // The contract has no async functions; without them a call is 1–2 µs cheaper.
            .concurrency_support(false)
            .max_wasm_stack(128 << 10)
            .async_stack_size(256 << 10)
            // Bit for bit the same decision on every node.
            .cranelift_nan_canonicalization(true)
            .wasm_relaxed_simd(false);

        let wasm = wasmtime::Engine::new(&config)?;
        let ticker = Ticker::start(wasm.weak())?;
        Ok(Self { wasm, _ticker: Arc::new(ticker) })
    }
}

struct Ticker {
    stop: Arc<AtomicBool>,
}

impl Ticker {
    fn start(engine: wasmtime::EngineWeak) -> wasmtime::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        std::thread::Builder::new().name("epoch".into()).stack_size(64 << 10).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                #[allow(clippy::disallowed_methods, reason = "a thread of its own whose work is to sleep")]
                std::thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self { stop })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
