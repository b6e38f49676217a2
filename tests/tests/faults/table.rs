//! What the client sees of each fault: the data that the tests of this theme hold the host to, and that `docs/faults.md` is made of
//! (`page`).
//!
//! What it does not do: it lets nothing happen.
//!
//! **Invariant:** it is written by hand, and never read off the host.

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Refused,
    Silence,
    Late,
    Dribble,
    Cut,
    Reset,
    HalfOpen,
    Busy,
    Failing,
    Garbage,
}

/// When.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connect,
    Accepted,
    Tls,
    Sending,
    BeforeHead,
    InHead,
    BeforeBody,
    /// Of a plain answer.
    InBody,
    LastByte,
    AfterBody,
    /// Of a stream.
    BeforeFirst,
    InFirst,
    AfterFirst,
    Inside,
    InFinish,
    AfterFinish,
    InDone,
    AfterDone,
}

/// What a provider and a model are allowed to do about it.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    /// Endpoints of the pool.
    pub(crate) endpoints: usize,
    pub(crate) retries: usize,
    pub(crate) hedge: bool,
    pub(crate) fallback: bool,
    pub(crate) cascade: Option<Cascade>,
    /// A stream that breaks off is gone on with.
    pub(crate) continues: bool,
}

/// Two models, one after the other, and which of them has the fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cascade {
    /// The first one. So many events of its stream are held back for the judge.
    First(usize),
    /// The second one: the first one's answer was doubted, and is kept.
    Second,
}

/// What becomes of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    Gone,
    Unreachable,
    Broken,
    Slow,
    Busy,
    Failing,
    Early,
    Breaks,
    Stops,
    Theirs,
}

/// What the client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sees {
    /// One whole answer.
    Whole,
    /// The whole answer that was doubted.
    Kept,
    /// One whole answer of two halves, and the seam between them.
    Continued,
    /// A status, and an error with a code.
    Told(u16, &'static str),
    /// Whole events, and one with this code.
    Cut(&'static str),
    /// Whole events, and the upstream's own error as it is.
    Theirs,
}

/// The code with which the upstreams of these tests refuse.
pub(crate) const THEIR_CODE: &str = "their_code";

pub(crate) const FAULTS: [(Fault, &str, &str); 10] = [
    (Fault::Refused, "refused", "nobody listens there"),
    (Fault::Silence, "silence", "nothing more comes: a black hole, a host that has died, a model that hangs"),
    (Fault::Late, "late", "it goes on, but after the phase's bound"),
    (Fault::Dribble, "dribble", "a few bytes at a time, within all bounds"),
    (Fault::Cut, "cut", "the connection is closed"),
    (Fault::Reset, "reset", "the connection is reset"),
    (Fault::HalfOpen, "half open", "the upstream ends its side of the connection, and not the connection"),
    (Fault::Busy, "busy", "429 with `retry-after`"),
    (Fault::Failing, "failing", "500; in a stream, an event with `error`"),
    (Fault::Garbage, "garbage", "no HTTP where HTTP should be, a chunk that is none, a `content-length` that is a lie"),
];

pub(crate) const PLAIN: [(Phase, &str); 10] = [
    (Phase::Connect, "connecting"),
    (Phase::Accepted, "connected, before anything is said"),
    (Phase::Tls, "in the TLS handshake"),
    (Phase::Sending, "while the request is sent"),
    (Phase::BeforeHead, "before the head"),
    (Phase::InHead, "inside the head"),
    (Phase::BeforeBody, "before the body"),
    (Phase::InBody, "inside the body"),
    (Phase::LastByte, "before the body's last byte"),
    (Phase::AfterBody, "after the body's last byte"),
];

pub(crate) const STREAMED: [(Phase, &str); 14] = [
    (Phase::Connect, "connecting"),
    (Phase::Accepted, "connected, before anything is said"),
    (Phase::Tls, "in the TLS handshake"),
    (Phase::Sending, "while the request is sent"),
    (Phase::BeforeHead, "before the head"),
    (Phase::InHead, "inside the head"),
    (Phase::BeforeFirst, "before the first byte"),
    (Phase::InFirst, "inside the first event"),
    (Phase::AfterFirst, "after the first event"),
    (Phase::Inside, "inside a later event"),
    (Phase::InFinish, "inside the event with `finish_reason`"),
    (Phase::AfterFinish, "after the event with `finish_reason`"),
    (Phase::InDone, "inside `[DONE]`"),
    (Phase::AfterDone, "after `[DONE]`"),
];

pub(crate) const NONE: Policy =
    Policy { name: "none", endpoints: 1, retries: 0, hedge: false, fallback: false, cascade: None, continues: false };

pub(crate) static POLICIES: [Policy; 13] = [
    NONE,
    Policy { name: "retry, one endpoint", retries: 1, ..NONE },
    Policy { name: "retry, two endpoints", endpoints: 2, retries: 1, ..NONE },
    Policy { name: "fallback", fallback: true, ..NONE },
    Policy { name: "hedge", endpoints: 2, hedge: true, ..NONE },
    Policy { name: "retry and hedge", endpoints: 3, retries: 1, hedge: true, ..NONE },
    Policy { name: "all of them", endpoints: 2, retries: 1, hedge: true, fallback: true, ..NONE },
    Policy { name: "cascade, first model", cascade: Some(Cascade::First(HELD)), ..NONE },
    Policy { name: "cascade, first model, held back whole", cascade: Some(Cascade::First(64)), ..NONE },
    Policy { name: "cascade, second model", cascade: Some(Cascade::Second), ..NONE },
    Policy { name: "continuation, one endpoint", retries: 1, continues: true, ..NONE },
    Policy { name: "continuation", endpoints: 2, retries: 1, continues: true, ..NONE },
    Policy {
        name: "cascade, first model, and continuation",
        endpoints: 2,
        retries: 1,
        cascade: Some(Cascade::First(HELD)),
        continues: true,
        ..NONE
    },
];

/// Events that a cascade's judge wants to see.
pub(crate) const HELD: usize = 3;
/// What is answered has this many events: the role, six words, the reason to finish, `[DONE]`.
pub(crate) const EVENTS: usize = 9;
pub(crate) const FINISH: usize = 7;

/// What becomes of a try; none where a fault cannot happen in a phase.
pub(crate) fn fate(fault: Fault, phase: Phase) -> Option<Fate> {
    Some(match (phase, fault) {
        (Phase::Connect, Fault::Refused) => Fate::Gone,
        (Phase::Connect, Fault::Silence) => Fate::Slow,
        (Phase::Connect, _) | (_, Fault::Refused) => return None,
        // What the client was promised is there, though a length that is a lie says otherwise.
        (Phase::AfterBody, Fault::Garbage) => Fate::Broken,
        (Phase::AfterBody | Phase::AfterDone, Fault::Busy | Fault::Failing) => return None,
        (Phase::AfterBody | Phase::AfterDone, _) | (_, Fault::Dribble) if phase != Phase::Sending => Fate::Fine,
        (Phase::Sending, Fault::Dribble | Fault::Late) => return None,
        (Phase::Sending | Phase::BeforeHead, Fault::Busy) => Fate::Busy,
        (Phase::Sending | Phase::BeforeHead, Fault::Failing) => Fate::Failing,
        (Phase::BeforeFirst, Fault::Failing) => Fate::Early,
        (Phase::AfterFirst | Phase::AfterFinish, Fault::Failing) => Fate::Theirs,
        (_, Fault::Busy | Fault::Failing) => return None,
        (_, Fault::Silence | Fault::Late) if is_committed(phase) => Fate::Stops,
        (_, Fault::Silence | Fault::Late) => Fate::Slow,
        _ if is_committed(phase) => Fate::Breaks,
        (Phase::Tls, _) => Fate::Unreachable,
        _ => Fate::Broken,
    })
}

/// The first event of a stream is here: nobody starts over.
fn is_committed(phase: Phase) -> bool {
    use Phase::{AfterDone, AfterFinish, AfterFirst, InDone, InFinish, Inside};
    matches!(phase, AfterFirst | Inside | InFinish | AfterFinish | InDone | AfterDone)
}

/// Is there another try, and can it help? `passed`: whole events of a stream that came before.
pub(crate) fn is_mended(fate: Fate, policy: &Policy, passed: usize) -> bool {
    let again = policy.retries > 0;
    let other = policy.endpoints > 1;
    let other_model = policy.fallback || matches!(policy.cascade, Some(Cascade::First(_)));
    other_model && sees_at_once(fate).is_some()
        || match fate {
            Fate::Unreachable | Fate::Broken | Fate::Failing | Fate::Early => again,
            Fate::Gone | Fate::Busy => again && other,
            Fate::Slow => (again || policy.hedge) && other,
            Fate::Breaks | Fate::Stops | Fate::Theirs => is_held(policy, passed) || policy.continues && passed <= FINISH,
            Fate::Fine => false,
        }
}

/// Does the judge still hold a stream back after so many events? Then its commit point is yet to come.
pub(crate) fn is_held(policy: &Policy, passed: usize) -> bool {
    matches!(policy.cascade, Some(Cascade::First(held)) if passed < held)
}

/// Had an answer begun?
pub(crate) fn is_after_first(fate: Fate) -> bool {
    matches!(fate, Fate::Breaks | Fate::Stops | Fate::Theirs)
}

/// What the client sees of a failure before the commit point that nothing mends.
fn sees_at_once(fate: Fate) -> Option<Sees> {
    Some(match fate {
        Fate::Gone | Fate::Unreachable => Sees::Told(502, "upstream_unreachable"),
        Fate::Broken => Sees::Told(502, "upstream_broken"),
        Fate::Slow => Sees::Told(504, "upstream_timeout"),
        Fate::Busy => Sees::Told(429, THEIR_CODE),
        Fate::Failing => Sees::Told(500, THEIR_CODE),
        Fate::Early => Sees::Theirs,
        Fate::Fine | Fate::Breaks | Fate::Stops | Fate::Theirs => return None,
    })
}

/// What the client sees. `passed`: whole events of a stream that came before.
pub(crate) fn sees(fate: Fate, policy: &Policy, passed: usize) -> Sees {
    match (fate, is_mended(fate, policy, passed)) {
        (Fate::Breaks | Fate::Stops | Fate::Theirs, true) if !is_held(policy, passed) => Sees::Continued,
        (_, true) => Sees::Whole,
        (Fate::Breaks, false) => Sees::Cut("upstream_broken"),
        (Fate::Stops, false) => Sees::Cut("upstream_timeout"),
        (Fate::Theirs, false) => Sees::Theirs,
        (_, false) => match sees_at_once(fate) {
            Some(_) if matches!(policy.cascade, Some(Cascade::Second)) => Sees::Kept,
            sees => sees.unwrap_or(Sees::Whole),
        },
    }
}
