//! Attack basics are denied. Each payload prints `DENIED` or `GOT`; a payload that says neither fails the test, so that
//! a broken payload never passes for a wall. Where it is harmless, a control on the bare host shows that it means something.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::net::UnixListener;
use support::{CANARY, LIMIT, Place, Test, end, needs};

fn main() {
    support::main(&[
        ("stdin_as_a_directory", stdin_as_a_directory),
        ("stdin_as_a_writable_file", stdin_as_a_writable_file),
        ("inherited_descriptors", inherited_descriptors),
        ("init_gives_nothing_away", init_gives_nothing_away),
        ("host_files_outside_the_view", host_files_outside_the_view),
        ("sockets_of_every_family", sockets_of_every_family),
        ("unix_sockets_of_the_host", unix_sockets_of_the_host),
        ("calls_outside_the_profile", calls_outside_the_profile),
        ("other_entry_points", other_entry_points),
        ("kernel_settings", kernel_settings),
        ("system_directories", system_directories),
        ("setuid_programs_gain_nothing", setuid_programs_gain_nothing),
        ("links_out_of_the_project", links_out_of_the_project),
        ("hidden_files", hidden_files),
    ]);
}

/// The python payload says DENIED on every line inside.
fn denied(place: &Place, words: &[&str], payload: &str) -> Test {
    needs(place, "python3")?;
    let helper = "import os, sys, ctypes, socket, errno\n\
        def t(name, f):\n\
        \x20 try: r = f()\n\
        \x20 except (OSError, AttributeError) as e: print('DENIED', name, e)\n\
        \x20 else: print('GOT', name, repr(r)[:200])\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        def call(*a):\n\
        \x20 r = libc.syscall(*[ctypes.c_long(x) if isinstance(x, int) else x for x in a])\n\
        \x20 if r < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))\n\
        \x20 return r\n";
    let script = format!("{helper}{payload}");
    let ran = place.run(&[words, &["--", "/usr/bin/python3", "-c", &script]].concat());
    ran.ok()?;
    ensure!(!ran.out.contains("GOT") && ran.out.contains("DENIED"), "{ran}");
    ensure!(!ran.out.contains(CANARY), "the canary came out: {ran}");
    place.nothing_left()
}

/// The caller's shell opens something for the run; `script` sees `$1` = safe-run and prints what the program printed.
fn from_shell(place: &Place, redirect: &str, payload: &str) -> Test {
    let mut command = place.command("sh");
    command.args(["-c", &format!("exec \"$1\" run -- sh -c \"$2\" {redirect}"), "sh"]);
    command.arg(support::safe_run()).arg(payload);
    let ran = end(command, b"", LIMIT);
    ensure!(
        ran.out.contains("DENIED") && !ran.out.contains("GOT") && !ran.out.contains(CANARY),
        "{ran}"
    );
    Ok(())
}

fn stdin_as_a_directory(place: &Place) -> Test {
    from_shell(
        place,
        "< /",
        "cat /proc/self/fd/0/etc/hostname /dev/fd/0/etc/passwd >/dev/null 2>&1 && echo GOT || echo DENIED",
    )
}

fn stdin_as_a_writable_file(place: &Place) -> Test {
    let path = place.root().join("outside");
    fs::write(&path, "")?;
    let redirect = format!("<> {}", path.display());
    from_shell(
        place,
        &redirect,
        "(echo bad >&0) 2>/dev/null; (echo bad > /proc/self/fd/0) 2>/dev/null; test -f /dev/fd/0 && echo GOT || echo DENIED",
    )?;
    ensure!(fs::read(&path)?.is_empty(), "the caller's file was written to");
    Ok(())
}

fn inherited_descriptors(place: &Place) -> Test {
    let path = place.root().join("open");
    fs::write(&path, CANARY)?;
    let redirect = format!("9< {}", path.display());
    from_shell(
        place,
        &redirect,
        "cat <&9 2>/dev/null && echo GOT || echo DENIED; ls /proc/self/fd | grep -qx 9 && echo GOT",
    )
}

fn init_gives_nothing_away(place: &Place) -> Test {
    denied(
        place,
        &[],
        "for f in ('environ', 'mem', 'auxv', 'maps'):\n  t(f, lambda: open('/proc/1/' + f, 'rb').read(64) or errno.EPERM)\n\
         t('root', lambda: os.listdir('/proc/1/root'))\nt('cwd', lambda: os.listdir('/proc/1/cwd'))\nt('fd', lambda: os.listdir('/proc/1/fd'))\n\
         t('attach', lambda: call(101, 16, 1, 0, 0))\nt('vm', lambda: call(310, 1, 0, 0, 0, 0, 0))\n\
         t('pidfd_getfd', lambda: call(438, call(434, 1, 0), 0, 0))\n",
    )
}

fn host_files_outside_the_view(place: &Place) -> Test {
    let canary = place.root().join("canary");
    fs::write(&canary, CANARY)?;
    place.run(&["--", "true"]).ok()?;
    let mut payload = String::new();
    for path in [
        &canary,
        &place.store,
        &place.keys,
        &place.home,
        &place.last_run().join("policy.json"),
    ] {
        payload +=
            &format!("t('host', lambda: os.listdir({path:?}) if os.path.isdir({path:?}) else open({path:?}).read())\n");
    }
    payload += "for f in ('/etc/shadow', '/etc/gshadow', '/root/.bashrc', '/var/log/dpkg.log', '/run/utmp', '/proc/kcore', '/proc/kmsg', '/dev/mem', '/dev/kmsg', '/dev/sda', '/dev/kvm'):\n  t(f, lambda: open(f, 'rb').read(1))\n";
    denied(place, &[], &payload)?;
    denied(
        place,
        &["--policy", "strict"],
        "t('shadow', lambda: open('/etc/shadow').read())\n",
    )
}

fn sockets_of_every_family(place: &Place) -> Test {
    denied(
        place,
        &[],
        "for f, k in ((2, 1), (2, 2), (2, 3), (10, 1), (10, 2), (16, 3), (17, 3), (38, 5), (40, 1), (21, 5), (30, 1), (44, 3), (31, 3)):\n  t(str(f), lambda: socket.socket(f, k).fileno())\n",
    )?;
    let tell = place.run(&["--", "/usr/bin/python3", "-c", "import socket; socket.socket()"]);
    ensure!(
        tell.status == 1 && tell.err.contains("network is off"),
        "no hint: {tell}"
    );
    Ok(())
}

fn unix_sockets_of_the_host(place: &Place) -> Test {
    use std::os::linux::net::SocketAddrExt;
    let path = place.root().join("door");
    let inside = place.project.join("door");
    let name = place.mark();
    let _listeners = [
        UnixListener::bind(&path)?,
        UnixListener::bind(&inside)?,
        UnixListener::bind_addr(&std::os::unix::net::SocketAddr::from_abstract_name(&name)?)?,
    ];
    let payload = format!(
        "for a in ({path:?}, {inside:?}, '\\0{name}'):\n  t(repr(a), lambda: socket.socket(socket.AF_UNIX).connect(a))\n"
    );
    let control = format!("import socket\nfor a in ({path:?}, '\\0{name}'): socket.socket(socket.AF_UNIX).connect(a)");
    let mut bare = place.command("/usr/bin/python3");
    bare.args(["-c", &control]);
    end(bare, b"", LIMIT).ok()?;
    denied(place, &[], &payload)
}

fn calls_outside_the_profile(place: &Place) -> Test {
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("the numbers of these calls are x86_64's");
    }
    denied(
        place,
        &[],
        "n = ctypes.c_char_p(b'none'); d = ctypes.c_char_p(b'/tmp'); p = ctypes.create_string_buffer(256)\n\
         for name, a in {'mount': (165, n, d, ctypes.c_char_p(b'tmpfs'), 0, 0), 'umount': (166, d, 2), 'pivot_root': (155, d, d), 'chroot': (161, d),\n\
           'fsopen': (430, ctypes.c_char_p(b'tmpfs'), 0), 'open_tree': (428, -100, d, 1), 'unshare user': (272, 0x10000000), 'unshare mount': (272, 0x20000),\n\
           'setns': (308, 0, 0), 'clone3': (435, p, 88), 'clone user': (56, 0x10000011, 0, 0, 0, 0), 'io_uring_setup': (425, 4, p), 'keyctl': (250, 0, -3, 1), 'add_key': (248, n, n, n, 4, -3),\n\
           'bpf': (321, 0, p, 128), 'perf': (298, p, 0, -1, -1, 0), 'userfaultfd': (323, 0), 'init_module': (175, p, 8, n), 'kexec': (246, 0, 0, p, 0), 'reboot': (169, 0xfee1dead, 672274793, 0, 0),\n\
           'swapon': (167, d, 0), 'ptrace parent': (101, 16, os.getppid(), 0, 0), 'open_by_handle': (304, -100, p, 0), 'personality': (135, 0x0400000), 'sethostname': (170, n, 4), 'mknod': (133, ctypes.c_char_p(b'/tmp/node'), 0o20666, 0x101),\n\
           'setuid root': (105, 0), 'acct': (163, d), 'settime': (227, 0, p), 'quotactl': (179, 0, n, 0, 0), 'iopl': (172, 3)}.items(): t(name, lambda: call(*a))\n\
         import fcntl\n\
         for c in (0x5412, 0x5412 | 1 << 32, 0x541c, 0x541c | 7 << 40): t('TIOCSTI %x' % c, lambda: call(16, 0, c, p))\n",
    )
}

fn other_entry_points(place: &Place) -> Test {
    if std::env::consts::ARCH != "x86_64" {
        return support::skip("int 0x80 and x32 are x86_64's");
    }
    needs(place, "gcc")?;
    for (name, code) in [
        (
            "int80",
            "__asm__ volatile(\"int $0x80\" : \"=a\"(r) : \"a\"(20L) : \"memory\");",
        ),
        (
            "x32",
            "__asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(0x40000000L + 39) : \"rcx\", \"r11\", \"memory\");",
        ),
    ] {
        place.write("a.c", &format!("#include <stdio.h>\nint main(void) {{ long r = -1; {code} puts(r > 0 ? \"GOT\" : \"NOT\"); return 0; }}\n"));
        let mut gcc = place.command("gcc");
        gcc.args(["-o", name, "a.c"]);
        end(gcc, b"", LIMIT).ok()?;
        let ran = place.run(&["--", &format!("./{name}")]);
        ensure!(ran.status == 128 + 31 && !ran.out.contains("GOT"), "{name}: {ran}");
    }
    Ok(())
}

fn kernel_settings(place: &Place) -> Test {
    denied(
        place,
        &[],
        "for f in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sys/vm/drop_caches', '/proc/sysrq-trigger', '/sys/kernel/uevent_helper', '/sys/power/state', '/proc/self/oom_score_adj_', '/proc/sys/user/max_user_namespaces', '/sys/x'):\n  t(f, lambda: open(f, 'w').write('1'))\n\
         t('sys', lambda: os.listdir('/sys/kernel'))\nt('firmware', lambda: os.listdir('/sys/firmware'))\nt('cgroup', lambda: os.mkdir('/sys/fs/cgroup/x'))\n",
    )
}

fn system_directories(place: &Place) -> Test {
    denied(
        place,
        &[],
        "for d in ('/usr', '/usr/bin', '/etc', '/lib', '/proc', '/sys', '/usr/local/lib'):\n  t(d, lambda: open(d + '/safe-run-was-here', 'w'))\n\
         t('append', lambda: open('/etc/passwd', 'a').write('x'))\nt('unlink', lambda: os.unlink('/usr/bin/env'))\n",
    )
}

fn setuid_programs_gain_nothing(place: &Place) -> Test {
    let ran = place.run(&["--", "sh", "-c", "for p in su passwd mount ping; do f=$(command -v $p) && echo x | $f >/dev/null 2>&1; done; grep -E 'Uid|NoNewPrivs|CapEff' /proc/self/status; findmnt -no OPTIONS / 2>/dev/null"]);
    ensure!(
        ran.out.contains("1000\t1000\t1000\t1000") && ran.out.contains("NoNewPrivs:\t1"),
        "{ran}"
    );
    ensure!(ran.out.contains("CapEff:\t0000000000000000"), "{ran}");
    Ok(())
}

fn links_out_of_the_project(place: &Place) -> Test {
    let canary = place.root().join("canary");
    fs::write(&canary, CANARY)?;
    std::os::unix::fs::symlink(&canary, place.project.join("way-out"))?;
    fs::create_dir(place.project.join("d"))?;
    fs::write(place.project.join("d/f"), "old")?;
    let script = format!(
        "cat way-out 2>/dev/null && echo GOT || echo DENIED; echo bad > way-out 2>/dev/null; rm -r d; ln -s {} d; echo bad > d/canary 2>/dev/null; rm way-out; echo x > way-out",
        place.root().display()
    );
    let ran = place.run(&["--", "sh", "-c", &script]);
    ensure!(ran.out.contains("DENIED") && !ran.out.contains("GOT"), "{ran}");
    let _ = place.tell(&["apply", "--yes"]);
    ensure!(
        fs::read_to_string(&canary)? == CANARY,
        "apply wrote through a symbolic link"
    );
    Ok(())
}

fn hidden_files(place: &Place) -> Test {
    for name in [".env", ".env.local", ".npmrc", ".netrc", ".pypirc", "sub/.env"] {
        place.write(name, &format!("TOKEN={CANARY}\n"));
    }
    place.write(
        ".git/config",
        &format!("[remote \"o\"]\n\turl = https://me:{CANARY}@example.com/x.git\n"),
    );
    place.write(".git/HEAD", "ref: refs/heads/main\n");
    fs::create_dir_all(place.project.join(".git/objects"))?;
    fs::create_dir_all(place.project.join(".git/refs"))?;
    let ran = place.run(&[
        "--",
        "sh",
        "-c",
        "cat .git/config .env .env.local .npmrc .netrc .pypirc sub/.env 2>&1; grep -rs canary- . ; echo end",
    ]);
    ensure!(
        ran.out.contains("end") && ran.out.contains("example.com") && !ran.out.contains(CANARY),
        "{ran}"
    );
    ensure!(
        place.report().to_string().contains(".env"),
        "what was hidden is not reported"
    );
    Ok(())
}
