//! The agent's work, from the host's first word to the program's end: one thread, which waits for all descriptors at once.

use crate::boot;
use crate::container;
use crate::failure::{Failure, at, violation};
use crate::group::{Group, Limits};
use crate::port::Port;
use crate::start::{self, Held};
use crate::streams::{End, Streams};
use crate::view;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use rustix::time::{ClockId, clock_settime};
use sr_common::guest::{GuestPlan, GuestRoot, GuestShare};
use sr_microvm::protocol::guest::Said;
use sr_microvm::protocol::{GuestEnd, GuestEvent};
use std::os::fd::{AsFd, OwnedFd};

/// How often figures are told while the program runs.
const SAMPLE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};
const SIGCHLD: i32 = 17;

pub fn serve(port: &mut Port) -> Result<(), Failure> {
    let plan = plan(port)?;
    let children = sr_kernel::process::signal_descriptor(&[SIGCHLD]).map_err(at("watch processes"))?;
    // What the program's view is made of.
    match plan.share {
        Some(GuestShare::Virtio { .. }) => boot::modules(&["9pnet_virtio", "9p"])?,
        Some(GuestShare::Vsock { .. }) => boot::modules(&["9pnet_fd", "9p"])?,
        None => {}
    }
    let mut group: Box<dyn Limits> = match &plan.root {
        GuestRoot::Shared => Box::new(Group::make(&plan.limits)?),
        GuestRoot::Disk { device, format } => {
            boot::modules(&["virtio_blk", "overlay", "crc32c_generic", view::module(*format)])?;
            boot::device(device)?;
            Box::new(Group::make(&plan.limits)?)
        }
        GuestRoot::Own => {
            container::protect(&plan.mounts)?;
            Box::new(container::All::of(&plan.limits))
        }
    };
    let group = group.as_mut();
    let Held {
        pid,
        mut streams,
        posture,
        share,
    } = start::start(&plan, group)?;
    port.guest.posture(&mut port.out, &posture).map_err(violation)?;
    hold(port, pid, &mut streams)?;
    sr_kernel::ptrace::detach(pid).map_err(at("let the program go"))?;
    let status = run(port, pid, &children, &mut streams, group)?;
    // What it wrote to shared directories is the host's before its end is told.
    match share {
        // It was told itself only of what it waited for.
        Some(share) => rustix::fs::syncfs(&share).map_err(at("hand over all that the program wrote"))?,
        None => rustix::fs::sync(),
    }
    let end = GuestEnd {
        status,
        peaks: group.peaks(),
        agent_bytes: own_peak(),
    };
    port.guest.exited(&mut port.out, &end).map_err(violation)?;
    port.flush()?;
    match plan.root {
        GuestRoot::Shared | GuestRoot::Disk { .. } => port.wait_for_the_end(),
        // It ends with this process.
        GuestRoot::Own => {}
    }
    Ok(())
}

/// The most memory that this process had, in bytes; 0 where its kernel does not count that.
fn own_peak() -> u64 {
    let status = sr_kernel::pseudo::text("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Waits for the host, and sends what there is to send.
fn wait(port: &mut Port) -> Result<PollFlags, Failure> {
    let interest = port.interest();
    let fd = port.fd();
    let mut wait = [PollFd::from_borrowed_fd(fd, interest)];
    match poll(&mut wait, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(e) => return Err(at("wait for the host")(e)),
    }
    let came = wait[0].revents();
    if came.contains(PollFlags::OUT) {
        port.send()?;
    }
    Ok(came)
}

fn plan(port: &mut Port) -> Result<GuestPlan, Failure> {
    let (mut plan, mut now) = (None, None);
    while plan.is_none() {
        if wait(port)?.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            port.hear(|_, _, said| {
                match said {
                    Said::Hello(time) => now = Some(time),
                    Said::Plan(whole) => plan = Some(*whole),
                    _ => {}
                }
                Ok(())
            })?;
        }
        if let Some(time) = now.take() {
            clock(time);
        }
    }
    plan.ok_or_else(|| crate::failure::failure("hear the plan", "there is none"))
}

/// The host's clock is the better one, where the machine has one at all.
fn clock(nanoseconds: u64) {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let time = Timespec {
        tv_sec: seconds.try_into().unwrap_or(0),
        tv_nsec: rest.try_into().unwrap_or(0),
    };
    // A program runs with a wrong clock too.
    let _ = clock_settime(ClockId::Realtime, time);
}

/// Waits for the host's leave. Signals wait in the kernel.
fn hold(port: &mut Port, program: i32, streams: &mut Streams) -> Result<(), Failure> {
    let mut go = false;
    while !go {
        if wait(port)?.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            port.hear(|guest, out, said| {
                match said {
                    Said::Go => go = true,
                    // There before the program is.
                    Said::Input(bytes) => streams.input(guest, out, bytes)?,
                    Said::InputEnd => streams.end_input(),
                    Said::Unread(stream) => streams.unread(stream),
                    Said::Signal(number) => signal(program, number),
                    Said::Window { rows, columns } => streams.window(rows, columns),
                    _ => {}
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

/// To the program's process group, or to it alone where it has left that.
fn signal(program: i32, number: u8) {
    let (Some(pid), Some(signal)) = (Pid::from_raw(program), Signal::from_named_raw(i32::from(number))) else {
        return;
    };
    if kill_process_group(pid, signal).is_err() {
        // It has ended: its status is on the way.
        let _ = kill_process(pid, signal);
    }
}

/// Until nothing of the program is left, and all that it wrote is on the way: its wait status.
fn run(
    port: &mut Port,
    program: i32,
    children: &OwnedFd,
    streams: &mut Streams,
    group: &mut dyn Limits,
) -> Result<i32, Failure> {
    let mut status = None;
    let mut told = [0; 3];
    let mut sampled = std::time::Instant::now();
    let period = std::time::Duration::from_nanos(SAMPLE.tv_nsec.unsigned_abs());
    loop {
        let left = reap(program, &mut status, group)?;
        if let (Some(status), false) = (status, left)
            && streams.at_end()
        {
            events(port, group, &mut told, true)?;
            return Ok(status);
        }
        let came = {
            let mut list = streams.interest(&port.guest, port.out.len());
            let mut wait = vec![
                PollFd::from_borrowed_fd(port.fd(), port.interest()),
                PollFd::from_borrowed_fd(children.as_fd(), PollFlags::IN),
            ];
            wait.extend(list.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)));
            match poll(&mut wait, Some(&SAMPLE)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(at("wait")(e)),
            }
            let flags: Vec<PollFlags> = wait.iter().map(PollFd::revents).collect();
            let ends = list
                .drain(..)
                .map(|(end, ..)| end)
                .zip(flags.get(2..).unwrap_or_default().to_vec());
            (
                flags[0],
                flags[1],
                ends.filter(|(_, came)| !came.is_empty())
                    .map(|(end, _)| end)
                    .collect::<Vec<_>>(),
            )
        };
        let (at_port, at_children, ends) = came;
        if !at_children.is_empty() {
            while sr_kernel::process::next_signal(children.as_fd()).is_some() {}
        }
        if at_port.contains(PollFlags::OUT) {
            port.send()?;
        }
        if at_port.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            port.hear(|guest, out, said| {
                match said {
                    Said::Input(bytes) => streams.input(guest, out, bytes)?,
                    Said::InputEnd => streams.end_input(),
                    Said::Unread(stream) => streams.unread(stream),
                    Said::Signal(number) if status.is_none() => signal(program, number),
                    Said::Window { rows, columns } => streams.window(rows, columns),
                    _ => {}
                }
                Ok(())
            })?;
        }
        for end in ends {
            match end {
                End::Input => streams.write(&mut port.guest, &mut port.out)?,
                End::Output(stream) => streams.read(stream, &mut port.guest, &mut port.out)?,
            }
        }
        // A host that takes nothing is not told more and more.
        if sampled.elapsed() >= period && port.out.is_empty() {
            sampled = std::time::Instant::now();
            let usage = group.usage();
            port.guest.sample(&mut port.out, &usage).map_err(violation)?;
            events(port, group, &mut told, false)?;
        }
        port.send()?;
    }
}

/// Waits for what has ended; with the program ends all that it started. Whether anything is left.
fn reap(program: i32, status: &mut Option<i32>, group: &mut dyn Limits) -> Result<bool, Failure> {
    loop {
        match sr_kernel::process::ended_child() {
            Ok((0, ..)) => return Ok(true),
            Ok((pid, ended, _)) if pid == program => {
                *status = Some(ended);
                // Its group's peaks are those of the program until now.
                group.usage();
                group.kill()?;
            }
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(Errno::CHILD.raw_os_error()) => return Ok(false),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(at("wait for processes")(e)),
        }
    }
}

/// Tells what has happened, at first and then each time that it is twice as much; at the end in any case.
fn events(port: &mut Port, group: &dyn Limits, told: &mut [u64; 3], end: bool) -> Result<(), Failure> {
    let worth = |now: u64, told: u64| now != told && (end || now >= told.saturating_mul(2));
    let now = [
        group.limit_of_memory(),
        group.limit_of_processes(),
        group.out_of_memory(),
    ];
    let events = [
        GuestEvent::LimitOfMemory { times: now[0] },
        GuestEvent::LimitOfProcesses { times: now[1] },
        GuestEvent::OutOfMemory { processes: now[2] },
    ];
    for ((now, told), event) in now.iter().zip(told).zip(events) {
        if worth(*now, *told) {
            *told = *now;
            port.guest.event(&mut port.out, &event).map_err(violation)?;
        }
    }
    Ok(())
}
