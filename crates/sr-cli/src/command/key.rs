//! `key`: keys that sign reports, and keys of others that are trusted.

use crate::arguments::{KeyAction, KeyKind};
use crate::environment::Environment;
use crate::failure::Done;
use crate::json;
use crate::terminal::{self, clean};
use sr_common::{Code, Fault};
use sr_evidence::key::{Algorithm, PublicKey};
use sr_evidence::keystore::KeyStore;
use std::io::Write as _;
use std::path::Path;

pub fn key(action: &KeyAction, env: &Environment) -> Done {
    let store = KeyStore::open(&env.keys);
    match action {
        KeyAction::List { json } => list(&store, *json)?,
        KeyAction::Generate { name, algorithm } => {
            let algorithm = match algorithm {
                KeyKind::EcdsaP256 => Algorithm::EcdsaP256,
                KeyKind::Ed25519 => Algorithm::Ed25519,
            };
            let public = store.generate(name, algorithm)?;
            terminal::out(&format!("{name}  {}  {}\n", public.algorithm(), public.key_id()));
            if name != sr_evidence::keystore::DEFAULT_KEY {
                terminal::err(&format!("sign with it: `evidence: {{sign: {name}}}` in a policy"));
            }
        }
        KeyAction::Show { name } => {
            let public = find(&store, name)?;
            terminal::out(&format!(
                "{}  {}\n{}",
                public.algorithm(),
                public.key_id(),
                public.to_pem()
            ));
        }
        KeyAction::Trust { file } => {
            let public = super::report::key_file(file)?;
            store.import_trusted(&public.to_pem())?;
            terminal::out(&format!("trusted: {}  {}\n", public.algorithm(), public.key_id()));
        }
        KeyAction::Untrust { key_id } => untrust(&store, key_id)?,
        KeyAction::Export { name, output } => export(&find(&store, name)?, output.as_deref())?,
    }
    Ok(0)
}

fn list(store: &KeyStore, json: bool) -> Result<(), Fault> {
    let keys = store.list()?;
    if json {
        terminal::out(&json::pretty(&keys)?);
        return Ok(());
    }
    if keys.is_empty() {
        terminal::out("no keys yet: the first run makes one, or safe-run key generate\n");
    }
    for key in keys {
        let name = if key.own { key.name } else { "(trusted)".into() };
        terminal::out(&format!("{:12}  {:10}  {}\n", clean(&name), key.algorithm, key.key_id));
    }
    Ok(())
}

/// An own key by its name, or a trusted one by the beginning of its id.
fn find(store: &KeyStore, name: &str) -> Result<PublicKey, Fault> {
    if store.list()?.iter().any(|k| k.own && k.name == name) {
        return store.public(name);
    }
    one_trusted(store, name)
}

fn one_trusted(store: &KeyStore, prefix: &str) -> Result<PublicKey, Fault> {
    let mut found: Vec<PublicKey> = store
        .trusted()?
        .into_iter()
        .filter(|k| k.key_id().starts_with(prefix))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(key), true) if !prefix.is_empty() => Ok(key),
        (None, _) => Err(Fault::new(
            Code::Evd003,
            "key",
            format!("there is no key {prefix}"),
            "see `safe-run key list`",
        )),
        _ => Err(Fault::new(
            Code::Evd003,
            "key",
            format!("{prefix:?} begins several key ids"),
            "write more of the id",
        )),
    }
}

fn untrust(store: &KeyStore, prefix: &str) -> Result<(), Fault> {
    let key = one_trusted(store, prefix)?;
    store.remove_trusted(key.key_id())?;
    terminal::out(&format!("no longer trusted: {}\n", key.key_id()));
    Ok(())
}

/// Never over an existing file.
fn export(key: &PublicKey, output: Option<&Path>) -> Result<(), Fault> {
    let Some(path) = output else {
        terminal::out(&key.to_pem());
        return Ok(());
    };
    let written = std::fs::File::create_new(path).and_then(|mut file| file.write_all(key.to_pem().as_bytes()));
    written.map_err(|e| {
        let found = format!("{} cannot be written: {e}", path.display());
        Fault::new(
            Code::Run001,
            "key",
            found,
            "name a file that does not exist yet, in a directory of yours",
        )
    })
}
