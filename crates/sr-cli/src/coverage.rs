//! The coverage matrix for people: a row a clause, a column a wall; by what each holds it, or why not; and what comes of it
//! on this host.

use crate::terminal::{Style, clean};
use sr_common::{Answer, Backend, Coverage, Declaration, Holder, Matrix, Strength};
use std::fmt::Write as _;

/// Characters in a line.
const WIDTH: usize = 100;

pub fn text(matrix: &Matrix, style: Style) -> String {
    let mut out = String::new();
    table(&mut out, matrix, style);
    out.push_str("\nBy what, or why not\n");
    details(&mut out, matrix);
    out.push_str("\nOn this host\n");
    verdicts(&mut out, matrix, style);
    out
}

/// The clauses, in the order in which they come first.
fn clauses(matrix: &Matrix) -> Vec<&str> {
    let mut seen: Vec<&str> = Vec::new();
    for declared in matrix.backends.iter().flat_map(|coverage| &coverage.declarations) {
        if !seen.contains(&declared.clause.as_str()) {
            seen.push(&declared.clause);
        }
    }
    // What a wall has whatever the policy says is a heading to the rest.
    seen.sort_by_key(|clause| *clause != "runtime.backend");
    seen
}

fn of<'a>(coverage: &'a Coverage, clause: &'a str) -> impl Iterator<Item = &'a Declaration> {
    coverage.declarations.iter().filter(move |d| d.clause == clause)
}

/// The two lines of the heading, and what stands below.
type Column<'a> = ([&'a str; 2], Vec<(Answer, String)>);

// Writing to a string cannot fail.
fn table(out: &mut String, matrix: &Matrix, style: Style) {
    let clauses = clauses(matrix);
    let first = clauses.iter().map(|clause| clause.chars().count()).max().unwrap_or(0);
    let columns: Vec<Column<'_>> = matrix
        .backends
        .iter()
        .map(|coverage| {
            let head = coverage.backend.name();
            let head = head.split_once(':').map_or(["", head], |(kind, vmm)| [kind, vmm]);
            let cells = clauses.iter().map(|clause| cell(coverage, clause)).collect();
            (head, cells)
        })
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .map(|(head, cells)| {
            let words = head.iter().map(|word| word.len());
            words.chain(cells.iter().map(|(_, text)| text.len())).max().unwrap_or(0)
        })
        .collect();
    for line in 0..2 {
        let mut row = format!("{:first$}", if line == 1 { "clause" } else { "" });
        for ((head, _), width) in columns.iter().zip(&widths) {
            let _ = write!(row, "  {:width$}", head[line]);
        }
        let _ = writeln!(out, "{}", style.bold(row.trim_end()));
    }
    for (i, clause) in clauses.iter().enumerate() {
        let mut row = format!("{:first$}", clean(clause));
        for ((_, cells), width) in columns.iter().zip(&widths) {
            let (answer, text) = &cells[i];
            let padded = format!("{text:width$}");
            let _ = write!(row, "  {}", painted(*answer, &padded, style));
        }
        let _ = writeln!(out, "{}", row.trim_end());
    }
}

fn painted(answer: Answer, text: &str, style: Style) -> String {
    match answer {
        Answer::Held => text.to_owned(),
        Answer::Degraded => style.warn(text),
        Answer::Refused => style.error(text),
    }
}

/// Who holds it; where that is less than a kernel for all processes together, how.
fn cell(coverage: &Coverage, clause: &str) -> (Answer, String) {
    let all: Vec<&Declaration> = of(coverage, clause).collect();
    let answer = all.iter().map(|d| d.answer).max().unwrap_or(Answer::Refused);
    let holds = || all.iter().flat_map(|d| &d.holds);
    let text = match answer {
        Answer::Refused => "no".to_owned(),
        Answer::Degraded => "degraded".to_owned(),
        Answer::Held => {
            let mut holders: Vec<Holder> = holds().map(|hold| hold.by).collect();
            if all.len() > 1 {
                // Of a wall's many promises, which kernels keep them is what tells one wall from another.
                holders.retain(|holder| *holder != Holder::Supervisor);
            }
            holders.sort_by(|a, b| b.cmp(a));
            holders.dedup();
            let names: Vec<&str> = holders.into_iter().map(Holder::name).collect();
            match holds().filter_map(|hold| hold.strength).min() {
                None | Some(Strength::Kernel) => names.join("+"),
                Some(Strength::PerProcess) => "per process".to_owned(),
                Some(Strength::Sampled) => "sampled".to_owned(),
            }
        }
    };
    (answer, text)
}

fn details(out: &mut String, matrix: &Matrix) {
    for clause in clauses(matrix) {
        let all = || matrix.backends.iter().flat_map(|coverage| of(coverage, clause));
        let mut asked: Vec<&str> = Vec::new();
        for declared in all() {
            if !asked.contains(&declared.requested.as_str()) {
                asked.push(&declared.requested);
            }
        }
        for requested in asked {
            let title = format!("{clause}: {requested}");
            wrapped(out, "", 0, &clean(title.trim_end_matches(": ")));
            for (backends, said) in same(matrix, clause, requested) {
                wrapped(out, &format!("  {}", named(&backends)), 20, &clean(&said));
            }
        }
    }
}

/// What the walls say of one thing that is asked, and which say the same.
fn same(matrix: &Matrix, clause: &str, requested: &str) -> Vec<(Vec<Backend>, String)> {
    let mut groups: Vec<(Vec<Backend>, String)> = Vec::new();
    for coverage in &matrix.backends {
        for declared in of(coverage, clause).filter(|d| d.requested == requested) {
            let said = said(declared);
            match groups.iter_mut().find(|(_, known)| *known == said) {
                Some((backends, _)) => backends.push(coverage.backend),
                None => groups.push((vec![coverage.backend], said)),
            }
        }
    }
    groups
}

/// By as few words as name them.
pub fn named(backends: &[Backend]) -> String {
    let machines = |b: &&Backend| matches!(b, Backend::Microvm(_));
    let all = |n| backends.iter().filter(machines).count() == n;
    if backends.len() == Backend::KERNELS.len() {
        return "all".to_owned();
    }
    let count = Backend::KERNELS.iter().filter(machines).count();
    let mut names: Vec<&str> = backends
        .iter()
        .filter(|b| !machines(b) || !all(count))
        .map(|b| b.name())
        .collect();
    if all(count) {
        names.push("microvm");
    }
    names.join(", ")
}

fn said(declared: &Declaration) -> String {
    let holds = declared
        .holds
        .iter()
        .map(|hold| format!("{}: {}", hold.by.name(), hold.mechanism));
    let mut said = holds.collect::<Vec<_>>().join("; ");
    let reason = declared.reason.as_deref().unwrap_or_default();
    match declared.answer {
        Answer::Held if reason.is_empty() => {}
        Answer::Held => said.push_str(&format!(" ({reason})")),
        Answer::Degraded => said = format!("degraded: {reason}"),
        Answer::Refused => {
            said = format!("no: {reason}");
            if let Some(remedy) = &declared.remedy {
                said.push_str(&format!("; fix: {remedy}"));
            }
        }
    }
    said
}

fn verdicts(out: &mut String, matrix: &Matrix, style: Style) {
    for coverage in &matrix.backends {
        let name = format!("  {}", coverage.backend.name());
        let said = match coverage.covers {
            true => "covers the policy".to_owned(),
            false => format!("no: {}", coverage.reasons().join("; ")),
        };
        let mut text = String::new();
        wrapped(&mut text, &name, 28, &clean(&said));
        out.push_str(&match coverage.covers {
            true => style.good(&text),
            false => text,
        });
    }
    let strongest = match &matrix.strongest {
        Some(choice) => format!("{}: {}", choice.picked, choice.because()),
        None => "nothing covers the policy here".to_owned(),
    };
    wrapped(out, "  strongest", 28, &strongest);
}

/// `text` in lines of at most [`WIDTH`] characters that begin at the column `indent`; before the first stands `head`, on a
/// line of its own where it is too long.
fn wrapped(out: &mut String, head: &str, indent: usize, text: &str) {
    let mut line = format!("{head:indent$}");
    if head.chars().count() >= indent && !head.is_empty() {
        let _ = writeln!(out, "{head}");
        line = " ".repeat(indent);
    }
    let mut words = 0;
    for word in text.split(' ') {
        if words > 0 && line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(out, "{}", line.trim_end());
            line = " ".repeat(indent);
            words = 0;
        }
        if words > 0 {
            line.push(' ');
        }
        line.push_str(word);
        words += 1;
    }
    let _ = writeln!(out, "{}", line.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;
    use sr_common::facts::{ProgramFacts, WallFacts};
    use sr_common::{Control, Hold};

    #[test]
    fn lines_are_wrapped_as_far_in_as_they_begin() {
        let mut out = String::new();
        wrapped(&mut out, "  name", 9, &["word"; 40].join(" "));
        let lines: Vec<&str> = out.lines().collect();
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= WIDTH), "{out}");
        assert!(
            lines[0].starts_with("  name   word") && lines[1].starts_with("         word"),
            "{out}"
        );
        assert_eq!(out.matches("word").count(), 40);
        out.clear();
        wrapped(&mut out, "  a long name", 9, "text");
        assert_eq!(out, "  a long name\n         text\n");
    }

    fn declared(clause: &str, by: Holder, strength: Option<Strength>, answer: Answer) -> Declaration {
        let hold = Hold {
            by,
            mechanism: "some way of holding it".into(),
            strength,
        };
        Declaration {
            clause: clause.into(),
            requested: "x".into(),
            control: Control::Memory,
            holds: if answer == Answer::Held { vec![hold] } else { Vec::new() },
            answer,
            reason: (answer != Answer::Held).then(|| "a reason ".repeat(20)),
            remedy: (answer == Answer::Refused).then(|| "do something else".into()),
        }
    }

    #[test]
    fn a_row_a_clause_and_a_column_a_wall() {
        let missing = || ProgramFacts::Missing { why: "none".into() };
        let backends = Backend::KERNELS.map(|backend| {
            let inner = match backend {
                Backend::Process => Holder::Host,
                Backend::Wasm => Holder::Engine,
                Backend::Gvisor => Holder::Sentry,
                Backend::Microvm(_) => Holder::Guest,
            };
            let odd = match backend {
                Backend::Gvisor => Answer::Degraded,
                Backend::Microvm(_) => Answer::Refused,
                Backend::Process | Backend::Wasm => Answer::Held,
            };
            Coverage {
                backend,
                covers: odd != Answer::Refused,
                declarations: vec![
                    declared(
                        "evidence.sampleInterval",
                        inner,
                        Some(Strength::PerProcess),
                        Answer::Held,
                    ),
                    declared("runtime.backend", inner, None, Answer::Held),
                    declared("runtime.backend", Holder::Host, None, Answer::Held),
                    declared("files\u{1b}", Holder::Supervisor, Some(Strength::Sampled), odd),
                ],
                lacks: Vec::new(),
            }
        });
        let matrix = Matrix {
            api_version: "safe-run/v1".into(),
            kind: "Coverage".into(),
            policy: "p".into(),
            host: WallFacts {
                wasm: missing(),
                runsc: missing(),
                qemu: missing(),
                cloud_hypervisor: missing(),
                firecracker: missing(),
                guest: missing(),
                kvm_blocked: None,
                kernels: Vec::new(),
                rootfs: Vec::new(),
            },
            backends: backends.into(),
            strongest: None,
        };
        let text = text(&matrix, Style::default());
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            words[1],
            ["clause", "process", "gvisor", "qemu", "cloud-hypervisor", "firecracker"]
        );
        let guests = ["guest+host"; 3];
        assert_eq!(
            words[2],
            [&["runtime.backend", "host", "sentry+host"][..], &guests].concat()
        );
        assert_eq!(words[3][..3], ["evidence.sampleInterval", "per", "process"]);
        assert_eq!(words[4], ["files\\u{1b}", "sampled", "degraded", "no", "no", "no"]);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(
            !text.contains('\u{1b}') && text.contains("  microvm           no: a reason"),
            "{text}"
        );
        assert!(text.contains("fix: do something else") && text.contains("nothing covers the policy here"));
        assert!(words.contains(&vec!["process", "covers", "the", "policy"]), "{text}");
    }

    #[test]
    fn walls_that_say_the_same_are_named_together() {
        assert_eq!(named(&Backend::KERNELS), "all");
        assert_eq!(named(&Backend::KERNELS[1..]), "gvisor, microvm");
        assert_eq!(named(&Backend::KERNELS[..3]), "process, gvisor, microvm:qemu");
    }
}
