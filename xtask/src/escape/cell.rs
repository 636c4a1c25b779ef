//! One case in one place: its site, its run, and what came of it.

use super::ground::Ground;
use super::hold;
use super::parallel::add;
use super::tools::{Tools, copy, open_to_all, uid, who};
use super::verdict::{self, Verdict};
use super::wall::{self, Column, Wall};
use crate::{Outcome, tree};
use sr_escape::case::{Case, Control, Language};
use sr_escape::trip::Trip;
use sr_escape::verdict::End;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Where one case runs in one place.
pub struct Site {
    pub path: PathBuf,
    /// Known to no other site on this machine.
    pub name: String,
}

impl Site {
    pub fn ground(&self, name: &str) -> String {
        self.path.join("ground").join(name).display().to_string()
    }

    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }
}

#[derive(Debug)]
pub struct Cell {
    pub verdict: Verdict,
    pub trips: Vec<Trip>,
    pub output: Vec<u8>,
    pub took: Duration,
}

impl Cell {
    /// Of a case that did not run there.
    pub fn without(verdict: Verdict) -> Cell {
        Cell {
            verdict,
            trips: Vec::new(),
            output: Vec::new(),
            took: Duration::ZERO,
        }
    }
}

/// One case in one place. `runs` gets the ids of Safe-Run's runs, and the names of runc's containers.
pub fn one(tools: &Tools, case: &Case, column: Column, n: usize, runs: &Mutex<Vec<String>>) -> Outcome<Cell> {
    told(tools, case, column, column.wall != Wall::Control, n, runs)
}

/// The same, told to be `inside` or not. Told so on the bare host it does what it would do where nothing of a wall holds.
fn told(
    tools: &Tools,
    case: &Case,
    column: Column,
    inside: bool,
    n: usize,
    runs: &Mutex<Vec<String>>,
) -> Outcome<Cell> {
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
    if let Some(why) = tools.kernels.not_run(column.wall, case) {
        return Ok(Cell::without(Verdict::NotRun(why.to_owned())));
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
    tools.link_kernel(column, &site.store())?;
    let folder = site.path.join("ground/escape");
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let corpus = tree::corpus();
    let program = if case.language == Language::C {
        tools.built(case)
    } else {
        case.path.clone()
    };
    copy(&[&program, &corpus.join("lib.py"), &corpus.join("lib.sh")], &folder)?;

    let mut ground = Ground::new(tools, site.path.join("ground"), user)?;
    let walled = column.wall != Wall::Control;
    let before = wall::words(column.wall, tools, &site, &case.flags)?;
    let host = folder.display().to_string();
    let mut environment = environment(tools, &site, column, ground.tool_word());
    let mut words = match (walled, case.driver) {
        (true, false) => before.clone(),
        (true, true) => Vec::new(),
        (false, _) if inside => Vec::new(),
        (false, _) => wall::bare(&control),
    };
    if case.driver {
        let script = site.path.join("inside");
        fs::write(&script, wall::script(&before)).map_err(|e| format!("{}: {e}", script.display()))?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())?;
        let seen = if walled { "/escape" } else { host.as_str() };
        environment.push(("SAFE_RUN".into(), tools.safe_run(column.wall).display().to_string()));
        environment.push(("INSIDE".into(), script.display().to_string()));
        environment.push(("ESCAPE".into(), seen.to_owned()));
        environment.push(("SLOWNESS".into(), column.wall.slowness().to_string()));
    }
    words.extend(case.command(if walled && !case.driver { "/escape" } else { &host }));
    words.push(format!("where={}", if inside { "inside" } else { "outside" }));
    words.push(format!("user={}", who(column.root)));
    words.extend(ground.told.iter().cloned());

    let dir = ground.dir.clone();
    let held = hold::Held {
        uid: user,
        stdin: &case.stdin,
        seconds: case.seconds * column.wall.slowness(),
        // What runs on the host itself is an attack that works, or a driver, which may follow what it was left.
        guarded: tree::is_root() && (!walled || case.driver),
        dir: &dir,
        words: &words,
        environment: &environment,
    };
    let mut ended = hold::run(tools, &held)?;
    let store = site.store();
    // The kernels are no places where a run leaves something, and large.
    let left = fs::read_dir(&store).into_iter().flatten().flatten().map(|e| e.path());
    let left: Vec<PathBuf> = left.filter(|path| !path.ends_with("artifacts")).collect();
    let left: Vec<&Path> = left.iter().map(PathBuf::as_path).collect();
    let trips = ground.tripped(&ended, column.wall, &left);
    ended.output = plainly(&ended.output, &dir, ground.victim);
    drop(ground);
    let mut verdict = match walled {
        true => verdict::behind(column, case, tools.kernels.expected(column.wall, case), &ended, &trips),
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
        let words = [tools.safe_run(Wall::Process).display().to_string(), "gc".into()];
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
pub fn environment(tools: &Tools, site: &Site, column: Column, word: &str) -> Vec<(String, String)> {
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

#[cfg(test)]
mod tests {
    use super::super::results::left;
    use super::*;
    use sr_escape::trip::Canary;

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
            let process = Column {
                wall: Wall::Process,
                root: true,
            };
            let verdict = verdict::behind(process, case, &[], &ended, &cell.trips);
            assert!(matches!(verdict, Verdict::Escaped(_)), "{name}: {verdict:?}");
            // What was not expected is said, even where nothing outside was seen.
            let verdict = verdict::behind(process, case, &[], &ended, &[] as &[Trip]);
            assert!(
                matches!(verdict, Verdict::Escaped(what) if what.starts_with("call: ")),
                "{name}"
            );
        }
        assert!(left(&tools, &[]).iter().all(|l| !l.starts_with("mount")));
    }

    /// With nothing to hold them, and told that they are inside: what `doctor --attack` would do on a machine where the whole wall
    /// failed. Where root starts it the host's files are read-only, as for any control.
    #[test]
    fn what_says_to_be_harmless_touches_nothing_but_the_ground() {
        let tools = Tools::new(false, None).unwrap();
        let cases = Case::all(&tree::corpus(), |_, _| true).unwrap();
        let cases: Vec<Case> = cases.into_iter().filter(|case| case.harmless).collect();
        tools.build(&cases.iter().collect::<Vec<_>>()).unwrap();
        let users: &[bool] = if tree::is_root() { &[false, true] } else { &[false] };
        let mut got_through = 0;
        for (n, (case, root)) in cases
            .iter()
            .flat_map(|c| users.iter().map(move |u| (c, *u)))
            .enumerate()
        {
            let column = Column {
                wall: Wall::Control,
                root,
            };
            let cell = told(&tools, case, column, true, n, &Mutex::new(Vec::new())).unwrap();
            let said = String::from_utf8_lossy(&cell.output);
            for trip in &cell.trips {
                assert!(
                    matches!(trip.canary, Canary::Read | Canary::Change | Canary::Connect),
                    "{}: {}: {}\n{said}",
                    case.id(),
                    trip.canary.name(),
                    trip.what
                );
            }
            got_through += usize::from(!cell.trips.is_empty() || said.contains(": GOT"));
        }
        // They are attacks: but for those of which a kernel itself lets none through, they succeed where nothing holds them.
        assert!(got_through * 4 > cases.len() * users.len() * 3, "{got_through}");
    }

    #[test]
    fn what_is_said_is_the_same_each_time() {
        let said = b"attempt in /tmp/x/7/ground/project: GOT\n/tmp/x/7/store /proc/41/mem /proc/410/mem\n";
        let plain = plainly(said, Path::new("/tmp/x/7/ground"), 41);
        let expected = "attempt in DIR/project: GOT\nSITE/store /proc/VICTIM/mem /proc/410/mem\n";
        assert_eq!(String::from_utf8_lossy(&plain), expected);
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
                    wall if wall.is_ours() => assert!(cell.is_err()),
                    _ => assert_eq!(cell.unwrap().verdict, Verdict::Rig(None), "{}", column.name()),
                }
            }
        }
    }
}
