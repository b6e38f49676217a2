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
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) name: &'static str,
    /// Endpoints of the pool.
    pub(crate) endpoints: usize,
    pub(crate) retries: usize,
    pub(crate) hedge: bool,
    pub(crate) fallback: bool,
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

pub(crate) const POLICIES: [Policy; 7] = [
    Policy { name: "none", endpoints: 1, retries: 0, hedge: false, fallback: false },
    Policy { name: "retry, one endpoint", endpoints: 1, retries: 1, hedge: false, fallback: false },
    Policy { name: "retry, two endpoints", endpoints: 2, retries: 1, hedge: false, fallback: false },
    Policy { name: "fallback", endpoints: 1, retries: 0, hedge: false, fallback: true },
    Policy { name: "hedge", endpoints: 2, retries: 0, hedge: true, fallback: false },
    Policy { name: "retry and hedge", endpoints: 3, retries: 1, hedge: true, fallback: false },
    Policy { name: "all of them", endpoints: 2, retries: 1, hedge: true, fallback: true },
];

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

/// Is there another try, and can it help?
pub(crate) fn is_mended(fate: Fate, policy: &Policy) -> bool {
    let again = policy.retries > 0;
    let other = policy.endpoints > 1;
    policy.fallback && sees_at_once(fate).is_some()
        || match fate {
            Fate::Unreachable | Fate::Broken | Fate::Failing | Fate::Early => again,
            Fate::Gone | Fate::Busy => again && other,
            Fate::Slow => (again || policy.hedge) && other,
            Fate::Fine | Fate::Breaks | Fate::Stops | Fate::Theirs => false,
        }
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

pub(crate) fn sees(fate: Fate, policy: &Policy) -> Sees {
    match fate {
        Fate::Breaks => Sees::Cut("upstream_broken"),
        Fate::Stops => Sees::Cut("upstream_timeout"),
        Fate::Theirs => Sees::Theirs,
        _ => sees_at_once(fate).filter(|_| !is_mended(fate, policy)).unwrap_or(Sees::Whole),
    }
}
