use super::*;

pub(crate) fn tree(style: Style, limits: Limits) -> Tree {
    Tree::new(tempfile::tempfile().unwrap(), style, limits)
}

fn layers() -> Tree {
    tree(Style::Layers, Limits::default())
}

fn entry(path: &str, kind: EntryKind, size: usize) -> Entry {
    Entry {
        path: path.into(),
        mode: 0o640,
        uid: 7,
        gid: 8,
        mtime: 9,
        size: size as u64,
        at: 0,
        attributes: false,
        kind,
    }
}

fn file(tree: &mut Tree, path: &str, content: &str) -> io::Result<()> {
    tree.add(&entry(path, EntryKind::File, content.len()), content.as_bytes())
}

fn other(tree: &mut Tree, path: &str, kind: EntryKind) -> io::Result<()> {
    tree.add(&entry(path, kind, 0), io::empty())
}

fn link(tree: &mut Tree, path: &str, target: &str) {
    other(tree, path, EntryKind::Symlink(target.into())).unwrap();
}

fn read(tree: &Tree, path: &str) -> Option<String> {
    tree.read(path.as_bytes(), 1 << 20)
        .map(|bytes| String::from_utf8(bytes).unwrap())
}

/// Every name, with what is there.
fn all(tree: &Tree) -> Vec<String> {
    fn below(tree: &Tree, number: usize, path: &str, found: &mut Vec<String>) {
        for (name, inode) in tree.names(number) {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            match &tree.inode(inode).what {
                What::Directory(_) => {
                    found.push(format!("{path}/"));
                    below(tree, inode, &format!("{path}/"), found);
                }
                What::File(..) => found.push(path),
                What::Symlink(target) => found.push(format!("{path} -> {}", String::from_utf8_lossy(target))),
            }
        }
    }
    let mut found = Vec::new();
    below(tree, ROOT, "", &mut found);
    found
}

#[test]
fn what_is_added_is_there_with_its_owner() {
    let mut tree = layers();
    other(&mut tree, "./", EntryKind::Directory).unwrap();
    file(&mut tree, "./a/b/f", "content").unwrap();
    link(&mut tree, "a/l", "b/f");
    other(&mut tree, "h", EntryKind::Hardlink("./a/b/f".into())).unwrap();
    assert_eq!(all(&tree), ["a/", "a/b/", "a/b/f", "a/l -> b/f", "h"]);
    assert_eq!(read(&tree, "a/l").as_deref(), Some("content"));
    assert_eq!(tree.find(b"h"), tree.find(b"a/b/f"));
    let inode = tree.inode(tree.find(b"h").unwrap());
    assert_eq!((inode.mode, inode.uid, inode.gid, inode.mtime), (0o640, 7, 8, 9));
    assert_eq!(tree.inode(ROOT).mode, 0o640);
    assert_eq!(tree.inode(tree.find(b"a").unwrap()).mode, 0o755, "it was not named");
}

#[test]
fn no_entry_leads_out() {
    let mut tree = layers();
    for path in ["..", "../x", "a/../../x", "a/..", "/../x"] {
        let why = file(&mut tree, path, "x").unwrap_err();
        assert!(why.to_string().contains("leads out"), "{path}: {why}");
        assert!(
            other(&mut tree, "h", EntryKind::Hardlink(path.into())).is_err(),
            "{path}"
        );
    }
    assert_eq!(all(&tree), [""; 0]);
    // An absolute path is one from the tree's own root.
    file(&mut tree, "/etc/passwd", "own").unwrap();
    assert_eq!(read(&tree, "etc/passwd").as_deref(), Some("own"));
}

#[test]
fn links_lead_to_places_in_here() {
    let mut tree = layers();
    file(&mut tree, "etc/passwd", "own").unwrap();
    for (name, target) in [
        ("up", "../../../../etc"),
        ("root", "/"),
        ("etc2", "/etc"),
        ("self", "self"),
        ("none", "/no"),
    ] {
        link(&mut tree, name, target);
    }
    assert_eq!(read(&tree, "up/passwd").as_deref(), Some("own"));
    // Through a link something new lands in the tree, wherever the link points to on a host.
    file(&mut tree, "root/etc2/new", "new").unwrap();
    assert_eq!(read(&tree, "etc/new").as_deref(), Some("new"));
    for path in ["self/x", "none/x", "etc/passwd/x"] {
        assert!(file(&mut tree, path, "x").is_err(), "{path}");
    }
    assert_eq!(tree.find(b"self"), None);
}

#[test]
fn hard_links_are_of_files_of_the_archive_alone() {
    let mut tree = layers();
    file(&mut tree, "d/f", "x").unwrap();
    for target in ["/etc/hostname", "d", "none", ""] {
        let why = other(&mut tree, "h", EntryKind::Hardlink(target.into())).unwrap_err();
        assert!(why.to_string().contains("no file of the archive"), "{target}: {why}");
    }
    // What replaces one name leaves the other.
    other(&mut tree, "h", EntryKind::Hardlink("d/f".into())).unwrap();
    file(&mut tree, "h", "other").unwrap();
    assert_eq!(
        (read(&tree, "h").as_deref(), read(&tree, "d/f").as_deref()),
        (Some("other"), Some("x"))
    );
}

#[test]
fn devices_are_left_out_and_counted() {
    let mut tree = layers();
    other(&mut tree, "dev/sda", EntryKind::Special).unwrap();
    other(&mut tree, "pipe", EntryKind::Special).unwrap();
    assert_eq!(all(&tree), [""; 0]);
    assert_eq!(tree.left_out.values().sum::<u64>(), 2);
}

#[test]
fn an_entry_twice_is_what_it_was_last() {
    let mut tree = layers();
    file(&mut tree, "a", "first").unwrap();
    file(&mut tree, "a", "second").unwrap();
    assert_eq!(read(&tree, "a").as_deref(), Some("second"));
    other(&mut tree, "a", EntryKind::Directory).unwrap();
    file(&mut tree, "a/b", "b").unwrap();
    file(&mut tree, "a", "third").unwrap();
    assert_eq!(all(&tree), ["a"]);
}

#[test]
fn sizes_and_numbers_have_their_limits() {
    let mut tree = tree(Style::Layers, Limits { bytes: 10, entries: 4 });
    file(&mut tree, "a", "12345678").unwrap();
    let why = file(&mut tree, "b", "123").unwrap_err();
    assert!(why.to_string().contains("more than the 10"), "{why}");
    // What only says to be huge is refused before anything is read.
    let huge = entry("c", EntryKind::File, usize::MAX);
    assert!(tree.add(&huge, io::repeat(0)).is_err());
    file(&mut tree, "d", "").unwrap();
    file(&mut tree, "e", "").unwrap();
    let why = file(&mut tree, "f", "").unwrap_err();
    assert!(why.to_string().contains("entries"), "{why}");
    let long = "x".repeat(256);
    for path in [long.as_str(), &"d/".repeat(2100)] {
        assert!(other(&mut layers(), path, EntryKind::Directory).is_err());
    }
}

#[test]
fn nothing_lies_deeper_than_it_can_be_walked() {
    let mut tree = layers();
    let deep = "d/".repeat(400);
    other(&mut tree, &deep, EntryKind::Directory).unwrap();
    link(&mut tree, "l", &deep);
    let why = file(&mut tree, &format!("l/{deep}f"), "x").unwrap_err();
    assert!(why.to_string().contains("too deep"), "{why}");
}

#[test]
fn whiteouts_take_away_what_lower_layers_have() {
    let mut tree = layers();
    for path in ["a/keep", "a/gone", "o/lower", "o/sub/lower", "d/x/deep"] {
        file(&mut tree, path, "lower").unwrap();
    }
    tree.next_layer();
    file(&mut tree, "a/.wh.gone", "").unwrap();
    file(&mut tree, "a/.wh.never", "").unwrap();
    file(&mut tree, "none/.wh.x", "").unwrap();
    // In either order: what this layer has itself stays.
    file(&mut tree, "o/sub/own", "own").unwrap();
    file(&mut tree, "o/.wh..wh..opq", "").unwrap();
    file(&mut tree, "o/later", "own").unwrap();
    file(&mut tree, "d/.wh.x", "").unwrap();
    other(&mut tree, "d/x", EntryKind::Directory).unwrap();
    file(&mut tree, "d/x/new", "own").unwrap();
    file(&mut tree, ".wh..wh.plnk/1", "").unwrap();
    assert_eq!(
        all(&tree),
        [
            "a/",
            "a/keep",
            "d/",
            "d/x/",
            "d/x/new",
            "o/",
            "o/later",
            "o/sub/",
            "o/sub/own"
        ]
    );
    for path in [".wh.", "a/.wh...", "a/.wh.."] {
        assert!(file(&mut tree, path, "").is_err(), "{path}");
    }
}

#[test]
fn a_directory_over_a_link_is_a_directory_in_layers_and_the_links_own_in_packages() {
    let with = |style| {
        let mut tree = tree(style, Limits::default());
        other(&mut tree, "usr/bin", EntryKind::Directory).unwrap();
        link(&mut tree, "bin", "usr/bin");
        tree.next_layer();
        other(&mut tree, "bin", EntryKind::Directory).unwrap();
        file(&mut tree, "bin/sh", "x").unwrap();
        all(&tree)
    };
    assert_eq!(with(Style::Layers), ["bin/", "bin/sh", "usr/", "usr/bin/"]);
    assert_eq!(
        with(Style::Packages),
        ["bin -> usr/bin", "usr/", "usr/bin/", "usr/bin/sh"]
    );
}
