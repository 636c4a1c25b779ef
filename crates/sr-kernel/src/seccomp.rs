//! Installing classic BPF filters (seccomp(2)), and the small filter of Safe-Run's own processes.

use std::io;

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

/// Installs `program` on this thread, for ever. Needs no_new_privs or CAP_SYS_ADMIN.
pub fn install(program: &[Instruction]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let fprog = Program {
        len,
        filter: program.as_ptr(),
    };
    // SAFETY: `fprog` has the kernel's layout (struct sock_fprog) and points to `len` instructions that outlive the call.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &raw const fprog) };
    if answer == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
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
