//! `artifact`: what virtual machines start from.

use crate::arguments::{ArtifactAction, BuildAction, FetchAction, ImageFormat};
use crate::environment::Environment;
use crate::failure::Done;
use crate::json;
use crate::terminal::{self, clean, count, size};
use serde_json::{Value, json};
use sr_artifact::fetch::{self, Fetch};
use sr_artifact::image::Format;
use sr_artifact::import::{self, Import};
use sr_artifact::store::Collected;
use sr_artifact::tree::Limits;
use sr_artifact::{Artifact, Artifacts, Wanted, kernel, name, rootfs};
use sr_common::{Code, Fault};

/// Digits of a digest that a list shows.
const SHOWN: usize = "sha256:".len() + 16;

pub fn artifact(action: &ArtifactAction, env: &Environment) -> Done {
    match action {
        ArtifactAction::Build { what } => build(what, env),
        ArtifactAction::Fetch { what } => fetched(what, env),
        ArtifactAction::Import {
            path,
            name,
            kind,
            format,
            json,
        } => {
            let stem = || {
                path.file_name()
                    .and_then(|name| name.to_str())
                    .and_then(|name| name.split('.').next())
            };
            let name = name.clone().unwrap_or_else(|| name::from(stem().unwrap_or_default()));
            name::check(&name)?;
            let request = Import {
                path,
                name: &name,
                kind: *kind,
                format: format.format(),
                limits: Limits::default(),
            };
            let taken = import::import(&Artifacts::open(&env.store)?, &request)?;
            made_known(&[taken], *json)
        }
        ArtifactAction::List { json } => list(*json, env),
        ArtifactAction::Verify { artifact, json } => verify(artifact.as_deref(), *json, env),
        ArtifactAction::Remove { artifact } => {
            let (artifacts, found) = find(artifact, env)?;
            artifacts.remove(&found)?;
            terminal::out(&format!("{} is gone; safe-run artifact gc makes room\n", found.title()));
            Ok(0)
        }
        ArtifactAction::Gc { dry_run, json } => gc(*dry_run, *json, env),
    }
}

impl ImageFormat {
    fn format(self) -> Format {
        match self {
            ImageFormat::Erofs => Format::Erofs,
            ImageFormat::Squashfs => Format::Squashfs,
            ImageFormat::Ext4 => Format::Ext4,
        }
    }
}

fn build(what: &BuildAction, env: &Environment) -> Done {
    match what {
        BuildAction::Kernel { name, suite, json } => {
            name::check(name)?;
            let artifacts = Artifacts::open(&env.store)?;
            made_known(&kernel::build(&artifacts, suite.as_deref(), name)?, *json)
        }
        BuildAction::Rootfs {
            packages,
            name,
            format,
            suite,
            json,
        } => {
            name::check(name)?;
            let artifacts = Artifacts::open(&env.store)?;
            let made = rootfs::build(&artifacts, suite.as_deref(), packages, format.format(), name)?;
            made_known(&[made], *json)
        }
    }
}

fn fetched(what: &FetchAction, env: &Environment) -> Done {
    let FetchAction::Firecracker { version, from, json } = what;
    let done = fetch::firecracker(&Fetch {
        pins: fetch::FIRECRACKER,
        version: version.as_deref(),
        from: from.as_deref(),
        to: &env.cwd.join("artifacts"),
        proxy: env.proxy.as_deref(),
    })?;
    if *json {
        terminal::out(&json::pretty(&done)?);
        return Ok(0);
    }
    for program in &done.programs {
        let path = clean(&program.path.to_string_lossy());
        terminal::out(&format!("{path}  {}  {}\n", done.version, program.digest));
    }
    Ok(0)
}

/// Says what was made or taken in.
fn made_known(made: &[Artifact], json: bool) -> Done {
    if json {
        terminal::out(&json::pretty(&made)?);
        return Ok(0);
    }
    made.iter().for_each(|artifact| terminal::out(&line(artifact)));
    for note in made.iter().flat_map(|artifact| &artifact.provenance.notes) {
        terminal::err(&format!("note: {}", clean(note)));
    }
    Ok(0)
}

fn list(json: bool, env: &Environment) -> Done {
    let all = match Artifacts::existing(&env.store) {
        Some(artifacts) => artifacts.list()?,
        None => Vec::new(),
    };
    if json {
        terminal::out(&json::pretty(&all)?);
        return Ok(0);
    }
    if all.is_empty() {
        terminal::out("no artifacts yet: safe-run artifact build kernel\n");
    }
    all.iter().for_each(|artifact| terminal::out(&line(artifact)));
    Ok(0)
}

fn line(artifact: &Artifact) -> String {
    let digest = artifact.digest.to_string();
    let from = &artifact.provenance;
    // Of a kernel its release, of anything else what it was made of, if that is one thing.
    let what = match (&from.release, from.inputs.as_slice()) {
        (Some(release), _) => release.clone(),
        (None, [one]) => [Some(one.name.as_str()), one.version.as_deref()]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(" "),
        (None, several) => count(several.len() as u64, "input"),
    };
    format!(
        "{:24}  {}  {:>10}  {}, {}\n",
        artifact.title(),
        digest.get(..SHOWN).unwrap_or(&digest),
        size(artifact.size),
        clean(&from.how),
        clean(&what)
    )
}

fn verify(only: Option<&str>, json: bool, env: &Environment) -> Done {
    let verified = match only {
        Some(name) => {
            let (artifacts, found) = find(name, env)?;
            artifacts.verify(Some(&found))?
        }
        None => match Artifacts::existing(&env.store) {
            Some(artifacts) => artifacts.verify(None)?,
            None => Vec::new(),
        },
    };
    let damaged = verified.iter().filter(|v| v.damage.is_some()).count();
    if json {
        let object =
            |v: &sr_artifact::store::Verified| json!({"digest": v.digest, "names": v.names, "damage": v.damage});
        terminal::out(&json::pretty(&verified.iter().map(object).collect::<Vec<Value>>())?);
    } else {
        for v in &verified {
            let names = v.names.join(", ");
            let text = match &v.damage {
                None => format!("ok       {names}\n"),
                Some(damage) => format!("DAMAGED  {names}: {}\n", clean(damage)),
            };
            terminal::out(&text);
        }
        let sum = format!(
            "{} verified, {damaged} damaged\n",
            count(verified.len() as u64, "content")
        );
        terminal::out(&sum);
    }
    Ok(u8::from(damaged > 0))
}

fn gc(look: bool, json: bool, env: &Environment) -> Done {
    let done = match Artifacts::existing(&env.store) {
        Some(artifacts) => artifacts.gc(look)?,
        None => Collected::default(),
    };
    if json {
        let contents = done
            .contents
            .iter()
            .map(|(digest, size)| json!({"digest": digest, "size": size}));
        let object = json!({
            "dryRun": look,
            "contents": contents.collect::<Vec<Value>>(),
            "unfinished": done.unfinished,
        });
        terminal::out(&json::pretty(&object)?);
        return Ok(0);
    }
    let verb = if look { "would remove" } else { "removed" };
    for (digest, bytes) in &done.contents {
        terminal::out(&format!("{verb} {digest}  {}\n", size(*bytes)));
    }
    for path in &done.unfinished {
        terminal::out(&format!("{verb} {}\n", clean(&path.to_string_lossy())));
    }
    if done == Collected::default() {
        terminal::out("everything is in use\n");
    }
    Ok(0)
}

fn find(name: &str, env: &Environment) -> Result<(Artifacts, Artifact), Fault> {
    let wanted = Wanted::parse(name)?;
    let Some(artifacts) = Artifacts::existing(&env.store) else {
        let remedy = "make one: safe-run artifact build kernel";
        return Err(Fault::new(
            Code::Run001,
            "artifact.name",
            "there are no artifacts yet",
            remedy,
        ));
    };
    let found = artifacts.resolve(&wanted, None)?;
    Ok((artifacts, found))
}
