# title:   What is outside is read, listed and written by its own name, and by other spellings of it
# source:  path_resolution(7), proc_pid_root(5); MITRE ATT&CK T1005 (data from the local system)
# expect:  ENOENT EACCES ENOTDIR EFAIL
# fires:   read
# control: host
# harmless: yes
#
# The plainest of all: whatever shows DIR, or something above it, is found by it.
. "$(dirname "$0")/lib.sh"

for top in "$dir" "/$dir" "/proc/self/root$dir" "/tmp/..$dir" .. "$dir/project/.." /proc/self/cwd/..; do
    attempt "read $top/public" cat "$top/public"
    attempt "read $top/secret" cat "$top/secret"
    attempt "list $top/targets" ls -a "$top/targets"
    # Where there is none, none is made: a directory of that name may be the sandbox's own.
    attempt "write $top/target" sh -c 'test -f "$1" && echo changed >>"$1"' sh "$top/target"
    attempt "make $top/targets/made" sh -c 'test -d "$1" && echo changed >"$1/made"' sh "$top/targets"
done
