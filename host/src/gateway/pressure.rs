//! Whether there is memory for one more request: `process` says how full it is, and who is refused is decided here.
//!
//! What it does not do: it measures nothing, and ends nothing that is under way.
//!
//! **Invariant:** a request is refused before its body is read.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::config::Priority;
use crate::error::{Error, Kind, Source};
use crate::numbers::Count;

/// When there may be room again.
const AFTER: Duration = Duration::from_secs(1);

/// Whom too much memory shuts out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Pressure {
    /// Nobody.
    #[default]
    None,
    /// What is least urgent.
    Batch,
    /// All that have a body.
    All,
}

/// The memory, as requests see it.
#[derive(Debug, Default)]
pub struct Memory {
    pressure: AtomicU8,
    /// Requests refused, by priority.
    pub refused: [Count; 3],
}

impl Memory {
    /// It is so full.
    pub fn press(&self, pressure: Pressure) {
        self.pressure.store(pressure as u8, Ordering::Relaxed);
    }

    /// How full it is.
    pub fn pressure(&self) -> Pressure {
        match self.pressure.load(Ordering::Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Batch,
            _ => Pressure::All,
        }
    }

    /// Is there room for a request of this priority?
    pub(super) fn admits(&self, priority: Priority) -> Result<(), Error> {
        let shut_out = match self.pressure() {
            Pressure::None => false,
            Pressure::Batch => priority == Priority::Batch,
            Pressure::All => true,
        };
        if !shut_out {
            return Ok(());
        }
        self.refused[priority as usize].add(1);
        let message = "The gateway's memory is full just now. Try again shortly.".to_owned();
        Err(Error::new(Kind::Overloaded, Source::Gateway, message).retry_after(AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_urgent_go_first() {
        let memory = Memory::default();
        for (pressure, refused) in [(Pressure::None, 0), (Pressure::Batch, 1), (Pressure::All, 3), (Pressure::None, 0)] {
            memory.press(pressure);
            let errors = Priority::ALL.map(|priority| memory.admits(priority).err());
            assert_eq!(errors.iter().flatten().count(), refused, "{pressure:?}");
            assert!(refused == 0 || errors[Priority::Batch as usize].is_some());
        }
        assert_eq!(memory.refused.each_ref().map(Count::get), [1, 1, 2]);
    }
}
