//! `pointsman cache warm`: asks a node what applications will ask it, so that the answers are there when they do.
//!
//! It is a client like any other: the node's routes, prompts, plugins and limits hold for it, and its answers are kept for the tenant of
//! its key. It asks as a batch, which whoever waits for an answer goes before.
//!
//! What it does not do: it knows nothing of the cache but what `x-pointsman-cache` says.
//!
//! **Invariant:** nothing is asked before every line could be read.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::{WRONG_INPUT, failed};
use crate::printable::printable;
use crate::upstream::connect::{Client, Connector};

const CONNECT: Duration = Duration::from_secs(10);
/// How often a line is asked, where the node has no room or cannot be reached.
const TRIES: u32 = 6;
/// The pause after the first try, where the node names none; twice as long each time, and never longer than the other.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Failures, and lines that cannot be read, that are told one by one.
const TOLD: usize = 10;

#[derive(Args)]
pub(super) struct Arguments {
    /// What to ask, a line each: a chat completion's body, a line of OpenAI's batch files, or a text in quotes, which needs --model; `-`
    /// reads standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// The node's address for applications. The key to ask with, where the node wants one, is read from the environment: POINTSMAN_KEY
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: Uri,
    /// The model of lines that name none
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Requests at a time
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// A line's request.
struct Line {
    number: usize,
    body: Bytes,
}

/// What came of the lines.
#[derive(Default)]
struct Sum {
    asked: u64,
    there: u64,
    not_kept: u64,
    failed: Vec<(usize, String)>,
}

/// What came of one.
enum Outcome {
    /// A model was asked, and the cache takes the answer if it may.
    Asked,
    /// The cache had it.
    There,
    /// The request goes past the cache.
    NotKept,
}

/// Exit code 0; 1 where a line has no answer; 2 where one cannot be read.
pub(super) fn warm(arguments: &Arguments, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let lines = match read(&arguments.file).and_then(|text| parse(&text, arguments.model.as_deref())) {
        Ok(lines) => lines,
        Err(reason) => return failed(err, WRONG_INPUT, &reason),
    };
    let node = match Node::new(&arguments.url) {
        Ok(node) => node,
        Err(reason) => return failed(err, WRONG_INPUT, &reason),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(err, 1, &error),
    };
    let sum = runtime.block_on(node.ask_all(lines, arguments.concurrency));
    for (line, reason) in sum.failed.iter().take(TOLD) {
        let _ = writeln!(err, "line {line}: {}", printable(reason));
    }
    if let Some(more) = sum.failed.len().checked_sub(TOLD).filter(|more| *more > 0) {
        let _ = writeln!(err, "and {more} more have no answer");
    }
    let Sum { asked, there, not_kept, failed: without } = &sum;
    let lost = without.len();
    let written = if arguments.json {
        let lines: Vec<usize> = without.iter().map(|(line, _)| *line).collect();
        writeln!(
            out,
            "{}",
            json!({ "asked": asked, "there": there, "not_kept": not_kept, "failed": lost, "failed_lines": lines })
        )
    } else {
        writeln!(out, "{asked} asked, {there} were there, {not_kept} go past the cache, {lost} failed")
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => failed(err, 1, &error),
        _ => ExitCode::from(u8::from(lost > 0)),
    }
}

fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => io::stdin().lock().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    Ok(text)
}

fn parse(text: &str, model: Option<&str>) -> Result<Vec<Line>, String> {
    let (mut lines, mut wrong) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let number = index + 1;
        match request(line, model) {
            Ok(body) => lines.push(Line { number, body }),
            Err(reason) => wrong.push(format!("line {number}: {reason}")),
        }
    }
    match wrong.len() {
        0 if lines.is_empty() => Err("the file has no line; write a request on each".to_owned()),
        0 => Ok(lines),
        count => {
            let more = count.checked_sub(TOLD).filter(|more| *more > 0).map(|more| format!("\nand {more} more"));
            wrong.truncate(TOLD);
            Err(format!("nothing was asked:\n{}{}", wrong.join("\n"), more.unwrap_or_default()))
        }
    }
}

/// A line's request, as it is sent.
fn request(line: &str, model: Option<&str>) -> Result<Bytes, String> {
    let wants = "write a chat completion's body, a line of a batch file, or a text in quotes";
    let value = serde_json::from_str(line).map_err(|error| format!("it is no JSON ({error}); {wants}"))?;
    let mut body = match value {
        Value::String(text) => Map::from_iter([("messages".to_owned(), json!([{ "role": "user", "content": text }]))]),
        Value::Object(mut object) => match object.remove("body") {
            Some(Value::Object(body)) => {
                let url = object.get("url").and_then(Value::as_str).unwrap_or(PATH);
                if url != PATH {
                    return Err(format!("`url` is {}, and only answers of {PATH} are kept", printable(url)));
                }
                body
            }
            Some(_) => return Err(format!("`body` is no object; {wants}")),
            None => object,
        },
        _ => return Err(wants.to_owned()),
    };
    if !body.get("messages").is_some_and(Value::is_array) {
        return Err(format!("it has no `messages`; {wants}"));
    }
    match (body.contains_key("model"), model) {
        (true, _) => {}
        (false, Some(model)) => drop(body.insert("model".to_owned(), model.into())),
        (false, None) => return Err("it has no `model`; name one in the line, or one for all with --model".to_owned()),
    }
    Ok(Value::Object(body).to_string().into())
}

const PATH: &str = "/v1/chat/completions";

/// The node that is asked.
struct Node {
    client: Client,
    uri: Uri,
    headers: HeaderMap,
}

impl Node {
    fn new(url: &Uri) -> Result<Self, String> {
        let wrong = || format!("`{url}` is no URL of a node; write one such as http://127.0.0.1:8080");
        let base = url.to_string();
        let base = base.trim_end_matches('/').trim_end_matches("/v1");
        let uri: Uri = format!("{base}{PATH}").parse().map_err(|_| wrong())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(wrong());
        }
        let mut headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::HeaderName::from_static("x-pointsman-priority"), HeaderValue::from_static("batch")),
        ]);
        if let Some(key) = std::env::var("POINTSMAN_KEY").ok().filter(|key| !key.is_empty()).map(SecretString::from) {
            let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()))
                .map_err(|_| "POINTSMAN_KEY is no key: it has signs that no header may have".to_owned())?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Ok(Self { client: Connector::new(CONNECT, CONNECT).client(), uri, headers })
    }

    async fn ask_all(&self, lines: Vec<Line>, at_a_time: u16) -> Sum {
        let asked = futures_util::stream::iter(lines).map(|line| async move { (line.number, self.ask(&line.body).await) });
        let mut asked = std::pin::pin!(asked.buffer_unordered(at_a_time.into()));
        let mut sum = Sum::default();
        while let Some((number, outcome)) = asked.next().await {
            match outcome {
                Ok(Outcome::Asked) => sum.asked += 1,
                Ok(Outcome::There) => sum.there += 1,
                Ok(Outcome::NotKept) => sum.not_kept += 1,
                Err(reason) => sum.failed.push((number, reason)),
            }
        }
        sum.failed.sort();
        sum
    }

    /// Asks as often as it takes, and waits as long as the node says.
    async fn ask(&self, body: &Bytes) -> Result<Outcome, String> {
        let mut pause = PAUSE;
        let mut tries = 1;
        loop {
            let (after, reason) = match self.try_once(body).await {
                Ok(outcome) => return Ok(outcome),
                Err(Not { again: None, reason }) => return Err(reason),
                Err(Not { again: Some(after), reason }) => (after, reason),
            };
            if tries == TRIES {
                return Err(reason);
            }
            tokio::time::sleep(after.unwrap_or(pause).min(LONGEST_PAUSE)).await;
            (tries, pause) = (tries + 1, pause * 2);
        }
    }

    async fn try_once(&self, body: &Bytes) -> Result<Outcome, Not> {
        let mut request = Request::new(Full::new(body.clone()));
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) =
            (Method::POST, self.uri.clone(), self.headers.clone());
        let cut = |reason: &dyn std::error::Error| {
            let mut reason = reason;
            while let Some(source) = reason.source() {
                reason = source;
            }
            Not { again: Some(None), reason: format!("{} cannot be reached: {reason}", self.uri) }
        };
        let (head, body) = self.client.request(request).await.map_err(|error| cut(&error))?.into_parts();
        let body = body.collect().await.map_err(|error| cut(&error))?.to_bytes();
        if !head.status.is_success() {
            let is_full = matches!(head.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            let after = || Some(Duration::from_secs(head.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?));
            return Err(Not { again: is_full.then(after), reason: format!("{}: {}", head.status.as_u16(), message(&body)) });
        }
        // A stream is 200 whatever becomes of it; what ends it says so.
        if let Some(error) = in_stream(&head.headers, &body) {
            return Err(Not { again: Some(None), reason: error });
        }
        Ok(match head.headers.get("x-pointsman-cache").and_then(|value| value.to_str().ok()) {
            // Of a flight the leader's answer is kept.
            Some("exact" | "semantic" | "stale" | "flight") => Outcome::There,
            Some("miss") => Outcome::Asked,
            _ => Outcome::NotKept,
        })
    }
}

/// No answer.
struct Not {
    /// Whether it is asked again, and when, where the node says so.
    again: Option<Option<Duration>>,
    reason: String,
}

/// An error's own words.
fn message(body: &[u8]) -> String {
    let said =
        serde_json::from_slice(body).ok().and_then(|said: Value| Some(said.pointer("/error/message")?.as_str()?.to_owned()));
    said.unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned())
}

/// How a stream failed, if it is one and did.
fn in_stream(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let is_stream = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream || body.trim_ascii_end().ends_with(b"data: [DONE]") {
        return None;
    }
    let text = String::from_utf8_lossy(body);
    let last = text.lines().rev().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
    Some(format!("its stream broke off: {}", message(last.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_each_form() {
        let body = |line: &str| -> Value { serde_json::from_slice(&request(line, Some("small")).unwrap()).unwrap() };
        let messages = json!([{ "role": "user", "content": "hi" }]);
        assert_eq!(body(r#""hi""#), json!({ "model": "small", "messages": messages }));
        assert_eq!(
            body(r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#),
            json!({ "model": "m", "messages": messages })
        );
        assert_eq!(
            body(
                r#"{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"messages":[{"role":"user","content":"hi"}],"seed":1}}"#
            ),
            json!({ "model": "small", "messages": messages, "seed": 1 })
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_nothing_is_asked() {
        let text = "\"fine\"\n\n{\"messages\": 3}\nno json\n{\"url\":\"/v1/embeddings\",\"body\":{}}\n{\"body\":1}\n7";
        let told = parse(text, Some("m")).map(drop).unwrap_err();
        for part in [
            "nothing was asked:\n",
            "line 3: it has no `messages`",
            "line 4: it is no JSON",
            "line 5: `url` is /v1/embeddings, and only",
            "line 6: `body` is no object",
            "line 7: write a chat completion's body",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(
            parse("\"hi\"", None)
                .map(drop)
                .unwrap_err()
                .contains("line 1: it has no `model`; name one in the line, or one for all with --model")
        );
        assert!(parse("\n \n", None).is_err());
    }

    #[test]
    fn a_stream_that_breaks_off_has_failed() {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"))]);
        assert_eq!(in_stream(&headers, b"data: {}\n\ndata: [DONE]\n\n"), None);
        let told = in_stream(&headers, b"data: {}\n\ndata: {\"error\":{\"message\":\"it was cut\"}}\n\n").unwrap();
        assert_eq!(told, "its stream broke off: it was cut");
    }
}
