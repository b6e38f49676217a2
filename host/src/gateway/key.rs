//! The stages `key` and `lookup`: what another request must have in common with this one to get its answer, and whether there
//! is one.
//!
//! What it does not do: it stores nothing (`fill`).
//!
//! **Invariant:** the tenant is the first part of every key, whatever a plugin says ([`KeyBuilder`] cannot be made without).
//! **Invariant:** every field of the request that reaches the provider is part of the exact key.
//! **Invariant:** nothing is looked up or stored for a request that says `no-store`, or whose plugin says `bypass`.
//! **Invariant:** a hit in memory asks no other tier.

mod wanted;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::audit::{self, Audit};
use super::course::Course;
use super::reply::{self, Reply};
use crate::cache::entry::{MAX_TAG, MAX_TAGS};
use crate::cache::key::{ExactKey, KeyBuilder, Partition};
use crate::cache::purge::Stamp;
use crate::cache::semantic::{Asked, Candidate};
use crate::cache::tier::Name;
use crate::cache::{Cache, Entry};
use crate::dialect::openai_chat::ChatRequest;
use crate::error::{Error, Kind};
use crate::plugin::Plugin;
use crate::plugin::bindings::caching::{self, Directive, Scope, Verdict};
use crate::plugin::load::Hook;
use crate::record::CacheOutcome;
use wanted::Wanted;

/// Bytes of a cached answer's text that a plugin sees when it is asked to confirm.
const PREVIEW: usize = 1_024;

/// Bytes of a question beyond which nothing is looked for that is near: models read no more than their beginnings, and two long texts
/// that agree in all that matters are the same text.
const NEAR_TEXT: usize = 1 << 10;

/// What the client names for its answer to be purged by.
const TAGS: &str = "x-pointsman-cache-tags";

/// What an exchange may share, and how.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) exact: ExactKey,
    pub(super) near: Option<Near>,
    pub(super) ttl: Duration,
    /// How long after that it may be served to those who have no other answer.
    pub(super) stale: Duration,
    pub(super) look_up: bool,
    pub(super) store: bool,
    /// The last purge that was known when it was asked.
    pub(super) stamp: Stamp,
    /// What its answer can be purged by.
    pub(super) tags: Box<[Box<str>]>,
    /// Ask the plugin before the answer is stored.
    pub(super) admit: bool,
    /// The plugin that made the key.
    pub(super) by: Option<Arc<Plugin>>,
    /// What the client wants.
    pub(super) wanted: Wanted,
    /// He gets what there is, however old: its pool is better spared than asked for something newer.
    spares: bool,
}

/// Where near hits are looked for. The text is embedded when the exact tier has nothing.
#[derive(Clone)]
pub(super) struct Near {
    pub(super) partition: Partition,
    pub(super) text: String,
    /// The least cosine that a plugin accepts.
    least: f32,
    confirm: bool,
}

impl Keys {
    /// What its answer can be purged by, before there is one: all but the model.
    pub(super) fn coming(&self, course: &Course) -> Entry {
        Entry {
            partition: self.near.as_ref().map(|near| near.partition),
            tenant: course.exchange.principal.tenant.clone(),
            prompt: course.prompt(),
            tags: self.tags.clone(),
            stamp: self.stamp,
            ..Entry::new(self.exact, Bytes::new(), course.exchange.received_at)
        }
    }

    /// Does the client take this entry?
    pub(super) fn take(&self, entry: &Entry, now: u64) -> bool {
        self.spares || self.wanted.takes(entry, now)
    }
}

pub(super) async fn stage(course: &mut Course, request: &Arc<ChatRequest>) -> Result<Option<Keys>, Error> {
    let Some(cache) = course.exchange.state.cache.clone() else { return Ok(None) };
    let wanted = Wanted::read(&course.exchange.headers);
    if wanted.no_store {
        course.record.cache = CacheOutcome::Bypass;
        return Ok(None);
    }
    let (stamp, tags) = (cache.stamp(), tags(&course.exchange.headers)?);
    let said = match &mut course.session {
        Some(session) if course.exchange.state.plugins.has(Hook::Caching) => session.key(request).await?,
        _ => None,
    };
    let (key, by, look_up, store) = match said {
        None => (None, None, true, true),
        Some(said) => {
            course.decided(&said.by, Vec::new());
            match said.what {
                Directive::Pass => (None, None, true, true),
                Directive::Bypass => {
                    course.record.cache = CacheOutcome::Bypass;
                    return Ok(None);
                }
                Directive::Key(key) => (Some(key), Some(said.by), true, true),
                Directive::ReadOnly(key) => (Some(key), Some(said.by), true, false),
                Directive::Refresh(key) => (Some(key), Some(said.by), false, true),
            }
        }
    };
    let own_time = key.as_ref().and_then(|key| key.ttl_ms).map(|ms| Duration::from_millis(u64::from(ms)));
    let spares = course.spares(request);
    let wish = semantic(&cache, key.as_ref()).filter(|_| course.record.part_of.is_none());
    let near = wish.and_then(|wish| near(course, request, key.as_ref(), wish));
    Ok(Some(Keys {
        exact: exact(course, request, key.as_ref()),
        near,
        ttl: own_time.unwrap_or(cache.ttl()),
        // What a plugin has given its time is not kept beyond it.
        stale: if own_time.is_none() { cache.kept_for() } else { Duration::ZERO },
        look_up: look_up && (spares || !wanted.no_cache),
        store,
        stamp,
        tags,
        admit: key.as_ref().is_some_and(|key| key.admit),
        by,
        wanted,
        spares,
    }))
}

/// Does the client say that its answer is for nobody else?
pub(super) fn is_not_to_be_kept(headers: &HeaderMap) -> bool {
    Wanted::read(headers).no_store
}

/// The tags of a request.
fn tags(headers: &HeaderMap) -> Result<Box<[Box<str>]>, Error> {
    let mut tags = Vec::<Box<str>>::new();
    for value in headers.get_all(TAGS) {
        let named = value.to_str().ok().into_iter().flat_map(|value| value.split(',')).map(str::trim);
        tags.extend(named.filter(|tag| !tag.is_empty()).map(Box::from));
        if value.to_str().is_err() || tags.len() > MAX_TAGS || tags.iter().any(|tag| tag.len() > MAX_TAG) {
            let message = format!(
                "{TAGS} has more than {MAX_TAGS} tags, or one of more than {MAX_TAG} characters or other than ASCII ones. Send fewer or shorter ones, with commas in between."
            );
            return Err(Error::bad_request(None, message));
        }
    }
    Ok(tags.into())
}

/// The semantic part of a plugin's key, or the host's own where no plugin has an opinion.
fn semantic(cache: &Cache, key: Option<&caching::CacheKey>) -> Option<caching::SemanticKey> {
    if !cache.has_near() {
        return None;
    }
    match key {
        Some(key) => key.semantic.clone(),
        None => Some(caching::SemanticKey { text: None, partition: Vec::new(), min_similarity: None, confirm: false }),
    }
}

/// What exact keys and partitions have in common.
fn common(course: &Course, request: &ChatRequest, key: Option<&caching::CacheKey>, purpose: &str) -> KeyBuilder {
    let exchange = &course.exchange;
    let mut builder = KeyBuilder::new(&exchange.principal.tenant);
    builder.part("purpose", purpose.as_bytes());
    match key.map(|key| &key.scope) {
        None | Some(Scope::Tenant) => {}
        Some(Scope::Principal) => builder.part("principal", exchange.principal.key.as_deref().unwrap_or_default().as_bytes()),
        Some(Scope::Custom(name)) => builder.part("custom", name.as_bytes()),
    }
    if let Some(generation) = key.and_then(|key| key.generation.as_ref()) {
        builder.part("generation", generation.as_bytes());
    }
    builder.part("model", request.model().as_bytes());
    exchange.state.models.stands_for(request.model(), &mut |name| builder.part("stands for", name.as_bytes()));
    // Who wants the best answer does not get the one of somebody who wants it soon.
    if let Some(preference) = course.preference.filter(|_| exchange.state.models.is_virtual(request.model())) {
        builder.part("preference", preference.what.name().as_bytes());
    }
    builder.part("prompt", course.record.prompt.as_deref().unwrap_or_default().as_bytes());
    // Headers that go upstream and choose another behaviour there.
    for (name, value) in exchange.headers.iter().filter(|(name, _)| name.as_str().starts_with("openai-")) {
        builder.part(name.as_str(), value.as_bytes());
    }
    builder
}

fn exact(course: &Course, request: &ChatRequest, key: Option<&caching::CacheKey>) -> ExactKey {
    if let Some(parts) = key.and_then(|key| key.exact.as_ref()) {
        let mut builder = common(course, request, key, "exact, parts");
        builder.parts("parts", parts.iter().map(String::as_str));
        if request.canonical(&mut |bytes| builder.feed(bytes), true) {
            return builder.exact();
        }
        // There is no question that the parts could stand for, so the whole request counts.
    }
    let mut builder = common(course, request, key, "exact");
    request.canonical(&mut |bytes| builder.feed(bytes), false);
    builder.exact()
}

/// The partition of near hits and the text to look for; none where the request has no question, or one that is too long.
fn near(course: &Course, request: &ChatRequest, key: Option<&caching::CacheKey>, wish: caching::SemanticKey) -> Option<Near> {
    let embedder = course.exchange.state.embedder.as_ref()?;
    let text = wish.text.as_deref().or_else(|| request.last_user_text()).filter(|text| text.len() <= NEAR_TEXT)?;
    let mut builder = common(course, request, key, "near");
    builder.part("embedder", embedder.id().as_bytes());
    builder.parts("partition", wish.partition.iter().map(String::as_str));
    if !request.canonical(&mut |bytes| builder.feed(bytes), true) {
        return None;
    }
    let least = wish.min_similarity.unwrap_or(0.0);
    Some(Near { partition: builder.partition(), text: text.to_owned(), least, confirm: wish.confirm })
}

/// The entry to serve: how it was found, and the cosine of a near one.
pub(super) async fn look_up(
    course: &mut Course,
    request: &Arc<ChatRequest>,
    keys: &Keys,
    cache: &Cache,
) -> Option<(CacheOutcome, Arc<Entry>, Option<f32>)> {
    let now = course.exchange.received_at;
    let is_wanted = |entry: &Entry| keys.wanted.takes(entry, now);
    let is_fresh = |entry: &Entry| keys.spares || is_wanted(entry);
    let mut exact = cache.exact(&keys.exact).map(|entry| (entry, Name::Memory));
    // Whoever leads has asked the other tiers.
    if exact.is_none() && cache.is_tiered() && !course.gateway.flights.takes(course, request, keys, cache) {
        // Boxed: whoever hits in memory does not carry it.
        exact = Box::pin(cache.fetch(&keys.exact, course.exchange.worker)).await;
    }
    if let Some((entry, tier)) = exact.filter(|(entry, _)| is_fresh(entry)) {
        course.spared(is_wanted(&entry));
        course.record.cache_tier = Some(tier.as_str());
        return Some((CacheOutcome::Exact, entry, None));
    }
    // The very same request's answer comes before a near one's, where it may be served so old.
    let stale_for = keys.wanted.stale_for(cache.revalidates_for());
    if !stale_for.is_zero()
        && let Some(entry) = cache.aged(&keys.exact, stale_for).filter(|entry| keys.wanted.is_young_enough(entry, now))
    {
        if entry.is_over() {
            return Some((CacheOutcome::Stale, entry, None));
        }
        course.record.cache_tier = Some(Name::Memory.as_str());
        return Some((CacheOutcome::Exact, entry, None));
    }
    let near = keys.near.as_ref()?;
    // Somebody asks for the answer to this very request, since he has found nothing near either.
    if course.gateway.flights.takes(course, request, keys, cache) {
        return None;
    }
    // No vector, no near hit; the embedder says why where it was set up.
    let vector = course.exchange.vector(&near.text).await.ok()?;
    let tenant = course.exchange.principal.tenant.clone();
    let Near { partition, text, least, .. } = near;
    let asked = Asked { tenant: &tenant, partition, text, vector: &vector, least: *least };
    let candidate = cache.near(&asked).filter(|candidate| is_fresh(&candidate.entry))?;
    if !candidate.serve {
        // What it would have said is compared with the answer that comes.
        course.near_miss = candidate.audit.map(|ticket| Audit { entry: candidate.entry, ticket });
        return None;
    }
    if near.confirm && !Box::pin(confirmed(course, request, keys, near, &candidate, cache)).await {
        return None;
    }
    cache.served(&asked, &candidate);
    course.spared(is_wanted(&candidate.entry));
    if let Some(ticket) = candidate.audit {
        audit::hit(course, request, Audit { entry: candidate.entry.clone(), ticket });
    }
    Some((CacheOutcome::Semantic, candidate.entry, Some(candidate.cosine)))
}

/// May anybody be asked, where the cache has nothing?
///
/// # Errors
/// The client does not want that.
pub(super) fn may_ask(course: &Course) -> Result<(), Error> {
    if !Wanted::read(&course.exchange.headers).only_if_cached {
        return Ok(());
    }
    let message = "The cache has no answer to this request that it may be given, and it says `cache-control: only-if-cached`. Ask without it.";
    Err(Error::downstream(Kind::NotCached, message).about("cache-control"))
}

/// An answer to this very request that has come since it was looked for; whoever stores one has it in memory.
pub(super) fn again(course: &mut Course, request: &ChatRequest, keys: &Keys, cache: &Cache) -> Option<Reply> {
    let now = course.exchange.received_at;
    let entry = cache.exact(&keys.exact).filter(|entry| keys.take(entry, now))?;
    hit(course, request, &entry, Name::Memory)
}

/// The answer that an entry is, where it was found late.
pub(super) fn hit(course: &mut Course, request: &ChatRequest, entry: &Entry, tier: Name) -> Option<Reply> {
    let reply = reply::cached(course, request, entry, None)?;
    course.record.cache = CacheOutcome::Exact;
    course.record.cache_tier = Some(tier.as_str());
    course.record.model = Some(entry.model.clone());
    Some(reply)
}

/// The answer to this very request whose time is over: better than an error, or than one request more where there are too many.
pub(super) fn stale(course: &Course, keys: &Keys, cache: &Cache) -> Option<Arc<Entry>> {
    let (look_up, now) = (keys.look_up && !cache.stale_for().is_zero(), course.exchange.received_at);
    let is_wanted =
        |entry: &Arc<Entry>| keys.spares || (keys.wanted.is_young_enough(entry, now) && keys.wanted.takes_for_an_error(entry));
    look_up.then(|| cache.stale(&keys.exact)).flatten().filter(is_wanted)
}

async fn confirmed(
    course: &mut Course,
    request: &Arc<ChatRequest>,
    keys: &Keys,
    near: &Near,
    candidate: &Candidate,
    cache: &Cache,
) -> bool {
    let (Some(session), Some(by)) = (&mut course.session, &keys.by) else { return false };
    let entry = &candidate.entry;
    let hit = caching::Candidate {
        similarity: candidate.cosine,
        text: entry.text.as_deref().unwrap_or_default().to_owned(),
        answer: entry.preview(PREVIEW),
        created_at: entry.created_at,
        model: entry.model.to_string(),
        prompt: entry.prompt.as_ref().map(|(name, version)| crate::plugin::bindings::types::PromptRef {
            name: name.clone(),
            version: Some(version.clone()),
        }),
        hits: entry.hits.load(std::sync::atomic::Ordering::Relaxed),
    };
    let verdict = session.confirm(by, request, &hit).await;
    if let Verdict::Evict = verdict {
        cache.evict(&near.partition, candidate);
    }
    let serve = matches!(verdict, Verdict::Serve);
    by.numbers.vetoes.add(u64::from(!serve));
    serve
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_few_and_short() {
        let read = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(TAGS, http::HeaderValue::from_bytes(value).unwrap());
            }
            tags(&headers).map(|tags| tags.join("|")).map_err(|error| error.message().len())
        };
        assert_eq!(read(&[]).unwrap(), "");
        assert_eq!(read(&[b"a, b ,,c:1", b"d"]).unwrap(), "a|b|c:1|d");
        assert_eq!(read(&[["x"; MAX_TAGS].join(",").as_bytes()]).unwrap().len(), 2 * MAX_TAGS - 1);
        assert!(read(&[["x"; MAX_TAGS + 1].join(",").as_bytes()]).is_err());
        assert!(read(&[&[b'x'; MAX_TAG + 1]]).is_err() && read(&["é".as_bytes()]).is_err());
    }
}
