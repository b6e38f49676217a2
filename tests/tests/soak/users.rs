//! A user: asks, reads, thinks. Every second one keeps a connection, the others open one for each request.
//!
//! What it does not do: it does not ask again but where the connection that was kept has closed, as HTTP/1.1 allows.
//!
//! **Invariant:** a connection that is new is taken, and answered.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fastrand::Rng;
use tests::{Answer, Connection, Door};

use crate::judge::judge;
use crate::questions::Question;
use crate::tally::{Sign, Tally};

/// For how long a user waits for the next byte, longer than all tries of an answer take that fail one after another: SDKs wait for minutes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the end.
pub(crate) fn user(number: u64, seed: u64, door: &Door, tally: &Tally) {
    let mut random = Rng::with_seed(seed.wrapping_add(number));
    let mut kept = None;
    tally.pause(Duration::from_millis(random.u64(0..5_000)));
    for turn in 0.. {
        if tally.is_over() {
            return;
        }
        let asked = Question::of(number, turn, &mut random);
        let seen = match exchange(door.address, &mut kept, number.is_multiple_of(2), &asked.bytes(door), tally) {
            Ok(answer) => catch_unwind(AssertUnwindSafe(|| judge(&answer, &asked)))
                .unwrap_or_else(|_| Err(format!("nothing that a client can read: {}", String::from_utf8_lossy(&answer.body)))),
            Err(error) => Err(format!("no answer: {error}")),
        };
        tally.note(number, &asked, seen);
        tally.pause(Duration::from_millis(random.u64(1_000..5_000)));
    }
}

/// Asks on the connection that was kept, if it is still open, else on a new one.
fn exchange(
    address: SocketAddr,
    kept: &mut Option<Connection>,
    keep: bool,
    bytes: &[u8],
    tally: &Tally,
) -> std::io::Result<Answer> {
    if let Some(mut connection) = kept.take().filter(is_open) {
        match connection.exchange(bytes) {
            Ok(answer) => {
                *kept = Some(connection);
                return Ok(answer);
            }
            // Closed while the request was on its way; clients ask again.
            Err(_) => tally.add(Sign::Stale),
        }
    }
    let mut connection = Connection::try_open(address)?;
    connection.socket().set_read_timeout(Some(PATIENCE))?;
    let answer = connection.exchange(bytes)?;
    *kept = keep.then_some(connection);
    Ok(answer)
}

fn is_open(connection: &Connection) -> bool {
    let socket = connection.socket();
    socket.set_nonblocking(true).unwrap();
    let found = socket.peek(&mut [0]);
    socket.set_nonblocking(false).unwrap();
    found.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}
