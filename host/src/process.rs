//! The process: its threads, its listeners, what it watches, and how it ends.
//!
//! One current-thread runtime per core, each with a listener (SO_REUSEPORT), upstream connections and plugin instances of
//! its own; one more thread, the steward, for everything that is nobody's request: the admin listener, signals, watching
//! files, building the next snapshot, asking upstreams how busy they are, reading how much memory is taken.
//!
//! What it does not do: it answers no request (`gateway`) and knows no protocol (`listen`).
//!
//! **Invariant:** a reload never stops traffic; one that cannot be built leaves the running snapshot, says why in the log,
//! in a metric and in the admin API.
//! **Invariant:** a drain turns /readyz first, then stops accepting, then waits for what is in flight.

mod alarm;
mod files;
mod memory;
mod signals;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::admin;
use crate::config::reload::Watcher;
use crate::config::{self, Config, Finding, Loaded};
use crate::gateway::Gateway;
use crate::gateway::state::{BuildError, Lasting, State};
use crate::listen;
use crate::listen::drain::Drain;
use crate::upstream;
use alarm::Alarm;
pub use alarm::Failed;
use signals::Signals;

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration reads well but cannot be put into force.
    #[error("{0}")]
    Configuration(#[from] BuildError),
    /// The system refused something.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.into();
    move |error| StartError::System { what, error }
}

/// What the steward is asked to do.
enum Order {
    /// Something that is watched has changed, or SIGHUP came.
    Reload,
    /// Begin to drain.
    Drain,
}

/// A process that serves.
pub struct Process {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    gateway: Arc<Gateway>,
    orders: mpsc::UnboundedSender<Order>,
    alarm: Alarm,
    steward: Option<JoinHandle<()>>,
}

impl Process {
    /// Builds the snapshot, binds the listeners and starts to serve.
    ///
    /// # Errors
    /// When the configuration cannot be put into force, or an address cannot be bound.
    pub fn start(loaded: Loaded) -> Result<Self, StartError> {
        let config = loaded.config.clone();
        let workers = config.listen.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let (orders, inbox) = mpsc::unbounded_channel();
        // Before anything is read, so that no change falls in between.
        let watcher = watch(&watched(&loaded, &config), orders.clone());
        let lasting = Arc::new(Lasting::new(workers + 1, aot_folder()));
        let steward = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start a runtime"))?;
        let state = steward.block_on(State::build(&lasting, config.clone(), None))?;
        for problem in &state.prompt_problems {
            tracing::warn!("{problem}");
        }
        files::raise(config.listen.max_connections);
        let alarm = Alarm::new(orders.clone());
        let drain = Drain::new();
        let gateway = Arc::new(Gateway::new(state));

        let options = Arc::new(options(&config).map_err(|finding| BuildError(vec![finding]))?);
        let sockets = listen::bind(&options, workers).map_err(system(format!("listen on {}", config.listen.address)))?;
        let address = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(config.listen.address);
        let admin = match &config.admin {
            Some(admin) => Some(admin::bind(admin).map_err(system(format!("listen on {} (admin)", admin.address)))?),
            None => None,
        };
        let admin_address = admin.as_ref().and_then(|admin| admin.local_addr().ok());
        // Set once: there is one listener.
        let _ = gateway.counters.set(options.counters.clone());
        let _ = gateway.drain.set(drain.clone());

        for (worker, socket) in sockets.into_iter().enumerate() {
            let (options, gateway, drain, alarm) = (options.clone(), gateway.clone(), drain.clone(), alarm.clone());
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start a runtime"))?;
            spawn(format!("core-{worker}"), move || {
                let _guard = alarm.guard();
                runtime.block_on(async move {
                    let listener = match tokio::net::TcpListener::from_std(socket) {
                        Ok(listener) => listener,
                        Err(error) => return alarm.ring(&format!("a listener could not be used ({error})")),
                    };
                    listen::serve(listener, options, gateway, drain, worker).await;
                });
            })?;
        }
        let steward_gateway = gateway.clone();
        let self_orders = orders.clone();
        let steward_alarm = alarm.clone();
        let steward = spawn("steward".into(), move || {
            let _guard = steward_alarm.guard();
            steward.block_on(
                Steward { loaded, lasting, gateway: steward_gateway, drain, options, orders: self_orders, watcher }
                    .run(inbox, admin),
            );
        })?;
        tracing::info!(%address, admin = admin_address.map(tracing::field::display), workers, "serving");
        Ok(Self { address, admin: admin_address, gateway, orders, alarm, steward: Some(steward) })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the administrator connects.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What answers requests; for tests and benches that ask it directly.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Reads the configuration file and everything that it names again.
    pub fn reload(&self) {
        let _ = self.orders.send(Order::Reload);
    }

    /// Drains and waits for the end.
    pub fn stop(mut self) {
        let _ = self.orders.send(Order::Drain);
        let _ = self.join();
    }

    /// Waits until a signal has ended the process.
    ///
    /// # Errors
    /// When it was no signal: a thread of the process panicked.
    pub fn wait_for_signal(mut self) -> Result<(), Failed> {
        self.join()
    }

    fn join(&mut self) -> Result<(), Failed> {
        let steward = self.steward.take();
        self.alarm.join(steward)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Drain);
        let _ = self.join();
    }
}

fn spawn(name: String, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StartError> {
    std::thread::Builder::new().name(name).spawn(run).map_err(system("start a thread"))
}

/// Compiled components outlive the process, in the user's own cache folder.
fn aot_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(base.join("pointsman").join("components"))
}

/// What keeps a configuration that reads well from being served as it says; empty if nothing does. Everything that a start
/// loads is loaded, with the same compiled components; nobody is listened to, and nothing is connected to.
pub fn examine(config: &Config) -> Vec<Finding> {
    let lasting = Lasting::new(1, aot_folder());
    let mut found = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => match runtime.block_on(State::build(&lasting, config.clone(), None)) {
            Ok(state) => state.unread(),
            Err(BuildError(found)) => found,
        },
        Err(error) => vec![Finding::new(&["listen"], format!("no runtime can be started: {error}"), "try again")],
    };
    found.extend(options(config).err());
    found
}

fn options(config: &Config) -> Result<listen::Options, Finding> {
    let listen = &config.listen;
    let tls = match &listen.tls {
        Some(tls) => {
            let opened = listen::tls::Reloading::open(&tls.certificate, &tls.key, tls.client_ca.as_deref());
            Some(opened.map_err(|error| {
                let key = match &error.file {
                    file if *file == tls.key => "key",
                    file if Some(file) == tls.client_ca.as_ref() => "client_ca",
                    _ => "certificate",
                };
                Finding::new(&["listen", "tls", key], &error, "give PEM files that go together")
            })?)
        }
        None => None,
    };
    Ok(listen::Options {
        first_request: listen.first_request.get(),
        header_read: listen.header_read.get(),
        body_idle: listen.body_idle.get(),
        body_total: listen.body_total.get(),
        write_idle: listen.write_idle.get(),
        max_body: listen.max_body.as_usize(),
        max_headers: listen.max_headers,
        max_connections: listen.max_connections,
        max_connections_per_address: listen.max_connections_per_address,
        tls: tls.map(Arc::new),
        ..listen::Options::new(listen.address)
    })
}

/// Everything that is nobody's request.
struct Steward {
    loaded: Loaded,
    lasting: Arc<Lasting>,
    gateway: Arc<Gateway>,
    drain: Drain,
    options: Arc<listen::Options>,
    orders: mpsc::UnboundedSender<Order>,
    watcher: Option<Watcher>,
}

impl Steward {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Order>, admin: Option<std::net::TcpListener>) {
        if let Some(socket) = admin {
            let key = self.loaded.config.admin.as_ref().and_then(|admin| admin.key.as_ref()).and_then(|key| key.resolve().ok());
            let (gateway, orders) = (self.gateway.clone(), self.orders.clone());
            let serving = admin::serve(socket, gateway, key, Box::new(move || drop(orders.send(Order::Reload))));
            self.drain.spawn_detached(serving);
        }
        let (changed, gateway) = (Arc::new(Notify::new()), self.gateway.clone());
        let pools = move || gateway.state().pools.values().cloned().collect();
        self.drain.spawn_detached(upstream::scrape::run(pools, changed.clone()));
        if let Some(mark) = self.gateway.state().config.listen.memory {
            self.drain.spawn_detached(memory::watch(mark.bytes(), self.gateway.clone()));
        }
        let mut signals = Signals::new();
        loop {
            let order = tokio::select! {
                order = inbox.recv() => order.unwrap_or(Order::Drain),
                order = signals.next() => order,
            };
            match order {
                Order::Reload => {
                    self.reload().await;
                    changed.notify_one();
                    // What is to be watched may have changed with the configuration.
                    if let Some(watcher) = &self.watcher {
                        watcher.watch(&watched(&self.loaded, &self.gateway.state().config));
                    }
                }
                Order::Drain => break,
            }
        }
        self.watcher = None;
        self.gateway.begin_drain();
        let grace = self.gateway.state().config.listen.drain.get();
        tracing::info!(?grace, "draining");
        self.drain.begin();
        let drained = tokio::select! {
            drained = self.drain.wait(grace) => drained,
            () = signals.again() => self.drain.wait(Duration::ZERO).await,
        };
        tracing::info!(cut = drained.cut, "drained");
    }

    async fn reload(&mut self) {
        let config = match &self.loaded.path {
            Some(path) => match config::load(path) {
                Ok(loaded) => {
                    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
                    loaded.config
                }
                Err(report) => return self.gateway.reload_failed(report.to_string()),
            },
            None => self.loaded.config.clone(),
        };
        // The file's own address was judged when it was read; the one that is listened on is another until the next start.
        if let Some(reason) = opens_to_all(&config, self.options.address) {
            return self.gateway.reload_failed(reason);
        }
        if let Some(tls) = &self.options.tls
            && let Err(error) = tls.reload()
        {
            tracing::error!(%error, "the certificate before it stays");
        }
        let before = self.gateway.state();
        let differs =
            config.listen != before.config.listen || config.admin != before.config.admin || config.log != before.config.log;
        if differs {
            tracing::warn!("[listen], [admin] and [log] take effect at the next start; everything else is in force now");
        }
        // Compiling takes milliseconds to seconds, and this thread answers the administrator.
        let (lasting, runtime) = (self.lasting.clone(), tokio::runtime::Handle::current());
        let building = move || runtime.block_on(State::build(&lasting, config, Some(&before)));
        match tokio::task::spawn_blocking(building).await {
            Ok(Ok(state)) => self.gateway.swap(state),
            Ok(Err(error)) => self.gateway.reload_failed(error.to_string()),
            Err(error) => self.gateway.reload_failed(format!("building it failed: {error}")),
        }
    }
}

/// Would this configuration let in whoever reaches an address that is not this machine's own? (The administrator's key is read once,
/// at start, and holds as long as his address does.)
fn opens_to_all(config: &Config, listens: SocketAddr) -> Option<String> {
    let is_open = config.keys.is_empty() && config.auth.is_none() && !listens.ip().is_loopback();
    is_open.then(|| {
        format!(
            "no keys are configured, and {listens} is listened on until the next start; keep [keys], or write `auth = \"none\"`"
        )
    })
}

/// What takes effect when it changes.
fn watched(loaded: &Loaded, config: &Config) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    paths.extend(loaded.path.clone());
    paths.extend(config.plugins.values().map(|plugin| plugin.component.clone()));
    paths.extend(config.prompts.iter().map(|prompts| prompts.path.clone()));
    paths.extend(
        config
            .listen
            .tls
            .iter()
            .flat_map(|tls| [Some(tls.certificate.clone()), Some(tls.key.clone()), tls.client_ca.clone()])
            .flatten(),
    );
    paths
}

fn watch(paths: &[PathBuf], orders: mpsc::UnboundedSender<Order>) -> Option<Watcher> {
    let watcher = Watcher::new(paths, move |_| drop(orders.send(Order::Reload)));
    watcher.inspect_err(|error| tracing::warn!(%error, "files cannot be watched; use SIGHUP to reload")).ok()
}
