//! The walls, and the words that start a command behind each of them.

use super::cell::Site;
use super::tools::Tools;
use crate::{Outcome, needs, tree};
use serde_json::{Value, json};
use sr_escape::case::Control;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wall {
    Process,
    Gvisor,
    /// QEMU, whose processor is computed.
    Microvm,
    /// With KVM.
    Firecracker,
    /// With KVM.
    CloudHypervisor,
    Bubblewrap,
    Runc,
    /// None: the bare host.
    Control,
}

impl Wall {
    pub fn parse(word: &str) -> Option<Wall> {
        Some(match word {
            "process" => Wall::Process,
            "gvisor" => Wall::Gvisor,
            "microvm" => Wall::Microvm,
            "microvm:firecracker" => Wall::Firecracker,
            "microvm:cloud-hypervisor" => Wall::CloudHypervisor,
            "bubblewrap" => Wall::Bubblewrap,
            "runc" => Wall::Runc,
            "control" => Wall::Control,
            _ => return None,
        })
    }

    /// Whether it is one of Safe-Run's.
    pub fn is_ours(self) -> bool {
        matches!(self, Wall::Process) || self.has_kernel()
    }

    /// Whether the program runs on a kernel of its own.
    pub fn has_kernel(self) -> bool {
        matches!(self, Wall::Gvisor | Wall::Microvm) || self.needs_kvm().is_some()
    }

    /// Of a virtual machine that needs KVM: the monitor's program, and the variable that names it.
    pub fn needs_kvm(self) -> Option<(&'static str, &'static str)> {
        match self {
            Wall::Firecracker => Some(("firecracker", "SAFE_RUN_FIRECRACKER")),
            Wall::CloudHypervisor => Some(("cloud-hypervisor", "SAFE_RUN_CLOUD_HYPERVISOR")),
            _ => None,
        }
    }

    /// Whether the program runs in a virtual machine.
    pub fn is_machine(self) -> bool {
        self == Wall::Microvm || self.needs_kvm().is_some()
    }

    /// How many times longer than on the host's own kernel a case may take.
    pub fn slowness(self) -> u64 {
        match self {
            Wall::Gvisor => 4,
            Wall::Microvm => 30,
            // A boot, nested.
            Wall::Firecracker | Wall::CloudHypervisor => 8,
            _ => 1,
        }
    }

    /// As an option names it.
    pub fn word(self) -> &'static str {
        match self {
            Wall::Process => "process",
            Wall::Gvisor => "gvisor",
            Wall::Microvm => "microvm",
            Wall::Firecracker => "microvm:firecracker",
            Wall::CloudHypervisor => "microvm:cloud-hypervisor",
            Wall::Bubblewrap => "bubblewrap",
            Wall::Runc => "runc",
            Wall::Control => "control",
        }
    }
}

/// A wall and who starts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    pub wall: Wall,
    pub root: bool,
}

impl Column {
    const fn new(wall: Wall, root: bool) -> Column {
        Column { wall, root }
    }

    /// In the order of the table.
    pub const ALL: [Column; 10] = [
        Column::new(Wall::Process, true),
        Column::new(Wall::Process, false),
        Column::new(Wall::Gvisor, true),
        Column::new(Wall::Gvisor, false),
        Column::new(Wall::Microvm, true),
        Column::new(Wall::Microvm, false),
        Column::new(Wall::Bubblewrap, false),
        Column::new(Wall::Runc, true),
        Column::new(Wall::Control, true),
        Column::new(Wall::Control, false),
    ];

    /// Where KVM runs guests and the monitor's program is named; root's alone, as in the rig nobody else may use KVM.
    pub const WITH_KVM: [Column; 2] = [
        Column::new(Wall::Firecracker, true),
        Column::new(Wall::CloudHypervisor, true),
    ];

    pub fn name(self) -> &'static str {
        match (self.wall, self.root) {
            (Wall::Process, true) => "process, root",
            (Wall::Process, false) => "process, user",
            (Wall::Gvisor, true) => "gvisor, root",
            (Wall::Gvisor, false) => "gvisor, user",
            (Wall::Microvm, true) => "microvm, root",
            (Wall::Microvm, false) => "microvm, user",
            (wall @ (Wall::Bubblewrap | Wall::Runc | Wall::Firecracker | Wall::CloudHypervisor), _) => wall.word(),
            (Wall::Control, true) => "control, root",
            (Wall::Control, false) => "control, user",
        }
    }

    pub fn is_reference(self) -> bool {
        matches!(self.wall, Wall::Bubblewrap | Wall::Runc)
    }
}

/// The version of a reference, or of the monitor behind which the program runs; or why there is none.
pub fn version(wall: Wall) -> Result<String, String> {
    let (program, path) = match wall {
        Wall::Gvisor => ("runsc", Some(needs::runsc()?)),
        Wall::Microvm => ("qemu-system-x86_64", tree::on_path("qemu-system-x86_64")),
        Wall::Runc => ("runc", tree::on_path("runc")),
        Wall::Firecracker | Wall::CloudHypervisor => (wall.word(), Some(with_kvm(wall)?)),
        _ => ("bwrap", tree::on_path("bwrap")),
    };
    let path = path.ok_or_else(|| format!("no {program} on PATH"))?;
    let output = Command::new(path).arg("--version").output();
    let output = output.map_err(|e| format!("{program}: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .split_whitespace()
        .map(|word| word.trim_start_matches('v'))
        .find(|w| w.starts_with(|c: char| c.is_ascii_digit()));
    Ok(version.unwrap_or("of an unknown version").to_owned())
}

/// A monitor's program, where KVM runs guests. That its device is there says nothing of that: by what is
/// said of this machine, as in the tests.
pub fn with_kvm(wall: Wall) -> Outcome<PathBuf> {
    let (_, path) = named(wall)?;
    let said = ["SAFE_RUN_TEST_RIG", "SAFE_RUN_TEST_KVM"];
    if said.into_iter().all(|name| std::env::var_os(name).is_none()) {
        return Err(format!("KVM: neither {} is set", said.join(" nor ")));
    }
    Ok(path)
}

/// The variable that names the program of a monitor that needs KVM, and the program.
pub fn named(wall: Wall) -> Outcome<(&'static str, PathBuf)> {
    let Some((program, variable)) = wall.needs_kvm() else {
        return Err(format!("{} is no monitor that needs KVM", wall.word()));
    };
    match std::env::var_os(variable) {
        Some(path) => Ok((variable, tree::root().join(path))),
        None => Err(format!("{variable} names no {program}")),
    }
}

/// What goes before a command to have it run behind `wall`; `flags` are more for Safe-Run.
pub fn words(wall: Wall, tools: &Tools, site: &Site, flags: &[String]) -> Outcome<Vec<String>> {
    match wall {
        wall if wall.is_ours() => Ok(ours(wall, tools, site, flags)),
        Wall::Bubblewrap => bubblewrap(site),
        Wall::Runc => runc(site),
        _ => Ok(Vec::new()),
    }
}

fn ours(wall: Wall, tools: &Tools, site: &Site, flags: &[String]) -> Vec<String> {
    let safe_run = tools.safe_run(wall).display().to_string();
    let mut words = vec![safe_run, "run".into(), "--quiet".into()];
    words.extend(["--mount".into(), format!("{}:/escape:ro", site.ground("escape"))]);
    // A virtual machine is for policies that say it, and a preset says nothing of machines.
    let word = |word: &String| match (wall, word.as_str()) {
        (wall, preset @ "strict") if wall.is_machine() => tools.policy(wall, preset).display().to_string(),
        _ => word.clone(),
    };
    words.extend(flags.iter().map(word));
    words.push("--".into());
    words
}

/// Directories at the top that lead into /usr.
const INTO_USR: [&str; 4] = ["bin", "sbin", "lib", "lib64"];
/// What of /etc programs need to start.
const OF_ETC: [&str; 2] = ["/etc/ld.so.cache", "/etc/alternatives"];

/// As careful people write it.
fn bubblewrap(site: &Site) -> Outcome<Vec<String>> {
    let bwrap = tree::on_path("bwrap").ok_or("no bwrap on PATH")?;
    let mut words: Vec<String> = vec![bwrap.display().to_string()];
    let mut add = |more: &[&str]| words.extend(more.iter().map(|w| (*w).to_owned()));
    add(&["--unshare-all", "--new-session", "--die-with-parent", "--clearenv"]);
    add(&["--setenv", "PATH", "/usr/bin:/bin", "--setenv", "HOME", "/tmp"]);
    add(&["--setenv", "LANG", "C.UTF-8", "--ro-bind", "/usr", "/usr"]);
    for name in INTO_USR {
        if Path::new("/").join(name).exists() {
            add(&["--symlink", &format!("usr/{name}"), &format!("/{name}")]);
        }
    }
    for path in OF_ETC {
        add(&["--ro-bind-try", path, path]);
    }
    add(&["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    let (escape, project) = (site.ground("escape"), site.ground("project"));
    add(&["--ro-bind", &escape, "/escape", "--bind", &project, &project]);
    add(&["--chdir", &project, "--"]);
    Ok(words)
}

/// Writes a command into the bundle and becomes runc.
const IN_BUNDLE: &str = "\
runc=$1 bundle=$2 name=$3-$$; shift 3
/usr/bin/python3 -c '
import json, sys
bundle, name = sys.argv[1:3]
with open(bundle + \"/template.json\") as file: config = json.load(file)
config[\"process\"][\"args\"] = sys.argv[3:]
config[\"linux\"][\"cgroupsPath\"] = \"/\" + name
with open(bundle + \"/config.json\", \"w\") as file: json.dump(config, file)
' \"$bundle\" \"$name\" \"$@\" </dev/null || exit
exec \"$runc\" --root \"$bundle/state\" run --bundle \"$bundle\" \"$name\"";

/// What `runc spec` writes, with a root of the host's system directories, read-only, and the same files as the others.
fn runc(site: &Site) -> Outcome<Vec<String>> {
    let runc = tree::on_path("runc").ok_or("no runc on PATH")?;
    let bundle = site.path.join("bundle");
    let fault = |e: std::io::Error| format!("{}: {e}", bundle.display());
    fs::create_dir_all(bundle.join("rootfs/etc")).map_err(fault)?;
    let spec = Command::new(&runc)
        .args(["spec", "--bundle"])
        .arg(&bundle)
        .output()
        .map_err(fault)?;
    if !spec.status.success() {
        return Err(format!("runc spec: {}", String::from_utf8_lossy(&spec.stderr).trim()));
    }
    let text = fs::read(bundle.join("config.json")).map_err(fault)?;
    let mut config: Value = serde_json::from_slice(&text).map_err(|e| format!("runc spec: {e}"))?;
    for name in INTO_USR {
        if Path::new("/").join(name).exists() {
            std::os::unix::fs::symlink(format!("usr/{name}"), bundle.join("rootfs").join(name)).map_err(fault)?;
        }
    }
    fs::write(bundle.join("rootfs/etc/passwd"), "root:x:0:0:root:/tmp:/bin/sh\n").map_err(fault)?;
    let (escape, project) = (site.ground("escape"), site.ground("project"));
    config["process"]["terminal"] = json!(false);
    config["process"]["cwd"] = json!(project);
    config["process"]["env"] = json!(["PATH=/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8"]);
    let bind = |from: &str, to: &str, mode: &str| json!({"destination": to, "type": "none", "source": from, "options": ["rbind", mode]});
    let Some(mounts) = config["mounts"].as_array_mut() else {
        return Err("runc spec: no mounts in what it writes".into());
    };
    mounts.push(bind("/usr", "/usr", "ro"));
    for path in OF_ETC.into_iter().filter(|p| Path::new(p).exists()) {
        mounts.push(bind(path, path, "ro"));
    }
    mounts.push(json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]}));
    mounts.push(bind(&escape, "/escape", "ro"));
    mounts.push(bind(&project, &project, "rw"));
    fs::write(bundle.join("template.json"), config.to_string()).map_err(fault)?;
    let words = ["/bin/sh", "-c", IN_BUNDLE, "sh"];
    let more = [
        runc.display().to_string(),
        bundle.display().to_string(),
        site.name.clone(),
    ];
    Ok(words.into_iter().map(str::to_owned).chain(more).collect())
}

/// Takes away whatever containers of `site` there still are.
pub fn clear_runc(site: &Site) -> Outcome {
    let state = site.path.join("bundle/state");
    let Some(runc) = tree::on_path("runc").filter(|_| state.exists()) else {
        return Ok(());
    };
    for entry in fs::read_dir(&state).into_iter().flatten().flatten() {
        let deleted = Command::new(&runc)
            .arg("--root")
            .arg(&state)
            .args(["delete", "--force"])
            .arg(entry.file_name())
            .output()
            .map_err(|e| format!("runc: {e}"))?;
        if !deleted.status.success() {
            return Err(format!(
                "runc delete: {}",
                String::from_utf8_lossy(&deleted.stderr).trim()
            ));
        }
    }
    Ok(())
}

/// Root of namespaces of its own.
const NAMESPACES: [&str; 8] = [
    "unshare",
    "--user",
    "--map-root-user",
    "--mount",
    "--net",
    "--ipc",
    "--uts",
    "--propagation=private",
];

/// What goes before a command on the bare host.
pub fn bare(control: &Control) -> Vec<String> {
    match control {
        Control::Namespaces => NAMESPACES.map(str::to_owned).to_vec(),
        _ => Vec::new(),
    }
}

/// `words` as a script that runs its arguments behind them.
pub fn script(words: &[String]) -> String {
    let quoted: Vec<String> = words
        .iter()
        .map(|w| format!("'{}'", w.replace('\'', r"'\''")))
        .collect();
    format!("#!/bin/sh\nexec {} \"$@\"\n", quoted.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_keeps_words_apart() {
        let words = ["a b".to_owned(), "it's".to_owned()];
        assert_eq!(script(&words), "#!/bin/sh\nexec 'a b' 'it'\\''s' \"$@\"\n");
        assert_eq!(script(&[]), "#!/bin/sh\nexec  \"$@\"\n");
    }
}
