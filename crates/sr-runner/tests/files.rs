//! What of the view a program may open (`files`): each way to a file that is not named is tried, and the kernel alone says
//! no. What is told of it agrees with what the kernel does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use support::{Place, Ran, Test, fail, needs};

fn main() {
    support::main(&[
        ("what_is_not_named_is_not_opened", what_is_not_named_is_not_opened),
        (
            "what_is_told_is_what_the_kernel_does",
            what_is_told_is_what_the_kernel_does,
        ),
        (
            "nothing_named_starts_only_the_command",
            nothing_named_starts_only_the_command,
        ),
        ("a_joined_command_is_held_too", a_joined_command_is_held_too),
        (
            "a_link_of_an_earlier_run_leads_nowhere",
            a_link_of_an_earlier_run_leads_nowhere,
        ),
        ("no_link_widens_what_a_start_needs", no_link_widens_what_a_start_needs),
        (
            "a_path_through_a_link_elsewhere_is_refused",
            a_path_through_a_link_elsewhere,
        ),
        ("what_is_told_of_links_is_true", what_is_told_of_links_is_true),
        ("why_says_that_files_were_not_told", why_says_that_files_were_not_told),
        ("refused_before_a_run", refused_before_a_run),
    ]);
}

/// A workspace with named and other files in it, shown at `/work`.
fn policy(place: &Place, mount: &str, files: &str, rest: &str) {
    // As it was, whatever a run did with it.
    let _ = fs::remove_dir_all(place.project.join("out"));
    for (name, text) in [
        ("named/open.txt", "named"),
        ("named/more/deep.txt", "named"),
        ("other/secret.txt", "secret"),
        ("out/old.txt", "old"),
        ("file.txt", "file"),
    ] {
        place.write(name, text);
    }
    let text = format!(
        "apiVersion: safe-run/v1\nmetadata: {{name: f}}\nextends: standard\nruntime: {{args: [], workdir: /work}}\n\
         mounts: [{{source: ., target: /work, {mount}}}]\nfiles: {files}\n{rest}\n"
    );
    // Beside the workspace: it is no file of the program's.
    fs::write(place.home.join("policy.yaml"), text).unwrap();
}

fn run(place: &Place, words: &[&str]) -> Ran {
    let policy = place.home.join("policy.yaml");
    place.run(&[&["--quiet", "--policy", policy.to_str().unwrap()], words].concat())
}

/// Of the installed Python: whatever it reads of its own.
const FILES: &str = "{read: [/usr, /lib, /etc/ld.so.cache, /work/named, /work/file.txt], write: [/work/out, /tmp]}";

/// `name: what it is to give: what is done`. `OK`, or an errno.
const ATTEMPTS: &str = r#"
import os, errno, ctypes, mmap, subprocess, sys
def attempt(name, expected, do):
    try: do(); got = 'OK'
    except OSError as e: got = errno.errorcode.get(e.errno, str(e.errno))
    if got not in expected.split('|'): print(f'{name}: {got} where {expected} was expected')
R, W, C, T, P, D = os.O_RDONLY, os.O_WRONLY, os.O_CREAT, os.O_TRUNC, os.O_PATH, os.O_DIRECTORY
at = lambda path, flags=R, mode=0o644, **k: os.close(os.open(path, flags, mode, **k))
link = lambda target, at: (os.symlink(target, at), at)[1]
attempt('named', 'OK', lambda: at('/work/named/open.txt'))
attempt('below what is named', 'OK', lambda: at('/work/named/more/deep.txt'))
attempt('a single file', 'OK', lambda: at('/work/file.txt'))
attempt('what is not named', 'EACCES', lambda: at('/work/other/secret.txt'))
attempt('the same, relative', 'EACCES', lambda: at('named/../other/secret.txt'))
attempt('the same, by another root', 'EACCES', lambda: at('/proc/self/root/work/other/secret.txt'))
attempt('the same, by the working directory', 'EACCES', lambda: at('/proc/self/cwd/other/secret.txt'))
attempt('of the system', 'EACCES', lambda: at('/etc/passwd'))
attempt('by a link of its own', 'EACCES', lambda: at(link('/work/other/secret.txt', '/tmp/l')))
def reopen():
    fd = os.open('/work/other/secret.txt', P)
    at(f'/proc/self/fd/{fd}')
attempt('by a descriptor of its path', 'EACCES', reopen)
def below():
    fd = os.open('/work', P | D)
    at('other/secret.txt', dir_fd=fd)
attempt('below a descriptor', 'EACCES', below)
attempt('to execute it', 'EACCES', lambda: os.execv('/work/other/secret.txt', ['x']))
attempt('to change what may be read', 'EACCES', lambda: at('/work/named/open.txt', W))
attempt('to empty what may be read', 'EACCES', lambda: os.truncate('/work/file.txt', 0))
attempt('to make a file', 'EACCES', lambda: at('/work/named/new', C | W))
attempt('to make one where nothing is named', 'EACCES', lambda: at('/work/other/new', C | W))
attempt('to make a directory', 'EACCES', lambda: os.mkdir('/work/new'))
attempt('to make a link', 'EACCES', lambda: os.symlink('x', '/work/new'))
attempt('to make a pipe', 'EACCES', lambda: os.mkfifo('/work/new'))
attempt('to take one away', 'EACCES', lambda: os.unlink('/work/other/secret.txt'))
attempt('to take a directory away', 'EACCES|ENOTEMPTY', lambda: os.rmdir('/work/other'))
attempt('to carry it where it may be read', 'EACCES|EXDEV', lambda: os.rename('/work/other/secret.txt', '/work/out/s'))
attempt('to carry its directory', 'EACCES|EXDEV', lambda: os.rename('/work/other', '/work/out/o'))
attempt('to give it a second name', 'EACCES|EXDEV|EPERM', lambda: os.link('/work/other/secret.txt', '/work/out/s'))
attempt('to put another in place of a named one', 'EACCES|EXDEV', lambda: os.rename('/work/out/old.txt', '/work/named/open.txt'))
attempt('to make where it may', 'OK', lambda: at('/work/out/new', C | W))
attempt('to change where it may', 'OK', lambda: at('/work/out/old.txt', W | T))
attempt('a directory where it may', 'OK', lambda: (os.mkdir('/work/out/d'), at('/work/out/d/f', C | W), os.rename('/work/out/d/f', '/work/out/g')))
attempt('to take away where it may', 'OK', lambda: os.unlink('/work/out/g'))
attempt('of its own', 'OK', lambda: at('/tmp/x', C | W))
attempt('names', 'OK', lambda: (os.listdir('/work/other'), os.stat('/work/other/secret.txt'), os.listdir('/etc')))
attempt('devices', 'OK', lambda: (at('/dev/null', W), at('/dev/urandom'), at('/proc/self/status'), at('/proc/self/comm', W)))
def child():
    pid = os.fork()
    if pid == 0:
        try: at('/work/other/secret.txt'); os._exit(1)
        except OSError: os._exit(0)
    if os.waitpid(pid, 0)[1]: print('a child opened it')
child()
loader = '/lib64/ld-linux-x86-64.so.2'
if os.path.exists(loader) and b'secret' in subprocess.run([loader, '/work/other/secret.txt'], capture_output=True).stdout: print('by the loader')
print('done')
"#;

fn done(ran: &Ran) -> Test {
    ran.ok()?;
    match ran.out == "done\n" {
        true => Ok(()),
        false => fail(ran),
    }
}

/// A tree to an ordinary user.
fn give_away(path: &Path) -> Test {
    const OTHER: u32 = 65534;
    chown(path, Some(OTHER), Some(OTHER))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            give_away(&entry?.path())?;
        }
    }
    Ok(())
}

/// Whatever is mounted, and whether anybody is told.
fn what_is_not_named_is_not_opened(place: &Place) -> Test {
    needs(place, "python3")?;
    for (mount, rest) in [
        ("captured: true", "evidence: {denied: calls}"),
        ("readOnly: false", "evidence: {denied: network}"),
        ("captured: true", "evidence: {denied: paths}"),
    ] {
        policy(place, mount, FILES, rest);
        if support::is_root() {
            // Root's own files are never shown writable.
            give_away(&place.project)?;
        }
        done(&run(place, &["--", "/usr/bin/python3", "-I", "-S", "-c", ATTEMPTS]))?;
        let report = place.report();
        let all = report["obligations"].as_array().cloned().unwrap_or_default();
        for clause in ["files.read", "files.write"] {
            let held = all
                .iter()
                .any(|o| o["clause"] == clause && o["enforced"] == true && o["strength"] == "kernel");
            ensure!(held, "{clause}: {all:#?}");
        }
        ensure!(
            fs::read_to_string(place.project.join("other/secret.txt"))? == "secret",
            "changed"
        );
    }
    place.nothing_left()
}

/// The same attempts without and with the supervisor looking: the outputs are the same, and each denial is told with its
/// clause and what would allow it.
fn what_is_told_is_what_the_kernel_does(place: &Place) -> Test {
    let script = "cat /work/other/secret.txt; cat named/open.txt; cat file.txt; echo x > other/new; echo x > file.txt; \
                  echo x > out/new; rm out/new; rm other/secret.txt; mkdir d; mv out/old.txt other/y; ls other; \
                  cat /etc/hostname; /usr/bin/env -i /work/other/secret.txt; cat nowhere; echo end";
    let mut said = Vec::new();
    for denied in ["network", "paths"] {
        policy(
            place,
            "captured: true",
            FILES,
            &format!("evidence: {{denied: {denied}}}"),
        );
        let ran = run(place, &["--", "/bin/sh", "-c", script]);
        ran.ok()?;
        let err: Vec<&str> = ran.err.lines().filter(|line| !line.starts_with("safe-run:")).collect();
        said.push((ran.out.clone(), err.join("\n")));
    }
    ensure!(said[0] == said[1], "{said:#?}");
    ensure!(
        said[0].0.contains("namedfile") && said[0].0.ends_with("end\n"),
        "{said:#?}"
    );
    let denied = place.report()["denied"].as_array().cloned().unwrap_or_default();
    for (operation, clause, remedy) in [
        (
            "openat /work/other/secret.txt",
            "files.read",
            "files: {read: […, /work/other/secret.txt]}",
        ),
        (
            "openat /work/other/new",
            "files.write",
            "files: {write: […, /work/other]}",
        ),
        (
            "openat /work/file.txt",
            "files.write",
            "files: {write: […, /work/file.txt]}",
        ),
        (
            "unlinkat /work/other/secret.txt",
            "files.write",
            "files: {write: […, /work/other]}",
        ),
        ("mkdir /work/d", "files.write", "files: {write: […, /work]}"),
        (
            "openat /etc/hostname",
            "files.read",
            "files: {read: […, /etc/hostname]}",
        ),
        (
            "execve /work/other/secret.txt",
            "files.read",
            "files: {read: […, /work/other/secret.txt]}",
        ),
    ] {
        let found = |d: &&serde_json::Value| {
            // By either of the names that the call has.
            let told = d["operation"]
                .as_str()
                .unwrap_or_default()
                .replacen("mkdirat ", "mkdir ", 1);
            told == operation && d["clause"] == clause && d["remedy"] == remedy
        };
        ensure!(denied.iter().any(|d| found(&d)), "{operation}: {denied:#?}");
    }
    let nowhere = denied
        .iter()
        .find(|d| d["operation"].as_str().is_some_and(|o| o.contains("nowhere")));
    ensure!(nowhere.is_none(), "{nowhere:?}");
    place.nothing_left()
}

/// The command, its interpreter and its loader are always read, and its library is not.
fn nothing_named_starts_only_the_command(place: &Place) -> Test {
    policy(place, "readOnly: true", "{}", "");
    let ran = run(place, &["--", "/bin/true"]);
    ran.ended(127)?;
    ensure!(ran.err.contains("libc.so.6"), "{ran}");
    place.write("script", "#!/bin/sh\nread x < /etc/hostname || echo closed\n");
    fs::set_permissions(place.project.join("script"), fs::Permissions::from_mode(0o755))?;
    policy(place, "readOnly: true", "{read: [/usr/lib]}", "");
    let ran = run(place, &["--", "/work/script"]);
    ran.ok()?;
    ensure!(ran.out == "closed\n", "{ran}");
    // It may be read, whoever looks at its path first.
    policy(
        place,
        "readOnly: true",
        "{read: [/usr/lib]}",
        "evidence: {denied: paths}",
    );
    let ran = run(place, &["--", "/work/script"]);
    ran.ok()?;
    ensure!(ran.out == "closed\n", "{ran}");
    place.nothing_left()
}

fn a_joined_command_is_held_too(place: &Place) -> Test {
    policy(place, "captured: true", "{read: [/usr], write: [/tmp]}", "");
    let script = place.project.join("out/script");
    fs::write(&script, "#!/usr/bin/dash\n")?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let program = place.project.join("out/program");
    fs::copy("/bin/true", &program)?;
    let policy = place.home.join("policy.yaml");
    let going = place.start(&[
        "--policy",
        policy.to_str().unwrap(),
        "--",
        "sh",
        "-c",
        "echo up; sleep 60",
    ])?;
    let ran = place.tell(&["exec", "--", "cat", "/work/other/secret.txt"]);
    ran.ended(1)?;
    ensure!(ran.out.is_empty() && ran.err.contains("Permission denied"), "{ran}");
    place.tell(&["exec", "--", "sh", "-c", "echo x > /tmp/x"]).ok()?;
    let ran = place.tell(&["exec", "--", "sh", "-c", "echo x > /work/x"]);
    ensure!(ran.status != 0, "{ran}");
    let ran = place.tell(&["exec", "--", "/work/out/script"]);
    ensure!(ran.status != 0 && ran.err.contains("Permission denied"), "{ran}");
    let ran = place.tell(&["exec", "--", "/work/out/program"]);
    ensure!(ran.status != 0 && ran.err.contains("named under read"), "{ran}");
    going.cancel()?;
    place.nothing_left()
}

/// A program may replace what its next run's policy names by a link: that run is refused, and the place that it leads to
/// stays closed.
fn a_link_of_an_earlier_run_leads_nowhere(place: &Place) -> Test {
    policy(place, "captured: true", "{read: [/usr], write: [/work]}", "session: s");
    run(place, &["--", "sh", "-c", "rm -r named && ln -s other named"]).ok()?;
    for files in [
        "{read: [/usr, /work/named]}",
        "{read: [/usr, /work/named/secret.txt]}",
        "{read: [/usr], write: [/work/named]}",
    ] {
        policy(place, "captured: true", files, "session: s");
        let ran = run(place, &["--", "cat", "/work/other/secret.txt"]);
        ran.ended(125)?;
        ensure!(
            ran.out.is_empty()
                && ran.err.contains("let /work/named")
                && ran.err.contains("a symbolic link leads there"),
            "{files}: {ran}"
        );
    }
    // Links of the view itself are followed: no program makes them.
    policy(
        place,
        "captured: true",
        "{read: [/usr, /lib64, /bin/dash]}",
        "session: s",
    );
    run(place, &["--", "/bin/sh", "-c", "exit 0"]).ok()?;
    place.nothing_left()
}

/// Every start may read a loader by one of its names: where a program could put a link there, that name gives nothing.
fn no_link_widens_what_a_start_needs(place: &Place) -> Test {
    needs(place, "cc")?;
    let root = place.root().join("tree");
    for dir in ["bin", "lib", "lib64", "data", "proc", "dev", "tmp"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::write(root.join("data/secret"), "secret")?;
    // Static: it needs no loader. Reads a file, or makes a link.
    let source = "#include <fcntl.h>\n#include <stdio.h>\n#include <unistd.h>\n\
        int main(int n, char **v) { char b[9] = {0}; if (n > 2) return symlink(v[1], v[2]) ? perror(v[2]), 1 : 0;\n\
        int f = open(v[1], O_RDONLY); if (f < 0) { perror(v[1]); return 1; } read(f, b, 8); puts(b); return 0; }\n";
    place.write("t.c", source);
    let mut cc = place.command("cc");
    cc.args(["-static", "t.c", "-o"]).arg(root.join("bin/t"));
    support::end(cc, b"", support::LIMIT).ok()?;
    if support::is_root() {
        give_away(&root)?;
    }
    let policy = |files: &str| {
        let text = format!(
            "apiVersion: safe-run/v1\nmetadata: {{name: f}}\nextends: standard\nruntime: {{args: [], workdir: /}}\nmounts: []\n\
             rootfs: {{source: dir, path: {}, writable: overlay}}\nsession: s\n{files}\n",
            root.display()
        );
        fs::write(place.home.join("policy.yaml"), text).unwrap();
    };
    let denied = |ran: &Ran| ran.status == 1 && ran.err.contains("Permission denied") && ran.out.is_empty();
    policy("files: {write: [/tmp]}");
    let ran = run(place, &["--", "/bin/t", "/data/secret"]);
    ensure!(denied(&ran), "{ran}");
    for (to, name) in [
        ("/", "/lib/ld-musl-x86_64.so.1"),
        ("/data/secret", "/lib64/ld-linux-x86-64.so.2"),
        ("/data", "/lib/ld-linux-aarch64.so.1"),
    ] {
        policy("");
        run(place, &["--", "/bin/t", to, name]).ok()?;
        policy("files: {write: [/tmp]}");
        let ran = run(place, &["--", "/bin/t", "/data/secret"]);
        ensure!(denied(&ran), "by {name}: {ran}");
    }
    place.nothing_left()
}

/// Where the policy's path leads by a link, another program may have made what it leads through.
fn a_path_through_a_link_elsewhere(place: &Place) -> Test {
    let shown = place.root().join("shown");
    fs::create_dir(&shown)?;
    std::os::unix::fs::symlink("/work/named", shown.join("link"))?;
    let mount = format!("captured: true}}, {{source: {}, target: /shown", shown.display());
    for named in ["/shown/link", "/shown/link/open.txt"] {
        policy(place, &mount, &format!("{{read: [/usr, {named}]}}"), "");
        let ran = run(place, &["--", "cat", "/work/named/open.txt"]);
        ran.ended(125)?;
        ensure!(
            ran.err.contains(&format!("let {named}")) && ran.err.contains("write where it leads"),
            "{ran}"
        );
    }
    place.nothing_left()
}

/// What is done to a link itself is not judged by what it leads to; what the kernel answers first, it answers.
fn what_is_told_of_links_is_true(place: &Place) -> Test {
    needs(place, "python3")?;
    let script = r#"
import os, errno
def attempt(do):
    try: do(); print('OK')
    except OSError as e: print(errno.errorcode[e.errno])
R, W, C, X, P, D, N = os.O_RDONLY, os.O_RDWR, os.O_CREAT, os.O_EXCL, os.O_PATH, os.O_DIRECTORY, os.O_NOFOLLOW
os.symlink('/usr/bin/env', 'l')
for do in [
    lambda: os.open('l', R | N), lambda: os.open('l', C | X | W), lambda: os.open('/usr/bin/env', P | W),
    lambda: os.open('/usr/bin/env', R | D), lambda: os.mkdir('l'), lambda: os.lchown('l', -1, -1),
    lambda: os.utime('l', (1, 1), follow_symlinks=False), lambda: os.rename('l', 'm'), lambda: os.symlink('x', 'n'),
    lambda: os.replace('m', 'n'), lambda: os.unlink('n'), lambda: os.rmdir('/opt-none'), lambda: os.unlink('/etc/shadow'),
    lambda: os.unlink('/etc/shadow-none'), lambda: open('/usr/../proc/self/comm').close(),
    lambda: open('/usr/../dev/null').close(),
]: attempt(do)
"#;
    let mut said = Vec::new();
    for denied in ["network", "paths"] {
        let rest = format!("evidence: {{denied: {denied}}}");
        policy(
            place,
            "captured: true",
            "{read: [/usr, /lib, /etc], write: [/work]}",
            &rest,
        );
        let ran = run(place, &["--", "/usr/bin/python3", "-I", "-S", "-c", script]);
        ran.ok()?;
        said.push(ran.out.clone());
    }
    ensure!(said[0] == said[1] && said[0].lines().count() == 16, "{said:#?}");
    let denied = place.report()["denied"].as_array().cloned().unwrap_or_default();
    ensure!(denied.is_empty(), "more was told than denied: {denied:#?}");
    // A name that would be more than a path in a policy is quoted; one that no policy can hold has no remedy.
    place.write("other/x], write: [/t", "x");
    place.write("other/\u{1b}c", "x");
    policy(place, "captured: true", "{read: [/usr]}", "evidence: {denied: paths}");
    run(
        place,
        &["--", "/bin/sh", "-c", "cat 'other/x], write: [/t' other/*c; true"],
    )
    .ok()?;
    let denied = place.report()["denied"].as_array().cloned().unwrap_or_default();
    let remedies: Vec<_> = denied.iter().map(|d| d["remedy"].as_str()).collect();
    ensure!(
        remedies == [Some("files: {read: […, \"/work/other/x], write: [/t\"]}"), None],
        "{denied:#?}"
    );
    place.nothing_left()
}

fn why_says_that_files_were_not_told(place: &Place) -> Test {
    policy(place, "readOnly: true", "{read: [/usr]}", "");
    run(place, &["--", "cat", "/etc/hostname"]).ended(1)?;
    let ran = place.tell(&["why"]);
    ensure!(
        ran.out.contains("evidence: {denied: paths}") && !ran.out.contains("No clause"),
        "{ran}"
    );
    place.nothing_left()
}

fn refused_before_a_run(place: &Place) -> Test {
    for (files, rest, found) in [
        ("{write: [/usr/lib]}", "", "/usr/lib is not writable in the view"),
        ("{write: [/proc]}", "", "may always be opened"),
        ("{read: [usr]}", "", "SR-RULE-files-form"),
        ("{read: [/usr]}", "degrade: [landlock]", "SR-RULE-files-landlock"),
    ] {
        policy(place, "captured: true", files, rest);
        let ran = run(place, &["--", "true"]);
        ran.ended(125)?;
        ensure!(ran.err.contains(found), "{files}: {ran}");
    }
    // What is not there gives nothing, and that is said.
    policy(
        place,
        "captured: true",
        "{read: [/usr, /work/nmaed, /nowhere, /work/named], write: [/tmp/new, /tmp]}",
        "",
    );
    let ran = place.run(&[
        "--policy",
        place.home.join("policy.yaml").to_str().unwrap(),
        "--",
        "true",
    ]);
    ran.ok()?;
    for absent in ["/work/nmaed", "/nowhere", "/tmp/new"] {
        ensure!(ran.err.contains(&format!("nothing is at {absent} when")), "{ran}");
    }
    ensure!(ran.err.matches("nothing is at").count() == 3, "{ran}");
    // All that the view lets be changed.
    policy(place, "captured: true", "{read: [/usr], write: [/]}", "");
    run(
        place,
        &[
            "--",
            "sh",
            "-c",
            "echo x > /work/other/x && echo x > /tmp/x && echo x > /dev/shm/x",
        ],
    )
    .ok()?;
    place.nothing_left()
}
