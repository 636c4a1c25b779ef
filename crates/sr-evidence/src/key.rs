//! Signing and verifying keys: ECDSA P-256 (DER signatures over SHA-256) and Ed25519.
//! In files they are PKCS#8 and SubjectPublicKeyInfo, as openssl and cosign write and read them.
//!
//! Signatures by P-256 are made by `ring`: three of them stand on the path of every run, and it makes one in a tenth
//! of the time of `p256`, which reads, writes and verifies.

use p256::SecretKey;
use p256::ecdsa::VerifyingKey;
use p256::ecdsa::signature::Verifier;
use p256::elliptic_curve::rand_core::OsRng;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use p256::pkcs8::der::{Decode, pem::PemLabel};
use p256::pkcs8::{Document, EncodePrivateKey, LineEnding, ObjectIdentifier, PrivateKeyInfo, SecretDocument};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sr_common::digest::hex;
use std::fmt;
use zeroize::Zeroizing;

const OID_EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const OID_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const OID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// All that stands before the point in a P-256 SubjectPublicKeyInfo (RFC 5480). DER has one spelling.
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// The same for Ed25519 (RFC 8410).
const SPKI_ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
    Ed25519,
}

impl Algorithm {
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::EcdsaP256 => "ecdsa-p256",
            Algorithm::Ed25519 => "ed25519",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Algorithm::EcdsaP256, Algorithm::Ed25519]
            .into_iter()
            .find(|a| a.as_str() == text)
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A key that can verify.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    /// SubjectPublicKeyInfo, DER.
    spki: Vec<u8>,
    key_id: String,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm, self.key_id)
    }
}

impl PublicKey {
    /// Reads `-----BEGIN PUBLIC KEY-----`. The point must be on the curve, uncompressed.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let (label, document) = Document::from_pem(pem.trim()).map_err(|e| format!("not a PEM public key: {e}"))?;
        if label != "PUBLIC KEY" {
            return Err(format!("holds {label:?}, not a PUBLIC KEY"));
        }
        Self::from_spki(document.as_bytes())
    }

    /// Reads a SubjectPublicKeyInfo in DER.
    pub fn from_spki(der: &[u8]) -> Result<Self, String> {
        let key = if der.starts_with(&SPKI_P256) && der.len() == SPKI_P256.len() + 65 {
            Self::from_parts(Algorithm::EcdsaP256, &der[SPKI_P256.len()..])
        } else if der.starts_with(&SPKI_ED25519) && der.len() == SPKI_ED25519.len() + 32 {
            Self::from_parts(Algorithm::Ed25519, &der[SPKI_ED25519.len()..])
        } else {
            return Err("neither an (uncompressed) ECDSA P-256 nor an Ed25519 public key".into());
        };
        let valid = match key.algorithm {
            Algorithm::EcdsaP256 => key.p256().is_some(),
            Algorithm::Ed25519 => key.ed25519().is_some(),
        };
        if valid {
            Ok(key)
        } else {
            Err("not a point of its curve".into())
        }
    }

    fn from_parts(algorithm: Algorithm, raw: &[u8]) -> Self {
        let prefix: &[u8] = match algorithm {
            Algorithm::EcdsaP256 => &SPKI_P256,
            Algorithm::Ed25519 => &SPKI_ED25519,
        };
        let spki = [prefix, raw].concat();
        let key_id = hex(&Sha256::digest(&spki));
        PublicKey {
            algorithm,
            spki,
            key_id,
        }
    }

    pub fn to_pem(&self) -> String {
        // Encoding a document of under a hundred bytes cannot fail.
        Document::try_from(self.spki.as_slice())
            .and_then(|document| document.to_pem("PUBLIC KEY", LineEnding::LF))
            .unwrap_or_default()
    }

    /// SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo, 64 lower-case hex digits.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.algorithm {
            Algorithm::EcdsaP256 => {
                let Ok(signature) = p256::ecdsa::Signature::from_der(signature) else {
                    return false;
                };
                self.p256().is_some_and(|key| key.verify(message, &signature).is_ok())
            }
            Algorithm::Ed25519 => {
                let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else {
                    return false;
                };
                self.ed25519()
                    .is_some_and(|key| key.verify_strict(message, &signature).is_ok())
            }
        }
    }

    fn p256(&self) -> Option<VerifyingKey> {
        VerifyingKey::from_sec1_bytes(&self.spki[SPKI_P256.len()..]).ok()
    }

    fn ed25519(&self) -> Option<ed25519_dalek::VerifyingKey> {
        let raw = self.spki[SPKI_ED25519.len()..].try_into().ok()?;
        ed25519_dalek::VerifyingKey::from_bytes(raw).ok()
    }
}

/// A key that can sign. Its secret is wiped when it is dropped, except for the copy that `ring` signs P-256 with: who
/// holds one must not be readable by others (the supervisor is not dumpable, and ends soon).
pub struct SigningKey {
    secret: Secret,
    public: PublicKey,
}

enum Secret {
    P256 { secret: SecretKey, pair: Box<EcdsaKeyPair> },
    Ed25519(Box<ed25519_dalek::SigningKey>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signing key {:?}", self.public)
    }
}

impl SigningKey {
    pub fn generate(algorithm: Algorithm) -> Result<Self, String> {
        match algorithm {
            Algorithm::EcdsaP256 => {
                let secret = SecretKey::random(&mut OsRng);
                let point = secret.public_key().to_encoded_point(false);
                Self::p256(secret, point.as_bytes())
            }
            Algorithm::Ed25519 => Ok(Self::ed25519(ed25519_dalek::SigningKey::generate(&mut OsRng))),
        }
    }

    /// `point` is the public half, uncompressed; it must be the secret's.
    fn p256(secret: SecretKey, point: &[u8]) -> Result<Self, String> {
        let scalar = Zeroizing::new(secret.to_bytes());
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &scalar,
            point,
            &SystemRandom::new(),
        )
        .map_err(|e| format!("its two halves are not one P-256 key: {e}"))?;
        Ok(SigningKey {
            public: PublicKey::from_parts(Algorithm::EcdsaP256, point),
            secret: Secret::P256 {
                secret,
                pair: Box::new(pair),
            },
        })
    }

    fn ed25519(secret: ed25519_dalek::SigningKey) -> Self {
        let public = PublicKey::from_parts(Algorithm::Ed25519, secret.verifying_key().as_bytes());
        SigningKey {
            public,
            secret: Secret::Ed25519(Box::new(secret)),
        }
    }

    /// Reads `-----BEGIN PRIVATE KEY-----` (PKCS#8, not encrypted).
    pub fn from_pkcs8_pem(pem: &str) -> Result<Self, String> {
        let (label, document) =
            SecretDocument::from_pem(pem.trim()).map_err(|e| format!("not a PEM private key: {e}"))?;
        if label != PrivateKeyInfo::PEM_LABEL {
            return Err(format!("holds {label:?}, not an unencrypted PKCS#8 PRIVATE KEY"));
        }
        let info = PrivateKeyInfo::try_from(document.as_bytes()).map_err(|e| format!("not PKCS#8: {e}"))?;
        let parameters = info.algorithm.parameters_oid().ok();
        match (info.algorithm.oid, parameters) {
            (OID_EC, Some(OID_P256)) => {
                let key = sec1::EcPrivateKey::from_der(info.private_key).map_err(|e| format!("not an EC key: {e}"))?;
                let secret = SecretKey::from_slice(key.private_key).map_err(|_| "not a P-256 secret".to_owned())?;
                match key.public_key {
                    Some(point) if point.len() == 65 && point[0] == 4 => Self::p256(secret, point),
                    _ => {
                        let point = secret.public_key().to_encoded_point(false);
                        Self::p256(secret, point.as_bytes())
                    }
                }
            }
            (OID_ED25519, None) => ed25519_dalek::SigningKey::try_from(info)
                .map(Self::ed25519)
                .map_err(|e| format!("not an Ed25519 key: {e}")),
            (other, _) => Err(format!("neither an ECDSA P-256 nor an Ed25519 key (algorithm {other})")),
        }
    }

    pub fn to_pkcs8_pem(&self) -> Result<Zeroizing<String>, String> {
        match &self.secret {
            Secret::P256 { secret, .. } => secret.to_pkcs8_pem(LineEnding::LF).map_err(|e| e.to_string()),
            Secret::Ed25519(secret) => {
                // Version 1 (RFC 8410 without the public key): OpenSSL 3.0 does not read version 2.
                let bytes = ed25519_dalek::pkcs8::KeypairBytes {
                    secret_key: secret.to_bytes(),
                    public_key: None,
                };
                bytes.to_pkcs8_pem(LineEnding::LF).map_err(|e| e.to_string())
            }
        }
    }

    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    pub fn key_id(&self) -> &str {
        self.public.key_id()
    }

    pub fn algorithm(&self) -> Algorithm {
        self.public.algorithm
    }

    /// Signs `message`: ECDSA in DER over its SHA-256, Ed25519 as 64 bytes.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        match &self.secret {
            Secret::P256 { pair, .. } => pair
                .sign(&SystemRandom::new(), message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(|_| "no random numbers for an ECDSA signature".to_owned()),
            Secret::Ed25519(secret) => {
                use ed25519_dalek::Signer;
                Ok(secret.sign(message).to_bytes().to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6979 A.2.5: the key, its public half, and a signature of "sample" with SHA-256.
    #[test]
    fn published_key_and_signature() {
        let secret = SecretKey::from_slice(&[
            0xC9, 0xAF, 0xA9, 0xD8, 0x45, 0xBA, 0x75, 0x16, 0x6B, 0x5C, 0x21, 0x57, 0x67, 0xB1, 0xD6, 0x93, 0x4E, 0x50,
            0xC3, 0xDB, 0x36, 0xE8, 0x9B, 0x12, 0x7B, 0x8A, 0x62, 0x2B, 0x12, 0x0F, 0x67, 0x21,
        ])
        .unwrap();
        let point = secret.public_key().to_encoded_point(false);
        assert_eq!(
            hex(&point.as_bytes()[1..]).to_uppercase(),
            "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6\
             7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"
        );
        let key = SigningKey::p256(secret, point.as_bytes()).unwrap();
        let published = p256::ecdsa::Signature::from_scalars(
            hex_literal("EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"),
            hex_literal("F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"),
        )
        .unwrap();
        assert!(key.public().verify(b"sample", published.to_der().as_bytes()));
        assert!(key.public().verify(b"sample", &key.sign(b"sample").unwrap()));
    }

    fn hex_literal(text: &str) -> [u8; 32] {
        std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    #[test]
    fn halves_of_two_keys_are_no_key() {
        let point = SecretKey::random(&mut OsRng).public_key().to_encoded_point(false);
        let other = SigningKey::p256(SecretKey::random(&mut OsRng), point.as_bytes());
        assert!(other.unwrap_err().contains("not one P-256 key"));
    }

    #[test]
    fn keys_survive_their_files_and_sign_as_before() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let key = SigningKey::generate(algorithm).unwrap();
            let again = SigningKey::from_pkcs8_pem(&key.to_pkcs8_pem().unwrap()).unwrap();
            assert_eq!(again.public(), key.public());
            assert!(key.public().verify(b"m", &again.sign(b"m").unwrap()));
            let public = PublicKey::from_pem(&key.public().to_pem()).unwrap();
            assert_eq!(&public, key.public());
            let mut signature = again.sign(b"m").unwrap();
            assert!(public.verify(b"m", &signature));
            assert!(!public.verify(b"n", &signature));
            signature[20] ^= 1;
            assert!(!public.verify(b"m", &signature));
            assert!(!public.verify(b"m", b""));
            assert!(
                !SigningKey::generate(algorithm)
                    .unwrap()
                    .public()
                    .verify(b"m", &again.sign(b"m").unwrap())
            );
        }
    }

    #[test]
    fn other_things_are_not_keys() {
        let key = SigningKey::generate(Algorithm::EcdsaP256).unwrap();
        assert!(
            PublicKey::from_pem(&key.to_pkcs8_pem().unwrap())
                .unwrap_err()
                .contains("PRIVATE KEY")
        );
        assert!(
            SigningKey::from_pkcs8_pem(&key.public().to_pem())
                .unwrap_err()
                .contains("PUBLIC KEY")
        );
        assert!(PublicKey::from_pem("").is_err());
        let mut off_curve = key.public().spki().to_vec();
        off_curve[90] ^= 1;
        assert!(PublicKey::from_spki(&off_curve).unwrap_err().contains("curve"));
        assert!(PublicKey::from_spki(&key.public().spki()[..80]).is_err());
    }
}
