# title:   The victim is stopped and goes on
# source:  a test of the runner
# expect:  EPERM
# fires:   process
# control: host
. "$(dirname "$0")/lib.sh"
attempt "it" sh -c 'kill -STOP $1; kill -CONT $1' sh "$pid"
