//! Profiles of AppArmor's, for the tests that may put them into a kernel: the rig's.

use super::{End, LIMIT, Place, Ran, Test, end, needs, on_the_rig, safe_run};
use crate::ensure;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A profile in the kernel, taken out at the end.
pub struct Profile {
    pub name: String,
    file: PathBuf,
}

impl Profile {
    /// The profile `safe-run-…-KIND`. What is between its name and its rules, such as flags, is `head`.
    pub fn load(place: &Place, kind: &str, head: &str, rules: &str) -> Result<Profile, End> {
        let name = format!("safe-run-{}-{kind}", place.mark());
        let text = format!("profile {name} {head} {{\n {rules}\n}}\n");
        Profile::of_text(place, name, &text)
    }

    /// What `text` calls `name`.
    pub fn of_text(place: &Place, name: String, text: &str) -> Result<Profile, End> {
        on_the_rig()?;
        needs(place, "apparmor_parser")?;
        let file = place.root().join(&name);
        fs::write(&file, text)?;
        let profile = Profile { name, file };
        profile.parser(place, "--add").ok()?;
        let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles")?;
        ensure!(
            loaded.contains(&format!("{} (", profile.name)),
            "the kernel has {loaded}"
        );
        Ok(profile)
    }

    fn parser(&self, place: &Place, what: &str) -> Ran {
        let mut command = Command::new("apparmor_parser");
        command
            .current_dir(place.root())
            // All that this kernel mediates, whatever the parser would take for granted.
            .args(["--policy-features", "/sys/kernel/security/apparmor/features"])
            .args(["--skip-cache", "--quiet", what])
            .arg(&self.file);
        end(command, b"", LIMIT)
    }

    /// `WORDS` behind it, by the file that the next exec obeys.
    pub fn command(&self, place: &Place) -> Command {
        let script = "echo \"exec $0\" > /proc/self/attr/apparmor/exec && exec \"$@\"";
        let mut command = place.command("sh");
        command.args(["-c", script, &self.name]);
        command
    }

    /// `safe-run WORDS` behind it.
    pub fn holding(&self, place: &Place, words: &[&str]) -> Ran {
        let mut command = self.command(place);
        command.arg(safe_run()).args(words);
        end(command, b"", LIMIT)
    }

    pub fn remove(self, place: &Place) -> Test {
        self.parser(place, "--remove").ok()
    }
}
