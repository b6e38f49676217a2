//! A guest that asks the host what the request tells it to ask (`x-puppet-ask`), through every interface that can be
//! granted, and gives the host's answer as its reason for
//! choosing the model `small`.
//!
//! **Invariant:** it imports every interface, so it loads only where all are granted.

use guests::types::{PluginError, RequestHead, Target};
use guests::{
    caching, clock, config, embeddings, info, kv, lifecycle, log, metrics, orders, prompting, random, routing, upstreams,
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ask {
    Config(String),
    Document,
    Log {
        level: u8,
        message: String,
        fields: Vec<(String, String)>,
        times: u32,
    },
    Count {
        name: String,
        delta: u64,
        labels: Vec<(String, String)>,
    },
    Gauge {
        name: String,
        value: f64,
    },
    Observe {
        name: String,
        value: f64,
    },
    Candidates,
    Model(String),
    /// All that is known of a provider, and whether it is the same when it is asked again.
    Status(String),
    /// Two readings of each clock are in their order.
    Later,
    Estimate {
        model: String,
        prompt: u32,
        completion: u32,
    },
    Classify {
        examples: String,
        k: u32,
    },
    Similarity(String, String),
    Embedding,
    Embed(String),
    Now,
    Elapsed,
    Random(u32),
    Bucket {
        salt: String,
        key: String,
        buckets: u32,
    },
    Get(String),
    Set {
        key: String,
        value: String,
        ttl: Option<u32>,
    },
    Delete(String),
    Increment {
        key: String,
        delta: i64,
        ttl: Option<u32>,
    },
    Cas {
        key: String,
        expected: Option<String>,
        value: String,
    },
    /// Many entries at once: a value of so many bytes under each of so many keys. How many were refused.
    Fill {
        keys: u32,
        bytes: u32,
        ttl: Option<u32>,
    },
    /// A key of so many bytes.
    LongKey(u32),
    /// A counter that is raised with compare-and-set alone, so many times.
    Raise {
        key: String,
        times: u32,
    },
}

fn ask(what: Ask) -> String {
    match what {
        Ask::Config(key) => format!("{:?}", config::get(&key)),
        Ask::Document => config::document(),
        Ask::Log { level, message, fields, times } => {
            let level =
                [log::Level::Trace, log::Level::Debug, log::Level::Info, log::Level::Warn, log::Level::Error][usize::from(level)];
            (0..times).for_each(|_| log::log(level, &message, &fields));
            log::enabled(level).to_string()
        }
        Ask::Count { name, delta, labels } => {
            metrics::increment(&name, delta, &labels);
            String::new()
        }
        Ask::Gauge { name, value } => {
            metrics::gauge(&name, value, &[]);
            String::new()
        }
        Ask::Observe { name, value } => {
            metrics::observe(&name, value, &[]);
            String::new()
        }
        Ask::Candidates => upstreams::candidates().iter().map(|upstream| upstream.model.clone()).collect::<Vec<_>>().join(","),
        Ask::Model(name) => format!("{:?}", upstreams::get(&name)),
        Ask::Status(name) => {
            let status = upstreams::status_of(&name);
            assert_eq!(format!("{status:?}"), format!("{:?}", upstreams::status_of(&name)));
            format!("{status:?}")
        }
        Ask::Later => {
            let (first, us) = (clock::now(), clock::elapsed_us());
            let (second, later) = (clock::now(), clock::elapsed_us());
            (first <= second && us <= later && us > 0).to_string()
        }
        Ask::Estimate { model, prompt, completion } => format!("{:?}", upstreams::estimate(&model, prompt, completion)),
        Ask::Classify { examples, k } => match embeddings::classify(&examples, k) {
            Ok(found) => found.iter().map(|found| found.label.clone()).collect::<Vec<_>>().join(","),
            Err(error) => format!("{error:?}"),
        },
        Ask::Similarity(a, b) => format!("{:?}", embeddings::similarity(&a, &b)),
        Ask::Embedding => of_vector(embeddings::prompt_embedding()),
        Ask::Embed(text) => of_vector(embeddings::embed(&text)),
        Ask::Now => clock::now().to_string(),
        Ask::Elapsed => clock::elapsed_us().to_string(),
        Ask::Random(count) => (0..count).map(|_| random::u64().to_string()).collect::<Vec<_>>().join(","),
        Ask::Bucket { salt, key, buckets } => random::bucket(&salt, &key, buckets).to_string(),
        Ask::Get(key) => of_value(kv::get(&key)),
        Ask::Set { key, value, ttl } => said(kv::set(&key, value.as_bytes(), ttl)),
        Ask::Delete(key) => said(kv::delete(&key)),
        Ask::Increment { key, delta, ttl } => said(kv::increment(&key, delta, ttl)),
        Ask::Cas { key, expected, value } => {
            said(kv::compare_and_set(&key, expected.as_ref().map(|text| text.as_bytes()), value.as_bytes(), None))
        }
        Ask::Fill { keys, bytes, ttl } => {
            let value = vec![b'x'; bytes as usize];
            (0..keys).filter(|key| kv::set(&format!("fill-{key}"), &value, ttl).is_err()).count().to_string()
        }
        Ask::LongKey(bytes) => of_value(kv::get(&"k".repeat(bytes as usize))),
        Ask::Raise { key, times } => {
            (0..times).for_each(|_| while !raise(&key) {});
            of_value(kv::get(&key))
        }
    }
}

fn raise(key: &str) -> bool {
    let was = kv::get(key).unwrap();
    let number: u32 = was.as_ref().map_or(0, |text| std::str::from_utf8(text).unwrap().parse().unwrap());
    kv::compare_and_set(key, was.as_deref(), (number + 1).to_string().as_bytes(), None).unwrap()
}

fn of_value(value: Result<Option<Vec<u8>>, kv::KvError>) -> String {
    said(value.map(|value| value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())))
}

/// An error by its name in the contract.
fn said<T: std::fmt::Debug>(what: Result<T, kv::KvError>) -> String {
    what.map_or_else(|error| error.name().to_owned(), |value| format!("{value:?}"))
}

/// Dimensions and length: enough to see that it is a unit vector, short enough for a header.
fn of_vector(vector: Result<Vec<f32>, embeddings::EmbedError>) -> String {
    match vector {
        Ok(vector) => format!("{} {:.3}", vector.len(), vector.iter().map(|value| value * value).sum::<f32>().sqrt()),
        Err(error) => format!("{error:?}"),
    }
}

struct Asker;

impl lifecycle::Guest for Asker {
    fn describe() -> lifecycle::Info {
        info("asker")
    }

    /// Refuses a configuration that says so. Nothing is kept here, for there is no tenant.
    fn check() -> Result<(), PluginError> {
        assert_eq!(kv::increment("checks", 1, None), Err(kv::KvError::Unavailable));
        match config::get("refuse") {
            Some(reason) => Err(PluginError::Config(reason)),
            None => Ok(()),
        }
    }
}

impl routing::Guest for Asker {
    fn route(_: RequestHead, request: &routing::Request) -> Result<routing::Decision, PluginError> {
        let Some(what) = orders::<Ask>(request, "ask")? else { return Ok(routing::Decision::Pass) };
        Ok(routing::Decision::Plan(routing::Plan {
            targets: vec![Target { model: "small".into(), timeout_ms: None, first_byte_timeout_ms: None }],
            headers: vec![],
            reason: ask(what),
            labels: vec![],
            review: None,
            observe: None,
        }))
    }

    fn after_attempt(
        _: RequestHead,
        _: &routing::Request,
        _: routing::Attempt,
        _: Option<&routing::Response>,
    ) -> Result<routing::NextStep, PluginError> {
        Ok(routing::NextStep::Accept)
    }

    fn on_chunk(
        _: RequestHead,
        _: &routing::Request,
        _: routing::Batch,
        _: &routing::Chunk,
        _: Vec<u8>,
    ) -> Result<routing::Observed, PluginError> {
        Ok(routing::Observed { step: routing::ChunkStep::Enough, state: vec![] })
    }
}

impl prompting::Guest for Asker {
    fn select(_: RequestHead, _: &prompting::Request) -> Result<prompting::Outcome, PluginError> {
        Ok(prompting::Outcome::Pass)
    }
}

impl caching::Guest for Asker {
    fn key(_: RequestHead, _: &caching::Request) -> Result<caching::Directive, PluginError> {
        Ok(caching::Directive::Pass)
    }

    fn confirm(_: RequestHead, _: &caching::Request, _: caching::Candidate) -> Result<caching::Verdict, PluginError> {
        Ok(caching::Verdict::Veto)
    }

    fn admit(_: RequestHead, _: &caching::Request, _: &caching::Response) -> Result<Option<u32>, PluginError> {
        Ok(None)
    }
}

guests::export!(Asker with_types_in guests);
