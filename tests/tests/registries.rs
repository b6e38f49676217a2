//! Registries that want to know who asks, that keep their blobs elsewhere, and that are not to be trusted: who gets a credential, and what is
//! not taken.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tests::binary::run_with;
use tests::registry::{Desk, Reply};
use tests::{Nobody, guests};

/// `eve:open sesame`
const BASIC: &str = "ZXZlOm9wZW4gc2VzYW1l";
const MANIFESTS: &str = "/v2/team/router/manifests/";
const BLOBS: &str = "/v2/team/router/blobs/";

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn manifest(component: &[u8]) -> Vec<u8> {
    let blob = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() });
    json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("application/vnd.wasm.config.v0+json", b"{}"), "layers": [blob("application/wasm", component)],
    })
    .to_string()
    .into_bytes()
}

/// What `check` says of a configuration with this component, with credentials for the registry, and nothing pulled before.
fn check(registry: &Desk, manifest: &[u8]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let auths = json!({ "auths": { registry.address().to_string(): { "auth": BASIC } } });
    std::fs::write(path("config.json"), auths.to_string()).unwrap();
    let component = format!("oci://{}/team/router:1.0@{}", registry.address(), digest(manifest));
    let text = format!("[plugins.router]\ncomponent = {component:?}\nhooks = [\"routing\"]\n");
    std::fs::write(path("pointsman.toml"), text).unwrap();
    let environment = [("DOCKER_CONFIG", folder.path().to_str().unwrap()), ("XDG_CACHE_HOME", &path("cache"))];
    let (code, _, report) = run_with(&["check", &path("pointsman.toml")], &environment);
    (code, report)
}

fn refused(registry: &Desk, manifest: &[u8], part: &str) {
    let (code, report) = check(registry, manifest);
    assert!(code == 2 && report.contains("cannot be pulled: ") && report.contains(part), "{part}: {report}");
}

/// A registry with one component, which goes on with `blob` when that is asked for.
fn registry(component: &[u8], blob: impl Fn() -> Reply + Send + 'static) -> (Desk, Vec<u8>) {
    let manifest = manifest(component);
    let own = manifest.clone();
    let desk = Desk::start(move |asked| match asked.path.strip_prefix(MANIFESTS) {
        Some(_) => Reply::new(200, own.clone()),
        None if asked.path.starts_with(BLOBS) => blob(),
        None => Reply::new(404, ""),
    });
    (desk, manifest)
}

/// Name and password go to the token service, the token to the registry, and neither to where blobs lie.
#[test]
fn a_credential_goes_to_nobody_else() {
    let component = guests::router(1);
    let whole = component.clone();
    let blobs = Desk::start(move |_| Reply::new(200, whole.clone()));
    let tokens = Desk::start(|asked| match asked.header("authorization") {
        Some(value) if value == format!("Basic {BASIC}") => Reply::new(200, r#"{"token":"let-me-in","expires_in":60}"#),
        _ => Reply::new(401, ""),
    });
    let (place, service) = (format!("http://{}/far/away?signature=x", blobs.address()), tokens.address());
    let body = manifest(&component);
    let own = body.clone();
    let registry = Desk::start(move |asked| {
        if asked.header("authorization") != Some("Bearer let-me-in") {
            let scope = "repository:team/router:pull";
            let challenge = format!("Bearer realm=\"http://{service}/token\",service=\"registry.example\",scope=\"{scope}\"");
            return Reply::new(401, "").header("www-authenticate", &challenge);
        }
        if asked.path.starts_with(BLOBS) { Reply::elsewhere(&place) } else { Reply::new(200, own.clone()) }
    });
    let (code, report) = check(&registry, &body);
    assert_eq!(code, 0, "{report}");
    let token = tokens.asked().remove(0);
    assert_eq!(token.path, "/token?scope=repository:team/router:pull&service=registry.example");
    assert_eq!(tokens.asked().len(), 1, "one token is enough for a pull");
    let far = blobs.asked();
    assert_eq!((far.len(), far[0].path.as_str(), far[0].header("authorization")), (1, "/far/away?signature=x", None));
    assert!(registry.asked().iter().all(|asked| asked.header("authorization").is_none_or(|value| value == "Bearer let-me-in")));
}

/// Whoever the registry sends us to asks for a name in vain.
#[test]
fn where_blobs_lie_nobody_hears_a_name() {
    let component = guests::router(1);
    let tokens = Desk::start(|_| Reply::new(200, r#"{"token":"t"}"#));
    let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.address());
    let blobs = Desk::start(move |_| Reply::new(401, "").header("www-authenticate", &challenge));
    let place = format!("http://{}/", blobs.address());
    let (registry, manifest) = registry(&component, move || Reply::elsewhere(&place));
    refused(&registry, &manifest, "answers 401");
    assert!(tokens.asked().is_empty() && blobs.asked().iter().all(|asked| asked.header("authorization").is_none()));
}

#[test]
fn redirects_lead_to_few_places() {
    let component = guests::router(1);
    let own = Arc::new(OnceLock::new());
    let again = own.clone();
    let (circle, manifest) =
        registry(&component, move || Reply::elsewhere(again.get().map_or("/", |path: &String| path.as_str())));
    own.set(format!("{BLOBS}{}", digest(&component))).unwrap();
    refused(&circle, &manifest, "answers 307");
    assert_eq!(circle.asked().iter().filter(|asked| asked.path.starts_with(BLOBS)).count(), 4, "the first, and three more");
    let nobody = Nobody::new().address();
    for (place, part) in [
        // An address for documentation: nobody is there to hear of it.
        ("http://192.0.2.1/x".to_owned(), "to be spoken with without TLS"),
        ("ftp://127.0.0.1/x".to_owned(), "neither https nor http"),
        (format!("http://{nobody}/x"), "cannot be asked"),
        (String::new(), "cannot be asked"),
    ] {
        let (registry, manifest) = registry(&component, move || Reply::elsewhere(&place));
        refused(&registry, &manifest, part);
    }
}

#[test]
fn what_is_not_what_was_asked_for_is_not_taken() {
    let component = guests::router(1);
    let other = guests::router(2);
    let (desk, manifest) = registry(&component, move || Reply::new(200, other.clone()));
    refused(&desk, &manifest, "sent a component that is not sha256:");
    let (desk, _) = registry(&component, || Reply::new(200, ""));
    refused(&desk, b"another manifest", "sent a manifest that is not sha256:");
    // Larger than it may be, whatever it says that it is.
    let (desk, manifest) = registry(&component, || Reply::new(200, vec![0; 1 << 20]).times(65));
    refused(&desk, &manifest, "sends more than 67108864 bytes");
    let long = Desk::start(|_| Reply::new(200, vec![b' '; 1 << 20]).times(2));
    refused(&long, &manifest, "sends more than 1048576 bytes");
    for (body, part) in [
        (json!({ "schemaVersion": 2, "layers": [] }), "has no layer of the type application/wasm"),
        (
            json!({ "schemaVersion": 2, "layers": [{ "mediaType": "application/wasm", "digest": "sha256:../../x", "size": 1 }] }),
            "is no SHA-256 digest",
        ),
        (Value::Null, "is no WebAssembly artifact"),
    ] {
        let body = body.to_string().into_bytes();
        let own = body.clone();
        let desk = Desk::start(move |_| Reply::new(200, own.clone()));
        refused(&desk, &body, part);
        assert_eq!(desk.asked().len(), 1, "nothing else was asked for: {part}");
    }
}

/// A token service that says no, or nothing that is a token: the registry's own words are told.
#[test]
fn without_a_token_it_is_said_why() {
    for (status, said) in [(403, "{}"), (200, "no JSON"), (200, r#"{"token":"a\r\nb: c"}"#)] {
        let tokens = Desk::start(move |_| Reply::new(status, said));
        let challenge = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.address());
        let registry = Desk::start(move |_| {
            Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#)
                .header("www-authenticate", &challenge)
        });
        refused(&registry, b"{}", "answers 401 Unauthorized for GET /v2/team/router/manifests/sha256:");
        refused(&registry, b"{}", "(authentication required)");
        assert!(registry.asked().iter().all(|asked| asked.header("b").is_none()), "{said}");
    }
}
