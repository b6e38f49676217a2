//! The sockets that this process serves: those that the process before it hands over, those that a supervisor has opened, and where
//! there are none at the address, its own.
//!
//! **Invariant:** every socket of the address that anybody passed is served by some core: the system gives it its share of the
//! connections whether it is or not.
//! **Invariant:** an address is judged by the socket, not by what the configuration says of it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::handover::Handed;
use super::{Activated, StartError, system};
use crate::config::{Config, Finding};
use crate::gateway::state::BuildError;
use crate::{admin, listen};

/// What is listened on.
pub(super) struct Sockets {
    /// Where clients connect. At least one, all at one address.
    pub(super) data: Vec<TcpListener>,
    /// Where the administrator connects.
    pub(super) admin: Option<TcpListener>,
    pub(super) address: SocketAddr,
}

impl Sockets {
    /// Gathers them, and binds what is missing.
    pub(super) fn gather(config: &Config, given: Activated, handed: Handed, workers: usize) -> Result<Self, StartError> {
        let wanted = given.data.first().and_then(address).unwrap_or(config.listen.address);
        let mut data = handed.data;
        data.retain(|socket| {
            let same = address(socket).is_some_and(|there| is_same(there, wanted));
            if !same {
                tracing::warn!(there = ?address(socket), here = %wanted, "nobody will listen there any more once the process before this one has drained");
            }
            same
        });
        for socket in given.data {
            if !data.iter().any(|known| is_one(known, &socket)) {
                data.push(socket);
            }
        }
        if data.is_empty() {
            data = listen::bind(wanted, workers).map_err(system(format!("listen on {wanted}")))?;
        }
        let address = data.first().and_then(address).unwrap_or(wanted);
        if let Some(reason) = super::opens_to_all(config, address) {
            return Err(refused(&["listen", "address"], reason, "add [keys], or have the socket opened on a loopback address"));
        }
        let admin = administrator(config, given.admin, handed.admin)?;
        Ok(Self { data, admin, address })
    }

    /// Each core's: one at least, which cores share where there are fewer sockets than cores.
    pub(super) fn shares(data: &[TcpListener], workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
        let mut shares: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for turn in 0..workers.max(data.len()) {
            shares[turn % workers].push(data[turn % data.len()].try_clone()?);
        }
        Ok(shares)
    }
}

fn administrator(
    config: &Config,
    given: Option<TcpListener>,
    handed: Option<TcpListener>,
) -> Result<Option<TcpListener>, StartError> {
    let Some(admin) = &config.admin else {
        return match given {
            Some(_) => {
                let reason = "a socket was opened for the administrator, and there is no [admin]";
                Err(refused(&["admin"], reason, "add [admin], or have it not opened"))
            }
            None => Ok(None),
        };
    };
    let handed = handed.filter(|socket| address(socket).is_some_and(|there| is_same(there, admin.address)));
    let socket = match given.or(handed) {
        Some(socket) => socket,
        None => admin::bind(admin).map_err(system(format!("listen on {} (admin)", admin.address)))?,
    };
    match address(&socket) {
        Some(there) if admin.key.is_none() && !there.ip().to_canonical().is_loopback() => {
            let reason = format!("{there} is reachable from other machines, and the admin API has no key");
            Err(refused(
                &["admin", "address"],
                reason,
                "add `key = \"env:NAME\"` to [admin], or have the socket opened on loopback",
            ))
        }
        _ => Ok(Some(socket)),
    }
}

fn refused(path: &[&str], reason: impl std::fmt::Display, remedy: &str) -> StartError {
    StartError::Configuration(BuildError(vec![Finding::new(path, reason, remedy)]))
}

fn address(socket: &TcpListener) -> Option<SocketAddr> {
    socket.local_addr().ok()
}

/// Is a socket there what the configuration asks for? Port 0 is any.
fn is_same(there: SocketAddr, wanted: SocketAddr) -> bool {
    there.ip() == wanted.ip() && (wanted.port() == 0 || there.port() == wanted.port())
}

/// Are these two files of one socket?
fn is_one(a: &TcpListener, b: &TcpListener) -> bool {
    let cookie = |socket: &TcpListener| rustix::net::sockopt::socket_cookie(socket).ok();
    cookie(a).is_some() && cookie(a) == cookie(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_is_served_and_every_core_serves() {
        for (count, workers) in [(1, 1), (1, 4), (4, 1), (3, 2), (2, 3)] {
            let data: Vec<TcpListener> = (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let shares = Sockets::shares(&data, workers).unwrap();
            assert!(shares.len() == workers && shares.iter().all(|share| !share.is_empty()), "{count} for {workers}");
            assert!(
                data.iter().all(|socket| shares.iter().flatten().any(|served| is_one(socket, served))),
                "{count} for {workers}"
            );
            assert_eq!(shares.iter().map(Vec::len).sum::<usize>(), count.max(workers));
        }
    }

    #[test]
    fn what_is_handed_over_is_served_where_the_address_is_the_same() {
        let old = TcpListener::bind("127.0.0.1:0").unwrap();
        let there = old.local_addr().unwrap();
        let gather = |address: &str, given: Activated| {
            let config = Config {
                listen: crate::config::Listen { address: address.parse().unwrap(), ..Default::default() },
                ..Default::default()
            };
            let handed = Handed { data: vec![old.try_clone().unwrap()], admin: None };
            Sockets::gather(&config, given, handed, 2).unwrap()
        };
        for address in [there.to_string(), "127.0.0.1:0".to_owned()] {
            let sockets = gather(&address, Activated::default());
            assert!(sockets.data.len() == 1 && is_one(&sockets.data[0], &old), "{address}");
        }
        let elsewhere = gather("127.0.0.2:0", Activated::default());
        assert_eq!((elsewhere.data.len(), elsewhere.address.ip().to_string().as_str()), (2, "127.0.0.2"));
        // The same socket from two sides is one.
        let twice = Activated { data: vec![old.try_clone().unwrap()], admin: None };
        assert_eq!(gather("127.0.0.3:1", twice).data.len(), 1);
    }

    #[test]
    fn an_open_socket_that_was_passed_is_no_way_around_the_keys() {
        let open = || TcpListener::bind("0.0.0.0:0").unwrap();
        let start =
            |config: &Config, given| Sockets::gather(config, given, Handed::default(), 1).err().map(|error| error.to_string());
        let data = Activated { data: vec![open()], admin: None };
        assert!(start(&Config::default(), data).is_some_and(|error| error.contains("no keys are configured")));
        let admin = || Activated { data: Vec::new(), admin: Some(open()) };
        let listen = crate::config::Listen { address: "127.0.0.1:0".parse().unwrap(), ..Default::default() };
        let mut config = Config { listen, ..Default::default() };
        assert!(start(&config, admin()).is_some_and(|error| error.contains("there is no [admin]")));
        config.admin = Some(crate::config::Admin {
            address: "127.0.0.1:0".parse().unwrap(),
            key: None,
            explain: crate::config::ByteSize::default(),
            explain_texts: false,
        });
        assert!(start(&config, admin()).is_some_and(|error| error.contains("the admin API has no key")));
    }
}
