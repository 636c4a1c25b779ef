//! What of the host's directory the program could not see: a change of such a name says nothing of the host's file, nothing
//! of the host's may be shown beside it, and nothing of it be lost by the way.

use sr_compiler::bundle::LayerMask;
use std::collections::HashSet;

/// What is said of a change whose path is one of these.
pub(super) const REASON: &str = "the program did not see the host's file of this name";

pub(super) struct Unseen(HashSet<Vec<u8>>);

impl Unseen {
    pub fn new(hidden: &[LayerMask]) -> Unseen {
        Unseen(hidden.iter().map(|mask| mask.path.clone().into_bytes()).collect())
    }

    /// Whether the path (relative, as bytes) is hidden itself.
    pub fn is(&self, path: &[u8]) -> bool {
        self.0.contains(path)
    }

    /// Whether the path or a directory above it is hidden.
    pub fn covers(&self, path: &[u8]) -> bool {
        let above = |(at, c): (usize, &u8)| *c == b'/' && self.0.contains(&path[..at]);
        !self.0.is_empty() && (self.is(path) || path.iter().enumerate().any(above))
    }
}
