//! Sockets that a supervisor has opened for this process (systemd's socket activation: LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES).
//!
//! What it does not do: it judges no address; whoever serves the sockets does.
//!
//! **Invariant:** each socket that was passed is used, or the process does not start: one that nobody serves would keep its clients
//! waiting.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

use super::{StartError, system};

/// What was passed.
#[derive(Debug, Default)]
pub struct Activated {
    /// Where clients connect: named `http`, or the first of those without a name.
    pub data: Vec<TcpListener>,
    /// Where the administrator connects: named `admin`, or the second of those without a name.
    pub admin: Option<TcpListener>,
}

impl Activated {
    /// Takes what the environment tells of, and takes it out of the environment. To be called before there are threads.
    ///
    /// # Errors
    /// When something was passed that cannot be served.
    pub fn from_environment() -> Result<Self, StartError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        // systemd says whom the sockets are meant for; a variable that was merely inherited is not meant.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(Self::default());
        }
        let mut passed = ListenFd::from_env();
        let names: Vec<&str> = names.split(':').collect();
        let mut taken = Self::default();
        for index in 0..passed.len() {
            let name = names.get(index).copied().unwrap_or_default();
            let socket = passed.take_tcp_listener(index).and_then(|socket| socket.ok_or(io::ErrorKind::NotFound.into()));
            let placed = socket.and_then(|socket| taken.place(name, socket));
            placed.map_err(system(format!("use socket {index} of LISTEN_FDS ({name:?})")))?;
        }
        Ok(taken)
    }

    fn place(&mut self, name: &str, socket: TcpListener) -> io::Result<()> {
        if !rustix::net::sockopt::socket_acceptconn(&socket)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen"));
        }
        socket.set_nonblocking(true)?;
        match name {
            "http" => self.data.push(socket),
            "admin" if self.admin.is_none() => self.admin = Some(socket),
            "admin" => return Err(io::Error::new(io::ErrorKind::InvalidInput, "there are two of this name")),
            // Without a name, or with the name of the unit, which systemd gives it.
            _ if self.data.is_empty() => self.data.push(socket),
            _ if self.admin.is_none() => self.admin = Some(socket),
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "two may be without a name: the clients' and the administrator's; name them `http` and `admin`",
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(names: &[&str], expect: Option<(&[usize], Option<usize>)>) {
        let sockets: Vec<TcpListener> = names.iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let index = |socket: &TcpListener| addresses.iter().position(|a| *a == socket.local_addr().unwrap()).unwrap();
        let mut taken = Activated::default();
        let placed = names.iter().zip(sockets).try_for_each(|(name, socket)| taken.place(name, socket));
        let found = placed.ok().map(|()| (taken.data.iter().map(index).collect::<Vec<_>>(), taken.admin.as_ref().map(index)));
        assert_eq!(found, expect.map(|(data, admin)| (data.to_vec(), admin)), "{names:?}");
    }

    #[test]
    fn sockets_have_their_places_by_name_and_by_order() {
        check(&[], Some((&[], None)));
        check(&["http"], Some((&[0], None)));
        check(&["admin", "http"], Some((&[1], Some(0))));
        check(&["http", "http", "admin"], Some((&[0, 1], Some(2))));
        check(&["", ""], Some((&[0], Some(1))));
        check(&["pointsman.socket", "pointsman.socket"], Some((&[0], Some(1))));
        check(&["", "", ""], None);
        check(&["admin", "admin"], None);
    }
}
