# Read by the get_*.sh beside it: one pinned file, from its official place or from a mirror. What does not have its digest is
# not kept.

set -eu
umask 022

die() {
    echo "${0##*/}: $1" >&2
    exit 1
}

# The words of the command line: [VERSION] [--from DIR|URL].
version=
from=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help)
        echo "usage: ${0##*/} [VERSION] [--from DIR|URL]"
        echo "$about"
        echo "A mirror holds the archive under its own name. SAFE_RUN_PROXY_URL names a proxy;"
        echo "SAFE_RUN_USE_LOCAL_PROXY=1 takes http://127.0.0.1:7890 where it does not."
        exit 0
        ;;
    --from)
        [ $# -gt 1 ] || die "--from: a directory or a URL follows"
        from=$2
        shift
        ;;
    -*) die "$1 is not known: [VERSION] [--from DIR|URL]" ;;
    *)
        [ -z "$version" ] || die "one version, not $version and $1"
        version=${1#v}
        ;;
    esac
    shift
done
case $version in
*[!0-9.]*) die "$version is no version of a release" ;;
esac

# The pinned digest of file $1 in table $2, in `digest`.
pinned() {
    digest=$(awk -v file="$1" '$2 == file { print $1 }' "$2")
    if [ -z "$digest" ]; then
        echo "${0##*/}: $1 is not pinned; these are:" >&2
        awk '{ print "  " $2 }' "$2" >&2
        exit 1
    fi
}

# Brings file $1 of that digest from $from, or else from the official place $2, to $3.
bring() {
    case $from in
    '') download '=https' "$2/$1" "$3" ;;
    http://* | https://*) download '=http,https' "${from%/}/$1" "$3" ;;
    *) cp -- "${from%/}/$1" "$3" || die "$from has no $1" ;;
    esac
    found=$(sha256sum <"$3")
    found=${found%% *}
    [ "$found" = "$digest" ] || die "$1 is not the pinned one: its digest is $found, not $digest"
}

download() {
    command -v curl >/dev/null || die "curl is missing: apt-get install curl"
    proxy=${SAFE_RUN_PROXY_URL:-}
    case ${SAFE_RUN_USE_LOCAL_PROXY:-} in
    1 | true | yes | on) proxy=${proxy:-http://127.0.0.1:7890} ;;
    0 | false | no | off) proxy= ;;
    esac
    # With a proxy that was named here, no other variable says what goes past it.
    curl -q --fail --location --silent --show-error --proto "$1" --proto-redir "$1" --connect-timeout 30 \
        --max-filesize 1073741824 ${proxy:+--proxy "$proxy" --noproxy ''} --output "$3" -- "$2" ||
        die "$2 cannot be downloaded: name a mirror with --from DIR or --from URL, or a proxy with SAFE_RUN_PROXY_URL"
}
