//! `export seccomp` and `import seccomp`: a policy's system calls as other tools read them, and theirs as a policy.

use crate::arguments::{ExportArguments, ImportArguments};
use crate::environment::Environment;
use crate::failure::Done;
use crate::terminal::{self, clean};
use crate::{json, policies, read};
use serde_json::json;
use sr_common::{Code, Fault};
use sr_compiler::syscalls::{oci, selector};
use sr_observe::profile;
use sr_policy::{CommandLine, HostContext, Overlay, preset, render_yaml};
use sr_runner::{Store, compile_for_host};

pub fn export(arguments: &ExportArguments, env: &Environment) -> Done {
    let mut policy = policies::find(&arguments.policy)?.spec;
    if policy.runtime.command.is_none() {
        // The filter is not of one program.
        policy = policy.with_overlay(&Overlay {
            command: Some(CommandLine {
                command: "/bin/true".into(),
                args: Vec::new(),
            }),
            ..Overlay::default()
        })?;
    }
    let store = Store::open(&env.store)?;
    let bundle = compile_for_host(&policy, &HostContext::default(), &super::caller(env), &store)?.bundle;
    let profile = oci::profile(&bundle.syscalls_plan);
    let shown = match arguments.format {
        crate::arguments::ProfileFormat::Oci => json!({"linux": {"seccomp": profile}}),
        // One format, in two places.
        crate::arguments::ProfileFormat::Docker | crate::arguments::ProfileFormat::Kubernetes => profile,
    };
    terminal::out(&json::pretty(&shown)?);
    Ok(0)
}

pub fn import(arguments: &ImportArguments) -> Done {
    let fault = |found: String| {
        let remedy = "name a profile as Docker, Kubernetes and OCI runtimes read it";
        Fault::new(
            Code::Pol002,
            "import",
            format!("{}: {found}", arguments.file.display()),
            remedy,
        )
    };
    let document = read::document(&arguments.file, "import")?;
    let text = String::from_utf8(document.bytes).map_err(|_| fault("not UTF-8".into()))?;
    let (syscalls, notes) = profile::import(&text, selector).map_err(fault)?;
    let mut policy = preset("standard").ok_or_else(|| Fault::new(Code::Pol001, "import", "no preset standard", ""))?;
    policy.metadata.name = "imported".into();
    policy.syscalls = syscalls;
    terminal::out(&render_yaml(&policy));
    for note in notes {
        terminal::err(&format!("safe-run: {}", clean(&note)));
    }
    Ok(0)
}
