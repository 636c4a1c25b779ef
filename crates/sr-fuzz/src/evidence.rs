//! Evidence of made-up runs, and what verification says once something in it is changed.

pub mod approvals;
pub mod chain;
pub mod documents;
pub mod report;
mod sample;

use sr_evidence::verify::Verification;

/// Which line of a file a verification complains about first; `None`: about no line of it.
fn line_of(v: &Verification, file: &str) -> Option<u64> {
    let problem = v.first_problem.as_ref()?;
    problem.line.filter(|_| problem.path == file)
}

fn lines(bytes: &[u8]) -> Vec<&[u8]> {
    bytes.split_inclusive(|b| *b == b'\n').collect()
}

/// How `changed` differs from `whole`, line by line.
struct Difference {
    /// Nothing but an end is missing.
    is_prefix: bool,
    /// Whole lines at the beginning that are what they were.
    same: u64,
    /// After these there is one more piece, without a newline, and nothing else.
    open_end: bool,
}

impl Difference {
    fn of(whole: &[u8], changed: &[u8]) -> Difference {
        let (old, new) = (lines(whole), lines(changed));
        let same = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        Difference {
            is_prefix: whole.starts_with(changed),
            same: same as u64,
            open_end: new.len() == same + 1 && !changed.ends_with(b"\n"),
        }
    }
}

/// What a change of lines can be, besides of bytes.
enum Change {
    Bytes(Vec<u8>),
    /// One line's content, and its hash so that the line holds by itself.
    Rehashed(Vec<u8>),
}

impl Change {
    fn bytes(&self) -> &[u8] {
        let (Change::Bytes(bytes) | Change::Rehashed(bytes)) = self;
        bytes
    }
}

/// What a verification came to, for whoever looks at a failing input.
fn says(v: &Verification) -> String {
    format!("{:?} after {} events: {:?}", v.status, v.events, v.first_problem)
}
