//! Sections of the policy whose rooms are not built yet: their shape is checked, and what they ask for is refused by
//! the rule `SR-RULE-not-available`, never ignored.

use crate::decode::section;
use crate::merge::replaces;
use crate::words::{Word, choices};
use schemars::JsonSchema;
use serde::Serialize;

/// Devices by name, such as a GPU.
pub type DevicesSection = Vec<Word>;

section! {
    pub struct NetworkSection {
        /// `none` in this build.
        mode: NetworkChoice,
        /// Not available in this build: must be empty.
        allow: Vec<HostPattern>,
        /// Not available in this build.
        audit: AuditChoice,
        /// Not available in this build.
        on_denied: OnDeniedConnection,
        /// Named sets of hosts. Not available in this build: must be empty.
        include: Vec<Word>,
        /// Ports of the program that the host may reach. Not available in this build: must be empty.
        publish: Vec<PublishSection>,
    }
}

/// Whether there is a network at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NetworkChoice {
    None,
    Allowlist,
}

/// What is recorded of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuditChoice {
    None,
    Connections,
    Requests,
}

/// What a connection that is not allowed gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnDeniedConnection {
    Refuse,
    Kill,
    Ask,
}

section! {
    pub struct HostPattern {
        /// A name, or `*.` and a name.
        #[schemars(required)]
        host: Word,
        ports: Vec<u32>,
        methods: Vec<Word>,
        paths: Vec<Word>,
    }
}

section! {
    pub struct PublishSection {
        /// In the sandbox.
        #[schemars(required)]
        port: u32,
        /// On the host; left out: the same.
        host_port: u32,
    }
}

section! {
    pub struct SecretSection {
        #[schemars(required)]
        name: Word,
        /// Where the caller keeps the value.
        source: Word,
        /// The environment variable that holds the placeholder.
        env: Word,
        /// The only hosts that are given the value.
        hosts: Vec<Word>,
        /// The header in which it is sent.
        header: Word,
    }
}

section! {
    pub struct DetectionSection {
        profile: Word,
        on_anomaly: OnAnomaly,
    }
}

/// What an anomaly does to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnAnomaly {
    Record,
    Freeze,
    Kill,
}

replaces!(NetworkChoice, AuditChoice, OnDeniedConnection, OnAnomaly);

choices! {
    NetworkChoice { "none" => None, "allowlist" => Allowlist }
    AuditChoice { "none" => None, "connections" => Connections, "requests" => Requests }
    OnDeniedConnection { "refuse" => Refuse, "kill" => Kill, "ask" => Ask }
    OnAnomaly { "record" => Record, "freeze" => Freeze, "kill" => Kill }
}
