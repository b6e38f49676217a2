//! Whether what a user sees may be seen.
//!
//! The fake model's answer is known to the letter but for its number, so a word that is missing, said twice, or another model's shows.
//! A stream that was gone on with (docs/upstreams.md) is held to the same: both halves read as one answer, with one role and one reason
//! to finish; that a seam lies between them is told, and not hidden.
//!
//! **Invariant:** an answer is whole to the letter, says that it broke, or is a typed refusal.
//! **Invariant:** a stream that broke has said the beginning of its answer, once, and why it finished only behind all of it.

use serde_json::Value;
use tests::{Answer, sse};

use crate::questions::Question;
use crate::tally::{Sign, Verdict};

/// What a user can tell of an answer, or what is wrong with it.
pub(crate) fn judge(answer: &Answer, asked: &Question) -> Result<Verdict, String> {
    let seen = match answer.status {
        _ if !answer.whole => Err("cut in its framing"),
        200 => answered(answer, asked).map(Verdict::Answered),
        status @ (429 | 503) if !answer.code().is_empty() => Ok(Verdict::Refused(format!("{status} {}", answer.code()))),
        _ => Err("neither an answer nor a refusal"),
    };
    let Answer { head, body, .. } = answer;
    seen.map_err(|wrong| format!("{wrong}: {} {:?}\n{}", head.status, head.headers, String::from_utf8_lossy(body)))
}

fn answered(answer: &Answer, asked: &Question) -> Result<Vec<Sign>, &'static str> {
    let (upstream, mut signs) = origin(answer, asked)?;
    let text = Text { upstream, asked };
    signs.extend(if asked.streamed { stream(answer, &text) } else { plain(answer, &text) }?);
    Ok(signs)
}

/// Who has answered, by the upstream's name, and what the headers tell beside.
fn origin(answer: &Answer, asked: &Question) -> Result<(&'static str, Vec<Sign>), &'static str> {
    let header = |name: &str| answer.header(name).unwrap_or_default();
    let upstream = match (asked.model, header("x-pointsman-model")) {
        ("steps", "first") => "tiny-1",
        ("steps", "second") => "giant-1",
        (model, by) if model == by => "tiny-1",
        _ => return Err("another model has answered"),
    };
    let mut signs = Vec::new();
    match header("x-pointsman-escalated") {
        "" => {}
        "logprob" if asked.doubtful && upstream == "giant-1" => signs.push(Sign::Escalated),
        "logprob, kept" if asked.doubtful && upstream == "tiny-1" => signs.push(Sign::Kept),
        _ => return Err("doubted for no reason"),
    }
    match header("x-pointsman-degraded") {
        "" => {}
        "small" if asked.model == "steps" && upstream == "tiny-1" => signs.push(Sign::Degraded),
        "cached" if answer.cache() == "exact" => signs.push(Sign::Degraded),
        "stale" if answer.cache() == "stale" => signs.push(Sign::Degraded),
        _ => return Err("degraded to what it is not"),
    }
    if asked.model == "steps" && asked.doubtful && upstream == "tiny-1" && signs.is_empty() {
        return Err("a doubtful answer that nobody has doubted");
    }
    if matches!(answer.cache(), "exact" | "stale") {
        signs.push(Sign::Cached);
    }
    Ok((upstream, signs))
}

/// What the fake model says.
struct Text<'a> {
    upstream: &'static str,
    asked: &'a Question,
}

impl Text<'_> {
    /// All of what an answer of this id says.
    fn all(&self, id: &str) -> String {
        format!("Answer {} of {} to: {}", id.trim_start_matches("chatcmpl-"), self.upstream, self.asked.text)
    }
}

fn plain(answer: &Answer, text: &Text<'_>) -> Result<Vec<Sign>, &'static str> {
    let body = answer.json();
    let is_whole = text.all(body["id"].as_str().unwrap_or_default()) == answer.content();
    match (is_whole, body["choices"][0]["finish_reason"].as_str()) {
        (true, Some("stop")) => Ok(vec![Sign::Whole]),
        _ => Err("half an answer"),
    }
}

fn stream(answer: &Answer, text: &Text<'_>) -> Result<Vec<Sign>, &'static str> {
    let chunks = sse::chunks(&answer.body);
    let of = |pointer: &str| -> Vec<&str> { chunks.iter().filter_map(|chunk| chunk.pointer(pointer)?.as_str()).collect() };
    let is_seam = |chunk: &&Value| chunk["x_pointsman"]["continued"] == true;
    let (seams, said) = (chunks.iter().filter(is_seam).count(), of("/choices/0/delta/content").concat());
    // A seam has the first half's.
    let mut ids: Vec<&str> = chunks.iter().filter(|chunk| !is_seam(chunk)).filter_map(|chunk| chunk["id"].as_str()).collect();
    ids.dedup();
    if ids.len() > 1 + seams || of("/choices/0/delta/role").len() != 1 || of("/model").iter().any(|by| *by != text.upstream) {
        return Err("not one stream");
    }
    // Whoever has said the second word has said its own number.
    let Some(all) = ids.iter().map(|id| text.all(id)).find(|all| all.starts_with(&said)) else {
        return Err("not what was to be said");
    };
    let (is_whole, finish) = (said == all, of("/choices/0/finish_reason"));
    let failed = |chunk: &Value| !chunk["error"].is_null();
    let errors = chunks.iter().filter(|chunk| failed(chunk)).count();
    let ending = match (sse::is_done(&answer.body), errors) {
        (true, 0) if is_whole && finish == ["stop"] => Sign::Whole,
        (false, 1) if chunks.last().is_some_and(failed) => {
            if !(finish.is_empty() || is_whole && finish == ["stop"]) {
                return Err("broken, and yet finished");
            }
            Sign::Broken
        }
        _ => return Err("neither whole nor broken"),
    };
    let mut seen = vec![ending];
    seen.extend(std::iter::repeat_n(Sign::Continued, seams));
    Ok(seen)
}
