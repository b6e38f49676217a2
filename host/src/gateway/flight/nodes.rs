//! Flights across nodes: whoever is to ask upstream looks whether another node does already, and waits a while for its answer.
//!
//! The first node takes a lease in Redis (`cache/tier/redis/lease`). The others look for the entry until it is there, their wait is over, or it
//! is clear that it will not come: the lease is gone, so one of them takes it and asks; or a third node has it, for which
//! nobody waits, as on one node. While its leader waits, all others of a node follow him.
//!
//! What it does not do: it gives nobody the beginning of another node's stream.
//!
//! **Invariant:** nobody waits longer than `cache.redis.wait`, nor than half of his own time; Redis slow or away costs its deadline once.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{LEADERS, Seat};
use crate::cache::tier::redis::lease::Claim;
use crate::cache::{Cache, Entry};
use crate::gateway::course::Course;
use crate::gateway::key::Keys;

/// How long it is until somebody who waits looks again, at first and at most.
const FIRST: Duration = Duration::from_millis(10);
const MOST: Duration = Duration::from_millis(100);

/// The answer that another node has got; none where it is this one's to ask.
pub(super) async fn stage(course: &Course, keys: &Keys, cache: &Cache, seat: &Seat) -> Option<Arc<Entry>> {
    if seat.flight.state().lease.is_some() {
        // The leader before had it already.
        return None;
    }
    // From when the first of this node came: who leads after another one waits no second time. Half of one's own time is for asking.
    let now = Instant::now();
    let ends =
        (seat.flight.began + cache.waits()).min(now + course.exchange.deadline.begins().saturating_duration_since(now) / 2);
    let (coming, counts) = (keys.coming(course), &course.gateway.flights);
    let (mut other, mut leaders, mut pause) = (None, 0, FIRST);
    loop {
        match cache.claim(&coming, course.exchange.worker).await {
            Claim::Stored(entry) => {
                let is_wanted = keys.take(&entry, course.exchange.received_at);
                counts.elsewhere.add(u64::from(is_wanted && other.is_some()));
                return is_wanted.then_some(entry);
            }
            Claim::Own(lease) => {
                seat.flight.state().lease = Some(lease);
                break;
            }
            Claim::Others(holder) => {
                leaders += u32::from(other.as_ref() != Some(&holder));
                other = Some(holder);
                if leaders > LEADERS || Instant::now() >= ends {
                    break;
                }
            }
            Claim::Unknown => break,
        }
        sleep_until((Instant::now() + pause).min(ends)).await;
        pause = (pause * 2).min(MOST);
    }
    counts.in_vain.add(u64::from(other.is_some()));
    None
}
