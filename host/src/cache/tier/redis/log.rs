//! The log of purges: a stream in Redis that all nodes write to and read, each at its own pace.
//!
//! Its entries' ids are the order of purges ([`Stamp`]): Redis gives them, so no node's clock does. A node that was away reads what it has
//! missed. Where Redis has lost the log, whoever still knows a purge writes it again, with the place that it had.
//!
//! What it does not do: it takes out no entry.
//!
//! **Invariant:** what cannot be read, of a later version say, purges everything: better a miss than a wrong hit.
//! **Invariant:** a log that was cut because it is full purges what is older than its beginning.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::Shared;
use super::lane::Lane;
use crate::cache::purge::{MAX_RULES, Read, Rule, Selector, Stamp, Told};

/// How long one question for news stays open, and how long its answer may take beyond that.
const NEWS: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(1);
/// How long until another try, where Redis is away.
const AGAIN: Duration = Duration::from_millis(250);
/// The field of an entry that has the rule.
const FIELD: &str = "rule";

/// A rule as the log has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    selector: Selector,
    /// The place that it had before the log was lost. None: its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound: Option<Stamp>,
    by: String,
}

/// An entry of a stream: its id, fields and values.
type Item = (String, Vec<Vec<u8>>);

/// Writes a rule. False: Redis is away.
pub(super) async fn add(shared: &Shared, lane: &Lane, rule: &Rule) -> bool {
    let bound = (rule.told == Told::Lost).then_some(rule.bound);
    let line = Line { selector: rule.selector.clone(), bound, by: shared.node.clone() };
    let Ok(line) = serde_json::to_string(&line) else { return true };
    // Later than all that is known, whatever Redis's clock says.
    let after = Stamp(shared.purges.known().0 + 1);
    for id in ["*".to_owned(), format!("{}-{}", after.ms(), after.nth())] {
        let mut command = redis::cmd("XADD");
        command.arg(shared.log()).arg("MAXLEN").arg(MAX_RULES).arg(&id).arg(FIELD).arg(&line);
        match lane.ask::<String>(shared, &command).await {
            Ok(id) if bound.is_some() || stamp(&id).is_some_and(|stamp| stamp >= after) => return true,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}

/// Reads it for as long as the tier is there.
pub(super) async fn follow(shared: &Shared) {
    loop {
        if let Err(error) = session(shared).await {
            tracing::debug!(%error, redis = shared.shown, "the log of purges is not to be had");
        }
        shared.purges.has_read(Read::Tried);
        sleep(AGAIN).await;
    }
}

/// All that there is, then what comes, until the connection breaks.
async fn session(shared: &Shared) -> Result<(), RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(NEWS)).set_response_timeout(None);
    let mut connection = shared.client.get_multiplexed_async_connection_with_config(&config).await?;
    let mut all = redis::cmd("XRANGE");
    all.arg(shared.log()).arg("-").arg("+").arg("COUNT").arg(2 * MAX_RULES);
    let items: Vec<Item> = in_time(all.query_async(&mut connection)).await?;
    let logged: Vec<Rule> = items.iter().filter_map(|item| learn(shared, item)).collect();
    match items.first().and_then(|(id, _)| stamp(id)) {
        Some(first) if items.len() >= MAX_RULES => {
            let bound = Stamp(first.0.saturating_sub(1));
            shared.purges.learn(Rule { selector: Selector::default(), bound, told: Told::Logged }, true);
        }
        _ => shared.purges.lost(|rule| {
            logged.iter().any(|known| known.bound >= rule.bound && (known.selector.is_all() || known.selector == rule.selector))
        }),
    }
    shared.purges.has_read(Read::Once);
    // Known before the first exchange asks.
    shared.turns(true, &"");
    let mut last = items.last().map_or_else(|| "0-0".to_owned(), |(id, _)| id.clone());
    loop {
        for item in news(shared, &mut connection, &last).await? {
            learn(shared, &item);
            last = item.0;
        }
    }
}

/// What has come after an entry; waits a while for it.
async fn news(shared: &Shared, connection: &mut MultiplexedConnection, last: &str) -> RedisResult<Vec<Item>> {
    let mut asked = redis::cmd("XREAD");
    asked.arg("COUNT").arg(256).arg("BLOCK").arg(NEWS.as_millis() as u64).arg("STREAMS").arg(shared.log()).arg(last);
    let streams: Option<Vec<(String, Vec<Item>)>> = in_time(asked.query_async(connection)).await?;
    Ok(streams.into_iter().flatten().flat_map(|(_, items)| items).collect())
}

async fn in_time<T>(asked: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match timeout(NEWS + GRACE, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(RedisError::from((redis::ErrorKind::Io, "not in time"))),
    }
}

/// Puts what an entry of the log says into force.
fn learn(shared: &Shared, (id, fields): &Item) -> Option<Rule> {
    let place = stamp(id)?;
    let line = fields.chunks(2).find(|pair| pair[0] == FIELD.as_bytes()).and_then(|pair| pair.get(1));
    let line: Option<Line> = line.and_then(|line| serde_json::from_slice(line).ok());
    let (selector, bound, by) = match line {
        Some(Line { selector, bound, by }) => (selector, bound.unwrap_or(place), by),
        None => {
            tracing::warn!(redis = shared.shown, id, "a purge cannot be read, perhaps of a later version: everything is purged");
            (Selector::default(), place, String::new())
        }
    };
    let rule = Rule { selector, bound, told: Told::Logged };
    shared.purges.learn(rule.clone(), by != shared.node);
    Some(rule)
}

/// The place that an id is.
fn stamp(id: &str) -> Option<Stamp> {
    let (ms, nth) = id.split_once('-')?;
    Some(Stamp::at(ms.parse().ok().filter(|ms| *ms < 1 << 43)?, nth.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_places() {
        assert_eq!(stamp("1526919030474-55"), Some(Stamp::at(1_526_919_030_474, 55)));
        assert!(stamp("5-1") > stamp("5-0") && stamp("6-0") > stamp("5-99"));
        for id in ["", "5", "-", "x-1", "1-x", "99999999999999-0"] {
            assert_eq!(stamp(id), None, "{id}");
        }
    }
}
