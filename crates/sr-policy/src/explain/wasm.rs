//! What the engine lets a program of WebAssembly have, in plain sentences.

use crate::spec::{BackendChoice, PolicySpec, Wasm};
use crate::text::printable;
use sr_common::Backend;
use sr_common::host_calls::{Clock, HostCalls, Rule};
use sr_common::module::Metering;

/// Nothing where no engine can be the wall, or only might be and the policy says nothing of it.
pub(super) fn lines(spec: &PolicySpec) -> Vec<String> {
    let is_wall = spec.runtime.backend == BackendChoice::This(Backend::Wasm);
    let wasm = match &spec.wasm {
        Some(wasm) => wasm.clone(),
        None if is_wall => Wasm::default(),
        None => return Vec::new(),
    };
    let mut lines = vec![
        "It is WebAssembly, or refused, and run by an engine in a process of its own behind the native wall."
            .to_owned(),
        limits(&wasm),
        computation(&wasm),
    ];
    lines.extend(calls(&wasm.host_calls));
    lines
}

fn limits(wasm: &Wasm) -> String {
    let memory = wasm.memory.map_or_else(
        || "as much memory as the limits below".into(),
        |size| format!("{size} of memory"),
    );
    let files = wasm.open_files.map_or_else(String::new, |n| {
        format!(" and {n} file{} open at a time", if n == 1 { "" } else { "s" })
    });
    format!(
        "The engine lets it have {memory}, {} of stack, {} elements of tables{files}, and takes at most {} to compile it.",
        wasm.stack, wasm.table_elements, wasm.compile_time
    )
}

fn computation(wasm: &Wasm) -> String {
    let time = wasm
        .time
        .map_or_else(|| "when its time is up".into(), |time| format!("after {time}"));
    match (wasm.metering, wasm.fuel) {
        (Metering::Fuel, Some(units)) => {
            format!("Each of its instructions is counted: it ends after {units} units of fuel, and {time}.")
        }
        (Metering::Epochs, _) => format!("The engine looks at a clock at every loop and call, and ends it {time}."),
        _ => format!("What it computes is not counted: it is ended {time}."),
    }
}

fn calls(calls: &HostCalls) -> Vec<String> {
    let denied = calls.rules.iter().filter(|(_, rule)| **rule == Rule::Deny);
    let denied: Vec<String> = denied.map(|(name, _)| name.clone()).collect();
    let mut lines = Vec::new();
    if !denied.is_empty() {
        lines.push(format!("It may not call its host by: {}.", super::list(&denied)));
    }
    for (name, rule) in &calls.rules {
        let what = match rule {
            Rule::Allow | Rule::Deny => continue,
            Rule::Within { paths } if paths.is_empty() => "no path".into(),
            Rule::Within { paths } => format!("only paths within {}", super::list(paths)),
            Rule::Clocks { clocks } if clocks.is_empty() => "no clock".into(),
            Rule::Clocks { clocks } => {
                let clocks: Vec<String> = clocks.iter().copied().map(clock).collect();
                format!("only the clocks {}", super::list(&clocks))
            }
            Rule::AtMost { bytes } => format!("at most {bytes} bytes a call"),
        };
        lines.push(format!("Of {}, {what}.", printable(name)));
    }
    lines
}

fn clock(clock: Clock) -> String {
    match clock {
        Clock::Realtime => "realtime",
        Clock::Monotonic => "monotonic",
        Clock::ProcessCputimeId => "processCputimeId",
        Clock::ThreadCputimeId => "threadCputimeId",
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain;
    use crate::spec::{Level, Preset};
    use sr_common::Millis;

    #[test]
    fn an_engine_is_told_of_where_there_can_be_one() {
        let mut spec = Preset::Standard.spec();
        assert_eq!(lines(&spec), Vec::<String>::new());
        spec.wasm = Some(Wasm::at(Level::Strict));
        assert!(explain(&spec).contains("\nWall\n  It is WebAssembly, or refused, and run by an engine"));
        spec.runtime.backend = BackendChoice::Strongest;
        let text = explain(&spec);
        assert!(text.contains("the strongest wall that covers") && text.contains("It is WebAssembly, or refused"));
        spec.runtime.backend = BackendChoice::This(Backend::Wasm);
        let told = [
            "It is WebAssembly, or refused, and run by an engine in a process of its own behind the native wall.",
            "The engine lets it have 128MiB of memory, 1MiB of stack, 1048576 elements of tables and 3 files open at a time, \
             and takes at most 30s to compile it.",
            "Each of its instructions is counted: it ends after 5000000000 units of fuel, and after 5s.",
        ];
        assert_eq!(lines(&spec), told);
    }

    #[test]
    fn how_it_is_ended_goes_with_the_metering() {
        let mut spec = Preset::Standard.spec();
        spec.runtime.backend = BackendChoice::This(Backend::Wasm);
        assert!(explain(&spec).contains("is not counted: it is ended when its time is up."));
        spec.wasm = Some(Wasm {
            metering: Metering::Epochs,
            time: Some(Millis(1500)),
            ..Wasm::default()
        });
        assert!(explain(&spec).contains("at every loop and call, and ends it after 1500ms."));
    }

    #[test]
    fn rules_for_host_calls_are_told_one_by_one() {
        let mut spec = Preset::Standard.spec();
        let mut wasm = Wasm::default();
        for (name, rule) in [
            ("clock_time_get", Rule::Deny),
            ("proc_exit", Rule::Allow),
            ("sock_send", Rule::Deny),
            (
                "path_open",
                Rule::Within {
                    paths: vec!["/work".into()],
                },
            ),
            ("path_link", Rule::Within { paths: Vec::new() }),
            ("random_get", Rule::AtMost { bytes: 64 }),
            (
                "clock_res_get",
                Rule::Clocks {
                    clocks: vec![Clock::Realtime, Clock::ThreadCputimeId],
                },
            ),
        ] {
            wasm.host_calls.rules.insert(name.into(), rule);
        }
        spec.wasm = Some(wasm);
        let told = [
            "It may not call its host by: clock_time_get, sock_send.",
            "Of clock_res_get, only the clocks realtime, threadCputimeId.",
            "Of path_link, no path.",
            "Of path_open, only paths within /work.",
            "Of random_get, at most 64 bytes a call.",
        ];
        assert_eq!(lines(&spec)[3..], told);
    }
}
