//! SIGHUP, SIGTERM and SIGINT, as orders.

use super::Order;

/// SIGHUP, SIGTERM, SIGINT.
pub(super) struct Signals {
    hangup: Option<tokio::signal::unix::Signal>,
    terminate: Option<tokio::signal::unix::Signal>,
    interrupt: Option<tokio::signal::unix::Signal>,
}

impl Signals {
    pub(super) fn new() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let open = |kind| signal(kind).inspect_err(|error| tracing::warn!(%error, "a signal cannot be handled")).ok();
        Self {
            hangup: open(SignalKind::hangup()),
            terminate: open(SignalKind::terminate()),
            interrupt: open(SignalKind::interrupt()),
        }
    }

    pub(super) async fn next(&mut self) -> Order {
        tokio::select! {
            () = one(&mut self.hangup) => Order::Reload,
            () = one(&mut self.terminate) => Order::Drain,
            () = one(&mut self.interrupt) => Order::Drain,
        }
    }

    /// A second request to end: whoever asks twice does not want to wait.
    pub(super) async fn again(&mut self) {
        tokio::select! {
            () = one(&mut self.terminate) => {}
            () = one(&mut self.interrupt) => {}
        }
    }
}

async fn one(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
