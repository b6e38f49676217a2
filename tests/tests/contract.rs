//! The contract's reference, `docs/contract.md`, is made of `wit/`. After a change there:
//!
//! ```text
//! UPDATE=1 cargo test -p tests --test contract
//! ```
//!
//! **Invariant:** without `UPDATE` nothing is written, and a difference fails.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;
use wit_parser::{Docs, Function, Interface, Resolve, Type, TypeDefKind, TypeId, WorldItem};

/// What a plugin has, and what it may ask for, in the order of a reader.
const HOOKS: [&str; 4] = ["lifecycle", "routing", "prompting", "caching"];
const ALWAYS: [&str; 2] = ["types", "request-data"];

struct Page<'a> {
    resolve: &'a Resolve,
    text: String,
}

#[test]
fn the_reference_is_what_the_contract_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root.join("wit")).expect("wit/ can be read");
    let interfaces = &resolve.packages[package].interfaces;
    let world = &resolve.worlds[resolve.packages[package].worlds["imports"]];
    let granted = world.imports.values().filter_map(|item| match item {
        WorldItem::Interface { id, .. } => resolve.interfaces[*id].name.as_deref(),
        _ => None,
    });
    let granted: Vec<&str> = granted.filter(|name| !ALWAYS.contains(name)).collect();
    let mut page = Page { resolve: &resolve, text: format!("{INTRODUCTION}\n") };
    let link = |name: &&str| format!("[`{name}`](#{name})");
    let links = |names: &[&str]| names.iter().map(link).collect::<Vec<_>>().join(" · ");
    let _ = writeln!(page.text, "Hooks: {}. Always there: {}.", links(&HOOKS), links(&ALWAYS));
    let _ = writeln!(page.text, "By grant: {}.", links(&granted));
    for (name, what) in
        HOOKS.iter().map(|name| (name, "exported by the plugin")).chain(ALWAYS.iter().map(|name| (name, "always there")))
    {
        page.interface(&resolve.interfaces[interfaces[*name]], what);
    }
    for name in &granted {
        page.interface(&resolve.interfaces[interfaces[*name]], &format!("`grant = [{name:?}]`"));
    }
    for name in &granted {
        let known = serde_json::from_value::<pointsman::config::Grant>(json!(name));
        assert!(known.is_ok(), "`grant` has no {name:?}");
    }
    assert_eq!(interfaces.len(), HOOKS.len() + ALWAYS.len() + granted.len(), "an interface is in none of the lists");

    let file = root.join("docs/contract.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &page.text).expect("docs/ can be written");
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(there == page.text, "docs/contract.md is not what wit/ says; run UPDATE=1 cargo test -p tests --test contract");
}

const INTRODUCTION: &str = "# The contract between pointsman and its plugins

Made from [wit/](../wit) by `tests/tests/contract.rs`: the package `pointsman:plugin@0.1.0`, in which the SDKs write and the host reads. How a plugin is written and
deployed is told in [plugins.md](plugins.md).

Inside 0.1 what is here stays as it is; there may be more interfaces, and more functions in those that plugins import. The host serves 0.1 for as long as it exists.
";

impl Page<'_> {
    fn interface(&mut self, interface: &Interface, what: &str) {
        let name = interface.name.as_deref().unwrap_or_default();
        let _ = writeln!(self.text, "\n## {name}\n\n*{what}*");
        self.docs(&interface.docs);
        for (name, id) in &interface.types {
            self.defined(name, *id, interface);
        }
        for function in interface.functions.values().filter(|function| !function.name.starts_with('[')) {
            self.function(&function.name, function);
        }
    }

    /// A type that this interface defines; one that it takes from another is told there.
    fn defined(&mut self, name: &str, id: TypeId, interface: &Interface) {
        let defined = &self.resolve.types[id];
        let mut rows: Vec<(String, String, String)> = Vec::new();
        let (kind, head) = match &defined.kind {
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter();
                rows.extend(fields.map(|field| (field.name.clone(), self.name(&field.ty), line(&field.docs))));
                ("record", "| field | type | |\n|---|---|---|")
            }
            TypeDefKind::Variant(variant) => {
                let cases = variant.cases.iter();
                let carried = |ty: &Option<Type>| ty.as_ref().map(|ty| self.name(ty)).unwrap_or_default();
                rows.extend(cases.map(|case| (case.name.clone(), carried(&case.ty), line(&case.docs))));
                ("variant", "| case | with | |\n|---|---|---|")
            }
            TypeDefKind::Enum(cases) => {
                rows.extend(cases.cases.iter().map(|case| (case.name.clone(), String::new(), line(&case.docs))));
                ("enum", "| case | | |\n|---|---|---|")
            }
            TypeDefKind::Resource => ("resource", ""),
            TypeDefKind::Type(Type::Id(_)) => return,
            TypeDefKind::Type(ty) => {
                let _ = writeln!(self.text, "\n### {name}\n\ntype, a `{}`", self.name(ty));
                return self.docs(&defined.docs);
            }
            TypeDefKind::List(_) => {
                let _ = writeln!(self.text, "\n### {name}\n\ntype, a `{}`", self.structure(id));
                return self.docs(&defined.docs);
            }
            other => panic!("the reference has no words for {other:?}"),
        };
        let _ = writeln!(self.text, "\n### {name}\n\n{kind}");
        self.docs(&defined.docs);
        if !rows.is_empty() {
            let _ = writeln!(self.text, "\n{head}");
        }
        for (name, ty, docs) in rows {
            let ty = if ty.is_empty() { ty } else { format!("`{ty}`") };
            let _ = writeln!(self.text, "| `{name}` | {ty} | {docs} |");
        }
        let prefix = format!("[method]{name}.");
        for function in interface.functions.values() {
            if let Some(method) = function.name.strip_prefix(&prefix) {
                self.function(&format!("{name}.{method}"), function);
            }
        }
    }

    fn function(&mut self, name: &str, function: &Function) {
        let arguments = function.params.iter().filter(|parameter| parameter.name != "self");
        let arguments: Vec<_> = arguments.map(|parameter| format!("{}: {}", parameter.name, self.name(&parameter.ty))).collect();
        let result = function.result.as_ref().map(|ty| format!(" -> {}", self.name(ty))).unwrap_or_default();
        let _ = writeln!(self.text, "\n#### {name}\n\n`({}){result}`", arguments.join(", "));
        self.docs(&function.docs);
    }

    fn docs(&mut self, docs: &Docs) {
        if let Some(text) = &docs.contents {
            let _ = writeln!(self.text, "\n{}", text.trim());
        }
    }

    /// A type as `wit/` writes it.
    fn name(&self, ty: &Type) -> String {
        match ty {
            Type::Id(id) => self.resolve.types[*id].name.clone().unwrap_or_else(|| self.structure(*id)),
            Type::Bool => "bool".into(),
            Type::U8 => "u8".into(),
            Type::U16 => "u16".into(),
            Type::U32 => "u32".into(),
            Type::U64 => "u64".into(),
            Type::S64 => "s64".into(),
            Type::F32 => "f32".into(),
            Type::F64 => "f64".into(),
            Type::String => "string".into(),
            other => panic!("the reference has no words for {other:?}"),
        }
    }

    fn structure(&self, id: TypeId) -> String {
        let or_none = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), |ty| self.name(ty));
        match &self.resolve.types[id].kind {
            TypeDefKind::List(ty) => format!("list<{}>", self.name(ty)),
            TypeDefKind::Option(ty) => format!("option<{}>", self.name(ty)),
            TypeDefKind::Tuple(tuple) => {
                format!("tuple<{}>", tuple.types.iter().map(|ty| self.name(ty)).collect::<Vec<_>>().join(", "))
            }
            TypeDefKind::Result(result) => match (&result.ok, &result.err) {
                (ok, None) => format!("result<{}>", or_none(ok)),
                (ok, err) => format!("result<{}, {}>", or_none(ok), or_none(err)),
            },
            TypeDefKind::Handle(wit_parser::Handle::Borrow(id)) => format!("borrow<{}>", self.name(&Type::Id(*id))),
            TypeDefKind::Handle(wit_parser::Handle::Own(id)) => self.name(&Type::Id(*id)),
            other => panic!("the reference has no words for {other:?}"),
        }
    }
}

/// In a cell of a table.
fn line(docs: &Docs) -> String {
    docs.contents.as_deref().unwrap_or_default().trim().replace('\n', " ").replace('|', "\\|")
}
