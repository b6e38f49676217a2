//! The thread's work: entries into Redis, this node's purges into the log, and its leases.
//!
//! What it does not do: it keeps nothing for later. An entry that Redis does not take in time is a miss for other nodes, no more.
//!
//! **Invariant:** a purge that could not be told is told as soon as Redis is there.

use std::time::Duration;

use redis::{RedisResult, Value};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{MissedTickBehavior, interval};

use super::super::backlog::{Job, Waiting};
use super::lane::Lane;
use super::{Shared, lease, log, sweep};
use crate::cache::entry::{Entry, wire};
use crate::cache::purge::{Rule, Told};

/// Entries in one round trip.
const AT_ONCE: usize = 64;
/// How long one may take; nobody waits for it.
const TAKES: Duration = Duration::from_secs(1);
/// How often it is looked for purges that others have not been told of, and leases are prolonged.
const LOOKS: Duration = Duration::from_millis(250);

/// Works until the tier is dropped and all that waited is done.
pub(super) async fn run(shared: &Shared, waiting: Waiting) {
    let (sweeps, to_sweep) = channel(64);
    let work = write(shared, waiting, sweeps);
    tokio::select! {
        () = work => {}
        () = log::follow(shared) => {}
        () = sweeping(shared, to_sweep) => {}
    }
}

async fn sweeping(shared: &Shared, mut rules: Receiver<Rule>) {
    while let Some(rule) = rules.recv().await {
        sweep::sweep(shared, &rule).await;
    }
    std::future::pending().await
}

async fn write(shared: &Shared, mut waiting: Waiting, sweeps: Sender<Rule>) {
    let lane = Lane::new(TAKES);
    let mut looks = interval(LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut jobs = Vec::with_capacity(AT_ONCE);
    let mut leases = Vec::new();
    loop {
        tokio::select! {
            taken = waiting.jobs.recv_many(&mut jobs, AT_ONCE) => if taken == 0 { return },
            _ = looks.tick() => {
                tell(shared, &lane).await;
                lease::prolong(shared, &lane, &mut leases).await;
            }
        }
        let mut entries = Vec::with_capacity(jobs.len());
        let (mut done, mut over) = (Vec::new(), Vec::new());
        for job in jobs.drain(..) {
            match job {
                Job::Put(entry) => {
                    waiting.took(&entry);
                    entries.push(entry);
                }
                Job::Sweep(rule) => {
                    tell(shared, &lane).await;
                    let _ = sweeps.try_send(rule);
                }
                Job::Damaged(_) => {}
                Job::Prolong(lease) => leases.push(lease),
                Job::GiveBack(lease) => over.push(lease),
                Job::Settle(settled) => done.push(settled),
            }
        }
        put(shared, &lane, entries.iter().map(AsRef::as_ref)).await;
        lease::give_back(shared, &lane, &over).await;
        for settled in done {
            let _ = settled.send(());
        }
    }
}

/// Writes entries, those that are still of use.
async fn put(shared: &Shared, lane: &Lane, entries: impl Iterator<Item = &Entry>) {
    let mut commands = redis::pipe();
    commands.ignore_errors();
    for entry in entries {
        let left = u64::try_from(entry.left().as_millis()).unwrap_or(u64::MAX).min(i64::MAX as u64 / 4);
        if left > 0 && shared.purges.spare(entry) {
            commands.cmd("SET").arg(shared.key(&entry.key)).arg(wire::write(entry)).arg("PX").arg(left);
            if entry.is_brought {
                commands.arg("NX");
            }
        } else {
            shared.numbers.over.add(1);
        }
    }
    if commands.is_empty() {
        return;
    }
    let count = commands.len() as u64;
    let results: Vec<RedisResult<Value>> = lane.send(shared, &commands).await.unwrap_or_default();
    let written = results.iter().filter(|result| result.is_ok()).count() as u64;
    shared.numbers.written.add(written);
    shared.numbers.failed.add(count - written);
    if let Some(error) = results.iter().find_map(|result| result.as_ref().err()) {
        tracing::debug!(%error, redis = shared.shown, "Redis refuses an entry");
    }
}

/// Tells others of purges that they do not know of.
async fn tell(shared: &Shared, lane: &Lane) {
    for rule in shared.purges.rules().iter().filter(|rule| rule.told != Told::Logged) {
        if !log::add(shared, lane, rule).await {
            return;
        }
    }
}
