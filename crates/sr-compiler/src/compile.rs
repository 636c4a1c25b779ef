//! Puts the plans together. Faults of all plans are gathered, so that a person sees them at once.

use crate::bundle::{BundleInputs, CompileBundle, EvidencePlan, FilesystemPlan, MountEvidence, ViewEntry, ViewKind};
use crate::syscalls::{Arch, bpf};
use crate::{coverage, filesystem, mac, network, obligations, process, resources, syscalls, wall};
use serde::Serialize;
use sr_common::{API_VERSION, Backend, Code, Digest, Fault, HostFacts, Subject, canonical, path};
use sr_policy::spec::{DeniedScope, Durability, HashScope, ObserveScope, PolicySpec};
use std::collections::BTreeMap;

/// What every plan is made from.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub policy: &'a PolicySpec,
    pub facts: &'a HostFacts,
    pub subject: &'a Subject,
    /// The program stands behind a wall within the native one.
    pub guest: bool,
    /// That is gVisor's kernel: a program of the host's, whose memory and time the host's kernel counts.
    pub sentry: bool,
    /// It is an engine that runs WebAssembly: the same, and the host's kernel sees each file that it opens.
    pub engine: bool,
}

impl Input<'_> {
    /// A kernel that the host's sees nothing of holds the program's limits.
    pub fn is_machine(&self) -> bool {
        self.guest && !self.sentry && !self.engine
    }
}

/// The bundle for running `subject` under `policy` on the host that `facts` describes, or every reason why not.
pub fn compile(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> Result<CompileBundle, Vec<Fault>> {
    let mut faults = Vec::new();
    let input = Input {
        policy,
        facts,
        subject,
        guest: false,
        sentry: false,
        engine: false,
    };
    let chosen = coverage::choose(input)?;
    let input = Input {
        guest: chosen.backend != Backend::Process,
        sentry: chosen.backend == Backend::Gvisor,
        engine: chosen.backend == Backend::Wasm,
        ..input
    };
    process::preflight(input, &mut faults);
    let resources_plan = resources::plan(input, &mut faults);
    let filesystem_plan = filesystem::plan(input, &mut faults);
    let process_plan = process::plan(input, &filesystem_plan, &mut faults);
    let mac_plan = mac::plan(input, &mut faults);
    let arch = Arch::parse(&facts.arch);
    let captures = |entry: &ViewEntry| matches!(entry.what, ViewKind::Captured { .. });
    let asked = syscalls::Asked {
        tells: !input.guest,
        tell_denied: policy.evidence.denied != DeniedScope::Network,
        observe: policy.evidence.observe == ObserveScope::Calls,
        tell_paths: policy.evidence.denied == DeniedScope::Paths,
        pin_cpus: resources::pins_cpus(&resources_plan),
        tell_links: filesystem_plan.entries.iter().any(captures),
        handshake: !facts.ptrace,
        spare_init: input.sentry,
    };
    let syscalls_plan = arch.and_then(|arch| syscalls::plan(&policy.syscalls, arch, asked, &mut faults));
    let inputs = BundleInputs {
        policy: digest("policy", policy, &mut faults),
        facts: digest("facts", facts, &mut faults),
        subject: digest("subject", subject, &mut faults),
    };
    let (Some(syscalls_plan), []) = (syscalls_plan, faults.as_slice()) else {
        return Err(faults);
    };
    let program = Digest::of(&bpf::bytes(&syscalls_plan.program));
    let mut bundle = CompileBundle {
        api_version: API_VERSION.to_owned(),
        kind: "CompileBundle".to_owned(),
        backend: chosen.backend,
        choice: chosen.choice,
        inputs,
        renderings: BTreeMap::from([(format!("seccomp.{}", syscalls_plan.arch), program)]),
        process_plan,
        evidence_plan: evidence(input, &filesystem_plan),
        filesystem_plan,
        syscalls_plan,
        resources_plan,
        network_plan: network::plan(&policy.network),
        mac_plan,
        wall_plan: None,
        obligations: Vec::new(),
    };
    if input.guest {
        bundle.wall_plan = wall::plan(input, &bundle, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
    }
    bundle.obligations = obligations::list(input, &bundle, chosen.coverage.as_ref());
    Ok(bundle)
}

/// The wall that `policy` gets on the host that `facts` describes, or every reason why not.
pub fn wall_for(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> Result<Backend, Vec<Fault>> {
    let input = Input {
        policy,
        facts,
        subject,
        guest: false,
        sentry: false,
        engine: false,
    };
    coverage::choose(input).map(|chosen| chosen.backend)
}

/// The bundle's JSON Schema.
pub fn bundle_schema() -> schemars::Schema {
    schemars::schema_for!(CompileBundle)
}

fn evidence(input: Input<'_>, view: &FilesystemPlan) -> EvidencePlan {
    let Input { policy, subject, .. } = input;
    let kept = policy.evidence.durability != Durability::None;
    let hash_trees = kept && policy.evidence.hash == HashScope::Tree;
    let root = view.entries.iter().filter(|entry| entry.target == "/");
    let root = root.filter_map(|entry| Some((filesystem::entry_source(entry)?, "/", true)));
    let mounts = subject
        .mounts
        .iter()
        .map(|mount| (mount.source.as_str(), mount.target.as_str(), mount.directory))
        .chain(root)
        .map(|(source, target, directory)| MountEvidence {
            source: source.to_owned(),
            target: target.to_owned(),
            directory,
            // What is covered by a mask is not shown: there is nothing to vouch for.
            hashed: kept
                && (hash_trees || !directory)
                && !view.masked.iter().any(|masked| path::within(target, masked)),
        })
        .collect();
    EvidencePlan {
        kept,
        sign: policy.evidence.sign != "none",
        sample_interval: policy.evidence.sample_interval,
        hash_trees,
        durable: policy.evidence.durability == Durability::Machine,
        mounts,
    }
}

// Only numbers can fail here (a cpu share that is not finite).
fn digest<T: Serialize>(what: &str, value: &T, faults: &mut Vec<Fault>) -> Digest {
    canonical::digest(value).unwrap_or_else(|e| {
        faults.push(Fault::new(
            Code::Cmp002,
            what,
            format!("cannot be written as canonical JSON: {e}"),
            "use finite numbers",
        ));
        Digest::ZERO
    })
}
