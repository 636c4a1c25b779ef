//! What the program is put behind by AppArmor or SELinux: the step that asks for it, and what the kernel shows of it.

use crate::view::c_string;
use sr_common::{Code, Control, Fault, Observed};
use sr_compiler::bundle::MacPlan;
use sr_kernel::selinux::{self, Ruling};
use sr_kernel::step::Step;
use std::io;

/// To be taken before the process enters its Landlock domain, through the view's own /proc. The kernel acts on it in the
/// exec, and asks about no_new_privs there.
pub(crate) fn step(plan: &MacPlan) -> Result<Step, Fault> {
    Ok(Step::TakeAtExec {
        file: c_string(&format!("/proc/thread-self/{}/exec", plan.directory()))?,
        word: c_string(&plan.word())?,
        what: match plan {
            MacPlan::Apparmor { profile, .. } => format!("the AppArmor profile {profile}"),
            MacPlan::Selinux { context } => format!("the SELinux context {context}"),
        },
    })
}

/// Why there is no program: `what` could not be done.
pub(crate) fn refused(what: &str, error: &io::Error) -> Fault {
    let remedy = match (what.contains("AppArmor"), error.kind()) {
        (true, io::ErrorKind::NotFound) => {
            "the kernel has no profile of that name: load it (apparmor_parser --replace FILE), or name another"
        }
        (true, _) => {
            "the profile that holds Safe-Run itself must say `change_profile,`; dmesg says what was denied, \
             `safe-run doctor` by which profile"
        }
        (false, io::ErrorKind::InvalidInput) => "the policy that this host has loaded knows no such context",
        (false, _) => {
            "the host's policy must allow Safe-Run's own context `setexec`; its audit log says what was denied"
        }
    };
    Fault::new(
        Code::Run001,
        "launch.preflight.mac",
        format!("cannot {what}: {error}"),
        remedy,
    )
}

/// What SELinux's policy says of the plan's context, asked before the run; nothing of AppArmor, whose labels say it.
pub(crate) fn ruling(plan: Option<&MacPlan>) -> Option<io::Result<Ruling>> {
    match plan {
        Some(MacPlan::Selinux { context }) => Some(selinux::ruling(context)),
        Some(MacPlan::Apparmor { .. }) | None => None,
    }
}

/// `current`: what the program's file of that name says, and, of AppArmor, whether a signal of this process's would reach
/// the program; `None` before the exec.
pub(crate) fn posture(
    plan: &MacPlan,
    ruling: Option<&io::Result<Ruling>>,
    current: Option<(String, bool)>,
) -> Observed {
    let directory = plan.directory();
    let (requested, mechanism) = match plan {
        MacPlan::Apparmor { profile, .. } => (format!("AppArmor profile {profile} (enforce)"), "AppArmor"),
        MacPlan::Selinux { context } => (format!("SELinux context {context}"), SELINUX),
    };
    let mechanism = format!("{mechanism}: {directory}/exec");
    let (label, deaf) = match &current {
        Some((label, reached)) => (Some(label.trim_end_matches(['\n', '\0'])), !reached),
        None => (None, false),
    };
    let (held, but) = match plan {
        MacPlan::Apparmor { profile, .. } => (
            label.is_none_or(|label| denies(label, profile)),
            deaf.then(|| DEAF.to_owned()),
        ),
        MacPlan::Selinux { context } => (label.is_none_or(|label| label == context), lack(ruling)),
    };
    let seen = match label {
        Some(label) => format!("{directory}/current: {label}"),
        None => "not executed yet: the kernel took the word for the exec".into(),
    };
    Observed {
        control: Control::Mac,
        requested,
        mechanism,
        holds: held && but.is_none(),
        observed: match but {
            Some(but) => format!("{seen}; {but}"),
            None => seen,
        },
    }
}

const SELINUX: &str = "SELinux";
const DEAF: &str = "no signal of the supervisor's reaches it";
const TYPE_LOGGED: &str = "its type is permissive: what it may not do is only logged";
const ALL_LOGGED: &str = "SELinux is permissive: it only logs";
const UNKNOWN: &str = "what the host's policy says of it cannot be asked";

/// Why a context does not hold what is in it, whatever is in it.
fn lack(ruling: Option<&io::Result<Ruling>>) -> Option<String> {
    match ruling {
        Some(Ok(ruling)) if !ruling.enforcing => Some(ALL_LOGGED.to_owned()),
        Some(Ok(ruling)) if !ruling.type_enforcing => Some(TYPE_LOGGED.to_owned()),
        Some(Ok(ruling)) if !ruling.signals => Some(DEAF.to_owned()),
        Some(Ok(_)) => None,
        Some(Err(e)) => Some(format!("{UNKNOWN} ({e})")),
        None => Some(UNKNOWN.to_owned()),
    }
}

/// Whether `profile` is the label, or one of the profiles of which it is made up, in a mode that denies. One mode is shown
/// for all that are in it, `mixed` where they differ; `unconfined` has none.
fn denies(label: &str, profile: &str) -> bool {
    let names = [" (enforce)", " (kill)"]
        .iter()
        .find_map(|mode| label.strip_suffix(mode));
    names.is_some_and(|names| names.split("//&").any(|name| name == profile))
}

/// What to do where a file of the program's own, of /proc, cannot be read.
pub(crate) fn unseen(plan: Option<&MacPlan>, error: &io::Error) -> Option<&'static str> {
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let selinux = matches!(plan, Some(MacPlan::Selinux { .. }));
    (denied && selinux).then_some(
        "the program was killed before its first instruction; let the host's policy allow Safe-Run's own context what \
         OPERATIONS.md lists, to look at a process of that one's among it: the audit log says what was denied",
    )
}

/// What to do where the program has not the descriptors that it was given: SELinux takes those away that a context may not
/// use.
pub(crate) fn streams(posture: &[Observed]) -> Option<&'static str> {
    let line = posture.iter().find(|line| line.control == Control::Mac)?;
    line.mechanism.starts_with(SELINUX).then_some(
        "the program was killed before its first instruction; let the host's policy allow the program's domain `fd use` and \
         `fifo_file` of Safe-Run's own, as OPERATIONS.md lists them: the audit log says what was denied",
    )
}

/// What to do about a posture that does not hold.
pub(crate) fn remedy(line: &Observed) -> &'static str {
    let observed = line.observed.as_str();
    if line.mechanism.starts_with(SELINUX) {
        return if observed.ends_with(DEAF) {
            "the program was killed before its first instruction; let the host's policy allow Safe-Run's own context \
             `signal` and `sigkill` to that one"
        } else if observed.ends_with(TYPE_LOGGED) {
            "the program was killed before its first instruction; let the type enforce: semanage permissive -d TYPE"
        } else if observed.ends_with(ALL_LOGGED) {
            "the program was killed before its first instruction; let SELinux enforce: setenforce 1"
        } else if observed.contains(UNKNOWN) {
            "the program was killed before its first instruction; let the host's policy allow Safe-Run's own context \
             `compute_av` (class security), and show it /sys/fs/selinux"
        } else {
            "the program was killed before its first instruction; name the context as the kernel shows it"
        };
    }
    if observed.ends_with(DEAF) {
        "the program was killed before its first instruction; let its profile say `signal (receive) peer=unconfined,` (of \
         the profile that holds Safe-Run, where one does: `safe-run doctor`)"
    } else {
        "the program was killed before its first instruction; load the profile in the mode enforce, not complain \
         (apparmor_parser --replace FILE; aa-enforce FILE)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apparmor(stacked: bool) -> MacPlan {
        MacPlan::Apparmor {
            profile: "p".into(),
            directory: "attr/apparmor".into(),
            stacked,
        }
    }

    #[test]
    fn only_a_profile_that_denies_holds() {
        for label in [
            "p (enforce)\n",
            "q//&p (enforce)",
            "p//&unconfined (enforce)",
            "p (kill)",
        ] {
            assert!(seen(&apparmor(false), Some((label.into(), true))).holds, "{label}");
        }
        for label in [
            "unconfined",
            "p (complain)",
            "p (unconfined)",
            "q//&p (mixed)",
            "pp (enforce)",
            "p//q (enforce)",
            "q//&p//x (enforce)",
            "p",
            "",
        ] {
            let plan = apparmor(false);
            let seen = seen(&plan, Some((label.into(), true)));
            assert!(!seen.holds && remedy(&seen).contains("enforce"), "{label}");
        }
        let plan = apparmor(true);
        let deaf = seen(&plan, Some(("p (enforce)\n".into(), false)));
        assert!(!deaf.holds && remedy(&deaf).contains("signal"), "{deaf:?}");
        assert!(seen(&plan, None).observed.contains("not executed yet"));
        assert_eq!(streams(&[seen(&plan, None)]), None);
    }

    fn seen(plan: &MacPlan, current: Option<(String, bool)>) -> Observed {
        posture(plan, None, current)
    }

    #[test]
    fn a_context_is_that_context() {
        let plan = MacPlan::Selinux {
            context: "u:r:t:s0".into(),
        };
        let all = Ruling {
            enforcing: true,
            type_enforcing: true,
            signals: true,
        };
        let with = |ruling, label: Option<&str>| posture(&plan, Some(&ruling), label.map(|l| (l.to_owned(), false)));
        let held = with(Ok(all), Some("u:r:t:s0\0"));
        assert!(held.holds && streams(&[held]).is_some_and(|remedy| remedy.contains("fifo_file")));
        let yet = with(Ok(all), None);
        assert!(yet.holds && yet.observed.contains("not executed yet"), "{yet:?}");
        let other = with(Ok(all), Some("u:r:t:s0:c1\0"));
        assert!(!other.holds && remedy(&other).contains("as the kernel shows it"));
        let [mut host, mut kind, mut deaf] = [all; 3];
        host.enforcing = false;
        kind.type_enforcing = false;
        deaf.signals = false;
        for label in [Some("u:r:t:s0"), None] {
            for (ruling, word) in [
                (Ok(host), "setenforce"),
                (Ok(kind), "semanage permissive -d"),
                (Ok(deaf), "sigkill"),
                (Err(io::Error::from_raw_os_error(13)), "compute_av"),
            ] {
                let seen = with(ruling, label);
                assert!(!seen.holds && remedy(&seen).contains(word), "{seen:?}");
            }
            assert!(!posture(&plan, None, label.map(|l| (l.into(), true))).holds);
        }
    }

    #[test]
    fn what_cannot_be_looked_at_is_the_contexts_doing_where_there_is_one() {
        let context = MacPlan::Selinux { context: "c".into() };
        let denied = io::Error::from_raw_os_error(13);
        assert!(unseen(Some(&context), &denied).is_some_and(|remedy| remedy.contains("OPERATIONS.md")));
        assert_eq!(unseen(Some(&context), &io::Error::from_raw_os_error(2)), None);
        assert_eq!(unseen(Some(&apparmor(false)), &denied), None);
        assert_eq!(unseen(None, &denied), None);
    }

    #[test]
    fn the_word_is_the_modules() {
        let of = |plan: &MacPlan| match step(plan).unwrap() {
            Step::TakeAtExec { file, word, .. } => [file, word].map(|text| text.into_string().unwrap()),
            step => panic!("{step:?}"),
        };
        assert_eq!(of(&apparmor(false)), ["/proc/thread-self/attr/apparmor/exec", "exec p"]);
        assert_eq!(of(&apparmor(true))[1], "stack p");
        let plan = MacPlan::Selinux {
            context: "u:r:t".into(),
        };
        assert_eq!(of(&plan), ["/proc/thread-self/attr/exec", "u:r:t"]);
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let fault = |what: &str, errno| refused(what, &io::Error::from_raw_os_error(errno)).remedy;
        let (profile, context) = (
            "put … behind the AppArmor profile p",
            "put … behind the SELinux context c",
        );
        assert!(fault(profile, 2).contains("apparmor_parser"));
        assert!(fault(profile, 13).contains("change_profile"));
        assert!(fault(context, 22).contains("no such context"));
        assert!(fault(context, 13).contains("setexec"));
    }
}
