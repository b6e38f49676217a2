//! An ONNX file, written by hand: nodes, constants, inputs and outputs in protocol buffers' wire format.
//!
//! By hand, because a converter that needs onnx, numpy and protobuf from PyPI would have to pin one wheel of each for every version of
//! Python, and would give another file with another version of any of them. The few fields that a model takes are eighty lines, and the
//! same weights give the same bytes everywhere.
//!
//! What it does not do: it checks nothing; onnxruntime does when it loads the file.
//!
//! **Invariant:** the bytes depend on the calls alone.

/// onnxruntime's own operators.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// Types of tensors' elements, by their numbers in onnx.proto.
#[derive(Clone, Copy, Debug)]
pub(super) enum Element {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    I32 = 6,
    I64 = 7,
}

/// A node's attribute.
pub(super) enum Attribute {
    Int(i64),
    Ints(&'static [i64]),
    Float(f32),
}

/// A graph that grows node by node.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<u8>,
    constants: Vec<u8>,
    ends: Vec<u8>,
    count: usize,
}

/// A message of protocol buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(&mut self, field: u64, value: u64) -> &mut Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) -> &mut Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn float(&mut self, field: u64, value: f32) -> &mut Self {
        self.varint(field << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }
}

impl Graph {
    /// A constant; its name.
    pub(super) fn constant(&mut self, name: &str, element: Element, shape: &[usize], bytes: &[u8]) -> String {
        let mut tensor = Message::default();
        for size in shape {
            tensor.int(1, *size as u64);
        }
        tensor.int(2, element as u64).bytes(8, name.as_bytes()).bytes(9, bytes);
        let mut entry = Message::default();
        entry.bytes(5, &tensor.0);
        self.constants.append(&mut entry.0);
        name.to_owned()
    }

    /// A constant of floats.
    pub(super) fn floats(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, Element::F32, shape, &bytes)
    }

    /// A list of whole numbers.
    pub(super) fn whole(&mut self, name: &str, values: &[i64]) -> String {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, Element::I64, &[values.len()], &bytes)
    }

    /// A node with one output, which is given a name here.
    pub(super) fn node(&mut self, domain: &str, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        self.nodes(domain, op, inputs, 1, attributes).swap_remove(0)
    }

    /// A node with several outputs.
    pub(super) fn nodes(
        &mut self,
        domain: &str,
        op: &str,
        inputs: &[&str],
        outputs: usize,
        attributes: &[(&str, Attribute)],
    ) -> Vec<String> {
        self.count += 1;
        let names: Vec<String> = (0..outputs).map(|output| format!("{op}.{}.{output}", self.count)).collect();
        self.named(domain, op, inputs, &names, attributes);
        names
    }

    /// The graph's output, under a name of its own.
    pub(super) fn output(&mut self, name: &str, from: &str, shape: &[&str], width: usize) {
        self.named("", "Identity", &[from], &[name.to_owned()], &[]);
        self.end(12, name, Element::F32, shape, Some(width));
    }

    /// An input.
    pub(super) fn input(&mut self, name: &str, element: Element, shape: &[&str]) {
        self.end(11, name, element, shape, None);
    }

    fn named(&mut self, domain: &str, op: &str, inputs: &[&str], outputs: &[String], attributes: &[(&str, Attribute)]) {
        let mut node = Message::default();
        for input in inputs {
            node.bytes(1, input.as_bytes());
        }
        for output in outputs {
            node.bytes(2, output.as_bytes());
        }
        node.bytes(4, op.as_bytes());
        for (name, value) in attributes {
            let mut attribute = Message::default();
            attribute.bytes(1, name.as_bytes());
            match value {
                Attribute::Float(value) => attribute.float(2, *value).int(20, 1),
                Attribute::Int(value) => attribute.int(3, *value as u64).int(20, 2),
                Attribute::Ints(values) => {
                    for value in *values {
                        attribute.int(8, *value as u64);
                    }
                    attribute.int(20, 7)
                }
            };
            node.bytes(5, &attribute.0);
        }
        if !domain.is_empty() {
            node.bytes(7, domain.as_bytes());
        }
        let mut entry = Message::default();
        entry.bytes(1, &node.0);
        self.nodes.append(&mut entry.0);
    }

    fn end(&mut self, field: u64, name: &str, element: Element, shape: &[&str], last: Option<usize>) {
        let mut dimensions = Message::default();
        for symbol in shape {
            let mut dimension = Message::default();
            dimension.bytes(2, symbol.as_bytes());
            dimensions.bytes(1, &dimension.0);
        }
        if let Some(size) = last {
            let mut dimension = Message::default();
            dimension.int(1, size as u64);
            dimensions.bytes(1, &dimension.0);
        }
        let [mut tensor, mut kind, mut value, mut entry]: [Message; 4] = Default::default();
        tensor.int(1, element as u64).bytes(2, &dimensions.0);
        kind.bytes(1, &tensor.0);
        value.bytes(1, name.as_bytes()).bytes(2, &kind.0);
        entry.bytes(field, &value.0);
        self.ends.append(&mut entry.0);
    }

    /// The file.
    pub(super) fn file(self, name: &str, opset: u64) -> Vec<u8> {
        let mut graph = Message(self.nodes);
        graph.bytes(2, name.as_bytes());
        graph.0.extend_from_slice(&self.constants);
        graph.0.extend_from_slice(&self.ends);
        let mut model = Message::default();
        // The format that came with opset 17.
        model.int(1, 8).bytes(2, b"pointsman");
        for (domain, version) in [("", opset), (MICROSOFT, 1)] {
            let mut set = Message::default();
            set.bytes(1, domain.as_bytes()).int(2, version);
            model.bytes(8, &set.0);
        }
        model.bytes(7, &graph.0);
        model.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside what the package `onnx` writes for the same messages.
    #[test]
    fn the_wire_format() {
        let mut message = Message::default();
        message.int(1, 300).bytes(2, b"ab").float(3, 1.0);
        assert_eq!(message.0, [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 0, 0, 0x80, 0x3f]);
        let mut graph = Graph::default();
        graph.constant("c", Element::I8, &[2], &[1, 255]);
        assert_eq!(graph.constants, [0x2a, 11, 0x08, 2, 0x10, 3, 0x42, 1, b'c', 0x4a, 2, 1, 255]);
        let out = graph.node("", "Add", &["x", "y"], &[]);
        assert_eq!(out, "Add.1.0");
        let mut expect = vec![0x0a, 20, 0x0a, 1, b'x', 0x0a, 1, b'y', 0x12, 7];
        expect.extend_from_slice(b"Add.1.0\x22\x03Add");
        assert_eq!(graph.nodes, expect);
    }
}
