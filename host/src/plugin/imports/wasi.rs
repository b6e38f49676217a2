//! WASI, for a component that imports it: its clocks and random numbers are the exchange's, as `clock` and the record of it are; all else is
//! wasmtime's own, with nothing behind it.
//!
//! Both clocks show the millisecond in which the exchange began and the time since, the monotonic one as nanoseconds since the Unix epoch;
//! without an exchange they stand at 0. Random numbers are the system's, which a recording keeps. In a replay both come from the recording;
//! what is not in it is the moment at which the call began, and numbers that hang on the exchange's id.
//!
//! What it does not do: it opens nothing. There are no files, no network, no environment, no arguments and no streams to read or write.
//!
//! **Invariant:** in a replay nothing here is the machine's, and a guest waits for nothing.
//! **Invariant:** one call makes at most [`MAX_RANDOM`] bytes, an instance holds at most [`MAX_HANDLES`] things of the host's, however many
//! exchanges it serves.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime::{Result, bail};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::{WasiCtx, WasiView};

use super::State;
use super::small::{first_eight, mixed};
use crate::plugin::tape::Blob;

/// Bytes of random numbers that one call may ask for. The host makes them one by one, and no epoch ends it meanwhile.
const MAX_RANDOM: u64 = 64 << 10;
/// Pollables, streams and the like that an instance may have.
const MAX_HANDLES: usize = 256;
/// What a clock's readings are apart, in nanoseconds.
const RESOLUTION: u64 = 1_000;

/// Adds WASI to what a component may import.
pub(in crate::plugin) fn add(linker: &mut Linker<State>) -> Result<()> {
    type Own = HasSelf<State>;
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    wall_clock::add_to_linker::<_, Own>(linker, |state| state)?;
    monotonic_clock::add_to_linker::<_, Own>(linker, |state| state)?;
    random::add_to_linker::<_, Own>(linker, |state| state)?;
    insecure::add_to_linker::<_, Own>(linker, |state| state)?;
    insecure_seed::add_to_linker::<_, Own>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

/// No files, no network, no environment, no arguments, no standard streams.
pub(super) fn locked_down() -> (WasiCtx, ResourceTable) {
    let mut table = ResourceTable::new();
    table.set_max_capacity(MAX_HANDLES);
    let context = WasiCtx::builder()
        .allow_tcp(false)
        .allow_udp(false)
        .allow_blocking_current_thread(false)
        .max_random_size(MAX_RANDOM)
        .build();
    (context, table)
}

impl State {
    /// Nanoseconds since the Unix epoch, by the exchange's own clock.
    fn moment(&self) -> u64 {
        let Some(around) = &self.around else { return 0 };
        let elapsed = |_: &Self| around.elapsed().as_micros() as u64;
        let us: u64 = self.asks("clock.elapsed-us", || json!([]), || 0, elapsed);
        around.received_at().saturating_mul(1_000_000).saturating_add(us.saturating_mul(1_000))
    }

    /// Random bytes: the system's, and the same again in a replay.
    fn drawn(&mut self, length: u64) -> Result<Vec<u8>> {
        if length > MAX_RANDOM {
            bail!("{length} random bytes are asked for at once, and {MAX_RANDOM} may be");
        }
        let Some(around) = &self.around else { return system(length) };
        // Not those of the contract's `random`, whoever looks at both.
        let seed = || first_eight(blake3::Hasher::new().update(b"wasi").update(around.id().as_bytes()).finalize());
        let mut state = self.wasi_random.unwrap_or_else(seed);
        let of_exchange = || {
            let words = std::iter::repeat_with(|| mixed(&mut state).to_le_bytes());
            Ok(Blob(words.flatten().take(length as usize).collect()))
        };
        let ask = |_: &Self| system(length).map(Blob).map_err(|error| error.to_string());
        let drawn: Result<Blob, String> = self.asks("wasi.random", || json!([length]), of_exchange, ask);
        self.wasi_random = Some(state);
        drawn.map(|Blob(bytes)| bytes).map_err(wasmtime::Error::msg)
    }

    fn word(&mut self) -> Result<u64> {
        let bytes = self.drawn(8)?;
        Ok(bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word)))
    }

    fn wakes_at(&mut self, nanoseconds: u64) -> Result<Resource<DynPollable>> {
        let is_replayed = self.tape().is_some_and(|tape| tape.is_replay());
        let alarm = match nanoseconds {
            _ if is_replayed => Alarm::Now,
            0 => Alarm::Now,
            _ => Instant::now().checked_add(Duration::from_nanos(nanoseconds)).map_or(Alarm::Never, Alarm::At),
        };
        let table = self.ctx().table;
        let alarm = table.push(alarm)?;
        subscribe(table, alarm)
    }
}

fn system(length: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length as usize];
    getrandom::fill(&mut bytes).map_err(|error| wasmtime::format_err!("the system has no random numbers: {error}"))?;
    Ok(bytes)
}

/// When a guest that waits goes on.
enum Alarm {
    Now,
    At(Instant),
    Never,
}

impl Pollable for Alarm {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async {
            match self {
                // Others on this core have their turn, however often a guest asks.
                Self::Now => tokio::task::yield_now().await,
                Self::At(moment) => tokio::time::sleep_until(*moment).await,
                Self::Never => std::future::pending().await,
            }
        })
    }
}

impl wall_clock::Host for State {
    fn now(&mut self) -> Result<wall_clock::Datetime> {
        let now = self.moment();
        Ok(wall_clock::Datetime { seconds: now / 1_000_000_000, nanoseconds: (now % 1_000_000_000) as u32 })
    }

    fn resolution(&mut self) -> Result<wall_clock::Datetime> {
        Ok(wall_clock::Datetime { seconds: 0, nanoseconds: RESOLUTION as u32 })
    }
}

impl monotonic_clock::Host for State {
    fn now(&mut self) -> Result<u64> {
        // An instance serves one exchange after another, and the system's clock may be set back between them.
        self.latest = self.latest.max(self.moment());
        Ok(self.latest)
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(RESOLUTION)
    }

    fn subscribe_instant(&mut self, when: u64) -> Result<Resource<DynPollable>> {
        let now = monotonic_clock::Host::now(self)?;
        self.wakes_at(when.saturating_sub(now))
    }

    fn subscribe_duration(&mut self, when: u64) -> Result<Resource<DynPollable>> {
        self.wakes_at(when)
    }
}

impl random::Host for State {
    fn get_random_bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        self.drawn(length)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        self.word()
    }
}

impl insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        self.drawn(length)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        self.word()
    }
}

impl insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((self.word()?, self.word()?))
    }
}
