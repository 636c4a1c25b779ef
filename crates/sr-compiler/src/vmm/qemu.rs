//! QEMU's command line (qemu(1)).

/// A virtual machine for QEMU: no disk, no network, one directory shared, one port for the agent in the guest.
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
    pub kernel: String,
    pub initrd: String,
}

/// The descriptors that the driver gives QEMU: the agent's socket, QMP's, and the console's log.
pub const AGENT: i32 = 10;
pub const QMP: i32 = 11;
pub const CONSOLE: i32 = 12;

impl Machine {
    pub fn arguments(&self) -> Vec<String> {
        let Machine {
            program,
            memory,
            cpus,
            root,
            tag,
            kernel,
            initrd,
        } = self;
        // Nothing that is not asked for, and no new start after a panic.
        let words =
            "-M pc -accel tcg -cpu max,la57=off -nodefaults -no-user-config -no-reboot -display none -parallel none";
        let line = "console=ttyS0 loglevel=4 panic=-1 tsc=reliable clocksource=tsc cgroup_no_v1=all";
        let pairs = [
            ("-smp", cpus.to_string()),
            ("-m", format!("{memory}M")),
            ("-kernel", kernel.clone()),
            ("-initrd", initrd.clone()),
            ("-append", line.to_owned()),
            (
                "-fsdev",
                format!("local,id=root,path={root},security_model=none,multidevs=remap"),
            ),
            ("-device", format!("virtio-9p-pci,fsdev=root,mount_tag={tag}")),
            ("-device", "virtio-serial-pci".to_owned()),
            ("-chardev", format!("socket,id=agent,fd={AGENT}")),
            ("-device", "virtserialport,chardev=agent,name=agent".to_owned()),
            ("-chardev", format!("socket,id=qmp,fd={QMP}")),
            ("-mon", "chardev=qmp,mode=control".to_owned()),
            ("-add-fd", format!("fd={CONSOLE},set=1")),
            ("-serial", "file:/dev/fdset/1".to_owned()),
        ];
        std::iter::once(program.clone())
            .chain(words.split(' ').map(str::to_owned))
            .chain(pairs.into_iter().flat_map(|(option, value)| [option.to_owned(), value]))
            .collect()
    }
}
