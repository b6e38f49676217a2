//! The steward: everything that is nobody's request, from the word that the process serves to the end of its drain.
//!
//! What it does not do: it answers no request, and starts no core.
//!
//! **Invariant:** one order at a time; a reload is over before a drain begins.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::handover::{Before, Owner};
use super::signals::Signals;
use super::sockets::Sockets;
use super::{Order, memory, opens_to_all, supervisor, watched};
use crate::config::reload::Watcher;
use crate::config::{self, Loaded};
use crate::gateway::state::{Lasting, State};
use crate::gateway::{Gateway, degrade, releases};
use crate::listen::drain::Drain;
use crate::{admin, listen, upstream};

/// How long each tier of the cache may take to write what waits for it.
const LAST_ENTRIES: Duration = Duration::from_secs(2);

/// What it has to do with.
pub(super) struct Steward {
    pub(super) loaded: Loaded,
    pub(super) lasting: Arc<Lasting>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) drain: Drain,
    pub(super) options: Arc<listen::Options>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    pub(super) watcher: Option<Watcher>,
}

impl Steward {
    /// Does it until the process ends. Tells when the process serves, and nobody else does.
    pub(super) async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Order>,
        sockets: Sockets,
        before: Option<Before>,
        told: std::sync::mpsc::Sender<std::io::Result<()>>,
    ) {
        let (administrator, administrators) = (sockets.admin.as_ref().map(TcpListener::try_clone), Drain::new());
        if let Some(socket) = sockets.admin {
            let key = self.loaded.config.admin.as_ref().and_then(|admin| admin.key.as_ref()).and_then(|key| key.resolve().ok());
            let (gateway, orders) = (self.gateway.clone(), self.orders.clone());
            let reload = Box::new(move || drop(orders.send(Order::Reload)));
            self.drain.spawn_detached(admin::serve(socket, gateway, key, reload, administrators.clone()));
        }
        let (changed, gateway) = (Arc::new(Notify::new()), self.gateway.clone());
        let pools = move || gateway.state().pools.values().cloned().collect();
        self.drain.spawn_detached(upstream::watch::run(pools, changed.clone()));
        self.drain.spawn_detached(degrade::run(self.gateway.clone()));
        self.drain.spawn_detached(releases::run(self.gateway.clone(), self.drain.clone()));
        if let Some(mark) = self.gateway.state().config.listen.memory {
            self.drain.spawn_detached(memory::watch(mark.bytes(), self.gateway.clone()));
        }
        self.drain.spawn_detached(supervisor::keep_alive());
        let mut signals = Signals::new();
        let took_over = match administrator.transpose() {
            Ok(administrator) => self.take_over(before, sockets.data, administrator).await,
            Err(error) => Err(error),
        };
        let serves = took_over.as_ref().map(|took_over| supervisor::ready(*took_over)).is_ok();
        let _ = told.send(took_over.map(drop));
        let successor = if serves { self.until_drain(&mut inbox, &mut signals, &changed).await } else { None };
        self.watcher = None;
        self.gateway.begin_drain();
        match successor {
            // Who asks the administrator's address from now on means the next process.
            Some(_) => administrators.begin(),
            // A process that never served does not stop: in a unit that another one serves for, systemd would stop that.
            None if serves => supervisor::stopping(),
            None => {}
        }
        let grace = self.gateway.state().config.listen.drain.get();
        tracing::info!(?grace, successor, "draining");
        self.drain.begin();
        let drained = tokio::select! {
            drained = self.drain.wait(grace) => drained,
            () = signals.again() => self.drain.wait(Duration::ZERO).await,
        };
        if let Some(cache) = &self.gateway.state().cache {
            cache.settle(LAST_ENTRIES).await;
        }
        tracing::info!(cut = drained.cut, "drained");
    }

    /// Follows orders until one of them is to drain. Gives the process that serves in this one's place, if one does.
    async fn until_drain(
        &mut self,
        inbox: &mut mpsc::UnboundedReceiver<Order>,
        signals: &mut Signals,
        changed: &Notify,
    ) -> Option<i32> {
        let mut wanted = VecDeque::new();
        loop {
            let order = match wanted.pop_front() {
                Some(order) => order,
                None => next(inbox, signals).await,
            };
            match order {
                Order::Reload => {
                    supervisor::reloading();
                    {
                        let mut reload = std::pin::pin!(self.reload());
                        // An end waits for no registry and no compiler.
                        loop {
                            tokio::select! {
                                () = &mut reload => break,
                                order = next(inbox, signals) => match order {
                                    Order::Reload => wanted = VecDeque::from([Order::Reload]),
                                    Order::Drain => return None,
                                    Order::HandOver(process) => return Some(process),
                                },
                            }
                        }
                    }
                    supervisor::ready(false);
                    changed.notify_one();
                    // What is to be watched may have changed with the configuration.
                    if let Some(watcher) = &self.watcher {
                        watcher.watch(&watched(&self.loaded, &self.gateway.state().config));
                    }
                }
                Order::Drain => return None,
                Order::HandOver(process) => return Some(process),
            }
        }
    }

    /// Lets the process before this one go, and waits for the next at the place where it was met. True: there was one.
    async fn take_over(
        &self,
        before: Option<Before>,
        data: Vec<TcpListener>,
        admin: Option<TcpListener>,
    ) -> std::io::Result<bool> {
        let Some(before) = before else { return Ok(false) };
        let took_over = before.id().is_some();
        match Owner::open(before.ready().await?, data, admin) {
            Ok(owner) => {
                let (orders, drain) = (self.orders.clone(), self.drain.clone());
                self.drain.spawn_detached(async move {
                    tokio::select! {
                        biased;
                        () = drain.begun() => {}
                        process = owner.handed_over() => drop(orders.send(Order::HandOver(process))),
                    }
                });
            }
            // Nobody else is left to serve.
            Err(error) if took_over => tracing::error!(%error, "no process will be able to take over from this one"),
            Err(error) => return Err(error),
        }
        Ok(took_over)
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
        loop {
            // Compiling takes milliseconds to seconds, and this thread answers the administrator.
            let (lasting, runtime) = (self.lasting.clone(), tokio::runtime::Handle::current());
            let (before, config) = (self.gateway.state(), config.clone());
            let beside = before.clone();
            let building = move || runtime.block_on(State::build(&lasting, config, Some(&before)));
            match tokio::task::spawn_blocking(building).await {
                // Another round only where a version was released or taken back in between.
                Ok(Ok(state)) => {
                    if self.gateway.swap(state, &beside) {
                        return;
                    }
                }
                Ok(Err(error)) => return self.gateway.reload_failed(error.to_string()),
                Err(error) => return self.gateway.reload_failed(format!("building it failed: {error}")),
            }
        }
    }
}

/// The next order, of whoever gives one first.
async fn next(inbox: &mut mpsc::UnboundedReceiver<Order>, signals: &mut Signals) -> Order {
    tokio::select! {
        order = inbox.recv() => order.unwrap_or(Order::Drain),
        order = signals.next() => order,
    }
}
