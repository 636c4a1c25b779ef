//! What may run by itself on the host, or is not what it seems: applied only when a person names it.

/// Directories whose whole content counts.
const DIRECTORIES: [&str; 10] = [
    ".buildkite",
    ".circleci",
    ".claude",
    ".cursor",
    ".devcontainer",
    ".github",
    ".husky",
    ".idea",
    ".vscode",
    ".zed",
];

/// Files that some tool runs or obeys without being asked, at any depth.
const FILES: [&str; 52] = [
    ".bash_login",
    ".bash_logout",
    ".bash_profile",
    ".bashrc",
    ".bazelrc",
    ".cshrc",
    ".dir-locals.el",
    ".emacs",
    ".envrc",
    ".exrc",
    ".gdbinit",
    ".gitattributes",
    ".gitconfig",
    ".gitlab-ci.yml",
    ".gitmodules",
    ".inputrc",
    ".kshrc",
    ".lldbinit",
    ".login",
    ".mcp.json",
    ".mise.toml",
    ".npmrc",
    ".nvim.lua",
    ".nvimrc",
    ".pnpmfile.cjs",
    ".pre-commit-config.yaml",
    ".profile",
    ".pypirc",
    ".tcshrc",
    ".travis.yml",
    ".vimrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".zlogin",
    ".zlogout",
    ".zprofile",
    ".zshenv",
    ".zshrc",
    "build.rs",
    "conftest.py",
    "gnumakefile",
    "jenkinsfile",
    "lefthook.yml",
    "makefile",
    "mise.toml",
    "package.json",
    "rust-toolchain",
    "rust-toolchain.toml",
    "setup.py",
    "sitecustomize.py",
    "usercustomize.py",
    "azure-pipelines.yml",
];

/// Why a change at `path` (relative) is applied only when named.
pub(super) fn by_path(path: &[u8]) -> Option<&'static str> {
    // Some file systems do not tell cases apart.
    let names: Vec<String> = path
        .split(|c| *c == b'/')
        .map(|n| String::from_utf8_lossy(n).to_ascii_lowercase())
        .collect();
    if let Some(git) = names.iter().position(|name| name == ".git") {
        let harmless = names
            .get(git + 1)
            .is_some_and(|next| next == "objects" || next == "refs");
        if !harmless {
            return Some("git runs or obeys what is in .git");
        }
    }
    if names.iter().any(|name| DIRECTORIES.contains(&name.as_str())) {
        return Some("tools and services run what is in this directory");
    }
    let last = names.last()?;
    if names.len() > 1 && names[names.len() - 2] == ".cargo" && (last == "config" || last == "config.toml") {
        return Some("cargo obeys it: it can name programs to run");
    }
    (FILES.contains(&last.as_str()) || last.ends_with(".pth")).then_some("tools run or obey it without being asked")
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
