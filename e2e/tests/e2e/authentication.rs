//! Who is believed to be whom: with `X-User-ID`, and with tokens.

use std::process::Output;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use e2e::client::{Answer, Rookery};
use e2e::database::TestDatabase;
use e2e::live::LiveFeed;
use e2e::process::{Process, run};
use e2e::system::{System, start_api};
use e2e::token::{ED25519, Issuer, P256, RSA, seconds_from_now};
use events::UserId;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

const SECRET: &str = "a secret of thirty-two bytes, or more";

const UNAUTHENTICATED: &str = "Bearer realm=\"rookery\"";
const INVALID_TOKEN: &str = "Bearer realm=\"rookery\", error=\"invalid_token\"";
const INVALID_REQUEST: &str = "Bearer realm=\"rookery\", error=\"invalid_request\"";

/// An api beside the system's own, whose callers send tokens.
async fn with_tokens(system: &System, variables: &[(&str, &str)]) -> (Process, Rookery) {
    start_api(&system.database.url, &system.amqp_url(), variables, &["--no-relay"]).await
}

/// A request that only a caller may make.
fn feed(rookery: &Rookery) -> RequestBuilder {
    rookery.request(Method::GET, "/api/feed", None)
}

fn is_refused(answer: &Answer, status: StatusCode, challenge: &str, why: &str) {
    assert_eq!(answer.status, status, "{why}: {}", answer.body);
    assert_eq!(answer.challenge.as_deref(), Some(challenge), "{why}");
    assert_eq!(answer.content_type, "application/problem+json", "{why}");
    assert!(answer.body["detail"].as_str().is_some_and(|text| !text.is_empty()), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_says_who_is_calling_whatever_kind_of_key_it_is_signed_with() {
    let system = System::start().await;
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    let tweet = system.client.tweet(ada, "mine").await;
    system.caught_up().await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/tests/keys/rsa.pem");
    let kinds = [
        (("JWT_SECRET", SECRET), Issuer::with_secret(SECRET.as_bytes())),
        (("JWT_PUBLIC_KEY", RSA.1), Issuer::with_rsa()),
        (("JWT_PUBLIC_KEY", path), Issuer::with_rsa()),
        (("JWT_PUBLIC_KEY", P256.1), Issuer::with_p256()),
        (("JWT_PUBLIC_KEY", ED25519.1), Issuer::with_ed25519()),
    ];
    for (variable, issuer) in kinds {
        let (mut api, rookery) = with_tokens(&system, &[variable]).await;
        for (user, expected) in [(ada, vec![tweet]), (bob, vec![])] {
            let token = issuer.token_for(user);
            for scheme in ["Bearer", "bearer", "BEARER"] {
                let request = feed(&rookery).header("Authorization", format!("{scheme} {token}"));
                let answer = Answer::of(request).await;
                assert_eq!(answer.status, StatusCode::OK, "{variable:?}: {}", answer.body);
                assert_eq!(answer.ids(), expected);
            }
        }
        // Whoever holds a token of another issuer is nobody here, whatever it says.
        let others = [
            Issuer::unknown(),
            Issuer::with_secret(b"another secret, and no shorter one"),
            Issuer::with_rsa(),
            Issuer::with_p256(),
            Issuer::with_ed25519(),
        ];
        for other in others.iter().filter(|other| other.algorithm() != issuer.algorithm()) {
            let claims = json!({ "sub": ada.0.to_string(), "exp": seconds_from_now(60) });
            for alg in [other.algorithm(), issuer.algorithm()] {
                let token = other.token_with(&json!({ "alg": alg }), &claims);
                let answer = Answer::of(feed(&rookery).bearer_auth(token)).await;
                is_refused(&answer, StatusCode::UNAUTHORIZED, INVALID_TOKEN, alg);
            }
        }
        api.kill().await;
    }
    system.stop().await;
}

/// The public key is no secret. A service that let the token choose the algorithm would take an
/// HMAC made with it for a signature.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    // The key itself begins after so many bytes, which say of what kind it is.
    for ((_, pem), prefix) in [(RSA, 24), (P256, 26), (ED25519, 12)] {
        let (mut api, rookery) = with_tokens(&system, &[("JWT_PUBLIC_KEY", pem)]).await;
        let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = BASE64_STANDARD.decode(base64).unwrap();
        for secret in [pem.as_bytes(), pem.trim().as_bytes(), &der, &der[prefix..]] {
            let token = Issuer::with_secret(secret).token_for(ada);
            let answer = Answer::of(feed(&rookery).bearer_auth(token)).await;
            is_refused(&answer, StatusCode::UNAUTHORIZED, INVALID_TOKEN, pem);
        }
        api.kill().await;
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_in_without_a_token_that_holds() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let issuer = Issuer::with_secret(SECRET.as_bytes());
    let (mut api, rookery) = with_tokens(&system, &[("JWT_SECRET", SECRET)]).await;
    let refused = async |request: RequestBuilder, challenge: &str, why: &str| {
        is_refused(&Answer::of(request).await, StatusCode::UNAUTHORIZED, challenge, why);
    };

    let claims = |sub: Value| json!({ "sub": sub, "exp": seconds_from_now(60) });
    let good = claims(json!("1"));
    let tokens = [
        ("expired", issuer.token(&json!({ "sub": "1", "exp": seconds_from_now(-60) }))),
        ("without an end", issuer.token(&json!({ "sub": "1" }))),
        (
            "not valid yet",
            issuer.token(
                &json!({ "sub": "1", "nbf": seconds_from_now(60), "exp": seconds_from_now(120) }),
            ),
        ),
        ("of another key", Issuer::with_secret(b"another secret, and no shorter one").token(&good)),
        ("of another algorithm", Issuer::with_rsa().token(&good)),
        ("alg HS512", issuer.token_with(&json!({ "alg": "HS512" }), &good)),
        ("alg none", issuer.token_with(&json!({ "alg": "none" }), &good)),
        ("no signature", format!("{}.", issuer.token(&good).rsplit_once('.').unwrap().0)),
        ("for another service", {
            issuer.token(&json!({ "sub": "1", "exp": seconds_from_now(60), "aud": "billing" }))
        }),
        ("without sub", issuer.token(&json!({ "exp": seconds_from_now(60) }))),
        ("sub is a name", issuer.token(&claims(json!("ada")))),
        ("sub is a JSON number", issuer.token(&claims(json!(1)))),
        ("sub is 0", issuer.token(&claims(json!("0")))),
        ("sub is negative", issuer.token(&claims(json!("-1")))),
        ("sub is past 64 bits", issuer.token(&claims(json!("9223372036854775808")))),
        ("claims are no object", issuer.token(&json!("1"))),
        ("garbage", "garbage".to_owned()),
        ("dots", "..".to_owned()),
        ("two tokens", format!("{0}, Bearer {0}", issuer.token(&good))),
    ];
    for (why, token) in &tokens {
        refused(feed(&rookery).bearer_auth(token), INVALID_TOKEN, why).await;
        // No help from a header that is not believed.
        let with_id = feed(&rookery).bearer_auth(token).header("X-User-ID", ada.0);
        refused(with_id, INVALID_TOKEN, why).await;
    }

    let token = issuer.token_for(ada);
    refused(feed(&rookery), UNAUTHENTICATED, "nothing").await;
    let headers = ["garbage", "Bearer", "Bearer ", "Basic YWRhOmFkYQ==", &token, "\u{fe}\u{ff}"];
    for header in headers {
        refused(feed(&rookery).header("Authorization", header), UNAUTHENTICATED, header).await;
    }
    let alone = Answer::of(feed(&rookery).header("X-User-ID", ada.0)).await;
    is_refused(&alone, StatusCode::UNAUTHORIZED, UNAUTHENTICATED, "X-User-ID alone");
    assert!(alone.body["detail"].as_str().unwrap().contains("X-User-ID is not believed"));

    let twice = feed(&rookery).bearer_auth(&token).header("Authorization", "Bearer garbage");
    is_refused(&Answer::of(twice).await, StatusCode::BAD_REQUEST, INVALID_REQUEST, "two headers");

    // All of this was about the token: with it, and whatever X-User-ID says, Ada is Ada.
    let request = rookery.request(Method::POST, "/api/tweets", None).bearer_auth(&token);
    let body = json!({ "content": "me" });
    let tweet = Answer::of(request.header("X-User-ID", 2).json(&body)).await;
    assert_eq!((tweet.status, &tweet.body["author_id"]), (StatusCode::CREATED, &json!(ada.0)));
    api.kill().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_audience_only_tokens_for_it_are_accepted() {
    let system = System::start().await;
    system.client.register("ada").await;
    system.caught_up().await;
    let issuer = Issuer::with_ed25519();
    let variables = [("JWT_PUBLIC_KEY", ED25519.1), ("JWT_AUDIENCE", "rookery")];
    let (mut api, rookery) = with_tokens(&system, &variables).await;
    let status = async |aud: Value| {
        let claims = json!({ "sub": "1", "exp": seconds_from_now(60), "aud": aud });
        Answer::of(feed(&rookery).bearer_auth(issuer.token(&claims))).await.status
    };
    assert_eq!(status(json!("rookery")).await, StatusCode::OK);
    assert_eq!(status(json!(["billing", "rookery"])).await, StatusCode::OK);
    assert_eq!(status(json!("billing")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(json!(null)).await, StatusCode::UNAUTHORIZED);
    api.kill().await;
    system.stop().await;
}

/// What is one's own stays one's own, however callers say who they are.
#[tokio::test(flavor = "multi_thread")]
async fn only_authors_delete_tweets_and_only_users_delete_themselves() {
    let system = System::start().await;
    let issuer = Issuer::with_p256();
    let (mut api, with_tokens) = with_tokens(&system, &[("JWT_PUBLIC_KEY", P256.1)]).await;
    for mode in ["header", "token"] {
        let request = |path: &str, caller: UserId| {
            if mode == "header" {
                return system.client.request(Method::DELETE, path, Some(caller));
            }
            let token = issuer.token_for(caller);
            with_tokens.request(Method::DELETE, path, None).bearer_auth(token)
        };
        let author = system.client.register(&format!("author_{mode}")).await;
        let other = system.client.register(&format!("other_{mode}")).await;
        let tweet = system.client.tweet(author, "mine").await;
        let head = system.head().await;
        let delete =
            async |path: &str, caller: UserId| Answer::of(request(path, caller)).await.status;
        let (of_tweet, of_user) = (format!("/api/tweets/{tweet}"), format!("/api/users/{author}"));
        assert_eq!(delete(&of_tweet, other).await, StatusCode::NOT_FOUND, "{mode}");
        assert_eq!(delete(&of_user, other).await, StatusCode::FORBIDDEN, "{mode}");
        assert_eq!(system.head().await, head, "{mode}: nothing was appended");
        assert_eq!(delete(&of_tweet, author).await, StatusCode::OK, "{mode}");
        assert_eq!(delete(&of_user, author).await, StatusCode::OK, "{mode}");
        assert_eq!(delete(&of_user, author).await, StatusCode::NOT_FOUND, "{mode}: gone");
    }
    api.kill().await;
    system.stop().await;
}

/// A stream is a request that goes on: for as long as it may.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_token_and_opens_by_a_ticket_too() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let issuer = Issuer::with_p256();
    let (mut api, rookery) = with_tokens(&system, &[("JWT_PUBLIC_KEY", P256.1)]).await;
    let (mut other, elsewhere) = with_tokens(&system, &[("JWT_PUBLIC_KEY", P256.1)]).await;
    let seen = system.caught_up().await;
    let stream = |at: &Rookery, query: &str| {
        at.request(Method::GET, &format!("/api/feed/stream?last_event_id={seen}{query}"), None)
    };
    let ticket_of = async |token: String| {
        let request = rookery.request(Method::POST, "/api/feed/ticket", None).bearer_auth(token);
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["ticket"].as_str().unwrap().to_owned()
    };
    let of_lasting = ticket_of(issuer.token_for(ada)).await;

    // By a ticket, at another api of the same log as well.
    for at in [&rookery, &elsewhere] {
        let opened = stream(at, &format!("&ticket={of_lasting}")).send().await.unwrap();
        let mut live = LiveFeed::of(opened);
        let tweet = system.client.tweet(ada, "hello").await;
        while live.next().await.unwrap() != tweet {}
    }
    // What a token that ends soon has opened ends with it, whichever way.
    let late = issuer.late_token_for(ada);
    let of_late = ticket_of(late.clone()).await;
    let by_token = stream(&rookery, "").bearer_auth(&late).send().await.unwrap();
    let by_ticket = stream(&rookery, &format!("&ticket={of_late}")).send().await.unwrap();
    for opened in [by_token, by_ticket] {
        let mut live = LiveFeed::of(opened);
        while live.told().await.is_some() {}
    }
    let altered = of_lasting.replacen(&format!("{ada}."), "2.", 1);
    for ticket in ["", "x", &altered] {
        let refused = Answer::of(stream(&rookery, &format!("&ticket={ticket}"))).await;
        assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{ticket}");
        assert!(refused.challenge.unwrap().starts_with("Bearer"));
    }
    let nobody = rookery.request(Method::POST, "/api/feed/ticket", None);
    assert_eq!(Answer::of(nobody).await.status, StatusCode::UNAUTHORIZED);
    for log in [api.log(), other.log()] {
        assert!(!log.join("\n").contains(&of_lasting), "a ticket is never logged");
    }
    api.kill().await;
    other.kill().await;
    system.stop().await;
}

/// One line on standard error, exit code 2, and nothing of a secret.
fn is_bad_usage(output: &Output, mentions: &str, secrets: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains(mentions), "{mentions:?} is not in {text}");
    for secret in secrets {
        assert!(!text.contains(secret), "{text}");
    }
}

#[tokio::test]
async fn a_key_that_protects_nothing_is_refused_at_start() {
    // Never opened: usage is looked at first.
    let url = ("DATABASE_URL", "postgres://nobody:hidden@127.0.0.1:1/x");
    let started = async |variables: &[(&str, &str)]| {
        let variables = [&[url, ("AMQP_URL", "amqp://nobody:hidden@127.0.0.1:1")], variables];
        run("api", &["--bind", "127.0.0.1:0"], &variables.concat()).await
    };
    let short = "thirty-one bytes are too short.";
    let refused = [
        (vec![("JWT_SECRET", short)], "at least 32"),
        (vec![("JWT_SECRET", "")], "at least 32"),
        (vec![("JWT_PUBLIC_KEY", "no/such/file")], "neither PEM text nor the path"),
        (vec![("JWT_PUBLIC_KEY", "-----BEGIN NONSENSE-----")], "no public key in PEM"),
        (vec![("JWT_SECRET", SECRET), ("JWT_PUBLIC_KEY", P256.1)], "cannot be used with"),
        (vec![("JWT_SECRET", SECRET), ("TRUST_USER_HEADER", "true")], "exclude each other"),
        (vec![("JWT_AUDIENCE", "rookery")], "required arguments were not provided"),
    ];
    for (variables, mentions) in refused {
        is_bad_usage(&started(&variables).await, mentions, &[short, SECRET, "hidden"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tokens_the_service_may_be_reached_from_other_machines() {
    let database = TestDatabase::create().await;
    let variables = [("JWT_SECRET", SECRET)];
    let arguments = ["--no-relay", "--bind", "0.0.0.0:0"];
    let (mut api, _) = start_api(&database.url, "", &variables, &arguments).await;
    api.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_token_is_logged_or_shown() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let token = Issuer::with_secret(SECRET.as_bytes()).token_for(ada);
    let variables = [("JWT_SECRET", SECRET), ("RUST_LOG", "trace")];
    let (mut api, rookery) = with_tokens(&system, &variables).await;
    let accepted = Answer::of(feed(&rookery).bearer_auth(&token)).await;
    assert_eq!(accepted.status, StatusCode::OK);
    let refused = Answer::of(feed(&rookery).bearer_auth(format!("{token}x"))).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let shown = refused.body.to_string();
    api.signal("-TERM").await;
    assert!(api.ended().await.success());

    let help = run("api", &["--help"], &variables).await;
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--jwt-secret"), "{help}");
    let log = api.log().join("\n");
    assert!(log.contains("finished processing request"), "it logs as much as it can");
    let (_, password) = system.database.url.rsplit_once('@').unwrap().0.rsplit_once(':').unwrap();
    for secret in [SECRET, &token, token.rsplit_once('.').unwrap().1, password] {
        for text in [&log, &help, &shown] {
            assert!(!text.contains(secret), "{secret:?} is in {text}");
        }
    }
    system.stop().await;
}
