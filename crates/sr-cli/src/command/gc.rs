//! `gc`: removes what killed supervisors left behind.

use crate::arguments::GcArguments;
use crate::environment::Environment;
use crate::failure::Done;
use crate::json;
use crate::terminal::{self, clean, count};
use serde_json::json;
use sr_evidence::keystore::KeyStore;
use sr_runner::{Store, gc};

pub fn collect(arguments: &GcArguments, env: &Environment) -> Done {
    let mut done = if env.store.is_dir() {
        let store = Store::open(&env.store)?;
        let mut done = gc::collect(&store, None);
        done.removed.extend(gc::unjournaled(&store));
        done
    } else {
        gc::Collected::default()
    };
    done.removed.extend(KeyStore::open(&env.keys).sweep());
    if let Some(runtime) = &env.runtime {
        done.removed.extend(gc::half_made(runtime));
    }
    if arguments.json {
        let object = json!({"runs": done.runs, "removed": done.removed, "problems": done.problems});
        terminal::out(&json::pretty(&object)?);
    } else {
        for path in &done.removed {
            terminal::out(&format!("removed {}\n", clean(&path.to_string_lossy())));
        }
        for problem in &done.problems {
            terminal::err(&format!("left: {}", clean(problem)));
        }
        let text = match done.runs {
            0 if done.removed.is_empty() && done.problems.is_empty() => "nothing was left behind\n".to_owned(),
            n => format!("{} cleaned up\n", count(u64::from(n), "run")),
        };
        terminal::out(&text);
    }
    Ok(u8::from(!done.problems.is_empty()))
}
