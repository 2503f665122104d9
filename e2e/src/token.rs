//! Making tokens, true and false ones. The other side of it, which only checks, is in the api.

use api::authentication::LEEWAY_SECONDS;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use events::UserId;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

/// The keys that were made for the tests: private ones, and the PEM of their public halves.
pub const RSA: (&[u8], &str) =
    (include_bytes!("../../api/tests/keys/rsa.pk8"), include_str!("../../api/tests/keys/rsa.pem"));
pub const P256: (&[u8], &str) = (
    include_bytes!("../../api/tests/keys/p256.pk8"),
    include_str!("../../api/tests/keys/p256.pem"),
);
pub const ED25519: (&[u8], &str) = (
    include_bytes!("../../api/tests/keys/ed25519.pk8"),
    include_str!("../../api/tests/keys/ed25519.pem"),
);

/// Whoever issues tokens.
#[derive(Debug)]
pub enum Issuer {
    Hs256(Vec<u8>),
    Rs256(Box<RsaKeyPair>),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Issuer {
    /// With a secret that the service has too.
    #[must_use]
    pub fn with_secret(secret: &[u8]) -> Self {
        Self::Hs256(secret.to_vec())
    }

    /// With the private half of [`RSA`].
    #[must_use]
    pub fn with_rsa() -> Self {
        Self::Rs256(Box::new(RsaKeyPair::from_pkcs8(RSA.0).expect("the test's key is a key")))
    }

    /// With the private half of [`P256`].
    #[must_use]
    pub fn with_p256() -> Self {
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, P256.0, &SystemRandom::new());
        Self::Es256(pair.expect("the test's key is a key"))
    }

    /// With the private half of [`ED25519`].
    #[must_use]
    pub fn with_ed25519() -> Self {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(ED25519.0);
        Self::EdDsa(pair.expect("the test's key is a key"))
    }

    /// With a key that nobody else has.
    #[must_use]
    pub fn unknown() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("there is entropy");
        Self::EdDsa(Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("it was just made"))
    }

    /// The algorithm's name.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
        }
    }

    /// A token for `user` that holds for a minute.
    #[must_use]
    pub fn token_for(&self, user: UserId) -> String {
        self.token(&json!({ "sub": user.0.to_string(), "exp": seconds_from_now(60) }))
    }

    /// A token for `user` that holds for some seconds only because clocks may differ.
    #[must_use]
    pub fn late_token_for(&self, user: UserId) -> String {
        let late = i64::try_from(LEEWAY_SECONDS).expect("half a minute");
        self.token(&json!({ "sub": user.0.to_string(), "exp": seconds_from_now(6 - late) }))
    }

    /// A token with `claims`.
    #[must_use]
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({ "alg": self.algorithm(), "typ": "JWT" }), claims)
    }

    /// The same with a `header`, which may lie.
    #[must_use]
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.sign(message.as_bytes());
        format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Hs256(secret) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Self::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .expect("the key is long enough");
                signature
            }
            Self::Es256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message);
                signature.expect("there is entropy").as_ref().to_vec()
            }
            Self::EdDsa(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// A time as tokens have it.
#[must_use]
pub fn seconds_from_now(seconds: i64) -> i64 {
    events::Clock::system().now().timestamp() + seconds
}
