//! A guest that looks at WASI's clocks and draws its random numbers, as WebAssembly text.

use super::hostile::{At, Hostile, NOTHING};

/// Refuses each request, and says by what it has seen: seconds of the wall clock, nanoseconds of the monotonic one and a random number, each as
/// sixteen letters from `a` (0) to `p` (15), the lowest four bits first.
pub fn dreamer() -> Vec<u8> {
    Hostile { name: "dreamer", imports: IMPORTS, fields: FIELDS, deed: DEED, ..NOTHING }.component(At::Route)
}

const IMPORTS: &str = r#"
    (import "wasi:clocks/wall-clock@0.2.0" "now" (func $wall (param i32)))
    (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $monotonic (result i64)))
    (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))"#;

const FIELDS: &str = "
    (func $letters (param $at i32) (param $number i64) (local $count i32)
        (loop $next
            (i32.store8 (i32.add (local.get $at) (local.get $count))
                (i32.add (i32.const 97) (i32.and (i32.wrap_i64 (local.get $number)) (i32.const 15))))
            (local.set $number (i64.shr_u (local.get $number) (i64.const 4)))
            (local.set $count (i32.add (local.get $count) (i32.const 1)))
            (br_if $next (i32.lt_u (local.get $count) (i32.const 16)))))";

const DEED: &str = "
    (drop (memory.grow (i32.const 1)))
    (call $wall (i32.const 4096))
    (call $letters (i32.const 262144) (i64.load (i32.const 4096)))
    (call $letters (i32.const 262160) (call $monotonic))
    (call $letters (i32.const 262176) (call $random))
    (call $reject (local.get $arguments) (i32.const 48))
    (return (i32.const 2048))";
