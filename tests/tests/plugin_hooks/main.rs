//! Plugins through the whole host: what each hook can decide, what a plugin sees, what it may ask, and what becomes of a request
//! whose plugin fails. Guests that mean harm have a theme of their own.

mod caching;
mod chains;
mod grants;
mod http;
mod imports;
mod kv;
mod panics;
mod prompting;
mod routing;
mod session;
mod walls;
