//! Streams that are opened and held: what does a gateway keep for each client that waits?
//!
//! What it does not do: it measures no memory; whoever asked for the streams reads the gateway's meanwhile.
//!
//! **Invariant:** all streams that are reported as held have had their first bytes and have not ended.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::request::Template;
use crate::upstream::Wish;
use crate::wire::Connection;

/// What is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Streams that have begun and have not ended.
    pub held: usize,
}

/// Streams that are open.
#[derive(Debug)]
pub struct Streams(Vec<Connection>);

impl Streams {
    /// Opens `count` streams, one after another, each of which the upstream keeps open for `time`.
    ///
    /// # Errors
    /// When one of them does not begin.
    pub fn open(address: std::net::SocketAddr, count: usize, time: Duration) -> Result<Self> {
        let wish = Wish { events: 1, pause_us: 0, hold_ms: u64::try_from(time.as_millis())? };
        let mut template = Template::new(address, Some(&wish));
        let mut streams = Vec::with_capacity(count);
        for number in 0..count {
            let mut connection = Connection::open(address).map_err(|error| format!("stream {number}: {error}"))?;
            connection.send(template.numbered(number as u64 + 1))?;
            let answer = connection.begun().map_err(|error| format!("stream {number}: {error}"))?;
            if answer.status != 200 {
                return Err(format!("stream {number}: status {}", answer.status).into());
            }
            streams.push(connection);
        }
        Ok(Self(streams))
    }

    /// How many there are, without those that have ended or gone on meanwhile.
    pub fn held(&self) -> Held {
        Held { held: self.0.iter().filter(|connection| connection.is_silent()).count() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream;

    #[test]
    fn streams_begin_and_stay() {
        let streams = Streams::open(upstream::start().unwrap(), 20, Duration::from_secs(20)).unwrap();
        assert_eq!(streams.held(), Held { held: 20 });
    }

    #[test]
    fn what_has_ended_is_not_held() {
        let streams = Streams::open(upstream::start().unwrap(), 3, Duration::from_millis(1)).unwrap();
        let ended = (0..1_000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            streams.held() == Held { held: 0 }
        });
        assert!(ended, "{:?}", streams.held());
    }
}
