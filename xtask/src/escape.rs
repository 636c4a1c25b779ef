//! `cargo xtask escape`: every case of the escape corpus behind every wall that exists, behind the references, and on the
//! bare host. tests/escape/README.md is the contract.

mod case;
mod ground;
mod hold;
mod host;
mod rig;
mod table;
mod verdict;
mod wall;

use crate::scratch::Scratch;
use crate::tally::{Skip, Tally, glob};
use crate::{Outcome, plain, stage, tree};
use case::{Case, Control, Language};
use ground::{Ground, Trip};
use hold::End;
pub use rig::{MARK, Record};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};
use verdict::Verdict;
use wall::{Column, Wall};

/// The ordinary user that root lets start runs.
const USER: u32 = 1000;
/// As many at once as there are CPUs where the tests run.
const AT_ONCE: usize = 2;
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
        fs::write(&path, table::document(&results)).map_err(|e| format!("{}: {e}", path.display()))?;
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
    let cases = Case::all(|_, _| true)?;
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

#[derive(Debug, Default)]
struct Options {
    walls: Vec<Wall>,
    root: Option<bool>,
    write: bool,
    keep: bool,
    /// Those cases alone that run in the rig, and there.
    rig: bool,
    globs: Vec<String>,
}

impl Options {
    fn parse(words: &[&str]) -> Outcome<Options> {
        let mut options = Options::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--write" => options.write = true,
                "--keep" => options.keep = true,
                "--rig" => options.rig = true,
                "--backend" => {
                    let wanted = "--backend wants process, bubblewrap, runc or control";
                    let wall = words.next().and_then(|w| Wall::parse(w)).ok_or(wanted)?;
                    options.walls.push(wall);
                }
                "--user" => {
                    options.root = match words.next() {
                        Some(&"root") => Some(true),
                        Some(&"user") => Some(false),
                        _ => return Err("--user wants root or user".into()),
                    }
                }
                word if word.starts_with('-') => return Err(format!("xtask escape does not know {word}")),
                word => options.globs.push(word.to_owned()),
            }
        }
        let part = !options.walls.is_empty() || options.root.is_some() || !options.globs.is_empty();
        if options.rig && (part || options.keep) {
            return Err("--rig takes no other option than --write: all that harms a machine runs there at once".into());
        }
        if options.write && !options.rig && (part || !tree::is_root()) {
            return Err(format!(
                "--write: {DOCUMENT} is written from a whole run, started by root"
            ));
        }
        Ok(options)
    }

    fn columns(&self) -> Vec<Column> {
        let wanted = |c: &Column| {
            (self.walls.is_empty() || self.walls.contains(&c.wall))
                && self.root.is_none_or(|root| root == c.root)
                // They decide nothing: the rig, which is slow, runs them where the record is to be written.
                && (!c.is_reference() || !self.rig || self.write)
                // Who is not root can be nobody else.
                && (tree::is_root() || !c.root)
        };
        Column::ALL.into_iter().filter(wanted).collect()
    }

    fn takes(&self, group: &str, name: &str) -> bool {
        let names = [format!("{group}/{name}"), group.to_owned(), name.to_owned()];
        self.globs.is_empty() || self.globs.iter().any(|g| names.iter().any(|name| glob(g, name)))
    }
}

/// Programs and places that all cases share.
struct Tools {
    scratch: Scratch,
    ground: PathBuf,
    safe_run: PathBuf,
    /// Compiled cases, below their groups.
    built: PathBuf,
    keep: bool,
    /// This machine may be harmed.
    harm: bool,
}

impl Tools {
    fn new(keep: bool, safe_run: Option<&Path>) -> Outcome<Tools> {
        let harm = rig::may_harm()?;
        let scratch = Scratch::new("escape")?;
        open_to_all(scratch.path())?;
        let built = tree::target().join("escape");
        let ground = compile(&tree::root().join("tests/escape/ground.c"), &built.join("ground"))?;
        // Copies that an ordinary user reaches, wherever the workspace is.
        let bin = scratch.dir("bin")?;
        let copy = |from: &Path, name: &str| copy(&[from], &bin.join(name));
        copy(&ground, "ground")?;
        if let Some(safe_run) = safe_run {
            copy(safe_run, "safe-run")?;
        }
        for root in [true, false] {
            for (name, mode) in [("home", 0o755), ("keys", 0o700), ("runtime", 0o700)] {
                let dir = scratch.dir(&format!("{}/{name}", who(root)))?;
                fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).map_err(|e| e.to_string())?;
                if let Some(uid) = uid(root) {
                    chown(&dir, Some(uid), Some(uid)).map_err(|e| format!("{}: {e}", dir.display()))?;
                }
            }
        }
        Ok(Tools {
            ground: bin.join("ground"),
            safe_run: bin.join("safe-run"),
            scratch,
            built,
            keep,
            harm,
        })
    }

    fn built(&self, case: &Case) -> PathBuf {
        self.built.join(&case.group).join(&case.name)
    }

    /// Compiles what is in C and not yet, all that is wrong at once.
    fn build(&self, cases: &[&Case]) -> Outcome {
        let wrong = Mutex::new(Vec::new());
        let in_c: Vec<&&Case> = cases.iter().filter(|c| c.language == Language::C).collect();
        at_once(in_c.len(), |i| {
            if let Err(why) = compile(&in_c[i].path, &self.built(in_c[i])) {
                add(&wrong, why);
            }
        });
        let wrong = wrong.into_inner().unwrap_or_default();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("\n"))
        }
    }
}

fn who(root: bool) -> &'static str {
    if root { "root" } else { "user" }
}

/// The user to become, where that is another one.
fn uid(root: bool) -> Option<u32> {
    (tree::is_root() && !root).then_some(USER)
}

fn open_to_all(dir: &Path) -> Outcome {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(|e| format!("{}: {e}", dir.display()))
}

/// By a process of its own: a program that a thread of this one has open for writing cannot be executed.
fn copy(from: &[&Path], to: &Path) -> Outcome {
    let output = Command::new("cp").arg("--").args(from).arg(to).output();
    let output = output.map_err(|e| format!("cp: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("cp: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// Compiles `source`, unless what is there carries the time of the newest file that it is made of.
fn compile(source: &Path, to: &Path) -> Outcome<PathBuf> {
    let corpus = tree::root().join("tests/escape");
    let time = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
    let beside = source.parent().unwrap_or(&corpus);
    let headers = [corpus.as_path(), beside]
        .into_iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten());
    let headers = headers
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "h"));
    let newest = headers.chain([source.to_owned()]).filter_map(|p| time(&p)).max();
    if newest.is_some() && time(to) == newest {
        return Ok(to.to_owned());
    }
    let fault = |e: std::io::Error| format!("{}: {e}", to.display());
    fs::create_dir_all(to.parent().unwrap_or(to)).map_err(fault)?;
    // In its place at once: another run may be copying it.
    let new = to.with_extension(format!("new-{}", std::process::id()));
    let output = Command::new("cc")
        .args(["-O1", "-static", "-pthread", "-I"])
        .arg(&corpus)
        .arg("-o")
        .arg(&new)
        .arg(source)
        .output()
        .map_err(|e| format!("cc: {e}"))?;
    if !output.status.success() {
        return Err(format!(
            "{} does not compile:\n{}",
            source.display(),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    if let Some(newest) = newest {
        let file = fs::File::options().append(true).open(&new);
        file.and_then(|file| file.set_modified(newest)).map_err(fault)?;
    }
    fs::rename(&new, to).map_err(fault)?;
    Ok(to.to_owned())
}

/// Where one case runs in one place.
struct Site {
    path: PathBuf,
    /// Known to no other site on this machine.
    name: String,
}

impl Site {
    fn ground(&self, name: &str) -> String {
        self.path.join("ground").join(name).display().to_string()
    }

    fn store(&self) -> PathBuf {
        self.path.join("store")
    }
}

#[derive(Debug)]
struct Cell {
    verdict: Verdict,
    trips: Vec<Trip>,
    output: Vec<u8>,
    took: Duration,
}

impl Cell {
    /// Of a case that did not run there.
    fn without(verdict: Verdict) -> Cell {
        Cell {
            verdict,
            trips: Vec::new(),
            output: Vec::new(),
            took: Duration::ZERO,
        }
    }
}

struct Results {
    cases: Vec<Case>,
    columns: Vec<Column>,
    /// `bubblewrap 0.8.0`.
    references: Vec<String>,
    absent: Vec<(Column, String)>,
    /// What the rig said last.
    record: Record,
    cells: BTreeMap<(usize, Column), Cell>,
    /// What the run as a whole left behind.
    left: Vec<String>,
}

impl Results {
    fn of_run(options: &Options) -> Outcome<Results> {
        let mut cases = Case::all(|group, name| options.takes(group, name))?;
        cases.retain(|case| !options.rig || case.harms());
        if cases.is_empty() {
            return Err("no case is called so".into());
        }
        Results::of(cases, options)
    }

    fn of(mut cases: Vec<Case>, options: &Options) -> Outcome<Results> {
        for case in &mut cases {
            case.seconds *= slowness();
        }
        let safe_run = match std::env::var_os("SAFE_RUN_BIN") {
            Some(given) => tree::root().join(given),
            None => tree::safe_run()?,
        };
        let tools = Tools::new(options.keep, Some(&safe_run))?;
        tools.build(&cases.iter().collect::<Vec<_>>())?;
        // In the rig it is made, not read.
        let record = if tools.harm { Record::default() } else { Record::kept()? };
        let columns = options.columns();
        let (mut references, mut absent) = (Vec::new(), Vec::new());
        for column in columns.iter().filter(|c| c.is_reference()) {
            match wall::version(column.wall) {
                Ok(version) => references.push(format!("{} {version}", column.name())),
                Err(why) => absent.push((*column, why)),
            }
        }
        let jobs: Vec<(usize, Column)> = (0..cases.len())
            .flat_map(|i| columns.iter().map(move |c| (i, *c)))
            .collect();
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
                false if case.fires == case::Canary::Host || harms_here(case, column) => {
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
            if let Ok(mut cells) = cells.lock() {
                cells.insert((i, column), cell);
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if done.is_multiple_of(100) {
                println!("   {done} of {}", jobs.len());
            }
        });
        let left = left(&tools, &runs.into_inner().unwrap_or_default());
        if options.keep {
            println!("kept: {}", tools.scratch.path().display());
            std::mem::forget(tools);
        }
        Ok(Results {
            cases,
            columns,
            references,
            absent,
            record,
            cells: cells.into_inner().unwrap_or_default(),
            left,
        })
    }

    /// The cases of a group, by number.
    fn of_group(&self, group: &str) -> Vec<usize> {
        (0..self.cases.len())
            .filter(|i| self.cases[*i].group == group)
            .collect()
    }

    fn verdict(&self, case: usize, column: Column) -> Option<&Verdict> {
        self.cells.get(&(case, column)).map(|cell| &cell.verdict)
    }

    /// Where the time went, for who wants it shorter.
    fn slowest(&self) -> String {
        let mut cells: Vec<_> = self.cells.iter().collect();
        cells.sort_by_key(|(_, cell)| std::cmp::Reverse(cell.took));
        let most = cells.iter().take(6).map(|((i, column), cell)| {
            let time = plain::seconds(cell.took);
            format!("{} ({}) {time}", self.cases[*i].id(), column.name())
        });
        most.collect::<Vec<_>>().join(", ")
    }

    /// An error that shows all that is not as the corpus promises.
    fn judged(&self) -> Outcome {
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

    /// For the rig's own reader: the record, and the rest as a test program would say it.
    fn told(&self) -> Outcome {
        let (mut tally, judged) = (Tally::default(), self.judged());
        if judged.is_ok() {
            for line in Record::of(self)?.lines() {
                println!("{MARK}{line}");
            }
        }
        self.count(&mut tally);
        print!(
            "{}",
            tally.as_test_program(judged.as_ref().err().map_or("", String::as_str))
        );
        judged.map_err(|_| "the corpus does not hold here, see above".into())
    }

    /// A test for each case and each user: its wall and its control.
    fn count(&self, tally: &mut Tally) {
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

fn add<T>(list: &Mutex<Vec<T>>, what: T) {
    if let Ok(mut list) = list.lock() {
        list.push(what);
    }
}

/// `work` for each number below `count`, two at once.
fn at_once(count: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    work(n);
                }
            });
        }
    });
}

/// Whether it is a control that harms the machine, not one that the kernel forbids to this user.
fn harms_here(case: &Case, column: Column) -> bool {
    column.wall == Wall::Control && case.control(column.root) == Control::Rig
}

/// How many times slower than hardware this machine is, as for the tests.
fn slowness() -> u64 {
    let said = std::env::var("SAFE_RUN_TEST_SLOWNESS").ok();
    said.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// One case in one place. `runs` gets the ids of Safe-Run's runs, and the names of runc's containers.
fn one(tools: &Tools, case: &Case, column: Column, n: usize, runs: &Mutex<Vec<String>>) -> Outcome<Cell> {
    let start = Instant::now();
    let control = case.control(column.root);
    match column.wall {
        Wall::Bubblewrap | Wall::Runc if case.only_process => return Ok(Cell::without(Verdict::Apart)),
        // What a reference lets through would harm the host.
        Wall::Bubblewrap | Wall::Runc | Wall::Control if case.harms() && !tools.harm => {
            return Ok(Cell::without(Verdict::Rig(None)));
        }
        _ => {}
    }
    if let (Wall::Control, Control::Void(reason)) = (column.wall, &control)
        && reason.contains("destructive")
    {
        return Ok(Cell::without(Verdict::Void(reason.clone())));
    }

    let site = Site {
        path: tools.scratch.dir(&n.to_string())?,
        name: format!("safe-run-escape-{}-{n}", std::process::id()),
    };
    open_to_all(&site.path)?;
    let user = uid(column.root);
    for name in ["store", "tmp"] {
        let dir = tools.scratch.dir(&format!("{n}/{name}"))?;
        if let Some(uid) = user {
            chown(&dir, Some(uid), Some(uid)).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
    }
    let folder = site.path.join("ground/escape");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let corpus = tree::root().join("tests/escape");
    let program = if case.language == Language::C {
        tools.built(case)
    } else {
        case.path.clone()
    };
    copy(&[&program, &corpus.join("lib.py"), &corpus.join("lib.sh")], &folder)?;

    let mut ground = Ground::new(tools, site.path.join("ground"), user)?;
    let walled = column.wall != Wall::Control;
    let before = wall::words(column.wall, tools, &site, case)?;
    let host = folder.display().to_string();
    let mut environment = environment(tools, &site, column, ground.tool_word());
    let mut words = match (walled, case.driver) {
        (true, false) => before.clone(),
        (true, true) => Vec::new(),
        (false, _) => wall::bare(&control),
    };
    if case.driver {
        let script = site.path.join("inside");
        fs::write(&script, wall::script(&before)).map_err(|e| format!("{}: {e}", script.display()))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
        let seen = if walled { "/escape" } else { host.as_str() };
        environment.push(("SAFE_RUN".into(), tools.safe_run.display().to_string()));
        environment.push(("INSIDE".into(), script.display().to_string()));
        environment.push(("ESCAPE".into(), seen.to_owned()));
    }
    words.extend(wall::command(
        case,
        if walled && !case.driver { "/escape" } else { &host },
    ));
    words.push(format!("where={}", if walled { "inside" } else { "outside" }));
    words.push(format!("user={}", who(column.root)));
    words.extend(ground.told.iter().cloned());

    let dir = ground.dir.clone();
    let held = hold::Held {
        uid: user,
        stdin: &case.stdin,
        seconds: case.seconds,
        // What runs on the host itself is an attack that works, or a driver, which may follow what it was left.
        guarded: tree::is_root() && (!walled || case.driver),
        dir: &dir,
        words: &words,
        environment: &environment,
    };
    let mut ended = hold::run(tools, &held)?;
    let store = site.store();
    let trips = ground.tripped(&ended, column.wall, &[&store]);
    ended.output = plainly(&ended.output, &dir, ground.victim);
    drop(ground);
    let mut verdict = match walled {
        true => {
            let limit = case.limit(column.root).filter(|_| column.wall == Wall::Process);
            verdict::behind(column.wall, case, &ended, &trips).within(limit, case, &trips)
        }
        false => verdict::bare(case, &control, &ended, &trips),
    };
    if column.wall == Wall::Runc {
        add(runs, site.name.clone());
        wall::clear_runc(&site)?;
    }
    for run in fs::read_dir(store.join("runs")).into_iter().flatten().flatten() {
        add(runs, run.file_name().to_string_lossy().into_owned());
    }
    let journal = || fs::read_dir(store.join("journal")).map_or(0, Iterator::count);
    if journal() > 0 {
        if ended.end != End::Over && verdict == Verdict::Held {
            verdict = Verdict::Broken("it left a journal behind".into());
        }
        let words = [tools.safe_run.display().to_string(), "gc".into()];
        let gc = hold::Held {
            stdin: "null",
            seconds: 20,
            guarded: false,
            words: &words,
            ..held
        };
        let gc = hold::run(tools, &gc)?;
        if journal() > 0 {
            return Err(format!("gc left a journal: {}", String::from_utf8_lossy(&gc.output)));
        }
    }
    if !tools.keep {
        fs::remove_dir_all(&site.path).map_err(|e| format!("{}: {e}", site.path.display()))?;
    }
    Ok(Cell {
        verdict,
        trips,
        output: ended.output,
        took: start.elapsed(),
    })
}

/// What a case said, without what is another each time: the document is to be the same after each run.
fn plainly(output: &[u8], dir: &Path, victim: u32) -> Vec<u8> {
    let text = String::from_utf8_lossy(output).replace(&dir.display().to_string(), "DIR");
    let text = text.replace(&format!("/proc/{victim}/"), "/proc/VICTIM/");
    let site = dir.parent().unwrap_or(dir).display().to_string();
    text.replace(&site, "SITE").into_bytes()
}

/// What the tool under test finds in its environment: its own places, and a canary.
fn environment(tools: &Tools, site: &Site, column: Column, word: &str) -> Vec<(String, String)> {
    let own = tools.scratch.path().join(who(column.root));
    let at = |name: &str| own.join(name).display().to_string();
    let bin = tools.scratch.path().join("bin");
    let pairs = [
        (
            "PATH",
            format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", bin.display()),
        ),
        ("LANG", "C.UTF-8".into()),
        ("HOME", at("home")),
        ("TMPDIR", site.path.join("tmp").display().to_string()),
        ("XDG_RUNTIME_DIR", at("runtime")),
        ("SAFE_RUN_KEY_DIR", at("keys")),
        ("SAFE_RUN_WORKDIR_BASE", site.store().display().to_string()),
        ("ESCAPE_CANARY", word.to_owned()),
    ];
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// What all the runs left behind: processes, mounts and control groups. The kernel needs an instant to take them away.
fn left(tools: &Tools, runs: &[String]) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What each case of tests/escape/self-test trips on the bare host, all of it.
    const TRIPPED: [(&str, &[&str]); 10] = [
        (
            "change",
            &[
                "change: DIR/project/.git/hooks",
                "change: DIR/project/.git/hooks/post-checkout",
                "change: DIR/public",
                "change: DIR/secret",
                "change: DIR/target",
                "change: DIR/targets",
                "change: DIR/targets/link",
                "change: DIR/targets/made",
                // What is new is looked into.
                "read: DIR/secret",
            ],
        ),
        (
            "connect",
            &[
                "connect: DIR/listen.sock",
                "connect: TCP on loopback",
                "connect: UDP on loopback",
                "connect: the abstract socket",
                "connect: the tool's standard input",
            ],
        ),
        ("host_stays", &["host: a process stays: sleep"]),
        (
            "ipc",
            &[
                "host: the user key",
                "ipc: the POSIX queue",
                "ipc: the file in /dev/shm",
                "ipc: the message queue",
                "ipc: the shared memory segment",
                "read: the POSIX queue",
                "read: the message queue",
            ],
        ),
        ("process_gone", &["process: the victim is gone"]),
        ("process_memory", &["process: the victim's memory is other"]),
        ("process_nice", &["process: the victim's priority is other"]),
        ("process_woken", &["process: the victim was woken"]),
        (
            "read",
            &[
                "read: DIR/public",
                "read: DIR/secret",
                "read: the file in /dev/shm",
                "read: the shared memory segment",
                "read: the tool's environment",
                "read: the user key",
                "read: the victim's arguments",
                "read: the victim's environment",
                "read: the victim's memory",
            ],
        ),
        ("terminal", &[]),
    ];

    fn fixtures() -> Vec<Case> {
        Case::below(&tree::root().join("tests/escape/self-test")).unwrap()
    }

    /// A case where nothing holds it.
    fn unwalled(tools: &Tools, case: &Case, n: usize) -> Cell {
        let column = Column {
            wall: Wall::Control,
            root: tree::is_root(),
        };
        one(tools, case, column, n, &Mutex::new(Vec::new())).unwrap()
    }

    #[test]
    fn every_canary_is_seen_by_whoever_looks_and_an_escape_is_called_one() {
        let tools = Tools::new(false, None).unwrap();
        let cases = fixtures();
        tools.build(&cases.iter().collect::<Vec<_>>()).unwrap();
        let names: Vec<&str> = cases.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, TRIPPED.map(|(name, _)| name));
        for (n, (case, (name, expected))) in cases.iter().zip(TRIPPED).enumerate() {
            let cell = unwalled(&tools, case, n);
            let said = String::from_utf8_lossy(&cell.output);
            let mut seen: Vec<String> = cell
                .trips
                .iter()
                .map(|t| format!("{}: {}", t.canary.name(), t.what))
                .collect();
            seen.sort();
            assert_eq!(seen, expected, "{name}: {said}");
            assert!(
                matches!(cell.verdict, Verdict::Fired(_)),
                "{name}: {:?}\n{said}",
                cell.verdict
            );
            // The same, had it been seen with a wall between.
            let ended = hold::Ended {
                end: End::Exit(0),
                output: cell.output.clone(),
                left: Vec::new(),
                arrived: false,
                pushed: false,
            };
            let verdict = verdict::behind(Wall::Process, case, &ended, &cell.trips);
            assert!(matches!(verdict, Verdict::Escaped(_)), "{name}: {verdict:?}");
            // What was not expected is said, even where nothing outside was seen.
            let verdict = verdict::behind(Wall::Process, case, &ended, &[] as &[Trip]);
            assert!(
                matches!(verdict, Verdict::Escaped(what) if what.starts_with("call: ")),
                "{name}"
            );
        }
        assert!(left(&tools, &[]).iter().all(|l| !l.starts_with("mount")));
    }

    #[test]
    fn what_is_said_is_the_same_each_time() {
        let said = b"attempt in /tmp/x/7/ground/project: GOT\n/tmp/x/7/store /proc/41/mem /proc/410/mem\n";
        let plain = plainly(said, Path::new("/tmp/x/7/ground"), 41);
        let expected = "attempt in DIR/project: GOT\nSITE/store /proc/VICTIM/mem /proc/410/mem\n";
        assert_eq!(String::from_utf8_lossy(&plain), expected);
    }

    #[test]
    fn options() {
        let columns = |words: &[&str]| Options::parse(words).unwrap().columns().len();
        assert_eq!(columns(&["--backend", "runc", "--user", "user"]), 0);
        assert_eq!(columns(&["--backend", "process"]), if tree::is_root() { 2 } else { 1 });
        let options = Options::parse(&["network", "a*"]).unwrap();
        assert!(options.takes("network", "x") && options.takes("evidence", "ab") && !options.takes("evidence", "b"));
        assert!(Options::parse(&["--write", "network"]).is_err() && Options::parse(&["--backend", "x"]).is_err());
        assert!(Options::parse(&["--rig", "--write"]).is_ok_and(|o| o.rig && o.write));
        if tree::is_root() {
            assert_eq!((columns(&["--rig"]), columns(&["--rig", "--write"])), (4, 6));
        }
        assert!(Options::parse(&["--rig", "reboot"]).is_err() && Options::parse(&["--rig", "--keep"]).is_err());
        assert!(Options::parse(&["--user"]).is_err() && Options::parse(&["--x"]).is_err());
    }

    #[test]
    fn what_harms_the_machine_is_not_run_here() {
        let tools = Tools::new(false, None).unwrap();
        assert!(!tools.harm);
        for (n, who) in ["control: rig\n", "control: void: x\n# control-user: rig\n"]
            .into_iter()
            .enumerate()
        {
            // There is no such program: would it be run, it could not be.
            let head = "# title: T\n# source: S\n# expect: EPERM\n# fires: call\n# ";
            let case = Case::parse(Path::new("/syscalls/none.sh"), &format!("{head}{who}")).unwrap();
            for column in Column::ALL {
                let cell = one(&tools, &case, column, n, &Mutex::new(Vec::new()));
                match column.wall {
                    Wall::Process => assert!(cell.is_err()),
                    _ => assert_eq!(cell.unwrap().verdict, Verdict::Rig(None), "{}", column.name()),
                }
            }
        }
    }

    #[test]
    fn the_record_knows_every_case_of_the_rig() {
        let record = Record::kept().unwrap();
        let cases = Case::all(|_, _| true).unwrap();
        for case in cases.iter().filter(|c| c.harms()) {
            for column in Column::ALL {
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

    #[test]
    fn the_corpus_can_be_read() {
        let cases = Case::all(|_, _| true).unwrap();
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
