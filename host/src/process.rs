//! The process: its threads, its listeners, what it watches, and how it ends.
//!
//! One current-thread runtime per core, each with a listener (SO_REUSEPORT), upstream connections and plugin instances of
//! its own; one more thread, the steward, for everything that is nobody's request: the admin listener, signals, watching
//! files, building the next snapshot, asking upstreams how busy they are, looking at the pressure on them, reading how much memory is
//! taken.
//!
//! What it does not do: it answers no request (`gateway`) and knows no protocol (`listen`).
//!
//! **Invariant:** a reload never stops traffic; one that cannot be built leaves the running snapshot, says why in the log,
//! in a metric and in the admin API.
//! **Invariant:** a drain turns /readyz first, then stops accepting, then waits for what is in flight.
//! **Invariant:** a process that takes over from another says so when it serves, and not before.

mod activation;
mod alarm;
mod files;
mod handover;
mod memory;
mod signals;
mod sockets;
mod steward;
mod supervisor;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use crate::config::reload::Watcher;
use crate::config::{Config, Finding, Loaded};
use crate::gateway::Gateway;
use crate::gateway::state::{BuildError, Lasting, State};
use crate::listen;
use crate::listen::drain::Drain;
pub use activation::Activated;
use alarm::Alarm;
pub use alarm::Failed;
use handover::{Before, Handed, Place};
use sockets::Sockets;
use steward::Steward;

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
    /// Begin to drain: another process, of this id, serves the same sockets.
    HandOver(i32),
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
        Self::start_with(loaded, Activated::default())
    }

    /// The same with sockets that somebody else has opened.
    ///
    /// # Errors
    /// As those of [`Process::start`]; and when a process that runs does not hand over.
    pub fn start_with(loaded: Loaded, given: Activated) -> Result<Self, StartError> {
        let config = loaded.config.clone();
        let workers = config.listen.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
        let (orders, inbox) = mpsc::unbounded_channel();
        // Before anything is read, so that no change falls in between.
        let watcher = watch(&watched(&loaded, &config), orders.clone());
        let lasting = Lasting::new(workers + 1, aot_folder());
        let lasting = Arc::new(match state_folder(&config, loaded.path.as_deref()) {
            Some(folder) => lasting.with_state(&folder),
            None => lasting,
        });
        let steward = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start a runtime"))?;
        let state = steward.block_on(State::build(&lasting, config.clone(), None))?;
        for problem in &state.prompt_problems {
            tracing::warn!("{problem}");
        }
        files::raise(config.listen.max_connections);
        let alarm = Alarm::new(orders.clone());
        let drain = Drain::new();
        let gateway = Arc::new(Gateway::new(state));
        let _ = gateway.lasting.set(lasting.clone());
        gateway.keep(&gateway.state().plugins);
        let mut options = options(&config).map_err(|finding| BuildError(vec![finding]))?;

        // Only now, when nothing but the sockets is missing: until the last word the process before this one serves alone.
        let (before, handed) = steward.block_on(look(&config))?;
        let sockets = Sockets::gather(&config, given, handed, workers)?;
        options.address = sockets.address;
        let options = Arc::new(options);
        // Set once: there is one listener.
        let _ = gateway.counters.set(options.counters.clone());
        let _ = gateway.drain.set(drain.clone());

        let shares = Sockets::shares(&sockets.data, workers).map_err(system("share the sockets out"))?;
        serve(shares, &options, &gateway, &drain, &alarm)?;
        let address = sockets.address;
        let admin = sockets.admin.as_ref().and_then(|admin| admin.local_addr().ok());
        let after = before.as_ref().and_then(Before::id);
        let (told, outcome) = std::sync::mpsc::channel();
        let (steward_gateway, self_orders, steward_alarm) = (gateway.clone(), orders.clone(), alarm.clone());
        let steward = spawn("steward".into(), move || {
            let _guard = steward_alarm.guard();
            steward.block_on(
                Steward { loaded, lasting, gateway: steward_gateway, drain, options, orders: self_orders, watcher }
                    .run(inbox, sockets, before, told),
            );
            // A reload that is under way is nobody's any more.
            steward.shutdown_background();
        })?;
        let mut process = Self { address, admin, gateway, orders, alarm, steward: Some(steward) };
        if let Err(error) = outcome.recv().unwrap_or_else(|_| Err(std::io::Error::other("the steward has failed"))) {
            let _ = process.join();
            return Err(system("take over")(error));
        }
        tracing::info!(%address, admin = admin.map(tracing::field::display), workers, after, "serving");
        Ok(process)
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

/// Who serves so far, if this process is to take over, and on which sockets.
async fn look(config: &Config) -> Result<(Option<Before>, Handed), StartError> {
    let Some(path) = &config.listen.handover else { return Ok((None, Handed::default())) };
    let place = place(path).map_err(|finding| BuildError(vec![finding]))?;
    let (before, handed) =
        Before::look(place).await.map_err(system(format!("take over at {} (listen.handover)", path.display())))?;
    Ok((Some(before), handed))
}

/// Where processes hand over, if its folder is one to trust.
fn place(path: &Path) -> Result<Place, Finding> {
    Place::at(path).map_err(|error| {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => {
                format!("the folder {} does not exist", path.parent().unwrap_or(path).display())
            }
            _ => error.to_string(),
        };
        let remedy = "name a file in a folder of its own, which belongs to the user that pointsman runs as, with mode 0700 (systemd: `RuntimeDirectory`)";
        Finding::new(&["listen", "handover"], reason, remedy)
    })
}

/// Starts a core for each share of the sockets, and waits until all of them accept.
fn serve(
    shares: Vec<Vec<TcpListener>>,
    options: &Arc<listen::Options>,
    gateway: &Arc<Gateway>,
    drain: &Drain,
    alarm: &Alarm,
) -> Result<(), StartError> {
    let (up, is_up) = std::sync::mpsc::channel();
    let workers = shares.len();
    for (worker, share) in shares.into_iter().enumerate() {
        let (options, gateway, drain, alarm, up) = (options.clone(), gateway.clone(), drain.clone(), alarm.clone(), up.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("start a runtime"))?;
        spawn(format!("core-{worker}"), move || {
            let _guard = alarm.guard();
            runtime.block_on(async move {
                let listeners: std::io::Result<Vec<_>> = share.into_iter().map(tokio::net::TcpListener::from_std).collect();
                let listeners = match listeners {
                    Ok(listeners) => listeners,
                    Err(error) => return alarm.ring(&format!("a listener could not be used ({error})")),
                };
                let _ = up.send(());
                let each = |listener| listen::serve(listener, options.clone(), gateway.clone(), drain.clone(), worker);
                join_all(listeners.into_iter().map(each)).await;
            });
        })?;
    }
    drop(up);
    if is_up.iter().take(workers).count() < workers {
        return Err(system("serve")(std::io::Error::other("a core has no listener; the log has more")));
    }
    Ok(())
}

/// Compiled components outlive the process, in the user's own cache folder.
pub fn aot_folder() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(base.join("pointsman").join("components"))
}

/// What is released by hand outlives the process: where the configuration says, or in a folder of the configuration file's own.
fn state_folder(config: &Config, file: Option<&Path>) -> Option<PathBuf> {
    if let Some(folder) = &config.state {
        return Some(folder.clone());
    }
    let absolute = |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let file = file?.canonicalize().ok()?;
    let name = blake3::hash(file.as_os_str().as_encoded_bytes()).to_hex();
    Some(base.join("pointsman").join(&name[..16]))
}

/// What keeps a configuration that reads well from being served as it says; empty if nothing does. Everything that a start
/// loads is loaded, with the same compiled components; nobody is listened to, and nothing is connected to but registries for components that were not pulled yet.
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
    // Where the folder is not there yet, there is a warning: whoever starts the process may make it.
    let is_there = |path: &&PathBuf| Place::at(path).is_err_and(|error| error.kind() != std::io::ErrorKind::NotFound);
    found.extend(config.listen.handover.as_ref().filter(is_there).and_then(|path| place(path).err()));
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
    paths.extend(config.plugins.values().filter(|plugin| plugin.oci().is_none()).map(|plugin| plugin.component.clone()));
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
