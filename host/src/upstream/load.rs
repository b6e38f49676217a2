//! How busy an endpoint is: its cost, the time until an answer begins, times the requests that wait there.
//!
//! The cost is a peak-sensitive moving average, as in Finagle and Linkerd: it goes up to a slow answer at once, and comes down from
//! it over time. So an endpoint that turns slow is left within an answer, and tried again when the memory of it has faded.
//!
//! **Invariant:** pure but for its own state: time is given to it, so that a simulation can run it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The time in which a cost comes down to about a third of the way to what is measured now.
const FADES: Duration = Duration::from_secs(10);

/// A peak-sensitive moving average of times.
pub struct Cost {
    epoch: Instant,
    /// Milliseconds since `epoch` in the upper half, the average in milliseconds as an `f32` in the lower; 0: nothing is known.
    word: AtomicU64,
}

impl Cost {
    pub(super) fn new(now: Instant) -> Self {
        Self { epoch: now, word: AtomicU64::new(0) }
    }

    /// An answer has begun after so long, or has not begun for so long. Two cores at once may lose one of two values.
    pub fn observe(&self, took: Duration, now: Instant) {
        self.observe_ms(took.as_secs_f32() * 1e3, now);
    }

    /// The same, in milliseconds, or in milliseconds for each of whatever.
    pub(super) fn observe_ms(&self, took: f32, now: Instant) {
        let took = took.max(f32::MIN_POSITIVE);
        let (then, cost) = self.parts();
        let next = if took < cost && self.is_known(now) {
            let weight = self.faded(then, now);
            cost * weight + took * (1.0 - weight)
        } else {
            took
        };
        self.word.store((self.ms(now) << 32) | u64::from(next.to_bits()), Ordering::Relaxed);
    }

    /// Milliseconds; none if nothing was measured of late. What was measured a while ago has faded and is then forgotten, so that an
    /// endpoint that was left alone is looked at again.
    pub fn at(&self, now: Instant) -> Option<f32> {
        let (then, cost) = self.parts();
        self.is_known(now).then(|| cost * self.faded(then, now))
    }

    /// The same as it was when something was measured last: up at once, and not faded since. It says whether a bound is kept, and
    /// is not what a choice between two goes by: whoever is over the bound would come back under it by not being asked.
    pub fn unfaded(&self, now: Instant) -> Option<f32> {
        self.is_known(now).then(|| self.parts().1)
    }

    fn is_known(&self, now: Instant) -> bool {
        let (then, cost) = self.parts();
        cost > 0.0 && self.ms(now).saturating_sub(then) < FADES.as_millis() as u64
    }

    /// What is left after so long of what was 1.
    fn faded(&self, then: u64, now: Instant) -> f32 {
        (-(self.ms(now).saturating_sub(then) as f32) / FADES.as_millis() as f32).exp()
    }

    fn parts(&self) -> (u64, f32) {
        let word = self.word.load(Ordering::Relaxed);
        (word >> 32, f32::from_bits(word as u32))
    }

    /// Below 2^32: seven weeks, after which it begins anew and the average with it.
    fn ms(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.epoch).as_millis() as u64 & 0xffff_ffff
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn up_at_once_and_down_over_time() {
        let start = Instant::now();
        let (cost, at) = (Cost::new(start), |seconds| start + Duration::from_secs(seconds));
        assert_eq!(cost.at(start), None);
        cost.observe(Duration::from_millis(100), at(1));
        cost.observe(Duration::from_secs(10), at(2));
        assert_eq!(cost.at(at(2)), Some(10_000.0));
        // One quick answer right after it does not make up for it; many over ten seconds do in part.
        cost.observe(Duration::from_millis(100), at(2));
        assert_eq!(cost.at(at(2)), Some(10_000.0));
        for second in 3..=12 {
            cost.observe(Duration::from_millis(100), at(second));
        }
        let left = cost.at(at(12)).unwrap();
        assert!((3_000.0..4_500.0).contains(&left), "{left}");
        assert!(cost.unfaded(at(21)).unwrap() > 2.0 * cost.at(at(21)).unwrap());
        assert_eq!(cost.unfaded(at(22)), None);
        assert_eq!(cost.at(at(22)), None, "what nobody has looked at for a while is forgotten");
        cost.observe(Duration::from_millis(5), at(22));
        assert_eq!(cost.at(at(22)), Some(5.0));
    }
}
