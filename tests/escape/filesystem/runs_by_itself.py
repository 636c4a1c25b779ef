# title:   What a run left runs by itself on the host: builds, tests, editors, services
# source:  make(1), direnv(1), npm-install(1), conftest.py of pytest, tasks.json of Visual Studio Code, the build scripts of cargo
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
#
# Taken over without being named, each would be obeyed by a tool that nobody asked to. On the bare host make obeys its file.
from lib import *

NAMES = ["Makefile", "GNUmakefile", "sub/makefile", "package.json", "web/package.json", "build.rs", ".cargo/config.toml", "crates/a/.cargo/config",
         "conftest.py", "tests/conftest.py", "setup.py", ".envrc", "deep/er/.envrc", ".vscode/tasks.json", ".vscode/settings.json", ".idea/workspace.xml",
         ".github/workflows/ci.yml", ".gitlab-ci.yml", ".circleci/config.yml", ".husky/pre-commit", ".pre-commit-config.yaml", "lefthook.yml",
         ".gitattributes", ".gitmodules", ".devcontainer/devcontainer.json", ".claude/settings.json", ".mcp.json", ".cursor/mcp.json", ".npmrc",
         ".pnpmfile.cjs", ".yarnrc.yml", "sitecustomize.py", "usercustomize.py", "x.pth", ".dir-locals.el", ".exrc", ".nvim.lua", ".gdbinit",
         ".bashrc", ".mise.toml", "rust-toolchain.toml", ".bazelrc", "Jenkinsfile", ".travis.yml", ".buildkite/pipeline.yml", ".zed/tasks.json",
         # As file systems that do not tell cases apart would have them.
         "MAKEFILE", ".EnvRc", ".VSCode/tasks.json", ".GitHub/workflows/x.yml"]

with Place() as place:
    place.write("file")
    # One there already is changed, one goes, one becomes a link to what is harmless by its name.
    place.write("old/Makefile", "all:\n\t@true\n")
    place.write("gone/.envrc", "# needed\n")
    script = ["echo two >>file"]
    for name in NAMES:
        script.append(f"mkdir -p {os.path.dirname(name) or '.'}; printf 'all:\\n\\techo changed > {DIR}/target\\n' >{name}; chmod 755 {name}")
    script += ["cp Makefile old/Makefile", "rm gone/.envrc", "cp Makefile harmless; mkdir linked; ln -s ../harmless linked/Makefile",
               # A directory by another name first, then by its own.
               "mkdir staging; cp .envrc staging/tasks.json; mkdir other; mv staging other/.vscode"]
    place.captured("sh", "-c", "\n".join(script))
    place.applied()
    # Again, and by the name of what holds it all: a directory that is named is not what is in it.
    place.applied()
    for name in NAMES + ["linked/Makefile", "other/.vscode/tasks.json"]:
        attempt(name, lambda: forbidden(errno.EACCES, os.path.lexists(f"{place.project}/{name}")))
    attempt("one that was there", lambda: forbidden(errno.EACCES, "changed" in open(place.project + "/old/Makefile").read()))
    attempt("one that goes", lambda: forbidden(errno.EACCES, not os.path.exists(place.project + "/gone/.envrc")))
    for at in ["", "/old", "/linked"]:
        if os.path.isdir(place.project + at):
            subprocess.run(["make", "-C", place.project + at], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if INSIDE and "two" not in open(place.project + "/file").read():
        sys.exit("nothing was applied at all")
