# title:   A repository that is not called .git runs something when the host's git is used in its directory
# source:  git-config(1) safe.bareRepository; gitrepository-layout(5)
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
# seconds: 30
#
# A directory that holds HEAD, objects and refs is a repository by any name, and its config is obeyed by whoever stands in it:
# a prompt that shows the branch is enough.
from lib import *

with Place() as place:
    marks = place.top + "/marks"
    os.mkdir(marks)
    place.write("docs/kept")

    def repository(at, name):
        config = f'[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = .\\n\\tfsmonitor = "echo changed > {DIR}/target; touch {marks}/{name};:"\\n'
        return f"mkdir -p {at}/objects {at}/refs; echo 'ref: refs/heads/main' >{at}/HEAD; printf '{config}' >{at}/config"

    script = [
        repository("docs", "bare"),
        repository("vendor/library.git", "suffix"),
        # By a file in place of the directory, and by a link.
        repository("data/store", "file") + "; mkdir sub; echo 'gitdir: ../data/store' >sub/.git",
        repository("more/store", "link") + "; mkdir linked; ln -s ../more/store linked/.git",
    ]
    place.captured("sh", "-c", "\n".join(script))
    place.applied()
    env = os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    for at, name in [("docs", "bare"), ("vendor/library.git", "suffix"), ("sub", "file"), ("linked", "link")]:
        where = f"{place.project}/{at}"
        if os.path.isdir(where):
            subprocess.run(["git", "status"], cwd=where, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        attempt(f"a repository by a {name}", lambda: forbidden(errno.EACCES, os.path.exists(f"{marks}/{name}")))
