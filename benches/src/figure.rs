//! A figure of several rounds: its median, and the range that it was measured in.
//!
//! What it does not do: it leaves no round out.

/// A median and its range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    /// The median.
    pub median: f64,
    /// The least.
    pub low: f64,
    /// The most.
    pub high: f64,
}

impl Figure {
    /// Of these values; none where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, low, high })
    }

    /// As text, with so many digits.
    pub fn show(figure: Option<Self>, digits: usize) -> String {
        match figure {
            None => "–".to_owned(),
            Some(Self { median, low, high }) if low.to_bits() == high.to_bits() => format!("{median:.digits$}"),
            Some(Self { median, low, high }) => format!("{median:.digits$} ({low:.digits$}–{high:.digits$})"),
        }
    }

    /// A ratio, as text.
    pub fn ratio(figure: Option<Self>) -> String {
        figure.map_or_else(|| "–".to_owned(), |figure| format!("{:.2} ×", figure.median))
    }
}
