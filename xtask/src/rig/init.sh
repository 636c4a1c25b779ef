#!/bin/busybox sh
# The first process of the rig: from the initramfs to the host's files under a layer of the rig's own, with all mounted
# that a booted system has. By busybox, in memory: a program of the host's takes a fifth of a second to start here.
b=/bin/busybox
fail() { echo "rig: $1"; $b poweroff -f; }
put() { $b mount -t "$1" -o "$2" "$3" "/root$4" || fail "no $4"; }
$b mount -t devtmpfs devtmpfs /dev || fail "no devtmpfs"
for module in /modules/*.ko; do $b insmod "$module" || fail "insmod $module"; done
nine=trans=virtio,version=9p2000.L,msize=500000
# The share is read-only on the other side too.
$b mount -t 9p -o ro,cache=loose,$nine host /lower || fail "no root"
$b mount -t tmpfs -o mode=755 upper /upper && $b mkdir /upper/files /upper/work || fail "no upper layer"
put overlay lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work rig /
put proc rw proc /proc
put sysfs rw sysfs /sys
put devtmpfs rw devtmpfs /dev
$b mkdir -p /root/dev/pts /root/dev/shm
put devpts mode=620,ptmxmode=666 devpts /dev/pts
put tmpfs mode=1777 shm /dev/shm
for link in fd: stdin:/0 stdout:/1 stderr:/2; do $b ln -sfn "/proc/self/fd${link#*:}" "/root/dev/${link%:*}"; done
put tmpfs mode=755 run /run
put securityfs rw securityfs /sys/kernel/security
# Shown where the kernel was started with it.
! $b grep -qw selinuxfs /root/proc/filesystems || put selinuxfs rw selinuxfs /sys/fs/selinux
put tracefs rw tracefs /sys/kernel/tracing
put bpf rw bpf /sys/fs/bpf
put cgroup2 rw cgroup2 /sys/fs/cgroup
echo +memory +cpu +pids +io > /root/sys/fs/cgroup/cgroup.subtree_control || fail "controllers are missing"
# Neither 9p nor this kernel's tmpfs can be mounted idmapped: files of tests lie on a disk.
put ext4 noatime /dev/vda /tmp
$b mkdir /root/tmp/var && $b chmod 1777 /root/tmp /root/tmp/var || fail "no /tmp"
$b mount -o bind /root/tmp/var /root/var/tmp || fail "no /var/tmp"
$b ip link set lo up || fail "no loopback"
$b hostname rig

$b mkdir /root/run/rig
put 9p cache=none,access=client,$nine share /run/rig
. /root/run/rig/settings
$b mkdir -p /root/lib/modules
put tmpfs mode=755 modules /lib/modules
$b ln -s "$modules" /root/lib/modules/ || fail "no modules"
# The kernel asks for modules by the name of one program, and no other word.
printf '#!/bin/sh\nexec "%s" modprobe "$@"\n' "$busybox" > /root/run/modprobe && $b chmod 755 /root/run/modprobe
echo /run/modprobe > /root/proc/sys/kernel/modprobe
$b ln -sfn "$busybox" "$parser" /root/usr/local/bin/ || fail "no programs"
$b mkdir -p /root/etc/apparmor.d && $b rm -rf /root/etc/apparmor.d/abi && $b ln -s "$abi" /root/etc/apparmor.d/abi || fail "no abi"
# From here on the console is for what is wrong.
echo 4 > /root/proc/sys/kernel/printk
exec $b switch_root /root /bin/sh /run/rig/start
fail "switch_root"
