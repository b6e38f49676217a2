//! The stages of the line, under the names that spans, metrics and `docs/life-of-a-request.md` use.
//!
//! **Invariant:** the order here is the order in `gateway.rs`.

use std::time::Duration;

use tokio::time::Instant;

/// A stage of the straight line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Who, how much, for how long.
    Admit,
    /// Wire to canonical.
    Parse,
    /// Template, version, experiment.
    Prompt,
    /// Partition and key.
    Key,
    /// Exact, then semantic.
    Lookup,
    /// The answer to an equal request that is under way.
    Flight,
    /// Ordered attempts.
    Plan,
    /// Endpoint, attempt, commit point.
    Run,
    /// Canonical to wire.
    Reply,
    /// The cache takes its copy.
    Fill,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 10] = [
        Self::Admit,
        Self::Parse,
        Self::Prompt,
        Self::Key,
        Self::Lookup,
        Self::Flight,
        Self::Plan,
        Self::Run,
        Self::Reply,
        Self::Fill,
    ];

    /// The name in logs, metrics and documentation.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Parse => "parse",
            Self::Prompt => "prompt",
            Self::Key => "key",
            Self::Lookup => "lookup",
            Self::Flight => "flight",
            Self::Plan => "plan",
            Self::Run => "run",
            Self::Reply => "reply",
            Self::Fill => "fill",
        }
    }
}

/// Time spent in each stage of one exchange.
#[derive(Debug, Default)]
pub struct Stages([Option<Duration>; Stage::ALL.len()]);

impl Stages {
    /// Books the time since `since` and gives the time now, where the next stage begins.
    pub fn done(&mut self, stage: Stage, since: Instant) -> Instant {
        let now = Instant::now();
        self.0[stage as usize] = Some(now - since);
        now
    }

    /// The stages that were gone through.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, Duration)> {
        Stage::ALL.into_iter().filter_map(|stage| self.0[stage as usize].map(|took| (stage, took)))
    }
}
