//! The system-call filter: profile, names and argument rules to a plan, and the plan to its program. Every program is
//! run against its plan before it leaves here.

pub mod bpf;
pub mod interpreter;
mod own;
mod profiles;
pub mod table;

pub use own::allow_only;
pub use table::{Arch, known_syscall, nearest_syscall, syscall_name};

use crate::bundle::{ArgumentTest, ConditionalRule, DeniedAction, SyscallsPlan};
use bpf::{Decision, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_LOG, RET_USER_NOTIF, X32_BIT};
use interpreter::{Instruction, MAX_INSTRUCTIONS, Program, SeccompData};
use profiles::{ENOSYS, EPERM, PROBED, STANDARD, STRICT, WALL, words};
use sr_common::{Code, Fault};
use sr_policy::spec::{OnDenied, SyscallProfile, Syscalls};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a start without an exec stop does under the filter, besides the exec.
pub(crate) const LAUNCH_FLOOR: [&str; 2] = ["sendmsg", "read"];

/// What the other plans ask of the filter.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// The cpu limit is an affinity, which the program must not widen.
    pub pin_cpus: bool,
    /// The view has an overlay, see [`profiles::links`].
    pub tell_links: bool,
    /// The start has no exec stop.
    pub handshake: bool,
}

/// The plan for `arch`.
pub(crate) fn plan(policy: &Syscalls, arch: Arch, asked: Asked, faults: &mut Vec<Fault>) -> Option<SyscallsPlan> {
    let before = faults.len();
    let (profile, extra) = match policy.profile {
        SyscallProfile::Strict => ("strict", ""),
        SyscallProfile::Standard => ("standard", STANDARD),
    };
    check_names(policy, asked.handshake, faults);
    let mut names: Vec<&str> = words(STRICT)
        .chain(words(extra))
        .chain(policy.allow.iter().map(String::as_str))
        .collect();
    names.sort_unstable();
    names.dedup();
    let named = |names: &[&str], name: &str| names.binary_search(&name).is_ok();
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
        only_for: Vec::new(),
        reason: None,
    };
    let mut rules: BTreeMap<&str, ConditionalRule> = BTreeMap::new();
    rules.extend(
        PROBED
            .iter()
            .filter(|(name, _)| !named(&names, name))
            .map(|(name, errno)| (*name, never(name, *errno))),
    );
    rules.extend(names.iter().filter_map(|name| Some((*name, profiles::rule(name)?))));
    for name in &policy.deny {
        names.retain(|other| other != name);
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
    if asked.pin_cpus {
        rules.insert("sched_setaffinity", never("sched_setaffinity", EPERM));
    }
    if named(&names, "sendmsg") {
        if asked.tell_links {
            rules.extend(profiles::links().filter_map(|rule| {
                let at = names.binary_search(&rule.syscall.as_str()).ok()?;
                Some((names[at], rule))
            }));
        }
    } else {
        // The listener's descriptor is handed over with sendmsg, once the filter holds.
        rules
            .values_mut()
            .for_each(|rule| (rule.told, rule.reason) = (false, None));
    }
    let here = |name: &str| table::row(name).is_some_and(|row| arch.number(row).is_some());
    // The table is sorted too.
    let mut rows = table::TABLE.iter().peekable();
    let allowed = names.iter().filter_map(|name| {
        while rows.next_if(|row| row.0 < *name).is_some() {}
        let row = rows.next_if(|row| row.0 == *name)?;
        let open = arch.number(row).is_some() && !rules.contains_key(name);
        open.then_some(Cow::Borrowed(row.0))
    });
    let allowed = allowed.collect();
    rules.retain(|name, _| here(name));
    if faults.len() > before {
        return None;
    }
    let mut plan = SyscallsPlan {
        profile: profile.to_owned(),
        arch: arch.name().to_owned(),
        on_denied,
        allowed,
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

/// Where a plan names a call.
enum Word<'a> {
    Allowed,
    Rule(&'a ConditionalRule),
    Unnamed,
}

/// Every call that the architecture has, with its number. The table and the plan's lists are sorted by name, so one walk
/// along the three finds all.
fn words_by_number(plan: &SyscallsPlan, arch: Arch) -> impl Iterator<Item = (u32, Word<'_>)> {
    let mut allowed = plan.allowed.iter().map(Cow::as_ref).peekable();
    let mut rules = plan.conditional.iter().peekable();
    table::TABLE.iter().filter_map(move |row| {
        while allowed.next_if(|name| *name < row.0).is_some() {}
        while rules.next_if(|rule| rule.syscall.as_str() < row.0).is_some() {}
        let word = match (allowed.peek(), rules.peek()) {
            (Some(name), _) if *name == row.0 => Word::Allowed,
            (_, Some(rule)) if rule.syscall == row.0 => Word::Rule(rule),
            _ => Word::Unnamed,
        };
        arch.number(row).map(|nr| (nr, word))
    })
}

fn render(plan: &SyscallsPlan, arch: Arch) -> Vec<Instruction> {
    let mut decisions = Vec::with_capacity(512);
    for (nr, word) in words_by_number(plan, arch) {
        let nr = nr as usize;
        if decisions.len() <= nr {
            decisions.resize(nr + 1, Decision::Answer(UNKNOWN));
        }
        decisions[nr] = match word {
            Word::Allowed => Decision::Answer(RET_ALLOW),
            Word::Unnamed => Decision::Answer(plan.on_denied.answer()),
            Word::Rule(rule) => {
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
        .binary_search_by(|allowed| allowed.as_ref().cmp(name))
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

/// What the plan says about every number below [`NUMBERS`] with all arguments 0.
fn answers(plan: &SyscallsPlan, arch: Arch) -> Vec<u32> {
    let mut answers = vec![UNKNOWN; NUMBERS as usize];
    for (nr, word) in words_by_number(plan, arch) {
        if let Some(answer) = answers.get_mut(nr as usize) {
            *answer = match word {
                Word::Allowed => RET_ALLOW,
                Word::Rule(rule) => expected_by_rule(plan, rule, &[0; 6]),
                Word::Unnamed => plan.on_denied.answer(),
            };
        }
    }
    answers
}

/// Numbers that are checked one by one: all that exist are below.
const NUMBERS: u32 = 1024;

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
    let x32 = if arch == Arch::X86_64 {
        RET_KILL_PROCESS
    } else {
        UNKNOWN
    };
    let here = answers(plan, arch);
    let all = |answer| vec![answer; NUMBERS as usize];
    for (token, bit, expected) in [
        (arch.audit(), 0, here),
        (arch.audit(), X32_BIT, all(x32)),
        (foreign, 0, all(RET_KILL_PROCESS)),
    ] {
        let mut nr = 0;
        while nr < NUMBERS {
            let data = SeccompData {
                nr: nr | bit,
                arch: token,
                ..SeccompData::default()
            };
            // One run answers for all numbers that take the same way.
            let (answer, last) = program.run_numbers(&data);
            let last = (last & !bit).min(NUMBERS - 1);
            for same in nr..=last {
                let wanted = expected[same as usize];
                if answer != wanted {
                    return check(SeccompData { nr: same | bit, ..data }, wanted).or_else(|| {
                        Some(format!(
                            "the filter's answers for the numbers {nr} to {last} are not one"
                        ))
                    });
                }
            }
            nr = last + 1;
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

// The value, its neighbours, and that a high half changes nothing. With a mask: each of its bits flipped, none of which may be
// missing from the program's; and all that it ignores at once, of which none may be in the program's.
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
        .chain(
            (0..32)
                .filter(move |bit| mask != u32::MAX && mask & (1 << bit) != 0)
                .map(move |bit| value ^ 1 << bit),
        )
        .map(u64::from)
        .chain(high)
}
