//! What a plugin has logged while a case ran, and why the host says that it has failed.
//!
//! What it does not do: it shows nothing; who asked for the case does, where it is not as expected.
//!
//! **Invariant:** lines of this thread alone are gathered, and none is lost to another subscriber's filter.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// What guests log, as `imports` names it.
const TARGET: &str = "pointsman::plugin::guest";

/// Runs something, and gives what was logged meanwhile.
pub(super) fn gathered<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let done = tracing::subscriber::with_default(Lines(lines.clone()), run);
    let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    (done, lines)
}

struct Lines(Arc<Mutex<Vec<String>>>);

impl Subscriber for Lines {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        about.target() == TARGET
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{}", event.metadata().level()));
        event.record(&mut line);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Level, message, fields; which exchange and plugin it was is known.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => {
                let _ = write!(self.0, " {value:?}");
            }
            "fields" => {
                let text = format!("{value:?}");
                if text != "{}" {
                    let _ = write!(self.0, " {text}");
                }
            }
            _ => {}
        }
    }
}
