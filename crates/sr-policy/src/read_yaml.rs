//! YAML 1.2 to nodes: one document, no tags, few aliases, bounded depth. Iterative, so no nesting can end the stack.

use crate::node::{Key, Kind, Node, Typed};
use crate::text::{MAX_DEPTH, SourceText, WHOLE};
use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use sr_common::Fault;
use std::collections::HashMap;

/// Values that aliases may add to a document in all.
const ALIAS_BUDGET: usize = 100;

enum Frame {
    List {
        items: Vec<Node>,
        at: usize,
        anchor: usize,
    },
    Map {
        entries: Vec<(Key, Node)>,
        key: Option<Key>,
        at: usize,
        anchor: usize,
    },
}

struct Builder<'a> {
    source: &'a SourceText,
    stack: Vec<Frame>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    expanded: usize,
}

pub(crate) fn read(source: &SourceText) -> Result<Node, Fault> {
    let mut options = granit_parser::options! {
        flow_nesting_limit: MAX_DEPTH + 1,
        block_nesting_limit: MAX_DEPTH + 1,
        disallow_directives: true,
    };
    options.set_emit_comments(false);
    let mut builder = Builder {
        source,
        stack: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        expanded: 0,
    };
    let mut documents = 0;
    for next in Parser::new_from_str_with_options(&source.text, options) {
        let (event, span) = next.map_err(|e| builder.syntax(&e))?;
        if let Event::DocumentStart(..) = event {
            documents += 1;
            if documents > 1 {
                return Err(builder.refuse(at(&span), "a second document begins here", "keep one document a file"));
            }
        }
        builder.event(event, &span)?;
    }
    Ok(builder.root.unwrap_or_else(|| Node::null(0)))
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        let at = at(span);
        if event.tag().is_some() {
            return Err(self.refuse(
                at,
                "a tag (`!…`)",
                "remove the tag; quote the value where text is meant",
            ));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => self.scalar(&text, style, anchor, at),
            Event::SequenceStart(_, anchor, _) => self.open(
                Frame::List {
                    items: Vec::new(),
                    at,
                    anchor,
                },
                at,
            ),
            Event::MappingStart(_, anchor, _) => self.open(
                Frame::Map {
                    entries: Vec::new(),
                    key: None,
                    at,
                    anchor,
                },
                at,
            ),
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Frame::List { items, at, anchor }) => self.add(
                    Node {
                        kind: Kind::List(items),
                        at,
                    },
                    anchor,
                ),
                Some(Frame::Map {
                    entries, at, anchor, ..
                }) => self.add(
                    Node {
                        kind: Kind::Map(entries),
                        at,
                    },
                    anchor,
                ),
                None => Err(self.refuse(
                    at,
                    "an end without a beginning",
                    "check the brackets and the indentation",
                )),
            },
            Event::Alias(id) => self.alias(id, at),
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, at: usize) -> Result<(), Fault> {
        let plain = style == ScalarStyle::Plain;
        let typed = if plain { core_type(text) } else { None };
        if let Some(Frame::Map { key: key @ None, .. }) = self.stack.last_mut() {
            *key = Some(Key {
                text: text.to_owned(),
                at,
                textual: typed.is_none(),
            });
            return Ok(());
        }
        let kind = match typed {
            Some(typed) => Kind::Typed(typed, text.to_owned()),
            None => Kind::Text {
                value: text.to_owned(),
                quoted: !plain,
            },
        };
        self.add(Node { kind, at }, anchor)
    }

    fn open(&mut self, frame: Frame, at: usize) -> Result<(), Fault> {
        if self.stack.len() >= MAX_DEPTH {
            return Err(self.refuse(
                at,
                &format!("nesting deeper than {MAX_DEPTH}"),
                "a policy needs no such depth",
            ));
        }
        if let Some(Frame::Map { key: None, .. }) = self.stack.last() {
            return Err(self.refuse(at, "a list or map as a key", "write a plain word as the key"));
        }
        self.stack.push(frame);
        Ok(())
    }

    fn alias(&mut self, id: usize, at: usize) -> Result<(), Fault> {
        if let Some(Frame::Map { key: None, .. }) = self.stack.last() {
            return Err(self.refuse(at, "an alias as a key", "write the key itself"));
        }
        let Some(node) = self.anchors.get(&id) else {
            return Err(self.refuse(at, "an alias inside its own anchor", "write the values out"));
        };
        self.expanded += node.size();
        if self.expanded > ALIAS_BUDGET {
            let found = format!("aliases that add more than {ALIAS_BUDGET} values");
            return Err(self.refuse(at, &found, "write the values out"));
        }
        let node = node.clone();
        self.add(node, 0)
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        if anchor != 0 {
            // A copy for later aliases; what is too large for the budget can never be used and is not kept.
            if node.size() <= ALIAS_BUDGET {
                self.anchors.insert(anchor, node.clone());
            } else {
                self.expanded = self.expanded.max(ALIAS_BUDGET);
                self.anchors.insert(anchor, Node::null(node.at));
            }
        }
        match self.stack.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { entries, key, .. }) => match key.take() {
                Some(key) => entries.push((key, node)),
                None => return Err(self.refuse(node.at, "a list or map as a key", "write a plain word as the key")),
            },
        }
        Ok(())
    }

    fn refuse(&self, at: usize, found: &str, remedy: &str) -> Fault {
        self.source.fault(at, WHOLE, found, remedy)
    }

    fn syntax(&self, error: &ScanError) -> Fault {
        let at = error.marker().byte_offset().unwrap_or(0);
        self.refuse(
            at,
            &format!("not YAML: {}", error.info()),
            "correct the syntax at this place",
        )
    }
}

fn at(span: &Span) -> usize {
    span.byte_range().map_or(0, |range| range.start)
}

/// The type that YAML 1.2's core schema gives a plain scalar; `None`: a string (so `no` is one).
fn core_type(text: &str) -> Option<Typed> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Typed::Null),
        "true" | "True" | "TRUE" => return Some(Typed::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Typed::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Some(Typed::Float(f64::NAN)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    match unsigned {
        ".inf" | ".Inf" | ".INF" => {
            return Some(Typed::Float(if text.starts_with('-') {
                f64::NEG_INFINITY
            } else {
                f64::INFINITY
            }));
        }
        _ => {}
    }
    if let Some(digits) = text
        .strip_prefix("0x")
        .filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return i128::from_str_radix(digits, 16).ok().map(Typed::Int);
    }
    if let Some(digits) = text
        .strip_prefix("0o")
        .filter(|d| d.bytes().all(|b| matches!(b, b'0'..=b'7')))
    {
        return i128::from_str_radix(digits, 8).ok().map(Typed::Int);
    }
    let bytes = unsigned.as_bytes();
    if bytes.iter().all(u8::is_ascii_digit) && !bytes.is_empty() {
        return Some(text.parse().map_or(Typed::Float(f64::INFINITY), Typed::Int));
    }
    // Rust's grammar also takes `inf` and `nan`: only what is made of a number's characters is tried.
    let numeric = bytes
        .iter()
        .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+'))
        && bytes.iter().any(u8::is_ascii_digit)
        && matches!(bytes.first(), Some(b'0'..=b'9' | b'.'));
    numeric.then(|| text.parse().ok().map(Typed::Float)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Result<Node, Fault> {
        read(&SourceText {
            name: "p.yaml".into(),
            text: text.into(),
        })
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for text in ["no", "yes", "on", "1.2.3", "1_000", "inf", "nan", "0x", "-", "a"] {
            assert!(matches!(core_type(text), None | Some(Typed::Null)), "{text}");
        }
        assert_eq!(core_type("-7"), Some(Typed::Int(-7)));
        assert_eq!(core_type("1.0"), Some(Typed::Float(1.0)));
        assert_eq!(core_type(".5e1"), Some(Typed::Float(5.0)));
        assert_eq!(core_type("-.inf"), Some(Typed::Float(f64::NEG_INFINITY)));
        assert_eq!(core_type("0x1F"), Some(Typed::Int(31)));
    }

    #[test]
    fn bombs_and_depth_are_refused() {
        let bomb = "a: &a [x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b]\n";
        assert!(yaml(bomb).unwrap_err().found.contains("aliases"));
        assert!(yaml("a: &a [*a]").is_err());
        for opener in ["[", "{a: ", "- ", "? "] {
            assert!(yaml(&opener.repeat(100_000)).is_err(), "{opener}");
        }
        let indented: String = (0..1000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        assert!(yaml(&indented).is_err());
    }

    #[test]
    fn one_document_no_tags_no_odd_keys() {
        assert!(yaml("a: 1\n---\nb: 2\n").unwrap_err().found.contains("second document"));
        for bad in [
            "a: !!str 1",
            "? [a]\n: 1",
            "a: &x b\n*x : 1",
            "%YAML 1.1\n---\na: 1",
            "a: *none",
            "a: [1",
        ] {
            assert!(yaml(bad).is_err(), "{bad}");
        }
        assert_eq!(yaml("").unwrap(), Node::null(0));
        let node = yaml("a: &x b\nc: *x\n").unwrap();
        assert_eq!(node.size(), 3);
    }
}
