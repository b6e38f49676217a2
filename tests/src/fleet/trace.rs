//! What clients ask: conversations of many tenants, drawn from a seed.
//!
//! A tenant's conversations begin with its system prompt; some tenants are much busier than others (Zipf). A conversation has several
//! turns, each with all that was said before it. Conversations come by chance (Poisson); lengths are lognormal. A turn comes at a
//! time that does not depend on how long the last one took to be answered, so every policy gets the same requests at the same times.
//!
//! What it does not do: it writes no text. What is said is named, so that prompts that begin alike have blocks of the same names, on
//! the servers' side and on the gateway's.
//!
//! **Invariant:** the same seed and shape give the same trace.

use std::sync::Arc;

use pointsman::dialect::prefix::{self, Prefix, mix};

use super::gpu::BLOCK;

/// Bytes of a token.
const BYTES: usize = 4;

/// The shape of a trace.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Requests a second.
    pub rate: f64,
    /// How long requests come, in seconds.
    pub seconds: f64,
    /// How many tenants.
    pub tenants: usize,
    /// How much busier some are: the exponent of Zipf's law.
    pub zipf: f64,
    /// Median and spread (sigma of the logarithm) of a system prompt's tokens.
    pub system: (f64, f64),
    /// Of what a user says.
    pub user: (f64, f64),
    /// Of an answer.
    pub answer: (f64, f64),
    /// Turns of a conversation, on average.
    pub turns: f64,
    /// Seconds until the next turn, on average.
    pub thinks: f64,
}

impl Shape {
    /// Chat with assistants for a fleet of so many servers: twenty tenants a server.
    pub fn chat(servers: usize, rate: f64, seconds: f64) -> Self {
        Self {
            rate,
            seconds,
            tenants: 20 * servers,
            zipf: 1.0,
            system: (1_000.0, 0.8),
            user: (120.0, 1.0),
            answer: (200.0, 0.8),
            turns: 5.0,
            thinks: 20.0,
        }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it comes, in microseconds.
    pub at: u64,
    /// Names of the server's blocks of prompt and answer.
    pub chain: Arc<[u64]>,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens of the answer.
    pub answer: u32,
    /// The prompt's blocks as the gateway sees them.
    pub prefix: Prefix,
}

/// Requests in the order in which they come.
pub fn trace(shape: &Shape, seed: u64) -> Vec<Request> {
    let mut random = fastrand::Rng::with_seed(seed);
    let systems: Vec<u32> = (0..shape.tenants).map(|_| lognormal(&mut random, shape.system, 16_000.0)).collect();
    let mut sum = 0.0;
    let popular: Vec<f64> = (0..shape.tenants)
        .map(|tenant| {
            sum += ((tenant + 1) as f64).powf(-shape.zipf);
            sum
        })
        .collect();
    let mut requests = Vec::new();
    // Conversations that began before are under way.
    let before = 6.0 * shape.turns * (shape.thinks + 8.0);
    let mut now = -before;
    let mut names = 0;
    while now < shape.seconds {
        now += -(shape.turns / shape.rate) * random.f64().max(1e-12).ln();
        let tenant = popular.partition_point(|up_to| *up_to < random.f64() * sum).min(shape.tenants - 1);
        let mut said = vec![(tenant as u64, systems[tenant])];
        let mut at = now;
        loop {
            names += 2;
            said.push((mix(seed ^ (names << 20)), lognormal(&mut random, shape.user, 8_000.0)));
            let prompt: u32 = said.iter().map(|(_, tokens)| tokens).sum();
            let answer = lognormal(&mut random, shape.answer, 2_000.0);
            let prefix = (0..prefix::MOST).map(|index| prefix::end(index) / BYTES).take_while(|end| *end <= prompt as usize);
            let prefix = Prefix::of_blocks(chain(&said, prefix), prompt as usize * BYTES);
            said.push((mix(seed ^ (names + 1) << 20), answer));
            let blocks = (1..=(prompt + answer) / BLOCK).map(|block| (block * BLOCK) as usize);
            if (0.0..shape.seconds).contains(&at) {
                let chain = chain(&said, blocks).into();
                requests.push(Request { at: (at * 1e6) as u64, chain, prompt, answer, prefix });
            }
            if random.f64() < 1.0 / shape.turns || prompt > 30_000 {
                break;
            }
            at += f64::from(answer) * 0.04 - shape.thinks * random.f64().max(1e-12).ln();
        }
    }
    requests.sort_by_key(|request| request.at);
    requests
}

/// Names of what was said up to each of these ends.
fn chain(said: &[(u64, u32)], ends: impl Iterator<Item = usize>) -> Vec<u64> {
    let (mut state, mut begins, mut at) = (0, 0, 0);
    ends.map(|end| {
        while begins + said[at].1 as usize <= end && at + 1 < said.len() {
            state = mix(state ^ mix(said[at].0));
            begins += said[at].1 as usize;
            at += 1;
        }
        mix(mix(state ^ mix(said[at].0)) ^ (end - begins) as u64)
    })
    .collect()
}

fn lognormal(random: &mut fastrand::Rng, (median, spread): (f64, f64), most: f64) -> u32 {
    let (radius, angle) = ((-2.0 * random.f64().max(1e-12).ln()).sqrt(), std::f64::consts::TAU * random.f64());
    (median * (spread * radius * angle.cos()).exp()).clamp(8.0, most) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_what_its_shape_says() {
        let shape = Shape::chat(16, 50.0, 200.0);
        let requests = trace(&shape, 1);
        let mean =
            |of: fn(&Request) -> u32| requests.iter().map(|request| f64::from(of(request))).sum::<f64>() / requests.len() as f64;
        assert!((45.0..55.0).contains(&(requests.len() as f64 / 200.0)), "{}", requests.len());
        assert!((240.0..310.0).contains(&mean(|request| request.answer)), "{}", mean(|request| request.answer));
        // Requests come as often at the end as at the beginning.
        let early = requests.iter().filter(|request| request.at < 100_000_000).count() as f64 / requests.len() as f64;
        assert!((0.45..0.55).contains(&early), "{early}");
        let again = trace(&shape, 1);
        assert!(requests.iter().zip(&again).all(|(a, b)| a.chain == b.chain && a.prefix == b.prefix));
    }

    #[test]
    fn what_begins_alike_has_blocks_of_the_same_names() {
        let common = |a: &[u64], b: &[u64]| a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let requests = trace(&Shape::chat(1, 5.0, 100.0), 3);
        let longest = |one: &Request| {
            let others = requests.iter().filter(|other| other.at > one.at);
            others.map(|other| (common(&one.chain, &other.chain), common(one.prefix.blocks(), other.prefix.blocks()))).max()
        };
        let all: Vec<_> = requests.iter().filter_map(longest).collect();
        // The gateway's blocks are of 128 tokens and more, and end with the prompt; the server's of 64 and with the answer.
        assert!(all.iter().all(|(server, gateway)| gateway * 2 <= server + 1));
        assert!(all.iter().filter(|(server, _)| *server > 8).count() > all.len() / 2);
    }
}
