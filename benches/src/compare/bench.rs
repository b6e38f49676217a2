//! The workplace: the upstream that all gateways share, a folder for what is written, and how a gateway is started in it.
//!
//! What it does not do: it keeps no gateway longer than one measurement, since an idle one takes time of the core too.
//!
//! **Invariant:** gateway and peer have a core each.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::case::{Case, Gateway};
use super::config::{self, Components};
use crate::Result;
use crate::probe;
use crate::process::{Process, pinned};

/// The programs, and where they run.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) pointsman: PathBuf,
    pub(super) nginx: PathBuf,
    pub(super) load: PathBuf,
    pub(super) upstream: PathBuf,
    pub(super) gateway_core: usize,
    pub(super) peer_core: usize,
}

/// The workplace.
pub(super) struct Bench {
    pub(super) programs: Programs,
    components: Components,
    folder: TempDir,
    upstream: SocketAddr,
    upstream_process: Child,
}

/// A gateway that answers.
pub(super) struct Running {
    /// None where there is no gateway.
    pub(super) process: Option<Process>,
    /// Where requests go.
    pub(super) address: SocketAddr,
    /// pointsman's administrator.
    pub(super) admin: Option<SocketAddr>,
}

impl Bench {
    /// Starts the upstream.
    pub(super) fn set_up(programs: Programs, components: Components) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("pointsman-compare-").tempdir()?;
        let mut command = pinned(programs.peer_core, &programs.upstream);
        // It ends with its standard input, which is ours to close.
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("taskset {}: {error}", programs.upstream.display()))?;
        let mut line = String::new();
        let read = child.stdout.take().map(|out| BufReader::new(out).read_line(&mut line));
        let address = read
            .ok_or("the upstream's output is not piped")?
            .map_err(crate::Error::from)
            .and_then(|_| Ok(line.trim().parse()?));
        let upstream = match address {
            Ok(upstream) => upstream,
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the upstream does not say where it listens: {error}").into());
            }
        };
        Ok(Self { programs, components, folder, upstream, upstream_process: child })
    }

    /// The load driver, on its core.
    pub(super) fn load(&self) -> Command {
        pinned(self.programs.peer_core, &self.programs.load)
    }

    /// A place in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a case's gateway, its compiled components in `aot`, and waits until it answers.
    pub(super) fn start(&self, case: &Case, aot: &Path) -> Result<Running> {
        match case.gateway {
            Gateway::Direct => Ok(Running { process: None, address: self.upstream, admin: None }),
            Gateway::Nginx => self.nginx(),
            Gateway::Pointsman { plugins, cache } => {
                let (address, admin) = (probe::free_port()?, probe::free_port()?);
                let file = self.path("pointsman.toml");
                std::fs::write(&file, config::pointsman(address, admin, self.upstream, plugins, cache, &self.components))?;
                let mut command = pinned(self.programs.gateway_core, &self.programs.pointsman);
                command.args(["serve", "--config"]).arg(file).env("XDG_CACHE_HOME", aot);
                let mut process = Process::start(command, self.path("pointsman.log"))?;
                probe::wait_for(&mut process, admin, "/readyz", false)?;
                Ok(Running { process: Some(process), address, admin: Some(admin) })
            }
        }
    }

    fn nginx(&self) -> Result<Running> {
        let address = probe::free_port()?;
        let file = self.path("nginx.conf");
        std::fs::write(&file, config::nginx(self.folder.path(), address, self.upstream))?;
        let mut command = pinned(self.programs.gateway_core, &self.programs.nginx);
        // Before it has read its configuration it would write its log elsewhere.
        command.arg("-p").arg(self.folder.path()).arg("-c").arg(file).arg("-e").arg(self.path("nginx.log"));
        let mut process = Process::start(command, self.path("nginx.out"))?;
        // It passes the question on, and the upstream answers only to questions with a body.
        probe::wait_for(&mut process, address, "/", true)?;
        Ok(Running { process: Some(process), address, admin: None })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.upstream_process.kill();
        let _ = self.upstream_process.wait();
    }
}

impl Running {
    /// The gateway's process; an error where there is none.
    pub(super) fn process(&self) -> Result<&Process> {
        self.process.as_ref().ok_or_else(|| "this case has no gateway".into())
    }

    /// What the gateway has said so far.
    pub(super) fn said(&self) -> String {
        self.process.as_ref().map(Process::said).unwrap_or_default()
    }
}
