//! What may run by itself on the host, or is not what it seems: applied only when a person names it.

use crate::subject::glob;

/// Names that some tool runs or obeys without being asked, at any depth, by who does. What a person starts by name (a script,
/// a test) is not among them, nor what only code of the project's reads: that is to be read in the diff.
///
/// Written as the names of `hide` are, in small letters; with `/` at the end a directory, and all that is in it.
#[rustfmt::skip]
const NAMES: &[(&str, &[&str])] = &[
    ("git runs or obeys it", &[
        ".gitattributes", ".gitconfig", ".gitmodules",
    ]),
    ("git's hooks run it", &[
        ".git-hooks/", ".githooks/", ".husky/", ".lefthook-local.*", ".lefthook.*", ".lefthook/", ".lintstagedrc*",
        ".overcommit.yml", ".pre-commit-config.yaml", ".pre-commit-config.yml", ".simple-git-hooks.*",
        "lefthook-local.*", "lefthook.*", "lint-staged.config.*", "prek.toml",
    ]),
    ("a service runs what is in it on the repository", &[
        ".appveyor.yml", ".appveyor/", ".azure-pipelines/", ".azuredevops/", ".build.yml", ".buildkite/", ".builds/",
        ".circleci/", ".cirrus.*", ".codesandbox/", ".drone.*", ".forgejo/", ".gitea/", ".github/", ".gitlab-ci.yml",
        ".gitlab/", ".gitpod.*", ".harness/", ".readthedocs.*", ".replit", ".semaphore/", ".teamcity/", ".tekton/",
        ".travis.yml", ".woodpecker.*", ".woodpecker/", "appveyor.yml", "azure-pipelines*", "bitbucket-pipelines.yml",
        "buildspec.*", "cloudbuild.*", "codefresh.yml", "jenkinsfile*", "netlify.toml", "vercel.json",
    ]),
    ("environments and containers are made by it", &[
        ".autoenv", ".autoenv.*", ".config/mise.*", ".config/mise/", ".devcontainer.json", ".devcontainer/", ".envrc",
        ".flox/", ".mise.*", ".mise/", ".rtx.*", ".rtx/", "compose*.yaml", "compose*.yml",
        "default.nix", "devbox.json", "devenv.*", "docker-compose*.yaml", "docker-compose*.yml", "flake.nix",
        "mise.*toml", "mise/config.*", "shell.nix", "skaffold.yaml", "tiltfile", "vagrantfile",
    ]),
    ("shells and terminals run it as they start or end", &[
        ".bash_aliases", ".bash_login", ".bash_logout", ".bash_profile", ".bashrc", ".cshrc", ".inputrc", ".kshrc",
        ".login", ".logout", ".profile", ".screenrc", ".tcshrc", ".tmux.conf", ".xonshrc", ".zlogin", ".zlogout",
        ".zprofile", ".zshenv", ".zshrc",
    ]),
    ("editors run or obey it", &[
        "*.code-workspace", "*.sublime-project", ".dir-locals*.el", ".emacs", ".exrc", ".externaltoolbuilders/",
        ".fleet/", ".gvimrc", ".helix/", ".idea/", ".local.vimrc", ".lvimrc", ".nova/", ".nvim.lua", ".nvim/",
        ".nvimrc", ".project", ".run/", ".theia/", ".vim/", ".vimrc", ".vs/", ".vscode/", ".ycm_extra_conf.py",
        ".zed/",
    ]),
    ("agents run or obey it", &[
        ".agent/", ".agents/", ".aider*", ".amazonq/", ".augment/", ".claude/", ".cline/", ".clinerules",
        ".clinerules/", ".codex/", ".continue/", ".crush.json", ".cursor/", ".cursorrules", ".factory/", ".gemini/",
        ".goose/", ".goosehints", ".junie/", ".kiro/", ".mcp.json", ".opencode/", ".qwen/", ".roo/", ".roorules",
        ".trae/", ".windsurf/", ".windsurfrules", "agents.md", "agents.override.md", "claude.local.md", "claude.md",
        "crush.json", "gemini.md", "opencode.json*",
    ]),
    ("debuggers and interpreters run it as they start", &[
        ".erlang", ".gdbinit", ".ghci", ".iex.exs", ".irbrc", ".lldbinit", ".ocamlinit", ".octaverc", ".pdbrc",
        ".pdbrc.py", ".proverc", ".pryrc", ".psysh.php", ".renviron", ".rprofile", "octaverc",
    ]),
    ("Python's tools run or obey it", &[
        "*.pth", ".coveragerc", ".flake8", ".mypy.ini", ".pylintrc*", ".pypirc", ".pytest.ini", ".pytest.toml",
        "conanfile.py", "conftest.py", "dodo.py", "fabfile.py", "hatch.toml", "hatch_build.py", "mypy.ini",
        "noxfile.py", "pdm_build.py", "pip.conf", "pylintrc*", "pyproject.toml", "pytest.ini", "pytest.toml",
        "setup.cfg", "setup.py", "sitecustomize.py", "tox.ini", "tox.toml", "usercustomize.py", "uv.toml",
    ]),
    ("cargo and rustup run or obey it: it can name programs", &[
        ".cargo/config", ".cargo/config.toml", ".config/nextest.toml", "build.rs", "cargo.toml", "rust-toolchain",
        "rust-toolchain.toml",
    ]),
    ("JavaScript's tools run or obey it", &[
        "*.conf.js", "*.config.cjs", "*.config.cts", "*.config.js", "*.config.mjs", "*.config.mts", "*.config.ts",
        ".*rc.cjs", ".*rc.js", ".*rc.mjs", ".*rc.ts", ".babelrc*", ".commitlintrc*", ".eslintrc*", ".mocharc*",
        ".npmrc", ".pnp.*", ".pnpmfile.*", ".postcssrc*", ".prettierrc*", ".stylelintrc*", ".yarn/plugins/",
        ".yarn/releases/", ".yarn/sdks/", ".yarnrc", ".yarnrc.yml", "babel.config.*", "binding.gyp", "bunfig.toml",
        "deno.json*", "gruntfile.*", "gulpfile.*", "jest.config.*", "lerna.json", "nx.json", "package.json",
        "pnpm-workspace.yaml", "pnpmfile.*", "turbo.json",
    ]),
    ("Ruby's and PHP's tools run or obey it", &[
        "*.gemspec", ".bundle/", ".php-cs-fixer*", ".rspec", ".rubocop.yml", ".simplecov", "brewfile",
        "composer.json", "fastlane/", "gemfile", "gems.rb", "guardfile", "phpunit.xml*", "podfile", "rakefile",
    ]),
    ("make and its kind run it", &[
        ".justfile", "bsdmakefile", "build.ninja", "cmakelists.txt", "cmakepresets.json", "cmakeuserpresets.json",
        "earthfile", "gnumakefile", "justfile", "magefile.go", "makefile", "meson.build", "premake5.lua",
        "sconscript", "sconstruct", "taskfile.*", "wscript", "xmake.lua",
    ]),
    ("Bazel and Buck run or obey it", &[
        "*.bzl", ".bazeliskrc", ".bazelrc", ".buckconfig", "buck", "build.bazel", "module.bazel", "tools/bazel",
        "workspace.bazel",
    ]),
    ("build tools of the JVM run or obey it", &[
        ".jvmopts", ".mvn/", ".sbtopts", "build.gradle*", "build.mill", "build.sbt", "build.sc", "build.xml",
        "buildsrc/", "deps.edn", "gradle.properties", "gradle/", "gradlew", "gradlew.bat", "init.gradle*", "mvnw",
        "mvnw.cmd", "pom.xml", "project.clj", "project/*.sbt", "project/*.scala", "project/build.properties",
        "settings.gradle*", "shadow-cljs.edn",
    ]),
    ("build tools of other languages run or obey it", &[
        "*.cabal", "*.csproj", "*.fsproj", "*.vbproj", "*.vcxproj", ".config/dotnet-tools.json", ".golangci.*",
        "build.zig", "build.zig.zon", "cabal.project", "directory.build.*", "directory.packages.props", "dune",
        "dune-project", "mix.exs", "nuget.config", "package.swift", "rebar.config*", "setup.hs", "setup.lhs",
        "stack.yaml",
    ]),
];

/// Why a change at `path` (relative) is applied only when named.
pub(super) fn by_path(path: &[u8]) -> Option<&'static str> {
    // Some file systems do not tell cases apart.
    let path = path.to_ascii_lowercase();
    let names: Vec<&[u8]> = path.split(|c| *c == b'/').collect();
    if let Some(git) = names.iter().position(|name| *name == b".git") {
        let harmless = names
            .get(git + 1)
            .is_some_and(|next| *next == b"objects" || *next == b"refs");
        if !harmless {
            return Some("git runs or obeys what is in .git");
        }
    }
    let known = |pattern: &&str| match pattern.strip_suffix('/') {
        Some(directory) => (1..=names.len()).any(|end| ends_with(&names[..end], directory)),
        None => ends_with(&names, pattern),
    };
    let found = NAMES.iter().find(|(_, patterns)| patterns.iter().any(known));
    found.map(|(why, _)| *why)
}

/// Whether the last of `names` match the pattern's.
fn ends_with(names: &[&[u8]], pattern: &str) -> bool {
    let mut names = names.iter().rev();
    let mut wanted = pattern.rsplit('/');
    wanted.all(|wanted| names.next().is_some_and(|name| glob::matches(wanted.as_bytes(), name)))
}

/// How a directory stands to a git repository by any other name than `.git`: one that holds HEAD, objects and refs is
/// taken for a repository by whoever stands in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Repository {
    #[default]
    No,
    /// It holds a HEAD.
    Top,
    /// It is in a directory of such a one that git obeys as a whole.
    Obeyed,
}

impl Repository {
    /// How the directory `name` in this one stands; `head`: it holds a HEAD.
    pub fn below(self, name: &[u8], head: bool) -> Repository {
        match self {
            Repository::Top if among(&["hooks", "info"], name) => Repository::Obeyed,
            Repository::Obeyed => Repository::Obeyed,
            _ if head => Repository::Top,
            _ => Repository::No,
        }
    }

    /// Why a change of `name` in this directory is applied only when named.
    pub fn danger(self, name: &[u8], directory: bool) -> Option<&'static str> {
        if is_head(name) && !directory {
            return Some("git takes the directory that holds it for a repository, and obeys the config in it");
        }
        let obeyed = match self {
            Repository::No => false,
            Repository::Top => among(&["commondir", "config", "config.worktree", "hooks", "info"], name),
            Repository::Obeyed => true,
        };
        obeyed.then_some("git runs or obeys it: a HEAD makes this directory a repository")
    }
}

pub(super) fn is_head(name: &[u8]) -> bool {
    among(&["head"], name)
}

fn among(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Why a link at `path` that points to `target` leads out of the tree, or may.
pub(super) fn by_target(path: &[u8], target: &[u8]) -> Option<&'static str> {
    if target.first() == Some(&b'/') {
        return Some("the link is absolute: it leads out of the directory");
    }
    let depth = path.split(|c| *c == b'/').count() - 1;
    let (mut up, mut down) = (0, false);
    for name in target.split(|c| *c == b'/') {
        match name {
            b"" | b"." => {}
            // After a name, `..` goes where that name leads, which may itself be a link.
            b".." if down => return Some("the link climbs after descending: it may lead out of the directory"),
            b".." => up += 1,
            _ => down = true,
        }
    }
    (up > depth).then_some("the link leads out of the directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_usual_names_of_tools_run_by_themselves_too() {
        for path in [
            ".gitpod.yml",
            ".forgejo/workflows/x.yml",
            "ci/azure-pipelines-release.yml",
            ".lefthook.yml",
            ".githooks/pre-commit",
            ".mise/config.toml",
            ".config/mise.toml",
            "docker-compose.override.yml",
            "pyproject.toml",
            "a/setup.cfg",
            "pytest.ini",
            "tox.ini",
            "noxfile.py",
            ".pdbrc",
            "Cargo.toml",
            "crates/a/Cargo.toml",
            ".pnp.cjs",
            ".yarn/releases/yarn.cjs",
            "web/vite.config.ts",
            ".eslintrc.js",
            "justfile",
            "Taskfile.yml",
            "CMakeLists.txt",
            "sub/BUILD.bazel",
            "rules/x.bzl",
            ".mvn/jvm.config",
            "gradle/wrapper/gradle-wrapper.properties",
            "project/plugins.sbt",
            "App.csproj",
            "flake.nix",
            ".helix/languages.toml",
            "x.code-workspace",
            ".gemini/settings.json",
            ".codex",
            "CLAUDE.md",
            ".Rprofile",
        ] {
            assert!(by_path(path.as_bytes()).is_some(), "{path}");
        }
        for path in [
            "src/lib.rs",
            "build/out.o",
            "releases/yarn.cjs",
            "src/project/plugin.rs",
            "wrapper/x.properties",
            "docs/setup.md",
            "Cargo.lock",
            "config/mise.md",
            "test_app.py",
            "app/tasks.py",
            "style.css",
            "src/config.ts",
        ] {
            assert_eq!(by_path(path.as_bytes()), None, "{path}");
        }
    }

    /// As they are compared, and each once, so that the list can be read.
    #[test]
    fn names_stand_in_small_letters_and_in_order() {
        let all: Vec<&str> = NAMES.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let distinct: std::collections::BTreeSet<&str> = all.iter().copied().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(all.iter().all(|name| *name == name.to_ascii_lowercase()));
        assert!(NAMES.iter().all(|(_, names)| names.is_sorted()));
    }

    #[test]
    fn what_runs_by_itself() {
        for path in [
            ".git/config",
            ".git/hooks/post-checkout",
            "a/.git/HEAD",
            ".git",
            ".GIT/config",
            ".git/modules/x/config",
            ".envrc",
            "a/b/.envrc",
            ".vscode/tasks.json",
            ".idea/x",
            ".github/workflows/ci.yml",
            ".github",
            ".gitlab-ci.yml",
            ".husky/pre-commit",
            ".cargo/config.toml",
            "a/.cargo/config",
            "tests/conftest.py",
            "Makefile",
            "GNUmakefile",
            "sub/makefile",
            "package.json",
            "build.rs",
            ".pre-commit-config.yaml",
            ".bashrc",
            "x.pth",
            "sitecustomize.py",
            "setup.py",
            ".npmrc",
            ".gitattributes",
            ".gitmodules",
        ] {
            assert!(by_path(path.as_bytes()).is_some(), "{path}");
        }
        for path in [
            ".git/objects/aa/bb",
            ".git/refs/heads/main",
            "a/.git/objects/pack/x.pack",
            "src/main.rs",
            "Makefile.md",
            "cargo/config.toml",
            "config",
            "git/config",
            "my.envrc",
            "github/x",
            ".gitignore",
            "package.json5",
        ] {
            assert_eq!(by_path(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn links_that_lead_out() {
        for (path, target, out) in [
            ("a", "b", false),
            ("a/l", "../b", false),
            ("a/l", "./../b/c", false),
            ("a/l", "../../b", true),
            ("l", "..", true),
            ("l", "/etc/passwd", true),
            ("a/b/l", "x/../../../../y", true),
            ("a/b/l", "x/../y", true),
        ] {
            assert_eq!(
                by_target(path.as_bytes(), target.as_bytes()).is_some(),
                out,
                "{path} -> {target}"
            );
        }
    }
}
