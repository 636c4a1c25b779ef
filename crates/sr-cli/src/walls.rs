//! Which walls a host has, for people: a line a wall, what is missing for the others, and how to get it. All of it is told
//! from the matrix by which a launch refuses a wall and `strongest` picks one.

use crate::coverage;
use crate::terminal::{Style, clean};
use rustix::fs::stat;
use sr_common::facts::{ProgramFacts, WallFacts};
use sr_common::{Answer, Backend, Coverage, Matrix, Vmm};
use std::fmt::Write as _;

// Writing to a string cannot fail.
pub fn text(matrix: &Matrix, style: Style) -> String {
    let mut out = format!("\nWhich walls cover the preset {} here:\n", clean(&matrix.policy));
    let host = &matrix.host;
    for coverage in &matrix.backends {
        let said = wall(coverage, host);
        line(&mut out, coverage.backend.name(), state(coverage.covers, style), &said);
    }
    let picked = matrix.strongest.as_ref().map(|choice| choice.picked.name());
    let _ = writeln!(out, "  {:25} {}", "strongest", picked.unwrap_or("none"));
    out.push_str("\nWhat walls share that have a kernel of their own:\n");
    let (found, said) = program(&host.guest);
    line(&mut out, "guest", state(found, style), &said);
    let kernels = match host.kernels.is_empty() {
        true => "the run store has none".to_owned(),
        false => host.kernels.join(", "),
    };
    line(&mut out, "kernel", state(!host.kernels.is_empty(), style), &kernels);
    let kvm = host.kvm_blocked.as_deref();
    let opened = "/dev/kvm can be opened; whether a guest runs is seen when one is started";
    line(&mut out, "kvm", state(kvm.is_none(), style), kvm.unwrap_or(opened));
    let needs = needs(matrix);
    if !needs.is_empty() {
        out.push_str("\nWhat it takes to have the other walls:\n");
    }
    for need in needs {
        let what = format!("{} ({})", need.found, coverage::named(&need.backends));
        let _ = writeln!(out, "  {}", style.warn(&clean(&what)));
        // How the device is had comes before what can be done without it.
        let group = (host.kvm_blocked.as_ref() == Some(&need.found)).then(group).flatten();
        for line in group.iter().chain([&need.remedy]).flat_map(|remedy| remedy.lines()) {
            let _ = writeln!(out, "    {}", clean(line));
        }
    }
    out
}

fn line(out: &mut String, name: &str, state: String, said: &str) {
    let line = format!("  {name:25} {state}  {}", clean(said));
    let _ = writeln!(out, "{}", line.trim_end());
}

fn state(there: bool, style: Style) -> String {
    match there {
        true => style.good(&format!("{:7}", "yes")),
        false => style.warn(&format!("{:7}", "no")),
    }
}

/// Its program where there is one, and the names of what keeps it from covering the policy.
fn wall(coverage: &Coverage, host: &WallFacts) -> String {
    let own = match coverage.backend {
        Backend::Process => None,
        Backend::Wasm => Some(("wasm", &host.wasm)),
        Backend::Gvisor => Some(("runsc", &host.runsc)),
        Backend::Microvm(Vmm::Qemu) => Some(("qemu", &host.qemu)),
        Backend::Microvm(Vmm::CloudHypervisor) => Some(("cloudHypervisor", &host.cloud_hypervisor)),
        Backend::Microvm(Vmm::Firecracker) => Some(("firecracker", &host.firecracker)),
    };
    let own = own.map(|(stage, facts)| (stage, program(facts)));
    let found = own.filter(|(_, (found, _))| *found);
    let stage = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let lacks = coverage.lacks.iter().map(|lack| stage(&lack.path));
    let refused = coverage.declarations.iter().filter(|d| d.answer == Answer::Refused);
    let mut missing: Vec<String> = Vec::new();
    for name in lacks.chain(refused.map(|d| d.control.name().to_owned())) {
        if !missing.contains(&name) {
            missing.push(name);
        }
    }
    // What is there, and lacks nevertheless, is of no use.
    let program = found.map(|(stage, (_, said))| {
        let known = missing.len();
        missing.retain(|name| *name != stage);
        match missing.len() == known {
            true => said,
            false => format!("{said} (not taken)"),
        }
    });
    let missing = (!missing.is_empty()).then(|| format!("lacks {}", missing.join(", ")));
    program.into_iter().chain(missing).collect::<Vec<_>>().join("; ")
}

/// Whether it is there; where and in which version, or why not.
fn program(facts: &ProgramFacts) -> (bool, String) {
    match facts {
        ProgramFacts::Found {
            path,
            version: Some(version),
        } => (true, format!("{path} {version}")),
        ProgramFacts::Found { path, version: None } => (true, path.clone()),
        ProgramFacts::Missing { why } => (false, why.clone()),
    }
}

/// Something that keeps walls from covering the policy.
struct Need {
    found: String,
    backends: Vec<Backend>,
    remedy: String,
}

/// In the order of the walls, each once.
fn needs(matrix: &Matrix) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    for coverage in &matrix.backends {
        let lacks = coverage.lacks.iter();
        let lacks = lacks.map(|lack| (lack.found.clone(), lack.remedy.clone()));
        let refused = coverage.declarations.iter().filter(|d| d.answer == Answer::Refused);
        let refused = refused.map(|d| {
            let why = d.reason.clone();
            let why = why.unwrap_or_else(|| format!("{} is not held", d.clause));
            (why, d.remedy.clone().unwrap_or_default())
        });
        for (found, remedy) in lacks.chain(refused) {
            let same = |need: &&mut Need| need.found == found && need.remedy == remedy;
            match needs.iter_mut().find(same) {
                Some(need) if need.backends.contains(&coverage.backend) => {}
                Some(need) => need.backends.push(coverage.backend),
                None => needs.push(Need {
                    found,
                    backends: vec![coverage.backend],
                    remedy,
                }),
            }
        }
    }
    needs
}

/// What puts this user into the group that may open KVM's device, where there is such a group.
fn group() -> Option<String> {
    let device = stat("/dev/kvm").ok().filter(|device| device.st_mode & 0o060 == 0o060)?;
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    let name = group_name(&groups, device.st_gid)?;
    Some(format!(
        "usermod --append --groups {name} USER, as root; then log in anew"
    ))
}

fn group_name(groups: &str, gid: u32) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sr_common::{Control, Declaration, Lack};

    fn lack(path: &str, found: &str, remedy: &str) -> Lack {
        Lack {
            path: path.into(),
            found: found.into(),
            remedy: remedy.into(),
        }
    }

    fn no_kvm(remedy: &str) -> Declaration {
        Declaration {
            clause: "runtime.backend".into(),
            requested: "a kernel of its own".into(),
            control: Control::HardwareVirtualization,
            holds: Vec::new(),
            answer: Answer::Refused,
            reason: Some("there is no /dev/kvm".into()),
            remedy: Some(remedy.into()),
        }
    }

    fn matrix() -> Matrix {
        let found = |path: &str, version: Option<&str>| ProgramFacts::Found {
            path: path.into(),
            version: version.map(str::to_owned),
        };
        let missing = |why: &str| ProgramFacts::Missing { why: why.into() };
        let backends = Backend::KERNELS.map(|backend| {
            let mut lacks = Vec::new();
            let mut declarations = Vec::new();
            match backend {
                Backend::Process | Backend::Wasm | Backend::Gvisor => {}
                Backend::Microvm(vmm) => {
                    lacks.push(lack("launch.preflight.kernel", "no kernel", "make one"));
                    let remedy = if vmm == Vmm::Qemu { "write tcg" } else { "give it" };
                    declarations.push(no_kvm(remedy));
                }
            }
            if backend == Backend::Microvm(Vmm::Firecracker) {
                lacks.insert(0, lack("launch.preflight.firecracker", "too old\u{1b}", "a newer one"));
            }
            Coverage {
                backend,
                covers: lacks.is_empty(),
                declarations,
                lacks,
            }
        });
        Matrix {
            api_version: "safe-run/v1".into(),
            kind: "Coverage".into(),
            policy: "standard".into(),
            host: WallFacts {
                wasm: found("/r/safe-run-wasm", Some("0.1.0")),
                runsc: found("/r/runsc", Some("release-20260101.0")),
                qemu: found("/r/qemu", None),
                cloud_hypervisor: missing("none"),
                firecracker: found("/r/firecracker", Some("v1.0.0\u{1b}")),
                guest: missing("no agent"),
                kvm_blocked: Some("there is no /dev/kvm".into()),
                kernels: Vec::new(),
                rootfs: Vec::new(),
            },
            backends: backends.into(),
            strongest: None,
        }
    }

    #[test]
    fn a_line_a_wall_and_each_need_once() {
        let text = text(&matrix(), Style::default());
        assert_eq!(
            text,
            "
Which walls cover the preset standard here:
  process                   yes
  gvisor                    yes      /r/runsc release-20260101.0
  microvm:qemu              no       /r/qemu; lacks kernel, hardwareVirtualization
  microvm:cloud-hypervisor  no       lacks kernel, hardwareVirtualization
  microvm:firecracker       no       /r/firecracker v1.0.0\\u{1b} (not taken); lacks kernel, hardwareVirtualization
  strongest                 none

What walls share that have a kernel of their own:
  guest                     no       no agent
  kernel                    no       the run store has none
  kvm                       no       there is no /dev/kvm

What it takes to have the other walls:
  no kernel (microvm)
    make one
  there is no /dev/kvm (microvm:qemu)
    write tcg
  there is no /dev/kvm (microvm:cloud-hypervisor, microvm:firecracker)
    give it
  too old\\u{1b} (microvm:firecracker)
    a newer one
"
        );
    }

    #[test]
    fn a_group_is_known_by_its_number() {
        let groups = "root:x:0:\nbroken\nkvm:x:104:a,b\n";
        assert_eq!(group_name(groups, 104), Some("kvm"));
        assert_eq!(group_name(groups, 10), None);
    }
}
