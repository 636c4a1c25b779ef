//! What runs in the rig: the cases whose controls harm the machine, with whether this one may be harmed, and monitors that need
//! KVM; and the records of what came there, which the document takes its cells from.

use super::table;
use super::verdict::Verdict;
use super::wall::{Column, Wall};
use crate::rig::MARKER;
use crate::{Outcome, tree};
use sr_escape::case::Case;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// A record's file.
pub struct Kept {
    path: &'static str,
    head: &'static str,
    /// The words of the command that writes it.
    options: &'static str,
}

/// Of the cases whose controls harm the machine.
pub const HARM: Kept = Kept {
    path: "tests/escape/rig.txt",
    head: "\
# What came in the rig of the cases whose controls harm the machine. `cargo xtask escape --rig --write` writes it, `cargo xtask
# rig` compares it, and docs/escape-matrix.md has from here what it says is `in the rig`.
",
    options: "--rig --write",
};

/// Of monitors that need KVM.
pub const WITH_KVM: Kept = Kept {
    path: "tests/escape/kvm.txt",
    head: "\
# What came of cases behind monitors that need KVM, which they had nested in the rig. `cargo xtask escape --rig --write --backend
# microvm:firecracker CASE…` writes it, a monitor's lines anew where it or the kernel is another; docs/escape-matrix.md has it.
",
    options: "--rig --write --backend microvm:firecracker --backend microvm:cloud-hypervisor",
};

impl Kept {
    pub fn kept(&self) -> Outcome<Record> {
        let path = self.path;
        let text = fs::read_to_string(tree::root().join(path)).map_err(|e| format!("{path}: {e}"))?;
        Record::parse(&text).map_err(|why| format!("{path}: {why}"))
    }

    /// Keeps a record: where.
    pub fn keep(&self, record: &Record) -> Outcome<&'static str> {
        let (path, head) = (self.path, self.head);
        let lines: String = record.lines().iter().map(|line| format!("{line}\n")).collect();
        fs::write(tree::root().join(path), format!("{head}{lines}")).map_err(|e| format!("{path}: {e}"))?;
        Ok(path)
    }

    /// An error that shows where the one that is kept says something else.
    pub fn compared(&self, seen: &Record) -> Outcome {
        let wrong = self.kept()?.differences(seen);
        match wrong.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "   {} is not what was seen (cargo xtask escape {}):\n   {}",
                self.path,
                self.options,
                wrong.join("\n   ")
            )),
        }
    }
}

/// Begins the lines that a run in the rig says for the record, each when it is known: a machine that ends before its run does
/// has told what came until then.
pub const MARK: &str = "== record: ";

/// Says what the record is of.
pub(super) fn begin(versions: &[String]) -> Outcome {
    let release = "/proc/sys/kernel/osrelease";
    let release = fs::read_to_string(release).map_err(|e| format!("{release}: {e}"))?;
    let head = Record {
        kernel: format!("Linux {}", release.trim()),
        versions: versions.iter().filter_map(|text| version(text)).collect(),
        ..Record::default()
    };
    head.lines().iter().for_each(|line| println!("{MARK}{line}"));
    Ok(())
}

/// Says what came of one case in one place.
pub(super) fn add(case: &Case, column: Column, verdict: &Verdict) {
    if *verdict != Verdict::Absent {
        println!("{MARK}{}", line(&case.id(), column, &verdict.whole()));
    }
}

fn line(id: &str, column: Column, cell: &str) -> String {
    format!("{id} | {} | {cell}", column.name())
}

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

/// Every column that a record may have.
fn columns() -> impl Iterator<Item = Column> {
    Column::ALL.into_iter().chain(Column::WITH_KVM)
}

/// `microvm:firecracker 1.0.0`, where it is a monitor's that needs KVM.
fn version(text: &str) -> Option<(Column, String)> {
    let (name, version) = text.split_once(' ')?;
    let column = Column::WITH_KVM.into_iter().find(|c| c.name() == name)?;
    Some((column, version.to_owned()))
}

/// What each cell was in the rig.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// `Linux 6.1.0-1-amd64`.
    kernel: String,
    /// Of the monitors that need KVM.
    versions: BTreeMap<Column, String>,
    cells: BTreeMap<(String, Column), String>,
}

impl Record {
    pub fn lines(&self) -> Vec<String> {
        let cells = self.cells.iter();
        let cells = cells.map(|((id, column), cell)| line(id, *column, cell));
        let kernel = [format!("kernel: {}", self.kernel)].into_iter();
        let versions = self.versions().into_iter().map(|version| format!("version: {version}"));
        kernel.chain(versions).chain(cells).collect()
    }

    pub fn parse(text: &str) -> Outcome<Record> {
        let mut record = Record::default();
        for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if let Some(kernel) = line.strip_prefix("kernel: ") {
                kernel.clone_into(&mut record.kernel);
                continue;
            }
            if let Some(of) = line.strip_prefix("version: ").and_then(version) {
                record.versions.extend([of]);
                continue;
            }
            let parts: Vec<&str> = line.splitn(3, " | ").collect();
            let column = parts.get(1).and_then(|name| columns().find(|c| c.name() == *name));
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

    /// This, and what `before` has besides of the same monitors on the same kernel.
    pub fn over(mut self, before: Record) -> Record {
        if before.kernel != self.kernel {
            return self;
        }
        for (column, version) in &before.versions {
            self.versions.entry(*column).or_insert_with(|| version.clone());
        }
        let versions = &self.versions;
        let same = |column: &Column| before.versions.get(column) == versions.get(column);
        for ((id, column), cell) in before.cells.into_iter().filter(|((_, c), _)| same(c)) {
            self.cells.entry((id, column)).or_insert(cell);
        }
        self
    }

    pub fn kernel(&self) -> &str {
        &self.kernel
    }

    /// `microvm:firecracker 1.0.0`.
    pub fn versions(&self) -> Vec<String> {
        let of = |(column, version): (&Column, &String)| format!("{} {version}", column.name());
        self.versions.iter().map(of).collect()
    }

    /// The cases that it has something of.
    pub fn ids(&self) -> BTreeSet<&str> {
        self.cells.keys().map(|(id, _)| id.as_str()).collect()
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
    use sr_escape::case::Control;

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
    fn of_another_monitor_or_kernel_nothing_is_kept() {
        const BEFORE: &str = "kernel: Linux 6.1\nversion: microvm:firecracker 1.0\nversion: microvm:cloud-hypervisor 5.0\n\
                              syscalls/a | microvm:firecracker | held\nsyscalls/b | microvm:firecracker | held\n\
                              syscalls/a | microvm:cloud-hypervisor | held\n";
        let before = || Record::parse(BEFORE).unwrap();
        assert_eq!(Record::parse(&before().lines().join("\n")), Ok(before()));
        let over = |text: &str| Record::parse(text).unwrap().over(before());
        let seen = "kernel: Linux 6.1\nversion: microvm:firecracker 1.0\nsyscalls/b | microvm:firecracker | limit: x\n";
        let same = over(seen);
        assert_eq!(
            same.versions(),
            ["microvm:firecracker 1.0", "microvm:cloud-hypervisor 5.0"]
        );
        let [first, second] = Column::WITH_KVM;
        let cells = |record: &Record, column| {
            ["a", "b"].map(|id| record.cell(&format!("syscalls/{id}"), column).map(str::to_owned))
        };
        assert_eq!(
            cells(&same, first),
            [Some("held".to_owned()), Some("limit: x".to_owned())]
        );
        assert_eq!(cells(&same, second), [Some("held".to_owned()), None]);
        let newer = over(&seen.replace("1.0", "1.1"));
        assert_eq!(cells(&newer, first), [None, Some("limit: x".to_owned())]);
        assert_eq!(cells(&newer, second), [Some("held".to_owned()), None]);
        assert_eq!(over(&seen.replace("6.1", "6.2")).lines().len(), 3);
    }

    #[test]
    fn the_record_knows_every_case_of_the_rig() {
        let record = HARM.kept().unwrap();
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
