//! The tier in Redis: shared by nodes, and quick to do without.
//!
//! | part | where it runs | what it does |
//! |---|---|---|
//! | [`lane`] | on each core, a connection of its own | reads, within a deadline, behind a breaker |
//! | [`writer`] | the thread `cache-redis` | writes what waits, several in one round trip; tells others of purges |
//! | [`log`] | the thread `cache-redis` | reads what others have purged |
//! | [`sweep`] | the thread `cache-redis` | takes purged entries out |
//!
//! What it does not do: it bounds nothing; `maxmemory` is Redis's own.
//!
//! **Invariant:** Redis slow, full or away costs a miss, at most its deadline, and no error.
//! **Invariant:** nothing that a core does here crosses to another core, but handing an entry in.
//! **Invariant:** what purges others have made is known before the first entry is read; entries of a shared tier are older than a node.

mod lane;
mod log;
mod sweep;
mod writer;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::{Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, TlsCertificates};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use self::lane::Lane;
use super::backlog::{Backlog, Job, Waiting, backlog};
use super::numbers::Numbers;
use super::{Name, Tier, now};
use crate::cache::entry::{Entry, wire};
use crate::cache::key::ExactKey;
use crate::cache::purge::{Purges, Read, Rule, Sweep};

/// What the owner has written.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Host and port.
    pub address: (String, u16),
    /// Over TLS.
    pub tls: bool,
    /// Which of its databases.
    pub database: i64,
    /// Who this node is there, where it is somebody.
    pub username: Option<String>,
    /// The password.
    pub password: Option<SecretString>,
    /// How long a read may take.
    pub deadline: Duration,
    /// What keys begin with.
    pub prefix: String,
    /// Cores that ask.
    pub cores: usize,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let of = |settings: &Self| {
            let secret = settings.password.as_ref().map(|secret| secret.expose_secret().to_owned());
            let Self { address, tls, database, username, password: _, deadline, prefix, cores } = settings.clone();
            (address, tls, database, username, secret, deadline, prefix, cores)
        };
        of(self) == of(other)
    }
}

/// The tier.
pub struct Redis {
    settings: Settings,
    shared: Arc<Shared>,
    lanes: Vec<Lane>,
    backlog: Backlog,
    /// The thread's end of it, until there is a thread.
    waiting: Mutex<Option<Waiting>>,
}

/// What cores and the thread have in common.
struct Shared {
    client: Client,
    prefix: String,
    purges: Arc<Purges>,
    numbers: Numbers,
    /// Where it is, as the log's lines have it.
    shown: String,
    /// Who this is among those that write to the log of purges. Each tier is somebody, also where one process has two.
    node: String,
}

impl Redis {
    /// A tier that has not started.
    ///
    /// # Errors
    /// What the client finds wrong with the settings: certificates that cannot be read.
    pub fn new(settings: Settings, purges: Arc<Purges>) -> Result<Self, RedisError> {
        let client = client(&settings)?;
        let shown = format!("{}:{}", settings.address.0, settings.address.1);
        let (numbers, node) = (Numbers::default(), format!("{:032x}", fastrand::u128(..)));
        let shared = Arc::new(Shared { client, prefix: settings.prefix.clone(), purges, numbers, shown, node });
        let lanes = (0..settings.cores.max(1)).map(|_| Lane::new(settings.deadline)).collect();
        let (backlog, waiting) = backlog();
        Ok(Self { settings, shared, lanes, backlog, waiting: Mutex::new(Some(waiting)) })
    }

    /// What it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn read(&self, key: &ExactKey, core: usize) -> Option<Arc<Entry>> {
        let numbers = &self.shared.numbers;
        if self.shared.purges.read() < Read::Once {
            numbers.away.add(1);
            return None;
        }
        let began = Instant::now();
        let mut asked = redis::cmd("GET");
        asked.arg(self.shared.key(key));
        let found: Option<Vec<u8>> = match self.lanes[core % self.lanes.len()].ask(&self.shared, &asked).await {
            Ok(found) => found,
            Err(lane::No::Late) => {
                numbers.late.add(1);
                return None;
            }
            Err(lane::No::Away) => {
                numbers.away.add(1);
                return None;
            }
        };
        numbers.took.observe(began.elapsed());
        let Some(bytes) = found else {
            numbers.misses.add(1);
            return None;
        };
        match wire::read(&bytes, now()).filter(|entry| entry.key == *key) {
            None => numbers.damaged.add(1),
            Some(entry) if entry.left().is_zero() => numbers.misses.add(1),
            Some(entry) => {
                numbers.hits.add(1);
                return Some(Arc::new(entry));
            }
        }
        None
    }
}

/// Connections are made when they are needed.
fn client(settings: &Settings) -> Result<Client, RedisError> {
    let (host, port) = settings.address.clone();
    let address = match settings.tls {
        true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        false => ConnectionAddr::Tcp(host, port),
    };
    let mut who = RedisConnectionInfo::default().set_db(settings.database).set_skip_set_lib_name();
    if let Some(name) = &settings.username {
        who = who.set_username(name);
    }
    if let Some(password) = &settings.password {
        who = who.set_password(password.expose_secret());
    }
    let info = address.into_connection_info()?.set_redis_settings(who);
    if !settings.tls {
        return Client::open(info);
    }
    // As for upstreams: another list of authorities, where the environment names one.
    let root_cert = match std::env::var_os("SSL_CERT_FILE") {
        Some(file) => Some(std::fs::read(file)?),
        None => None,
    };
    Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
}

impl Shared {
    fn key(&self, key: &ExactKey) -> String {
        format!("{}entry:{key}", self.prefix)
    }

    /// Where purges are told.
    fn log(&self) -> String {
        format!("{}purges", self.prefix)
    }

    /// It answers, or does not; said once for each change.
    fn turns(&self, up: bool, why: &dyn std::fmt::Display) {
        match (self.numbers.turns(up), up) {
            (false, _) => {}
            (true, true) => tracing::info!(redis = self.shown, "the cache's Redis answers"),
            (true, false) => {
                tracing::warn!(
                    redis = self.shown,
                    "the cache's Redis does not answer ({why}); until it does its entries are misses"
                );
            }
        }
    }
}

impl Tier for Redis {
    fn name(&self) -> Name {
        Name::Redis
    }

    fn start(&self) {
        let Some(waiting) = self.waiting.lock().ok().and_then(|mut waiting| waiting.take()) else { return };
        let shared = self.shared.clone();
        let run = move || match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(writer::run(&shared, waiting)),
            Err(error) => tracing::error!(%error, "the cache writes nothing into Redis"),
        };
        if let Err(error) = std::thread::Builder::new().name("cache-redis".into()).spawn(run) {
            tracing::error!(%error, "the cache writes nothing into Redis");
        }
    }

    fn get<'a>(&'a self, key: &'a ExactKey, core: usize) -> BoxFuture<'a, Option<Arc<Entry>>> {
        Box::pin(self.read(key, core))
    }

    fn put(&self, entry: &Arc<Entry>) {
        if !self.backlog.put(entry) {
            self.shared.numbers.dropped.add(1);
        }
    }

    fn size(&self) -> Option<(u64, u64)> {
        None
    }

    fn settle(&self, at_most: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move { drop(tokio::time::timeout(at_most, self.backlog.settle()).await) })
    }

    fn numbers(&self) -> Option<&Numbers> {
        Some(&self.shared.numbers)
    }
}

impl Sweep for Redis {
    fn sweep(&self, rule: &Rule, own: bool) {
        if own && !self.backlog.send(Job::Sweep(rule.clone())) {
            // They are not served all the same, and end with their time.
            tracing::warn!(redis = self.shown(), "too much waits for Redis: purged entries stay there until their time is over");
        }
    }
}

impl Redis {
    fn shown(&self) -> &str {
        &self.shared.shown
    }
}
