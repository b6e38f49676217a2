//! Labelled pairs of questions, from a TSV file, and what follows from them: which questions one answer serves.
//!
//! What it does not do: it embeds nothing; neighbours are brought.
//!
//! **Invariant:** "one answer serves both" is passed on: where it holds for a and b, and for b and c, it holds for a and c.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// Bytes with which a gzip file begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Names that the three columns have in the data that people bring.
const A: [&str; 4] = ["a", "question1", "sentence1", "text1"];
const B: [&str; 4] = ["b", "question2", "sentence2", "text2"];
const LABEL: [&str; 4] = ["label", "is_duplicate", "duplicate", "same"];

/// Questions and what is known of pairs of them.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    /// Each text once, in the order of the file.
    pub(super) questions: Vec<String>,
    /// Two questions, and whether one answer serves both.
    pub(super) pairs: Vec<(usize, usize, bool)>,
}

/// Questions by the answer that serves them.
pub(super) struct Groups {
    /// Each question's group.
    pub(super) of: Vec<usize>,
    /// Groups of which it is known that no answer serves both.
    apart: HashSet<(usize, usize)>,
}

/// Reads a file, compressed or not: a header row that names the columns a, b and label, or else the last three columns.
pub(super) fn read(file: &Path) -> Result<Pairs, String> {
    let fail = |reason: &dyn std::fmt::Display| format!("{}: {reason}", file.display());
    let mut reader = BufReader::new(File::open(file).map_err(|error| fail(&error))?);
    let is_gzip = reader.fill_buf().map_err(|error| fail(&error))?.starts_with(&GZIP);
    let mut text = String::new();
    let read = if is_gzip { MultiGzDecoder::new(reader).read_to_string(&mut text) } else { reader.read_to_string(&mut text) };
    read.map_err(|error| fail(&error))?;
    parse(&text).map_err(|reason| fail(&reason))
}

fn parse(text: &str) -> Result<Pairs, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with("# ")).peekable();
    let Some((_, first)) = lines.peek() else { return Err("there is nothing in it".to_owned()) };
    let names: Vec<String> = first.split('\t').map(|name| name.trim().to_ascii_lowercase()).collect();
    let place = |known: [&str; 4]| names.iter().position(|name| known.contains(&name.as_str()));
    let named = place(A).zip(place(B)).zip(place(LABEL));
    let width = names.len();
    if width < 3 {
        return Err("line 1: there are no three columns: a, b and label, with tabs between them".to_owned());
    }
    let ((a, b), label) = named.unwrap_or(((width - 3, width - 2), width - 1));
    if named.is_some() || self::label(&names[label]).is_none() {
        lines.next();
    }
    let (mut read, mut known) = (Pairs::default(), HashMap::new());
    for (number, line) in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let row = fields.get(a).zip(fields.get(b)).zip(fields.get(label).and_then(|field| self::label(field)));
        let Some(((a, b), same)) = row else {
            return Err(format!(
                "line {}: there are no two texts and a label, which is 1 where one answer serves both, else 0",
                number + 1
            ));
        };
        let [a, b] = [a, b].map(|text| {
            *known.entry((*text).to_owned()).or_insert_with(|| {
                read.questions.push((*text).to_owned());
                read.questions.len() - 1
            })
        });
        read.pairs.push((a, b, same));
    }
    if read.pairs.is_empty() { Err("there are no pairs in it".to_owned()) } else { Ok(read) }
}

fn label(field: &str) -> Option<bool> {
    match field.trim() {
        "1" | "1.0" | "true" => Some(true),
        "0" | "0.0" | "false" => Some(false),
        _ => None,
    }
}

impl Pairs {
    /// Which questions one answer serves.
    pub(super) fn groups(&self) -> Groups {
        let mut parent: Vec<usize> = (0..self.questions.len()).collect();
        for (a, b, _) in self.pairs.iter().filter(|(.., same)| *same) {
            let (a, b) = (root(&mut parent, *a), root(&mut parent, *b));
            parent[a.max(b)] = a.min(b);
        }
        let of: Vec<usize> = (0..self.questions.len()).map(|place| root(&mut parent, place)).collect();
        let apart = self.pairs.iter().filter(|(.., same)| !same).map(|(a, b, _)| ordered(of[*a], of[*b])).collect();
        Groups { of, apart }
    }
}

impl Groups {
    /// Does anybody know whether one answer serves both?
    pub(super) fn knows(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.of[a], self.of[b]);
        a == b || self.apart.contains(&ordered(a, b))
    }
}

fn root(parent: &mut [usize], mut place: usize) -> usize {
    while parent[place] != place {
        parent[place] = parent[parent[place]];
        place = parent[place];
    }
    place
}

fn ordered(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn check(text: &str, expect: &[(&str, &str, bool)]) {
        let read = parse(text).unwrap();
        let found: Vec<_> =
            read.pairs.iter().map(|(a, b, same)| (read.questions[*a].as_str(), read.questions[*b].as_str(), *same)).collect();
        assert_eq!(found, expect, "{text:?}");
    }

    #[test]
    fn columns_are_found_by_name_or_place() {
        check("a\tb\tlabel\nx\ty\t1\n\nx\tz\t0\n", &[("x", "y", true), ("x", "z", false)]);
        check("label\tnote\tb\ta\n1\tn\ty\tx\n", &[("x", "y", true)]);
        check("id\tquestion1\tquestion2\tis_duplicate\n7\tx\ty\t0\n", &[("x", "y", false)]);
        check("test\tleft\tright\tverdict\nt\tx\ty\t1\n", &[("x", "y", true)]);
        check("x\ty\t1\nz\ty\t0\r\n", &[("x", "y", true), ("z", "y", false)]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expect) in [
            ("", "nothing"),
            ("a\tb\tlabel\n", "no pairs"),
            ("a\tb\n", "three columns"),
            ("a\tb\tlabel\nx\ty\tmaybe\n", "line 2"),
            ("a\tb\tlabel\nx\ty\t1\nx\n", "line 3"),
        ] {
            assert!(parse(text).unwrap_err().contains(expect), "{text:?}");
        }
    }

    #[test]
    fn groups_are_closed() {
        let pairs = parse("a\tb\tlabel\nu\tv\t1\nv\tw\t1\nw\tx\t0\ny\tz\t1\n").unwrap();
        let groups = pairs.groups();
        let place = |text: &str| pairs.questions.iter().position(|other| other == text).unwrap();
        assert_eq!(groups.of[place("u")], groups.of[place("w")]);
        assert_ne!(groups.of[place("u")], groups.of[place("x")]);
        for (a, b, expect) in [("u", "w", true), ("u", "x", true), ("u", "y", false), ("x", "z", false), ("y", "y", true)] {
            assert_eq!(groups.knows(place(a), place(b)), expect, "{a} {b}");
        }
    }

    #[test]
    fn compressed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, zipped) = (folder.path().join("p.tsv"), folder.path().join("p.data"));
        let text = "a\tb\tlabel\nx\ty\t1\n";
        std::fs::write(&plain, text).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(File::create(&zipped).unwrap(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        assert_eq!(read(&plain).unwrap().pairs, read(&zipped).unwrap().pairs);
        assert!(read(&folder.path().join("none")).unwrap_err().contains("none"));
    }
}
