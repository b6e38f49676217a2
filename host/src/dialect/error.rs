//! Errors in OpenAI's shape, which its SDKs turn into typed exceptions by status, and show by `message`, `param`, `code`.
//!
//! What it does not do: it chooses no status; `crate::error` does.

use bytes::Bytes;
use serde_json::json;

/// The body of an error answer.
pub fn body(status: u16, message: &str, param: Option<&str>, code: Option<&str>) -> Bytes {
    Bytes::from(value(status, message, param, code).to_string())
}

/// An event that ends a stream which can no longer be completed. OpenAI's SDKs raise on an event with `error`; none of them
/// takes it for an end of its own accord.
pub fn event(status: u16, message: &str, code: Option<&str>) -> Bytes {
    Bytes::from(format!("data: {}\n\n", value(status, message, None, code)))
}

fn value(status: u16, message: &str, param: Option<&str>, code: Option<&str>) -> serde_json::Value {
    json!({ "error": { "message": message, "type": kind(status), "param": param, "code": code } })
}

/// OpenAI's name for a class of errors.
pub fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}
