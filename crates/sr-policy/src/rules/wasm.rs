//! Rules about a program of WebAssembly: with which backends its section goes, how much each limit may be, and which host
//! calls have a rule.

use super::Rule;
use crate::document::PolicyDocument;
use crate::host_call::HostCallRule;
use crate::spec::{BackendChoice, PolicySpec, Wasm};
use crate::suggest::nearest;
use crate::text::printable;
use sr_common::canonical::MAX_INTEGER;
use sr_common::host_calls::{self, HostCalls, PREVIEW1};
use sr_common::module::Metering;
use sr_common::{Backend, ByteSize, Fault, Millis};
use std::fmt::Display;
use std::ops::RangeInclusive;

const BACKEND: Rule = Rule::new(
    "SR-RULE-wasm-backend",
    "`wasm` belongs to the backends `auto`, `wasm` and `strongest`.",
);
const FUEL: Rule = Rule::new(
    "SR-RULE-wasm-fuel",
    "`fuel` goes with `metering: fuel`, and that has `fuel`, written or by a level.",
);
const RANGE: Rule = Rule::new(
    "SR-RULE-wasm-range",
    "`memory` is 64KiB to 4GiB, `time` 1ms to 30d, `fuel` 1 to 9007199254740991, `openFiles` at most 1048576, `stack` \
     64KiB to 64MiB, `tableElements` 1 to 10000000, `compileTime` 1s to 10min, `atMost` at most 4294967296.",
);
const HOST_CALLS: Rule = Rule::new(
    "SR-RULE-wasm-host-calls",
    "A rule of `hostCalls` is for a function of WASI preview 1, or an interface of preview 2 or one of its functions without a \
     version, and says one thing that its arguments can be.",
);

pub(super) const RULES: &[Rule] = &[BACKEND, FUEL, RANGE, HOST_CALLS];

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const MINUTE: u64 = 60_000;
const DAY: u64 = 1440 * MINUTE;

pub(super) fn check_document(document: &PolicyDocument, faults: &mut Vec<Fault>) {
    let rules = document.wasm.as_ref().and_then(|wasm| wasm.host_calls.as_ref());
    for (name, rule) in rules.into_iter().flatten() {
        let HostCallRule::Arguments(arguments) = rule else {
            continue;
        };
        let found = match arguments.count() {
            1 => continue,
            0 => "a map that says nothing",
            _ => "a map that says more than one thing",
        };
        let remedy = "write one of within, clocks and atMost, or the word allow or deny instead";
        faults.push(HOST_CALLS.fault(host_call(name), found, remedy));
    }
}

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    let Some(wasm) = &spec.wasm else { return };
    match spec.runtime.backend {
        BackendChoice::Auto | BackendChoice::Strongest | BackendChoice::This(Backend::Wasm) => {}
        other => {
            let found = format!("limits of an engine, and the backend `{other}`, which has none");
            let remedy = "write runtime: {backend: wasm}, or remove this section";
            return faults.push(BACKEND.fault("wasm", found, remedy));
        }
    }
    fuel(wasm, faults);
    ranges(wasm, faults);
    for (name, rule) in &wasm.host_calls.rules {
        if let Err((found, remedy)) = judge(name, rule) {
            faults.push(HOST_CALLS.fault(host_call(name), printable(&found), remedy));
        }
    }
}

fn host_call(name: &str) -> String {
    format!("wasm.hostCalls.{}", printable(name))
}

fn fuel(wasm: &Wasm, faults: &mut Vec<Fault>) {
    let (found, remedy) = match (wasm.metering, wasm.fuel) {
        (Metering::Fuel, None) => (
            "fuel is metered, and there is none".to_owned(),
            "write fuel: 5000000000, or a level",
        ),
        (Metering::Deadline | Metering::Epochs, Some(units)) => (
            format!("{units} units, and fuel is not metered"),
            "write metering: fuel, or remove this field",
        ),
        _ => return,
    };
    faults.push(FUEL.fault("wasm.fuel", found, remedy));
}

fn ranges(wasm: &Wasm, faults: &mut Vec<Fault>) {
    let size = |from, to| ByteSize(from)..=ByteSize(to);
    let time = |from, to| Millis(from)..=Millis(to);
    within("memory", wasm.memory, size(64 * KIB, 4 * GIB), faults);
    if let Some(limit) = wasm.time.filter(|limit| !time(1, 30 * DAY).contains(limit)) {
        // Printed, the range would end at 720h.
        faults.push(RANGE.fault("wasm.time", limit.to_string(), "write 1ms to 30d"));
    }
    // Larger numbers are not the same to every reader of JSON.
    within("fuel", wasm.fuel, 1..=MAX_INTEGER, faults);
    within("openFiles", wasm.open_files, 0..=1_048_576, faults);
    within("stack", Some(wasm.stack), size(64 * KIB, 64 * MIB), faults);
    within("tableElements", Some(wasm.table_elements), 1..=10_000_000, faults);
    within("compileTime", Some(wasm.compile_time), time(1000, 10 * MINUTE), faults);
    for (name, rule) in &wasm.host_calls.rules {
        if let host_calls::Rule::AtMost { bytes } = rule {
            let field = format!("hostCalls.{}.atMost", printable(name));
            // All that a guest of 32 bits can have.
            within(&field, Some(*bytes), 0..=4 * GIB, faults);
        }
    }
}

fn within<T: PartialOrd + Display>(field: &str, value: Option<T>, range: RangeInclusive<T>, faults: &mut Vec<Fault>) {
    if let Some(value) = value.filter(|value| !range.contains(value)) {
        let remedy = format!("write {} to {}", range.start(), range.end());
        faults.push(RANGE.fault(format!("wasm.{field}"), value.to_string(), remedy));
    }
}

/// One rule by itself, so that each that is refused is told, where it stands.
fn judge(name: &str, rule: &host_calls::Rule) -> Result<(), (String, String)> {
    let alone = HostCalls {
        rules: [(name.to_owned(), rule.clone())].into(),
    };
    alone.validate().map_err(|(found, remedy)| {
        let known = PREVIEW1.contains(&name);
        let near = nearest(name, PREVIEW1).filter(|_| !known);
        let remedy = near.map_or_else(|| remedy.to_owned(), |near| format!("did you mean `{near}`?"));
        (found, remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;
    use crate::spec::Level;
    use host_calls::{Clock, Rule as HostCall};

    fn faults(backend: BackendChoice, wasm: Wasm) -> Vec<Fault> {
        let mut spec = preset("strict").unwrap();
        spec.runtime.backend = backend;
        spec.wasm = Some(wasm);
        let mut faults = Vec::new();
        check(&spec, &mut faults);
        faults
    }

    fn broken(wasm: Wasm) -> Vec<(&'static str, String)> {
        let faults = faults(BackendChoice::This(Backend::Wasm), wasm).into_iter();
        faults
            .filter_map(|fault| Some((fault.rule?, fault.path.strip_prefix("wasm.")?.to_owned())))
            .collect()
    }

    #[test]
    fn limits_of_an_engine_go_with_the_backends_that_have_one() {
        for backend in BackendChoice::all() {
            let has = ["auto", "wasm", "strongest"].contains(&backend.name());
            let found = faults(backend, Wasm::at(Level::Strict));
            let expected: &[&str] = if has { &[] } else { &[BACKEND.id] };
            let rules: Vec<_> = found.iter().filter_map(|fault| fault.rule).collect();
            assert_eq!(rules, expected, "{backend}");
            assert!(found.iter().all(|fault| fault.path == "wasm"));
        }
    }

    #[test]
    fn fuel_and_its_metering_go_together() {
        for metering in [Metering::Deadline, Metering::Epochs, Metering::Fuel] {
            for fuel in [None, Some(1)] {
                let wasm = Wasm {
                    metering,
                    fuel,
                    ..Wasm::default()
                };
                let good = fuel.is_some() == (metering == Metering::Fuel);
                let expected: &[_] = if good { &[] } else { &[(FUEL.id, "fuel".into())] };
                assert_eq!(broken(wasm), expected, "{metering:?} {fuel:?}");
            }
        }
    }

    #[test]
    fn each_limit_has_a_least_and_a_most() {
        type Set = fn(&mut Wasm, u64);
        let fields: [(&str, u64, u64, Set); 7] = [
            ("memory", 65_536, 1 << 32, |wasm, n| wasm.memory = Some(ByteSize(n))),
            ("time", 1, 2_592_000_000, |wasm, n| wasm.time = Some(Millis(n))),
            ("fuel", 1, (1 << 53) - 1, |wasm, n| {
                (wasm.fuel, wasm.metering) = (Some(n), Metering::Fuel);
            }),
            ("openFiles", 0, 1_048_576, |wasm, n| wasm.open_files = Some(n)),
            ("stack", 65_536, 1 << 26, |wasm, n| wasm.stack = ByteSize(n)),
            ("tableElements", 1, 10_000_000, |wasm, n| wasm.table_elements = n),
            ("compileTime", 1_000, 600_000, |wasm, n| wasm.compile_time = Millis(n)),
        ];
        for (field, least, most, set) in fields {
            let values = [(least, true), (most, true), (most + 1, false), (u64::MAX, false)];
            let below = least.checked_sub(1).map(|n| (n, false));
            for (n, good) in values.into_iter().chain(below) {
                let mut wasm = Wasm::default();
                set(&mut wasm, n);
                let expected: &[_] = if good { &[] } else { &[(RANGE.id, field.into())] };
                assert_eq!(broken(wasm), expected, "{field} {n}");
            }
        }
    }

    fn with_rule(name: &str, rule: HostCall) -> Wasm {
        let mut wasm = Wasm::default();
        wasm.host_calls.rules.insert(name.into(), rule);
        wasm
    }

    #[test]
    fn so_many_random_bytes_as_a_guest_can_hold() {
        for (bytes, good) in [(0, true), (1 << 32, true), ((1 << 32) + 1, false)] {
            let expected: &[_] = match good {
                true => &[],
                false => &[(RANGE.id, "hostCalls.random_get.atMost".into())],
            };
            assert_eq!(broken(with_rule("random_get", HostCall::AtMost { bytes })), expected);
        }
    }

    #[test]
    fn rules_are_for_functions_that_there_are() {
        let within = |path: &str| HostCall::Within {
            paths: vec![path.to_owned()],
        };
        let clocks = HostCall::Clocks {
            clocks: vec![Clock::Monotonic],
        };
        for (name, rule) in [
            ("fd_write", HostCall::Deny),
            ("proc_exit", HostCall::Allow),
            ("path_open", within("/work")),
            ("clock_res_get", clocks.clone()),
            ("wasi:clocks/wall-clock", HostCall::Deny),
            ("wasi:random/random#get-random-bytes", HostCall::AtMost { bytes: 64 }),
        ] {
            assert_eq!(broken(with_rule(name, rule)), [], "{name}");
        }
        for (name, rule, part) in [
            ("fd_wirte", HostCall::Deny, "did you mean `fd_write`?"),
            ("kitchen", HostCall::Deny, "use a name of WASI's"),
            ("fd_read", within("/work"), "within is for paths"),
            ("random_get", clocks, "within is for paths"),
            ("path_open", within("work"), "absolute paths"),
            ("path_open", within("/work/.."), "absolute paths"),
            ("wasi:clocks/wall-clock@0.2.0", HostCall::Deny, "use a name of WASI's"),
            ("wasi:nothing", HostCall::Deny, "use a name of WASI's"),
        ] {
            let found = faults(BackendChoice::Auto, with_rule(name, rule));
            assert_eq!(found.len(), 1, "{name}");
            let place = (found[0].rule, found[0].path.as_str());
            assert_eq!(place, (Some(HOST_CALLS.id), host_call(name).as_str()));
            assert!(found[0].remedy.contains(part), "{name}: {}", found[0].remedy);
        }
        let long = faults(BackendChoice::Auto, with_rule(&"x".repeat(1 << 20), HostCall::Deny));
        assert!(long[0].to_string().len() < 1000);
    }
}
