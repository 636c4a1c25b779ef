//! The `#!` line of a script, read as the kernel reads it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// As many bytes as the kernel looks at.
const LOOKED_AT: u64 = 256;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub interpreter: PathBuf,
    pub argument: Option<Vec<u8>>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// Nothing after `#!`.
    Empty,
    /// The interpreter's path does not end within the bytes that the kernel reads.
    TooLong,
}

/// `None`: the file does not begin with `#!`.
pub(super) fn read(host: &Path) -> io::Result<Option<Result<Line, Malformed>>> {
    let mut head = Vec::with_capacity(256);
    File::open(host)?.take(LOOKED_AT).read_to_end(&mut head)?;
    Ok(parse(&head))
}

/// The same of an open file.
pub(crate) fn of_file(file: &File) -> io::Result<Option<Result<Line, Malformed>>> {
    let mut head = vec![0; LOOKED_AT as usize];
    let read = file.read_at(&mut head, 0)?;
    head.truncate(read);
    Ok(parse(&head))
}

fn parse(head: &[u8]) -> Option<Result<Line, Malformed>> {
    let rest = head.strip_prefix(b"#!")?;
    let blank = |c: &u8| *c == b' ' || *c == b'\t';
    let end = rest.iter().position(|c| *c == b'\n' || *c == 0);
    let cut = end.is_none() && head.len() as u64 >= LOOKED_AT;
    let line = &rest[..end.unwrap_or(rest.len())];
    let Some(start) = line.iter().position(|c| !blank(c)) else {
        return Some(Err(Malformed::Empty));
    };
    let line = &line[start..];
    let stop = line.iter().position(blank);
    if cut && stop.is_none() {
        return Some(Err(Malformed::TooLong));
    }
    let (interpreter, argument) = line.split_at(stop.unwrap_or(line.len()));
    let first = argument.iter().position(|c| !blank(c)).unwrap_or(argument.len());
    let last = argument.iter().rposition(|c| !blank(c)).map_or(first, |i| i + 1);
    let argument = argument[first..last].to_vec();
    Some(Ok(Line {
        interpreter: OsStr::from_bytes(interpreter).into(),
        argument: (!argument.is_empty()).then_some(argument),
    }))
}

/// The program that `env` would look up, for `#!/usr/bin/env [-S] [-options] [NAME=value] PROGRAM …`.
pub(super) fn program_of_env(argument: &[u8]) -> Option<&OsStr> {
    argument
        .split(|c| *c == b' ' || *c == b'\t')
        .map(|word| word.strip_prefix(b"-S").unwrap_or(word))
        .find(|word| !word.is_empty() && !word.starts_with(b"-") && !word.contains(&b'='))
        .map(OsStr::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(interpreter: &str, argument: Option<&str>) -> Option<Result<Line, Malformed>> {
        Some(Ok(Line {
            interpreter: interpreter.into(),
            argument: argument.map(|a| a.as_bytes().to_vec()),
        }))
    }

    #[test]
    fn lines() {
        assert_eq!(parse(b"#!/bin/sh\nx"), line("/bin/sh", None));
        assert_eq!(
            parse(b"#! /usr/bin/env  -S python3 -u \t\n"),
            line("/usr/bin/env", Some("-S python3 -u"))
        );
        assert_eq!(parse(b"#!/bin/sh"), line("/bin/sh", None));
        assert_eq!(parse(b"#!/bin/sh\r\n"), line("/bin/sh\r", None));
        assert_eq!(parse(b"\x7fELF"), None);
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"#!\n"), Some(Err(Malformed::Empty)));
        assert_eq!(parse(b"#!  "), Some(Err(Malformed::Empty)));
        let long = [b"#!/".as_slice(), &[b'a'; 300]].concat();
        assert_eq!(parse(&long[..256]), Some(Err(Malformed::TooLong)));
        let long_argument = [b"#!/a ".as_slice(), &[b'a'; 300]].concat();
        assert!(matches!(parse(&long_argument[..256]), Some(Ok(l)) if l.argument.as_ref().unwrap().len() == 251));
    }

    #[test]
    fn env() {
        assert_eq!(program_of_env(b"python3"), Some(OsStr::new("python3")));
        assert_eq!(program_of_env(b"-S python3 -u"), Some(OsStr::new("python3")));
        assert_eq!(program_of_env(b"-Spython3"), Some(OsStr::new("python3")));
        assert_eq!(program_of_env(b"-i A=b node"), Some(OsStr::new("node")));
        assert_eq!(program_of_env(b"-i"), None);
    }
}
