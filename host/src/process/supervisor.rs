//! What systemd is told of this process (`Type=notify`): that it serves, reloads, stops, and lives. Without NOTIFY_SOCKET nobody is
//! told anything.
//!
//! What it does not do: it starts nothing and stops nothing.
//!
//! **Invariant:** a process that has handed over says nothing of stopping: where both are of one unit, the unit goes on.

use std::time::Duration;

use sd_notify::NotifyState;

/// It serves. With `took_over` it is also the process that the unit is about from now on.
pub(super) fn ready(took_over: bool) {
    if took_over {
        tell(&[NotifyState::MainPid(std::process::id()), NotifyState::Ready]);
    } else {
        tell(&[NotifyState::Ready]);
    }
}

/// It reads everything again; [`ready`] follows, whatever comes of it.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the clock could not be read"),
    }
}

/// It drains.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Says for ever, twice in each period that is asked for, that the steward still gets round to things.
pub(super) async fn keep_alive() {
    let mut period = 0;
    if !sd_notify::watchdog_enabled(false, &mut period) {
        return;
    }
    let mut turns = tokio::time::interval(Duration::from_micros(period / 2).max(Duration::from_millis(1)));
    loop {
        turns.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "the supervisor could not be told");
    }
}
