//! `pointsman cache export` and `cache import`: a cache's entries out of one node into a file, and out of a file into another node.
//!
//! What it does not do: it reads no entry; nodes write and read them (`cache/carry`).
//!
//! **Invariant:** a file has its name when all of it is there.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use http::Method;

use super::Failed;
use crate::cache::carry::{self, END, MAGIC};
use crate::cli::node::Node;

/// Bytes of entries that are sent at a time; a node takes no more in one request.
const AT_ONCE: usize = 1 << 20;
/// What it says of them.
const COUNTS: [&str; 6] = ["taken", "known", "over", "purged", "too_large", "lost"];

/// Where to.
#[derive(clap::Args)]
pub(in crate::cli) struct Export {
    /// The file; one that is there is replaced. Nobody but you may read it
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    node: Node,
}

/// Where from.
#[derive(clap::Args)]
pub(in crate::cli) struct Import {
    /// A file that `pointsman cache export` has written
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    node: Node,
}

pub(super) fn export(arguments: &Export) -> Result<String, Failed> {
    let Export { out, node } = arguments;
    let part = out.with_added_extension("part");
    let cannot = |error: std::io::Error| Failed::input(format!("{} cannot be written: {error}", part.display()));
    let opened = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part).map_err(cannot)?;
    let (mut file, mut bytes, mut last) = (BufWriter::new(opened), 0, Vec::new());
    let written = node.read(Method::GET, "/api/cache/export", Bytes::new(), &mut |part| {
        bytes += part.len();
        last.extend_from_slice(&part[part.len().saturating_sub(END.len())..]);
        last.drain(..last.len().saturating_sub(END.len()));
        file.write_all(part).map_err(|error| error.to_string())
    });
    let kept = written.map_err(Failed::system).and_then(|address| {
        if last != END {
            return Err(Failed::system(format!("{address} could not say all that it has; its log says why")));
        }
        file.into_inner().map_err(|error| error.into_error()).and_then(|file| file.sync_all()).map_err(cannot)?;
        std::fs::rename(&part, out).map_err(cannot)
    });
    if kept.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    kept.map(|()| format!("{}: {bytes} bytes\n", out.display()))
}

pub(super) fn import(arguments: &Import) -> Result<String, Failed> {
    let Import { file, node } = arguments;
    let named = |reason: &str| Failed::input(format!("{}: {reason}", file.display()));
    let mut source = BufReader::new(File::open(file).map_err(|error| named(&error.to_string()))?);
    let mut begin = [0; MAGIC.len()];
    if source.read_exact(&mut begin).is_err() || begin != MAGIC {
        return Err(named("is no file of `pointsman cache export`, or of another version"));
    }
    let (mut batch, mut counts, mut left_out) = (Vec::new(), [0; COUNTS.len()], 0);
    let ended = loop {
        let record = match carry::next(&mut source) {
            Ok(Some(record)) => record,
            Ok(None) => break Ok(()),
            Err(error) => break Err(named(&error.to_string())),
        };
        if record.len() > AT_ONCE {
            left_out += 1;
            continue;
        }
        if batch.len() + record.len() > AT_ONCE {
            send(node, std::mem::take(&mut batch), &mut counts)?;
        }
        batch.extend(record);
    };
    send(node, batch, &mut counts)?;
    ended?;
    let [taken, known, over, purged, too_large, lost] = counts;
    let mut said = format!(
        "{taken} entries taken in, {known} known already, {over} over, {purged} purged here since they were made, {} too large\n",
        too_large + left_out
    );
    if lost > 0 {
        said.push_str(&format!("{lost} times Redis or the disk has not taken one: those are in memory alone\n"));
    }
    Ok(said)
}

fn send(node: &Node, records: Vec<u8>, counts: &mut [u64; COUNTS.len()]) -> Result<(), Failed> {
    let said = node.send(Method::POST, "/api/cache/import", records.into()).map_err(Failed::system)?;
    for (count, name) in counts.iter_mut().zip(COUNTS) {
        *count += said[name].as_u64().unwrap_or_default();
    }
    Ok(())
}
