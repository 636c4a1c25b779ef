//! `validate`: are these policies valid?

use crate::arguments::{Format, ValidateArguments};
use crate::environment::Environment;
use crate::failure::{Done, Failure};
use crate::terminal::{self, clean, count};
use crate::{host_rules, policies};
use serde_json::Value;
use sr_common::Fault;
use sr_policy::Overlay;
use std::ffi::OsStr;

pub fn validate(arguments: &ValidateArguments, style: terminal::Style) -> Done {
    let host = if arguments.host {
        let env = Environment::read()?;
        let rules = host_rules::load(&env)?;
        Some((env, rules))
    } else {
        None
    };
    let overlay = Overlay {
        backend: arguments.backend,
        ..Overlay::default()
    };
    let mut all: Vec<Value> = Vec::new();
    let mut bad = 0;
    for name in &arguments.policies {
        let result = policies::find(name).and_then(|found| {
            let spec = found.spec.with_overlay(&overlay)?;
            match &host {
                Some((env, rules)) => host_rules::check(&spec, &found.files, rules.clone(), env).map(drop),
                None => Ok(()),
            }
        });
        let shown = clean(&name.to_string_lossy());
        match (result, arguments.format) {
            (Ok(()), Format::Text) => terminal::out(&format!("{shown}: valid\n")),
            (Ok(()), Format::Json) => {}
            (Err(faults), format) => {
                bad += 1;
                match format {
                    Format::Text => {
                        terminal::err(&format!("{shown}: {}", count(faults.len() as u64, "fault")));
                        Failure(faults).report(false, style);
                    }
                    Format::Json => all.extend(faults.iter().map(|fault| with_file(fault, name))),
                }
            }
        }
    }
    if arguments.format == Format::Json {
        terminal::out(&crate::json::pretty(&all)?);
    }
    Ok(if bad == 0 { 0 } else { 2 })
}

/// The fault with the name of the policy as it was given.
fn with_file(fault: &Fault, name: &OsStr) -> Value {
    let mut value = serde_json::json!(fault);
    if let Some(map) = value.as_object_mut() {
        map.insert("policy".into(), name.to_string_lossy().into());
    }
    value
}
