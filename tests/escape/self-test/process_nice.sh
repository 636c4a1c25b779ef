# title:   The victim gets another priority
# source:  a test of the runner
# expect:  EPERM
# fires:   process
# control: host
. "$(dirname "$0")/lib.sh"
attempt "it" sh -c 'renice -n 19 -p $1' sh "$pid"
