//! The corpus, run in every place that is wanted: the cells of the table, and whether they are as it promises.

use super::cell::{Cell, one};
use super::kernels::Kernels;
use super::options::Options;
use super::parallel::at_once;
use super::rig::{self, Record};
use super::table;
use super::tools::{Tools, who};
use super::verdict::Verdict;
use super::wall::{self, Column, Wall};
use crate::tally::{Skip, Tally};
use crate::{Outcome, plain, stage, tree};
use sr_escape::case::{Case, Control};
use sr_escape::trip::Canary;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

pub struct Results {
    pub cases: Vec<Case>,
    pub columns: Vec<Column>,
    /// Of references and of monitors: `bubblewrap 0.8.0`.
    pub versions: Vec<String>,
    pub kernels: Kernels,
    pub absent: Vec<(Column, String)>,
    /// What the rig said last.
    pub record: Record,
    /// And of monitors that need KVM.
    pub with_kvm: Record,
    pub cells: BTreeMap<(usize, Column), Cell>,
    /// What the run as a whole left behind.
    pub left: Vec<String>,
}

impl Results {
    pub fn of_run(options: &Options) -> Outcome<Results> {
        // The document keeps what of it does not run.
        let wanted = |group: &str, name: &str| options.write && !options.rig || options.takes(group, name);
        let mut cases = Case::all(&tree::corpus(), wanted)?;
        cases.retain(|case| !options.harms() || case.harms());
        if cases.is_empty() {
            return Err("no case is called so".into());
        }
        Results::of(cases, options)
    }

    pub fn of(mut cases: Vec<Case>, options: &Options) -> Outcome<Results> {
        for case in &mut cases {
            case.seconds *= slowness();
        }
        let safe_run = match std::env::var_os("SAFE_RUN_BIN") {
            Some(given) => tree::root().join(given),
            None => tree::safe_run()?,
        };
        let mut tools = Tools::new(options.keep, Some(&safe_run))?;
        tools.build(&cases.iter().collect::<Vec<_>>())?;
        // In the rig it is made, not read.
        let [record, with_kvm] = match tools.harm {
            true => Default::default(),
            false => [rig::HARM.kept()?, rig::WITH_KVM.kept()?],
        };
        let columns = options.columns();
        let (mut versions, mut absent) = (Vec::new(), Vec::new());
        for column in columns.iter().filter(|c| c.is_reference()) {
            match wall::version(column.wall) {
                Ok(version) => versions.push(format!("{} {version}", column.wall.word())),
                Err(why) => absent.push((*column, why)),
            }
        }
        for wall in [Wall::Gvisor, Wall::Microvm] {
            if columns.iter().any(|c| c.wall == wall) {
                versions.push(format!("{} {}", wall.word(), wall::version(wall)?));
                tools.kernel_of_its_own(wall)?;
            }
        }
        for column in columns.iter().filter(|c| c.wall.needs_kvm().is_some()) {
            match wall::version(column.wall) {
                Ok(version) => {
                    versions.push(format!("{} {version}", column.wall.word()));
                    tools.kernel_of_its_own(column.wall)?;
                }
                Err(why) => absent.push((*column, why)),
            }
        }
        let jobs: Vec<(usize, Column)> = (0..cases.len())
            .flat_map(|i| columns.iter().map(move |c| (i, *c)))
            .filter(|(i, column)| options.runs(&cases[*i], *column))
            .collect();
        if jobs.is_empty() {
            return Err("no case is called so, or it runs in none of these places".into());
        }
        if options.rig {
            rig::begin(&versions)?;
        }
        let cells = Mutex::new(BTreeMap::new());
        let runs = Mutex::new(Vec::new());
        // A change of the host's settings is seen by whoever runs then, and so is harm to the machine.
        let alone = RwLock::new(());
        let done = AtomicUsize::new(0);
        at_once(jobs.len(), |n| {
            let (i, column) = jobs[n];
            let case = &cases[i];
            let cell = match absent.iter().any(|(c, _)| *c == column) {
                true => Ok(Cell::without(Verdict::Absent)),
                false if case.alone || case.fires == Canary::Host || wants_all(case, column) => {
                    let _alone = alone.write();
                    one(&tools, case, column, n, &runs)
                }
                false => {
                    let _others = alone.read();
                    one(&tools, case, column, n, &runs)
                }
            };
            let mut cell = cell.unwrap_or_else(|why| Cell::without(Verdict::Broken(why)));
            if let Verdict::Rig(there) = &mut cell.verdict {
                *there = record.cell(&case.id(), column).map(str::to_owned);
            }
            if options.rig {
                rig::add(case, column, &cell.verdict);
            }
            if let Ok(mut cells) = cells.lock() {
                cells.insert((i, column), cell);
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(100) {
                println!("   {done} of {}", jobs.len());
            }
        });
        let left = left(&tools, &runs.into_inner().unwrap_or_default());
        let kernels = std::mem::take(&mut tools.kernels);
        if options.keep {
            println!("kept: {}", tools.scratch.path().display());
            std::mem::forget(tools);
        }
        Ok(Results {
            cases,
            columns,
            versions,
            kernels,
            absent,
            record,
            with_kvm,
            cells: cells.into_inner().unwrap_or_default(),
            left,
        })
    }

    /// The cases of a group, by number.
    pub fn of_group(&self, group: &str) -> Vec<usize> {
        (0..self.cases.len())
            .filter(|i| self.cases[*i].group == group)
            .collect()
    }

    pub fn verdict(&self, case: usize, column: Column) -> Option<&Verdict> {
        self.cells.get(&(case, column)).map(|cell| &cell.verdict)
    }

    /// Where the time went, for who wants it shorter.
    pub fn slowest(&self) -> String {
        let mut cells: Vec<_> = self.cells.iter().collect();
        cells.sort_by_key(|(_, cell)| std::cmp::Reverse(cell.took));
        let most = cells.iter().take(6).map(|((i, column), cell)| {
            let time = plain::seconds(cell.took);
            format!("{} ({}) {time}", self.cases[*i].id(), column.name())
        });
        most.collect::<Vec<_>>().join(", ")
    }

    /// An error that shows all that is not as the corpus promises.
    pub fn judged(&self) -> Outcome {
        let mut wrong: Vec<String> = Vec::new();
        for ((i, column), cell) in &self.cells {
            if !table::decides(*column) || cell.verdict.is_good() {
                continue;
            }
            let text = String::from_utf8_lossy(&cell.output);
            let shown: Vec<&str> = text.lines().take(40).collect();
            let shown: String = shown
                .iter()
                .map(|line| format!("      | {}\n", line.chars().take(200).collect::<String>()))
                .collect();
            let trips: String = cell
                .trips
                .iter()
                .map(|trip| format!("      seen outside: {}: {}\n", trip.canary.name(), trip.what))
                .collect();
            wrong.push(format!(
                "   {}, {}: {}\n{trips}{shown}",
                self.cases[*i].id(),
                column.name(),
                cell.verdict.text()
            ));
        }
        wrong.extend(self.left.iter().map(|left| format!("   left behind: {left}")));
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }

    /// For the rig's own reader, what the record does not have: as a test program would say it.
    pub fn told(&self) -> Outcome {
        let (mut tally, judged) = (Tally::default(), self.judged());
        self.count(&mut tally);
        print!(
            "{}",
            tally.as_test_program(judged.as_ref().err().map_or("", String::as_str))
        );
        judged.map_err(|_| "the corpus does not hold here, see above".into())
    }

    /// A test for each case and each user: its wall and its control.
    pub fn count(&self, tally: &mut Tally) {
        for (i, case) in self.cases.iter().enumerate() {
            for root in [true, false] {
                let own: Vec<&Verdict> = self
                    .columns
                    .iter()
                    .filter(|c| c.root == root && table::decides(**c))
                    .filter_map(|c| self.verdict(i, *c))
                    .collect();
                if own.is_empty() {
                    continue;
                }
                if own.iter().all(|v| v.is_good()) {
                    tally.passed += 1;
                } else {
                    tally.failed += 1;
                    tally.failures.push(format!("escape {}, {}", case.id(), who(root)));
                }
            }
        }
        for (column, why) in &self.absent {
            tally.skips.push(Skip {
                test: format!("escape {}", column.name()),
                reason: why.clone(),
            });
        }
    }
}

/// Whether it wants the machine for itself: a control that harms it, not one that the kernel forbids to this user, or a
/// guest within a guest.
fn wants_all(case: &Case, column: Column) -> bool {
    column.wall == Wall::Control && case.control(column.root) == Control::Rig || column.wall.needs_kvm().is_some()
}

/// How many times slower than hardware this machine is, as for the tests.
fn slowness() -> u64 {
    let said = std::env::var("SAFE_RUN_TEST_SLOWNESS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// What all the runs left behind: processes, mounts and control groups. The kernel needs an instant to take them away.
pub fn left(tools: &Tools, runs: &[String]) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        let mut left = Vec::new();
        for pid in stage::children(std::process::id()) {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            left.push(format!("process {}", name.trim()));
        }
        let scratch = tools.scratch.path().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(
            mounts
                .lines()
                .filter(|m| m.contains(&scratch))
                .map(|m| format!("mount {m}")),
        );
        groups(Path::new("/sys/fs/cgroup"), 6, &mut |name, path| {
            if runs.iter().any(|run| name.contains(run.as_str())) {
                left.push(format!("control group {}", path.display()));
            }
        });
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn groups(dir: &Path, depth: u32, seen: &mut impl FnMut(&str, &Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            seen(&entry.file_name().to_string_lossy(), &entry.path());
            if depth > 0 {
                groups(&entry.path(), depth - 1, seen);
            }
        }
    }
}
