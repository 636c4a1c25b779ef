//! A case: one file of the corpus, and what its first comment says of it.

use crate::Outcome;
use crate::trip::Canary;
use std::path::{Path, PathBuf};

pub const GROUPS: [&str; 6] = ["filesystem", "syscalls", "processes", "network", "secrets", "evidence"];

/// Where a control fires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    Host,
    Root,
    Namespaces,
    Rig,
    Void(String),
}

impl Control {
    fn parse(text: &str) -> Option<Control> {
        Some(match text {
            "host" => Control::Host,
            "root" => Control::Root,
            "namespaces" => Control::Namespaces,
            "rig" => Control::Rig,
            _ => Control::Void(text.strip_prefix("void: ")?.trim().to_owned()).reasoned()?,
        })
    }

    fn reasoned(self) -> Option<Control> {
        match &self {
            Control::Void(reason) if reason.is_empty() => None,
            _ => Some(self),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    C,
    Python,
    Shell,
}

#[derive(Debug, Clone)]
pub struct Case {
    pub group: String,
    /// The file's name without its ending.
    pub name: String,
    pub path: PathBuf,
    pub language: Language,
    pub title: String,
    pub source: String,
    pub expect: Vec<String>,
    pub fires: Canary,
    control: Control,
    control_user: Option<Control>,
    limit: Option<String>,
    limit_user: Option<String>,
    /// It runs on the host and itself starts what is to be contained.
    pub driver: bool,
    pub stdin: String,
    pub flags: Vec<String>,
    pub only_process: bool,
    /// It uses up what all of its user's programs share.
    pub alone: bool,
    /// Run by root with nothing to hold it, it would touch nothing but the ground: the program carries it.
    pub harmless: bool,
    pub seconds: u64,
}

impl Case {
    pub fn id(&self) -> String {
        format!("{}/{}", self.group, self.name)
    }

    /// What of the corpus, a directory, is `wanted`, by group and name: groups as the README lists them, names as the alphabet does.
    pub fn all(corpus: &Path, wanted: impl Fn(&str, &str) -> bool) -> Outcome<Vec<Case>> {
        let mut cases = Vec::new();
        let mut wrong = Vec::new();
        for group in GROUPS {
            for path in files(&corpus.join(group)) {
                let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default();
                if !wanted(group, name) {
                    continue;
                }
                match Case::load(&path) {
                    Ok(case) => cases.push(case),
                    Err(why) => wrong.push(why),
                }
            }
        }
        for pair in cases.windows(2) {
            if let [a, b] = pair
                && a.id() == b.id()
            {
                wrong.push(format!(
                    "{}: {} has that name already",
                    b.path.display(),
                    a.path.display()
                ));
            }
        }
        if wrong.is_empty() {
            Ok(cases)
        } else {
            Err(wrong.join("\n"))
        }
    }

    /// Every case of one directory.
    pub fn below(dir: &Path) -> Outcome<Vec<Case>> {
        files(dir).iter().map(|path| Case::load(path)).collect()
    }

    fn load(path: &Path) -> Outcome<Case> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Case::parse(path, &text)
    }

    pub fn parse(path: &Path, text: &str) -> Outcome<Case> {
        let part = |what: Option<&std::ffi::OsStr>| what.and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let language = match part(path.extension()).as_str() {
            "c" => Language::C,
            "py" => Language::Python,
            "sh" => Language::Shell,
            other => {
                return Err(format!(
                    "{}: a case ends in .c, .py or .sh, not .{other}",
                    path.display()
                ));
            }
        };
        let mut case = Case {
            group: part(path.parent().and_then(Path::file_name)),
            name: part(path.file_stem()),
            path: path.to_owned(),
            language,
            title: String::new(),
            source: String::new(),
            expect: Vec::new(),
            fires: Canary::Call,
            control: Control::Host,
            control_user: None,
            limit: None,
            limit_user: None,
            driver: false,
            stdin: "null".into(),
            flags: Vec::new(),
            only_process: false,
            alone: false,
            harmless: false,
            seconds: 10,
        };
        let header = header(path, text, language)?;
        let mut seen: Vec<&str> = Vec::new();
        for (line, key, value) in &header {
            let at = |why: &str| format!("{}:{line}: {key}: {why}", path.display());
            if seen.contains(&key.as_str()) {
                return Err(at("it is said twice"));
            }
            if value.is_empty() {
                return Err(at("it says nothing"));
            }
            case.set(key, value).map_err(|why| at(&why))?;
            seen.push(key);
        }
        match ["title", "source", "expect", "fires", "control"]
            .iter()
            .find(|k| !seen.contains(*k))
        {
            Some(key) => Err(format!("{}:1: the first comment has no `{key}: …`", path.display())),
            None => match case.why_not_harmless() {
                Some(why) if case.harmless => Err(format!("{}:1: harmless: {why}", path.display())),
                _ => Ok(case),
            },
        }
    }

    /// What of the header says that the case cannot be run on anybody's machine.
    fn why_not_harmless(&self) -> Option<&'static str> {
        let controls = [true, false].map(|root| self.control(root));
        let destructive = |c: &Control| matches!(c, Control::Void(reason) if reason.contains("destructive"));
        if self.harms() || controls.iter().any(destructive) {
            return Some("its control harms the machine");
        }
        if self.driver || self.only_process {
            return Some("a driver runs on the host, with nothing to hold it");
        }
        // What these would be seen by lies outside of the ground's folder, or is somebody's process.
        if matches!(self.fires, Canary::Process | Canary::Ipc | Canary::Host) {
            return Some("what it fires at is not below DIR");
        }
        if self.stdin == "terminal" {
            return Some("it has a terminal");
        }
        (!self.flags.is_empty()).then_some("it changes the policy that it is run under")
    }

    fn set(&mut self, key: &str, value: &str) -> Outcome {
        let one_of = |words: &[&str]| match words.contains(&value) {
            true => Ok(value.to_owned()),
            false => Err(format!("{value:?} is none of {}", words.join(", "))),
        };
        let control = || {
            let wanted = || format!("{value:?} is none of host, root, namespaces, rig, void: REASON");
            Control::parse(value).ok_or_else(wanted)
        };
        match key {
            // They become cells of a table.
            "title" => self.title = value.replace('|', "/"),
            "limit" => self.limit = Some(value.replace('|', "/")),
            "limit-user" => self.limit_user = Some(value.replace('|', "/")),
            "source" => self.source = value.replace('|', "/"),
            "expect" => {
                for word in value.split_whitespace() {
                    let known = word == "GOT" || word.starts_with('E') || word.starts_with("SIG");
                    if !known || !word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
                        return Err(format!("{word:?} is no errno's name, no signal and not GOT"));
                    }
                    self.expect.push(word.to_owned());
                }
            }
            "fires" => {
                let known = Canary::ALL.map(|(name, _)| name);
                let word = one_of(&known)?;
                self.fires = Canary::parse(&word).unwrap_or(Canary::Call);
            }
            "control" => self.control = control()?,
            "control-user" => match control()? {
                Control::Root => return Err("an ordinary user is not root: say void: REASON".into()),
                control => self.control_user = Some(control),
            },
            "runs" => self.driver = one_of(&["inside", "outside"])? == "outside",
            "stdin" => self.stdin = one_of(&["null", "dir", "file", "socket", "terminal"])?,
            "flags" => self.flags = value.split_whitespace().map(str::to_owned).collect(),
            "only" => self.only_process = one_of(&["process"])? == "process",
            "alone" => self.alone = one_of(&["yes"])? == "yes",
            "harmless" => self.harmless = one_of(&["yes"])? == "yes",
            "seconds" => {
                let seconds = value.parse().ok().filter(|s| (1..=60).contains(s));
                self.seconds = seconds.ok_or_else(|| format!("{value:?} is no number from 1 to 60"))?;
            }
            _ => return Err("no such key, see tests/escape/README.md".into()),
        }
        Ok(())
    }

    /// Whether its control harms the machine: then nothing of it runs on a host but behind Safe-Run.
    pub fn harms(&self) -> bool {
        [true, false].iter().any(|root| self.control(*root) == Control::Rig)
    }

    /// The command that starts it, where it lies in `folder`, compiled if it is in C.
    pub fn command(&self, folder: &str) -> Vec<String> {
        let file = |ending: &str| format!("{folder}/{}{ending}", self.name);
        match self.language {
            Language::C => vec![file("")],
            Language::Python => vec!["/usr/bin/python3".into(), "-B".into(), file(".py")],
            Language::Shell => vec!["/bin/sh".into(), file(".sh")],
        }
    }

    /// Its control, for root or for an ordinary user.
    pub fn control(&self, root: bool) -> Control {
        if root {
            return self.control.clone();
        }
        match (&self.control_user, &self.control) {
            (Some(control), _) => control.clone(),
            (None, Control::Root) => Control::Void("needs root".into()),
            (None, control) => control.clone(),
        }
    }

    /// The limit that SECURITY.md states and this case shows, for root or for an ordinary user.
    pub fn limit(&self, root: bool) -> Option<&str> {
        match (root, &self.limit_user) {
            (false, Some(limit)) => Some(limit),
            _ => self.limit.as_deref(),
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let is_case = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        // What cases share, and editors' files.
        path.is_file() && !name.starts_with('.') && !name.ends_with('~') && !name.ends_with(".h")
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(is_case).collect();
    files.sort();
    files
}

/// The `key: value` lines of the first comment, with their numbers, up to its first empty line. A line that is indented
/// further than its key goes on with the value.
fn header(path: &Path, text: &str, language: Language) -> Outcome<Vec<(usize, String, String)>> {
    let mut found: Vec<(usize, String, String)> = Vec::new();
    for (number, line) in comment(text, language) {
        let indent = line.len() - line.trim_start().len();
        let line = line.trim();
        if line.is_empty() {
            match found.is_empty() {
                true => continue,
                false => break,
            }
        }
        let is_key = |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        match (line.split_once(':'), found.last_mut()) {
            (Some((key, value)), _) if is_key(key) && indent < 4 => {
                found.push((number, key.to_owned(), value.trim().to_owned()));
            }
            (_, Some((_, _, value))) if indent >= 4 => {
                value.push(' ');
                value.push_str(line);
            }
            _ => return Err(format!("{}:{number}: {line:?} is not `key: value`", path.display())),
        }
    }
    Ok(found)
}

/// The lines of the first comment, without what marks them as one: `/* … */`, `#` or `""" … """`.
fn comment(text: &str, language: Language) -> Vec<(usize, &str)> {
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.trim_end()))
        .peekable();
    lines.next_if(|(_, line)| line.starts_with("#!"));
    let (begins, ends) = match (language, lines.peek()) {
        (Language::C, _) => ("/*", "*/"),
        (Language::Python, Some((_, line))) if line.starts_with("\"\"\"") => ("\"\"\"", "\"\"\""),
        _ => {
            return lines
                .map_while(|(n, line)| Some((n, line.strip_prefix('#')?)))
                .collect();
        }
    };
    let mut comment = Vec::new();
    for (i, (number, line)) in lines.enumerate() {
        let line = match i {
            0 => line.strip_prefix(begins),
            _ => line
                .strip_prefix(" *")
                .filter(|_| language == Language::C && !line.ends_with(ends))
                .or(Some(line)),
        };
        let Some(line) = line else {
            break;
        };
        match line.split_once(ends) {
            Some((last, _)) => {
                comment.push((number, last));
                break;
            }
            None => comment.push((number, line)),
        }
    }
    comment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str, text: &str) -> Outcome<Case> {
        Case::parse(Path::new(name), text)
    }

    #[test]
    fn a_header_in_each_language() {
        let c = "/* title:   A | B\n * source:  x(2),\n *          y(2)\n * expect:  EPERM GOT\n * fires:   change\n * control: root\n *\n * title: no key here\n */\nint x;\n";
        let case = parse("filesystem/one.c", c).unwrap();
        assert_eq!((case.id().as_str(), case.title.as_str()), ("filesystem/one", "A / B"));
        assert_eq!(case.source, "x(2), y(2)");
        assert_eq!(case.expect, ["EPERM", "GOT"]);
        assert_eq!(
            (case.fires, case.seconds, case.stdin.as_str()),
            (Canary::Change, 10, "null")
        );
        assert_eq!(case.control(true), Control::Root);
        assert_eq!(case.control(false), Control::Void("needs root".into()));
        let hash = "#!/bin/sh\n# title: T\n# source: S\n# expect: SIGSYS\n# fires: call\n# control: namespaces\n# control-user: void: not so\n# runs: outside\n# only: process\n# flags: --policy strict\n# stdin: dir\n# seconds: 20\n\nexit\n";
        let quoted = hash
            .replace("#!/bin/sh\n# ", "\"\"\"\n")
            .replace("\n# ", "\n")
            .replace("\n\nexit\n", "\n\nmore\n\"\"\"\nx: 1\n");
        for (name, text) in [
            ("syscalls/two.sh", hash),
            ("syscalls/two.py", hash),
            ("syscalls/two.py", &quoted),
        ] {
            let case = parse(name, text).unwrap();
            assert_eq!(case.control(true), Control::Namespaces);
            assert_eq!(case.control(false), Control::Void("not so".into()));
            assert!(case.driver && case.only_process && case.seconds == 20);
            assert_eq!(case.flags, ["--policy", "strict"]);
        }
    }

    #[test]
    fn what_harms_the_machine_harms_it_whoever_starts_it() {
        let harms = |control: &str| {
            let head = "# title: T\n# source: S\n# expect: EPERM\n# fires: call\n";
            parse("network/n.py", &format!("{head}{control}")).unwrap().harms()
        };
        assert!(harms("# control: rig\n# control-user: void: needs root\n"));
        assert!(harms("# control: void: not so\n# control-user: rig\n"));
        assert!(!harms("# control: root\n"));
    }

    #[test]
    fn harmless_is_what_touches_nothing_but_the_ground() {
        let of = |fires: &str, more: &str| {
            let head = format!("# title: T\n# source: S\n# expect: EPERM\n# fires: {fires}\n# harmless: yes\n");
            parse("network/n.py", &format!("{head}{more}")).map(|case| case.harmless)
        };
        for fires in ["read", "change", "connect", "call"] {
            assert_eq!(of(fires, "# control: host\n"), Ok(true));
        }
        assert_eq!(of("call", "# control: void: the kernel refuses\n"), Ok(true));
        for (fires, more) in [
            ("call", "# control: rig\n"),
            ("call", "# control: host\n# control-user: rig\n"),
            ("call", "# control: void: destructive\n"),
            ("call", "# control: host\n# runs: outside\n"),
            ("call", "# control: host\n# only: process\n"),
            ("call", "# control: host\n# stdin: terminal\n"),
            ("call", "# control: host\n# flags: --policy strict\n"),
            ("process", "# control: host\n"),
            ("ipc", "# control: host\n"),
            ("host", "# control: host\n"),
        ] {
            let wrong = of(fires, more).unwrap_err();
            assert!(
                wrong.starts_with("network/n.py:1: harmless: "),
                "{fires} {more}: {wrong}"
            );
        }
        let plain = "# title: T\n# source: S\n# expect: EPERM\n# fires: call\n# control: host\n";
        assert!(!parse("network/n.py", plain).unwrap().harmless);
        let wrong = parse("network/n.py", &format!("{plain}# harmless: no\n")).unwrap_err();
        assert_eq!(wrong, "network/n.py:6: harmless: \"no\" is none of yes");
    }

    #[test]
    fn a_limit_is_of_both_users_or_of_the_ordinary_one() {
        let head = "# title: T\n# source: S\n# expect: EPERM\n# fires: call\n# control: host\n";
        let of = |more: &str| {
            let case = parse("network/n.py", &format!("{head}{more}")).unwrap();
            [true, false].map(|root| case.limit(root).map(str::to_owned))
        };
        assert_eq!(of(""), [None, None]);
        assert_eq!(of("# limit: a | b\n"), [Some("a / b".into()), Some("a / b".into())]);
        assert_eq!(of("# limit-user: u\n"), [None, Some("u".into())]);
        assert_eq!(
            of("# limit: a\n# limit-user: u\n"),
            [Some("a".into()), Some("u".into())]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let head = "# title: T\n# source: S\n# expect: EPERM\n# fires: call\n";
        let wrong = |more: &str| parse("network/n.py", &format!("{head}{more}")).unwrap_err();
        assert_eq!(wrong(""), "network/n.py:1: the first comment has no `control: …`");
        assert_eq!(
            wrong("# control: void\n"),
            "network/n.py:5: control: \"void\" is none of host, root, namespaces, rig, void: REASON"
        );
        assert_eq!(wrong("# title: U\n"), "network/n.py:5: title: it is said twice");
        assert_eq!(
            wrong("# color: red\n"),
            "network/n.py:5: color: no such key, see tests/escape/README.md"
        );
        assert_eq!(
            wrong("# control-user: root\n"),
            "network/n.py:5: control-user: an ordinary user is not root: say void: REASON"
        );
        assert_eq!(
            wrong("# seconds: 0\n"),
            "network/n.py:5: seconds: \"0\" is no number from 1 to 60"
        );
        assert_eq!(wrong("# only:\n"), "network/n.py:5: only: it says nothing");
        assert_eq!(
            wrong("# Tries it.\n"),
            "network/n.py:5: \"Tries it.\" is not `key: value`"
        );
        let expect = parse("network/n.py", "# expect: eperm\n").unwrap_err();
        assert_eq!(
            expect,
            "network/n.py:1: expect: \"eperm\" is no errno's name, no signal and not GOT"
        );
        assert_eq!(
            parse("network/n.rb", "").unwrap_err(),
            "network/n.rb: a case ends in .c, .py or .sh, not .rb"
        );
    }
}
