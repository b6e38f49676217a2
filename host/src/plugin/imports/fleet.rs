//! `upstreams`: the models that this node can send to.

use wasmtime::Result;

use super::State;
use crate::plugin::bindings::upstreams::{Host, Status, Upstream};

impl Host for State {
    fn candidates(&mut self) -> Result<Vec<Upstream>> {
        Ok(self.around.as_ref().map(|around| around.candidates()).unwrap_or_default())
    }

    fn get(&mut self, model: String) -> Result<Option<Upstream>> {
        Ok(self.around.as_ref().and_then(|around| around.model(&model)))
    }

    fn status_of(&mut self, model: String) -> Result<Option<Status>> {
        Ok(self.around.as_ref().and_then(|around| around.status(&model)))
    }

    fn estimate(&mut self, model: String, prompt_tokens: u32, completion_tokens: u32) -> Result<Option<u64>> {
        let price = self.around.as_ref().and_then(|around| around.model(&model)).and_then(|upstream| upstream.price);
        Ok(price.map(|price| {
            let total =
                u128::from(price.input) * u128::from(prompt_tokens) + u128::from(price.output) * u128::from(completion_tokens);
            u64::try_from(total.div_ceil(1_000_000)).unwrap_or(u64::MAX)
        }))
    }
}
