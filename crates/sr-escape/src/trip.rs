//! Canaries: what shows, seen from outside, that something outside was reached.

use crate::Outcome;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

/// What shows, seen from outside, that something outside was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Canary {
    Read,
    Change,
    Process,
    Connect,
    Ipc,
    Host,
    /// None: an attempt that succeeded.
    Call,
}

impl Canary {
    pub(crate) const ALL: [(&str, Canary); 7] = [
        ("read", Canary::Read),
        ("change", Canary::Change),
        ("process", Canary::Process),
        ("connect", Canary::Connect),
        ("ipc", Canary::Ipc),
        ("host", Canary::Host),
        ("call", Canary::Call),
    ];

    pub fn name(self) -> &'static str {
        Canary::ALL
            .iter()
            .find(|(_, c)| *c == self)
            .map_or("", |(name, _)| name)
    }

    pub fn parse(word: &str) -> Option<Canary> {
        Canary::ALL.iter().find(|(name, _)| *name == word).map(|(_, c)| *c)
    }
}

/// Something outside that was reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trip {
    pub canary: Canary,
    pub what: String,
}

impl Trip {
    pub fn new(canary: Canary, what: impl Into<String>) -> Trip {
        Trip {
            canary,
            what: what.into(),
        }
    }
}

const MARK: &[u8] = b"CANARY-";

/// The words that only who planted them knows, by where each of them is.
pub type Words = BTreeMap<&'static str, String>;

/// A new word for each of these places.
pub fn words(places: &[&'static str]) -> Outcome<Words> {
    places
        .iter()
        .map(|place| Ok((*place, format!("CANARY-{}", random()?))))
        .collect()
}

/// What of `words` is in `text`: it was read.
pub fn read_in(text: &[u8], words: &Words) -> Vec<Trip> {
    let trip = |word| Trip::new(Canary::Read, place(word));
    found(text, words).into_iter().map(trip).collect()
}

/// What stands where, for people.
pub(crate) fn place(word: &str) -> &str {
    match word {
        "secret" => "DIR/secret",
        "public" => "DIR/public",
        "memory" => "the victim's memory",
        "arguments" => "the victim's arguments",
        "environment" => "the victim's environment",
        "shm" => "the file in /dev/shm",
        "sysv" => "the shared memory segment",
        "msg" => "the message queue",
        "mq" => "the POSIX queue",
        "key" => "the user key",
        _ => "the tool's environment",
    }
}

/// The canaries that are in `text`.
pub(crate) fn found(text: &[u8], words: &Words) -> Vec<&'static str> {
    let mut found = Vec::new();
    for at in 0..text.len().saturating_sub(MARK.len()) {
        if !text[at..].starts_with(MARK) {
            continue;
        }
        let here = words.iter().find(|(_, word)| text[at..].starts_with(word.as_bytes()));
        found.extend(here.map(|(name, _)| *name));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Sixteen digits that nobody guesses.
pub fn random() -> Outcome<String> {
    let mut bytes = [0; 8];
    let read = fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|e| format!("/dev/urandom: {e}"))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_are_found_wherever_they_are() {
        let words = BTreeMap::from([("secret", "CANARY-00ff".to_owned()), ("key", "CANARY-1234".to_owned())]);
        assert_eq!(found(b"found: 'CANARY-00ff\\n'", &words), ["secret"]);
        assert_eq!(
            found(b"\0CANARY-1234CANARY-00ff CANARY-1234", &words),
            ["key", "secret"]
        );
        assert_eq!(
            found(b"CANARY-00f CANARY- CANARY-12345678 canary-00ff", &words),
            ["key"]
        );
        assert!(found(b"CANARY-0", &words).is_empty() && found(b"", &words).is_empty());
        assert_eq!(read_in(b"CANARY-00ff", &words), [Trip::new(Canary::Read, "DIR/secret")]);
    }
}
