//! DSSE envelopes (secure-systems-lab/dsse v1): one signature over a typed payload.

use crate::key::{PublicKey, SigningKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// Base 64 of the signed bytes.
    pub payload: String,
    pub payload_type: String,
    /// Exactly one.
    pub signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// [`PublicKey::key_id`] of the signer.
    pub keyid: String,
    /// Base 64 of the signature of the pre-authentication encoding.
    pub sig: String,
}

/// The bytes that are signed.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    pub fn sign(payload_type: &str, payload: &[u8], key: &SigningKey) -> Result<Envelope, String> {
        let signature = key.sign(&pre_authentication_encoding(payload_type, payload))?;
        Ok(Envelope {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![Signature {
                keyid: key.key_id().to_owned(),
                sig: STANDARD.encode(signature),
            }],
        })
    }

    /// The payload, if the envelope has this type and one well-formed signature. Says nothing about the signature.
    pub fn open(&self, payload_type: &str) -> Result<Vec<u8>, String> {
        if self.payload_type != payload_type {
            return Err(format!(
                "has payload type {:?}, not {payload_type:?}",
                self.payload_type
            ));
        }
        if self.signatures.len() != 1 {
            return Err(format!("has {} signatures, not one", self.signatures.len()));
        }
        STANDARD
            .decode(&self.payload)
            .map_err(|e| format!("has a payload that is not base 64: {e}"))
    }

    /// Who says to have signed.
    pub fn key_id(&self) -> &str {
        self.signatures.first().map_or("", |s| &s.keyid)
    }

    /// Whether `key` signed this payload under this type.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let [signature] = self.signatures.as_slice() else {
            return false;
        };
        let (Ok(payload), Ok(sig)) = (STANDARD.decode(&self.payload), STANDARD.decode(&signature.sig)) else {
            return false;
        };
        signature.keyid == key.key_id() && key.verify(&pre_authentication_encoding(&self.payload_type, &payload), &sig)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Algorithm;

    /// The example of the DSSE specification (protocol.md).
    #[test]
    fn published_encoding() {
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn type_and_payload_are_signed() {
        let key = SigningKey::generate(Algorithm::Ed25519).unwrap();
        let envelope = Envelope::sign("a", b"x", &key).unwrap();
        assert!(envelope.is_signed_by(key.public()));
        assert_eq!(envelope.open("a").unwrap(), b"x");
        assert!(envelope.open("b").is_err());
        let retyped = Envelope {
            payload_type: "b".into(),
            ..envelope.clone()
        };
        let changed = Envelope {
            payload: STANDARD.encode(b"y"),
            ..envelope.clone()
        };
        let doubled = Envelope {
            signatures: [envelope.signatures.clone(), envelope.signatures.clone()].concat(),
            ..envelope
        };
        for other in [retyped, changed, doubled] {
            assert!(!other.is_signed_by(key.public()));
        }
    }
}
