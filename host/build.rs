//! Puts the SDKs and the contract into the binary, as text: `pointsman plugin new` and `plugin build` write them where they are needed, so that
//! a binary alone is enough to begin with.
//!
//! Every file below `sdk/` and `wit/` is in it, but for what is built, what belongs to a test, and what is hidden (a template's own
//! hidden files are not).
//!
//! **Invariant:** the order of the files is that of their names, so that the same tree makes the same binary.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Folders that are made by builds and tests, or are for those who work on the SDK.
const LEFT_OUT: [&str; 6] = ["target", "node_modules", "tests", "__pycache__", "dist", "build"];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..").canonicalize()?;
    let mut files = Vec::new();
    for folder in ["sdk", "wit"] {
        gather(&root.join(folder), &mut files)?;
    }
    files.sort();
    let mut code =
        String::from("/// Path below the repository's root, and text.\npub(super) static FILES: &[(&str, &str)] = &[\n");
    for file in &files {
        let name = file.strip_prefix(&root)?.to_str().ok_or("a file's name is not UTF-8")?;
        writeln!(code, "    ({name:?}, include_str!({:?})),", file.to_str().unwrap_or_default())?;
    }
    code.push_str("];\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("embedded.rs"), code)?;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "this is how cargo is told")]
fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    // A file that comes or goes changes the folder, so each folder is watched and not only the files.
    println!("cargo::rerun-if-changed={}", folder.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).ok_or("a file's name is not UTF-8")?;
        let is_template = folder.components().any(|part| part.as_os_str() == "template");
        if (name.starts_with('.') && !is_template) || name.ends_with(".wasm") || name == "Cargo.lock" {
            continue;
        }
        if path.is_dir() {
            if !LEFT_OUT.contains(&name) {
                gather(&path, files)?;
            }
        } else {
            println!("cargo::rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(())
}
