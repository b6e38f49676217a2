//! Where each key and value of a TOML document stands, by its path.
//!
//! Knows nothing of what the keys mean, except which values may hold a secret and are therefore not shown.

use std::collections::HashMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// No key holds it: TOML allows it in no text but as an escape, and nobody writes that.
const SEPARATOR: &str = "\u{0}";

/// One entry of a table or element of an array.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Keys from the root; an array's element is `[0]`, `[1]`, …
    pub(super) path: Vec<String>,
    /// The key's bytes; of an array's element its value's.
    pub(super) key: Range<usize>,
    /// The value's bytes; of a table its header's.
    pub(super) value: Range<usize>,
    /// The value, where it is text.
    text: Option<String>,
}

/// Every node of a document, in depth-first order.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    nodes: Vec<Node>,
    /// From a joined path to its place in `nodes`: a file may have thousands of `[keys]`.
    index: HashMap<String, usize>,
    /// Paths whose key nobody knows: their values may be secrets under a mistyped name.
    unknown: Vec<Vec<String>>,
}

impl Document {
    pub(super) fn new(table: &DeTable<'_>) -> Self {
        let mut document = Self::default();
        document.add_table(&mut Vec::new(), table);
        document
    }

    fn add_table(&mut self, path: &mut Vec<String>, table: &DeTable<'_>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            self.add(path, key.span(), value);
            path.pop();
        }
    }

    fn add(&mut self, path: &mut Vec<String>, key: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let text = value.get_ref().as_str().map(str::to_owned);
        self.index.insert(path.join(SEPARATOR), self.nodes.len());
        self.nodes.push(Node { path: path.clone(), key, value: value.span(), text });
        match value.get_ref() {
            DeValue::Table(table) => self.add_table(path, table),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(format!("[{index}]"));
                    self.add(path, item.span(), item);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    /// The node at `path`, or the nearest one above it.
    pub(super) fn nearest(&self, path: &[String]) -> Option<&Node> {
        (1..=path.len()).rev().find_map(|length| self.node(&path[..length]))
    }

    fn node(&self, path: &[String]) -> Option<&Node> {
        self.index.get(&path.join(SEPARATOR)).and_then(|at| self.nodes.get(*at))
    }

    /// Whether the document has something at `path`.
    pub(super) fn has(&self, path: &[&str]) -> bool {
        self.index.contains_key(&path.join(SEPARATOR))
    }

    /// The keys of the table at `path`, in the order of the file.
    pub(super) fn names(&self, path: &[&str]) -> Vec<&str> {
        let within = |node: &&Node| node.path.len() == path.len() + 1 && node.path.iter().zip(path).all(|(a, b)| a == b);
        self.nodes.iter().filter(within).filter_map(|node| node.path.last()).map(String::as_str).collect()
    }

    /// The node that an error of serde speaks of: it has the error's span, and among several (an implicit table has the span
    /// of the header that implies it) the one below `within`, the dotted path that the error names.
    pub(super) fn at(&self, span: &Range<usize>, within: &str) -> Option<&Node> {
        let matches = |node: &&Node| node.value == *span || node.key == *span;
        let exact = |node: &&Node| matches(node) && node.path.join(".") == within;
        let child = |node: &&Node| matches(node) && node.path[..node.path.len() - 1].join(".") == within;
        // A key's error names the table around it, a value's error the value's own path.
        let by_key = |node: &&Node| node.key == *span && child(node);
        let nodes = || self.nodes.iter();
        nodes().find(by_key).or_else(|| nodes().find(exact)).or_else(|| nodes().find(child)).or_else(|| nodes().rfind(matches))
    }

    /// Remembers that nobody knows the key at `path`.
    pub(super) fn mark_unknown(&mut self, path: &[String]) {
        self.unknown.push(path.to_vec());
    }

    /// The spans of all values that may be secrets.
    pub(super) fn hidden(&self) -> Vec<Range<usize>> {
        self.nodes.iter().filter(|node| self.is_hidden(node)).map(|node| node.value.clone()).collect()
    }

    /// The node's text, if it may be a secret.
    pub(super) fn secret<'a>(&self, node: &'a Node) -> Option<&'a str> {
        node.text.as_deref().filter(|_| self.is_hidden(node))
    }

    fn is_hidden(&self, node: &Node) -> bool {
        const NAMES: [&str; 6] = ["key", "token", "secret", "password", "authorization", "headers"];
        const LOOKS: [&str; 5] = ["sk-", "pm-", "Bearer ", "Basic ", "ghp_"];
        let Some(text) = &node.text else { return false };
        if (text.starts_with("env:") || text.starts_with("file:")) && text.len() < 200 {
            // `env:` before the key itself is a likely mistake: only what can be a variable's name is shown.
            return text.strip_prefix("env:").is_some_and(|name| !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        }
        // `listen.tls.key` is a path, and everybody may see it.
        let is_path = node.path.iter().eq(["listen", "tls", "key"]);
        let named = || node.path.iter().any(|key| NAMES.contains(&key.to_ascii_lowercase().as_str()));
        let unknown = || self.unknown.iter().any(|path| node.path.starts_with(path));
        let in_url = text.split_once("://").is_some_and(|(_, rest)| rest.contains(['@', '?']));
        in_url || (!is_path && named()) || LOOKS.iter().any(|look| text.starts_with(look)) || unknown()
    }
}

/// A path as TOML writes it: `models."gpt 4".price`, `providers.local.endpoints[1]`.
pub(super) fn shown(path: &[String]) -> String {
    let mut text = String::new();
    for key in path {
        if key.starts_with('[') && key.ends_with(']') {
            text.push_str(key);
            continue;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(&bare_or_quoted(key));
    }
    text
}

/// A key as it is written in TOML: bare where that is allowed, else quoted.
pub fn bare_or_quoted(key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if bare { key.to_owned() } else { toml::Value::String(key.to_owned()).to_string() }
}

/// Takes a node out of the table it stands in. Whether it was there. It is known by its spans, not by its path: an array whose
/// first element is taken out has other indices.
pub(super) fn prune(table: &mut DeTable<'_>, node: &Node) -> bool {
    let found = table.iter().find(|(key, value)| key.span() == node.key && value.span() == node.value);
    if let Some(key) = found.map(|(key, _)| key.clone()) {
        return table.remove(&key).is_some();
    }
    table.iter_mut().any(|(_, value)| prune_value(value.get_mut(), node))
}

fn prune_value(value: &mut DeValue<'_>, node: &Node) -> bool {
    match value {
        DeValue::Table(table) => prune(table, node),
        DeValue::Array(items) => match items.iter().position(|item| item.span() == node.value && node.key == node.value) {
            Some(index) => {
                // Its type has no `remove`.
                *items = items.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, item)| item.clone()).collect();
                true
            }
            None => items.iter_mut().any(|item| prune_value(item.get_mut(), node)),
        },
        _ => false,
    }
}
