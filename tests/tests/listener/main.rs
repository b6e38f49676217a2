//! The listener against clients that mean harm or know no better: silence, dribbles, framing tricks, crowds; and TLS.

mod attacks;
mod crowds;
mod framing;
mod silence;
mod tls;
