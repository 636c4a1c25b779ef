//! The single values of a document: words, texts, sizes, durations, CPUs, and choices from a list.

use crate::decode::{Decode, Decoder};
use crate::merge::{Merge, replaces};
use crate::node::{Key, Kind, Node, Typed};
use crate::spec::{
    Accel, BackendChoice, DeniedScope, Durability, HashScope, Installation, Level, ObserveScope, OnOutput,
    RequiredStrength, RootWritable, SyscallProfile,
};
use crate::suggest::nearest;
use crate::text::{is_hostile, is_reordering, printable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sr_common::host_calls::Clock;
use sr_common::module::Metering;
use sr_common::{ByteSize, Code, Control, Millis, Vmm};
use std::ops::Deref;

/// A name, command, path, host or key: one line, no control or bidirectional characters, never empty. In YAML a
/// plain `true`, `null`, `1.0`, `yes`, `no`, `on` or `off` is refused, because readers disagree about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Word(#[schemars(length(min = 1))] pub String);

/// An argument, value or description: any text without NUL, control (but tab and newline) or bidirectional characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Text(pub String);

impl Deref for Word {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// CPUs' worth of time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Cpus(pub f64);

/// A limit, or `all` for as much as the host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "{T}OrAll")]
pub enum OrAll<T> {
    Limit(T),
    All(All),
}

/// The word `all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum All {
    All,
}

impl<T> OrAll<T> {
    pub const ALL: OrAll<T> = OrAll::All(All::All);

    /// `None`: all.
    pub fn limit(self) -> Option<T> {
        match self {
            OrAll::Limit(limit) => Some(limit),
            OrAll::All(_) => None,
        }
    }
}

impl<T> Merge for OrAll<T> {
    fn over(self, _: Self) -> Self {
        self
    }
}

replaces!(
    Accel,
    BackendChoice,
    Level,
    Metering,
    Vmm,
    Word,
    Text,
    Control,
    Durability,
    DeniedScope,
    HashScope,
    Installation,
    ObserveScope,
    OnOutput,
    RequiredStrength,
    RootWritable,
    SyscallProfile
);

/// The string at `node`; what YAML reads as another type is refused with a hint.
fn string<'n>(node: &'n Node, d: &mut Decoder<'_>) -> Option<&'n str> {
    match &node.kind {
        Kind::Text { value, .. } => Some(value),
        Kind::Typed(Typed::Null, raw) if raw.is_empty() => {
            d.mismatch(node, "a text", "write a text, or leave the field out");
            None
        }
        Kind::Typed(_, raw) => {
            d.mismatch(node, "a text", format!("write it in quotes: \"{}\"", printable(raw)));
            None
        }
        Kind::List(_) | Kind::Map(_) => {
            d.mismatch(node, "a text", "write one text here");
            None
        }
    }
}

/// The first character that `text` may not have. Texts may have lines and the joiners of composed emoji; words not.
fn hostile(text: &str, is_text: bool) -> Option<char> {
    text.chars().find(|c| {
        if is_text {
            is_reordering(*c) && !matches!(c, '\n' | '\t')
        } else {
            is_hostile(*c)
        }
    })
}

fn refuse_hostile(c: char, at: usize, d: &mut Decoder<'_>) {
    let kind = if c.is_control() {
        "control"
    } else {
        "invisible or direction-changing"
    };
    d.fault(
        Code::Pol002,
        at,
        format!("the {kind} character U+{:04X}", u32::from(c)),
        "remove the character",
    );
}

/// A key of a free map (`env`, `labels`): never empty, never hostile.
pub(crate) fn check_key(key: &Key, d: &mut Decoder<'_>) {
    if let Some(c) = hostile(&key.text, false) {
        refuse_hostile(c, key.at, d);
    } else if key.text.is_empty() {
        d.fault(Code::Pol002, key.at, "an empty key", "write a name");
    }
}

impl Decode for Word {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        let text = string(node, d)?;
        let plain = matches!(node.kind, Kind::Text { quoted: false, .. });
        if plain && ["yes", "no", "on", "off"].iter().any(|w| text.eq_ignore_ascii_case(w)) {
            let found = format!("the plain word {text}, a boolean to YAML 1.1 readers");
            d.fault(Code::Pol002, node.at, found, format!("write it in quotes: \"{text}\""));
            return None;
        }
        if let Some(c) = hostile(text, false) {
            refuse_hostile(c, node.at, d);
            return None;
        }
        if text.is_empty() {
            d.fault(
                Code::Pol002,
                node.at,
                "an empty text",
                "write a value, or leave the field out",
            );
            return None;
        }
        Some(Word(text.to_owned()))
    }
}

impl Decode for Text {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        let text = string(node, d)?;
        if let Some(c) = hostile(text, true) {
            refuse_hostile(c, node.at, d);
            return None;
        }
        Some(Text(text.to_owned()))
    }
}

impl Decode for ByteSize {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        let remedy = "write a number and a unit, such as 512MiB or 2GB";
        let problem = match &node.kind {
            Kind::Typed(Typed::Int(n), raw) if *raw == n.to_string() => match u64::try_from(*n) {
                Ok(bytes) => return Some(ByteSize(bytes)),
                Err(_) => format!("{n} is {}", if *n < 0 { "negative" } else { "too large" }),
            },
            Kind::Text { value, .. } => match ByteSize::parse(value) {
                Ok(size) => return Some(size),
                Err(_) => format!("not a size: \"{}\"", printable(value)),
            },
            _ => {
                d.mismatch(node, "a size", remedy);
                return None;
            }
        };
        d.fault(Code::Pol002, node.at, problem, remedy);
        None
    }
}

impl Decode for Millis {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        let (problem, remedy) = match &node.kind {
            Kind::Typed(Typed::Int(n), _) if *n > 0 => {
                (format!("{n} has no unit"), format!("write {n}s, {n}ms or {n}min"))
            }
            Kind::Typed(Typed::Int(n), _) => (format!("{n} is not a duration"), "write one such as 30s".to_owned()),
            Kind::Text { value, .. } => match Millis::parse(value) {
                Ok(time) => return Some(time),
                Err(_) => (
                    format!("not a duration: \"{}\"", printable(value)),
                    "write a positive number and ms, s, min, h or d, such as 30s".to_owned(),
                ),
            },
            _ => {
                d.mismatch(node, "a duration", "write a duration such as 30s");
                return None;
            }
        };
        d.fault(Code::Pol002, node.at, problem, remedy);
        None
    }
}

impl<T: Decode> Decode for OrAll<T> {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        match &node.kind {
            Kind::Text { value, .. } if value == "all" => Some(OrAll::ALL),
            _ => T::decode(node, d).map(OrAll::Limit),
        }
    }
}

impl Decode for BackendChoice {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        let words: Vec<_> = BackendChoice::all().map(|choice| (choice.name(), choice)).collect();
        choose(node, d, &words)
    }
}

impl Decode for Cpus {
    fn decode(node: &Node, d: &mut Decoder<'_>) -> Option<Self> {
        let number = match &node.kind {
            // As the text says it: an integer of any size has a nearest float.
            Kind::Typed(Typed::Int(_), raw) => raw.parse::<f64>().unwrap_or(f64::NAN),
            Kind::Typed(Typed::Float(n), _) => *n,
            _ => {
                d.mismatch(node, "a number of CPUs", "write a number such as 0.5 or 2, or all");
                return None;
            }
        };
        if !number.is_finite() || number < 0.0 {
            let problem = if number < 0.0 {
                "is negative"
            } else {
                "is not a finite number"
            };
            d.fault(
                Code::Pol002,
                node.at,
                format!("{} {problem}", node.describe()),
                "write a number such as 0.5 or 2",
            );
            return None;
        }
        Some(Cpus(number))
    }
}

/// A value from a short list of words.
pub(crate) fn choose<T: Copy>(node: &Node, d: &mut Decoder<'_>, choices: &[(&str, T)]) -> Option<T> {
    let names = || choices.iter().map(|(name, _)| *name);
    let list = names().collect::<Vec<_>>().join(", ");
    let Kind::Text { value, .. } = &node.kind else {
        d.mismatch(node, &format!("one of {list}"), format!("write one of {list}"));
        return None;
    };
    let found = choices
        .iter()
        .find(|(name, _)| name == value)
        .map(|(_, choice)| *choice);
    if found.is_none() {
        let remedy = match nearest(value, names()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of {list}"),
        };
        d.fault(
            Code::Pol002,
            node.at,
            format!("unknown value \"{}\"", printable(value)),
            remedy,
        );
    }
    found
}

/// `Decode` for enums of `spec.rs`, by the names in documents.
macro_rules! choices {
    ($($ty:ty { $($name:literal => $value:ident),* $(,)? })*) => { $(
        impl $crate::decode::Decode for $ty {
            fn decode(node: &$crate::node::Node, d: &mut $crate::decode::Decoder<'_>) -> Option<Self> {
                $crate::words::choose(node, d, &[$(($name, <$ty>::$value)),*])
            }
        }
    )* };
}
pub(crate) use choices;

choices! {
    RootWritable { "overlay" => Overlay, "readOnly" => ReadOnly }
    ObserveScope { "none" => None, "calls" => Calls }
    Installation { "readOnly" => ReadOnly, "refuse" => Refuse }
    OnOutput { "kill" => Kill, "truncate" => Truncate }
    RequiredStrength { "any" => Any, "perProcess" => PerProcess, "kernel" => Kernel }
    SyscallProfile { "named" => Named, "strict" => Strict, "standard" => Standard }
    DeniedScope { "available" => Available, "network" => Network, "calls" => Calls, "paths" => Paths }
    HashScope { "files" => Files, "tree" => Tree }
    Accel { "kvm" => Kvm, "tcg" => Tcg }
    Level { "strict" => Strict, "permissive" => Permissive }
    Metering { "deadline" => Deadline, "epochs" => Epochs, "fuel" => Fuel }
    Clock {
        "realtime" => Realtime, "monotonic" => Monotonic, "processCputimeId" => ProcessCputimeId,
        "threadCputimeId" => ThreadCputimeId,
    }
    Vmm { "firecracker" => Firecracker, "cloud-hypervisor" => CloudHypervisor, "qemu" => Qemu }
    Durability { "none" => None, "process" => Process, "machine" => Machine }
    Control {
        "userNamespace" => UserNamespace, "mountNamespace" => MountNamespace, "pidNamespace" => PidNamespace,
        "networkNamespace" => NetworkNamespace, "ipcNamespace" => IpcNamespace, "utsNamespace" => UtsNamespace,
        "cgroupNamespace" => CgroupNamespace, "filesystem" => Filesystem, "landlock" => Landlock,
        "seccomp" => Seccomp, "capabilities" => Capabilities, "noNewPrivileges" => NoNewPrivileges,
        "postureAtExec" => PostureAtExec, "cpu" => Cpu, "memory" => Memory, "pids" => Pids, "disk" => Disk,
        "wallTime" => WallTime, "openFiles" => OpenFiles, "output" => Output, "network" => Network, "mac" => Mac,
        "executableDigest" => ExecutableDigest, "hostCalls" => HostCalls, "fuel" => Fuel,
        "hardwareVirtualization" => HardwareVirtualization,
    }
}
