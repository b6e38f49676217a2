//! A provider's endpoints: who gets the next request.
//!
//! Who may be asked is decided here: an endpoint whose breaker is open is left alone; one on probation gets the next request, and
//! one at a time; one whose keys are all used up (`keys`) is left alone, too. One that has not the model that is asked for (`loaded`) is
//! not asked while another has it. Among those that may, `balance` chooses.
//!
//! What it does not do: it sends nothing, and asks nobody how it is (`watch`).
//!
//! **Invariant:** a pool is never empty because of its own caution: where nothing else is left to try, all endpoints are asked.
//! **Invariant:** a pool does not change but for its counters; a reload builds another one and takes over the endpoints
//! that stay.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::HeaderMap;
use tokio::time::Instant;

use super::balance::{self, Affinity, Rule, Seen, Sight};
use super::breaker::{Rules, Standing};
use super::endpoint::{Endpoint, Permit};
use super::gate::{self, Gate};
use super::gauges;
use super::hedge::{After, Begins};
use super::holders::Holders;
use super::keys::{Key, Keys};
use super::loaded::{Fit, Fits};
use super::probe;
use super::provider::Provider;
use super::retry::{Budget, Token};
use crate::config;

/// How long each phase may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name and TCP.
    pub connect: Duration,
    /// The TLS handshake.
    pub tls: Duration,
    /// From a try's beginning to the answer's head.
    pub headers: Duration,
    /// From the answer's head to its first content.
    pub first_token: Duration,
    /// Between two pieces of an answer.
    pub between_tokens: Duration,
    /// The whole try.
    pub total: Duration,
}

impl From<&config::Timeouts> for Timeouts {
    fn from(times: &config::Timeouts) -> Self {
        Self {
            connect: times.connect.get(),
            tls: times.tls.get(),
            headers: times.headers.get(),
            first_token: times.first_token.get(),
            between_tokens: times.between_tokens.get(),
            total: times.total.get(),
        }
    }
}

/// What the owner has written about an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// The base URL.
    pub url: String,
    /// How many requests it gets, compared with the others.
    pub weight: f32,
    /// Where it stands.
    pub zone: Option<String>,
}

/// Where endpoints say how busy they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// The path at the endpoint's host.
    pub path: String,
    /// How often it is asked for.
    pub interval: Duration,
}

impl Address {
    /// One like any other.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), weight: 1.0, zone: None }
    }
}

/// What the owner has written about a provider.
pub struct Settings {
    /// Its name in the configuration.
    pub name: String,
    /// Its protocol.
    pub provider: &'static Provider,
    /// Where it is.
    pub endpoints: Vec<Address>,
    /// Where endpoints say how busy they are, and how often they are asked.
    pub metrics: Option<Metrics>,
    /// How endpoints are asked how they are; none: nobody asks.
    pub probe: Option<probe::Rules>,
    /// The zone that we are in ourselves.
    pub zone: Option<String>,
    /// Which requests go to the same endpoint.
    pub affinity: Rule,
    /// The keys that it may be asked with; none: it asks for none.
    pub keys: Vec<Key>,
    /// Headers that are sent with every request.
    pub headers: HeaderMap,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// Further tries after one that failed.
    pub retries: u32,
    /// Further tries per request, over all requests.
    pub retry_budget: f32,
    /// How its servers go on with an answer; none: they do not.
    pub continuation: Option<config::Continuation>,
    /// When a second endpoint is asked as well; none: never.
    pub hedge: Option<After>,
    /// Requests asked of a second endpoint, per request.
    pub hedge_budget: f32,
    /// When an endpoint is left alone.
    pub breaker: Rules,
    /// The share of endpoints in service below which all are asked, rather than that few drown.
    pub panic: f32,
    /// How many requests the endpoints together get at a time; none: as many as come.
    pub concurrency: Option<gate::Settings>,
    /// Requests that one endpoint may have at a time.
    pub in_flight: Option<u32>,
}

impl Settings {
    /// Of an owner who has written no more than this.
    pub fn new(name: &str, provider: &'static Provider, endpoints: Vec<Address>) -> Self {
        Self {
            name: name.to_owned(),
            provider,
            endpoints,
            metrics: None,
            probe: None,
            zone: None,
            affinity: Rule::None,
            keys: Vec::new(),
            headers: HeaderMap::new(),
            timeouts: (&config::Timeouts::default()).into(),
            retries: 1,
            retry_budget: 0.2,
            continuation: None,
            hedge: None,
            hedge_budget: 0.0,
            breaker: (&config::Breaker::default()).into(),
            panic: 0.25,
            concurrency: None,
            in_flight: None,
        }
    }
}

/// The endpoints of one provider.
pub struct Pool {
    settings: Settings,
    endpoints: Vec<Arc<Endpoint>>,
    /// Who may ask at all, where that is bounded.
    pub gate: Option<Arc<Gate>>,
    /// What is known of the keys at each endpoint.
    pub keys: Keys,
    /// How endpoints suit models, and when that is looked at again, in milliseconds since `epoch`.
    fits: Fits,
    fits_due: AtomicU64,
    /// What each is from the beginning, in the same order.
    standings: Vec<balance::Standing>,
    /// All places.
    places: Vec<usize>,
    zones: bool,
    weights: bool,
    /// Who holds which prefix; none where nobody asks.
    holders: Option<Arc<Holders>>,
    epoch: Instant,
    /// What may be tried again.
    pub(super) retries: Arc<Budget>,
    /// What may be asked of two endpoints at once.
    pub(super) hedges: Arc<Budget>,
    /// How long answers take to begin: plain ones, which begin when all is said, and streamed ones.
    begins: Arc<[Begins; 2]>,
}

/// Why no endpoint was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Each has as many requests as it may have.
    Full,
    /// Each is left alone; the first for so long.
    Open(Duration),
    /// It was sent away at the gate; there may be room after so long.
    Shed(Duration),
    /// There is no other than those that were to be avoided.
    NoOther,
}

/// Which endpoints may be chosen.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// Not these.
    pub avoid: &'a [Arc<Endpoint>],
    /// Unless there is no other.
    pub again: bool,
    /// Nothing can be tried after this pool: better an endpoint that is left alone than none.
    pub last: bool,
    /// Where the request would like to go.
    pub affinity: &'a Affinity,
    /// Its tokens, as far as they can be estimated.
    pub tokens: u64,
    /// The upstream's name of the model that it is for.
    pub model: &'a str,
}

/// What plugins and the administrator see of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// How many endpoints.
    pub endpoints: u32,
    /// Requests running there.
    pub in_flight: u32,
    /// The share of the last requests that failed, 0 to 1.
    pub failing: f32,
    /// Time to the first byte in milliseconds.
    pub first_byte_ms: Option<u32>,
    /// The same of late: it goes up to a slow one at once, and is forgotten ten seconds after the last one. Then it counts as
    /// unknown for one request at a time, which looks again.
    pub lately_ms: Option<f32>,
    /// Endpoints that are left alone, or on probation.
    pub ejected: u32,
    /// Endpoints that are left alone.
    pub open: u32,
}

/// The same of a pool that somebody looks at closer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// Endpoints that take requests.
    pub available: u32,
    /// One request may decide whether an endpoint takes others again.
    pub on_probation: bool,
    /// All endpoints.
    pub endpoints: u32,
    /// Until the first may be asked again, where none may.
    pub pause: Option<Duration>,
    /// Requests running there.
    pub in_flight: u32,
    /// Requests that wait at the gate.
    pub waiting: u32,
    /// Requests that may run at a time.
    pub limit: Option<u32>,
    /// Requests that the servers say they answer.
    pub running: Option<u32>,
    /// Requests that they say wait there.
    pub queued: Option<u32>,
    /// The use of the fullest one's KV memory, 0 to 1.
    pub memory: Option<f32>,
    /// Within which 50 and 95 of 100 plain answers have come.
    pub whole: Option<(Duration, Duration)>,
    /// The same until streamed ones have begun.
    pub first_byte: Option<(Duration, Duration)>,
    /// What is left of the keys' limits.
    pub requests_left: Option<u64>,
    /// The same in tokens.
    pub tokens_left: Option<u64>,
}

/// Requests that a pool may try again each second, however few it has; none where its budget is 0.
const FREE_RETRIES: u32 = 3;

impl Pool {
    /// Builds a pool for `workers` cores; endpoints of `previous` that connect alike are taken over, with their
    /// connections and their history.
    ///
    /// # Errors
    /// When a base URL cannot be used.
    pub fn build(settings: Settings, workers: usize, previous: Option<&Self>) -> Result<Self, String> {
        Self::build_at(settings, workers, previous, Instant::now())
    }

    /// The same, at a time that a simulation may say.
    ///
    /// # Errors
    /// When a base URL cannot be used.
    pub fn build_at(settings: Settings, workers: usize, previous: Option<&Self>, now: Instant) -> Result<Self, String> {
        let kept = previous.filter(|previous| {
            let (a, b) = (&previous.settings, &settings);
            (a.timeouts.connect, a.timeouts.tls) == (b.timeouts.connect, b.timeouts.tls)
                && a.provider.name == b.provider.name
                && a.breaker == b.breaker
        });
        let endpoints = settings
            .endpoints
            .iter()
            .map(|Address { url, .. }| {
                match kept.and_then(|previous| previous.endpoints.iter().find(|endpoint| endpoint.base() == url)) {
                    Some(endpoint) => Ok(endpoint.clone()),
                    None => Endpoint::new(url, &settings, workers, now).map(Arc::new),
                }
            })
            .collect::<Result<Vec<_>, _>>()?;
        let most = settings.endpoints.iter().map(|address| address.weight).fold(f32::MIN_POSITIVE, f32::max);
        let is_far = |zone: &Option<String>| zone.is_some() && settings.zone.is_some() && *zone != settings.zone;
        let standings: Vec<_> = endpoints
            .iter()
            .zip(&settings.endpoints)
            .map(|(endpoint, Address { weight, zone, .. })| balance::Standing {
                salt: endpoint.salt(),
                weight: weight / most,
                far: is_far(zone),
            })
            .collect();
        // Endpoints are known by their places: a list that was added to at its end keeps what is known.
        let same = |previous: &&Self| previous.endpoints.iter().zip(&endpoints).all(|(a, b)| a.base() == b.base());
        let holders = (settings.affinity == Rule::Prefix).then(|| {
            let known = previous.filter(same).and_then(|previous| previous.holders.clone());
            known.unwrap_or_else(|| Arc::new(Holders::new(endpoints.len())))
        });
        // A reload in the middle of an outage is no reason to try everything again.
        let budget = |of: fn(&Self) -> &Arc<Budget>, share: fn(&Settings) -> f32, free: u32| match previous {
            Some(previous) if share(&previous.settings) == share(&settings) => of(previous).clone(),
            _ => Arc::new(Budget::new(share(&settings), free)),
        };
        let free = if settings.retry_budget > 0.0 { FREE_RETRIES } else { 0 };
        let retries = budget(|pool| &pool.retries, |settings| settings.retry_budget, free);
        let hedges = budget(|pool| &pool.hedges, |settings| settings.hedge_budget, 0);
        let gate = settings.concurrency.map(|wanted| {
            let kept = previous.and_then(|previous| previous.gate.as_ref()).filter(|gate| *gate.settings() == wanted);
            kept.cloned().unwrap_or_else(|| Gate::new(wanted))
        });
        let before = previous.map(|previous| (&previous.keys, &*previous.endpoints));
        let keys = Keys::new(settings.keys.clone(), &endpoints, before, now);
        let zones = standings.iter().any(|standing| standing.far);
        let weights = standings.iter().any(|standing| standing.weight < 1.0);
        let places = (0..endpoints.len()).collect();
        let epoch = previous.map_or(now, |previous| previous.epoch);
        Ok(Self {
            settings,
            endpoints,
            standings,
            places,
            zones,
            weights,
            holders,
            epoch,
            gate,
            keys,
            fits: Fits::default(),
            fits_due: AtomicU64::new(0),
            retries,
            hedges,
            begins: previous.map_or_else(Arc::default, |previous| previous.begins.clone()),
        })
    }

    /// The endpoints, in the configuration's order.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The provider's name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What the owner has written.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What an endpoint is called in metrics: its host and port, with its path where another one has the same.
    pub fn label(&self, place: usize) -> Cow<'_, str> {
        let authority = &**self.endpoints[place].authority();
        match self.endpoints.iter().filter(|endpoint| &**endpoint.authority() == authority).count() {
            1 => Cow::Borrowed(authority),
            _ => self.endpoints[place].base().rsplit_once("://").map_or(authority, |(_, rest)| rest.trim_end_matches('/')).into(),
        }
    }

    /// An endpoint, and a permit for one request there.
    ///
    /// # Errors
    /// Why there is none.
    pub fn choose(&self, ask: Ask<'_>, now: Instant) -> Result<Permit, Busy> {
        let fits = self.fits.of(ask.model);
        let places = match &fits {
            None => Cow::Borrowed(&*self.places),
            Some(fits) => Cow::Owned(self.places.iter().copied().filter(|place| fits[*place] != Fit::Lacks).collect()),
        };
        let fits = fits.as_deref();
        let is_closed = |place: &usize| self.standing(*place, &ask, now) == Standing::Closed;
        if ask.avoid.is_empty() && places.iter().all(is_closed) {
            return self.take(places, Standing::Closed, &ask, fits, now).ok_or(Busy::Full);
        }
        let fresh = |place: usize| !ask.avoid.iter().any(|avoided| Arc::ptr_eq(avoided, &self.endpoints[place]));
        let standings: Vec<(usize, Standing)> = places.iter().map(|place| (*place, self.standing(*place, &ask, now))).collect();
        let in_service = standings.iter().filter(|(_, standing)| *standing == Standing::Closed).count();
        let panics = (in_service as f32) < self.settings.panic * places.len() as f32;
        let others = |is_meant: fn(&Standing) -> bool| -> Vec<usize> {
            let meant = standings.iter().filter(|(place, standing)| is_meant(standing) && fresh(*place));
            meant.map(|(place, _)| *place).collect()
        };
        let on_probation = others(|standing| *standing == Standing::Probation);
        if let Some(permit) = self.take(Cow::Owned(on_probation), Standing::Probation, &ask, fits, now) {
            return Ok(permit);
        }
        let any: fn(&Standing) -> bool = |_| true;
        let mut usable = others(if panics && ask.last { any } else { |standing| *standing == Standing::Closed });
        if usable.is_empty() && ask.last {
            usable = others(any);
        }
        if usable.is_empty() && ask.again {
            usable = places.into_owned();
        }
        if usable.is_empty() {
            let soonest = standings.iter().filter(|(place, _)| fresh(*place)).map(|(_, standing)| match standing {
                Standing::Open(pause) => *pause,
                Standing::Closed | Standing::Probation => Duration::ZERO,
            });
            return Err(soonest.min().map_or(Busy::NoOther, Busy::Open));
        }
        self.take(Cow::Owned(usable), Standing::Closed, &ask, fits, now).ok_or(Busy::Full)
    }

    /// Looks at what endpoints have said of their models, twice from one reading to the next.
    pub(super) fn renew_fits(&self, now: Instant) {
        let Some(metrics) = &self.settings.metrics else { return };
        let ms = |at: Instant| at.saturating_duration_since(self.epoch).as_millis() as u64;
        if self.fits_due.load(Ordering::Relaxed) <= ms(now) {
            self.fits_due.store(ms(now + metrics.interval / 2), Ordering::Relaxed);
            self.fits.renew(&self.endpoints, now);
        }
    }

    /// What may be sent to an endpoint: nothing, where its breaker or the limits of all keys say so.
    fn standing(&self, place: usize, ask: &Ask<'_>, now: Instant) -> Standing {
        match self.endpoints[place].breaker.standing(now) {
            Standing::Open(pause) => Standing::Open(pause),
            standing => self.keys.used_up(place, ask.tokens, now).map_or(standing, Standing::Open),
        }
    }

    /// A permit at the best of these places, or at any of them that has room.
    fn take(
        &self,
        mut places: Cow<'_, [usize]>,
        standing: Standing,
        ask: &Ask<'_>,
        fits: Option<&[Fit]>,
        now: Instant,
    ) -> Option<Permit> {
        let limit = self.settings.in_flight.unwrap_or(u32::MAX);
        let mut held = Vec::new();
        let known = match (ask.affinity, &self.holders) {
            (Affinity::Prefix(prefix), Some(holders)) if !places.is_empty() => Some((prefix, holders)),
            _ => None,
        };
        if let Some((prefix, holders)) = known {
            holders.find(prefix, &mut held);
        }
        let mut random = fastrand::Rng::new();
        let looking = Looking { pool: self, fits, now };
        while let Some(choice) = balance::choose(&places, &looking, ask.affinity, &held, &mut random) {
            if let Some(mut permit) = Permit::take(&self.endpoints[choice.place], limit, standing, choice, now) {
                permit.ticket = self.keys.take(choice.place, ask.tokens, now);
                if let Some((prefix, holders)) = known {
                    holders.note(prefix, choice.place, now.saturating_duration_since(self.epoch).as_secs());
                }
                return Some(permit);
            }
            places.to_mut().retain(|place| *place != choice.place);
        }
        None
    }

    /// An answer has begun after so long.
    pub(super) fn begun(&self, streamed: bool, took: Duration) {
        self.begins[usize::from(streamed)].observe(took);
    }

    /// How soon hardly any answer begins; no time where nothing is known.
    pub(super) fn quickest(&self, streamed: bool) -> Duration {
        self.begins[usize::from(streamed)].percentile(1).unwrap_or_default()
    }

    /// Has an answer that has not begun after so long very likely none to come?
    pub(super) fn is_overdue(&self, streamed: bool, waited: Duration) -> bool {
        self.begins[usize::from(streamed)].is_overdue(waited)
    }

    /// How long to wait for an answer's beginning before a second endpoint is asked; none where none is.
    pub(super) fn hedge_after(&self, streamed: bool) -> Option<Duration> {
        self.begins[usize::from(streamed)].wait(self.settings.hedge?)
    }

    /// Is a further try within the budget?
    pub fn further_try(&self) -> Option<Token<'_>> {
        self.retries.take_out()
    }

    /// Is there an endpoint that is not one of these?
    pub(super) fn has_other(&self, than: &[Arc<Endpoint>]) -> bool {
        self.endpoints.iter().any(|endpoint| !than.iter().any(|known| Arc::ptr_eq(known, endpoint)))
    }

    /// Does an endpoint wait for the one request that decides whether it is in service again?
    pub fn awaits_probe(&self, now: Instant) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.breaker.awaits_probe(now))
    }

    /// May no endpoint have another request?
    pub fn is_full(&self) -> bool {
        self.settings.in_flight.is_some_and(|limit| self.endpoints.iter().all(|endpoint| endpoint.in_flight() >= limit))
    }

    /// The pool as plugins see it who look closer. It takes a lock where requests wait for a place: for those who ask, not on the way.
    pub fn status(&self) -> Status {
        let now = Instant::now();
        let standings: Vec<_> = self.endpoints.iter().map(|endpoint| endpoint.breaker.standing(now)).collect();
        let is_open = |standing: &Standing| matches!(standing, Standing::Open(_));
        let pauses = standings.iter().filter_map(|standing| match standing {
            Standing::Open(pause) => Some(*pause),
            Standing::Closed | Standing::Probation => None,
        });
        let reports: Vec<_> = self.endpoints.iter().filter_map(|endpoint| endpoint.gauges.get(now)).collect();
        let said =
            |of: fn(&gauges::Report) -> u32| (!reports.is_empty()).then(|| reports.iter().map(of).fold(0, u32::saturating_add));
        let gate = self.gate.as_ref().map(|gate| gate.view());
        let most = self.settings.in_flight.map(|each| each.saturating_mul(self.endpoints.len() as u32));
        let [requests_left, tokens_left] = self.left(now);
        Status {
            available: standings.iter().filter(|standing| **standing == Standing::Closed).count() as u32,
            on_probation: standings.contains(&Standing::Probation),
            endpoints: self.endpoints.len() as u32,
            pause: pauses.min().filter(|_| standings.iter().all(is_open)),
            in_flight: self.endpoints.iter().map(|endpoint| endpoint.in_flight()).sum(),
            waiting: gate.map_or(0, |(_, _, waiting)| waiting),
            limit: gate.map(|(limit, ..)| limit).into_iter().chain(most).min(),
            running: said(|report| report.running),
            queued: said(|report| report.waiting),
            memory: reports.iter().map(|report| report.kv).reduce(f32::max),
            whole: self.begins[0].percentile(50).zip(self.begins[0].percentile(95)),
            first_byte: self.begins[1].percentile(50).zip(self.begins[1].percentile(95)),
            requests_left,
            tokens_left,
        }
    }

    /// Requests and tokens that are left of the keys' limits. A key has one limit, however many endpoints tell of it.
    fn left(&self, now: Instant) -> [Option<u64>; 2] {
        let mut keys: Vec<(&str, [Option<u64>; 2])> = Vec::new();
        for (name, quota) in (0..self.endpoints.len()).flat_map(|place| self.keys.view(place, now)) {
            let told = [quota.requests, quota.tokens];
            match keys.iter_mut().find(|(known, _)| *known == name) {
                Some((_, known)) => (0..2).for_each(|kind| known[kind] = known[kind].max(told[kind])),
                None => keys.push((name, told)),
            }
        }
        [0, 1].map(|kind| keys.iter().filter_map(|(_, told)| told[kind]).reduce(u64::saturating_add))
    }

    /// The pool as plugins see it.
    pub fn view(&self) -> View {
        let now = Instant::now();
        let mean = |of: &dyn Fn(&Endpoint) -> Option<f32>| {
            let known = self.endpoints.iter().filter_map(|endpoint| of(endpoint));
            let (count, sum) = known.fold((0_u32, 0.0), |(count, sum), one| (count + 1, sum + one));
            (count > 0).then(|| sum / count as f32)
        };
        let stand = |is: &dyn Fn(Standing) -> bool| {
            self.endpoints.iter().filter(|endpoint| is(endpoint.breaker.standing(now))).count() as u32
        };
        let in_flight = self.endpoints.iter().map(|endpoint| endpoint.in_flight()).sum();
        let first_byte_ms = mean(&|endpoint| endpoint.first_byte_ms.get());
        View {
            endpoints: self.endpoints.len() as u32,
            in_flight,
            failing: mean(&|endpoint| Some(endpoint.failing.get().unwrap_or(0.0))).unwrap_or(0.0),
            first_byte_ms: first_byte_ms.map(|ms| ms.round() as u32),
            lately_ms: mean(&|endpoint| endpoint.lately(now)).or(first_byte_ms.filter(|_| in_flight > 0)),
            ejected: stand(&|standing| standing != Standing::Closed),
            open: stand(&|standing| matches!(standing, Standing::Open(_))),
        }
    }
}

/// A pool at a moment.
struct Looking<'a> {
    pool: &'a Pool,
    /// How each endpoint suits the request's model, where they differ.
    fits: Option<&'a [Fit]>,
    now: Instant,
}

impl Sight for Looking<'_> {
    fn standing(&self, place: usize) -> balance::Standing {
        self.pool.standings[place]
    }

    fn pending(&self, place: usize) -> f32 {
        self.pool.endpoints[place].pending(self.now)
    }

    fn seen(&self, place: usize) -> Seen {
        let seen = self.pool.endpoints[place].seen(self.now);
        Seen { fit: self.fits.map_or(1.0, |fits| fits[place].cost()), ..seen }
    }

    fn suited(&self, places: &[usize], random: &mut fastrand::Rng) -> Option<usize> {
        let fits = self.fits?;
        random.choice(places.iter().copied().filter(|place| fits[*place] == Fit::Running).collect::<Vec<_>>())
    }

    fn zones(&self) -> bool {
        self.pool.zones
    }

    fn weights(&self) -> bool {
        self.pool.weights
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::prefix::Prefix;
    use crate::upstream::loaded::{Lora, Models};
    use crate::upstream::provider;

    fn pool(endpoints: usize, in_flight: Option<u32>) -> Pool {
        let endpoints = (0..endpoints).map(|port| Address::new(format!("http://127.0.0.1:{}/v1", 9000 + port))).collect();
        let settings = Settings::new("p", provider::named("openai").unwrap(), endpoints);
        let breaker = Rules { failures: 1, ..settings.breaker };
        Pool::build(Settings { breaker, in_flight, ..settings }, 1, None).unwrap()
    }

    const ANY: Ask<'_> = Ask { avoid: &[], again: false, last: true, affinity: &Affinity::None, tokens: 0, model: "" };

    fn choose(pool: &Pool, ask: Ask<'_>) -> Result<Permit, Busy> {
        pool.choose(ask, Instant::now())
    }

    /// How many of so many requests at once each endpoint gets, by its place.
    fn shares(pool: &Pool, count: usize) -> Vec<u32> {
        let held: Vec<_> = (0..count).filter_map(|_| choose(pool, ANY).ok()).collect();
        let shares = pool.endpoints.iter().map(|endpoint| endpoint.in_flight()).collect();
        drop(held);
        shares
    }

    /// A pool that is left because it is slow must not be slow for ever, nor must everybody find out at once.
    #[tokio::test(start_paused = true)]
    async fn what_was_slow_is_looked_at_again_by_one_request_at_a_time() {
        let pool = pool(1, None);
        assert_eq!(pool.view().lately_ms, None);
        let began = Instant::now();
        tokio::time::advance(Duration::from_secs(3)).await;
        pool.endpoints[0].answered(began, true);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(pool.view().lately_ms, Some(3_000.0));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pool.view().lately_ms, None);
        let looking = choose(&pool, ANY).unwrap();
        assert_eq!(pool.view().lately_ms, Some(3_000.0));
        drop(looking);
        assert_eq!(pool.view().lately_ms, None);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_go_where_they_cost_least() {
        let pool = pool(3, None);
        assert!(shares(&pool, 300).iter().all(|share| (90..=110).contains(share)), "{:?}", shares(&pool, 300));
        for (endpoint, ms) in pool.endpoints.iter().zip([100, 100, 2_000]) {
            let began = Instant::now();
            tokio::time::advance(Duration::from_millis(ms)).await;
            endpoint.answered(began, true);
        }
        let shares = shares(&pool, 300);
        assert!(shares[2] < 20, "{shares:?}");
        assert_eq!(pool.view().in_flight, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_fails_is_left_alone_and_comes_back_by_one_request() {
        let pool = pool(3, None);
        pool.endpoints[0].failed_at(Instant::now(), None, Instant::now());
        assert_eq!((shares(&pool, 20)[0], pool.awaits_probe(Instant::now())), (0, false));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(pool.awaits_probe(Instant::now()));
        let mut first = choose(&pool, ANY).unwrap();
        assert!(Arc::ptr_eq(first.endpoint(), &pool.endpoints[0]), "probation comes first");
        assert!(!pool.awaits_probe(Instant::now()));
        assert_eq!(shares(&pool, 20)[0], 1, "and is that one request");
        pool.endpoints[0].answered(Instant::now(), true);
        first.decided();
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!((1..=30).contains(&shares(&pool, 150)[0]), "back, step by step: {:?}", shares(&pool, 150));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_is_never_empty_because_of_its_own_caution() {
        let pool = pool(2, None);
        pool.endpoints.iter().for_each(|endpoint| endpoint.failed_at(Instant::now(), None, Instant::now()));
        assert!(choose(&pool, ANY).is_ok());
        let not_last = Ask { last: false, ..ANY };
        assert_eq!(choose(&pool, not_last).err(), Some(Busy::Open(Duration::from_secs(1))), "where something else can be tried");
    }

    /// Plain answers, which begin when all is said, made an endpoint look slow to prompts that look for their cache.
    #[tokio::test(start_paused = true)]
    async fn only_streams_say_how_quickly_prompts_are_read() {
        let pool = pool(1, None);
        let affinity = Affinity::Prefix(Prefix::of("m", [&[b'x'; 2_000][..]]));
        for (streamed, known) in [(false, false), (true, true)] {
            let mut permit = choose(&pool, Ask { affinity: &affinity, ..ANY }).unwrap();
            assert!(pool.endpoints[0].seen(Instant::now()).work > 0.0, "it waits to be read");
            tokio::time::advance(Duration::from_secs(1)).await;
            permit.begun(streamed, Duration::from_secs(1));
            let seen = pool.endpoints[0].seen(Instant::now());
            assert_eq!((seen.pace.is_some(), seen.work, seen.pending), (known, 0.0, 1.0), "{streamed}");
        }
    }

    /// What endpoints say that they list and run; all have two slots.
    fn say(pool: &Pool, said: &[(&[u8], &str)]) {
        let (now, until) = (Instant::now(), Instant::now() + Duration::from_secs(3_600));
        for (endpoint, (list, running)) in pool.endpoints.iter().zip(said) {
            endpoint.said.models(Models::read(list).unwrap(), until);
            let page = format!("vllm:lora_requests_info{{max_lora=\"2\",running_lora_adapters=\"{running}\"}} 1\n");
            endpoint.said.lora(Lora::read(&page), until);
        }
        pool.fits.renew(&pool.endpoints, now);
    }

    const BASE: &[u8] = br#"{"data":[{"id":"base"}]}"#;
    const BOTH: &[u8] = br#"{"data":[{"id":"base"},{"id":"ad","parent":"base"}]}"#;

    #[tokio::test(start_paused = true)]
    async fn who_runs_an_adapter_comes_first_and_who_has_no_slot_for_it_last() {
        let pool = pool(8, None);
        say(&pool, &[(BASE, ""), (BOTH, ""), (BOTH, "x"), (BOTH, ""), (BOTH, ""), (BOTH, "ad"), (BOTH, "x,y"), (BOTH, "y,x")]);
        let ask = Ask { model: "ad", ..ANY };
        for _ in 0..20 {
            assert!(Arc::ptr_eq(choose(&pool, ask).unwrap().endpoint(), &pool.endpoints[5]));
        }
        let _held: Vec<_> = (0..60).map(|_| choose(&pool, ask).unwrap()).collect();
        let shares: Vec<u32> = pool.endpoints.iter().map(|endpoint| endpoint.in_flight()).collect();
        assert!(shares[0] == 0 && shares[5] >= 12 && shares[6].max(shares[7]) <= 6, "{shares:?}");
        assert!(self::shares(&pool, 100)[0] > 0, "the base model is everywhere");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_the_model_is_not_asked_while_another_has_it() {
        let pool = pool(2, None);
        say(&pool, &[(BASE, ""), (BOTH, "")]);
        pool.endpoints[1].failed_at(Instant::now(), None, Instant::now());
        let ask = Ask { model: "ad", ..ANY };
        assert_eq!(choose(&pool, Ask { last: false, ..ask }).err(), Some(Busy::Open(Duration::from_secs(1))));
        for _ in 0..20 {
            assert!(Arc::ptr_eq(choose(&pool, ask).unwrap().endpoint(), &pool.endpoints[1]), "better than one that cannot");
        }
        assert_eq!(choose(&pool, Ask { avoid: &pool.endpoints[1..], ..ask }).err(), Some(Busy::NoOther));
        say(&pool, &[(BASE, ""), (BASE, "")]);
        let ask = Ask { avoid: &pool.endpoints[1..], ..ask };
        assert!(choose(&pool, ask).is_ok(), "nobody lists it: it may have another name there");
    }

    #[tokio::test]
    async fn a_limit_holds_and_a_retry_goes_elsewhere() {
        let pool = pool(2, Some(1));
        let first = choose(&pool, ANY).unwrap();
        let tried = [first.endpoint().clone()];
        let second = choose(&pool, Ask { avoid: &tried, ..ANY }).unwrap();
        assert!(!Arc::ptr_eq(first.endpoint(), second.endpoint()));
        assert_eq!((choose(&pool, ANY).err(), pool.is_full()), (Some(Busy::Full), true));
        drop(first);
        assert!(!pool.is_full());
        assert!(choose(&pool, ANY).is_ok());
        assert_eq!(choose(&pool, Ask { avoid: &pool.endpoints, ..ANY }).err(), Some(Busy::NoOther));
    }
}
