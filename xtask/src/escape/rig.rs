//! The cases whose controls harm the machine: whether this one may be harmed, and the record of what came of them in the
//! rig, which the table takes their cells from.

use super::results::Results;
use super::table;
use super::wall::{Column, Wall};
use crate::rig::MARKER;
use crate::{Outcome, tree};
use std::collections::BTreeMap;
use std::fs;

/// Beside the corpus: what the rig said last.
const RECORD: &str = "tests/escape/rig.txt";
/// Begins the lines that a run in the rig says for the record.
pub const MARK: &str = "== record: ";

const HEAD: &str = "\
# What came in the rig of the cases whose controls harm the machine. `cargo xtask escape --rig --write` writes it, `cargo xtask
# rig` compares it, and docs/escape-matrix.md has from here what it says is `in the rig`.
";

/// Whether this machine may be harmed: SAFE_RUN_RIG=1 gives leave, and only where the kernel was started as the rig's is.
pub fn may_harm() -> Outcome<bool> {
    let leave = std::env::var("SAFE_RUN_RIG").ok();
    // A command line that cannot be read is not the rig's.
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    granted(leave.as_deref(), &line)
}

fn granted(leave: Option<&str>, command_line: &str) -> Outcome<bool> {
    let is_rig = command_line.split_whitespace().any(|word| word == MARKER);
    match leave {
        Some("1") if is_rig => Ok(true),
        Some("1") => Err(format!(
            "SAFE_RUN_RIG=1, but this kernel was not started with {MARKER}: it is not the rig, and no case is run. \
             `cargo xtask escape --rig` runs there what harms a machine"
        )),
        _ => Ok(false),
    }
}

/// What each cell was in the rig.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// `Linux 6.1.0-1-amd64`.
    kernel: String,
    cells: BTreeMap<(String, Column), String>,
}

impl Record {
    /// The one that is kept.
    pub fn kept() -> Outcome<Record> {
        let text = fs::read_to_string(tree::root().join(RECORD)).map_err(|e| format!("{RECORD}: {e}"))?;
        Record::parse(&text).map_err(|why| format!("{RECORD}: {why}"))
    }

    /// Keeps it: where.
    pub fn keep(&self) -> Outcome<&'static str> {
        let lines: String = self.lines().iter().map(|line| format!("{line}\n")).collect();
        fs::write(tree::root().join(RECORD), format!("{HEAD}{lines}")).map_err(|e| format!("{RECORD}: {e}"))?;
        Ok(RECORD)
    }

    /// Of a run in the rig.
    pub(super) fn of(results: &Results) -> Outcome<Record> {
        let release = "/proc/sys/kernel/osrelease";
        let release = fs::read_to_string(release).map_err(|e| format!("{release}: {e}"))?;
        let cells = results.cells.iter().map(|((i, column), cell)| {
            let id = results.cases.get(*i).map(super::Case::id).unwrap_or_default();
            ((id, *column), cell.verdict.whole())
        });
        Ok(Record {
            kernel: format!("Linux {}", release.trim()),
            cells: cells.collect(),
        })
    }

    pub fn lines(&self) -> Vec<String> {
        let cells = self.cells.iter();
        let cells = cells.map(|((id, column), cell)| format!("{id} | {} | {cell}", column.name()));
        [format!("kernel: {}", self.kernel)].into_iter().chain(cells).collect()
    }

    pub fn parse(text: &str) -> Outcome<Record> {
        let mut record = Record::default();
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if let Some(kernel) = line.strip_prefix("kernel: ") {
                kernel.clone_into(&mut record.kernel);
                continue;
            }
            let parts: Vec<&str> = line.splitn(3, " | ").collect();
            let column = parts
                .get(1)
                .and_then(|name| Column::ALL.into_iter().find(|c| c.name() == *name));
            match (parts.as_slice(), column) {
                ([id, _, cell], Some(column)) => {
                    record.cells.insert(((*id).to_owned(), column), (*cell).to_owned());
                }
                _ => return Err(format!("{line:?} is not `GROUP/NAME | COLUMN | VERDICT`")),
            }
        }
        match record.kernel.is_empty() {
            true => Err("it does not say `kernel: …`".into()),
            false => Ok(record),
        }
    }

    pub fn cell(&self, id: &str, column: Column) -> Option<&str> {
        self.cells.get(&(id.to_owned(), column)).map(String::as_str)
    }

    /// What of this is other than `seen`. The references are not compared, nor is the kernel, which Debian mends.
    pub fn differences(&self, seen: &Record) -> Vec<String> {
        let mut places: Vec<&(String, Column)> = self.cells.keys().chain(seen.cells.keys()).collect();
        places.sort();
        places.dedup();
        let mut wrong = Vec::new();
        for (id, column) in places.into_iter().filter(|(_, column)| !column.is_reference()) {
            let [says, now] = [self, seen].map(|r| r.cell(id, *column).unwrap_or_default());
            if says != now {
                wrong.push(format!(
                    "{id}, {}: it says {says:?}, and now it is {now:?}",
                    column.name()
                ));
            }
        }
        wrong
    }

    /// An error that shows where the one that is kept says something else.
    pub fn compared(&self) -> Outcome {
        let wrong = Record::kept()?.differences(self);
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "   {RECORD} is not what was seen (cargo xtask escape --rig --write):\n   {}",
                wrong.join("\n   ")
            )),
        }
    }

    /// `Linux 6.1.0-1-amd64; process, root: 10 held; process, user: 10 held`.
    pub fn summary(&self) -> String {
        let mut text = self.kernel.clone();
        for column in Column::ALL.into_iter().filter(|c| c.wall == Wall::Process) {
            let cells = self.cells.iter().filter(|((_, c), _)| *c == column);
            text += &format!(
                "; {}: {}",
                column.name(),
                table::counted(cells.map(|(_, cell)| cell.clone()))
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sr_escape::case::{Case, Control};

    #[test]
    fn leave_to_harm_is_worth_something_on_the_rig_alone() {
        let rig = format!("console=ttyS0 quiet {MARKER} lsm=landlock\n");
        assert_eq!(granted(Some("1"), &rig), Ok(true));
        // Nobody asked for it.
        assert_eq!(granted(None, &rig), Ok(false));
        assert_eq!(granted(Some("0"), &rig), Ok(false));
        assert_eq!(granted(None, "quiet\n"), Ok(false));
        for other in ["", "quiet\n", &format!("quiet {MARKER}0\n"), &format!("x{MARKER}\n")] {
            let refused = granted(Some("1"), other).unwrap_err();
            assert!(refused.contains("it is not the rig, and no case is run"), "{refused}");
        }
    }

    const TEXT: &str = "\
# What it is.
kernel: Linux 6.1.0-1-amd64
syscalls/a | process, root | held
syscalls/a | bubblewrap | open: b
syscalls/a | control, user | void: needs root
";

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let record = Record::parse(TEXT).unwrap();
        let mut lines = record.lines();
        assert_eq!(Record::parse(&lines.join("\n")).as_ref(), Ok(&record));
        lines.sort();
        let mut wanted: Vec<&str> = TEXT.lines().skip(1).collect();
        wanted.sort_unstable();
        assert_eq!(lines, wanted);
        let [root, .., user] = Column::ALL;
        assert_eq!(record.cell("syscalls/a", root), Some("held"));
        assert_eq!(record.cell("syscalls/a", user), Some("void: needs root"));
        assert_eq!(record.cell("syscalls/b", user), None);
        assert_eq!(
            record.summary(),
            "Linux 6.1.0-1-amd64; process, root: 1 held; process, user: none"
        );
        for (text, why) in [
            ("kernel: x\nsyscalls/a | held\n", "\"syscalls/a | held\" is not"),
            ("kernel: x\nsyscalls/a | process, nobody | held\n", "is not `GROUP/NAME"),
            ("syscalls/a | process, root | held\n", "it does not say `kernel: …`"),
        ] {
            let wrong = Record::parse(text).unwrap_err();
            assert!(wrong.contains(why), "{wrong}");
        }
    }

    #[test]
    fn what_is_new_gone_or_other_is_named() {
        let of = |text: &str| Record::parse(text).unwrap();
        let kept = of(TEXT);
        let same = TEXT.replace("6.1.0-1", "6.1.0-2").replace("open: b", "held");
        assert_eq!(kept.differences(&of(&same)), [""; 0]);
        let seen =
            "kernel: x\nsyscalls/a | process, root | ESCAPED: call: b\nsyscalls/b | control, root | fires: call\n";
        assert_eq!(
            kept.differences(&of(seen)),
            [
                "syscalls/a, process, root: it says \"held\", and now it is \"ESCAPED: call: b\"",
                "syscalls/a, control, user: it says \"void: needs root\", and now it is \"\"",
                "syscalls/b, control, root: it says \"\", and now it is \"fires: call\"",
            ]
        );
    }

    #[test]
    fn the_record_knows_every_case_of_the_rig() {
        let record = Record::kept().unwrap();
        let cases = Case::all(&tree::corpus(), |_, _| true).unwrap();
        for case in cases.iter().filter(|c| c.harms()) {
            for column in Column::ALL.into_iter().filter(|c| !c.wall.has_kernel()) {
                let cell = record.cell(&case.id(), column).unwrap_or_default();
                let void = matches!(case.control(column.root), Control::Void(_));
                let good = match column.wall {
                    Wall::Process => cell == "held",
                    Wall::Control if void => cell.starts_with("void: "),
                    Wall::Control => cell == format!("fires: {}", case.fires.name()),
                    _ => !cell.is_empty(),
                };
                assert!(good, "{}, {}: {cell:?}", case.id(), column.name());
            }
        }
    }
}
