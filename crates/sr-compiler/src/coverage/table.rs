//! The table: what each wall but the native one makes of each clause. Every such wall stands within a native one of its
//! own, around `runsc` or around the monitor; what is declared here is what the wall adds to that, or cannot give.

use super::clause::Clause;
use super::native::by;
use crate::compile::Input;
use crate::resources;
use sr_common::facts::ProgramFacts;
use sr_common::{Answer, Control, Declaration, Hold, Holder, Strength, Vmm};
use sr_policy::PolicySpec;
use sr_policy::spec::{Accel, DeniedScope, ObserveScope, OnDenied, RootWritable};

/// A wall with a kernel of its own, within the native one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inner {
    Gvisor,
    Microvm(Vmm),
}

impl Inner {
    /// Whose kernel the program's calls reach.
    fn kernel(self) -> Holder {
        match self {
            Inner::Gvisor => Holder::Sentry,
            Inner::Microvm(_) => Holder::Guest,
        }
    }

    /// What the native wall is around.
    fn within(self) -> &'static str {
        self.word("runsc", "the monitor")
    }

    /// How its kernel is shown the view.
    fn shown(self) -> &'static str {
        match self {
            Inner::Gvisor => "shown by the gofer",
            Inner::Microvm(Vmm::Qemu) => "shown by 9p over virtio",
            Inner::Microvm(Vmm::Firecracker | Vmm::CloudHypervisor) => "shown by 9p over vsock",
        }
    }

    fn word(self, gvisor: &'static str, guest: &'static str) -> &'static str {
        match self {
            Inner::Gvisor => gvisor,
            Inner::Microvm(_) => guest,
        }
    }
}

/// What becomes of `native`'s clause behind `inner`.
pub(super) fn declare(inner: Inner, clause: Clause, native: &Declaration, input: Input<'_>) -> Declaration {
    let policy = input.policy;
    let row = Row::of_kernel(inner, native);
    let on_disk = policy.guest_root().is_some();
    match clause {
        Clause::User => row.besides("set by the agent there"),
        Clause::Command if on_disk => Declaration {
            reason: Some("it is the image whose digest is known before; the agent tells that of the program".into()),
            ..row.instead("looked for in the guest's root, executed by its path", None)
        },
        Clause::Command => Declaration {
            holds: vec![by(
                Holder::Supervisor,
                "hashed in the view before the launch, then executed by its path",
                None,
            )],
            reason: Some("what is executed is not the descriptor that was hashed, but what its path leads to".into()),
            ..native.clone()
        },
        Clause::Args => row.instead("argv of the agent's plan", None),
        Clause::Env => row.instead("environment of the agent's plan; nothing is inherited", None),
        Clause::Workdir => row.instead("chdir by the agent there", None),
        Clause::Rootfs if on_disk => match policy.rootfs.writable {
            RootWritable::ReadOnly => row.instead("a disk, mounted read-only", Some(Strength::Kernel)),
            RootWritable::Overlay => row.refused(
                "what is written to a root on a disk would be in the guest's memory alone",
                "write rootfs: {writable: readOnly}, and mount a captured directory",
            ),
        },
        Clause::Rootfs => row.besides(&format!("its root, {}", inner.shown())),
        Clause::Mount(_) => row.besides(inner.shown()),
        Clause::Installation
        | Clause::Hide
        | Clause::Session
        | Clause::WallTime
        | Clause::Output
        | Clause::Sign
        | Clause::Hash
        | Clause::Durability => native.clone(),
        Clause::FilesRead | Clause::FilesWrite => row.refused(
            inner.word(
                "Landlock of the host's kernel does not see what is opened in the Sentry",
                "Landlock of the host's kernel does not see what is opened in a guest",
            ),
            "leave `files` out and mount less, or write backend: process",
        ),
        Clause::Cpu if policy.resources.cpu.is_none() => native.clone(),
        Clause::Cpu => match inner {
            Inner::Gvisor => row.around(),
            Inner::Microvm(_) => row.held("cgroup v2 cpu.max, and no more virtual processors than that needs"),
        },
        Clause::Memory => match (inner, policy.resources.memory) {
            (Inner::Gvisor, None) => native.clone(),
            (Inner::Gvisor, Some(_)) => row.memory(policy, "there is room for the Sentry's own memory besides"),
            (Inner::Microvm(_), None) => Declaration {
                reason: Some("the guest has half as much as the host".into()),
                ..native.clone()
            },
            (Inner::Microvm(_), Some(_)) => row.held("cgroup v2 memory.max, in a guest of a fixed size"),
        },
        Clause::Pids if policy.resources.pids.is_none() => native.clone(),
        Clause::Pids => row.held(inner.word(
            "RLIMIT_NPROC of the one user that all its processes are of",
            "cgroup v2 pids.max",
        )),
        Clause::Disk => {
            let mut declared = row.besides("tmpfs of that size for each of /tmp and /dev/shm");
            // It is held no more strongly than what is captured.
            declared.holds[0].strength = None;
            let reason = "what is captured, /tmp and /dev/shm may each be so large";
            declared.reason = Some(match (declared.answer, declared.reason.take()) {
                (Answer::Held, Some(other)) => format!("{other}; {reason}"),
                (Answer::Held, None) => reason.to_owned(),
                (_, other) => other.unwrap_or_else(|| reason.to_owned()),
            });
            declared
        }
        Clause::OpenFiles => row.instead("RLIMIT_NOFILE", Some(Strength::PerProcess)),
        Clause::Profile => {
            let mut row = row.instead("seccomp BPF, the native wall's very program", Some(Strength::Kernel));
            let around = format!("another filter, around {}", inner.within());
            row.holds.push(by(Holder::Host, around, Some(Strength::Kernel)));
            row
        }
        Clause::Allow | Clause::Arguments | Clause::Deny => row.instead("rules of that filter", Some(Strength::Kernel)),
        Clause::OnDenied => match policy.syscalls.on_denied {
            OnDenied::Errno => row.instead("that filter's answer", Some(Strength::Kernel)),
            OnDenied::Kill => Declaration {
                reason: Some("what made the call is killed; the run ends if that was its program".into()),
                ..row.instead("that filter's answer", Some(Strength::Kernel))
            },
            OnDenied::Log if inner == Inner::Gvisor => row.refused(
                "runsc has no such answer to a system call",
                "write onDenied: errno or kill",
            ),
            OnDenied::Log => row.instead("that filter's answer, into the guest's own log", Some(Strength::Kernel)),
            OnDenied::Ask => row.refused(
                inner.word(
                    "nobody outside is told of a call that the Sentry answers",
                    "nobody outside is told of a call that a guest's kernel answers",
                ),
                "write onDenied: errno or kill, or backend: process",
            ),
        },
        Clause::Network => row.besides(inner.word("runsc --network=none", "no network device")),
        Clause::Mac => {
            let reason = inner.word(
                "a profile holds programs of the host's kernel, and the Sentry's are none",
                "a profile holds programs of the host's kernel, and a guest's are none",
            );
            row.without_profile(policy, reason)
        }
        Clause::Vmm => match (inner, policy.microvm.as_ref().and_then(|guest| guest.vmm)) {
            (Inner::Microvm(vmm), Some(named)) if vmm != named => Declaration {
                reason: Some(format!("the policy names {}", named.name())),
                ..row.refused("", "leave microvm.vmm out")
            },
            (Inner::Microvm(_), _) => row.of(Holder::Monitor, "the monitor itself"),
            (Inner::Gvisor, _) => native.clone(),
        },
        Clause::Kernel => match inner {
            Inner::Microvm(_) => row.of(
                Holder::Supervisor,
                "its digest, computed again on the descriptor by which it is used",
            ),
            Inner::Gvisor => native.clone(),
        },
        Clause::GuestRoot => match inner {
            Inner::Microvm(_) => row.of(
                Holder::Supervisor,
                "its digest, computed again on the descriptor by which it is used",
            ),
            Inner::Gvisor => row.refused(
                "a container of gVisor's has no disk",
                "leave microvm.rootfs out, or write backend: microvm",
            ),
        },
        Clause::Accel => match inner {
            Inner::Microvm(_) => Declaration {
                clause: native.clause.clone(),
                requested: native.requested.clone(),
                ..kernel_of_its_own(inner, input)
            },
            Inner::Gvisor => native.clone(),
        },
        Clause::BootTimeout => row.of(
            Holder::Supervisor,
            "timer, from the monitor's start until the agent holds the program",
        ),
        Clause::Wasm(_) => native.clone(),
        Clause::SampleInterval => match inner {
            Inner::Microvm(_) => row.besides("samples by the agent there"),
            Inner::Gvisor => native.clone(),
        },
        Clause::Denied => match policy.evidence.denied {
            DeniedScope::Available | DeniedScope::Network => Declaration {
                reason: Some("nobody outside is told of them: `denied` is null in the report".into()),
                ..row.of(Holder::Supervisor, "nothing is told of")
            },
            DeniedScope::Calls | DeniedScope::Paths => row.refused(
                inner.word(
                    "nobody outside is told of what the Sentry denies",
                    "nobody outside is told of what a guest's kernel denies",
                ),
                "write evidence: {denied: available}, or backend: process",
            ),
        },
        Clause::Observe => match policy.evidence.observe {
            ObserveScope::None => native.clone(),
            ObserveScope::Calls => row.refused(
                inner.word(
                    "nobody outside is told of the calls that the Sentry answers",
                    "nobody outside is told of the calls that a guest's kernel answers",
                ),
                "learn behind the native wall, and run what was learned behind this one",
            ),
        },
    }
}

/// What the wall has whatever the policy says: its own kernel, and the native wall's promises, kept around it.
pub(super) fn promises(inner: Inner, native: &[Declaration], input: Input<'_>) -> Vec<Declaration> {
    let own = kernel_of_its_own(inner, input);
    let kept = native.iter().map(|native| {
        let row = Row::of_kernel(inner, native);
        match native.control {
            Control::Capabilities => row.besides("all sets emptied by the agent"),
            Control::NoNewPrivileges => row.besides("set by the agent"),
            Control::PostureAtExec => row.besides("the program's, told by the agent at its exec stop"),
            _ => native.clone(),
        }
    });
    std::iter::once(own).chain(kept).collect()
}

fn kernel_of_its_own(inner: Inner, input: Input<'_>) -> Declaration {
    let walls = input.facts.walls.as_ref();
    let held = Declaration {
        clause: super::PROMISES.to_owned(),
        requested: "a kernel of its own".to_owned(),
        control: Control::HardwareVirtualization,
        holds: Vec::new(),
        answer: Answer::Held,
        reason: None,
        remedy: None,
    };
    let Inner::Microvm(vmm) = inner else {
        let version = match walls.map(|walls| &walls.runsc) {
            Some(ProgramFacts::Found {
                version: Some(version), ..
            }) => format!(" {version}"),
            _ => String::new(),
        };
        return Declaration {
            requested: "a kernel in user space".to_owned(),
            control: Control::Seccomp,
            holds: vec![by(
                Holder::Sentry,
                format!("runsc{version}, platform systrap"),
                Some(Strength::Kernel),
            )],
            ..held
        };
    };
    let computed = vec![by(Holder::Monitor, "instructions computed by QEMU (TCG)", None)];
    let refused = |reason: String, remedy: &str| Declaration {
        answer: Answer::Refused,
        reason: Some(reason),
        remedy: Some(remedy.to_owned()),
        ..held.clone()
    };
    let asked = input.policy.microvm.clone().unwrap_or_default().accel;
    let blocked = walls.and_then(|walls| walls.kvm_blocked.clone());
    match (asked, vmm, blocked) {
        (Accel::Tcg, Vmm::Qemu, _) => Declaration {
            holds: computed,
            ..held
        },
        (Accel::Tcg, ..) => refused(
            format!("{} needs KVM, and the policy says tcg", vmm.name()),
            "write accel: kvm, or backend: microvm:qemu",
        ),
        (Accel::Kvm, _, None) => Declaration {
            holds: vec![by(Holder::Host, "KVM", Some(Strength::Kernel))],
            ..held
        },
        (Accel::Kvm, Vmm::Qemu, Some(why)) if input.policy.degrade.contains(&held.control) => Declaration {
            holds: computed,
            answer: Answer::Degraded,
            reason: Some(why),
            ..held
        },
        (Accel::Kvm, Vmm::Qemu, Some(why)) => refused(
            why,
            "write microvm: {accel: tcg}, or accept that with degrade: [hardwareVirtualization]",
        ),
        (Accel::Kvm, _, Some(why)) => refused(why, "give the user /dev/kvm, on hardware that has it"),
    }
}

/// A clause behind a wall, told by what the native one says of it.
pub(super) struct Row<'a> {
    /// Who stands within the native wall, and in what.
    holder: Holder,
    within: &'static str,
    native: &'a Declaration,
}

impl<'a> Row<'a> {
    fn of_kernel(inner: Inner, native: &'a Declaration) -> Row<'a> {
        Row {
            holder: inner.kernel(),
            within: inner.within(),
            native,
        }
    }

    /// An engine's, in its worker.
    pub(super) fn engine(native: &'a Declaration) -> Row<'a> {
        Row {
            holder: Holder::Engine,
            within: "the worker",
            native,
        }
    }
}

impl Row<'_> {
    fn own(&self, mechanism: &str, strength: Option<Strength>) -> Hold {
        by(self.holder, mechanism, strength)
    }

    /// The native wall holds it, and the inner kernel too; neither alone would do.
    pub(super) fn besides(&self, mechanism: &str) -> Declaration {
        let mut declared = self.native.clone();
        declared.holds.insert(0, self.own(mechanism, Some(Strength::Kernel)));
        declared
    }

    /// The inner kernel holds it alone.
    fn instead(&self, mechanism: &str, strength: Option<Strength>) -> Declaration {
        Declaration {
            holds: vec![self.own(mechanism, strength)],
            ..self.native.clone()
        }
    }

    /// A limit that the inner kernel holds as strongly as may be asked for; the native wall holds the monitor to what
    /// the whole guest may take, as strongly as it can here.
    fn held(&self, mechanism: &str) -> Declaration {
        let mut declared = self.around();
        declared.holds.insert(0, self.own(mechanism, Some(Strength::Kernel)));
        declared.answer = Answer::Held;
        (declared.reason, declared.remedy) = (None, None);
        declared
    }

    /// The native wall holds it, for the monitor and all that is in it.
    pub(super) fn around(&self) -> Declaration {
        let mut declared = self.native.clone();
        for hold in &mut declared.holds {
            hold.mechanism.push_str(&format!(", around {}", self.within));
        }
        declared
    }

    /// The memory of what runs in a process of the host's that reserves more addresses than it may use: no limit on these holds it.
    /// Without a control group it is looked at, and that is all.
    pub(super) fn memory(&self, policy: &PolicySpec, reason: &str) -> Declaration {
        let mut declared = self.with_reason(reason);
        let by_group = |hold: &Hold| hold.strength == Some(Strength::Kernel);
        if declared.holds.iter().any(by_group) {
            return declared;
        }
        let mechanism = format!("resident memory sampled, around {}", self.within);
        declared.holds = vec![by(Holder::Supervisor, mechanism, Some(Strength::Sampled))];
        let enough = resources::satisfies(policy.resources.strength, Strength::Sampled);
        declared.answer = match (enough, policy.degrade.contains(&Control::Memory)) {
            (true, _) => Answer::Held,
            (false, true) => Answer::Degraded,
            (false, false) => Answer::Refused,
        };
        if declared.answer == Answer::Refused {
            declared.remedy = Some("give Safe-Run a control group, or accept that with degrade: [memory]".to_owned());
        }
        declared
    }

    /// No profile of the host's holds the program; the policy may accept that.
    pub(super) fn without_profile(&self, policy: &PolicySpec, reason: &str) -> Declaration {
        match policy.degrade.contains(&Control::Mac) {
            true => Declaration {
                answer: Answer::Degraded,
                remedy: None,
                ..self.refused(reason, "")
            },
            false => self.refused(reason, "leave `mac` out, or accept that with degrade: [mac]"),
        }
    }

    /// As [`Row::around`], with something to know of it.
    pub(super) fn with_reason(&self, reason: &str) -> Declaration {
        let mut declared = self.around();
        declared.reason = Some(match declared.reason.take() {
            Some(other) => format!("{other}; {reason}"),
            None => reason.to_owned(),
        });
        declared
    }

    pub(super) fn of(&self, holder: Holder, mechanism: &str) -> Declaration {
        Declaration {
            holds: vec![by(holder, mechanism, None)],
            answer: Answer::Held,
            reason: None,
            remedy: None,
            ..self.native.clone()
        }
    }

    pub(super) fn refused(&self, reason: &str, remedy: &str) -> Declaration {
        Declaration {
            holds: Vec::new(),
            answer: Answer::Refused,
            reason: Some(reason.to_owned()),
            remedy: Some(remedy.to_owned()),
            ..self.native.clone()
        }
    }
}
