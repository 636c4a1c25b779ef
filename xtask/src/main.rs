//! What developers and CI run. Not part of the product: nothing here is shipped.

mod acceptance;
mod alone;
mod bench;
mod binaries;
mod escape;
mod guest;
mod needs;
mod plain;
mod rig;
mod risk;
mod scratch;
mod soak;
mod stage;
mod tally;
mod test;
mod tree;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask test [--yes] [--quick]     everything that CI checks; --yes installs without asking, --quick only what is fast
cargo xtask soak [--sample] [--runs N] [--rounds N] [--kills N] [--seed N]
                                       2,000 runs in a row, 64 at once five times, 500 runs killed: nothing may be left behind
cargo xtask bench start [--rounds N]   start times beside bubblewrap, runc, firejail and sandlock → bench/results/
cargo xtask bench wall [--parts start,throughput,filter] [--rounds N]
                                       what the wall costs, part by part, each against its bar → bench/results/
cargo xtask bench learn [--rounds N]   what telling of denials and watching cost a call → bench/results/
cargo xtask bench microvm [--parts gvisor,qemu,disk] [--rounds N]
                                       walls with a kernel of their own beside the bare monitor → bench/results/
cargo xtask bench wasm [--rounds N]     WebAssembly beside the engine used bare → bench/results/
cargo xtask rig [--yes] [-- CMD…]      CMD as root on another kernel, in a virtual machine that sees this host's files but
                                       keeps its own writes; without it, the tests of what this host's kernel may lack, and
                                       escape --rig in the same boot
cargo xtask rig --kvm                  the tests of Firecracker and Cloud Hypervisor, whose programs SAFE_RUN_FIRECRACKER and
                                       SAFE_RUN_CLOUD_HYPERVISOR name, with KVM nested there; a part of the tests above then
cargo xtask escape [--backend process|gvisor|microvm|bubblewrap|runc|control] [--user root|user] [--write] [--keep]
                   [CASE…]
                                       the escape corpus behind every wall and on the bare host → docs/escape-matrix.md
cargo xtask escape --rig [--write]     what of it harms a machine, controls and all, in the rig → tests/escape/rig.txt
cargo xtask escape --rig [--write] --backend microvm:firecracker|microvm:cloud-hypervisor [CASE…]
                                       a sample, or these, behind the program that is named, there → tests/escape/kvm.txt
cargo xtask risk [--write]             what a program reaches on the bare host and behind each wall → docs/risk-surface.md
cargo xtask guest                      the agent of virtual machines, a static program → target/guest/
cargo xtask wasm                       the worker for WebAssembly, a static program → target/wasm/
cargo xtask runsc                      gVisor's runsc: the one on PATH, else Debian's, fetched → target/tools/
cargo xtask acceptance [FILE]          every command of docs/acceptance.md, checked
";

/// An error for people. Everything in xtask that goes wrong ends the command.
type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["test", options @ ..] => test::test(options),
        ["soak", options @ ..] => soak::soak(options),
        ["bench", "start", options @ ..] => bench::start(options),
        ["bench", "wall", options @ ..] => bench::wall::wall(options),
        ["bench", "microvm", options @ ..] => bench::microvm::microvm(options),
        ["bench", "wasm", options @ ..] => bench::wasm::wasm(options),
        ["bench", "learn", options @ ..] => bench::learn::learn(options),
        ["rig", words @ ..] => rig::rig(words),
        ["escape", options @ ..] => escape::escape(options),
        ["risk", options @ ..] => risk::risk(options),
        ["guest"] => alone::GUEST.install(),
        ["wasm"] => alone::WASM.install(),
        ["runsc"] => needs::runsc().map(|found| println!("{}", found.display())),
        ["acceptance", files @ ..] => acceptance::acceptance(files),
        [] | ["help" | "-h" | "--help"] => {
            print!("{HELP}");
            Ok(())
        }
        other => Err(format!("xtask does not know {other:?}\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
