//! Filters of Safe-Run's own processes: a few named calls, and one answer to all others.

use super::bpf::{self, Decision, RET_ALLOW, RET_ERRNO};
use super::interpreter::Instruction;
use super::profiles::{EPERM, words};
use super::table::{self, Arch};

/// A program that allows the calls in `names` (white space between them; those that `arch` lacks are left out) and answers
/// every other with `EPERM`. Any other entry point ends the process.
///
/// `None`: a name that no architecture knows.
pub fn allow_only(names: &str, arch: Arch) -> Option<Vec<Instruction>> {
    const REFUSED: u32 = RET_ERRNO | EPERM as u32;
    let mut decisions = Vec::with_capacity(512);
    for name in words(names) {
        let Some(nr) = arch.number(table::row(name)?) else {
            continue;
        };
        let nr = nr as usize;
        if decisions.len() <= nr {
            decisions.resize(nr + 1, Decision::Answer(REFUSED));
        }
        decisions[nr] = Decision::Answer(RET_ALLOW);
    }
    Some(bpf::render(arch, &decisions, REFUSED))
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::{Program, SeccompData};
    use super::*;

    #[test]
    fn the_named_calls_and_no_others() {
        for arch in Arch::ALL {
            let program = allow_only("read write\n openat exit_group", arch).unwrap();
            let program = Program::check(&program).unwrap();
            let answer = |nr, token| {
                let data = SeccompData {
                    nr,
                    arch: token,
                    ..SeccompData::default()
                };
                program.run(&data)
            };
            for nr in 0..1024 {
                let named = super::super::syscall_name(arch, nr)
                    .is_some_and(|name| ["read", "write", "openat", "exit_group"].contains(&name));
                let expected = if named { RET_ALLOW } else { RET_ERRNO | 1 };
                assert_eq!(answer(nr, arch.audit()), expected, "{nr} on {arch}");
                assert_eq!(answer(nr, 0x4000_0003), bpf::RET_KILL_PROCESS, "{nr} as i386");
            }
        }
        assert!(allow_only("read nonsense", Arch::X86_64).is_none());
    }
}
