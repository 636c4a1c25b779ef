//! A git configuration without its credentials: user information in URLs, extra headers, inline helpers, passwords.
//! Everything else stays as it was, byte for byte.

/// `text` without credentials; equal to `text` if it holds none.
pub(super) fn without_credentials(text: &str) -> String {
    let mut section = String::new();
    let mut out = String::with_capacity(text.len());
    for line in logical_lines(text) {
        let clean = strip_urls(&line);
        let (header, rest) = split_header(&clean);
        if !header.is_empty() {
            section = header
                .trim_start()
                .trim_start_matches('[')
                .trim_start()
                .to_ascii_lowercase();
        }
        match secret(&section, rest) {
            None => out.push_str(&clean),
            Some(kept) => {
                out.push_str(header);
                out.push_str(&kept);
                if !header.is_empty() || !kept.is_empty() {
                    out.push('\n');
                }
            }
        }
    }
    // Joining continued lines is no change in itself.
    if out == logical_lines(text).concat() {
        text.to_owned()
    } else {
        out
    }
}

/// Lines with their ends; a line that a backslash continues is one with the next.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for physical in text.split_inclusive('\n') {
        line.push_str(physical);
        let body = line.trim_end_matches(['\n', '\r']);
        let (escaped, quoted_comment) = ends_in_backslash(body);
        if physical.ends_with('\n') && escaped && !quoted_comment {
            let keep = body.len() - 1;
            line.truncate(keep);
        } else {
            lines.push(std::mem::take(&mut line));
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Whether the line's last character is an unescaped backslash, and whether that is in a comment.
fn ends_in_backslash(body: &str) -> (bool, bool) {
    let (mut escaped, mut quoted, mut comment) = (false, false, false);
    for c in body.chars() {
        match c {
            _ if escaped => {
                escaped = false;
                continue;
            }
            '\\' => escaped = true,
            '"' if !comment => quoted = !quoted,
            '#' | ';' if !quoted => comment = true,
            _ => {}
        }
    }
    (escaped, comment)
}

/// `[section "sub"]`, if the line begins with one, and what stands after it.
fn split_header(line: &str) -> (&str, &str) {
    if !line.trim_start().starts_with('[') {
        return ("", line);
    }
    let mut quoted = false;
    let mut escaped = false;
    for (i, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ']' if !quoted => return line.split_at(i + 1),
            _ => {}
        }
    }
    (line, "")
}

/// What may stay of a line that sets something secret; `None`: all of it.
fn secret(section: &str, line: &str) -> Option<String> {
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let key = key.trim().to_ascii_lowercase();
    if key.is_empty() || key.starts_with(['#', ';']) {
        return None;
    }
    let bare = value.trim().trim_matches('"').to_ascii_lowercase();
    let names_a_secret = ["pass", "token", "secret", "apikey", "api-key", "extraheader"].iter().any(|part| key.contains(part))
            // `askPass` names a program.
            && key != "askpass";
    let inline_helper = section.starts_with("credential")
        && key == "helper"
        && (bare.starts_with('!') || ["password", "token", "secret"].iter().any(|part| bare.contains(part)));
    if names_a_secret || inline_helper {
        return Some(String::new());
    }
    if key == "proxy" && !bare.contains("://") && bare.contains('@') {
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        let host = value
            .rsplit('@')
            .next()
            .unwrap_or_default()
            .trim()
            .trim_end_matches('"');
        return Some(format!("{indent}{key} = {host}"));
    }
    None
}

/// Every `scheme://user:password@host` without what stands before the `@`; for ssh only the password goes.
fn strip_urls(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|c: char| c == '/' || c == '?' || c == '#' || c == '"' || c == '\'' || c == '\\' || c.is_whitespace())
            .unwrap_or(after.len());
        let authority = &after[..end];
        if let Some((user, host)) = authority.rsplit_once('@') {
            let scheme = before[..at]
                .rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '+')
                .next()
                .unwrap_or_default();
            if scheme.to_ascii_lowercase().contains("ssh") {
                out.push_str(user.split(':').next().unwrap_or_default());
                out.push('@');
            }
            out.push_str(host);
        } else {
            out.push_str(authority);
        }
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_no_credential_is_unchanged() {
        let text = "# a \\\n[core]\r\n\tbare = false\n[remote \"origin\"]\n\turl = git@github.com:a/b.git\n\
                    \tpushurl = ssh://git@host:22/x\n[credential]\n\thelper = store --file=x\n[alias]\n x = \"!f() { a; \\\n b; }\"\n";
        assert_eq!(without_credentials(text), text);
        assert_eq!(without_credentials(""), "");
        assert_eq!(without_credentials("[a"), "[a");
    }

    #[test]
    fn each_kind_of_credential_goes() {
        for (text, expected) in [
            ("\turl = https://u:p@h/x.git\n", "\turl = https://h/x.git\n"),
            ("\turl = https://ghp_abc@h:1/x\n", "\turl = https://h:1/x\n"),
            ("\turl = https://u:p%40@x@h\n", "\turl = https://h\n"),
            ("\turl = ssh://git:pw@h/x\n", "\turl = ssh://git@h/x\n"),
            (
                "[url \"https://u:t@h/\"]\n\tinsteadOf = https://h/\n",
                "[url \"https://h/\"]\n\tinsteadOf = https://h/\n",
            ),
            (
                "[http \"https://h/\"]\n\textraheader = AUTHORIZATION: basic x\n\ta = b\n",
                "[http \"https://h/\"]\n\ta = b\n",
            ),
            ("[http] extraHeader = X: y\n", "[http]\n"),
            ("[http]\n\tproxy = u:p@proxy:80\n", "[http]\n\tproxy = proxy:80\n"),
            (
                "[http]\n\tproxy = http://u:p@proxy:80\n",
                "[http]\n\tproxy = http://proxy:80\n",
            ),
            (
                "[credential \"x\"]\n\thelper = \"!f() { echo password=1; }; f\"\n\tusername = u\n",
                "[credential \"x\"]\n\tusername = u\n",
            ),
            (
                "[sendemail]\n\tsmtpPass = x\n\tsmtpUser = u\n",
                "[sendemail]\n\tsmtpUser = u\n",
            ),
            ("[github]\n\toauth-token = x", "[github]\n"),
            ("# old: https://u:p@h\n", "# old: https://h\n"),
            ("[http]\n\textraheader = a \\\nsecret\n[core]\n", "[http]\n[core]\n"),
            ("url = https://u:\\\np@h/\n", "url = https://h/\n"),
        ] {
            assert_eq!(without_credentials(text), expected, "{text:?}");
        }
    }
}
