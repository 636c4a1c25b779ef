"""
title:   It ends so that it looks as if something else had ended it, or had ended well
source:  wait(2); shell conventions 124, 125, 137; clone(2) CLONE_PARENT (a sibling's status)
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process
seconds: 20

The report tells an exit with 137 from a kill, and a kill by itself from a limit's. On the bare host the reader has the status alone,
as `timeout` and container tools give it.
"""
from lib import *

SIBLING = "import ctypes, os, time\nl = ctypes.CDLL(None)\nif l.syscall(56, 0x8000, 0, 0, 0, 0) == 0: os._exit(0)\ntime.sleep(0.3)\nos._exit(9)"
GRANDCHILD = "import os, time\nif os.fork() == 0:\n if os.fork() == 0: time.sleep(0.1); os._exit(0)\n os._exit(0)\ntime.sleep(0.3)\nos._exit(9)"
THREAD = "import ctypes, os, threading, time\nthreading.Thread(target=lambda: (time.sleep(0.3), os._exit(9))).start()\nctypes.CDLL(None).syscall(60, 0)"
WAYS = {
    "exit 124": ("import os; os._exit(124)", {"cause": "exit", "exitCode": 124}, "timeout"),
    "exit 125": ("import os; os._exit(125)", {"cause": "exit", "exitCode": 125}, "refused"),
    "exit 137": ("import os; os._exit(137)", {"cause": "exit", "exitCode": 137}, "limit"),
    "exit 143": ("import os; os._exit(143)", {"cause": "exit", "exitCode": 143}, "signal"),
    "exit 0x10000": ("import os; os._exit(0x10000)", {"cause": "exit", "exitCode": 0}, None),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", {"cause": "signal", "signal": 9}, "limit"),
    "processor time": ("import os; os.kill(os.getpid(), 24)", {"cause": "signal", "signal": 24}, None),
    "file size": ("import os, signal; signal.signal(25, signal.SIG_DFL); os.kill(os.getpid(), 25)", {"cause": "signal", "signal": 25}, None),
    "system call": ("import os; os.kill(os.getpid(), 31)", {"cause": "signal", "signal": 31}, None),
    "a sibling ends well": (SIBLING, {"cause": "exit", "exitCode": 9}, None),
    "a grandchild ends well": (GRANDCHILD, {"cause": "exit", "exitCode": 9}, None),
    "the first thread ends well": (THREAD, {"cause": "exit", "exitCode": 9}, None),
}
READS = {124: "timeout", 125: "refused", 137: "limit", 143: "signal", -9: "limit"}


def lies(code, truth, read_as):
    with Place() as place:
        if INSIDE:
            place.captured("python3", "-c", code)
            result = place.recorded("run_report.json")["result"]
            end = [e for e in place.recorded("events.jsonl") if e["type"] == "run.end"]
            print(result)
            true = all(result[k] == v for k, v in truth.items()) and result["limitsHit"] == [] and len(end) == 1 and place.verified()
            return forbidden(errno.EBADMSG, not true)
        status = contained("python3", "-c", code).returncode
        return forbidden(errno.EBADMSG, read_as and READS.get(status) == read_as)


for name, (code, truth, read_as) in WAYS.items():
    attempt(name, lambda: lies(code, truth, read_as))
