# title:   Everything that can be changed is changed
# source:  a test of the runner
# expect:  EPERM
# fires:   change
# control: host
from lib import *

attempt("written", lambda: write(f"{DIR}/target"))
attempt("made", lambda: write(f"{DIR}/targets/made", flags=os.O_CREAT))
attempt("mode", lambda: os.chmod(f"{DIR}/public", 0o600))
attempt("linked", lambda: os.link(f"{DIR}/secret", f"{DIR}/targets/link"))
attempt("hook", lambda: write(f"{DIR}/project/.git/hooks/post-checkout", flags=os.O_CREAT))
attempt("in the project", lambda: write(f"{DIR}/project/new", flags=os.O_CREAT))
