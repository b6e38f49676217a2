//! The cache of compiled components, and the one place in the host that is `unsafe`.
//!
//! A precompiled component is native code: whoever can write the file can run code as the host. So it is loaded only from
//! a folder that is the host's own (`shelf`), under a name that is the digest of the component and of the compiler, and only
//! if it is to the last bit what was written: wasmtime looks at the file's head, and would run the rest whatever it is.
//!
//! What it does not do: it never loads native code that a user hands in; users hand in Wasm.
//!
//! **Invariant:** a file is mapped only if folder and file belong to this process's user and nobody else may write them.
//! **Invariant:** whatever is wrong with the cache, the component is compiled, as if there were none.

mod shelf;

use std::hash::Hash;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmtime::component::Component;

use super::effort;
use shelf::{Found, Shelf};

/// The component of `bytes`: from the cache folder if it is there, else compiled and left there for the next start.
pub(super) fn component(engine: &wasmtime::Engine, bytes: &[u8], folder: Option<&Path>) -> wasmtime::Result<Component> {
    let Some(shelf) = folder.and_then(Shelf::open) else { return compile(engine, bytes) };
    let file = shelf.file(&name(engine, bytes));
    match shelf.find(&file) {
        Found::Nothing => {}
        Found::Damaged => tracing::warn!(file = %file.display(), "a cached component is damaged; compiling anew"),
        Found::Intact => {
            #[allow(
                unsafe_code,
                reason = "native code from our own folder, named by what it was compiled from; see the head of this file"
            )]
            // SAFETY: the file is what `keep` below wrote, from wasmtime's own `serialize`, as its digest shows; it lies in a
            // folder that only this process's user can write, and is only ever replaced as a whole, never written in place;
            // wasmtime checks engine version and settings itself. What follows the code, the digest, it does not look at.
            let mapped = unsafe { Component::deserialize_file(engine, &file) };
            match mapped {
                Ok(component) => return Ok(component),
                Err(error) => tracing::warn!(file = %file.display(), %error, "a cached component is of no use; compiling anew"),
            }
        }
    }
    let component = compile(engine, bytes)?;
    if let Err(error) = component.serialize().and_then(|code| Ok(shelf.keep(&file, &code)?)) {
        tracing::warn!(file = %file.display(), %error, "a compiled component could not be cached");
    }
    Ok(component)
}

/// What was begun here could not be ended, so what would take too long is not begun.
fn compile(engine: &wasmtime::Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    effort::check(bytes)?;
    Component::new(engine, bytes)
}

/// SHA-256 of the component and of everything in the engine that shapes the machine code.
fn name(engine: &wasmtime::Engine, bytes: &[u8]) -> String {
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
    hash.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
