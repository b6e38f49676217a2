//! `http`: requests to services of the owner's.
//!
//! **Invariant:** what is sent has been looked at (`plugin/http`), and is counted before it is sent.
//! **Invariant:** a call ends when the plugin's deadline does (`hooks` sees to it), and gives its place back however it ends.

use serde::{Deserialize, Serialize};
use serde_json::json;
use wasmtime::Result;

use super::{HttpError, State};
use crate::plugin::bindings::http::{Host, Response};
use crate::plugin::http::Inbound;
use crate::plugin::tape::{Blob, Question};

impl State {
    async fn sent(
        &self,
        method: &str,
        url: &str,
        headers: &[(String, String)],
        body: Vec<u8>,
        timeout_ms: Option<u32>,
    ) -> Result<Response, HttpError> {
        let (Some(limits), Some(around)) = (&self.plugin.settings().http, &self.around) else {
            return Err(HttpError::Unavailable);
        };
        let outbound = limits.check(method, url, headers, body, timeout_ms)?;
        if around.next_call(self.plugin.name()) > limits.calls {
            return Err(HttpError::Busy);
        }
        let _place = self.plugin.places.try_acquire().map_err(|_| HttpError::Busy)?;
        let Inbound { status, headers, body } = around.fetch(outbound).await?;
        Ok(Response { status, headers, body })
    }
}

/// An answer as a tape keeps it.
#[derive(Serialize, Deserialize)]
struct Heard {
    status: u16,
    headers: Vec<(String, String)>,
    body: Blob,
}

impl Host for State {
    async fn send(
        &mut self,
        method: String,
        url: String,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        timeout_ms: Option<u32>,
    ) -> Result<Result<Response, HttpError>> {
        let sent = async |body| {
            let response = self.sent(&method, &url, &headers, body, timeout_ms).await?;
            Ok(Heard { status: response.status, headers: response.headers, body: Blob(response.body) })
        };
        let heard = match self.tape() {
            None => sent(body).await,
            Some(tape) => {
                // What stands in headers may be a secret of the plugin's.
                let body = Blob(body);
                let question = Question { call: "http.send", args: json!([method, url, body]) };
                match tape.answer(&question, || Err(HttpError::Unavailable)) {
                    Some(heard) => heard,
                    None => {
                        let heard = sent(body.0).await;
                        if tape.is_recording() {
                            tape.note(question, &heard);
                        }
                        heard
                    }
                }
            }
        };
        Ok(heard.map(|Heard { status, headers, body: Blob(body) }| Response { status, headers, body }))
    }
}
