# title:   Names that a run left write to the terminal, or forge the list, of whoever looks at its changes
# source:  CVE-2023-28101 (Flatpak), CVE-2022-45063 (xterm)
# expect:  EACCES
# fires:   call
# control: host
# runs:    outside
# only:    process
from lib import *

MAKE = r"""
import os
names = [b"\x1b]0;title\x07", b"\x1b[2J\x1b[1;1H", b"a\nD  kept", b"a\r\x1b[Kclean", b"\xff\xfe\x80", b"\xc2\x9b31m", "\u202egnp.exe".encode(),
         b"\x08\x08\x08x", b"a\tb", b" ", b"-rf", b"--yes", b"x" * 255, b"\x7f", b"\x9b2J", "\u2028line".encode(), b"\x00"[:0] + b"%s%n", b"$(id)",
         b"`id`", b"\\", b"'", b'"', b"..a", b"a\x1bPq", "\u200b".encode()]
for n in names:
    open(n, "wb").write(b"content \x1b[31m of it\n")
os.makedirs(b"dir\x1b[2J/\x1b]52;c;aWQ=\x07")
open(b"dir\x1b[2J/\x1b]52;c;aWQ=\x07/f", "w").close()
os.symlink(b"\x1b]0;target\x07", b"link")
os.rename("kept", b"gone\x1b[2J")
"""


def raw(text):
    """What a terminal would obey, and a line that no change wrote."""
    low = [b for b in text if b < 32 and b not in (9, 10) or b == 127]
    high = [b for b in ("\u009b", "\u202e", "\u2028", "\u200b") if b.encode() in text]
    forged = [line for line in text.splitlines() if line == b"D  kept"]
    return low + high + forged


with Place() as place:
    place.write("kept")
    place.captured("/usr/bin/python3", "-c", MAKE)
    if INSIDE:
        for words in [("diff", "--names"), ("diff", "--json"), ("apply", "--dry-run"), ("apply", "--yes"), ("show",), ("discard",)]:
            told = place.safe_run(*words).stdout
            attempt(" ".join(words), lambda: forbidden(errno.EACCES, raw(told)))
        told = safe_run("runs", cwd=place.project).stdout
        attempt("runs", lambda: forbidden(errno.EACCES, raw(told)))
    else:
        told = subprocess.run(["find", place.project], stdout=subprocess.PIPE).stdout
        attempt("a list of files", lambda: forbidden(errno.EACCES, raw(told)))
