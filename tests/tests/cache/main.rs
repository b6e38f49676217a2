//! The cache through the whole host: what is served again, what never is, and who never gets whose answer.
//!
//! Keys, guards and the index have their own tests beside their code; here it is the line that is tested.

mod exact;
mod flights;
mod fragments;
mod freshness;
mod memory;
mod semantic;
mod tenants;
mod trust;
mod warm;
