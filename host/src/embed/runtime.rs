//! Which onnxruntime is there, asked before it is set up: one older than 1.24 can hang while `ort` initialises it.
//!
//! The second and last place in the host that is `unsafe`: a shared library is opened and one function of its stable C
//! interface is called. It is the library that the owner names (ORT_DYLIB_PATH) or the system's own, which `ort` would open
//! anyway.
//!
//! **Invariant:** the library stays loaded: what is asked here is what `ort` gets afterwards.

use std::ffi::{CStr, OsString, c_char};

use super::EmbedError;

/// The oldest version that fits, as major and minor number.
const OLDEST: (u32, u32) = (1, 24);

/// The beginning of `OrtApiBase` in onnxruntime_c_api.h.
#[repr(C)]
struct ApiBase {
    get_api: extern "C" fn(u32) -> *const (),
    get_version_string: extern "C" fn() -> *const c_char,
}

/// Is there an onnxruntime that fits?
pub(super) fn check() -> Result<(), EmbedError> {
    let file =
        std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()).unwrap_or_else(|| OsString::from("libonnxruntime.so"));
    let shown = file.to_string_lossy().into_owned();
    let remedy = "install onnxruntime 1.24 or later (`pip install onnxruntime`) and let ORT_DYLIB_PATH name its libonnxruntime.so, or use embedder = \"built-in\"";
    let version = version(&file).map_err(|error| EmbedError::Unavailable(format!("{shown}: {error}; {remedy}")))?;
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        return Err(EmbedError::Unavailable(format!("{shown} is version {version}, which is too old; {remedy}")));
    }
    Ok(())
}

#[allow(unsafe_code, reason = "opens the library that the owner names and asks for its version; see the head of this file")]
fn version(file: &OsString) -> Result<String, String> {
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
