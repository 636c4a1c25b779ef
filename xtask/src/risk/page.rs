//! The page: the measures as a table, with what each row counts and does not.

use super::COLUMNS;
use crate::Outcome;

/// What was counted behind one wall.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measure {
    /// The escape corpus' totals.
    pub corpus: String,
    pub host_calls: usize,
    /// `None`: the program runs on the host's kernel.
    pub own_calls: Option<usize>,
    pub devices: usize,
    /// `None`: not walked, the view is the process wall's.
    pub setuid: Option<usize>,
    pub system: Option<usize>,
    pub other: usize,
}

/// The rows, in their order; the second is the chart's too.
pub const ROWS: [&str; 7] = [
    "escape corpus",
    "system calls of the host's kernel",
    "system calls of a kernel of its own",
    "devices",
    "setuid and setgid programs",
    "files of the host's system directories",
    "other files of the host",
];

const HEAD: &str = "\
# The risk surface

Written by `cargo xtask risk --write`, which runs one small program ([reach.c](../xtask/src/risk/reach.c)) on the bare host and
behind each wall. The numbers are one host's; a test compares the page's form and its chart.
";

const NOTES: &str = "\
![System calls of the host's kernel that can be reached](risk-surface.svg)

- **escape corpus**: the totals of [the escape matrix](escape-matrix.md), whose words they are. Of the bare host it is what the
  controls came to: `fires` got through.
- **system calls of the host's kernel**: on the host's own kernel, the numbers that answer a program with anything but `ENOSYS`,
  `EPERM` or death by `SIGSYS`, each called with -1 for every argument. Behind `gvisor` and `microvm` the program calls another
  kernel; what counts is what the sandbox *around* the monitor allows it, as its bundle says: reached by who has taken over that
  kernel and its monitor, and then behind the native wall still. `runsc` has a narrower filter of its own besides.
  Around QEMU the sandbox allows what the policy's profile allows a program, and is no narrower than `process`.
- **system calls of a kernel of its own**: the same count, answered by gVisor's Sentry or the guest's Linux, under the policy's filter.
- **devices**: below `/dev`; behind `gvisor` and `microvm` they are that kernel's own.
- **setuid and setgid programs**: visible ones. Behind every wall here but the bare host they give nothing: `no_new_privs` is set, or nobody
  else is mapped.
- **files of the host's system directories**: what can be read below `/usr` and the directories that lead into it.
- *as process*: the guest is shown the same system directories, and was not walked through them: that takes minutes where the
  processor is computed.
- **other files of the host**: what can be read below `/boot`, `/etc`, `/home`, `/media`, `/mnt`, `/opt`, `/root`, `/run`, `/srv`, `/var`, and is the host's by
  size and time; what a wall makes up is not. The project that was shown to the program is nowhere counted.
";

fn walked(count: Option<usize>) -> String {
    count.map_or_else(|| "as process".into(), |n| n.to_string())
}

pub struct Page {
    host: String,
    /// Cells by rows.
    rows: Vec<Vec<String>>,
}

impl Page {
    pub fn of(measures: &[Measure], host: &str) -> Page {
        let row = |cell: fn(&Measure) -> String| measures.iter().map(cell).collect();
        Page {
            host: host.to_owned(),
            rows: vec![
                row(|m| m.corpus.clone()),
                row(|m| m.host_calls.to_string()),
                row(|m| m.own_calls.map_or_else(|| "–".into(), |n| n.to_string())),
                row(|m| m.devices.to_string()),
                row(|m| walked(m.setuid)),
                row(|m| walked(m.system)),
                row(|m| m.other.to_string()),
            ],
        }
    }

    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}\nOn {}:\n\n| |", self.host);
        for (name, _) in COLUMNS {
            text += &format!(" {name} |");
        }
        text += &format!("\n|---|{}\n", "---|".repeat(COLUMNS.len()));
        for (name, cells) in ROWS.iter().zip(&self.rows) {
            text += &format!("| {name} | {} |\n", cells.join(" | "));
        }
        format!("{text}\n{NOTES}")
    }

    /// A page as it was written; an error where it is of another form.
    #[cfg(test)]
    pub fn parse(text: &str) -> Outcome<Page> {
        let host = text
            .lines()
            .find_map(|line| line.strip_prefix("On ")?.strip_suffix(':'));
        let cells = |line: &str| -> Option<Vec<String>> {
            let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
            Some(line.split(" | ").map(str::to_owned).collect())
        };
        let lines = text
            .lines()
            .filter_map(cells)
            .filter(|cells| cells.len() > COLUMNS.len());
        let rows = lines.map(|cells| cells.into_iter().skip(1).collect());
        let page = Page {
            host: host.ok_or("it does not say of which host it is")?.to_owned(),
            rows: rows.collect(),
        };
        match page.text() == text {
            true => Ok(page),
            false => Err("it is not of the form that is written today".into()),
        }
    }

    /// The numbers of the chart, by column.
    pub fn host_calls(&self) -> Outcome<Vec<u32>> {
        let row = self.rows.get(1).ok_or("no row of calls")?;
        let number = |cell: &String| cell.parse().map_err(|_| format!("{cell:?} is no number"));
        row.iter().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CHART, PAGE, chart};
    use super::*;
    use crate::tree;
    use std::fs;

    #[test]
    fn a_page_is_read_as_it_was_written() {
        let measure = Measure {
            corpus: "190 held, 2 open".into(),
            host_calls: 300,
            ..Measure::default()
        };
        let own = Measure {
            own_calls: Some(12),
            ..measure.clone()
        };
        let mut measures = vec![measure; 5];
        measures.push(own);
        let page = Page::of(&measures, "Linux 6.1.0");
        let text = page.text();
        let again = Page::parse(&text).unwrap();
        assert_eq!((again.host.as_str(), &again.rows), ("Linux 6.1.0", &page.rows));
        assert_eq!(again.host_calls().unwrap(), [300; 6]);
        for wrong in [
            text.replace("| devices |", "| device |"),
            text.replace("gvisor |", "gVisor |"),
            text.replace("narrower", "wider"),
            text.replace("On Linux", "At Linux"),
        ] {
            assert!(Page::parse(&wrong).is_err(), "{wrong}");
        }
    }

    /// Its numbers are one host's and are not compared.
    #[test]
    fn the_page_is_of_todays_form_and_the_chart_is_the_pages() {
        let read = |name: &str| fs::read_to_string(tree::root().join(name)).unwrap();
        let page = Page::parse(&read(PAGE)).unwrap();
        assert!(
            page.rows
                .iter()
                .all(|row| row.len() == COLUMNS.len() && !row.contains(&String::new()))
        );
        assert_eq!(read(CHART), chart::svg(&page).unwrap());
        let calls = page.host_calls().unwrap();
        assert!(calls.iter().all(|n| (1..480).contains(n)), "{calls:?}");
        // What the page is for: a wall of ours leaves less of the host's kernel than nothing does.
        let [bare, .., process, gvisor, microvm] = calls[..] else {
            panic!("{calls:?}");
        };
        assert!(process < bare && gvisor < process && microvm < bare, "{calls:?}");
    }
}
