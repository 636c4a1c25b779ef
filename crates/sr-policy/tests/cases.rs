//! Every file of `tests/policy_valid_cases` resolves; every file of `tests/policy_invalid_cases` gives the faults that
//! its leading comments expect; every rule has one of each, named after it.

// `allow-unwrap-in-tests` reaches test functions only, not their helpers.
#![allow(clippy::unwrap_used)]

use sr_common::{ByteSize, Code, Fault};
use sr_policy::rules::Rule;
use sr_policy::{Ceilings, Format, HostContext, HostRules, PolicySpec, parse, resolve, validate_host};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests").join(name)
}

/// Name without extension, path, and text of each case.
fn cases(name: &str) -> BTreeMap<String, (PathBuf, Vec<u8>)> {
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        let is_case = path.extension().is_some_and(|e| e != "expect") && path.is_file();
        if is_case {
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read(&path).unwrap();
            assert!(out.insert(stem, (path, text)).is_none());
        }
    }
    out
}

fn load(path: &str) -> Result<(String, Vec<u8>), Fault> {
    match std::fs::read(path) {
        Ok(bytes) => Ok((path.to_owned(), bytes)),
        Err(e) => Err(Fault::new(
            Code::Pol002,
            "extends",
            format!("{path}: {e}"),
            "name a file that exists",
        )),
    }
}

/// The leading comment lines `# <key>: …` of a case; for JSON they stand in a file beside it.
fn comments(path: &Path, text: &[u8], key: &str) -> Vec<String> {
    let beside = std::fs::read(format!("{}.expect", path.display()));
    let text = String::from_utf8_lossy(beside.as_deref().unwrap_or(text)).into_owned();
    let prefix = format!("# {key}: ");
    text.lines()
        .take_while(|l| l.starts_with('#'))
        .filter_map(|l| l.strip_prefix(&prefix).map(str::to_owned))
        .collect()
}

/// The host of a case, from its comment `# host: {json}`.
fn host(path: &Path, text: &[u8], spec: &PolicySpec) -> Option<HostContext> {
    let line = comments(path, text, "host").pop()?;
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    let list = |value: &serde_json::Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap_or_default() };
    let pairs: Vec<(String, String)> = serde_json::from_value(json["sources"].clone()).unwrap_or_default();
    let known: BTreeMap<String, String> = pairs.into_iter().collect();
    let memory = json["memory"].as_str().map(|m| ByteSize::parse(m).unwrap());
    let operator = HostRules {
        ceilings: Ceilings {
            memory,
            ..Ceilings::default()
        },
        allowed_prefixes: json.get("allowedPrefixes").map(list),
        id_base: None,
        require_evidence: json["requireEvidence"] == true,
        helper: None,
    };
    Some(HostContext {
        cwd: json["cwd"].as_str().unwrap().into(),
        store: json["store"].as_str().unwrap().into(),
        keys: list(&json["keys"]),
        policy_files: list(&json["policyFiles"]),
        sources: spec.mounts.iter().map(|m| known.get(&m.source).cloned()).collect(),
        root: spec.rootfs.path.as_ref().and_then(|path| known.get(path)).cloned(),
        operator,
    })
}

fn judge(path: &Path, text: &[u8]) -> Result<PolicySpec, Vec<Fault>> {
    let name = path.to_string_lossy();
    let source = parse(&name, text, Format::of(&name))?;
    let spec = resolve(&source, &load)?;
    let mut faults = host(path, text, &spec)
        .map(|h| validate_host(&spec, &h))
        .unwrap_or_default();
    source.point(&mut faults);
    if faults.is_empty() { Ok(spec) } else { Err(faults) }
}

#[test]
fn valid_cases_resolve_and_read_back() {
    let cases = cases("policy_valid_cases");
    assert!(cases.contains_key("minimal"));
    for (name, (path, text)) in &cases {
        let spec = judge(path, text).unwrap_or_else(|faults| panic!("{name}: {faults:#?}"));
        let yaml = sr_policy::render_yaml(&spec);
        let again =
            parse("again.yaml", yaml.as_bytes(), Format::Yaml).unwrap_or_else(|f| panic!("{name}: {f:#?}\n{yaml}"));
        assert_eq!(
            resolve(&again, &load).unwrap_or_else(|f| panic!("{name}: {f:#?}\n{yaml}")),
            spec,
            "{name}\n{yaml}"
        );
    }
}

#[test]
fn invalid_cases_give_the_fault_that_they_expect() {
    for (name, (path, text)) in &cases("policy_invalid_cases") {
        let expected = comments(path, text, "expect");
        assert!(!expected.is_empty(), "{name} expects nothing");
        let faults = match judge(path, text) {
            Ok(_) => panic!("{name} was accepted"),
            Err(faults) => faults,
        };
        let found: Vec<String> = faults
            .iter()
            .map(|f| match f.rule {
                Some(rule) => format!("{} rule={rule} path={}", f.code, f.path),
                None => format!("{} path={}", f.code, f.path),
            })
            .collect();
        for line in expected {
            assert!(found.contains(&line), "{name}: expected {line}, found {found:#?}");
        }
        for fault in &faults {
            assert!(!fault.remedy.is_empty() && !fault.found.is_empty(), "{name}: {fault:?}");
            assert_eq!(fault.rule.is_some(), fault.code == Code::Pol003, "{name}: {fault:?}");
            let hostile = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!fault.to_string().contains(hostile), "{name}: {fault}");
            let line = fault.source.as_ref();
            assert!(
                line.is_some_and(|s| s.line >= 1 && s.column >= 1),
                "{name}: no line: {fault:?}"
            );
        }
    }
}

#[test]
fn every_rule_has_its_cases() {
    let (valid, invalid) = (cases("policy_valid_cases"), cases("policy_invalid_cases"));
    for Rule { id, .. } in sr_policy::rules::all() {
        let name = id.strip_prefix("SR-RULE-").unwrap();
        assert!(
            valid.contains_key(name),
            "tests/policy_valid_cases/{name}.yaml is missing"
        );
        let (path, text) = invalid
            .get(name)
            .unwrap_or_else(|| panic!("tests/policy_invalid_cases/{name}.yaml is missing"));
        let rule = format!("rule={id} ");
        assert!(
            comments(path, text, "expect").iter().any(|line| line.contains(&rule)),
            "{name} expects another rule"
        );
    }
}
