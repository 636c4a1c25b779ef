//! What the policy that SELinux has loaded says of two contexts, as the kernel itself decides it: by the files of selinuxfs.

use crate::pseudo;
use rustix::fs::{CWD, Mode, OFlags};
use std::io;

const FILES: &str = "/sys/fs/selinux";

/// Of a context in which a program is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// What is forbidden is denied, and not only logged: on this host; to that context's type.
    pub enforcing: bool,
    pub type_enforcing: bool,
    /// This process's signals, that to end and that to kill, reach a process in it.
    pub signals: bool,
}

/// What holds of `context` for this process now.
pub fn ruling(context: &str) -> io::Result<Ruling> {
    let own = pseudo::text("/proc/thread-self/attr/current")?;
    let own = own.trim_end_matches(['\n', '\0']);
    let class = number("class/process/index")?;
    let decision = |from: &str| -> io::Result<Decision> {
        let question = format!("{from} {context} {class}");
        Decision::parse(&ask("access", &question)?).ok_or_else(|| unknown("access"))
    };
    let mask = ["signal", "sigkill"].iter().try_fold(0, |mask, name| {
        match number(&format!("class/process/perms/{name}")) {
            Ok(bit @ 1..=32) => Ok(mask | 1 << (bit - 1)),
            Ok(_) => Err(unknown(name)),
            Err(e) => Err(e),
        }
    })?;
    Ok(Ruling {
        enforcing: number("enforce")? == 1,
        type_enforcing: !decision(context)?.permissive,
        signals: decision(own)?.allows(mask),
    })
}

fn number(file: &str) -> io::Result<u32> {
    let text = pseudo::text(format!("{FILES}/{file}"))?;
    text.trim().parse().map_err(|_| unknown(file))
}

fn unknown(file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{FILES}/{file} is of an unknown form"),
    )
}

/// A question is written, and its answer read from the same open file.
fn ask(file: &str, question: &str) -> io::Result<String> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, format!("{FILES}/{file}"), flags, Mode::empty())?;
    rustix::io::write(&file, question.as_bytes())?;
    let mut answer = [0; 256];
    let length = rustix::io::read(&file, &mut answer)?;
    Ok(String::from_utf8_lossy(answer.get(..length).unwrap_or_default()).into_owned())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Decision {
    allowed: u32,
    /// The source's type is only logged.
    permissive: bool,
}

impl Decision {
    /// `ALLOWED DECIDED AUDITALLOW AUDITDENY SEQUENCE FLAGS`, all in hexadecimal but the fifth.
    fn parse(answer: &str) -> Option<Decision> {
        let mut words = answer.trim_end_matches(['\n', '\0']).split(' ');
        let mut next = |at| u32::from_str_radix(words.nth(at)?, 16).ok();
        let (allowed, flags) = (next(0)?, next(4)?);
        Some(Decision {
            allowed,
            permissive: flags & 1 != 0,
        })
    }

    fn allows(self, mask: u32) -> bool {
        self.permissive || self.allowed & mask == mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_as_the_kernel_writes_them() {
        let of = |text| Decision::parse(text);
        let decision = |allowed, permissive| Some(Decision { allowed, permissive });
        assert_eq!(of("4b ffffffff 0 ffffffff 2 0"), decision(0x4b, false));
        assert_eq!(of("0 ffffffff 0 ffffffff 17 1\n"), decision(0, true));
        // A flag that says something else.
        assert_eq!(of("1 ffffffff 0 ffffffff 2 2"), decision(1, false));
        for bad in ["", "4b ffffffff 0 ffffffff 2", "x ffffffff 0 ffffffff 2 0"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert!(!of("4b ffffffff 0 ffffffff 2 0").unwrap().allows(0x84));
        assert!(of("4b ffffffff 0 ffffffff 2 0").unwrap().allows(0x42));
        assert!(of("0 ffffffff 0 ffffffff 2 1").unwrap().allows(0x84));
    }
}
