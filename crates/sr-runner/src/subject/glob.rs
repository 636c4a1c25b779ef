//! The small pattern language of `hide`: `*` and `?` within one name, `/` between names. Bytes, not characters.

/// Whether the whole of `name` matches.
pub(crate) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on after a mismatch: the last `*`, and one more byte swallowed by it.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match retry {
                Some((after, start)) => {
                    retry = Some((after, start + 1));
                    (p, n) = (after, start + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// Whether the last names of `path` match the pattern's, one by one: `.git/config` matches at any depth.
pub(crate) fn matches_suffix(pattern: &str, path: &[&[u8]]) -> bool {
    let wanted: Vec<&str> = pattern.trim_matches('/').split('/').collect();
    let Some(start) = path.len().checked_sub(wanted.len()) else {
        return false;
    };
    wanted
        .iter()
        .zip(&path[start..])
        .all(|(pattern, name)| matches(pattern.as_bytes(), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (pattern, name, expected) in [
            (".env*", ".env", true),
            (".env*", ".env.local", true),
            (".env*", "x.env", false),
            ("*.p?m", "key.pem", true),
            ("*.pem", "key.pem.txt", false),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbXb", false),
            ("*", "", true),
            ("?", "", false),
            ("**", "anything", true),
            ("", "x", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
        // No exponential time.
        let name = [b'a'; 20_000];
        assert!(!matches(b"*a*a*a*a*b", &name[..2000]));
    }

    #[test]
    fn suffixes() {
        let path: [&[u8]; 3] = [b"sub", b".git", b"config"];
        assert!(matches_suffix(".git/config", &path));
        assert!(matches_suffix("config", &path));
        assert!(!matches_suffix("git/config", &path));
        assert!(!matches_suffix("a/sub/.git/config", &path));
    }
}
