# title:   A run that cannot read a hidden file makes one of that name, and the host's is printed beside it
# source:  diff(1); the hide list of a policy
# expect:  EACCES
# fires:   read
# control: host
# runs:    outside
# only:    process
#
# What `safe-run diff` prints often goes to a log, or back to the agent that made the change. DIR/secret's word is in .env.
from lib import *

with Place() as place:
    word = open(DIR + "/secret").read()
    for name in ["conf/.env", "conf2/.env", "conf3/.env", ".netrc"]:
        place.write(name, word)
    place.captured("sh", "-c", "echo mine >conf/.env; ln -s x conf2/.env; rm -r conf3; echo x >.netrc; echo x >new")
    if INSIDE:
        for words in [("diff",), ("diff", "--json"), ("diff", "--names"), ("apply", "--dry-run"), ("apply", "--yes"), ("show",)]:
            told = place.safe_run(*words).stdout
            attempt(" ".join(words), lambda: forbidden(errno.EACCES, b"CANARY-" in told and told))
    else:
        place.write("mine", "mine\n")
        place.write("theirs", word)
        told = subprocess.run(["diff", "theirs", "mine"], cwd=place.project, stdout=subprocess.PIPE).stdout
        attempt("diff", lambda: forbidden(errno.EACCES, b"CANARY-" in told and told))
