//! The cryptography of `jsonwebtoken`, done by ring, which the TLS connections use already.
//!
//! jsonwebtoken's own choices are a second library in C beside ring, and one whose RSA leaks through
//! its timing (RUSTSEC-2023-0071). Only checking is needed here: nothing signs, and no key comes as
//! a JWK.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result, new_error};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};

static RING: CryptoProvider = CryptoProvider {
    signer_factory: |_, _| Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    verifier_factory: |algorithm, key| verifier(*algorithm, key),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes ring what `jsonwebtoken` checks with, in the whole process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| RING.install_default().expect("nobody else installs one"));
}

/// **Invariant**: a key is only ever used with its own family of algorithms. The bytes of a public
/// key are no secret, so that as one for HMAC they would let anyone sign.
fn verifier(algorithm: Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    Ok(Box::new(RingVerifier { algorithm, key: key.try_get_as_bytes()?.to_vec() }))
}

struct RingVerifier {
    algorithm: Algorithm,
    key: Vec<u8>,
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(
        &self,
        message: &[u8],
        signature: &Vec<u8>,
    ) -> std::result::Result<(), signature::Error> {
        let by = |method: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(method, &self.key).verify(message, signature)
        };
        let verified = match self.algorithm {
            Algorithm::HS256 => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &self.key), message, signature)
            }
            Algorithm::RS256 => by(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::ES256 => by(&ECDSA_P256_SHA256_FIXED),
            Algorithm::EdDSA => by(&ED25519),
            _ => Err(ring::error::Unspecified),
        };
        verified.map_err(|_| signature::Error::new())
    }
}
