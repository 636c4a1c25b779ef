//! What a run changed below a captured directory: the overlay's upper layer compared with the host's directory, shown
//! as text, and carried over to the host where a person says so. Both trees are walked by descriptors, without
//! following symbolic links and without leaving the file system; names are bytes.

mod apply;
mod copy;
mod danger;
mod data;
mod diff;
mod held;
mod manifest;
mod name;
mod scan;
mod survey;
mod tree;
mod unseen;

pub use apply::{Applied, ApplyOptions, Note, Prepared, apply, prepare};
pub use copy::{Stats, copy_layer, is_empty};
pub use diff::diff_text;
pub(crate) use held::micros;
pub use held::{Held, LayerRecord};
pub use name::{escape, unescape};
pub use scan::{Scanned, read, scan};

use serde::{Deserialize, Serialize};
use sr_common::Digest;
use sr_compiler::bundle::LayerMask;
use std::path::Path;
use std::time::SystemTime;

/// A captured directory: the upper layer, the host directory beneath it, and what the run could not see of that.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    pub upper: &'a Path,
    pub lower: &'a Path,
    /// As in the bundle's `captured` entry.
    pub hidden: &'a [LayerMask],
    /// When the layer began to be filled: what the host changed later is a conflict. The run's own start, or that of the
    /// first run of a session that left something in it.
    pub started: SystemTime,
}

/// One difference between the host's directory and what the run made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// Relative to the captured directory; bytes that are not printable UTF-8, and backslashes, as `\xNN`.
    pub path: String,
    pub kind: Kind,
    /// On the host now.
    pub before: Option<Node>,
    /// As the run left it.
    pub after: Option<Node>,
    /// Why it is applied only when named: it runs by itself on the host, or is not what it seems.
    pub danger: Option<String>,
    /// Why it is refused unless forced by name: the host changed it too.
    pub conflict: Option<String>,
    /// What of it is never applied.
    pub skipped: Option<String>,
}

/// In the order in which changes are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    Deleted,
    /// The directory was replaced by a new one of that name; what is gone for it is listed as deleted.
    Opaque,
    Added,
    Modified,
    /// Same content, other permission bits.
    ModeChanged,
    /// A file became a directory, a directory a link, and so on.
    TypeChanged,
    /// A symbolic link points elsewhere.
    SymlinkChanged,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    pub what: What,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    /// Bytes of a regular file; of a directory that is to go, how many files and directories are in it.
    pub size: Option<u64>,
    /// Of a regular file; `None` where it is mostly holes and larger than a gibibyte.
    pub digest: Option<Digest>,
    /// Of such a file: digest of its size and of its blocks that are not zero.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub extents: Option<Digest>,
    /// Of a symbolic link, escaped like a path.
    pub target: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    File,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

#[cfg(test)]
mod tests;
