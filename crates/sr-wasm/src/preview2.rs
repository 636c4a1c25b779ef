//! The rules for calls of WASI preview 2: what a component is linked with in the place of what it may not have.

use crate::cause::Denied;
use crate::error::SandboxError;
use crate::guest::State;
use crate::monitor::ResourceViolation;
use sr_common::host_calls::{HostCalls, Rule};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, StoreContextMut};
use wasmtime_wasi::p2::bindings::random::{insecure, random};
use wasmtime_wasi::random::WasiRandomView;

/// Of all the interfaces that wasmtime gives; it takes imports of older ones for these.
const VERSION: &str = "0.2.12";

/// What stands in a function's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Instead {
    Nothing,
    /// So many bytes a call.
    Bytes(u64),
}

/// Puts denials in the place of what `component` imports and `calls` deny: the number of these functions.
///
/// # Errors
/// An interface that the rules speak of and wasmtime gives in another version only.
pub(crate) fn restrict(
    engine: &Engine,
    linker: &mut Linker<State>,
    component: &Component,
    calls: &HostCalls,
) -> Result<usize, SandboxError> {
    let bad = |e| SandboxError::engine("the rules of WASI preview 2", e);
    let mut restricted = 0;
    for (import, found) in component.component_type().imports(engine) {
        let (interface, _) = import.split_once('@').unwrap_or((import, ""));
        let ComponentItem::ComponentInstance(instance) = found.ty else {
            continue;
        };
        for (name, export) in instance.exports(engine) {
            let function = format!("{interface}#{name}");
            let Some(instead) = rule(calls, interface, &function).filter(|_| is_function(&export.ty)) else {
                continue;
            };
            linker.allow_shadowing(true);
            let mut instance = linker.instance(&format!("{interface}@{VERSION}")).map_err(bad)?;
            match instead {
                Instead::Nothing => instance.func_new(name, move |store, _, _, _| {
                    Err(denied(&store, &function, "its rule is deny".to_owned()))
                }),
                Instead::Bytes(most) => {
                    let secure = interface == "wasi:random/random";
                    instance.func_wrap(name, move |mut store: StoreContextMut<'_, State>, (bytes,): (u64,)| {
                        if bytes > most {
                            let reason = format!("{bytes} bytes, and {most} are the most");
                            return Err(denied(&store, &function, reason));
                        }
                        let chance = store.data_mut().random();
                        let given = match secure {
                            true => random::Host::get_random_bytes(chance, bytes)?,
                            false => insecure::Host::get_insecure_random_bytes(chance, bytes)?,
                        };
                        Ok((given,))
                    })
                }
            }
            .map_err(bad)?;
            restricted += 1;
        }
    }
    Ok(restricted)
}

fn is_function(item: &ComponentItem) -> bool {
    matches!(item, ComponentItem::ComponentFunc(_))
}

/// A function's own rule goes before its interface's.
fn rule(calls: &HostCalls, interface: &str, function: &str) -> Option<Instead> {
    match calls.rules.get(function).or_else(|| calls.rules.get(interface))? {
        Rule::Allow => None,
        Rule::AtMost { bytes } => Some(Instead::Bytes(*bytes)),
        // Of arguments that no function here has nothing else can be said.
        Rule::Deny | Rule::Within { .. } | Rule::Clocks { .. } => Some(Instead::Nothing),
    }
}

/// No function here has a place for such an answer in its type: the guest ends.
fn denied(store: &StoreContextMut<'_, State>, function: &str, reason: String) -> wasmtime::Error {
    store
        .data()
        .preview1
        .monitor()
        .record_violation(ResourceViolation::HostCallDenied {
            function: function.to_owned(),
            reason,
        });
    wasmtime::Error::new(Denied(function.to_owned()))
}
