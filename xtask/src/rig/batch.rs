//! The tests that run on the rig, as one script, and what comes back from it.

use super::{quoted, utf8};
use crate::binaries::TestProgram;
use crate::tally::{Reader, Skip, Tally};
use crate::{Outcome, escape};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Root,
    /// Nobody in particular, with a subtree of control groups of his own.
    User,
}

/// A test program, who runs it, and by parts of their names which of its tests are left out: those that are about amounts of
/// data, or about what no kernel changes.
pub type Run<'a> = (&'a str, Who, &'a [&'a str]);

/// What runs there. The rig's processors are some fifteen times slower than the host's: each program runs once, but for
/// the one that is about control groups, and by the user who is the harder case for it.
pub const TESTS: &[Run<'_>] = &[
    ("sr-kernel sr_kernel", Who::Root, &[]),
    ("sr-runner cgroup_v2", Who::Root, &[]),
    ("sr-runner other_kernel", Who::Root, &[]),
    ("sr-runner mac", Who::Root, &[]),
    (
        "sr-microvm sr_microvm",
        Who::Root,
        &["whatever_is", "machine", "protocol"],
    ),
    ("sr-helper hostile_callers", Who::Root, &["thousand", "any_bytes"]),
    ("sr-runner helper", Who::Root, &[]),
    (
        "sr-runner attacks",
        Who::Root,
        &["ten_gigabytes_of_output", "one_endless_line"],
    ),
    (
        "sr-runner degrade",
        Who::Root,
        &[
            "without_ptrace",
            "without_a_place",
            "one_control_group",
            "what_the_kernel",
        ],
    ),
    ("sr-runner cgroup_v2", Who::User, &[]),
    ("sr-runner run_smoke", Who::User, &[]),
    (
        "sr-runner run_failure_paths",
        Who::User,
        &["disk", "a_store", "output_", "a_mount_source", "what_cannot"],
    ),
];

/// What runs where the kernel has SELinux in AppArmor's stead: its own tests, and that AppArmor's profiles are missed.
pub const SELINUX: &[Run<'_>] = &[
    ("sr-runner selinux", Who::Root, &[]),
    ("sr-runner mac", Who::Root, &["a_profile"]),
];

/// What runs on Debian 13's kernel, whose AppArmor mediates user namespaces: what its profiles say, not what we do with it.
pub const TRIXIE: &[Run<'_>] = &[(
    "sr-runner mac",
    Who::Root,
    &[
        "not_loaded",
        "complains",
        "no_signal",
        "who_joins",
        "exec_stop",
        "for_a_user",
    ],
)];

/// The tests that need KVM, which is nested there: not among those above, because they want a machine of one processor.
pub const WITH_KVM: &[Run<'_>] = &[(KVM_TESTS, Who::Root, &[])];

/// What the corpus runs with: this program, where it finds what was built for it, and what is to run.
pub struct Corpus<'a> {
    pub xtask: &'a Path,
    pub target: &'a Path,
    pub title: &'a str,
    pub words: Vec<String>,
    /// Programs of somebody's own, by the variables that name them: for the tests too.
    pub named: Vec<(&'static str, PathBuf)>,
}

/// How many times longer than on hardware things may take.
const SLOWNESS: &str = "5";
/// For one program, in seconds.
const LIMIT: &str = "600";
/// Where it boots guests of monitors that somebody named.
const NESTED: &str = "7200";

/// Begins the lines that the script itself writes.
const MARK: &str = "== rig: ";

/// A user's subtree as systemd would delegate it: all its files that make groups are his, and he is in one of them.
const PREPARE: &str = "\
exec 2>&1; cd /
/run/modprobe loop || exit 1
subtree=/sys/fs/cgroup/user
mkdir -p $subtree && echo +memory +cpu +pids +io > $subtree/cgroup.subtree_control && mkdir -p $subtree/session
mkdir -p /tmp/root /tmp/user/tmp && chown -R 65534:65534 $subtree /tmp/user || exit 1
as_root() { HOME=/tmp/root TMPDIR=/tmp \"$@\"; }
as_user() {
    (echo 0 > $subtree/session/cgroup.procs; HOME=/tmp/user TMPDIR=/tmp/user/tmp exec \\
        setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all \"$@\")
}
";

/// Tests of guests, which the rig's kernel runs with QEMU's own SVM.
const KVM_TESTS: &str = "sr-runner kvm";
/// Before the first of them.
const KVM: &str = "/run/modprobe kvm-amd || exit 1\n";

/// The script that runs `tests`, which are among `programs`, and then, with `corpus`, what of it harms the machine.
pub fn script(
    tests: &[Run<'_>],
    programs: &[TestProgram],
    corpus: Option<&Corpus<'_>>,
    safe_run: &Path,
    release: &str,
) -> Outcome<String> {
    let mut script = PREPARE.to_owned();
    let named = corpus.is_some_and(|corpus| !corpus.named.is_empty());
    if named || tests.iter().any(|(name, ..)| *name == KVM_TESTS) {
        script.push_str(KVM);
    }
    let mut line = |text: String| {
        script.push_str(&text);
        script.push('\n');
    };
    for (name, value) in [
        ("SAFE_RUN_BIN", utf8(safe_run)?),
        ("SAFE_RUN_TEST_SLOWNESS", SLOWNESS),
        ("SAFE_RUN_TEST_RIG", release),
    ] {
        line(format!("export {name}={}", quoted(value)));
    }
    for (name, path) in corpus.iter().flat_map(|corpus| &corpus.named) {
        line(format!("export {name}={}", quoted(utf8(path)?)));
    }
    let limit = if named { NESTED } else { LIMIT };
    for path in programs.iter().map(|p| p.path.as_path()).chain([safe_run]) {
        // The workspace may lie where only its owner may go: in the rig's own layer, all may.
        for dir in path.ancestors().skip(1) {
            line(format!("chmod a+x {}", quoted(utf8(dir)?)));
        }
    }
    for (name, who, without) in tests {
        let Some(program) = programs.iter().find(|p| p.name == *name) else {
            return Err(format!("   there is no test program {name}"));
        };
        let (words, title) = match who {
            Who::Root => ("as_root", format!("{name}, as root")),
            Who::User => ("as_user", format!("{name}, as an ordinary user")),
        };
        let (dir, path) = (quoted(utf8(&program.dir)?), quoted(utf8(&program.path)?));
        line(format!("echo {}", quoted(&format!("{MARK}{title}"))));
        let mut options: String = without.iter().map(|test| format!(" --skip {test}")).collect();
        if *name == KVM_TESTS {
            // Two guests at once take several times as long as one after the other.
            options.push_str(" --test-threads=1");
        }
        line(format!(
            "cd {dir} && CARGO_MANIFEST_DIR={dir} {words} timeout -k 5 {limit} {path} --show-output{options}"
        ));
        line(format!("echo \"{MARK}status $?\""));
    }
    if let Some(corpus) = corpus {
        let (xtask, target) = (quoted(utf8(corpus.xtask)?), quoted(utf8(corpus.target)?));
        let words: String = corpus.words.iter().map(|word| format!(" {}", quoted(word))).collect();
        line(format!("echo {}", quoted(&format!("{MARK}{}", corpus.title))));
        line(format!(
            "cd / && SAFE_RUN_RIG=1 CARGO_TARGET_DIR={target} as_root timeout -k 5 {limit} {xtask} escape{words}"
        ));
        line(format!("echo \"{MARK}status $?\""));
    }
    line("exit 0".into());
    Ok(script)
}

/// Reads the script's output line by line.
#[derive(Default)]
pub struct Results {
    reader: Reader,
    /// The program that runs now, and what had failed before it.
    current: Option<(String, u64)>,
    wrong: Vec<String>,
    /// The corpus's record, line by line.
    pub record: String,
}

impl Results {
    /// What of the line is progress worth showing.
    pub fn line(&mut self, line: &str) -> Option<String> {
        if let Some(said) = line.strip_prefix(escape::MARK) {
            self.record.push_str(said);
            self.record.push('\n');
            // Nested, each takes its time.
            return said.contains(" | microvm:").then(|| said.to_owned());
        }
        let Some(own) = line.strip_prefix(MARK) else {
            let counts = self.reader.line(line)?;
            let (program, _) = self.current.as_ref()?;
            return Some(format!("{program}: {counts}"));
        };
        match own.strip_prefix("status ") {
            None => self.current = Some((own.to_owned(), self.reader.tally.failed)),
            Some(status) => {
                let (program, before) = self.current.take()?;
                if status != "0" {
                    // A program that was killed counted nothing.
                    self.reader.tally.failed = self.reader.tally.failed.max(before + 1);
                    self.wrong.push(format!("   {program}: status {status}"));
                }
            }
        }
        None
    }

    /// `tests`: how many programs there were to run.
    pub fn end(mut self, status: i32) -> (Tally, Outcome) {
        if let Some((program, _)) = self.current {
            self.wrong.push(format!("   {program}: it did not end"));
        }
        if status != 0 {
            self.wrong.push(format!("   the script ended with {status}"));
        }
        // A host's skips are not the rig's: what may be skipped here is listed as such.
        for Skip { test, .. } in &mut self.reader.tally.skips {
            test.insert_str(0, "rig/");
        }
        let failures = self.reader.tally.failures.iter_mut();
        failures.for_each(|test| test.insert_str(0, "rig/"));
        let outcome = match self.wrong.is_empty() {
            true => Ok(()),
            false => Err(self.wrong.join("\n")),
        };
        (self.reader.tally, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, status: i32) -> (Tally, Outcome, Vec<String>) {
        let mut results = Results::default();
        let shown = text.lines().filter_map(|line| results.line(line)).collect();
        let (tally, outcome) = results.end(status);
        (tally, outcome, shown)
    }

    #[test]
    fn the_record_is_set_apart() {
        let mut results = Results::default();
        for line in ["== record: kernel: Linux 6", "== record: a | b | held", "test x ... ok"] {
            assert_eq!(results.line(line), None);
        }
        let nested = "== record: a | microvm:firecracker | held";
        assert_eq!(results.line(nested).as_deref(), Some("a | microvm:firecracker | held"));
        assert_eq!(
            results.record,
            "kernel: Linux 6\na | b | held\na | microvm:firecracker | held\n"
        );
    }

    const ONE: &str = "== rig: a, as root\nrunning 2 tests\ntest x ... ignored (no drum)\ntest result: ok. 1 passed; 0 failed; 1 ignored\n== rig: status 0\n";

    #[test]
    fn counts_and_skips_are_those_of_the_rig() {
        let (tally, outcome, shown) = read(ONE, 0);
        assert_eq!(
            (tally.line().as_str(), outcome),
            ("1 passed, 0 failed, 1 skipped", Ok(()))
        );
        assert_eq!(
            (tally.skips[0].test.as_str(), tally.skips[0].reason.as_str()),
            ("rig/x", "no drum")
        );
        assert_eq!(shown, ["a, as root: 1 passed, 0 failed, 1 skipped"]);
    }

    #[test]
    fn what_does_not_come_to_a_summary_has_failed() {
        for (text, status, failed, why) in [
            ("== rig: b\nrunning 1 test\n== rig: status 124\n", 0, 1, "b: status 124"),
            (
                "== rig: b\ntest result: FAILED. 0 passed; 2 failed; 0 ignored\n== rig: status 101\n",
                0,
                2,
                "b: status 101",
            ),
            ("== rig: b\nrunning 1 test\n", 0, 0, "b: it did not end"),
            ("", 1, 0, "the script ended with 1"),
        ] {
            let (tally, outcome, _) = read(&format!("{ONE}{text}"), status);
            assert_eq!(tally.failed, failed, "{text}");
            assert!(outcome.unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn a_script_names_each_program_and_its_user() {
        let program = |name: &str| TestProgram {
            name: name.into(),
            path: PathBuf::from("/w/it's/p"),
            dir: PathBuf::from("/w/c"),
        };
        let tests: [Run<'_>; 2] = [("a", Who::Root, &["b"]), ("a", Who::User, &[])];
        let corpus = Corpus {
            xtask: Path::new("/w/it's/xtask"),
            target: Path::new("/w/target"),
            title: "the corpus",
            words: vec!["--rig".into(), "a*".into()],
            named: Vec::new(),
        };
        let script = |programs: &[TestProgram], corpus: Option<&Corpus<'_>>| {
            super::script(&tests, programs, corpus, Path::new("/w/safe-run"), "6.1")
        };
        let said = script(&[program("a")], Some(&corpus)).unwrap();
        for part in [
            r"chmod a+x '/w/it'\''s'",
            r"cd '/w/c' && CARGO_MANIFEST_DIR='/w/c' as_root timeout -k 5 600 '/w/it'\''s/p' --show-output --skip b",
            "as_user timeout",
            "export SAFE_RUN_TEST_RIG='6.1'",
        ] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        // What harms the machine comes after all else.
        assert!(!said.contains("kvm-amd"), "{said}");
        let last = r"SAFE_RUN_RIG=1 CARGO_TARGET_DIR='/w/target' as_root timeout -k 5 600 '/w/it'\''s/xtask' escape '--rig' 'a*'";
        assert!(
            said.ends_with(&format!("{last}\necho \"== rig: status $?\"\nexit 0\n")),
            "{said}"
        );
        // Programs that somebody named are for all that runs there, which takes longer with them.
        let named = Corpus {
            named: vec![("SAFE_RUN_FIRECRACKER", PathBuf::from("/f"))],
            ..corpus
        };
        let said = script(&[program("a")], Some(&named)).unwrap();
        let before = said.split("as_root timeout -k 5 7200").next().unwrap_or_default();
        assert!(before.contains("export SAFE_RUN_FIRECRACKER='/f'\n"), "{said}");
        assert!(before.contains("modprobe kvm-amd"), "{said}");
        assert!(script(&[program("b")], None).is_err());
        let without = script(&[program("a")], None).unwrap();
        assert!(
            without.contains("as_user timeout") && !without.contains("escape"),
            "{without}"
        );
    }
}
