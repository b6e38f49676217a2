//! Components from an OCI registry, as `wkg` and `oras` put them there: one manifest, a configuration of the type
//! `application/vnd.wasm.config.v0+json`, one layer of the type `application/wasm`.
//!
//! What is pulled is kept by its digests and never asked for again: a reference with a digest is fetched once on a machine.
//!
//! What it does not do: it trusts no registry. What comes has the digest that was asked for, or it has not come.
//!
//! **Invariant:** plain HTTP is spoken with loopback alone, also where a registry sends us elsewhere; and with loopback only where the registry
//! itself is there.
//! **Invariant:** credentials go to the registry that they are for, and to its own token service; to nobody whom it redirects to.
//! **Invariant:** nothing is read beyond its bound, whatever the registry says of its size.

mod http;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::http::{Registry, Wire};
use super::load::digest_of;
use crate::config::{OciReference as Reference, is_digest};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";
/// Bytes of a manifest.
const MAX_MANIFEST: usize = 1 << 20;
/// The largest component.
const MAX_COMPONENT: usize = 64 << 20;
/// How long what was pulled stays that nobody uses.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);
/// For all of a pull or a push.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum OciError {
    /// The registry cannot be reached, or breaks off.
    #[error("{registry} cannot be asked: {reason}")]
    Unreachable {
        /// Its host.
        registry: String,
        /// What happened.
        reason: String,
    },
    /// It says no.
    #[error("{registry} answers {status} for {what}{said}")]
    Refused {
        /// Its host.
        registry: String,
        /// What it was asked for.
        what: String,
        /// Its status.
        status: StatusCode,
        /// Its own words.
        said: String,
    },
    /// What came is not what was asked for.
    #[error("{0}")]
    Unfit(String),
}

/// What a manifest says, as far as we read it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Blob>,
    #[serde(default)]
    layers: Vec<Blob>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Blob {
    media_type: String,
    digest: String,
    size: u64,
}

/// Where what was pulled is kept.
#[derive(Clone, Debug, Default)]
pub struct Kept(Option<PathBuf>);

impl Kept {
    /// In this folder, which is made when there is something to keep.
    pub fn open(folder: &Path) -> Self {
        Self(Some(folder.to_owned()))
    }

    /// What was pulled with this digest.
    pub(super) fn get(&self, digest: &str) -> Option<Vec<u8>> {
        let file = self.0.as_ref()?.join(digest);
        let bytes = std::fs::read(&file).ok().filter(|bytes| digest_of(bytes) == digest)?;
        // Used just now: it stays.
        let _ = std::fs::File::options().append(true).open(&file).and_then(|file| file.set_modified(SystemTime::now()));
        Some(bytes)
    }

    fn put(&self, digest: &str, bytes: &[u8]) {
        let Some(folder) = &self.0 else { return };
        let beside = folder.join(format!("{digest}.{}.part", std::process::id()));
        let kept = std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&beside, bytes))
            .and_then(|()| std::fs::rename(&beside, folder.join(digest)));
        tidy(folder);
        if let Err(error) = kept {
            tracing::warn!(folder = %folder.display(), %error, "what was pulled could not be kept; the next start pulls it again");
        }
    }
}

/// What nobody has used for long goes; a half that a killed process has left is among it.
fn tidy(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|about| about.modified());
        if modified.is_ok_and(|modified| modified.elapsed().is_ok_and(|age| age > UNUSED)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The component that a reference names: what is kept, or what the registry has. It blocks, for two minutes at most.
///
/// # Errors
/// The registry has no such thing, or nothing that is a component.
pub fn pull(reference: &Reference, kept: &Kept) -> Result<Vec<u8>, OciError> {
    if let Some(bytes) = pulled(reference, kept) {
        return Ok(bytes);
    }
    blocking(&reference.registry, async {
        let registry = Registry::new(Wire::new(&reference.registry), &reference.repository, false);
        let asked = reference.asked();
        let manifest = registry.get(&format!("manifests/{asked}"), MANIFEST, MAX_MANIFEST).await?;
        if let Some(digest) = reference.digest.as_ref().filter(|digest| digest_of(&manifest) != **digest) {
            return Err(OciError::Unfit(format!("{} sent a manifest that is not sha256:{digest}", reference.registry)));
        }
        let layer = component(&manifest)?;
        let digest = hex(&layer.digest)?.to_owned();
        let bytes = match kept.get(&digest) {
            Some(bytes) => bytes,
            None => registry.get(&format!("blobs/{}", layer.digest), LAYER, MAX_COMPONENT).await?.to_vec(),
        };
        if digest_of(&bytes) != digest {
            return Err(OciError::Unfit(format!("{} sent a component that is not {}", reference.registry, layer.digest)));
        }
        kept.put(&digest_of(&manifest), &manifest);
        kept.put(&digest, &bytes);
        Ok(bytes)
    })
}

/// What is kept of a reference with a digest.
fn pulled(reference: &Reference, kept: &Kept) -> Option<Vec<u8>> {
    let manifest = kept.get(reference.digest.as_ref()?)?;
    kept.get(hex(&component(&manifest).ok()?.digest).ok()?)
}

/// The layer that is the component.
fn component(manifest: &[u8]) -> Result<Blob, OciError> {
    let unfit = |reason: String| OciError::Unfit(format!("this is no WebAssembly artifact: {reason}"));
    let manifest: Manifest = serde_json::from_slice(manifest).map_err(|error| unfit(error.to_string()))?;
    let is_wasm = |blob: &&Blob| blob.media_type == LAYER;
    let mut layers = manifest.layers.iter().filter(is_wasm);
    match (layers.next(), layers.next()) {
        (Some(layer), None) => Ok(layer.clone()),
        (Some(_), Some(_)) => Err(unfit("it has more than one component".to_owned())),
        (None, _) => {
            let types: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).collect();
            Err(unfit(format!("it has no layer of the type {LAYER}, but [{}]", types.join(", "))))
        }
    }
}

fn hex(digest: &str) -> Result<&str, OciError> {
    digest
        .strip_prefix("sha256:")
        .filter(|hex| is_digest(hex))
        .ok_or_else(|| OciError::Unfit(format!("`{digest:.80}` is no SHA-256 digest")))
}

/// What a component has on its outside, for the artifact's configuration.
#[derive(Clone, Debug, Default)]
pub struct Outside {
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// Those that it exports.
    pub exports: Vec<String>,
}

/// Puts a component into a registry, under the reference's tag. Gives the manifest's digest, by which it is to be pulled. It blocks.
///
/// # Errors
/// The registry does not take it.
pub fn push(reference: &Reference, component: &[u8], outside: &Outside) -> Result<String, OciError> {
    // Without a time, so that the same component is the same artifact.
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [format!("sha256:{}", digest_of(component))],
        "component": { "imports": outside.imports, "exports": outside.exports, "target": null },
    });
    let config = config.to_string().into_bytes();
    let blob = |media_type: &str, bytes: &[u8]| Blob {
        media_type: media_type.to_owned(),
        digest: format!("sha256:{}", digest_of(bytes)),
        size: bytes.len() as u64,
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        config: Some(blob(CONFIG, &config)),
        layers: vec![blob(LAYER, component)],
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|error| OciError::Unfit(error.to_string()))?;
    let digest = digest_of(&manifest);
    let name = reference.tag.clone().unwrap_or_else(|| format!("sha256:{digest}"));
    blocking(&reference.registry, async {
        let registry = Registry::new(Wire::new(&reference.registry), &reference.repository, true);
        upload(&registry, Bytes::from(config)).await?;
        upload(&registry, Bytes::copy_from_slice(component)).await?;
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(MANIFEST))]);
        registry.send(Method::PUT, &format!("manifests/{name}"), headers, Bytes::from(manifest), MAX_MANIFEST).await?;
        Ok(digest.clone())
    })
}

async fn upload(registry: &Registry, bytes: Bytes) -> Result<(), OciError> {
    let digest = format!("sha256:{}", digest_of(&bytes));
    let there = registry.send(Method::HEAD, &format!("blobs/{digest}"), HeaderMap::new(), Bytes::new(), 0).await;
    if there.is_ok() {
        return Ok(());
    }
    let begun = registry.send(Method::POST, "blobs/uploads/", HeaderMap::new(), Bytes::new(), MAX_MANIFEST).await?;
    let place = begun.headers.get(header::LOCATION).and_then(|place| place.to_str().ok());
    let place = place.ok_or_else(|| OciError::Unfit("the registry does not say where to upload to".to_owned()))?;
    let place = format!("{place}{}digest={digest}", if place.contains('?') { '&' } else { '?' });
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
    registry.send(Method::PUT, &place, headers, bytes, MAX_MANIFEST).await.map(drop)
}

/// Whoever loads a component has a thread of its own; a registry has its time.
fn blocking<T>(registry: &str, work: impl Future<Output = Result<T, OciError>>) -> Result<T, OciError> {
    let unreachable = |reason: String| OciError::Unreachable { registry: registry.to_owned(), reason };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| unreachable(error.to_string()))?;
    runtime.block_on(async {
        match tokio::time::timeout(PATIENCE, work).await {
            Ok(done) => done,
            Err(_) => Err(unreachable(format!("it has taken more than {PATIENCE:?}"))),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_of_a_manifest() {
        let blob = |kind: &str| json!({ "mediaType": kind, "digest": format!("sha256:{}", "a".repeat(64)), "size": 1 });
        let layer = |layers: &[serde_json::Value]| {
            let manifest = json!({ "schemaVersion": 2, "config": blob(CONFIG), "layers": layers }).to_string();
            component(manifest.as_bytes()).map(|blob| blob.digest).map_err(|error| error.to_string())
        };
        assert!(layer(&[blob(LAYER)]).is_ok());
        assert!(layer(&[blob(LAYER), blob("text/plain")]).is_ok());
        assert!(layer(&[blob(LAYER), blob(LAYER)]).unwrap_err().contains("more than one"));
        assert!(layer(&[blob("application/vnd.oci.image.layer.v1.tar+gzip")]).unwrap_err().contains("tar+gzip"));
        // An index of images for several platforms.
        assert!(component(br#"{"schemaVersion":2,"manifests":[]}"#).is_err());
        assert!(hex("sha512:aa").is_err() && hex("sha256:../x").is_err());
    }

    #[test]
    fn what_is_kept_is_what_was_pulled() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::open(folder.path());
        let digest = digest_of(b"wasm");
        kept.put(&digest, b"wasm");
        assert_eq!(kept.get(&digest).as_deref(), Some(&b"wasm"[..]));
        std::fs::write(folder.path().join(&digest), b"another").unwrap();
        assert_eq!(kept.get(&digest), None);
        let old = std::fs::File::options().append(true).open(folder.path().join(&digest)).unwrap();
        old.set_modified(SystemTime::now() - 2 * UNUSED).unwrap();
        kept.put(&digest_of(b"new"), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "what nobody has used for long is gone");
    }
}
