//! Speaks with a node that runs, by its admin API.
//!
//! What it does not do: it knows no path of that API; each command does.
//!
//! **Invariant:** the administrator's key goes into a header, and never into what is printed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config;

/// Where an administrator's address is looked for, where none is said.
const CONFIG: &str = "pointsman.toml";
/// As `pointsman dev` listens.
const ADDRESS: &str = "127.0.0.1:9090";
const CONNECTS: Duration = Duration::from_secs(5);
/// A component may have to be fetched and compiled.
const ANSWERS: Duration = Duration::from_secs(180);

/// Which node.
#[derive(Args)]
pub(super) struct Node {
    /// The node's admin address, such as 127.0.0.1:9090. Its key, where it has one, is read from the environment: POINTSMAN_ADMIN_KEY
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// The node's configuration, whose `[admin]` has address and key. Default: pointsman.toml, where it is there; else 127.0.0.1:9090
    #[arg(short, long, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
}

/// Gets an answer's bytes as they come; why not, where it cannot.
type Take<'a> = dyn FnMut(&[u8]) -> Result<(), String> + 'a;
/// The same, whatever the status.
type TakeAny<'a> = dyn FnMut(StatusCode, &[u8]) -> Result<(), String> + 'a;

/// Where it is, and with which key.
struct Found {
    address: String,
    key: Option<SecretString>,
}

impl Node {
    /// What the node says. Where it refuses, in its own words.
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        self.send(method, path, Bytes::from(body.map(Value::to_string).unwrap_or_default()))
    }

    /// The same for a body that is no JSON.
    pub(super) fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Value, String> {
        let mut bytes = Vec::new();
        let address = self.read(method, path, body, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{address} does not answer as an admin API does: {error}"))
    }

    /// What the node says, part by part, for an answer that is no JSON or too long to be held. Gives its address.
    pub(super) fn read(&self, method: Method, path: &str, body: Bytes, take: &mut Take<'_>) -> Result<String, String> {
        let Found { address, key } = self.find()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
        let mut refusal = Vec::new();
        let status = runtime.block_on(send(&address, key.as_ref(), method, path, body, &mut |status, part| {
            if status.is_success() {
                return take(part);
            }
            refusal.extend_from_slice(part);
            Ok(())
        }))?;
        if status.is_success() {
            return Ok(address);
        }
        let bytes = refusal;
        let said = String::from_utf8_lossy(&bytes).trim().to_owned();
        Err(match status {
            StatusCode::UNAUTHORIZED => {
                format!(
                    "{address} wants the key of [admin]; set POINTSMAN_ADMIN_KEY, or name the node's configuration with --config"
                )
            }
            _ if said.is_empty() => format!("{address} answers {status}; is it a node's admin address?"),
            _ => said,
        })
    }

    fn find(&self) -> Result<Found, String> {
        let from_environment = std::env::var("POINTSMAN_ADMIN_KEY").ok().filter(|key| !key.is_empty()).map(SecretString::from);
        if let Some(address) = &self.admin {
            let address = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/').to_owned();
            return Ok(Found { address, key: from_environment });
        }
        let file = match &self.config {
            Some(file) => file,
            None if Path::new(CONFIG).is_file() => Path::new(CONFIG),
            None => return Ok(Found { address: ADDRESS.to_owned(), key: from_environment }),
        };
        let admin = config::admin(file).map_err(|report| {
            format!("{}\nmend it, or name the node's address with --admin ADDRESS", report.to_string().trim_end())
        })?;
        let Some(admin) = admin else {
            return Err(format!(
                "{} has no [admin], so its node cannot be asked; add one, or name the address with --admin",
                file.display()
            ));
        };
        let from_file = || admin.key.as_ref().map(|key| key.resolve().map_err(|error| error.to_string())).transpose();
        let key = match from_environment {
            Some(key) => Some(key),
            None => from_file()?,
        };
        Ok(Found { address: admin.address.to_string(), key })
    }
}

async fn send(
    address: &str,
    key: Option<&SecretString>,
    method: Method,
    path: &str,
    body: Bytes,
    take: &mut TakeAny<'_>,
) -> Result<StatusCode, String> {
    let nobody = |why: String| {
        format!(
            "no node answers at {address} ({why}); start one with `pointsman serve`, or name its admin address with --admin or --config"
        )
    };
    let stream = match timeout(CONNECTS, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| nobody(error.to_string()))?,
        Err(_) => return Err(nobody("it does not take the connection".to_owned())),
    };
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, address);
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", key.expose_secret()));
    }
    let request = request.body(Full::new(body)).map_err(|error| format!("this cannot be asked: {error}"))?;
    let answer = async {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| nobody(error.to_string()))?;
        let mut connection = std::pin::pin!(connection);
        // The connection does not outlive the answer; where it ends first, the answer says how.
        let mut is_open = true;
        let answer = async {
            let silent =
                |_| format!("{address} has not answered for {ANSWERS:?}; `pointsman plugin list` shows what has become of it");
            let answer = timeout(ANSWERS, sender.send_request(request)).await.map_err(silent)?;
            let answer = answer.map_err(|error| nobody(error.to_string()))?;
            let (status, mut body) = (answer.status(), answer.into_body());
            while let Some(frame) = timeout(ANSWERS, body.frame()).await.map_err(silent)? {
                let frame = frame.map_err(|error| format!("the answer of {address} broke off: {error}"))?;
                if let Ok(part) = frame.into_data() {
                    take(status, &part)?;
                }
            }
            Ok(status)
        };
        let mut answer = std::pin::pin!(answer);
        loop {
            tokio::select! {
                answered = &mut answer => return answered,
                _ = &mut connection, if is_open => is_open = false,
            }
        }
    };
    answer.await
}
