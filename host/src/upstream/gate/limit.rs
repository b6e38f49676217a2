//! How many requests a pool bears at a time, found out from how soon its answers begin (after the gradient limit of Netflix's
//! concurrency-limits).
//!
//! What it does not do: it lets nobody in and keeps nobody waiting.
//!
//! **Invariant:** an overload never becomes what is usual: the base is measured where there is less to do.

use std::time::Duration;

use tokio::time::Instant;

use super::Settings;

/// What one request has shown of the pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sample {
    /// Its answer began after so long, as a stream.
    Began(Duration),
    /// Its answer is there, all at once: how long that took says how long it is.
    Whole,
    /// It was refused because there was too much to do, or the answer did not come in time.
    Overloaded,
}

/// How many may run.
pub(super) struct Limit {
    pub(super) now: f32,
    min: f32,
    max: f32,
    /// How long streamed answers take to begin where there is half as much to do, in milliseconds.
    base: Option<f32>,
    window: Window,
    phase: Phase,
    /// For how long nobody may be let in so that the base can be measured.
    empties: Duration,
}

/// Now and then half as many run for a moment, to see how long answers take when there is less to do. What is usual can then change for
/// good, and an overload never becomes it.
enum Phase {
    /// Windows since the last look at the base.
    Usual(u32),
    /// More are under way than may be. The number to go back to, and since when.
    Emptying(f32, Instant),
    /// The base is measured, by those who came from then on. The number to go back to.
    Measuring(f32, Instant),
}

/// The last requests.
#[derive(Default)]
struct Window {
    /// Milliseconds in all until answers began, and how many they were.
    took: f32,
    began: u32,
    whole: u32,
    refused: u32,
    /// How many ran at a time, at most.
    most: u32,
}

/// Requests after which the limit is looked at, at least: prompts differ in length, and so do answers in when they begin. It is as many as
/// the limit where that is more, so that what one step has done is seen before the next.
pub(super) const WINDOW: u32 = 32;
/// By how many the base is measured. Others wait meanwhile, so they are few, and what they say counts half.
const MEASURED_BY: u32 = 8;
/// Windows after which the base is measured again.
const MEASURED_EVERY: u32 = 64;
/// Plain answers in a window of so many times as many requests that are looked at without streams.
const PLAIN: u32 = 4;
/// How many times as long as the base answers may take to begin before the limit shrinks.
const TOLERANCE: f32 = 1.25;
/// For how long nobody may be let in so that the base can be measured, where others may not wait for longer either.
const EMPTIES: Duration = Duration::from_secs(1);

impl Limit {
    pub(super) fn new(settings: Settings) -> Self {
        let min = settings.min.max(1) as f32;
        let max = (settings.max as f32).max(min);
        Self {
            now: (settings.start as f32).clamp(min, max),
            min,
            max,
            base: None,
            window: Window::default(),
            phase: Phase::Usual(0),
            empties: EMPTIES.max(settings.wait / 2),
        }
    }

    /// Where too many are under way for too long, the base is measured another time.
    pub(super) fn look_at_the_time(&mut self) {
        if let Phase::Emptying(usual, since) = self.phase
            && since.elapsed() > self.empties
        {
            self.phase = Phase::Usual(0);
            self.set(usual);
        }
    }

    pub(super) fn get(&self) -> u32 {
        self.now as u32
    }

    /// What a request that was let in then has shown, with so many under way.
    pub(super) fn observe(&mut self, sample: Sample, since: Instant, running: u32) {
        match self.phase {
            Phase::Emptying(usual, _) if running <= self.get() => {
                self.window = Window::default();
                self.phase = Phase::Measuring(usual, Instant::now());
                return;
            }
            Phase::Measuring(_, from) if since < from => return,
            _ => {}
        }
        let window = &mut self.window;
        match sample {
            Sample::Overloaded => window.refused += 1,
            Sample::Whole => window.whole += 1,
            Sample::Began(after) => {
                window.took += (after.as_secs_f32() * 1e3).max(0.1);
                window.began += 1;
            }
        }
        window.most = window.most.max(running);
        let enough = if matches!(self.phase, Phase::Measuring(..)) { MEASURED_BY } else { WINDOW.max(self.now as u32) };
        if window.began + window.refused >= enough {
            self.look();
        } else if window.whole >= PLAIN * enough {
            self.look_at_plain();
        }
    }

    /// Hardly any answer is a stream, so nobody knows when answers begin: one more may run while nothing is refused.
    fn look_at_plain(&mut self) {
        let Window { began, whole, refused, most, .. } = std::mem::take(&mut self.window);
        if let Phase::Emptying(usual, _) | Phase::Measuring(usual, _) = self.phase {
            self.phase = Phase::Usual(0);
            self.set(usual);
        }
        if refused * 10 >= began + whole + refused {
            self.set(self.now * 0.8);
        } else if refused == 0 && most as f32 >= self.now / 2.0 {
            self.set(self.now + 1.0);
        }
    }

    fn look(&mut self) {
        let Window { took, began, whole, refused, most } = std::mem::take(&mut self.window);
        if refused * 10 >= began + whole + refused {
            let (Phase::Emptying(usual, _) | Phase::Measuring(usual, _)) = self.phase else { return self.set(self.now * 0.8) };
            self.phase = Phase::Usual(0);
            return self.set(usual * 0.8);
        }
        if began == 0 {
            return;
        }
        let mean = took / began as f32;
        match self.phase {
            // They are long under way; what is measured would not be the base.
            Phase::Emptying(..) => {}
            Phase::Measuring(usual, _) => {
                self.learn(mean);
                self.set(usual);
            }
            Phase::Usual(windows) => self.look_at(mean, most, windows),
        }
    }

    fn look_at(&mut self, mean: f32, most: u32, windows: u32) {
        if (most as f32) < self.now / 2.0 {
            // Half empty, it says nothing about what more would do, but how long answers take at best.
            return self.learn(mean);
        }
        let gradient = (TOLERANCE * *self.base.get_or_insert(mean) / mean).clamp(0.5, 1.0);
        let aim = self.now * gradient + self.now.sqrt();
        self.set(self.now + (aim - self.now) * 0.2);
        self.phase = Phase::Usual(windows + 1);
        if windows + 1 >= MEASURED_EVERY {
            self.phase = Phase::Emptying(self.now, Instant::now());
            self.set(self.now / 2.0);
        }
    }

    fn learn(&mut self, mean: f32) {
        self.base = Some(self.base.map_or(mean, |base| (base + mean) / 2.0));
        self.phase = Phase::Usual(0);
    }

    fn set(&mut self, limit: f32) {
        self.now = limit.clamp(self.min, self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where answers take a minute each, nobody was let in until half of those under way had ended.
    #[tokio::test(start_paused = true)]
    async fn nobody_is_kept_out_for_long_to_measure() {
        let settings = Settings { start: 64, min: 4, max: 64, queue: 8, wait: Duration::from_secs(5) };
        let mut limit = Limit::new(settings);
        while matches!(limit.phase, Phase::Usual(_)) {
            limit.observe(Sample::Began(Duration::from_millis(100)), Instant::now(), 60);
        }
        let usual = limit.now * 2.0;
        tokio::time::advance(settings.wait / 4).await;
        limit.look_at_the_time();
        assert!(limit.now < usual, "it is measured");
        tokio::time::advance(settings.wait / 2).await;
        limit.look_at_the_time();
        assert_eq!((limit.now, limit.get()), (usual, 64));
    }

    /// Refusals alone moved the limit where no answer was a stream: down, and never up again.
    #[test]
    fn plain_answers_are_signs_of_health() {
        let mut limit = Limit::new(Settings { start: 32, min: 4, max: 256, queue: 8, wait: Duration::from_secs(1) });
        let show = |limit: &mut Limit, whole: u32, refused: u32| {
            let now = Instant::now();
            (0..refused).for_each(|_| limit.observe(Sample::Overloaded, now, 32));
            (0..whole).for_each(|_| limit.observe(Sample::Whole, now, 32));
        };
        (0..100).for_each(|_| show(&mut limit, 99, 1));
        assert!(limit.now >= 32.0, "one in a hundred is no overload: {}", limit.now);
        (0..100).for_each(|_| show(&mut limit, 70, 30));
        assert_eq!(limit.now, 4.0);
        (0..2_000).for_each(|_| limit.observe(Sample::Whole, Instant::now(), limit.get()));
        assert!(limit.now > 10.0, "{}", limit.now);
        limit.phase = Phase::Emptying(40.0, Instant::now());
        (0..400).for_each(|_| limit.observe(Sample::Whole, Instant::now(), limit.get() + 1));
        assert!(limit.now >= 40.0 && matches!(limit.phase, Phase::Usual(_)), "{}", limit.now);
    }
}
