//! `extends`: maps merge, lists replace, every policy lies on a preset, and the loader is asked for the right paths.

// `allow-unwrap-in-tests` reaches test functions only, not their helpers.
#![allow(clippy::unwrap_used)]

use sr_common::host_calls::Rule;
use sr_common::module::Metering;
use sr_common::{ByteSize, Code, Fault, Millis};
use sr_policy::spec::{Level, Mount, PolicySpec, Preset, Wasm};
use sr_policy::{Format, parse, resolve};
use std::cell::RefCell;

const HEAD: &str = "apiVersion: safe-run/v1\nmetadata: {name: x}\n";

fn resolved(name: &str, body: &str, files: &[(&str, String)]) -> Result<PolicySpec, Vec<Fault>> {
    let source = parse(name, format!("{HEAD}{body}").as_bytes(), Format::of(name))?;
    resolve(&source, &|path| match files.iter().find(|(name, _)| *name == path) {
        Some((name, text)) => Ok(((*name).to_owned(), text.clone().into_bytes())),
        None => Err(Fault::new(
            Code::Pol002,
            "extends",
            format!("no file {path}"),
            "name another",
        )),
    })
}

#[test]
fn without_extends_the_base_is_standard() {
    let spec = resolved("p.yaml", "runtime: {args: []}\nmounts: []\n", &[]).unwrap();
    let mut expected = Preset::Standard.spec();
    expected.metadata.name = "x".into();
    expected.mounts.clear();
    assert_eq!(spec, expected);
}

#[test]
fn maps_merge_and_lists_replace() {
    let base = format!(
        "{HEAD}extends: strict\nruntime: {{command: a, args: [b, c], env: {{A: a, B: b}}}}\nmounts: [{{source: ./m, captured: true}}]\n\
         resources: {{pids: 9, memory: 1GiB}}\nhide: [one, two]\n"
    );
    let spec = resolved(
        "dir/p.yaml",
        "extends: ../base.yaml\nruntime: {args: [d], env: {B: z}}\nmounts: [{source: ./n}]\nresources: {pids: 10, cpu: all}\n\
         session: none\nhide: []\n",
        &[("base.yaml", base)],
    )
    .unwrap();
    assert_eq!(spec.preset, Preset::Strict);
    assert_eq!(
        (spec.runtime.command.as_deref(), spec.runtime.args),
        (Some("a"), vec!["d".to_owned()])
    );
    assert_eq!(
        spec.runtime.env.into_iter().collect::<Vec<_>>(),
        [("A".into(), "a".into()), ("B".into(), "z".into())]
    );
    let mount = Mount {
        source: "./n".into(),
        target: None,
        read_only: true,
        captured: false,
    };
    assert_eq!((spec.mounts, spec.hide.len()), (vec![mount], 0));
    assert_eq!(
        (spec.resources.pids, spec.resources.memory, spec.resources.cpu),
        (Some(10), Some(ByteSize(1 << 30)), None)
    );
    assert_eq!(spec.resources.open_files, 256);
}

#[test]
fn what_a_base_lacks_or_breaks_is_told_in_its_own_lines() {
    let files = [("b.yaml", format!("{HEAD}runtime: {{}}\nmounts: []\n"))];
    let faults = resolved("p.yaml", "extends: ./b.yaml\nruntime: {args: []}\nmounts: []\n", &files).unwrap_err();
    assert_eq!(
        (faults[0].code, faults[0].path.as_str()),
        (Code::Pol001, "runtime.args")
    );
    assert_eq!(
        faults[0].source.as_ref().map(|s| (s.file.as_str(), s.line)),
        Some(("b.yaml", 3))
    );
}

#[test]
fn not_available_anywhere_in_the_chain_is_refused() {
    let files = [(
        "b.yaml",
        format!("{HEAD}runtime: {{args: []}}\nmounts: []\ndetection: {{profile: p}}\n"),
    )];
    let faults = resolved("p.yaml", "extends: b.yaml\nruntime: {args: []}\nmounts: []\n", &files).unwrap_err();
    assert_eq!((faults[0].code, faults[0].path.as_str()), (Code::Pol003, "detection"));
    assert!(faults[0].found.contains("not available in this build"));
    assert_eq!(faults[0].source.as_ref().map(|s| s.file.as_str()), Some("b.yaml"));
}

/// The section `wasm` of a policy that says `body`, over one that says `base`.
fn wasm(base: &str, body: &str) -> Wasm {
    let text =
        |wasm: &str| format!("runtime: {{backend: wasm, command: ./t.wasm, args: []}}\nmounts: []\nwasm: {wasm}\n");
    let files = [("base.yaml", format!("{HEAD}{}", text(base)))];
    let spec = resolved("p.yaml", &format!("extends: ./base.yaml\n{}", text(body)), &files).unwrap();
    spec.wasm.unwrap()
}

#[test]
fn a_level_gives_what_is_not_written() {
    assert_eq!(wasm("{}", "{}"), Wasm::default());
    let strict = Wasm {
        level: Some(Level::Strict),
        metering: Metering::Fuel,
        fuel: Some(5_000_000_000),
        memory: Some(ByteSize(128 << 20)),
        time: Some(Millis(5_000)),
        open_files: Some(3),
        ..Wasm::default()
    };
    assert_eq!(wasm("{}", "{level: strict}"), strict);
    let permissive = Wasm {
        level: Some(Level::Permissive),
        fuel: Some(100_000_000_000),
        memory: Some(ByteSize(1 << 30)),
        time: Some(Millis(300_000)),
        open_files: Some(20),
        ..strict.clone()
    };
    assert_eq!(wasm("{level: strict}", "{level: permissive}"), permissive);
    let written = "memory: 1MiB, time: 1s, fuel: 7, openFiles: 0, stack: 2MiB, tableElements: 9, compileTime: 2s";
    let own = Wasm {
        level: Some(Level::Strict),
        metering: Metering::Fuel,
        fuel: Some(7),
        memory: Some(ByteSize(1 << 20)),
        time: Some(Millis(1_000)),
        open_files: Some(0),
        stack: ByteSize(2 << 20),
        table_elements: 9,
        compile_time: Millis(2_000),
        ..Wasm::default()
    };
    assert_eq!(wasm("{}", &format!("{{level: strict, {written}}}")), own);
    // In whichever file each of them stands.
    assert_eq!(wasm(&format!("{{{written}}}"), "{level: strict}"), own);
    assert_eq!(wasm("{level: strict}", &format!("{{{written}}}")), own);
}

#[test]
fn fuel_is_metered_where_a_level_or_fuel_is_written_and_nothing_else() {
    let metered = |text| {
        let wasm = wasm("{}", text);
        (wasm.metering, wasm.fuel)
    };
    assert_eq!(metered("{memory: 1MiB}"), (Metering::Deadline, None));
    assert_eq!(metered("{fuel: 7}"), (Metering::Fuel, Some(7)));
    assert_eq!(metered("{level: strict}"), (Metering::Fuel, Some(5_000_000_000)));
    assert_eq!(
        metered("{level: strict, metering: deadline}"),
        (Metering::Deadline, None)
    );
    assert_eq!(
        metered("{level: permissive, metering: epochs}"),
        (Metering::Epochs, None)
    );
    assert_eq!(metered("{metering: fuel, fuel: 7}"), (Metering::Fuel, Some(7)));
}

#[test]
fn rules_for_host_calls_merge_by_name_and_replace_as_a_whole() {
    let base = "{hostCalls: {path_open: {within: [/work]}, random_get: {atMost: 64}, fd_write: deny}}";
    let wasm = wasm(base, "{hostCalls: {path_open: {within: [/out]}, random_get: deny}}");
    let out = Rule::Within {
        paths: vec!["/out".into()],
    };
    assert_eq!(
        wasm.host_calls.rules.into_iter().collect::<Vec<_>>(),
        [
            ("fd_write".into(), Rule::Deny),
            ("path_open".into(), out),
            ("random_get".into(), Rule::Deny)
        ]
    );
}

#[test]
fn paths_are_relative_to_the_file_that_says_them() {
    let asked = RefCell::new(Vec::new());
    let body = |next: &str| format!("{HEAD}extends: {next}\nruntime: {{args: []}}\nmounts: []\n");
    let source = parse("/p/a/top.yaml", body("../b/mid.yaml").as_bytes(), Format::Yaml).unwrap();
    let spec = resolve(&source, &|path| {
        asked.borrow_mut().push(path.to_owned());
        Ok((
            path.to_owned(),
            body(if path.ends_with("mid.yaml") {
                "./c/end.yml"
            } else {
                "build"
            })
            .into_bytes(),
        ))
    })
    .unwrap();
    assert_eq!(*asked.borrow(), ["/p/b/mid.yaml", "/p/b/c/end.yml"]);
    assert_eq!(spec.preset, Preset::Build);
}
