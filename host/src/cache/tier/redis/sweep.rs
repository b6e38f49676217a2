//! Takes purged entries out of Redis: their room, and what is private in them, need not wait for their time's end.
//!
//! What it does not do: it decides nothing; purged entries are not served, whether they are there or not.
//!
//! **Invariant:** an entry is taken out by what stands in it, and only where a rule takes it.

use std::time::Duration;

use redis::{Pipeline, RedisResult};

use super::Shared;
use super::lane::Lane;
use crate::cache::entry::wire;
use crate::cache::purge::Rule;

/// Keys of one look.
const AT_ONCE: usize = 256;
/// Bytes of an entry that are looked at: more than its head has, but for extraordinary names.
const HEAD: i64 = 4_096;
/// How long one look may take; nobody waits for it.
const TAKES: Duration = Duration::from_secs(2);

/// Takes out what a rule takes. Where Redis goes away meanwhile, the rest stays until its time is over.
pub(super) async fn sweep(shared: &Shared, rule: &Rule) {
    let lane = Lane::new(TAKES);
    if let Some(key) = &rule.selector.key {
        look(shared, &lane, rule, &[shared.key(key).into_bytes()]).await;
        return;
    }
    let pattern = format!("{}entry:*", escaped(&shared.prefix));
    let mut cursor = 0_u64;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(AT_ONCE);
        let Ok((next, keys)) = lane.ask::<(u64, Vec<Vec<u8>>)>(shared, &scan).await else { return };
        if !look(shared, &lane, rule, &keys).await || next == 0 {
            return;
        }
        cursor = next;
    }
}

/// Takes out those of these keys that the rule takes. False: Redis is away.
async fn look(shared: &Shared, lane: &Lane, rule: &Rule, keys: &[Vec<u8>]) -> bool {
    if keys.is_empty() {
        return true;
    }
    let mut heads = Pipeline::with_capacity(keys.len());
    heads.ignore_errors();
    for key in keys {
        heads.cmd("GETRANGE").arg(key).arg(0).arg(HEAD);
    }
    let Ok(heads) = lane.send::<Vec<RedisResult<Vec<u8>>>>(shared, &heads).await else { return false };
    let is_taken = |head: &RedisResult<Vec<u8>>| {
        head.as_ref().ok().and_then(|bytes| wire::head(bytes).map(|head| rule.takes(&head.about))).unwrap_or(false)
    };
    let taken: Vec<&Vec<u8>> = keys.iter().zip(&heads).filter(|(_, head)| is_taken(head)).map(|(key, _)| key).collect();
    if taken.is_empty() {
        return true;
    }
    let mut unlink = redis::cmd("UNLINK");
    unlink.arg(taken);
    lane.ask::<u64>(shared, &unlink).await.is_ok()
}

/// A prefix of which no character means something in a pattern.
fn escaped(prefix: &str) -> String {
    prefix.chars().flat_map(|c| ['\\'].into_iter().filter(move |_| "*?[]\\^-".contains(c)).chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escaped("a*b[c]\\d:"), "a\\*b\\[c\\]\\\\d:");
    }
}
