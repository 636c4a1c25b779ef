//! Bundles: equal inputs give equal bytes, which read back as they are; every clause of the policy has its obligation; and
//! nothing of the host that must not be written, or seen, is in the view.

use crate::choices::Choices;
use crate::{Judgement, policy, require};
use serde_json::{Value, json};
use sr_common::facts::{
    AppArmorFacts, CgroupController, CgroupFacts, Command, DiskCeilings, HelperCeilings, HiddenPath, HostFacts, Image,
    Interpreter, MacFacts, ProgramFacts, ResolvedMount, SelinuxFacts, Subject, SystemDir, WallFacts, WallParts,
};
use sr_common::path::within;
use sr_common::{Answer, Backend, ByteSize, Code, Digest, Fault, Matrix, Vmm, canonical};
use sr_compiler::CompileBundle;
use sr_compiler::bundle::{SYSTEM_DIRECTORIES, ViewKind};
use sr_policy::spec::{
    Accel, BackendChoice, DeniedScope, Microvm, OnDenied, PolicySpec, RequiredStrength, RootfsSource,
};
use sr_policy::{Format, parse, preset, render_yaml, resolve};
use std::collections::BTreeMap;

/// The `standard` preset without a mount, `/bin/true`, and an ordinary user of a current desktop.
pub fn plain() -> (PolicySpec, HostFacts, Subject) {
    let mut spec = preset("standard").unwrap_or_else(|| unreachable!("it is a preset"));
    spec.mounts.clear();
    spec.runtime.command = Some("/bin/true".into());
    let link = |path: &str, to: &str| SystemDir {
        path: path.into(),
        link: Some(to.into()),
    };
    let usr = SystemDir {
        path: "/usr".into(),
        link: None,
    };
    let facts = HostFacts {
        arch: "x86_64".into(),
        kernel: "6.12.0".into(),
        privileged: false,
        uid: 1001,
        gid: 1001,
        cpus: 8,
        memory_bytes: 16 << 30,
        user_namespaces_blocked: None,
        landlock_abi: 6,
        seccomp: true,
        ptrace: true,
        cgroup: CgroupFacts::default(),
        system: vec![usr, link("/bin", "usr/bin"), link("/lib", "usr/lib")],
        etc: ["/etc/ld.so.cache", "/etc/localtime", "/etc/ssl/"]
            .map(String::from)
            .into(),
        store: "/home/alice/.local/share/safe-run".into(),
        private: vec!["/home/alice/.config/safe-run".into()],
        home: Some("/home/alice".into()),
        id_base: 0,
        disk: None,
        mac: None,
        walls: None,
    };
    let subject = Subject {
        cwd: "/home/alice/project".into(),
        workspace: "/home/alice/project".into(),
        workspace_uid: 1001,
        workspace_gid: 1001,
        hidden: vec![],
        command: Command {
            written: "/bin/true".into(),
            path: "/usr/bin/true".into(),
            interpreters: vec![],
            prefixes: vec![],
            path_dirs: vec![],
            module: None,
        },
        mounts: vec![],
        root: None,
        wall: None,
    };
    (spec, facts, subject)
}

/// A policy, a host and a command of any kind.
pub fn bundle(data: &[u8]) -> Judgement {
    let mut c = Choices::new(data);
    let spec = policy::generate(&mut c);
    let mut facts = facts(&mut c);
    let (mut spec, mut subject) = subject(spec, &mut c);
    coverage(&spec, &facts, &subject)?;
    // What is refused is judged too, and then asked for without what it was refused for.
    for _ in 0..4 {
        let Err(faults) = compiled(&spec, &facts, &subject)? else {
            break;
        };
        without(&faults, &mut spec, &mut facts, &mut subject);
    }
    let Ok(bundle) = compiled(&spec, &facts, &subject)? else {
        return Ok(());
    };
    coverage(&spec, &facts, &subject)?;
    by_the_file(&spec, &facts, &subject, &bundle)?;
    obligations(&spec, &bundle)?;
    view(&spec, &facts, &bundle)?;
    hostile(&bundle, &mut c)
}

/// The bundle, or why there is none; compiled twice, and read back.
fn compiled(
    spec: &PolicySpec,
    facts: &HostFacts,
    subject: &Subject,
) -> Result<Result<CompileBundle, Vec<Fault>>, String> {
    let first = sr_compiler::compile(spec, facts, subject);
    // Once more, from copies that came a long way round.
    let far = (round(spec)?, round(facts)?, round(subject)?);
    let second = sr_compiler::compile(&far.0, &far.1, &far.2);
    match (first, second) {
        (Ok(one), Ok(other)) => {
            let bytes = canonical::to_bytes(&one).map_err(|e| e.to_string())?;
            let again = canonical::to_bytes(&other).map_err(|e| e.to_string())?;
            require(bytes == again, || "equal inputs, other bytes".into())?;
            let read: CompileBundle = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
            require(read == one, || format!("{one:#?}\nreads back as\n{read:#?}"))?;
            let written = canonical::to_bytes(&read).map_err(|e| e.to_string())?;
            require(written == bytes, || "written otherwise the second time".into())?;
            Ok(Ok(one))
        }
        (Err(one), Err(other)) => {
            let defect = one.iter().find(|f| f.remedy.contains("defect of Safe-Run"));
            require(one == other && !one.is_empty(), || {
                format!("{one:#?}\nand then {other:#?}")
            })?;
            require(defect.is_none(), || format!("{defect:#?}"))?;
            Ok(Err(one))
        }
        (one, other) => Err(format!("{one:?}\nand then {other:?}")),
    }
}

/// Takes out of a policy and its host what the faults name.
fn without(faults: &[Fault], spec: &mut PolicySpec, facts: &mut HostFacts, subject: &mut Subject) {
    // In a guest goes what a guest holds, and where this build starts one, with all that it is made of.
    let qemu = BackendChoice::This(Backend::Microvm(Vmm::Qemu));
    let outside = faults.iter().any(|fault| fault.found.starts_with("microvm:qemu"));
    if spec.runtime.backend == qemu && outside {
        spec.files = None;
        spec.evidence.denied = DeniedScope::Available;
        spec.syscalls.on_denied = OnDenied::Errno;
        spec.microvm = Some(Microvm {
            accel: Accel::Tcg,
            ..Microvm::default()
        });
        facts.walls = Some(WallFacts {
            qemu: found(),
            guest: found(),
            kernels: vec!["default".into()],
            ..walls(&mut Choices::new(&[]))
        });
    }
    for fault in faults {
        let path = fault.path.as_str();
        let at = path
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']')?.0.parse::<usize>().ok());
        let at = at.unwrap_or_default();
        match path.split(['[', '.']).next().unwrap_or_default() {
            "syscalls" => {
                let calls = &mut spec.syscalls;
                let names = if path.contains("allow") {
                    &mut calls.allow
                } else {
                    &mut calls.deny
                };
                if let Some(name) = names.get_mut(at) {
                    *name = "getpid".into();
                }
            }
            "mounts" => {
                let place = format!("/m/plain{at}");
                if let (Some(mount), Some(resolved)) = (spec.mounts.get_mut(at), subject.mounts.get_mut(at)) {
                    (mount.source, resolved.source) = (format!("/work/plain{at}"), format!("/work/plain{at}"));
                    (mount.target, resolved.target) = (Some(place.clone()), place);
                    resolved.directory = true;
                }
                subject
                    .hidden
                    .retain(|hidden| subject.mounts.iter().any(|m| within(&hidden.path, &m.source)));
            }
            "files" => {
                facts.landlock_abi = facts.landlock_abi.max(3);
                if let Some(place) = spec.files.as_mut().and_then(|files| files.write.get_mut(at)) {
                    *place = "/tmp".into();
                }
            }
            "resources" => {
                spec.resources.strength = RequiredStrength::Any;
                spec.resources.memory = Some(ByteSize(1 << 30));
                spec.resources.disk = ByteSize(1 << 30);
            }
            "runtime" => {
                spec.runtime.command = Some("/bin/true".into());
                spec.runtime.workdir = None;
                spec.runtime.backend = BackendChoice::Auto;
                spec.microvm = None;
            }
            _ => {
                (facts.seccomp, facts.user_namespaces_blocked, facts.ptrace) = (true, None, true);
                facts.landlock_abi = facts.landlock_abi.max(1);
                spec.mac = None;
            }
        }
    }
}

fn round<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> Result<T, String> {
    let text = serde_json::to_string(value).map_err(|e| e.to_string())?;
    serde_json::from_str(&text).map_err(|e| e.to_string())
}

/// A policy that was read from its file gives the bundle that it gives without one.
fn by_the_file(spec: &PolicySpec, facts: &HostFacts, subject: &Subject, bundle: &CompileBundle) -> Judgement {
    let no_files = |_: &str| Err(sr_common::Fault::new(Code::Pol002, "extends", "", ""));
    let yaml = render_yaml(spec);
    let Ok(read) = parse("p.yaml", yaml.as_bytes(), Format::Yaml).and_then(|source| resolve(&source, &no_files)) else {
        return Ok(());
    };
    let by_file = sr_compiler::compile(&read, facts, subject);
    require(by_file.as_ref() == Ok(bundle), || {
        format!("{by_file:#?}\ninstead of\n{bundle:#?}")
    })
}

fn facts(c: &mut Choices<'_>) -> HostFacts {
    let (_, facts, _) = plain();
    let privileged = c.flag();
    let version = 1 + c.byte() % 2;
    let mut controller = |name: &str| {
        let parent = format!("/sys/fs/cgroup/{name}/safe-run");
        c.flag().then_some(CgroupController { version, parent })
    };
    let cgroup = CgroupFacts {
        memory: controller("memory"),
        cpu: controller("cpu"),
        pids: controller("pids"),
        helper: c.flag().then_some(HelperCeilings {
            memory: c.flag().then_some(4 << 30),
            cpu: c.flag().then_some(4000),
            pids: c.flag().then_some(4096),
        }),
    };
    let id = if privileged { 0 } else { 1000 + c.number() % 60_000 };
    HostFacts {
        arch: c.word(&["x86_64", "aarch64"]).into(),
        privileged,
        uid: id,
        gid: id,
        cpus: 1 + u32::from(c.byte()),
        memory_bytes: 1 << (20 + c.below(24)),
        user_namespaces_blocked: (c.below(16) == 1).then(|| "a switch".into()),
        landlock_abi: c.below(9) as u32,
        seccomp: c.below(16) != 1,
        ptrace: c.below(4) != 1,
        cgroup,
        store: c
            .word(&[
                "/var/lib/safe-run",
                "/home/alice/.local/share/safe-run",
                "/data/store",
                "/home/alice/p/store",
            ])
            .into(),
        private: vec![
            c.word(&["/root/.config/safe-run", "/home/alice/.config/safe-run", "/data/keys"])
                .into(),
        ],
        home: c.some(|_| "/home/alice".into()),
        disk: c.some(|c| DiskCeilings {
            bytes: 1 << (20 + c.below(24)),
            files: 1 + u64::from(c.number()),
        }),
        mac: c.some(mac),
        walls: c.some(walls),
        id_base: if privileged { 0x7000_0000 } else { 0 },
        ..facts
    }
}

/// New enough for any wall.
fn found() -> ProgramFacts {
    ProgramFacts::Found {
        path: "/usr/bin/x".into(),
        version: Some("v99.2".into()),
    }
}

fn walls(c: &mut Choices<'_>) -> WallFacts {
    let program = |c: &mut Choices<'_>| match c.below(4) {
        0 => ProgramFacts::Missing {
            why: "there is none".into(),
        },
        _ => found(),
    };
    WallFacts {
        wasm: program(c),
        runsc: program(c),
        qemu: program(c),
        cloud_hypervisor: program(c),
        firecracker: program(c),
        guest: program(c),
        kvm_blocked: c.some(|_| "there is no /dev/kvm".into()),
        kernels: c.list(2, |c| c.word(&["default", "a.b"]).to_owned()),
        rootfs: Vec::new(),
    }
}

fn mac(c: &mut Choices<'_>) -> MacFacts {
    let labels = [
        "unconfined",
        "a (unconfined)",
        "a (enforce)",
        "a (b) (enforce)",
        "a (complain)",
    ];
    let apparmor = |c: &mut Choices<'_>| AppArmorFacts {
        directory: c.word(&["attr", "attr/apparmor"]).into(),
        label: c.word(&labels).into(),
    };
    MacFacts {
        apparmor: c.some(apparmor),
        selinux: c.some(|c| SelinuxFacts {
            enforcing: c.flag(),
            context: c.word(&["u:r:t:s0", "kernel"]).into(),
        }),
    }
}

/// What the policy's mounts, root and command are on the host.
fn subject(mut spec: PolicySpec, c: &mut Choices<'_>) -> (PolicySpec, Subject) {
    const SOURCES: [&str; 14] = [
        "/home/alice/p",
        "/home/alice/q",
        "/data",
        "/data/x",
        "/srv/www",
        "/usr/share",
        "/etc/hosts",
        "/",
        "/home/alice",
        "/usr",
        "/var/lib",
        "/opt/tool",
        "/home/alice/p/sub",
        "/tmp/x",
    ];
    let (_, _, subject) = plain();
    let resolve = |source: &str, target: &str, directory: bool| ResolvedMount {
        source: source.into(),
        target: target.into(),
        directory,
        uid: 1001,
        gid: 1001,
    };
    let mut mounts = Vec::new();
    for mount in &mut spec.mounts {
        let source = c.word(&SOURCES);
        mount.source = source.into();
        mounts.push(resolve(
            source,
            mount.target.as_deref().unwrap_or(source),
            source != "/etc/hosts",
        ));
    }
    let root =
        (c.below(4) == 1).then(|| resolve(c.word(&["/srv/rootfs", "/data/root", "/home/alice/root"]), "/", true));
    if let Some(root) = &root {
        spec.rootfs.source = RootfsSource::Dir;
        spec.rootfs.path = Some(root.source.clone());
    }
    let hidden = mounts.iter().filter(|_| c.flag()).map(|mount| HiddenPath {
        path: format!("{}/.env", mount.source),
        pattern: ".env*".into(),
        replacement: None,
    });
    let mut hidden: Vec<HiddenPath> = hidden.collect();
    hidden.sort();
    hidden.dedup();
    let interpreter = |c: &mut Choices<'_>| Interpreter {
        path: "/usr/bin/python3".into(),
        argument: c.some(|_| "-s".into()),
    };
    let command = Command {
        interpreters: c.some(interpreter).into_iter().collect(),
        ..subject.command
    };
    let made = Subject {
        mounts,
        root,
        hidden,
        command,
        wall: Some(parts()),
        ..subject
    };
    (spec, made)
}

/// What a machine is made of: looked for where one is asked for, and of no use else.
fn parts() -> WallParts {
    let image = |role: &str| Image {
        role: role.into(),
        path: format!("/home/alice/.local/share/safe-run/artifacts/{role}"),
        digest: Digest::of(role.as_bytes()),
        format: None,
    };
    WallParts {
        driver: "/usr/bin/safe-run".into(),
        monitor: "/usr/bin/qemu-system-x86_64".into(),
        images: vec![image("kernel"), image("initrd")],
    }
}

/// Each clause of the policy has exactly one obligation, the backend's own promises aside; and none speaks of anything else.
fn obligations(spec: &PolicySpec, bundle: &CompileBundle) -> Judgement {
    let mut told: BTreeMap<&str, usize> = BTreeMap::new();
    for obligation in &bundle.obligations {
        *told.entry(&obligation.clause).or_default() += 1;
        let accepted = spec.degrade.contains(&obligation.control) && obligation.reason.is_some();
        require(obligation.enforced || accepted, || {
            format!("neither enforced nor accepted: {obligation:?}")
        })?;
        require(!obligation.mechanism.is_empty(), || {
            format!("by nothing: {obligation:?}")
        })?;
    }
    let promises = told.remove("runtime.backend").unwrap_or(0);
    require(promises >= 8, || format!("{promises} promises of the backend"))?;
    let mut all = clauses(spec);
    if bundle.wall_plan.is_some() {
        all.extend(guest(spec));
    }
    for clause in all {
        let count = told.remove(clause.as_str()).unwrap_or(0);
        require(count == 1, || format!("{clause} has {count} obligations"))?;
    }
    require(told.is_empty(), || format!("obligations for no clause: {told:?}"))
}

/// Each wall speaks exactly once of each clause, says why it refuses, and covers a policy if it refuses nothing and lacks
/// nothing; the native one if it compiles. What `strongest` picks covers, and nothing stronger does.
fn coverage(spec: &PolicySpec, facts: &HostFacts, subject: &Subject) -> Judgement {
    let Ok(matrix) = sr_compiler::matrix(spec, facts, subject) else {
        return Ok(());
    };
    let mut native = spec.clone();
    native.runtime.backend = BackendChoice::This(Backend::Process);
    // Which has no guest that a root could be of.
    let compiles = spec.guest_root().is_none() && sr_compiler::compile(&native, facts, subject).is_ok();
    covers(spec, &matrix, compiles)
}

fn covers(spec: &PolicySpec, matrix: &Matrix, compiles: bool) -> Judgement {
    let mut expected = clauses(spec);
    expected.extend(guest(spec));
    expected.sort();
    for coverage in &matrix.backends {
        let backend = coverage.backend;
        let mut told: Vec<&str> = Vec::new();
        for declared in &coverage.declarations {
            let refused = declared.answer == Answer::Refused;
            require(!refused || declared.reason.is_some(), || {
                format!("{backend}: {declared:?}")
            })?;
            require(!declared.holds.is_empty() || declared.reason.is_some(), || {
                format!("{backend}: by nothing: {declared:?}")
            })?;
            let accepted = spec.degrade.contains(&declared.control);
            require(declared.answer != Answer::Degraded || accepted, || {
                format!("{backend}: nobody accepts: {declared:?}")
            })?;
            if declared.clause != "runtime.backend" {
                told.push(&declared.clause);
            }
        }
        told.sort_unstable();
        require(told == expected, || {
            format!("{backend} speaks of\n{told:?}, not of\n{expected:?}")
        })?;
        let refuses = coverage.declarations.iter().any(|d| d.answer == Answer::Refused);
        require(coverage.covers == (!refuses && coverage.lacks.is_empty()), || {
            format!("{backend}: {:?}", coverage.reasons())
        })?;
        require(backend != Backend::Process || coverage.covers == compiles, || {
            format!("the native wall compiles: {compiles}; it says {:?}", coverage.reasons())
        })?;
    }
    let first = matrix.backends.iter().rev().find(|coverage| coverage.covers);
    let picked = matrix.strongest.as_ref().map(|choice| choice.picked);
    require(picked == first.map(|coverage| coverage.backend), || {
        format!("{picked:?} is picked")
    })
}

/// The clauses about a guest.
fn guest(spec: &PolicySpec) -> Vec<String> {
    let document = serde_json::to_value(&spec.microvm).unwrap_or_default();
    let fields = document.as_object().into_iter().flatten();
    let asked = fields.filter(|(_, value)| !value.is_null());
    asked.map(|(field, _)| format!("microvm.{field}")).collect()
}

/// The clauses of a policy that bind, by its own document: every field but those that name, choose or qualify.
fn clauses(spec: &PolicySpec) -> Vec<String> {
    let document = serde_json::to_value(spec).unwrap_or_default();
    let mut clauses = Vec::new();
    for (section, value) in document.as_object().into_iter().flatten() {
        match (section.as_str(), value) {
            ("apiVersion" | "metadata" | "preset" | "degrade", _) | ("session", Value::Null) => {}
            // Only says of a guest what it is: see `guest`.
            ("microvm", _) => {}
            ("mounts", Value::Array(mounts)) => clauses.extend((0..mounts.len()).map(|i| format!("mounts[{i}]"))),
            ("rootfs", _) => clauses.extend(["rootfs".to_owned(), "rootfs.installation".to_owned()]),
            (_, Value::Object(fields)) => clauses.extend(fields.iter().filter_map(|(field, value)| {
                let path = format!("{section}.{field}");
                let qualifies =
                    ["runtime.backend", "resources.onOutput", "resources.strength"].contains(&path.as_str());
                let empty = section == "syscalls" && *value == json!([]);
                (!qualifies && !empty).then_some(path)
            })),
            _ => clauses.push(section.clone()),
        }
    }
    clauses
}

/// The host's own directories are never writable, what is Safe-Run's own never seen, and the view is in order.
fn view(spec: &PolicySpec, facts: &HostFacts, bundle: &CompileBundle) -> Judgement {
    let plan = &bundle.filesystem_plan;
    // Below a host directory the places are the directory's own.
    let mut places: Vec<&str> = Vec::new();
    let mut directories: Vec<&str> = Vec::new();
    for entry in &plan.entries {
        let target = entry.target.as_str();
        let normal = target == "/"
            || target
                .strip_prefix('/')
                .is_some_and(|rest| rest.split('/').all(|p| !["", ".", ".."].contains(&p)));
        require(normal && !places.contains(&target), || {
            format!("{target} is not one place")
        })?;
        let covered = directories.iter().any(|place| within(target, place));
        let parent = target.rsplit_once('/').map_or("", |(parent, _)| parent);
        require(covered || parent.is_empty() || places.contains(&parent), || {
            format!("{target} has no parent")
        })?;
        places.push(target);
        let source = match &entry.what {
            ViewKind::Writable { source, .. } => {
                let source = source.as_str();
                let system = SYSTEM_DIRECTORIES
                    .iter()
                    .any(|dir| within(source, dir) || within(dir, source));
                let home = facts.home.as_deref().is_some_and(|home| within(home, source));
                require(!system && !home && source != "/" && target != "/", || {
                    format!("{source} can be written")
                })?;
                let asked = spec.mounts.iter().any(|mount| !mount.read_only && !mount.captured);
                require(asked, || format!("nobody asked for {source} to be writable"))?;
                source
            }
            ViewKind::Captured { source, .. } => {
                require(source != "/", || "the host's root is captured".into())?;
                source
            }
            ViewKind::ReadOnly { source, .. } => source,
            _ => continue,
        };
        directories.push(target);
        for private in facts.private.iter().chain([&facts.store]) {
            require(!within(source, private), || {
                format!("{source} is shown, below {private}")
            })?;
            if !within(private, source) {
                continue;
            }
            let rest = private.strip_prefix(source.trim_end_matches('/')).unwrap_or_default();
            let place = format!("{}{rest}", target.trim_end_matches('/'));
            let masked = plan.masked.iter().any(|mask| within(&place, mask));
            let replaced = plan
                .entries
                .iter()
                .any(|e| e.target.len() > target.len() && within(&place, &e.target));
            let absent = match &entry.what {
                ViewKind::Captured { hidden, .. } => {
                    let inside = rest.trim_start_matches('/');
                    hidden
                        .iter()
                        .any(|mask| mask.replacement.is_none() && within(inside, &mask.path))
                }
                _ => false,
            };
            require(masked || replaced || absent, || format!("{private} shows at {place}"))?;
        }
    }
    Ok(())
}

/// A bundle that says what its types cannot hold is not read.
fn hostile(bundle: &CompileBundle, c: &mut Choices<'_>) -> Judgement {
    let mut value = serde_json::to_value(bundle).map_err(|e| e.to_string())?;
    let dir = c.word(&[
        "/",
        "/usr",
        "/etc",
        "/var/lib/x",
        "relative",
        "/a/../usr",
        "/a//b",
        "/a/.",
        "",
        "/proc/1/root",
    ]);
    let entry = json!({"target": "/m", "what": {"writable": {"source": dir, "directory": true, "owner": null}}});
    match value
        .pointer_mut("/filesystemPlan/entries")
        .and_then(Value::as_array_mut)
    {
        Some(entries) => entries.push(entry),
        None => return Err("a bundle without a view".into()),
    }
    let read = serde_json::from_value::<CompileBundle>(value.clone());
    require(read.is_err(), || format!("{dir} is read as writable"))?;
    // It is the path that is refused: another one would do.
    if let Some(source) = value
        .pointer_mut("/filesystemPlan/entries")
        .and_then(Value::as_array_mut)
        .and_then(|e| e.last_mut())
    {
        source["what"]["writable"]["source"] = json!("/home/alice/p");
    }
    serde_json::from_value::<CompileBundle>(value)
        .map(drop)
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choices::random;

    /// What is compiled of an input in the end, if it is.
    fn in_the_end(data: &[u8]) -> Option<(PolicySpec, HostFacts, CompileBundle)> {
        let mut c = Choices::new(data);
        let spec = policy::generate(&mut c);
        let mut facts = facts(&mut c);
        let (mut spec, mut subject) = subject(spec, &mut c);
        for _ in 0..4 {
            match sr_compiler::compile(&spec, &facts, &subject) {
                Ok(bundle) => return Some((spec, facts, bundle)),
                Err(faults) => without(&faults, &mut spec, &mut facts, &mut subject),
            }
        }
        let left = sr_compiler::compile(&spec, &facts, &subject).err()?;
        println!("{}", left.first()?);
        None
    }

    #[test]
    fn enough_of_what_is_generated_compiles() {
        let all: Vec<_> = (1..400).filter_map(|seed| in_the_end(&random(seed, 400))).collect();
        let with = |holds: &dyn Fn(&ViewKind) -> bool| {
            let entries = |b: &CompileBundle| b.filesystem_plan.entries.iter().any(|e| holds(&e.what));
            all.iter().filter(|(_, _, bundle)| entries(bundle)).count()
        };
        let counts = [
            all.len(),
            with(&|what| matches!(what, ViewKind::Writable { .. })),
            with(&|what| matches!(what, ViewKind::Captured { .. })),
            all.iter().filter(|(spec, ..)| spec.rootfs.path.is_some()).count(),
            all.iter().filter(|(.., bundle)| bundle.wall_plan.is_some()).count(),
        ];
        println!("compiled, with writable, with captured, with a root directory, in a guest: {counts:?}");
        assert!(counts.iter().all(|n| *n >= 10), "{counts:?}");
        let declared = (1..400).filter(|seed| {
            let data = random(*seed, 400);
            let mut c = Choices::new(&data);
            let spec = policy::generate(&mut c);
            let facts = facts(&mut c);
            let (spec, subject) = subject(spec, &mut c);
            sr_compiler::matrix(&spec, &facts, &subject).is_ok()
        });
        assert!(declared.count() >= 10);
    }

    #[test]
    fn the_oracles_see_what_is_wrong() {
        let (spec, facts, bundle) = (1..400).find_map(|seed| in_the_end(&random(seed, 400))).unwrap();
        assert_eq!(obligations(&spec, &bundle), Ok(()));
        assert_eq!(view(&spec, &facts, &bundle), Ok(()));
        for at in 0..bundle.obligations.len() {
            let mut missing = bundle.clone();
            let gone = missing.obligations.remove(at);
            let promise = gone.clause == "runtime.backend";
            assert_eq!(obligations(&spec, &missing).is_err(), !promise, "{gone:?}");
            let mut twice = bundle.clone();
            twice.obligations.push(gone);
            assert_eq!(obligations(&spec, &twice).is_err(), !promise);
        }
        let facts = HostFacts {
            walls: Some(walls(&mut Choices::new(&random(1, 40)))),
            ..facts
        };
        let (_, _, subject) = plain();
        let matrix = sr_compiler::matrix(&plain().0, &facts, &subject).unwrap();
        assert_eq!(covers(&plain().0, &matrix, true), Ok(()));
        assert!(covers(&plain().0, &matrix, false).is_err());
        for at in 0..matrix.backends.len() {
            let mut silent = matrix.clone();
            let gone = silent.backends[at].declarations.pop().unwrap();
            assert!(covers(&plain().0, &silent, true).is_err());
            silent.backends[at].declarations.extend([gone.clone(), gone]);
            assert!(covers(&plain().0, &silent, true).is_err());
            let mut lying = matrix.clone();
            lying.backends[at].covers ^= true;
            assert!(covers(&plain().0, &lying, true).is_err());
        }
        let mut shown = bundle.clone();
        shown.filesystem_plan.entries.push(sr_compiler::bundle::ViewEntry {
            target: "/m".into(),
            what: ViewKind::ReadOnly {
                source: facts.store.clone(),
                directory: true,
            },
        });
        assert!(view(&spec, &facts, &shown).is_err(), "the store is shown");
    }
}
