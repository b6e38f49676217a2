//! `[recording]`: which exchanges are kept for `pointsman replay`, and what must not be in what is kept.
//!
//! Does not check rules: `validate` does. Files are `record::recording`'s.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ByteSize;

/// Keeps what plugins were told and what they answered, for `pointsman replay`. Absent: off. What is kept has prompts in it: the files
/// are their user's alone. Credentials (`authorization`, `cookie`, keys) never are: plugins do not see them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// The folder of the files, `recording-*.jsonl`. It is made if it is not there.
    pub path: PathBuf,
    /// The share of exchanges that are kept, above 0 and at most 1. Default 0.01.
    #[serde(default = "default_share")]
    pub share: f64,
    /// The tenants whose exchanges may be kept. Empty or absent: all.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// The largest exchange that is kept; of a larger one nothing is. Default 256KiB.
    #[serde(default = "default_max_exchange")]
    pub max_exchange: ByteSize,
    /// A file that has become so large is followed by another. Default 64MiB.
    #[serde(default = "default_max_file")]
    pub max_file: ByteSize,
    /// All files together; the oldest go. Default 1GiB.
    #[serde(default = "default_max_total")]
    pub max_total: ByteSize,
    /// The most memory for exchanges that wait to be written. What finds no room is dropped, and counted. Default 16MiB.
    #[serde(default = "default_queue")]
    pub queue: ByteSize,
    /// What is taken out before anything is written.
    #[serde(default)]
    pub redact: Redact,
}

/// What is taken out before anything is written. `[redacted]` stands in its place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redact {
    /// Headers whose value is taken out, by name.
    pub headers: Vec<String>,
    /// Values that are taken out of requests and answers, by RFC 6901 pointer, such as `/user`.
    pub pointers: Vec<String>,
    /// Regular expressions. What they match is taken out of every text: of requests, answers, headers, decisions, and of what plugins
    /// ask of the host.
    pub patterns: Vec<String>,
}

impl Recording {
    /// Only the folder is given.
    pub fn at(path: PathBuf) -> Self {
        Self {
            path,
            share: default_share(),
            tenants: Vec::new(),
            max_exchange: default_max_exchange(),
            max_file: default_max_file(),
            max_total: default_max_total(),
            queue: default_queue(),
            redact: Redact::default(),
        }
    }
}

fn default_share() -> f64 {
    0.01
}

fn default_max_exchange() -> ByteSize {
    ByteSize::new(256 << 10)
}

fn default_max_file() -> ByteSize {
    ByteSize::mib(64)
}

fn default_max_total() -> ByteSize {
    ByteSize::mib(1024)
}

fn default_queue() -> ByteSize {
    ByteSize::mib(16)
}
