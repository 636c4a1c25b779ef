//! How a single value of the command line reads: sizes, durations, CPUs, variables, mounts.

use sr_common::{ByteSize, Millis};
use sr_policy::Cpu;
use sr_policy::spec::Mount;

pub fn size(text: &str) -> Result<ByteSize, String> {
    ByteSize::parse(text)
}

pub fn duration(text: &str) -> Result<Millis, String> {
    Millis::parse(text)
}

pub fn cpu(text: &str) -> Result<Cpu, String> {
    if text == "all" {
        return Ok(Cpu::ALL);
    }
    match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n > 0.0 => Ok(Cpu::Count(n)),
        _ => Err("write a positive number such as 1 or 0.5, or `all`".into()),
    }
}

/// `K=V`, or `K` for the caller's value.
pub fn variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    if name.is_empty() {
        return Err("write NAME=VALUE".into());
    }
    Ok((name.to_owned(), value))
}

/// `SRC:DST[:ro|rw|captured]`.
pub fn mount(text: &str) -> Result<Mount, String> {
    let form = "write SRC:DST, SRC:DST:ro, SRC:DST:rw or SRC:DST:captured; a path with `:` needs a policy file";
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts[..] {
        [source, target] => (source, target, "ro"),
        [source, target, mode] => (source, target, mode),
        _ => return Err(form.into()),
    };
    if source.is_empty() || target.is_empty() || !matches!(mode, "ro" | "rw" | "captured") {
        return Err(form.into());
    }
    Ok(Mount {
        source: source.into(),
        target: Some(target.into()),
        read_only: mode == "ro",
        captured: mode == "captured",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read_only_unless_said() {
        let m = mount("./src:/work").unwrap();
        assert_eq!(
            (m.source.as_str(), m.target.as_deref(), m.read_only, m.captured),
            ("./src", Some("/work"), true, false)
        );
        assert!(!mount("/a:/b:rw").unwrap().read_only);
        assert!(mount("/a:/b:captured").unwrap().captured);
        for bad in ["", "/a", ":/b", "/a:", "/a:/b:", "/a:/b:RW", "/a:/b:ro:x", "/a:/b:z"] {
            assert!(mount(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variables_and_cpus() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), Some("b=c".into()))));
        assert_eq!(variable("A="), Ok(("A".into(), Some(String::new()))));
        assert_eq!(variable("A"), Ok(("A".into(), None)));
        assert!(variable("=x").is_err() && variable("").is_err());
        assert_eq!((cpu("0.5"), cpu("all")), (Ok(Cpu::Count(0.5)), Ok(Cpu::ALL)));
        for bad in ["0", "-1", "inf", "NaN", "x", ""] {
            assert!(cpu(bad).is_err(), "{bad}");
        }
    }
}
