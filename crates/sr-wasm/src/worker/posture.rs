//! What the engine holds before anything of the module runs, read back from its store.

use super::{ENGINE, Failure};
use crate::guest::Guest;
use rustix::process::{Resource, getrlimit};
use sr_common::module::{Metering, ModuleKind, ModulePlan, Preopen};
use sr_common::{Control, Observed};

/// The most characters of one line.
const MOST: usize = 4000;

/// One line for each control that is the engine's.
pub(super) async fn posture(guest: &mut Guest, plan: &ModulePlan) -> Result<Vec<Observed>, Failure> {
    Ok(vec![
        memory(guest, plan),
        fuel(guest, plan),
        open_files(guest, plan),
        host_calls(guest, plan),
        filesystem(guest, plan).await?,
    ])
}

/// `requested` is in the plan's own words, which the supervisor has too.
fn observed(plan: &ModulePlan, control: Control, observed: String, holds: bool) -> Observed {
    Observed {
        control,
        requested: plan.requested(control).unwrap_or_default(),
        mechanism: ENGINE.to_owned(),
        observed: observed.chars().filter(|c| !c.is_control()).take(MOST).collect(),
        holds,
    }
}

fn memory(guest: &Guest, plan: &ModulePlan) -> Observed {
    let limits = guest.limits();
    let (bytes, elements) = (limits.memory as u64, limits.table_elements as u64);
    observed(
        plan,
        Control::Memory,
        format!("{bytes} bytes, {elements} elements (the store's limiter)"),
        (bytes, elements) == (plan.limits.memory, plan.limits.table_elements),
    )
}

fn fuel(guest: &Guest, plan: &ModulePlan) -> Observed {
    // A store whose engine does not meter has none to speak of.
    let fuel = guest.store.get_fuel().ok();
    let shown = |fuel: Option<u64>| match (fuel, plan.settings.metering) {
        (Some(units), _) => format!("{units} units"),
        (None, Metering::Epochs) => "epochs".to_owned(),
        (None, Metering::Deadline | Metering::Fuel) => "not metered".to_owned(),
    };
    observed(
        plan,
        Control::Fuel,
        // The engine loads no code that is metered in another way than itself.
        format!("{} (the store, and the code as it was loaded)", shown(fuel)),
        fuel == plan.limits.fuel,
    )
}

fn open_files(guest: &Guest, plan: &ModulePlan) -> Observed {
    let asked = plan.limits.open_files;
    match plan.kind {
        ModuleKind::Core => {
            let most = guest.limits().open_files as u64;
            let found = format!("{most} files (the table of descriptors)");
            observed(plan, Control::OpenFiles, found, most == asked)
        }
        // Its descriptors are resources of several kinds, which nobody counts: the kernel does.
        ModuleKind::Component => {
            let most = getrlimit(Resource::Nofile).current;
            let own = super::run::first_free().ok();
            let more = most.zip(own).map(|(most, own)| most.saturating_sub(own));
            let found = match more {
                Some(more) => format!("{more} more descriptors of the process (RLIMIT_NOFILE)"),
                None => "any number of descriptors of the process (RLIMIT_NOFILE)".to_owned(),
            };
            observed(plan, Control::OpenFiles, found, more.is_some_and(|more| more <= asked))
        }
    }
}

fn host_calls(guest: &Guest, plan: &ModulePlan) -> Observed {
    let rules = &plan.host_calls.rules;
    // What the other kind calls, this one cannot.
    let component = plan.kind == ModuleKind::Component;
    let own = rules
        .keys()
        .filter(|name| name.starts_with("wasi:") == component)
        .count();
    let (held, place) = match plan.kind {
        ModuleKind::Core => (guest.rules_held(&plan.host_calls), "the table of preview 1"),
        ModuleKind::Component => (own, "what it is linked with"),
    };
    observed(
        plan,
        Control::HostCalls,
        format!("{held} of them for what it can call ({place})"),
        held == own,
    )
}

async fn filesystem(guest: &mut Guest, plan: &ModulePlan) -> Result<Observed, Failure> {
    let asked: Vec<_> = plan
        .preopens
        .iter()
        .map(|own| (own.name.clone(), own.writable))
        .collect();
    let opened = guest
        .directories()
        .await
        .map_err(|e| Failure::own("the directories", format!("{e:#}")))?;
    Ok(observed(
        plan,
        Control::Filesystem,
        Preopen::list(opened.iter().map(|(name, writable)| (name.as_str(), *writable))),
        asked == opened,
    ))
}
