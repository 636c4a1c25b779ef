use super::*;
use proptest::prelude::*;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

/// A guest's side: what it says, and what it is answered.
struct Guest {
    files: Files,
    dir: tempfile::TempDir,
}

/// The words of a request.
enum W<'a> {
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    S(&'a str),
    B(&'a [u8]),
}
use W::*;

const TOP: u32 = 0;

impl Guest {
    /// With `TOP` attached.
    fn new() -> Guest {
        let dir = tempfile::tempdir().unwrap();
        let mut guest = Guest {
            files: Files::of(dir.path().to_str().unwrap()).unwrap(),
            dir,
        };
        guest.ask(kind::VERSION, &[U32(8192), S("9P2000.L")]).unwrap();
        guest
            .ask(kind::ATTACH, &[U32(TOP), U32(u32::MAX), S("u"), S(""), U32(0)])
            .unwrap();
        guest
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// The body of the answer.
    fn ask(&mut self, kind: u8, words: &[W<'_>]) -> Result<Vec<u8>, Errno> {
        let mut w = Writer(vec![kind, 7, 0]);
        for word in words {
            match word {
                U8(n) => w.u8(*n),
                U16(n) => w.u16(*n),
                U32(n) => w.u32(*n),
                U64(n) => w.u64(*n),
                S(text) => w.string(text.as_bytes()).unwrap(),
                B(bytes) => w.0.extend(*bytes),
            }
        }
        let answer = self.files.answer(&w.0);
        assert_eq!(
            u32::from_le_bytes(answer[..4].try_into().unwrap()) as usize,
            answer.len()
        );
        assert_eq!(answer[5..7], [7, 0]);
        let body = answer[7..].to_vec();
        match answer[4] {
            7 => Err(Errno::from_raw_os_error(
                u32::from_le_bytes(body.try_into().unwrap()) as i32
            )),
            other => {
                assert_eq!(other, kind + 1);
                Ok(body)
            }
        }
    }

    fn walk(&mut self, from: u32, to: u32, names: &[&str]) -> Result<Vec<u8>, Errno> {
        let mut words = vec![U32(from), U32(to), U16(names.len() as u16)];
        words.extend(names.iter().map(|name| S(name)));
        self.ask(kind::WALK, &words)
    }

    fn open(&mut self, fid: u32, flags: u32) -> Result<Vec<u8>, Errno> {
        self.ask(kind::LOPEN, &[U32(fid), U32(flags)])
    }

    fn create(&mut self, fid: u32, name: &str, mode: u32) -> Result<Vec<u8>, Errno> {
        self.walk(TOP, fid, &[])?;
        self.ask(kind::LCREATE, &[U32(fid), S(name), U32(0o102), U32(mode), U32(0)])
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn files_are_made_written_read_and_removed() {
    let mut guest = Guest::new();
    guest.create(1, "made", 0o640).unwrap();
    let written = guest.ask(kind::WRITE, &[U32(1), U64(0), U32(5), B(b"hello")]).unwrap();
    assert_eq!(written, 5u32.to_le_bytes());
    assert_eq!(text(&guest.path("made")), "hello");
    assert_eq!(std::fs::metadata(guest.path("made")).unwrap().mode() & 0o7777, 0o640);
    let read = guest.ask(kind::READ, &[U32(1), U64(1), U32(3)]).unwrap();
    assert_eq!(read, [&3u32.to_le_bytes()[..], b"ell"].concat());
    // Size, mode and time, as truncate, chmod and touch ask for them.
    let what = change::MODE | change::SIZE | change::MTIME | change::MTIME_SET;
    let rest = [U32(0), U32(0), U64(2), U64(0), U64(0), U64(1_000_000), U64(5)];
    let mut words = vec![U32(1), U32(what), U32(0o400)];
    words.extend(rest);
    guest.ask(kind::SETATTR, &words).unwrap();
    let found = std::fs::metadata(guest.path("made")).unwrap();
    assert_eq!((found.len(), found.mode() & 0o7777), (2, 0o400));
    assert_eq!((found.mtime(), found.mtime_nsec()), (1_000_000, 5));
    let told = guest.ask(kind::GETATTR, &[U32(1), U64(BASIC)]).unwrap();
    assert_eq!(told.len(), 8 + 13 + 12 + 15 * 8);
    assert_eq!(u32::from_le_bytes(told[21..25].try_into().unwrap()), found.mode());
    guest.ask(kind::FSYNC, &[U32(1), U32(0)]).unwrap();
    // The one guest looks at its locks itself.
    let lock = [U32(1), U8(1), U32(0), U64(0), U64(1), U32(9), S("guest")];
    assert_eq!(guest.ask(kind::LOCK, &lock).unwrap(), [0]);
    let lock = [U32(1), U8(1), U64(0), U64(1), U32(9), S("guest")];
    assert_eq!(guest.ask(kind::GETLOCK, &lock).unwrap()[0], UNLOCKED);
    // Renamed, linked, removed; what is held stays what it was.
    guest
        .ask(kind::RENAMEAT, &[U32(TOP), S("made"), U32(TOP), S("other")])
        .unwrap();
    guest.ask(kind::LINK, &[U32(TOP), U32(1), S("linked")]).unwrap();
    assert_eq!(std::fs::metadata(guest.path("linked")).unwrap().nlink(), 2);
    for name in ["other", "linked"] {
        guest.ask(kind::UNLINKAT, &[U32(TOP), S(name), U32(0)]).unwrap();
    }
    let read = guest.ask(kind::READ, &[U32(1), U64(0), U32(9)]).unwrap();
    assert_eq!(read[4..], *b"he");
    assert_eq!(std::fs::read_dir(guest.dir.path()).unwrap().count(), 0);
    guest.ask(kind::CLUNK, &[U32(1)]).unwrap();
    assert_eq!(guest.ask(kind::CLUNK, &[U32(1)]), Err(Errno::BADF));
}

#[test]
fn a_directory_is_told_of_in_parts() {
    let mut guest = Guest::new();
    let mut expected: Vec<String> = (0..300).map(|n| format!("file-with-a-long-name-{n:04}")).collect();
    for name in &expected {
        std::fs::write(guest.path(name), "").unwrap();
    }
    guest
        .ask(kind::MKDIR, &[U32(TOP), S("dir"), U32(0o750), U32(0)])
        .unwrap();
    guest
        .ask(kind::SYMLINK, &[U32(TOP), S("link"), S("/etc"), U32(0)])
        .unwrap();
    expected.extend([".", "..", "dir", "link"].map(str::to_owned));
    guest.walk(TOP, 1, &[]).unwrap();
    guest.open(1, 0o200000).unwrap();
    let (mut offset, mut found, mut parts) = (0, Vec::new(), 0);
    loop {
        let data = guest.ask(kind::READDIR, &[U32(1), U64(offset), U32(2000)]).unwrap();
        let mut r = Reader(&data[4..]);
        if r.0.is_empty() {
            break;
        }
        parts += 1;
        while !r.0.is_empty() {
            let id = r.bytes(13).unwrap()[0];
            offset = r.u64().unwrap();
            let kind = r.u8().unwrap();
            let name = String::from_utf8(r.string().unwrap().to_vec()).unwrap();
            match name.as_str() {
                "dir" | "." | ".." => assert_eq!((id, kind), (0x80, 4)),
                "link" => assert_eq!((id, kind), (2, 10)),
                _ => assert_eq!((id, kind), (0, 8)),
            }
            found.push(name);
        }
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    assert!(parts > 3, "{parts}");
    assert_eq!(
        guest.ask(kind::UNLINKAT, &[U32(TOP), S("dir"), U32(0)]),
        Err(Errno::ISDIR)
    );
    guest
        .ask(kind::UNLINKAT, &[U32(TOP), S("dir"), U32(REMOVE_DIRECTORY)])
        .unwrap();
}

#[test]
fn nothing_leads_out_of_what_is_shared() {
    let mut guest = Guest::new();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    symlink(outside.path(), guest.path("away")).unwrap();
    for names in [&[".."][..], &["."], &[""], &["a/b"], &["/etc"], &["x\0"]] {
        assert_eq!(guest.walk(TOP, 1, names), Err(Errno::INVAL), "{names:?}");
    }
    // A link is held as what it is, and leads nowhere.
    guest.walk(TOP, 1, &["away"]).unwrap();
    let link = guest.ask(kind::READLINK, &[U32(1)]).unwrap();
    assert_eq!(link[2..], *outside.path().as_os_str().as_encoded_bytes());
    assert_eq!(guest.open(1, 0), Err(Errno::LOOP));
    let partly = guest.walk(TOP, 2, &["away", "secret"]).unwrap();
    assert_eq!(partly[..2], [1, 0]);
    assert_eq!(guest.ask(kind::CLUNK, &[U32(2)]), Err(Errno::BADF));
    for (kind, words) in [
        (kind::LCREATE, vec![U32(1), S("new"), U32(0o102), U32(0o644), U32(0)]),
        (kind::MKDIR, vec![U32(1), S("new"), U32(0o755), U32(0)]),
        (kind::UNLINKAT, vec![U32(1), S("secret"), U32(0)]),
        (kind::RENAMEAT, vec![U32(1), S("secret"), U32(TOP), S("mine")]),
    ] {
        assert_eq!(guest.ask(kind, &words), Err(Errno::NOTDIR), "{kind}");
    }
    // Nor does a name that is a link already.
    symlink(outside.path().join("new"), guest.path("dangling")).unwrap();
    assert_eq!(guest.create(3, "dangling", 0o644), Err(Errno::LOOP));
    let mut names: Vec<_> = std::fs::read_dir(outside.path()).unwrap().collect();
    assert_eq!(names.pop().unwrap().unwrap().file_name(), "secret");
    assert!(names.is_empty());
}

#[test]
fn what_waits_for_another_side_is_not_opened() {
    let mut guest = Guest::new();
    let made = |kind: u32| kind | 0o600;
    guest
        .ask(
            kind::MKNOD,
            &[U32(TOP), S("pipe"), U32(made(0o010000)), U32(0), U32(0), U32(0)],
        )
        .unwrap();
    guest
        .ask(
            kind::MKNOD,
            &[U32(TOP), S("door"), U32(made(0o140000)), U32(0), U32(0), U32(0)],
        )
        .unwrap();
    for device in [0o020000, 0o060000] {
        let asked = [U32(TOP), S("node"), U32(made(device)), U32(1), U32(3), U32(0)];
        assert_eq!(guest.ask(kind::MKNOD, &asked), Err(Errno::PERM));
    }
    for (number, name) in [(1, "pipe"), (2, "door")] {
        guest.walk(TOP, number, &[name]).unwrap();
        assert_eq!(guest.open(number, 0), Err(Errno::PERM), "{name}");
    }
    assert!(guest.create(3, "pipe", 0o644).is_err());
}

#[test]
fn a_guest_cannot_ask_for_more_than_a_message() {
    let mut guest = Guest::new();
    std::fs::write(guest.path("big"), vec![b'x'; 100_000]).unwrap();
    guest.walk(TOP, 1, &["big"]).unwrap();
    guest.open(1, 0).unwrap();
    let read = guest.ask(kind::READ, &[U32(1), U64(0), U32(u32::MAX)]).unwrap();
    assert_eq!(read.len() + HEAD, 8192);
    // More than it sends.
    assert_eq!(
        guest.ask(kind::WRITE, &[U32(1), U64(0), U32(u32::MAX), B(b"x")]),
        Err(Errno::PROTO)
    );
    let many: Vec<&str> = vec!["big"; 17];
    assert_eq!(guest.walk(TOP, 2, &many), Err(Errno::INVAL));
    assert_eq!(
        guest.ask(kind::VERSION, &[U32(256), S("9P2000.L")]),
        Err(Errno::MSGSIZE)
    );
    let older = guest.ask(kind::VERSION, &[U32(8192), S("9P2000")]).unwrap();
    assert!(older.ends_with(b"unknown"));
    // And all that it held is let go.
    assert_eq!(guest.ask(kind::CLUNK, &[U32(TOP)]), Err(Errno::BADF));
}

#[test]
fn files_of_two_devices_are_not_taken_for_one() {
    let mut guest = Guest::new();
    let mut stat = fs::fstat(&guest.files.top).unwrap();
    let mut ids = Vec::new();
    for (device, inode) in [(1, 7), (2, 7), (1, 8), (1, 7 | 1 << 60)] {
        (stat.st_dev, stat.st_ino) = (device, inode);
        ids.push(guest.files.id(&stat).unwrap().0[5..].to_vec());
    }
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len(), "{ids:?}");
}

proptest! {
    #[test]
    fn whatever_is_said_is_answered(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 1..20)) {
        let mut guest = Guest::new();
        for message in messages {
            let answer = guest.files.answer(&message);
            prop_assert!(answer.len() >= HEAD && answer.len() <= MESSAGE as usize);
        }
    }

    #[test]
    fn whatever_is_asked_for_is_answered(kinds in prop::collection::vec((any::<u8>(), prop::collection::vec(0u8..4, 0..40)), 1..30)) {
        let mut guest = Guest::new();
        std::fs::write(guest.path("\u{1}"), "x").unwrap();
        for (kind, body) in kinds {
            let message = [&[kind & !1, 1, 0][..], &body].concat();
            let answer = guest.files.answer(&message);
            prop_assert!(answer.len() >= HEAD && answer.len() <= MESSAGE as usize);
        }
    }
}
