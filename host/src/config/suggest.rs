//! "Did you mean …?": which known name a mistyped one is nearest to.

/// What to write instead of `got`: the nearest name, if one is near, or all.
pub(super) fn remedy(got: &str, known: &[&str]) -> String {
    match nearest(got, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "remove it".to_owned(),
        None => {
            let names: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("write one of {}", names.join(", "))
        }
    }
}

/// The same as the second half of a sentence.
pub(super) fn choice(got: &str, known: &[&str]) -> String {
    match nearest(got, known) {
        Some(name) => format!("write {name:?}"),
        None if known.is_empty() => "name another".to_owned(),
        None => format!("write one of {}", known.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")),
    }
}

/// The known name that takes the fewest edits, if these are at most a third of its letters (one at least).
fn nearest<'a>(got: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().map(|name| (distance(got, name), *name)).min_by_key(|(edits, _)| *edits)?;
    (near.0 <= (near.1.chars().count() / 3).max(1)).then_some(near.1)
}

/// Edits (insert, delete, replace, swap neighbours) from one name to the other, by rows of the usual table (optimal string
/// alignment). `_` and `-` are the same letter here, and so are small and capital ones.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| text.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).collect::<Vec<_>>();
    let (a, b) = (letters(a), letters(b));
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let mut best = (above[j] + usize::from(a[i] != b[j])).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, edits) in [
            ("", "", 0),
            ("a", "", 1),
            ("listen", "listen", 0),
            ("lisetn", "listen", 1),
            ("max-body", "max_body", 0),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), edits, "{a} {b}");
            assert_eq!(distance(b, a), edits, "{b} {a}");
        }
    }

    #[test]
    fn a_far_name_is_not_suggested() {
        assert_eq!(remedy("deadlin", &["deadline", "memory"]), "did you mean `deadline`?");
        assert_eq!(remedy("colour", &["deadline", "memory"]), "write one of `deadline`, `memory`");
        assert_eq!(remedy("x", &[]), "remove it");
    }
}
