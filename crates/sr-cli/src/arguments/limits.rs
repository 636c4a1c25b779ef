//! How a single value of the command line reads: sizes, durations, CPUs, variables, mounts.

use sr_common::{ByteSize, Millis};
use sr_policy::spec::{BackendChoice, Mount};
use sr_policy::{Cpus, OrAll};

pub fn size(text: &str) -> Result<ByteSize, String> {
    ByteSize::parse(text)
}

pub fn duration(text: &str) -> Result<Millis, String> {
    Millis::parse(text)
}

pub fn cpu(text: &str) -> Result<OrAll<Cpus>, String> {
    or_all(text, |text| match text.parse::<f64>() {
        Ok(n) if n.is_finite() && n > 0.0 => Ok(Cpus(n)),
        _ => Err("write a positive number such as 1 or 0.5, or `all`".into()),
    })
}

pub fn memory(text: &str) -> Result<OrAll<ByteSize>, String> {
    or_all(text, ByteSize::parse)
}

pub fn pids(text: &str) -> Result<OrAll<u32>, String> {
    or_all(text, |text| {
        let number = text.parse().ok();
        number.ok_or_else(|| "write a whole number such as 64, or `all`".into())
    })
}

pub fn backend(text: &str) -> Result<BackendChoice, String> {
    text.parse().map_err(|_| format!("write one of {}", backends()))
}

pub fn backend_or_all(text: &str) -> Result<OrAll<BackendChoice>, String> {
    or_all(text, |text| backend(text).map_err(|why| format!("{why}, all")))
}

fn backends() -> String {
    BackendChoice::all()
        .map(BackendChoice::name)
        .collect::<Vec<_>>()
        .join(", ")
}

fn or_all<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<OrAll<T>, String> {
    match text {
        "all" => Ok(OrAll::ALL),
        text => parse(text).map(OrAll::Limit),
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
        assert_eq!((cpu("0.5"), cpu("all")), (Ok(OrAll::Limit(Cpus(0.5))), Ok(OrAll::ALL)));
        assert_eq!((pids("64"), pids("all")), (Ok(OrAll::Limit(64)), Ok(OrAll::ALL)));
        let size = OrAll::Limit(ByteSize(4 << 20));
        assert_eq!((memory("4MiB"), memory("all")), (Ok(size), Ok(OrAll::ALL)));
        for bad in ["0", "-1", "inf", "NaN", "x", ""] {
            assert!(cpu(bad).is_err() && pids(bad).is_err() == (bad != "0"), "{bad}");
        }
    }
}
