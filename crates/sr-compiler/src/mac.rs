//! Mandatory access control: the profile or context that the program gets at its exec, where this host has its module.

use crate::bundle::MacPlan;
use crate::compile::Input;
use sr_common::{Code, Control, Fault, HostFacts};
use sr_policy::spec::Mac;

/// `None`: nothing is asked for, or nothing can be had and the policy degrades it.
pub(crate) fn plan(input: Input<'_>, faults: &mut Vec<Fault>) -> Option<MacPlan> {
    let mac = input.policy.mac.as_ref()?;
    match on_this_host(mac, input.facts) {
        Ok(plan) => Some(plan),
        Err(_) if input.policy.degrade.contains(&Control::Mac) => None,
        Err(Lack { found, remedy }) => {
            let clause = clause(mac);
            faults.push(Fault::new(
                Code::Run001,
                "launch.preflight.mac",
                format!("{clause}: {found}"),
                format!("{remedy}, or accept that with degrade: [mac]"),
            ));
            None
        }
    }
}

/// The policy's field.
pub(crate) fn clause(mac: &Mac) -> &'static str {
    match mac {
        Mac::Apparmor(_) => "mac.apparmor",
        Mac::Selinux(_) => "mac.selinux",
    }
}

/// Why this host does not give what is asked for.
pub(crate) fn lack(mac: &Mac, facts: &HostFacts) -> Option<String> {
    on_this_host(mac, facts).err().map(|lack| lack.found)
}

struct Lack {
    found: String,
    remedy: &'static str,
}

fn on_this_host(mac: &Mac, facts: &HostFacts) -> Result<MacPlan, Lack> {
    let known = facts.mac.as_ref();
    let (apparmor, selinux) = (
        known.and_then(|mac| mac.apparmor.as_ref()),
        known.and_then(|mac| mac.selinux.as_ref()),
    );
    let lack = |found: String, remedy| Err(Lack { found, remedy });
    match mac {
        Mac::Apparmor(profile) => {
            let Some(apparmor) = apparmor else {
                let found = match selinux {
                    Some(_) => "AppArmor is not on here, SELinux is",
                    None => "AppArmor is not on here",
                };
                return lack(
                    found.to_owned(),
                    "boot a kernel that has it, with `apparmor` in its lsm= list",
                );
            };
            let own = apparmor.label.as_str();
            // Another profile takes the place of none, and is added to one that denies: nobody is let out of his own. Of
            // what would only be logged in part the kernel does not say by which part.
            let stacked = match own.rsplit_once(" (").map(|(_, mode)| mode) {
                None | Some("unconfined)") => false,
                Some("enforce)") => true,
                Some(_) => {
                    let found = format!("AppArmor holds Safe-Run itself by {own}, to which no profile can be added");
                    return lack(found, "load that profile in the mode enforce, or take it off Safe-Run");
                }
            };
            Ok(MacPlan::Apparmor {
                profile: profile.clone(),
                directory: apparmor.directory.clone(),
                stacked,
            })
        }
        Mac::Selinux(context) => match (selinux, apparmor) {
            (Some(selinux), _) if selinux.enforcing => Ok(MacPlan::Selinux {
                context: context.clone(),
            }),
            (Some(_), _) => lack(
                "SELinux only logs here (permissive)".to_owned(),
                "let it enforce: setenforce 1",
            ),
            (None, Some(_)) => lack(
                "SELinux is not on here, AppArmor is".to_owned(),
                "write mac: {apparmor: PROFILE}",
            ),
            (None, None) => lack(
                "SELinux is not on here, or /sys/fs/selinux is not shown".to_owned(),
                "boot a kernel that has it, with `selinux` in its lsm= list",
            ),
        },
    }
}
