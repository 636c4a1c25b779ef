//! A document as a tree of values with positions: the one form that all three readers give.

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub kind: Kind,
    /// Byte offset in the text.
    pub at: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// A scalar without quotes whose language gives it a type, and its spelling.
    Typed(Typed, String),
    /// A string; `quoted` is false only for YAML's plain scalars.
    Text {
        value: String,
        quoted: bool,
    },
    List(Vec<Node>),
    /// In the order of the text; a key may stand twice, which the decoder reports.
    Map(Vec<(Key, Node)>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Typed {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// TOML only.
    Date,
}

/// A key of a map and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    pub text: String,
    pub at: usize,
    /// Whether it is a string; YAML's plain `true` or `1` is not.
    pub textual: bool,
}

impl Node {
    pub fn null(at: usize) -> Node {
        Node {
            kind: Kind::Typed(Typed::Null, String::new()),
            at,
        }
    }

    /// How many values it consists of, itself included.
    pub fn size(&self) -> usize {
        match &self.kind {
            Kind::List(items) => 1 + items.iter().map(Node::size).sum::<usize>(),
            Kind::Map(entries) => 1 + entries.iter().map(|(_, value)| value.size()).sum::<usize>(),
            Kind::Typed(..) | Kind::Text { .. } => 1,
        }
    }

    /// What a message calls it.
    pub fn describe(&self) -> String {
        use crate::text::printable;
        match &self.kind {
            Kind::Typed(Typed::Null, _) => "nothing (null)".into(),
            Kind::Typed(Typed::Bool(_), raw) => format!("the boolean {raw}"),
            Kind::Typed(Typed::Int(_) | Typed::Float(_), raw) => format!("the number {}", printable(raw)),
            Kind::Typed(Typed::Date, raw) => format!("the date {}", printable(raw)),
            Kind::Text { value, .. } => format!("the text \"{}\"", printable(value)),
            Kind::List(items) => format!("a list of {}", items.len()),
            Kind::Map(_) => "a map".into(),
        }
    }

    /// Follows `path` (`mounts[1].source`) as far as this document goes.
    pub fn locate(&self, path: &str) -> Located {
        let mut found = Located {
            at: self.at,
            depth: 0,
            complete: path.is_empty(),
            in_list: false,
        };
        let (mut node, mut rest) = (self, path);
        while !rest.is_empty() {
            let step = match &node.kind {
                Kind::Map(entries) => entries.iter().find_map(|(key, value)| {
                    let after = rest.strip_prefix(key.text.as_str())?;
                    let ends = after.is_empty() || after.starts_with(['.', '[']);
                    ends.then(|| (value, after.strip_prefix('.').unwrap_or(after), key.at))
                }),
                Kind::List(items) => {
                    found.in_list = true;
                    rest.strip_prefix('[')
                        .and_then(|r| r.split_once(']'))
                        .and_then(|(index, after)| {
                            let item = items.get(index.parse::<usize>().ok()?)?;
                            Some((item, after.strip_prefix('.').unwrap_or(after), item.at))
                        })
                }
                Kind::Typed(..) | Kind::Text { .. } => None,
            };
            let Some((next, after, key_at)) = step else {
                return found;
            };
            let scalar = matches!(next.kind, Kind::Typed(..) | Kind::Text { .. });
            found.at = if scalar { next.at } else { key_at };
            found.depth += 1;
            (node, rest) = (next, after);
        }
        found.complete = true;
        found
    }
}

/// How far a path was followed in a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Located {
    /// Byte offset of the last part found.
    pub at: usize,
    pub depth: usize,
    pub complete: bool,
    /// A list of this document stands on the way: no layer below it counts.
    pub in_list: bool,
}
