//! The folder of compiled components, as processes use it that start one after the other, or at once: what was compiled is taken, and
//! nothing that could be there keeps a host from serving or has it run what nobody compiled.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tests::{Binary, FakeUpstream, Host, Plugin, guests};

/// A cache folder of the user's, and pointsman's place in it, which is not there yet.
fn folder() -> (TempDir, PathBuf) {
    let user = tempfile::tempdir().unwrap();
    let own = user.path().join("pointsman/components");
    (user, own)
}

/// A host with the plugin that says its revision.
fn start(fake: &FakeUpstream, user: &TempDir, revision: u32) -> Binary {
    let host = Host::new()
        .upstream(fake)
        .plugin(Plugin::new("router", guests::router(revision)).hooks("\"routing\"").set("deadline = \"500ms\""));
    host.spawn_with(&[("XDG_CACHE_HOME", user.path().to_str().unwrap())])
}

/// The revision that decides about requests.
fn revision(host: &Binary) -> u32 {
    let answer = host.chat("which?");
    let reason = answer.header("x-pointsman-reason").unwrap_or_else(|| panic!("no plugin decides: {}", answer.text()));
    reason.trim_start_matches("revision ").parse().unwrap()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// What shows that it is the file that runs: another component's code, put in its place, decides.
#[test]
fn the_second_start_takes_what_the_first_has_compiled() {
    let fake = FakeUpstream::start();
    let (user, own) = folder();
    assert_eq!(revision(&start(&fake, &user, 1)), 1);
    let first = files(&own);
    assert_eq!((first.len(), mode(&own), mode(&first[0])), (1, 0o700, 0o600));
    assert_eq!(revision(&start(&fake, &user, 2)), 2);
    let second = files(&own).into_iter().find(|file| *file != first[0]).expect("each component has its own");
    let code = fs::read(&second).unwrap();
    assert_eq!(revision(&start(&fake, &user, 2)), 2);
    assert!(fs::read(&second).unwrap() == code);
    fs::rename(&second, &first[0]).unwrap();
    assert_eq!(revision(&start(&fake, &user, 1)), 2, "whoever may write this folder decides: so nobody else may");
}

/// Files were taken as they lay there once their heads were sound. Where a disk or a crash of the machine had changed a bit behind
/// the head, the host ran that, and died of it at each start until somebody emptied the folder.
#[test]
fn a_damaged_file_is_compiled_anew() {
    let fake = FakeUpstream::start();
    let (user, own) = folder();
    drop(start(&fake, &user, 7));
    let file = files(&own).remove(0);
    let good = fs::read(&file).unwrap();
    // Machine code alone, in the middle of the file: what wasmtime itself looks at is sound. Then half a file, and none.
    let mut inside = good.clone();
    inside[good.len() / 4..good.len() / 2].iter_mut().step_by(3).for_each(|byte| *byte ^= 0x11);
    for damaged in [&inside[..], &good[..good.len() / 2], b""] {
        fs::write(&file, damaged).unwrap();
        let host = start(&fake, &user, 7);
        assert_eq!(revision(&host), 7);
        host.wait_for_log("a cached component is damaged");
        assert!(fs::read(&file).unwrap() == good, "it is as it was");
        assert_eq!(files(&own).len(), 1);
    }
}

#[test]
fn a_folder_that_others_may_write_is_left_alone() {
    let fake = FakeUpstream::start();
    let (user, own) = folder();
    fs::create_dir_all(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
    let host = start(&fake, &user, 3);
    assert_eq!((revision(&host), files(&own).len()), (3, 0));
    host.wait_for_log("others may write the component cache");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!((revision(&start(&fake, &user, 3)), files(&own).len()), (3, 1));
}

/// Nodes of one machine share the folder, and their first start is the same moment.
#[test]
fn several_processes_share_the_folder() {
    let fake = FakeUpstream::start();
    let (user, own) = folder();
    std::thread::scope(|scope| {
        let starting: Vec<_> = (0..4).map(|_| scope.spawn(|| start(&fake, &user, 5))).collect();
        for host in starting {
            let host = host.join().unwrap();
            assert_eq!(revision(&host), 5);
            assert!(!host.log().iter().any(|line| line.contains("cached component")), "{:?}", host.log());
        }
    });
    let file = files(&own);
    assert_eq!(file.len(), 1, "{file:?}");
    // One takes the file away while others run from it: they go on.
    let host = start(&fake, &user, 5);
    fs::remove_file(&file[0]).unwrap();
    assert_eq!(revision(&host), 5);
}
