//! How a guest's end is told: to the supervisor in words, to the world by a status.

use super::line;
use crate::cause::Cause;
use sr_common::monitor::Trap;

/// The most characters of what is said of a trap.
const DETAIL: usize = 500;

/// How this process ends for a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) status: u8,
    /// What the engine ended it for, and its words.
    pub(super) trapped: Option<(Trap, String)>,
}

impl Ending {
    /// `error`: what the engine said.
    pub(super) fn of(cause: &Cause, error: Option<&str>) -> Ending {
        let (by, status) = match cause {
            Cause::Exit { code } => {
                return Ending {
                    // As a process's parent sees it.
                    status: (code & 0xff) as u8,
                    trapped: None,
                };
            }
            Cause::Fuel => (Trap::Fuel, 137),
            Cause::Memory => (Trap::Memory, 137),
            Cause::Table => (Trap::Table, 137),
            Cause::Stack => (Trap::Stack, 137),
            Cause::HostDenied { .. } => (Trap::HostCall, 126),
            Cause::Trap { .. } | Cause::Deadline => (Trap::Other, 134),
        };
        let detail = match (by, error) {
            // Where in the module it was.
            (Trap::Other, Some(error)) => line(error, DETAIL),
            _ => line(&cause.to_string(), DETAIL),
        };
        Ending {
            status,
            trapped: Some((by, detail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_status() {
        let exit = |code| Ending::of(&Cause::Exit { code }, None);
        assert_eq!((exit(7).status, exit(256).status, exit(-1).status), (7, 0, 255));
        assert_eq!(exit(7).trapped, None);
        let ended = Ending::of(&Cause::Fuel, Some("at\n 0: f"));
        assert_eq!(
            (ended.status, ended.trapped),
            (137, Some((Trap::Fuel, "all fuel is used up".into())))
        );
        let cause = Cause::Trap { trap: "t".into() };
        let ended = Ending::of(&cause, Some(&"at\n 0: f ".repeat(500)));
        assert_eq!(ended.status, 134);
        assert!(
            ended
                .trapped
                .is_some_and(|(_, detail)| detail.starts_with("at 0: f at 0") && detail.len() == 500)
        );
    }
}
