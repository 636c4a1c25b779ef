//! Coverage: what each wall would hold of a policy on this host, and which wall a policy gets. One table for both, and for
//! what is refused.

mod clause;
mod module;
mod native;
mod table;

use crate::compile::Input;
use crate::vmm::version;
use crate::wall;
use native::Native;
use sr_common::facts::{ProgramFacts, WallFacts};
use sr_common::{
    API_VERSION, Answer, Backend, Choice, Code, Control, Coverage, Fault, HostFacts, Lack, Matrix, PassedOver, Subject,
    Vmm,
};
use sr_policy::PolicySpec;
use sr_policy::spec::BackendChoice;
use table::Inner;

/// The clause of what a wall has whatever the policy says.
const PROMISES: &str = "runtime.backend";

/// What every wall says of `policy` on this host, or why no wall could be compiled at all.
pub fn matrix(policy: &PolicySpec, facts: &HostFacts, subject: &Subject) -> Result<Matrix, Vec<Fault>> {
    let input = Input {
        policy,
        facts,
        subject,
        guest: false,
        sentry: false,
        engine: false,
    };
    let walls = facts.walls.clone().ok_or_else(|| vec![not_looked_at()])?;
    let native = native::native(input)?;
    let backends: Vec<Coverage> = walls_for(subject).map(|b| coverage(b, &native, input)).collect();
    Ok(Matrix {
        api_version: API_VERSION.to_owned(),
        kind: "Coverage".to_owned(),
        policy: policy.metadata.name.clone(),
        host: walls,
        strongest: pick(BackendChoice::Strongest, &backends).ok(),
        backends,
    })
}

/// The document's JSON Schema.
pub fn coverage_schema() -> schemars::Schema {
    schemars::schema_for!(Matrix)
}

/// The wall of a policy, and why it is that one where the policy leaves it open.
pub(crate) struct Chosen {
    pub backend: Backend,
    pub choice: Option<Choice>,
    /// What it holds, where it is another wall than the native one.
    pub coverage: Option<Coverage>,
}

/// Which wall `input`'s policy gets here: one that covers it, or every reason why not.
pub(crate) fn choose(input: Input<'_>) -> Result<Chosen, Vec<Fault>> {
    let asked = input.policy.runtime.backend;
    let mut faults = Vec::new();
    let only = match asked {
        // What it is says behind which wall it can run.
        BackendChoice::Auto => Some(match input.subject.command.module {
            Some(_) => Backend::Wasm,
            None => Backend::Process,
        }),
        BackendChoice::This(backend) => Some(backend),
        BackendChoice::Strongest | BackendChoice::Microvm => None,
    };
    if let Some(fault) = module::other_kind(asked, input) {
        return Err(vec![fault]);
    }
    if only == Some(Backend::Process) {
        return Ok(Chosen {
            backend: Backend::Process,
            choice: None,
            coverage: None,
        });
    }
    if input.facts.walls.is_none() {
        faults.push(not_looked_at());
    }
    let native = match native::native(input) {
        Ok(native) => native,
        Err(found) => {
            faults.extend(found);
            return Err(faults);
        }
    };
    let all: Vec<Coverage> = walls_for(input.subject).map(|b| coverage(b, &native, input)).collect();
    let (backend, choice) = match only {
        Some(backend) => (backend, None),
        None => match pick(asked, &all) {
            Ok(choice) => (choice.picked, Some(choice)),
            Err(passed_over) => {
                faults.push(none_covers(asked, &passed_over));
                return Err(faults);
            }
        },
    };
    let own = all.into_iter().find(|coverage| coverage.backend == backend);
    faults.extend(own.iter().flat_map(refusals));
    match faults.is_empty() {
        true => Ok(Chosen {
            backend,
            choice,
            coverage: own.filter(|_| backend != Backend::Process),
        }),
        false => Err(faults),
    }
}

/// The walls for a program of this kind, from the weakest: a kernel executes no WebAssembly, and an engine nothing else.
fn walls_for(subject: &Subject) -> impl Iterator<Item = Backend> {
    let walls: &[Backend] = match subject.command.module {
        Some(_) => &[Backend::Wasm],
        None => &Backend::KERNELS,
    };
    walls.iter().copied()
}

fn none_covers(asked: BackendChoice, passed_over: &[PassedOver]) -> Fault {
    let told = |passed: &PassedOver| format!("{}: {}", passed.backend, passed.reasons.join(", "));
    let reasons: Vec<String> = passed_over.iter().map(told).collect();
    let found = format!(
        "`{asked}` finds no wall that covers this policy here: {}",
        reasons.join("; ")
    );
    let remedy = "see each clause and wall with `safe-run compile --dry-run --backend all`";
    Fault::new(Code::Run001, PROMISES, found, remedy)
}

/// The strongest of `all` that covers the policy.
fn pick(asked: BackendChoice, all: &[Coverage]) -> Result<Choice, Vec<PassedOver>> {
    let mut passed_over = Vec::new();
    for coverage in all.iter().rev() {
        if asked == BackendChoice::Microvm && !matches!(coverage.backend, Backend::Microvm(_)) {
            continue;
        }
        if coverage.covers {
            return Ok(Choice {
                asked: asked.name().to_owned(),
                picked: coverage.backend,
                passed_over,
            });
        }
        passed_over.push(PassedOver {
            backend: coverage.backend,
            reasons: coverage.reasons(),
        });
    }
    Err(passed_over)
}

fn coverage(backend: Backend, native: &Native, input: Input<'_>) -> Coverage {
    let inner = match backend {
        Backend::Process | Backend::Wasm => None,
        Backend::Gvisor => Some(Inner::Gvisor),
        Backend::Microvm(vmm) => Some(Inner::Microvm(vmm)),
    };
    let mut declarations = match inner {
        None if backend == Backend::Wasm => module::promises(&native.promises, input),
        None => native.promises.clone(),
        Some(inner) => table::promises(inner, &native.promises, input),
    };
    declarations.extend(native.clauses.iter().map(|(clause, native)| match inner {
        None if backend == Backend::Wasm => module::declare(*clause, native, input),
        None => native.clone(),
        Some(inner) => table::declare(inner, *clause, native, input),
    }));
    let mut lacks = native.lacks.clone();
    if let Some(walls) = &input.facts.walls {
        lacks.extend(missing(backend, walls, input));
    }
    let held = declarations.iter().all(|d| d.answer != Answer::Refused);
    Coverage {
        backend,
        covers: held && lacks.is_empty(),
        declarations,
        lacks,
    }
}

/// What the wall needs besides a kernel's help, and this host does not have.
fn missing(backend: Backend, walls: &WallFacts, input: Input<'_>) -> Vec<Lack> {
    let vmm = match backend {
        Backend::Process => return Vec::new(),
        Backend::Wasm => return module::missing(walls),
        Backend::Gvisor => None,
        Backend::Microvm(vmm) => Some(vmm),
    };
    let programs: &[(&str, &ProgramFacts, &str)] = match vmm {
        None => &[(
            "runsc",
            &walls.runsc,
            "install gVisor's runsc (`cargo xtask runsc` brings Debian's), or name it in SAFE_RUN_RUNSC",
        )],
        Some(Vmm::Qemu) => &[(
            "qemu",
            &walls.qemu,
            "install QEMU (Debian: qemu-system-x86, qemu-system-arm), or name it in SAFE_RUN_QEMU",
        )],
        Some(Vmm::CloudHypervisor) => &[(
            "cloudHypervisor",
            &walls.cloud_hypervisor,
            "have Cloud Hypervisor on PATH, or name it in SAFE_RUN_CLOUD_HYPERVISOR",
        )],
        Some(Vmm::Firecracker) => &[(
            "firecracker",
            &walls.firecracker,
            "have Firecracker on PATH (`safe-run artifact fetch firecracker` brings it), or name it in SAFE_RUN_FIRECRACKER",
        )],
    };
    let agent = (
        "guest",
        &walls.guest,
        "build it with `cargo xtask guest`, beside safe-run, or name it in SAFE_RUN_GUEST",
    );
    let mut lacks = Vec::new();
    for (stage, program, remedy) in programs.iter().chain([&agent]) {
        let (why, remedy) = match program {
            ProgramFacts::Missing { why } => (Some(why.clone()), *remedy),
            ProgramFacts::Found { version: said, path } if *stage != "guest" => {
                let unseen = wall::unseen(path, &input.facts.system).filter(|_| vmm == Some(Vmm::Qemu));
                match unseen {
                    Some(found) => (Some(found), wall::SEEN),
                    None => {
                        let refused = vmm.and_then(|vmm| version::refused(vmm, said.as_deref()));
                        (refused, "install a newer release of it")
                    }
                }
            }
            ProgramFacts::Found { .. } => (None, *remedy),
        };
        if let Some(found) = why {
            lacks.push(Lack {
                path: format!("launch.preflight.{stage}"),
                found,
                remedy: remedy.to_owned(),
            });
        }
    }
    let kernel = input.policy.microvm.clone().unwrap_or_default().kernel;
    if vmm.is_some() && !walls.kernels.contains(&kernel) {
        lacks.push(Lack {
            path: "launch.preflight.kernel".to_owned(),
            found: format!("the run store has no kernel {kernel}"),
            remedy: "make one: safe-run artifact build kernel; or name one that `safe-run artifact list` shows"
                .to_owned(),
        });
    }
    if let Some(root) = input.policy.guest_root()
        && vmm.is_some()
        && !walls.rootfs.iter().any(|name| name == root)
    {
        lacks.push(Lack {
            path: "launch.preflight.rootfs".to_owned(),
            found: format!("the run store has no root file system {root}"),
            remedy:
                "make one: safe-run artifact build rootfs, or import; or name one that `safe-run artifact list` shows"
                    .to_owned(),
        });
    }
    lacks
}

/// Why a policy that asks for this wall alone is refused.
fn refusals(coverage: &Coverage) -> Vec<Fault> {
    let backend = coverage.backend;
    let lacks = coverage.lacks.iter().map(|lack| {
        let code = match lack.path.rsplit_once('.') {
            Some((_, stage)) if PARTS.contains(&stage) => Code::Run002,
            _ => Code::Run001,
        };
        let found = format!("{backend}: {}", lack.found);
        Fault::new(code, lack.path.as_str(), found, lack.remedy.as_str())
    });
    let refused = coverage.declarations.iter().filter(|d| d.answer == Answer::Refused);
    let refused = refused.map(|d| {
        let (code, path) = match (d.clause.as_str(), d.control) {
            (PROMISES, Control::HardwareVirtualization) => (Code::Run002, "launch.preflight.kvm"),
            (PROMISES, _) => (Code::Run001, PROMISES),
            (clause, _) => (Code::Cmp001, clause),
        };
        let found = format!(
            "{backend} does not hold it: {}",
            d.reason.as_deref().unwrap_or("nothing does")
        );
        let remedy = d.remedy.as_deref().unwrap_or("take it out, or write another backend");
        Fault::new(code, path, found, remedy)
    });
    lacks.chain(refused).collect()
}

/// The stages of what a wall is made of.
const PARTS: [&str; 7] = [
    "runsc",
    "qemu",
    "cloudHypervisor",
    "firecracker",
    "guest",
    "kernel",
    "rootfs",
];

fn not_looked_at() -> Fault {
    let found = "nothing is known of what this host has of other walls than the native one";
    Fault::new(Code::Run001, "launch.facts", found, "gather the facts of walls too")
}
