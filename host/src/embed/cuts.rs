//! What was measured of a model file: the cosine from which on a near hit may be served, and how many hits are wrong there.
//!
//! What it does not do: it calibrates nothing. These are fixed cuts behind the guards, for where nothing better is known.
//!
//! **Invariant:** a figure belongs to a model file, by its digest; of another file nothing is known but what the guards do alone.

/// A cut and what it lets pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cut {
    /// The cosine.
    pub(super) cosine: f32,
    /// The share of hits at that cosine, behind the guards, that are wrong.
    pub(super) wrong: f64,
}

/// By id. Where they come from: host/model/README.md.
const MEASURED: [(&str, Cut); 2] = [
    // The cut at which the bound on wrong hits is lowest: 1.3 % of 772 hits, 2.4 % at most. Without the guards 17 % are wrong there, so it is
    // no cut to serve by alone.
    (super::built_in::ID, Cut { cosine: 0.92, wrong: 0.013 }),
    // MiniLM as `pointsman model install` makes it. Measured in full precision: 1.2 to 1.7 % wrong from 0.97 to 0.99, 3.7 % at most; eight bits
    // move a cosine by 0.006 on average, and by 0.04 at most.
    ("minilm@bfcd0b57a1c4", Cut { cosine: 0.98, wrong: 0.017 }),
];

/// Whatever the vectors say, the guards alone let 2.1 % wrong hits of 970 pass; a cosine as high as this only takes some of them away.
const UNKNOWN: Cut = Cut { cosine: 0.98, wrong: 0.021 };

/// What is known of a model file.
pub(super) fn of(id: &str) -> Cut {
    MEASURED.iter().find(|(known, _)| *known == id).map_or(UNKNOWN, |(_, cut)| *cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_of_one_file() {
        assert_eq!(of(super::super::built_in::ID).cosine, 0.92);
        assert_eq!(of("built-in@000000000000"), UNKNOWN);
        assert_eq!(of("minilm"), UNKNOWN);
    }
}
