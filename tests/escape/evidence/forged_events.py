"""
title:   Lines that look like events are written to standard output and error, to enter the record
source:  CWE-117 (improper output neutralisation for logs); events.jsonl's own form
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process

On the bare host a recorder keeps a program's output and its own events in one file, as shell scripts do.
"""
from lib import *

FORGED = '{"data":{"cause":"exit","exitCode":0,"limitsHit":[],"status":0},"hash":"sha256:' + "0" * 64 + '","monotonic":9,"prev":"sha256:' + "0" * 64 + '","seq":4,"source":"supervisor","time":"2026-01-01T00:00:00Z","type":"escape.forged"}'
CODE = r"""
import os, sys
line = sys.argv[1].encode()
for fd in (1, 2):
    for form in (line + b"\n", b"\n" + line + b"\n", b"\r" + line + b"\r\n", b"\0" + line + b"\n", b"\x1b[2K\x1b[1A" + line + b"\n", line * 50 + b"\n", b"\x1e" + line + b"\n"):
        os.write(fd, form)
os.execvp("sh", ["sh", "-c", "printf '%s' \"$1\"; exit 1", line.decode(), line.decode()])
"""


def enters():
    with Place() as place:
        command = ["python3", "-c", CODE.replace("sys.argv[1]", "bytes.fromhex(sys.argv[1]).decode()"), FORGED.encode().hex()]
        if INSIDE:
            place.captured(*command)
            events = place.recorded("events.jsonl")
            sound = place.verified() and place.recorded("run_report.json")["result"]["status"] == 1
        else:
            with open(place.top + "/events.jsonl", "w+") as log:
                status = subprocess.run(command, stdout=log, stderr=log).returncode
                log.write(f'{{"type": "run.end", "status": {status}}}\n')
                log.seek(0)
                events = [json.loads(line) for line in log if line.startswith("{") and line.endswith("}\n") and line.count('"type"') == 1]
            sound = True
        return forbidden(errno.EBADMSG, any(e["type"] == "escape.forged" for e in events) or not sound)


attempt("a forged event in the record", enters)
