//! What a kernel of the program's own answers otherwise than the host's, case by case, each with its reason:
//! tests/escape/kernels.txt.

use super::wall::Wall;
use crate::{Outcome, tree};
use sr_escape::case::Case;
use std::collections::BTreeMap;
use std::fs;

const TABLE: &str = "tests/escape/kernels.txt";
/// In the place of results: the case does not run there.
const NOT_RUN: &str = "not-run";

#[derive(Debug)]
struct Answer {
    /// What attempts may end with besides what the case says; none: it is not run there.
    results: Vec<String>,
    reason: String,
}

/// By the case, and by the wall.
#[derive(Debug, Default)]
pub struct Kernels(BTreeMap<(String, Wall), Answer>);

impl Kernels {
    pub fn kept() -> Outcome<Kernels> {
        let text = fs::read_to_string(tree::root().join(TABLE)).map_err(|e| format!("{TABLE}: {e}"))?;
        Kernels::parse(&text).map_err(|why| format!("{TABLE}: {why}"))
    }

    /// Lines `WALL GROUP/NAME: RESULT… | REASON`; `both` for a wall stands for the two, and `microvm` for each virtual machine
    /// that has no line of its own.
    pub(super) fn parse(text: &str) -> Outcome<Kernels> {
        let mut kernels = Kernels::default();
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let parts = || {
                let (place, rest) = line.split_once(": ")?;
                let (wall, case) = place.split_once(' ')?;
                let (results, reason) = rest.split_once(" | ")?;
                let walls = match wall {
                    "both" => vec![Wall::Gvisor, Wall::Microvm],
                    word => vec![Wall::parse(word).filter(|wall| wall.has_kernel())?],
                };
                let results: Vec<String> = results.split_whitespace().map(str::to_owned).collect();
                let stated = !reason.trim().is_empty() && !results.is_empty();
                stated.then(|| (walls, case.to_owned(), results, reason.trim().to_owned()))
            };
            let (walls, case, results, reason) = parts().ok_or_else(|| {
                format!("{line:?} is not `gvisor|microvm|microvm:VMM|both GROUP/NAME: RESULT… | REASON`")
            })?;
            let results = if results == [NOT_RUN] { Vec::new() } else { results };
            for wall in walls {
                let answer = Answer {
                    results: results.clone(),
                    reason: reason.clone(),
                };
                if kernels.0.insert((case.clone(), wall), answer).is_some() {
                    return Err(format!("{case} is told twice of {}", wall.word()));
                }
            }
        }
        Ok(kernels)
    }

    /// What attempts of this case may end with behind `wall`, besides what it says itself.
    pub fn expected(&self, wall: Wall, case: &Case) -> &[String] {
        self.answer(wall, case).map_or(&[], |answer| answer.results.as_slice())
    }

    fn answer(&self, wall: Wall, case: &Case) -> Option<&Answer> {
        let of = |wall| self.0.get(&(case.id(), wall));
        of(wall).or_else(|| wall.needs_kvm().and_then(|_| of(Wall::Microvm)))
    }

    /// Why this case does not run behind `wall`.
    pub fn not_run(&self, wall: Wall, case: &Case) -> Option<&str> {
        let answer = self.answer(wall, case)?;
        answer.results.is_empty().then_some(answer.reason.as_str())
    }

    /// Of a case, with reasons, for the document: the wall, the results, why.
    pub fn told(&self, case: &Case) -> Vec<(Wall, String, &str)> {
        let own = self.0.iter().filter(|((id, _), _)| *id == case.id());
        let own = own.filter(|(_, answer)| !answer.results.is_empty());
        own.map(|((_, wall), answer)| (*wall, answer.results.join(" "), answer.reason.as_str()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn answers_are_read_and_what_is_wrong_is_named() {
        let text = "# What.\n\nboth network/a: ENOSYS GOT | none\nmicrovm network/b: not-run | harms it\n";
        let kernels = Kernels::parse(text).unwrap();
        let case = |name: &str| {
            let head = "# title: T\n# source: S\n# expect: EPERM\n# fires: call\n# control: host\n";
            Case::parse(Path::new(name), head).unwrap()
        };
        let (a, b) = (case("network/a.py"), case("network/b.py"));
        assert_eq!(kernels.expected(Wall::Gvisor, &a), ["ENOSYS", "GOT"]);
        assert_eq!(kernels.expected(Wall::Process, &a), [""; 0]);
        assert_eq!(kernels.expected(Wall::Firecracker, &a), ["ENOSYS", "GOT"]);
        assert_eq!(kernels.not_run(Wall::CloudHypervisor, &b), Some("harms it"));
        let own = Kernels::parse("microvm network/a: GOT | x\nmicrovm:firecracker network/a: EIO | y\n").unwrap();
        assert_eq!(own.expected(Wall::Firecracker, &a), ["EIO"]);
        assert_eq!(own.expected(Wall::CloudHypervisor, &a), ["GOT"]);
        assert_eq!(kernels.not_run(Wall::Microvm, &a), None);
        assert_eq!(kernels.not_run(Wall::Microvm, &b), Some("harms it"));
        assert_eq!(kernels.not_run(Wall::Gvisor, &b), None);
        assert_eq!(kernels.told(&a).len(), 2);
        assert!(kernels.told(&b).is_empty());
        for wrong in [
            "process network/a: GOT | why",
            "gvisor network/a: GOT",
            "gvisor network/a: GOT |  ",
            "gvisor network/a GOT | why",
            "gvisor network/a: GOT | a\nboth network/a: GOT | b",
        ] {
            assert!(Kernels::parse(wrong).is_err(), "{wrong}");
        }
    }

    /// A case that is gone, or that says by itself what the table adds, has no line in it.
    #[test]
    fn every_line_adds_to_a_case() {
        let kernels = Kernels::kept().unwrap();
        let cases = Case::all(&tree::corpus(), |_, _| true).unwrap();
        for ((id, wall), answer) in &kernels.0 {
            let case = cases.iter().find(|case| case.id() == *id);
            let case = case.unwrap_or_else(|| panic!("{id} is no case"));
            for result in &answer.results {
                assert!(!case.expect.contains(result), "{id}, {}: {result}", wall.word());
            }
        }
    }
}
