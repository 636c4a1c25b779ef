//! From a policy file to a complete policy: `extends` followed, layers merged, defaults filled in, rules applied.

use crate::decode::MAX_FAULTS;
use crate::document::{MicrovmSection, MountSection, OnDeniedCall, PolicyDocument, RootSource, WasmSection};
use crate::format::Format;
use crate::merge::Merge;
use crate::preset::PRESET_NAMES;
use crate::rules::{self, EXTENDS_CYCLE, EXTENDS_DEPTH, lexical};
use crate::source::{Layer, PolicySource, parse};
use crate::spec::{Files, Mac, Microvm, Mount, OnDenied, PolicySpec, Preset, RootfsSource, Wasm};
use crate::suggest::nearest;
use crate::text::printable;
use crate::words::{OrAll, Text, Word};
use sr_common::module::Metering;
use sr_common::{Code, Fault, SourceLine};

/// Gives the file that `extends` names: its path is the one written, joined to the directory of the extending file's
/// name and normalised by its letters. Returns the name under which the file is known (equal for equal files, so that
/// cycles are seen) and its bytes.
pub type Loader<'a> = &'a dyn Fn(&str) -> Result<(String, Vec<u8>), Fault>;

/// Longest chain of `extends`, the first file not counted.
const MAX_CHAIN: usize = 8;

/// Makes a policy file complete and judges it by every rule that needs no host.
///
/// # Errors
/// The loader's faults, those of [`parse`] for the files that it gives, and `SR-POL-003` for each rule that is broken;
/// each fault shows the line of the layer that said it. Never an empty list.
pub fn resolve(source: &PolicySource, load: Loader<'_>) -> Result<PolicySpec, Vec<Fault>> {
    let (layers, preset) = chain(source, load)?;
    let mut documents = layers.iter().map(|l| l.document.clone());
    let upper = documents.next().unwrap_or_default();
    let document = documents.fold(upper, Merge::over);
    let mut faults = rules::check_document(&document);
    let spec = complete(document, preset.spec());
    faults.extend(rules::check(&spec));
    if faults.is_empty() {
        return Ok(spec);
    }
    faults.truncate(MAX_FAULTS);
    for fault in &mut faults {
        fault.source = line_of(&layers, &fault.path);
    }
    Err(faults)
}

/// The file and all that it extends, nearest first, and the preset beneath them.
fn chain(source: &PolicySource, load: Loader<'_>) -> Result<(Vec<PolicySource>, Preset), Vec<Fault>> {
    let mut layers = vec![source.clone()];
    let mut names = vec![lexical(source.file_name())];
    loop {
        let Some(last) = layers.last() else {
            return Ok((layers, Preset::Standard));
        };
        let Some(extends) = last.document.extends.as_deref() else {
            return Ok((layers, Preset::Standard));
        };
        if let Some(preset) = Preset::named(extends) {
            return Ok((layers, preset));
        }
        let at = |mut fault: Fault| {
            fault.source = fault.source.or_else(|| last.line_of("extends"));
            vec![fault]
        };
        let path = beside(&last.layer, extends).map_err(at)?;
        if layers.len() > MAX_CHAIN {
            let found = format!("more than {MAX_CHAIN} files extend one another");
            return Err(at(EXTENDS_DEPTH.fault("extends", found, "merge some of the files")));
        }
        let (name, bytes) = load(&path).map_err(at)?;
        if names.contains(&lexical(&name)) {
            let found = format!("{} is in this chain already", printable(&name));
            return Err(at(EXTENDS_CYCLE.fault(
                "extends",
                found,
                "remove one `extends` of the circle",
            )));
        }
        names.push(lexical(&name));
        let next = parse(&name, &bytes, Format::of(&name))?;
        layers.push(next);
    }
}

/// The path that `extends` names, relative to the file that says it.
fn beside(layer: &Layer, extends: &str) -> Result<String, Fault> {
    let found = printable(extends);
    if extends.starts_with('/') {
        let remedy = "write a path relative to this file";
        return Err(Fault::new(
            Code::Pol002,
            "extends",
            format!("the absolute path {found}"),
            remedy,
        ));
    }
    if !extends.contains(['/', '.']) {
        let remedy = match nearest(extends, PRESET_NAMES) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write {}, or a file's path with `/` or `.`", PRESET_NAMES.join(", ")),
        };
        return Err(Fault::new(
            Code::Pol002,
            "extends",
            format!("unknown preset \"{found}\""),
            remedy,
        ));
    }
    Ok(match layer.source.name.rsplit_once('/') {
        Some((dir, _)) => lexical(&format!("{dir}/{extends}")),
        None => lexical(extends),
    })
}

/// The line where the uppermost layer that says anything of `path` says it.
fn line_of(layers: &[PolicySource], path: &str) -> Option<SourceLine> {
    let mut best: Option<(usize, SourceLine)> = None;
    for PolicySource { layer, .. } in layers {
        let located = layer.root.locate(path);
        if located.depth > best.as_ref().map_or(0, |(depth, _)| *depth) {
            best = Some((located.depth, layer.source.line_at(located.at)));
        }
        if located.complete || located.in_list {
            break;
        }
    }
    best.map(|(_, line)| line)
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn words(list: Vec<Word>) -> Vec<String> {
    list.into_iter().map(|word| word.0).collect()
}

/// Lays a merged document over a preset. What this build lacks was refused before.
fn complete(document: PolicyDocument, mut spec: PolicySpec) -> PolicySpec {
    if let Some(metadata) = document.metadata {
        set(&mut spec.metadata.name, metadata.name.map(|w| w.0));
        spec.metadata.description = metadata.description.map(|t| t.0);
        spec.metadata
            .labels
            .extend(metadata.labels.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)));
    }
    if let Some(runtime) = document.runtime {
        set(&mut spec.runtime.backend, runtime.backend);
        spec.runtime.command = runtime.command.map(|w| w.0);
        set(
            &mut spec.runtime.args,
            runtime.args.map(|args| args.into_iter().map(|Text(arg)| arg).collect()),
        );
        spec.runtime
            .env
            .extend(runtime.env.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)));
        spec.runtime.workdir = runtime.workdir.map(|w| w.0);
        set(&mut spec.runtime.user, runtime.user);
    }
    if let Some(rootfs) = document.rootfs {
        if rootfs.source == Some(RootSource::Dir) {
            spec.rootfs.source = RootfsSource::Dir;
        }
        spec.rootfs.path = rootfs.path.map(|w| w.0);
        set(&mut spec.rootfs.writable, rootfs.writable);
        set(&mut spec.rootfs.installation, rootfs.installation);
    }
    set(
        &mut spec.mounts,
        document.mounts.map(|list| list.into_iter().map(mount).collect()),
    );
    set(&mut spec.hide, document.hide.map(words));
    if let Some(files) = document.files {
        spec.files = Some(Files {
            read: words(files.read.unwrap_or_default()),
            write: words(files.write.unwrap_or_default()),
        });
    }
    if let Some(r) = document.resources {
        set(&mut spec.resources.cpu, r.cpu.map(|cpu| cpu.limit().map(|n| n.0)));
        set(&mut spec.resources.memory, r.memory.map(OrAll::limit));
        set(&mut spec.resources.pids, r.pids.map(OrAll::limit));
        set(&mut spec.resources.disk, r.disk);
        set(&mut spec.resources.wall_time, r.wall_time);
        set(&mut spec.resources.open_files, r.open_files);
        set(&mut spec.resources.output, r.output);
        set(&mut spec.resources.on_output, r.on_output);
        set(&mut spec.resources.strength, r.strength);
    }
    if let Some(syscalls) = document.syscalls {
        set(&mut spec.syscalls.profile, syscalls.profile);
        set(&mut spec.syscalls.allow, syscalls.allow.map(words));
        set(&mut spec.syscalls.deny, syscalls.deny.map(words));
        set(&mut spec.syscalls.arguments, syscalls.arguments);
        let on_denied = syscalls.on_denied.map(|choice| match choice {
            OnDeniedCall::Errno => OnDenied::Errno,
            OnDeniedCall::Log => OnDenied::Log,
            OnDeniedCall::Kill => OnDenied::Kill,
            OnDeniedCall::Ask => OnDenied::Ask,
        });
        set(&mut spec.syscalls.on_denied, on_denied);
    }
    if let Some(mac) = document.mac {
        // Both, and neither, were refused.
        let apparmor = mac.apparmor.map(|Word(profile)| Mac::Apparmor(profile));
        spec.mac = apparmor.or(mac.selinux.map(|Word(context)| Mac::Selinux(context)));
    }
    spec.microvm = document.microvm.map(microvm);
    spec.wasm = document.wasm.map(wasm);
    if let Some(evidence) = document.evidence {
        set(&mut spec.evidence.sign, evidence.sign.map(|w| w.0));
        set(&mut spec.evidence.sample_interval, evidence.sample_interval);
        set(&mut spec.evidence.hash, evidence.hash);
        set(&mut spec.evidence.durability, evidence.durability);
        set(&mut spec.evidence.denied, evidence.denied);
        set(&mut spec.evidence.observe, evidence.observe);
    }
    if let Some(Word(session)) = document.session {
        spec.session = (session != "none").then_some(session);
    }
    set(&mut spec.degrade, document.degrade);
    spec
}

/// A mount with its defaults: read-only unless captured.
fn mount(section: MountSection) -> Mount {
    let captured = section.captured.unwrap_or(false);
    Mount {
        source: section.source.map(|w| w.0).unwrap_or_default(),
        target: section.target.map(|w| w.0),
        read_only: section.read_only.unwrap_or(!captured),
        captured,
    }
}

fn microvm(section: MicrovmSection) -> Microvm {
    let mut guest = Microvm {
        vmm: section.vmm,
        rootfs: section.rootfs.map(|w| w.0),
        ..Microvm::default()
    };
    set(&mut guest.kernel, section.kernel.map(|w| w.0));
    set(&mut guest.accel, section.accel);
    set(&mut guest.boot_timeout, section.boot_timeout);
    guest
}

fn wasm(section: WasmSection) -> Wasm {
    let mut wasm = section.level.map_or_else(Wasm::default, Wasm::at);
    set(&mut wasm.metering, section.fuel.map(|_| Metering::Fuel));
    set(&mut wasm.metering, section.metering);
    if wasm.metering != Metering::Fuel {
        // The level's. One that is written stays, and is refused.
        wasm.fuel = None;
    }
    wasm.fuel = section.fuel.or(wasm.fuel);
    wasm.memory = section.memory.or(wasm.memory);
    wasm.time = section.time.or(wasm.time);
    wasm.open_files = section.open_files.or(wasm.open_files);
    set(&mut wasm.stack, section.stack);
    set(&mut wasm.table_elements, section.table_elements);
    set(&mut wasm.compile_time, section.compile_time);
    let rules = section.host_calls.unwrap_or_default().into_iter();
    wasm.host_calls.rules = rules.filter_map(|(name, rule)| Some((name, rule.rule()?))).collect();
    wasm
}
