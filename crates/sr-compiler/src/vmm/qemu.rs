//! QEMU's command line (qemu(1)). Everything that it opens has a fixed path in the view of the sandbox around it, or comes as
//! a descriptor, so that nothing is left to fill in.

pub use sr_policy::spec::Accel;

/// A virtual machine for QEMU: its disks, no network, one directory shared, one port for the agent in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// The program.
    pub program: String,
    /// MiB.
    pub memory: u64,
    pub cpus: u32,
    /// The directory that the guest has for its root, and by what tag.
    pub root: String,
    pub tag: String,
    /// An ELF image that can be started by PVH.
    pub kernel: String,
    pub initrd: String,
    /// Images that it may read.
    pub disks: Vec<String>,
}

/// The descriptors that the driver gives QEMU: connected sockets for the agent, for QMP, and for the console.
pub const AGENT: i32 = 10;
pub const QMP: i32 = 11;
pub const CONSOLE: i32 = 12;

impl Machine {
    /// The program and its arguments.
    pub fn arguments_by(&self, accel: Accel) -> Vec<String> {
        let (machine, bus, processor) = match accel {
            // The smallest machine there is. KVM has its own ways to interrupt a guest and to tell it the time.
            Accel::Kvm => ("microvm,acpi=on,rtc=on,isa-serial=on,pic=off,pit=off", "device", "host"),
            // Without KVM a kernel finds the speed of its timers by clocks that microvm lacks, and on a busy host it can stand
            // still over that. Of what else this machine has as little as it can do without. Page tables of five levels cost
            // each walk a fifth more.
            Accel::Tcg => (
                "q35,vmport=off,smbus=off,sata=off,usb=off,i8042=off",
                "pci,disable-legacy=on",
                "max,la57=off",
            ),
        };
        let mut all = vec![self.program.clone()];
        let mut add = |words: &[&str]| all.extend(words.iter().map(|word| (*word).to_owned()));
        add(&["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
        add(&["-monitor", "none", "-parallel", "none"]);
        // What QEMU itself may still ask its kernel for: no other programs, no privileges.
        add(&[
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ]);
        add(&["-machine", &format!("{machine},dump-guest-core=off,mem-merge=off")]);
        if accel == Accel::Kvm {
            add(&["-global", "virtio-mmio.force-legacy=false"]);
        }
        // Translated, each processor is a thread, with no more memory for translations than a small guest needs.
        add(&[
            "-accel",
            match accel {
                Accel::Kvm => "kvm",
                Accel::Tcg => "tcg,thread=multi,tb-size=128",
            },
        ]);
        add(&["-cpu", processor, "-smp", &self.cpus.to_string()]);
        add(&["-m", &format!("{}M", self.memory)]);
        add(&["-kernel", &self.kernel, "-initrd", &self.initrd]);
        add(&["-append", &command_line(accel)]);
        add(&["-chardev", &format!("socket,id=console,fd={CONSOLE}")]);
        add(&["-serial", "chardev:console"]);
        add(&["-chardev", &format!("socket,id=qmp,fd={QMP}")]);
        add(&["-mon", "chardev=qmp,mode=control"]);
        add(&["-device", &format!("virtio-serial-{bus},max_ports=2")]);
        add(&["-chardev", &format!("socket,id=agent,fd={AGENT}")]);
        add(&["-device", "virtserialport,chardev=agent,name=agent"]);
        // A view is made of several file systems, whose inode numbers must stay apart.
        let root = value(&self.root);
        add(&[
            "-fsdev",
            &format!("local,id=root,path={root},security_model=none,multidevs=remap"),
        ]);
        let tag = value(&self.tag);
        add(&["-device", &format!("virtio-9p-{bus},fsdev=root,mount_tag={tag}")]);
        for (number, path) in self.disks.iter().enumerate() {
            let file = value(path);
            add(&[
                "-blockdev",
                &format!("driver=file,node-name=disk{number},read-only=on,filename={file}"),
            ]);
            add(&["-device", &format!("virtio-blk-{bus},drive=disk{number}")]);
        }
        all
    }
}

/// What the guest's kernel is told.
fn command_line(accel: Accel) -> String {
    // What its kernel cannot make good ends the machine, at once: with `-no-reboot` it does not begin again.
    let line = "console=ttyS0 loglevel=4 panic=-1 oops=panic cgroup_no_v1=all audit=0";
    match accel {
        Accel::Kvm => line.to_owned(),
        // The one clock that is worth reading is the counter of the host's processor. A kernel that measures how fast that
        // counts is wrong about the time by as much as the host is busy: the driver tells it. What is speculated nobody can
        // look into. Whether its timer's interrupts come is no question either: on a busy host they come late, and a kernel that
        // waits for them panics.
        Accel::Tcg => {
            format!("{line} no_timer_check tsc=reliable clocksource=tsc tsc_early_khz=HOST mitigations=off")
        }
    }
}

/// A comma ends a value; QEMU reads two as one.
fn value(text: &str) -> String {
    text.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            program: "/usr/bin/qemu-system-x86_64".into(),
            memory: 512,
            cpus: 2,
            root: "/guest".into(),
            tag: "root".into(),
            kernel: "/wall/kernel".into(),
            initrd: "/wall/initrd".into(),
            disks: Vec::new(),
        }
    }

    #[test]
    fn the_whole_list() {
        insta::assert_json_snapshot!("qemu_tcg", machine().arguments_by(Accel::Tcg));
        insta::assert_json_snapshot!("qemu_kvm", machine().arguments_by(Accel::Kvm));
        let disk = Machine {
            disks: vec!["/wall/rootfs".into()],
            ..machine()
        };
        for (accel, device) in [
            (Accel::Tcg, "virtio-blk-pci,disable-legacy=on"),
            (Accel::Kvm, "virtio-blk-device"),
        ] {
            let (all, without) = (disk.arguments_by(accel), machine().arguments_by(accel));
            let image = "driver=file,node-name=disk0,read-only=on,filename=/wall/rootfs";
            let device = format!("{device},drive=disk0");
            let own = ["-blockdev", image, "-device", &device];
            assert_eq!(all[..without.len()], without);
            assert_eq!(all[without.len()..], own);
        }
    }

    #[test]
    fn there_is_no_network_and_nothing_by_default() {
        for accel in [Accel::Tcg, Accel::Kvm] {
            let all = machine().arguments_by(accel);
            assert!(all.iter().any(|word| word == "-nodefaults"));
            for word in ["net", "nic", "usb-", "vnc", "drive", "blockdev"] {
                let found = all.iter().any(|other| other.trim_start_matches('-').starts_with(word));
                assert!(!found, "{word}: {all:?}");
            }
        }
    }

    #[test]
    fn a_comma_in_a_path_ends_no_value() {
        let machine = Machine {
            root: "/a,readonly=off".into(),
            ..machine()
        };
        let all = machine.arguments_by(Accel::Tcg);
        assert!(
            all.iter()
                .any(|word| word.contains("path=/a,,readonly=off,security_model"))
        );
    }
}
