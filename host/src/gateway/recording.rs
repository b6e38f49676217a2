//! What is kept of an exchange for `pointsman replay`: which exchanges, and what of them.
//!
//! What it does not do: it writes no file (`record::recording`), and a body becomes text on the writer's thread alone.
//!
//! **Invariant:** an exchange that is not kept has no tape, and costs one look at its id.
//! **Invariant:** what is kept is what plugins can see; headers with credentials are not among it.

use std::io;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Exchange;
use super::models::Models;
use crate::config;
use crate::plugin::PluginSet;
use crate::plugin::imports::{Surroundings, visible};
use crate::plugin::tape::{Attempted, FORMAT, Facts, Heard, Kept, Outcome, Recorded, Snapshot, Tape, Valued};
use crate::record::recording::{Counts, Job, Recorder, Rules, Settings, Under, files};
use crate::record::{Attempt, Record};

/// Bytes that an exchange takes in the queue beside its texts.
const AROUND: usize = 4 << 10;

/// The recording of a snapshot.
#[derive(Clone)]
pub struct Recording {
    wanted: config::Recording,
    /// The share of ids that are kept, of all of 64 bits.
    below: u64,
    recorder: Arc<Recorder>,
    under: Arc<Under>,
}

impl Recording {
    pub(super) fn new(
        wanted: &config::Recording,
        plugins: &PluginSet,
        models: &Models,
        before: Option<&Self>,
    ) -> io::Result<Self> {
        let recorder = match before.filter(|before| before.wanted == *wanted) {
            Some(same) => same.recorder.clone(),
            None => {
                let counts = before.map_or_else(Arc::<Counts>::default, |before| before.recorder.counts().clone());
                Arc::new(Recorder::start(settings(wanted)?, counts)?)
            }
        };
        // The largest share is all of them.
        let below = if wanted.share >= 1.0 { u64::MAX } else { (wanted.share * u64::MAX as f64) as u64 };
        Ok(Self { wanted: wanted.clone(), below, recorder, under: Arc::new(under(plugins, models)) })
    }

    /// What became of exchanges so far.
    pub fn counts(&self) -> &Counts {
        self.recorder.counts()
    }

    /// The same ids on every node and after every restart.
    fn wants(&self, exchange: &Exchange) -> bool {
        let tenants = &self.wanted.tenants;
        let is_for = tenants.is_empty() || tenants.iter().any(|tenant| **tenant == *exchange.principal.tenant);
        is_for && (self.below == u64::MAX || place(&exchange.id) < self.below)
    }
}

/// An id as a number, evenly spread.
fn place(id: &str) -> u64 {
    let hash = blake3::hash(id.as_bytes());
    u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]))
}

fn settings(wanted: &config::Recording) -> io::Result<Settings> {
    let patterns = wanted.redact.patterns.iter().map(|pattern| regex::Regex::new(pattern));
    let patterns = patterns.collect::<Result<_, _>>().map_err(io::Error::other)?;
    Ok(Settings {
        files: files::Settings {
            folder: wanted.path.clone(),
            format: FORMAT,
            max_file: wanted.max_file.bytes(),
            max_total: wanted.max_total.bytes(),
        },
        max_exchange: wanted.max_exchange.as_usize(),
        queue: wanted.queue.as_usize(),
        rules: Rules {
            headers: wanted.redact.headers.iter().map(|name| name.to_ascii_lowercase()).collect(),
            pointers: wanted.redact.pointers.clone(),
            patterns,
        },
    })
}

fn under(plugins: &PluginSet, models: &Models) -> Under {
    let prices = models.names().filter_map(|(name, _)| {
        let price = models.price(name)?;
        Some(Valued { model: name.to_owned(), input: price.input, output: price.output, cached_input: price.cached_input })
    });
    let plugins = plugins.all().iter().map(|plugin| Facts::from(&**plugin)).collect();
    let mut snapshot = Snapshot { digest: String::new(), plugins, prices: prices.collect() };
    let digest = Sha256::digest(serde_json::to_vec(&snapshot).unwrap_or_default());
    snapshot.digest = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Under { digest: snapshot.digest.clone(), value: serde_json::to_value(snapshot).unwrap_or_default() }
}

/// The tape of an exchange that plugins are about to see; none where nobody wants to know.
pub(super) fn tape(exchange: &Exchange) -> Option<Tape> {
    let state = &exchange.state;
    if state.recording.as_ref().is_some_and(|recording| !state.plugins.is_empty() && recording.wants(exchange)) {
        return state.recording.as_ref().map(|recording| Tape::recording(recording.wanted.max_exchange.as_usize()));
    }
    state.stories.as_ref().map(|_| Tape::story())
}

/// An exchange has ended: whoever wants to know of it gets what there is.
pub(super) fn ended(exchange: &Arc<Exchange>, record: Record) {
    let (tape, state) = (exchange.tape.get(), &exchange.state);
    if tape.is_none() && state.stories.is_none() {
        return;
    }
    let recorded = tape.filter(|tape| tape.is_recording()).map(|_| outcome(&record));
    let mut kept = tape.map(|tape| tape.take());
    if let Some(stories) = &state.stories {
        let calls = match &mut kept {
            Some(kept) if recorded.is_some() => kept.calls.clone(),
            Some(kept) => std::mem::take(&mut kept.calls),
            None => Vec::new(),
        };
        stories.keep(exchange, record, calls);
    }
    if let (Some(recording), Some(kept), Some(outcome)) = (&state.recording, kept, recorded) {
        keep(recording, exchange, kept, outcome);
    }
}

/// Hands an exchange in.
fn keep(recording: &Recording, exchange: &Arc<Exchange>, kept: Kept, outcome: Outcome) {
    if kept.too_large {
        return recording.counts().too_large.add(1);
    }
    if kept.calls.is_empty() {
        return;
    }
    let size = AROUND + kept.bytes;
    let (of, configuration) = (exchange.clone(), recording.under.digest.clone());
    recording.recorder.keep(Job {
        size,
        under: recording.under.clone(),
        make: Box::new(move || made(&of, configuration, kept, outcome)),
    });
}

fn made(exchange: &Exchange, configuration: String, kept: Kept, outcome: Outcome) -> Option<Value> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let recorded = Recorded {
        configuration,
        head: kept.head?,
        headers: visible(&exchange.headers),
        requests: kept.requests.iter().map(|request| text(request.bytes())).collect(),
        answers: kept.answers.iter().map(|answer| text(answer.bytes())).collect(),
        parts: kept.parts.iter().map(|part| Heard { whole: part.is_answer(), text: Some(text(&part.bytes())) }).collect(),
        cut: kept.cut,
        models: exchange.fleet(),
        candidates: exchange.candidates().into_iter().map(|model| model.model).collect(),
        calls: kept.calls,
        outcome,
        redacted: false,
    };
    serde_json::to_value(recorded).ok()
}

fn outcome(record: &Record) -> Outcome {
    Outcome {
        status: record.status,
        ending: record.ending.name().to_owned(),
        model: record.model.as_deref().map(str::to_owned),
        cache: record.cache.name().to_owned(),
        tokens: record.tokens,
        cost: record.spent(),
        first_byte_us: record.first_byte_us,
        total_us: record.total_us,
        attempts: record.attempts.iter().map(Attempted::from).collect(),
    }
}

impl From<&Attempt> for Attempted {
    fn from(attempt: &Attempt) -> Self {
        Self {
            model: attempt.model.to_string(),
            status: attempt.status,
            failure: attempt.failure.map(str::to_owned),
            took_us: attempt.took_us,
            doubt: attempt.doubt.map(str::to_owned),
        }
    }
}
