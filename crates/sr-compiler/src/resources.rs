//! Limits: for each, the strongest mechanism that this host has, its strength recorded; and the rlimits that hold always.

use crate::bundle::{Backing, Limit, LimitMechanism, ResourcesPlan, WritableStore};
use crate::compile::Input;
use sr_common::canonical::MAX_INTEGER;
use sr_common::facts::{CgroupController, CgroupFacts, HelperCeilings};
use sr_common::{ByteSize, Code, Control, Fault, HostFacts, Millis, Strength};
use sr_policy::PolicySpec;
use sr_policy::spec::{Durability, OnOutput, RequiredStrength};
use std::collections::BTreeMap;

const GIB: u64 = 1 << 30;
/// On disk a file has a block at least, as a rule; and every run may have so many.
const FILE: u64 = 4096;
const FEWEST_FILES: u64 = 4096;

pub(crate) fn plan(input: Input<'_>, faults: &mut Vec<Fault>) -> ResourcesPlan {
    let Input { policy, facts, .. } = input;
    let asked = &policy.resources;
    for (name, size) in [("memory", asked.memory), ("disk", Some(asked.disk))] {
        if let Some(size) = size.filter(|size| size.0 > MAX_INTEGER) {
            let found = format!("{size} is more than the bundle, whose numbers are JSON's, can say exactly");
            let remedy = "write at most 8191TiB";
            faults.push(Fault::new(Code::Cmp001, format!("resources.{name}"), found, remedy));
        }
    }
    let mut rlimits = BTreeMap::from([
        ("NOFILE".to_owned(), u64::from(asked.open_files)),
        // 0 would not stop a core_pattern that pipes; 1 does, and no core of one byte is ever written.
        ("CORE".to_owned(), 1),
        ("FSIZE".to_owned(), asked.disk.0),
        ("MEMLOCK".to_owned(), 8 << 20),
        // Charged to the user who started the run too, who may have 800 KiB in all.
        ("MSGQUEUE".to_owned(), 256 << 10),
        ("RTPRIO".to_owned(), 0),
        ("SIGPENDING".to_owned(), 4096),
    ]);
    let most = match input.is_machine() {
        true => HelperCeilings::default(),
        false => facts.cgroup.helper.unwrap_or_default(),
    };
    let mut held = |name: &str, asked: Option<u64>, most: Option<u64>, text: &dyn Fn(u64) -> String| {
        if let (Some(asked), Some(most)) = (asked, most)
            && asked > most
        {
            let found = format!(
                "{} is more than {}, the most that safe-run-helper gives a run",
                text(asked),
                text(most)
            );
            let remedy = format!("lower it, or have `ceilings.{name}` raised in /etc/safe-run/helper.toml");
            faults.push(Fault::new(Code::Run001, format!("resources.{name}"), found, remedy));
        }
        // A group of the helper's has every limit: without one a run would leave those of its user behind.
        asked.or(most)
    };
    let size = |bytes| ByteSize(bytes).to_string();
    let memory_limit = held("memory", asked.memory.map(|size| size.0), most.memory, &size);
    let pids_limit = held("pids", asked.pids.map(u64::from), most.pids, &|n| n.to_string());
    let cpus = |thousandths| (thousandths as f64 / 1000.0).to_string();
    let cpu_limit = asked.cpu.map(thousandths).transpose();
    let cpu_limit = cpu_limit.map(|cpu| held("cpu", cpu, most.cpu, &cpus));
    let memory = memory(input, memory_limit, &mut rlimits);
    let pids = pids_limit.map(|value| {
        if input.guest && input.sentry {
            return in_guest(value);
        }
        group(input, facts.cgroup.pids.as_ref(), most.pids, value).unwrap_or_else(|| {
            rlimits.insert("NPROC".to_owned(), value);
            Limit {
                value,
                mechanism: LimitMechanism::Rlimit,
                strength: Strength::PerProcess,
            }
        })
    });
    let disk = match (store(input).backing, facts.disk.filter(|_| wants_quota(policy, facts))) {
        (Backing::Tmpfs, _) => (LimitMechanism::Tmpfs, Strength::Kernel),
        (Backing::Store, None) => (LimitMechanism::Watchdog, Strength::Sampled),
        (Backing::Store, Some(most)) => {
            if asked.disk.0 > most.bytes {
                let most = ByteSize(most.bytes);
                let found = format!(
                    "{} is more than {most}, the most that safe-run-helper gives a run",
                    asked.disk
                );
                let remedy = "lower it, or have `bytes` of `[disk]` raised in /etc/safe-run/helper.toml";
                faults.push(Fault::new(Code::Run001, "resources.disk", found, remedy));
            }
            let files = (asked.disk.0 / FILE).max(FEWEST_FILES).min(most.files);
            (LimitMechanism::Quota { files }, Strength::Kernel)
        }
    };
    let plan = ResourcesPlan {
        cpu: match cpu_limit {
            Ok(limit) => limit.map(|value| cpu(input, value)),
            Err(fault) => {
                faults.push(fault);
                None
            }
        },
        memory,
        pids,
        disk: Limit {
            value: asked.disk.0,
            mechanism: disk.0,
            strength: disk.1,
        },
        wall_time: wall_time(input),
        open_files: u64::from(asked.open_files),
        output: asked.output,
        output_kills: asked.on_output == OnOutput::Kill,
        rlimits,
    };
    for (control, name, limit) in limits(&plan) {
        let Some(limit) = limit else { continue };
        if !satisfies(asked.strength, limit.strength) && !policy.degrade.contains(&control) {
            let found = format!("{name} can only be limited with strength {} here", text(limit.strength));
            faults.push(Fault::new(
                Code::Run001,
                format!("resources.{name}"),
                found,
                remedy(control),
            ));
        }
    }
    plan
}

/// The shorter of the run's and, of a module, its own.
fn wall_time(input: Input<'_>) -> Millis {
    let own = input
        .policy
        .wasm
        .as_ref()
        .filter(|_| input.engine)
        .and_then(|wasm| wasm.time);
    let all = input.policy.resources.wall_time;
    own.map_or(all, |own| own.min(all))
}

/// The limits that have a strength, with their control and field; `None`: no limit asked.
pub(crate) fn limits(plan: &ResourcesPlan) -> impl Iterator<Item = (Control, &'static str, Option<&Limit>)> {
    [
        (Control::Cpu, "cpu", plan.cpu.as_ref()),
        (Control::Memory, "memory", plan.memory.as_ref()),
        (Control::Pids, "pids", plan.pids.as_ref()),
        (Control::Disk, "disk", Some(&plan.disk)),
    ]
    .into_iter()
}

/// Whether `strength` is at least what the policy demands.
pub(crate) fn satisfies(demanded: RequiredStrength, strength: Strength) -> bool {
    match demanded {
        RequiredStrength::Any => true,
        RequiredStrength::PerProcess => strength <= Strength::PerProcess,
        RequiredStrength::Kernel => strength == Strength::Kernel,
    }
}

/// Whether the cpu limit is an affinity, which holds only as long as the program cannot change it.
pub(crate) fn pins_cpus(plan: &ResourcesPlan) -> bool {
    matches!(
        plan.cpu,
        Some(Limit {
            mechanism: LimitMechanism::Affinity { .. },
            ..
        })
    )
}

/// Where writes go. A tmpfs is held by the kernel, so it is taken wherever what is written may be memory: not for a
/// session, which must outlive the run at any size, and not beyond the memory limit unless the policy demands it.
pub(crate) fn store(input: Input<'_>) -> WritableStore {
    let Input { policy, facts, .. } = input;
    let asked = &policy.resources;
    let inodes = (asked.disk.0 / (16 << 10)).clamp(4096, 1_000_000);
    WritableStore {
        backing: backing(policy, facts),
        bytes: ByteSize(asked.disk.0),
        inodes,
    }
}

/// Whether a project quota would hold the disk limit: the layers are kept in the store, and are this run's alone. What a
/// session captured before was charged to nobody, or to a run before.
pub fn wants_quota(policy: &PolicySpec, facts: &HostFacts) -> bool {
    let kept = policy.evidence.durability != Durability::None;
    kept && policy.session.is_none() && backing(policy, facts) == Backing::Store
}

fn backing(policy: &PolicySpec, facts: &HostFacts) -> Backing {
    let asked = &policy.resources;
    let room = match asked.strength {
        RequiredStrength::Any => asked.memory.map_or(u64::MAX, |size| size.0).min(facts.memory_bytes),
        RequiredStrength::PerProcess | RequiredStrength::Kernel => facts.memory_bytes,
    };
    if policy.session.is_none() && asked.disk.0 <= room {
        Backing::Tmpfs
    } else {
        Backing::Store
    }
}

/// `ceiling`: the helper's, where it makes the group.
fn group(input: Input<'_>, controller: Option<&CgroupController>, ceiling: Option<u64>, value: u64) -> Option<Limit> {
    if input.is_machine() {
        return Some(in_guest(value));
    }
    let CgroupController { version, parent } = controller?.clone();
    Some(Limit {
        value,
        mechanism: LimitMechanism::Cgroup {
            version,
            parent,
            helper: ceiling.is_some(),
        },
        strength: Strength::Kernel,
    })
}

fn in_guest(value: u64) -> Limit {
    Limit {
        value,
        mechanism: LimitMechanism::Guest,
        strength: Strength::Kernel,
    }
}

fn thousandths(share: f64) -> Result<u64, Fault> {
    if !share.is_finite() || share <= 0.0 || share > 1_000_000.0 {
        let found = format!("{share} CPUs");
        let remedy = "write a positive number such as 1 or 0.5";
        return Err(Fault::new(Code::Cmp001, "resources.cpu", found, remedy));
    }
    // At least one milli-CPU; the check above keeps the product far inside u64.
    Ok(((share * 1000.0).round() as u64).max(1))
}

fn cpu(input: Input<'_>, value: u64) -> Limit {
    let CgroupFacts { cpu, helper, .. } = &input.facts.cgroup;
    group(input, cpu.as_ref(), helper.and_then(|most| most.cpu), value).unwrap_or_else(|| {
        let cpus = u32::try_from(value.div_ceil(1000))
            .unwrap_or(u32::MAX)
            .min(input.facts.cpus.max(1));
        Limit {
            value,
            mechanism: LimitMechanism::Affinity { cpus },
            strength: Strength::PerProcess,
        }
    })
}

fn memory(input: Input<'_>, value: Option<u64>, rlimits: &mut BTreeMap<String, u64>) -> Option<Limit> {
    let asked = &input.policy.resources;
    let value = value?;
    let CgroupFacts { memory, helper, .. } = &input.facts.cgroup;
    if let Some(limit) = group(input, memory.as_ref(), helper.and_then(|most| most.memory), value) {
        return Some(limit);
    }
    if asked.strength == RequiredStrength::PerProcess {
        rlimits.insert("AS".to_owned(), value);
        return Some(Limit {
            value,
            mechanism: LimitMechanism::Rlimit,
            strength: Strength::PerProcess,
        });
    }
    // A backstop between two samples, wide enough for runtimes that reserve far more address space than they use.
    // No machine has more of it than a bundle can say.
    let space = value.saturating_mul(8).saturating_add(GIB).min(MAX_INTEGER);
    rlimits.insert("AS".to_owned(), space);
    Some(Limit {
        value,
        mechanism: LimitMechanism::Watchdog,
        strength: Strength::Sampled,
    })
}

pub(crate) fn text(strength: Strength) -> &'static str {
    match strength {
        Strength::Kernel => "kernel",
        Strength::PerProcess => "perProcess",
        Strength::Sampled => "sampled",
    }
}

fn remedy(control: Control) -> String {
    let name = control.name();
    let how = match control {
        Control::Disk => "make disk no larger than the host's memory and drop `session`, or have safe-run-helper give \
                          project quotas (OPERATIONS.md)"
            .to_owned(),
        _ => format!(
            "give Safe-Run a cgroup with the {} controller: run it as root, or under \
             `systemd-run --user --scope -p Delegate=yes safe-run …`, or with safe-run-helper (OPERATIONS.md)",
            name
        ),
    };
    format!("{how}; or lower resources.strength; or accept the weaker limit with degrade: [{name}]")
}
