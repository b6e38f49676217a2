//! Lines in the host's log, marked with plugin, version and exchange. Grant: `log`.
//!
//! ```no_run
//! use pointsman_plugin::log;
//!
//! let (model, score) = ("small", 0.8);
//! log::info!("nearest: {model}"; score = score, model = model);
//! ```
//!
//! Text and fields are made only if the host wants lines of that level. At most 16 lines an exchange, 4 KiB each.

use crate::bindings::host::pointsman::plugin::log;
use crate::imports::owned;

#[doc(inline)]
pub use crate::bindings::host::pointsman::plugin::log::{Level, enabled};

/// Writes a line with fields; the macros ask first whether anybody wants it.
pub fn write(level: Level, message: &str, fields: &[(&str, &str)]) {
    log::log(level, message, &owned(fields));
}

#[doc(inline)]
pub use crate::{__log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn};

/// A line of any level: a format string and its arguments; after a semicolon, fields.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $format:literal $(, $argument:expr)* $(; $($field:ident = $value:expr),+)? $(,)?) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::log::write(
                $crate::log::Level::$level,
                &::std::format!($format $(, $argument)*),
                &[$($((::std::stringify!($field), &*::std::string::ToString::to_string(&$value))),+)?],
            );
        }
    };
}

/// Logs a line of level trace.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace { ($($line:tt)+) => { $crate::__log!(Trace, $($line)+) }; }
/// Logs a line of level debug.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug { ($($line:tt)+) => { $crate::__log!(Debug, $($line)+) }; }
/// Logs a line of level info.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info { ($($line:tt)+) => { $crate::__log!(Info, $($line)+) }; }
/// Logs a line of level warn.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn { ($($line:tt)+) => { $crate::__log!(Warn, $($line)+) }; }
/// Logs a line of level error.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error { ($($line:tt)+) => { $crate::__log!(Error, $($line)+) }; }
