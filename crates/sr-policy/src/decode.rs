//! From nodes to typed sections, strictly, collecting every fault on the way.

use crate::node::{Key, Kind, Node, Typed};
use crate::suggest::nearest;
use crate::text::{SourceText, printable};
use sr_common::{Code, Fault};
use std::collections::{BTreeMap, BTreeSet};

/// More faults than this tell a person nothing more.
pub(crate) const MAX_FAULTS: usize = 64;

/// Collects faults while a tree is read; knows the path of the value at hand.
pub(crate) struct Decoder<'a> {
    source: &'a SourceText,
    path: String,
    faults: Vec<Fault>,
}

/// A value that can be read from a node. `None`: at least one fault was recorded.
pub(crate) trait Decode: Sized {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self>;
}

impl<'a> Decoder<'a> {
    pub fn new(source: &'a SourceText) -> Self {
        Decoder {
            source,
            path: String::new(),
            faults: Vec::new(),
        }
    }

    pub fn finish(self) -> Vec<Fault> {
        self.faults
    }

    /// Whether further faults would be dropped: time to stop looking for them.
    pub fn is_full(&self) -> bool {
        self.faults.len() >= MAX_FAULTS
    }

    /// Records a fault at byte `at` under the current path.
    pub fn fault(&mut self, code: Code, at: usize, found: impl Into<String>, remedy: impl Into<String>) {
        if !self.is_full() {
            let path = if self.path.is_empty() {
                crate::text::WHOLE
            } else {
                &self.path
            };
            self.faults
                .push(Fault::new(code, path, found, remedy).with_source(self.source.line_at(at)));
        }
    }

    /// A value of the wrong type or form.
    pub fn mismatch(&mut self, node: &Node, expected: &str, remedy: impl Into<String>) {
        self.fault(
            Code::Pol002,
            node.at,
            format!("expected {expected}, found {}", node.describe()),
            remedy,
        );
    }

    /// Runs `read` with `key` appended to the path.
    pub fn within<T>(&mut self, key: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        if !(self.path.is_empty() || key.starts_with('[')) {
            self.path.push('.');
        }
        self.path.push_str(&printable(key));
        let out = read(self);
        self.path.truncate(length);
        out
    }

    /// The entries of a map, without those whose key stands there a second time.
    pub fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Option<Vec<&'n (Key, Node)>> {
        let Kind::Map(entries) = &node.kind else {
            self.mismatch(node, what, "write `key: value` entries, or {} for none");
            return None;
        };
        let mut seen = BTreeSet::new();
        let mut out = Vec::with_capacity(entries.len());
        for entry in entries {
            if seen.insert(entry.0.text.as_str()) {
                out.push(entry);
            } else {
                self.within(&entry.0.text, |d| {
                    d.fault(
                        Code::Pol002,
                        entry.0.at,
                        "the key stands twice in this map",
                        "keep one of the two",
                    )
                });
            }
        }
        Some(out)
    }

    /// A key that the section does not have.
    pub fn unknown_key(&mut self, key: &Key, known: &[&str]) {
        if self.is_full() {
            return;
        }
        let remedy = match nearest(&key.text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.within(&key.text, |d| {
            d.fault(
                Code::Pol002,
                key.at,
                format!("unknown field \"{}\"", printable(&key.text)),
                remedy,
            )
        });
    }
}

impl<T: Decode> Decode for Vec<T> {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        let Kind::List(items) = &node.kind else {
            d.mismatch(node, "a list", "write a list: [a, b], or [] for none");
            return None;
        };
        let mut out = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            out.extend(d.within(&format!("[{i}]"), |d| T::decode(item, d)));
        }
        (out.len() == items.len()).then_some(out)
    }
}

impl<T: Decode> Decode for BTreeMap<String, T> {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        let mut out = BTreeMap::new();
        for (key, value) in d.entries(node, "a map")? {
            if key.textual {
                let value = d.within(&key.text, |d| {
                    crate::words::check_key(key, d);
                    T::decode(value, d)
                });
                out.extend(value.map(|v| (key.text.clone(), v)));
            } else {
                let remedy = format!("write it in quotes: \"{}\"", printable(&key.text));
                d.within(&key.text, |d| {
                    d.fault(Code::Pol002, key.at, "a key that is not a text", remedy)
                });
            }
        }
        Some(out)
    }
}

impl Decode for bool {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        match node.kind {
            Kind::Typed(Typed::Bool(value), _) => Some(value),
            _ => {
                d.mismatch(node, "true or false", "write true or false, without quotes");
                None
            }
        }
    }
}

/// Whole numbers in plain decimal: `0x10`, `017` and `+5` mean different things to different readers.
fn whole<T: TryFrom<i128>>(node: &Node, d: &mut Decoder<'_>) -> Option<T> {
    match &node.kind {
        Kind::Typed(Typed::Int(value), raw) if *raw == value.to_string() => {
            let fits = T::try_from(*value).ok();
            if fits.is_none() {
                let found = format!("{value} is {}", if *value < 0 { "negative" } else { "too large" });
                d.fault(Code::Pol002, node.at, found, "write a whole number in range");
            }
            fits
        }
        _ => {
            d.mismatch(node, "a whole number", "write plain decimal digits, without quotes");
            None
        }
    }
}

impl Decode for u32 {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        whole(node, d)
    }
}

impl Decode for u64 {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        whole(node, d)
    }
}

/// Whether `name` is `field` in camelCase; compares without allocating.
pub(crate) fn is_camel(name: &str, field: &str) -> bool {
    let mut upper = false;
    let mut letters = name.chars();
    for c in field.chars() {
        if c == '_' {
            upper = true;
        } else {
            let expected = if upper { c.to_ascii_uppercase() } else { c };
            upper = false;
            if letters.next() != Some(expected) {
                return false;
            }
        }
    }
    letters.next().is_none()
}

/// `field` in camelCase.
pub(crate) fn camel(field: &str) -> String {
    let mut upper = false;
    let mut out = String::with_capacity(field.len());
    for c in field.chars() {
        if c == '_' {
            upper = true;
        } else {
            out.push(if upper { c.to_ascii_uppercase() } else { c });
            upper = false;
        }
    }
    out
}

/// A section of a document: every field optional, unknown fields refused, readable and mergeable.
macro_rules! section {
    ($(#[$meta:meta])* pub struct $name:ident { $( $(#[$fmeta:meta])* $field:ident : $ty:ty, )* }) => {
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, schemars::JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        $(#[$meta])*
        pub struct $name {
            $( $(#[$fmeta])* #[serde(skip_serializing_if = "Option::is_none")]
                pub $field: Option<$ty>, )*
        }

        impl $crate::decode::Decode for $name {
            fn decode(node: &$crate::node::Node, d: &mut $crate::decode::Decoder<'_>) -> Option<Self> {
                let mut out = Self::default();
                for (key, value) in d.entries(node, "a map")? {
                    $( if $crate::decode::is_camel(&key.text, stringify!($field)) {
                        out.$field = d.within(&key.text, |d| <$ty as $crate::decode::Decode>::decode(value, d));
                        continue;
                    } )*
                    let known = [$( $crate::decode::camel(stringify!($field)) ),*];
                    d.unknown_key(key, &known.iter().map(String::as_str).collect::<Vec<_>>());
                }
                Some(out)
            }
        }

        impl $crate::merge::Merge for $name {
            fn over(self, base: Self) -> Self {
                Self { $( $field: $crate::merge::Merge::over(self.$field, base.$field), )* }
            }
        }
    };
}
pub(crate) use section;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_names_are_camel_case() {
        assert!(is_camel("wallTime", "wall_time") && is_camel("cpu", "cpu"));
        assert!(!is_camel("wall_time", "wall_time") && !is_camel("wallTim", "wall_time") && !is_camel("cpuX", "cpu"));
        assert_eq!(camel("on_denied"), "onDenied");
    }
}
