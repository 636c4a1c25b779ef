"""
title:   What lies in the project changes what the tool itself does: libraries, settings, commands, git's configuration
source:  CVE-2022-24765, CVE-2022-39253 (git in others' directories); ld.so(8) LD_PRELOAD; CWE-426, CWE-427 (search paths)
expect:  EBADMSG
fires:   call
control: host
runs:    outside
only:    process

Each thing planted would leave a mark on the host. The project is looked at with run, diff, show and apply, from inside it. On the
bare host it is looked at with git and python, as tools do.
"""
from lib import *

with Place() as place:
    mark = place.top + "/mark"
    hook = place.write("hook.sh", f"#!/bin/sh\necho ran >> {mark}\n", 0o755)
    subprocess.run(["git", "init", "-q", "."], cwd=place.project)
    place.write(".git/config", f'[core]\n\trepositoryformatversion = 0\n\tfsmonitor = {hook}\n\thooksPath = {place.project}\n\tpager = {hook}\n\tsshCommand = {hook}\n[diff]\n\texternal = {hook}\n'
                f'[filter "x"]\n\tclean = {hook}\n\tsmudge = {hook}\n[alias]\n\tstatus = !{hook}\n[include]\n\tpath = {place.project}/more\n')
    place.write(".gitattributes", "* filter=x diff=x\n")
    for name in ("git", "sh", "python3", "cat", "safe-run", "newuidmap", "newgidmap", "less", "diff"):
        place.write(name, f"#!/bin/sh\necho {name} >> {mark}\n", 0o755)
    for name in ("os.py", "json.py", "sitecustomize.py", "usercustomize.py"):
        place.write(name, f"open({mark!r}, 'a').write({name!r})\n")
    place.write(".env", f"LD_PRELOAD={place.project}/evil.so\nSAFE_RUN_WORKDIR_BASE={place.project}\nPATH={place.project}\n")
    place.write("ld.so.preload", f"{place.project}/evil.so\n")
    for name in ("safe-run.yaml", "policy.yaml", ".safe-run.yaml", "host.yaml", ".config/safe-run/host.yaml", "standard", "standard.yaml"):
        place.write(name, "apiVersion: safe-run/v1\nkind: Host\nextends: build\nmounts: [{source: /, target: /host, readOnly: false}]\n")
    env = os.environ | {"PATH": f".:{place.project}:" + os.environ["PATH"], "GIT_PAGER": ""}
    if INSIDE:
        # The program itself may well run what is planted, inside: it is named by its path.
        out = place.captured("/bin/sh", "-c", "/bin/echo x > made; /bin/ls /host 2>/dev/null; exit 0", env=env)
        for words in (("diff",), ("show",), ("apply", "made"), ("report", "verify"), ("doctor",)):
            safe_run(*words, cwd=place.project, env=env)
        attempt("something planted ran", lambda: forbidden(errno.EBADMSG, os.path.exists(mark) and open(mark).read()))
        attempt("a planted policy held", lambda: forbidden(errno.EBADMSG, b"etc" in out))
        attempt("a planted store was used", lambda: forbidden(errno.EBADMSG, os.path.exists(place.project + "/runs")))
        attempt("evidence spoilt", lambda: forbidden(errno.EBADMSG, not place.verified()))
    else:
        for command in (["git", "-c", "safe.directory=*", "status"], ["python3", "-m", "json.tool", "--help"]):
            subprocess.run(command, cwd=place.project, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
        attempt("something planted ran", lambda: forbidden(errno.EBADMSG, os.path.exists(mark) and open(mark).read()))
