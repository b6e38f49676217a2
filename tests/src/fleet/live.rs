//! A [`Gpu`] that serves over HTTP in real time: chat completions that wait, are read and are said token by token as its steps have it,
//! `/metrics` with vLLM's names, and `/v1/models` where it is told what to list.
//!
//! What it does not do: its words mean nothing, and its tokens are four bytes of a request's messages.
//!
//! **Invariant:** all that it says of itself is the state of the same server that the simulation runs.

use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pointsman::dialect::prefix::hash;
use serde_json::{Value, json};

use super::gpu::{BLOCK, Gpu, Job, Out, Spec};
use crate::upstream::Seen;
use crate::upstream::serve::{lock, read};

/// Bytes of a token.
const BYTES: usize = 4;
/// How often a server that rests looks for work.
const REST: Duration = Duration::from_millis(1);

struct Shared {
    gpu: Mutex<Gpu>,
    /// Who waits for what comes of a job.
    listeners: Mutex<HashMap<usize, Sender<Out>>>,
    jobs: AtomicUsize,
    /// Requests over HTTP.
    asked: AtomicUsize,
    /// Prompt tokens in all, and those that were cached.
    tokens: [AtomicUsize; 2],
    /// Models, each with the one that it is an adapter of.
    models: Mutex<Vec<(String, Option<String>)>>,
    /// Slots for adapters, and the adapters that run.
    lora: Mutex<Option<(usize, String)>>,
    sockets: Mutex<Vec<TcpStream>>,
    stopped: AtomicBool,
}

/// The server. Dropping it ends it.
pub struct Live {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Live {
    /// Starts a server on a free port.
    pub fn start(spec: Spec) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            gpu: Mutex::new(Gpu::new(spec)),
            listeners: Mutex::default(),
            jobs: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            tokens: Default::default(),
            models: Mutex::default(),
            lora: Mutex::default(),
            sockets: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let stepping = shared.clone();
        std::thread::spawn(move || stepping.steps());
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if serving.stopped.load(Ordering::SeqCst) {
                    return;
                }
                lock(&serving.sockets).extend(stream.try_clone());
                let shared = serving.clone();
                // Whatever ends the connection: the test looks at the other side of it.
                std::thread::spawn(move || drop(shared.converse(stream)));
            }
        });
        Self { address, shared }
    }

    /// The base URL, as it stands in a configuration.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Requests over HTTP so far.
    pub fn count(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// The share of prompt tokens that were cached.
    pub fn hits(&self) -> f64 {
        let [all, cached] = [0, 1].map(|which| self.shared.tokens[which].load(Ordering::SeqCst) as f64);
        cached / all.max(1.0)
    }

    /// Lists a model from now on, and whose adapter it is.
    pub fn list(&self, model: &str, of: Option<&str>) {
        lock(&self.shared.models).push((model.to_owned(), of.map(str::to_owned)));
    }

    /// Says from now on how many slots for adapters it has, and which adapters run.
    pub fn run(&self, slots: usize, adapters: &str) {
        *lock(&self.shared.lora) = Some((slots, adapters.to_owned()));
    }

    /// Somebody else's requests: so many, with prompts and answers of so many tokens.
    pub fn crowd(&self, jobs: usize, prompt: u32, answer: u32) {
        for _ in 0..jobs {
            let id = self.shared.jobs.fetch_add(1, Ordering::SeqCst);
            let chain = (0..(prompt + answer) / BLOCK).map(|at| hash(id as u64, &at.to_le_bytes())).collect();
            lock(&self.shared.gpu).push(Job { id, chain, prompt, answer });
        }
    }

    /// How many wait there.
    pub fn waiting(&self) -> usize {
        lock(&self.shared.gpu).waiting()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        for socket in lock(&self.shared.sockets).iter() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn steps(&self) {
        while !self.stopped.load(Ordering::SeqCst) {
            let step = {
                let mut gpu = lock(&self.gpu);
                (!gpu.is_idle()).then(|| gpu.step())
            };
            let Some((seconds, out)) = step else {
                std::thread::sleep(REST);
                continue;
            };
            std::thread::sleep(Duration::from_secs_f64(seconds));
            let listeners = lock(&self.listeners);
            for what in out {
                if let Some(listener) = listeners.get(&id(what)) {
                    // Who has left listens no more.
                    let _ = listener.send(what);
                }
            }
        }
    }

    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read(&mut reader)? {
            if request.line.starts_with("GET /metrics") {
                let page = self.metrics();
                write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{page}", page.len())?;
                continue;
            }
            let models = lock(&self.models).clone();
            if request.line.starts_with("GET /v1/models") && !models.is_empty() {
                let card = |(id, parent): &(String, Option<String>)| json!({ "id": id, "object": "model", "parent": parent });
                let list = json!({ "object": "list", "data": models.iter().map(card).collect::<Vec<_>>() }).to_string();
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{list}",
                    list.len()
                )?;
                continue;
            }
            if !request.line.starts_with("POST ") {
                stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
                continue;
            }
            self.asked.fetch_add(1, Ordering::SeqCst);
            let (id, listener) = self.push(&request);
            let done = answer(&mut stream, &request.json(), &listener, |cached, prompt| {
                self.tokens[0].fetch_add(prompt, Ordering::SeqCst);
                self.tokens[1].fetch_add(cached, Ordering::SeqCst);
            });
            lock(&self.listeners).remove(&id);
            lock(&self.gpu).cancel(id);
            done?;
        }
        Ok(())
    }

    fn push(&self, request: &Seen) -> (usize, Receiver<Out>) {
        let body = request.json();
        let said = body["messages"].to_string();
        let said = said.trim_end_matches(']').as_bytes();
        let prompt = (said.len() / BYTES).max(1) as u32;
        let answer = body["max_tokens"].as_u64().unwrap_or(8).max(1) as u32;
        let mut name = hash(0, body["model"].to_string().as_bytes());
        let mut chain: Vec<u64> = Vec::new();
        for block in said.chunks_exact(BLOCK as usize * BYTES) {
            name = hash(name, block);
            chain.push(name);
        }
        chain.truncate((prompt / BLOCK) as usize);
        let id = self.jobs.fetch_add(1, Ordering::SeqCst);
        let (sender, receiver) = channel();
        lock(&self.listeners).insert(id, sender);
        lock(&self.gpu).push(Job { id, chain: chain.into(), prompt, answer });
        (id, receiver)
    }

    fn metrics(&self) -> String {
        let gpu = lock(&self.gpu);
        let values = [
            ("num_requests_running", gpu.running() as f64),
            ("num_requests_waiting", gpu.waiting() as f64),
            ("kv_cache_usage_perc", gpu.usage()),
        ];
        let lines = values.map(|(name, value)| {
            format!("# TYPE vllm:{name} gauge\nvllm:{name}{{engine=\"0\",model_name=\"tiny-1\"}} {value:?}\n")
        });
        let lora = lock(&self.lora).as_ref().map(|(slots, running)| {
            let labels = format!("max_lora=\"{slots}\",running_lora_adapters=\"{running}\",waiting_lora_adapters=\"\"");
            format!("# TYPE vllm:lora_requests_info gauge\nvllm:lora_requests_info{{{labels}}} 1.75e+09\n")
        });
        lines.concat() + &lora.unwrap_or_default()
    }
}

/// Says what comes, whole or as a stream. An error: the client has left, or the server ends.
fn answer(stream: &mut TcpStream, body: &Value, listener: &Receiver<Out>, read: impl Fn(usize, usize)) -> io::Result<()> {
    let streamed = body["stream"] == true;
    let mut said = String::new();
    let prompt = (body["messages"].to_string().len() / BYTES).max(1);
    let ended = |_| io::Error::from(io::ErrorKind::BrokenPipe);
    loop {
        let what = listener.recv().map_err(ended)?;
        if let Out::First { cached, .. } = what {
            read(cached as usize, prompt);
            if streamed {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
            }
        }
        if what == Out::Last(id(what)) {
            break;
        }
        said.push_str("word ");
        if streamed {
            chunk(stream, &event(&json!({ "content": "word " }), None))?;
        }
    }
    if streamed {
        chunk(stream, &event(&json!({}), Some("stop")))?;
        chunk(stream, "data: [DONE]\n\n")?;
        return stream.write_all(b"0\r\n\r\n");
    }
    let usage = json!({ "prompt_tokens": prompt, "completion_tokens": said.len() / 5, "total_tokens": prompt + said.len() / 5 });
    let message = json!({ "role": "assistant", "content": said });
    let choices = json!([{ "index": 0, "message": message, "finish_reason": "stop" }]);
    let text = json!({ "id": "chatcmpl-live", "object": "chat.completion", "created": 1_750_000_000, "model": body["model"], "choices": choices, "usage": usage }).to_string();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

fn id(out: Out) -> usize {
    let (Out::First { id, .. } | Out::Token(id) | Out::Last(id)) = out;
    id
}

fn event(delta: &Value, finish: Option<&str>) -> String {
    let choices = json!([{ "index": 0, "delta": delta, "finish_reason": finish }]);
    format!("data: {}\n\n", json!({ "id": "chatcmpl-live", "object": "chat.completion.chunk", "choices": choices }))
}

fn chunk(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    write!(stream, "{:x}\r\n{text}\r\n", text.len())
}
