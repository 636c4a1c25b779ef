#!/bin/sh
# Firecracker and its jailer, of a pinned release, into artifacts/bin/ below the current directory.

here=$(cd -- "$(dirname -- "$0")" && pwd)
about='Firecracker and its jailer, of a pinned release, into artifacts/bin/ below the current directory.'
. "$here/fetch.sh"

machine=$(uname -m)
table=$here/firecracker.sha256
[ -n "$version" ] || version=$(sed -n "s/.*  firecracker-v\(.*\)-$machine\.tgz/\1/p;" "$table" | head -n 1)
release=v$version-$machine
archive=firecracker-$release.tgz
pinned "$archive" "$table"

to=$PWD/artifacts/bin
mkdir -p -- "$to"
# In the same file system, so that a program comes whole.
making=$(mktemp -d -- "$PWD/artifacts/fetch.XXXXXX")
trap 'rm -rf -- "$making"' EXIT
trap 'exit 1' HUP INT TERM

bring "$archive" "https://github.com/firecracker-microvm/firecracker/releases/download/v$version" "$making/archive"
# These two and no others: the archive has debug builds' symbols besides.
for program in jailer firecracker; do
    member=release-$release/$program-$release
    tar -xzf "$making/archive" -O -- "$member" >"$making/$program" || die "$archive has no $member: it is no release build"
    [ -s "$making/$program" ] || die "$member of $archive is empty"
    chmod 755 -- "$making/$program"
done
for program in jailer firecracker; do
    mv -f -- "$making/$program" "$to/$program"
    echo "artifacts/bin/$program  $release"
done
