//! How long `/bin/true` takes behind our wall and behind bubblewrap's, in turn in the same loop.

use super::{
    NAMESPACES_AND_MOUNTS, OWN, PROGRAM, Part, PartRow, STANDARD, TWIN, WALL, bubblewrap, commands, contenders, policy,
    twin,
};
use crate::bench::contender::Contender;
use crate::bench::{Place, interleaved, tried};
use crate::{Outcome, plain};
use serde_json::json;

/// What namespaces and mounts alone may take of bubblewrap with the same.
const MOST_OF_TWIN: f64 = 0.7;
/// What the preset `standard`, evidence and all, may take of it.
const MOST_OF_TWIN_UNDER_STANDARD: f64 = 1.0;

pub fn part(rounds: u32) -> Outcome<Part> {
    let place = Place::new("start")?;
    let (wall, machine) = (policy("wall.yaml"), policy("machine.yaml"));
    let plan = super::bundle(&wall)?["filesystemPlan"].take();
    let judged = contenders(&place)?;
    // In a loop of its own: flushing holds up whoever comes next.
    let beside = [
        Contender::ours(
            &place,
            "safe-run, standard, `durability: machine`",
            &["--policy", &machine],
            PROGRAM,
        ),
        twin::contender(&place, &plan, PROGRAM)?,
        bubblewrap()?,
    ];
    for contender in judged.iter().chain(beside.iter().take(1)) {
        tried(&place, contender).map_err(|(who, why)| format!("{who}: {why}"))?;
    }
    let times = interleaved(&place, &judged, rounds)?;
    let of = |contender: usize| times.get(contender).map_or(&[][..], Vec::as_slice);
    let mut rows = Vec::new();
    for (at, contender) in judged.iter().enumerate() {
        let ratios = Ratios::of(of(at), of(TWIN), of(OWN));
        let holds = match at {
            WALL => Some(ratios.to_twin <= MOST_OF_TWIN),
            STANDARD => Some(ratios.to_twin <= MOST_OF_TWIN_UNDER_STANDARD),
            _ => None,
        };
        rows.push(row(contender, of(at), &ratios, holds));
    }
    if let ([flushed, ..], [times, twin, own]) = (&beside, interleaved(&place, &beside, rounds)?.as_slice()) {
        rows.push(row(flushed, times, &Ratios::of(times, twin, own), None));
    }
    let show = &["/bin/cat", "/proc/self/mountinfo"];
    let notes = vec![
        "Milliseconds from spawn to exit; ratios are medians of ratios round by round. The run with `durability: machine` is \
         measured in a loop of its own with the two of bubblewrap."
            .into(),
        format!(
            "With namespaces and mounts only, no evidence is kept, and filter, Landlock, the posture's reading and the limits on \
             time, disk, files and output stay. Mounts inside: ours {}, bubblewrap's {}, which binds each device.",
            mounts(&place, &Contender::ours(&place, NAMESPACES_AND_MOUNTS, &["--policy", &wall], show))?,
            mounts(&place, &twin::contender(&place, &plan, show)?)?,
        ),
        commands(judged.iter().chain(beside.first())),
    ];
    Ok(Part {
        name: "start",
        bar: "of bubblewrap with the same namespaces and mounts, at most 0.7× without evidence and limits, and at most 1.0× under \
              the preset standard, with limits, evidence written and signed; beside bubblewrap's own short command, too",
        rounds,
        columns: &[
            "`/bin/true` by",
            "median ms",
            "least ms",
            "to the same namespaces and mounts",
            "to bubblewrap's own command",
        ],
        rows,
        notes,
    })
}

struct Ratios {
    to_twin: f64,
    to_own: f64,
}

impl Ratios {
    fn of(times: &[f64], twin: &[f64], own: &[f64]) -> Ratios {
        Ratios {
            to_twin: plain::median_ratio(times, twin),
            to_own: plain::median_ratio(times, own),
        }
    }
}

fn row(contender: &Contender, times: &[f64], ratios: &Ratios, holds: Option<bool>) -> PartRow {
    let (median, least) = (plain::median(times), plain::least(times));
    let Ratios { to_twin, to_own } = ratios;
    PartRow {
        cells: vec![
            contender.name.clone(),
            format!("{median:.2}"),
            format!("{least:.2}"),
            format!("{to_twin:.2}×"),
            format!("{to_own:.2}×"),
        ],
        measured: json!({
            "name": contender.name, "version": contender.version, "command": contender.shown,
            "medianMillis": median, "leastMillis": least,
            "toSameNamespacesAndMounts": to_twin, "toOwnCommand": to_own,
        }),
        holds,
    }
}

/// How many mounts a program of the contender's sees.
fn mounts(place: &Place, shows: &Contender) -> Outcome<usize> {
    let (mut command, _files) = shows.command(place)?;
    let output = command
        .stdout(std::process::Stdio::piped())
        .output()
        .map_err(|e| format!("{}: {e}", shows.name))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).lines().count()),
        false => Err(format!("{}: mounts: {}", shows.name, output.status)),
    }
}
