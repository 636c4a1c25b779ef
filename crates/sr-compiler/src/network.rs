//! The network: none. The wall is an empty network namespace; the filter's `socket` rule says so to the program.

use crate::bundle::NetworkPlan;
use sr_policy::spec::{Network, NetworkMode};

/// `None` is no network at all.
pub(crate) fn plan(network: &Network) -> Option<NetworkPlan> {
    match network.mode {
        NetworkMode::None => None,
    }
}
