#!/bin/busybox sh
# The first process of the rig: from the initramfs to the host's files under a layer of the rig's own.
b=/bin/busybox
fail() { echo "rig: $1"; $b poweroff -f; }
$b mount -t devtmpfs devtmpfs /dev || fail "no devtmpfs"
for module in /modules/*.ko; do $b insmod "$module" || fail "insmod $module"; done
options=trans=virtio,version=9p2000.L,msize=524288
# The share is read-only on the other side too.
$b mount -t 9p -o ro,cache=loose,$options host /lower || fail "no root"
$b mount -t tmpfs -o mode=755 upper /upper && $b mkdir /upper/files /upper/work || fail "no upper layer"
$b mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work rig /root || fail "no overlay"
$b mount -t devtmpfs devtmpfs /root/dev || fail "no devtmpfs"
$b mount -t tmpfs -o mode=755 run /root/run || fail "no /run"
$b mkdir /root/run/rig
$b mount -t 9p -o cache=none,access=client,$options share /root/run/rig || fail "no share"
exec $b switch_root /root /bin/sh /run/rig/start
fail "switch_root"
