//! Versions of monitors, and the oldest that are taken: below them stands a known way out of their machines, or they lack
//! what is asked of them.

use sr_common::Vmm;
use sr_common::monitor::OLDEST_QEMU;

/// The oldest version that is taken, and what the ones before it are known for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oldest {
    pub version: [u32; 3],
    pub known: &'static str,
}

pub fn oldest(vmm: Vmm) -> Oldest {
    match vmm {
        Vmm::Firecracker => Oldest {
            version: [1, 16, 2],
            // And before it CVE-2026-5747 (1.14.4, 1.15.1).
            known: "CVE-2026-122192: a guest reaches Firecracker's memory",
        },
        Vmm::CloudHypervisor => Oldest {
            version: [52, 0, 0],
            // And before it CVE-2026-27211 (51.1).
            known: "CVE-2026-45782: memory of a disk's requests is used after it was freed",
        },
        // A distribution mends this one's faults without a new number.
        Vmm::Qemu => Oldest {
            version: OLDEST_QEMU,
            known: "no machine without a keyboard's controller",
        },
    }
}

/// Why this version is not taken, if it is not: `said` is what the program says of itself (`v1.17.0`, `v52.0`).
pub fn refused(vmm: Vmm, said: Option<&str>) -> Option<String> {
    let oldest = oldest(vmm);
    let written = shown(oldest.version);
    let Some(said) = said else {
        // It tells the driver, within the wall, and is not started before that.
        if vmm == Vmm::Qemu {
            return None;
        }
        return Some(format!(
            "it does not say its version, of which {written} is the oldest that is taken"
        ));
    };
    match parse(said) {
        Some(version) if version >= oldest.version => None,
        Some(_) => Some(format!(
            "version {said} is older than {written}, before which there is {}",
            oldest.known
        )),
        None => Some(format!(
            "{said:?} is no release's version, of which {written} is the oldest that is taken"
        )),
    }
}

fn shown([major, minor, patch]: [u32; 3]) -> String {
    format!("{major}.{minor}.{patch}")
}

/// What comes before a release (`-rc1`, `-dev`) has its number and perhaps not what was mended in it, and is none. What was
/// built some changes after one (`-12-gabcdef`) has all of it.
fn parse(text: &str) -> Option<[u32; 3]> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let (text, after) = text.split_once('-').unwrap_or((text, "0"));
    if !after.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut numbers = [0; 3];
    let (mut places, mut count) = (numbers.iter_mut(), 0);
    for part in text.split('.') {
        let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        *places.next()? = digits.then(|| part.parse().ok())??;
        count += 1;
    }
    (count >= 2).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (vmm, said, taken) in [
            (Vmm::Firecracker, "v1.16.2", true),
            (Vmm::Firecracker, "v1.17.0", true),
            (Vmm::Firecracker, "v2.0.0", true),
            (Vmm::Firecracker, "v1.16.1", false),
            (Vmm::Firecracker, "v1.9.99", false),
            (Vmm::Firecracker, "v0.25.0", false),
            (Vmm::CloudHypervisor, "v52.0", true),
            (Vmm::CloudHypervisor, "v53.0-12-gabcdef", true),
            (Vmm::CloudHypervisor, "v51.1.0", false),
            (Vmm::CloudHypervisor, "v6.0", false),
            (Vmm::Qemu, "7.2.11", true),
            (Vmm::Qemu, "10.0.2", true),
            (Vmm::Qemu, "6.2.0", false),
        ] {
            assert_eq!(refused(vmm, Some(said)).is_none(), taken, "{vmm:?} {said}");
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for said in [
            "v1.17.0-dev",
            "v1.17.0-rc1",
            "v1.17.0-",
            "",
            "v",
            "v1",
            "latest",
            "v1.16.x",
            "v1..2",
            "v1.16.2.9",
            "v99999999999.0.0",
            "-v1.16.2",
            "v 1.16.2",
        ] {
            assert!(refused(Vmm::Firecracker, Some(said)).is_some(), "{said}");
        }
        assert!(refused(Vmm::Firecracker, None).is_some_and(|why| why.contains("1.16.2")));
        assert_eq!(refused(Vmm::Qemu, None), None);
    }

    #[test]
    fn the_reason_is_named() {
        let why = refused(Vmm::Firecracker, Some("v1.16.1")).unwrap();
        assert_eq!(
            why,
            "version v1.16.1 is older than 1.16.2, before which there is CVE-2026-122192: a guest reaches Firecracker's memory"
        );
    }
}
