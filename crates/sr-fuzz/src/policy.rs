//! Policies: any text, and policies that are valid or nearly so, in all three languages.

use crate::choices::{Choices, mutate};
use crate::{Judgement, require};
use serde_json::Value;
use sr_common::{Backend, ByteSize, Code, Control, Fault, Millis, Vmm};
use sr_compiler::{Arch, syscall_name};
use sr_policy::spec::{
    Accel, BackendChoice, DeniedScope, Durability, Files, HashScope, Mac, Metadata, Microvm, Mount, OnDenied, OnOutput,
    PolicySpec, RequiredStrength, SyscallProfile,
};
use sr_policy::{Format, PRESET_NAMES, parse, preset, render_yaml, resolve};

const NAME: &str = "dir/policy";
/// What `parse` promises.
const MOST_FAULTS: usize = 64;
/// A message is for a person, whatever the text.
const LONGEST_MESSAGE: usize = 4096;
/// How much longer than its text a document can get by YAML's aliases: a hundred values, of the length of the text at most.
const MOST_GROWTH: usize = 128;

fn no_files(path: &str) -> Result<(String, Vec<u8>), Fault> {
    Err(Fault::new(Code::Pol002, "extends", path, "no files here"))
}

/// The policy that a text means.
fn read(text: &[u8], format: Format) -> Result<PolicySpec, Vec<Fault>> {
    resolve(&parse(NAME, text, format)?, &no_files)
}

/// Any bytes: the first chooses the language, the rest is the document.
pub fn text(data: &[u8]) -> Judgement {
    let mut choices = Choices::new(data);
    let format = [Format::Yaml, Format::Json, Format::Toml][choices.below(3)];
    judge_text(choices.rest(), format)
}

fn judge_text(text: &[u8], format: Format) -> Judgement {
    let source = match parse(NAME, text, format) {
        Ok(source) => source,
        Err(faults) => return judge_faults(&faults, text),
    };
    require(text.len() <= 1 << 20, || "a text beyond the size limit was read".into())?;
    let size = serde_json::to_string(&source.document).map_or(0, |json| json.len());
    require(size <= MOST_GROWTH * (text.len() + 64), || {
        format!("{} bytes became {size}", text.len())
    })?;
    match resolve(&source, &no_files) {
        Ok(spec) => fixpoint(&spec),
        Err(faults) => judge_faults(&faults, text),
    }
}

/// What is refused says why, where, and what to do; and not without end.
fn judge_faults(faults: &[Fault], text: &[u8]) -> Judgement {
    require(!faults.is_empty() && faults.len() <= MOST_FAULTS, || {
        format!("{} faults", faults.len())
    })?;
    let text = String::from_utf8_lossy(text);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let lines: Vec<&str> = text.split('\n').collect();
    for fault in faults {
        require(!fault.path.is_empty() && !fault.found.is_empty(), || {
            format!("a fault without words: {fault:?}")
        })?;
        require(fault.found.len() + fault.remedy.len() <= LONGEST_MESSAGE, || {
            format!("a message of {} bytes", fault.found.len() + fault.remedy.len())
        })?;
        let Some(place) = &fault.source else { continue };
        let line = place.line.checked_sub(1).and_then(|line| lines.get(line));
        let line = line.ok_or_else(|| format!("line {} of {}: {fault:?}", place.line, lines.len()))?;
        require((1..=line.chars().count() + 1).contains(&place.column), || {
            format!("column {} of {line:?}: {fault:?}", place.column)
        })?;
        // What could mislead a reader is shown as a dot.
        let same = place
            .text
            .chars()
            .zip(line.chars())
            .all(|(shown, c)| shown == c || shown == '·');
        require(same, || format!("{line:?} is shown as {:?}", place.text))?;
        require(place.file == NAME, || format!("in {}", place.file))?;
    }
    // Only what is wrong with the text as a whole, or missing from it, has no place.
    let placed = |fault: &Fault| fault.source.is_some() || fault.code == Code::Pol001 || fault.found.contains("bytes");
    require(faults.iter().any(placed), || {
        format!("no fault has a place: {faults:?}")
    })
}

/// A policy, written out and read again, is the same; and so is what is written.
fn fixpoint(spec: &PolicySpec) -> Judgement {
    let yaml = render_yaml(spec);
    let again = read(yaml.as_bytes(), Format::Yaml).map_err(|faults| format!("{faults:#?}\n{yaml}"))?;
    require(again == *spec, || format!("{spec:#?}\nread back as\n{again:#?}"))?;
    require(render_yaml(&again) == yaml, || {
        format!("written otherwise the second time:\n{yaml}")
    })
}

/// A generated policy in all three languages, and one of these texts changed.
pub fn forms(data: &[u8]) -> Judgement {
    let mut choices = Choices::new(data);
    let spec = generate(&mut choices);
    let yaml = render_yaml(&spec);
    let source = parse(NAME, yaml.as_bytes(), Format::Yaml).map_err(|faults| format!("{faults:#?}\n{yaml}"))?;
    let document = serde_json::to_value(&source.document).map_err(|e| e.to_string())?;
    let json = document.to_string();
    let mut toml = String::new();
    write_toml_document(&document, &mut toml);

    let by_yaml = read(yaml.as_bytes(), Format::Yaml);
    match &by_yaml {
        Ok(read) => {
            require(*read == spec, || format!("{spec:#?}\nread as\n{read:#?}"))?;
            fixpoint(read)?;
        }
        Err(faults) => judge_faults(faults, yaml.as_bytes())?,
    }
    let mut texts = vec![(Format::Yaml, yaml)];
    for (format, text) in [(Format::Json, json), (Format::Toml, toml)] {
        match (&by_yaml, &read(text.as_bytes(), format)) {
            (Ok(one), Ok(other)) => require(one == other, || format!("{format:?} means another policy:\n{text}"))?,
            (Err(one), Err(other)) => {
                let said = |faults: &[Fault]| -> Vec<(Code, String, String)> {
                    faults
                        .iter()
                        .map(|f| (f.code, f.path.clone(), f.found.clone()))
                        .collect()
                };
                require(said(one) == said(other), || format!("{one:#?}\n{format:?}: {other:#?}"))?;
                judge_faults(other, text.as_bytes())?;
            }
            (one, other) => return Err(format!("YAML: {one:?}\n{format:?}: {other:?}\n{text}")),
        }
        texts.push((format, text));
    }
    let (format, text) = texts.swap_remove(choices.below(3));
    let mut bytes = text.into_bytes();
    mutate(&mut bytes, &mut choices);
    judge_text(&bytes, format)
}

fn write_toml_document(document: &Value, to: &mut String) {
    for (key, value) in document.as_object().into_iter().flatten() {
        write_toml_string(key, to);
        to.push_str(" = ");
        write_toml(value, to);
        to.push('\n');
    }
}

fn write_toml(value: &Value, to: &mut String) {
    match value {
        Value::String(text) => write_toml_string(text, to),
        Value::Array(items) => {
            to.push('[');
            for item in items {
                write_toml(item, to);
                to.push(',');
            }
            to.push(']');
        }
        Value::Object(members) => {
            to.push('{');
            for (i, (key, value)) in members.iter().enumerate() {
                to.push_str(if i == 0 { "" } else { ", " });
                write_toml_string(key, to);
                to.push_str(" = ");
                write_toml(value, to);
            }
            to.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => to.push_str(&value.to_string()),
    }
}

// JSON's escapes are TOML's too, as long as nothing beyond them is escaped.
fn write_toml_string(text: &str, to: &mut String) {
    to.push_str(&Value::String(text.to_owned()).to_string());
}

const TEXTS: [&str; 30] = [
    "a",
    "no",
    "true",
    "~",
    "1.0",
    "0x10",
    "- a",
    "a: b",
    "#x",
    "'",
    "\"",
    "\\",
    "| x",
    "> x",
    "{",
    "]",
    "&a",
    "*a",
    "!t",
    "---",
    "...",
    "<<",
    "12e3",
    "2001-01-01",
    "512MiB",
    "é€😀",
    "a  b",
    ".inf",
    "null",
    "x=y",
];

/// One line of text, not empty.
fn word(c: &mut Choices<'_>) -> String {
    let mut word = c.word(&TEXTS).to_owned();
    word.extend(c.list(6, |c| char::from(b'!' + c.below(94) as u8)));
    word
}

fn free_text(c: &mut Choices<'_>) -> String {
    let mut text = c.some(word).unwrap_or_default();
    text.push_str(c.word(&["", "\n", "\t x", " ", "\n\nb\n"]));
    text
}

/// A name of a call that some architecture has.
pub(crate) fn call(c: &mut Choices<'_>) -> String {
    let arch = if c.flag() { Arch::X86_64 } else { Arch::Aarch64 };
    let nr = c.below(470) as u32;
    syscall_name(arch, nr).unwrap_or("read").to_owned()
}

/// Places of a view.
const FILES: &[&str] = &[
    "/",
    "/usr",
    "/tmp",
    "/tmp/a b",
    "/m",
    "/m/1/x",
    "/proc",
    "/etc/passwd",
    "/nowhere",
];

/// A complete policy of good form. It may break a combination rule.
pub fn generate(c: &mut Choices<'_>) -> PolicySpec {
    // The presets are there for every one of their names.
    let mut spec = preset(c.word(&PRESET_NAMES)).unwrap_or_else(|| unreachable!("a preset of that name"));
    spec.metadata = Metadata {
        name: word(c),
        description: c.some(free_text),
        labels: c.list(3, |c| (word(c), free_text(c))).into_iter().collect(),
    };
    spec.runtime.command = c.some(word);
    spec.runtime.args = c.list(4, free_text);
    let name = |c: &mut Choices<'_>| format!("V{}", c.byte());
    spec.runtime.env = c.list(4, |c| (name(c), free_text(c))).into_iter().collect();
    spec.runtime.workdir = c.some(|c| format!("/w/{}", c.byte()));
    spec.runtime.user = 1 + c.below(65_533) as u32;
    spec.mounts = (0..c.below(4)).map(|i| mount(c, i)).collect();
    spec.hide = c.list(3, |c| {
        c.word(&[".env*", "*.pem", "?x", ".git/config", "secret"]).to_owned()
    });
    spec.files = c.some(|c| Files {
        read: c.list(4, |c| c.word(FILES).to_owned()),
        write: c.list(3, |c| c.word(FILES).to_owned()),
    });
    let limits = &mut spec.resources;
    limits.cpu = c.some(|c| f64::from(1 + c.below(4_000_000) as u32) / 1000.0);
    limits.memory = c.some(|c| ByteSize((4 << 20) + c.long() % (1 << c.below(62))));
    limits.pids = c.some(|c| 1 + c.below(100_000) as u32);
    limits.disk = ByteSize(1 + c.long() % (1 << c.below(62)));
    limits.wall_time = Millis(1 + u64::from(c.number()) % 2_592_000_000);
    limits.open_files = 3 + c.below(100_000) as u32;
    limits.output = ByteSize(1 + u64::from(c.number()));
    limits.on_output = if c.flag() { OnOutput::Kill } else { OnOutput::Truncate };
    limits.strength = [
        RequiredStrength::Any,
        RequiredStrength::PerProcess,
        RequiredStrength::Kernel,
    ][c.below(3)];
    calls(&mut spec, c);
    spec.mac = c.some(|c| match c.flag() {
        true => Mac::Apparmor(c.word(&["p", "/usr/bin/x//y", "a.b-c", "no", "~", "{a,b}*"]).into()),
        false => Mac::Selinux(c.word(&["u:r:t", "u:r:t:s0-s0:c0.c1023", "1:2:3"]).into()),
    });
    wall(&mut spec, c);
    spec.evidence.sign = c.word(&["default", "none", "ci"]).to_owned();
    spec.evidence.sample_interval = Millis(10 + c.below(3_599_990) as u64);
    spec.evidence.hash = if c.flag() { HashScope::Tree } else { HashScope::Files };
    spec.evidence.denied = [
        DeniedScope::Available,
        DeniedScope::Network,
        DeniedScope::Calls,
        DeniedScope::Paths,
    ][c.below(4)];
    spec.evidence.durability = if c.flag() {
        Durability::Machine
    } else {
        Durability::Process
    };
    spec.session = c.some(|c| format!("s{}", c.byte()));
    spec.degrade = Control::DEGRADABLE.into_iter().filter(|_| c.flag()).collect();
    spec
}

/// The native wall in most; else any, and a guest that may not go with it.
fn wall(spec: &mut PolicySpec, c: &mut Choices<'_>) {
    if c.below(4) > 0 {
        return;
    }
    let all: Vec<BackendChoice> = BackendChoice::all().collect();
    spec.runtime.backend = match c.flag() {
        true => all[c.below(all.len())],
        false => BackendChoice::This(Backend::Microvm(Vmm::Qemu)),
    };
    let vmms = [Vmm::Firecracker, Vmm::CloudHypervisor, Vmm::Qemu];
    let name = |c: &mut Choices<'_>| c.word(&["default", "a.b", "1-2", "no", "../x", "/boot/k"]).to_owned();
    spec.microvm = c.some(|c| Microvm {
        vmm: c.some(|c| vmms[c.below(3)]),
        kernel: name(c),
        rootfs: c.some(name),
        accel: if c.flag() { Accel::Tcg } else { Accel::Kvm },
        boot_timeout: Millis([1000, 30_000, 120_000, 600_000, 10, 3_600_000][c.below(6)]),
    });
}

/// The part of a policy about system calls.
pub(crate) fn calls(spec: &mut PolicySpec, c: &mut Choices<'_>) {
    let calls = &mut spec.syscalls;
    calls.profile = [SyscallProfile::Named, SyscallProfile::Strict, SyscallProfile::Standard][c.below(3)];
    calls.on_denied = [OnDenied::Errno, OnDenied::Kill, OnDenied::Log, OnDenied::Ask][c.below(4)];
    calls.allow = c.list(12, call);
    calls.deny = c.list(40, call);
}

fn mount(c: &mut Choices<'_>, i: usize) -> Mount {
    let captured = c.flag();
    Mount {
        source: c
            .word(&[
                ".",
                "./src",
                "/data/x",
                "../up",
                "/",
                "/usr",
                "/home/alice/p",
                "/etc/hosts",
            ])
            .to_owned(),
        target: c.some(|c| match c.below(6) {
            0 => "/usr/local".into(),
            1 => "/".into(),
            2 => "/m".into(),
            _ => format!("/m/{i}"),
        }),
        read_only: !captured && c.flag(),
        captured,
    }
}

/// Policies to begin with: the presets, and a document that uses what its language has.
pub fn seeds() -> Vec<Vec<u8>> {
    let presets = PRESET_NAMES.iter().filter_map(|name| preset(name));
    let mut texts: Vec<(u8, String)> = presets.map(|spec| (0, render_yaml(&spec))).collect();
    texts.push((0, "apiVersion: safe-run/v1\nmetadata: {name: a, labels: {x: y}}\nextends: strict\nruntime:\n  command: /bin/true\n  args: &a [\"-c\", 'x']\n  env: {A: b}\nmounts:\n  - {source: ./src, target: /work, readOnly: true}\nresources: {cpu: 0.5, memory: 512MiB, wallTime: 30s}\nhide: *a\n".into()));
    texts.push((1, "{\"apiVersion\": \"safe-run/v1\", \"metadata\": {\"name\": \"a\"}, \"runtime\": {\"args\": []}, \"mounts\": []}".into()));
    texts.push((
        2,
        "apiVersion = 'safe-run/v1'\nmounts = []\nmetadata.name = 'a'\n[runtime]\nargs = []\n".into(),
    ));
    let seed = |(format, text): (u8, String)| [&[format], text.as_bytes()].concat();
    texts.into_iter().map(seed).collect()
}
