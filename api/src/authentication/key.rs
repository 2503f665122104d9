//! The key that tokens are checked with. Its kind, and nothing that a token says, decides on the
//! algorithm.

use jsonwebtoken::{Algorithm, DecodingKey};
use spki::der::asn1::UintRef;
use spki::der::{Any, Decode, DecodePem, Reader, SliceReader};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoOwned};

use crate::secret::Secret;

/// A secret must be as long as what HMAC-SHA256 makes with it (RFC 7518, section 3.2).
pub const SECRET_MIN_BYTES: usize = 32;

/// The moduli of RSA that are accepted, in bits (RFC 7518, section 3.3, and what ring computes with).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;

/// A point of P-256 that is not compressed: a 4 and two numbers of 256 bits.
const P256_POINT_BYTES: usize = 65;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// A key and the one algorithm that goes with it.
#[derive(Debug)]
pub struct Key {
    pub algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// Why something is not a key. None of these says what was given instead.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(
        "JWT_SECRET has {0} bytes and needs at least {SECRET_MIN_BYTES}, or it can be guessed; \
         openssl rand -hex 32 makes one"
    )]
    Short(usize),
    #[error("JWT_PUBLIC_KEY is neither PEM text nor the path of a file that can be read: {0}")]
    Unreadable(std::io::Error),
    #[error(
        "JWT_PUBLIC_KEY is a private key, which belongs to whoever signs tokens and nowhere else; \
         openssl pkey -pubout makes the public one from it"
    )]
    Private,
    #[error(
        "JWT_PUBLIC_KEY has no public key in PEM (-----BEGIN PUBLIC KEY-----); openssl pkey -pubout \
         makes one from a private key"
    )]
    NoKey,
    #[error("JWT_PUBLIC_KEY is an RSA key of {0} bits; it needs 2048 to 8192")]
    RsaSize(usize),
    #[error("JWT_PUBLIC_KEY must be a key for RSA, for ECDSA on P-256, or for Ed25519")]
    Kind,
}

impl Key {
    /// The key for HS256. The bytes of `secret` are the key, as they are.
    ///
    /// # Errors
    /// [`KeyError::Short`]
    pub fn from_secret(secret: &Secret) -> Result<Self, KeyError> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() < SECRET_MIN_BYTES {
            return Err(KeyError::Short(bytes.len()));
        }
        Ok(Self { algorithm: Algorithm::HS256, decoding: DecodingKey::from_secret(bytes) })
    }

    /// The public key that `value` is, or that is in the file which it names.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn from_pem_or_path(value: &str) -> Result<Self, KeyError> {
        if value.trim_start().starts_with("-----BEGIN") {
            return Self::from_pem(value);
        }
        Self::from_pem(&std::fs::read_to_string(value).map_err(KeyError::Unreadable)?)
    }

    /// A public key in PEM, as X.509 has it (SubjectPublicKeyInfo, RFC 5280 section 4.1.2.7).
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let info = SubjectPublicKeyInfoOwned::from_pem(text.trim()).map_err(|_| KeyError::NoKey)?;
        let bytes = info.subject_public_key.as_bytes().ok_or(KeyError::NoKey)?;
        let (algorithm, decoding) = match info.algorithm.oid {
            RSA => {
                let bits = modulus_bits(bytes).map_err(|_| KeyError::NoKey)?;
                if !RSA_BITS.contains(&bits) {
                    return Err(KeyError::RsaSize(bits));
                }
                (Algorithm::RS256, DecodingKey::from_rsa_der(bytes))
            }
            EC if is_p256(&info) && bytes.len() == P256_POINT_BYTES => {
                (Algorithm::ES256, DecodingKey::from_ec_der(bytes))
            }
            ED25519 => (Algorithm::EdDSA, DecodingKey::from_ed_der(bytes)),
            _ => return Err(KeyError::Kind),
        };
        Ok(Self { algorithm, decoding })
    }
}

fn is_p256(info: &SubjectPublicKeyInfoOwned) -> bool {
    let curve = info.algorithm.parameters.as_ref().map(Any::decode_as::<ObjectIdentifier>);
    matches!(curve, Some(Ok(P256)))
}

/// The size of an RSA key: `RSAPublicKey ::= SEQUENCE { modulus, publicExponent }` (RFC 8017).
fn modulus_bits(der: &[u8]) -> spki::der::Result<usize> {
    SliceReader::new(der)?.sequence(|reader| {
        let modulus = UintRef::decode(reader)?;
        UintRef::decode(reader)?;
        let bytes = modulus.as_bytes();
        let unused = bytes.first().map_or(0, |byte| byte.leading_zeros() as usize);
        Ok(bytes.len() * 8 - unused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("../../tests/keys/rsa.pem");

    #[test]
    fn the_kind_of_the_key_decides_on_the_algorithm() {
        let kinds = [
            (RSA, Algorithm::RS256),
            (include_str!("../../tests/keys/p256.pem"), Algorithm::ES256),
            (include_str!("../../tests/keys/ed25519.pem"), Algorithm::EdDSA),
        ];
        for (pem, algorithm) in kinds {
            assert_eq!(Key::from_pem_or_path(pem).unwrap().algorithm, algorithm);
            assert_eq!(Key::from_pem_or_path(&format!("\n{pem}\n")).unwrap().algorithm, algorithm);
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/p256.pem");
        assert_eq!(Key::from_pem_or_path(path).unwrap().algorithm, Algorithm::ES256);
    }

    #[test]
    fn a_key_that_is_weak_or_of_another_kind_is_refused() {
        let weak = Key::from_pem(include_str!("../../tests/keys/rsa_1024.pem"));
        assert!(matches!(weak, Err(KeyError::RsaSize(1_024))), "{weak:?}");
        let others = [
            include_str!("../../tests/keys/secp384r1.pem"),
            include_str!("../../tests/keys/secp256k1.pem"),
            include_str!("../../tests/keys/ed448.pem"),
        ];
        for pem in others {
            assert!(matches!(Key::from_pem(pem), Err(KeyError::Kind)), "{pem}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_in_words_that_do_not_repeat_it() {
        let private = RSA.replace("PUBLIC", "PRIVATE");
        let certificate = RSA.replace("PUBLIC KEY", "CERTIFICATE");
        let cut = &RSA[..RSA.len() / 2];
        for bad in ["", "no/such/file", "-----BEGIN NONSENSE-----", cut, &private, &certificate] {
            let error = Key::from_pem_or_path(bad).unwrap_err().to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
        assert!(matches!(Key::from_pem(&private), Err(KeyError::Private)));
    }

    #[test]
    fn a_secret_that_could_be_guessed_is_refused() {
        let key = |bytes: usize| Key::from_secret(&Secret::from("s".repeat(bytes)));
        assert!(matches!(key(31), Err(KeyError::Short(31))));
        assert_eq!(key(32).unwrap().algorithm, Algorithm::HS256);
    }
}
