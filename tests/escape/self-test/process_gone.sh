# title:   The victim is killed
# source:  a test of the runner
# expect:  EPERM
# fires:   process
# control: host
. "$(dirname "$0")/lib.sh"
attempt "it" sh -c 'kill -KILL $1' sh "$pid"
