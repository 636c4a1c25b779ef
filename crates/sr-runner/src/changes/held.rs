//! What a run's captured layers held at its end, as its evidence keeps it (`changes.json`). A layer that is read again
//! later must hold the same, entry by entry, before anything of it reaches the host.

use super::name::unescape;
use super::{Change, Node, Scanned};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One captured directory in `changes.json`, which is an array of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LayerRecord {
    /// Its number in the bundle.
    pub layer: u32,
    /// On the host.
    pub source: String,
    /// In the view.
    pub target: String,
    /// When the layer began to be filled: microseconds since 1970.
    pub since: u64,
    /// Compared with the host at the end of the run.
    pub changes: Vec<Change>,
    /// All that the layer held, changed or not, by path.
    pub entries: Vec<Held>,
}

/// Something in a layer, without regard to the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Held {
    /// Relative to the captured directory, escaped. Empty: that directory itself.
    pub path: String,
    /// `None`: the name is gone (a whiteout).
    pub node: Option<Node>,
    /// A directory through which nothing of the host's shows.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub opaque: bool,
    /// The file had capabilities, which are never applied.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub capabilities: bool,
}

/// `time` as [`LayerRecord::since`] writes it; never later than it was.
pub(crate) fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}

impl LayerRecord {
    pub(crate) fn new(layer: u32, source: &str, target: &str, began: SystemTime, scanned: Scanned) -> LayerRecord {
        LayerRecord {
            layer,
            source: source.to_owned(),
            target: target.to_owned(),
            since: micros(began),
            entries: scanned.held,
            changes: scanned.entries.into_iter().map(|entry| entry.change).collect(),
        }
    }

    pub(crate) fn has_entries(&self) -> bool {
        !(self.entries.is_empty() && self.changes.is_empty())
    }

    /// When the layer began to be filled.
    pub fn began(&self) -> SystemTime {
        UNIX_EPOCH
            .checked_add(Duration::from_micros(self.since))
            .unwrap_or(UNIX_EPOCH)
    }

    /// The first path at which the layer, as it was read now, is not what was recorded, and how.
    pub fn first_difference(&self, now: &[Held]) -> Option<(String, String)> {
        let (mut then, mut now) = (self.entries.iter().peekable(), now.iter().peekable());
        loop {
            let order = match (then.peek(), now.peek()) {
                (None, None) => return None,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(a), Some(b)) => bytes(a).cmp(&bytes(b)),
            };
            match order {
                Ordering::Less => {
                    let gone = then.next()?;
                    return Some((gone.path.clone(), "is recorded, and no longer in the layer".into()));
                }
                Ordering::Greater => {
                    let added = now.next()?;
                    return Some((added.path.clone(), "is in the layer, and not recorded".into()));
                }
                Ordering::Equal => {
                    let (a, b) = (then.next()?, now.next()?);
                    if let Some(what) = difference(a, b) {
                        return Some((a.path.clone(), what));
                    }
                }
            }
        }
    }
}

/// The order of entries is that of the names' bytes.
fn bytes(held: &Held) -> Vec<u8> {
    unescape(&held.path).unwrap_or_else(|| held.path.clone().into_bytes())
}

fn difference(then: &Held, now: &Held) -> Option<String> {
    if then == now {
        return None;
    }
    let (Some(a), Some(b)) = (&then.node, &now.node) else {
        return Some(match (&then.node, &now.node) {
            (Some(_), None) => "is marked as deleted; it was recorded as there".into(),
            (None, Some(_)) => "is there; it was recorded as deleted".into(),
            _ => "shows other parts of the host's directory than were recorded".into(),
        });
    };
    Some(if a.what != b.what {
        format!("is a {}; it was recorded as a {}", b.what.text(), a.what.text())
    } else if a.target != b.target {
        let shown = |node: &Node| node.target.clone().unwrap_or_default();
        format!("points to {}; recorded was {}", shown(b), shown(a))
    } else if (a.size, a.digest, a.extents) != (b.size, b.digest, b.extents) {
        "has other content than was recorded".into()
    } else if a.mode != b.mode {
        format!("has mode {:04o}; recorded was {:04o}", b.mode, a.mode)
    } else if then.opaque != now.opaque {
        "shows other parts of the host's directory than were recorded".into()
    } else {
        "has other capabilities than were recorded".into()
    })
}
