//! A registry of OCI artifacts: Debian's `docker-registry`, on a free port, with its files in a folder that goes with it.
//!
//! **Invariant:** it listens on loopback, and ends with its value.

mod desk;

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::client::Connection;
use crate::door::request;
use crate::within;
pub use desk::{Asked, Desk, Reply};

/// A registry that runs.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Registry {
    /// Starts one.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("there is room for a folder");
        // A port that the system has chosen may be somebody else's before the registry has it.
        for _ in 0..5 {
            let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("there is a free port");
            let config = format!(
                "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\nstorage: {{ filesystem: {{ rootdirectory: {:?} }} }}\nhttp: {{ addr: \"{address}\", secret: none }}\n",
                folder.path()
            );
            let file = folder.path().join("config.yml");
            std::fs::write(&file, config).expect("a file can be written");
            let child =
                Command::new("docker-registry").arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut child = child.expect("docker-registry is there: apt-get install docker-registry");
            let up = within(crate::SOON, || {
                let is_over = child.try_wait().is_ok_and(|ended| ended.is_some());
                (is_over || answers(address)).then_some(!is_over)
            });
            if up == Some(true) {
                return Self { child, address, _folder: folder };
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("docker-registry does not serve");
    }

    /// Host and port, as references have it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A reference to what is in it.
    pub fn reference(&self, rest: &str) -> String {
        format!("oci://{}/{rest}", self.address)
    }
}

fn answers(address: SocketAddr) -> bool {
    if std::net::TcpStream::connect(address).is_err() {
        return false;
    }
    let asked = request("GET", address, "/v2/", b"", [].into_iter());
    Connection::open(address).exchange(&asked).is_ok_and(|answer| answer.status == 200)
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
