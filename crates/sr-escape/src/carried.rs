//! The harmless part of the corpus, as it is in the program: what may be run on anybody's machine.

use crate::Outcome;
use crate::case::Case;
use std::path::Path;

/// A file of tests/escape.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Below tests/escape.
    pub path: &'static str,
    pub text: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/carried.rs"));

/// Every case that is carried, with its text, in the order of the corpus.
pub fn cases() -> Outcome<Vec<(Case, &'static str)>> {
    CASES
        .iter()
        .map(|file| Ok((Case::parse(Path::new(file.path), file.text)?, file.text)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_carried_is_what_is_harmless() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/escape");
        let mut harmless: Vec<String> = Case::all(&corpus, |_, _| true)
            .unwrap()
            .iter()
            .filter(|case| case.harmless)
            .map(Case::id)
            .collect();
        harmless.sort();
        let carried = cases().unwrap();
        assert!(carried.iter().all(|(case, _)| case.harmless));
        let mut ids: Vec<String> = carried.iter().map(|(case, _)| case.id()).collect();
        ids.sort();
        assert_eq!(ids, harmless);
        assert!(ids.len() >= 50, "{}", ids.len());
        // What they include and import is carried too.
        for (case, text) in &carried {
            for line in text.lines().filter_map(|l| l.strip_prefix("#include \"")) {
                let name = line.trim_end_matches('"');
                let beside = format!("{}/{name}", case.group);
                assert!(
                    SHARED.iter().any(|file| file.path == name || file.path == beside),
                    "{}: {name}",
                    case.id()
                );
            }
        }
    }

    /// What plants the canaries here plants files, listeners and a victim: a case that wants another is no test.
    #[test]
    fn no_case_asks_for_what_is_not_planted() {
        for (case, text) in cases().unwrap() {
            for word in ["shm", "sysv", "msg", "mq", "key"] {
                let asked = [
                    format!("arg(\"{word}\")"),
                    format!("ARGS[\"{word}\"]"),
                    format!("${word}"),
                ];
                assert!(asked.iter().all(|a| !text.contains(a)), "{}: {word}", case.id());
            }
        }
    }
}
