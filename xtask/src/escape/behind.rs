//! Any one program behind each of the walls, as the corpus' cases run there.

use super::cell::{Site, environment};
use super::hold::{self, Held};
use super::tools::{Tools, copy, open_to_all, uid};
use super::wall::{self, Column, Wall};
use crate::{Outcome, needs};
use sr_escape::tree::plant;
use sr_escape::verdict::End;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The walls, ready for programs to run behind them.
pub struct Walls(Tools);

impl Walls {
    pub fn new(safe_run: &Path) -> Outcome<Walls> {
        let tools = Tools::new(false, Some(safe_run))?;
        for wall in [Wall::Gvisor, Wall::Microvm] {
            tools.kernel_of_its_own(wall)?;
        }
        Ok(Walls(tools))
    }

    /// What `program` prints there.
    pub fn output(&self, column: Column, program: &Path, arguments: &[&str], seconds: u64) -> Outcome<String> {
        let site = self.site(column)?;
        let (from, name) = match (program.file_name(), column.wall) {
            (Some(name), Wall::Control) => (site.ground("escape"), name.display()),
            (Some(name), _) => ("/escape".to_owned(), name.display()),
            (None, _) => return Err(format!("{} is no program", program.display())),
        };
        let mut words = wall::words(column.wall, &self.0, &site, &[])?;
        words.push(format!("{from}/{name}"));
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        copy(&[program], Path::new(&site.ground("escape")))?;
        let said = self.run(column, &site, &words, seconds);
        if column.wall == Wall::Runc {
            wall::clear_runc(&site)?;
        }
        said
    }

    /// What Safe-Run makes of its policy there.
    pub fn bundle(&self, column: Column) -> Outcome<String> {
        let site = self.site(column)?;
        let mut words = vec![
            self.0.safe_run(Wall::Process).display().to_string(),
            "compile".into(),
            "--dry-run".into(),
        ];
        words.extend(match column.wall {
            Wall::Microvm => [
                "--policy".into(),
                self.0.policy(Wall::Microvm, "standard").display().to_string(),
            ],
            wall => ["--backend".into(), wall.word().to_owned()],
        });
        words.extend(["--", "/bin/true"].map(str::to_owned));
        self.run(column, &site, &words, 60)
    }

    fn site(&self, column: Column) -> Outcome<Site> {
        let n = column.name().replace(", ", "-");
        let site = Site {
            path: self.0.scratch.dir(&n)?,
            name: format!("safe-run-risk-{}-{n}", std::process::id()),
        };
        open_to_all(&site.path)?;
        if site.store().exists() {
            return Ok(site);
        }
        for name in ["store", "tmp", "ground/escape"] {
            self.0.scratch.dir(&format!("{n}/{name}"))?;
        }
        // The holder looks for what is planted for cases; nothing of it is a secret here.
        let ground = site.path.join("ground");
        plant(&ground, "", "").map_err(|e| format!("{}: {e}", ground.display()))?;
        if let Some(uid) = uid(column.root) {
            needs::run(
                Command::new("chown")
                    .arg("-R")
                    .arg(format!("{uid}:{uid}"))
                    .arg(&site.path),
            )?;
        }
        self.0.link_kernel(column, &site.store())?;
        Ok(site)
    }

    fn run(&self, column: Column, site: &Site, words: &[String], seconds: u64) -> Outcome<String> {
        let dir = site.path.join("ground");
        let held = Held {
            uid: uid(column.root),
            stdin: "null",
            seconds,
            guarded: false,
            dir: &dir,
            words,
            environment: &environment(&self.0, site, column, ""),
        };
        let ended = hold::run(&self.0, &held)?;
        let text = String::from_utf8_lossy(&ended.output).into_owned();
        match ended.end {
            End::Exit(0) => Ok(text),
            end => {
                let shown: String = text.lines().take(5).map(|line| format!("\n   | {line}")).collect();
                Err(format!("{}: {end:?}{shown}", column.name()))
            }
        }
    }
}

/// The totals of a column, as the document has them: `190 held, 3 not run`.
pub fn totals(column: Column) -> Outcome<String> {
    let path = crate::tree::root().join(super::DOCUMENT);
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let begin = format!("| {} | ", column.name());
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&begin)?.strip_suffix(" |"));
    line.map(str::to_owned)
        .ok_or_else(|| format!("{} has no totals of {}", super::DOCUMENT, column.name()))
}
