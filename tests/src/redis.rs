//! A Redis that a test starts, stops, pauses and fills: Debian's redis-server, in a folder of its own, without persistence.
//!
//! What it does not do: it installs nothing; `tests/run` does.
//!
//! **Invariant:** the process does not outlive its value, and is only ever signalled by its own id.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::eventually;

/// The server.
pub struct Redis {
    folder: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Redis {
    /// A server on a free port.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with these arguments, such as `--maxmemory 2mb`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut redis = Self { folder, port: 0, arguments, child: None };
        // Between here and there the port may become somebody else's.
        for _ in 0..5 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            redis.port = free.local_addr().expect("it is bound").port();
            drop(free);
            redis.launch();
            if redis.answers() {
                return redis;
            }
        }
        panic!("redis-server does not start; is it installed? `tests/run` does that");
    }

    fn launch(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server runs; `tests/run` installs it");
        self.child = Some(child);
    }

    /// Waits until it takes connections. False: it has ended.
    fn answers(&mut self) -> bool {
        eventually("redis-server answers or ends", || {
            let ended = self.child.as_mut().is_none_or(|child| child.try_wait().is_ok_and(|ended| ended.is_some()));
            let address = (Ipv4Addr::LOCALHOST, self.port).into();
            let taken = TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok();
            if ended { Some(false) } else { taken.then_some(true) }
        })
    }

    /// As it stands in a configuration.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it, with all that it has.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on the same port, empty.
    pub fn start_again(&mut self) {
        self.stop();
        eventually("the port is free again", || TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).ok());
        self.launch();
        assert!(self.answers(), "redis-server does not start again");
    }

    /// It takes connections and answers nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// It goes on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let id = self.child.as_ref().expect("it runs").id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {id}")]).status().expect("there is a shell");
        assert!(sent.success(), "{name} could not be sent");
    }

    /// What it says to a command.
    pub fn ask(&self, command: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(command).output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
