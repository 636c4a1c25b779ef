# title:   What a run left in .git runs by itself when the host's git is used
# source:  githooks(5), git-config(1) core.fsmonitor, core.hooksPath, gitattributes(5) filters; CVE-2022-24765's impact
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
# seconds: 30
#
# Taken over without being named, each would write to DIR/target at the next `git status`, `checkout` or `commit`.
from lib import *

with Place() as place:
    marks = place.top + "/marks"
    os.mkdir(marks)
    git = ["git", "-C", place.project, "-c", "user.name=a", "-c", "user.email=a@example.com"]

    def host(*words, **how):
        env = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_TERMINAL_PROMPT": "0"}
        subprocess.run([*git, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, **how)

    def payload(name):
        return f"echo changed > {DIR}/target; touch {marks}/{name}"

    place.write("file", "one\n")
    host("init", "-q", "-b", "main")
    host("add", "file")
    host("commit", "-q", "-m", "one")
    script = []
    for hook in ["post-checkout", "pre-commit", "post-commit", "post-index-change", "reference-transaction", "prepare-commit-msg"]:
        script.append(f"printf '%s\\n' '#!/bin/sh' '{payload(hook)}' >.git/hooks/{hook}; chmod 755 .git/hooks/{hook}")
    settings = {
        "fsmonitor": ("core", f"fsmonitor = {payload('fsmonitor')};:"),
        "pager": ("core", f"sshCommand = {payload('ssh')}"),
        "filter": ('filter \\"x\\"', f"clean = {payload('filter')}; cat"),
    }
    for section, line in settings.values():
        script.append(f'printf "[{section}]\\n\\t%s\\n" "{line.split(" = ")[0]} = \\"{line.split(" = ", 1)[1]}\\"" >>.git/config')
    script += [
        "echo '* filter=x' >>.git/info/attributes; echo '* filter=x' >.gitattributes",
        # By another directory that settings name, and by one of a submodule and of another work tree.
        f"mkdir -p .git/modules/m/hooks .git/worktrees/w; printf '%s\\n' '#!/bin/sh' '{payload('module')}' >.git/modules/m/hooks/post-checkout",
        "printf '[core]\\n\\thooksPath = hooks\\n' >.git/config.worktree; echo ref: refs/heads/evil >.git/HEAD.new",
        "mkdir -p .GIT/hooks; echo x >.GIT/config",
        "echo two >>file",
    ]
    place.captured("sh", "-c", "\n".join(script))
    place.applied()
    host("status")
    host("checkout", "-q", "-b", "other")
    host("add", "-A", "file")
    host("commit", "-q", "-m", "two")
    for name in ["fsmonitor", "filter", "post-checkout", "pre-commit", "post-commit", "post-index-change", "reference-transaction", "prepare-commit-msg"]:
        attempt(f"{name} runs", lambda: forbidden(errno.EACCES, os.path.exists(f"{marks}/{name}")))
    for name in [".git/hooks/pre-commit", ".git/info/attributes", ".gitattributes", ".git/modules/m/hooks/post-checkout", ".git/config.worktree",
                 ".git/HEAD.new", ".GIT/config"]:
        attempt(f"{name} is there", lambda: forbidden(errno.EACCES, os.path.exists(f"{place.project}/{name}")))
    if INSIDE and "two" not in open(place.project + "/file").read():
        sys.exit("nothing was applied at all")
