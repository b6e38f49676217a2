//! Signed bundles: a component that carries its manifest (what it may be granted), its own cases, and a signature over all of that.
//!
//! A bundle is a component like any other, with two custom sections behind it, which WebAssembly allows and every tool passes over:
//!
//! | section | what |
//! |---|---|
//! | `pointsman:manifest` | JSON: `name`, `grants`, `hooks`, `cases` (file names and texts) |
//! | `pointsman:signature` | the last one: an Ed25519 public key (32 bytes) and its signature (64) over every byte before the section |
//!
//! So there is one file, one digest, and nothing to unpack.
//!
//! What it does not do: it says nothing about whose key is to be trusted; the plugin's owner does (`trust`).
//!
//! **Invariant:** bytes behind the signature, or a second one of either section, are an error: nothing in a bundle is unsigned.
//! **Invariant:** where signatures are asked for, what is signed as one plugin does not load as another.
//! **Invariant:** grants beyond the manifest are refused also where nobody's signature is asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::load::{Refusal, Source};
use crate::printable::printable;

const MANIFEST: &str = "pointsman:manifest";
const SIGNATURE: &str = "pointsman:signature";
/// `\0asm` and the version.
const PREAMBLE: usize = 8;
const KEY: usize = 32;
const SIGNED: usize = KEY + 64;
/// Bytes of a manifest with its cases.
const MAX_MANIFEST: usize = 4 << 20;
/// The beginning of a key in the configuration.
const SCHEME: &str = "ed25519:";

/// What a bundle says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The plugin's name.
    pub name: String,
    /// What it may be granted.
    pub grants: Vec<String>,
    /// The hooks that it has.
    pub hooks: Vec<String>,
    /// Its own cases: texts by the name of their file.
    #[serde(default)]
    pub cases: BTreeMap<String, String>,
}

/// A public key, written as `ed25519:` and 32 bytes in base64.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; KEY]);

/// This is no public key.
#[derive(Debug, thiserror::Error)]
#[error("a key is `ed25519:` and 44 characters of base64; copy what `pointsman plugin key new FILE` prints")]
pub struct NoKey;

impl FromStr for PublicKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let bytes = BASE64.decode(text.strip_prefix(SCHEME).ok_or(NoKey)?).map_err(|_| NoKey)?;
        Ok(Self(bytes.try_into().map_err(|_| NoKey)?))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{SCHEME}{}", BASE64.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A private key. Its PEM is PKCS#8, as `openssl genpkey -algorithm ed25519` makes it.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, &'static str> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| "the system has no random numbers")
    }

    /// From PEM.
    ///
    /// # Errors
    /// It is none, or of another kind.
    pub fn from_pem(text: &str) -> Result<Self, &'static str> {
        const NONE: &str = "is no Ed25519 private key in PEM; make one with `pointsman plugin key new FILE`";
        let body =
            text.split_once("-----BEGIN PRIVATE KEY-----").and_then(|(_, rest)| rest.split_once("-----END PRIVATE KEY-----"));
        let body: String = body.ok_or(NONE)?.0.split_whitespace().collect();
        let der = BASE64.decode(body).map_err(|_| NONE)?;
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(Self).map_err(|_| NONE)
    }

    /// As PEM.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn to_pem(&self) -> Result<String, &'static str> {
        let der = self.0.to_pkcs8v1().map_err(|_| "the key cannot be written")?;
        Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64.encode(der.as_ref())))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; KEY];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }
}

/// What is around a component.
#[derive(Debug, Default)]
pub struct Wrapping<'a> {
    /// The manifest, if there is one.
    pub manifest: Option<Manifest>,
    /// Who has signed, if somebody has.
    pub signed: Option<Signed<'a>>,
}

/// A signature, and what it is about.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// Whose it is.
    pub by: PublicKey,
    signature: &'a [u8],
    bytes: &'a [u8],
}

impl Signed<'_> {
    /// Is it of these bytes and of this key?
    pub fn holds(&self) -> bool {
        UnparsedPublicKey::new(&ED25519, self.by.0).verify(self.bytes, self.signature).is_ok()
    }
}

/// Makes a bundle of a component. What it was wrapped in before is taken off.
pub fn seal(component: &[u8], manifest: &Manifest, key: &SigningKey) -> Result<Vec<u8>, String> {
    let mut bytes = strip(component)?;
    let text = serde_json::to_vec(manifest).map_err(|error| error.to_string())?;
    if text.len() > MAX_MANIFEST {
        return Err(format!("its manifest has {} bytes with its cases; a bundle takes {MAX_MANIFEST}", text.len()));
    }
    append(&mut bytes, MANIFEST, &text);
    let signature = key.0.sign(&bytes);
    let payload = [&key.public().0[..], signature.as_ref()].concat();
    append(&mut bytes, SIGNATURE, &payload);
    Ok(bytes)
}

/// Looks at what is around a component. Bytes that are no WebAssembly have nothing around them: whoever compiles them will say so.
///
/// # Errors
/// It is not as it should be.
pub fn unwrap(bytes: &[u8]) -> Result<Wrapping<'_>, String> {
    let mut found = Wrapping::default();
    for section in Sections::of(bytes) {
        match section.name {
            Some(MANIFEST) => {
                if found.manifest.is_some() || section.payload.len() > MAX_MANIFEST {
                    return Err("has two manifests, or one that is too large".to_owned());
                }
                let manifest = serde_json::from_slice(section.payload)
                    .map_err(|error| format!("has a manifest that cannot be read: {error}"))?;
                found.manifest = Some(manifest);
            }
            Some(SIGNATURE) => {
                let signed = section.payload.split_first_chunk::<KEY>().filter(|_| section.payload.len() == SIGNED);
                let (by, signature) = signed.ok_or("has a signature of another kind")?;
                // By its length, and not by what follows: what we cannot read another reader may.
                if section.end != bytes.len() {
                    return Err("has something behind its signature, which nobody has signed".to_owned());
                }
                found.signed = Some(Signed { by: PublicKey(*by), signature, bytes: &bytes[..section.start] });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// May this component be loaded with these grants, where these keys are trusted? None are: whoever may write the file is.
/// What is signed is signed for one plugin: whoever may write the configuration's files cannot put it in the place of another.
pub(super) fn check(bytes: &[u8], name: &str, grants: &[String], source: &Source) -> Result<(), Refusal> {
    const REMEDY: &str = "bundle it anew with `pointsman plugin bundle`";
    let Wrapping { manifest, signed } = unwrap(bytes).map_err(|reason| Refusal::component(reason, REMEDY))?;
    if !source.trust.is_empty() {
        let Some(signed) = signed else {
            let reason = "is not signed, and this plugin trusts signatures alone";
            return Err(Refusal::new(
                "trust",
                reason,
                "sign it with `pointsman plugin bundle … --key FILE`, or take `trust` out",
            ));
        };
        if !source.trust.contains(&signed.by) {
            let reason = format!("is signed by {}, which is not trusted", signed.by);
            return Err(Refusal::new("trust", reason, "if it is to be, add the key to `trust`"));
        }
        if !signed.holds() {
            return Err(Refusal::component("has been changed since it was signed", REMEDY));
        }
        let Some(manifest) = &manifest else {
            return Err(Refusal::component("is signed but has no manifest", REMEDY));
        };
        let wanted = source.signed_as.as_deref().unwrap_or(name);
        if manifest.name != wanted {
            let signed_for = printable(&manifest.name);
            let reason = format!("is signed as the plugin `{signed_for:.64}`, and not as `{wanted}`");
            let remedy = format!(
                "if that is the one that is meant, write `signed_as = \"{signed_for:.64}\"`; else sign it with `pointsman plugin bundle … --name {wanted}`"
            );
            return Err(Refusal::new("signed_as", reason, remedy));
        }
    }
    let beyond = manifest.as_ref().and_then(|manifest| grants.iter().find(|grant| !manifest.grants.contains(grant)));
    if let Some(grant) = beyond {
        let reason = format!("is granted `{grant}`, which its manifest does not have");
        return Err(Refusal::new("grant", reason, "take it out of `grant`; whoever has signed it does not ask for it"));
    }
    Ok(())
}

/// The component without what we have put around it.
fn strip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut bare = bytes.get(..PREAMBLE).ok_or("is not WebAssembly")?.to_vec();
    let mut end = PREAMBLE;
    for section in Sections::of(bytes) {
        if !matches!(section.name, Some(MANIFEST | SIGNATURE)) {
            bare.extend_from_slice(&bytes[section.start..section.end]);
        }
        end = section.end;
    }
    if end == bytes.len() { Ok(bare) } else { Err("is no valid component".to_owned()) }
}

fn append(bytes: &mut Vec<u8>, name: &str, payload: &[u8]) {
    let mut body = Vec::with_capacity(payload.len() + name.len() + 5);
    leb128(&mut body, name.len());
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(payload);
    bytes.push(0);
    leb128(bytes, body.len());
    bytes.append(&mut body);
}

fn leb128(bytes: &mut Vec<u8>, mut number: usize) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return;
        }
    }
}

/// A section at the top of a component.
struct Section<'a> {
    start: usize,
    end: usize,
    /// A custom section's.
    name: Option<&'a str>,
    payload: &'a [u8],
}

/// Goes through the sections at the top. It ends where one is cut off: the compiler says what is wrong then.
struct Sections<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Sections<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        // A core module has another layer in its version, and no sections of ours.
        Self { bytes, at: if bytes.starts_with(b"\0asm\x0d\0\x01\0") { PREAMBLE } else { bytes.len() } }
    }

    /// A number of at most 32 bits, and where it ends.
    fn number(&self, mut at: usize) -> Option<(usize, usize)> {
        let mut number: u64 = 0;
        for shift in (0..35).step_by(7) {
            let byte = *self.bytes.get(at)?;
            at += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((usize::try_from(number).ok()?, at));
            }
        }
        None
    }
}

impl<'a> Iterator for Sections<'a> {
    type Item = Section<'a>;

    fn next(&mut self) -> Option<Section<'a>> {
        let start = self.at;
        let id = *self.bytes.get(start)?;
        let (size, from) = self.number(start + 1)?;
        let end = from.checked_add(size).filter(|end| *end <= self.bytes.len())?;
        self.at = end;
        let mut section = Section { start, end, name: None, payload: &self.bytes[from..end] };
        if id == 0 {
            let (length, from) = self.number(from)?;
            let name = self.bytes.get(from..from.checked_add(length)?).filter(|_| from + length <= end)?;
            section.name = std::str::from_utf8(name).ok();
            section.payload = &self.bytes[from + length..end];
        }
        Some(section)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component with nothing in it.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn manifest(grants: &[&str]) -> Manifest {
        Manifest { name: "p".into(), grants: grants.iter().map(|grant| (*grant).to_owned()).collect(), ..Manifest::default() }
    }

    fn refusal(bytes: &[u8], grants: &[&str], trust: &[PublicKey]) -> Option<String> {
        let grants: Vec<String> = grants.iter().map(|grant| (*grant).to_owned()).collect();
        let source = Source { trust: trust.to_vec(), ..Source::default() };
        check(bytes, "p", &grants, &source).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn what_is_signed_is_told_from_what_is_not() {
        let (ours, theirs) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let bundle = seal(EMPTY, &manifest(&["log"]), &ours).unwrap();
        let trust = [ours.public()];
        assert_eq!(refusal(&bundle, &["log"], &trust), None);
        assert_eq!(refusal(&bundle, &[], &[]), None);
        let said = |bytes: &[u8], grants: &[&str], trust: &[PublicKey], part: &str| {
            let said = refusal(bytes, grants, trust).unwrap_or_default();
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        };
        said(EMPTY, &[], &trust, "is not signed");
        said(&bundle, &["log"], &[theirs.public()], &format!("is signed by {}", ours.public()));
        said(&bundle, &["log", "kv"], &trust, "is granted `kv`, which its manifest does not have");
        said(&bundle, &["kv"], &[], "is granted `kv`");
        // Signed for another plugin, unless its owner means that one.
        let other = seal(EMPTY, &Manifest { name: "q\u{1b}".into(), ..manifest(&[]) }, &ours).unwrap();
        said(
            &other,
            &[],
            &trust,
            "is signed as the plugin `q\\u{1b}`, and not as `p`; if that is the one that is meant, write `signed_as",
        );
        assert_eq!(refusal(&other, &[], &[]), None, "who trusts any component trusts any name");
        let renamed = Source { trust: trust.to_vec(), signed_as: Some("q\u{1b}".into()), ..Source::default() };
        assert!(check(&other, "p", &[], &renamed).is_ok() && check(&bundle, "p", &[], &renamed).is_err());
        // Each bit counts, and what is put behind or between.
        for at in PREAMBLE..bundle.len() {
            let mut changed = bundle.clone();
            changed[at] ^= 1;
            assert!(refusal(&changed, &["log"], &trust).is_some(), "byte {at}");
        }
        let mut longer = bundle.clone();
        append(&mut longer, "x", b"");
        said(&longer, &["log"], &trust, "behind its signature");
        let mut twice = EMPTY.to_vec();
        append(&mut twice, MANIFEST, b"{}");
        said(&twice, &[], &[], "cannot be read");
        // Sealed anew it is whole, with one manifest.
        let again = seal(&bundle, &manifest(&["kv"]), &theirs).unwrap();
        assert_eq!(refusal(&again, &["kv"], &[theirs.public()]), None);
        assert_eq!(strip(&again).unwrap(), EMPTY);
    }

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = SigningKey::generate().unwrap();
        let text = key.public().to_string();
        assert!(text.starts_with("ed25519:") && text.len() == 8 + 44, "{text}");
        assert_eq!(text.parse::<PublicKey>().unwrap(), key.public());
        assert_eq!(SigningKey::from_pem(&key.to_pem().unwrap()).unwrap().public(), key.public());
        for bad in ["", "ed25519:", "rsa:AAAA", "ed25519:AAAA", "ed25519:!"] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad}");
        }
        assert!(SigningKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----").is_err());
        // Made by openssl.
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        assert_eq!(
            SigningKey::from_pem(pem).unwrap().public().to_string(),
            "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
        );
    }

    #[test]
    fn bytes_that_are_cut_off_are_looked_at_safely() {
        let bundle = seal(EMPTY, &manifest(&[]), &SigningKey::generate().unwrap()).unwrap();
        for end in 0..bundle.len() {
            let _ = unwrap(&bundle[..end]);
            assert!(refusal(&bundle[..end], &[], &[SigningKey::generate().unwrap().public()]).is_some());
        }
        assert!(unwrap(b"\0asm\x0d\0\x01\0\0\xff\xff\xff\xff\xff").is_ok());
    }
}
