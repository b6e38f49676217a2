//! Temporary.
#![allow(missing_docs, reason = "temporary")]
use std::path::{Path, PathBuf};
#[derive(Default)]
pub struct Options;
pub struct Built { pub component: PathBuf, pub size: u64, pub digest: String }
pub fn build(_: &Path, _: &Options) -> Result<Built, String> { Err("temporary".into()) }
pub fn find(_: &Path) -> Vec<PathBuf> { Vec::new() }
pub fn sources(_: &Path) -> Vec<PathBuf> { Vec::new() }
