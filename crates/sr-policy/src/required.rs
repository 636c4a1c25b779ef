//! Fields that a policy file must have, and the few whose value is fixed.

use crate::decode::Decoder;
use crate::document::PolicyDocument;
use crate::node::Node;
use crate::suggest::nearest;
use crate::text::printable;
use sr_common::{API_VERSION, Code};

/// Checks a decoded policy file. Only what the text leaves out is missing: a malformed value has a fault already.
pub(crate) fn check(document: &PolicyDocument, root: &Node, d: &mut Decoder<'_>) {
    version(document.api_version.as_deref(), root, d);
    kind(document.kind.as_deref(), "Policy", root, d);
    present(
        root,
        "metadata.name",
        "name the policy: `metadata: {name: my-policy}`",
        d,
    );
    if root.locate("runtime").complete {
        present(root, "runtime.args", "write the arguments: `args: []` for none", d);
    } else {
        present(
            root,
            "runtime",
            "say what runs: `runtime: {command: /bin/true, args: []}`",
            d,
        );
    }
    present(root, "mounts", "write the mounts: `mounts: []` for none", d);
    let mounts = document.mounts.as_deref().unwrap_or_default();
    each(
        mounts,
        |m| m.source.is_none(),
        "mounts",
        "source",
        "write the host path: `source: ./src`",
        root,
        d,
    );
    let secrets = document.secrets.as_deref().unwrap_or_default();
    each(
        secrets,
        |s| s.name.is_none(),
        "secrets",
        "name",
        "name the secret",
        root,
        d,
    );
    if let Some(network) = &document.network {
        let hosts = network.allow.as_deref().unwrap_or_default();
        each(
            hosts,
            |h| h.host.is_none(),
            "network.allow",
            "host",
            "write the host's name",
            root,
            d,
        );
        let ports = network.publish.as_deref().unwrap_or_default();
        each(
            ports,
            |p| p.port.is_none(),
            "network.publish",
            "port",
            "write the port",
            root,
            d,
        );
    }
}

/// `field` must be there in each of `items`; one that is there and malformed has a fault already.
fn each<T>(
    items: &[T],
    lacks: fn(&T) -> bool,
    list: &str,
    field: &str,
    remedy: &str,
    root: &Node,
    d: &mut Decoder<'_>,
) {
    for (i, _) in items.iter().enumerate().filter(|(_, item)| lacks(item)) {
        if d.is_full() {
            return;
        }
        present(root, &format!("{list}[{i}].{field}"), remedy, d);
    }
}

/// `apiVersion` must be there and be ours.
pub(crate) fn version(found: Option<&str>, root: &Node, d: &mut Decoder<'_>) {
    let remedy = format!("write `apiVersion: {API_VERSION}`");
    match found {
        Some(API_VERSION) => {}
        Some(other) => {
            let at = root.locate("apiVersion").at;
            let found = format!("unknown version \"{}\"", printable(other));
            d.within("apiVersion", |d| d.fault(Code::Pol002, at, found, remedy));
        }
        None => present(root, "apiVersion", &remedy, d),
    }
}

/// `kind`, where written, must be `expected`.
pub(crate) fn kind(found: Option<&str>, expected: &str, root: &Node, d: &mut Decoder<'_>) {
    if let Some(other) = found.filter(|k| *k != expected) {
        let at = root.locate("kind").at;
        let remedy = match nearest(other, [expected]) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("this is read as a {expected} document: write `kind: {expected}`"),
        };
        d.within("kind", |d| {
            d.fault(Code::Pol002, at, format!("the kind \"{}\"", printable(other)), remedy)
        });
    }
}

pub(crate) fn present(root: &Node, path: &str, remedy: &str, d: &mut Decoder<'_>) {
    let located = root.locate(path);
    if !located.complete {
        d.within(path, |d| {
            d.fault(Code::Pol001, located.at, "required and missing", remedy)
        });
    }
}
