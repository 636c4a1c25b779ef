# title:   A process stays after the end
# source:  a test of the runner
# expect:  EPERM
# fires:   host
# control: host
. "$(dirname "$0")/lib.sh"
setsid sleep 300 >/dev/null 2>&1 &
attempt "nothing but that" true
