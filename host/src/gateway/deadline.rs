//! How long the client waits, as its headers say.
//!
//! | header | says | in | bounds |
//! |---|---|---|---|
//! | `x-pointsman-timeout` | who knows pointsman | a whole number with its unit | the whole answer |
//! | `x-pointsman-first-byte-timeout` | the same | the same | until its first byte |
//! | `x-stainless-read-timeout` | OpenAI's SDK for Python | seconds, with a part | until its first byte |
//! | `x-stainless-timeout` | OpenAI's SDK for Node | whole seconds, rounded down | until its first byte |
//! | `x-envoy-expected-rq-timeout-ms` | Envoy | milliseconds | the whole answer |
//!
//! The SDK for Python waits so long for each byte, the one for Node until the answer's head: neither bounds a stream that has begun.
//!
//! **Invariant:** a value that cannot be read is an error where it was written for us, and nothing where an SDK or a proxy has
//! written it.
//! **Invariant:** an SDK's own time-out comes before our answer to it: the application sees the exception that it knows.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::config;
use crate::error::Error;
use crate::upstream::deadline::{Deadline, FIRST_BYTE, WHOLE};

/// An SDK's clock began before ours, and yet two that run out at once would race.
const GRACE: Duration = Duration::from_millis(250);
/// What rounding has taken off.
const ROUNDED: Duration = Duration::from_secs(1);

/// When the exchange must be over: the configuration's bound, and the client's where it is shorter. The client's own clock runs since its
/// request `started` to come, others' at least since it was `received`.
pub(super) fn read(
    headers: &HeaderMap,
    configured: Instant,
    (started, received): (Instant, Instant),
    from_sdks: bool,
) -> Result<Deadline, Error> {
    let mut deadline = Deadline::new(configured);
    // What is too far away to be counted is no bound.
    if let Some(at) = own(headers, WHOLE)?.and_then(|time| started.checked_add(time)) {
        deadline.ends_by(at, WHOLE);
    }
    if let Some(at) = own(headers, FIRST_BYTE)?.and_then(|time| started.checked_add(time)) {
        deadline.begins_by(at, FIRST_BYTE, Duration::ZERO);
    }
    const ENVOY: &str = "x-envoy-expected-rq-timeout-ms";
    let milliseconds = headers.get(ENVOY).and_then(number).filter(|number| *number >= 1.0).map(|number| number / 1e3);
    if let Some(at) = milliseconds.and_then(|seconds| after(received, seconds, Duration::ZERO)) {
        deadline.ends_by(at, ENVOY);
    }
    if from_sdks {
        for (header, least, later) in [("x-stainless-read-timeout", 0.001, GRACE), ("x-stainless-timeout", 0.0, ROUNDED + GRACE)]
        {
            let seconds = headers.get(header).and_then(number).filter(|number| *number >= least);
            if let Some(at) = seconds.and_then(|seconds| after(received, seconds, later)) {
                deadline.begins_by(at, header, later);
            }
        }
    }
    Ok(deadline)
}

fn own(headers: &HeaderMap, name: &'static str) -> Result<Option<Duration>, Error> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let time = value.to_str().ok().and_then(|text| text.parse::<config::Duration>().ok()).filter(|time| !time.is_zero());
    time.map(|time| Some(time.get())).ok_or_else(|| {
        let message = format!(
            "`{name}` is no time that anybody can wait. Send a whole number with its unit, such as 1500ms, 20s or 2m, or leave it out."
        );
        Error::bad_request(Some(name.to_owned()), message)
    })
}

fn number(value: &HeaderValue) -> Option<f64> {
    value.to_str().ok()?.trim().parse().ok()
}

fn after(since: Instant, seconds: f64, later: Duration) -> Option<Instant> {
    since.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?.checked_add(later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_clients_say() {
        let started = Instant::now();
        let received = started + Duration::from_secs(2);
        let ms = |at: Instant| (at - started).as_millis() as u64;
        let read = |pairs: &[(&'static str, &str)], sdks: bool| {
            let headers = pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
            let configured = received + Duration::from_secs(600);
            read(&headers.collect(), configured, (started, received), sdks)
                .map(|deadline| (ms(deadline.begins()), ms(deadline.ends())))
        };
        let check = |name: &'static str, value: &str, begins: u64, ends: u64| {
            assert_eq!(read(&[(name, value)], true).ok(), Some((begins, ends)), "{name}: {value}");
        };
        const ALL: u64 = 602_000;
        check("x-pointsman-timeout", "20s", 20_000, 20_000);
        check("x-pointsman-timeout", "1h", ALL, ALL);
        check("x-pointsman-timeout", "200000000d", ALL, ALL);
        check("x-pointsman-first-byte-timeout", "1m30s", 90_000, ALL);
        check("x-stainless-read-timeout", "30", 32_250, ALL);
        check("x-stainless-read-timeout", "0.5", 2_750, ALL);
        check("x-stainless-read-timeout", "600", ALL, ALL);
        check("x-stainless-timeout", "30", 33_250, ALL);
        check("x-stainless-timeout", "0", 3_250, ALL);
        check("x-envoy-expected-rq-timeout-ms", "15000", 17_000, 17_000);
        for name in ["x-stainless-read-timeout", "x-stainless-timeout", "x-envoy-expected-rq-timeout-ms"] {
            for nothing in ["", "-1", "NaN", "inf", "1e300", "soon", "30s"] {
                check(name, nothing, ALL, ALL);
            }
        }
        check("x-stainless-read-timeout", "0", ALL, ALL);
        assert_eq!(read(&[("x-stainless-read-timeout", "30")], false).unwrap(), (ALL, ALL));
        let several =
            [("x-pointsman-timeout", "9s"), ("x-stainless-read-timeout", "3"), ("x-envoy-expected-rq-timeout-ms", "8000")];
        assert_eq!(read(&several, true).unwrap(), (5_250, 9_000));
        for name in [WHOLE, FIRST_BYTE] {
            for wrong in ["", "20", "0s", "-1s", "soon", "1.5s", "20s, 10s"] {
                let error = read(&[(name, wrong)], true).unwrap_err();
                assert_eq!((error.status().as_u16(), error.param()), (400, Some(name)), "{wrong}");
            }
        }
    }
}
