//! `report verify`: does a run's evidence hold, and who signed it? `report export`: the same elsewhere.

use crate::arguments::ReportAction;
use crate::environment::Environment;
use crate::failure::{Done, Failure};
use crate::terminal::{self, clean, count};
use crate::{json, read};
use sr_common::{Code, Fault};
use sr_evidence::files;
use sr_evidence::key::PublicKey;
use sr_evidence::keystore::KeyStore;
use sr_evidence::verify::{Status, Verification, VerifyOptions, verify_run};
use std::path::{Path, PathBuf};

pub fn report(action: &ReportAction, env: &Environment) -> Done {
    let (file, keys, json) = match action {
        ReportAction::Verify { file, keys, json } => (file, keys, json),
        ReportAction::Export { run, file } => {
            let (_, run) = super::find_run(env, run)?;
            super::run::export(&run.path, file)?;
            return Ok(0);
        }
    };
    let store = KeyStore::open(&env.keys);
    let options = VerifyOptions {
        keys: keys
            .iter()
            .map(|name| key(name, &store))
            .collect::<Result<_, Fault>>()?,
        keyring: if keys.is_empty() { store.keyring()? } else { Vec::new() },
    };
    let verification = verify_run(&place(file, env)?, &options);
    if *json {
        terminal::out(&json::pretty(&verification)?);
    } else {
        text(&verification, env);
    }
    Ok(verification.exit_code())
}

/// A path, or a run of the store where there is no such file.
fn place(file: &Path, env: &Environment) -> Result<PathBuf, Failure> {
    let name = file.to_str().filter(|n| !n.contains(['/', '.']));
    match name {
        Some(name) if file.symlink_metadata().is_err() => Ok(super::find_run(env, name)?.1.path),
        // The report of a run that did not come to its end is absent, and the rest is beside it.
        _ if file.exists() || file.with_file_name(files::EVENTS).exists() => Ok(file.to_owned()),
        _ => {
            let found = format!("{} does not exist", file.display());
            Err(Fault::new(
                Code::Evd003,
                "report",
                found,
                "name a report, the folder of a run, or a run of `safe-run runs`",
            )
            .into())
        }
    }
}

/// A PEM file, or the name or id of a key that the store holds.
fn key(name: &str, store: &KeyStore) -> Result<PublicKey, Fault> {
    if name.contains(['/', '.']) {
        return key_file(Path::new(name));
    }
    if store.list()?.iter().any(|k| k.own && k.name == name) {
        return store.public(name);
    }
    let found = store
        .trusted()?
        .into_iter()
        .find(|k| name.len() >= 8 && k.key_id().starts_with(name));
    found.ok_or_else(|| {
        let remedy = "name a PEM file with `/` or `.` in it, or a key of `safe-run key list`";
        Fault::new(Code::Evd003, "key", format!("there is no key {name}"), remedy)
    })
}

/// A public key from a PEM file.
pub(super) fn key_file(path: &Path) -> Result<PublicKey, Fault> {
    let bad = |found: String| {
        Fault::new(
            Code::Evd003,
            "key",
            format!("{} {found}", path.display()),
            "give a PEM public key (SubjectPublicKeyInfo)",
        )
    };
    let document = read::document(path, "key").map_err(|f| Fault {
        code: Code::Evd003,
        ..f
    })?;
    let text = String::from_utf8(document.bytes).map_err(|_| bad("is not text".into()))?;
    PublicKey::from_pem(&text).map_err(bad)
}

fn text(verification: &Verification, env: &Environment) {
    let id = verification
        .run_id
        .as_ref()
        .map_or_else(String::new, |id| format!("run {}: ", id.short()));
    let mut events = count(verification.events, "event");
    if verification.approvals > 0 {
        events.push_str(&format!(", {}", count(verification.approvals, "approval")));
    }
    if verification.status == Status::Verified {
        let signer = verification
            .signer
            .as_deref()
            .map_or_else(String::new, |s| format!(", signed by {}", clean(s)));
        terminal::out(&format!("{id}{}, {events}{signer}\n", env.out_style.good("verified")));
        return;
    }
    terminal::out(&format!(
        "{id}{} ({events} hold)\n",
        env.out_style.error(verification.sentence())
    ));
    if let Some(fault) = verification.fault() {
        terminal::err(&terminal::fault_text(&fault, env.err_style));
    }
}
