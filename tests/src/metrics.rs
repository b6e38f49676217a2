//! `/metrics` as a scraper reads it.
//!
//! **Invariant:** a line that is not in Prometheus' text format fails the test.

use std::collections::BTreeMap;

/// The series of one scrape: name and labels as they are written, and the value.
#[derive(Clone, Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads an exposition.
    pub fn parse(text: &str) -> Self {
        let (mut series, mut families) = (BTreeMap::new(), Vec::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let family = family.split(' ').next().unwrap_or_default();
                assert!(!families.contains(&family), "its series do not stand together: {family}");
                families.push(family);
            }
            if line.starts_with('#') {
                continue;
            }
            assert!(families.last().is_some_and(|family| line.starts_with(family)), "not of its family: {line}");
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no series: {line:?}"));
            let value = value.parse().unwrap_or_else(|_| panic!("no value: {line:?}"));
            assert!(series.insert(name.to_owned(), value).is_none(), "twice: {name}");
        }
        Self(series)
    }

    /// The sum of the series of this name that have each of these in their labels (`outcome="done"`).
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let of_name = |series: &str| series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        self.0
            .iter()
            .filter(|(series, _)| of_name(series) && labels.iter().all(|label| series.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    /// Is there any series of this name?
    pub fn has(&self, name: &str) -> bool {
        self.0.keys().any(|series| series == name || series.starts_with(&format!("{name}{{")))
    }
}
