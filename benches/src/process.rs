//! A process that was started here: on a core of its own, with its CPU time and its memory read from /proc.
//!
//! What it does not do: it ends no process but its own, by its id.
//!
//! **Invariant:** the process does not outlive its value.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;

/// What /proc counts time in where it does not count nanoseconds: 100 a second on every Linux since long ago.
const TICK: Duration = Duration::from_millis(10);

/// A program pinned to a core.
pub fn pinned(core: usize, program: &Path) -> Command {
    // taskset replaces itself with the program, so the child's id is the program's.
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program).stdin(Stdio::null());
    command
}

/// A server under measurement.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a server; what it says goes into the file `log`.
    pub fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let file = File::create(&log)?;
        command.stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self { child, log })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An error if it has ended.
    pub fn alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("a server ended ({status}):\n{}", self.said()).into()),
        }
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// CPU time of all its threads. One that ended before is not in it.
    pub fn cpu(&self) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end between the two reads.
            total += on_cpu(&thread?.path()).unwrap_or_default();
        }
        Ok(total)
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most resident memory that it has had so far, in KiB.
    pub fn peak(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| format!("/proc does not say {name}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first number of `schedstat`: nanoseconds on a core.
fn on_cpu(task: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// How long a core has not been idle since the machine was started, whoever used it.
pub fn busy(core: usize) -> Result<Duration> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line =
        stat.lines().find_map(|line| line.strip_prefix(&format!("cpu{core} "))).ok_or("/proc/stat does not know that core")?;
    let ticks: Vec<u32> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    // user nice system idle iowait irq softirq steal; what follows is contained in the first two.
    let idle = |place: &usize| matches!(place, 3 | 4);
    let sum: u32 = ticks.iter().take(8).enumerate().filter(|(place, _)| !idle(place)).map(|(_, ticks)| ticks).sum();
    Ok(TICK * sum)
}

/// Is there such a program?
pub fn exists(program: &OsStr) -> bool {
    Path::new(program).is_file()
        || std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str, folder: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        Process::start(command, folder.join("log")).unwrap()
    }

    #[test]
    fn time_and_memory_are_read_and_the_process_ends_with_its_value() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("while :; do :; done", folder.path());
        let began = Instant::now();
        while process.cpu().unwrap() < Duration::from_millis(20) {
            assert!(began.elapsed() < Duration::from_secs(20), "it never ran");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(process.alive().is_ok());
        assert!((100..1 << 20).contains(&process.resident().unwrap()));
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn one_that_ends_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = shell("echo no such port >&2; exit 3", folder.path());
        let _ = process.child.wait();
        let error = process.alive().unwrap_err().to_string();
        assert!(error.contains("no such port") && error.contains('3'), "{error}");
    }

    #[test]
    fn a_core_is_busy_at_times() {
        assert!(busy(0).unwrap() > Duration::ZERO);
        assert!(busy(100_000).is_err());
    }
}
