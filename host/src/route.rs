//! Routing: what decides, beside plugins, which model's answer a client gets.
//!
//! What it does not do: it sends nothing (`upstream`), and reads no wire format (`dialect`).

pub mod judge;
pub mod policy;
