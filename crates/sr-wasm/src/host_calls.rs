//! Paths as a guest names them, judged without a look at any file.

use sr_common::module::Preopen;

/// A path, put together from a directory's own and one below it, without looking at any file: `None` where it leaves the root.
pub(crate) fn joined(directory: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    let all = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{directory}/{path}"),
    };
    for part in all.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// Where directories are, each by an absolute path as the guest names them; `None`: its own name is none, such as `.`, and it
/// lies in no other.
pub(crate) fn places(preopens: &[Preopen]) -> Vec<Option<String>> {
    let absolute = |own: &&Preopen| own.name.starts_with('/');
    let place = |preopen: &Preopen| {
        if absolute(&preopen) {
            return joined("/", &preopen.name);
        }
        let around = |own: &&Preopen| absolute(own) && sr_common::path::within(&preopen.path, &own.path);
        let around = preopens.iter().filter(around).max_by_key(|own| own.path.len())?;
        let below = preopen.path.get(around.path.len()..)?;
        joined("/", &format!("{}/{below}", around.name))
    };
    preopens.iter().map(place).collect()
}

/// Where the parts of a path end that name something.
pub(crate) fn ends(path: &str) -> impl Iterator<Item = usize> {
    let mut end = 0;
    path.split('/').filter_map(move |part| {
        end += part.len() + 1;
        (!part.is_empty()).then_some(end - 1)
    })
}

/// Whether `path` is one of `within`, or below one.
pub(crate) fn is_within(path: &str, within: &[String]) -> bool {
    within.iter().any(|place| sr_common::path::within(path, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_put_together_without_a_look_at_files() {
        for (directory, path, whole) in [
            ("/work", "a/b", Some("/work/a/b")),
            ("/work", "./a//b/..", Some("/work/a")),
            ("/work", "../etc", Some("/etc")),
            ("/", "..", None),
            ("/work", "/x", Some("/x")),
            (".", "a", Some("/a")),
        ] {
            assert_eq!(joined(directory, path).as_deref(), whole, "{directory} {path}");
        }
        let preopen = |(name, path): (&str, &str)| Preopen {
            name: name.to_owned(),
            path: path.to_owned(),
            writable: false,
        };
        let all = [
            ("/data", "/view/in/data"),
            (".", "/view/in/data/sub"),
            (".", "/view/other"),
            ("/", "/view/in"),
        ];
        let places = places(&all.map(preopen));
        let places: Vec<_> = places.iter().map(Option::as_deref).collect();
        assert_eq!(places, [Some("/data"), Some("/data/sub"), None, Some("/")]);
        for (path, parts) in [
            ("a/b", &["a", "a/b"][..]),
            ("a//b/", &["a", "a//b"]),
            ("./é", &[".", "./é"]),
            ("/", &[]),
            ("", &[]),
        ] {
            assert_eq!(ends(path).map(|end| &path[..end]).collect::<Vec<_>>(), parts, "{path}");
        }
        assert!(is_within("/work/a", &["/work".into()]) && !is_within("/workshop", &["/work".into()]));
    }
}
