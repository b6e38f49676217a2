//! The stages `key` and `lookup`: what another request must have in common with this one to get its answer, and whether there
//! is one.
//!
//! What it does not do: it stores nothing (`fill`).
//!
//! **Invariant:** the tenant is the first part of every key, whatever a plugin says ([`KeyBuilder`] cannot be made without).
//! **Invariant:** every field of the request that reaches the provider is part of the exact key.
//! **Invariant:** nothing is looked up or stored for a request that says `no-store`, or whose plugin says `bypass`.
//! **Invariant:** a hit in memory asks no other tier.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::CACHE_CONTROL;

use super::audit::{self, Audit};
use super::course::Course;
use crate::cache::entry::{MAX_TAG, MAX_TAGS};
use crate::cache::key::{ExactKey, KeyBuilder, Partition};
use crate::cache::purge::Stamp;
use crate::cache::semantic::{Asked, Candidate};
use crate::cache::tier::Name;
use crate::cache::{Cache, Entry};
use crate::dialect::openai_chat::ChatRequest;
use crate::error::Error;
use crate::plugin::Plugin;
use crate::plugin::bindings::caching::{self, Directive, Scope, Verdict};
use crate::plugin::load::Hook;
use crate::record::CacheOutcome;

/// Bytes of a cached answer's text that a plugin sees when it is asked to confirm.
const PREVIEW: usize = 1_024;

/// Bytes of a question beyond which nothing is looked for that is near: models read no more than their beginnings, and two long texts
/// that agree in all that matters are the same text.
const NEAR_TEXT: usize = 1 << 10;

/// What the client names for its answer to be purged by.
const TAGS: &str = "x-pointsman-cache-tags";

/// What an exchange may share, and how.
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
    /// Entries older than this many seconds are not served.
    max_age: Option<u64>,
    /// They are: its pool is better spared than asked for something newer.
    spares: bool,
    no_cache: bool,
}

/// Where near hits are looked for. The text is embedded when the exact tier has nothing.
pub(super) struct Near {
    pub(super) partition: Partition,
    pub(super) text: String,
    /// The least cosine that a plugin accepts.
    least: f32,
    confirm: bool,
}

/// What the client's `cache-control` says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    no_cache: bool,
    no_store: bool,
    max_age: Option<u64>,
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
    let wish = semantic(&cache, key.as_ref());
    let near = wish.and_then(|wish| near(course, request, key.as_ref(), wish));
    Ok(Some(Keys {
        exact: exact(course, request, key.as_ref()),
        near,
        ttl: own_time.unwrap_or(cache.ttl()),
        // What a plugin has given its time is not kept beyond it.
        stale: if own_time.is_none() { cache.stale_for() } else { Duration::ZERO },
        look_up: look_up && (spares || !wanted.no_cache),
        store,
        stamp,
        tags,
        admit: key.as_ref().is_some_and(|key| key.admit),
        by,
        max_age: wanted.max_age,
        spares,
        no_cache: wanted.no_cache,
    }))
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
    let is_wanted = |entry: &Entry| !keys.no_cache && keys.max_age.is_none_or(|seconds| entry.age(now) <= seconds);
    let is_fresh = |entry: &Entry| keys.spares || is_wanted(entry);
    let mut exact = cache.exact(&keys.exact).map(|entry| (entry, Name::Memory));
    if exact.is_none() && cache.is_tiered() {
        // Boxed: whoever hits in memory does not carry it.
        exact = Box::pin(cache.fetch(&keys.exact, course.exchange.worker)).await;
    }
    if let Some((entry, tier)) = exact.filter(|(entry, _)| is_fresh(entry)) {
        course.spared(is_wanted(&entry));
        course.record.cache_tier = Some(tier.as_str());
        return Some((CacheOutcome::Exact, entry, None));
    }
    let near = keys.near.as_ref()?;
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
    if near.confirm && !confirmed(course, request, keys, near, &candidate, cache).await {
        return None;
    }
    cache.served(&asked, &candidate);
    course.spared(is_wanted(&candidate.entry));
    if let Some(ticket) = candidate.audit {
        audit::hit(course, request, Audit { entry: candidate.entry.clone(), ticket });
    }
    Some((CacheOutcome::Semantic, candidate.entry, Some(candidate.cosine)))
}

/// The answer to this very request whose time is over: better than an error, or than one request more where there are too many.
pub(super) fn stale(course: &Course, keys: &Keys, cache: &Cache) -> Option<Arc<Entry>> {
    let (look_up, now) = (keys.look_up && !cache.stale_for().is_zero(), course.exchange.received_at);
    let is_wanted = |entry: &Arc<Entry>| keys.spares || keys.max_age.is_none_or(|seconds| entry.age(now) <= seconds);
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

impl Wanted {
    fn read(headers: &HeaderMap) -> Self {
        let mut wanted = Self::default();
        let values: Vec<_> = headers
            .get_all(CACHE_CONTROL)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase())
            .collect();
        for directive in values.iter().flat_map(|value| value.split(',')).map(str::trim) {
            match directive.split_once('=') {
                None if directive == "no-cache" => wanted.no_cache = true,
                None if directive == "no-store" => wanted.no_store = true,
                Some(("max-age", seconds)) => wanted.max_age = seconds.trim_matches('"').parse().ok(),
                _ => {}
            }
        }
        wanted
    }
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

    #[test]
    fn cache_control() {
        let cases = [
            (vec![], Wanted::default()),
            (vec!["no-cache"], Wanted { no_cache: true, ..Wanted::default() }),
            (vec!["No-Store, max-age=\"60\""], Wanted { no_store: true, max_age: Some(60), ..Wanted::default() }),
            (vec!["max-age=0", "no-cache"], Wanted { no_cache: true, max_age: Some(0), ..Wanted::default() }),
            (vec!["max-age=x, private"], Wanted::default()),
            (vec!["no-store, x=\"é\""], Wanted { no_store: true, ..Wanted::default() }),
        ];
        for (values, expect) in &cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CACHE_CONTROL, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            }
            assert_eq!(Wanted::read(&headers), *expect, "{values:?}");
        }
    }
}
