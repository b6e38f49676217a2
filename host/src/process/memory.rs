//! The memory of the process, and what is refused when it becomes too much: first what is least urgent, then all that has a body.
//!
//! What waits for memory to become free waits with a body of its own, so it makes things worse. Who is refused may come back.
//!
//! What it does not do: it frees nothing. What is held is bounded where it is held (bodies, caches, streams, plugins).
//!
//! **Invariant:** without a mark nothing is read and nobody is refused.

use std::sync::Arc;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::gateway::pressure::Pressure;

/// How often it is read: a few microseconds each time.
const LOOK: Duration = Duration::from_millis(100);

/// Tells the gateway how full the memory is, for as long as it is polled.
pub(super) async fn watch(mark: u64, gateway: Arc<Gateway>) {
    let mut pressure = Pressure::None;
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        // Where it cannot be read nobody is refused for it.
        let resident = resident().unwrap_or(0);
        let next = at(resident, mark, pressure);
        if next != pressure {
            tracing::warn!(resident, mark, before = ?pressure, now = ?next, "the pressure on memory has changed");
        }
        pressure = next;
        gateway.memory.press(next);
    }
}

/// How many parts of a hundred of the mark are too much for batch, and for all; both are left five parts below.
fn at(resident: u64, mark: u64, before: Pressure) -> Pressure {
    let parts = resident.saturating_mul(100) / mark.max(1);
    let is_over = |limit: u64, was: bool| parts >= if was { limit - 5 } else { limit };
    if is_over(100, before == Pressure::All) {
        Pressure::All
    } else if is_over(90, before != Pressure::None) {
        Pressure::Batch
    } else {
        Pressure::None
    }
}

/// Bytes of resident memory.
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_left_later_than_it_is_entered() {
        use Pressure::{All, Batch, None};
        let course =
            [(89, None), (90, Batch), (86, Batch), (99, Batch), (100, All), (96, All), (94, Batch), (84, None), (89, None)];
        let mut pressure = None;
        for (parts, expected) in course {
            pressure = at(parts * 10, 1_000, pressure);
            assert_eq!(pressure, expected, "{parts}");
        }
        assert_eq!(at(5_000, 1_000, None), All, "all at once");
        assert_eq!(at(0, 1_000, All), None);
    }

    #[test]
    fn a_process_has_memory() {
        assert!((1 << 20..1 << 36).contains(&resident().unwrap()));
    }
}
