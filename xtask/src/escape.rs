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

use crate::alone::GUEST;
use crate::tally::Tally;
use crate::{Outcome, guest, plain, tree};
pub use behind::{Walls, totals};
use options::Options;
use results::Results;
pub use rig::{MARK, Record};
use sr_escape::case::Case;
use std::fs;
use std::path::PathBuf;
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
        return sent_to_rig(options);
    }
    let start = Instant::now();
    let results = Results::of_run(&options)?;
    table::print(&results);
    for (column, why) in &results.absent {
        println!("{} was not run: {why}", column.name());
    }
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

/// The cases whose controls harm the machine, or monitors that need KVM, in a boot of the rig.
fn sent_to_rig(options: Options) -> Outcome {
    let (write, with_kvm) = (options.write, options.with_kvm());
    let unnamed = options.walls().iter().find_map(|wall| wall::named(*wall).err());
    if let Some(why) = unnamed {
        return Err(why);
    }
    let (outcome, record) = crate::rig::corpus(Part(options));
    let record = match record {
        Ok(record) => record,
        Err(why) => return outcome.and(Err(why)),
    };
    if with_kvm && write {
        // What is not there yet has nothing to keep. Where something failed, that is what is known of it, and the rest as true.
        let before = rig::WITH_KVM.kept().unwrap_or_default();
        written(rig::WITH_KVM.keep(&record.over(before))?);
        return outcome;
    }
    outcome?;
    match (write, with_kvm) {
        (true, _) => written(rig::HARM.keep(&record)?),
        (false, true) => {}
        (false, false) => return rig::HARM.compared(&record),
    }
    Ok(())
}

fn written(path: &str) {
    println!("written: {path}; cargo xtask escape --write has it in {DOCUMENT}");
}

/// An error where the rig's run of what harms a machine came out otherwise than is kept.
pub fn compared(record: &Record) -> Outcome {
    rig::HARM.compared(record)
}

/// What of the corpus runs in a boot of the rig.
pub struct Part(Options);

impl Part {
    /// What harms a machine.
    pub fn harmful() -> Part {
        Part(Options::in_rig(Vec::new()))
    }

    /// A sample behind each monitor that needs KVM and whose program is named; none: no program is.
    pub fn with_kvm() -> Option<Part> {
        let walls = Column::WITH_KVM.into_iter().map(|column| column.wall);
        let walls: Vec<Wall> = walls.filter(|wall| wall::named(*wall).is_ok()).collect();
        (!walls.is_empty()).then(|| Part(Options::in_rig(walls)))
    }

    pub fn needs_kvm(&self) -> bool {
        self.0.with_kvm()
    }

    pub fn title(&self) -> &'static str {
        match self.needs_kvm() {
            true => "the escape corpus, behind monitors with KVM",
            false => "the escape corpus, what harms the machine",
        }
    }

    /// For `xtask` there.
    pub fn words(&self) -> Vec<String> {
        self.0.in_the_rig()
    }

    /// What the rig needs to find built, where a compiler takes a minute, and named.
    pub fn build(&self) -> Outcome<Vec<(&'static str, PathBuf)>> {
        let cases = Case::all(&tree::corpus(), |_, _| true)?;
        let columns = self.0.columns();
        let wanted = |c: &&Case| match self.needs_kvm() {
            true => columns.iter().any(|column| self.0.runs(c, *column)),
            false => c.harms(),
        };
        let tools = Tools::new(false, None)?;
        tools.build(&cases.iter().filter(wanted).collect::<Vec<_>>())?;
        if !self.needs_kvm() {
            return Ok(Vec::new());
        }
        guest::kernel(&tools.scratch.dir("made")?)?;
        let agent = ("SAFE_RUN_GUEST", GUEST.build()?);
        let named = self.0.walls().iter().map(|wall| wall::named(*wall));
        let mut named: Vec<_> = named.collect::<Outcome<_>>()?;
        named.push(agent);
        Ok(named)
    }
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
