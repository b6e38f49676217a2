//! Files of the disk tier that are not as they were written: flipped bits and cuts, anywhere.
//!
//! **Invariant:** an entry is as it was, or it is a miss; and where any that was acknowledged is missing, there is an alert.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pointsman::cache::Entry;
use pointsman::cache::purge::Purges;
use pointsman::cache::tier::Tier;
use pointsman::cache::tier::disk::{Disk, Settings};
use tests::{FakeUpstream, Host, SOON, eventually};

use crate::contract::{entry, key, now, until};

const ENTRIES: usize = 300;
const PLACES: usize = 200;

fn open(path: &Path) -> Arc<Disk> {
    let settings = Settings { path: path.to_owned(), size: 1 << 30, deadline: SOON };
    let tier = Arc::new(Disk::new(settings, Arc::<Purges>::default()));
    tier.start();
    tier
}

fn name(index: usize) -> String {
    format!("entry-{index}")
}

/// The entries' answers: bytes that no compression shortens, so that there are tables beside the journal.
fn answers() -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut answer = || {
        let mut bytes = vec![0; random.usize(100..80_000)];
        random.fill(&mut bytes);
        bytes
    };
    (0..ENTRIES).map(|_| answer()).collect()
}

/// In memory where that can be had: two hundred copies of a whole tier need no disk.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).unwrap().flatten() {
        let path = item.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap().flatten() {
        let (path, target) = (item.path(), to.join(item.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Flips a bit of a file, or cuts it. Says what it did.
fn damage(folder: &Path, random: &mut fastrand::Rng) -> String {
    let files: Vec<PathBuf> = files(folder).into_iter().filter(|file| fs::metadata(file).unwrap().len() > 0).collect();
    let file = &files[random.usize(..files.len())];
    let mut bytes = fs::read(file).unwrap();
    // Beginnings and ends of files say most.
    let edge = bytes.len().min(200);
    let at = match random.u8(..3) {
        0 => random.usize(..bytes.len()),
        1 => random.usize(..edge),
        _ => bytes.len() - 1 - random.usize(..edge),
    };
    let flips = random.bool();
    if flips {
        bytes[at] ^= 1 << random.u8(..8)
    } else {
        bytes.truncate(at)
    }
    fs::write(file, &bytes).unwrap();
    let what = if flips { "a bit flipped" } else { "cut" };
    format!("{} {what} at {at}", file.strip_prefix(folder).unwrap().display())
}

async fn filled(path: &Path, answers: &[Vec<u8>]) {
    let tier = open(path);
    until("it is open", async || tier.numbers().unwrap().is_up()).await;
    for (index, answer) in answers.iter().enumerate() {
        let long = Duration::from_secs(3600);
        tier.put(&Arc::new(Entry { answer: answer.clone().into(), ..entry(&name(index), 1, long) }));
        if index % 20 == 0 {
            tier.settle(SOON).await;
        }
    }
    tier.settle(SOON).await;
    assert_eq!(tier.numbers().unwrap().written.get(), ENTRIES as u64);
    drop(tier);
    // It ends on a thread of its own.
    until("it is closed", async || !is_locked(path)).await;
}

fn is_locked(path: &Path) -> bool {
    let lock = fs::File::open(path.join("1/lock")).unwrap();
    lock.try_lock().is_err()
}

#[test]
fn flips_and_cuts_are_survived_with_an_alert() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (folder, answers) = (folder(), answers());
    let whole = folder.path().join("whole");
    runtime.block_on(filled(&whole, &answers));
    let tables = files(&whole).iter().filter(|file| file.components().any(|part| part.as_os_str() == "tables")).count();
    assert!(tables >= 1, "all is in the journal: {:?}", files(&whole));
    let mut random = fastrand::Rng::with_seed(7);
    let (mut alerts, mut unharmed) = (0, 0);
    for place in 0..PLACES {
        let path = folder.path().join(place.to_string());
        copy(&whole, &path);
        let what = damage(&path, &mut random);
        if runtime.block_on(survived(&path, &answers, &what)) {
            alerts += 1
        } else {
            unharmed += 1
        }
        // It is closed behind our backs, so that it may not be all yet.
        let _ = fs::remove_dir_all(&path);
    }
    eprintln!("{PLACES} places: {alerts} alerts; {unharmed} where nothing was missing");
    assert!(alerts >= PLACES / 3, "{alerts}");
}

/// Whether there was an alert.
async fn survived(path: &Path, answers: &[Vec<u8>], what: &str) -> bool {
    let tier = open(path);
    let numbers = || tier.numbers().unwrap();
    until(&format!("{what}: it is open"), async || numbers().is_up()).await;
    let mut missing = 0;
    for (index, answer) in answers.iter().enumerate() {
        match tier.get(&key(&name(index)), 0).await {
            None => missing += 1,
            Some(found) => assert!(*found.answer == *answer, "{what}: {}", name(index)),
        }
    }
    if missing > 0 {
        until(&format!("{what}: {missing} are missing, and nobody says so"), async || numbers().begun_anew.get() > 0).await;
    }
    until(&format!("{what}: it is open again"), async || numbers().is_up()).await;
    // It goes on.
    let tries = async || {
        tier.put(&Arc::new(Entry { created_at: now(), ..entry("later", 1, Duration::from_secs(60)) }));
        tier.settle(SOON).await;
        tier.get(&key("later"), 0).await.is_some()
    };
    until(&format!("{what}: it takes entries"), tries).await;
    numbers().begun_anew.get() > 0
}

#[test]
fn the_host_starts_and_serves_whatever_its_files_are() {
    let fake = FakeUpstream::start();
    let mut host = Host::new().upstream(&fake).section("[cache]\n[cache.disk]\npath = \"kept\"\ndeadline = \"10s\"").spawn();
    let mut random = fastrand::Rng::with_seed(11);
    let mut alerts = 0;
    for round in 0..8 {
        crate::up(&host, "disk");
        for index in 0..20 {
            assert_eq!(host.chat(&format!("round {round}, question {index}")).status, 200);
        }
        crate::written(&host, "disk");
        host.signal("KILL");
        assert!(host.ends_within(SOON).is_some());
        let what = damage(&host.folder.path("kept"), &mut random);
        host.start_again();
        assert_eq!(host.chat("hi").status, 200, "{what}");
        crate::up(&host, "disk");
        let missing = (0..20).filter(|index| host.chat(&format!("round {round}, question {index}")).cache() != "exact").count();
        let alerted = || host.metrics().sum("pointsman_cache_begun_anew_total", &["tier=\"disk\""]) > 0.0;
        if missing > 0 {
            eventually(&format!("{what}: an alert"), || alerted().then_some(()));
            host.wait_for_log("the cache's disk is damaged");
        }
        alerts += usize::from(alerted());
    }
    eprintln!("8 starts with damaged files: {alerts} alerts");
}
