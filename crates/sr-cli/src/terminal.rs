//! What reaches a person's terminal: cleaned of control characters, coloured only where colour is wanted.

use sr_common::Fault;
use std::fmt::Write as _;
use std::io::Write as _;

/// How to write to standard error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    pub color: bool,
}

impl Style {
    pub fn error(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

/// `text` on one line with nothing in it that a terminal obeys: control characters and the invisible ones that change
/// the direction of text are written as escapes.
pub fn clean(text: &str) -> String {
    if !text.contains(is_hostile) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_hostile(c) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// As [`clean`], with the lines kept.
pub fn clean_lines(text: &str) -> String {
    text.split('\n').map(clean).collect::<Vec<_>>().join("\n")
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A fault as a person reads it.
pub fn fault_text(fault: &Fault, style: Style) -> String {
    let mut shown = fault.clone();
    shown.path = clean(&fault.path);
    shown.found = clean(&fault.found);
    shown.remedy = clean_lines(&fault.remedy);
    if let Some(source) = &mut shown.source {
        source.file = clean(&source.file);
        source.text = clean_source(&source.text);
    }
    let text = shown.to_string();
    if !style.color {
        return text;
    }
    let code = fault.code.as_str();
    let text = text.replacen(code, &style.error(code), 1);
    text.replacen("\n  fix:", &format!("\n  {}", style.good("fix:")), 1)
}

// One character for one, or the caret would point elsewhere.
fn clean_source(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if is_hostile(c) {
                '·'
            } else {
                c
            }
        })
        .collect()
}

/// Writes to standard output; a reader that has gone (`| head`) is no error.
pub fn out(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Writes a line to standard error.
pub fn err(text: &str) {
    let mut line = text.to_owned();
    line.push('\n');
    // One call, so that the program's own last output does not fall in between.
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// `1 file`, `2 files`.
pub fn count(n: u64, one: &str) -> String {
    if n == 1 {
        format!("{n} {one}")
    } else {
        format!("{n} {one}s")
    }
}

/// Seconds with as many digits as a person wants: `0.012 s`, `1.52 s`, `75 s`.
pub fn seconds(micros: u64) -> String {
    let s = micros as f64 / 1e6;
    match micros {
        0..100_000 => format!("{s:.3} s"),
        100_000..10_000_000 => format!("{s:.2} s"),
        _ => format!("{s:.0} s"),
    }
}

/// A size as a person reads it: `1.5 MiB`.
pub fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sr_common::{Code, SourceLine};

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(
            clean("a\u{1b}[2Jb\r\n\u{202e}c\u{7f}\u{9b}"),
            "a\\u{1b}[2Jb\\r\\n\\u{202e}c\\u{7f}\\u{9b}"
        );
        assert_eq!(clean("naïve файл"), "naïve файл");
        let fault = Fault::new(Code::Pol002, "p\u{1b}", "f\n\u{1b}", "r").with_source(SourceLine {
            file: "x\u{1b}".into(),
            line: 1,
            column: 2,
            text: "\ta\u{1b}".into(),
        });
        let text = fault_text(&fault, Style::default());
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("   |  a·\n   |  ^"), "{text}");
    }

    #[test]
    fn colour_only_where_wanted() {
        let fault = Fault::new(Code::Run001, "p", "f", "r");
        assert_eq!(fault_text(&fault, Style { color: false }), "SR-RUN-001 p: f\n  fix: r");
        assert!(fault_text(&fault, Style { color: true }).starts_with("\u{1b}[1;31mSR-RUN-001\u{1b}[0m p"));
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(
            (seconds(12_345), seconds(1_523_000), seconds(75_200_000)),
            ("0.012 s".into(), "1.52 s".into(), "75 s".into())
        );
        assert_eq!(
            (size(12), size(1536), size(5 << 30)),
            ("12 B".into(), "1.5 KiB".into(), "5.0 GiB".into())
        );
        assert_eq!(
            (count(1, "file"), count(0, "file")),
            ("1 file".into(), "0 files".into())
        );
    }
}
