# title:   The victim's memory is written
# source:  a test of the runner
# expect:  EPERM
# fires:   process
# control: host
from lib import *


def memory():
    with open(f"/proc/{VICTIM}/maps") as maps:
        spans = [line.split()[0].split("-") for line in maps if " rw" in line]
    with open(f"/proc/{VICTIM}/mem", "r+b", 0) as file:
        for start, end in spans:
            file.seek(int(start, 16))
            at = file.read(int(end, 16) - int(start, 16)).find(b"CANARY-")
            if at >= 0:
                file.seek(int(start, 16) + at)
                file.write(b"changed")
                return


attempt("memory", memory)
