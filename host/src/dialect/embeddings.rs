//! OpenAI's embeddings: the request as far as an embedder of ours needs it, and its answer; and the same the other way round, where we ask.
//!
//! What it does not do: a request for an upstream passes through as it is; only its model's name is read and changed.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json::{Document, Splice, quoted};
use super::{Invalid, tokens};

/// Texts of one request; OpenAI's own limit.
const MAX_INPUTS: usize = 2_048;

/// A request for embeddings.
#[derive(Debug)]
pub struct EmbeddingRequest {
    document: Document,
    model: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
}

impl EmbeddingRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// When the body is no JSON object or names no model.
    pub fn parse(bytes: Bytes) -> Result<Self, Invalid> {
        let document = Document::parse(bytes)?;
        let model: Option<String> = document.read("model", "a string: the name of a model")?;
        let model = model
            .filter(|model| !model.is_empty())
            .ok_or_else(|| Invalid::field("model", "`model` is missing. Name a model; GET /v1/models lists them."))?;
        Ok(Self { document, model })
    }

    /// The model that is asked for.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The bytes for an upstream that calls the model `name`.
    pub fn to_upstream(&self, name: &str) -> Bytes {
        self.document.splice(&[Splice::Set("model", quoted(name).into())])
    }

    /// Tokens of its input, about.
    pub fn estimated_tokens(&self) -> u32 {
        tokens::estimate(self.document.get("input").map_or(0, str::len))
    }

    /// The texts to embed.
    ///
    /// # Errors
    /// When `input` is not text: the built-in embedder has a vocabulary of its own and cannot read token numbers.
    pub fn texts(&self) -> Result<Vec<String>, Invalid> {
        let input: Option<Input> =
            self.document.read("input", "a string or an array of strings; this model does not take token numbers")?;
        let texts = match input {
            None => return Err(Invalid::field("input", "`input` is missing. Send a string or an array of strings.")),
            Some(Input::One(text)) => vec![text],
            Some(Input::Many(texts)) => texts,
        };
        if texts.is_empty() || texts.len() > MAX_INPUTS {
            return Err(Invalid::field("input", format!("`input` must have 1 to {MAX_INPUTS} texts, not {}.", texts.len())));
        }
        match texts.iter().position(String::is_empty) {
            Some(index) => Err(Invalid::field("input", format!("`input[{index}]` is empty. Send text."))),
            None => Ok(texts),
        }
    }

    /// Shall vectors be base64 (little-endian `f32`) instead of arrays?
    ///
    /// # Errors
    /// When `encoding_format` is neither `float` nor `base64`, or `dimensions` is not what the model has.
    pub fn wants_base64(&self, dimensions: usize) -> Result<bool, Invalid> {
        if let Some(wanted) = self.document.read::<usize>("dimensions", "a whole number")?.filter(|wanted| *wanted != dimensions)
        {
            return Err(Invalid::field(
                "dimensions",
                format!("This model has {dimensions} dimensions, not {wanted}. Leave `dimensions` out."),
            ));
        }
        match self.document.read::<String>("encoding_format", "\"float\" or \"base64\"")?.as_deref() {
            None | Some("float") => Ok(false),
            Some("base64") => Ok(true),
            Some(_) => Err(Invalid::field("encoding_format", "`encoding_format` must be \"float\" or \"base64\".")),
        }
    }
}

/// The answer for vectors in the order of the texts.
pub fn answer(model: &str, vectors: &[impl AsRef<[f32]>], base64: bool, text_bytes: usize) -> Bytes {
    let data: Vec<Value> = vectors
        .iter()
        .enumerate()
        .map(|(index, vector)| {
            let embedding = if base64 { encode(vector.as_ref()).into() } else { json!(vector.as_ref()) };
            json!({ "object": "embedding", "index": index, "embedding": embedding })
        })
        .collect();
    let tokens = tokens::estimate(text_bytes);
    Bytes::from(
        json!({ "object": "list", "data": data, "model": model, "usage": { "prompt_tokens": tokens, "total_tokens": tokens } })
            .to_string(),
    )
}

/// A request for the vectors of these texts.
pub fn request(model: &str, texts: &[String], dimensions: Option<u32>) -> Bytes {
    let mut body = json!({ "model": model, "input": texts });
    if let Some(dimensions) = dimensions {
        body["dimensions"] = dimensions.into();
    }
    Bytes::from(body.to_string())
}

/// The vectors of an answer, in the order of the texts.
///
/// # Errors
/// When it is no such answer, or has not one vector of numbers for each text.
pub fn vectors(answer: &[u8], count: usize) -> Result<Vec<Vec<f32>>, String> {
    #[derive(Deserialize)]
    struct Answer {
        data: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        index: Option<usize>,
        embedding: Vec<f32>,
    }
    let answer: Answer = serde_json::from_slice(answer).map_err(|error| format!("the answer has no embeddings: {error}"))?;
    let mut vectors = vec![Vec::new(); count];
    for (place, one) in answer.data.into_iter().enumerate() {
        match vectors.get_mut(one.index.unwrap_or(place)) {
            Some(vector) if vector.is_empty() => *vector = one.embedding,
            _ => return Err("the answer has two embeddings of one text, or more than were asked for".to_owned()),
        }
    }
    if vectors.iter().any(|vector| vector.is_empty() || vector.iter().any(|value| !value.is_finite())) {
        return Err("the answer lacks an embedding, or has one that is no vector".to_owned());
    }
    Ok(vectors)
}

/// Base64 of little-endian floats, as OpenAI's Python SDK asks for by default.
fn encode(vector: &[f32]) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The answer to `GET /v1/models`, and one entry of it.
pub fn models<'a>(names: impl Iterator<Item = (&'a str, &'a str)>) -> Bytes {
    let data: Vec<Value> = names.map(|(name, owner)| model(name, owner)).collect();
    Bytes::from(json!({ "object": "list", "data": data }).to_string())
}

/// One model.
pub fn model(name: &str, owner: &str) -> Value {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": owner })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs() {
        let of =
            |text: &str| EmbeddingRequest::parse(Bytes::copy_from_slice(text.as_bytes())).and_then(|request| request.texts());
        assert_eq!(of(r#"{"model":"m","input":"a"}"#).unwrap(), ["a"]);
        assert_eq!(of(r#"{"model":"m","input":["a","b"]}"#).unwrap(), ["a", "b"]);
        for (text, param) in [
            (r#"{"model":"m","input":[1,2]}"#, "input"),
            (r#"{"model":"m","input":[]}"#, "input"),
            (r#"{"model":"m","input":["a",""]}"#, "input"),
            (r#"{"model":"m"}"#, "input"),
            (r#"{"input":"a"}"#, "model"),
        ] {
            assert_eq!(of(text).unwrap_err().param.as_deref(), Some(param), "{text}");
        }
    }

    #[test]
    fn what_is_asked_and_what_comes() {
        let texts = ["a".to_owned(), "b \"c\"".to_owned()];
        assert_eq!(request("m", &texts, None), r#"{"model":"m","input":["a","b \"c\""]}"#);
        assert_eq!(request("m", &texts[..1], Some(8)), r#"{"model":"m","input":["a"],"dimensions":8}"#);
        let of = |text: &str| vectors(text.as_bytes(), 2);
        let one = vec![vec![1.0, 2.0], vec![3.0, 4.5]];
        assert_eq!(of(r#"{"data":[{"index":1,"embedding":[3,4.5]},{"index":0,"embedding":[1,2]}]}"#), Ok(one.clone()));
        assert_eq!(of(r#"{"data":[{"embedding":[1,2]},{"embedding":[3,4.5]}],"usage":{}}"#), Ok(one));
        for wrong in [
            "",
            "{}",
            r#"{"data":[{"embedding":[1]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
            r#"{"data":[{"index":0,"embedding":[1]},{"index":2,"embedding":[1]}]}"#,
            r#"{"data":[{"embedding":[1]},{"embedding":[]}]}"#,
            r#"{"data":[{"embedding":[1]},{"embedding":[1e40]}]}"#,
            r#"{"data":[{"embedding":"AACAPw=="},{"embedding":[1]}]}"#,
        ] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn vectors_are_little_endian_floats() {
        assert_eq!(encode(&[1.0, -2.0]), "AACAPwAAAMA=");
    }
}
