//! File names as text: lossless, and harmless on a terminal.

use sr_common::digest::hex;

/// Every byte that is not printable UTF-8 as `\xNN`, and the backslash too, so that [`unescape`] gives back the bytes.
/// Characters that steer a terminal or reorder text count as not printable.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || steers(c) {
                push_hex(&mut out, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                out.push(c);
            }
        }
        push_hex(&mut out, chunk.invalid());
    }
    out
}

/// The bytes that [`escape`] was given; `None` if `text` is not such a text.
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let digits = rest.get(at + 1..at + 4)?.strip_prefix('x')?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

fn push_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        out.push_str("\\x");
        out.push_str(&hex(&[*byte]));
    }
}

/// Control characters, line separators, and what makes text read in another order or not at all.
pub(super) fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lossless_and_harmless() {
        for (bytes, text) in [
            (b"plain/name".as_slice(), "plain/name"),
            ("grün 日本".as_bytes(), "grün 日本"),
            (b"a\\x41", "a\\x5cx41"),
            (b"\x1b[2J\n", "\\x1b[2J\\x0a"),
            (b"bad\xff\xc3", "bad\\xff\\xc3"),
            ("a\u{202e}b".as_bytes(), "a\\xe2\\x80\\xaeb"),
        ] {
            assert_eq!(escape(bytes), text);
            assert_eq!(unescape(text).as_deref(), Some(bytes));
        }
        for bad in ["\\", "\\x", "\\xg0", "\\n", "a\\x1"] {
            assert_eq!(unescape(bad), None, "{bad}");
        }
    }
}
