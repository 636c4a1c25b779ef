//! `extends`: maps merge, lists replace, every policy lies on a preset, and the loader is asked for the right paths.

// `allow-unwrap-in-tests` reaches test functions only, not their helpers.
#![allow(clippy::unwrap_used)]

use sr_common::{ByteSize, Code, Fault};
use sr_policy::spec::{Mount, PolicySpec, Preset};
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
        format!("{HEAD}runtime: {{args: []}}\nmounts: []\nwasm: {{level: strict}}\n"),
    )];
    let faults = resolved("p.yaml", "extends: b.yaml\nruntime: {args: []}\nmounts: []\n", &files).unwrap_err();
    assert_eq!((faults[0].code, faults[0].path.as_str()), (Code::Pol003, "wasm"));
    assert!(faults[0].found.contains("not available in this build"));
    assert_eq!(faults[0].source.as_ref().map(|s| s.file.as_str()), Some("b.yaml"));
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
