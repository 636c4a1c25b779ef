//! `sr-guest`: the first process of a guest, alone in its initramfs. It loads modules, hears a plan from the host, starts
//! the program under it, tells what the kernel says of that before its first instruction, and then moves bytes, signals
//! and figures until the program has ended. The program sees nothing of it: it has a mount namespace of its own.
//!
//! It must not end before the machine does: the kernel would panic, which is how the host would take it.

mod boot;
mod container;
mod digests;
mod failure;
mod group;
mod port;
mod posture;
mod serve;
mod start;
mod streams;
mod view;

use failure::Failure;
use rustix::system::{RebootCommand, reboot};

fn main() {
    if !rustix::process::getpid().is_init() {
        eprintln!("sr-guest is the first process of a virtual machine or of a container, and of nothing else");
        std::process::exit(2);
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == "container") {
        std::process::exit(match serve(container::port()) {
            Ok(()) => 0,
            Err(failure) => {
                eprintln!("sr-guest: cannot {}: {}", failure.step, failure.found);
                1
            }
        });
    }
    // What leads to the host, as the kernel's command line has it.
    let told = |name: &str| std::env::args_os().skip(1).any(|word| word == name);
    let by_vsock = told("vsock");
    if let Err(failure) = run(by_vsock) {
        // The console: the host shows its last lines where the agent could not speak.
        eprintln!("sr-guest: cannot {}: {}", failure.step, failure.found);
    }
    // All that is written to shared directories.
    rustix::fs::sync();
    let end = match by_vsock && !told("poweroff") {
        // Such a machine has no switch: its reset is its end.
        true => RebootCommand::Restart,
        // A reset would be another beginning.
        false => RebootCommand::PowerOff,
    };
    loop {
        // Where that does nothing, the host ends the machine.
        let _ = reboot(end);
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
}

fn run(by_vsock: bool) -> Result<(), Failure> {
    boot::mounts()?;
    boot::modules(&["virtio_pci", "virtio_mmio"])?;
    if by_vsock {
        boot::modules(&["vmw_vsock_virtio_transport"])?;
        return serve(boot::vsock());
    }
    boot::modules(&["virtio_console"])?;
    serve(boot::port())
}

fn serve(port: Result<port::Port, Failure>) -> Result<(), Failure> {
    let mut port = port?;
    let done = serve::serve(&mut port);
    if let Err(failure) = &done {
        port.fail(failure);
    }
    done
}
