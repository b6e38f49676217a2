//! What is written is read again, and nothing else is.
//!
//! What it does not do: it asks no tier.
//!
//! **Invariant:** damage is any bit and any length; each is tried.

use proptest::prelude::*;

use super::*;
use crate::cache::key::KeyBuilder;

const NOW: u64 = 1_900_000_000_000;

fn text() -> impl Strategy<Value = String> {
    ".{0,40}"
}

fn entries() -> impl Strategy<Value = Entry> {
    let names = (text(), text(), proptest::option::of((text(), text())), prop::collection::vec(text(), 0..=MAX_TAGS));
    let body = (prop::collection::vec(any::<u8>(), 0..3_000), 0_usize..40, proptest::option::of(text()));
    // A year, in milliseconds.
    let times = (any::<u64>(), 0..31_536_000_000_u64, 0..31_536_000_000_u64, 0..NOW, any::<u32>(), any::<bool>());
    (names, body, times).prop_map(|(names, (answer, times_over, text), (stamp, ttl, stale, created_at, hits, is_near))| {
        let (tenant, model, prompt, tags) = names;
        let builder = KeyBuilder::new(&tenant);
        Entry {
            text: text.map(Into::into),
            partition: is_near.then(|| builder.partition()),
            tenant: tenant.as_str().into(),
            model: model.into(),
            prompt,
            tags: tags.into_iter().map(Into::into).collect(),
            ttl: Duration::from_millis(ttl),
            stale: Duration::from_millis(stale),
            stamp: Stamp(stamp),
            hits: AtomicU32::new(hits),
            // Answers say things several times, so that some are packed.
            ..Entry::new(builder.exact(), answer.repeat(times_over).into(), created_at)
        }
    })
}

/// All that is written down.
fn told(entry: &Entry) -> String {
    let Entry { key, answer, text, partition, tenant, model, prompt, tags, created_at, ttl, stale, stamp, hits, .. } = entry;
    format!("{:?}", (key, answer, text, partition, tenant, model, prompt, tags, created_at, (ttl, stale, stamp, hits)))
}

proptest! {
    #[test]
    fn what_is_written_is_read(entry in entries()) {
        let bytes = write(&entry);
        let read = read(&bytes, NOW).unwrap();
        prop_assert_eq!(told(&entry), told(&read));
        let head = head(&bytes).unwrap();
        prop_assert_eq!(head.whole(), bytes.len());
        prop_assert_eq!(head.about.key, entry.key);
    }

    /// Of anything at all, an entry is made or not; nothing else happens.
    #[test]
    fn anything_is_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes, NOW).is_none());
    }
}

fn samples() -> Vec<Vec<u8>> {
    let entry = |answer: Vec<u8>| Entry {
        text: Some("How do I reset my password?".into()),
        partition: Some(KeyBuilder::new("t").partition()),
        tenant: "t".into(),
        model: "small".into(),
        prompt: Some(("support".to_owned(), "3".to_owned())),
        tags: ["one".into(), "two".into()].into(),
        ttl: Duration::from_secs(60),
        ..Entry::new(KeyBuilder::new("t").exact(), answer.into(), NOW)
    };
    vec![write(&entry(b"plain".to_vec())), write(&entry(b"packed, ".repeat(100)))]
}

#[test]
fn every_flipped_bit_is_refused() {
    for bytes in samples() {
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&damaged, NOW).is_none(), "bit {bit} of {}", bytes.len() * 8);
        }
    }
}

#[test]
fn every_other_length_is_refused() {
    for bytes in samples() {
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length], NOW).is_none(), "{length} of {}", bytes.len());
        }
        assert!(read(&[&bytes[..], b"\0"].concat(), NOW).is_none());
    }
}

#[test]
fn another_version_is_no_entry() {
    for mut bytes in samples() {
        bytes[0] = VERSION + 1;
        let sum = checksum(&bytes[..5], &bytes[BEFORE..head_end(&bytes)]);
        bytes[5..BEFORE].copy_from_slice(&sum);
        assert!(read(&bytes, NOW).is_none(), "even where its checksum is right");
    }
}

fn head_end(bytes: &[u8]) -> usize {
    BEFORE + u32::from_le_bytes(bytes[1..5].try_into().unwrap()) as usize
}

#[test]
fn compression_pays_or_is_left_out() {
    let [plain, packed]: [Vec<u8>; 2] = samples().try_into().unwrap();
    assert_eq!((head(&plain).unwrap().packing, head(&packed).unwrap().packing), (PLAIN, LZ4));
    assert!(packed.len() < 500, "{}", packed.len());
    let mut noise = vec![0_u8; 4_096];
    noise.iter_mut().for_each(|byte| *byte = fastrand::u8(..));
    assert_eq!(pack(noise.clone()), (PLAIN, noise));
}

#[tokio::test(start_paused = true)]
async fn it_is_as_old_as_it_was() {
    let minute = Duration::from_secs(60);
    let entry = Entry { ttl: minute, stale: minute, ..Entry::new(KeyBuilder::new("t").exact(), Bytes::new(), NOW) };
    let bytes = write(&entry);
    let at = |seconds: u64| read(&bytes, NOW + seconds * 1_000).unwrap();
    assert_eq!((at(0).is_fresh(), at(0).left()), (true, 2 * minute));
    assert_eq!((at(59).is_fresh(), at(61).is_fresh()), (true, false));
    assert_eq!(at(90).left(), Duration::from_secs(30));
    assert_eq!(at(500).left(), Duration::ZERO);
}
