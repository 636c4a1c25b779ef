//! The driver with a real Cloud Hypervisor, named in `SAFE_RUN_CLOUD_HYPERVISOR`, where KVM runs a guest: the machine is the one
//! that is compiled, the kernel Debian's, the agent ours.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, Signal, kill_process};
use sr_common::Vmm;
use sr_common::guest::{AGENT_PORT, DiskFormat, GuestPlan, GuestRoot};
use sr_common::monitor::{Clause, EventName, GuestSockets, Order, Said, Speech};
use sr_compiler::vmm::cloud_hypervisor::Machine;
use sr_compiler::vmm::version;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Case, Driver, End, Place, Ran, Streams, Test, fail, limit, plan, skip};

fn main() {
    let tests: &[Case] = &[
        ("a_program_runs_in_cloud_hypervisor", a_program_runs_in_cloud_hypervisor),
        (
            "limits_in_a_guest_of_cloud_hypervisor",
            limits_in_a_guest_of_cloud_hypervisor,
        ),
        (
            "a_guest_that_panics_in_cloud_hypervisor",
            a_guest_that_panics_in_cloud_hypervisor,
        ),
        (
            "a_kernel_that_finds_no_agent_in_cloud_hypervisor",
            a_kernel_that_finds_no_agent_in_cloud_hypervisor,
        ),
        (
            "a_boot_that_hangs_in_cloud_hypervisor",
            a_boot_that_hangs_in_cloud_hypervisor,
        ),
        (
            "a_machine_that_cloud_hypervisor_does_not_make",
            a_machine_that_cloud_hypervisor_does_not_make,
        ),
        ("a_cloud_hypervisor_that_is_killed", a_cloud_hypervisor_that_is_killed),
        (
            "an_older_cloud_hypervisor_is_not_taken",
            an_older_cloud_hypervisor_is_not_taken,
        ),
        (
            "a_program_that_is_no_cloud_hypervisor",
            a_program_that_is_no_cloud_hypervisor,
        ),
    ];
    support::main(tests, |_| {});
}

fn named() -> Result<String, End> {
    std::env::var("SAFE_RUN_CLOUD_HYPERVISOR").or_else(|_| skip("SAFE_RUN_CLOUD_HYPERVISOR names no Cloud Hypervisor"))
}

fn program() -> Result<String, End> {
    let program = named()?;
    match sr_kernel::kvm::blocked() {
        None => Ok(program),
        Some(why) => skip(why),
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A program on a disk, and what it is started with.
struct Prepared {
    machine: Machine,
    plan: GuestPlan,
}

/// One that boots nothing.
fn machine(program: String, place: &Place) -> Machine {
    Machine {
        program,
        memory: 256 << 20,
        cpus: 1,
        kernel: "/nowhere/kernel".into(),
        initrd: "/nowhere/initrd".into(),
        disks: Vec::new(),
        socket: text(&place.path().join("guest")),
        landlock: sr_kernel::landlock::abi() >= 3,
    }
}

fn prepare(place: &Place, program: String, script: &str) -> Result<Prepared, End> {
    let (kernel, initrd) = support::images(place)?;
    let machine = Machine {
        kernel: text(&kernel),
        initrd: text(&initrd),
        disks: vec![text(&place.disk(DiskFormat::Erofs)?)],
        ..machine(program, place)
    };
    let mut plan = plan(script);
    plan.root = GuestRoot::Disk {
        device: "vda".into(),
        format: DiskFormat::Erofs,
    };
    plan.share = None;
    Ok(Prepared { machine, plan })
}

impl Prepared {
    fn agent(&self) -> String {
        format!("{}_{AGENT_PORT}", self.machine.socket)
    }

    fn start(self, place: &Place) -> Result<Driver, End> {
        let document = serde_json::to_string(&self.machine.configuration())?;
        self.start_with(place, &document)
    }

    fn start_with(self, place: &Place, document: &str) -> Result<Driver, End> {
        let config = place.path().join("machine.json");
        fs::write(&config, document)?;
        let speech = Speech::CloudHypervisor {
            sockets: GuestSockets {
                agent: self.agent(),
                share: None,
            },
            config: text(&config),
        };
        let piped = [Stdio::piped(), Stdio::piped(), Stdio::piped()];
        Ok(place.start_as(speech, self.machine.arguments(), self.plan, piped))
    }
}

fn tells(ran: &Ran, wanted: EventName) -> Option<&str> {
    ran.said.iter().find_map(|said| match said {
        Said::Event { name, detail } if *name == wanted => Some(detail.as_str()),
        _ => None,
    })
}

/// The monitor's process.
fn monitor(driver: &Driver) -> Result<i32, End> {
    let pid = driver.child.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(children.trim().parse()?)
}

/// What the kernel says of a thread, by its name; nothing if there is none.
fn status_of(pid: i32, thread: &str) -> Result<String, End> {
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status")).unwrap_or_default();
        if status.starts_with(&format!("Name:\t{thread}\n")) {
            return Ok(status);
        }
    }
    Ok(String::new())
}

fn is_there(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// From its start to its end: its posture, its streams both ways, its status, and nothing left of it.
fn a_program_runs_in_cloud_hypervisor(place: &Place) -> Test {
    let it = prepare(place, program()?, "cat; cat /etc/plain; echo wrong >&2; exit 7")?;
    let agent = it.agent();
    let mut driver = it.start(place)?;
    let streams = Streams::of(&mut driver.child, b"in and out ".to_vec());
    let held = driver.until(|said| matches!(said, Said::Held { .. } | Said::Failed { .. }))?;
    let Said::Held { posture } = &held else {
        return fail(format!("{held:?}"));
    };
    ensure!(posture.iter().all(|seen| seen.holds), "{posture:?}");
    // Nobody else comes to where the agent came, nor to the API.
    for path in [Path::new(&agent), &place.path().join("api")] {
        ensure!(!path.exists(), "{} is still there", path.display());
    }
    let pid = monitor(&driver)?;
    // What runs the guest, and what heard of it, have its own filters.
    for thread in ["vcpu0", "vmm", "http-server", "event-monitor"] {
        let status = status_of(pid, thread)?;
        ensure!(status.contains("\nSeccomp:\t2\n"), "{thread}: {status}");
    }
    driver.order(&Order::Go);
    let ran = driver.end(streams)?;
    ensure!(ran.status.code() == Some(7), "{}", ran.shown());
    ensure!(ran.out == b"in and out up" && ran.err == b"wrong\n", "{}", ran.shown());
    let counted = tells(&ran, EventName::MonitorCounted).unwrap_or_default();
    ensure!(
        counted.starts_with("disks: read_bytes ") && !counted.contains("read_bytes 0,"),
        "{}",
        ran.shown()
    );
    // It was not killed: its API was told.
    ensure!(
        tells(&ran, EventName::MonitorEnded) == Some("exit status: 0"),
        "{}",
        ran.shown()
    );
    ensure!(tells(&ran, EventName::GuestShutdown).is_none(), "{}", ran.shown());
    ensure!(!is_there(pid), "{pid} is still there");
    Ok(())
}

fn limits_in_a_guest_of_cloud_hypervisor(place: &Place) -> Test {
    let program = program()?;
    for (script, clause) in [
        ("x=0123456789abcdef; while :; do x=$x$x; done", Clause::Memory),
        ("while :; do cat /proc/self/stat | cat & done >/dev/null", Clause::Pids),
    ] {
        let mut driver = prepare(place, program.clone(), script)?.start(place)?;
        let streams = Streams::of(&mut driver.child, Vec::new());
        driver.until(|said| matches!(said, Said::Held { .. }))?;
        driver.order(&Order::Go);
        let ran = driver.end(streams)?;
        ensure!(ran.status.code() != Some(0), "{clause:?}: {}", ran.shown());
        ensure!(
            ran.said.contains(&Said::Limit { clause }),
            "{clause:?}: {}",
            ran.shown()
        );
        fs::remove_file(place.path().join("guest")).or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        })?;
    }
    Ok(())
}

/// What a kernel does that cannot go on is a reset, which is no second beginning.
fn a_guest_that_panics_in_cloud_hypervisor(place: &Place) -> Test {
    let mut it = prepare(place, program()?, "echo c > /proc/sysrq-trigger; read never")?;
    it.plan.user = 0;
    it.plan.mounts.retain(|mount| mount.target != "/proc/sysrq-trigger");
    let mut driver = it.start(place)?;
    let streams = Streams::of(&mut driver.child, Vec::new());
    driver.until(|said| matches!(said, Said::Held { .. }))?;
    driver.order(&Order::Go);
    let ran = driver.end(streams)?;
    ensure!(ran.status.code() == Some(125), "{}", ran.shown());
    let panicked = tells(&ran, EventName::GuestPanicked).unwrap_or_default();
    ensure!(panicked.contains("sysrq triggered crash"), "{}", ran.shown());
    ensure!(tells(&ran, EventName::GuestReset).is_some(), "{}", ran.shown());
    match ran.failure() {
        Some(("run.guest", _)) => Ok(()),
        _ => fail(ran.shown()),
    }
}

fn a_kernel_that_finds_no_agent_in_cloud_hypervisor(place: &Place) -> Test {
    let it = prepare(place, program()?, "")?;
    fs::write(&it.machine.initrd, "no archive")?;
    let mut driver = it.start(place)?;
    let streams = Streams::of(&mut driver.child, Vec::new());
    let ran = driver.end(streams)?;
    ensure!(ran.status.code() == Some(125) && ran.out.is_empty(), "{}", ran.shown());
    ensure!(tells(&ran, EventName::GuestReset).is_some(), "{}", ran.shown());
    match ran.failure() {
        Some(("launch.boot", found)) if found.contains("Kernel panic") => Ok(()),
        _ => fail(ran.shown()),
    }
}

/// It is not waited for longer than somebody wants to.
fn a_boot_that_hangs_in_cloud_hypervisor(place: &Place) -> Test {
    let it = prepare(place, program()?, "")?;
    fs::write(&it.machine.initrd, "no archive")?;
    let mut configuration = it.machine.configuration();
    configuration.payload.cmdline = configuration.payload.cmdline.replace("panic=-1", "panic=0");
    let mut driver = it.start_with(place, &serde_json::to_string(&configuration)?)?;
    driver.until(|said| {
        matches!(
            said,
            Said::Event {
                name: EventName::MonitorStarted,
                ..
            }
        )
    })?;
    let pid = monitor(&driver)?;
    let until = Instant::now() + limit();
    while status_of(pid, "vcpu0")?.is_empty() {
        ensure!(is_there(pid) && Instant::now() < until, "its machine does not run");
        std::thread::sleep(Duration::from_millis(20));
    }
    shutdown(&driver.socket, Shutdown::Both)?;
    let status = driver.child.wait()?;
    ensure!(status.code() == Some(125), "{status}");
    ensure!(!is_there(pid), "{pid} is still there");
    Ok(())
}

fn a_machine_that_cloud_hypervisor_does_not_make(place: &Place) -> Test {
    let program = program()?;
    let confined = Machine {
        landlock: true,
        ..machine(program.clone(), place)
    };
    let confined = serde_json::to_string(&confined.configuration())?;
    let mut cases = vec![
        // It looks for no file before it is to start.
        (
            "{\"payload\":{\"kernel\":\"/nowhere/kernel\"}}",
            "answers vm.boot with 500",
            "kernel",
        ),
        ("{\"cpus\":7}", "answers vm.create with 400", "CpusConfig"),
    ];
    if sr_kernel::landlock::abi() < 3 {
        cases.push((&confined, "answers vm.create with 500", "landlock"));
    }
    for (document, answer, why) in cases {
        let it = Prepared {
            machine: machine(program.clone(), place),
            plan: plan(""),
        };
        let mut driver = it.start_with(place, document)?;
        let streams = Streams::of(&mut driver.child, Vec::new());
        let ran = driver.end(streams)?;
        ensure!(ran.status.code() == Some(125), "{}", ran.shown());
        match ran.failure() {
            Some(("launch.api", found)) if found.contains(answer) && found.contains(why) => {}
            _ => return fail(ran.shown()),
        }
    }
    Ok(())
}

fn a_cloud_hypervisor_that_is_killed(place: &Place) -> Test {
    let it = prepare(place, program()?, "echo ready; while :; do :; done")?;
    let mut driver = it.start(place)?;
    let streams = Streams::of(&mut driver.child, Vec::new());
    driver.until(|said| matches!(said, Said::Held { .. }))?;
    driver.order(&Order::Go);
    driver.until(|said| matches!(said, Said::Sample { .. }))?;
    kill_process(Pid::from_raw(monitor(&driver)?).unwrap(), Signal::KILL)?;
    let ran = driver.end(streams)?;
    ensure!(ran.status.code() == Some(125), "{}", ran.shown());
    match ran.failure() {
        Some(("run.monitor", found)) if found.contains("signal: 9") => Ok(()),
        _ => fail(ran.shown()),
    }
}

/// What the program says of its version, and what would be refused of it.
fn an_older_cloud_hypervisor_is_not_taken(_: &Place) -> Test {
    let output = Command::new(named()?).arg("--version").output()?;
    let words = String::from_utf8(output.stdout)?;
    let said = words.split_whitespace().find(|word| word.starts_with('v'));
    let refused = version::refused(Vmm::CloudHypervisor, said);
    ensure!(refused.is_none(), "{words}: {refused:?}");
    let older = said.and_then(|said| Some(format!("v51{}", &said[said.find('.')?..])));
    let refused = version::refused(Vmm::CloudHypervisor, older.as_deref());
    ensure!(
        refused.is_some_and(|why| why.contains("CVE-2026-45782")),
        "{older:?} is taken"
    );
    Ok(())
}

/// Which ends, and has answered nothing.
fn a_program_that_is_no_cloud_hypervisor(place: &Place) -> Test {
    let it = Prepared {
        machine: machine("/bin/false".into(), place),
        plan: plan(""),
    };
    let agent = it.agent();
    let mut driver = it.start(place)?;
    let streams = Streams::of(&mut driver.child, Vec::new());
    let ran = driver.end(streams)?;
    ensure!(ran.status.code() == Some(125), "{}", ran.shown());
    match ran.failure() {
        Some(("launch.api", found)) if found.contains("exit status: 1") => {}
        _ => return fail(ran.shown()),
    }
    for path in [Path::new(&agent), &place.path().join("api")] {
        ensure!(!path.exists(), "{} is still there", path.display());
    }
    Ok(())
}
