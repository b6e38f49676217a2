//! Secrets are referred to, never written down: `env:NAME` or `file:PATH`.
//!
//! Keeps no secret: `resolve` reads it afresh, so that a rotated key file takes effect with the next reload.
//!
//! **Invariant:** no error, `Debug` or `Serialize` of this module shows a secret's value, not even a wrongly written one.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::unit::Wrong;

/// The most bytes that a secret's file may have: a key is short, and a wrong path may be a device or a log.
const MAX_FILE: u64 = 64 * 1024;

/// Where a secret is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// `env:NAME`: an environment variable.
    Env(String),
    /// `file:PATH`: a file's text without its last newline.
    File(PathBuf),
}

impl SecretRef {
    /// Reads the secret.
    ///
    /// # Errors
    /// The variable or file that is missing, empty, unreadable or not text, by name; never its value.
    pub fn resolve(&self) -> Result<SecretString, Wrong> {
        let secret = match self {
            Self::Env(name) => from_env(name)?,
            Self::File(path) => from_file(path)?,
        };
        if secret.is_empty() {
            return Err(Wrong::new(format!("{self} is empty"), "put the secret there"));
        }
        Ok(secret.into())
    }
}

fn from_env(name: &str) -> Result<String, Wrong> {
    std::env::var(name).map_err(|error| match error {
        std::env::VarError::NotPresent => Wrong::new(
            format!("the environment variable {name} is not set"),
            format!("set {name} before pointsman starts, or write \"file:PATH\""),
        ),
        std::env::VarError::NotUnicode(_) => {
            Wrong::new(format!("the environment variable {name} is not UTF-8"), "set it to text")
        }
    })
}

fn from_file(path: &std::path::Path) -> Result<String, Wrong> {
    let shown = path.display();
    let unreadable = |error: std::io::Error| {
        Wrong::new(format!("the file {shown} cannot be read ({})", error.kind()), "create it, readable by pointsman's user")
    };
    let about = std::fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() || about.len() > MAX_FILE {
        return Err(Wrong::new(format!("{shown} is not a file of at most 64 KiB"), "name the file that holds the secret alone"));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let mut text =
        String::from_utf8(bytes).map_err(|_| Wrong::new(format!("the file {shown} is not UTF-8"), "write the secret as text"))?;
    // `echo key > file` leaves a newline that no header may hold; a second one would be the user's mistake, and shows.
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        if let Some(name) = text.strip_prefix("env:") {
            let valid = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            // Not echoed: `env:` may stand before the key itself.
            return valid.then(|| Self::Env(name.to_owned())).ok_or_else(|| {
                Wrong::new(
                    "what follows `env:` is not the name of an environment variable",
                    "write letters, digits and _, such as \"env:OPENAI_API_KEY\"",
                )
            });
        }
        match text.strip_prefix("file:") {
            Some("") => Err(Wrong::new("`file:` names no file", "write \"file:PATH\"")),
            Some(path) => Ok(Self::File(path.into())),
            None => Err(Wrong::new(
                "a secret is not written into the configuration",
                "put it into an environment variable and write \"env:NAME\", or into a file and write \"file:PATH\"",
            )),
        }
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+)$" })
    }
}

/// A header's value: written out, or a reference to a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretOrString {
    /// `env:NAME` or `file:PATH`.
    Secret(SecretRef),
    /// Anything else, as it stands.
    Plain(String),
}

impl SecretOrString {
    /// The value.
    ///
    /// # Errors
    /// As [`SecretRef::resolve`].
    pub fn resolve(&self) -> Result<SecretString, Wrong> {
        match self {
            Self::Secret(reference) => reference.resolve(),
            Self::Plain(text) => Ok(text.as_str().into()),
        }
    }
}

impl fmt::Debug for SecretOrString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(reference) => write!(f, "{reference}"),
            // Somebody will write a token here all the same.
            Self::Plain(_) => f.write_str("[REDACTED]"),
        }
    }
}

impl TryFrom<String> for SecretOrString {
    type Error = Wrong;

    fn try_from(text: String) -> Result<Self, Wrong> {
        if text.starts_with("env:") || text.starts_with("file:") {
            return SecretRef::try_from(text).map(Self::Secret);
        }
        Ok(Self::Plain(text))
    }
}

impl From<SecretOrString> for String {
    fn from(value: SecretOrString) -> Self {
        match value {
            SecretOrString::Secret(reference) => reference.to_string(),
            SecretOrString::Plain(_) => "[REDACTED]".to_owned(),
        }
    }
}

impl JsonSchema for SecretOrString {
    fn schema_name() -> Cow<'static, str> {
        "SecretOrString".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}
