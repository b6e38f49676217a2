//! `kv`: what the plugin keeps for the exchange's tenant.
//!
//! **Invariant:** the tenant is the exchange's; a guest has no word for another one.

use serde_json::json;
use wasmtime::Result;

use super::State;
use crate::plugin::bindings::kv::Host;
use crate::plugin::kv::{Kv, KvError, Limits};
use crate::plugin::tape::Blob;

impl State {
    fn kept<T>(&self, ask: impl FnOnce(&Kv, &Limits, &str) -> Result<T, KvError>) -> Result<T, KvError> {
        // A shadow has a copy of its own.
        let own = self.aside.as_ref().map_or(&self.plugin.kv, |aside| &aside.kv);
        let (Some(kv), Some(around)) = (own, &self.around) else { return Err(KvError::Unavailable) };
        ask(kv, &self.plugin.settings().kv, around.tenant())
    }
}

impl Host for State {
    fn get(&mut self, key: String) -> Result<Result<Option<Vec<u8>>, KvError>> {
        let get = |state: &Self| state.kept(|kv, _, tenant| kv.get(tenant, &key)).map(|found| found.map(Blob));
        let found = self.asks("kv.get", || json!([key]), || Ok(None), get);
        Ok(found.map(|found| found.map(|Blob(bytes)| bytes)))
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u32>) -> Result<Result<(), KvError>> {
        let value = Blob(value);
        let set = |state: &Self| state.kept(|kv, limits, tenant| kv.set(limits, tenant, &key, value.0.clone(), ttl_ms));
        Ok(self.asks("kv.set", || json!([key, value, ttl_ms]), || Ok(()), set))
    }

    fn delete(&mut self, key: String) -> Result<Result<bool, KvError>> {
        Ok(self.asks("kv.delete", || json!([key]), || Ok(false), |state| state.kept(|kv, _, tenant| kv.delete(tenant, &key))))
    }

    fn increment(&mut self, key: String, delta: i64, ttl_ms: Option<u32>) -> Result<Result<i64, KvError>> {
        let add = |state: &Self| state.kept(|kv, limits, tenant| kv.increment(limits, tenant, &key, delta, ttl_ms));
        Ok(self.asks("kv.increment", || json!([key, delta, ttl_ms]), || Ok(delta), add))
    }

    fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_ms: Option<u32>,
    ) -> Result<Result<bool, KvError>> {
        let (expected, value) = (expected.map(Blob), Blob(value));
        let swap = |state: &Self| {
            let expected = expected.as_ref().map(|Blob(bytes)| &bytes[..]);
            state.kept(|kv, limits, tenant| kv.compare_and_set(limits, tenant, &key, expected, value.0.clone(), ttl_ms))
        };
        let args = || json!([key, expected, value, ttl_ms]);
        Ok(self.asks("kv.compare-and-set", args, || Ok(expected.is_none()), swap))
    }
}
