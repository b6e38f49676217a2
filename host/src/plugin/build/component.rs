//! From what a toolchain has made to a component's file.
//!
//! What it does not do: it adds nothing to cargo's core module. The contract is already in it, written by the SDK, and only what the code
//! calls becomes an import.
//!
//! **Invariant:** what is written has been validated, and has a hook.

use std::io::Write as _;
use std::path::Path;

use wit_component::ComponentEncoder;

use crate::plugin::inspect;

/// The component around a core module; the error is for the plugin's author.
pub(super) fn wrap(core: &[u8]) -> Result<Vec<u8>, String> {
    let unfit = |error: anyhow::Error| {
        format!("its module cannot be made a component: {error:#}; build against the SDK of this host alone")
    };
    let bytes =
        ComponentEncoder::default().validate(true).module(core).and_then(|mut encoder| encoder.encode()).map_err(unfit)?;
    if read_back(&bytes)?.hooks.is_empty() {
        return Err("it exports no hook; write `pointsman_plugin::export!(TYPE: HOOK);` in its src/lib.rs".to_owned());
    }
    Ok(bytes)
}

/// A component that another tool has made.
pub(super) fn checked(bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    match read_back(&bytes)?.problems.first() {
        Some(problem) => Err(format!("the component {problem}")),
        None => Ok(bytes),
    }
}

fn read_back(bytes: &[u8]) -> Result<inspect::Inspection, String> {
    inspect::of(bytes).map_err(|error| format!("the component cannot be read back: {error}"))
}

/// Puts the component in its place; true if it is another one than was there.
pub(super) fn write(file: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    if std::fs::read(file).is_ok_and(|before| before == bytes) {
        return Ok(false);
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Hidden, with a name of its own and not ending in `.wasm`: whoever watches or lists components does not meet it.
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let written = std::fs::File::create(&beside)
        .and_then(|mut handle| handle.write_all(bytes).and_then(|()| handle.sync_all()))
        .and_then(|()| std::fs::rename(&beside, file));
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written.map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_only_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one.wasm");
        assert!(write(&file, b"first").unwrap());
        let inode = |file: &Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(file).unwrap());
        let before = inode(&file);
        assert!(!write(&file, b"first").unwrap());
        assert_eq!(inode(&file), before, "the same bytes are not written again");
        assert!(write(&file, b"second").unwrap());
        assert_ne!(inode(&file), before, "other bytes come as a whole new file");
        assert_eq!(std::fs::read(&file).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert!(write(Path::new("/nowhere/at/all.wasm"), b"").is_err());
    }

    #[test]
    fn a_module_without_hooks_is_refused() {
        assert!(wrap(b"\0asm\x01\0\0\0").unwrap_err().contains("export!"));
        assert!(wrap(b"no module").unwrap_err().contains("cannot be made a component"));
    }
}
