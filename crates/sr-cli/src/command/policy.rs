//! `policy show` and `policy explain`.

use crate::arguments::PolicyAction;
use crate::failure::Done;
use crate::{json, policies, terminal};

pub fn policy(action: &PolicyAction) -> Done {
    match action {
        PolicyAction::Show { policy, json: false } => {
            terminal::out(&sr_policy::render_yaml(&policies::find(policy)?.spec));
        }
        PolicyAction::Show { policy, json: true } => terminal::out(&json::pretty(&policies::find(policy)?.spec)?),
        PolicyAction::Explain { policy } => terminal::out(&sr_policy::explain(&policies::find(policy)?.spec)),
    }
    Ok(0)
}
