//! Leases: which node asks upstream for an answer just now, so that others can wait for it.
//!
//! A lease is a key of its own beside the entry's, with a short time, taken where nobody has it. Whoever is to ask takes it, looks for the entry
//! and sees who has the lease otherwise, all in one round trip; whoever waits does the same again. The thread `cache-redis` keeps a lease from
//! ending while its holder is there, and gives it back behind the entry that was stored meanwhile. A node that dies keeps nothing: its leases
//! end by themselves.
//!
//! What it does not do: it waits for nobody, and guards nothing. Two nodes that ask at once cost one call more, and no wrong answer.
//!
//! **Invariant:** a lease is prolonged and given back by the one that has taken it, and nobody else.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{Pipeline, RedisResult, Value};

use super::Shared;
use super::lane::{Lane, No};
use crate::cache::entry::Entry;
use crate::cache::key::ExactKey;
use crate::cache::purge::Stamp;
use crate::cache::tier::backlog::{Backlog, Job};

/// How long a lease lasts that nobody prolongs. They are prolonged several times as often.
const LASTS: Duration = Duration::from_secs(2);
/// The most leases of one round trip.
const AT_ONCE: usize = 256;

const PROLONG: &str = "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('PEXPIRE',KEYS[1],ARGV[2]) end return 0";
const GIVE_BACK: &str = "if redis.call('GET',KEYS[1])==ARGV[1] then return redis.call('DEL',KEYS[1]) end return 0";

/// What a node learns that is to ask upstream.
#[derive(Debug)]
pub enum Claim {
    /// It is this node's to ask.
    Own(Lease),
    /// Another one asks.
    Others(Holder),
    /// There is an answer.
    Stored(Arc<Entry>),
    /// Redis does not say.
    Unknown,
}

/// Who has a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The last purge that it knew when it asked.
    pub stamp: Stamp,
    name: String,
}

impl Holder {
    fn new(stamp: Stamp) -> Self {
        Self { stamp, name: format!("{:x}:{:032x}", stamp.0, fastrand::u128(..)) }
    }

    fn read(name: String) -> Option<Self> {
        let stamp = Stamp(u64::from_str_radix(name.split_once(':')?.0, 16).ok()?);
        Some(Self { stamp, name })
    }
}

/// A lease that this node has. Dropped, it is given back.
#[derive(Debug)]
pub struct Lease {
    held: Arc<Held>,
    backlog: Backlog,
}

/// Under which key, and by whom.
#[derive(Debug)]
pub(in crate::cache::tier) struct Held {
    key: String,
    holder: Holder,
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Behind the entry, which waits in the same line. Where there is no room it ends by itself.
        self.backlog.send(Job::GiveBack(self.held.clone()));
    }
}

/// A lease that this node may have by now. Where nobody hears whether it has, it is given back: it would keep others waiting for nothing.
struct Claimed<'a> {
    held: &'a Arc<Held>,
    backlog: &'a Backlog,
    is_heard: bool,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        if !self.is_heard {
            self.backlog.send(Job::GiveBack(self.held.clone()));
        }
    }
}

/// Takes the lease of a key where nobody has it, and looks for the entry. What stands there is for the caller to read.
pub(super) async fn claim(
    shared: &Shared,
    lane: &Lane,
    backlog: &Backlog,
    key: &ExactKey,
    stamp: Stamp,
) -> Result<(Claim, Option<Vec<u8>>), No> {
    let held = Arc::new(Held { key: format!("{}flight:{key}", shared.prefix), holder: Holder::new(stamp) });
    let Held { key: place, holder: own } = &*held;
    let mut asked = Pipeline::with_capacity(3);
    asked.cmd("SET").arg(place).arg(&own.name).arg("NX").arg("PX").arg(LASTS.as_millis() as u64).ignore();
    asked.cmd("GET").arg(place);
    asked.cmd("GET").arg(shared.key(key));
    let mut claimed = Claimed { held: &held, backlog, is_heard: false };
    let answer = lane.send(shared, &asked).await;
    claimed.is_heard = answer != Err(No::Late);
    drop(claimed);
    let (there, entry): (Option<String>, Option<Vec<u8>>) = answer?;
    let claim = match there.and_then(Holder::read) {
        Some(there) if there == *own => {
            backlog.send(Job::Prolong(Arc::downgrade(&held)));
            Claim::Own(Lease { held, backlog: backlog.clone() })
        }
        Some(there) => Claim::Others(there),
        None => Claim::Unknown,
    };
    Ok((claim, entry))
}

/// Keeps leases from ending whose holders are there.
pub(super) async fn prolong(shared: &Shared, lane: &Lane, leases: &mut Vec<Weak<Held>>) {
    leases.retain(|lease| lease.strong_count() > 0);
    for leases in leases.chunks(AT_ONCE) {
        let mut commands = redis::pipe();
        commands.ignore_errors();
        for held in leases.iter().filter_map(Weak::upgrade) {
            let lasts = LASTS.as_millis() as u64;
            commands.cmd("EVAL").arg(PROLONG).arg(1).arg(&held.key).arg(&held.holder.name).arg(lasts);
        }
        if !send(shared, lane, &commands).await {
            return;
        }
    }
}

/// Gives leases back.
pub(super) async fn give_back(shared: &Shared, lane: &Lane, leases: &[Arc<Held>]) {
    for leases in leases.chunks(AT_ONCE) {
        let mut commands = redis::pipe();
        commands.ignore_errors();
        for held in leases {
            commands.cmd("EVAL").arg(GIVE_BACK).arg(1).arg(&held.key).arg(&held.holder.name);
        }
        if !send(shared, lane, &commands).await {
            return;
        }
    }
}

/// False: Redis is away.
async fn send(shared: &Shared, lane: &Lane, commands: &Pipeline) -> bool {
    if commands.is_empty() {
        return true;
    }
    let results = lane.send::<Vec<RedisResult<Value>>>(shared, commands).await;
    if let Some(error) = results.iter().flatten().find_map(|result| result.as_ref().err()) {
        tracing::debug!(%error, redis = shared.shown, "Redis keeps no lease");
    }
    results.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_says_what_it_knew() {
        let (one, other) = (Holder::new(Stamp(0xab)), Holder::new(Stamp(0xab)));
        assert_ne!(one, other);
        assert_eq!(Holder::read(one.name.clone()), Some(one));
        for name in ["", "x", "x:1", ":"] {
            assert_eq!(Holder::read(name.to_owned()), None, "{name}");
        }
    }
}
