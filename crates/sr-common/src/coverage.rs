//! Coverage: what each wall would hold of a policy, by what, and on whose word; and which wall was picked, and why.

use crate::{Backend, Control, Obligation, Strength, facts::WallFacts};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// By whose doing something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Holder {
    /// Safe-Run's own processes outside the wall.
    Supervisor,
    /// The monitor of a virtual machine, itself behind the native wall.
    Monitor,
    /// The host's kernel.
    Host,
    /// The engine that runs WebAssembly, itself behind the native wall.
    Engine,
    /// gVisor's kernel in user space.
    Sentry,
    /// The kernel of a virtual machine.
    Guest,
}

impl Holder {
    /// As a table shows it.
    pub fn name(self) -> &'static str {
        match self {
            Holder::Supervisor => "safe-run",
            Holder::Monitor => "monitor",
            Holder::Host => "host",
            Holder::Engine => "engine",
            Holder::Sentry => "sentry",
            Holder::Guest => "guest",
        }
    }
}

/// One thing that holds a clause. Where a clause has several, each holds by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hold {
    pub by: Holder,
    /// Such as `cgroup v2 memory.max`.
    pub mechanism: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub strength: Option<Strength>,
}

/// What becomes of a clause behind a wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Answer {
    Held,
    /// Not held, or with less than is asked for, and the policy's `degrade` accepts that.
    Degraded,
    /// The run does not start.
    Refused,
}

/// What one wall says of one clause of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Declaration {
    /// The policy's field, such as `resources.memory`; `runtime.backend` for what a wall has whatever the policy says.
    pub clause: String,
    /// What was asked, as text.
    pub requested: String,
    pub control: Control,
    /// The one nearest to the program first. Empty: nothing.
    pub holds: Vec<Hold>,
    pub answer: Answer,
    /// Why it is not held, or what is less than it may seem.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What to do where it is refused.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
}

impl Declaration {
    fn obligation(&self) -> Obligation {
        let holds = self
            .holds
            .iter()
            .map(|hold| format!("{}: {}", hold.by.name(), hold.mechanism));
        let mechanism = match self.holds.is_empty() {
            true => "none".to_owned(),
            false => holds.collect::<Vec<_>>().join("; "),
        };
        Obligation {
            clause: self.clause.clone(),
            requested: self.requested.clone(),
            control: self.control,
            mechanism,
            strength: self.holds.iter().filter_map(|hold| hold.strength).min(),
            enforced: self.answer == Answer::Held,
            reason: self.reason.clone(),
        }
    }
}

/// Something that a wall needs and this host, or this build, does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Lack {
    /// A stage, such as `launch.preflight.kvm`.
    pub path: String,
    pub found: String,
    pub remedy: String,
}

/// One wall's answer to a whole policy on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Coverage {
    pub backend: Backend,
    /// Whether it holds every clause, but for what the policy degrades, and the host has what it needs.
    pub covers: bool,
    /// One a clause; several for `runtime.backend`.
    pub declarations: Vec<Declaration>,
    pub lacks: Vec<Lack>,
}

impl Coverage {
    /// As a bundle and a report tell it.
    pub fn obligations(&self) -> Vec<Obligation> {
        self.declarations.iter().map(Declaration::obligation).collect()
    }

    /// Why it does not cover the policy, a phrase each; empty where it does.
    pub fn reasons(&self) -> Vec<String> {
        let refused = self.declarations.iter().filter(|d| d.answer == Answer::Refused);
        let refused = refused.map(|d| format!("{}: {}", d.clause, d.reason.as_deref().unwrap_or("not held")));
        self.lacks
            .iter()
            .map(|lack| lack.found.clone())
            .chain(refused)
            .collect()
    }
}

/// What every wall says of one policy: `safe-run compile --dry-run --backend all --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Matrix {
    pub api_version: String,
    /// `Coverage`.
    pub kind: String,
    /// The policy's name.
    pub policy: String,
    /// What of other walls was found on this host.
    pub host: WallFacts,
    /// From the weakest to the strongest.
    pub backends: Vec<Coverage>,
    /// What `strongest` picks; `null`: nothing covers the policy here.
    pub strongest: Option<Choice>,
}

/// Which wall was picked where a policy leaves that open, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Choice {
    /// `strongest` or `microvm`.
    pub asked: String,
    pub picked: Backend,
    /// Stronger ones, the strongest first.
    pub passed_over: Vec<PassedOver>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PassedOver {
    pub backend: Backend,
    pub reasons: Vec<String>,
}

impl Choice {
    /// Why it was this one.
    pub fn because(&self) -> String {
        let all = match self.asked.as_str() {
            "microvm" => "of the virtual machines ",
            _ => "",
        };
        match self.passed_over.is_empty() {
            true => format!("{all}none is stronger, and it covers the policy here"),
            false => format!("{all}it is the strongest that covers the policy here"),
        }
    }

    /// Why it was none of the stronger ones, a phrase each.
    pub fn against(&self) -> Vec<String> {
        let told = |passed: &PassedOver| format!("{}: {}", passed.backend, passed.reasons.join(", "));
        self.passed_over.iter().map(told).collect()
    }

    /// For a person: a line for the wall, and one for each that was passed over, with the first reason.
    pub fn lines(&self) -> Vec<String> {
        let asked = &self.asked;
        let passed = self.passed_over.iter().map(|passed| {
            let first = passed.reasons.first().map_or("", String::as_str);
            let more = match passed.reasons.len() {
                0 | 1 => String::new(),
                n => format!(", and {} more", n - 1),
            };
            format!("backend {asked}: not {}: {first}{more}", passed.backend)
        });
        let picked = format!("backend {asked}: {}, {}", self.picked, self.because());
        std::iter::once(picked).chain(passed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Vmm;

    #[test]
    fn an_obligation_is_as_strong_as_the_strongest_that_holds_it() {
        let hold = |by, mechanism: &str, strength| Hold {
            by,
            mechanism: mechanism.into(),
            strength: Some(strength),
        };
        let mut declared = Declaration {
            clause: "resources.memory".into(),
            requested: "1GiB".into(),
            control: Control::Memory,
            holds: vec![
                hold(Holder::Guest, "cgroup v2", Strength::Kernel),
                hold(Holder::Supervisor, "samples", Strength::Sampled),
            ],
            answer: Answer::Held,
            reason: None,
            remedy: None,
        };
        let told = declared.obligation();
        assert_eq!(told.mechanism, "guest: cgroup v2; safe-run: samples");
        assert_eq!((told.strength, told.enforced), (Some(Strength::Kernel), true));
        declared.holds.clear();
        declared.answer = Answer::Degraded;
        let told = declared.obligation();
        assert_eq!(
            (told.mechanism.as_str(), told.strength, told.enforced),
            ("none", None, false)
        );
    }

    #[test]
    fn a_choice_says_why_and_why_not() {
        let mut choice = Choice {
            asked: "strongest".into(),
            picked: Backend::Gvisor,
            passed_over: vec![PassedOver {
                backend: Backend::Microvm(Vmm::Qemu),
                reasons: vec!["no KVM".into(), "no kernel".into()],
            }],
        };
        assert!(choice.because().starts_with("it is the strongest"));
        let lines = choice.lines();
        assert!(lines[0].starts_with("backend strongest: gvisor, it is"), "{lines:?}");
        assert_eq!(lines[1..], ["backend strongest: not microvm:qemu: no KVM, and 1 more"]);
        assert_eq!(choice.against(), ["microvm:qemu: no KVM, no kernel"]);
        choice.passed_over.clear();
        assert!(choice.because().starts_with("none is stronger"));
        assert_eq!(choice.lines().len(), 1);
    }
}
