//! What this kernel lets the caller do, asked cheaply: files of `/proc/sys` and one or two calls without effect.
//! No process is made. `None` or `true` means "nothing known stands in the way"; the launch itself has the last word.

use rustix::process::geteuid;
use rustix::thread::{CapabilitySet, capabilities};
use sr_common::facts::{AppArmorFacts, MacFacts, SelinuxFacts};

/// Why user namespaces cannot be made here, with the name of the switch that says so; `None` where nothing forbids them.
pub fn user_namespaces_blocked() -> Option<String> {
    blocked_by(&|file| crate::pseudo::text(file).ok(), privileged())
}

/// Whether `PTRACE_SEIZE` of an own child is possible: Yama's strictest setting forbids it to everyone without
/// `CAP_SYS_PTRACE`, its last one to all; a container's filter may forbid the call itself.
pub fn ptrace_allowed() -> bool {
    crate::ptrace::reaches_the_kernel()
        && yama_allows(
            &|file| crate::pseudo::text(file).ok(),
            has_capability(CapabilitySet::SYS_PTRACE),
        )
}

/// Whether the kernel takes seccomp filters, and lets this process ask for one.
pub fn seccomp_available() -> bool {
    crate::seccomp::knows_errno()
}

/// Effective uid 0 with `CAP_SYS_ADMIN` in the user namespace that the caller is in.
pub fn privileged() -> bool {
    geteuid().is_root() && has_capability(CapabilitySet::SYS_ADMIN)
}

/// Whether this process has `CAP_MKNOD`. A device control group may still forbid it.
pub fn may_make_nodes() -> bool {
    has_capability(CapabilitySet::MKNOD)
}

/// AppArmor's profile that this process is held by; `None` where nothing is denied by one.
pub fn apparmor_profile() -> Option<String> {
    held_by(&crate::pseudo::text("/proc/self/attr/apparmor/current").ok()?)
}

/// `NAME (MODE)`; only `enforce` denies.
fn held_by(label: &str) -> Option<String> {
    let name = label.trim_end_matches(['\n', '\0']).strip_suffix(" (enforce)")?;
    Some(name.to_owned())
}

/// What this kernel has of mandatory access control, and what of it holds this process.
pub fn mac() -> MacFacts {
    mac_by(&|file| crate::pseudo::text(file).ok())
}

fn mac_by(read: Read<'_>) -> MacFacts {
    let enabled = read("/sys/module/apparmor/parameters/enabled").is_some_and(|text| text.trim() == "Y");
    // The second is that of whichever module the kernel shows there: AppArmor, where it is enabled and has none of its own.
    let directories = ["attr/apparmor", "attr"].into_iter().filter(|_| enabled);
    let apparmor = directories.into_iter().find_map(|directory| {
        let label = read(&format!("/proc/self/{directory}/current"))?;
        Some(AppArmorFacts {
            directory: directory.to_owned(),
            label: label.trim_end_matches(['\n', '\0']).to_owned(),
        })
    });
    let selinux = read("/sys/fs/selinux/enforce").map(|text| SelinuxFacts {
        enforcing: text.trim() == "1",
        context: read("/proc/self/attr/current")
            .map_or_else(String::new, |own| own.trim_end_matches(['\n', '\0']).into()),
    });
    MacFacts { apparmor, selinux }
}

fn has_capability(which: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(which))
}

type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

fn number(read: Read<'_>, file: &str) -> Option<u64> {
    read(file)?.trim().parse().ok()
}

fn blocked_by(read: Read<'_>, privileged: bool) -> Option<String> {
    const MAX: &str = "/proc/sys/user/max_user_namespaces";
    match number(read, MAX) {
        Some(0) => return Some(format!("{MAX} is 0")),
        Some(_) => {}
        // The kernel has no such file without CONFIG_USER_NS; an unreadable /proc/sys says nothing.
        None if read("/proc/sys/kernel/osrelease").is_some() => {
            return Some(format!("the kernel has no user namespaces ({MAX} is absent)"));
        }
        None => {}
    }
    if privileged {
        return None;
    }
    const CLONE: &str = "/proc/sys/kernel/unprivileged_userns_clone";
    if number(read, CLONE) == Some(0) {
        return Some(format!("{CLONE} is 0"));
    }
    const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    if number(read, APPARMOR).is_some_and(|n| n > 0) && !confined_by_a_profile_of_its_own(read) {
        return Some(format!("AppArmor restricts them ({APPARMOR} is 1)"));
    }
    None
}

/// AppArmor's restriction is for unconfined programs; a profile (such as the one that a package installs) may lift it.
fn confined_by_a_profile_of_its_own(read: Read<'_>) -> bool {
    read("/proc/self/attr/apparmor/current")
        .or_else(|| read("/proc/self/attr/current"))
        .is_some_and(|label| !label.trim_end_matches(['\n', '\0']).starts_with("unconfined"))
}

fn yama_allows(read: Read<'_>, sys_ptrace: bool) -> bool {
    match number(read, "/proc/sys/kernel/yama/ptrace_scope") {
        Some(3) => false,
        Some(2) => sys_ptrace,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Files = &'static [(&'static str, &'static str)];

    fn host(files: Files) -> impl Fn(&str) -> Option<String> {
        move |file| {
            files
                .iter()
                .find(|(name, _)| *name == file)
                .map(|(_, text)| (*text).to_owned())
        }
    }

    #[test]
    fn each_switch_is_named() {
        let max = "/proc/sys/user/max_user_namespaces";
        let cases: &[(Files, bool, Option<&str>)] = &[
            (&[("/proc/sys/user/max_user_namespaces", "0\n")], true, Some(max)),
            (
                &[("/proc/sys/kernel/osrelease", "6.1\n")],
                true,
                Some("no user namespaces"),
            ),
            (&[], false, None),
            (
                &[
                    ("/proc/sys/user/max_user_namespaces", "9\n"),
                    ("/proc/sys/kernel/unprivileged_userns_clone", "0\n"),
                ],
                false,
                Some("unprivileged_userns_clone is 0"),
            ),
            (
                &[
                    ("/proc/sys/user/max_user_namespaces", "9\n"),
                    ("/proc/sys/kernel/unprivileged_userns_clone", "0\n"),
                ],
                true,
                None,
            ),
            (
                &[
                    ("/proc/sys/user/max_user_namespaces", "9\n"),
                    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
                    ("/proc/self/attr/current", "unconfined\n"),
                ],
                false,
                Some("AppArmor"),
            ),
            (
                &[
                    ("/proc/sys/user/max_user_namespaces", "9\n"),
                    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
                    ("/proc/self/attr/current", "safe-run (unconfined)\n"),
                ],
                false,
                None,
            ),
        ];
        for (files, root, expected) in cases {
            let found = blocked_by(&host(files), *root);
            match expected {
                None => assert_eq!(found, None, "{files:?}"),
                Some(part) => assert!(
                    found.as_deref().is_some_and(|f| f.contains(part)),
                    "{files:?}: {found:?}"
                ),
            }
        }
    }

    #[test]
    fn only_enforced_profiles_hold() {
        assert_eq!(held_by("a (b) (enforce)\n").as_deref(), Some("a (b)"));
        for label in ["unconfined\n", "a (complain)\n", "a (unconfined)\n", ""] {
            assert_eq!(held_by(label), None, "{label}");
        }
    }

    #[test]
    fn modules_are_found_by_their_files() {
        const ON: (&str, &str) = ("/sys/module/apparmor/parameters/enabled", "Y\n");
        const OFF: (&str, &str) = ("/sys/module/apparmor/parameters/enabled", "N\n");
        const OWN: (&str, &str) = ("/proc/self/attr/apparmor/current", "p (enforce)\n");
        const SHARED: (&str, &str) = ("/proc/self/attr/current", "unconfined\n");
        let apparmor = |directory: &str, label: &str| {
            Some(AppArmorFacts {
                directory: directory.into(),
                label: label.into(),
            })
        };
        let cases: [(Files, Option<AppArmorFacts>); 5] = [
            (&[ON, OWN, SHARED], apparmor("attr/apparmor", "p (enforce)")),
            (&[ON, SHARED], apparmor("attr", "unconfined")),
            (&[OFF, SHARED], None),
            (&[SHARED], None),
            (&[ON], None),
        ];
        for (files, expected) in cases {
            assert_eq!(mac_by(&host(files)).apparmor, expected, "{files:?}");
        }
        const CONTEXT: (&str, &str) = ("/proc/self/attr/current", "u:r:t:s0\0");
        let cases: [(Files, bool); 2] = [
            (&[("/sys/fs/selinux/enforce", "1"), CONTEXT], true),
            (&[("/sys/fs/selinux/enforce", "0"), CONTEXT], false),
        ];
        for (files, enforcing) in cases {
            let context = "u:r:t:s0".to_owned();
            assert_eq!(mac_by(&host(files)).selinux, Some(SelinuxFacts { enforcing, context }));
        }
        assert_eq!(mac_by(&|_| None), MacFacts::default());
    }

    #[test]
    fn yama() {
        let scope = |text: &'static str| {
            move |file: &str| (file == "/proc/sys/kernel/yama/ptrace_scope").then(|| text.to_owned())
        };
        assert!(yama_allows(&scope("1\n"), false));
        assert!(!yama_allows(&scope("2\n"), false));
        assert!(yama_allows(&scope("2\n"), true));
        assert!(!yama_allows(&scope("3\n"), true));
        assert!(yama_allows(&|_| None, false));
    }
}
