//! The root of the view: a directory of one's own, or the host's system directories under an overlay; and that a
//! directory made by an enemy leads nowhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use support::{LIMIT, Place, Ran, Test, end, needs};

fn main() {
    support::main(&[
        ("a_root_is_read_only", a_root_is_read_only),
        ("a_mount_below_tmp_of_a_root", a_mount_below_tmp_of_a_root),
        ("a_root_under_an_overlay", a_root_under_an_overlay),
        ("a_root_is_hashed_on_request", a_root_is_hashed_on_request),
        ("the_hosts_system_under_an_overlay", the_hosts_system_under_an_overlay),
        ("a_hostile_root_leads_nowhere", a_hostile_root_leads_nowhere),
        ("a_root_that_is_none", a_root_that_is_none),
    ]);
}

/// A small root file system: a shell and a few programs of the host's with their libraries.
fn make_root(place: &Place, name: &str) -> Result<PathBuf, support::End> {
    needs(place, "ldd")?;
    let root = place.root().join(name);
    let script = r#"
        set -e
        mkdir -p "$1/usr/bin" "$1/usr/share" "$1/etc" "$1/tmp"
        ln -s usr/bin "$1/bin"
        for name in sh true cat ls mkdir rm ln head; do
            file=$(command -v "$name"); case $file in /*) ;; *) file=/usr/bin/$name;; esac
            cp -L "$file" "$1/usr/bin/$name"
            for library in $(ldd "$file" | grep -o '/[^ ]*'); do
                mkdir -p "$1$(dirname "$library")"
                cp -L "$library" "$1$library"
            done
        done
        echo inside > "$1/etc/marker"
        echo old > "$1/usr/share/old"
    "#;
    let mut make = place.command("sh");
    make.args(["-c", script, "sh"]).arg(&root);
    let ran = end(make, b"", LIMIT);
    ran.ok()?;
    Ok(root)
}

fn run_in(place: &Place, rootfs: &str, mounts: &str, script: &str) -> Ran {
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: root}}\nrootfs: {{{rootfs}}}\nruntime: {{args: []}}\nmounts: [{mounts}]\n"
    );
    let policy = place.root().join("policy.yaml");
    fs::write(&policy, text).expect("a policy");
    let policy = policy.to_str().expect("UTF-8");
    place.run(&["--policy", policy, "--", "sh", "-c", script])
}

fn dir(root: &Path, writable: &str) -> String {
    format!("source: dir, path: {}, writable: {writable}", root.display())
}

/// Every name below `root` with what it holds.
fn listing(place: &Place, root: &Path) -> String {
    let mut list = place.command("sh");
    let script =
        "cd \"$1\" && find . ! -type d -printf '%p %y %m %s %T@ %l\\n' -o -printf '%p %y %m\\n' | LC_ALL=C sort";
    list.args(["-c", script, "sh"]).arg(root);
    end(list, b"", LIMIT).out
}

fn a_root_is_read_only(place: &Place) -> Test {
    let root = make_root(place, "image")?;
    let before = listing(place, &root);
    let script = "cat /etc/marker; ls /usr/share /home /var 2>/dev/null; test -c /dev/null && echo device; \
                  test -r /proc/self/stat && echo proc; echo kept > /tmp/note && cat /tmp/note; \
                  for place in /usr/new /etc/marker /new /dev/new; do (echo x > $place) 2>&1; done; rm /usr/share/old 2>&1";
    let ran = run_in(place, &dir(&root, "readOnly"), "", script);
    ensure!(
        ran.out.starts_with("inside\n/usr/share:\nold\ndevice\nproc\nkept\n")
            || ran.out.starts_with("inside\nold\ndevice\nproc\nkept\n"),
        "{ran}"
    );
    ensure!(ran.out.matches("Read-only file system").count() == 5, "{ran}");
    ensure!(listing(place, &root) == before, "the root was changed");
    let report = place.report();
    ensure!(report["changes"].is_null(), "{}", report["changes"]);
    let mounts = &report["digests"]["mounts"];
    ensure!(
        mounts[0]["target"] == "/" && mounts[0]["source"] == root.to_str().unwrap() && mounts[0]["digest"].is_null(),
        "{mounts}"
    );
    // By a link, as it is by its own name.
    let link = place.root().join("current");
    symlink("image", &link)?;
    let ran = run_in(place, &dir(&link, "readOnly"), "", "cat /etc/marker");
    ran.ok()?;
    ensure!(ran.out == "inside\n", "{ran}");
    // A project in it, at a place that it does not have.
    place.write("main", "here\n");
    let mount = "{source: ., target: /deep/er/work, captured: true}";
    let ran = run_in(
        place,
        &dir(&root, "readOnly"),
        mount,
        "cat /deep/er/work/main; echo x > /deep/er/work/new; (echo x > /deep/new) 2>&1",
    );
    ensure!(ran.out.starts_with("here\n") && ran.out.contains("Read-only"), "{ran}");
    ensure!(listing(place, &root) == before, "the root was changed");
    place.nothing_left()
}

/// The view's own `/tmp` lies over that of the root, and places for mounts are made in it.
fn a_mount_below_tmp_of_a_root(place: &Place) -> Test {
    let root = make_root(place, "image")?;
    let data = place.root().join("data");
    fs::create_dir(&data).map_err(|e| e.to_string())?;
    fs::write(data.join("note"), "shown\n").map_err(|e| e.to_string())?;
    let mount = format!(
        "{{source: {}, target: /tmp/deep/er/data, captured: true}}",
        data.display()
    );
    let script = "cat /tmp/deep/er/data/note && echo new > /tmp/deep/er/data/new && ls /tmp /tmp/deep/er/data";
    for writable in ["readOnly", "overlay"] {
        let ran = run_in(place, &dir(&root, writable), &mount, script);
        ensure!(
            ran.out == "shown\n/tmp:\ndeep\n\n/tmp/deep/er/data:\nnew\nnote\n",
            "{writable}: {ran:?}"
        );
        ensure!(!data.join("new").exists(), "{writable}: written through");
    }
    Ok(())
}

fn a_root_under_an_overlay(place: &Place) -> Test {
    let root = make_root(place, "image")?;
    let before = listing(place, &root);
    let script = "set -e; echo x > /usr/new; echo y >> /etc/marker; mkdir /made; echo z > /made/z; rm /usr/share/old; \
                  ln /usr/new /usr/linked; cat /usr/linked /etc/marker; echo t > /tmp/t; echo s > /dev/shm/s";
    let ran = run_in(place, &dir(&root, "overlay"), "", script);
    ran.ok()?;
    ensure!(ran.out == "x\ninside\ny\n", "{ran}");
    ensure!(listing(place, &root) == before, "a captured write reached the host");
    let diff = place.tell(&["diff", "--names"]);
    diff.ok()?;
    let mut lines: Vec<&str> = diff.out.lines().collect();
    lines.sort_unstable();
    ensure!(
        lines
            == [
                "A made",
                "A made/z",
                "A usr/linked",
                "A usr/new",
                "D usr/share/old",
                "M etc/marker"
            ],
        "neither /tmp nor /dev, nor what Safe-Run put there: {diff}"
    );
    place.tell(&["apply", "--yes"]).ok()?;
    ensure!(
        fs::read_to_string(root.join("etc/marker"))? == "inside\ny\n",
        "applied to the directory"
    );
    ensure!(
        fs::read_to_string(root.join("usr/new"))? == "x\n",
        "applied to the directory"
    );
    place.tell(&["report", "verify"]).ok()?;
    place.nothing_left()
}

fn a_root_is_hashed_on_request(place: &Place) -> Test {
    let root = make_root(place, "image")?;
    let mut seen = Vec::new();
    for writable in ["readOnly", "overlay"] {
        let rootfs = format!("{}}}\nevidence: {{hash: tree", dir(&root, writable));
        run_in(place, &rootfs, "", "true").ok()?;
        seen.push(place.report()["digests"]["mounts"][0]["digest"].to_string());
    }
    ensure!(
        seen[0].contains("sha256:") && seen[0] == seen[1],
        "the same directory: {seen:?}"
    );
    fs::write(root.join("etc/marker"), "other\n")?;
    let rootfs = format!("{}}}\nevidence: {{hash: tree", dir(&root, "readOnly"));
    run_in(place, &rootfs, "", "true").ok()?;
    let now = place.report()["digests"]["mounts"][0]["digest"].to_string();
    ensure!(
        now.contains("sha256:") && now != seen[0],
        "a changed file does not show: {now}"
    );
    Ok(())
}

fn the_hosts_system_under_an_overlay(place: &Place) -> Test {
    let name = place.mark();
    let script = format!("echo x > /usr/{name} && cat /usr/{name}; (echo x > /usr/bin/sh) 2>&1; (echo x > /new) 2>&1");
    let ran = run_in(place, "source: host, writable: overlay", "", &script);
    ensure!(ran.out.starts_with("x\n"), "{ran}");
    // Only what file permissions allow: the program is nobody to the files of the system.
    ensure!(
        ran.out.contains("Permission denied") && ran.out.contains("Read-only file system"),
        "{ran}"
    );
    let on_the_host = Path::new("/usr").join(&name);
    ensure!(!on_the_host.exists(), "a captured write reached the host");
    let diff = place.tell(&["diff", "--names"]);
    ensure!(diff.out == format!("in /usr:\nA {name}\n"), "{diff}");
    let applied = place.tell(&["apply", "--yes"]);
    ensure!(
        applied.status == 0 && applied.err.contains("never applied: 1 change in /usr"),
        "{applied}"
    );
    let named = place.tell(&["apply", "--yes", "last", &name]);
    ensure!(named.status != 0 && named.err.contains("stay with the run"), "{named}");
    ensure!(!on_the_host.exists(), "a change was applied to the operating system");
    let ran = run_in(
        place,
        "source: host, writable: readOnly",
        "",
        &format!("echo x > /usr/{name}"),
    );
    ensure!(ran.status != 0 && ran.err.contains("Read-only file system"), "{ran}");
    place.nothing_left()
}

/// Whoever made the directory must not choose where the view's own mounts land, nor show what lies outside of it.
fn a_hostile_root_leads_nowhere(place: &Place) -> Test {
    let outside = place.root().join("outside");
    for name in ["etc", "dev", "tmp", "data", "proc"] {
        fs::create_dir_all(outside.join(name))?;
        fs::write(outside.join(name).join("secret"), "from outside\n")?;
    }
    place.write("main", "here\n");
    let absolute = |name: &str| outside.join(name).to_str().expect("UTF-8").to_owned();
    let relative = |name: &str| format!("../outside/{name}");
    let climbing = |name: &str| format!("../../../../../../../../../..{}", absolute(name));
    type Spelling<'a> = &'a dyn Fn(&str) -> String;
    let spellings: [(&str, Spelling<'_>); 4] = [
        ("absolute", &absolute),
        ("relative", &relative),
        ("climbing", &climbing),
        ("dangling", &|name: &str| format!("/nowhere/{name}")),
    ];
    for (name, spelling) in spellings {
        let root = make_root(place, name)?;
        fs::remove_dir_all(root.join("etc"))?;
        fs::remove_dir_all(root.join("tmp"))?;
        for link in ["etc", "dev", "tmp", "data", "proc"] {
            symlink(spelling(link), root.join(link))?;
        }
        symlink("/", root.join("sys"))?;
        let before = listing(place, &outside);
        for writable in ["readOnly", "overlay"] {
            let script = "cat /*/secret /data/*/secret 2>/dev/null; cat /data/work/main; \
                          test -c /dev/null && test -r /proc/self/stat && echo fresh; \
                          echo t > /tmp/t && cat /tmp/t; (echo x > /etc/new) 2>/dev/null; \
                          (mkdir -p /nowhere/etc /outside/etc && echo x > /etc/new && echo x > /data/new) 2>/dev/null; echo end";
            let mount = "{source: ., target: /data/work, captured: true}";
            let ran = run_in(place, &dir(&root, writable), mount, script);
            ran.ok()?;
            ensure!(ran.out == "here\nfresh\nt\nend\n", "{name}, {writable}: {ran}");
            ensure!(
                listing(place, &outside) == before,
                "{name}, {writable}: something was written outside"
            );
        }
    }
    // Files where the view needs directories.
    let root = make_root(place, "files")?;
    fs::remove_dir_all(root.join("tmp"))?;
    for name in ["dev", "proc", "tmp", "data"] {
        fs::write(root.join(name), "a file\n")?;
    }
    let mount = "{source: ., target: /data/work, captured: true}";
    let ran = run_in(
        place,
        &dir(&root, "readOnly"),
        mount,
        "cat /data/work/main; echo t > /tmp/t && cat /tmp/t",
    );
    ran.ok()?;
    ensure!(ran.out == "here\nt\n", "{ran}");
    // The program itself: its path leads out of the root, where another of that name is.
    let root = make_root(place, "program")?;
    fs::remove_file(root.join("usr/bin/cat"))?;
    symlink("/usr/bin/../../../../../usr/bin/env", root.join("usr/bin/cat"))?;
    let ran = run_in(place, &dir(&root, "readOnly"), "", "cat");
    ensure!(ran.status != 0, "a program from outside: {ran}");
    place.nothing_left()
}

fn a_root_that_is_none(place: &Place) -> Test {
    let file = place.write("file", "x");
    for path in [
        file.as_path(),
        &place.root().join("missing"),
        Path::new("/"),
        Path::new("/usr"),
    ] {
        let ran = run_in(place, &dir(path, "overlay"), "", "echo started");
        ensure!(
            ran.status == 125 && !ran.out.contains("started"),
            "{}: {ran}",
            path.display()
        );
        ensure!(ran.err.contains("rootfs.path"), "{}: {ran}", path.display());
    }
    // Under an overlay the program would own all of it: more than a root file system is not shown so.
    let root = make_root(place, "home/image")?;
    let link = place.root().join("link");
    symlink(&place.home, &link)?;
    symlink("image/usr", place.home.join("usr"))?;
    for (name, target) in [("bin", "image/bin"), ("lib", "image/lib"), ("lib64", "image/lib64")] {
        if root.join(name).exists() {
            symlink(target, place.home.join(name))?;
        }
    }
    for path in [&link, &place.home] {
        let ran = run_in(place, &dir(path, "overlay"), "", "echo started");
        ensure!(
            ran.status == 125 && ran.err.contains("rootfs.path"),
            "{}: {ran}",
            path.display()
        );
    }
    place.nothing_left()
}
