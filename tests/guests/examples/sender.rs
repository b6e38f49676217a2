//! A guest that sends what the request tells it to send (`x-puppet-send`), and gives the answer as its reason for choosing the model `small`.
//!
//! **Invariant:** it imports `http` and nothing else that takes a grant.

use guests::types::{PluginError, RequestHead, Target};
use guests::{http, info, lifecycle, orders, routing};
use serde::Deserialize;

#[derive(Deserialize)]
struct Send {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    timeout: Option<u32>,
    /// So many times; the last answer counts.
    #[serde(default = "once")]
    times: u32,
}

fn get() -> String {
    "GET".into()
}

fn once() -> u32 {
    1
}

fn send(request: &Send) -> String {
    let sent = http::send(&request.method, &request.url, &request.headers, request.body.as_bytes(), request.timeout);
    match sent {
        Ok(http::Response { status, headers, body }) => {
            let names: Vec<_> = headers.into_iter().map(|(name, _)| name).collect();
            format!("{status} {} {}", String::from_utf8_lossy(&body), names.join(","))
        }
        Err(error) => format!("{error:?}"),
    }
}

struct Sender;

impl lifecycle::Guest for Sender {
    fn describe() -> lifecycle::Info {
        info("sender")
    }

    /// There is no exchange yet, and nobody to send for.
    fn check() -> Result<(), PluginError> {
        let nowhere = Send {
            method: get(),
            url: "http://127.0.0.1/".into(),
            headers: vec![],
            body: String::new(),
            timeout: None,
            times: 1,
        };
        assert_eq!(send(&nowhere), "HttpError::Unavailable");
        Ok(())
    }
}

impl routing::Guest for Sender {
    fn route(_: RequestHead, request: &routing::Request) -> Result<routing::Decision, PluginError> {
        let Some(what) = orders::<Send>(request, "send")? else { return Ok(routing::Decision::Pass) };
        Ok(routing::Decision::Plan(routing::Plan {
            targets: vec![Target { model: "small".into(), timeout_ms: None, first_byte_timeout_ms: None }],
            headers: vec![],
            reason: (0..what.times).map(|_| send(&what)).last().unwrap_or_default(),
            labels: vec![],
            review: None,
            observe: None,
        }))
    }

    fn after_attempt(
        _: RequestHead,
        _: &routing::Request,
        _: routing::Attempt,
        _: Option<&routing::Response>,
    ) -> Result<routing::NextStep, PluginError> {
        Ok(routing::NextStep::Accept)
    }

    fn on_chunk(
        _: RequestHead,
        _: &routing::Request,
        _: routing::Batch,
        _: &routing::Chunk,
        _: Vec<u8>,
    ) -> Result<routing::Observed, PluginError> {
        Ok(routing::Observed { step: routing::ChunkStep::Enough, state: vec![] })
    }
}

mod unused {
    //! The export macro wants all hooks of the world.
    use guests::types::{PluginError, RequestHead};
    use guests::{caching, prompting};

    impl prompting::Guest for super::Sender {
        fn select(_: RequestHead, _: &prompting::Request) -> Result<prompting::Outcome, PluginError> {
            Ok(prompting::Outcome::Pass)
        }
    }

    impl caching::Guest for super::Sender {
        fn key(_: RequestHead, _: &caching::Request) -> Result<caching::Directive, PluginError> {
            Ok(caching::Directive::Pass)
        }

        fn confirm(_: RequestHead, _: &caching::Request, _: caching::Candidate) -> Result<caching::Verdict, PluginError> {
            Ok(caching::Verdict::Veto)
        }

        fn admit(_: RequestHead, _: &caching::Request, _: &caching::Response) -> Result<Option<u32>, PluginError> {
            Ok(None)
        }
    }
}

guests::export!(Sender with_types_in guests);
