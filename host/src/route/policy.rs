//! How a virtual model's choice is made where nobody else makes it: by the kind of the question, or by what matters most.
//!
//! What it does not do: it measures and embeds nothing; prices, times and the nearest example are given to it.
//!
//! **Invariant:** an order has each choice once: who is not chosen follows where the chosen one fails.

use std::cmp::Ordering;
use std::time::Duration;

use crate::config::{self, Prefer, Preference, Specialists};

/// What an owner has written.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Policy {
    /// The first answers.
    #[default]
    First,
    /// The kind of the question chooses.
    Specialists(Specialists),
    /// What matters most chooses.
    Prefer {
        /// To whom.
        prefer: Prefer,
        /// How soon the cheapest is to begin.
        first_byte: Option<Duration>,
    },
}

/// What is known of one choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Known {
    /// What the request costs there; in which unit does not matter.
    pub cost: f64,
    /// How long answers have taken to begin of late, in milliseconds.
    pub first_byte_ms: Option<f32>,
    /// Most of its endpoints are left alone.
    pub is_out: bool,
}

/// Places in the list of choices, the first choice first, and why it is that one.
pub type Order = (Vec<usize>, String);

impl From<&config::VirtualModel> for Policy {
    fn from(model: &config::VirtualModel) -> Self {
        match (&model.specialists, model.prefer) {
            (Some(specialists), _) => Self::Specialists(specialists.clone()),
            (None, Some(prefer)) => Self::Prefer { prefer, first_byte: model.first_byte.map(config::Duration::get) },
            (None, None) => Self::First,
        }
    }
}

/// The order of `choices` for a question whose nearest label is this one, with its cosine.
pub fn specialists(rules: &Specialists, nearest: Option<(&str, f32)>, choices: &[&str]) -> Order {
    let (first, why) = match nearest {
        None => (None, "kind of question not known".to_owned()),
        Some((_, score)) if f64::from(score) < rules.min_score => (None, format!("like no example ({score:.2})")),
        Some((label, score)) => (rules.models.get(label), format!("like {label} ({score:.2})")),
    };
    let first = first.and_then(|model| choices.iter().position(|choice| choice == model)).unwrap_or(0);
    let others = (0..choices.len()).filter(|place| *place != first);
    (std::iter::once(first).chain(others).take(choices.len()).collect(), why)
}

/// The order of choices, which are given from the smallest to the best, for somebody to whom this matters most.
pub fn prefer(what: Preference, first_byte: Option<Duration>, choices: &[Known]) -> Order {
    let mut order: Vec<usize> = (0..choices.len()).collect();
    let why = match what {
        Preference::Quality => {
            order.reverse();
            "best".to_owned()
        }
        Preference::Speed => quickest(&mut order, choices),
        Preference::Cost => cheapest(&mut order, choices, first_byte),
    };
    (order, why)
}

/// Nobody known yet counts as quick: that is how it becomes known.
fn quickest(order: &mut [usize], choices: &[Known]) -> String {
    sort(order, choices, |known| (known.is_out, f64::from(known.first_byte_ms.unwrap_or(0.0))));
    match order.first().and_then(|first| choices[*first].first_byte_ms) {
        Some(ms) => format!("quickest ({ms:.0} ms)"),
        None => "quickest (not measured yet)".to_owned(),
    }
}

/// The cheapest of those that are quick enough; if there is none, the quickest.
fn cheapest(order: &mut [usize], choices: &[Known], first_byte: Option<Duration>) -> String {
    let Some(first_byte) = first_byte else {
        sort(order, choices, |known| (known.is_out, known.cost));
        return "cheapest".to_owned();
    };
    let limit = first_byte.as_secs_f32() * 1e3;
    let meets = |known: &Known| !known.is_out && known.first_byte_ms.is_none_or(|ms| ms <= limit);
    if !choices.iter().any(meets) {
        return format!("none within {limit:.0} ms, {}", quickest(order, choices));
    }
    sort(order, choices, |known| (known.is_out, known.cost));
    // Keeps the order among those that meet it, and among the others.
    order.sort_by_key(|place| !meets(&choices[*place]));
    format!("cheapest within {limit:.0} ms")
}

/// Those that are out come last; equal ones keep the owner's order.
fn sort(order: &mut [usize], choices: &[Known], key: impl Fn(&Known) -> (bool, f64)) {
    order.sort_by(|a, b| {
        let ((a_out, a), (b_out, b)) = (key(&choices[*a]), key(&choices[*b]));
        a_out.cmp(&b_out).then(a.partial_cmp(&b).unwrap_or(Ordering::Equal))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(cost: f64, first_byte_ms: impl Into<Option<f32>>, is_out: bool) -> Known {
        Known { cost, first_byte_ms: first_byte_ms.into(), is_out }
    }

    #[test]
    fn what_matters_most_chooses() {
        use Preference::{Cost, Quality, Speed};
        let three = [known(1.0, 900.0, false), known(5.0, 100.0, false), known(9.0, 300.0, false)];
        let new = [three[0], three[1], known(9.0, None, false)];
        let out = [known(1.0, 50.0, true), three[1], three[2]];
        let slow = [known(1.0, 9_000.0, false), known(5.0, 4_000.0, false), known(9.0, 5.0, true)];
        let equal = [known(1.0, None, false); 3];
        let within = |ms| Some(Duration::from_millis(ms));
        for (what, limit, choices, order, why) in [
            (Quality, None, &three, [2, 1, 0], "best"),
            (Quality, within(1), &out, [2, 1, 0], "best"),
            (Speed, None, &three, [1, 2, 0], "quickest (100 ms)"),
            (Speed, None, &new, [2, 1, 0], "quickest (not measured yet)"),
            (Speed, None, &out, [1, 2, 0], "quickest (100 ms)"),
            (Cost, None, &three, [0, 1, 2], "cheapest"),
            (Cost, None, &out, [1, 2, 0], "cheapest"),
            (Cost, within(900), &three, [0, 1, 2], "cheapest within 900 ms"),
            (Cost, within(800), &three, [1, 2, 0], "cheapest within 800 ms"),
            (Cost, within(200), &[three[0], known(5.0, None, false), three[2]], [1, 0, 2], "cheapest within 200 ms"),
            (Cost, within(800), &out, [1, 2, 0], "cheapest within 800 ms"),
            (Cost, within(10), &three, [1, 2, 0], "none within 10 ms, quickest (100 ms)"),
            (Cost, within(800), &slow, [1, 0, 2], "none within 800 ms, quickest (4000 ms)"),
            (Cost, within(1), &equal, [0, 1, 2], "cheapest within 1 ms"),
            (Speed, None, &equal, [0, 1, 2], "quickest (not measured yet)"),
        ] {
            assert_eq!(prefer(what, limit, choices), (order.to_vec(), why.to_owned()), "{what:?} {limit:?} {choices:?}");
        }
    }

    #[test]
    fn the_kind_of_the_question_chooses() {
        let models = [("code", "coder"), ("maths", "thinker")].map(|(label, model)| (label.to_owned(), model.to_owned()));
        let rules = Specialists { examples: "task".to_owned(), models: models.into_iter().collect(), min_score: 0.5 };
        for (nearest, order, why) in [
            (Some(("code", 0.5)), [1, 0, 2], "like code (0.50)"),
            (Some(("maths", 0.91)), [2, 0, 1], "like maths (0.91)"),
            (Some(("maths", 0.49)), [0, 1, 2], "like no example (0.49)"),
            (Some(("talk", 0.9)), [0, 1, 2], "like talk (0.90)"),
            (None, [0, 1, 2], "kind of question not known"),
        ] {
            assert_eq!(specialists(&rules, nearest, &["general", "coder", "thinker"]), (order.to_vec(), why.to_owned()));
        }
        assert!(specialists(&rules, None, &[]).0.is_empty());
    }
}
