//! What pointsman costs, measured from outside: a load driver, a fixed upstream, and the comparison with nginx.
//!
//! Four binaries stand on this library. `load` sends requests on a schedule that was fixed before, so that a slow server
//! cannot make its own figures better by being asked less (coordinated omission). `upstream` answers at once and always the
//! same. `compare` puts a gateway between the two, pins everything to cores, and prints the table; `benches/run` calls them. `trial`
//! puts one before servers that straggle, or that get twice what they bear.
//!
//! Blocking sockets, one thread per connection: two system calls a request, no runtime whose timers round to a millisecond,
//! and as little as possible of the core that the gateway's peer shares with its measuring.
//!
//! What it does not do: it links nothing of pointsman. The micro-benches under `benches/` do.
//!
//! **Invariant:** everything listens on loopback, every wait has a bound, and only processes that were started here are ended.
//! **Invariant:** an answer that is not the expected one is counted as an error and never as a fast answer.

pub mod command;
pub mod compare;
pub mod driver;
pub mod figure;
pub mod gpu;
pub mod hold;
pub mod probe;
pub mod process;
pub mod report;
pub mod request;
pub mod schedule;
pub mod trial;
pub mod upstream;
pub mod wire;

/// What goes wrong here is for a person to read; nobody matches on it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Or an error that says what could not be done.
pub type Result<T, E = Error> = std::result::Result<T, E>;
