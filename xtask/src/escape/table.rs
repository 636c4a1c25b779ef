//! The table: on the terminal, as `docs/escape-matrix.md`, and that document compared with what a run saw.

use super::results::Results;
use super::rig::Record;
use super::verdict::Verdict;
use super::wall::{Column, Wall};
use sr_escape::case::Case;
use sr_escape::case::GROUPS;
use std::collections::BTreeMap;

/// For people: a line for each case that ran.
pub fn print(results: &Results) {
    let width = results.cases.iter().map(|c| c.name.len()).max().unwrap_or(0);
    for group in GROUPS {
        let ran = |i: &usize| results.columns.iter().any(|c| results.verdict(*i, *c).is_some());
        let cases: Vec<usize> = results.of_group(group).into_iter().filter(ran).collect();
        if cases.is_empty() {
            continue;
        }
        let wide = results.columns.iter().map(|c| c.name().len()).max().unwrap_or(0);
        let names: Vec<String> = results.columns.iter().map(|c| format!("{:<wide$}", c.name())).collect();
        println!("\n{group:<width$}  {}", names.join(" ").trim_end());
        for i in cases {
            let cells: Vec<String> = results
                .columns
                .iter()
                .map(|c| format!("{:<wide$}", results.verdict(i, *c).map_or_else(String::new, short)))
                .collect();
            println!("{:<width$}  {}", results.cases[i].name, cells.join(" ").trim_end());
        }
    }
    println!();
    for column in &results.columns {
        println!("{:<14} {}", column.name(), totals(results, *column));
    }
}

fn short(verdict: &Verdict) -> String {
    let text = verdict.text();
    let word = text.split(':').next().unwrap_or_default();
    match verdict {
        Verdict::Fired(what) => what.clone(),
        Verdict::Rig(_) => "rig".into(),
        _ => word.to_owned(),
    }
}

/// `140 held`, `101 held, 12 ESCAPED, 20 open`: by what the words of a cell begin with.
fn totals(results: &Results, column: Column) -> String {
    let verdicts = (0..results.cases.len()).filter_map(|i| results.verdict(i, column));
    counted(verdicts.map(Verdict::text))
}

/// What was in the rig is counted apart, and last.
pub fn counted(cells: impl Iterator<Item = String>) -> String {
    const ORDER: [&str; 12] = [
        "held",
        "limit",
        "ESCAPED",
        "open",
        "broken",
        "fires",
        "SILENT",
        "STALE void",
        "void",
        "rig",
        "absent",
        NOT_RUN,
    ];
    let mut counts: BTreeMap<(bool, usize), usize> = BTreeMap::new();
    for text in cells {
        let word = text.split(':').next().unwrap_or_default();
        let there = word.strip_suffix(IN_THE_RIG);
        if let Some(at) = ORDER.iter().position(|w| *w == there.unwrap_or(word)) {
            *counts.entry((there.is_some(), at)).or_default() += 1;
        }
    }
    let part = |((there, at), n): (&(bool, usize), &usize)| {
        let where_else = if *there { IN_THE_RIG } else { "" };
        format!("{n} {}{where_else}", ORDER[*at])
    };
    let parts: Vec<String> = counts.iter().map(part).collect();
    if parts.is_empty() {
        "none".into()
    } else {
        parts.join(", ")
    }
}

const HEAD: &str = "\
# The escape matrix

Written by `cargo xtask escape --write`, checked by `cargo xtask test`. [tests/escape](../tests/escape/README.md) says what a
case is and what each word means.

- **held**: every attempt ended as expected, and nothing outside was reached. **ESCAPED**: something outside was reached, as seen
  from there. **limit**: so it was, as the limit says that SECURITY.md states and that stands below the table. **open**: nothing was, but a call succeeded that the case expects a wall to refuse. **broken**: it did not run there.
- **fires**: the same program on the bare host got through, and by what that was seen. **void**: it cannot, for the reason below the
  table. **in the rig**: it is destructive, and was run in a virtual machine only, on the kernel that is named below; so were the
  references then. **rig**: it was not.
- *process* is `safe-run run` under the preset `standard`, started by root and by uid 1000. *bubblewrap* (by uid 1000) and *runc*
  (by root) are references, as careful people write them: bubblewrap with `--unshare-all --new-session --die-with-parent --clearenv`,
  read-only system directories and the project bound in; runc with what `runc spec` writes and the same files. Neither comes
  with a system-call filter of its own, both were granted writing to the project, and a refusal by any errno counts as held for
  them. **–**: the case tries what only Safe-Run has.
- *gvisor* and *microvm* are the same policy behind a kernel of the program's own: `--backend gvisor`, and `--backend microvm:qemu`
  with a processor that is computed (`accel: tcg`). The canaries outside decide there as everywhere; what that kernel answers
  otherwise than the host's, which reaches nothing outside, stands below each table with its reason. Behind the virtual machine
  each check runs a sample; the rest is what a run by hand saw (`--write --backend microvm`). **not run**: for the reason below the
  table, or, without one, because nobody has run it yet. The versions below are runsc's and QEMU's.
- *microvm:firecracker* and *microvm:cloud-hypervisor* need KVM that runs guests, and programs that are in no registry: the checks have
  neither. The last table is what a run by hand saw of some cases (`--rig --write --backend microvm:firecracker`), with KVM nested in
  the rig, on the kernel that it names; their guests answer as *microvm*'s do.
";

/// The cell of what did not run, with or without a reason.
const NOT_RUN: &str = "not run";
/// Ends the word of a cell that was run there.
const IN_THE_RIG: &str = " in the rig";
/// The cells whose reasons stand below a group, and what stands over those.
const NOTED: [(&str, &str); 4] = [
    ("void", "Void because:"),
    ("void in the rig", "Void in the rig because:"),
    (NOT_RUN, "Not run because:"),
    ("limit", "Limits, as SECURITY.md states them:"),
];

/// The document of what was seen; what was not run is kept as `before` has them.
pub fn document(results: &Results, before: &str) -> String {
    let kept = rows(before);
    let cell = |i: usize, column: Column| match results.verdict(i, column) {
        Some(verdict) => verdict.whole(),
        None => {
            let row = kept.get(&results.cases[i].id());
            let cell = row.and_then(|row| row.get(column.name()));
            cell.filter(|cell| !cell.is_empty())
                .map_or_else(|| NOT_RUN.to_owned(), Clone::clone)
        }
    };
    let mut text = HEAD.to_owned();
    text += &format!(
        "\n{} cases. {VERSIONS}{}.\n\nThe rig: {}.\n\n",
        results.cases.len(),
        versions(results, before).join(", "),
        results.record.summary()
    );
    text += "| | |\n|---|---|\n";
    for column in Column::ALL {
        let cells = (0..results.cases.len()).map(|i| cell(i, column));
        text += &format!("| {} | {} |\n", column.name(), counted(cells));
    }
    for group in GROUPS {
        let cases = results.of_group(group);
        if cases.is_empty() {
            continue;
        }
        text += &format!("\n## {group}\n\n| case | what is tried | source | expected |");
        for column in Column::ALL {
            text += &format!(" {} |", column.name());
        }
        text += &format!("\n|---|---|---|---|{}\n", "---|".repeat(Column::ALL.len()));
        let mut notes = NOTED.map(|(word, head)| (word, head, Vec::new()));
        for i in &cases {
            let case = &results.cases[*i];
            text += &format!(
                "| {} | {} | {} | {} |",
                case.name,
                case.title,
                case.source,
                case.expect.join(" ")
            );
            for column in Column::ALL {
                let cell = cell(*i, column);
                let noted = notes
                    .iter_mut()
                    .find_map(|note| Some((cell.strip_prefix(note.0)?.strip_prefix(": ")?.to_owned(), note)));
                let cell = match noted {
                    Some((reason, (word, _, reasons))) => {
                        let at = reasons.iter().position(|r| *r == reason).unwrap_or(reasons.len());
                        if at == reasons.len() {
                            reasons.push(reason);
                        }
                        format!("{word} {}", at + 1)
                    }
                    None => cell,
                };
                text += &format!(" {cell} |");
            }
            text.push('\n');
        }
        for (_, head, reasons) in notes.iter().filter(|(.., reasons)| !reasons.is_empty()) {
            text += &format!("\n{head}\n\n");
            for (i, reason) in reasons.iter().enumerate() {
                text += &format!("{}. {reason}\n", i + 1);
            }
        }
        text += &answers(results, &cases);
    }
    text + &with_kvm(&results.with_kvm)
}

/// What came behind monitors that need KVM. No group: the first column has another name than theirs.
fn with_kvm(record: &Record) -> String {
    let ids = record.ids();
    if ids.is_empty() {
        return String::new();
    }
    let cell = |id: &str, column: Column| record.cell(id, column).unwrap_or(NOT_RUN).to_owned();
    let mut text = format!(
        "\n## Firecracker and Cloud Hypervisor\n\n{}; {}; started by root. {} of the cases:\n\n| | |\n|---|---|\n",
        record.kernel(),
        record.versions().join(", "),
        ids.len()
    );
    for column in Column::WITH_KVM {
        let cells = ids.iter().map(|id| cell(id, column));
        text += &format!("| {} | {} |\n", column.name(), counted(cells));
    }
    let [first, second] = Column::WITH_KVM;
    text += &format!(
        "\n| group, case | {} | {} |\n|---|---|---|\n",
        first.name(),
        second.name()
    );
    for id in ids {
        text += &format!("| {id} | {} | {} |\n", cell(id, first), cell(id, second));
    }
    text
}

const VERSIONS: &str = "Behind and beside: ";

/// The versions of what was run, and of the rest as `before` has them.
fn versions(results: &Results, before: &str) -> Vec<String> {
    let line = before.lines().find_map(|line| line.split_once(VERSIONS));
    let kept = line.map_or("", |(_, rest)| rest.trim_end_matches('.'));
    let walls = [Wall::Gvisor, Wall::Microvm, Wall::Bubblewrap, Wall::Runc];
    let known = results.versions.iter().map(String::as_str).chain(kept.split(", "));
    let of = |wall: Wall| known.clone().find(|v| v.split(' ').next() == Some(wall.word()));
    walls.into_iter().filter_map(of).map(str::to_owned).collect()
}

/// What a group's cases may be answered by kernels of the program's own besides, and why.
fn answers(results: &Results, cases: &[usize]) -> String {
    let mut text = String::new();
    for case in cases.iter().map(|i| &results.cases[*i]) {
        for (wall, answered, reason) in results.kernels.told(case) {
            text += &format!("- {}, {}: {answered}: {reason}\n", case.name, wall.word());
        }
    }
    match text.is_empty() {
        true => text,
        false => format!("\nWhat another kernel may answer besides:\n\n{text}"),
    }
}

/// What of the document is not what was seen. The references are not compared.
pub fn differences(document: &str, results: &Results) -> Vec<String> {
    let rows = rows(document);
    let mut wrong = Vec::new();
    for (i, case) in results.cases.iter().enumerate() {
        let id = case.id();
        let Some(row) = rows.get(&id) else {
            wrong.push(format!("{id} is not in it"));
            continue;
        };
        let mut compare = |name: &str, now: String| {
            let says = row.get(name).map_or("", String::as_str);
            if says != now {
                wrong.push(format!("{id}, {name}: it says {says:?}, and now it is {now:?}"));
            }
        };
        compare("what is tried", case.title.clone());
        compare("source", case.source.clone());
        compare("expected", case.expect.join(" "));
        for column in results.columns.iter().filter(|c| !c.is_reference()) {
            match results.verdict(i, *column) {
                None | Some(Verdict::Absent) => {}
                Some(verdict @ (Verdict::Limit(_) | Verdict::Held)) => {
                    // What is a race is held now and then.
                    let stated = case.limit(column.root).map(|limit| format!("limit: {limit}"));
                    let says = row.get(column.name());
                    let either =
                        stated.is_some() && (says == stated.as_ref() || says.is_some_and(|says| says == "held"));
                    if !either {
                        compare(column.name(), verdict.whole());
                    }
                }
                Some(verdict) => compare(column.name(), verdict.whole()),
            }
        }
    }
    let known: Vec<String> = results.cases.iter().map(Case::id).collect();
    for id in rows.keys().filter(|id| !known.contains(id)) {
        wrong.push(format!("{id} is in it, and in the corpus no more"));
    }
    if !document.ends_with(&with_kvm(&results.with_kvm)) {
        wrong.push("what it says of Firecracker and Cloud Hypervisor is not what the rig said last".into());
    }
    wrong
}

/// The document's rows: by `group/name`, cells by the names of their columns; `void 2` and `limit 1` with their reasons.
fn rows(document: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut rows: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let (mut group, mut columns): (String, Vec<String>) = Default::default();
    let mut kind = "void";
    let mut reasons: BTreeMap<(String, String), String> = BTreeMap::new();
    for line in document.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            group = name.trim().to_owned();
            columns.clear();
        } else if let Some((word, _)) = NOTED.iter().find(|(_, head)| *head == line) {
            kind = word;
        } else if let Some((number, reason)) = line.split_once(". ").filter(|(n, _)| n.parse::<u32>().is_ok()) {
            reasons.insert((group.clone(), format!("{kind} {number}")), format!("{kind}: {reason}"));
        } else if let Some(cells) = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |")) {
            let cells: Vec<String> = cells.split(" | ").map(|c| c.trim().to_owned()).collect();
            match cells.first() {
                Some(first) if first == "case" => columns = cells,
                Some(first) if !columns.is_empty() => {
                    let row = columns.iter().cloned().zip(cells.iter().cloned()).collect();
                    rows.insert(format!("{group}/{first}"), row);
                }
                _ => {}
            }
        }
    }
    for (id, row) in &mut rows {
        let group = id.split('/').next().unwrap_or_default();
        for cell in row.values_mut() {
            if let Some(reason) = reasons.get(&(group.to_owned(), cell.clone())) {
                reason.clone_into(cell);
            }
        }
    }
    rows
}

/// Only the columns of Safe-Run and of the controls fail a run.
pub fn decides(column: Column) -> bool {
    !column.is_reference()
}

#[cfg(test)]
mod tests {
    use super::super::cell::Cell;
    use super::super::kernels::Kernels;
    use super::*;
    use sr_escape::case::Case;
    use std::path::Path;

    fn results(verdicts: &[(usize, usize, Verdict)]) -> Results {
        let case = |path: &str| {
            let text = "# title: T\n# source: S\n# expect: EPERM GOT\n# fires: read\n# control: host\n";
            Case::parse(Path::new(path), text).unwrap()
        };
        let cells = verdicts
            .iter()
            .map(|(i, c, v)| ((*i, Column::ALL[*c]), Cell::without(v.clone())));
        Results {
            cases: vec![case("network/a.py"), case("evidence/a.py")],
            columns: Column::ALL.to_vec(),
            versions: vec!["runc 1".into()],
            kernels: Kernels::default(),
            absent: Vec::new(),
            record: Record::parse("kernel: Linux 6.1.0-1\nnetwork/a | process, root | held\n").unwrap(),
            with_kvm: Record::default(),
            cells: cells.collect(),
            left: Vec::new(),
        }
    }

    #[test]
    fn a_limit_has_its_footnote_and_may_be_held_after_all() {
        let of = |root: Verdict, user: Verdict| {
            let mut results = results(&[(0, 0, root), (0, 1, user), (0, 9, Verdict::Void("needs root".into()))]);
            results.cases.truncate(1);
            let text = "# title: T\n# source: S\n# expect: EPERM GOT\n# fires: read\n# control: host\n# limit-user: It is so.\n";
            results.cases[0] = Case::parse(Path::new("network/a.py"), text).unwrap();
            results
        };
        let limit = || Verdict::Limit("It is so.".into());
        let seen = of(Verdict::Held, limit());
        let document = document(&seen, "");
        assert!(document.contains("| held | limit 1 |"), "{document}");
        assert!(
            document
                .contains("\nVoid because:\n\n1. needs root\n\nLimits, as SECURITY.md states them:\n\n1. It is so.\n"),
            "{document}"
        );
        assert!(document.contains("| process, user | 1 limit |"));
        assert_eq!(differences(&document, &seen), [""; 0]);
        // A race may be lost; then the document holds for who wins it, too.
        let held = of(Verdict::Held, Verdict::Held);
        assert_eq!(differences(&document, &held), [""; 0]);
        assert_eq!(differences(&super::document(&held, ""), &seen), [""; 0]);
        // Elsewhere, and in other words, it is none.
        let wrong = differences(&document, &of(Verdict::Escaped("read: x".into()), limit()));
        assert_eq!(
            wrong,
            ["network/a, process, root: it says \"held\", and now it is \"ESCAPED: read: x\""]
        );
        let wrong = differences(&document.replace("It is so.", "It was so."), &seen);
        assert_eq!(
            wrong,
            ["network/a, process, user: it says \"limit: It was so.\", and now it is \"limit: It is so.\""]
        );
        let wrong = differences(&document.replace("| held | limit 1 |", "| limit 1 | limit 1 |"), &seen);
        assert_eq!(
            wrong,
            ["network/a, process, root: it says \"limit: It is so.\", and now it is \"held\""]
        );
    }

    #[test]
    fn what_came_in_the_rig_is_told_as_that() {
        let there = |cell: &str| Verdict::Rig(Some(cell.into()));
        let of = |root: &str, user: Verdict| {
            let mut results = results(&[
                (0, 6, there("held")),
                (0, 7, Verdict::Rig(None)),
                (0, 8, there(root)),
                (0, 9, user),
                (1, 8, Verdict::Fired("read".into())),
                (1, 9, Verdict::Void("no such thing".into())),
            ]);
            results.cases[1] = results.cases[0].clone();
            results.cases[1].name = "b".into();
            results
        };
        let seen = of("fires: call", there("void: needs root"));
        let document = document(&seen, "");
        let row = "| held in the rig | rig | fires in the rig: call | void in the rig 1 |";
        assert!(document.contains(row), "{document}");
        let notes = "\nVoid because:\n\n1. no such thing\n\nVoid in the rig because:\n\n1. needs root\n";
        assert!(
            document.contains(&format!("| fires: read | void 1 |\n{notes}")),
            "{document}"
        );
        assert!(document.contains("\nThe rig: Linux 6.1.0-1; process, root: 1 held; process, user: none.\n"));
        assert!(document.contains("| control, root | 1 fires, 1 fires in the rig |"));
        assert!(document.contains("| control, user | 1 void, 1 void in the rig |"));
        assert_eq!(differences(&document, &seen), [""; 0]);
        let wrong = differences(&document, &of("fires: host", Verdict::Rig(None)));
        assert_eq!(
            wrong,
            [
                "network/a, control, root: it says \"fires in the rig: call\", and now it is \"fires in the rig: host\"",
                "network/a, control, user: it says \"void in the rig: needs root\", and now it is \"rig\""
            ]
        );
    }

    #[test]
    fn columns_that_are_not_run_are_kept() {
        let [first, mut second] = [(0, 0), (1, 1)].map(|(n, case)| {
            let mut results = results(&[
                (case, 2 + n, Verdict::NotRun("it is so".into())),
                (0, 9 - n, Verdict::Void("needs root".into())),
                (0, 4 + n, Verdict::Held),
            ]);
            results.cases[1].group = "network".into();
            results.cases[1].name = "b".into();
            results
        });
        second.versions = vec!["gvisor 2".into(), "runc 3".into()];
        second.kernels = Kernels::parse("gvisor network/b: ENOSYS | the Sentry has none\n").unwrap();
        let before = document(&first, "");
        assert_eq!(document(&first, &before), before);
        let both = document(&second, &before);
        assert!(
            both.contains("| not run 1 | not run | held | held | not run | not run | void 1 | void 1 |"),
            "{both}"
        );
        assert!(both.contains("| not run | not run 1 | not run | not run |"), "{both}");
        assert!(
            both.contains("\nVoid because:\n\n1. needs root\n\nNot run because:\n\n1. it is so\n"),
            "{both}"
        );
        assert!(
            both.contains("\nWhat another kernel may answer besides:\n\n- b, gvisor: ENOSYS: the Sentry has none\n")
        );
        assert!(
            before.contains("Behind and beside: runc 1.\n") && both.contains("Behind and beside: gvisor 2, runc 3.\n")
        );
        assert_eq!(differences(&both, &first), [""; 0]);
        assert_eq!(differences(&both, &second), [""; 0]);
    }

    #[test]
    fn what_needs_kvm_has_a_table_of_its_own() {
        let mut seen = results(&[(0, 0, Verdict::Held)]);
        let without = document(&seen, "");
        let record = "kernel: Linux 6.1.0-1\nversion: microvm:firecracker 1.0\nnetwork/a | microvm:firecracker | held\n\
                      network/b | microvm:firecracker | limit: It is so.\n";
        seen.with_kvm = Record::parse(record).unwrap();
        let document = document(&seen, "");
        for part in [
            "\nLinux 6.1.0-1; microvm:firecracker 1.0; started by root. 2 of the cases:\n",
            "| microvm:firecracker | 1 held, 1 limit |\n| microvm:cloud-hypervisor | 2 not run |\n",
            "| network/a | held | not run |\n",
        ] {
            assert!(document.contains(part), "{part} is not in {document}");
        }
        assert_eq!(differences(&document, &seen), [""; 0]);
        let wrong = "what it says of Firecracker and Cloud Hypervisor is not what the rig said last";
        assert_eq!(differences(&without, &seen), [wrong]);
        assert_eq!(super::document(&seen, &document), document);
    }

    #[test]
    fn the_document_is_what_was_seen() {
        let mut seen = vec![
            (0, 0, Verdict::Held),
            (0, 1, Verdict::Held),
            (0, 6, Verdict::Escaped("read: DIR/secret".into())),
            (0, 8, Verdict::Fired("read".into())),
            (0, 9, Verdict::Void("needs root".into())),
            (1, 0, Verdict::Held),
            (1, 9, Verdict::Void("no such thing".into())),
        ];
        let document = document(&results(&seen), "");
        assert!(
            document.contains(
                "| a | T | S | EPERM GOT | held | held | not run | not run | not run | not run | ESCAPED: read: DIR/secret | not run | fires: read | void 1 |"
            )
        );
        assert!(document.contains("\n1. needs root\n") && document.contains("\n1. no such thing\n"));
        assert!(
            document.contains("| process, root | 2 held |")
                && document.contains("| bubblewrap | 1 ESCAPED, 1 not run |")
        );
        assert_eq!(differences(&document, &results(&seen)), [""; 0]);

        // A reference may score otherwise, and a part may be run alone.
        seen[2].2 = Verdict::Held;
        assert_eq!(differences(&document, &results(&seen)), [""; 0]);
        assert_eq!(differences(&document, &results(&seen[..1])), [""; 0]);
        seen[1].2 = Verdict::Broken("x".into());
        seen[4].2 = Verdict::Void("another".into());
        let wrong = differences(&document, &results(&seen));
        assert_eq!(
            wrong,
            [
                "network/a, process, user: it says \"held\", and now it is \"broken: x\"",
                "network/a, control, user: it says \"void: needs root\", and now it is \"void: another\""
            ]
        );
        let without = document.replace("| a | T", "| b | T");
        let wrong = differences(&without, &results(&seen[..1]));
        assert!(wrong.contains(&"network/a is not in it".to_owned()), "{wrong:?}");
        assert!(
            wrong.contains(&"evidence/b is in it, and in the corpus no more".to_owned()),
            "{wrong:?}"
        );
    }
}
