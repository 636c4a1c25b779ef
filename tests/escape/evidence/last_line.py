"""
title:   The line that says how the run ended is forged, or spoilt, for whoever reads the tool's standard error
source:  CWE-117; CI that parses the last line of a tool; ECMA-48 (concealed text, cursor movements)
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process
seconds: 20

With --json the last line is an object of its own whatever the program printed last. On the bare host a wrapper prints after its
program, as scripts do.
"""
from lib import *

LINE = json.dumps({"cause": "exit", "exitCode": 0, "id": "01m0000000000000000000000a", "status": 0, "limitsHit": [], "signal": None})
ENDS = {
    "a line of its own": LINE + "\n",
    "no end of line": "text without an end",
    "an open string": '{"status": 0, "x": "',
    "a carriage return": LINE + "\r",
    "a NUL": LINE + "\0",
    "many": (LINE + "\n") * 1000,
    "half a character": "\ud8ff",
}


def spoilt(text):
    code = f"import os, sys; os.write(2, {text.encode('utf-8', 'surrogatepass')!r}); os._exit(7)"
    with Place() as place:
        if INSIDE:
            done = subprocess.run([os.environ["SAFE_RUN"], "run", "--json", "--", "python3", "-c", code], cwd=place.project, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        else:
            done = subprocess.run(["sh", "-c", f'"$@"; echo "{{\\"status\\": $?}}" >&2', "wrap", os.environ["INSIDE"], "python3", "-c", code], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        last = done.stderr.rstrip(b"\n").split(b"\n")[-1]
        try:
            return forbidden(errno.EBADMSG, json.loads(last)["status"] != 7)
        except (ValueError, KeyError, TypeError):
            print("the last line is", last[:200])
            return True


for name, text in ENDS.items():
    attempt(name, lambda: spoilt(text))
