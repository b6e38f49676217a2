//! What is read often of a request.
//!
//! What it does not do: it keeps nothing. Each call crosses into the host.

use crate::bindings::host::pointsman::plugin::request_data::{Request, Response};
use crate::{Message, flat};

impl Request {
    /// All messages, first to last. Each is fetched when the iterator comes to it.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = Message> + '_ {
        (0..self.message_count()).filter_map(|index| self.message(index))
    }

    /// A string, number or boolean of the body as text, by its RFC 6901 pointer: `/user`, `/metadata/team`.
    pub fn text_at(&self, pointer: &str) -> Option<String> {
        self.json(pointer).and_then(|json| flat::scalar(&json))
    }
}

impl Response {
    /// A string, number or boolean of the answer as text, by its RFC 6901 pointer: `/choices/0/finish_reason`.
    pub fn text_at(&self, pointer: &str) -> Option<String> {
        self.json(pointer).and_then(|json| flat::scalar(&json))
    }
}
