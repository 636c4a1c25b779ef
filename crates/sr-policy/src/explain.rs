//! A policy in plain sentences: what the program may and may not do.

use crate::spec::*;
use crate::text::printable;
use sr_common::{Backend, Control};
use std::fmt::Write as _;

mod wasm;

/// What the policy means for the program, one sentence a line, in groups with a heading.
pub fn explain(spec: &PolicySpec) -> String {
    let mut out = String::new();
    let program = match &spec.runtime.command {
        Some(command) => format!("`{}`", printable(command)),
        None => "the program given after `--`".into(),
    };
    let _ = writeln!(
        out,
        "Policy {} (on top of the preset {}).",
        printable(&spec.metadata.name),
        spec.preset.name()
    );
    section(&mut out, "Program", program_lines(spec, &program));
    let mut wall = wall_lines(spec);
    wall.extend(wasm::lines(spec));
    if !wall.is_empty() {
        section(&mut out, "Wall", wall);
    }
    section(&mut out, "Files", file_lines(spec));
    section(
        &mut out,
        "Network",
        vec!["It has no network at all: only a loopback of its own, which is down.".into()],
    );
    section(&mut out, "Limits", limit_lines(&spec.resources));
    section(&mut out, "System calls", call_lines(&spec.syscalls));
    if let Some(mac) = &spec.mac {
        section(&mut out, "Mandatory access control", mac_lines(mac));
    }
    section(&mut out, "Evidence", evidence_lines(&spec.evidence));
    section(&mut out, "Afterwards", after_lines(spec));
    out
}

fn section(out: &mut String, title: &str, lines: Vec<String>) {
    let _ = writeln!(out, "\n{title}");
    for line in lines {
        let _ = writeln!(out, "  {line}");
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| printable(name)).collect::<Vec<_>>().join(", ")
}

fn program_lines(spec: &PolicySpec, program: &str) -> Vec<String> {
    let runtime = &spec.runtime;
    let mut lines = vec![format!(
        "{program} runs as user {} inside the sandbox, never as root, with {} argument{}.",
        runtime.user,
        runtime.args.len(),
        if runtime.args.len() == 1 { "" } else { "s" }
    )];
    lines.push(match runtime.env.is_empty() {
        true => "It inherits nothing of your environment.".into(),
        // Names only: a value may be a secret.
        false => {
            let names: Vec<String> = runtime.env.keys().cloned().collect();
            format!(
                "It inherits nothing of your environment; the policy sets {}.",
                list(&names)
            )
        }
    });
    lines.push(match &runtime.workdir {
        Some(dir) => format!("It starts in {}.", printable(dir)),
        None => "It starts in the current directory where it can see it, else in `/`.".into(),
    });
    lines
}

/// Nothing of the native wall, which is what every other section tells of.
fn wall_lines(spec: &PolicySpec) -> Vec<String> {
    let guest = spec.microvm.clone().unwrap_or_default();
    let monitor = match spec.runtime.backend {
        // Of an engine its own module tells.
        BackendChoice::Auto | BackendChoice::This(Backend::Process | Backend::Wasm) => return Vec::new(),
        BackendChoice::This(Backend::Gvisor) => {
            return vec!["It runs behind gVisor, a kernel in user space, and the host's kernel holds that.".into()];
        }
        BackendChoice::Strongest => {
            return vec![
                "It runs behind the strongest wall that covers all of this on the host, which is recorded.".into(),
            ];
        }
        BackendChoice::Microvm => guest.vmm,
        BackendChoice::This(Backend::Microvm(vmm)) => Some(vmm),
    };
    let monitor = match monitor {
        Some(vmm) => vmm.name().to_owned(),
        None => "the strongest monitor that the host has and that covers all of this".to_owned(),
    };
    let root = guest.rootfs.map_or_else(String::new, |name| {
        format!(" and the root file system {}", printable(&name))
    });
    let mut lines = vec![format!(
        "It runs in a virtual machine of its own with the kernel {}{root}, under {monitor}; that has {} to hold it.",
        printable(&guest.kernel),
        guest.boot_timeout
    )];
    if guest.accel == Accel::Tcg || spec.degrade.contains(&Control::HardwareVirtualization) {
        lines.push("Without KVM its instructions are computed one by one, which takes many times as long.".into());
    }
    lines
}

fn file_lines(spec: &PolicySpec) -> Vec<String> {
    let guest = spec.guest_root();
    let root = match (guest, &spec.rootfs.source, &spec.rootfs.path) {
        (Some(name), ..) => format!(
            "the files of its root file system {}, none of the host's,",
            printable(name)
        ),
        (None, RootfsSource::Dir, Some(path)) => format!("the root file system in {}", printable(path)),
        _ => "the host's system directories".into(),
    };
    let mut lines = vec![match spec.rootfs.writable {
        RootWritable::ReadOnly => format!("It sees {root} and cannot change them."),
        RootWritable::Overlay => {
            format!("It sees {root}; what it writes there is kept apart and never reaches the host.")
        }
    }];
    lines.push(match (guest, spec.rootfs.installation) {
        (Some(_), _) => "Its command is looked for there.".into(),
        (None, Installation::ReadOnly) => {
            "Where its command is part of an installation elsewhere (pyenv, nvm, a venv), it sees that too, read-only."
                .into()
        }
        (None, Installation::Refuse) => {
            "A command that is part of an installation elsewhere (pyenv, nvm, a venv) is refused.".into()
        }
    });
    for mount in &spec.mounts {
        lines.push(mount_line(mount));
    }
    if spec.mounts.is_empty() {
        lines.push("It sees none of your files.".into());
    } else if !spec.hide.is_empty() {
        lines.push(format!(
            "In captured directories these names are hidden: {}.",
            list(&spec.hide)
        ));
    }
    if let Some(files) = &spec.files {
        lines.extend(opened_lines(files));
    }
    lines.push("It has an empty `/tmp` of its own, which is its home directory too. It sees nothing of what your home directory, `/run` and `/var` hold, nor of anything else not named here.".into());
    lines
}

fn opened_lines(files: &Files) -> [String; 2] {
    let named = |paths: &[String]| match paths {
        [] => "nothing".to_owned(),
        paths => list(paths),
    };
    [
        format!(
            "Of what it sees it may open to read, besides the command itself: {}.",
            named(&[files.read.as_slice(), &files.write].concat())
        ),
        format!("Of what it could change it may change: {}.", named(&files.write)),
    ]
}

fn mount_line(mount: &Mount) -> String {
    let source = match mount.source.as_str() {
        "." => "the current directory (in a git work tree, its top)".into(),
        other => printable(other),
    };
    let place = mount
        .target
        .as_ref()
        .map(|t| format!(" as {}", printable(t)))
        .unwrap_or_default();
    match (mount.captured, mount.read_only) {
        (true, _) => format!("It sees {source}{place}; what it writes there is kept apart until you apply it."),
        (false, true) => format!("It sees {source}{place} and cannot change it."),
        (false, false) => {
            format!("It sees {source}{place} and CHANGES IT DIRECTLY: what it writes or deletes there is at once real.")
        }
    }
}

fn limit_lines(r: &Resources) -> Vec<String> {
    let cpu = match r.cpu {
        Some(cpu) => format!("at most {cpu} CPU{}", if cpu == 1.0 { "" } else { "s" }),
        None => "all CPUs".into(),
    };
    let memory = r.memory.map_or("any amount".into(), |size| size.to_string());
    let pids = r.pids.map_or("any number of".into(), |n| n.to_string());
    let output = match r.on_output {
        OnOutput::Kill => "then it is killed",
        OnOutput::Truncate => "what comes after it is dropped",
    };
    let strength = match r.strength {
        RequiredStrength::Any => "Where the kernel cannot hold a limit, a weaker way is used and recorded.",
        RequiredStrength::PerProcess => {
            "The run does not start unless the kernel holds its limits, at least for each process."
        }
        RequiredStrength::Kernel => {
            "The run does not start unless the kernel holds its limits for all processes together."
        }
    };
    vec![
        format!("It has {cpu}, {memory} of memory and {pids} processes and threads."),
        format!(
            "It may write {} in all, and open {} files in each process.",
            r.disk, r.open_files
        ),
        format!(
            "After {} it is killed. It may print {}; {output}.",
            r.wall_time, r.output
        ),
        strength.into(),
    ]
}

fn call_lines(calls: &Syscalls) -> Vec<String> {
    let profile = match calls.profile {
        SyscallProfile::Named => "named (what every start and end needs)",
        SyscallProfile::Strict => "strict",
        SyscallProfile::Standard => "standard",
    };
    let denied = match calls.on_denied {
        OnDenied::Errno => "fails with an error",
        OnDenied::Kill => "ends the run",
        OnDenied::Ask => "is asked of you on the terminal, unless it is part of the wall",
        OnDenied::Log => "is logged AND ALLOWED (for learning only)",
    };
    let mut lines = vec![format!(
        "It may make the system calls of the profile {profile}; any other {denied}."
    )];
    if !calls.allow.is_empty() {
        lines.push(format!("Also allowed: {}.", list(&calls.allow)));
    }
    if !calls.deny.is_empty() {
        lines.push(format!("Also denied: {}.", list(&calls.deny)));
    }
    for (call, values) in &calls.arguments {
        let values: Vec<String> = values.iter().map(u32::to_string).collect();
        lines.push(format!(
            "Of {call}, only what the numbers {} select.",
            values.join(", ")
        ));
    }
    lines
}

fn mac_lines(mac: &Mac) -> Vec<String> {
    let what = match mac {
        Mac::Apparmor(profile) => format!("the AppArmor profile {}", printable(profile)),
        Mac::Selinux(context) => format!("the SELinux context {}", printable(context)),
    };
    vec![format!("It is held by {what} besides, from its first instruction.")]
}

fn evidence_lines(evidence: &Evidence) -> Vec<String> {
    let hash = match evidence.hash {
        HashScope::Files => "The executable, interpreter, script and mounted files are hashed before it starts",
        HashScope::Tree => {
            "The executable, interpreter, script and all mounted files and directories (a root directory too) are hashed \
             before it starts, as it sees them"
        }
    };
    let sign = match evidence.sign.as_str() {
        "none" => "the report is NOT signed".into(),
        "default" => "the report is signed with the default key".into(),
        key => format!("the report is signed with the key {}", printable(key)),
    };
    let kept = match evidence.durability {
        Durability::None => return vec!["NO EVIDENCE is kept of it: no events, no report, nothing to verify.".into()],
        Durability::Process => "The record survives the death of every process.",
        Durability::Machine => "The record survives a loss of power too.",
    };
    vec![
        format!("{hash}; {sign}."),
        format!("What it uses is sampled every {}. {kept}", evidence.sample_interval),
    ]
}

fn after_lines(spec: &PolicySpec) -> Vec<String> {
    let mut lines = vec![match spec.session.as_deref() {
        None => "Captured writes belong to this run alone.".into(),
        Some("auto") => "Captured writes are kept for the next run in the same workspace.".into(),
        Some(name) => format!(
            "Captured writes are kept for the next run of the session {}.",
            printable(name)
        ),
    }];
    if !spec.degrade.is_empty() {
        let names: Vec<String> = spec.degrade.iter().map(|c| c.name()).collect();
        lines.push(format!(
            "It also runs on a host that lacks these protections, which is recorded: {}.",
            list(&names)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_told_in_plain_words() {
        let text = explain(&Preset::Agent.spec());
        for part in [
            "no network",
            "4GiB of memory",
            "kept apart until you apply it",
            ".env*",
            "next run in the same workspace",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let strict = explain(&Preset::Strict.spec());
        assert!(strict.contains("none of your files") && strict.contains("ends the run") && strict.contains("1 CPU,"));
    }

    #[test]
    fn a_wall_that_is_not_the_native_one_is_told_of() {
        let mut spec = Preset::Standard.spec();
        assert!(!explain(&spec).contains("\nWall\n"));
        for (backend, part) in [
            ("gvisor", "behind gVisor"),
            ("strongest", "the strongest wall that covers"),
            ("microvm", "under the strongest monitor"),
            ("microvm:qemu", "with the kernel default, under qemu; that has 2min to"),
        ] {
            spec.runtime.backend = backend.parse().unwrap();
            let text = explain(&spec);
            assert!(text.contains(part) && !text.contains("Without KVM"), "{text}");
        }
        spec.microvm = Some(Microvm {
            rootfs: Some("alpine".into()),
            accel: Accel::Tcg,
            ..Microvm::default()
        });
        let text = explain(&spec);
        assert!(
            text.contains("root file system alpine") && text.contains("Without KVM"),
            "{text}"
        );
        assert!(
            text.contains("Its command is looked for there.") && !text.contains("the host's system directories"),
            "{text}"
        );
    }

    #[test]
    fn mandatory_access_control_is_told_where_it_is_asked_for() {
        let mut spec = Preset::Standard.spec();
        assert!(!explain(&spec).contains("Mandatory"));
        for (mac, part) in [
            (Mac::Apparmor("a/b".into()), "by the AppArmor profile a/b besides"),
            (Mac::Selinux("u:r:t".into()), "by the SELinux context u:r:t besides"),
        ] {
            spec.mac = Some(mac);
            assert!(explain(&spec).contains(part), "{}", explain(&spec));
        }
    }

    #[test]
    fn values_of_the_environment_and_escapes_stay_out() {
        let mut spec = Preset::Standard.spec();
        spec.runtime.env.insert("TOKEN".into(), "hunter2".into());
        spec.metadata.name = "a\u{1b}[31m".into();
        spec.mounts[0].captured = false;
        let text = explain(&spec);
        assert!(text.contains("TOKEN") && !text.contains("hunter2") && !text.contains('\u{1b}'));
        assert!(text.contains("CHANGES IT DIRECTLY"));
    }
}
