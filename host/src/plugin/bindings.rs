//! The Rust side of `wit/`, generated. Everything else in the host uses the contract through this module.
//!
//! **Invariant:** the host trusts no handle that a guest passes: one instance serves one exchange, so a handle's number is
//! ignored and the exchange in the store is used.

#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated from wit/, where the documentation is")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "policy-plugin",
    imports: {
        "pointsman:plugin/embeddings": async | trappable,
        "pointsman:plugin/http": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    // For recordings and for `explain`; the names are the contract's as Rust writes them.
    additional_derives: [serde::Serialize, serde::Deserialize],
    with: {
        "pointsman:plugin/request-data.request": crate::plugin::imports::RequestHandle,
        "pointsman:plugin/request-data.response": crate::plugin::imports::ResponseHandle,
        "pointsman:plugin/request-data.chunk": crate::plugin::imports::ChunkHandle,
    },
});

pub use self::pointsman::plugin::{clock, config, embeddings, http, kv, log, metrics, random, request_data, types, upstreams};
pub use exports::pointsman::plugin::{caching, lifecycle, prompting, routing};
