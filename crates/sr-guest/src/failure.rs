//! Why the agent cannot go on: what it was about to do, and what came of it.

use sr_microvm::protocol::{GuestFailure, Violation};

pub type Failure = GuestFailure;

/// What the agent was about to do, for whatever error comes of it.
pub fn at<E: std::fmt::Display>(step: &str) -> impl FnOnce(E) -> Failure {
    let step = step.to_owned();
    move |error| Failure {
        step,
        found: error.to_string(),
    }
}

pub fn failure(step: impl Into<String>, found: impl Into<String>) -> Failure {
    Failure {
        step: step.into(),
        found: found.into(),
    }
}

/// The two sides do not understand each other.
pub fn violation(violation: Violation) -> Failure {
    failure("speak with the host", violation.to_string())
}
