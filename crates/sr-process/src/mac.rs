//! What the program is put behind by AppArmor or SELinux: the step that asks for it, and what the kernel shows of it.

use crate::view::c_string;
use sr_common::{Code, Control, Fault, Observed};
use sr_compiler::bundle::MacPlan;
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

/// `current`: what the program's file of that name says, and, of AppArmor, whether a signal of this process's would reach
/// the program; `None` before the exec.
pub(crate) fn posture(plan: &MacPlan, current: Option<(String, bool)>) -> Observed {
    let directory = plan.directory();
    let (requested, mechanism) = match plan {
        MacPlan::Apparmor { profile, .. } => (format!("AppArmor profile {profile} (enforce)"), "AppArmor"),
        MacPlan::Selinux { context } => (format!("SELinux context {context}"), "SELinux"),
    };
    let mechanism = format!("{mechanism}: {directory}/exec");
    let Some((label, reached)) = current else {
        return Observed {
            control: Control::Mac,
            requested,
            mechanism,
            observed: "not executed yet: the kernel took the word for the exec".into(),
            holds: true,
        };
    };
    let label = label.trim_end_matches(['\n', '\0']);
    let (holds, deaf) = match plan {
        MacPlan::Apparmor { profile, .. } => (denies(label, profile), !reached),
        MacPlan::Selinux { context } => (label == context, false),
    };
    let but = if deaf {
        "; no signal of the supervisor's reaches it"
    } else {
        ""
    };
    Observed {
        control: Control::Mac,
        requested,
        mechanism,
        observed: format!("{directory}/current: {label}{but}"),
        holds: holds && !deaf,
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

/// What to do about a posture that does not hold.
pub(crate) fn remedy(observed: &str) -> &'static str {
    if observed.ends_with("reaches it") {
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
            assert!(posture(&apparmor(false), Some((label.into(), true))).holds, "{label}");
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
            let seen = posture(&apparmor(false), Some((label.into(), true)));
            assert!(!seen.holds && remedy(&seen.observed).contains("enforce"), "{label}");
        }
        let deaf = posture(&apparmor(true), Some(("p (enforce)\n".into(), false)));
        assert!(!deaf.holds && remedy(&deaf.observed).contains("signal"), "{deaf:?}");
    }

    #[test]
    fn a_context_is_that_context() {
        let plan = MacPlan::Selinux {
            context: "u:r:t:s0".into(),
        };
        assert!(posture(&plan, Some(("u:r:t:s0\0".into(), false))).holds);
        assert!(!posture(&plan, Some(("u:r:t:s0:c1\0".into(), true))).holds);
        assert!(posture(&plan, None).observed.contains("not executed yet"));
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
