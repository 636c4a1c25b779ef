//! Rules about the network and secrets, judged although neither exists in this build: a policy is written once.

use super::Rule;
use crate::document::PolicyDocument;
use crate::planned::NetworkChoice;
use crate::text::printable;
use sr_common::Fault;

const SUFFIX: Rule = Rule::new(
    "SR-RULE-network-public-suffix",
    "An allow-list names no public suffix such as `*.com` or `*.github.io`.",
);
const SECRETS: Rule = Rule::new(
    "SR-RULE-secrets-allowlist",
    "Secrets are given only to hosts of an allow-list.",
);

pub(super) const RULES: &[Rule] = &[SUFFIX, SECRETS];

/// Suffixes of more than one label below which anybody can have a name. Every single label counts as one too.
const PUBLIC: [&str; 36] = [
    "ac.uk",
    "amazonaws.com",
    "appspot.com",
    "azurewebsites.net",
    "blogspot.com",
    "cloudfront.net",
    "co.in",
    "co.jp",
    "co.kr",
    "co.nz",
    "co.uk",
    "co.za",
    "com.au",
    "com.br",
    "com.cn",
    "com.mx",
    "com.tr",
    "com.tw",
    "firebaseapp.com",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "gov.uk",
    "herokuapp.com",
    "net.au",
    "netlify.app",
    "ngrok.io",
    "onrender.com",
    "or.jp",
    "org.au",
    "org.uk",
    "pages.dev",
    "s3.amazonaws.com",
    "vercel.app",
    "web.app",
    "workers.dev",
];

pub(super) fn check(document: &PolicyDocument, faults: &mut Vec<Fault>) {
    let network = document.network.as_ref();
    for (i, pattern) in network
        .and_then(|n| n.allow.as_deref())
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let host = pattern.host.as_deref().unwrap_or_default();
        if is_public(host) {
            let found = format!("\"{}\" lets in every name below a public suffix", printable(host));
            faults.push(SUFFIX.fault(
                format!("network.allow[{i}].host"),
                found,
                "name the hosts that are needed",
            ));
        }
    }
    let allowlist = network.and_then(|n| n.mode) == Some(NetworkChoice::Allowlist)
        && network
            .and_then(|n| n.allow.as_ref())
            .is_some_and(|list| !list.is_empty());
    if document.secrets.as_ref().is_some_and(|list| !list.is_empty()) && !allowlist {
        let remedy = "write `network: {mode: allowlist, allow: [...]}`, or remove the secrets";
        faults.push(SECRETS.fault("secrets", "secrets without a network allow-list", remedy));
    }
}

/// A wildcard directly over a public suffix, or the suffix itself.
fn is_public(host: &str) -> bool {
    let name = host
        .strip_prefix("*.")
        .unwrap_or(host)
        .trim_end_matches('.')
        .to_ascii_lowercase();
    let local = name == "localhost" && !host.starts_with('*');
    (!name.contains('.') && !local) || PUBLIC.contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    #[test]
    fn suffixes() {
        for public in [
            "*",
            "*.com",
            "com",
            "*.CO.uk",
            "*.github.io",
            "github.io.",
            "*.localhost",
        ] {
            assert!(super::is_public(public), "{public}");
        }
        for host in ["api.example.com", "*.example.com", "localhost", "*.user.github.io"] {
            assert!(!super::is_public(host), "{host}");
        }
    }
}
