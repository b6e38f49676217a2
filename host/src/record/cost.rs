//! What an answer costs.
//!
//! Providers count `prompt_tokens` inclusive of the cached ones, so a cached token is taken out of the full price before it
//! is added at its own; counting it twice is how gateways report many times the bill.
//!
//! **Invariant:** integers: micro-US-dollars, rounded up once per call.

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Tokens of the prompt.
    pub input: f64,
    /// Tokens of the answer.
    pub output: f64,
    /// Tokens of the prompt that the provider had cached.
    pub cached_input: f64,
}

/// Tokens of one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of the prompt, cached ones among them.
    pub prompt: u64,
    /// Of the answer.
    pub completion: u64,
    /// Of the prompt, those that the provider had cached.
    pub cached: u64,
}

impl Price {
    /// Micro-US-dollars: dollars per million tokens are micro-dollars per token.
    pub fn of(&self, tokens: Tokens) -> u64 {
        let cached = tokens.cached.min(tokens.prompt);
        let fresh = (tokens.prompt - cached) as f64;
        (fresh * self.input + cached as f64 * self.cached_input + tokens.completion as f64 * self.output).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_are_paid_once() {
        let price = Price { input: 2.0, output: 8.0, cached_input: 0.5 };
        for (prompt, completion, cached, expect) in
            [(1_000, 100, 0, 2_800), (1_000, 100, 800, 1_600), (10, 0, 99, 5), (0, 0, 0, 0), (1, 0, 0, 2)]
        {
            assert_eq!(price.of(Tokens { prompt, completion, cached }), expect, "{prompt} {completion} {cached}");
        }
    }
}
