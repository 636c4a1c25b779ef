//! Rules about limits: the range of each, and what `degrade` may say of them.

use super::Rule;
use crate::spec::PolicySpec;
use sr_common::{ByteSize, Control, Fault};

const CPU: Rule = Rule::new("SR-RULE-cpu-range", "`cpu` is above 0 and at most 4096.");
const MEMORY: Rule = Rule::new("SR-RULE-memory-range", "`memory` is at least 4MiB.");
const PIDS: Rule = Rule::new(
    "SR-RULE-pids-range",
    "`pids` is 2 to 4194304: the sandbox's init counts too.",
);
const DISK: Rule = Rule::new("SR-RULE-disk-range", "`disk` is at least 64KiB.");
const WALL: Rule = Rule::new("SR-RULE-walltime-range", "`wallTime` is at most 30d.");
const FILES: Rule = Rule::new("SR-RULE-openfiles-range", "`openFiles` is 8 to 1048576.");
const OUTPUT: Rule = Rule::new("SR-RULE-output-range", "`output` is above 0.");
const WALL_CONTROL: Rule = Rule::new(
    "SR-RULE-degrade-wall",
    "`degrade` names no control that is the wall itself.",
);

pub(super) const RULES: &[Rule] = &[CPU, MEMORY, PIDS, DISK, WALL, FILES, OUTPUT, WALL_CONTROL];

const DAY: u64 = 86_400_000;

pub(super) fn check(spec: &PolicySpec, faults: &mut Vec<Fault>) {
    let r = &spec.resources;
    let mut judge = |good: bool, rule: Rule, field: &str, found: String, remedy: &str| {
        if !good {
            faults.push(rule.fault(field, found, remedy));
        }
    };
    if let Some(cpu) = r.cpu {
        let good = cpu > 0.0 && cpu <= 4096.0;
        judge(
            good,
            CPU,
            "resources.cpu",
            format!("{cpu} CPUs"),
            "write a number above 0 such as 0.5, or all",
        );
    }
    if let Some(memory) = r.memory {
        judge(
            memory >= ByteSize(4 << 20),
            MEMORY,
            "resources.memory",
            memory.to_string(),
            "write at least 4MiB, or all",
        );
    }
    if let Some(pids) = r.pids {
        judge(
            (2..=4_194_304).contains(&pids),
            PIDS,
            "resources.pids",
            pids.to_string(),
            "write 2 to 4194304 (2 leaves the program alone with the sandbox's init), or all",
        );
    }
    judge(
        r.disk >= ByteSize(64 << 10),
        DISK,
        "resources.disk",
        r.disk.to_string(),
        "write at least 64KiB",
    );
    judge(
        (1..=30 * DAY).contains(&r.wall_time.0),
        WALL,
        "resources.wallTime",
        r.wall_time.to_string(),
        "write at most 30d",
    );
    let files = (8..=1_048_576).contains(&r.open_files);
    judge(
        files,
        FILES,
        "resources.openFiles",
        r.open_files.to_string(),
        "write 8 to 1048576",
    );
    judge(
        r.output > ByteSize(0),
        OUTPUT,
        "resources.output",
        r.output.to_string(),
        "write a size such as 64MiB",
    );
    for (i, control) in spec.degrade.iter().enumerate() {
        let path = format!("degrade[{i}]");
        if !Control::DEGRADABLE.contains(control) {
            let names: Vec<String> = Control::DEGRADABLE.iter().map(|c| c.name()).collect();
            let found = format!("`{}` is the wall itself", control.name());
            faults.push(WALL_CONTROL.fault(path, found, format!("these may be named: {}", names.join(", "))));
        }
    }
}
