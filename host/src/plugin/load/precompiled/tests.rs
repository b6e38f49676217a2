//! The folder of compiled components: what is taken from it, what is not, and what goes.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use wasmtime::{Config, Engine};

use super::shelf::{Found, Shelf};
use super::{component, name};

/// The smallest component that there is.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A folder that is not made yet, in one that goes with the test.
fn folder() -> (TempDir, PathBuf) {
    let around = tempfile::tempdir().unwrap();
    let folder = around.path().join("pointsman/components");
    (around, folder)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Loads the component, and gives the file that it has in the folder.
fn load(engine: &Engine, folder: &Path) -> PathBuf {
    component(engine, EMPTY, Some(folder)).unwrap();
    folder.join(name(engine, EMPTY)).with_extension("cwasm")
}

#[test]
fn what_is_compiled_is_kept_and_taken() {
    let (_around, folder) = folder();
    let engine = Engine::default();
    let file = load(&engine, &folder);
    let (first, content) = (fs::metadata(&file).unwrap(), fs::read(&file).unwrap());
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700, "the folder is ours alone");
    assert_eq!(first.mode() & 0o777, 0o600);
    File::open(&file).unwrap().set_modified(SystemTime::now() - 20 * DAY).unwrap();
    load(&engine, &folder);
    let second = fs::metadata(&file).unwrap();
    assert_eq!((second.ino(), fs::read(&file).unwrap()), (first.ino(), content), "nobody has written it again");
    assert!(second.modified().unwrap().elapsed().unwrap() < DAY, "it has been used just now");
    assert_eq!(names(&folder).len(), 1);
}

/// Machine code of which a bit is wrong does anything at all; it must not even be looked at.
#[test]
fn what_is_damaged_is_compiled_anew() {
    let (_around, folder) = folder();
    let engine = Engine::default();
    let file = load(&engine, &folder);
    let good = fs::read(&file).unwrap();
    let shelf = Shelf::open(&folder).unwrap();
    let check = |what: &str, bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        assert_eq!(shelf.find(&file), Found::Damaged, "{what}");
        load(&engine, &folder);
        assert_eq!(shelf.find(&file), Found::Intact, "{what}");
        assert!(fs::read(&file).unwrap() == good, "{what}: the same component, the same code");
    };
    for length in [0, 1, 31, 32, 33, good.len() / 2, good.len() - 33, good.len() - 1] {
        check(&format!("cut at {length}"), &good[..length]);
    }
    for at in (0..good.len()).step_by(good.len() / 20).chain([good.len() - 1]) {
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        check(&format!("a bit of byte {at}"), &flipped);
    }
    // What a crash of the machine leaves of a file whose name reached the disk before its bytes.
    check("zeros", &vec![0; good.len()]);
    check("half of it zeros", &[&good[..good.len() / 2], &vec![0; good.len() - good.len() / 2]].concat());
    check("a byte more", &[&good[..], b"x"].concat());
    check("something else", b"#!/bin/sh\n");
}

#[test]
fn what_another_engine_compiled_is_not_taken() {
    let (_around, folder) = folder();
    let (ours, other) = (Engine::default(), Engine::new(Config::new().consume_fuel(true)).unwrap());
    assert_ne!(name(&ours, EMPTY), name(&other, EMPTY), "each has a file of its own");
    let file = load(&ours, &folder);
    let good = fs::read(&file).unwrap();
    // Even under our name, and as intact as can be.
    let theirs = load(&other, &folder);
    fs::rename(theirs, &file).unwrap();
    load(&ours, &folder);
    assert!(fs::read(&file).unwrap() == good);
    // The same goes for what wasmtime never wrote.
    Shelf::open(&folder).unwrap().keep(&file, b"no machine code").unwrap();
    load(&ours, &folder);
    assert!(fs::read(&file).unwrap() == good);
}

#[test]
fn a_folder_that_others_may_write_is_not_used() {
    let engine = Engine::default();
    for (mode, used) in [(0o700, true), (0o755, true), (0o770, false), (0o702, false), (0o777, false), (0o1777, false)] {
        let (_around, folder) = folder();
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        component(&engine, EMPTY, Some(&folder)).unwrap();
        assert_eq!(names(&folder).len(), usize::from(used), "{mode:o}");
    }
    // Somebody else's, or a way to somewhere else.
    let (around, folder) = folder();
    fs::create_dir_all(&folder).unwrap();
    // Only root can give a folder away; whoever else runs this finds one that is root's.
    let foreign = if chown(&folder, Some(12_345), None).is_ok() { folder } else { "/".into() };
    assert!(Shelf::open(&foreign).is_none());
    let (own, link) = (around.path().join("own"), around.path().join("link"));
    fs::create_dir(&own).unwrap();
    symlink(&own, &link).unwrap();
    assert!(Shelf::open(&link).is_none());
    // And none that cannot be made.
    fs::write(around.path().join("file"), b"").unwrap();
    component(&engine, EMPTY, Some(&around.path().join("file/components"))).unwrap();
}

#[test]
fn a_file_that_others_may_write_is_replaced() {
    let (_around, folder) = folder();
    let engine = Engine::default();
    let file = load(&engine, &folder);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(Shelf::open(&folder).unwrap().find(&file), Found::Nothing);
    load(&engine, &folder);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn what_nobody_uses_goes() {
    let (_around, folder) = folder();
    let shelf = Shelf::open(&folder).unwrap();
    let put = |name: &str, days: u32| {
        fs::write(folder.join(name), [0; 100]).unwrap();
        File::open(folder.join(name)).unwrap().set_modified(SystemTime::now() - days * DAY).unwrap();
    };
    let fill = || {
        for (name, days) in [("a.cwasm", 29), ("b.cwasm", 31), ("c.cwasm", 400), ("d.cwasm", 3), ("e.cwasm", 2)] {
            put(name, days);
        }
        put("f.0123.part", 1);
        put("g.0123.part", 0);
        put("notes.txt", 400);
    };
    fill();
    shelf.keep(&folder.join("new.cwasm"), b"code").unwrap();
    assert_eq!(names(&folder), ["a.cwasm", "d.cwasm", "e.cwasm", "g.0123.part", "new.cwasm", "notes.txt"]);
    // Beyond the bound those go first that were used least recently, and never the one that has just been put there.
    fill();
    put("new.cwasm", 400);
    shelf.tidy(&folder.join("new.cwasm"), SystemTime::now(), 350);
    assert_eq!(names(&folder), ["d.cwasm", "e.cwasm", "g.0123.part", "new.cwasm", "notes.txt"]);
    shelf.tidy(&folder.join("new.cwasm"), SystemTime::now(), 0);
    assert_eq!(names(&folder), ["g.0123.part", "new.cwasm", "notes.txt"]);
}

/// Two plugins of one component are loaded by two threads at once, and several processes start with one folder.
#[test]
fn many_at_once_leave_one_file() {
    let (_around, folder) = folder();
    let engine = Engine::default();
    let file = folder.join(name(&engine, EMPTY)).with_extension("cwasm");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for turn in 0..20 {
                    if turn % 5 == 0 {
                        // As another process does that tidies.
                        let _ = fs::remove_file(&file);
                    }
                    component(&engine, EMPTY, Some(&folder)).unwrap();
                    // Whoever looks sees a whole file or none.
                    assert_ne!(Shelf::open(&folder).unwrap().find(&file), Found::Damaged);
                }
            });
        }
    });
    load(&engine, &folder);
    assert_eq!(names(&folder), [file.file_name().unwrap().to_str().unwrap()]);
}
