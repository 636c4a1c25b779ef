//! JSON to nodes with positions; strings and numbers are decoded by serde_json.

use crate::node::{Key, Kind, Node, Typed};
use crate::text::{MAX_DEPTH, SourceText, WHOLE};
use sr_common::Fault;

pub(crate) fn read(source: &SourceText) -> Result<Node, Fault> {
    let mut reader = Reader {
        source,
        text: &source.text,
        at: 0,
    };
    reader.space();
    if reader.peek().is_none() {
        return Ok(Node::null(0));
    }
    let node = reader.value(0)?;
    reader.space();
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader.refuse("text after the document", "keep one JSON value a file")),
    }
}

struct Reader<'a> {
    source: &'a SourceText,
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn refuse(&self, found: &str, remedy: &str) -> Fault {
        self.source.fault(self.at, WHOLE, &format!("not JSON: {found}"), remedy)
    }

    fn value(&mut self, depth: usize) -> Result<Node, Fault> {
        let at = self.at;
        let kind = match self.peek() {
            Some(b'{' | b'[') if depth >= MAX_DEPTH => {
                return Err(self.refuse(
                    &format!("nesting deeper than {MAX_DEPTH}"),
                    "a policy needs no such depth",
                ));
            }
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Kind::Text {
                value: self.string()?,
                quoted: true,
            },
            Some(_) => self.word()?,
            None => return Err(self.refuse("the text ends where a value is due", "complete the document")),
        };
        Ok(Node { kind, at })
    }

    fn map(&mut self, depth: usize) -> Result<Kind, Fault> {
        let mut entries = Vec::new();
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Kind::Map(entries));
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.refuse("a key is due here", "write the key in double quotes"));
            }
            let at = self.at;
            let key = Key {
                text: self.string()?,
                at,
                textual: true,
            };
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.refuse("`:` is due here", "write `:` after the key"));
            }
            self.at += 1;
            self.space();
            entries.push((key, self.value(depth + 1)?));
            if self.ends(b'}')? {
                return Ok(Kind::Map(entries));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Kind, Fault> {
        let mut items = Vec::new();
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Kind::List(items));
        }
        loop {
            self.space();
            items.push(self.value(depth + 1)?);
            if self.ends(b']')? {
                return Ok(Kind::List(items));
            }
        }
    }

    /// After an element: `true` at the closing bracket, `false` at a comma.
    fn ends(&mut self, close: u8) -> Result<bool, Fault> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(c) if c == close => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.refuse(
                &format!("`,` or `{}` is due here", char::from(close)),
                "complete the list or map",
            )),
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        let bytes = self.text.as_bytes();
        let mut end = self.at + 1;
        while let Some(byte) = bytes.get(end) {
            match byte {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let raw = self.text.get(self.at..=end);
        match raw.map(serde_json::from_str::<String>) {
            Some(Ok(value)) => {
                self.at = end + 1;
                Ok(value)
            }
            Some(Err(_)) => Err(self.refuse("a string with a wrong escape or a raw control character", "correct it")),
            None => Err(self.refuse("a string without an end", "close it with `\"`")),
        }
    }

    /// `null`, a boolean or a number.
    fn word(&mut self) -> Result<Kind, Fault> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-')))
            .unwrap_or(rest.len());
        let raw = &rest[..end];
        let typed = match raw {
            "null" => Some(Typed::Null),
            "true" => Some(Typed::Bool(true)),
            "false" => Some(Typed::Bool(false)),
            _ => number(raw),
        };
        let Some(typed) = typed else {
            return Err(self.refuse(
                "a value is due here",
                "write a string in double quotes, a number, true, false, [] or {}",
            ));
        };
        self.at += end;
        Ok(Kind::Typed(typed, raw.to_owned()))
    }
}

fn number(raw: &str) -> Option<Typed> {
    match serde_json::from_str::<serde_json::Number>(raw) {
        Ok(_) if raw.bytes().all(|b| b.is_ascii_digit() || b == b'-') && raw.len() < 30 => {
            raw.parse().ok().map(Typed::Int)
        }
        Ok(n) => n.as_f64().map(Typed::Float),
        // `1e999` is a number in JSON's grammar, only too large: the decoder then says "not finite".
        Err(_) if raw.starts_with(|c: char| c.is_ascii_digit() || c == '-') => raw
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_infinite() && !raw.ends_with(char::is_alphabetic))
            .map(Typed::Float),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Result<Node, Fault> {
        read(&SourceText {
            name: "p.json".into(),
            text: text.into(),
        })
    }

    #[test]
    fn positions_and_values() {
        let node = json("{\"a\": [1, \"\\u0041\"],\n \"b\": {}}").unwrap();
        let Kind::Map(entries) = &node.kind else {
            panic!("{node:?}")
        };
        assert_eq!(entries[1].0.at, 22);
        let Kind::List(items) = &entries[0].1.kind else {
            panic!("{node:?}")
        };
        assert_eq!(
            items[1].kind,
            Kind::Text {
                value: "A".into(),
                quoted: true
            }
        );
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for bad in [
            "{",
            "[1,]",
            "{a: 1}",
            "{\"a\" 1}",
            "[1] 2",
            "\"\\x\"",
            "\"",
            "\"\\",
            "01",
            "tru",
            "// c\n1",
            "-inf",
            "\"é\\",
            "{\"a\":1,}",
            "+1",
            "'a'",
            "NaN",
            "Infinity",
        ] {
            assert!(json(bad).is_err(), "{bad}");
        }
        assert!(json(&"[".repeat(100_000)).unwrap_err().found.contains("deeper"));
        assert!(json(&"{\"a\":".repeat(100_000)).is_err());
        assert_eq!(json(" \n").unwrap(), Node::null(0));
        assert!(matches!(json("1e999").unwrap().kind, Kind::Typed(Typed::Float(n), _) if n.is_infinite()));
    }
}
