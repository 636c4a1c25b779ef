//! `/etc`: made-up identity files, and the host's files that programs cannot do without.

use super::tree::Tree;
use crate::bundle::ViewKind;
use crate::compile::Input;
use sr_common::path;

/// The name of the program's user.
pub(crate) const USER: &str = "sandbox";

const NOBODY: u32 = 65_534;

/// Host files of these names are never shown, whatever the facts say: identities, secrets, who may become whom.
const NEVER: [&str; 15] = [
    "passwd",
    "passwd-",
    "group",
    "group-",
    "shadow",
    "shadow-",
    "gshadow",
    "gshadow-",
    "sudoers",
    "sudoers.d",
    "ssh",
    "hosts",
    "hostname",
    "resolv.conf",
    "machine-id",
];

/// Members of the allow-list that are directories. The facts give names only; a trailing `/` says it too.
const DIRECTORIES: [&str; 11] = [
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "ld.so.conf.d",
    "perl",
    "pki",
    "profile.d",
    "ssl",
    "terminfo",
    "xml",
];

/// Files: copied, where a mount would cost more.
const COPIED: [&str; 12] = [
    "ld.so.cache",
    "ld.so.conf",
    "locale.conf",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "pki/tls/openssl.cnf",
    "protocols",
    "services",
    "ssl/openssl.cnf",
    "timezone",
];

pub(crate) fn add(input: Input<'_>, tree: &mut Tree) {
    for member in &input.facts.etc {
        let path = member.trim_end_matches('/');
        let Some(rest) = path::relative(path, "/etc").filter(|rest| !rest.is_empty() && path::is_normal(path)) else {
            continue;
        };
        let first = rest.split('/').next().unwrap_or(rest);
        if NEVER.contains(&first) {
            continue;
        }
        let directory = member.ends_with('/') || DIRECTORIES.contains(&rest) || version_directory(rest);
        let source = path.to_owned();
        let what = if COPIED.contains(&rest) {
            ViewKind::Copy { source }
        } else {
            ViewKind::ReadOnly { source, directory }
        };
        tree.set(path, what);
    }
    let user = input.policy.runtime.user;
    for (path, content) in [
        ("/etc/passwd", passwd(user)),
        ("/etc/group", group(user)),
        ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
        ("/etc/hostname", "sandbox\n".to_owned()),
        ("/etc/resolv.conf", String::new()),
    ] {
        tree.set(path, ViewKind::File { content });
    }
}

// Debian keeps a directory of settings for each version, such as java-17-openjdk.
fn version_directory(name: &str) -> bool {
    name.starts_with("java")
}

fn passwd(user: u32) -> String {
    let mut text = String::new();
    if user != 0 {
        text.push_str("root:x:0:0:root:/:/usr/sbin/nologin\n");
    }
    text.push_str(&format!("{USER}:x:{user}:{user}:{USER}:{}:/bin/sh\n", super::HOME));
    if user != NOBODY {
        text.push_str(&format!(
            "nobody:x:{NOBODY}:{NOBODY}:nobody:/nonexistent:/usr/sbin/nologin\n"
        ));
    }
    text
}

fn group(user: u32) -> String {
    let mut text = String::new();
    if user != 0 {
        text.push_str("root:x:0:\n");
    }
    text.push_str(&format!("{USER}:x:{user}:\n"));
    // Devpts gives its terminals to this group where it is mapped.
    if user != 5 {
        text.push_str("tty:x:5:\n");
    }
    if user != NOBODY {
        text.push_str(&format!("nogroup:x:{NOBODY}:\n"));
    }
    text
}
