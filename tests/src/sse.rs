//! Server-sent events as a client reads them: strictly, so that a stream which only a lenient reader understands fails a test.
//!
//! What it does not do: it is not the host's own reader; a defect there must not hide itself here.
//!
//! **Invariant:** bytes after the last blank line, or a line that is no `data:` line and no comment, fail the test.

use serde_json::Value;

/// The data of each event.
pub fn events(stream: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(stream).expect("a stream is UTF-8");
    let mut blocks: Vec<&str> = text.split("\n\n").collect();
    let rest = blocks.pop().unwrap_or_default();
    assert!(rest.is_empty(), "the stream ends in the middle of an event: {rest:?}");
    blocks.into_iter().filter_map(data).collect()
}

fn data(block: &str) -> Option<String> {
    let lines = block.lines().filter(|line| !line.starts_with(':'));
    let data: Vec<&str> =
        lines.map(|line| line.strip_prefix("data: ").unwrap_or_else(|| panic!("no data line: {line:?}"))).collect();
    (!data.is_empty()).then(|| data.join("\n"))
}

/// The events that are JSON: all but `[DONE]`.
pub fn chunks(stream: &[u8]) -> Vec<Value> {
    let json = |event: &String| serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {event}"));
    events(stream).iter().filter(|event| *event != "[DONE]").map(json).collect()
}

/// The text of the first choice.
pub fn content(stream: &[u8]) -> String {
    chunks(stream).iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

/// Does it end with `[DONE]`?
pub fn is_done(stream: &[u8]) -> bool {
    events(stream).last().is_some_and(|event| event == "[DONE]")
}

/// The error that an event carries, if one does.
pub fn error(stream: &[u8]) -> Option<Value> {
    chunks(stream).into_iter().find(|chunk| !chunk["error"].is_null()).map(|mut chunk| chunk["error"].take())
}
