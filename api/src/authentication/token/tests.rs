use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use events::UserId;
use jsonwebtoken::get_current_timestamp;
use proptest::prelude::*;
use ring::hmac;
use serde_json::json;

use super::*;
use crate::secret::Secret;

const SECRET: &str = "a secret of thirty-two bytes, or more";

fn tokens() -> Tokens {
    Tokens::new(Key::from_secret(&Secret::from(SECRET.to_owned())).unwrap(), None, None)
}

fn user(tokens: &Tokens, token: &str) -> Result<UserId, TokenError> {
    tokens.proof(token).map(|proof| proof.user)
}

fn sign(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let message = format!(
        "{}.{}",
        encode(header.to_string().as_bytes()),
        encode(claims.to_string().as_bytes())
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    format!("{message}.{}", encode(hmac::sign(&key, message.as_bytes()).as_ref()))
}

fn with_claims(claims: &Value) -> String {
    sign(&json!({ "alg": "HS256" }), claims, SECRET.as_bytes())
}

/// `offset` seconds from now.
fn at(offset: i64) -> u64 {
    get_current_timestamp().saturating_add_signed(offset)
}

#[test]
fn a_token_holds_from_nbf_to_exp_and_clocks_may_differ_a_little() {
    let leeway = i64::try_from(LEEWAY_SECONDS).unwrap();
    let user = |claims: Value| user(&tokens(), &with_claims(&claims));
    let good = Ok(UserId(7));
    assert_eq!(user(json!({ "sub": "7", "exp": at(60) })), good);
    assert_eq!(user(json!({ "sub": "7", "exp": at(10 - leeway) })), good);
    assert_eq!(user(json!({ "sub": "7", "exp": at(-10 - leeway) })), Err(TokenError::Expired));
    assert_eq!(user(json!({ "sub": "7", "exp": at(90), "nbf": at(leeway - 10) })), good);
    let early = user(json!({ "sub": "7", "exp": at(90), "nbf": at(leeway + 10) }));
    assert_eq!(early, Err(TokenError::Early));
}

#[test]
fn a_token_that_never_expires_is_refused() {
    for claims in [
        json!({ "sub": "7" }),
        json!({ "sub": "7", "exp": null }),
        json!({ "sub": "7", "exp": "tomorrow" }),
        json!({ "sub": "7", "exp": -1 }),
    ] {
        let refused = user(&tokens(), &with_claims(&claims));
        assert_eq!(refused, Err(TokenError::Claim("exp".to_owned())), "{claims}");
    }
    let claims = json!({ "sub": "7", "exp": at(60), "nbf": "yesterday" });
    let refused = user(&tokens(), &with_claims(&claims));
    assert_eq!(refused, Err(TokenError::Claim("nbf".to_owned())));
}

#[test]
fn a_subject_is_a_user_id_and_nothing_else() {
    for sub in [
        json!(null),
        json!(7),
        json!(""),
        json!("ada"),
        json!("0"),
        json!("-7"),
        json!("9223372036854775808"),
        json!("7 "),
        json!("7.0"),
    ] {
        let refused = user(&tokens(), &with_claims(&json!({ "sub": sub, "exp": at(60) })));
        assert_eq!(refused, Err(TokenError::Subject), "{sub}");
    }
    let without = user(&tokens(), &with_claims(&json!({ "exp": at(60) })));
    assert_eq!(without, Err(TokenError::Subject));
    let largest = json!({ "sub": i64::MAX.to_string(), "exp": at(60) });
    assert_eq!(user(&tokens(), &with_claims(&largest)), Ok(UserId(i64::MAX)));
}

#[test]
fn a_token_for_another_service_is_refused() {
    let key = || Key::from_secret(&Secret::from(SECRET.to_owned())).unwrap();
    let (named, nameless) =
        (Tokens::new(key(), Some("rookery"), None), Tokens::new(key(), None, None));
    let token = |aud: Value| with_claims(&json!({ "sub": "7", "exp": at(60), "aud": aud }));
    for aud in [json!("rookery"), json!(["billing", "rookery"])] {
        assert_eq!(user(&named, &token(aud.clone())), Ok(UserId(7)));
        assert_eq!(user(&nameless, &token(aud)), Err(TokenError::Audience));
    }
    for aud in [json!("billing"), json!([])] {
        assert_eq!(user(&named, &token(aud)), Err(TokenError::Audience));
    }
    let without = with_claims(&json!({ "sub": "7", "exp": at(60) }));
    assert_eq!(user(&named, &without), Err(TokenError::Claim("aud".to_owned())));
}

#[test]
fn what_a_token_says_about_its_algorithm_does_not_matter() {
    let claims = json!({ "sub": "7", "exp": at(60) });
    for alg in ["none", "None", "HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256", ""] {
        let token = sign(&json!({ "alg": alg }), &claims, SECRET.as_bytes());
        let unsigned = format!("{}.", token.rsplit_once('.').unwrap().0);
        for token in [&token, &unsigned] {
            assert_eq!(user(&tokens(), token), Err(TokenError::Untrusted("HS256")), "{alg}");
        }
    }
}

#[test]
fn the_text_of_a_public_key_is_no_secret() {
    for pem in [
        include_str!("../../../tests/keys/rsa.pem"),
        include_str!("../../../tests/keys/p256.pem"),
        include_str!("../../../tests/keys/ed25519.pem"),
    ] {
        let tokens = Tokens::new(Key::from_pem(pem).unwrap(), None, None);
        let bytes = tokens.key.decoding.try_get_as_bytes().unwrap().to_vec();
        for secret in [pem.as_bytes(), pem.trim().as_bytes(), &bytes] {
            for alg in ["HS256", tokens.algorithm()] {
                let claims = json!({ "sub": "7", "exp": at(60) });
                let forged = sign(&json!({ "alg": alg }), &claims, secret);
                let untrusted = Err(TokenError::Untrusted(tokens.algorithm()));
                assert_eq!(user(&tokens, &forged), untrusted, "{alg}");
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_but_a_token_is_a_token(text in ".{0,200}", parts in "[a-zA-Z0-9_.-]{0,200}") {
        prop_assert!(user(&tokens(), &text).is_err());
        prop_assert!(user(&tokens(), &parts).is_err());
    }

    #[test]
    fn a_token_that_was_changed_is_refused(place in any::<prop::sample::Index>(), byte in "[a-zA-Z0-9_-]") {
        let token = with_claims(&json!({ "sub": "7", "exp": at(60) }));
        let place = place.index(token.len());
        let mut changed = token.clone();
        changed.replace_range(place..=place, &byte);
        prop_assume!(changed != token);
        prop_assert_eq!(user(&tokens(), &changed), Err(TokenError::Untrusted("HS256")));
    }
}
