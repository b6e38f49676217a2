//! What a supervisor and the process tell one another: systemd's notifications, its watchdog, the sockets that it opens, its units.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tests::{Connection, FakeUpstream, Host, SOON, binary, eventually};

/// What systemd listens on.
struct Notifications {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Notifications {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { folder, socket }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// The next message, by its lines.
    fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("a notification comes");
        String::from_utf8_lossy(&bytes[..count]).lines().map(str::to_owned).collect()
    }

    fn is_empty(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        self.socket.recv(&mut [0]).is_err()
    }
}

#[test]
fn it_is_told_that_the_process_serves_reloads_and_stops() {
    let (fake, told) = (FakeUpstream::start(), Notifications::new());
    let mut host = Host::new().upstream(&fake).spawn_with(&[("NOTIFY_SOCKET", told.path().to_str().unwrap())]);
    assert_eq!(told.next(), ["READY=1"]);
    // A good reload and a bad one: the process serves after both.
    for text in ["# another comment\n", "nonsense\n"] {
        let before = host.folder.read("pointsman.toml");
        host.folder.write("pointsman.toml", format!("{text}{before}").as_bytes());
        let reloading = told.next();
        assert_eq!(reloading[0], "RELOADING=1");
        let time = reloading[1].strip_prefix("MONOTONIC_USEC=").and_then(|time| time.parse::<u64>().ok());
        assert!(time.is_some_and(|time| time > 0), "{reloading:?}");
        assert_eq!(told.next(), ["READY=1"]);
    }
    host.wait_for_log("the configuration before it stays in force");
    host.signal("TERM");
    assert_eq!(told.next(), ["STOPPING=1"]);
    assert_eq!(host.ends_within(SOON).expect("nothing is left").code(), Some(0));
    assert!(told.is_empty(), "the watchdog was not asked for");
}

#[test]
fn the_watchdog_is_told_that_the_process_lives() {
    let (fake, told) = (FakeUpstream::start(), Notifications::new());
    let line = format!("export NOTIFY_SOCKET={} WATCHDOG_USEC=100000 WATCHDOG_PID=$$", told.path().display());
    let host = Host::new().upstream(&fake).spawn_after(&line);
    let mut alive = 0;
    while alive < 5 {
        alive += usize::from(told.next() == ["WATCHDOG=1"]);
    }
    drop(host);
}

/// The new process says that it is the unit's main one; the old one says nothing of stopping, which would be the unit's end.
#[test]
fn it_is_told_who_has_taken_over() {
    let (fake, told) = (FakeUpstream::start(), Notifications::new());
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let host = Host::new().upstream(&fake).listen(&format!("handover = {:?}", folder.path().join("a.sock")));
        host.spawn_with(&[("NOTIFY_SOCKET", told.path().to_str().unwrap())])
    };
    let mut old = start();
    assert_eq!(told.next(), ["READY=1"]);
    let new = start();
    assert_eq!(told.next(), [format!("MAINPID={}", new.id()), "READY=1".to_owned()]);
    assert_eq!(old.ends_within(SOON).expect("nothing is left").code(), Some(0));
    assert!(told.is_empty());
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Sockets by name and by order. They outlive the process: whoever connects while nobody runs waits for the next.
#[test]
fn sockets_that_were_opened_for_it_are_served() {
    let fake = FakeUpstream::start();
    for (names, swapped) in
        [("http:admin", false), ("admin:http", true), ("", false), ("pointsman.socket:pointsman.socket", false)]
    {
        let (data, admin) = (listener(), listener());
        let addresses = (data.local_addr().unwrap(), admin.local_addr().unwrap());
        let pass = || {
            let (data, admin) = (data.try_clone().unwrap(), admin.try_clone().unwrap());
            if swapped { vec![admin, data] } else { vec![data, admin] }
        };
        // Its cores share the one socket.
        let mut host = Host::new().upstream(&fake).listen("threads = 3").spawn_activated(names, pass());
        assert_eq!((host.address, host.admin), addresses, "{names:?}");
        assert_eq!((host.chat("hi").status, host.admin("/readyz").status), (200, 200), "{names:?}");
        host.signal("TERM");
        assert_eq!(host.ends_within(SOON).expect("nothing is left").code(), Some(0));
        let mut early = Connection::open(addresses.0);
        early.write(&host.ask("early").bytes()).unwrap();
        let _next = Host::new().upstream(&fake).spawn_activated(names, pass());
        assert_eq!(early.answer().unwrap().status, 200, "{names:?}");
    }
}

/// With one socket alone the administrator's address is the configuration's. Sockets for another process are none of ours.
#[test]
fn sockets_are_for_whom_they_are_meant() {
    let fake = FakeUpstream::start();
    let data = listener();
    let address = data.local_addr().unwrap();
    let host = Host::new().upstream(&fake).spawn_activated("http", vec![data]);
    assert_eq!((host.address, host.chat("hi").status), (address, 200));
    assert_eq!(host.admin("/readyz").status, 200);
    let host = Host::new().upstream(&fake).spawn_with(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "1"), ("LISTEN_FDNAMES", "http")]);
    assert_eq!(host.chat("hi").status, 200);
}

/// The units in docs/operations.md, by the file names in their first lines, with our binary in the place of the installed one.
fn units(folder: &Path) -> Vec<PathBuf> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md")).unwrap();
    let blocks = page.split("```ini\n").skip(1).map(|block| block.split("```").next().unwrap().to_owned());
    let write = |block: String| {
        let name = block
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# /etc/systemd/system/"))
            .expect("a unit begins with its name");
        let path = folder.join(name);
        std::fs::write(&path, block.replace("/usr/bin/pointsman", binary::executable().to_str().unwrap())).unwrap();
        path
    };
    blocks.map(write).collect()
}

/// systemd itself reads the units, where it is installed; the commands in them are ones that the binary knows.
#[test]
fn the_units_in_the_documentation_are_good() {
    let folder = tempfile::tempdir().unwrap();
    let units = units(folder.path());
    let names: Vec<_> = units.iter().map(|unit| unit.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["pointsman.service", "pointsman.socket", "pointsman@.service"]);
    let mut commands = 0;
    for unit in units.iter().filter(|unit| unit.extension().is_some_and(|kind| kind == "service")) {
        let text = std::fs::read_to_string(unit).unwrap();
        assert!(text.lines().any(|line| line == "Type=notify"), "{text}");
        for line in text.lines().filter(|line| line.starts_with("ExecStart=")) {
            let words: Vec<&str> = line.split('=').nth(1).unwrap().split(' ').skip(1).collect();
            assert_eq!(words, ["serve", "--config", "/etc/pointsman/pointsman.toml"], "{line}");
            commands += 1;
        }
    }
    assert_eq!(commands, 2);
    match Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no"]).args(&units).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains(folder.path().to_str().unwrap()), "{said}");
        }
        Err(error) => println!("systemd-analyze is not here ({error}); the units were not read by systemd"),
    }
}

/// A process that the supervisor waits for tells it in time, also where it waits for its turn to take over.
#[test]
fn readiness_is_told_only_when_it_is_true() {
    let (fake, told) = (FakeUpstream::start(), Notifications::new());
    let folder = tempfile::tempdir().unwrap();
    // Somebody accepts and says nothing: the process may not say that it serves.
    let place = folder.path().join("a.sock");
    let silent = std::os::unix::net::UnixListener::bind(&place).unwrap();
    let host = Host::new().upstream(&fake).listen(&format!("handover = {place:?}"));
    let path = told.path();
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| host.spawn_with(&[("NOTIFY_SOCKET", path.to_str().unwrap())]));
        let (stream, _) = silent.accept().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        assert!(told.is_empty(), "it does not serve yet");
        // It goes, and the place is free.
        drop(silent);
        drop(stream);
        assert_eq!(starting.join().unwrap().chat("hi").status, 200);
    });
    eventually("the word", || (!told.is_empty()).then_some(()));
}
