//! Changes as a person reads them: a unified diff for text, a line for everything else. What the program wrote is never
//! sent to the terminal as it is; and of a host's file that the program did not see nothing is shown, for what is printed
//! here often goes on to a log, or back to the agent that ran.

use super::name::{self, unescape};
use super::unseen::{self, Unseen};
use super::{Change, Kind, Layer, Node, What, tree};
use rustix::fs::OFlags;
use rustix::io::Errno;
use similar::TextDiff;
use sr_common::{Code, Fault};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Larger files are not compared line by line.
const MOST_BYTES: u64 = 1 << 20;
/// A longer diff of one file is cut, and says so.
const MOST_TEXT: usize = 256 << 10;
/// For one file; a cruder diff is given after that.
const MOST_TIME: Duration = Duration::from_secs(2);

/// The changes as text, in their order. Every change is named, whatever its size.
pub fn diff_text(changes: &[Change], layer: &Layer<'_>) -> Result<String, Fault> {
    let open = |path: &std::path::Path| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(|e| {
            let found = format!("cannot open {}: {e}", path.display());
            Fault::new(
                Code::Run001,
                "changes.diff",
                found,
                "see that the directory is there and readable",
            )
        })
    };
    let (upper, lower) = (open(layer.upper)?, open(layer.lower)?);
    let unseen = Unseen::new(layer.hidden);
    let mut out = String::new();
    for change in changes {
        let secret = change.before.is_some() && unescape(&change.path).is_none_or(|path| unseen.covers(&path));
        one(&mut out, change, secret, &upper, &lower);
    }
    Ok(out)
}

fn one(out: &mut String, change: &Change, secret: bool, upper: &OwnedFd, lower: &OwnedFd) {
    let path = &change.path;
    let what = |node: &Option<Node>| node.as_ref().map_or("nothing", |n| n.what.text());
    // Writing to a String cannot fail.
    let _ = match (change.kind, &change.before, &change.after) {
        (Kind::Deleted, Some(before), _) if before.what == What::Directory => {
            writeln!(out, "deleted directory {path}/ ({} entries)", before.size.unwrap_or(0))
        }
        (Kind::Deleted, before, _) => writeln!(out, "deleted {} {path}", what(before)),
        (Kind::Opaque, _, _) => writeln!(out, "replaced directory {path}/"),
        (Kind::Added, _, Some(after)) => writeln!(out, "added {} {path} (mode {:04o})", after.what.text(), after.mode),
        (Kind::TypeChanged, before, after) => writeln!(out, "type changed {path}: {} -> {}", what(before), what(after)),
        (Kind::Modified, _, _) => writeln!(out, "modified {path}"),
        (Kind::ModeChanged, _, _) => writeln!(out, "mode changed {path}"),
        (Kind::SymlinkChanged, _, _) => writeln!(out, "link changed {path}"),
        (Kind::Added, _, None) => writeln!(out, "added {path}"),
    };
    if let (Some(before), Some(after)) = (&change.before, &change.after)
        && before.mode != after.mode
        && before.what != What::Symlink
    {
        let _ = writeln!(out, "mode {:04o} -> {:04o}", before.mode, after.mode);
    }
    if secret {
        let _ = writeln!(out, "not shown: {}", unseen::REASON);
    }
    for (sign, node) in [('-', &change.before), ('+', &change.after)] {
        if !secret && let Some(target) = node.as_ref().and_then(|n| n.target.as_ref()) {
            let _ = writeln!(out, "{sign}-> {target}");
        }
    }
    for (label, text) in [
        ("danger", &change.danger),
        ("conflict", &change.conflict),
        ("not applied", &change.skipped),
    ] {
        if let Some(text) = text {
            let _ = writeln!(out, "{label}: {text}");
        }
    }
    if !secret
        && matches!(
            change.kind,
            Kind::Deleted | Kind::Added | Kind::Modified | Kind::TypeChanged
        )
    {
        contents(out, change, upper, lower);
    }
}

fn contents(out: &mut String, change: &Change, upper: &OwnedFd, lower: &OwnedFd) {
    let (before, after) = (regular(&change.before), regular(&change.after));
    if before.is_none() && after.is_none() {
        return;
    }
    let size = |node: Option<&Node>| node.and_then(|n| n.size).unwrap_or(0);
    let (old_size, new_size) = (size(before), size(after));
    if old_size > MOST_BYTES || new_size > MOST_BYTES {
        let _ = writeln!(out, "too large to compare by line: {old_size} -> {new_size} bytes");
        return;
    }
    let path = unescape(&change.path).unwrap_or_default();
    let text = |node: Option<&Node>, root: &OwnedFd| match node {
        None => Ok(Some(String::new())),
        Some(_) => read(root, &path, std::ptr::eq(root, upper)),
    };
    match (text(before, lower), text(after, upper)) {
        (Ok(Some(old)), Ok(Some(new))) => {
            let label = |there: bool, side: &str| {
                if there {
                    format!("{side}/{}", change.path)
                } else {
                    "/dev/null".into()
                }
            };
            let _ = writeln!(
                out,
                "--- {}\n+++ {}",
                label(before.is_some(), "a"),
                label(after.is_some(), "b")
            );
            unified(out, &old, &new);
        }
        (Err(e), _) | (_, Err(e)) => {
            let _ = writeln!(out, "cannot be read: {e}");
        }
        _ => {
            let _ = writeln!(out, "binary: {old_size} -> {new_size} bytes");
        }
    }
}

fn regular(node: &Option<Node>) -> Option<&Node> {
    node.as_ref().filter(|n| n.what == What::File)
}

/// The file's text; `None` if it is none.
fn read(root: &OwnedFd, path: &[u8], layer: bool) -> Result<Option<String>, Errno> {
    let (dir, name) = tree::split(path);
    let dir = tree::open_beneath(root.as_fd(), dir, OFlags::PATH | OFlags::DIRECTORY)?;
    let Some(stat) = tree::stat_in(dir.as_fd(), name)? else {
        return Err(Errno::NOENT);
    };
    let fd = if layer {
        tree::open_file(dir.as_fd(), name, &stat)?
    } else {
        tree::open_host_file(dir.as_fd(), name)?
    };
    let mut bytes = Vec::new();
    File::from(fd)
        .take(MOST_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    Ok(String::from_utf8(bytes).ok().filter(|text| !text.contains('\0')))
}

fn unified(out: &mut String, old: &str, new: &str) {
    let diff = TextDiff::configure().timeout(MOST_TIME).diff_lines(old, new);
    let start = out.len();
    for hunk in diff.unified_diff().context_radius(3).iter_hunks() {
        let _ = writeln!(out, "{}", hunk.header());
        for change in hunk.iter_changes() {
            let line = change.value();
            let (line, ended) = line.strip_suffix('\n').map_or((line, false), |line| (line, true));
            let _ = write!(out, "{}", change.tag());
            push_line(out, line);
            out.push_str(if ended { "\n" } else { "\n\\ no newline at the end\n" });
            if out.len() - start > MOST_TEXT {
                let _ = writeln!(
                    out,
                    "cut here: the diff of this file is longer than {} KiB",
                    MOST_TEXT >> 10
                );
                return;
            }
        }
    }
}

/// A line of a file: what would steer the terminal is written as `\xNN`. Tabs and backslashes stay.
fn push_line(out: &mut String, line: &str) {
    for c in line.chars() {
        if c != '\t' && name::steers(c) {
            out.push_str(&name::escape(c.encode_utf8(&mut [0; 4]).as_bytes()));
        } else {
            out.push(c);
        }
    }
}

impl What {
    pub(super) const fn text(self) -> &'static str {
        match self {
            What::File => "file",
            What::Directory => "directory",
            What::Symlink => "link",
            What::Fifo => "FIFO",
            What::Socket => "socket",
            What::CharDevice => "character device",
            What::BlockDevice => "block device",
        }
    }
}
