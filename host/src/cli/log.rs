//! The log on standard error: for a terminal, or as one JSON object a line.
//!
//! What it does not do: it chooses no words; whoever logs does.
//!
//! **Invariant:** a line is one line and, in JSON, one object, whatever clients and plugins have put into its values.

use std::fmt::{self, Debug, Write as _};

use serde_json::value::RawValue;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{self, Finding, LogFormat};

/// Lines that may wait to be written. A reader of the log that stalls must not stall the exchanges: what is over is dropped.
const LINES: usize = 16_384;

/// Fields whose value is an object's text: they hold what plugins name themselves, which can be no field's name.
const OBJECTS: [&str; 2] = ["labels", "fields"];

/// Sets up the log on standard error, written by a thread of its own. What is still waiting is written when the guard is dropped.
pub(super) fn set_up(settings: &config::Log) -> Result<(WorkerGuard, ErrorCounter), String> {
    let filter = filter(settings).map_err(|finding| finding.to_string())?;
    let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES).thread_name("log").finish(std::io::stderr());
    let lost = writer.error_counter();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let set = match settings.format {
        LogFormat::Human => builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => builder.event_format(Json).try_init(),
    };
    set.map(|()| (guard, lost)).map_err(|error| format!("the log could not be set up: {error}"))
}

/// What is logged. `validate` knows levels; what a directive may be, the subscriber alone knows.
pub(super) fn filter(settings: &config::Log) -> Result<EnvFilter, Finding> {
    EnvFilter::try_new(&settings.level).map_err(|error| {
        Finding::new(&["log", "level"], error, "write a level such as \"info\", or `info,pointsman::plugin=debug`")
    })
}

/// A line as an object: time, level, the event's own fields, target.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\"", event.metadata().level())?;
        let mut fields = Fields { line: String::with_capacity(512), target: None };
        event.record(&mut fields);
        let Fields { mut line, target } = fields;
        member(&mut line, "target", target.as_deref().unwrap_or(event.metadata().target()));
        writeln!(writer, "{line}}}")
    }
}

/// The members of an event's fields, each after a comma.
struct Fields {
    line: String,
    /// Events that come from the `log` crate bring theirs along as a field.
    target: Option<String>,
}

/// One member; what cannot be written as JSON is null.
fn member(line: &mut String, name: &str, value: impl serde::Serialize) {
    let name = serde_json::to_string(name).unwrap_or_default();
    let value = serde_json::to_string(&value).unwrap_or_else(|_| "null".to_owned());
    let _ = write!(line, ",{name}:{value}");
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl serde::Serialize) {
        // Where in its source an event of the `log` crate stands, is its author's business.
        if !field.name().starts_with("log.") {
            member(&mut self.line, field.name(), value);
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            self.target = Some(value.to_owned());
        }
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match serde_json::from_str::<&RawValue>(&text) {
            Ok(object) if OBJECTS.contains(&field.name()) && text.starts_with('{') => self.add(field, object),
            _ => self.add(field, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_an_object() {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt().event_format(Json).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let (labels, none) = (json!({ "a\"b": "c\nd", "arm": "v1" }), None::<&str>);
            tracing::info!(target: "t", %labels, none, some = Some(2), text = "x\ny\u{1b}", debug = ?[1.5], fields = "{no", "hello {}", "you");
            tracing::warn!(target: "t", nan = f64::NAN, yes = true, less = -1, other = %"{}");
        });
        let bytes = written.0.lock().unwrap().clone();
        let lines: Vec<Value> =
            String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expect = [
            json!({ "level": "INFO", "message": "hello you", "labels": { "a\"b": "c\nd", "arm": "v1" }, "some": 2, "text": "x\ny\u{1b}", "debug": "[1.5]", "fields": "{no", "target": "t" }),
            json!({ "level": "WARN", "nan": null, "yes": true, "less": -1, "other": "{}", "target": "t" }),
        ];
        assert_eq!(lines.len(), 2);
        for (mut line, expect) in lines.into_iter().zip(expect) {
            let time = line.as_object_mut().unwrap().shift_remove("timestamp").unwrap();
            assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
            assert_eq!(line, expect);
        }
    }
}
