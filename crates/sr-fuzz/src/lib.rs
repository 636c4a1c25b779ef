//! Generators and oracles: bytes in, a judgement out. Property tests and the fuzz targets of `fuzz/` call the same ones.
//! An oracle says what must hold, not only that nothing panics. Not part of the product.

pub mod archive;
pub mod bundle;
pub mod choices;
pub mod evidence;
pub mod filter;
pub mod guest;
pub mod helper;
pub mod kernel;
pub mod policy;

/// What is wrong, in words for whoever looks at the failing input.
pub type Judgement = Result<(), String>;

/// Something to throw bytes at.
pub struct Target {
    pub name: &'static str,
    pub judge: fn(&[u8]) -> Judgement,
    /// Inputs to begin with, besides random ones.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets, by the names of the programs in `fuzz/fuzz_targets`.
pub const TARGETS: [Target; 14] = [
    Target {
        name: "policy_text",
        judge: policy::text,
        seeds: policy::seeds,
    },
    Target {
        name: "policy_forms",
        judge: policy::forms,
        seeds: Vec::new,
    },
    Target {
        name: "events",
        judge: evidence::chain::events,
        seeds: Vec::new,
    },
    Target {
        name: "approvals",
        judge: evidence::approvals::approvals,
        seeds: Vec::new,
    },
    Target {
        name: "report",
        judge: evidence::report::report,
        seeds: Vec::new,
    },
    Target {
        name: "documents",
        judge: evidence::documents::documents,
        seeds: evidence::documents::seeds,
    },
    Target {
        name: "bundle",
        judge: bundle::bundle,
        seeds: Vec::new,
    },
    Target {
        name: "filter",
        judge: filter::filter,
        seeds: Vec::new,
    },
    Target {
        name: "program",
        judge: filter::program,
        seeds: Vec::new,
    },
    Target {
        name: "execution",
        judge: filter::execution,
        seeds: Vec::new,
    },
    Target {
        name: "guest_stream",
        judge: guest::stream,
        seeds: guest::seeds,
    },
    Target {
        name: "helper_request",
        judge: helper::request,
        seeds: helper::seeds,
    },
    Target {
        name: "archive",
        judge: archive::archive,
        seeds: archive::seeds,
    },
    Target {
        name: "layers",
        judge: archive::layers,
        seeds: Vec::new,
    },
];

pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Ends the process in words where `data` shows that something does not hold: how a fuzzer is told.
///
/// # Panics
/// Where the target's judgement is an error.
pub fn must_hold(name: &str, data: &[u8]) {
    let judged = target(name).map_or_else(|| Err("there is no such target".into()), |target| (target.judge)(data));
    if let Err(why) = judged {
        panic!("{name}: {why}");
    }
}

/// An error with `why` unless `holds`.
pub(crate) fn require(holds: bool, why: impl FnOnce() -> String) -> Judgement {
    if holds { Ok(()) } else { Err(why()) }
}
