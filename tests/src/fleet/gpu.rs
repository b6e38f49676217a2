//! A model server on GPUs, as far as a router can tell: continuous batching with chunked prefill, a prefix cache of blocks in a KV
//! memory that ends, and a queue.
//!
//! A step does what an iteration of vLLM's scheduler does: it admits from the queue while there are blocks, gives each running
//! sequence that has been read one token, and spends what is left of its budget of tokens on prompts. It takes as long as reading
//! those, a part of its own, and a part for each sequence and for what is attended to.
//!
//! What it does not do: it computes nothing and knows no time but the length of its steps, so that a simulation and a live server
//! can both run it.
//!
//! **Invariant:** blocks in use are never more than there are; where a sequence cannot grow, the youngest one is put back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Tokens of a block.
pub const BLOCK: u32 = 64;

/// What a server can do.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Prompt tokens a second.
    pub prefill: f64,
    /// Seconds of a step, whatever is in it.
    pub step: f64,
    /// Seconds of a step for each sequence that gets a token.
    pub sequence: f64,
    /// Seconds of a step for each token that is attended to.
    pub attended: f64,
    /// The most sequences at a time.
    pub batch: usize,
    /// The most tokens of a step.
    pub budget: u32,
    /// Blocks of KV memory.
    pub blocks: usize,
}

impl Spec {
    /// About a 70B model on four H100s.
    pub const LARGE: Self = Self {
        prefill: 8_000.0,
        step: 0.020,
        sequence: 0.000_05,
        attended: 25e-9,
        batch: 256,
        budget: 2_048,
        blocks: 400_000 / BLOCK as usize,
    };
}

/// What a server is asked.
#[derive(Clone, Debug)]
pub struct Job {
    /// Whoever asked knows it by this.
    pub id: usize,
    /// Names of the blocks of prompt and answer; each depends on all before it.
    pub chain: Arc<[u64]>,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens of the answer, at least one.
    pub answer: u32,
}

/// What a step has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Out {
    /// The first token has come; so many tokens of the prompt were cached.
    First {
        /// Whose.
        id: usize,
        /// Tokens that were not read again.
        cached: u32,
    },
    /// Another token.
    Token(usize),
    /// The last token has come.
    Last(usize),
}

#[derive(Debug)]
struct Sequence {
    job: Job,
    cached: u32,
    /// Tokens of the prompt that are there.
    read: u32,
    said: u32,
    /// Blocks of the chain that it refers to in the cache, from the first.
    shared: usize,
    /// Blocks of its own.
    own: usize,
}

#[derive(Debug)]
struct Cached {
    users: u32,
    used_at: u64,
}

/// A server.
#[derive(Debug)]
pub struct Gpu {
    spec: Spec,
    /// How much slower than it should be.
    pub slow: f64,
    waiting: VecDeque<Job>,
    running: Vec<Sequence>,
    cache: HashMap<u64, Cached>,
    /// Cached blocks that nobody uses, and the order in which they were used; entries may be outdated.
    idle: usize,
    order: VecDeque<(u64, u64)>,
    own: usize,
    clock: u64,
}

impl Gpu {
    /// An idle server with an empty cache.
    pub fn new(spec: Spec) -> Self {
        Self {
            spec,
            slow: 1.0,
            waiting: VecDeque::new(),
            running: Vec::new(),
            cache: HashMap::new(),
            idle: 0,
            order: VecDeque::new(),
            own: 0,
            clock: 0,
        }
    }

    /// One more in the queue.
    pub fn push(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// Takes a job out, wherever it is.
    pub fn cancel(&mut self, id: usize) {
        self.waiting.retain(|job| job.id != id);
        if let Some(at) = self.running.iter().position(|sequence| sequence.job.id == id) {
            let sequence = self.running.remove(at);
            self.release(&sequence);
        }
    }

    /// Forgets everything, as a restart does, and says whose jobs are lost.
    pub fn crash(&mut self) -> Vec<usize> {
        let lost = self.running.iter().map(|sequence| sequence.job.id).chain(self.waiting.iter().map(|job| job.id)).collect();
        *self = Self { slow: self.slow, ..Self::new(self.spec) };
        lost
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Jobs that are being answered.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// The share of blocks in use.
    pub fn usage(&self) -> f64 {
        (self.cache.len() - self.idle + self.own) as f64 / self.spec.blocks as f64
    }

    /// Is there nothing to do?
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// One step: how many seconds it takes, and what has come when it is over.
    pub fn step(&mut self) -> (f64, Vec<Out>) {
        self.admit();
        let mut out = Vec::new();
        let mut attended = 0_u64;
        let mut decoded = 0_u32;
        let mut at = 0;
        while at < self.running.len() {
            let sequence = &self.running[at];
            if sequence.read < sequence.job.prompt {
                at += 1;
                continue;
            }
            let grows = (sequence.job.prompt + sequence.said).is_multiple_of(BLOCK);
            if grows && !self.room(1) {
                // The youngest gives its blocks to the others, and is read again later.
                let youngest = self.running.len() - 1;
                self.put_back(youngest);
                continue;
            }
            let sequence = &mut self.running[at];
            if grows {
                sequence.own += 1;
                self.own += 1;
            }
            sequence.said += 1;
            decoded += 1;
            attended += u64::from(sequence.job.prompt + sequence.said);
            out.push(Out::Token(sequence.job.id));
            at += 1;
        }
        let read = self.read(self.spec.budget.saturating_sub(decoded), &mut out);
        for at in (0..self.running.len()).rev() {
            if self.running[at].said >= self.running[at].job.answer {
                let sequence = self.running.remove(at);
                out.push(Out::Last(sequence.job.id));
                self.keep(&sequence);
                self.release(&sequence);
            }
        }
        let Spec { prefill, step, sequence, attended: each, .. } = self.spec;
        let took = step + f64::from(read) / prefill + sequence * f64::from(decoded) + each * attended as f64;
        (took * self.slow, out)
    }

    fn admit(&mut self) {
        while self.running.len() < self.spec.batch {
            let Some(job) = self.waiting.front() else { return };
            let whole = (job.prompt / BLOCK) as usize;
            let hits = job.chain[..whole].iter().take_while(|name| self.cache.contains_key(name)).count();
            // The last token is always read, or there would be nothing to go on from.
            let cached = (hits as u32 * BLOCK).min(job.prompt - 1);
            let needed = job.prompt.div_ceil(BLOCK) as usize - hits;
            let idle_hits = job.chain[..hits].iter().filter(|name| self.cache[*name].users == 0).count();
            if self.cache.len() - self.idle + idle_hits + self.own + needed > self.spec.blocks {
                return;
            }
            let Some(job) = self.waiting.pop_front() else { return };
            for name in &job.chain[..hits] {
                self.take(*name);
            }
            self.make_room(needed);
            self.own += needed;
            self.running.push(Sequence { cached, read: cached, said: 0, shared: hits, own: needed, job });
        }
    }

    /// Spends a budget of tokens on prompts, in the order of their arrival.
    fn read(&mut self, mut budget: u32, out: &mut Vec<Out>) -> u32 {
        let mut read = 0;
        for at in 0..self.running.len() {
            let sequence = &mut self.running[at];
            let now = (sequence.job.prompt - sequence.read).min(budget);
            if now == 0 {
                continue;
            }
            sequence.read += now;
            budget -= now;
            read += now;
            if sequence.read == sequence.job.prompt {
                sequence.said = 1;
                out.push(Out::First { id: sequence.job.id, cached: sequence.cached });
                self.publish(at);
            }
        }
        read
    }

    /// What was read of a prompt can be shared.
    fn publish(&mut self, at: usize) {
        let (chain, from) = (self.running[at].job.chain.clone(), self.running[at].shared);
        let whole = (self.running[at].job.prompt / BLOCK) as usize;
        for name in &chain[from..whole.max(from)] {
            match self.cache.get(name) {
                Some(_) => self.take(*name),
                None => drop(self.cache.insert(*name, Cached { users: 1, used_at: 0 })),
            }
            self.running[at].own -= 1;
            self.own -= 1;
            self.running[at].shared += 1;
        }
    }

    /// What was said can be shared as well, once it is over.
    fn keep(&mut self, sequence: &Sequence) {
        let whole = ((sequence.job.prompt + sequence.said) / BLOCK) as usize;
        let until = whole.min(sequence.job.chain.len());
        for name in &sequence.job.chain[sequence.shared..until.max(sequence.shared)] {
            if !self.cache.contains_key(name) && self.room(1) {
                self.clock += 1;
                self.cache.insert(*name, Cached { users: 0, used_at: self.clock });
                self.order.push_back((*name, self.clock));
                self.idle += 1;
            }
        }
    }

    fn put_back(&mut self, at: usize) {
        let sequence = self.running.remove(at);
        self.release(&sequence);
        self.waiting.push_front(sequence.job);
    }

    fn take(&mut self, name: u64) {
        if let Some(cached) = self.cache.get_mut(&name) {
            self.idle -= usize::from(cached.users == 0);
            cached.users += 1;
        }
    }

    /// The end of a prompt is forgotten before its beginning.
    fn release(&mut self, sequence: &Sequence) {
        self.own -= sequence.own;
        for name in sequence.job.chain[..sequence.shared].iter().rev() {
            self.clock += 1;
            let Some(cached) = self.cache.get_mut(name) else { continue };
            cached.users -= 1;
            if cached.users == 0 {
                cached.used_at = self.clock;
                self.idle += 1;
                self.order.push_back((*name, self.clock));
            }
        }
    }

    /// Can so many blocks be had?
    fn room(&mut self, blocks: usize) -> bool {
        if self.cache.len() - self.idle + self.own + blocks > self.spec.blocks {
            return false;
        }
        self.make_room(blocks);
        true
    }

    /// Forgets what was not used for longest.
    fn make_room(&mut self, blocks: usize) {
        while self.cache.len() + self.own + blocks > self.spec.blocks {
            let Some((name, used_at)) = self.order.pop_front() else { return };
            if self.cache.get(&name).is_some_and(|cached| cached.users == 0 && cached.used_at == used_at) {
                self.cache.remove(&name);
                self.idle -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: usize, tokens: u32, answer: u32, first: u64) -> Job {
        let chain = (0..u64::from((tokens + answer).div_ceil(BLOCK))).map(|at| first * 1_000 + at).collect();
        Job { id, chain, prompt: tokens, answer }
    }

    fn run(gpu: &mut Gpu) -> (f64, Vec<Out>) {
        let (mut took, mut all) = (0.0, Vec::new());
        while !gpu.is_idle() {
            let (seconds, out) = gpu.step();
            took += seconds;
            all.extend(out);
            assert!(gpu.usage() <= 1.0);
        }
        (took, all)
    }

    #[test]
    fn a_prompt_that_is_cached_is_not_read_again() {
        let mut gpu = Gpu::new(Spec::LARGE);
        gpu.push(job(1, 6_400, 1, 7));
        let (first, out) = run(&mut gpu);
        assert_eq!(out, [Out::First { id: 1, cached: 0 }, Out::Last(1)]);
        gpu.push(job(2, 6_400, 1, 7));
        let (second, out) = run(&mut gpu);
        assert_eq!(out[0], Out::First { id: 2, cached: 6_399 });
        assert!(first > 0.8 && second < 0.03, "{first} {second}");
    }

    #[test]
    fn a_full_memory_makes_others_wait_and_nobody_is_lost() {
        let mut gpu = Gpu::new(Spec { blocks: 100, ..Spec::LARGE });
        (0..20).for_each(|id| gpu.push(job(id, 1_000, 500, id as u64)));
        gpu.step();
        assert!(gpu.running() < 8 && gpu.waiting() > 12, "{} {}", gpu.running(), gpu.waiting());
        let (_, out) = run(&mut gpu);
        let mut done: Vec<usize> = out.iter().filter_map(|out| if let Out::Last(id) = out { Some(*id) } else { None }).collect();
        done.sort_unstable();
        assert_eq!(done, (0..20).collect::<Vec<_>>());
        assert_eq!(gpu.usage(), 0.0);
    }

    #[test]
    fn a_batch_is_cheaper_than_its_parts() {
        let time = |count: usize| {
            let mut gpu = Gpu::new(Spec::LARGE);
            (0..count).for_each(|id| gpu.push(job(id, 10, 100, id as u64)));
            run(&mut gpu).0
        };
        assert!(time(32) < 2.0 * time(1));
    }
}
