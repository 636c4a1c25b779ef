//! The four presets of design §3, built natively: choosing one reads no text.

use crate::spec::*;
use sr_common::{API_VERSION, ByteSize, Millis};
use std::collections::BTreeMap;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MINUTE: u64 = 60_000;

/// The names of the presets, the strictest first.
pub const PRESET_NAMES: [&str; 4] = ["strict", "standard", "agent", "build"];

/// The complete policy of a preset; it has no command. `None`: no preset has this name.
pub fn preset(name: &str) -> Option<PolicySpec> {
    Preset::named(name).map(Preset::spec)
}

impl Preset {
    /// The preset of this name.
    pub fn named(name: &str) -> Option<Preset> {
        [Preset::Strict, Preset::Standard, Preset::Agent, Preset::Build]
            .into_iter()
            .find(|p| p.name() == name)
    }

    pub const fn name(self) -> &'static str {
        match self {
            Preset::Strict => "strict",
            Preset::Standard => "standard",
            Preset::Agent => "agent",
            Preset::Build => "build",
        }
    }

    /// The complete policy of this preset.
    pub fn spec(self) -> PolicySpec {
        let strict = self == Preset::Strict;
        PolicySpec {
            api_version: API_VERSION.into(),
            metadata: Metadata {
                name: self.name().into(),
                description: None,
                labels: BTreeMap::new(),
            },
            preset: self,
            runtime: Runtime {
                backend: BackendChoice::Auto,
                command: None,
                args: Vec::new(),
                env: BTreeMap::new(),
                workdir: None,
                user: 1000,
            },
            rootfs: Rootfs {
                source: RootfsSource::Host,
                path: None,
                writable: RootWritable::ReadOnly,
                installation: if strict {
                    Installation::Refuse
                } else {
                    Installation::ReadOnly
                },
            },
            mounts: if strict { Vec::new() } else { vec![workspace()] },
            hide: [".env*", ".netrc", ".npmrc", ".pypirc", ".git/config"]
                .map(str::to_owned)
                .into(),
            resources: self.resources(),
            syscalls: Syscalls {
                profile: if strict {
                    SyscallProfile::Strict
                } else {
                    SyscallProfile::Standard
                },
                allow: Vec::new(),
                deny: Vec::new(),
                on_denied: if strict { OnDenied::Kill } else { OnDenied::Errno },
                arguments: BTreeMap::new(),
            },
            network: Network {
                mode: NetworkMode::None,
            },
            files: None,
            mac: None,
            microvm: None,
            wasm: None,
            evidence: Evidence {
                sign: "default".into(),
                sample_interval: Millis(100),
                hash: HashScope::Files,
                durability: Durability::Process,
                denied: DeniedScope::Available,
                observe: ObserveScope::None,
            },
            session: (self == Preset::Agent).then(|| "auto".into()),
            degrade: Vec::new(),
        }
    }

    fn resources(self) -> Resources {
        let limits = |cpu, memory, pids, disk, wall, open_files, output| Resources {
            cpu,
            memory: Some(ByteSize(memory)),
            pids: Some(pids),
            disk: ByteSize(disk),
            wall_time: Millis(wall),
            open_files,
            output: ByteSize(output),
            on_output: if self == Preset::Strict {
                OnOutput::Kill
            } else {
                OnOutput::Truncate
            },
            strength: RequiredStrength::Any,
        };
        match self {
            Preset::Strict => limits(Some(1.0), 512 * MIB, 64, 256 * MIB, MINUTE / 2, 256, 4 * MIB),
            Preset::Standard => limits(Some(2.0), 2 * GIB, 512, 2 * GIB, 10 * MINUTE, 1024, 64 * MIB),
            Preset::Agent => limits(Some(2.0), 4 * GIB, 1024, 10 * GIB, 60 * MINUTE, 4096, 256 * MIB),
            Preset::Build => limits(None, 8 * GIB, 4096, 20 * GIB, 120 * MINUTE, 8192, 256 * MIB),
        }
    }
}

/// The directory where the run starts, its writes captured.
fn workspace() -> Mount {
    Mount {
        source: ".".into(),
        target: None,
        read_only: false,
        captured: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Design §3, row by row.
    #[test]
    fn the_presets_are_the_table_of_the_design() {
        let rows: Vec<String> = PRESET_NAMES
            .iter()
            .map(|name| {
                let p = preset(name).unwrap();
                let r = &p.resources;
                format!(
                    "{name} mounts={} session={:?} cpu={:?} {} {} {} {} {} {} {:?} {:?}",
                    p.mounts.iter().filter(|m| m.captured && m.source == ".").count(),
                    p.session,
                    r.cpu,
                    r.memory.unwrap(),
                    r.pids.unwrap(),
                    r.disk,
                    r.wall_time,
                    r.open_files,
                    r.output,
                    r.on_output,
                    p.syscalls.on_denied,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                "strict mounts=0 session=None cpu=Some(1.0) 512MiB 64 256MiB 30s 256 4MiB Kill Kill",
                "standard mounts=1 session=None cpu=Some(2.0) 2GiB 512 2GiB 10min 1024 64MiB Truncate Errno",
                "agent mounts=1 session=Some(\"auto\") cpu=Some(2.0) 4GiB 1024 10GiB 1h 4096 256MiB Truncate Errno",
                "build mounts=1 session=None cpu=None 8GiB 4096 20GiB 2h 8192 256MiB Truncate Errno",
            ]
        );
        assert!(preset("lax").is_none());
    }

    #[test]
    fn every_preset_keeps_every_rule() {
        for name in PRESET_NAMES {
            let p = preset(name).unwrap();
            assert_eq!(crate::rules::check(&p), [], "{name}");
            assert_eq!(
                (p.runtime.user, p.network.mode, p.rootfs.writable),
                (1000, NetworkMode::None, RootWritable::ReadOnly)
            );
            assert_eq!(p.hide.len(), 5);
        }
    }
}
