# title:   The terminal is a terminal
# source:  a test of the runner
# expect:  ENOTTY
# fires:   call
# control: host
# stdin:   terminal
from lib import *

attempt("its size", lambda: os.get_terminal_size(0) and None)
