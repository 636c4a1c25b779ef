//! Each rule by itself, on hand-made layers; and one real overlay.

use super::tree::WHITEOUT_MARK;
use super::*;
use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, mknodat};
use sr_common::Fault;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

struct World {
    dir: tempfile::TempDir,
    hidden: Vec<LayerMask>,
    started: SystemTime,
}

impl World {
    /// A host directory with these files (each holds its own name), in which the run then starts.
    fn new(lower: &[&str]) -> World {
        let dir = tempfile::tempdir().unwrap();
        let mut world = World {
            dir,
            hidden: vec![],
            started: SystemTime::UNIX_EPOCH,
        };
        fs::create_dir(world.at("upper")).unwrap();
        fs::create_dir(world.at("lower")).unwrap();
        for file in lower {
            world.write(&format!("lower/{file}"), file);
        }
        world.start();
        world
    }

    fn start(&mut self) {
        // The kernel's clock for files is a few milliseconds behind.
        std::thread::sleep(Duration::from_millis(20));
        self.started = SystemTime::now();
        std::thread::sleep(Duration::from_millis(20));
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
        self.mode(path, 0o644);
    }

    fn mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.at(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap()
    }

    fn whiteout(&self, path: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        mknodat(CWD, self.at(path), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    fn opaque(&self, path: &str) {
        fs::create_dir_all(self.at(path)).unwrap();
        rustix::fs::setxattr(self.at(path), "user.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    }

    fn with<T>(&self, f: impl FnOnce(&Layer<'_>) -> T) -> T {
        let (upper, lower) = (self.at("upper"), self.at("lower"));
        f(&Layer {
            upper: &upper,
            lower: &lower,
            hidden: &self.hidden,
            started: self.started,
        })
    }

    fn scan(&self) -> Vec<Change> {
        self.with(|layer| scan(layer).unwrap())
    }

    fn kinds(&self) -> Vec<(Kind, String)> {
        self.scan().into_iter().map(|c| (c.kind, c.path)).collect()
    }

    fn apply(&self) -> Result<Applied, Vec<Fault>> {
        self.apply_with(&ApplyOptions::default())
    }

    fn apply_with(&self, options: &ApplyOptions) -> Result<Applied, Vec<Fault>> {
        self.with(|layer| apply(layer, options))
    }

    /// Reads and judges, lets `then` happen, and writes.
    fn interrupted(&self, options: &ApplyOptions, then: impl FnOnce()) -> (Applied, Vec<Fault>) {
        self.with(|layer| {
            let prepared = prepare(layer, read(layer).unwrap(), options).unwrap_or_else(|f| panic!("{f:?}"));
            then();
            prepared.write()
        })
    }

    fn held(&self) -> Vec<Held> {
        self.with(|layer| read(layer).unwrap().held)
    }

    fn only(&self, names: &[&str]) -> Result<Applied, Vec<Fault>> {
        self.apply_with(&ApplyOptions {
            only: texts(names),
            ..ApplyOptions::default()
        })
    }

    fn copy(&self, to: &str) -> Stats {
        copy_layer(self.open("upper"), &self.at(to)).unwrap()
    }

    fn open(&self, path: &str) -> OwnedFd {
        rustix::fs::open(self.at(path), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap()
    }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn pairs(expected: &[(Kind, &str)]) -> Vec<(Kind, String)> {
    expected
        .iter()
        .map(|(kind, path)| (*kind, (*path).to_owned()))
        .collect()
}

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

// ---- what is a change ----

#[test]
fn deletions_come_first_then_replaced_directories_then_the_rest() {
    let w = World::new(&["a", "dir/x", "dir/y", "gone", "z/keep"]);
    w.write("upper/a", "new");
    w.write("upper/b", "b");
    w.whiteout("upper/gone");
    w.opaque("upper/dir");
    w.write("upper/dir/y", "dir/y");
    w.whiteout("upper/z/never-was");
    let expected = [
        (Kind::Deleted, "dir/x"),
        (Kind::Deleted, "gone"),
        (Kind::Opaque, "dir"),
        (Kind::Modified, "a"),
        (Kind::Added, "b"),
    ];
    assert_eq!(w.kinds(), pairs(&expected));
}

#[test]
fn what_was_only_copied_up_is_no_change() {
    let w = World::new(&["same", "dir/same", "mode", "both"]);
    w.write("upper/same", "same");
    w.write("upper/dir/same", "dir/same");
    w.write("upper/mode", "mode");
    w.mode("upper/mode", 0o755);
    w.write("upper/both", "other");
    w.mode("upper/both", 0o600);
    symlink("t", w.at("lower/link")).unwrap();
    symlink("t", w.at("upper/link")).unwrap();
    let changes = w.scan();
    assert_eq!(
        w.kinds(),
        pairs(&[(Kind::Modified, "both"), (Kind::ModeChanged, "mode")])
    );
    assert_eq!(changes[0].before.as_ref().unwrap().mode, 0o644);
    assert_eq!(changes[0].after.as_ref().unwrap().mode, 0o600);
    assert_eq!(changes[0].after.as_ref().unwrap().digest, Some(Digest::of(b"other")));
}

#[test]
fn types_and_links() {
    let mut w = World::new(&["file-to-dir", "dir-to-file/a", "dir-to-file/b/c", "file-to-link"]);
    symlink("old", w.at("lower/link")).unwrap();
    w.start();
    w.write("upper/file-to-dir/x", "x");
    w.write("upper/dir-to-file", "f");
    symlink("a", w.at("upper/file-to-link")).unwrap();
    symlink("new", w.at("upper/link")).unwrap();
    let expected = [
        (Kind::TypeChanged, "dir-to-file"),
        (Kind::TypeChanged, "file-to-dir"),
        (Kind::Added, "file-to-dir/x"),
        (Kind::TypeChanged, "file-to-link"),
        (Kind::SymlinkChanged, "link"),
    ];
    assert_eq!(w.kinds(), pairs(&expected));
    assert_eq!(w.scan()[0].before.as_ref().unwrap().size, Some(3), "how much goes");
    w.apply().unwrap();
    assert_eq!(w.read("lower/dir-to-file"), "f");
    assert_eq!(w.read("lower/file-to-dir/x"), "x");
    assert_eq!(fs::read_link(w.at("lower/link")).unwrap(), PathBuf::from("new"));
    assert_eq!(w.kinds(), []);
}

#[test]
fn a_whiteout_can_be_a_marked_file() {
    let w = World::new(&["gone", "empty"]);
    w.write("upper/gone", "");
    rustix::fs::setxattr(w.at("upper/gone"), WHITEOUT_MARK, b"y", XattrFlags::empty()).unwrap();
    w.write("upper/empty", "");
    assert_eq!(w.kinds(), pairs(&[(Kind::Deleted, "gone"), (Kind::Modified, "empty")]));
}

#[test]
fn below_a_replaced_directory_nothing_shows_through() {
    let w = World::new(&["d/sub/old", "d/sub/same", "d/sub/deep/old"]);
    w.opaque("upper/d");
    w.write("upper/d/sub/same", "d/sub/same");
    let expected = [
        (Kind::Deleted, "d/sub/deep"),
        (Kind::Deleted, "d/sub/old"),
        (Kind::Opaque, "d"),
    ];
    assert_eq!(w.kinds(), pairs(&expected));
    w.apply().unwrap();
    assert!(!w.at("lower/d/sub/deep").exists() && w.at("lower/d/sub/same").exists());
}

#[test]
fn a_name_that_the_program_did_not_see_is_never_deleted_by_the_way() {
    let mut w = World::new(&[".env", "dir/.env", "dir/a", ".git/config", "old/.env", "old/b"]);
    let mask = |path: &str, replacement: Option<&str>| LayerMask {
        path: path.into(),
        replacement: replacement.map(Into::into),
    };
    w.hidden = vec![
        mask(".env", None),
        mask("dir/.env", None),
        mask("old/.env", None),
        mask(".git/config", Some("clean")),
    ];
    w.whiteout("upper/.env");
    w.opaque("upper/dir");
    w.write("upper/.git/config", "clean");
    w.whiteout("upper/old");
    let changes = w.scan();
    assert_eq!(
        w.kinds(),
        pairs(&[(Kind::Deleted, "dir/a"), (Kind::Deleted, "old"), (Kind::Opaque, "dir")])
    );
    assert!(changes[1].danger.as_ref().unwrap().contains("old/.env"));
    w.apply().unwrap();
    assert!(w.at("lower/dir/.env").exists() && w.at("lower/.env").exists() && w.at("lower/old/.env").exists());
    // A directory that the program did not see, and made itself.
    w.write("lower/keys/id", "precious");
    w.write("lower/keys/other", "precious");
    w.hidden.push(mask("keys", None));
    w.start();
    w.opaque("upper/keys");
    w.write("upper/keys/id", "mine");
    let done = w.apply().unwrap();
    assert!(done.pending.iter().any(|note| note.path == "keys/id"), "{done:?}");
    assert_eq!(
        (w.read("lower/keys/id"), w.read("lower/keys/other")),
        ("precious".into(), "precious".into())
    );
    // A file of that name that the program made itself.
    fs::remove_file(w.at("upper/.env")).unwrap();
    w.write("upper/.env", "mine");
    assert!(w.apply().unwrap().pending.iter().any(|note| note.path == ".env"));
    assert_eq!(w.read("lower/.env"), ".env");
}

#[test]
fn a_real_overlay() {
    let w = World::new(&["a", "gone", "dir/x", "dir/y", "moved/f", "exec"]);
    fs::create_dir(w.at("work")).unwrap();
    fs::create_dir(w.at("merged")).unwrap();
    let script = "set -e; cd \"$1\"
        mount -t overlay overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work merged || exit 77
        cd merged
        echo new >> a; rm gone; rm -r dir; mkdir dir; echo z > dir/z; mv moved/f moved/g; chmod +x exec; ln -s a link
        mkfifo pipe; touch dir/y";
    let status = Command::new("unshare")
        .args(["-Urm", "sh", "-c", script, "-"])
        .arg(w.dir.path())
        .status();
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        eprintln!("SKIPPED: no overlay in a user namespace here: {status:?}");
        return;
    }
    let expected = [
        (Kind::Deleted, "dir/x"),
        (Kind::Deleted, "gone"),
        (Kind::Deleted, "moved/f"),
        (Kind::Opaque, "dir"),
        (Kind::Modified, "a"),
        (Kind::Modified, "dir/y"),
        (Kind::Added, "dir/z"),
        (Kind::ModeChanged, "exec"),
        (Kind::Added, "link"),
        (Kind::Added, "moved/g"),
        (Kind::Added, "pipe"),
    ];
    assert_eq!(w.kinds(), pairs(&expected));
    let live = w.scan();
    w.copy("stored");
    fs::rename(w.at("upper"), w.at("live")).unwrap();
    fs::rename(w.at("stored"), w.at("upper")).unwrap();
    fs::rename(w.at("stored.manifest.jsonl"), w.at("upper.manifest.jsonl")).unwrap();
    assert_eq!(w.scan(), live, "the copy says the same");
    let applied = w.apply().unwrap();
    assert_eq!(
        applied.skipped.iter().map(|n| n.path.as_str()).collect::<Vec<_>>(),
        ["pipe"]
    );
    assert_eq!(w.kinds(), pairs(&[(Kind::Opaque, "dir"), (Kind::Added, "pipe")]));
    assert_eq!(
        (w.read("lower/a"), w.read("lower/moved/g")),
        ("anew\n".into(), "moved/f".into())
    );
}

// ---- what a layer holds by itself ----

fn record(entries: Vec<Held>) -> LayerRecord {
    LayerRecord {
        layer: 0,
        source: "/p".into(),
        target: "/p".into(),
        since: 1,
        changes: Vec::new(),
        entries,
    }
}

#[test]
fn what_a_layer_holds_does_not_depend_on_the_host() {
    let w = World::new(&["same", "gone", "d/x"]);
    w.write("upper/same", "same");
    w.write("upper/new", "n");
    w.whiteout("upper/gone");
    w.opaque("upper/d");
    symlink("same", w.at("upper/link")).unwrap();
    let held = w.held();
    let shown: Vec<(&str, bool, bool)> = held
        .iter()
        .map(|h| (h.path.as_str(), h.node.is_some(), h.opaque))
        .collect();
    let expected = [
        ("d", true, true),
        ("gone", false, false),
        ("link", true, false),
        ("new", true, false),
        ("same", true, false),
    ];
    assert_eq!(shown, expected);
    // Whatever becomes of the host, by its own doing or by ours.
    w.apply().unwrap();
    w.write("lower/same", "other");
    w.write("lower/d/y", "y");
    assert_eq!(w.held(), held);
    assert_eq!(record(held.clone()).first_difference(&w.held()), None);
    // As it is written and read again.
    let text = serde_json::to_string(&record(held.clone())).unwrap();
    assert_eq!(serde_json::from_str::<LayerRecord>(&text).unwrap(), record(held));
}

#[test]
fn the_first_difference_is_named() {
    let w = World::new(&[]);
    for path in ["a/b", "a+b", "c", "d"] {
        w.write(&format!("upper/{path}"), path);
    }
    let whole = record(w.held());
    let first = |w: &World| whole.first_difference(&w.held()).map(|(path, _)| path);
    assert_eq!(first(&w), None);
    w.write("upper/d", "D");
    w.mode("upper/c", 0o600);
    assert_eq!(first(&w).as_deref(), Some("c"));
    w.write("upper/a+b", "other");
    assert_eq!(first(&w).as_deref(), Some("a+b"));
    w.write("upper/a+a", "");
    assert_eq!(first(&w).as_deref(), Some("a+a"), "added");
    fs::remove_dir_all(w.at("upper/a")).unwrap();
    assert_eq!(first(&w).as_deref(), Some("a"), "gone");
}

#[test]
fn a_file_of_holes_is_compared_too() {
    use std::os::unix::fs::FileExt;
    let w = World::new(&[]);
    let make = |name: &str, at: u64, text: &[u8]| {
        let file = fs::File::create(w.at(name)).unwrap();
        file.set_len(3 << 30).unwrap();
        file.write_all_at(text, at).unwrap();
    };
    make("upper/f", 2 << 30, b"text");
    let whole = w.held();
    let node = whole[0].node.as_ref().unwrap();
    assert!(node.digest.is_none() && node.extents.is_some());
    for (at, text) in [(2 << 30, b"Text".as_slice()), ((2 << 30) + 4096, b"text"), (0, b"x")] {
        make("upper/f", at, text);
        assert!(record(whole.clone()).first_difference(&w.held()).is_some(), "{at}");
    }
    // Zeros that are written are as good as a hole.
    make("upper/f", 2 << 30, b"text");
    let file = fs::File::options().write(true).open(w.at("upper/f")).unwrap();
    file.write_all_at(&[0; 8192], 1 << 20).unwrap();
    assert_eq!(w.held(), whole);
    let (done, faults) = w.interrupted(&ApplyOptions::default(), || file.write_all_at(b"T", 2 << 30).unwrap());
    assert_eq!((done.applied.len(), faults.len()), (0, 1), "{faults:?}");
    assert!(faults[0].found.contains("not what was compared") && !w.at("lower/f").exists());
    make("upper/f", 2 << 30, b"text");
    assert_eq!(w.apply().unwrap().applied, ["f"]);
    assert_eq!(w.kinds(), [], "and is the same on the host");
}

// ---- copying ----

#[test]
fn a_copy_keeps_what_matters_and_nothing_that_acts() {
    let w = World::new(&["gone"]);
    w.write("upper/plain", "text");
    fs::hard_link(w.at("upper/plain"), w.at("upper/second")).unwrap();
    w.write("upper/setuid", "s");
    w.mode("upper/setuid", 0o4755);
    w.write("upper/locked/inner", "i");
    w.mode("upper/locked/inner", 0);
    w.mode("upper/locked", 0);
    w.whiteout("upper/gone");
    w.opaque("upper/opaque");
    symlink("/etc/passwd", w.at("upper/link")).unwrap();
    mknodat(CWD, w.at("upper/fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::File::create(w.at("upper/sparse"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let name = std::ffi::OsStr::new("odd\n\u{1b}[2Jname");
    fs::write(w.at("upper").join(name), "").unwrap();

    let stats = w.copy("stored");
    assert_eq!(
        (
            stats.files,
            stats.directories,
            stats.symlinks,
            stats.whiteouts,
            stats.special
        ),
        (6, 2, 1, 1, 1)
    );
    assert_eq!(stats.bytes, 6, "data only, each once");
    let meta = |path: &str| fs::symlink_metadata(w.at(path)).unwrap();
    assert_eq!(meta("stored/plain").ino(), meta("stored/second").ino());
    assert_eq!(meta("stored/setuid").mode() & 0o7777, 0o755);
    assert_eq!(meta("stored/locked").mode() & 0o7777, 0o700);
    assert_eq!(meta("stored/gone").rdev(), 0);
    assert!(meta("stored/sparse").blocks() < 64 && meta("stored/sparse").len() == 1 << 40);
    assert!(!w.at("stored/fifo").exists());
    assert_eq!(
        fs::read_link(w.at("stored/link")).unwrap(),
        PathBuf::from("/etc/passwd")
    );

    let changes = w.with(|layer| {
        scan(&Layer {
            upper: &w.at("stored"),
            ..*layer
        })
        .unwrap()
    });
    let find = |path: &str| changes.iter().find(|c| c.path == path).unwrap();
    assert_eq!(find("setuid").after.as_ref().unwrap().mode, 0o4755);
    assert!(find("setuid").skipped.as_ref().unwrap().contains("setuid"));
    assert_eq!(find("locked/inner").after.as_ref().unwrap().mode, 0);
    assert_eq!(find("locked").after.as_ref().unwrap().mode, 0);
    assert_eq!(find("fifo").after.as_ref().unwrap().what, What::Fifo);
    assert_eq!(find("gone").kind, Kind::Deleted);
    assert_eq!(find("sparse").after.as_ref().unwrap().digest, None);
    assert!(changes.iter().any(|c| c.path == "odd\\x0a\\x1b[2Jname"));
    w.mode("upper/locked", 0o700);
}

#[test]
fn depth_is_the_program_s_choice() {
    // Longer as a path than the kernel takes, and deeper than there are descriptors.
    const DEPTH: usize = 1500;
    let w = World::new(&[]);
    let mut dir = w.open("upper");
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&dir, "dd", Mode::from_raw_mode(0o755)).unwrap();
        dir = rustix::fs::openat(&dir, "dd", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    for name in ["first", "second"] {
        let file = rustix::fs::openat(&dir, name, OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap();
        rustix::io::write(&file, name.as_bytes()).unwrap();
    }
    rustix::fs::linkat(&dir, "first", &dir, "third", rustix::fs::AtFlags::empty()).unwrap();
    let stats = w.copy("stored");
    assert_eq!((stats.directories, stats.files), (DEPTH as u64, 3));
    let stored = w.at("stored");
    let changes = w.with(|layer| {
        scan(&Layer {
            upper: &stored,
            ..*layer
        })
        .unwrap()
    });
    assert_eq!(changes.len(), DEPTH + 3);
    let done = w.with(|layer| {
        apply(
            &Layer {
                upper: &stored,
                ..*layer
            },
            &ApplyOptions::default(),
        )
        .unwrap()
    });
    assert_eq!(done.applied.len(), DEPTH + 3);
    let again = w.with(|layer| {
        apply(
            &Layer {
                upper: &stored,
                ..*layer
            },
            &ApplyOptions::default(),
        )
        .unwrap()
    });
    assert_eq!(again.applied, [""; 0]);
    // And it can be deleted again.
    fs::rename(w.at("upper"), w.at("old")).unwrap();
    let mut w = w;
    w.start();
    w.whiteout("upper/dd");
    w.apply().unwrap();
    assert!(!w.at("lower/dd").exists());
}

#[test]
fn a_full_store_is_named() {
    if !root() {
        eprintln!("SKIPPED: needs root for a small tmpfs");
        return;
    }
    let w = World::new(&[]);
    fs::write(w.at("upper/large"), vec![1u8; 4 << 20]).unwrap();
    fs::create_dir(w.at("store")).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(w.at("store"))
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: no tmpfs can be mounted here");
        return;
    }
    let result = copy_layer(w.open("upper"), &w.at("store/layer"));
    assert!(Command::new("umount").arg(w.at("store")).status().unwrap().success());
    let fault = result.unwrap_err();
    assert_eq!(fault.code.as_str(), "SR-RUN-001");
    assert!(
        fault.found.contains("full") && fault.found.contains("store/layer/large"),
        "{fault}"
    );
}

// ---- showing ----

#[test]
fn a_diff_shows_everything_and_steers_no_terminal() {
    let w = World::new(&["gone", "text", "binary", "dir/a"]);
    w.write("lower/text", "one\ntwo\nthree\n");
    w.write("upper/text", "one\nt\u{1b}[31mwo\u{202e}\nthree");
    w.write("upper/binary", "a\0b");
    w.write("upper/large", &"x\n".repeat(600 << 10));
    w.write("upper/evil\u{1b}]0;x\u{7}", "x");
    w.whiteout("upper/gone");
    w.whiteout("upper/dir");
    symlink("/etc", w.at("upper/link")).unwrap();
    let text = w.with(|layer| diff_text(&scan(layer).unwrap(), layer).unwrap());
    assert!(
        !text.contains('\u{1b}') && !text.contains('\u{7}') && !text.contains('\u{202e}'),
        "{text}"
    );
    for part in [
        "deleted file gone\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n\\ no newline at the end\n",
        "deleted directory dir/ (1 entries)\n",
        " one\n-two\n-three\n+t\\x1b[31mwo\\xe2\\x80\\xae\n+three\n\\ no newline at the end\n",
        "modified binary\nbinary: 6 -> 3 bytes\n",
        "added file large (mode 0644)\ntoo large to compare by line: 0 -> 1228800 bytes\n",
        "added file evil\\x1b]0;x\\x07 (mode 0644)\n",
        "added link link (mode 0777)\n+-> /etc\ndanger: the link is absolute",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn a_long_diff_is_cut_and_says_so() {
    let w = World::new(&[]);
    w.write("upper/f", &"0123456789\n".repeat(50_000));
    let text = w.with(|layer| diff_text(&scan(layer).unwrap(), layer).unwrap());
    assert!(text.len() < 300 << 10 && text.ends_with("is longer than 256 KiB\n"));
}

#[test]
fn a_diff_shows_nothing_of_what_the_program_did_not_see() {
    let mut w = World::new(&[
        "conf/.env",
        ".netrc",
        ".git/config",
        "gone/.git/config",
        "keys/id",
        "new",
    ]);
    symlink("of no worth", w.at("lower/link")).unwrap();
    let mask = |path: &str, replacement: Option<&str>| LayerMask {
        path: path.into(),
        replacement: replacement.map(Into::into),
    };
    w.hidden = vec![
        mask("conf/.env", None),
        mask(".netrc", None),
        mask(".git/config", Some("clean")),
        mask("gone/.git/config", Some("clean")),
        mask("keys", None),
        mask("link", None),
        mask("went/.env", None),
    ];
    for secret in ["conf/.env", ".netrc", ".git/config", "gone/.git/config", "keys/id"] {
        w.write(&format!("lower/{secret}"), "of no worth\n");
    }
    w.write("upper/conf/.env", "mine\n");
    symlink("elsewhere", w.at("upper/.netrc")).unwrap();
    w.write("upper/.git/config", "mine\n");
    w.whiteout("upper/gone/.git/config");
    w.opaque("upper/keys");
    w.write("upper/keys/id", "mine\n");
    w.write("upper/link", "mine\n");
    w.write("upper/went/.env", "mine\n");
    let text = w.with(|layer| diff_text(&scan(layer).unwrap(), layer).unwrap());
    assert!(!text.contains("of no worth"), "{text}");
    let said = text
        .lines()
        .filter(|line| line.starts_with("not shown: the program did not see"));
    assert_eq!(said.count(), 6, "{text}");
    // What the host has no file for any more is the run's alone.
    assert!(text.contains("+++ b/went/.env\n@@ -0,0 +1 @@\n+mine\n"), "{text}");
}

// ---- applying ----

#[test]
fn ordinary_changes_are_applied_once() {
    let w = World::new(&["edit", "gone", "dir/old", "mode", "far/a/b"]);
    w.write("upper/edit", "edited");
    w.whiteout("upper/gone");
    w.whiteout("upper/far");
    w.write("upper/new/deep/file", "n");
    w.mode("upper/new/deep", 0o500);
    w.write("upper/mode", "mode");
    w.mode("upper/mode", 0o755);
    symlink("edit", w.at("upper/link")).unwrap();
    let done = w
        .apply_with(&ApplyOptions {
            sync: true,
            ..ApplyOptions::default()
        })
        .unwrap();
    assert_eq!(
        done.applied,
        [
            "edit",
            "far",
            "gone",
            "link",
            "mode",
            "new",
            "new/deep",
            "new/deep/file"
        ]
    );
    assert!(done.pending.is_empty() && done.skipped.is_empty());
    assert_eq!(
        (w.read("lower/edit"), w.read("lower/new/deep/file")),
        ("edited".into(), "n".into())
    );
    assert!(!w.at("lower/gone").exists() && !w.at("lower/far").exists());
    assert_eq!(fs::metadata(w.at("lower/new/deep")).unwrap().mode() & 0o777, 0o500);
    assert_eq!(fs::metadata(w.at("lower/mode")).unwrap().mode() & 0o777, 0o755);
    assert_eq!(w.apply().unwrap(), Applied::default(), "nothing is left to do");
    let names: Vec<_> = fs::read_dir(w.at("lower"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(
        names.iter().all(|n| !n.to_string_lossy().starts_with(".safe-run")),
        "no temporary is left"
    );
    w.mode("lower/new/deep", 0o700);
}

#[test]
fn one_conflict_and_nothing_is_written() {
    let w = World::new(&["a", "b", "gone", "dir/x", "fine"]);
    for path in ["a", "fine"] {
        w.write(&format!("upper/{path}"), "run");
    }
    w.whiteout("upper/gone");
    w.whiteout("upper/dir");
    w.write("upper/fresh", "run");
    for path in ["a", "gone", "dir/x", "fresh"] {
        w.write(&format!("lower/{path}"), "host");
    }
    let faults = w.apply().unwrap_err();
    assert_eq!(
        faults.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
        ["dir", "gone", "a", "fresh"]
    );
    assert!(
        faults
            .iter()
            .all(|f| f.code.as_str() == "SR-RUN-001" && f.found.starts_with("conflict"))
    );
    assert_eq!(
        (w.read("lower/fine"), w.read("lower/a")),
        ("fine".into(), "host".into())
    );
    // Forcing some is not forcing the others.
    let force = |names: &[&str]| {
        w.apply_with(&ApplyOptions {
            force: texts(names),
            ..ApplyOptions::default()
        })
    };
    assert_eq!(force(&["a", "gone"]).unwrap_err().len(), 2);
    assert_eq!(w.read("lower/a"), "host");
    assert_eq!(force(&["a", "gone", "dir", "fresh"]).unwrap().applied.len(), 5);
    assert_eq!((w.read("lower/a"), w.read("lower/fresh")), ("run".into(), "run".into()));
    assert!(!w.at("lower/dir").exists());
}

#[test]
fn what_we_applied_ourselves_is_no_conflict_later() {
    let w = World::new(&["dir/a", "file"]);
    w.write("upper/dir/a", "run");
    w.write("upper/dir/b", "run");
    w.mode("upper/dir", 0o711);
    w.write("upper/file", "one");
    assert_eq!(w.only(&["dir/b", "file"]).unwrap().applied, ["dir/b", "file"]);
    // The layer goes on (a session), and the directory's own change is applied after its contents'.
    w.write("upper/file", "two");
    assert_eq!(w.apply().unwrap().applied, ["dir", "dir/a", "file"]);
    assert_eq!(w.read("lower/file"), "two");
    w.write("lower/file", "host");
    w.write("upper/file", "three");
    assert_eq!(w.apply().unwrap_err().len(), 1, "but the host's own change is");
}

#[test]
fn what_runs_by_itself_waits_to_be_named() {
    let w = World::new(&["Makefile", ".git/config", "src/a"]);
    w.write("upper/Makefile", "evil:");
    w.write("upper/.git/hooks/post-checkout", "evil");
    w.write("upper/.git/objects/aa/bb", "blob");
    w.write("upper/.github/workflows/ci.yml", "evil");
    w.write("upper/src/a", "fine");
    symlink("/etc/shadow", w.at("upper/out")).unwrap();
    let done = w.apply().unwrap();
    assert_eq!(
        done.applied,
        [".git/objects", ".git/objects/aa", ".git/objects/aa/bb", "src/a"]
    );
    let waiting = |done: &Applied| done.pending.iter().map(|n| n.path.clone()).collect::<Vec<_>>();
    let all = [
        ".git/hooks",
        ".git/hooks/post-checkout",
        ".github",
        ".github/workflows",
        ".github/workflows/ci.yml",
        "Makefile",
        "out",
    ];
    assert_eq!(waiting(&done), all);
    // Naming the tree, or a harmless directory, approves nothing in it.
    assert_eq!(waiting(&w.only(&["."]).unwrap()), all);
    assert_eq!(w.read("lower/Makefile"), "Makefile");
    let done = w.only(&[".github", "Makefile", "./out/"]).unwrap();
    assert_eq!(
        done.applied,
        [
            ".github",
            ".github/workflows",
            ".github/workflows/ci.yml",
            "Makefile",
            "out"
        ]
    );
    assert_eq!(w.read("lower/Makefile"), "evil:");
    assert_eq!(fs::read_link(w.at("lower/out")).unwrap(), PathBuf::from("/etc/shadow"));
    assert!(!w.at("lower/.git/hooks").exists());
    let approve = ApplyOptions {
        approve: texts(&[".git/hooks", "mistyped"]),
        ..ApplyOptions::default()
    };
    let done = w.apply_with(&approve).unwrap();
    assert_eq!(done.applied, [".git/hooks", ".git/hooks/post-checkout"]);
    assert_eq!(done.unmatched, ["mistyped"]);
}

#[test]
fn a_directory_with_a_repository_in_it_is_not_deleted_unnamed() {
    let w = World::new(&["vendor/lib/.git/HEAD", "vendor/x"]);
    w.whiteout("upper/vendor");
    assert!(w.apply().unwrap().pending[0].reason.contains("git repository"));
    assert!(w.at("lower/vendor/x").exists());
    assert_eq!(w.only(&["vendor"]).unwrap().applied, ["vendor"]);
    assert!(!w.at("lower/vendor").exists());
}

#[test]
fn a_chosen_file_brings_the_directories_that_it_needs_and_nothing_else() {
    let w = World::new(&[]);
    w.write("upper/a/b/c", "c");
    w.write("upper/a/other", "o");
    assert_eq!(w.only(&["a/b/c"]).unwrap().applied, ["a", "a/b", "a/b/c"]);
    assert!(!w.at("lower/a/other").exists());
    assert_eq!(w.only(&["a/b/c"]).unwrap().unmatched, ["a/b/c"]);
}

#[test]
fn special_bits_and_special_files_are_never_applied() {
    let w = World::new(&["tool"]);
    w.write("upper/setuid", "s");
    w.mode("upper/setuid", 0o6755);
    w.write("upper/tool", "tool");
    w.mode("upper/tool", 0o4644);
    mknodat(CWD, w.at("upper/fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(w.at("upper/socket")).unwrap();
    if root() {
        mknodat(
            CWD,
            w.at("upper/null"),
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            0x103,
        )
        .unwrap();
    }
    let done = w.apply().unwrap();
    assert_eq!(done.applied, ["setuid"]);
    let skipped: Vec<&str> = done
        .skipped
        .iter()
        .map(|n| n.path.as_str())
        .filter(|p| *p != "null")
        .collect();
    assert_eq!(skipped, ["fifo", "setuid", "socket", "tool"]);
    assert_eq!(fs::metadata(w.at("lower/setuid")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(w.at("lower/tool")).unwrap().mode() & 0o7777, 0o644);
    for name in ["fifo", "socket", "null"] {
        assert!(!w.at("lower").join(name).exists(), "{name}");
    }
}

#[test]
fn extended_attributes_are_never_applied() {
    let w = World::new(&[]);
    w.write("upper/f", "f");
    w.opaque("upper/d");
    for name in ["user.overlay.metacopy", "user.other"] {
        rustix::fs::setxattr(w.at("upper/f"), name, b"y", XattrFlags::empty()).unwrap();
    }
    w.apply().unwrap();
    for path in ["lower/f", "lower/d"] {
        assert_eq!(
            rustix::fs::listxattr(w.at(path), &mut [0u8; 64][..]).unwrap(),
            0,
            "{path}"
        );
    }
}

#[test]
fn file_capabilities_are_noted_and_never_applied() {
    if !root() {
        eprintln!("SKIPPED: needs root to set file capabilities");
        return;
    }
    let w = World::new(&[]);
    w.write("upper/f", "f");
    // Version 2, CAP_NET_RAW permitted and effective.
    let mut caps = [0u8; 20];
    caps[..8].copy_from_slice(&[1, 0, 0, 2, 0, 0x20, 0, 0]);
    rustix::fs::setxattr(w.at("upper/f"), "security.capability", &caps, XattrFlags::empty()).unwrap();
    w.copy("stored");
    let stored = w.at("stored");
    let done = w.with(|layer| {
        apply(
            &Layer {
                upper: &stored,
                ..*layer
            },
            &ApplyOptions::default(),
        )
        .unwrap()
    });
    assert_eq!(
        (done.applied.len(), done.skipped[0].reason.as_str()),
        (1, "file capabilities are never applied")
    );
    assert!(rustix::fs::getxattr(w.at("lower/f"), "security.capability", &mut [0u8; 32][..]).is_err());
}

#[test]
fn owners_follow_the_directory() {
    if !root() {
        eprintln!("SKIPPED: needs root to change owners");
        return;
    }
    let w = World::new(&["d/a"]);
    std::os::unix::fs::chown(w.at("lower/d"), Some(1234), Some(2345)).unwrap();
    std::os::unix::fs::chown(w.at("lower/d/a"), Some(7), Some(7)).unwrap();
    let mut w = w;
    w.start();
    w.write("upper/d/a", "x");
    w.write("upper/d/new/b", "x");
    symlink("a", w.at("upper/d/link")).unwrap();
    w.apply().unwrap();
    for path in ["a", "new", "new/b", "link"] {
        let meta = fs::symlink_metadata(w.at("lower/d").join(path)).unwrap();
        assert_eq!((meta.uid(), meta.gid()), (1234, 2345), "{path}");
    }
}

#[test]
fn a_link_on_the_host_is_never_followed() {
    let w = World::new(&["d/a"]);
    w.write("upper/d/a", "run");
    w.write("upper/d/b", "run");
    w.write("outside/a", "precious");
    fs::remove_dir_all(w.at("lower/d")).unwrap();
    symlink(w.at("outside"), w.at("lower/d")).unwrap();
    let faults = w.apply().unwrap_err();
    assert_eq!(faults[0].path, "d", "the link itself is a conflict");
    let force = ApplyOptions {
        force: texts(&["d"]),
        ..ApplyOptions::default()
    };
    w.apply_with(&force).unwrap();
    assert_eq!(w.read("outside/a"), "precious");
    assert!(!w.at("outside/b").exists());
    assert_eq!(w.read("lower/d/a"), "run");
}

#[test]
fn nothing_is_written_or_deleted_across_a_mount() {
    if !root() {
        eprintln!("SKIPPED: needs root to mount");
        return;
    }
    let w = World::new(&["m/x", "n/m/x"]);
    w.write("upper/m/x", "run");
    w.whiteout("upper/n");
    w.write("source/x", "mounted");
    for path in ["lower/m", "lower/n/m"] {
        assert!(
            Command::new("mount")
                .arg("--bind")
                .arg(w.at("source"))
                .arg(w.at(path))
                .status()
                .unwrap()
                .success()
        );
    }
    let changes = w.with(scan);
    let force = |only: &str| {
        w.apply_with(&ApplyOptions {
            force: texts(&["."]),
            only: texts(&[only]),
            ..ApplyOptions::default()
        })
    };
    let results = [force("m"), force("n")];
    let text = w.read("source/x");
    for path in ["lower/m", "lower/n/m"] {
        assert!(Command::new("umount").arg(w.at(path)).status().unwrap().success());
    }
    assert_eq!(text, "mounted");
    assert!(changes.unwrap()[0].danger.as_ref().unwrap().contains("mounted in it"));
    for result in results {
        assert!(result.unwrap_err()[0].found.contains("another file system"));
    }
}

#[test]
fn unreadable_host_files_are_left_as_they_are() {
    let w = World::new(&["secret"]);
    w.mode("lower/secret", 0);
    w.write("upper/secret", "run");
    let before = fs::metadata(w.at("lower/secret")).unwrap();
    assert_eq!(w.kinds(), pairs(&[(Kind::Modified, "secret")]));
    let after = fs::metadata(w.at("lower/secret")).unwrap();
    assert_eq!(
        (before.ctime(), before.ctime_nsec(), before.mode()),
        (after.ctime(), after.ctime_nsec(), after.mode())
    );
}

// ---- what happens between comparing and writing ----

#[test]
fn what_is_written_is_what_was_compared() {
    let w = World::new(&["a", "b"]);
    for path in ["a", "b", "c/d"] {
        w.write(&format!("upper/{path}"), "run");
    }
    let (done, faults) = w.interrupted(&ApplyOptions::default(), || w.write("upper/b", "RUN"));
    assert_eq!(done.applied, ["c", "a"], "what was written until then is told");
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].path == "b" && faults[0].found.contains("not what was compared"),
        "{faults:?}"
    );
    assert_eq!((w.read("lower/a"), w.read("lower/b")), ("run".into(), "b".into()));
    let names = fs::read_dir(w.at("lower")).unwrap().map(|e| e.unwrap().file_name());
    assert!(names.into_iter().all(|n| !n.to_string_lossy().starts_with(".safe-run")));
}

#[test]
fn a_parent_that_becomes_a_link_is_not_followed() {
    let w = World::new(&["d/a", "d/gone"]);
    w.write("outside/a", "precious");
    w.write("outside/gone", "precious");
    for (change, path) in [
        ("edit", "d/a"),
        ("new", "d/new"),
        ("delete", "d/gone"),
        ("directory", "d/dir/x"),
    ] {
        fs::remove_dir_all(w.at("upper")).unwrap();
        fs::create_dir(w.at("upper")).unwrap();
        match change {
            "delete" => w.whiteout(&format!("upper/{path}")),
            _ => w.write(&format!("upper/{path}"), "run"),
        }
        let force = ApplyOptions {
            force: texts(&["."]),
            ..ApplyOptions::default()
        };
        let (done, faults) = w.interrupted(&force, || {
            fs::rename(w.at("lower/d"), w.at("lower/kept")).unwrap();
            symlink(w.at("outside"), w.at("lower/d")).unwrap();
        });
        assert_eq!(
            (done.applied.as_slice(), faults.len()),
            ([].as_slice(), 1),
            "{change}: {faults:?}"
        );
        assert!(faults[0].found.contains("symbolic link"), "{change}: {faults:?}");
        assert_eq!(
            (w.read("outside/a"), w.read("outside/gone")),
            ("precious".into(), "precious".into())
        );
        assert_eq!(fs::read_dir(w.at("outside")).unwrap().count(), 2, "{change}");
        fs::remove_file(w.at("lower/d")).unwrap();
        fs::rename(w.at("lower/kept"), w.at("lower/d")).unwrap();
    }
}

#[test]
fn what_takes_another_form_meanwhile_is_not_replaced() {
    type Swap = fn(&World);
    let swaps: [(&str, Swap); 6] = [
        ("edited", |w| w.write("lower/f", "host's new")),
        ("a directory", |w| {
            fs::remove_file(w.at("lower/f")).unwrap();
            w.write("lower/f/precious", "p");
        }),
        ("a link", |w| {
            fs::remove_file(w.at("lower/f")).unwrap();
            w.write("outside", "precious");
            symlink(w.at("outside"), w.at("lower/f")).unwrap();
        }),
        ("a FIFO", |w| {
            fs::remove_file(w.at("lower/f")).unwrap();
            mknodat(CWD, w.at("lower/f"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        }),
        ("another file", |w| {
            fs::rename(w.at("lower/f"), w.at("lower/old")).unwrap();
            w.write("lower/f", "f");
        }),
        ("gone", |w| fs::remove_file(w.at("lower/f")).unwrap()),
    ];
    for (what, swap) in swaps {
        for upper in ["file", "link", "directory", "deleted", "mode"] {
            let w = World::new(&["f"]);
            match upper {
                "file" => w.write("upper/f", "run"),
                "link" => symlink("elsewhere", w.at("upper/f")).unwrap(),
                "directory" => w.write("upper/f/x", "x"),
                "deleted" => w.whiteout("upper/f"),
                _ => {
                    w.write("upper/f", "f");
                    w.mode("upper/f", 0o755);
                }
            }
            let (done, faults) = w.interrupted(&ApplyOptions::default(), || swap(&w));
            assert_eq!(
                (done.applied.len(), faults.len()),
                (0, 1),
                "{upper} over {what}: {faults:?}"
            );
            assert!(
                faults[0].found.contains("changed on the host while"),
                "{upper} over {what}: {faults:?}"
            );
            if w.at("lower/f/precious").exists() {
                assert_eq!(w.read("lower/f/precious"), "p");
            }
            if w.at("outside").exists() {
                assert_eq!(w.read("outside"), "precious");
            }
        }
    }
    // A name that was free and is taken.
    let w = World::new(&[]);
    w.write("upper/f", "run");
    let (_, faults) = w.interrupted(&ApplyOptions::default(), || w.write("lower/f", "host"));
    assert!(faults[0].found.contains("changed on the host while"), "{faults:?}");
    assert_eq!(w.read("lower/f"), "host");
}

#[test]
fn a_kill_does_not_make_our_own_writing_a_conflict() {
    let w = World::new(&["a", "b"]);
    w.write("upper/a", "run");
    w.write("upper/b", "run");
    // Stopped half-way, as by a kill: what is noted at the end is not.
    w.with(|layer| {
        let options = ApplyOptions {
            only: texts(&["a"]),
            ..ApplyOptions::default()
        };
        let prepared = prepare(layer, read(layer).unwrap(), &options).unwrap_or_else(|f| panic!("{f:?}"));
        prepared.write_without_end();
    });
    assert_eq!(w.read("lower/a"), "run");
    w.write("upper/a", "more");
    assert_eq!(w.apply().unwrap().applied, ["a", "b"]);
}

// ---- each rule by itself ----

#[test]
fn each_name_that_runs_by_itself_waits_whatever_happens_to_it() {
    for path in [
        ".git/hooks/post-checkout",
        ".git/config",
        ".envrc",
        ".vscode/tasks.json",
        ".github/workflows/ci.yml",
        ".husky/pre-commit",
        ".cargo/config.toml",
        "conftest.py",
        "Makefile",
        "package.json",
        "build.rs",
        "sub/conftest.py",
        "sub/.envrc",
        "sub/.cargo/config.toml",
    ] {
        for change in ["added", "modified", "mode", "deleted", "link", "directory"] {
            let w = match change {
                "added" => World::new(&[]),
                _ => World::new(&[path]),
            };
            let upper = format!("upper/{path}");
            fs::create_dir_all(w.at(&upper).parent().unwrap()).unwrap();
            match change {
                "deleted" => w.whiteout(&upper),
                "link" => symlink("x", w.at(&upper)).unwrap(),
                "directory" => fs::create_dir(w.at(&upper)).unwrap(),
                "mode" => {
                    w.write(&upper, path);
                    w.mode(&upper, 0o755);
                }
                _ => w.write(&upper, "run"),
            }
            let before = fs::symlink_metadata(w.at(&format!("lower/{path}")))
                .map(|m| (m.ino(), m.mode()))
                .ok();
            let done = w.apply().unwrap();
            let waits = done.pending.iter().any(|note| note.path == path);
            assert!(
                waits && !done.applied.iter().any(|p| p == path),
                "{path} {change}: {done:?}"
            );
            let after = fs::symlink_metadata(w.at(&format!("lower/{path}")))
                .map(|m| (m.ino(), m.mode()))
                .ok();
            assert_eq!(before, after, "{path} {change}");
            // The directories on its way may be new, and themselves wait: they are named with it.
            let mut names: Vec<&str> = done.pending.iter().map(|note| note.path.as_str()).collect();
            names.push(path);
            let done = w.only(&names).unwrap();
            assert!(
                done.applied.iter().any(|p| p == path),
                "{path} {change} named: {done:?}"
            );
        }
    }
}

#[test]
fn a_repository_by_any_name_waits() {
    let w = World::new(&[
        "bare/HEAD",
        "bare/config",
        "bare/hooks/x",
        "src/hooks/use.js",
        "src/config",
        "head/config",
    ]);
    for made in [
        "docs/HEAD",
        "docs/config",
        "docs/objects/aa/bb",
        "lib.git/head",
        "lib.git/Config.worktree",
        "lib.git/hooks/deep/post-checkout",
        "lib.git/worktrees/w/HEAD",
        "lib.git/worktrees/w/commondir",
        "bare/config",
        "bare/hooks/x",
        "bare/info/attributes",
        "bare/refs/heads/main",
        // No repository.
        "src/hooks/use.js",
        "src/config",
        "head/config",
        "config",
    ] {
        w.write(&format!("upper/{made}"), "run");
    }
    let done = w.apply().unwrap();
    let mut waits: Vec<&str> = done.pending.iter().map(|note| note.path.as_str()).collect();
    waits.sort_unstable();
    let expected = [
        "bare/config",
        "bare/hooks/x",
        "bare/info",
        "bare/info/attributes",
        "docs/HEAD",
        "docs/config",
        "lib.git/Config.worktree",
        "lib.git/head",
        "lib.git/hooks",
        "lib.git/hooks/deep",
        "lib.git/hooks/deep/post-checkout",
        "lib.git/worktrees/w/HEAD",
        "lib.git/worktrees/w/commondir",
    ];
    assert_eq!(waits, expected);
    for applied in [
        "docs/objects/aa/bb",
        "bare/refs/heads/main",
        "src/hooks/use.js",
        "src/config",
        "head/config",
        "config",
    ] {
        assert_eq!(w.read(&format!("lower/{applied}")), "run");
    }
    // Once HEAD is applied, a run that changes the config alone is told from any other by the host's.
    w.only(&["docs/HEAD"]).unwrap();
    fs::remove_file(w.at("upper/docs/HEAD")).unwrap();
    let done = w.apply().unwrap();
    assert!(done.pending.iter().any(|note| note.path == "docs/config"), "{done:?}");
}

#[test]
fn each_special_thing_is_never_applied() {
    for (what, kind, mode, device) in [
        ("fifo", FileType::Fifo, 0o644, 0),
        ("socket", FileType::Socket, 0o644, 0),
        ("character device", FileType::CharacterDevice, 0o666, 0x103),
        ("block device", FileType::BlockDevice, 0o666, 0x700),
    ] {
        let w = World::new(&["over"]);
        if !root() && device != 0 {
            // Only root can make a device; what a copied layer notes of one stands for it below.
            continue;
        }
        for name in ["new", "over"] {
            mknodat(CWD, w.at("upper").join(name), kind, Mode::from_raw_mode(mode), device).unwrap();
        }
        let named = w.only(&["new", "over"]).unwrap();
        assert_eq!(named.applied, [""; 0], "{what}");
        assert_eq!(named.skipped.len(), 2, "{what}");
        assert!(!w.at("lower/new").exists() && w.read("lower/over") == "over", "{what}");
        w.copy("stored");
        let stored = w.at("stored");
        let done = w.with(|layer| {
            apply(
                &Layer {
                    upper: &stored,
                    ..*layer
                },
                &ApplyOptions::default(),
            )
            .unwrap()
        });
        assert_eq!((done.applied.len(), done.skipped.len()), (0, 2), "{what}, copied");
        assert!(
            !w.at("lower/new").exists() && w.read("lower/over") == "over",
            "{what}, copied"
        );
    }
}

#[test]
fn each_special_bit_is_dropped() {
    for (bits, what) in [(0o4000, "setuid"), (0o2000, "setgid"), (0o6000, "both")] {
        let w = World::new(&["old", "dir/f"]);
        for name in ["new", "old"] {
            w.write(&format!("upper/{name}"), "run");
            w.mode(&format!("upper/{name}"), 0o755 | bits);
        }
        fs::create_dir(w.at("upper/made")).unwrap();
        w.mode("upper/made", 0o755 | bits);
        let done = w.only(&["new", "old", "made"]).unwrap();
        assert_eq!(done.applied, ["made", "new", "old"], "{what}");
        assert_eq!(done.skipped.len(), 2, "{what}: {done:?}");
        for name in ["new", "old", "made"] {
            let mode = fs::metadata(w.at("lower").join(name)).unwrap().mode();
            assert_eq!(mode & 0o7777, 0o755, "{what} {name}");
        }
    }
}

#[test]
fn capabilities_of_a_layer_that_is_not_a_copy_are_noted() {
    if !root() {
        eprintln!("SKIPPED: needs root to set file capabilities");
        return;
    }
    let w = World::new(&[]);
    w.write("upper/f", "f");
    let plain = w.held();
    let mut caps = [0u8; 20];
    caps[..8].copy_from_slice(&[1, 0, 0, 2, 0, 0x20, 0, 0]);
    rustix::fs::setxattr(w.at("upper/f"), "security.capability", &caps, XattrFlags::empty()).unwrap();
    let (path, how) = record(plain).first_difference(&w.held()).unwrap();
    assert!(path == "f" && how.contains("capabilities"), "{path} {how}");
    let done = w.apply().unwrap();
    assert_eq!(done.skipped[0].reason, "file capabilities are never applied");
    assert!(rustix::fs::getxattr(w.at("lower/f"), "security.capability", &mut [0u8; 32][..]).is_err());
}
