//! Taking over what a run captured: the evidence is verified, the stored layers are held against the manifest that it
//! signs, and who approved what is recorded in the run's chain, before the first file on the host changes.

use crate::changes::{self, Applied, ApplyOptions, Change, Kind, Layer, LayerRecord, Prepared, Scanned};
use crate::session;
use crate::store::{CapturedLayer, RunDir, Store};
use sr_common::{Code, Digest, Fault};
use sr_compiler::CompileBundle;
use sr_evidence::approval::{
    APPLY_INTENT, APPLY_OUTCOME, APPLY_REFUSED, Anchor, ApprovalLog, By, Intent, Outcome, Planned, Reason, Refused,
    Settled,
};
use sr_evidence::files;
use sr_evidence::key::SigningKey;
use sr_evidence::keystore::KeyStore;
use sr_evidence::verify::{Status, Told, VerifyOptions, verify_dir};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// What a run's evidence proves of its changes.
#[derive(Debug)]
pub struct Basis {
    /// Whether a key that is trusted signed it. `false`: the run was not signed, so anyone could have written it.
    pub signed: bool,
    /// Digest of `changes.json`; `None` where nothing was captured. A layer that is there all the same is none of the run's.
    manifest: Option<Digest>,
    records: Vec<LayerRecord>,
    anchor: Anchor,
}

/// A captured directory as it is stored now.
pub struct Look {
    pub captured: CapturedLayer,
    pub changes: Vec<Change>,
    /// It is not what the manifest says: the first difference.
    pub differs: Option<Fault>,
    scanned: Option<Scanned>,
}

/// A run's changes, and what vouches for them.
pub struct Seen {
    /// In the bundle's order.
    pub looks: Vec<Look>,
    /// The fault: the evidence proves nothing about these changes.
    pub evidence: Result<Basis, Fault>,
    /// A recorded layer that is not there.
    missing: Option<Fault>,
}

impl Seen {
    /// Everything that speaks against these changes being what the run left.
    pub fn doubts(&self) -> Vec<&Fault> {
        let differing = self.looks.iter().filter_map(|look| look.differs.as_ref());
        let evidence = self.evidence.as_ref().err();
        evidence.into_iter().chain(&self.missing).chain(differing).collect()
    }

    /// The evidence, if nothing speaks against the changes.
    pub fn sound(&self) -> Result<&Basis, Vec<Fault>> {
        let doubts = self.doubts();
        match (&self.evidence, doubts.is_empty()) {
            (Ok(basis), true) => Ok(basis),
            _ => Err(doubts.into_iter().cloned().collect()),
        }
    }
}

/// Reads what `run` changed and compares it with its evidence. A fault only where nothing can be shown.
pub fn look(store: &Store, run: &RunDir, trust: &VerifyOptions) -> Result<Seen, Fault> {
    if store.is_running(&run.id) {
        let found = format!("run {} is under way", run.id.short());
        let remedy = "its changes are captured at its end: wait for it";
        return Err(Fault::new(Code::Run001, "run", found, remedy));
    }
    let (evidence, layers) = match basis(run, trust) {
        Ok((basis, Some(bundle))) => (Ok(basis), store.captured_under(run, bundle)),
        Ok((basis, None)) => (Ok(basis), Vec::new()),
        Err(fault) => (Err(fault), store.captured(run)),
    };
    let records = evidence.as_ref().map_or(&[][..], |basis| basis.records.as_slice());
    let missing = records.iter().find_map(|record| lost(run, record, &layers));
    let mut looks = Vec::new();
    for mut captured in layers {
        let record = records.iter().find(|r| r.layer == captured.number);
        if let Some(record) = record {
            captured.started = record.began();
        }
        let scanned = changes::read(&captured.as_layer())?;
        let differs = match (record, &evidence) {
            (Some(record), _) => differs(run, record, &captured, &scanned),
            // A layer that the manifest does not know, though there is one.
            (None, Ok(_)) => Some(different(run, &captured, "layer", "is stored, and not recorded".into())),
            (None, Err(_)) => None,
        };
        looks.push(Look {
            changes: scanned.changes(),
            captured,
            differs,
            scanned: Some(scanned),
        });
    }
    Ok(Seen {
        looks,
        evidence,
        missing,
    })
}

fn basis(run: &RunDir, trust: &VerifyOptions) -> Result<(Basis, Option<CompileBundle>), Fault> {
    let verification = verify_dir(&run.path, trust);
    let unproven = |found: &str| {
        let remedy = format!("run it again; safe-run discard {} throws it away", run.id.short());
        Fault::new(Code::Evd003, "changes.evidence", found, remedy)
    };
    let told: Told = match (&verification.told, verification.status) {
        (Some(told), status) if status != Status::Failed => told.clone(),
        (None, Status::Incomplete) => {
            return Err(unproven(
                "the run did not come to its end: nothing vouches for what it left",
            ));
        }
        _ => {
            let fault = verification.fault();
            return Err(fault.unwrap_or_else(|| unproven("the evidence of the run cannot be read")));
        }
    };
    match (told.status, told.signed) {
        (Status::Verified, _) | (Status::Unsigned, false) => {}
        _ => {
            return Err(verification
                .fault()
                .unwrap_or_else(|| unproven("its evidence does not verify")));
        }
    }
    let mut basis = Basis {
        signed: told.signed,
        manifest: told.captured_changes,
        records: Vec::new(),
        anchor: told.anchor,
    };
    let Some(manifest) = told.captured_changes else {
        return Ok((basis, None));
    };
    // What was verified a moment ago and what is built upon must be the same bytes.
    let dir = files::open_dir(&run.path).map_err(|e| unproven(&format!("its folder cannot be opened: {e}")))?;
    let document = |name: &str, digest: Digest| match files::read_document(&dir, name) {
        Ok(Some(bytes)) if Digest::of(&bytes) == digest => Ok(bytes),
        Ok(_) => Err(unproven(&format!("{name} is not what the report says"))),
        Err(why) => Err(unproven(&why)),
    };
    let odd = |name: &str, e: serde_json::Error| unproven(&format!("{name} is of another version: {e}"));
    let bytes = document(files::CHANGES, manifest)?;
    basis.records = serde_json::from_slice(&bytes).map_err(|e| odd(files::CHANGES, e))?;
    let bytes = document(files::BUNDLE, told.bundle)?;
    let bundle = serde_json::from_slice(&bytes).map_err(|e| odd(files::BUNDLE, e))?;
    Ok((basis, Some(bundle)))
}

fn differs(run: &RunDir, record: &LayerRecord, captured: &CapturedLayer, scanned: &Scanned) -> Option<Fault> {
    if Path::new(&record.source) != captured.source || record.target != captured.target {
        let found = format!("is recorded for {} at {}", record.source, record.target);
        return Some(different(run, captured, "layer", found));
    }
    let (path, found) = record.first_difference(&scanned.held)?;
    Some(different(run, captured, &path, found))
}

fn different(run: &RunDir, captured: &CapturedLayer, path: &str, found: String) -> Fault {
    let remedy = match &captured.session {
        None => format!(
            "it was changed after the run: safe-run discard {}, and run it again",
            run.id.short()
        ),
        Some(name) => format!(
            "if a later run of session {name} changed it, apply that run; after a killed one, \
             `safe-run run --session {name} -- true` records what is there; else safe-run discard {}",
            run.id.short()
        ),
    };
    let path = if path.is_empty() { "." } else { path };
    Fault::new(
        Code::Evd003,
        path,
        format!("the stored layer differs from the manifest: {found}"),
        remedy,
    )
}

/// A layer of the manifest that the store has no more. Sessions' layers go when all of them is applied.
fn lost(run: &RunDir, record: &LayerRecord, layers: &[CapturedLayer]) -> Option<Fault> {
    let session = || {
        run.bundle()
            .is_some_and(|bundle| bundle.filesystem_plan.session.is_some())
    };
    let there = record.entries.is_empty() || layers.iter().any(|layer| layer.number == record.layer);
    (!there && !session()).then(|| {
        let found = format!("the captured layer of {} is gone from the store", record.source);
        let remedy = format!("run it again; safe-run discard {} throws the rest away", run.id.short());
        Fault::new(Code::Evd003, "changes.evidence", found, remedy)
    })
}

/// What a person wants of which captured directories.
pub struct Order<'a> {
    pub by: By,
    /// Signs the record; see [`key`].
    pub key: Option<&'a SigningKey>,
    /// By the number of the layer. Layers that are not named are left alone.
    pub layers: Vec<(u32, ApplyOptions)>,
}

/// What came of an order.
#[derive(Debug, Default)]
pub struct Taken {
    /// By the number of the layer, also where faults stopped the writing.
    pub done: Vec<(u32, Applied)>,
    /// What went wrong once writing had begun.
    pub faults: Vec<Fault>,
}

/// Takes the ordered changes over. Everything is read and judged again, under a lock. A fault, such as a conflict, means
/// that nothing was written.
pub fn apply(store: &Store, run: &RunDir, trust: &VerifyOptions, order: &Order<'_>) -> Result<Taken, Vec<Fault>> {
    let lock = run.lock().map_err(|fault| vec![fault])?;
    let _session = lock_session(store, run)?;
    let mut seen = look(store, run, trust).map_err(|fault| vec![fault])?;
    let basis = seen.sound()?;
    let (anchor, manifest) = (basis.anchor, basis.manifest);
    let Some(manifest) = manifest else {
        return Ok(Taken::default());
    };
    let mut log = ApprovalLog::open(lock.as_fd(), anchor, order.key).map_err(|fault| vec![fault])?;

    let mut scans = Vec::new();
    for look in &mut seen.looks {
        let wanted = order.layers.iter().find(|(number, _)| *number == look.captured.number);
        if let (Some((_, options)), Some(scanned)) = (wanted, look.scanned.take()) {
            scans.push((&look.captured, options, scanned));
        }
    }
    let layers: Vec<Layer<'_>> = scans.iter().map(|(captured, ..)| captured.as_layer()).collect();
    let mut ready: Vec<Ready<'_>> = Vec::new();
    let mut conflicts = Vec::new();
    for ((captured, options, scanned), layer) in scans.into_iter().zip(&layers) {
        match changes::prepare(layer, scanned, options) {
            Ok(prepared) => ready.push(Ready {
                captured,
                options,
                prepared,
            }),
            Err(faults) => conflicts.extend(faults),
        }
    }
    if !conflicts.is_empty() {
        let refused = Refused {
            by: order.by.clone(),
            manifest,
            named: order
                .layers
                .iter()
                .flat_map(|(_, options)| options.only.clone())
                .collect(),
            refused: reasons(&conflicts),
        };
        // That the refusal could not be recorded stands beside it, not in its place.
        conflicts.extend(log.append(APPLY_REFUSED, &refused).err());
        return Err(conflicts);
    }
    if ready.iter().all(|ready| ready.prepared.paths().is_empty()) {
        let done = ready
            .into_iter()
            .map(|r| (r.captured.number, r.prepared.outcome().clone()));
        return Ok(Taken {
            done: done.collect(),
            faults: Vec::new(),
        });
    }
    let intent = Intent {
        by: order.by.clone(),
        manifest,
        directories: ready.iter().map(Ready::planned).collect(),
    };
    let intent = log.append(APPLY_INTENT, &intent).map_err(|fault| vec![fault])?;
    let mut taken = Taken::default();
    let mut directories = Vec::new();
    for Ready { captured, prepared, .. } in ready {
        // After a failure nothing more is begun.
        let (applied, faults) = match taken.faults.is_empty() {
            true => prepared.write(),
            false => (prepared.outcome().clone(), Vec::new()),
        };
        if faults.is_empty() && taken.faults.is_empty() {
            taken.faults.extend(finish_session(captured).err());
        }
        taken.faults.extend(faults);
        directories.push(settled(captured, &applied));
        taken.done.push((captured.number, applied));
    }
    let outcome = Outcome {
        intent,
        complete: taken.faults.is_empty(),
        directories,
        faults: reasons(&taken.faults),
    };
    taken.faults.extend(log.append(APPLY_OUTCOME, &outcome).err());
    Ok(taken)
}

struct Ready<'a> {
    captured: &'a CapturedLayer,
    options: &'a ApplyOptions,
    prepared: Prepared<'a>,
}

impl Ready<'_> {
    fn planned(&self) -> Planned {
        Planned {
            source: self.captured.source.display().to_string(),
            named: self.options.only.clone(),
            paths: self.prepared.paths(),
        }
    }
}

fn settled(captured: &CapturedLayer, applied: &Applied) -> Settled {
    let notes = |notes: &[changes::Note]| {
        let reason = |note: &changes::Note| Reason {
            path: note.path.clone(),
            reason: note.reason.clone(),
        };
        notes.iter().map(reason).collect()
    };
    Settled {
        source: captured.source.display().to_string(),
        applied: applied.applied.clone(),
        refused: notes(&applied.pending),
        skipped: notes(&applied.skipped),
    }
}

fn reasons(faults: &[Fault]) -> Vec<Reason> {
    let reason = |fault: &Fault| Reason {
        path: fault.path.clone(),
        reason: fault.found.clone(),
    };
    faults.iter().map(reason).collect()
}

/// A session's run must not write to the layer meanwhile.
fn lock_session(store: &Store, run: &RunDir) -> Result<Option<OwnedFd>, Vec<Fault>> {
    match run.bundle().and_then(|bundle| bundle.filesystem_plan.session) {
        Some(name) => match store.session(&name) {
            Ok((_, lock)) => Ok(Some(lock)),
            Err(fault) => Err(vec![fault]),
        },
        None => Ok(None),
    }
}

/// A session's layer of which all is on the host is emptied: the next run sees the host as it then is, and what the host
/// changes until then is no conflict. Where anything is left, the layer stays as it is.
fn finish_session(captured: &CapturedLayer) -> Result<(), Fault> {
    if captured.session.is_none() {
        return Ok(());
    }
    let left = changes::scan(&captured.as_layer())?;
    match captured.upper.parent() {
        Some(own) if left.iter().all(|change| change.kind == Kind::Opaque) => session::clear(own).map_err(|e| {
            let found = format!("{} cannot be removed: {e}", own.display());
            Fault::new(
                Code::Run001,
                "session",
                found,
                "all of it is applied; remove it by hand",
            )
        }),
        _ => Ok(()),
    }
}

/// The key that signs an approval: the named one; else the approver's default where the run is signed too.
pub fn key(keys: &Path, name: Option<&str>, signed: bool) -> Result<Option<SigningKey>, Fault> {
    let store = KeyStore::open(keys);
    if name.is_none() && !signed {
        return Ok(None);
    }
    // From here on nobody else of this user may look into this process, which is about to hold a key.
    sr_kernel::process::set_not_dumpable()
        .map_err(|e| Fault::new(Code::Run001, "evidence.key", format!("PR_SET_DUMPABLE: {e}"), ""))?;
    match name {
        Some(name) => store.signing_key(name).map(Some),
        None => store.default_key().map(Some),
    }
}

/// Who asks: this process's user, and the one who logged in.
pub fn approver() -> By {
    let uid = rustix::process::getuid().as_raw();
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    let users = fs::read("/etc/passwd").unwrap_or_default();
    let login = fs::read_to_string("/proc/self/loginuid").ok();
    let login = login.and_then(|text| text.trim().parse().ok());
    By {
        uid,
        user: String::from_utf8_lossy(&users).lines().find_map(named),
        // The kernel's word for "nobody logged in".
        login_uid: login.filter(|uid| *uid != u32::MAX),
    }
}
