//! Programs that are not ours accept our evidence, and refuse it when it was touched: openssl, and Python's
//! securesystemslib. Where one is not installed its test is a skip that says so.

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use sr_common::Digest;
use sr_evidence::approval::{APPLY_REFUSED, APPROVAL_TYPE, ApprovalLog, By, Refused};
use sr_evidence::attestation::{STATEMENT_MEDIA_TYPE, SigstoreBundle};
use sr_evidence::dsse::{Envelope, pre_authentication_encoding};
use sr_evidence::files;
use sr_evidence::key::{Algorithm, SigningKey};
use sr_evidence::keystore::KeyStore;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

type Outcome = Result<Completion, Failed>;

fn main() {
    let trials = vec![
        Trial::ignorable_test("openssl_verifies_ecdsa", || {
            openssl_verifies(Algorithm::EcdsaP256, attested)
        }),
        Trial::ignorable_test("openssl_verifies_ed25519", || {
            openssl_verifies(Algorithm::Ed25519, attested)
        }),
        Trial::ignorable_test("openssl_verifies_approvals", || {
            openssl_verifies(Algorithm::EcdsaP256, approved)
        }),
        Trial::ignorable_test("openssl_reads_our_keys", openssl_reads_our_keys),
        Trial::ignorable_test("we_read_openssl_keys", we_read_openssl_keys),
        Trial::ignorable_test("securesystemslib_verifies", securesystemslib_verifies),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

/// Why `program` cannot be used here, if so.
fn absent(program: &str, arguments: &[&str]) -> Option<Completion> {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(Completion::ignored_with(format!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
                .lines()
                .last()
                .unwrap_or_default()
        ))),
        Err(e) => Some(Completion::ignored_with(format!("{program}: {e}"))),
    }
}

fn succeeds(program: &str, arguments: &[&str]) -> Result<bool, Failed> {
    Ok(Command::new(program).args(arguments).output()?.status.success())
}

fn envelope(run: &support::Run) -> Result<Envelope, Failed> {
    Ok(serde_json::from_slice::<SigstoreBundle>(&run.read(files::ATTESTATION))?.dsse_envelope)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// What is signed, and the signature.
struct Signed {
    payload_type: &'static str,
    payload: Vec<u8>,
    signature: String,
}

fn attested(run: &support::Run, _: &SigningKey) -> Result<Signed, Failed> {
    let envelope = envelope(run)?;
    Ok(Signed {
        payload_type: STATEMENT_MEDIA_TYPE,
        payload: envelope.open(STATEMENT_MEDIA_TYPE)?,
        signature: envelope.signatures[0].sig.clone(),
    })
}

/// As a stranger's tool would: the payload is cut out of the line as it stands there.
fn approved(run: &support::Run, key: &SigningKey) -> Result<Signed, Failed> {
    let dir = files::open_dir(run.dir.path())?;
    let anchor = run.verify(&[key]).told.ok_or("no report")?.anchor;
    let refused = Refused {
        by: By {
            uid: 1000,
            user: None,
            login_uid: None,
        },
        manifest: Digest::ZERO,
        named: vec!["odd \",\"signatures\":[] name".into()],
        refused: Vec::new(),
    };
    ApprovalLog::open(dir.as_fd(), anchor, Some(key))
        .and_then(|mut log| log.append(APPLY_REFUSED, &refused))
        .map_err(|fault| fault.to_string())?;
    let line = String::from_utf8(run.read(files::APPROVALS))?;
    let (payload, _) = line.rsplit_once(",\"signatures\":").ok_or("no signatures")?;
    let value: serde_json::Value = serde_json::from_str(&line)?;
    Ok(Signed {
        payload_type: APPROVAL_TYPE,
        payload: payload.strip_prefix("{\"event\":").ok_or("no event")?.into(),
        signature: value["signatures"][0]["sig"].as_str().ok_or("no signature")?.into(),
    })
}

fn openssl_verifies(algorithm: Algorithm, what: fn(&support::Run, &SigningKey) -> Result<Signed, Failed>) -> Outcome {
    if let Some(skip) = absent("openssl", &["version"]) {
        return Ok(skip);
    }
    let signer = SigningKey::generate(algorithm)?;
    let run = support::run(1, Some(&signer));
    let Signed {
        payload_type,
        payload,
        signature: base64,
    } = what(&run, &signer)?;
    let (signed, signature, key) = (run.path("pae"), run.path("sig"), run.path(files::SIGNER));
    std::fs::write(&signature, STANDARD.decode(&base64)?)?;
    let verify = |bytes: &[u8]| -> Result<bool, Failed> {
        std::fs::write(&signed, bytes)?;
        match algorithm {
            Algorithm::EcdsaP256 => succeeds(
                "openssl",
                &[
                    "dgst",
                    "-sha256",
                    "-verify",
                    text(&key),
                    "-signature",
                    text(&signature),
                    text(&signed),
                ],
            ),
            Algorithm::Ed25519 => succeeds(
                "openssl",
                &[
                    "pkeyutl",
                    "-verify",
                    "-pubin",
                    "-inkey",
                    text(&key),
                    "-rawin",
                    "-in",
                    text(&signed),
                    "-sigfile",
                    text(&signature),
                ],
            ),
        }
    };
    let mut bytes = pre_authentication_encoding(payload_type, &payload);
    if !verify(&bytes)? {
        return Err("openssl refuses our signature".into());
    }
    bytes[60] ^= 1;
    if verify(&bytes)? {
        return Err("openssl accepts a changed statement".into());
    }
    Ok(Completion::Completed)
}

fn openssl_reads_our_keys() -> Outcome {
    if let Some(skip) = absent("openssl", &["version"]) {
        return Ok(skip);
    }
    let dir = tempfile::tempdir()?;
    let store = KeyStore::open(dir.path().join("keys"));
    for (name, algorithm) in [("p", Algorithm::EcdsaP256), ("e", Algorithm::Ed25519)] {
        let key = store.generate(name, algorithm).map_err(|e| e.to_string())?;
        let file = store.path().join(format!("{name}.key"));
        let output = Command::new("openssl")
            .args(["pkey", "-in", text(&file), "-pubout"])
            .output()?;
        if String::from_utf8(output.stdout)? != key.to_pem() {
            return Err(format!("openssl derives another public key for {algorithm}").into());
        }
    }
    Ok(Completion::Completed)
}

fn we_read_openssl_keys() -> Outcome {
    if let Some(skip) = absent("openssl", &["version"]) {
        return Ok(skip);
    }
    for arguments in [
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"][..],
        &["-algorithm", "ED25519"],
    ] {
        let output = Command::new("openssl").arg("genpkey").args(arguments).output()?;
        let key = SigningKey::from_pkcs8_pem(&String::from_utf8(output.stdout)?)?;
        if !key.public().verify(b"m", &key.sign(b"m")?) {
            return Err("its public half is another's".into());
        }
    }
    let output = Command::new("openssl")
        .args(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"])
        .output()?;
    match SigningKey::from_pkcs8_pem(&String::from_utf8(output.stdout)?) {
        Ok(_) => Err("a P-384 key was taken".into()),
        Err(_) => Ok(Completion::Completed),
    }
}

const PYTHON: &str = r#"
import json, sys
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
bundle, pem = sys.argv[1:]
raw = json.load(open(bundle))["dsseEnvelope"]
keyid = raw["signatures"][0]["keyid"]
envelope = Envelope.from_dict(raw)
key = SSlibKey.from_crypto(load_pem_public_key(open(pem, "rb").read()), keyid=keyid)
envelope.verify([key], 1)
"#;

fn securesystemslib_verifies() -> Outcome {
    let python = std::env::var("SAFE_RUN_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    if let Some(skip) = absent(&python, &["-c", "import securesystemslib.signer, cryptography"]) {
        return Ok(skip);
    }
    for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
        let run = support::run(1, Some(&SigningKey::generate(algorithm)?));
        let (bundle, key) = (run.path(files::ATTESTATION), run.path(files::SIGNER));
        let arguments = ["-c", PYTHON, text(&bundle), text(&key)];
        let output = Command::new(&python).args(arguments).output()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("securesystemslib refuses our {algorithm} attestation: {why}").into());
        }
        let other = support::run(2, Some(&SigningKey::generate(algorithm)?));
        run.write(files::SIGNER, &other.read(files::SIGNER));
        if succeeds(&python, &arguments)? {
            return Err("securesystemslib accepts a stranger's key".into());
        }
    }
    Ok(Completion::Completed)
}
