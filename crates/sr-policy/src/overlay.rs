//! The layer of the command line: what flags change of a policy. Serializable, so that its digest can be recorded.

use crate::rules;
use crate::spec::{BackendChoice, Mount, PolicySpec};
use crate::words::{Cpus, OrAll};
use serde::{Deserialize, Serialize};
use sr_common::{ByteSize, Fault, Millis};
use std::collections::BTreeMap;

/// What flags ask for; a field left out changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Overlay {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendChoice>,
    /// `-- CMD ARGS`: replaces command and arguments together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandLine>,
    /// Added to the environment, or replacing a value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Absolute in the view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// Added after the policy's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<OrAll<Cpus>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<OrAll<ByteSize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<OrAll<u32>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_time: Option<Millis>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<ByteSize>,
    /// A name, `auto`, or `none` to keep nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
}

/// A command and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CommandLine {
    pub command: String,
    pub args: Vec<String>,
}

impl Overlay {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Overlay::default()
    }
}

impl PolicySpec {
    /// This policy with `overlay` over it, judged anew by every rule that needs no host.
    ///
    /// # Errors
    /// `SR-POL-003` for each rule that is broken; never an empty list.
    pub fn with_overlay(&self, overlay: &Overlay) -> Result<PolicySpec, Vec<Fault>> {
        fn set<T: Clone>(place: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                place.clone_from(value);
            }
        }
        let mut spec = self.clone();
        set(&mut spec.runtime.backend, &overlay.backend);
        if let Some(line) = &overlay.command {
            spec.runtime.command = Some(line.command.clone());
            spec.runtime.args.clone_from(&line.args);
        }
        spec.runtime.env.extend(overlay.env.clone());
        set(&mut spec.runtime.workdir, &overlay.workdir.clone().map(Some));
        set(&mut spec.runtime.user, &overlay.user);
        spec.mounts.extend(overlay.mounts.iter().cloned());
        let limits = &mut spec.resources;
        set(&mut limits.cpu, &overlay.cpu.map(|cpu| cpu.limit().map(|n| n.0)));
        set(&mut limits.memory, &overlay.memory.map(OrAll::limit));
        set(&mut limits.pids, &overlay.pids.map(OrAll::limit));
        set(&mut limits.disk, &overlay.disk);
        set(&mut limits.wall_time, &overlay.wall_time);
        set(&mut limits.open_files, &overlay.open_files);
        set(&mut limits.output, &overlay.output);
        if let Some(session) = &overlay.session {
            spec.session = (session != "none").then(|| session.clone());
        }
        let faults = rules::check(&spec);
        if faults.is_empty() { Ok(spec) } else { Err(faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;
    use sr_common::Code;

    #[test]
    fn flags_lie_over_the_policy() {
        let overlay = Overlay {
            command: Some(CommandLine {
                command: "make".into(),
                args: vec!["-j\u{1b}".into()],
            }),
            env: [("CI".into(), "1".into())].into(),
            cpu: Some(OrAll::ALL),
            memory: Some(OrAll::Limit(ByteSize(64 << 20))),
            session: Some("none".into()),
            mounts: vec![Mount {
                source: "/data".into(),
                target: None,
                read_only: true,
                captured: false,
            }],
            ..Overlay::default()
        };
        let spec = preset("agent").unwrap().with_overlay(&overlay).unwrap();
        assert_eq!(spec.runtime.command.as_deref(), Some("make"));
        assert_eq!(
            (spec.resources.cpu, spec.session.as_deref(), spec.mounts.len()),
            (None, None, 2)
        );
        assert_eq!(spec.resources.pids, Some(1024));
        let text = serde_json::to_string(&overlay).unwrap();
        assert_eq!(serde_json::from_str::<Overlay>(&text).unwrap(), overlay);
        assert!(text.contains("\"cpu\":\"all\"") && !text.contains("workdir"));
        assert!(!overlay.is_empty() && Overlay::default().is_empty());
    }

    #[test]
    fn a_flag_that_contradicts_the_policy_is_refused() {
        let mut spec = preset("standard").unwrap();
        spec.runtime.backend = BackendChoice::Microvm;
        spec.microvm = Some(crate::spec::Microvm::default());
        let with = |backend: &str| {
            let backend = Some(backend.parse().unwrap());
            spec.with_overlay(&Overlay {
                backend,
                ..Overlay::default()
            })
        };
        assert_eq!(with("microvm:qemu").unwrap().runtime.backend.name(), "microvm:qemu");
        assert_eq!(with("process").unwrap_err()[0].path, "microvm");
    }

    #[test]
    fn an_engine_is_asked_for_by_its_name() {
        let overlay: Overlay = serde_json::from_str(r#"{"backend": "wasm"}"#).unwrap();
        let mut spec = preset("standard").unwrap();
        let plain = spec.with_overlay(&overlay).unwrap();
        assert_eq!((plain.runtime.backend.name(), plain.wasm), ("wasm", None));
        spec.wasm = Some(crate::spec::Wasm::default());
        assert_eq!(spec.with_overlay(&overlay).unwrap().wasm, spec.wasm);
        let backend = Some(BackendChoice::Microvm);
        let other = Overlay {
            backend,
            ..Overlay::default()
        };
        assert_eq!(spec.with_overlay(&other).unwrap_err()[0].path, "wasm");
    }

    #[test]
    fn flags_meet_the_same_rules() {
        let cases = [
            (
                Overlay {
                    user: Some(0),
                    ..Overlay::default()
                },
                "runtime.user",
            ),
            (
                Overlay {
                    cpu: Some(OrAll::Limit(Cpus(f64::NAN))),
                    ..Overlay::default()
                },
                "resources.cpu",
            ),
            (
                Overlay {
                    wall_time: Some(Millis(0)),
                    ..Overlay::default()
                },
                "resources.wallTime",
            ),
            (
                Overlay {
                    workdir: Some("x".into()),
                    ..Overlay::default()
                },
                "runtime.workdir",
            ),
            (
                Overlay {
                    mounts: vec![Mount {
                        source: "/data".into(),
                        target: Some("/usr".into()),
                        read_only: true,
                        captured: false,
                    }],
                    ..Overlay::default()
                },
                "mounts[1].target",
            ),
            (
                Overlay {
                    env: [("A=B".into(), String::new())].into(),
                    ..Overlay::default()
                },
                "runtime.env.A=B",
            ),
        ];
        for (overlay, path) in cases {
            let faults = preset("standard").unwrap().with_overlay(&overlay).unwrap_err();
            assert_eq!((faults[0].code, faults[0].path.as_str()), (Code::Pol003, path));
        }
    }
}
