//! The text of one document and the places in it: from a byte offset to the line that a fault shows.

use sr_common::{Code, Fault, SourceLine};

/// Larger input is refused before anything reads it.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Deeper nesting than this is refused by every reader.
pub(crate) const MAX_DEPTH: usize = 64;
/// The `path` of a fault that concerns the text as a whole.
pub(crate) const WHOLE: &str = "document";

/// A document's name and text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SourceText {
    pub name: String,
    pub text: String,
}

impl SourceText {
    /// Checks size, encoding and raw control characters; a leading byte-order mark is dropped.
    pub fn new(name: &str, bytes: &[u8]) -> Result<SourceText, Fault> {
        if bytes.len() > MAX_BYTES {
            return Err(Fault::new(
                Code::Pol002,
                WHOLE,
                format!("{} holds {} bytes, more than {MAX_BYTES}", printable(name), bytes.len()),
                "keep a policy below 1 MiB",
            ));
        }
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => {
                let source = SourceText {
                    name: name.into(),
                    text: String::from_utf8_lossy(bytes).into_owned(),
                };
                let valid = String::from_utf8_lossy(&bytes[..e.valid_up_to()]).len();
                return Err(source.fault(valid, WHOLE, "the text is not UTF-8", "save the file as UTF-8"));
            }
        };
        let source = SourceText {
            name: name.into(),
            text: text.into(),
        };
        match text
            .char_indices()
            .find(|(_, c)| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        {
            Some((at, c)) => Err(source.fault(
                at,
                WHOLE,
                &format!("the control character U+{:04X}", u32::from(c)),
                "remove it, or write it as an escape inside double quotes where a control character is meant",
            )),
            None => Ok(source),
        }
    }

    /// A malformed-document fault at byte `offset`.
    pub fn fault(&self, offset: usize, path: &str, found: &str, remedy: &str) -> Fault {
        Fault::new(Code::Pol002, path, found, remedy).with_source(self.line_at(offset))
    }

    /// The line that holds byte `offset`; lines and columns count from 1, columns in characters.
    pub fn line_at(&self, offset: usize) -> SourceLine {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.text[start..].split('\n').next().unwrap_or_default();
        SourceLine {
            file: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: self.text[start..offset].chars().count() + 1,
            text: line
                .trim_end()
                .chars()
                .take(200)
                .map(|c| if is_hostile(c) { '·' } else { c })
                .collect(),
        }
    }
}

/// A control, bidirectional or invisible character: never part of a name, command, path or key, and never shown raw.
pub(crate) fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A control character or one that reorders what is shown: not part of any text, be it an argument or a value.
pub(crate) fn is_reordering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` for a message: hostile characters as escapes, cut at 80 characters.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == 80 {
            out.push('…');
            break;
        }
        if is_hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_become_lines_and_columns() {
        let source = SourceText::new("p.yaml", "a: 1\nß: \u{202e}x\n".as_bytes()).unwrap();
        let line = source.line_at(9);
        assert_eq!((line.line, line.column, line.text.as_str()), (2, 4, "ß: ·x"));
        assert_eq!(source.line_at(999).line, 3);
    }

    #[test]
    fn size_encoding_and_nul_are_checked_first() {
        assert!(
            SourceText::new("p", &vec![b' '; MAX_BYTES + 1])
                .unwrap_err()
                .found
                .contains("more than")
        );
        let fault = SourceText::new("p", b"a: 1\nb: \xff\xfe").unwrap_err();
        assert_eq!(fault.source.map(|s| (s.line, s.column)), Some((2, 4)));
        let fault = SourceText::new("p", b"\xef\xbb\xbfa: \xff").unwrap_err();
        let place = fault.source.map(|s| (s.column, s.text));
        assert_eq!(
            place,
            Some((4, "a: \u{fffd}".into())),
            "the byte-order mark is no column"
        );
        assert!(SourceText::new("p", b"a: \0").unwrap_err().found.contains("U+0000"));
    }
}
