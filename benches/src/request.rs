//! The requests that are sent: one chat completion of fixed size, in which only a word of letters changes.
//!
//! The word makes each request a miss, or each the same one. Letters, because a plugin may take long numbers for private data
//! and refuse to cache them, which would be another measurement.
//!
//! What it does not do: it allocates nothing once it is built; the word is written over.
//!
//! **Invariant:** all requests of one template have the same length.
//! **Invariant:** different numbers are different requests.

use std::net::SocketAddr;
use std::ops::Range;

use crate::schedule::Random;
use crate::upstream::Wish;

/// Bytes of a plain request's body.
pub const BODY: usize = 530;
/// Letters of the changing word: 4 bits each.
const WORD: usize = 16;

const SYSTEM: &str = "You answer questions of the customers of a bicycle shop. Be brief and polite. If you do not know the answer, say so and name the page of the manual that may help.";
const QUESTION: &str = "The rear brake of my touring bicycle squeals when it rains, although the pads are new and the rim is clean. What can I do about it at home, and when should I rather bring it to the workshop? My bicycle is called ";

/// A request as it goes over the wire, with a place for the word.
#[derive(Clone, Debug)]
pub struct Template {
    bytes: Vec<u8>,
    word: Range<usize>,
}

impl Template {
    /// A request to `address`; with a wish it asks for a stream, and tells the upstream which.
    pub fn new(address: SocketAddr, wish: Option<&Wish>) -> Self {
        Self::with_prompt(address, wish, None)
    }

    /// One that also asks for a versioned prompt, which makes it longer.
    pub fn with_prompt(address: SocketAddr, wish: Option<&Wish>, prompt: Option<&str>) -> Self {
        let mark = "?".repeat(WORD);
        let mut body = serde_json::json!({
            "model": "auto",
            "messages": [{ "role": "system", "content": SYSTEM }, { "role": "user", "content": format!("{QUESTION}{mark}.") }],
            "temperature": 0,
            "max_tokens": 256,
        });
        match wish {
            Some(wish) => {
                body["stream"] = true.into();
                body[Wish::FIELD] = serde_json::json!(wish);
            }
            None => {
                let missing = BODY.saturating_sub(body.to_string().len() + r#","user":"""#.len());
                body["user"] = "u".repeat(missing).into();
            }
        }
        if let Some(prompt) = prompt {
            body["prompt"] = serde_json::json!({ "id": prompt, "variables": { "product": "touring bicycle" } });
        }
        let body = body.to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\naccept: application/json\r\ncontent-type: application/json\r\nuser-agent: pointsman-load/1\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let bytes = (head + &body).into_bytes();
        // It was written two statements ago, and nothing else has as many question marks.
        let start = memchr::memmem::find(&bytes, mark.as_bytes()).unwrap_or(0);
        Self { word: start..start + WORD, bytes }
    }

    /// The same with a header more.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let line = format!("{name}: {value}\r\n");
        // Behind the request line, which every template has.
        let at = memchr::memchr(b'\n', &self.bytes).map_or(0, |end| end + 1);
        self.bytes.splice(at..at, line.bytes());
        self.word = self.word.start + line.len()..self.word.end + line.len();
        self
    }

    /// The request with this number's word.
    pub fn numbered(&mut self, number: u64) -> &[u8] {
        for (place, letter) in self.bytes[self.word.clone()].iter_mut().enumerate() {
            *letter = b'a' + ((number >> (4 * place)) & 15) as u8;
        }
        &self.bytes
    }
}

/// Which numbers a run sends.
#[derive(Clone, Debug)]
pub struct Mix {
    /// The share of requests that are all the same one.
    repeat: f64,
    seed: u64,
}

impl Mix {
    /// The number of the request that repeats.
    const SAME: u64 = 0;

    /// `repeat` of the requests are one and the same, the others all differ, also from those of another seed.
    pub fn new(repeat: f64, seed: u64) -> Self {
        Self { repeat, seed }
    }

    /// The number to put into the request that is sent as this one of the run.
    pub fn number(&self, place: usize) -> u64 {
        let drawn = Random(self.seed ^ (place as u64).wrapping_mul(0xd134_2543_de82_ef95)).unit();
        // Above 0 and at most 1: never with a share of 0, always with one of 1.
        if drawn <= self.repeat { Self::SAME } else { (self.seed << 32) | (place as u64 + 1) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn body(request: &[u8]) -> serde_json::Value {
        let at = memchr::memmem::find(request, b"\r\n\r\n").unwrap() + 4;
        serde_json::from_slice(&request[at..]).unwrap()
    }

    #[test]
    fn a_plain_request_has_the_size_that_is_said() {
        let mut template = Template::new("127.0.0.1:1".parse().unwrap(), None);
        let (one, other) = (template.numbered(1).to_vec(), template.numbered(u64::MAX).to_vec());
        assert_eq!(body(&one).to_string().len(), BODY);
        assert_eq!(one.len(), other.len());
        assert_ne!(one, other);
        assert!(body(&other)["messages"][1]["content"].as_str().unwrap().ends_with(" pppppppppppppppp."));
    }

    #[test]
    fn a_stream_is_asked_for_with_its_wish() {
        let wish = Wish { events: 3, pause_us: 10, hold_ms: 0 };
        let mut template = Template::new("127.0.0.1:1".parse().unwrap(), Some(&wish));
        let body = body(template.numbered(5));
        assert_eq!(body["stream"], true);
        assert_eq!(body[Wish::FIELD]["events"], 3);
    }

    #[test]
    fn a_header_leaves_the_word_where_it_was() {
        let template = || Template::new("127.0.0.1:1".parse().unwrap(), None);
        let (with, without) = (template().header("x-a", "b").numbered(7).to_vec(), template().numbered(7).to_vec());
        assert_eq!(body(&with), body(&without));
        assert!(memchr::memmem::find(&with, b" HTTP/1.1\r\nx-a: b\r\nhost:").is_some());
    }

    #[test]
    fn only_the_share_repeats() {
        let numbers = |repeat: f64, seed| (0..10_000).map(|place| Mix::new(repeat, seed).number(place)).collect::<Vec<_>>();
        assert!(numbers(1.0, 4).iter().all(|number| *number == Mix::SAME));
        let all: BTreeSet<_> = [numbers(0.0, 4), numbers(0.0, 5)].concat().into_iter().collect();
        assert_eq!(all.len(), 20_000, "all differ, and none is the one that repeats");
        assert!(!all.contains(&Mix::SAME));
        let repeated = numbers(0.3, 4).iter().filter(|number| **number == Mix::SAME).count();
        assert!((2_800..3_200).contains(&repeated), "{repeated}");
    }
}
