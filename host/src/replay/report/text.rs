//! The report as a person reads it.
//!
//! **Invariant:** whatever names and texts a recording has, each is shown in its line and moves nothing on a terminal.

use std::fmt;

use super::{Estimate, Report};
use crate::printable::printable;

/// Digits of a digest that are shown.
const SHORT: usize = 12;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |digest: &str| digest.get(..SHORT).unwrap_or(digest).to_owned();
        let against = self.against.as_deref().map_or_else(|| "what was recorded".to_owned(), short);
        writeln!(f, "{}@{}, compared with {against}", printable(&self.plugin), short(&self.component))?;
        writeln!(f, "  exchanges   {} recorded, {} replayed, {} decided otherwise", self.exchanges, self.replayed, self.changed)?;
        if self.unread > 0 {
            writeln!(f, "  unread      {}", self.unread)?;
            self.problems.iter().try_for_each(|problem| writeln!(f, "              {}", printable(problem)))?;
        }
        if self.redacted > 0 {
            let advice =
                if self.against.is_none() { "; compare with the old component (--against), which sees the same" } else { "" };
            writeln!(f, "  redacted    {} exchanges miss something{advice}", self.redacted)?;
        }
        if self.cut > 0 {
            writeln!(f, "  cut         of {} exchanges only the beginning of the answer was kept", self.cut)?;
        }
        for (place, decision) in self.decisions.iter().enumerate() {
            let head = if place == 0 { "decisions" } else { "" };
            let (before, after) = (printable(&decision.before), printable(&decision.after));
            let what = if before == after { before.into_owned() } else { format!("{before} → {after}") };
            let changed = if decision.changed > 0 { format!(", {} otherwise", decision.changed) } else { String::new() };
            writeln!(f, "  {head:<11} {:<13} {what}: {}{changed}", decision.function, decision.count)?;
        }
        for (place, shift) in self.models.iter().enumerate() {
            let head = if place == 0 { "models" } else { "" };
            writeln!(f, "  {head:<11} {} → {}: {}", printable(&shift.before), printable(&shift.after), shift.count)?;
        }
        estimate(f, "cost", &self.cost, "$", 1e-6)?;
        estimate(f, "latency", &self.latency, "ms ", 1e-3)?;
        if !self.unknown.is_empty() {
            let calls: Vec<String> = self.unknown.iter().map(|(call, count)| format!("{} {count}", printable(call))).collect();
            writeln!(f, "  unknown     {} in {} exchanges", calls.join(", "), self.uncertain)?;
        }
        for (place, example) in self.examples.iter().enumerate() {
            let head = if place == 0 { "examples" } else { "" };
            let [id, tenant, asked] = [&example.id, &example.tenant, &example.asked].map(|text| printable(text));
            writeln!(f, "  {head:<11} {id} {tenant} asked for {asked}, {}", example.function)?;
            writeln!(f, "              before {}", printable(&example.before))?;
            writeln!(f, "              after  {}", printable(&example.after))?;
        }
        writeln!(f, "  digest      {}", self.digest)
    }
}

/// An estimate, where there is one.
fn estimate(f: &mut fmt::Formatter<'_>, what: &str, of: &Estimate, unit: &str, scale: f64) -> fmt::Result {
    if of.exchanges == 0 {
        return Ok(());
    }
    let (before, after) = (of.before * scale, of.after * scale);
    let share = if before > 0.0 { format!(" ({:+.1} %)", (after / before - 1.0) * 100.0) } else { String::new() };
    let without =
        if of.without > 0 { format!(", without {} exchanges of which nothing is known", of.without) } else { String::new() };
    let digits = if unit == "$" { 4 } else { 1 };
    writeln!(f, "  {what:<11} {unit}{before:.digits$} → {unit}{after:.digits$}{share}, estimated{without}")
}

#[cfg(test)]
mod tests {
    use super::super::{Decision, Example, Shift};
    use super::*;

    /// Whoever has written the names and texts of a recording does not write the terminal of whoever reads the report.
    #[test]
    fn nothing_of_a_recording_moves_the_terminal() {
        let evil = || "\u{1b}[2Jgone\nfor\u{202e}ged".to_owned();
        let report = Report {
            plugin: evil(),
            component: "0".repeat(64),
            against: None,
            exchanges: 1,
            replayed: 1,
            changed: 1,
            redacted: 0,
            cut: 0,
            unread: 1,
            problems: vec![evil()],
            decisions: vec![Decision { function: "route", before: evil(), after: "pass".into(), count: 1, changed: 1 }],
            models: vec![Shift { before: evil(), after: evil(), count: 1 }],
            cost: Estimate::default(),
            latency: Estimate::default(),
            unknown: [(evil(), 1)].into(),
            uncertain: 1,
            examples: vec![Example {
                id: evil(),
                tenant: evil(),
                asked: evil(),
                function: "route",
                before: evil(),
                after: evil(),
            }],
            digest: "blake3:0".into(),
        };
        let text = report.to_string();
        assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        assert_eq!(text.matches("\\u{1b}[2Jgone\\nfor\\u{202e}ged").count(), 11, "{text}");
        assert_eq!(text.lines().count(), 11, "{text}");
    }
}
