"""
title:   Names of files break the list of changes: lines, quotes, terminal commands, other directions of writing
source:  CVE-2021-42574 (bidirectional text), CWE-150 (escape sequences); POSIX: a file's name is any bytes but / and NUL
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process

What is shown of a run's changes holds no control character and no line that a name made. On the bare host `find` lists them.
"""
from lib import *

NAMES = [b"a\nadded file innocent (mode 0644)", b"b\x1b[2K\x1b[1Ahidden", b"c\rdeleted file kept", b"d\"},{\"path\":\"forged\"", b"e\xe2\x80\xaetxt.sh", b"f\xff\xfe", b"g\x07\x08\x08",
         b"h\x9b31m", b"i\xc2\x9b2J", b"j\xe2\x80\xa8line", b"k\\n\\x1b", b" l ", b"-m", b"n" * 250, b"o\xc2\x85next", b"p\x1b]0;title\x07", b"q\tr", b"s\xe2\x81\xa6t", b"u\x7f"]
CODE = "import os\nfor n in %r:\n os.close(os.open(n, os.O_CREAT | os.O_WRONLY))\n os.mkdir(b'dir-' + n[:200])\n os.symlink(n, b'link-' + n[:200])\n" % NAMES
BAD = [b"\x1b", b"\r", b"\x07", b"\x08", b"\x9b31", b"\xc2\x9b", b"\xe2\x80\xae", b"\xe2\x80\xa8", b"\xe2\x81\xa6", b"\xc2\x85", b"\x7f", b"\nadded file innocent"]


def bad(text, how):
    found = [b for b in BAD if b in text]
    if found:
        print(how, "holds", found)
    return bool(found)


with Place() as place:
    if INSIDE:
        place.captured("python3", "-c", CODE)
        texts = {verb: place.safe_run(verb).stdout for verb in ("diff", "show")}
        texts["apply"] = place.safe_run("apply", "--yes", "-n").stdout + place.safe_run("apply").stdout
        texts["runs"] = safe_run("runs", cwd=place.project).stdout
        for verb, text in texts.items():
            attempt(f"what {verb} says", lambda: forbidden(errno.EBADMSG, bad(text, verb)))
        changes = place.recorded("changes.json")
        text = json.dumps(changes)
        attempt("forged entries", lambda: forbidden(errno.EBADMSG, '"path": "forged"' in text or place.told["changes"]["added"] != 3 * len(NAMES)))
        attempt("evidence spoilt", lambda: forbidden(errno.EBADMSG, not place.verified()))
    else:
        contained("python3", "-c", CODE, cwd=place.project)
        text = subprocess.run(["find", ".", "-printf", "added file %P\n"], cwd=place.project, stdout=subprocess.PIPE).stdout
        attempt("what the list says", lambda: forbidden(errno.EBADMSG, bad(text, "find")))
