//! Texts that mean harm: bombs, depth, odd encodings, arbitrary bytes, mutated policies. None may panic or be slow.

// `allow-unwrap-in-tests` reaches test functions only, not their helpers.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use sr_common::{Code, Fault};
use sr_policy::{Format, parse, parse_host, resolve};

const FORMATS: [Format; 3] = [Format::Yaml, Format::Json, Format::Toml];

fn no_files(path: &str) -> Result<(String, Vec<u8>), Fault> {
    Err(Fault::new(Code::Pol002, "extends", path, "no files here"))
}

#[test]
fn depth_ends_no_stack() {
    for opener in [
        "[", "{\"a\":", "{a: ", "- ", "? ", "a.", "[[", "a = [", "a={a=", "&a [", "\"a\".", "\"]\".", "- - ? ",
    ] {
        for prefix in ["", "a: ", "a = ", "[", "{\"a\":", "a = [\"\"\"\n\"\"\", {"] {
            for format in FORMATS {
                let text = format!("{prefix}{}", opener.repeat(100_000));
                let faults = parse("deep", text.as_bytes(), format).unwrap_err();
                assert_eq!(faults[0].code, Code::Pol002, "{opener} {format:?}");
            }
        }
    }
}

#[test]
fn a_mebibyte_is_the_end() {
    for format in FORMATS {
        let faults = parse("big", &vec![b'\n'; (1 << 20) + 1], format).unwrap_err();
        assert!(faults[0].found.contains("more than 1048576"));
        // Many faults are cut, not collected.
        let many: String = (0..60_000).map(|i| format!("k{i}: 1\n")).collect();
        assert!(parse("many", many.as_bytes(), format).unwrap_err().len() <= 64);
    }
}

#[test]
fn a_fault_points_at_its_place() {
    let text = "apiVersion: safe-run/v1\nmetadata: {name: a}\nruntime: {args: []}\nmounts: []\nnetwrok: {}\n";
    let faults = parse("dir/p.yaml", text.as_bytes(), Format::Yaml).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert_eq!(faults[0].remedy, "did you mean `network`?");
    let line = faults[0].source.clone().unwrap();
    assert_eq!(
        (line.file.as_str(), line.line, line.column, line.text.as_str()),
        ("dir/p.yaml", 5, 1, "netwrok: {}")
    );

    let text = "{\"apiVersion\": \"safe-run/v1\", \"metadata\": {\"name\": \"a\"},\n \"runtime\": {\"args\": [], \"user\": 0},\n \"mounts\": []}";
    let source = parse("p.json", text.as_bytes(), Format::Json).unwrap();
    let faults = resolve(&source, &no_files).unwrap_err();
    let line = faults[0].source.clone().unwrap();
    assert_eq!(
        (faults[0].path.as_str(), line.line, line.column),
        ("runtime.user", 2, 34)
    );

    let text = "apiVersion = 'safe-run/v1'\nmounts = []\nmetadata.name = 'a'\n[runtime]\nargs = []\nuser = 'x'\n";
    let line = parse("p.toml", text.as_bytes(), Format::Toml).unwrap_err()[0]
        .source
        .clone()
        .unwrap();
    assert_eq!((line.line, line.column), (6, 8));
}

#[test]
fn a_fault_of_a_merged_policy_points_into_the_layer_that_said_it() {
    let head = "apiVersion: safe-run/v1\nmetadata: {name: a}\nruntime: {args: []}\n";
    let base = format!("{head}mounts: [{{source: /}}]\nresources: {{pids: 0, memory: 1}}\n");
    let upper = format!("{head}mounts: []\nextends: ../base.yaml\nresources:\n  memory: 2\n");
    let load = |path: &str| -> Result<(String, Vec<u8>), Fault> {
        assert_eq!(path, "base.yaml");
        Ok(("base.yaml".into(), base.clone().into_bytes()))
    };
    let source = parse("dir/upper.yaml", upper.as_bytes(), Format::Yaml).unwrap();
    let faults = resolve(&source, &load).unwrap_err();
    let places: Vec<(String, String, usize)> = faults
        .iter()
        .map(|f| {
            (
                f.path.clone(),
                f.source.as_ref().unwrap().file.clone(),
                f.source.as_ref().unwrap().line,
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            ("resources.memory".into(), "dir/upper.yaml".into(), 7),
            ("resources.pids".into(), "base.yaml".into(), 5)
        ]
    );
}

#[test]
fn slips_in_the_section_of_an_engine_are_told() {
    let head = "apiVersion: safe-run/v1\nmetadata: {name: a}\nruntime: {backend: wasm, args: []}\nmounts: []\n";
    for (slip, remedy) in [
        ("wasm: {mettering: fuel}", "did you mean `metering`?"),
        ("wasm: {metering: feul}", "did you mean `fuel`?"),
        ("wasm: {level: Strict}", "did you mean `strict`?"),
        ("wasm: {hostCalls: {fd_read: dney}}", "did you mean `deny`?"),
        ("wasm: {hostCalls: {fd_raed: deny}}", "did you mean `fd_read`?"),
        ("wasm: {hostCalls: {random_get: {atmost: 1}}}", "did you mean `atMost`?"),
        (
            "wasm: {hostCalls: {clock_res_get: {clocks: [monotonc]}}}",
            "did you mean `monotonic`?",
        ),
    ] {
        let judged = parse("p.yaml", format!("{head}{slip}\n").as_bytes(), Format::Yaml);
        let faults = judged.and_then(|source| resolve(&source, &no_files)).unwrap_err();
        let line = faults[0].source.as_ref().map(|at| at.line);
        assert_eq!(
            (faults.len(), faults[0].remedy.as_str(), line),
            (1, remedy, Some(5)),
            "{slip}"
        );
    }
}

const POLICY: &str = "apiVersion: safe-run/v1\nmetadata: {name: a, labels: {x: y}}\nextends: strict\nruntime:\n  command: /bin/true\n  args: &a [\"-c\", 'x']\n  env: {A: b}\nmounts:\n  - {source: ./src, target: /work, readOnly: true}\nresources: {cpu: 0.5, memory: 512MiB, wallTime: 30s}\nhide: *a\nsyscalls: {allow: [], onDenied: errno}\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for format in FORMATS {
            let _ = parse("x", &bytes, format).map_err(|f| assert!(!f.is_empty()));
            let _ = parse_host("x.toml", &bytes);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[\\[\\]{}:,#&*!|>'\"%@`\\-? \n\ta-c0-9.=\\\\é\u{202e}]{0,200}") {
        for format in FORMATS {
            let _ = parse("x", text.as_bytes(), format).map_err(|f| assert!(!f.is_empty()));
        }
    }

    #[test]
    fn mutated_policies_never_panic(edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..6)) {
        let mut bytes = POLICY.as_bytes().to_vec();
        for (index, byte, how) in edits {
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        if let Ok(source) = parse("x.yaml", &bytes, Format::Yaml) {
            let _ = resolve(&source, &no_files).map_err(|f| assert!(!f.is_empty()));
        }
    }
}
