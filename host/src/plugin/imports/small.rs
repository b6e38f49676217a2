//! `config`, `log`, `metrics`, `clock` and `random`.
//!
//! **Invariant:** a guest's text reaches the log as field values, escaped by the log's own format, and never as a name of
//! a metric that was not checked.

use serde_json::json;
use wasmtime::Result;

use super::{State, cut};
use crate::plugin::bindings::types::Labels;
use crate::plugin::bindings::{clock, config, log, metrics, random};
use crate::printable::printable;

/// Lines that one exchange of one plugin may log, in all calls together; the contract names this number.
const MAX_LOG_LINES: u32 = 16;
/// Bytes of one line and its fields.
const MAX_LOG_BYTES: u32 = 4 << 10;

impl config::Host for State {
    fn get(&mut self, key: String) -> Result<Option<String>> {
        Ok(self.plugin.config(&key).map(str::to_owned))
    }

    fn document(&mut self) -> Result<String> {
        Ok(self.plugin.config_document().to_owned())
    }
}

fn is_enabled(level: log::Level) -> bool {
    match level {
        log::Level::Trace => tracing::enabled!(target: "pointsman::plugin::guest", tracing::Level::TRACE),
        log::Level::Debug => tracing::enabled!(target: "pointsman::plugin::guest", tracing::Level::DEBUG),
        log::Level::Info => tracing::enabled!(target: "pointsman::plugin::guest", tracing::Level::INFO),
        log::Level::Warn => tracing::enabled!(target: "pointsman::plugin::guest", tracing::Level::WARN),
        log::Level::Error => tracing::enabled!(target: "pointsman::plugin::guest", tracing::Level::ERROR),
    }
}

impl State {
    /// Lines so far, and `more`. An instance counts its own, and the exchange those of all of them: each part of a long answer has one.
    fn lines(&mut self, more: u32) -> u32 {
        self.log_lines += more;
        self.log_lines.max(self.around.as_ref().map_or(0, |around| around.logged(self.plugin.label(), more)))
    }
}

impl log::Host for State {
    fn enabled(&mut self, level: log::Level) -> Result<bool> {
        let has_room = self.lines(0) < MAX_LOG_LINES;
        let is_enabled = |_: &Self| has_room && is_enabled(level);
        Ok(self.asks("log.enabled", || json!([level]), || false, is_enabled))
    }

    fn log(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> Result<()> {
        if !is_enabled(level) {
            return Ok(());
        }
        if self.lines(0) >= MAX_LOG_LINES {
            self.plugin.numbers.dropped_log_lines.add(1);
            return Ok(());
        }
        self.lines(1);
        let exchange = self.around.as_ref().map_or("", |around| around.id());
        let plugin = self.plugin.label();
        let message = printable(cut(&message, MAX_LOG_BYTES));
        // Field names are the guest's, so they travel as one value. All of a line together is no longer than a message may be.
        let mut room = (MAX_LOG_BYTES as usize).saturating_sub(message.len());
        let mut within = |text: &str, most: u32| {
            let text = cut(text, most.min(room as u32)).to_owned();
            room -= text.len();
            text
        };
        let fields = fields.iter().take(16).map(|(name, value)| (within(name, 64), within(value, 1024).into()));
        let fields = serde_json::Value::Object(fields.filter(|(name, _)| !name.is_empty()).collect());
        macro_rules! line {
            ($level:ident) => {
                tracing::event!(target: "pointsman::plugin::guest", tracing::Level::$level, exchange, plugin, %fields, "{message}")
            };
        }
        match level {
            log::Level::Trace => line!(TRACE),
            log::Level::Debug => line!(DEBUG),
            log::Level::Info => line!(INFO),
            log::Level::Warn => line!(WARN),
            log::Level::Error => line!(ERROR),
        }
        Ok(())
    }
}

impl metrics::Host for State {
    fn increment(&mut self, name: String, delta: u64, labels: Labels) -> Result<()> {
        if self.aside.is_none() {
            self.plugin.numbers.guest.increment(&name, delta, labels);
        }
        Ok(())
    }

    fn gauge(&mut self, name: String, value: f64, labels: Labels) -> Result<()> {
        if self.aside.is_none() {
            self.plugin.numbers.guest.gauge(&name, value, labels);
        }
        Ok(())
    }

    fn observe(&mut self, name: String, value: f64, labels: Labels) -> Result<()> {
        if self.aside.is_none() {
            self.plugin.numbers.guest.observe(&name, value, labels);
        }
        Ok(())
    }
}

impl clock::Host for State {
    fn now(&mut self) -> Result<u64> {
        let now =
            |state: &Self| state.around.as_ref().map_or(0, |around| around.received_at() + around.elapsed().as_millis() as u64);
        Ok(self.asks("clock.now", || json!([]), || 0, now))
    }

    fn elapsed_us(&mut self) -> Result<u64> {
        let elapsed = |state: &Self| state.around.as_ref().map_or(0, |around| around.elapsed().as_micros() as u64);
        Ok(self.asks("clock.elapsed-us", || json!([]), || 0, elapsed))
    }
}

impl random::Host for State {
    /// [`mixed`] over a seed made of the exchange and the plugin: a recorded exchange draws the same numbers again, and two plugins do
    /// not draw the same.
    fn u64(&mut self) -> Result<u64> {
        let id = self.around.as_ref().map_or("", |around| around.id());
        let seed = self.random.get_or_insert_with(|| {
            first_eight(blake3::Hasher::new().update(id.as_bytes()).update(self.plugin.name().as_bytes()).finalize())
        });
        Ok(mixed(seed))
    }

    fn bucket(&mut self, salt: String, key: String, buckets: u32) -> Result<u32> {
        Ok(bucket(&salt, &key, buckets))
    }
}

/// The next number of SplitMix64.
pub(super) fn mixed(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A stable choice of 0 to `buckets` - 1 for a salt and key. The contract promises that it never changes.
pub(in crate::plugin) fn bucket(salt: &str, key: &str, buckets: u32) -> u32 {
    if buckets == 0 {
        return 0;
    }
    let mut hash = blake3::Hasher::new();
    hash.update(&(salt.len() as u64).to_le_bytes()).update(salt.as_bytes()).update(key.as_bytes());
    // Multiply and shift: without the bias of a remainder.
    ((u128::from(first_eight(hash.finalize())) * u128::from(buckets)) >> 64) as u32
}

pub(super) fn first_eight(hash: blake3::Hash) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::bucket;

    #[test]
    fn buckets_are_even_and_never_move() {
        let mut counts = [0u32; 4];
        for user in 0..4_000 {
            counts[bucket("experiment", &format!("user-{user}"), 4) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (900..1_100).contains(count)), "{counts:?}");
        // These three are part of the contract: a change would move users between arms.
        assert_eq!([bucket("a", "x", 100), bucket("a", "y", 100), bucket("b", "x", 100)], PINNED);
        assert_eq!(bucket("a", "x", 0), 0);
    }

    const PINNED: [u32; 3] = [4, 86, 18];
}
