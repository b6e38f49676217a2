//! A tool for `host/model/measure.py`: writes which guard vetoes each pair of a TSV file, a line a pair; `-` where none does.
//!
//! ```text
//! cargo run -p pointsman --example vetoes -- PAIRS.tsv VETOES.txt
//! ```
//!
//! The file's first line names its columns; the last three are text, text and label.

use std::error::Error;

use pointsman::cache::verify::{Guard, Question};

fn main() -> Result<(), Box<dyn Error>> {
    let (Some(pairs), Some(vetoes)) = (std::env::args_os().nth(1), std::env::args_os().nth(2)) else {
        return Err("usage: vetoes PAIRS.tsv VETOES.txt".into());
    };
    let mut out = String::new();
    for (number, line) in std::fs::read_to_string(pairs)?.lines().enumerate().skip(1) {
        let mut fields = line.rsplit('\t').skip(1);
        let (Some(b), Some(a)) = (fields.next(), fields.next()) else {
            return Err(format!("line {}: there are no text, text and label", number + 1).into());
        };
        out.push_str(Question::new(b).veto(a).map_or("-", Guard::name));
        out.push('\n');
    }
    Ok(std::fs::write(vetoes, out)?)
}
