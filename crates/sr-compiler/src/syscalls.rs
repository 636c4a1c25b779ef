//! The system-call filter: profile, names and argument rules to a plan, and the plan to its program. Every program is
//! run against its plan before it leaves here.

pub mod bpf;
mod denial;
pub(crate) mod gvisor;
pub mod interpreter;
mod listed;
pub(crate) mod module;
pub mod oci;
mod own;
mod paths;
mod profiles;
pub mod table;

pub use denial::{Denial, denial};
pub use own::allow_only;
pub use paths::{Intent, PathArgument, path_arguments};
pub use profiles::{floor, selector};
pub use table::{Arch, known_syscall, nearest_syscall, syscall_name};

use crate::bundle::{ArgumentTest, ConditionalRule, DeniedAction, SyscallsPlan};
use bpf::{Decision, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_LOG, RET_USER_NOTIF, X32_BIT};
use interpreter::{Instruction, Program, Region, SeccompData};
use profiles::{ENOSYS, EPERM, FLOOR, PROBED, STANDARD, STRICT, WALL, words};
use sr_common::{Code, Fault};
use sr_policy::spec::{OnDenied, SyscallProfile, Syscalls};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// What a start without an exec stop does under the filter, besides the exec.
pub(crate) const LAUNCH_FLOOR: [&str; 2] = ["sendmsg", "read"];

/// What the other plans ask of the filter.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// Somebody can be told of calls at all: nobody sees into a guest.
    pub tells: bool,
    /// Denied calls are told of.
    pub tell_denied: bool,
    /// So are denied paths.
    pub tell_paths: bool,
    /// So are calls that are allowed.
    pub observe: bool,
    /// The cpu limit is an affinity, which the program must not widen.
    pub pin_cpus: bool,
    /// The view has an overlay, see [`profiles::links`].
    pub tell_links: bool,
    /// The start has no exec stop.
    pub handshake: bool,
    /// The first process is to be kept from signals of the program's: its kernel would let them end it.
    pub spare_init: bool,
}

/// The plan for `arch`.
pub(crate) fn plan(policy: &Syscalls, arch: Arch, asked: Asked, faults: &mut Vec<Fault>) -> Option<SyscallsPlan> {
    let before = faults.len();
    let (profile, base, extra) = match policy.profile {
        SyscallProfile::Named => ("named", FLOOR, ""),
        SyscallProfile::Strict => ("strict", STRICT, ""),
        SyscallProfile::Standard => ("standard", STRICT, STANDARD),
    };
    check_names(policy, asked.handshake, faults);
    let told = asked.observe || asked.tell_paths || policy.on_denied == OnDenied::Ask;
    if let Some(at) = policy.deny.iter().position(|name| told && name == "sendmsg") {
        let found = "without sendmsg nobody can be told of calls, or asked, as the policy wants";
        let path = format!("syscalls.deny[{at}]");
        faults.push(Fault::new(
            Code::Cmp001,
            path,
            found,
            "take sendmsg out of syscalls.deny",
        ));
    }
    let mut names: Vec<&str> = words(base)
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
        OnDenied::Ask => DeniedAction::Ask,
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
    for (name, values) in &policy.arguments {
        let (Some(index), Ok(at)) = (selector(name), names.binary_search(&name.as_str())) else {
            continue;
        };
        let rule = rules.entry(names[at]).or_insert_with(|| ConditionalRule {
            otherwise_errno: None,
            ..never(name, EPERM)
        });
        rule.allow.extend(values.iter().map(|value| ArgumentTest {
            index,
            mask: u32::MAX,
            value: *value,
        }));
    }
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
    if asked.spare_init {
        for rule in profiles::signals_to_init() {
            if let Ok(at) = names.binary_search(&rule.syscall.as_str()) {
                rules.insert(names[at], rule);
            }
        }
    }
    if asked.tells && named(&names, "sendmsg") {
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
    let allowed: Vec<Cow<'static, str>> = allowed.collect();
    let listens = asked.tells && named(&names, "sendmsg");
    let (paths, allowed) = allowed
        .into_iter()
        .partition(|name| asked.tell_paths && listens && !path_arguments(name).is_empty());
    rules.retain(|name, _| here(name));
    if faults.len() > before {
        return None;
    }
    // What is only logged is the kernel's to log. The listener's descriptor is handed over with sendmsg.
    let told = (asked.tell_denied || on_denied == DeniedAction::Ask) && on_denied != DeniedAction::Log && listens;
    if let (true, Some(rule)) = (told, rules.get_mut("sched_setaffinity")) {
        rule.told = rule.otherwise_errno.is_some();
    }
    let mut plan = SyscallsPlan {
        profile: profile.to_owned(),
        arch: arch.name().to_owned(),
        on_denied,
        told,
        observed: asked.observe && listens,
        denied: policy.deny.clone(),
        allowed,
        paths,
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
            DeniedAction::Errno | DeniedAction::Ask => RET_ERRNO | u32::from(EPERM),
            DeniedAction::Kill => RET_KILL_PROCESS,
            DeniedAction::Log => RET_LOG,
        }
    }
}

impl SyscallsPlan {
    /// Whether the filter tells the supervisor of any call.
    pub fn tells(&self) -> bool {
        self.told || self.looks_at_paths() || self.conditional.iter().any(|rule| rule.told)
    }

    /// Whether the paths of some calls are looked at.
    pub fn looks_at_paths(&self) -> bool {
        self.observed || !self.paths.is_empty()
    }

    /// Whether the plan allows the call `name` with these arguments.
    pub fn allows(&self, name: &str, args: &[u64; 6]) -> bool {
        let named = self.allowed.iter().chain(&self.paths).any(|allowed| allowed == name);
        let rule = || self.conditional.iter().find(|rule| rule.syscall == name);
        named || rule().is_some_and(|rule| allowed_by_rule(rule, args))
    }

    /// What the filter answers where the policy allows the call `name`. The launch, and a failed one's end, go by nobody's
    /// leave: the supervisor does not listen yet.
    fn allows_with(&self, name: &str) -> u32 {
        match self.observed && !floor().any(|call| call == name) {
            true => RET_USER_NOTIF,
            false => RET_ALLOW,
        }
    }

    /// What the filter answers where the policy denies and no rule says how.
    fn denies_with(&self) -> u32 {
        match self.told {
            true => RET_USER_NOTIF,
            false => self.on_denied.answer(),
        }
    }
}

const UNKNOWN: u32 = RET_ERRNO | ENOSYS as u32;

/// Where a plan names a call.
enum Word<'a> {
    Allowed(&'a str),
    Told,
    Rule(&'a ConditionalRule),
    Unnamed,
}

/// Every call that the architecture has, with its number. The table and the plan's lists are sorted by name, so one walk
/// along them finds all.
fn words_by_number(plan: &SyscallsPlan, arch: Arch) -> impl Iterator<Item = (u32, Word<'_>)> {
    let mut allowed = plan.allowed.iter().map(Cow::as_ref).peekable();
    let mut paths = plan.paths.iter().map(Cow::as_ref).peekable();
    let mut rules = plan.conditional.iter().peekable();
    table::TABLE.iter().filter_map(move |row| {
        while allowed.next_if(|name| *name < row.0).is_some() {}
        while paths.next_if(|name| *name < row.0).is_some() {}
        while rules.next_if(|rule| rule.syscall.as_str() < row.0).is_some() {}
        if paths.peek().is_some_and(|name| *name == row.0) {
            return arch.number(row).map(|nr| (nr, Word::Told));
        }
        let word = match (allowed.peek(), rules.peek()) {
            (Some(name), _) if *name == row.0 => Word::Allowed(name),
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
            Word::Allowed(name) => Decision::Answer(plan.allows_with(name)),
            Word::Told => Decision::Answer(RET_USER_NOTIF),
            Word::Unnamed => Decision::Answer(plan.denies_with()),
            Word::Rule(rule) => {
                let denied = denied_answer(plan, rule);
                if rule.allow.is_empty() && rule.deny.is_empty() {
                    Decision::Answer(denied)
                } else {
                    Decision::Arguments {
                        rule,
                        allowed: plan.allows_with(&rule.syscall),
                        denied,
                    }
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
        return plan.allows_with(name);
    }
    if plan.paths.iter().any(|told| told == name) {
        return RET_USER_NOTIF;
    }
    match plan.conditional.iter().find(|rule| rule.syscall == name) {
        None => plan.denies_with(),
        Some(rule) => expected_by_rule(plan, rule, args),
    }
}

fn expected_by_rule(plan: &SyscallsPlan, rule: &ConditionalRule, args: &[u64; 6]) -> u32 {
    match allowed_by_rule(rule, args) {
        true => plan.allows_with(&rule.syscall),
        false => denied_answer(plan, rule),
    }
}

fn allowed_by_rule(rule: &ConditionalRule, args: &[u64; 6]) -> bool {
    let matches = |test: &ArgumentTest| args[usize::from(test.index)] as u32 & test.mask == test.value;
    let open = rule.allow.is_empty() && !rule.deny.is_empty();
    !rule.deny.iter().any(matches) && (open || rule.allow.iter().any(matches))
}

/// What a call gets that its rule does not allow.
fn denied_answer(plan: &SyscallsPlan, rule: &ConditionalRule) -> u32 {
    match rule.otherwise_errno {
        Some(_) if rule.told => RET_USER_NOTIF,
        Some(errno) => RET_ERRNO | u32::from(errno),
        None => plan.denies_with(),
    }
}

/// Numbers that are checked one by one: all that exist are below.
const NUMBERS: u32 = 1024;

/// What the plan says about one number.
#[derive(Clone, Copy)]
enum Said<'a> {
    Always(u32),
    By(&'a ConditionalRule),
}

/// What the plan says about every number below [`NUMBERS`]; or the name that is not one here. Nothing of it is shared with
/// what the program is made by: each name of the plan is looked for by itself.
fn said(plan: &SyscallsPlan, arch: Arch) -> Result<Vec<Said<'_>>, &str> {
    let mut said = vec![Said::Always(UNKNOWN); NUMBERS as usize];
    for row in table::TABLE {
        if let Some(place) = arch.number(row).and_then(|nr| said.get_mut(nr as usize)) {
            *place = Said::Always(plan.denies_with());
        }
    }
    let mut name_is = |rest: &mut std::slice::Iter<'_, table::Row>, name, what| {
        let number = rest.find(|row| row.0 == name).and_then(|row| arch.number(row));
        match number.and_then(|nr| said.get_mut(nr as usize)) {
            Some(place) => *place = what,
            None => return Err(name),
        }
        Ok(())
    };
    let mut rest = table::TABLE.iter();
    for rule in &plan.conditional {
        name_is(&mut rest, rule.syscall.as_str(), Said::By(rule))?;
    }
    let mut rest = table::TABLE.iter();
    for name in &plan.allowed {
        name_is(&mut rest, name.as_ref(), Said::Always(plan.allows_with(name)))?;
    }
    let mut rest = table::TABLE.iter();
    for name in &plan.paths {
        name_is(&mut rest, name.as_ref(), Said::Always(RET_USER_NOTIF))?;
    }
    Ok(said)
}

/// The words that a rule tests.
fn tested(rule: &ConditionalRule) -> u16 {
    let tests = rule.allow.iter().chain(&rule.deny);
    tests.fold(0, |words, test| words | Region::argument(test.index))
}

/// The first answer of the program that is not the plan's, in words. Every number on every architecture (all that 32 bits
/// can say of either) is answered for: a program compares them with constants, and one run stands for all that lie between
/// two of these. It must not have looked at anything else, but for the arguments that a rule tests; with these it is run
/// around the rule's values.
pub fn disagreement(plan: &SyscallsPlan, arch: Arch) -> Option<String> {
    let program = match Program::check(&plan.program) {
        Ok(program) => program,
        Err(e) => return Some(format!("the kernel would refuse the filter: {e}")),
    };
    let said = match said(plan, arch) {
        Ok(said) => said,
        Err(name) => return Some(format!("the plan's {name:?} is out of order, or no call of {arch}")),
    };
    let differs = |data: SeccompData, answer: u32, wanted: u32| {
        let name = syscall_name(arch, data.nr).unwrap_or("unknown");
        match answer == wanted {
            true => format!("the filter's answer for {name} is made of more than the plan's rule tests, in {data:x?}"),
            false => format!("the filter answers {answer:#x}, the plan {wanted:#x}, for {name} in {data:x?}"),
        }
    };
    // A number above those that exist.
    let beyond = |nr| match arch {
        Arch::X86_64 if nr >= X32_BIT => RET_KILL_PROCESS,
        _ => UNKNOWN,
    };
    // What has more regions than its constants can make compares in ways that cannot be followed.
    let mut regions = 2 * plan.program.len();
    let (mut token, native) = (0, arch.audit());
    loop {
        let side = match token {
            token if token < native => native - 1,
            token if token == native => native,
            _ => u32::MAX,
        };
        let (mut nr, mut last_token) = (0, side);
        loop {
            let data = SeccompData {
                nr,
                arch: token,
                ..SeccompData::default()
            };
            let region = program.run_region(&data);
            let (answer, last) = (region.answer, region.last_nr);
            if token != native {
                if answer != RET_KILL_PROCESS || !region.looked_at_most(0) {
                    return Some(differs(data, answer, RET_KILL_PROCESS));
                }
            } else {
                let numbers = nr as usize..=last.min(NUMBERS - 1) as usize;
                for (same, said) in (nr..).zip(said.get(numbers).unwrap_or_default()) {
                    let (wanted, tested) = match said {
                        Said::Always(answer) => (*answer, 0),
                        Said::By(rule) => (expected_by_rule(plan, rule, &data.args), tested(rule)),
                    };
                    if answer != wanted || !region.looked_at_most(tested) {
                        return Some(differs(SeccompData { nr: same, ..data }, answer, wanted));
                    }
                }
                if last >= NUMBERS {
                    // Both ends, since there are two answers at most.
                    for nr in [nr.max(NUMBERS), last] {
                        if answer != beyond(nr) || !region.looked_at_most(0) {
                            return Some(differs(SeccompData { nr, ..data }, answer, beyond(nr)));
                        }
                    }
                }
            }
            last_token = last_token.min(region.last_arch);
            regions -= 1;
            if regions == 0 {
                return Some("the filter compares numbers in ways that cannot be followed".to_owned());
            }
            match last.checked_add(1) {
                Some(next) => nr = next,
                None => break,
            }
        }
        match last_token.checked_add(1) {
            Some(next) => token = next,
            None => break,
        }
    }
    for rule in &plan.conditional {
        let Some(nr) = table::row(&rule.syscall).and_then(|row| arch.number(row)) else {
            continue;
        };
        let tests = || rule.allow.iter().chain(&rule.deny);
        let at = |index: u8, value: u64| {
            let mut data = SeccompData {
                nr,
                arch: native,
                ..SeccompData::default()
            };
            data.args[usize::from(index)] = value;
            data
        };
        let wrong = |region: Region, data: SeccompData| {
            let wanted = expected_by_rule(plan, rule, &data.args);
            let wrong = region.answer != wanted || !region.looked_at_most(tested(rule));
            wrong.then(|| differs(data, region.answer, wanted))
        };
        // One argument, compared as it is: all of its values, by the regions in which the program runs the same way.
        let followed =
            tests().all(|test| Some(test.index) == tests().next().map(|first| first.index) && test.mask == u32::MAX);
        if let Some(index) = tests().next().map(|test| test.index).filter(|_| followed) {
            let mut from = Some(0);
            while let Some(first) = from {
                let region = program.run_region(&at(index, u64::from(first)));
                let last = region.last_argument;
                let inside = tests()
                    .map(|test| test.value)
                    .filter(|value| (first..=last).contains(value));
                if let Some(text) = [first, last]
                    .into_iter()
                    .chain(inside)
                    .find_map(|value| wrong(region, at(index, u64::from(value))))
                {
                    return Some(text);
                }
                regions -= 1;
                if regions == 0 {
                    return Some("the filter compares arguments in ways that cannot be followed".to_owned());
                }
                from = last.checked_add(1);
            }
        }
        for test in tests() {
            for value in around(test.mask, test.value) {
                let data = at(test.index, value);
                if let Some(text) = wrong(program.run_region(&data), data) {
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
