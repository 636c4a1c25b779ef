//! Rules that need the host: canonical paths, the run store, keys, and the operator's ceilings.

use super::{Rule, mounts, view};
use crate::host::HostRules;
use crate::spec::{Durability, Mount, PolicySpec};
use crate::text::printable;
use sr_common::Fault;
use sr_common::path::lexical;
use sr_common::path::within;

const HOLDS_STORE: Rule = Rule::new(
    "SR-RULE-mount-holds-store",
    "A writable mount may not hold the run store.",
);
const HOLDS_KEYS: Rule = Rule::new(
    "SR-RULE-mount-holds-keys",
    "A writable mount may not hold Safe-Run's keys.",
);
const HOLDS_POLICY: Rule = Rule::new(
    "SR-RULE-mount-holds-policy",
    "A writable mount may not hold a policy in force.",
);
const SHOWS_STORE: Rule = Rule::new(
    "SR-RULE-mount-shows-store",
    "No mount has its source in the run store or among the keys.",
);
const PREFIX: Rule = Rule::new(
    "SR-RULE-source-outside-prefixes",
    "Sources lie below the operator's `allowedPrefixes`, symbolic links followed.",
);
const CEILING: Rule = Rule::new("SR-RULE-above-ceiling", "No limit is above the operator's ceiling.");

const EVIDENCE: Rule = Rule::new(
    "SR-RULE-evidence-required",
    "Where the operator's `requireEvidence` is set, `durability` is not `none`.",
);

pub(super) const RULES: &[Rule] = &[
    HOLDS_STORE,
    HOLDS_KEYS,
    HOLDS_POLICY,
    SHOWS_STORE,
    PREFIX,
    CEILING,
    EVIDENCE,
];

/// What the rules must know of the host. All paths absolute and canonical; the caller resolves them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostContext {
    /// Where the run starts; what is not resolved is judged by its letters from there.
    pub cwd: String,
    /// The run store.
    pub store: String,
    /// Key files and folders.
    pub keys: Vec<String>,
    /// The policy file, the files it extends, the host files.
    pub policy_files: Vec<String>,
    /// One for each mount, in their order; `None`: it does not exist.
    pub sources: Vec<Option<String>>,
    /// `rootfs.path`.
    pub root: Option<String>,
    /// The operator's rules, already narrowed by the user's.
    pub operator: HostRules,
}

impl HostContext {
    fn resolve(&self, canonical: Option<&String>, written: &str) -> String {
        match canonical {
            Some(found) => found.clone(),
            None if written.starts_with('/') => lexical(written),
            None => lexical(&format!("{}/{written}", self.cwd)),
        }
    }
}

/// Judges a complete policy by the rules that need the host. Empty: nothing is wrong.
pub fn validate_host(spec: &PolicySpec, host: &HostContext) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (i, mount) in spec.mounts.iter().enumerate() {
        let source = host.resolve(host.sources.get(i).and_then(Option::as_ref), &mount.source);
        // The letters were judged already; a symbolic link may lead to what they hide.
        if source != lexical(&mount.source) {
            mounts::source(i, &source, mount, &mut faults);
            if mount.target.is_none() {
                mounts::place_in_view(i, "source", &source, &mut faults);
            }
        }
        own_paths(i, &source, mount, host, &mut faults);
        prefixes(&format!("mounts[{i}].source"), &source, host, &mut faults);
    }
    if let Some(path) = &spec.rootfs.path {
        let canonical = host.resolve(host.root.as_ref(), path);
        if canonical != lexical(path) {
            view::root_directory(&canonical, &mut faults);
        }
        prefixes("rootfs.path", &canonical, host, &mut faults);
    }
    ceilings(spec, &host.operator, &mut faults);
    if host.operator.require_evidence && spec.evidence.durability == Durability::None {
        let found = "none, and the operator requires evidence";
        faults.push(EVIDENCE.fault("evidence.durability", found, "write process or machine"));
    }
    faults
}

fn own_paths(i: usize, source: &str, mount: &Mount, host: &HostContext, faults: &mut Vec<Fault>) {
    let at = format!("mounts[{i}].source");
    let own = |rule: Rule, path: &str, what: &str, faults: &mut Vec<Fault>| {
        let writable = !mount.read_only && !mount.captured;
        if !path.is_empty() && writable && within(path, source) {
            let found = format!(
                "the writable mount {} holds {what} {}",
                printable(source),
                printable(path)
            );
            let remedy = format!("mount it with `captured: true` or `readOnly: true`, or move {what}");
            faults.push(rule.fault(at.clone(), found, remedy));
        }
    };
    own(HOLDS_STORE, &host.store, "the run store", faults);
    for key in &host.keys {
        own(HOLDS_KEYS, key, "the keys", faults);
    }
    for file in &host.policy_files {
        own(HOLDS_POLICY, file, "the policy", faults);
    }
    // The view masks them where a mount lies above; a mount from inside would go around the mask.
    let private = std::iter::once(&host.store).chain(&host.keys).filter(|p| !p.is_empty());
    for path in private.filter(|p| within(source, p)) {
        let found = format!("{} lies in {}", printable(source), printable(path));
        faults.push(SHOWS_STORE.fault(at.clone(), found, "copy what is needed elsewhere and mount that"));
    }
}

fn prefixes(path: &str, source: &str, host: &HostContext, faults: &mut Vec<Fault>) {
    let Some(allowed) = &host.operator.allowed_prefixes else {
        return;
    };
    if !allowed.iter().any(|prefix| within(source, &lexical(prefix))) {
        let found = format!("{} is outside the prefixes that the operator allows", printable(source));
        let remedy = match allowed.is_empty() {
            true => "the operator allows no mounts".to_owned(),
            false => format!("allowed: {}", allowed.join(", ")),
        };
        faults.push(PREFIX.fault(path, found, remedy));
    }
}

fn ceilings(spec: &PolicySpec, operator: &HostRules, faults: &mut Vec<Fault>) {
    let (r, top) = (&spec.resources, &operator.ceilings);
    let mut above = |over: bool, field: &str, asked: String, ceiling: Option<String>| {
        if over {
            let ceiling = ceiling.unwrap_or_default();
            let found = format!("{asked}, above the operator's ceiling of {ceiling}");
            faults.push(CEILING.fault(format!("resources.{field}"), found, format!("write at most {ceiling}")));
        }
    };
    // What has no limit is above every ceiling.
    fn over<T: PartialOrd>(asked: Option<T>, max: Option<T>) -> bool {
        max.is_some_and(|max| asked.is_none_or(|asked| asked > max))
    }
    fn text<T: ToString>(asked: Option<T>) -> String {
        asked.map_or("all".to_owned(), |n| n.to_string())
    }
    above(over(r.cpu, top.cpu), "cpu", text(r.cpu), top.cpu.map(|n| n.to_string()));
    above(
        over(r.memory, top.memory),
        "memory",
        text(r.memory),
        top.memory.map(|n| n.to_string()),
    );
    above(
        over(r.pids, top.pids),
        "pids",
        text(r.pids),
        top.pids.map(|n| n.to_string()),
    );
    above(
        top.disk.is_some_and(|max| r.disk > max),
        "disk",
        r.disk.to_string(),
        top.disk.map(|n| n.to_string()),
    );
    let wall = top.wall_time.is_some_and(|max| r.wall_time > max);
    above(
        wall,
        "wallTime",
        r.wall_time.to_string(),
        top.wall_time.map(|n| n.to_string()),
    );
    let files = top.open_files.is_some_and(|max| r.open_files > max);
    above(
        files,
        "openFiles",
        r.open_files.to_string(),
        top.open_files.map(|n| n.to_string()),
    );
    above(
        top.output.is_some_and(|max| r.output > max),
        "output",
        r.output.to_string(),
        top.output.map(|n| n.to_string()),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Preset;

    fn context(canonical: &str) -> HostContext {
        HostContext {
            cwd: "/home/ann/w".into(),
            store: "/home/ann/.safe-run".into(),
            sources: vec![Some(canonical.into())],
            ..HostContext::default()
        }
    }

    #[test]
    fn a_link_into_the_system_is_judged_by_where_it_leads() {
        let found = |canonical: &str| -> Vec<&str> {
            validate_host(&Preset::Standard.spec(), &context(canonical))
                .iter()
                .filter_map(|f| f.rule)
                .collect()
        };
        assert_eq!(found("/home/ann/w"), [""; 0]);
        assert_eq!(found("/usr/src/x"), ["SR-RULE-mount-target-reserved"]);
        assert_eq!(found("/"), ["SR-RULE-mount-source-root"]);
        assert_eq!(found("/run/user/1000"), ["SR-RULE-mount-source-live"]);
        assert_eq!(found("/home/ann/.safe-run/runs"), ["SR-RULE-mount-shows-store"]);
    }

    /// Two mounts of one name need not be of one directory, when a link in it is exchanged meanwhile.
    #[test]
    fn each_mount_is_judged_by_its_own_path() {
        let mut spec = Preset::Standard.spec();
        let mut twin = spec.mounts[0].clone();
        twin.target = Some("/twin".into());
        spec.mounts.push(twin);
        let mut host = context("/home/ann/w");
        host.sources.push(Some("/srv/other".into()));
        host.operator.allowed_prefixes = Some(vec!["/home/ann".into()]);
        let faults = validate_host(&spec, &host);
        let found: Vec<_> = faults.iter().map(|f| (f.rule, f.path.as_str())).collect();
        assert_eq!(found, [(Some("SR-RULE-source-outside-prefixes"), "mounts[1].source")]);
    }

    #[test]
    fn all_cpus_are_above_any_ceiling() {
        let mut host = context("/home/ann/w");
        host.operator.ceilings.cpu = Some(64.0);
        let faults = validate_host(&Preset::Build.spec(), &host);
        assert_eq!(
            faults.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
            ["resources.cpu"]
        );
        assert_eq!(validate_host(&Preset::Agent.spec(), &host), []);
    }
}
