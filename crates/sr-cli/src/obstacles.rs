//! What stands in the way of a full wall on this host, and the remedy for each.

use serde::Serialize;
use sr_common::facts::MacFacts;
use sr_common::{Fault, HostFacts};
use std::path::Path;

/// Something in the way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Obstacle {
    /// No run can start.
    pub fatal: bool,
    pub what: String,
    pub remedy: String,
}

impl From<Fault> for Obstacle {
    fn from(fault: Fault) -> Self {
        Obstacle {
            fatal: true,
            what: format!("{} {}: {}", fault.code, fault.path, fault.found),
            remedy: fault.remedy,
        }
    }
}

fn weaker(what: impl Into<String>, remedy: impl Into<String>) -> Obstacle {
    Obstacle {
        fatal: false,
        what: what.into(),
        remedy: remedy.into(),
    }
}

/// What the facts alone tell. What makes a run impossible has its fault from compilation; here is how to get it.
pub fn of_facts(facts: &HostFacts) -> Vec<Obstacle> {
    let mut found = Vec::new();
    if let Some(reason) = &facts.user_namespaces_blocked {
        found.push(Obstacle {
            fatal: true,
            what: format!("user namespaces blocked: {reason}"),
            remedy: user_namespaces(reason, &own_path()),
        });
    }
    if !facts.ptrace {
        found.push(weaker(
            "ptrace is forbidden: the posture is read at a handshake, not at the exec stop",
            "sysctl -w kernel.yama.ptrace_scope=1; in a container: a seccomp profile that allows ptrace",
        ));
    }
    if facts.landlock_abi == 0 {
        found.push(weaker(
            "no Landlock: the view is held once, by mounts, and not twice",
            "use a kernel from 5.13 on with CONFIG_SECURITY_LANDLOCK, and `landlock` in the lsm= list of its command line",
        ));
    }
    let missing: Vec<&str> = [
        ("memory", &facts.cgroup.memory),
        ("cpu", &facts.cgroup.cpu),
        ("pids", &facts.cgroup.pids),
    ]
    .into_iter()
    .filter_map(|(name, controller)| controller.is_none().then_some(name))
    .collect();
    if !missing.is_empty() {
        let remedy = if facts.privileged {
            "mount cgroup v2 with these controllers, writable: in a container, give it a cgroup of its own"
        } else {
            "start it in a scope of your own: systemd-run --user --scope -p Delegate=yes safe-run run -- COMMAND\n\
             or let an administrator delegate a cgroup v2 subtree to you, or run as root"
        };
        let what = format!(
            "no control group for {}: held by rlimits, affinity and sampling instead",
            missing.join(", ")
        );
        found.push(weaker(what, remedy));
    }
    found
}

/// This program's file, by which a profile of AppArmor's is attached to it.
fn own_path() -> String {
    let path = std::env::current_exe().ok();
    path.as_deref()
        .and_then(Path::to_str)
        .unwrap_or("/usr/local/bin/safe-run")
        .to_owned()
}

fn user_namespaces(reason: &str, program: &str) -> String {
    if reason.contains("max_user_namespaces") && reason.contains("is 0") {
        "sysctl -w user.max_user_namespaces=15000".into()
    } else if reason.contains("unprivileged_userns_clone") {
        "sysctl -w kernel.unprivileged_userns_clone=1, or run as root".into()
    } else if reason.contains("apparmor") || reason.contains("AppArmor") {
        format!(
            "let root write these two lines to /etc/apparmor.d/safe-run:\n\
             \x20 abi <abi/4.0>,\n\
             \x20 profile safe-run \"{program}\" flags=(unconfined) {{ userns, }}\n\
             and load them: apparmor_parser --replace /etc/apparmor.d/safe-run\n\
             or, for all programs: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0; or run as root"
        )
    } else {
        "use a kernel with CONFIG_USER_NS; in a container, a seccomp profile that allows clone with CLONE_NEWUSER"
            .into()
    }
}

/// A fresh /proc can be mounted only where the outer one is fully visible.
pub fn of_proc() -> Vec<Obstacle> {
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return vec![weaker("/proc/self/mountinfo cannot be read", "mount /proc")];
    };
    let masked = masked_proc(&mounts);
    if masked.is_empty() {
        return Vec::new();
    }
    vec![Obstacle {
        fatal: true,
        what: format!(
            "outer /proc masked: {} is mounted over, so the kernel allows no fresh /proc inside",
            masked.join(", ")
        ),
        remedy: "docker/podman: --security-opt systempaths=unconfined; Kubernetes: procMount: Unmasked\n\
                 the outer /proc is never bound instead"
            .into(),
    }]
}

/// A profile of AppArmor's, whose rules cannot be asked for: a launch that it denies fails at that step.
pub fn of_apparmor(mac: &MacFacts) -> Vec<Obstacle> {
    let label = mac.apparmor.as_ref().map(|apparmor| apparmor.label.as_str());
    label.and_then(confined).into_iter().collect()
}

fn confined(label: &str) -> Option<Obstacle> {
    let profile = label.strip_suffix(" (enforce)")?;
    Some(weaker(
        format!("AppArmor holds safe-run by the profile {profile}: what it denies fails a launch"),
        "let the profile have flags=(attach_disconnected) and allow file, capability, mount, umount, pivot_root, ptrace, \
         signal, unix and network, from Linux 6.7 on also userns;\n\
         where a launch fails, dmesg says what was denied",
    ))
}

/// The first few places below /proc that something is mounted on.
fn masked_proc(mountinfo: &str) -> Vec<String> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        // The kernel makes this mount point itself and lets it pass.
        .filter(|point| point.starts_with("/proc/") && !point.starts_with("/proc/sys/fs/binfmt_misc"))
        .take(3)
        .map(str::to_owned)
        .collect()
}

/// Whether the run store can be made or written.
pub fn of_store(store: &Path) -> Vec<Obstacle> {
    use rustix::fs::{Access, AtFlags, CWD, accessat};
    let Some(existing) = store.ancestors().find(|dir| dir.exists()) else {
        return Vec::new();
    };
    let access = accessat(CWD, existing, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
    let why = match access {
        Err(e) => format!("{} may not be written: {e}", existing.display()),
        Ok(()) if !existing.is_dir() => format!("{} is no directory", existing.display()),
        Ok(()) => return Vec::new(),
    };
    vec![Obstacle {
        fatal: true,
        what: format!("the run store cannot be used: {why}"),
        remedy: "set SAFE_RUN_WORKDIR_BASE to a directory of yours".into(),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_denies_is_named() {
        let found = confined("p/q (enforce)").unwrap();
        assert!(!found.fatal && found.what.contains("p/q:"), "{found:?}");
        assert_eq!(confined("unconfined"), None);
        assert_eq!(confined("p (complain)"), None);
    }

    #[test]
    fn masks_over_proc_are_seen() {
        let free = "22 1 0:21 / /proc rw - proc proc rw\n30 22 0:30 / /proc/sys/fs/binfmt_misc rw - autofs a rw\n";
        assert!(masked_proc(free).is_empty());
        let docker =
            format!("{free}40 22 0:21 /sys /proc/sys ro - proc proc rw\n41 22 0:5 /null /proc/kcore rw - tmpfs t rw\n");
        assert_eq!(masked_proc(&docker), ["/proc/sys", "/proc/kcore"]);
    }

    #[test]
    fn each_block_has_its_own_remedy() {
        let remedy = |reason| user_namespaces(reason, "/opt/safe-run");
        assert!(remedy("/proc/sys/user/max_user_namespaces is 0").contains("user.max_user_namespaces"));
        assert!(remedy("the kernel has no user namespaces (… is absent)").contains("CONFIG_USER_NS"));
    }

    /// Ubuntu 24.04 and later: the profile that lifts the restriction is told for this very program.
    #[test]
    fn the_restriction_of_apparmor_has_its_profile() {
        let reason = "AppArmor restricts them (/proc/sys/kernel/apparmor_restrict_unprivileged_userns is 1)";
        let remedy = user_namespaces(reason, "/opt/safe run");
        for part in [
            "  profile safe-run \"/opt/safe run\" flags=(unconfined) { userns, }",
            "apparmor_parser --replace /etc/apparmor.d/safe-run",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ] {
            assert!(remedy.contains(part), "{remedy}");
        }
        assert!(own_path().starts_with('/'));
    }

    #[test]
    fn a_store_that_cannot_be() {
        assert!(of_store(Path::new("/proc/no/store")).iter().all(|o| o.fatal));
        assert_eq!(of_store(Path::new("/dev/null/store")).len(), 1);
        assert!(of_store(&std::env::temp_dir().join("sr-none/x")).is_empty());
    }
}
