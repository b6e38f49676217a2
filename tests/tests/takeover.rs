//! A new process takes over from one that runs: the sockets go from one to the other, and nobody who connects or waits for an answer
//! notices. Whatever keeps the new one from serving leaves the one before it as it was.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tests::h2::Session;
use tests::{Act, Binary, Connection, Door, FakeUpstream, Gate, Host, SOON, eventually, sse};

/// A folder with the place in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("handover.sock")
    }

    /// A host that hands over here, and takes over from whoever does.
    fn host(&self, fake: &FakeUpstream) -> Host {
        Host::new().upstream(fake).listen("drain = \"60s\"").listen(&format!("handover = {:?}", self.path()))
    }
}

fn lost(path: &Path) -> bool {
    UnixStream::connect(path).is_err()
}

/// Clients that connect anew for each request, and ask while `work` goes on. None may be turned away. Gives how many were answered.
fn under_load(door: &Door, work: impl FnOnce()) -> usize {
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..16 {
            let (stop, answered) = (&stop, &answered);
            scope.spawn(move || {
                while !stop.load(Ordering::SeqCst) {
                    let ask = door.ask("hi");
                    let ask = if client % 2 == 0 { ask.streamed() } else { ask };
                    let answer = ask.try_send().unwrap_or_else(|error| panic!("client {client} was turned away: {error}"));
                    assert_eq!((answer.status, answer.whole), (200, true), "{}", answer.text());
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::SeqCst);
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    answered.into_inner()
}

/// Eight processes one after the other, under load, with as many cores, more, and fewer.
#[test]
fn nobody_is_turned_away() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    let first = place.host(&fake).spawn();
    let door = Door::clone(&first);
    let mut running = first;
    let answered = under_load(&door, || {
        for threads in [2, 3, 1, 4, 2, 2, 1] {
            let new = place.host(&fake).listen(&format!("threads = {threads}")).spawn();
            assert_eq!((new.address, new.admin), (door.address, door.admin), "the same sockets");
            assert!(new.wait_for_log("\"serving\"").contains(&format!("\"after\":{}", running.id())));
            let mut old = std::mem::replace(&mut running, new);
            assert_eq!(old.ends_within(SOON).expect("the old one drains").code(), Some(0));
            let drained = old.wait_for_log("\"drained\"");
            assert!(drained.contains("\"cut\":0"), "{drained}");
            // The administrator's address is the new one's alone.
            assert_eq!(running.admin("/readyz").status, 200);
        }
    });
    assert!(answered > 100, "{answered} requests are no load");
    assert!(!lost(&place.path()), "an old process has taken the new one's socket away");
}

#[test]
fn streams_end_with_their_process_and_idle_connections_are_told() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    let mut old = place.host(&fake).spawn();
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(300, &gate)).next(Act::answer().hold_at(300, &gate));
    let mut stream = Connection::open(old.address);
    stream.write(&old.ask("a stream").streamed().bytes()).unwrap();
    let mut session = Session::plain(old.address);
    let second = session.begin(r#"{"model":"small","stream":true,"messages":[{"role":"user","content":"hi"}]}"#);
    eventually("both streams", || (fake.active() == 2).then_some(()));
    let mut idle = Connection::open(old.address);
    assert_eq!(idle.exchange(&old.ask("hi").model("none").bytes()).unwrap().status, 404);

    let new = place.host(&fake).spawn();
    assert!(idle.closed_within(SOON).is_some(), "an idle connection is closed");
    assert_eq!(new.chat("hi").status, 200);
    assert_eq!(old.ended(), None, "the old one waits for its streams");
    assert!(old.wait_for_log("\"draining\"").contains(&format!("\"successor\":{}", new.id())));
    gate.open();
    let answer = stream.answer().unwrap();
    assert!(answer.whole && sse::is_done(&answer.body));
    assert!(session.finish(second).ends_with("data: [DONE]\n\n"));
    assert_eq!(old.ends_within(SOON).expect("nothing is left").code(), Some(0));
}

/// A process that takes the sockets and goes: by a bad configuration, by a crash before it serves, by nonsense.
#[test]
fn a_process_that_cannot_start_changes_nothing() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    let host = place.host(&fake).spawn();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bad = place.host(&fake).listen(&format!("address = \"{}\"", taken.local_addr().unwrap()));
    let answered = under_load(&host, || {
        // It reads well, it asks for the sockets, and then its own address is somebody else's.
        let error = bad.try_start().err().expect("the address is in use").to_string();
        assert!(error.contains("listen on"), "{error}");
        host.wait_for_log("a process did not take over; this one goes on");
        for words in [&b""[..], b"x", b"g"] {
            let mut stream = UnixStream::connect(place.path()).unwrap();
            stream.write_all(words).unwrap();
            drop(stream);
        }
    });
    assert!(answered > 0);
    assert_eq!((host.chat("hi").status, host.admin("/readyz").status), (200, 200));
    let new = place.host(&fake).spawn();
    assert_eq!(new.address, host.address, "and the next one takes over");
}

/// Several start at once: one after the other takes over, and in the end one is left. First where nobody runs, then where one does.
#[test]
fn of_those_that_start_at_once_one_is_left() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    let mut all: Vec<Binary> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(|| place.host(&fake).spawn())).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let address = all[0].address;
    assert!(all.iter().all(|host| host.address == address), "one port, whoever was first");
    eventually("three of them end", || (all.iter_mut().filter_map(Binary::ended).count() == 3).then_some(()));
    all.retain_mut(|host| host.ended().is_none());
    let left = &all[0];
    assert_eq!(left.chat("hi").status, 200);
    assert!(!lost(&place.path()));
}

#[test]
fn what_a_crash_has_left_is_no_obstacle_and_an_end_leaves_nothing() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    // A socket without a process behind it.
    drop(UnixListener::bind(place.path()).unwrap());
    let mut host = place.host(&fake).spawn();
    assert_eq!(place.path().metadata().unwrap().mode() & 0o777, 0o600);
    host.signal("KILL");
    host.ends_within(SOON).expect("nobody survives that");
    assert!(place.path().exists() && lost(&place.path()));
    let mut host = place.host(&fake).spawn();
    assert_eq!(host.chat("hi").status, 200);
    host.signal("TERM");
    host.ends_within(SOON).expect("nothing is left");
    assert!(!place.path().exists(), "an orderly end leaves no socket");
}

/// Another address in the new configuration: the new process binds its own, and the old one goes all the same.
#[test]
fn another_address_is_taken_with_the_process() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    let mut old = place.host(&fake).spawn();
    let new = place.host(&fake).listen("address = \"127.0.0.2:0\"").spawn();
    new.wait_for_log("nobody will listen there any more");
    assert_eq!(new.chat("hi").status, 200);
    assert_eq!(old.ends_within(SOON).expect("it drains").code(), Some(0));
    assert!(Connection::try_open(old.address).is_err());
    assert_eq!(old.admin, new.admin, "the administrator's address was the same");
}

/// A drain that began by itself does not stand in a new one's way: it does not wait for the old one's streams.
#[test]
fn a_process_that_drains_already_is_not_waited_for() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    let mut old = place.host(&fake).spawn();
    let gate = Gate::new();
    fake.next(Act::answer().hold_at(300, &gate));
    let mut stream = Connection::open(old.address);
    stream.write(&old.ask("a stream").streamed().bytes()).unwrap();
    eventually("a stream", || (fake.active() == 1).then_some(()));
    old.signal("TERM");
    old.wait_for_log("\"draining\"");
    let new = place.host(&fake).spawn();
    assert_eq!((new.chat("hi").status, old.ended()), (200, None));
    gate.open();
    assert!(sse::is_done(&stream.answer().unwrap().body));
    old.ends_within(SOON).expect("its stream was the last");
    assert!(!lost(&place.path()), "the old one's end has taken the new one's socket away");
}

/// The folder must be one that nobody else may write: whoever can put a socket there could take the port.
#[test]
fn a_folder_that_others_may_write_is_refused() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    std::fs::set_permissions(place.folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let error = place.host(&fake).try_start().err().expect("it does not start").to_string();
    assert!(error.contains("nobody else may write"), "{error}");
}

/// Somebody who answers there and says nothing that is understood: the process says so, and does not serve beside it.
#[test]
fn a_process_of_another_version_is_not_pushed_aside() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    let other = UnixListener::bind(place.path()).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = other.accept().unwrap();
        stream.write_all(b"9").unwrap();
        std::thread::sleep(Duration::from_millis(100));
    });
    let error = place.host(&fake).try_start().err().expect("it does not start").to_string();
    assert!(error.contains("another way than this version"), "{error}");
    answering.join().unwrap();
}

/// Each connection that came to nothing was a line in the log, and one that said nothing kept the next one waiting for half a minute.
#[test]
fn who_says_nothing_or_nonsense_neither_fills_the_log_nor_stands_in_the_way() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    let mut old = place.host(&fake).spawn();
    for _ in 0..300 {
        let mut stream = UnixStream::connect(place.path()).unwrap();
        let _ = stream.write_all(b"x");
    }
    // Each is served after those before it.
    let silent: Vec<UnixStream> = (0..20).map(|_| UnixStream::connect(place.path()).unwrap()).collect();
    let new = place.host(&fake).spawn();
    assert_eq!(new.address, old.address);
    assert_eq!(old.ends_within(SOON).expect("it drains").code(), Some(0));
    let lines = old.log().iter().filter(|line| line.contains("a process did not take over")).count();
    assert!((1..=12).contains(&lines), "{lines} lines");
    // Sockets that were sent to somebody who does not listen stayed open with nobody behind them when the process had ended.
    for mut silent in silent {
        silent.set_read_timeout(Some(SOON)).unwrap();
        let mut heard = Vec::new();
        assert!(silent.read_to_end(&mut heard).is_ok() && heard.is_empty(), "{heard:?}");
    }
}

/// The last word has the lock with it. It was not looked whether it arrives: a process that died just then left nobody behind who serves.
#[test]
fn a_process_that_dies_with_the_lock_has_taken_nothing_over() {
    let (fake, place) = (FakeUpstream::start(), Place::new());
    let mut old = place.host(&fake).spawn();
    let mut dies = UnixStream::connect(place.path()).unwrap();
    dies.set_read_timeout(Some(SOON)).unwrap();
    dies.write_all(b"h").unwrap();
    let mut word = [0];
    // What comes with a word is closed by the system where nobody asks for it.
    while word != *b"." {
        dies.read_exact(&mut word).unwrap();
    }
    dies.write_all(b"r").unwrap();
    dies.read_exact(&mut word).unwrap();
    assert_eq!(word, *b"g");
    drop(dies);
    old.wait_for_log("it has died with the last word on its way");
    assert_eq!((old.chat("hi").status, old.admin("/readyz").status, old.ended()), (200, 200, None));
    let new = place.host(&fake).spawn();
    assert_eq!(new.address, old.address, "and the next one takes over");
    assert_eq!(old.ends_within(SOON).expect("it drains").code(), Some(0));
    assert!(!lost(&place.path()));
}
