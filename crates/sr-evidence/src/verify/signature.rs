//! Judging one signature by the keys that the verifier trusts.

use crate::dsse::Envelope;
use crate::key::PublicKey;

/// What a signature is worth.
pub(super) enum Judgement {
    /// It holds, under a trusted key.
    Trusted,
    /// It holds under the key that lies in the evidence, which proves only that nothing was damaged by accident; or
    /// there is no key to try (`checked: false`).
    Unknown { checked: bool },
    /// It does not hold.
    Bad,
}

/// The key id in the envelope only chooses which key is tried. `enclosed` is `signer.pub`: never a reason to trust.
pub(super) fn judge(envelope: &Envelope, trusted: &[PublicKey], enclosed: Option<&PublicKey>) -> Judgement {
    let named = |key: &&PublicKey| key.key_id() == envelope.key_id();
    if let Some(key) = trusted.iter().find(named) {
        return if envelope.is_signed_by(key) {
            Judgement::Trusted
        } else {
            Judgement::Bad
        };
    }
    match enclosed.filter(|key| named(key)) {
        Some(key) if envelope.is_signed_by(key) => Judgement::Unknown { checked: true },
        Some(_) => Judgement::Bad,
        None => Judgement::Unknown { checked: false },
    }
}
