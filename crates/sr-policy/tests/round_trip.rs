//! What `render_yaml` writes reads back as the same policy, here and by a YAML reader that is not ours.

// `allow-unwrap-in-tests` reaches test functions only, not their helpers.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use sr_common::host_calls::{Clock, HostCalls, Rule};
use sr_common::module::Metering;
use sr_common::{Backend, ByteSize, Control, Fault, Millis};
use sr_policy::spec::*;
use sr_policy::{Format, PRESET_NAMES, parse, preset, render_yaml, resolve};
use std::collections::BTreeMap;

fn read_back(yaml: &str) -> Result<PolicySpec, Vec<Fault>> {
    let source = parse("p.yaml", yaml.as_bytes(), Format::Yaml)?;
    resolve(&source, &|path| {
        Err(Fault::new(sr_common::Code::Pol002, "extends", path, "no files here"))
    })
}

#[test]
fn presets_read_back() {
    for name in PRESET_NAMES {
        let spec = preset(name).unwrap();
        assert_eq!(read_back(&render_yaml(&spec)), Ok(spec));
    }
}

#[test]
fn long_keys_and_joined_emoji_read_back() {
    let mut spec = preset("build").unwrap();
    spec.metadata.labels.insert("k ".repeat(3000), "v".repeat(5000));
    spec.runtime
        .env
        .insert("K".repeat(3000), "👨\u{200d}👩\u{200d}👧\n\ttab".into());
    spec.runtime.args = vec!["\"".repeat(3000), String::new()];
    assert_eq!(read_back(&render_yaml(&spec)), Ok(spec));
}

/// Text as an argument may hold it, with what YAML makes difficult.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~\n\tà-ÿ€😀]{0,20}",
        prop::sample::select(vec![
            "no",
            "true",
            "~",
            "",
            "1.0",
            "0x10",
            "- a",
            "a: b",
            "#",
            "'",
            "\"",
            "\\",
            "|",
            "> x",
            "{",
            "]",
            "&a",
            "*a",
            "!t",
            "%",
            "@",
            "`",
            "---",
            "...",
            "<<",
            "=",
            "12e3",
            "2001-01-01",
            "1:20",
            " lead",
            "trail ",
            "a\n\nb\n",
            "512MiB",
            "1e",
            "0o7",
            ".inf",
            ".nan",
            "null",
            "N",
            "a\u{85}b\u{a0}",
        ])
        .prop_map(|s| s.replace('\u{85}', "")),
    ]
}

fn word() -> impl Strategy<Value = String> {
    text()
        .prop_map(|t| t.replace(['\n', '\t'], ""))
        .prop_filter("no empty word", |t| !t.trim().is_empty())
}

fn mounts() -> impl Strategy<Value = Vec<Mount>> {
    proptest::collection::vec((word(), any::<bool>(), any::<bool>()), 0..4).prop_map(|list| {
        list.into_iter()
            .enumerate()
            .map(|(i, (source, read_only, captured))| Mount {
                // Sources below one directory of their own, so that no rule about the host's directories applies.
                source: format!("./{i}/{}", source.replace("..", "")),
                target: Some(format!("/m/{i}")),
                read_only: read_only && !captured,
                captured,
            })
            .collect()
    })
}

/// Rules for host calls, each as its function can have it.
fn host_calls() -> impl Strategy<Value = HostCalls> {
    let word = || prop_oneof![Just(Rule::Allow), Just(Rule::Deny)];
    let path = prop_oneof![Just("/".to_owned()), "(/[a-z0-9 :#-]{1,6}){1,3}"];
    let paths = proptest::collection::vec(path, 0..3).prop_map(|paths| Rule::Within { paths });
    let clock = prop::sample::select(vec![
        Clock::Realtime,
        Clock::Monotonic,
        Clock::ProcessCputimeId,
        Clock::ThreadCputimeId,
    ]);
    let clocks = proptest::collection::vec(clock, 0..3).prop_map(|clocks| Rule::Clocks { clocks });
    let bytes = (0u64..=1 << 32).prop_map(|bytes| Rule::AtMost { bytes });
    let rules = [
        word().prop_map(|rule| ("fd_write", rule)).boxed(),
        prop_oneof![word(), paths].prop_map(|rule| ("path_open", rule)).boxed(),
        prop_oneof![word(), clocks]
            .prop_map(|rule| ("clock_time_get", rule))
            .boxed(),
        prop_oneof![word(), bytes].prop_map(|rule| ("random_get", rule)).boxed(),
    ];
    let rule = proptest::strategy::Union::new(rules).prop_map(|(name, rule)| (name.to_owned(), rule));
    proptest::collection::vec(rule, 0..4).prop_map(|rules| HostCalls {
        rules: rules.into_iter().collect(),
    })
}

fn wasm() -> impl Strategy<Value = Wasm> {
    let metering = prop_oneof![
        prop::sample::select(vec![Metering::Deadline, Metering::Epochs]).prop_map(|metering| (metering, None)),
        (1u64..1 << 53).prop_map(|fuel| (Metering::Fuel, Some(fuel))),
    ];
    let level = proptest::option::of(prop::sample::select(vec![Level::Strict, Level::Permissive]));
    let limits = (
        proptest::option::of((64u64 << 10)..=(4 << 30)),
        proptest::option::of(1u64..2_592_000_000),
        proptest::option::of(0u64..1_048_576),
    );
    let code = ((64u64 << 10)..=(64 << 20), 1u64..10_000_000, 1_000u64..600_000);
    (level, metering, limits, code, host_calls()).prop_map(|(level, metering, limits, code, host_calls)| {
        let base = level.map_or_else(Wasm::default, Wasm::at);
        Wasm {
            metering: metering.0,
            fuel: metering.1,
            memory: limits.0.map(ByteSize).or(base.memory),
            time: limits.1.map(Millis).or(base.time),
            open_files: limits.2.or(base.open_files),
            stack: ByteSize(code.0),
            table_elements: code.1,
            compile_time: Millis(code.2),
            host_calls,
            ..base
        }
    })
}

fn spec() -> impl Strategy<Value = PolicySpec> {
    let names = (
        word(),
        proptest::option::of(text()),
        proptest::collection::btree_map(word(), text(), 0..3),
    );
    let runtime = (
        proptest::option::of(word()),
        proptest::collection::vec(text(), 0..4),
        proptest::collection::btree_map("[A-Z_a-z][A-Z0-9_]{0,6}", text(), 0..4),
        1u32..65534,
    );
    let limits = (
        proptest::option::of(0.001f64..4096.0),
        proptest::option::of((4u64 << 20)..u64::MAX),
        proptest::option::of(1u32..4_194_304),
        1u64..2_592_000_000,
        proptest::option::of("[a-z0-9][a-z0-9._-]{0,20}"),
    );
    let preset = prop::sample::select(PRESET_NAMES.to_vec());
    let wasm = proptest::option::of(wasm());
    (preset, names, runtime, limits, mounts(), wasm).prop_map(|(base, names, runtime, limits, mounts, wasm)| {
        let mut spec = preset_named(base);
        if wasm.is_some() {
            spec.runtime.backend = BackendChoice::This(Backend::Wasm);
        }
        spec.wasm = wasm;
        spec.metadata = Metadata {
            name: names.0,
            description: names.1,
            labels: names.2,
        };
        spec.runtime.command = runtime.0;
        spec.runtime.args = runtime.1;
        spec.runtime.env = runtime.2.into_iter().collect::<BTreeMap<_, _>>();
        spec.runtime.user = runtime.3;
        spec.resources.cpu = limits.0;
        spec.resources.memory = limits.1.map(ByteSize);
        spec.resources.pids = limits.2;
        spec.resources.wall_time = Millis(limits.3);
        spec.session = limits.4.filter(|name| name != "none");
        spec.mounts = mounts;
        spec.degrade = vec![Control::Landlock];
        spec
    })
}

fn preset_named(name: &str) -> PolicySpec {
    preset(name).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_policy_reads_back(spec in spec()) {
        let yaml = render_yaml(&spec);
        match read_back(&yaml) {
            Ok(again) => prop_assert_eq!(again, spec, "{}", yaml),
            Err(faults) => prop_assert!(false, "{:#?}\n{}", faults, yaml),
        }
    }

    #[test]
    fn another_reader_sees_the_same(spec in spec()) {
        let yaml = render_yaml(&spec);
        let other: serde_json::Value = serde_saphyr::from_str(&yaml).map_err(|e| TestCaseError::fail(format!("{e}\n{yaml}")))?;
        prop_assert_eq!(other["metadata"]["name"].as_str(), Some(spec.metadata.name.as_str()));
        prop_assert_eq!(other["runtime"]["command"].as_str(), spec.runtime.command.as_deref());
        prop_assert_eq!(&other["runtime"]["args"], &serde_json::json!(spec.runtime.args));
        prop_assert_eq!(&other["runtime"]["env"], &serde_json::json!(spec.runtime.env));
    }
}
