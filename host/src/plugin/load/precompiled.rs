//! The cache of compiled components, and the one place in the host that is `unsafe`.
//!
//! A precompiled component is native code: whoever can write the file can run code as the host. So it is loaded only from
//! a folder that is the host's own (mode 0700), under a name that is the digest of the component and of the compiler.
//!
//! What it does not do: it never loads native code that a user hands in; users hand in Wasm.
//!
//! **Invariant:** a file is mapped only if folder and file belong to this process's user and nobody else may write them.

use std::hash::Hash;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use crate::plugin::engine::Engine;

/// The component of `bytes`: from the cache folder if it is there, else compiled and left there for the next start.
pub(super) fn component(engine: &Engine, bytes: &[u8], folder: Option<&Path>) -> wasmtime::Result<Component> {
    let Some(file) = folder.and_then(own_folder).map(|folder| folder.join(name(engine, bytes))) else {
        return Component::new(engine, bytes);
    };
    if is_ours(&file) {
        #[allow(
            unsafe_code,
            reason = "native code from our own folder, named by what it was compiled from; see the head of this file"
        )]
        // SAFETY: the file was written by `keep` below, from wasmtime's own `serialize`, into a folder that only this
        // process's user can write; wasmtime checks engine version and settings itself.
        let mapped = unsafe { Component::deserialize_file(engine, &file) };
        match mapped {
            Ok(component) => return Ok(component),
            Err(error) => tracing::warn!(file = %file.display(), %error, "a cached component is damaged; compiling anew"),
        }
    }
    let component = Component::new(engine, bytes)?;
    if let Err(error) = keep(&component, &file) {
        tracing::warn!(file = %file.display(), %error, "a compiled component could not be cached");
    }
    Ok(component)
}

/// Writes beside and renames, so that nobody maps half a file.
fn keep(component: &Component, file: &Path) -> wasmtime::Result<()> {
    let beside = file.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&beside, component.serialize()?)?;
    std::fs::rename(&beside, file)?;
    Ok(())
}

/// SHA-256 of the component and of everything in the engine that shapes the machine code.
fn name(engine: &Engine, bytes: &[u8]) -> String {
    struct Into(Sha256);
    impl std::hash::Hasher for Into {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hash = Into(Sha256::new_with_prefix(bytes));
    engine.precompile_compatibility_hash().hash(&mut hash);
    let digits: String = hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    digits + ".cwasm"
}

fn own_folder(folder: &Path) -> Option<PathBuf> {
    if !folder.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()?;
    }
    if !is_ours(folder) {
        tracing::warn!(folder = %folder.display(), "others may write the component cache, so it is not used; `chmod 700` it");
        return None;
    }
    Some(folder.to_owned())
}

/// Belongs to this process's user, is no link, and nobody else may write it.
fn is_ours(path: &Path) -> bool {
    let own = std::fs::metadata("/proc/self").map(|own| own.uid());
    match (std::fs::symlink_metadata(path), own) {
        (Ok(found), Ok(own)) => !found.file_type().is_symlink() && found.uid() == own && found.mode() & 0o022 == 0,
        _ => false,
    }
}
