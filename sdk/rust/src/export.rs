//! From a type with hooks to a component's exports.

use std::marker::PhantomData;

/// Carries the generated traits for a type that has ours.
#[doc(hidden)]
pub struct Exported<T>(PhantomData<T>);

/// Makes a type a component's plugin: its name, and the hooks that it has.
///
/// ```
/// use pointsman_plugin::{CacheKey, Caching, Decision, Directive, Request, RequestHead, Result, Routing, Scope};
///
/// struct Mine;
///
/// impl Routing for Mine {
///     fn route(_: &RequestHead, _: &Request) -> Result<Decision> {
///         Ok(Decision::Pass)
///     }
/// }
///
/// impl Caching for Mine {
///     fn key(_: &RequestHead, _: &Request) -> Result<Directive> {
///         Ok(CacheKey::of(Scope::Principal).into())
///     }
/// }
///
/// pointsman_plugin::export!(Mine: routing, caching);
/// ```
///
/// The component describes itself with name, version and description of your `Cargo.toml`. Its configuration is good if `check`
/// of each hook says so.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($hook:ident),+ $(,)?) => {
        const _: () = {
            // A block keeps them to itself; the names are such that a plugin's own type has another.
            struct __Lifecycle;
            impl $crate::bindings::lifecycle::exports::pointsman::plugin::lifecycle::Guest for __Lifecycle {
                fn describe() -> $crate::bindings::lifecycle::exports::pointsman::plugin::lifecycle::Info {
                    $crate::bindings::lifecycle::exports::pointsman::plugin::lifecycle::Info {
                        name: ::std::env!("CARGO_PKG_NAME").into(),
                        version: ::std::env!("CARGO_PKG_VERSION").into(),
                        description: ::std::env!("CARGO_PKG_DESCRIPTION").into(),
                    }
                }
                fn check() -> $crate::Result<()> {
                    $crate::last_words::listen();
                    $($crate::__hook!(check $hook $plugin);)+
                    Ok(())
                }
            }
            // Native builds, say of its tests, have nothing to export, and linkers that do not know such names; they only see that
            // it is used.
            #[cfg(not(target_family = "wasm"))]
            const _: fn() -> $crate::Result<()> =
                <__Lifecycle as $crate::bindings::lifecycle::exports::pointsman::plugin::lifecycle::Guest>::check;
            #[cfg(target_family = "wasm")]
            $crate::bindings::lifecycle::export!(__Lifecycle with_types_in $crate::bindings::lifecycle);
            $($crate::__hook!(export $hook $plugin);)+
        };
    };
}

/// One hook of [`export!`].
#[doc(hidden)]
#[macro_export]
macro_rules! __hook {
    (check routing $plugin:ty) => { <$plugin as $crate::Routing>::check()? };
    (check prompting $plugin:ty) => { <$plugin as $crate::Prompting>::check()? };
    (check caching $plugin:ty) => { <$plugin as $crate::Caching>::check()? };
    (export routing $plugin:ty) => {
        type __Routing = $crate::export::Exported<$plugin>;
        #[cfg(target_family = "wasm")]
        $crate::bindings::routing::export!(__Routing with_types_in $crate::bindings::routing);
    };
    (export prompting $plugin:ty) => {
        type __Prompting = $crate::export::Exported<$plugin>;
        #[cfg(target_family = "wasm")]
        $crate::bindings::prompting::export!(__Prompting with_types_in $crate::bindings::prompting);
    };
    (export caching $plugin:ty) => {
        type __Caching = $crate::export::Exported<$plugin>;
        #[cfg(target_family = "wasm")]
        $crate::bindings::caching::export!(__Caching with_types_in $crate::bindings::caching);
    };
    (check $other:ident $plugin:ty) => {
        ::std::compile_error!(::std::concat!("there is no hook `", ::std::stringify!($other), "`; there are routing, prompting and caching"))
    };
    (export $other:ident $plugin:ty) => {};
}
