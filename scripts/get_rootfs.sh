#!/bin/sh
# The files of a small root file system, of a pinned release of Ubuntu Base, into artifacts/rootfs/ below the current directory.

here=$(cd -- "$(dirname -- "$0")" && pwd)
about='The archive of a pinned release of Ubuntu Base into artifacts/rootfs/ below the current directory.
safe-run artifact import makes an image of it; safe-run artifact build rootfs makes one of Debian.'
. "$here/fetch.sh"

case $(uname -m) in
x86_64) machine=amd64 ;;
aarch64) machine=arm64 ;;
*) die "there is no pinned release for $(uname -m)" ;;
esac
table=$here/rootfs.sha256
[ -n "$version" ] || version=$(sed -n "s/.*  ubuntu-base-\(.*\)-base-$machine\.tar\.gz/\1/p;" "$table" | head -n 1)
archive=ubuntu-base-$version-base-$machine.tar.gz
pinned "$archive" "$table"

to=$PWD/artifacts/rootfs
mkdir -p -- "$to"
making=$(mktemp -d -- "$PWD/artifacts/fetch.XXXXXX")
trap 'rm -rf -- "$making"' EXIT
trap 'exit 1' HUP INT TERM

series=${version%.*}
case $series in
*.*) ;;
*) series=$version ;;
esac
bring "$archive" "https://cdimage.ubuntu.com/ubuntu-base/releases/$series/release" "$making/archive"
mv -f -- "$making/archive" "$to/$archive"
echo "artifacts/rootfs/$archive"
echo "safe-run artifact import artifacts/rootfs/$archive --name ubuntu"
