//! The driver with QEMU, a kernel of Debian's and the agent, all real; and with a hostile stand-in for the machine, which says
//! what no agent would.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::{Case, Place, Test, plan};

fn main() {
    let tests: &[Case] = &[("a_program_prints_and_ends", a_program_prints_and_ends)];
    support::main(tests, |_| {});
}

fn a_program_prints_and_ends(place: &Place) -> Test {
    let mut echo = plan("");
    echo.executable = "/bin/echo".into();
    echo.argv = vec!["echo".into(), "hello".into(), "guest".into()];
    let ran = place.run(echo, b"")?;
    ensure!(
        ran.status.code() == Some(0) && ran.out == b"hello guest\n",
        "{}",
        ran.shown()
    );
    println!("{}", ran.shown());
    Ok(())
}
