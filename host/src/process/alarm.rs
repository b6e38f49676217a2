//! A thread that the process cannot be without and that panics: the others drain, and the process ends with a failure, so that
//! whoever supervises it starts it again.
//!
//! What it does not do: a panic of one exchange ends that exchange alone, and rings nothing.
//!
//! **Invariant:** a process that has lost a thread does not end as if it had done its work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc::UnboundedSender;

use super::Order;

/// A process that ended, and not because it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("a thread of the process failed; the log has more")]
pub struct Failed;

/// Rings when a thread that holds it panics. Cheap to clone.
#[derive(Clone)]
pub(super) struct Alarm {
    rung: Arc<AtomicBool>,
    orders: UnboundedSender<Order>,
}

impl Alarm {
    pub(super) fn new(orders: UnboundedSender<Order>) -> Self {
        Self { rung: Arc::default(), orders }
    }

    /// A thread cannot go on.
    pub(super) fn ring(&self, why: &str) {
        let thread = std::thread::current();
        tracing::error!(thread = thread.name(), "{why}; the process drains and ends with exit code 1");
        self.rung.store(true, Ordering::SeqCst);
        // Nobody takes the order when it is the steward itself; its end is the process's.
        let _ = self.orders.send(Order::Drain);
    }

    /// To be held by a thread for as long as it runs.
    pub(super) fn guard(&self) -> Guard {
        Guard(self.clone())
    }

    /// Waits for the thread that ends last, and says whether all went well.
    pub(super) fn join(&self, thread: Option<JoinHandle<()>>) -> Result<(), Failed> {
        let ended = thread.is_none_or(|thread| thread.join().is_ok());
        if ended && !self.rung.load(Ordering::SeqCst) { Ok(()) } else { Err(Failed) }
    }
}

pub(super) struct Guard(Alarm);

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ring("a thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn run(end: impl FnOnce(&Alarm) + Send + 'static) -> (Alarm, Result<(), Failed>, bool) {
        let (orders, mut inbox) = unbounded_channel();
        let alarm = Alarm::new(orders);
        let own = alarm.clone();
        let thread = std::thread::spawn(move || {
            let _guard = own.guard();
            end(&own);
        });
        let joined = alarm.join(Some(thread));
        (alarm, joined, matches!(inbox.try_recv(), Ok(Order::Drain)))
    }

    #[test]
    fn a_thread_that_ends_is_no_failure() {
        let (alarm, joined, drains) = run(|_| {});
        assert!(joined.is_ok() && !drains && alarm.join(None).is_ok());
    }

    /// The process that lost a core went on without it, and ended with exit code 0.
    #[test]
    fn a_thread_that_panics_drains_the_others_and_fails_the_process() {
        let (alarm, joined, drains) = run(|_| panic!("this is the test's own"));
        assert!(joined.is_err() && drains);
        assert!(alarm.join(None).is_err(), "whichever thread ends last");
        let (_, joined, drains) = run(|alarm| alarm.ring("no listener"));
        assert!(joined.is_err() && drains);
    }
}
