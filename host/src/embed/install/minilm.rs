//! all-MiniLM-L6-v2 as a graph for onnxruntime, with its weights in eight bits.
//!
//! Six layers of BERT, to the last one's vector of each token; the mean over tokens is taken by whoever runs it. Attention and what stands
//! between two matrices are onnxruntime's own fused operators: at sixteen tokens a node costs as much as its arithmetic.
//!
//! Matrices have a scale for each row, and what they are multiplied with has one for each token, found as it comes. The usual way
//! (`DynamicQuantizeLinear`) scales everything that is computed together by the largest number in it, so a text's vector would depend on
//! the texts beside it; and it is less exact. Weights keep to seven bits: with eight, processors that add pairs of products in sixteen bits
//! (AVX2 without VNNI) cut off what is too large, and the same file would have other vectors there.
//!
//! **Invariant:** the same weights make the same bytes: every step is one operation of IEEE floats.

use safetensors::{Dtype, SafeTensors};

use super::graph::{Attribute, Element, Graph, MICROSOFT};

const LAYERS: usize = 6;
const HEADS: i64 = 12;
const WIDTH: usize = 384;
const INNER: usize = 1_536;
const TOKENS: usize = 30_522;
const POSITIONS: usize = 512;
const EPSILON: f32 = 1e-12;
/// The largest value of a quantised weight. 255 times this, twice, is still a whole number of sixteen bits.
const LARGEST: f32 = 63.0;
/// The same for what no product is made of.
const LARGEST_OF_WORDS: f32 = 127.0;

/// The ONNX file for these weights.
///
/// # Errors
/// When a tensor is not there, or not what this model has.
pub(super) fn convert(safetensors: &[u8]) -> Result<Vec<u8>, String> {
    let weights = Weights(SafeTensors::deserialize(safetensors).map_err(|error| error.to_string())?);
    let mut graph = Graph::default();
    for name in ["input_ids", "attention_mask"] {
        graph.input(name, Element::I64, &["batch", "sequence"]);
    }
    let shapes = Shapes::new(&mut graph);
    let mut hidden = embeddings(&mut graph, &weights, &shapes)?;
    for layer in 0..LAYERS {
        hidden = self::layer(&mut graph, &weights, &format!("encoder.layer.{layer}."), &hidden, &shapes)?;
    }
    let hidden = graph.node("", "Reshape", &[&hidden, &shapes.texts], &[]);
    graph.output("last_hidden_state", &hidden, &["batch", "sequence"], WIDTH);
    Ok(graph.file("all-MiniLM-L6-v2", 17))
}

/// What nodes have in common. Between the layers' attention a batch is one matrix, a row for each token.
struct Shapes {
    /// Texts, their tokens, a vector's width.
    texts: String,
    tokens: String,
    /// 1 for each token of a text, 0 for what only fills it up.
    mask: String,
    /// The zero of what is quantised as it comes.
    middle: String,
    /// As many of it as there are tokens.
    middles: String,
    least: String,
    share: String,
    one: String,
}

impl Shapes {
    fn new(graph: &mut Graph) -> Self {
        let mask = graph.node("", "Cast", &["attention_mask"], &[("to", Attribute::Int(Element::I32 as i64))]);
        let shape = graph.node("", "Shape", &["input_ids"], &[]);
        let width = graph.whole("width", &[WIDTH as i64]);
        let texts = graph.node("", "Concat", &[&shape, &width], &[("axis", Attribute::Int(0))]);
        let one = graph.whole("one", &[1]);
        let tokens = graph.whole("tokens", &[-1, WIDTH as i64]);
        let middle = graph.constant("middle", Element::U8, &[], &[128]);
        let count = graph.node("", "ReduceProd", &[&shape], &[("keepdims", Attribute::Int(1))]);
        let middles = graph.node("", "Expand", &[&middle, &count], &[]);
        let least = graph.floats("least", &[1], &[1e-20]);
        let share = graph.floats("share", &[1], &[1.0 / 127.0]);
        Self { texts, tokens, mask, middle, middles, least, share, one }
    }
}

struct Weights<'a>(SafeTensors<'a>);

impl Weights<'_> {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let tensor = self.0.tensor(name).map_err(|error| format!("{name}: {error}"))?;
        if tensor.shape() != shape || tensor.dtype() != Dtype::F32 {
            return Err(format!("{name} is {:?} of shape {:?}, not F32 of {shape:?}", tensor.dtype(), tensor.shape()));
        }
        Ok(tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// A token's vector, and its place's, to unit variance.
fn embeddings(graph: &mut Graph, weights: &Weights<'_>, shapes: &Shapes) -> Result<String, String> {
    let name = |part: &str| format!("embeddings.{part}");
    let words = weights.get(&name("word_embeddings.weight"), &[TOKENS, WIDTH])?;
    let (values, scales) = rows(&words, WIDTH, LARGEST_OF_WORDS);
    let values = graph.constant("words", Element::I8, &[TOKENS, WIDTH], &values);
    let scales = graph.floats("words.scale", &[TOKENS, 1], &scales);
    let values = graph.node("", "Gather", &[&values, "input_ids"], &[]);
    let values = graph.node("", "Cast", &[&values], &[("to", Attribute::Int(Element::F32 as i64))]);
    let scales = graph.node("", "Gather", &[&scales, "input_ids"], &[]);
    let words = graph.node("", "Mul", &[&values, &scales], &[]);
    let mut places = weights.get(&name("position_embeddings.weight"), &[POSITIONS, WIDTH])?;
    // There is one text and no second: its type is a constant.
    let kinds = weights.get(&name("token_type_embeddings.weight"), &[2, WIDTH])?;
    for (value, kind) in places.iter_mut().zip(kinds[..WIDTH].iter().cycle()) {
        *value += kind;
    }
    let places = graph.floats("places", &[POSITIONS, WIDTH], &places);
    let zero = graph.whole("zero", &[0]);
    let shape = graph.node("", "Shape", &["input_ids"], &[]);
    let length = graph.node("", "Gather", &[&shape, &shapes.one], &[]);
    let places = graph.node("", "Slice", &[&places, &zero, &length, &zero], &[]);
    let sum = graph.node("", "Add", &[&words, &places], &[]);
    let sum = graph.node("", "Reshape", &[&sum, &shapes.tokens], &[]);
    let gain = graph.floats("norm", &[WIDTH], &weights.get(&name("LayerNorm.weight"), &[WIDTH])?);
    let shift = graph.floats("norm.shift", &[WIDTH], &weights.get(&name("LayerNorm.bias"), &[WIDTH])?);
    Ok(graph.node("", "LayerNormalization", &[&sum, &gain, &shift], &[("epsilon", Attribute::Float(EPSILON))]))
}

fn layer(graph: &mut Graph, weights: &Weights<'_>, at: &str, hidden: &str, shapes: &Shapes) -> Result<String, String> {
    // Queries, keys and values by one matrix.
    let (mut all, mut bias) = (Vec::with_capacity(3 * WIDTH * WIDTH), Vec::with_capacity(3 * WIDTH));
    for part in ["query", "key", "value"] {
        all.extend(weights.get(&format!("{at}attention.self.{part}.weight"), &[WIDTH, WIDTH])?);
        bias.extend(weights.get(&format!("{at}attention.self.{part}.bias"), &[WIDTH])?);
    }
    let three = dense(graph, &format!("{at}three"), hidden, (&all, &bias), shapes);
    let sizes = graph.whole(&format!("{at}sizes"), &[WIDTH as i64; 3]);
    let parts = graph.nodes("", "Split", &[&three, &sizes], 3, &[("axis", Attribute::Int(-1))]);
    let parts: Vec<String> = parts.iter().map(|part| graph.node("", "Reshape", &[part, &shapes.texts], &[])).collect();
    let heads = [("num_heads", Attribute::Int(HEADS))];
    let seen = graph.node(MICROSOFT, "MultiHeadAttention", &[&parts[0], &parts[1], &parts[2], "", &shapes.mask], &heads);
    let seen = graph.node("", "Reshape", &[&seen, &shapes.tokens], &[]);
    let matrix = |graph: &mut Graph, from: &str, part: &str, width: usize, out: usize| {
        let values = weights.get(&format!("{at}{part}.dense.weight"), &[out, width])?;
        let bias = weights.get(&format!("{at}{part}.dense.bias"), &[out])?;
        Ok::<_, String>(dense(graph, &format!("{at}{part}"), from, (&values, &bias), shapes))
    };
    let seen = matrix(graph, &seen, "attention.output", WIDTH, WIDTH)?;
    let hidden = normed(graph, weights, &format!("{at}attention.output"), &seen, hidden)?;
    let inner = matrix(graph, &hidden, "intermediate", WIDTH, INNER)?;
    let inner = graph.node(MICROSOFT, "Gelu", &[&inner], &[]);
    let inner = matrix(graph, &inner, "output", INNER, WIDTH)?;
    normed(graph, weights, &format!("{at}output"), &inner, &hidden)
}

/// What a step has found, added to what was there before it, to unit variance.
fn normed(graph: &mut Graph, weights: &Weights<'_>, at: &str, found: &str, before: &str) -> Result<String, String> {
    let part = |name: &str| weights.get(&format!("{at}.LayerNorm.{name}"), &[WIDTH]);
    let gain = graph.floats(&format!("{at}.norm"), &[WIDTH], &part("weight")?);
    let shift = graph.floats(&format!("{at}.norm.shift"), &[WIDTH], &part("bias")?);
    let sum = graph.node("", "Add", &[found, before], &[]);
    Ok(graph.node("", "LayerNormalization", &[&sum, &gain, &shift], &[("epsilon", Attribute::Float(EPSILON))]))
}

/// Each token's row times a matrix with a row for each output, and what is added: in whole numbers, and back.
fn dense(graph: &mut Graph, name: &str, from: &str, (values, bias): (&[f32], &[f32]), shapes: &Shapes) -> String {
    let (outputs, width) = (bias.len(), values.len() / bias.len());
    let (bytes, scales) = rows(values, width, LARGEST);
    // As the operator wants it: a column for each output.
    let columns: Vec<u8> = (0..width).flat_map(|place| bytes.iter().skip(place).step_by(width).copied()).collect();
    let matrix = graph.constant(name, Element::I8, &[width, outputs], &columns);
    let scales = graph.floats(&format!("{name}.scale"), &[outputs], &scales);
    let bias = graph.floats(&format!("{name}.bias"), &[outputs], bias);
    let sizes = graph.node("", "Abs", &[from], &[]);
    let largest = graph.node("", "ReduceMax", &[&sizes], &[("axes", Attribute::Ints(&[1])), ("keepdims", Attribute::Int(0))]);
    let scale = graph.node("", "Mul", &[&largest, &shapes.share], &[]);
    let scale = graph.node("", "Max", &[&scale, &shapes.least], &[]);
    let whole = graph.node("", "QuantizeLinear", &[from, &scale, &shapes.middles], &[("axis", Attribute::Int(0))]);
    let product = graph.node("", "MatMulInteger", &[&whole, &matrix, &shapes.middle], &[]);
    let product = graph.node("", "Cast", &[&product], &[("to", Attribute::Int(Element::F32 as i64))]);
    let scale = graph.node("", "Unsqueeze", &[&scale, &shapes.one], &[]);
    let product = graph.node("", "Mul", &[&product, &scale], &[]);
    let product = graph.node("", "Mul", &[&product, &scales], &[]);
    graph.node("", "Add", &[&product, &bias], &[])
}

/// Rows of values as signed bytes, each row with its scale: the largest of it is `most`.
fn rows(values: &[f32], width: usize, most: f32) -> (Vec<u8>, Vec<f32>) {
    let mut bytes = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(values.len() / width);
    for row in values.chunks_exact(width) {
        let largest = row.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
        let scale = if largest == 0.0 { 1.0 } else { largest / most };
        bytes.extend(row.iter().map(|value| (value / scale).round_ties_even().clamp(-most, most) as i8 as u8));
        scales.push(scale);
    }
    (bytes, scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_their_largest_value() {
        let (bytes, scales) = rows(&[1.27, -0.64, 0.0, 0.005, 0.0, 0.0, 0.0, 0.0], 4, 127.0);
        assert_eq!(bytes.iter().map(|byte| *byte as i8).collect::<Vec<_>>(), [127, -64, 0, 0, 0, 0, 0, 0]);
        assert!((scales[0] - 0.01).abs() < 1e-6 && scales[1] == 1.0);
    }

    #[test]
    fn weights_of_another_model_are_told() {
        let name = "embeddings.word_embeddings.weight";
        let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![2, 2], &[0; 16]).unwrap();
        let file = safetensors::serialize([(name, view)], None).unwrap();
        let said = convert(&file).unwrap_err();
        assert!(said.starts_with(name) && said.contains("[2, 2]"), "{said}");
        assert!(convert(b"no weights").is_err());
    }
}
