//! The real binary, for what a process alone can show: signals, exit codes, its memory, its log, foreign clients.
//!
//! What it does not do: it builds nothing. The test command builds the binary into the folder of the test executables.
//!
//! **Invariant:** the process does not outlive its value, and is only ever signalled by its own id.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use crate::door::Door;
use crate::host::Folder;
use crate::{eventually, within};

/// A process of `pointsman serve`.
pub struct Binary {
    /// What it was started from.
    pub folder: Folder,
    environment: Vec<(String, String)>,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    door: Door,
}

/// The binary's path.
pub fn executable() -> PathBuf {
    let own = std::env::current_exe().expect("a test has a file");
    // target/PROFILE/deps/TEST-HASH
    let path = own.parent().and_then(|deps| deps.parent()).expect("tests lie two folders deep").join("pointsman");
    assert!(path.is_file(), "{} is not there; run `tests/run`, or `cargo build --bin pointsman` first", path.display());
    path
}

/// Runs a command of the binary to its end: exit code, standard output, standard error.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    run_with(arguments, &[])
}

/// The same with these variables in its environment.
pub fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
    let output = Command::new(executable()).args(arguments).envs(environment.iter().copied()).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the binary prints UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

impl Binary {
    pub(crate) fn serve(
        folder: Folder,
        keys: BTreeMap<String, String>,
        environment: &[(&str, &str)],
        before: &str,
        files: (Stdio, Stdio),
    ) -> Self {
        let (child, log, address, admin) = Self::launch(&folder, environment, before, files);
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { folder, environment, child, log, door: Door { address, admin, keys } }
    }

    /// Ends the process as a signal does, and starts another one in the same folder, on other ports.
    pub fn restart(&mut self) {
        self.restart_after("TERM");
    }

    /// The same with another signal, such as `KILL`.
    pub fn restart_after(&mut self, signal: &str) {
        self.signal(signal);
        assert!(self.ends_within(crate::SOON).is_some(), "the process did not end");
        self.start_again();
    }

    /// Starts another one in the folder of one that has ended, on other ports.
    pub fn start_again(&mut self) {
        let environment: Vec<_> = self.environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let (child, log, address, admin) = Self::launch(&self.folder, &environment, "", (Stdio::null(), Stdio::null()));
        (self.child, self.log) = (child, log);
        (self.door.address, self.door.admin) = (address, admin);
    }

    fn launch(
        folder: &Folder,
        environment: &[(&str, &str)],
        before: &str,
        (stdin, stdout): (Stdio, Stdio),
    ) -> (Child, Arc<Mutex<Vec<String>>>, SocketAddr, SocketAddr) {
        // The shell becomes the binary, so that its id is the binary's.
        let mut child = Command::new("sh")
            .args(["-c", &format!("{before}\nexec \"$0\" serve --config \"$1\"")])
            .arg(executable())
            .arg(folder.config())
            .envs(environment.iter().copied())
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (log.clone(), child.stderr.take().expect("it is piped"));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().expect("nobody panics with it").push(line);
            }
        });
        let lines = || log.lock().expect("nobody panics with it").clone();
        let serving = |line: &String| {
            let line: Value = serde_json::from_str(line).ok().filter(|line: &Value| line["message"] == "serving")?;
            let address = |name: &str| line[name].as_str().and_then(|address| address.parse().ok());
            Some((address("address")?, address("admin")?))
        };
        let mut found = None;
        let _ = within(crate::SOON, || {
            found = lines().iter().find_map(serving);
            (found.is_some() || child.try_wait().is_ok_and(|ended| ended.is_some())).then_some(())
        });
        if found.is_none() {
            let _ = child.kill();
            let status = child.wait();
            // What it had to say is read to its end before it is judged: it may have served for a moment.
            let _ = reader.join();
            found = lines().iter().find_map(serving);
            assert!(found.is_some(), "the binary does not serve ({status:?}):\n{}", lines().join("\n"));
        }
        let (address, admin) = found.expect("it was looked for");
        (child, log, address, admin)
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell's own `kill`, so that no package and no unsafe code is needed.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.id())]).status().expect("there is a shell");
        assert!(sent.success(), "{name} could not be sent");
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Waits for its end. None: it still runs after `limit`.
    pub fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        within(limit, || self.ended())
    }

    /// Its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("nobody panics with it").clone()
    }

    /// Waits for a line of the log that has this in it.
    pub fn wait_for_log(&self, part: &str) -> String {
        eventually(&format!("{part:?} in the log"), || self.log().into_iter().find(|line| line.contains(part)))
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        // Counted page by page; `status` has counters that lag behind by megabytes.
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id())).expect("it runs");
        let line = rollup.lines().find(|line| line.starts_with("Rss:")).expect("Linux says so");
        let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
        kibibytes << 10
    }
}

impl Deref for Binary {
    type Target = Door;

    fn deref(&self) -> &Door {
        &self.door
    }
}

impl Drop for Binary {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let last = log.len().saturating_sub(40);
            eprintln!("the last lines of the binary's log:\n{}", log[last..].join("\n"));
        }
    }
}
