//! The smallest useful guest: it routes to the model that the client asked for and says its revision as the reason. The
//! harness patches the digits to make as many versions as a test wants, without a compiler. What `steps` stands for, a cascade
//! wherever the tests have it, it leaves to the configuration.
//!
//! The revision's first digit is its mood: 9 traps on one of a hundred requests, 8 on each, 7 chooses `large`, 6 refuses, 5 ends each
//! answer before it has begun.
//!
//! **Invariant:** it imports nothing, so it needs no grant.

mod contract {
    wit_bindgen::generate!({ path: "../../wit", world: "routing-plugin", generate_all });
}
use contract::exports::pointsman::plugin::{lifecycle, routing};
use contract::pointsman::plugin::types::{PluginError, Rejection, RequestHead, Target};

/// Read through a volatile pointer, so that the compiler cannot know what will stand here.
static REVISION: [u8; 17] = *b"revision 00000000";

struct Router;

impl lifecycle::Guest for Router {
    fn describe() -> lifecycle::Info {
        lifecycle::Info { name: "router".into(), version: "1.0.0".into(), description: "A guest of the tests.".into() }
    }

    fn check() -> Result<(), PluginError> {
        Ok(())
    }
}

impl routing::Guest for Router {
    fn route(head: RequestHead, _: &routing::Request) -> Result<routing::Decision, PluginError> {
        if head.model == "steps" {
            return Ok(routing::Decision::Pass);
        }
        let revision = core::hint::black_box(&REVISION);
        let mut model = head.model;
        match revision[9] {
            // The ids' last digits are random: 3 of 256.
            b'9' if ["00", "01", "02"].iter().any(|end| head.id.ends_with(end)) => panic!("one of a hundred"),
            b'8' => panic!("each"),
            b'7' => model = "large".into(),
            b'6' => {
                let message = "not with this version".into();
                return Ok(routing::Decision::Reject(Rejection { status: 403, code: "moody".into(), message, retry_after_ms: None }));
            }
            _ => {}
        }
        Ok(routing::Decision::Plan(routing::Plan {
            targets: vec![Target { model, timeout_ms: None, first_byte_timeout_ms: None }],
            headers: vec![],
            reason: String::from_utf8_lossy(revision).into_owned(),
            labels: vec![],
            review: None,
            observe: (revision[9] == b'5').then_some(routing::Observe { events: None, ms: None }),
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
        let step = match core::hint::black_box(&REVISION)[9] {
            b'5' => routing::ChunkStep::Stop(routing::Ending::ContentFilter),
            _ => routing::ChunkStep::Enough,
        };
        Ok(routing::Observed { step, state: vec![] })
    }
}

contract::export!(Router with_types_in contract);
