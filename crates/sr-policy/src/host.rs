//! The operator's `host.yaml`: ceilings, allowed prefixes and the id range; a user's own file can only narrow it.

use crate::decode::{Decode, Decoder, section};
use crate::format::Format;
use crate::required;
use crate::rules::lexical;
use crate::source::read;
use crate::text::printable;
use crate::words::{Cpus, OrAll, Word};
use serde::Serialize;
use sr_common::{ByteSize, Code, Fault, Millis};

/// The most that a policy may ask for; `None`: no ceiling.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ceilings {
    /// CPUs' worth of time.
    pub cpu: Option<f64>,
    pub memory: Option<ByteSize>,
    pub pids: Option<u32>,
    pub disk: Option<ByteSize>,
    pub wall_time: Option<Millis>,
    pub open_files: Option<u32>,
    pub output: Option<ByteSize>,
}

/// What the operator of a host allows.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRules {
    pub ceilings: Ceilings,
    /// Absolute, normalised. `None`: any source; empty: none.
    pub allowed_prefixes: Option<Vec<String>>,
    /// First host id of the range that sandboxes of a privileged supervisor use.
    pub id_base: Option<u32>,
    /// No run without evidence.
    pub require_evidence: bool,
    /// The command that is safe-run-helper as root, its first word an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub helper: Option<Vec<String>>,
}

section! {
    pub struct HostDocument {
        api_version: Word,
        kind: Word,
        ceilings: CeilingsSection,
        allowed_prefixes: Vec<Word>,
        id_base: u32,
        /// Whether a policy may not say `durability: none`. Default `false`.
        require_evidence: bool,
        /// A command that is safe-run-helper as root: `[/usr/bin/sudo, -n, /usr/libexec/safe-run/safe-run-helper]`.
        helper: Vec<Word>,
    }
}

section! {
    pub struct CeilingsSection {
        cpu: OrAll<Cpus>,
        memory: OrAll<ByteSize>,
        pids: OrAll<u32>,
        disk: ByteSize,
        wall_time: Millis,
        open_files: u32,
        output: ByteSize,
    }
}

/// Reads a host file; its language is told by the extension of `file_name`.
///
/// # Errors
/// `SR-POL-001` for a missing `apiVersion` or `kind`, `SR-POL-002` for anything malformed; never an empty list.
pub fn parse_host(file_name: &str, text: &[u8]) -> Result<HostRules, Vec<Fault>> {
    let layer = read(file_name, text, Format::of(file_name)).map_err(|fault| vec![fault])?;
    let root = &layer.root;
    let mut d = Decoder::new(&layer.source);
    let document = HostDocument::decode(root, &mut d);
    if let Some(document) = &document {
        required::version(document.api_version.as_deref(), root, &mut d);
        required::present(root, "kind", "write `kind: Host`", &mut d);
        required::kind(document.kind.as_deref(), "Host", root, &mut d);
        for (i, prefix) in document.allowed_prefixes.iter().flatten().enumerate() {
            if lexical(prefix) != **prefix || !prefix.starts_with('/') {
                let path = format!("allowedPrefixes[{i}]");
                let found = format!("\"{}\" is not an absolute path in normal form", printable(prefix));
                let at = root.locate(&path).at;
                d.within(&path, |d| {
                    d.fault(Code::Pol002, at, found, "write an absolute path such as /home")
                });
            }
        }
        if let Some(first) = document
            .helper
            .as_ref()
            .map(|words| words.first().map_or("", |word| &word.0))
            && !first.starts_with('/')
        {
            let at = root.locate("helper").at;
            let found = format!("\"{}\" is no absolute path", printable(first));
            d.within("helper", |d| {
                d.fault(
                    Code::Pol002,
                    at,
                    found,
                    "name the program by its whole path, such as /usr/bin/sudo",
                )
            });
        }
        // Below 65536 are the ids of people and services; the top is the kernel's "no id".
        if let Some(base) = document
            .id_base
            .filter(|base| !(65_536..=u32::MAX - 65_536).contains(base))
        {
            let at = root.locate("idBase").at;
            let found = format!("{base} is outside 65536 to {}", u32::MAX - 65_536);
            d.within("idBase", |d| {
                d.fault(Code::Pol002, at, found, "write an id such as 1000000000")
            });
        }
    }
    let faults = d.finish();
    match document {
        Some(document) if faults.is_empty() => Ok(document.rules()),
        _ => Err(faults),
    }
}

impl HostDocument {
    fn rules(self) -> HostRules {
        let c = self.ceilings.unwrap_or_default();
        HostRules {
            ceilings: Ceilings {
                cpu: c.cpu.and_then(OrAll::limit).map(|n| n.0),
                memory: c.memory.and_then(OrAll::limit),
                pids: c.pids.and_then(OrAll::limit),
                disk: c.disk,
                wall_time: c.wall_time,
                open_files: c.open_files,
                output: c.output,
            },
            allowed_prefixes: self
                .allowed_prefixes
                .map(|list| list.into_iter().map(|word| word.0).collect()),
            id_base: self.id_base,
            require_evidence: self.require_evidence.unwrap_or(false),
            helper: self.helper.map(|list| list.into_iter().map(|word| word.0).collect()),
        }
    }
}

impl HostRules {
    /// These rules with `user`'s laid over them: every ceiling is the lower of both, a prefix counts only where both
    /// allow it, evidence is required where one requires it, and `idBase` and `helper` are the operator's alone.
    #[must_use]
    pub fn narrow(self, user: HostRules) -> HostRules {
        fn lower<T: PartialOrd>(a: Option<T>, b: Option<T>) -> Option<T> {
            match (a, b) {
                (Some(a), Some(b)) => Some(if b < a { b } else { a }),
                (a, b) => a.or(b),
            }
        }
        let (own, his) = (self.ceilings, user.ceilings);
        HostRules {
            ceilings: Ceilings {
                cpu: lower(own.cpu, his.cpu),
                memory: lower(own.memory, his.memory),
                pids: lower(own.pids, his.pids),
                disk: lower(own.disk, his.disk),
                wall_time: lower(own.wall_time, his.wall_time),
                open_files: lower(own.open_files, his.open_files),
                output: lower(own.output, his.output),
            },
            allowed_prefixes: match (self.allowed_prefixes, user.allowed_prefixes) {
                (Some(own), Some(his)) => Some(common(&own, &his)),
                (own, his) => own.or(his),
            },
            id_base: self.id_base,
            require_evidence: self.require_evidence || user.require_evidence,
            helper: self.helper,
        }
    }
}

/// The directories below a prefix of both lists.
fn common(a: &[String], b: &[String]) -> Vec<String> {
    let below = |x: &[String], y: &[String]| -> Vec<String> {
        x.iter()
            .filter(|path| y.iter().any(|dir| sr_common::path::within(path, dir)))
            .cloned()
            .collect()
    };
    let mut out = below(a, b);
    out.extend(below(b, a));
    out.sort();
    out.dedup();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(body: &str) -> Result<HostRules, Vec<Fault>> {
        parse_host(
            "host.yaml",
            format!("apiVersion: safe-run/v1\nkind: Host\n{body}").as_bytes(),
        )
    }

    #[test]
    fn a_user_can_only_narrow() {
        let operator = host(
            "ceilings: {cpu: 4, memory: 8GiB, wallTime: 1h}\nallowedPrefixes: [/home, /srv/data]\nidBase: 1000000\n",
        )
        .unwrap();
        let user = host(
            "requireEvidence: true\nceilings: {cpu: 8, memory: 1GiB, pids: 100}\nallowedPrefixes: [/home/ann, /srv, /etc]\nidBase: 70000\n",
        )
        .unwrap();
        let both = operator.narrow(user);
        assert_eq!(both.ceilings.cpu, Some(4.0));
        assert_eq!(both.ceilings.memory, Some(ByteSize(1 << 30)));
        assert_eq!(
            (both.ceilings.pids, both.ceilings.wall_time),
            (Some(100), Some(Millis(3_600_000)))
        );
        assert_eq!(
            both.allowed_prefixes,
            Some(vec!["/home/ann".into(), "/srv/data".into()])
        );
        assert_eq!(both.id_base, Some(1_000_000));
        assert!(both.require_evidence);
    }

    #[test]
    fn host_files_are_strict() {
        for (body, path) in [
            ("ceilings: {ram: 1GiB}\n", "ceilings.ram"),
            ("allowedPrefixes: [home]\n", "allowedPrefixes[0]"),
            ("allowedPrefixes: [/a/..]\n", "allowedPrefixes[0]"),
            ("idBase: 0\n", "idBase"),
            ("helper: [sudo, -n]\n", "helper"),
            ("helper: []\n", "helper"),
            ("mounts: []\n", "mounts"),
        ] {
            let faults = host(body).unwrap_err();
            assert_eq!(
                (faults[0].code, faults[0].path.as_str()),
                (Code::Pol002, path),
                "{body}"
            );
        }
        let empty = parse_host("host.yaml", b"").unwrap_err();
        assert_eq!(
            empty.iter().map(|f| (f.code, f.path.as_str())).collect::<Vec<_>>(),
            [(Code::Pol001, "apiVersion"), (Code::Pol001, "kind")]
        );
        assert_eq!(host("kind: Policy\n").unwrap_err()[0].path, "kind");
        assert_eq!(host(""), Ok(HostRules::default()));
    }
}
