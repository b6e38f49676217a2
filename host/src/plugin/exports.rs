//! The functions of a component's hooks: where they are, and how one is called.
//!
//! The generated code looks up all functions of an interface, and checks their types, before it calls one of them. Most instances
//! live for one exchange, so that would be most of what a small call costs; here a call looks up one function, and types are
//! checked once, when a component is loaded.
//!
//! What it does not do: it does not say what an answer means, nor what follows from none (`hooks`).
//!
//! **Invariant:** a component whose functions have other types than the contract's does not load.

use wasmtime::Store;
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, ComponentType, Instance, Lift, Lower, Resource, TypedFunc,
};

use super::bindings::types::{PluginError, RequestHead};
use super::bindings::{caching, prompting, routing};
use super::imports::{ChunkHandle, RequestHandle, ResponseHandle, State};
use super::last_words;
use super::load::Hook;

/// What every hook is told: the head, and a handle for the rest.
type Ask<'a> = (&'a RequestHead, Resource<RequestHandle>);
type Confirm<'a> = (&'a RequestHead, Resource<RequestHandle>, &'a caching::Candidate);
type Admit<'a> = (&'a RequestHead, Resource<RequestHandle>, Resource<ResponseHandle>);
type After<'a> = (&'a RequestHead, Resource<RequestHandle>, &'a routing::Attempt, Option<Resource<ResponseHandle>>);
type Chunk<'a> = (&'a RequestHead, Resource<RequestHandle>, &'a routing::Batch, Resource<ChunkHandle>, &'a [u8]);
type Answer<T> = (Result<T, PluginError>,);
/// What a call comes to: it may not come to its end, and a guest may say that it cannot answer.
type Called<T> = wasmtime::Result<Result<T, PluginError>>;

/// An instance, and the store that it lives in.
pub(super) struct Live {
    pub(super) store: Store<State>,
    pub(super) instance: Instance,
    /// Exchanges that it has served.
    pub(super) served: u32,
    /// The memory that it had when it was made, in bytes.
    pub(super) began_with: usize,
}

impl Live {
    /// An instance that was made just now.
    pub(super) fn new(store: Store<State>, instance: Instance) -> Self {
        let began_with = store.data().limits.memory;
        Self { store, instance, served: 0, began_with }
    }
}

/// Where the functions are; none for a hook that the plugin is not configured for.
#[derive(Clone, Copy, Default)]
pub(super) struct Exports {
    select: Option<ComponentExportIndex>,
    key: Option<ComponentExportIndex>,
    confirm: Option<ComponentExportIndex>,
    admit: Option<ComponentExportIndex>,
    route: Option<ComponentExportIndex>,
    after_attempt: Option<ComponentExportIndex>,
    on_chunk: Option<ComponentExportIndex>,
}

impl Exports {
    /// Finds the functions of these hooks.
    ///
    /// # Errors
    /// The hook that the component does not have.
    pub(super) fn find(component: &Component, hooks: &[Hook]) -> Result<Self, Hook> {
        let mut found = Self::default();
        for hook in hooks {
            let interface = component.get_export_index(None, format!("pointsman:plugin/{}@0.1.0", hook.name())).ok_or(*hook)?;
            let function = |name: &str| component.get_export_index(Some(&interface), name).ok_or(*hook).map(Some);
            match hook {
                Hook::Prompting => found.select = function("select")?,
                Hook::Caching => {
                    found.key = function("key")?;
                    found.confirm = function("confirm")?;
                    found.admit = function("admit")?;
                }
                Hook::Routing => {
                    found.route = function("route")?;
                    found.after_attempt = function("after-attempt")?;
                    found.on_chunk = function("on-chunk")?;
                }
            }
        }
        Ok(found)
    }

    /// Are the functions of the types that they will be called with?
    pub(super) fn check(&self, live: &mut Live) -> wasmtime::Result<()> {
        let Self { select, key, confirm, admit, route, after_attempt, on_chunk } = *self;
        compare::<Ask<'_>, Answer<prompting::Outcome>>(live, select)?;
        compare::<Ask<'_>, Answer<caching::Directive>>(live, key)?;
        compare::<Confirm<'_>, Answer<caching::Verdict>>(live, confirm)?;
        compare::<Admit<'_>, Answer<Option<u32>>>(live, admit)?;
        compare::<Ask<'_>, Answer<routing::Decision>>(live, route)?;
        compare::<After<'_>, Answer<routing::NextStep>>(live, after_attempt)?;
        compare::<Chunk<'_>, Answer<routing::Observed>>(live, on_chunk)?;
        Ok(())
    }

    pub(super) async fn select(&self, live: &mut Live, head: &RequestHead) -> Called<prompting::Outcome> {
        call::<Ask<'_>, prompting::Outcome>(live, self.select, (head, request())).await
    }

    pub(super) async fn key(&self, live: &mut Live, head: &RequestHead) -> Called<caching::Directive> {
        call::<Ask<'_>, caching::Directive>(live, self.key, (head, request())).await
    }

    pub(super) async fn confirm(
        &self,
        live: &mut Live,
        head: &RequestHead,
        hit: &caching::Candidate,
    ) -> Called<caching::Verdict> {
        call::<Confirm<'_>, caching::Verdict>(live, self.confirm, (head, request(), hit)).await
    }

    pub(super) async fn admit(&self, live: &mut Live, head: &RequestHead) -> Called<Option<u32>> {
        call::<Admit<'_>, Option<u32>>(live, self.admit, (head, request(), Resource::<ResponseHandle>::new_borrow(0))).await
    }

    pub(super) async fn route(&self, live: &mut Live, head: &RequestHead) -> Called<routing::Decision> {
        call::<Ask<'_>, routing::Decision>(live, self.route, (head, request())).await
    }

    pub(super) async fn after_attempt(
        &self,
        live: &mut Live,
        head: &RequestHead,
        last: &routing::Attempt,
    ) -> Called<routing::NextStep> {
        let answer = live.store.data().answer.is_some().then(|| Resource::<ResponseHandle>::new_borrow(0));
        call::<After<'_>, routing::NextStep>(live, self.after_attempt, (head, request(), last, answer)).await
    }

    pub(super) async fn on_chunk(
        &self,
        live: &mut Live,
        head: &RequestHead,
        part: &routing::Batch,
        state: &[u8],
    ) -> Called<routing::Observed> {
        let chunk = Resource::<ChunkHandle>::new_borrow(0);
        call::<Chunk<'_>, routing::Observed>(live, self.on_chunk, (head, request(), part, chunk, state)).await
    }
}

/// The number means nothing: the exchange is the one in the store.
fn request() -> Resource<RequestHandle> {
    Resource::new_borrow(0)
}

async fn call<P, T>(live: &mut Live, function: Option<ComponentExportIndex>, arguments: P) -> Called<T>
where
    P: ComponentNamedList + Lower,
    T: ComponentType + Lift + 'static,
{
    let function = function.and_then(|function| live.instance.get_func(&mut live.store, function));
    let function = function.ok_or_else(|| wasmtime::format_err!("the hook is not exported"))?;
    // SAFETY: each caller above names the types that `Exports::check` has compared with the function's, on an instance of the same
    // component from the same linker, before the component was let in; another instance of it has no other types.
    #[allow(unsafe_code, reason = "each call would compare all of the types anew, for up to a microsecond")]
    let function = unsafe { TypedFunc::<P, Answer<T>>::new_unchecked(function) };
    let answer = function.call_async(&mut live.store, arguments).await;
    Ok(answer.map_err(|error| last_words::with(error, &live.store))?.0)
}

/// Is the function, if there is one, of these types?
fn compare<P, R>(live: &mut Live, function: Option<ComponentExportIndex>) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lower,
    R: ComponentNamedList + Lift,
{
    function.map_or(Ok(()), |function| live.instance.get_typed_func::<P, R>(&mut live.store, function).map(drop))
}
