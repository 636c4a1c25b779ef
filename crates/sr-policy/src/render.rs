//! A complete policy as a YAML document that reads back as the same policy.

use crate::host_call::HostCallRule;
use crate::rules::files::can_be_named;
use crate::spec::{PolicySpec, Wasm};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The policy as a complete document: every default written out, and `extends` naming the preset beneath, so that
/// [`crate::parse`] and [`crate::resolve`] give an equal policy.
pub fn render_yaml(spec: &PolicySpec) -> String {
    let mut out = Writer(String::new());
    out.line(0, "apiVersion", &spec.api_version);
    out.line(0, "kind", &"Policy");
    out.line(0, "extends", &spec.preset.name());
    out.open("metadata");
    out.line(1, "name", &spec.metadata.name);
    out.some(1, "description", spec.metadata.description.as_ref());
    if !spec.metadata.labels.is_empty() {
        out.line(1, "labels", &spec.metadata.labels);
    }
    out.open("runtime");
    out.line(1, "backend", &spec.runtime.backend);
    out.some(1, "command", spec.runtime.command.as_ref());
    out.line(1, "args", &spec.runtime.args);
    out.line(1, "env", &spec.runtime.env);
    out.some(1, "workdir", spec.runtime.workdir.as_ref());
    out.line(1, "user", &spec.runtime.user);
    out.open("rootfs");
    out.line(1, "source", &spec.rootfs.source);
    out.some(1, "path", spec.rootfs.path.as_ref());
    out.line(1, "writable", &spec.rootfs.writable);
    out.line(1, "installation", &spec.rootfs.installation);
    out.mounts(spec);
    out.line(0, "hide", &spec.hide);
    if let Some(files) = &spec.files {
        out.open("files");
        out.list(1, "read", &files.read);
        out.list(1, "write", &files.write);
    }
    out.open("resources");
    let limits = &spec.resources;
    out.limit("cpu", limits.cpu.as_ref());
    out.limit("memory", limits.memory.as_ref());
    out.limit("pids", limits.pids.as_ref());
    out.line(1, "disk", &limits.disk);
    out.line(1, "wallTime", &limits.wall_time);
    out.line(1, "openFiles", &limits.open_files);
    out.line(1, "output", &limits.output);
    out.line(1, "onOutput", &limits.on_output);
    out.line(1, "strength", &limits.strength);
    out.open("syscalls");
    out.line(1, "profile", &spec.syscalls.profile);
    out.line(1, "allow", &spec.syscalls.allow);
    out.line(1, "deny", &spec.syscalls.deny);
    out.line(1, "onDenied", &spec.syscalls.on_denied);
    if !spec.syscalls.arguments.is_empty() {
        out.line(1, "arguments", &spec.syscalls.arguments);
    }
    out.open("network");
    out.line(1, "mode", &spec.network.mode);
    if let Some(mac) = &spec.mac {
        out.line(0, "mac", mac);
    }
    if let Some(guest) = &spec.microvm {
        out.open("microvm");
        out.some(1, "vmm", guest.vmm.as_ref());
        out.line(1, "kernel", &guest.kernel);
        out.some(1, "rootfs", guest.rootfs.as_ref());
        out.line(1, "accel", &guest.accel);
        out.line(1, "bootTimeout", &guest.boot_timeout);
    }
    if let Some(wasm) = &spec.wasm {
        out.wasm(wasm);
    }
    out.open("evidence");
    out.line(1, "sign", &spec.evidence.sign);
    out.line(1, "sampleInterval", &spec.evidence.sample_interval);
    out.line(1, "hash", &spec.evidence.hash);
    out.line(1, "durability", &spec.evidence.durability);
    out.line(1, "denied", &spec.evidence.denied);
    out.line(1, "observe", &spec.evidence.observe);
    out.line(0, "session", &spec.session.as_deref().unwrap_or("none"));
    out.line(0, "degrade", &spec.degrade);
    out.0
}

/// The path of a file as a policy has it, in a list too; `None` for one that no policy can name.
pub fn render_path(path: &str) -> Option<String> {
    can_be_named(path).then(|| flow(&path))
}

struct Writer(String);

impl Writer {
    fn open(&mut self, key: &str) {
        let _ = writeln!(self.0, "{key}:");
    }

    fn line<T: Serialize>(&mut self, depth: usize, key: &str, value: &T) {
        let _ = writeln!(self.0, "{:indent$}{key}: {}", "", flow(value), indent = depth * 2);
    }

    fn some<T: Serialize>(&mut self, depth: usize, key: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.line(depth, key, value);
        }
    }

    /// A long one has a line for each.
    fn list(&mut self, depth: usize, key: &str, values: &[String]) {
        if values.len() < 4 {
            return self.line(depth, key, &values);
        }
        let indent = depth * 2;
        let _ = writeln!(self.0, "{:indent$}{key}:", "");
        for value in values {
            let _ = writeln!(self.0, "{:indent$}  - {}", "", flow(value));
        }
    }

    fn limit<T: Serialize>(&mut self, key: &str, limit: Option<&T>) {
        match limit {
            Some(limit) => self.line(1, key, limit),
            None => self.line(1, key, &"all"),
        }
    }

    fn wasm(&mut self, wasm: &Wasm) {
        self.open("wasm");
        self.some(1, "level", wasm.level.as_ref());
        self.line(1, "metering", &wasm.metering);
        self.some(1, "fuel", wasm.fuel.as_ref());
        self.some(1, "memory", wasm.memory.as_ref());
        self.some(1, "time", wasm.time.as_ref());
        self.some(1, "openFiles", wasm.open_files.as_ref());
        self.line(1, "stack", &wasm.stack);
        self.line(1, "tableElements", &wasm.table_elements);
        self.line(1, "compileTime", &wasm.compile_time);
        let rules = wasm.host_calls.rules.iter();
        let rules: BTreeMap<&str, HostCallRule> = rules.map(|(name, rule)| (name.as_str(), rule.into())).collect();
        if !rules.is_empty() {
            self.line(1, "hostCalls", &rules);
        }
    }

    fn mounts(&mut self, spec: &PolicySpec) {
        if spec.mounts.is_empty() {
            return self.line(0, "mounts", &[(); 0]);
        }
        self.open("mounts");
        for mount in &spec.mounts {
            let _ = writeln!(self.0, "  - source: {}", flow(&mount.source));
            self.some(2, "target", mount.target.as_ref());
            self.line(2, "readOnly", &mount.read_only);
            self.line(2, "captured", &mount.captured);
        }
    }
}

/// A value in flow style: plain words as they are, all else as JSON, which is YAML too.
fn flow<T: Serialize>(value: &T) -> String {
    // Serializing text, numbers, lists and maps with text keys cannot fail.
    let value = serde_json::to_value(value).unwrap_or_default();
    let mut out = String::new();
    write(&value, &mut out);
    out
}

fn write(value: &serde_json::Value, out: &mut String) {
    use serde_json::Value;
    match value {
        Value::String(text) => scalar(text, out),
        Value::Array(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(entries) => {
            out.push('{');
            for (i, (key, item)) in entries.iter().enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                // A long key must not push its `:` beyond the 1024 characters that YAML looks ahead.
                if key.len() > 500 {
                    out.push_str("? ");
                }
                scalar(key, out);
                out.push_str(": ");
                write(item, out);
            }
            out.push('}');
        }
        Value::Number(number) => {
            let text = number.to_string();
            out.push_str(text.strip_suffix(".0").unwrap_or(&text));
        }
        Value::Null | Value::Bool(_) => out.push_str(&value.to_string()),
    }
}

/// Plain where no reader of any YAML version could see anything but this text.
fn scalar(text: &str, out: &mut String) {
    let mut bytes = text.bytes();
    let first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || (b == b'/' && text.len() > 1));
    let plain = first && bytes.all(|b| b.is_ascii_alphanumeric() || b"/_.-".contains(&b));
    let word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|w| text.eq_ignore_ascii_case(w));
    // A size or duration begins with a digit and ends with a unit.
    let quantity = text.len() < 30
        && text.starts_with(|c: char| c.is_ascii_digit())
        && ["B", "ms", "s", "min", "h"].iter().any(|unit| {
            text.strip_suffix(unit).is_some_and(|n| {
                let n = n.trim_end_matches(['K', 'M', 'G', 'T', 'i', 'k']);
                !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit())
            })
        });
    if (plain && !word) || quantity {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if u32::from(c) <= 0xffff => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => {
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
        }
    }
    out.push('"');
}
