//! A guest that calls every import of the contract with arguments that nobody has thought of.
//!
//! Its core module is made of `wit/` itself: what is added there is called here. Where it begins is in the request (`max_tokens`), so a run can
//! be repeated.
//!
//! **Invariant:** arguments are as the ABI has them and no more: any pointer, any length, any handle, any number.

use std::fmt::Write as _;
use std::path::Path;

use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Resolve, WorldItem, WorldKey};

use super::hostile::{At, Hostile, NOTHING};

/// Calls of one exchange at most; one that traps is the last.
const CALLS: u32 = 12;

/// The interfaces that it imports, as in a TOML list of grants.
pub fn grants() -> String {
    let (resolve, world) = contract();
    let names = resolve.worlds[world].imports.values().filter_map(|item| match item {
        WorldItem::Interface { id, .. } => resolve.interfaces[*id].name.clone(),
        _ => None,
    });
    names
        .filter(|name| !["types", "request-data"].contains(&name.as_str()))
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The functions that it calls, by their names in the contract.
pub fn functions() -> Vec<String> {
    calls().into_iter().map(|call| call.name).collect()
}

/// The guest; it does so in this function of its hooks.
pub fn component(at: At) -> Vec<u8> {
    let calls = calls();
    let (mut imports, mut cases) = (String::new(), String::new());
    for (number, call) in calls.iter().enumerate() {
        imports.push_str(&call.import(number));
        let (arguments, drops) = (call.any(), "(drop)".repeat(call.results.len()));
        let _ = writeln!(
            cases,
            "(if (i32.eq (local.get $which) (i32.const {number})) (then {arguments} (call $call{number}) {drops} (return)))"
        );
    }
    let fields = format!(
        "{RANDOM}\n(func $one (local $which i32)\n(local.set $which (i32.rem_u (i32.wrap_i64 (call $any_i64)) (i32.const {})))\n{cases})\n{}",
        calls.len(),
        data()
    );
    let deed = format!(
        "(global.set $seed (i64.add (i64.mul (i64.extend_i32_u (i32.load offset=48 (local.get $arguments))) (i64.const 0x2545F4914F6CDD1D)) (i64.const 1)))
         (global.set $request (i32.load offset=104 (local.get $arguments)))
         (global.set $left (i32.rem_u (i32.wrap_i64 (call $any_i64)) (i32.const {CALLS})))
         (if (i32.and (i32.wrap_i64 (call $any_i64)) (i32.const 1)) (then (global.set $left (i32.const 1))))
         (loop $again
           (call $one)
           (global.set $left (i32.sub (global.get $left) (i32.const 1)))
           (br_if $again (i32.gt_s (global.get $left) (i32.const 0))))"
    );
    Hostile { name: "fuzz", imports: imports.leak(), fields: fields.leak(), deed: deed.leak(), ..NOTHING }.component(at)
}

/// What a guest of [`each`] does with one function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Calls it again and again.
    Flood,
    /// Calls it once, with texts and lists of 60 MiB.
    Huge,
}

impl Deed {
    /// The `max_tokens` of a request for which it does so with the function of this number.
    pub fn order(self, function: usize) -> usize {
        2 + 2 * function + usize::from(self == Self::Huge)
    }
}

/// The functions that [`each`] can be told to call, and whether there is anything in their arguments that could be huge.
pub fn calls_of_each() -> Vec<(String, bool)> {
    reachable().into_iter().map(|call| (call.name.clone(), call.exact.contains(&WasmType::Length))).collect()
}

/// A guest that does what [`Deed::order`] says, and nothing where `max_tokens` is 1.
pub fn each() -> Vec<u8> {
    let (mut imports, mut cases) = (String::new(), String::new());
    for (number, call) in reachable().iter().enumerate() {
        imports.push_str(&call.import(number));
        let drops = "(drop)".repeat(call.results.len());
        let (flood, huge) = (call.arguments(4), call.arguments(62_914_560));
        let (flooded, grown) = (Deed::Flood.order(number), Deed::Huge.order(number));
        let _ = writeln!(
            cases,
            "(if (i32.eq (global.get $which) (i32.const {flooded})) (then (loop $again {flood} (call $call{number}) {drops} (br $again))))
             (if (i32.eq (global.get $which) (i32.const {grown})) (then (drop (memory.grow (i32.const 1000))) {huge} (call $call{number}) {drops}))"
        );
    }
    let fields = format!("(global $which (mut i32) (i32.const 0))\n{}", data());
    let deed = format!("(global.set $which (i32.load offset=48 (local.get $arguments)))\n{cases}");
    Hostile { name: "each", imports: imports.leak(), fields: fields.leak(), deed: deed.leak(), ..NOTHING }.component(At::Route)
}

/// Those that can be called in `route`: no answer is there.
fn reachable() -> Vec<Call> {
    calls().into_iter().filter(|call| !call.name.contains("]response.") && !call.name.contains("]chunk.")).collect()
}

struct Call {
    interface: String,
    name: String,
    params: Vec<&'static str>,
    exact: Vec<WasmType>,
    results: Vec<&'static str>,
    /// The last parameter is where the result goes.
    retptr: bool,
}

impl Call {
    fn import(&self, number: usize) -> String {
        let Self { interface, name, params, results, .. } = self;
        let types = |types: &[&str], what: &str| types.iter().map(|ty| format!("({what} {ty})")).collect::<String>();
        format!(
            "(import \"{interface}\" \"{name}\" (func $call{number} {} {}))\n",
            types(params, "param"),
            types(results, "result")
        )
    }

    /// Any arguments; of their kind mostly, or hardly a call would get beyond them.
    fn any(&self) -> String {
        let last = self.params.len().saturating_sub(1);
        let argument = |(place, ty): (usize, &WasmType)| match ty {
            _ if self.retptr && place == last => "(call $any_place)".to_owned(),
            WasmType::I32 if place == 0 && self.name.starts_with("[method]") => "(call $any_handle)".to_owned(),
            WasmType::Pointer => "(call $any_place)".to_owned(),
            WasmType::Length => "(call $any_length)".to_owned(),
            _ => format!("(call $any_{})", wat_type(ty)),
        };
        self.exact.iter().enumerate().map(argument).collect()
    }

    /// Arguments that are sound but for how long their texts and lists are.
    fn arguments(&self, length: u32) -> String {
        let last = self.params.len().saturating_sub(1);
        let argument = |(place, ty): (usize, &WasmType)| match ty {
            _ if self.retptr && place == last => "(i32.const 4000)".to_owned(),
            WasmType::I32 if place == 0 && self.name.starts_with("[method]") => {
                "(i32.load offset=104 (local.get $arguments))".to_owned()
            }
            // Lists of texts lie there, and what lies there is text as well.
            WasmType::Pointer => "(i32.const 24576)".to_owned(),
            WasmType::Length => format!("(i32.const {length})"),
            _ => format!("({}.const 0)", wat_type(ty)),
        };
        self.exact.iter().enumerate().map(argument).collect()
    }
}

fn contract() -> (Resolve, wit_parser::WorldId) {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_dir(wit).expect("wit/ can be read");
    let world = resolve.packages[package].worlds["imports"];
    (resolve, world)
}

fn calls() -> Vec<Call> {
    let (resolve, world) = contract();
    let mut calls = Vec::new();
    for (key, item) in &resolve.worlds[world].imports {
        let (WorldItem::Interface { id, .. }, WorldKey::Interface(_)) = (item, key) else { continue };
        for function in resolve.interfaces[*id].functions.values() {
            let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
            calls.push(Call {
                interface: resolve.id_of(*id).expect("an interface has a name"),
                name: function.name.clone(),
                params: signature.params.iter().map(wat_type).collect(),
                retptr: signature.retptr,
                results: signature.results.iter().map(wat_type).collect(),
                exact: signature.params,
            });
        }
    }
    calls
}

fn wat_type(ty: &WasmType) -> &'static str {
    match ty {
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
    }
}

/// Small numbers, which are handles, lengths and cases; places where there is text, or where there are lists of texts; any place, any number.
const RANDOM: &str = "
(global $seed (mut i64) (i64.const 1))
(global $left (mut i32) (i32.const 0))
(func $any_i64 (result i64) (local $x i64)
  (local.set $x (global.get $seed))
  (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 12))))
  (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 25))))
  (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 27))))
  (global.set $seed (local.get $x))
  (i64.shr_u (i64.mul (local.get $x) (i64.const 0x2545F4914F6CDD1D)) (i64.const 3)))
(func $any_i32 (result i32) (local $kind i32) (local $value i32)
  (local.set $kind (i32.and (i32.wrap_i64 (call $any_i64)) (i32.const 15)))
  (local.set $value (i32.wrap_i64 (call $any_i64)))
  (if (i32.lt_u (local.get $kind) (i32.const 8)) (then (return (i32.and (local.get $value) (i32.const 7)))))
  (if (i32.lt_u (local.get $kind) (i32.const 12)) (then (return (i32.add (i32.const 8192) (i32.and (local.get $value) (i32.const 0x3ff8))))))
  (if (i32.lt_u (local.get $kind) (i32.const 14)) (then (return (i32.add (i32.const 24576) (i32.and (local.get $value) (i32.const 0x3ff8))))))
  (if (i32.lt_u (local.get $kind) (i32.const 15)) (then (return (i32.and (local.get $value) (i32.const 0x3ffff)))))
  (local.get $value))
(global $request (mut i32) (i32.const 0))
(func $seldom (result i32) (i32.eqz (i32.and (i32.wrap_i64 (call $any_i64)) (i32.const 15))))
(func $any_handle (result i32) (if (result i32) (call $seldom) (then (call $any_i32)) (else (global.get $request))))
(func $any_length (result i32)
  (if (result i32) (call $seldom) (then (call $any_i32)) (else (i32.and (i32.wrap_i64 (call $any_i64)) (i32.const 31)))))
(func $any_place (result i32)
  (if (result i32) (call $seldom) (then (call $any_i32)) (else (i32.add (i32.const 24576) (i32.and (i32.wrap_i64 (call $any_i64)) (i32.const 0x3ff8))))))
(func $any_f32 (result f32) (f32.reinterpret_i32 (i32.wrap_i64 (call $any_i64))))
(func $any_f64 (result f64) (f64.reinterpret_i64 (call $any_i64)))";

/// Text at 8192, and at 24576 lists of places in it and lengths.
fn data() -> String {
    const WORDS: &str = "small large task kv key v1 /model /messages/0/content authorization x-plain Stra\u{df}e {\"a\":[1,2]} http://127.0.0.1:1/ GET POST ";
    let text: String = WORDS.bytes().cycle().take(16_384).map(|byte| format!("\\{byte:02x}")).collect();
    let lists = (0..2_048_u32).flat_map(|at| [8_192 + at * 7 % 16_000, at % 24]);
    let lists: String = lists.flat_map(u32::to_le_bytes).map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const 8192) \"{text}\")\n(data (i32.const 24576) \"{lists}\")")
}
