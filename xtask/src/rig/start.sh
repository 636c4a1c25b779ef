# Still the first process, now on the host's files: what a booted system has, then the command.
fail() { echo "rig: $1" > /dev/console; exit 1; }
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
umask 022
mount -t proc proc /proc || fail "no /proc"
mount -t sysfs sysfs /sys || fail "no /sys"
mkdir -p /dev/pts /dev/shm
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts || fail "no /dev/pts"
mount -t tmpfs -o mode=1777 shm /dev/shm || fail "no /dev/shm"
ln -sfn /proc/self/fd /dev/fd; ln -sfn fd/0 /dev/stdin; ln -sfn fd/1 /dev/stdout; ln -sfn fd/2 /dev/stderr
mount -t securityfs securityfs /sys/kernel/security || fail "no securityfs"
mount -t tracefs tracefs /sys/kernel/tracing || fail "no tracefs"
mount -t bpf bpf /sys/fs/bpf || fail "no bpffs"
mount -t cgroup2 cgroup2 /sys/fs/cgroup || fail "no cgroup v2"
echo +memory +cpu +pids +io > /sys/fs/cgroup/cgroup.subtree_control || fail "controllers are missing"
# The overlay over 9p can take no idmapped mounts: files of tests lie on a disk.
mount -t ext4 -o noatime /dev/vda /tmp && chmod 1777 /tmp || fail "no /tmp"
mkdir -p /tmp/var && chmod 1777 /tmp/var && mount --bind /tmp/var /var/tmp || fail "no /var/tmp"
ip link set lo up 2>/dev/null || busybox ip link set lo up || fail "no loopback"

. /run/rig/settings
mkdir -p /lib/modules && mount -t tmpfs modules /lib/modules && ln -s "$modules" /lib/modules/ || fail "no modules"
# The kernel asks for modules by this program's name and no other word.
printf '#!/bin/sh\nexec "%s" modprobe "$@"\n' "$busybox" > /run/modprobe && chmod 755 /run/modprobe
echo /run/modprobe > /proc/sys/kernel/modprobe
PATH=$PATH:$programs

: > /run/rig/ready
sh /run/rig/command < /dev/null > /run/rig/out 2> /run/rig/err
echo $? > /run/rig/ended && mv /run/rig/ended /run/rig/status
# The end comes from outside.
sleep 60
