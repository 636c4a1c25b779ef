//! Installing classic BPF filters (seccomp(2)), and the small filter of Safe-Run's own processes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// One classic BPF instruction, as the kernel's `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

const SECCOMP_SET_MODE_FILTER: libc::c_uint = 1;

const SECCOMP_FILTER_FLAG_NEW_LISTENER: libc::c_ulong = 1 << 3;

/// Whether a filter that answers an errno can be asked for: older kernels and other filters say no.
pub(crate) fn knows_errno() -> bool {
    const SECCOMP_GET_ACTION_AVAIL: libc::c_uint = 2;
    let action: u32 = 0x0005_0000;
    // SAFETY: the call reads one 32-bit action (SECCOMP_RET_ERRNO), which is alive, and changes nothing.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0u32, &raw const action) };
    answer == 0
}

/// Installs `program` on this thread, for ever. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    set_filter(program, 0).map(drop)
}

/// Like [`install`]; gives the (close-on-exec) descriptor on which calls that the filter answers with
/// `SECCOMP_RET_USER_NOTIF` are told.
pub fn install_with_listener(program: &[Instruction]) -> io::Result<OwnedFd> {
    let fd = set_filter(program, SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: the kernel just returned this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_filter(program: &[Instruction], flags: libc::c_ulong) -> io::Result<libc::c_long> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fprog = Program {
        len,
        filter: program.as_ptr(),
    };
    // SAFETY: `fprog` has the kernel's layout (struct sock_fprog) and points to `len` instructions that outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) };
    if answer < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// A call that the filter tells of: `struct seccomp_notif` (seccomp_unotify(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Notification {
    id: u64,
    pub pid: u32,
    flags: u32,
    pub number: i32,
    arch: u32,
    instruction_pointer: u64,
    /// By value. What a pointer among them points to must never be believed: the program can change it.
    pub args: [u64; 6],
}

#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

// _IOWR('!', 0, struct seccomp_notif), _IOWR('!', 1, struct seccomp_notif_resp), _IOW('!', 2, __u64).
const NOTIF_RECV: libc::c_ulong = 0xC050_2100;
const NOTIF_SEND: libc::c_ulong = 0xC018_2101;
const NOTIF_ID_VALID: libc::c_ulong = 0x4008_2102;

const USER_NOTIF_FLAG_CONTINUE: u32 = 1;

/// Takes the next notification. `None` if the caller is gone meanwhile.
pub fn next_told(listener: BorrowedFd<'_>) -> Option<Notification> {
    let mut told = Notification::default();
    // SAFETY: `told` is zeroed, as the kernel demands, and has the layout and size of struct seccomp_notif.
    let answer = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut told) };
    (answer == 0).then_some(told)
}

/// Whether the caller still waits: what was read of `/proc/PID` until now was its own, not that of a later process of
/// the same number.
pub fn still_waits(listener: BorrowedFd<'_>, told: &Notification) -> bool {
    // SAFETY: the kernel reads eight bytes, the notification's number.
    unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_ID_VALID, &raw const told.id) == 0 }
}

/// Lets the call fail with `errno`.
pub fn deny(listener: BorrowedFd<'_>, told: &Notification, errno: u16) {
    let answer = Answer {
        id: told.id,
        value: 0,
        error: -i32::from(errno),
        flags: 0,
    };
    // It fails if the caller was killed: fine.
    let _ = send(listener, &answer);
}

/// Lets the call go on as if nobody had been told; where the kernel cannot do that (before Linux 5.5), it fails with
/// `errno`. The program may have changed what its pointers lead to: never the answer to a call that the policy denies.
pub fn let_go_on(listener: BorrowedFd<'_>, told: &Notification, errno: u16) {
    let answer = Answer {
        id: told.id,
        value: 0,
        error: 0,
        flags: USER_NOTIF_FLAG_CONTINUE,
    };
    if send(listener, &answer).is_err_and(|e| e.raw_os_error() == Some(libc::EINVAL)) {
        deny(listener, told, errno);
    }
}

fn send(listener: BorrowedFd<'_>, answer: &Answer) -> io::Result<()> {
    // SAFETY: `answer` has the layout and size of struct seccomp_notif_resp.
    match unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const *answer) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

const KILL_PROCESS: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7FFF_0000;

/// A filter that allows only `numbers` of this machine's own entry point and kills the process at anything else.
pub fn allow_list(numbers: &[libc::c_long]) -> Vec<Instruction> {
    let ret = |k| Instruction {
        code: 0x06,
        jt: 0,
        jf: 0,
        k,
    };
    let load = |k| Instruction {
        code: 0x20,
        jt: 0,
        jf: 0,
        k,
    };
    let equal = |k, jt, jf| Instruction { code: 0x15, jt, jf, k };
    let mut program = vec![load(4), equal(AUDIT_ARCH, 1, 0), ret(KILL_PROCESS), load(0)];
    for number in numbers {
        // A number outside u32 cannot be a system call; u32::MAX matches none.
        program.push(equal(u32::try_from(*number).unwrap_or(u32::MAX), 0, 1));
        program.push(ret(ALLOW));
    }
    program.push(ret(KILL_PROCESS));
    program
}
