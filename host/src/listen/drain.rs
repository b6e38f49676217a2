//! Drain: every task of the process is spawned through it, so that an end can wait for all of them, and cut what is left.
//!
//! What it does not do: it closes no listener and turns no health check; whoever owns those asks it.
//!
//! **Invariant:** nothing is cut before the grace has ended.
//! **Invariant:** a task that panics ends alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio_util::future::FutureExt as _;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// For what is still under way when the grace ends to say so.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a drain came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Tasks that were still running when the grace ended.
    pub cut: usize,
}

/// A handle, cheap to clone, on the tasks of all cores.
#[derive(Clone)]
pub struct Drain {
    tasks: TaskTracker,
    begun: CancellationToken,
    /// The grace is over: for those who look, and for those who wait.
    has_expired: Arc<AtomicBool>,
    expired: CancellationToken,
    ended: CancellationToken,
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// A drain that has not begun.
    pub fn new() -> Self {
        let [begun, expired, ended] = Default::default();
        Self { tasks: TaskTracker::new(), begun, has_expired: Arc::default(), expired, ended }
    }

    /// Spawns a task on this core that the end waits for, and cuts when the grace is over.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        #[allow(clippy::disallowed_methods, reason = "the one place that the others are sent to")]
        drop(tokio::spawn(self.tracked(task)));
    }

    /// The same on another core: what is bound to that one's connections is polled there.
    pub fn spawn_on(&self, core: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        drop(core.spawn(self.tracked(task)));
    }

    /// No `async` block: that would have room for the task twice.
    fn tracked<T: Future<Output = ()>>(&self, task: T) -> impl Future<Output = ()> + use<T> {
        self.tasks.track_future(task.with_cancellation_token_owned(self.ended.clone()).map(drop))
    }

    /// Spawns a task that ends with the process and that nobody waits for: the admin listener, which answers to the last.
    pub fn spawn_detached(&self, task: impl Future<Output = ()> + Send + 'static) {
        #[allow(clippy::disallowed_methods, reason = "the one place that the others are sent to")]
        drop(tokio::spawn(task));
    }

    /// Something that the end waits for until it is dropped: a listener that may still have connections to hand out.
    pub fn hold(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Begins: listeners stop accepting, connections end after what is under way on them.
    pub fn begin(&self) {
        self.begun.cancel();
        self.tasks.close();
    }

    /// Has it begun?
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Is the grace over? What still runs says its last word, and is cut.
    pub fn has_expired(&self) -> bool {
        self.has_expired.load(Ordering::Relaxed)
    }

    /// Waits until the grace is over.
    pub fn expired(&self) -> WaitForCancellationFutureOwned {
        self.expired.clone().cancelled_owned()
    }

    /// Waits until everything has ended or was cut.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Waits for all tasks, at most for the grace, then cuts those that are left.
    pub async fn wait(&self, grace: Duration) -> Drained {
        let finished = tokio::time::timeout(grace, self.tasks.wait()).await.is_ok();
        let cut = if finished { 0 } else { self.tasks.len() };
        self.has_expired.store(true, Ordering::Relaxed);
        self.expired.cancel();
        let _ = tokio::time::timeout(LAST_WORDS, self.tasks.wait()).await;
        self.ended.cancel();
        // Cut tasks are dropped by their own runtimes; they need a moment to do so.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        Drained { cut }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_finishes_in_time_is_not_cut() {
        let drain = Drain::new();
        for seconds in [1, 5, 100] {
            drain.spawn(tokio::time::sleep(Duration::from_secs(seconds)));
        }
        drain.begin();
        assert_eq!(drain.wait(Duration::from_secs(30)).await, Drained { cut: 1 });
        drain.ended().await;
    }
}
