//! Hostile guests, as WebAssembly text: each does one thing in one of its hooks' functions (or its start code) that no guest may.
//!
//! Core modules by hand, since no compiler would make them, wrapped into components of the real contract. Layouts follow the
//! canonical ABI: a function gets one pointer to its arguments (the request's handle lies at 104, behind the head, and an
//! answer's at 108, or behind the attempt at 188, or a part's behind its batch at 136), and a result of zeros is "ok, no opinion".
//!
//! **Invariant:** but for its one deed a guest keeps the contract: it would load, and would be asked.

use std::path::{Path, PathBuf};

use wit_component::StringEncoding;
use wit_parser::Resolve;

/// A guest, and what is to be expected of it.
pub struct Hostile {
    /// What it does.
    pub name: &'static str,
    /// Imports, as fields of the module.
    pub(super) imports: &'static str,
    /// Further fields of the module.
    pub(super) fields: &'static str,
    /// What the function does, before it gives its handles back and says that it has no opinion.
    pub(super) deed: &'static str,
    /// The grants that it needs, as in a TOML list.
    pub grants: &'static str,
    /// The cause under which its failure is counted.
    pub cause: &'static str,
    /// What the log says of it, in part: that it was ended for what it did, and not for something beside it.
    pub reason: &'static str,
}

/// The function in which a guest does its deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Of the `routing` hook.
    Route,
    /// What follows an attempt? Asked only because such a guest's `route` says so.
    After,
    /// May the client have this part of an answer? As `After`.
    Chunk,
    /// Of the `prompting` hook.
    Select,
    /// Of the `caching` hook, as the two below. They are asked only because such a guest's `key` says so.
    Key,
    /// May a near hit be served?
    Confirm,
    /// May an answer be stored?
    Admit,
}

pub(super) const NOTHING: Hostile = Hostile { name: "", imports: "", fields: "", deed: "", grants: "", cause: "", reason: "" };
const CLOCK: &str = r#"(import "pointsman:plugin/clock@0.1.0" "now" (func $now (result i64)))"#;
const LOG: &str = r#"(import "pointsman:plugin/log@0.1.0" "log" (func $log (param i32 i32 i32 i32 i32)))"#;
const KV: &str = r#"(import "pointsman:plugin/kv@0.1.0" "set" (func $set (param i32 i32 i32 i32 i32 i32 i32)))"#;
const WASI: &str = r#"
    (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $alarm (param i64) (result i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#;

const RANDOM: &str = r#"
    (import "wasi:random/random@0.2.0" "get-random-bytes" (func $draw (param i64 i32)))"#;

/// Guests that load, and misbehave when they are asked.
pub const ALL: [Hostile; 17] = [
    Hostile { name: "endless-loop", deed: "(loop $again (br $again))", cause: "deadline", reason: "interrupt", ..NOTHING },
    Hostile {
        name: "endless-start",
        imports: CLOCK,
        grants: r#""clock""#,
        // While it is loaded there is no exchange, and the clock stands at zero.
        fields: "(func $start (if (i64.ne (call $now) (i64.const 0)) (then (loop $again (br $again))))) (start $start)",
        cause: "deadline",
        reason: "!start",
        ..NOTHING
    },
    Hostile {
        name: "deep-recursion",
        fields: "(func $deep (param i32) (call $deep (i32.add (local.get 0) (i32.const 1))) (call $deep (i32.const 0)))",
        deed: "(call $deep (i32.const 0))",
        cause: "trap",
        reason: "!deep",
        ..NOTHING
    },
    Hostile {
        name: "memory-bomb",
        deed: "(loop $again (drop (memory.grow (i32.const 16))) (br $again))",
        cause: "memory",
        reason: "growing memory",
        ..NOTHING
    },
    Hostile {
        name: "memory-leap",
        deed: "(drop (memory.grow (i32.const 65000)))",
        cause: "memory",
        reason: "growing memory",
        ..NOTHING
    },
    Hostile {
        name: "table-bomb",
        fields: "(table $t 1 funcref)",
        deed: "(loop $again (drop (table.grow $t (ref.null func) (i32.const 1000))) (br $again))",
        cause: "memory",
        reason: "growing table",
        ..NOTHING
    },
    Hostile { name: "result-beyond-memory", deed: REJECT_OF_1_GIB, cause: "trap", reason: "out of bounds", ..NOTHING },
    Hostile { name: "huge-result", deed: REJECT_OF_8_MIB, cause: "trap", reason: "fuel allocated for hostcalls", ..NOTHING },
    Hostile {
        name: "hostcall-flood",
        imports: CLOCK,
        grants: r#""clock""#,
        deed: "(loop $again (drop (call $now)) (br $again))",
        cause: "deadline",
        reason: "interrupt",
        ..NOTHING
    },
    Hostile {
        name: "huge-argument",
        imports: LOG,
        grants: r#""log""#,
        deed: "(drop (memory.grow (i32.const 1000))) (call $log (i32.const 4) (i32.const 262144) (i32.const 62914560) (i32.const 0) (i32.const 0))",
        cause: "trap",
        reason: "fuel allocated for hostcalls",
        ..NOTHING
    },
    Hostile {
        name: "kv-flood",
        imports: KV,
        grants: r#""kv""#,
        // Another key each time, of eight bytes that are ASCII, and 60,000 bytes under it.
        fields: "(global $key (mut i64) (i64.const 0))",
        deed: "(loop $again
            (global.set $key (i64.add (global.get $key) (i64.const 0x0102030405060709)))
            (i64.store (i32.const 4096) (i64.and (global.get $key) (i64.const 0x7f7f7f7f7f7f7f7f)))
            (call $set (i32.const 4096) (i32.const 8) (i32.const 8192) (i32.const 60000) (i32.const 0) (i32.const 0) (i32.const 4000))
            (br $again))",
        cause: "deadline",
        reason: "interrupt",
    },
    Hostile {
        name: "huge-value",
        imports: KV,
        grants: r#""kv""#,
        deed: "(drop (memory.grow (i32.const 1000)))
            (call $set (i32.const 4096) (i32.const 8) (i32.const 262144) (i32.const 62914560) (i32.const 0) (i32.const 0) (i32.const 4000))",
        cause: "trap",
        reason: "fuel allocated for hostcalls",
        ..NOTHING
    },
    Hostile { name: "trap", deed: "unreachable", cause: "trap", reason: "unreachable", ..NOTHING },
    Hostile {
        name: "resource-leak",
        deed: "(return (i32.const 1024))",
        cause: "trap",
        reason: "borrow handles still remain",
        ..NOTHING
    },
    Hostile {
        name: "long-sleep",
        imports: WASI,
        deed: "(call $block (call $alarm (i64.const 60000000000)))",
        cause: "deadline",
        reason: "no answer in 20ms",
        ..NOTHING
    },
    Hostile {
        name: "random-flood",
        imports: RANDOM,
        // No epoch ends what the host does, so it must not take long.
        deed: "(call $draw (i64.const 62914560) (i32.const 4000))",
        cause: "trap",
        reason: "random bytes are asked for at once",
        ..NOTHING
    },
    Hostile {
        name: "handle-flood",
        imports: WASI,
        deed: "(loop $again (drop (call $alarm (i64.const 1))) (br $again))",
        cause: "trap",
        reason: "no free keys",
        ..NOTHING
    },
];

/// A guest that logs five lines whenever it is asked. No misdeed by itself: it is bounded.
pub const CHATTY: Hostile = Hostile {
    name: "chatty",
    imports: LOG,
    grants: r#""log""#,
    fields: "(global $said (mut i32) (i32.const 0))",
    deed: "(loop $again
        (call $log (i32.const 2) (i32.const 3500) (i32.const 5) (i32.const 0) (i32.const 0))
        (global.set $said (i32.add (global.get $said) (i32.const 1)))
        (br_if $again (i32.lt_u (global.get $said) (i32.const 5))))",
    ..NOTHING
};

/// A component whose compilation would take longer than anybody waits: a function of so many variables, in which the flow comes together at so
/// many places, each of them inside the one before.
pub fn compile_bomb(variables: usize, places: usize) -> Vec<u8> {
    let (locals, open, close) = ("i32 ".repeat(variables), "loop local.get 0 br_if 0 ".repeat(places), "end ".repeat(places));
    let text = format!("(component (core module (func (export \"f\") (local {locals}) {open} local.get 1 local.set 0 {close})))");
    wat::parse_str(&text).expect("it is sound")
}

/// A component with one function of about so many bytes.
pub fn long_function(bytes: usize) -> Vec<u8> {
    let text = format!("(component (core module (func (export \"f\") {})))", "nop ".repeat(bytes));
    wat::parse_str(&text).expect("it is sound")
}

/// A refusal whose message is said to be 1 GiB long.
const REJECT_OF_1_GIB: &str = "(call $reject (local.get $arguments) (i32.const 1073741824)) (return (i32.const 2048))";
/// One whose message really has 8 MiB.
const REJECT_OF_8_MIB: &str =
    "(drop (memory.grow (i32.const 160))) (call $reject (local.get $arguments) (i32.const 8388608)) (return (i32.const 2048))";

impl Hostile {
    /// Does it say what only `route` may say?
    pub fn routes(&self) -> bool {
        self.deed.contains("$reject")
    }

    /// The guest as a component that does its deed in this function.
    pub fn component(&self, at: At) -> Vec<u8> {
        self.component_of(at, &contract())
    }

    /// The same of the contract that lies in this folder.
    fn component_of(&self, at: At, wit: &Path) -> Vec<u8> {
        let Self { imports, fields, .. } = self;
        let deed = |function: At| if function == at { self.deed } else { "" };
        let (route, after, chunk) = (deed(At::Route), deed(At::After), deed(At::Chunk));
        let (select, key, confirm, admit) = (deed(At::Select), deed(At::Key), deed(At::Confirm), deed(At::Admit));
        // A plan for one target, `small`, with a `review` of answers, or with an `observe` in its place.
        let plan = match at {
            At::After => "(i32.store8 (i32.const 3204) (i32.const 1))",
            At::Chunk => {
                "(i32.store8 (i32.const 3204) (i32.const 1)) (i32.store8 (i32.const 3240) (i32.const 0)) (i32.store8 (i32.const 3256) (i32.const 1))"
            }
            _ => "",
        };
        // A `directive.key` without parts, with a `semantic` part that wants to `confirm`, or one that wants to `admit`.
        let directive = match at {
            At::Confirm => {
                "(i32.store8 (i32.const 3076) (i32.const 2)) (i32.store8 (i32.const 3104) (i32.const 1)) (i32.store8 (i32.const 3136) (i32.const 1))"
            }
            At::Admit => "(i32.store8 (i32.const 3076) (i32.const 2)) (i32.store8 (i32.const 3160) (i32.const 1))",
            At::Route | At::After | At::Chunk | At::Select | At::Key => "",
        };
        let text = format!(
            r#"(module
              (import "pointsman:plugin/request-data@0.1.0" "[resource-drop]request" (func $give_back (param i32)))
              (import "pointsman:plugin/request-data@0.1.0" "[resource-drop]response" (func $give_back_answer (param i32)))
              (import "pointsman:plugin/request-data@0.1.0" "[resource-drop]chunk" (func $give_back_chunk (param i32)))
              {imports}
              (memory (export "memory") 4)
              (global $top (mut i32) (i32.const 131072))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
                (global.set $top (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
              (func $reject (param $arguments i32) (param $length i32)
                (call $give_back (i32.load offset=104 (local.get $arguments)))
                (i32.store8 (i32.const 2052) (i32.const 2))
                (i32.store16 (i32.const 2056) (i32.const 400))
                (i32.store (i32.const 2068) (i32.const 262144))
                (i32.store (i32.const 2072) (local.get $length)))
              {fields}
              (func (export "pointsman:plugin/lifecycle@0.1.0#describe") (result i32) (i32.const 1024))
              (func (export "pointsman:plugin/lifecycle@0.1.0#check") (result i32) (i32.const 1024))
              (func (export "pointsman:plugin/routing@0.1.0#route") (param $arguments i32) (result i32)
                {route}
                {plan}
                (call $give_back (i32.load offset=104 (local.get $arguments)))
                (i32.const 3200))
              (data (i32.const 3208) "\48\0d\00\00\01")
              (data (i32.const 3240) "\01\00\00\00\01")
              (data (i32.const 3400) "\ac\0d\00\00\05")
              (data (i32.const 3500) "small")
              (func (export "pointsman:plugin/routing@0.1.0#after-attempt") (param $arguments i32) (result i32)
                {after}
                (call $give_back (i32.load offset=104 (local.get $arguments)))
                (if (i32.load8_u offset=184 (local.get $arguments))
                  (then (call $give_back_answer (i32.load offset=188 (local.get $arguments)))))
                (i32.const 1024))
              (func (export "pointsman:plugin/routing@0.1.0#on-chunk") (param $arguments i32) (result i32)
                {chunk}
                (call $give_back (i32.load offset=104 (local.get $arguments)))
                (call $give_back_chunk (i32.load offset=136 (local.get $arguments)))
                (i32.const 1024))
              (func (export "pointsman:plugin/prompting@0.1.0#select") (param $arguments i32) (result i32)
                {select}
                (call $give_back (i32.load offset=104 (local.get $arguments)))
                (i32.const 1024))
              (func (export "pointsman:plugin/caching@0.1.0#key") (param $arguments i32) (result i32)
                {key}
                {directive}
                (call $give_back (i32.load offset=104 (local.get $arguments)))
                (i32.const 3072))
              (func (export "pointsman:plugin/caching@0.1.0#confirm") (param $arguments i32) (result i32)
                {confirm}
                (call $give_back (i32.load offset=104 (local.get $arguments)))
                (i32.const 1024))
              (func (export "pointsman:plugin/caching@0.1.0#admit") (param $arguments i32) (result i32)
                {admit}
                (call $give_back (i32.load offset=104 (local.get $arguments)))
                (call $give_back_answer (i32.load offset=108 (local.get $arguments)))
                (i32.const 1024)))"#
        );
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        embed(&mut module, wit);
        super::component(&module)
    }
}

/// A guest that keeps the contract and has no opinion.
pub fn meek() -> Vec<u8> {
    Hostile { name: "meek", ..NOTHING }.component(At::Route)
}

/// A guest of another contract, in which `admit` gives a signed number. Its code is the meek one's: only the types tell them apart.
pub fn mistyped() -> Vec<u8> {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    for file in std::fs::read_dir(contract()).expect("wit/ can be read") {
        let file = file.expect("wit/ can be read");
        let text = std::fs::read_to_string(file.path()).expect("it is text");
        let text = text.replace("-> result<option<u32>, plugin-error>", "-> result<option<s32>, plugin-error>");
        std::fs::write(folder.path().join(file.file_name()), text).expect("there is room for a file");
    }
    Hostile { name: "mistyped", ..NOTHING }.component_of(At::Admit, folder.path())
}

/// The folder of the contract.
fn contract() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit")
}

/// A component that is sound and has nothing to do with the contract.
pub fn stranger() -> Vec<u8> {
    wat::parse_str("(component)").expect("it is sound")
}

/// Code that could be a plugin's, but is no component.
pub fn core_module() -> Vec<u8> {
    wat::parse_str("(module)").expect("it is sound")
}

/// Describes a module as one of the contract's `policy-plugin` world that may import a clock of WASI as well.
fn embed(module: &mut Vec<u8>, wit: &Path) {
    let mut resolve = Resolve::default();
    resolve.push_dir(wit).expect("wit/ can be read");
    let package = resolve.push_str("hostile.wit", &format!("{WORLD}{}", super::walls::WORLD)).expect("the world is sound");
    let world = resolve.select_world(&[package], Some("guest")).expect("it has that world");
    wit_component::embed_component_metadata(module, &resolve, world, StringEncoding::UTF8).expect("a module can be described");
}

const WORLD: &str = "
package tests:hostile;
package wasi:io@0.2.0 {
    interface poll {
        resource pollable { block: func(); }
    }
}
package wasi:clocks@0.2.0 {
    interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        now: func() -> u64;
        subscribe-duration: func(when: u64) -> pollable;
    }
    interface wall-clock {
        record datetime { seconds: u64, nanoseconds: u32 }
        now: func() -> datetime;
    }
}
package wasi:random@0.2.0 {
    interface random {
        get-random-bytes: func(len: u64) -> list<u8>;
        get-random-u64: func() -> u64;
    }
}
world guest {
    include pointsman:plugin/policy-plugin@0.1.0;
    import wasi:clocks/monotonic-clock@0.2.0;
    import wasi:clocks/wall-clock@0.2.0;
    import wasi:random/random@0.2.0;
    import wasi:filesystem/preopens@0.2.0;
    import wasi:cli/environment@0.2.0;
    import wasi:sockets/instance-network@0.2.0;
    import wasi:sockets/tcp@0.2.0;
    import wasi:sockets/tcp-create-socket@0.2.0;
    import wasi:sockets/ip-name-lookup@0.2.0;
}
";
