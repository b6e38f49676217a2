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
    let Some(period) = period(|name| std::env::var(name).ok()) else { return };
    let mut turns = tokio::time::interval(Duration::from_micros(period / 2).max(Duration::from_millis(1)));
    loop {
        turns.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

/// The period in microseconds, where one is asked for, and of this process. systemd's rule: without `WATCHDOG_PID` it is whoever reads it.
fn period(of: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let period = of("WATCHDOG_USEC")?.parse().ok().filter(|period| *period > 0)?;
    let is_ours = of("WATCHDOG_PID").is_none_or(|id| id.parse() == Ok(std::process::id()));
    is_ours.then_some(period)
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, state) {
        tracing::warn!(%error, "the supervisor could not be told");
    }
}

#[cfg(test)]
mod tests {
    use super::period;

    /// A supervisor that sets no `WATCHDOG_PID` waited for signs of life in vain, and killed the process.
    #[test]
    fn who_is_asked_for_signs_of_life() {
        let own = std::process::id().to_string();
        for (period_us, id, expect) in [
            (Some("100"), None, Some(100)),
            (Some("100"), Some(&*own), Some(100)),
            (Some("100"), Some("1"), None),
            (Some("100"), Some("x"), None),
            (Some("0"), None, None),
            (Some("x"), None, None),
            (None, Some(&*own), None),
        ] {
            let of = |name: &str| if name == "WATCHDOG_USEC" { period_us } else { id }.map(str::to_owned);
            assert_eq!(period(of), expect, "{period_us:?} {id:?}");
        }
    }
}
