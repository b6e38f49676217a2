//! HTTP with a registry: one request a connection, its token service, and redirects to where blobs really lie.
//!
//! What it does not do: it keeps no connection. A component is two or three requests, once.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::OciError;

const CONNECTS: Duration = Duration::from_secs(10);
/// Where blobs lie is one step away; some registries have two.
const MAX_REDIRECTS: usize = 3;
/// Bytes of a refusal's own words, and of a token.
const MAX_WORDS: usize = 64 << 10;

/// What has come back.
pub(super) struct Came {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// One registry's place.
pub(super) struct Wire {
    registry: String,
}

impl Wire {
    pub(super) fn new(registry: &str) -> Self {
        Self { registry: registry.to_owned() }
    }

    /// Is the registry on this machine?
    fn is_here(&self) -> bool {
        self.registry.parse::<http::uri::Authority>().is_ok_and(|authority| is_loopback(authority.host()))
    }

    fn base(&self) -> String {
        // Docker's own name for its registry is another host.
        let name = if self.registry == "docker.io" { "registry-1.docker.io" } else { &self.registry };
        format!("{}://{name}", if self.is_here() { "http" } else { "https" })
    }

    fn unreachable(&self, reason: impl ToString) -> OciError {
        OciError::Unreachable { registry: self.registry.clone(), reason: reason.to_string() }
    }

    async fn ask(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes, most: usize) -> Result<Came, OciError> {
        let host = uri.host().ok_or_else(|| self.unreachable(format!("{uri} has no host")))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let plain = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err(self.unreachable(format!("{uri} is neither https nor http"))),
        };
        if plain && !is_loopback(bare) {
            return Err(self.unreachable(format!("{host} is not on this machine and is to be spoken with without TLS")));
        }
        // What else listens on this machine is none of a registry's business that is elsewhere.
        if is_loopback(bare) && !self.is_here() {
            return Err(self.unreachable(format!("it sends us to {host}, on this machine, and is not on it itself")));
        }
        let port = uri.port_u16().unwrap_or(if plain { 80 } else { 443 });
        let connecting = TcpStream::connect((bare, port));
        let stream = match tokio::time::timeout(CONNECTS, connecting).await {
            Ok(stream) => stream.map_err(|error| self.unreachable(error))?,
            Err(_) => return Err(self.unreachable(format!("no connection within {CONNECTS:?}"))),
        };
        let mut request = Request::builder().method(method).uri(uri.path_and_query().map_or("/", |path| path.as_str()));
        if let Some(own) = request.headers_mut() {
            own.clone_from(headers);
            let authority = uri.authority().map_or(host, |authority| authority.as_str());
            own.insert(header::HOST, HeaderValue::from_str(authority).map_err(|error| self.unreachable(error))?);
            own.insert(header::USER_AGENT, HeaderValue::from_static(concat!("pointsman/", env!("CARGO_PKG_VERSION"))));
        }
        let request = request.body(Full::new(body.clone())).map_err(|error| self.unreachable(error))?;
        let came = if plain {
            exchange(stream, request, most).await
        } else {
            let name = ServerName::try_from(bare.to_owned()).map_err(|error| self.unreachable(error))?;
            let tls = TlsConnector::from(tls().map_err(|error| self.unreachable(error))?).connect(name, stream);
            exchange(tls.await.map_err(|error| self.unreachable(error))?, request, most).await
        };
        came.map_err(|error| self.unreachable(error))
    }
}

/// One request and its answer, read as far as `most`.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    request: Request<Full<Bytes>>,
    most: usize,
) -> io::Result<Came> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let (head, mut body) = answer.into_parts();
        let most = if head.status.is_success() { most } else { MAX_WORDS };
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
                if bytes.len() + data.len() > most {
                    if head.status.is_success() {
                        return Err(io::Error::other(format!("it sends more than {most} bytes")));
                    }
                    break;
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(Came { status: head.status, headers: head.headers, body: bytes.freeze() })
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        closed = connection => match closed {
            Ok(()) => answer.await,
            Err(error) => Err(io::Error::other(error)),
        },
    }
}

/// One repository of a registry, and what it has let us in with.
pub(super) struct Registry {
    wire: Wire,
    repository: String,
    pushes: bool,
    authorization: Mutex<Option<HeaderValue>>,
}

impl Registry {
    pub(super) fn new(wire: Wire, repository: &str, pushes: bool) -> Self {
        Self { wire, repository: repository.to_owned(), pushes, authorization: Mutex::default() }
    }

    pub(super) async fn get(&self, what: &str, accepts: &str, most: usize) -> Result<Bytes, OciError> {
        let accepts = HeaderValue::from_str(accepts).map_err(|error| self.wire.unreachable(error))?;
        let came = self.send(Method::GET, what, HeaderMap::from_iter([(header::ACCEPT, accepts)]), Bytes::new(), most).await?;
        Ok(came.body)
    }

    /// Asks below the repository, or at a place that the registry has named. It may want to know who asks, and say where else to go.
    pub(super) async fn send(
        &self,
        method: Method,
        what: &str,
        headers: HeaderMap,
        body: Bytes,
        most: usize,
    ) -> Result<Came, OciError> {
        let base = self.wire.base();
        let absolute = match what {
            path if path.starts_with('/') => format!("{base}{path}"),
            whole if whole.contains("://") => whole.to_owned(),
            below => format!("{base}/v2/{}/{below}", self.repository),
        };
        let mut uri = self.uri(&absolute)?;
        let own = self.uri(&base)?;
        let is_own = |uri: &Uri| uri.scheme() == own.scheme() && uri.authority() == own.authority();
        let (mut asked_for_token, mut redirects) = (false, 0);
        loop {
            let mut with = headers.clone();
            if is_own(&uri)
                && let Some(authorization) = self.authorization()
            {
                with.insert(header::AUTHORIZATION, authorization);
            }
            let came = self.wire.ask(&method, &uri, &with, &body, most).await?;
            match came.status {
                status if status.is_success() => return Ok(came),
                StatusCode::UNAUTHORIZED if !asked_for_token && is_own(&uri) => {
                    asked_for_token = true;
                    self.let_in(&came).await?;
                }
                status if status.is_redirection() && redirects < MAX_REDIRECTS && method == Method::GET => {
                    redirects += 1;
                    let place = came.headers.get(header::LOCATION).and_then(|place| place.to_str().ok()).unwrap_or_default();
                    let whole = if place.starts_with('/') { format!("{}{place}", self.origin(&uri)) } else { place.to_owned() };
                    uri = self.uri(&whole)?;
                }
                status => {
                    let said = words(&came.body);
                    let what = format!("{method} {}", uri.path());
                    return Err(OciError::Refused { registry: self.wire.registry.clone(), what, status, said });
                }
            }
        }
    }

    fn uri(&self, text: &str) -> Result<Uri, OciError> {
        text.parse().map_err(|error| self.wire.unreachable(format!("{text:.200} is no address: {error}")))
    }

    fn origin(&self, uri: &Uri) -> String {
        format!("{}://{}", uri.scheme_str().unwrap_or("https"), uri.authority().map_or("", |authority| authority.as_str()))
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does what the registry's challenge asks for: who we are, or a token of its own service.
    async fn let_in(&self, came: &Came) -> Result<(), OciError> {
        let challenge = came.headers.get(header::WWW_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let basic = credentials(&self.wire.registry).map(|pair| format!("Basic {pair}"));
        let value = match challenge.split_once(' ') {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => {
                let of = |name: &str| parameter(rest, name);
                let realm = of("realm").ok_or_else(|| self.wire.unreachable("it names no token service"))?;
                let actions = if self.pushes { "pull,push" } else { "pull" };
                let scope = of("scope").unwrap_or_else(|| format!("repository:{}:{actions}", self.repository));
                let mut ask = format!("{realm}{}scope={}", if realm.contains('?') { '&' } else { '?' }, escaped(&scope));
                if let Some(service) = of("service") {
                    ask.push_str(&format!("&service={}", escaped(&service)));
                }
                let mut headers = HeaderMap::new();
                if let Some(value) = basic.and_then(|value| HeaderValue::from_str(&value).ok()) {
                    headers.insert(header::AUTHORIZATION, value);
                }
                let token = self.wire.ask(&Method::GET, &self.uri(&ask)?, &headers, &Bytes::new(), MAX_WORDS).await?;
                let token: serde_json::Value = serde_json::from_slice(&token.body).unwrap_or_default();
                let token = token["token"].as_str().or_else(|| token["access_token"].as_str());
                token.map(|token| format!("Bearer {token}"))
            }
            _ => basic,
        };
        let mut value = match value.map(|value| HeaderValue::from_str(&value)) {
            Some(Ok(value)) => value,
            // It is asked once more without, and says what it has to say.
            _ => return Ok(()),
        };
        value.set_sensitive(true);
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        Ok(())
    }
}

/// A parameter of a challenge.
fn parameter(challenge: &str, name: &str) -> Option<String> {
    let mut rest = challenge;
    while let Some((key, behind)) = rest.split_once("=\"") {
        let (value, behind) = behind.split_once('"')?;
        if key.trim_start_matches([',', ' ']).eq_ignore_ascii_case(name) {
            return Some(value.to_owned());
        }
        rest = behind;
    }
    None
}

fn escaped(text: &str) -> String {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/,".contains(&byte);
    text.bytes().map(|byte| if safe(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What a registry says in its own words, if it says it as registries do.
fn words(body: &[u8]) -> String {
    let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let said = said["errors"][0]["message"].as_str().unwrap_or_default();
    let plain: String = said.chars().filter(|character| !character.is_control()).take(200).collect();
    if plain.is_empty() { plain } else { format!(" ({plain})") }
}

/// What `docker login`, `oras login` and `wkg` have left for a registry, in `$DOCKER_CONFIG/config.json` or `~/.docker/config.json`: name and
/// password in base64. Helpers that hold it elsewhere are not asked.
fn credentials(registry: &str) -> Option<String> {
    let variable = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    let folder = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")))?;
    let config: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("config.json")).ok()?).ok()?;
    let names = [registry, if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry }];
    let pair = names.iter().find_map(|name| config["auths"][name]["auth"].as_str())?;
    // Only what it should be goes into a header.
    BASE64.decode(pair).ok()?;
    Some(pair.to_owned())
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// As for upstreams: the roots that browsers have, and those of `SSL_CERT_FILE`.
fn tls() -> io::Result<Arc<rustls::ClientConfig>> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(file) = std::env::var_os("SSL_CERT_FILE") {
        let certificates = rustls::pki_types::CertificateDer::pem_file_iter(&file).map_err(io::Error::other)?;
        roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(Arc::new(builder.map_err(io::Error::other)?.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let text = r#"realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#;
        let of = |name: &str| parameter(text, name);
        assert_eq!(of("realm").as_deref(), Some("https://auth.example/token"));
        assert_eq!(of("scope").as_deref(), Some("repository:a/b:pull"));
        assert_eq!((of("error"), parameter("", "realm"), parameter("realm=\"x", "realm")), (None, None, None));
        assert_eq!(escaped("repository:a b&c"), "repository:a%20b%26c");
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        for (host, expect) in [
            ("localhost:5000", "http"),
            ("127.0.0.1:5000", "http"),
            ("[::1]:5000", "http"),
            ("ghcr.io", "https"),
            ("10.0.0.1:5000", "https"),
        ] {
            assert!(Wire::new(host).base().starts_with(&format!("{expect}://")), "{host}");
        }
    }

    #[tokio::test]
    async fn nobody_elsewhere_is_spoken_with_in_plain() {
        let wire = Wire::new("ghcr.io");
        let asked = wire.ask(&Method::GET, &"http://192.0.2.1/x".parse().unwrap(), &HeaderMap::new(), &Bytes::new(), 1).await;
        assert!(asked.err().unwrap().to_string().contains("without TLS"));
    }

    #[tokio::test]
    async fn nobody_elsewhere_sends_us_to_this_machine() {
        for (place, part) in [
            ("http://127.0.0.1:1/token", "on this machine"),
            ("https://localhost:1/token", "on this machine"),
            ("http://[::1]:1/", "on this machine"),
            ("ftp://127.0.0.1/x", "neither https nor http"),
        ] {
            let asked =
                Wire::new("ghcr.io").ask(&Method::GET, &place.parse().unwrap(), &HeaderMap::new(), &Bytes::new(), 1).await;
            let said = asked.err().unwrap().to_string();
            assert!(said.contains(part), "{place}: {said}");
        }
    }
}
