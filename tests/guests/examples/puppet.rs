//! A guest that returns what the request's `x-puppet-HOOK` headers say, whatever it is: the tests' hand on the other side.
//!
//! **Invariant:** it imports nothing, so it needs no grant.

use std::sync::atomic::{AtomicU32, Ordering};

use guests::puppet::{Admit, Directive, Flow, Next, Route, Select, Sight, Verdict};
use guests::types::{PluginError, RequestHead, Target};
use guests::{caching, info, lifecycle, orders, prompting, routing};

/// Counts the calls that this instance has seen. A fresh instance per exchange never gets beyond its own.
static CALLS: AtomicU32 = AtomicU32::new(0);

struct Puppet;

impl lifecycle::Guest for Puppet {
    fn describe() -> lifecycle::Info {
        info("puppet")
    }

    fn check() -> Result<(), PluginError> {
        Ok(())
    }
}

fn sight(what: Sight, head: &RequestHead, request: &routing::Request) -> String {
    match what {
        Sight::Head => format!("{head:?}"),
        Sight::Calls => CALLS.load(Ordering::Relaxed).to_string(),
        Sight::Header(name) => format!("{:?}", request.header(&name)),
        Sight::HeaderNames => request.header_names().join(","),
        Sight::Messages => (0..request.message_count())
            .filter_map(|index| request.message(index))
            .map(|message| format!("{:?}={}", message.role, message.text))
            .collect::<Vec<_>>()
            .join("|"),
        Sight::LastUserText(bytes) => request.last_user_text(bytes),
        Sight::Json(pointer) => format!("{:?}", request.json(&pointer)),
        Sight::Metadata(key) => format!("{:?}", request.metadata(&key)),
    }
}

impl routing::Guest for Puppet {
    fn route(head: RequestHead, request: &routing::Request) -> Result<routing::Decision, PluginError> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let target = |model: String| Target { model, timeout_ms: None, first_byte_timeout_ms: None };
        Ok(match orders::<Route>(request, "route")? {
            None | Some(Route::Pass) => routing::Decision::Pass,
            Some(Route::Plan { targets, headers, reason, labels, first_byte_timeout_ms, timeout_ms, review, observe }) => {
                let targets = targets.into_iter().map(|model| Target { model, timeout_ms, first_byte_timeout_ms }).collect();
                let (review, observe) = (review.map(Into::into), observe.map(Into::into));
                routing::Decision::Plan(routing::Plan { targets, headers, reason, labels, review, observe })
            }
            Some(Route::Observe(how)) => routing::Decision::Observe(how.into()),
            Some(Route::Relay { name, until }) => {
                let found: u32 = request.metadata(&name).map_or(0, |number| number.parse().unwrap());
                if found < until {
                    request.label(&name, &(found + 1).to_string());
                    return Ok(routing::Decision::Pass);
                }
                routing::Decision::Plan(routing::Plan {
                    targets: vec![target(head.model)],
                    headers: vec![],
                    reason: format!("{name} {found}"),
                    labels: vec![],
                    review: None,
                    observe: None,
                })
            }
            Some(Route::Tell(what)) => {
                let reason = sight(what, &head, request);
                routing::Decision::Plan(routing::Plan {
                    targets: vec![target(head.model)],
                    headers: vec![],
                    reason,
                    labels: vec![],
                    review: None,
                    observe: None,
                })
            }
            Some(Route::Reject(refusal)) => routing::Decision::Reject(refusal.into()),
            Some(Route::Misdeed(misdeed)) => return misdeed.commit(),
        })
    }

    fn after_attempt(
        _: RequestHead,
        request: &routing::Request,
        last: routing::Attempt,
        answer: Option<&routing::Response>,
    ) -> Result<routing::NextStep, PluginError> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let mut orders = orders::<Vec<Next>>(request, "after")?.unwrap_or_default();
        let place = last.number as usize - 1;
        if place >= orders.len() {
            return Ok(if last.failure.is_some() { routing::NextStep::FallBack } else { routing::NextStep::Accept });
        }
        Ok(match orders.swap_remove(place) {
            Next::Accept => routing::NextStep::Accept,
            Next::FallBack => routing::NextStep::FallBack,
            Next::Again(ms) => routing::NextStep::Again(ms),
            Next::Escalate(model) => routing::NextStep::Escalate(Target { model, timeout_ms: None, first_byte_timeout_ms: None }),
            Next::Reject(refusal) => routing::NextStep::Reject(refusal.into()),
            Next::Tell => {
                let seen = answer.map(|answer| (answer.text(64), answer.mean_logprob(), answer.is_whole()));
                let calls = CALLS.load(Ordering::Relaxed);
                let message = format!("{last:?} {seen:?} calls {calls}");
                routing::NextStep::Reject(guests::types::Rejection {
                    status: 422,
                    code: "told".into(),
                    message,
                    retry_after_ms: None,
                })
            }
            Next::Misdeed(misdeed) => return misdeed.commit(),
        })
    }

    fn on_chunk(
        _: RequestHead,
        request: &routing::Request,
        part: routing::Batch,
        chunk: &routing::Chunk,
        state: Vec<u8>,
    ) -> Result<routing::Observed, PluginError> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        let mut orders = orders::<Vec<Flow>>(request, "chunk")?.unwrap_or_default();
        let place = part.index as usize;
        let order = match if place < orders.len() { orders.swap_remove(place) } else { Flow::GoOn } {
            Flow::Unless(model, _) if model == part.model => Flow::GoOn,
            Flow::Unless(_, order) => *order,
            order => order,
        };
        // What was said so far, but for its beginning where it is long.
        let mut state = [&state, chunk.text(1_024).as_bytes()].concat();
        state.drain(..state.len().saturating_sub(2_048));
        let step = match order {
            Flow::GoOn => routing::ChunkStep::GoOn,
            Flow::Enough => routing::ChunkStep::Enough,
            Flow::Stop => routing::ChunkStep::Stop(routing::Ending::ContentFilter),
            Flow::Cut => routing::ChunkStep::Stop(routing::Ending::Length),
            Flow::Escalate(model) => {
                routing::ChunkStep::Escalate(Target { model, timeout_ms: None, first_byte_timeout_ms: None })
            }
            Flow::Reject(refusal) => routing::ChunkStep::Reject(refusal.into()),
            Flow::Label(name) => {
                request.label(&name, &String::from_utf8_lossy(&state));
                routing::ChunkStep::GoOn
            }
            Flow::Unless(..) => unreachable!("nobody orders that"),
            Flow::Swell => return Ok(routing::Observed { step: routing::ChunkStep::GoOn, state: vec![b'x'; 4_097] }),
            Flow::Tell => {
                let (said, id) = (String::from_utf8_lossy(&state), chunk.json(0, "/id"));
                let calls = CALLS.load(Ordering::Relaxed);
                let message = format!("{part:?} {said:?} {id:?} {:?} calls {calls}", chunk.json(part.events, ""));
                routing::ChunkStep::Reject(guests::types::Rejection {
                    status: 422,
                    code: "told".into(),
                    message,
                    retry_after_ms: None,
                })
            }
            Flow::Misdeed(misdeed) => return misdeed.commit(),
        };
        Ok(routing::Observed { step, state })
    }
}

impl prompting::Guest for Puppet {
    fn select(_: RequestHead, request: &prompting::Request) -> Result<prompting::Outcome, PluginError> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        Ok(match orders::<Select>(request, "select")? {
            None | Some(Select::Pass) => prompting::Outcome::Pass,
            Some(Select::Label(labels)) => {
                labels.iter().for_each(|(name, value)| request.label(name, value));
                prompting::Outcome::Pass
            }
            Some(Select::LabelAndPanic(labels)) => {
                labels.iter().for_each(|(name, value)| request.label(name, value));
                panic!("as ordered")
            }
            Some(Select::Choose(choice)) => prompting::Outcome::Choose(choice.into()),
            Some(Select::Rewrite { choice, edits }) => prompting::Outcome::Rewrite(prompting::Rewrite {
                choice: choice.map(Into::into),
                edits: edits.into_iter().map(Into::into).collect(),
            }),
            Some(Select::Reject(refusal)) => prompting::Outcome::Reject(refusal.into()),
            Some(Select::Misdeed(misdeed)) => return misdeed.commit(),
        })
    }
}

impl caching::Guest for Puppet {
    fn key(_: RequestHead, request: &caching::Request) -> Result<caching::Directive, PluginError> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        Ok(match orders::<Directive>(request, "key")? {
            None | Some(Directive::Pass) => caching::Directive::Pass,
            Some(Directive::Bypass) => caching::Directive::Bypass,
            Some(Directive::Key(key)) => caching::Directive::Key(key.into()),
            Some(Directive::ReadOnly(key)) => caching::Directive::ReadOnly(key.into()),
            Some(Directive::Refresh(key)) => caching::Directive::Refresh(key.into()),
            Some(Directive::Misdeed(misdeed)) => return misdeed.commit(),
        })
    }

    fn confirm(_: RequestHead, request: &caching::Request, _: caching::Candidate) -> Result<caching::Verdict, PluginError> {
        Ok(match orders::<Verdict>(request, "confirm")? {
            None | Some(Verdict::Serve) => caching::Verdict::Serve,
            Some(Verdict::Veto) => caching::Verdict::Veto,
            Some(Verdict::Evict) => caching::Verdict::Evict,
            Some(Verdict::Misdeed(misdeed)) => return misdeed.commit(),
        })
    }

    fn admit(_: RequestHead, request: &caching::Request, response: &caching::Response) -> Result<Option<u32>, PluginError> {
        CALLS.fetch_add(1, Ordering::Relaxed);
        Ok(match orders::<Admit>(request, "admit")? {
            None => Some(60_000),
            Some(Admit::No) => None,
            Some(Admit::For(ms)) => Some(ms),
            Some(Admit::IfTextHas(part)) => response.text(1 << 16).contains(&part).then_some(60_000),
            Some(Admit::IfFirstCall) => (CALLS.load(Ordering::Relaxed) == 1).then_some(60_000),
            Some(Admit::Panic) => panic!("as ordered"),
        })
    }
}

guests::export!(Puppet with_types_in guests);
