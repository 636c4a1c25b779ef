//! `cargo xtask escape`: every case of the escape corpus behind every wall that exists, behind the references, and on the
//! bare host. tests/escape/README.md is the contract.

mod behind;
mod cell;
mod ground;
mod hold;
mod host;
mod kernels;
mod options;
mod parallel;
mod results;
mod rig;
mod table;
mod tools;
mod verdict;
mod wall;

use crate::tally::Tally;
use crate::{Outcome, plain, tree};
pub use behind::{Walls, totals};
use options::Options;
use results::Results;
pub use rig::{MARK, Record};
use sr_escape::case::Case;
use std::fs;
use std::time::Instant;
use tools::Tools;
pub use tools::compiled;
pub use wall::{Column, Wall};

/// The ordinary user that root lets start runs.
const USER: u32 = 1000;
const DOCUMENT: &str = "docs/escape-matrix.md";

pub fn escape(options: &[&str]) -> Outcome {
    let options = Options::parse(options)?;
    if options.rig && !rig::may_harm()? {
        return sent_to_rig(options.write);
    }
    let start = Instant::now();
    let results = Results::of_run(&options)?;
    table::print(&results);
    println!("slowest: {}", results.slowest());
    println!("in {}", plain::seconds(start.elapsed()));
    if options.rig {
        return results.told();
    }
    if options.write {
        let path = tree::root().join(DOCUMENT);
        let before = fs::read_to_string(&path).unwrap_or_default();
        fs::write(&path, table::document(&results, &before)).map_err(|e| format!("{}: {e}", path.display()))?;
        println!("written: {DOCUMENT}");
    }
    results.judged()
}

/// The cases whose controls harm the machine, in a boot of the rig.
fn sent_to_rig(write: bool) -> Outcome {
    let record = crate::rig::corpus(write)?;
    if write {
        println!(
            "written: {}; cargo xtask escape --write has it in {DOCUMENT}",
            record.keep()?
        );
        return Ok(());
    }
    record.compared()
}

/// What the rig needs to find built, where a compiler takes a minute.
pub fn build_for_rig() -> Outcome {
    let cases = Case::all(&tree::corpus(), |_, _| true)?;
    let harmful: Vec<&Case> = cases.iter().filter(|c| c.harms()).collect();
    Tools::new(false, None)?.build(&harmful)
}

/// All of it, and the document compared: a test for each case and each user.
pub fn check() -> (Tally, Outcome) {
    let mut tally = Tally::default();
    let outcome = (|| {
        let results = Results::of_run(&Options::default())?;
        results.count(&mut tally);
        results.judged()?;
        let path = tree::root().join(DOCUMENT);
        let document = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let wrong = table::differences(&document, &results);
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "   {DOCUMENT} is not what was seen (cargo xtask escape --write):\n   {}",
                wrong.join("\n   ")
            )),
        }
    })();
    (tally, outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_can_be_read() {
        let cases = Case::all(&tree::corpus(), |_, _| true).unwrap();
        assert!(cases.len() >= 120, "{} cases", cases.len());
        // A limit is one because it is told, in these words.
        let security = fs::read_to_string(tree::root().join("SECURITY.md")).unwrap();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let stated = words(security.split("## Stated limits").nth(1).unwrap());
        for case in &cases {
            for limit in [true, false].into_iter().filter_map(|root| case.limit(root)) {
                assert!(stated.contains(&words(limit)), "{}: {limit}", case.id());
            }
        }
    }
}
