//! The report as a person reads it.

use std::fmt;

use super::{Estimate, Report};

/// Digits of a digest that are shown.
const SHORT: usize = 12;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |digest: &str| digest.get(..SHORT).unwrap_or(digest).to_owned();
        let against = self.against.as_deref().map_or_else(|| "what was recorded".to_owned(), short);
        writeln!(f, "{}@{}, compared with {against}", self.plugin, short(&self.component))?;
        writeln!(f, "  exchanges   {} recorded, {} replayed, {} decided otherwise", self.exchanges, self.replayed, self.changed)?;
        if self.unread > 0 {
            writeln!(f, "  unread      {}", self.unread)?;
            self.problems.iter().try_for_each(|problem| writeln!(f, "              {problem}"))?;
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
            let what = if decision.before == decision.after {
                decision.before.clone()
            } else {
                format!("{} → {}", decision.before, decision.after)
            };
            let changed = if decision.changed > 0 { format!(", {} otherwise", decision.changed) } else { String::new() };
            writeln!(f, "  {head:<11} {:<13} {what}: {}{changed}", decision.function, decision.count)?;
        }
        for (place, shift) in self.models.iter().enumerate() {
            let head = if place == 0 { "models" } else { "" };
            writeln!(f, "  {head:<11} {} → {}: {}", shift.before, shift.after, shift.count)?;
        }
        estimate(f, "cost", &self.cost, "$", 1e-6)?;
        estimate(f, "latency", &self.latency, "ms ", 1e-3)?;
        if !self.unknown.is_empty() {
            let calls: Vec<String> = self.unknown.iter().map(|(call, count)| format!("{call} {count}")).collect();
            writeln!(f, "  unknown     {} in {} exchanges", calls.join(", "), self.uncertain)?;
        }
        for (place, example) in self.examples.iter().enumerate() {
            let head = if place == 0 { "examples" } else { "" };
            writeln!(f, "  {head:<11} {} {} asked for {}, {}", example.id, example.tenant, example.asked, example.function)?;
            writeln!(f, "              before {}", example.before)?;
            writeln!(f, "              after  {}", example.after)?;
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
