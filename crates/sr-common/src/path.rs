//! Paths as text, absolute or both from one place: what lies below what. No file system is asked.

/// Whether `path` is absolute and has no `.`, `..`, `//` or trailing `/`.
pub fn is_normal(path: &str) -> bool {
    path == "/"
        || path.strip_prefix('/').is_some_and(|rest| {
            rest.split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..")
                && !path.contains('\0')
        })
}

/// `path` relative to `dir`: `Some("")` if they are equal, `None` if it lies elsewhere.
pub fn relative<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    if dir == "/" {
        return path.strip_prefix('/');
    }
    let rest = path.strip_prefix(dir)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}

/// Whether `path` is `dir` or lies below it.
pub fn within(path: &str, dir: &str) -> bool {
    relative(path, dir).is_some()
}

/// `dir` and a relative path that may be empty.
pub fn join(dir: &str, rest: &str) -> String {
    match (dir, rest) {
        (_, "") => dir.to_owned(),
        ("/", _) => format!("/{rest}"),
        _ => format!("{dir}/{rest}"),
    }
}

/// The directory that `path` lies in; `None` for the root.
pub fn parent(path: &str) -> Option<&str> {
    match path.trim_end_matches('/').rsplit_once('/')? {
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

/// The directories above `path`, the root left out, outermost first.
pub fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.char_indices()
        .skip(1)
        .filter(|(_, c)| *c == '/')
        .map(move |(at, _)| &path[..at])
}

/// `path` without `.`, `..` and repeated slashes, by its letters alone; relative paths stay relative.
pub fn lexical(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            _ => parts.push(part),
        }
    }
    match (absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_by_component() {
        assert_eq!(relative("/a/bc", "/a/b"), None);
        assert_eq!(relative("/a/b", "/a/b"), Some(""));
        assert_eq!(relative("/a/b/c", "/a/b"), Some("c"));
        assert_eq!(relative("/a", "/"), Some("a"));
        assert_eq!(relative("/", "/a"), None);
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/a", "/a/b"]);
        assert_eq!(ancestors("/").count(), 0);
        assert_eq!(
            ["/a/b", "/a", "/a/", "/"].map(parent),
            [Some("/a"), Some("/"), Some("/"), None]
        );
        assert_eq!(join("/", "a"), "/a");
        assert!(is_normal("/") && is_normal("/a/b"));
        for bad in ["", "a", "//", "/a/", "/a/../b", "/./a", "/a\0b"] {
            assert!(!is_normal(bad), "{bad}");
        }
    }

    #[test]
    fn letters_alone() {
        assert_eq!(lexical("/a/./b//../c/"), "/a/c");
        assert_eq!(lexical("/../.."), "/");
        assert_eq!(lexical("../a/.."), "..");
        assert_eq!(lexical("./"), ".");
    }
}
