//! The folder that a host is started from: its configuration, components, prompts, certificates.
//!
//! **Invariant:** a file is replaced as an editor or a deployment replaces it: written beside, then renamed.

use std::path::PathBuf;

use tempfile::TempDir;

/// A folder that goes with its value.
#[derive(Debug)]
pub struct Folder(TempDir);

impl Folder {
    /// The name of the configuration.
    pub const CONFIG: &'static str = "pointsman.toml";

    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("there is room for a folder"))
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The configuration's path.
    pub fn config(&self) -> PathBuf {
        self.path(Self::CONFIG)
    }

    /// Writes a file, or replaces it.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        let folder = path.parent().expect("it is in the folder");
        std::fs::create_dir_all(folder).expect("a folder can be made");
        let beside = folder.join(".beside");
        std::fs::write(&beside, bytes).expect("a file can be written");
        std::fs::rename(&beside, &path).expect("a file can be renamed");
    }

    /// The text of a file.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("a file can be read")
    }

    /// Replaces a part of the configuration.
    pub fn change(&self, from: &str, to: &str) {
        let text = self.read(Self::CONFIG);
        assert!(text.contains(from), "{from:?} is not in\n{text}");
        self.write(Self::CONFIG, text.replace(from, to).as_bytes());
    }
}
