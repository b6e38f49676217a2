//! `kv`: what the plugin keeps for the exchange's tenant.
//!
//! **Invariant:** the tenant is the exchange's; a guest has no word for another one.

use wasmtime::Result;

use super::State;
use crate::plugin::bindings::kv::Host;
use crate::plugin::kv::{Kv, KvError, Limits};

impl State {
    fn kept<T>(&self, ask: impl FnOnce(&Kv, &Limits, &str) -> Result<T, KvError>) -> Result<Result<T, KvError>> {
        // A shadow has a copy of its own.
        let own = self.aside.as_ref().map_or(&self.plugin.kv, |aside| &aside.kv);
        let (Some(kv), Some(around)) = (own, &self.around) else { return Ok(Err(KvError::Unavailable)) };
        Ok(ask(kv, &self.plugin.settings().kv, around.tenant()))
    }
}

impl Host for State {
    fn get(&mut self, key: String) -> Result<Result<Option<Vec<u8>>, KvError>> {
        self.kept(|kv, _, tenant| kv.get(tenant, &key))
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u32>) -> Result<Result<(), KvError>> {
        self.kept(|kv, limits, tenant| kv.set(limits, tenant, &key, value, ttl_ms))
    }

    fn delete(&mut self, key: String) -> Result<Result<bool, KvError>> {
        self.kept(|kv, _, tenant| kv.delete(tenant, &key))
    }

    fn increment(&mut self, key: String, delta: i64, ttl_ms: Option<u32>) -> Result<Result<i64, KvError>> {
        self.kept(|kv, limits, tenant| kv.increment(limits, tenant, &key, delta, ttl_ms))
    }

    fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_ms: Option<u32>,
    ) -> Result<Result<bool, KvError>> {
        self.kept(|kv, limits, tenant| kv.compare_and_set(limits, tenant, &key, expected.as_deref(), value, ttl_ms))
    }
}
