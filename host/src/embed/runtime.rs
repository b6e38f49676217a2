//! Which onnxruntime is there, asked before it is set up: one older than 1.24 can hang while `ort` initialises it.
//!
//! Looked for in this order: what the configuration names, ORT_DYLIB_PATH, beside the model, where `pointsman model install` has put it, and
//! the system's own.
//!
//! The second and last place in the host that is `unsafe`: a shared library is opened and one function of its stable C
//! interface is called. It is the library that `ort` would open anyway. (The version could be read from the file's name, but a name is no
//! promise; a child process that asks would open it all the same, and could not be waited for in a sandbox that forbids them.)
//!
//! **Invariant:** the library stays loaded: what is asked here is what `ort` gets afterwards. A process has one.

use std::ffi::{CStr, OsStr, c_char};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{EmbedError, place};

/// The oldest version that fits, as major and minor number.
const OLDEST: (u32, u32) = (1, 24);

/// The one of this process.
static LOADED: Mutex<Option<PathBuf>> = Mutex::new(None);

const REMEDY: &str = "run `pointsman model install minilm`, which brings one; or install onnxruntime 1.24 or later (`pip install onnxruntime`) and name its libonnxruntime in `onnxruntime` or ORT_DYLIB_PATH; or write embedder = \"built-in\"";

/// The beginning of `OrtApiBase` in onnxruntime_c_api.h.
#[repr(C)]
struct ApiBase {
    get_api: extern "C" fn(u32) -> *const (),
    get_version_string: extern "C" fn() -> *const c_char,
}

/// Loads the library that the owner names, or else the first that is found; one that is loaded already serves on.
pub(super) fn load(named: Option<&Path>, model: &Path) -> Result<(), EmbedError> {
    let mut loaded = LOADED.lock().map_err(|_| EmbedError::Unavailable("onnxruntime could not be loaded before".into()))?;
    if let Some(loaded) = &*loaded {
        return match named {
            Some(named) if named != loaded => Err(EmbedError::Unavailable(format!(
                "this process has loaded {} already; restart it to use {}",
                loaded.display(),
                named.display()
            ))),
            _ => Ok(()),
        };
    }
    let file = named.map(Path::to_owned).unwrap_or_else(|| found(model));
    let wrong = |reason: &dyn std::fmt::Display| EmbedError::Unavailable(format!("{}: {reason}; {REMEDY}", file.display()));
    let version = version(file.as_os_str()).map_err(|error| wrong(&error))?;
    if !fits(&version) {
        return Err(wrong(&format!("this is version {version}, which is too old")));
    }
    // Only opens and keeps it; fastembed sets it up.
    drop(ort::init_from(&file).map_err(|error| wrong(&error))?);
    tracing::debug!(file = %file.display(), version, "onnxruntime");
    *loaded = Some(file);
    Ok(())
}

/// Where it is, where nobody says.
fn found(model: &Path) -> PathBuf {
    let variable = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).map(PathBuf::from);
    let installed = || place::installed().into_iter().find_map(|(_, folder)| library_in(&folder));
    variable
        .or_else(|| library_in(model))
        .or_else(installed)
        .unwrap_or_else(|| format!("{}onnxruntime{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX).into())
}

/// The library in a folder: `libonnxruntime.so.1.32.0`, `libonnxruntime.1.32.0.dylib`. The newest of several.
pub(super) fn library_in(folder: &Path) -> Option<PathBuf> {
    let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let is_library = |file: &PathBuf| {
        let name = file.file_name().and_then(OsStr::to_str).unwrap_or_default();
        name.strip_prefix("libonnxruntime.").is_some_and(|rest| rest.starts_with("so") || rest.ends_with("dylib"))
    };
    files.filter(is_library).max()
}

fn fits(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= OLDEST
}

#[allow(unsafe_code, reason = "opens the library that the owner names and asks for its version; see the head of this file")]
fn version(file: &OsStr) -> Result<String, String> {
    // SAFETY: initialisers of the library run, as they will when `ort` opens it; it is kept open for ever, so that nothing
    // that it has set up dangles.
    let library = unsafe { libloading::Library::new(file) }.map_err(|error| error.to_string())?;
    let library: &'static libloading::Library = Box::leak(Box::new(library));
    // SAFETY: `OrtGetApiBase` has this signature in every version of onnxruntime's C interface.
    let base =
        unsafe { library.get::<extern "C" fn() -> *const ApiBase>(b"OrtGetApiBase") }.map_err(|error| error.to_string())?();
    // SAFETY: the function gives a static structure whose first two fields have never changed, or null.
    let Some(base) = (unsafe { base.as_ref() }) else { return Err("has no API".into()) };
    let _ = base.get_api;
    let text = (base.get_version_string)();
    if text.is_null() {
        return Err("does not say its version".into());
    }
    // SAFETY: a static, zero-terminated string.
    Ok(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (version, expect) in [("1.24.0", true), ("1.32.0", true), ("2.0", true), ("1.23.9", false), ("", false), ("x", false)]
        {
            assert_eq!(fits(version), expect, "{version}");
        }
    }

    #[test]
    fn what_is_no_library_is_told_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("libonnxruntime.so.9.9.9");
        assert_eq!(library_in(dir.path()), None);
        std::fs::write(&file, "no library").unwrap();
        std::fs::write(dir.path().join("libonnxruntime_providers_shared.so"), "another").unwrap();
        assert_eq!(library_in(dir.path()), Some(file.clone()));
        let said = version(file.as_os_str()).unwrap_err();
        assert!(!said.is_empty());
    }
}
