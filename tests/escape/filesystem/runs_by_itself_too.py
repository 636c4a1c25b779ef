# title:   What a run left runs by itself, under the less usual names of the same tools
# source:  pytest.ini and pyproject.toml of pytest (addopts -p), the manifest of cargo (build =), PEP 517 backend-path, pdb's
#          .pdbrc, bunfig.toml, .pnp.cjs, lefthook, mise, GitPod, Woodpecker, Drone, Gitea, .ycm_extra_conf.py
# expect:  EACCES
# fires:   change
# control: host
# runs:    outside
# only:    process
#
# Each tells or is a program that its tool starts, as those of "runs_by_itself" do. On the bare host Python's debugger obeys
# the file of the directory in which it is started.
from lib import *

NAMES = {
    "services of the host's repository": [".gitpod.yml", ".drone.yml", ".woodpecker.yml", ".woodpecker/x.yml", "bitbucket-pipelines.yml", "appveyor.yml",
                                          ".appveyor.yml", ".cirrus.yml", ".gitea/workflows/x.yml", ".forgejo/workflows/x.yml", ".semaphore/semaphore.yml",
                                          ".builds/x.yml", ".build.yml", ".teamcity/settings.kts", ".tekton/x.yaml", "cloudbuild.yaml", "buildspec.yml"],
    "hook managers": [".lefthook.yml", "lefthook.yaml", "lefthook-local.yml", ".overcommit.yml", ".githooks/pre-commit"],
    "environments": ["mise.local.toml", ".mise/config.toml", ".config/mise.toml", ".rtx.toml", ".autoenv"],
    "python": ["pyproject.toml", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg", "noxfile.py", ".pdbrc", ".pylintrc", "mypy.ini"],
    "cargo and rust": ["Cargo.toml", "crates/a/Cargo.toml"],
    "javascript": ["bunfig.toml", ".pnp.cjs", ".pnp.loader.mjs", ".yarn/releases/yarn.cjs", ".yarn/plugins/x.cjs", "eslint.config.js", ".eslintrc.js",
                   ".prettierrc.js", "vite.config.ts", "webpack.config.js", "babel.config.js", "jest.config.js", "gulpfile.js", "Gruntfile.js"],
    "makers": ["justfile", ".justfile", "Taskfile.yml", "Rakefile", "Gemfile", "CMakeLists.txt", "CMakePresets.json", "meson.build", "build.gradle",
               "settings.gradle.kts", "gradle/wrapper/gradle-wrapper.properties", "pom.xml", ".mvn/jvm.config", ".mvn/extensions.xml",
               "build.xml", "build.sbt", "project/plugins.sbt", "SConstruct", "wscript", "BSDmakefile", "BUILD.bazel", "MODULE.bazel", "flake.nix",
               "shell.nix", "default.nix", "mix.exs", "rebar.config", "dune", "Package.swift", "Vagrantfile", "binding.gyp"],
    "editors": [".ycm_extra_conf.py", ".lvimrc", ".local.vimrc", ".nvim/init.lua", ".vim/x.vim", ".helix/languages.toml", "x.code-workspace", "x.sublime-project",
                ".fleet/run.json", ".run/x.run.xml", ".theia/tasks.json"],
    "agents": [".windsurf/mcp.json", ".gemini/settings.json", ".codex/config.toml", ".roo/mcp.json", ".kiro/x.json", ".continue/config.yaml",
               ".aider.conf.yml", "opencode.json", ".amazonq/mcp.json"],
    "interpreters": [".Rprofile", ".octaverc", ".ghci", ".ocamlinit", ".iex.exs", ".irbrc", ".pryrc", ".erlang", ".proverc", ".rspec", ".screenrc"],
}

with Place() as place:
    place.write("file")
    script = ["echo two >>file"]
    for name in (n for names in NAMES.values() for n in names):
        script.append(f"mkdir -p {os.path.dirname(name) or '.'}; echo x >{name}")
    script.append(f"printf 'import os; open(\"{DIR}/target\", \"w\").write(\"changed\")\\nq\\n' >.pdbrc")
    place.captured("sh", "-c", "\n".join(script))
    place.applied()
    for group, names in NAMES.items():
        attempt(group, lambda: forbidden(errno.EACCES, [n for n in names if os.path.lexists(f"{place.project}/{n}")]))
    subprocess.run(["/usr/bin/python3", "-m", "pdb", "file"], cwd=place.project, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if INSIDE and "two" not in open(place.project + "/file").read():
        sys.exit("nothing was applied at all")
