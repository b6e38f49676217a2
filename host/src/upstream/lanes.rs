//! The ways of one core to one endpoint: a client each, and so an HTTP/2 connection each.
//!
//! A server allows a number of requests at a time on one HTTP/2 connection, and hyper-util's client has one such connection to
//! a server: what is beyond the server's number waits for a place there, unseen, until a phase's bound is passed. So a client gets
//! no more than [`WIDTH`] requests at a time, and the next ones go over another. With HTTP/1.1, where each request has a connection
//! to itself, a lane is a share of those, and makes no difference.
//!
//! What it does not do: it does not know what the server has said that it allows; hyper keeps that to itself.
//!
//! **Invariant:** a place is taken until the last byte of the answer.
//! **Invariant:** lanes are filled from the first, so that those that a burst has opened run dry and idle out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::connect::{Client, Connector};

/// Requests in one lane at a time: what RFC 9113 (6.5.2) asks servers to allow at least, and usual ones do.
const WIDTH: u32 = 100;

/// The lanes of one core.
pub(super) struct Lanes {
    connector: Connector,
    lanes: Mutex<Vec<Lane>>,
}

struct Lane {
    client: Arc<Client>,
    running: u32,
}

/// A request's place in a lane.
pub(super) struct Place {
    lanes: Arc<Lanes>,
    index: usize,
    client: Arc<Client>,
}

impl Lanes {
    pub(super) fn new(connector: Connector) -> Arc<Self> {
        Arc::new(Self { connector, lanes: Mutex::default() })
    }

    /// A place in the first lane that has one.
    pub(super) fn enter(self: &Arc<Self>) -> Place {
        let mut lanes = self.lock();
        let index = lanes.iter().position(|lane| lane.running < WIDTH).unwrap_or(lanes.len());
        if index == lanes.len() {
            lanes.push(Lane { client: Arc::new(self.connector.client()), running: 0 });
        }
        let lane = &mut lanes[index];
        lane.running += 1;
        Place { lanes: self.clone(), index, client: lane.client.clone() }
    }

    /// One core's own, so nobody else waits for it.
    fn lock(&self) -> MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(lane) = self.lanes.lock().get_mut(self.index) {
            lane.running -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lanes_are_filled_from_the_first() {
        let lanes = Lanes::new(Connector::new(Duration::from_secs(1), Duration::from_secs(1)));
        let mut places: Vec<Place> = (0..2 * WIDTH + 1).map(|_| lanes.enter()).collect();
        assert_eq!(places.iter().map(|place| place.index).max(), Some(2));
        drop(places.remove(0));
        assert_eq!(lanes.enter().index, 0, "where a place has become free");
        drop(places);
        assert!(lanes.lock().iter().all(|lane| lane.running == 0));
    }
}
