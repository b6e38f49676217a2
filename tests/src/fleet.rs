//! A fleet of model servers in simulated time, behind one or several gateways that balance by a policy: the gateway's own code, or
//! what it is compared with.
//!
//! Events in the order of their times: a request comes, a server's step is over, something fails. A day of a hundred servers is
//! minutes, and the same seed gives the same figures.
//!
//! What it does not do: there is no network and no HTTP in it; a gateway's own time is nothing.
//!
//! **Invariant:** all policies get the same requests at the same times, and servers of the same kind.

pub mod gpu;
pub mod live;
pub mod policy;
pub mod trace;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use gpu::{Gpu, Job, Out, Spec};
use policy::{Balancer, Policy};
use trace::Request;

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Setting {
    /// How many servers.
    pub servers: usize,
    /// How many gateways, which know nothing of one another; each gets its share of the requests.
    pub gateways: usize,
    /// What a server can do.
    pub spec: Spec,
    /// Requests before this second are not counted: caches are cold, and queues empty.
    pub from: f64,
    /// What goes wrong, in the order of its times.
    pub troubles: Vec<(f64, Trouble)>,
}

impl Setting {
    /// So many large servers behind one gateway.
    pub fn of(servers: usize, from: f64) -> Self {
        Self { servers, gateways: 1, spec: Spec::LARGE, from, troubles: Vec::new() }
    }
}

/// What goes wrong with a server.
#[derive(Clone, Copy, Debug)]
pub enum Trouble {
    /// It takes so many times as long from now on.
    Slow(usize, f64),
    /// It refuses everything, and has lost what it had.
    Down(usize),
    /// It is there again, with an empty cache.
    Up(usize),
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Seconds to the first token, sorted.
    pub ttft: Vec<f64>,
    /// The share of prompt tokens that were not read again.
    pub hits: f64,
    /// Requests that nobody answered.
    pub failed: usize,
    /// How many requests each server got.
    pub shares: Vec<usize>,
    /// Requests that had their last token, by those that had come.
    pub done: f64,
}

impl Figures {
    /// The mean time to the first token, in seconds.
    pub fn mean(&self) -> f64 {
        self.ttft.iter().sum::<f64>() / self.ttft.len().max(1) as f64
    }

    /// A percentile of it.
    pub fn percentile(&self, percent: f64) -> f64 {
        let rank = (self.ttft.len() as f64 * percent / 100.0) as usize;
        self.ttft.get(rank.min(self.ttft.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Trouble(usize),
    /// The step with this number is over; a crash begins another count.
    Step(usize, u64),
    Comes(usize),
}

struct Server {
    gpu: Gpu,
    down: bool,
    /// What the step under way leads to; none where it rests.
    out: Option<Vec<Out>>,
    step: u64,
}

struct Run<'a> {
    setting: &'a Setting,
    requests: &'a [Request],
    servers: Vec<Server>,
    balancers: Vec<Balancer>,
    events: BinaryHeap<Reverse<(u64, Event)>>,
    now: u64,
    figures: Figures,
    read: (f64, f64),
    counted: usize,
}

/// Runs a trace to the end of its arrivals, and as long again at most for what is still under way.
pub fn run(setting: &Setting, policy: Policy, requests: &[Request], seed: u64) -> Figures {
    let server = || Server { gpu: Gpu::new(setting.spec), down: false, out: None, step: 0 };
    let mut events: BinaryHeap<_> = (0..requests.len()).map(|at| Reverse((requests[at].at, Event::Comes(at)))).collect();
    let troubles = setting.troubles.iter().enumerate();
    events.extend(troubles.map(|(at, (seconds, _))| Reverse(((seconds * 1e6) as u64, Event::Trouble(at)))));
    let ends = 2 * requests.last().map_or(0, |request| request.at);
    let mut run = Run {
        setting,
        requests,
        servers: (0..setting.servers).map(|_| server()).collect(),
        balancers: (0..setting.gateways).map(|gateway| Balancer::new(policy, setting.servers, seed + gateway as u64)).collect(),
        events,
        now: 0,
        figures: Figures { shares: vec![0; setting.servers], ..Figures::default() },
        read: (0.0, 0.0),
        counted: 0,
    };
    while let Some(Reverse((now, event))) = run.events.pop() {
        if now > ends {
            break;
        }
        run.now = now;
        match event {
            Event::Comes(at) => run.comes(at),
            Event::Step(server, step) if run.servers[server].step == step => run.stepped(server),
            Event::Step(..) => {}
            Event::Trouble(at) => run.trouble(setting.troubles[at].1),
        }
    }
    let Run { mut figures, read: (cached, all), counted, .. } = run;
    figures.ttft.sort_by(f64::total_cmp);
    figures.hits = cached / all.max(1.0);
    figures.done /= counted.max(1) as f64;
    figures
}

impl Run<'_> {
    fn is_counted(&self, at: usize) -> bool {
        self.requests[at].at as f64 >= self.setting.from * 1e6
    }

    fn comes(&mut self, at: usize) {
        self.counted += usize::from(self.is_counted(at));
        let request = &self.requests[at];
        let balancer = &mut self.balancers[at % self.setting.gateways];
        // Two tries, as a gateway has by default.
        for _ in 0..2 {
            let Some(server) = balancer.choose(at, request, self.now) else { break };
            if self.servers[server].down {
                balancer.failed(at, server, self.now);
                continue;
            }
            self.figures.shares[server] += usize::from(request.at as f64 >= self.setting.from * 1e6);
            let job = Job { id: at, chain: Arc::clone(&request.chain), prompt: request.prompt, answer: request.answer };
            self.servers[server].gpu.push(job);
            if self.servers[server].out.is_none() {
                self.begin(server);
            }
            return;
        }
        balancer.gone(at);
        self.figures.failed += usize::from(self.is_counted(at));
    }

    fn begin(&mut self, server: usize) {
        let it = &mut self.servers[server];
        if it.gpu.is_idle() {
            it.out = None;
            return;
        }
        let (seconds, out) = it.gpu.step();
        it.out = Some(out);
        self.events.push(Reverse((self.now + (seconds * 1e6) as u64, Event::Step(server, it.step))));
    }

    fn stepped(&mut self, server: usize) {
        for out in self.servers[server].out.take().unwrap_or_default() {
            match out {
                Out::First { id, cached } => {
                    let seconds = (self.now - self.requests[id].at) as f64 / 1e6;
                    if self.balancers[id % self.setting.gateways].began(id, server, self.now) && self.is_counted(id) {
                        self.figures.ttft.push(seconds);
                        self.read.0 += f64::from(cached);
                        self.read.1 += f64::from(self.requests[id].prompt);
                    }
                }
                Out::Last(id) => {
                    self.balancers[id % self.setting.gateways].gone(id);
                    self.figures.done += f64::from(u8::from(self.is_counted(id)));
                }
                Out::Token(_) => {}
            }
        }
        self.servers[server].step += 1;
        self.begin(server);
    }

    fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Slow(server, times) => self.servers[server].gpu.slow = times,
            Trouble::Up(server) => self.servers[server].down = false,
            Trouble::Down(server) => {
                let it = &mut self.servers[server];
                (it.down, it.out) = (true, None);
                it.step += 1;
                for id in it.gpu.crash() {
                    let balancer = &mut self.balancers[id % self.setting.gateways];
                    balancer.failed(id, server, self.now);
                    balancer.gone(id);
                    self.figures.failed += usize::from(self.requests[id].at as f64 >= self.setting.from * 1e6);
                }
            }
        }
    }
}
