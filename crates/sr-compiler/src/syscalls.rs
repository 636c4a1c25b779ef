//! The system-call filter: profile, names and argument rules to a plan, and the plan to its program. Every program is
//! run against its plan before it leaves here.

pub mod bpf;
pub mod interpreter;
mod profiles;
pub mod table;

pub use table::{Arch, known_syscall, nearest_syscall, syscall_name};

use crate::bundle::{ArgumentTest, ConditionalRule, DeniedAction, SyscallsPlan};
use bpf::{Decision, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_LOG, RET_USER_NOTIF, X32_BIT};
use interpreter::{Instruction, MAX_INSTRUCTIONS, Program, SeccompData};
use profiles::{ENOSYS, EPERM, PROBED, STANDARD, STRICT, WALL, words};
use sr_common::{Code, Fault};
use sr_policy::spec::{OnDenied, SyscallProfile, Syscalls};
use std::collections::{BTreeMap, BTreeSet};

/// What a start without an exec stop does under the filter, besides the exec.
pub(crate) const LAUNCH_FLOOR: [&str; 2] = ["sendmsg", "read"];

/// The plan for `arch`. `pin_cpus`: the cpu limit is an affinity, which the program must not widen. `handshake`: the
/// start has no exec stop.
pub(crate) fn plan(
    policy: &Syscalls,
    arch: Arch,
    pin_cpus: bool,
    handshake: bool,
    faults: &mut Vec<Fault>,
) -> Option<SyscallsPlan> {
    let before = faults.len();
    let (profile, extra) = match policy.profile {
        SyscallProfile::Strict => ("strict", ""),
        SyscallProfile::Standard => ("standard", STANDARD),
    };
    let mut names: BTreeSet<&str> = words(STRICT).chain(words(extra)).collect();
    check_names(policy, handshake, faults);
    names.extend(policy.allow.iter().map(String::as_str));
    let on_denied = match policy.on_denied {
        OnDenied::Errno => DeniedAction::Errno,
        OnDenied::Kill => DeniedAction::Kill,
        OnDenied::Log => DeniedAction::Log,
    };
    let never = |name: &str, errno| ConditionalRule {
        syscall: name.to_owned(),
        allow: Vec::new(),
        deny: Vec::new(),
        otherwise_errno: Some(errno),
        told: false,
    };
    let mut rules: BTreeMap<&str, ConditionalRule> = BTreeMap::new();
    rules.extend(
        PROBED
            .iter()
            .filter(|(name, _)| !names.contains(name))
            .map(|(name, errno)| (*name, never(name, *errno))),
    );
    rules.extend(names.iter().filter_map(|name| Some((*name, profiles::rule(name)?))));
    for name in &policy.deny {
        names.remove(name.as_str());
        // libc falls back from clone3 on ENOSYS alone: any other answer would break programs, not deny more.
        if name != "clone3" {
            rules.remove(name.as_str());
        }
    }
    if on_denied == DeniedAction::Log {
        // What is denied is let through for learning; the wall, argument rules and what the policy itself denies are not.
        rules
            .values_mut()
            .for_each(|rule| rule.otherwise_errno = rule.otherwise_errno.or(Some(EPERM)));
        for name in words(WALL).chain(policy.deny.iter().map(String::as_str)) {
            rules.entry(name).or_insert_with(|| never(name, EPERM));
        }
    }
    if pin_cpus {
        rules.insert("sched_setaffinity", never("sched_setaffinity", EPERM));
    }
    if !names.contains("sendmsg") {
        // The listener's descriptor is handed over with it, once the filter holds.
        rules.values_mut().for_each(|rule| rule.told = false);
    }
    let here = |name: &str| table::row(name).is_some_and(|row| arch.number(row).is_some());
    names.retain(|name| here(name) && !rules.contains_key(name));
    rules.retain(|name, _| here(name));
    if faults.len() > before {
        return None;
    }
    let mut plan = SyscallsPlan {
        profile: profile.to_owned(),
        arch: arch.name().to_owned(),
        on_denied,
        allowed: names.into_iter().map(str::to_owned).collect(),
        conditional: rules.into_values().collect(),
        program: Vec::new(),
    };
    plan.program = render(&plan, arch);
    match disagreement(&plan, arch) {
        None => Some(plan),
        Some(text) => {
            let remedy = "this is a defect of Safe-Run: please report it with the policy";
            faults.push(Fault::new(Code::Cmp002, "syscalls", text, remedy));
            None
        }
    }
}

fn check_names(policy: &Syscalls, handshake: bool, faults: &mut Vec<Fault>) {
    for (list, names) in [("allow", &policy.allow), ("deny", &policy.deny)] {
        for (i, name) in names.iter().enumerate() {
            let path = format!("syscalls.{list}[{i}]");
            if !known_syscall(name) {
                let remedy = match nearest_syscall(name) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => "write a system call's name as in syscalls(2)".to_owned(),
                };
                faults.push(Fault::new(
                    Code::Cmp001,
                    path,
                    format!("no system call is named {name:?}"),
                    remedy,
                ));
            } else if list == "allow" && words(WALL).any(|wall| wall == name) {
                let found = format!("{name} is part of the wall and cannot be allowed");
                faults.push(Fault::new(Code::Cmp001, path, found, "take it out of syscalls.allow"));
            } else if list == "deny" && name == "execveat" {
                let found = "the program itself is started by execveat, after the filter is loaded";
                let remedy =
                    "take it out of syscalls.deny; to keep the program from starting others, set resources.pids: 2";
                faults.push(Fault::new(Code::Cmp001, path, found, remedy));
            } else if list == "deny" && handshake && LAUNCH_FLOOR.contains(&name.as_str()) {
                let found = format!("{name} is part of the launch floor where ptrace is forbidden");
                let remedy = "take it out of syscalls.deny, or run where ptrace is allowed";
                faults.push(Fault::new(Code::Cmp001, path, found, remedy));
            }
        }
    }
}

impl DeniedAction {
    fn answer(self) -> u32 {
        match self {
            DeniedAction::Errno => RET_ERRNO | u32::from(EPERM),
            DeniedAction::Kill => RET_KILL_PROCESS,
            DeniedAction::Log => RET_LOG,
        }
    }
}

const UNKNOWN: u32 = RET_ERRNO | ENOSYS as u32;

fn render(plan: &SyscallsPlan, arch: Arch) -> Vec<Instruction> {
    let allowed: BTreeSet<&str> = plan.allowed.iter().map(String::as_str).collect();
    let rules: BTreeMap<&str, &ConditionalRule> = plan
        .conditional
        .iter()
        .map(|rule| (rule.syscall.as_str(), rule))
        .collect();
    let mut decisions = Vec::with_capacity(512);
    for row in table::TABLE {
        let Some(nr) = arch.number(row) else { continue };
        let nr = nr as usize;
        if decisions.len() <= nr {
            decisions.resize(nr + 1, Decision::Answer(UNKNOWN));
        }
        decisions[nr] = match rules.get(row.0) {
            _ if allowed.contains(row.0) => Decision::Answer(RET_ALLOW),
            None => Decision::Answer(plan.on_denied.answer()),
            Some(rule) => {
                let denied = denied_answer(plan, rule);
                if rule.allow.is_empty() && rule.deny.is_empty() {
                    Decision::Answer(denied)
                } else {
                    Decision::Arguments { rule, denied }
                }
            }
        };
    }
    bpf::render(arch, &decisions, UNKNOWN)
}

/// What the plan says about one call, by its words alone: the oracle that the program is compared with.
pub fn expected(plan: &SyscallsPlan, data: &SeccompData) -> u32 {
    let Some(arch) = Arch::parse(&plan.arch).filter(|arch| arch.audit() == data.arch) else {
        return RET_KILL_PROCESS;
    };
    if arch == Arch::X86_64 && data.nr >= X32_BIT {
        return RET_KILL_PROCESS;
    }
    match syscall_name(arch, data.nr) {
        None => UNKNOWN,
        Some(name) => expected_by_name(plan, name, &data.args),
    }
}

fn expected_by_name(plan: &SyscallsPlan, name: &str, args: &[u64; 6]) -> u32 {
    if plan
        .allowed
        .binary_search_by(|allowed| allowed.as_str().cmp(name))
        .is_ok()
    {
        return RET_ALLOW;
    }
    match plan.conditional.iter().find(|rule| rule.syscall == name) {
        None => plan.on_denied.answer(),
        Some(rule) => expected_by_rule(plan, rule, args),
    }
}

fn expected_by_rule(plan: &SyscallsPlan, rule: &ConditionalRule, args: &[u64; 6]) -> u32 {
    let matches = |test: &ArgumentTest| args[usize::from(test.index)] as u32 & test.mask == test.value;
    let open = rule.allow.is_empty() && !rule.deny.is_empty();
    if !rule.deny.iter().any(matches) && (open || rule.allow.iter().any(matches)) {
        return RET_ALLOW;
    }
    denied_answer(plan, rule)
}

/// What a call gets that its rule does not allow.
fn denied_answer(plan: &SyscallsPlan, rule: &ConditionalRule) -> u32 {
    match rule.otherwise_errno {
        Some(_) if rule.told => RET_USER_NOTIF,
        Some(errno) => RET_ERRNO | u32::from(errno),
        None => plan.on_denied.answer(),
    }
}

/// Runs the program for every number up to 1023, on both architectures and as x32, and with the arguments around each
/// rule's values; the first answer that is not the plan's, in words.
pub fn disagreement(plan: &SyscallsPlan, arch: Arch) -> Option<String> {
    let program = match Program::check(&plan.program) {
        Ok(program) => program,
        Err(e) => return Some(format!("the kernel would refuse the filter: {e}")),
    };
    let check = |data: SeccompData, expected: u32| {
        let answer = program.run(&data);
        (answer != expected).then(|| {
            let name = syscall_name(arch, data.nr).unwrap_or("unknown");
            format!("the filter answers {answer:#x}, the plan {expected:#x}, for {name} in {data:x?}")
        })
    };
    let foreign = match arch {
        Arch::X86_64 => Arch::Aarch64.audit(),
        Arch::Aarch64 => Arch::X86_64.audit(),
    };
    let mut names = [None; 1024];
    for row in table::TABLE {
        if let Some(slot) = arch.number(row).and_then(|nr| names.get_mut(nr as usize)) {
            *slot = Some(row.0);
        }
    }
    for (nr, name) in (0u32..).zip(names) {
        let here = SeccompData {
            nr,
            arch: arch.audit(),
            ..SeccompData::default()
        };
        let answer = name.map_or(UNKNOWN, |name| expected_by_name(plan, name, &here.args));
        let x32 = SeccompData {
            nr: nr | X32_BIT,
            ..here
        };
        let x32_answer = if arch == Arch::X86_64 {
            RET_KILL_PROCESS
        } else {
            UNKNOWN
        };
        let stranger = SeccompData { arch: foreign, ..here };
        for (data, expected) in [(here, answer), (x32, x32_answer), (stranger, RET_KILL_PROCESS)] {
            if let Some(text) = check(data, expected) {
                return Some(text);
            }
        }
    }
    let edges = [
        MAX_INSTRUCTIONS as u32,
        i32::MAX as u32,
        X32_BIT - 1,
        u32::MAX - 1,
        u32::MAX,
    ];
    let i386 = 0x4000_0003;
    let strangers = edges
        .iter()
        .map(|nr| (*nr, arch.audit()))
        .chain([(11, i386), (11, 0), (11, u32::MAX)]);
    for (nr, token) in strangers {
        let data = SeccompData {
            nr,
            arch: token,
            ..SeccompData::default()
        };
        if let Some(text) = check(data, expected(plan, &data)) {
            return Some(text);
        }
    }
    for rule in &plan.conditional {
        let Some(nr) = table::row(&rule.syscall).and_then(|row| arch.number(row)) else {
            continue;
        };
        for test in rule.allow.iter().chain(&rule.deny) {
            for value in around(test.mask, test.value) {
                let mut data = SeccompData {
                    nr,
                    arch: arch.audit(),
                    ..SeccompData::default()
                };
                data.args[usize::from(test.index)] = value;
                if let Some(text) = check(data, expected_by_rule(plan, rule, &data.args)) {
                    return Some(text);
                }
            }
        }
    }
    None
}

// The value, its neighbours, what the mask ignores, each bit flipped; and that a high half changes nothing.
fn around(mask: u32, value: u32) -> impl Iterator<Item = u64> {
    let near = [
        value,
        value.wrapping_add(1),
        value.wrapping_sub(1),
        !value,
        value | !mask,
        0,
        u32::MAX,
    ];
    let high = [value, !value].map(|low| u64::from(low) | 0xffff_ffff_0000_0000);
    near.into_iter()
        .chain((0..32).map(move |bit| value ^ 1 << bit))
        .map(u64::from)
        .chain(high)
}
