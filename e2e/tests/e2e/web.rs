//! The page's files as they are served, and who may ask for them.

use e2e::client::{Answer, Rookery};
use e2e::system::System;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

async fn get(client: &Rookery, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = client.request(Method::GET, path, None);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let name: HeaderName = name.parse().unwrap();
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_served_with_care() {
    let system = System::start().await;
    let client = &system.client;
    let index = get(client, "/", &[]).await;
    assert_eq!(index.status(), StatusCode::OK);
    let headers = index.headers().clone();
    let policy = text(&headers, "content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(text(&headers, "x-content-type-options"), "nosniff");
    assert_eq!(text(&headers, "referrer-policy"), "no-referrer");
    assert_eq!(text(&headers, "cache-control"), "no-cache");
    let etag = text(&headers, "etag").to_owned();
    let page = index.text().await.unwrap();
    assert!(page.contains("data-login=\"user-header\""));
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="));
    let again = get(client, "/", &[("if-none-match", &etag)]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);

    let main = page.split('"').find(|text| text.ends_with("/main.js")).unwrap();
    let plain = get(client, main, &[]).await;
    assert_eq!(text(plain.headers(), "content-type"), "text/javascript; charset=utf-8");
    assert_eq!(text(plain.headers(), "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(text(plain.headers(), "content-encoding"), "");
    let plain = plain.bytes().await.unwrap();
    let compressed = get(client, main, &[("accept-encoding", "gzip")]).await;
    assert_eq!(text(compressed.headers(), "content-encoding"), "gzip");
    assert!(compressed.bytes().await.unwrap().len() < plain.len());

    for path in [
        "/assets/0000000000000000/main.js".to_owned(),
        main.replace("main.js", "main.js.gz"),
        main.replace("main.js", "user-header.html"),
        main.replace("main.js", "../../Cargo.toml"),
        main.replace("main.js", "nothing.js"),
    ] {
        let answer = client.get(&path, None).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.content_type, "application/problem+json", "{path}");
    }
    system.stop().await;
}

/// A web page whose name leads to this machine would otherwise act as any user.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_development_login_other_hosts_and_pages_are_refused() {
    let system = System::start().await;
    let client = &system.client;
    let ada = client.register("ada").await;
    let body = json!({ "content": "not by me" });
    let host = client.base.strip_prefix("http://").unwrap().to_owned();
    let elsewhere = format!("http://{}", host.replace("127.0.0.1", "localhost"));
    let cases = [
        ("host", "evil.example"),
        ("host", "evil.example:8003"),
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", &elsewhere),
    ];
    for (name, value) in cases {
        let request = client.request(Method::POST, "/api/tweets", Some(ada)).json(&body);
        let answer = Answer::of(request.header(name, value)).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}: {value}");
        assert_eq!(answer.body["type"], "urn:rookery:problem:foreign");
        let page = get(client, "/", &[(name, value)]).await;
        assert_eq!(page.status(), StatusCode::FORBIDDEN, "{name}: {value}");
    }
    assert_eq!(system.head().await.0, 1, "nothing was appended");
    let health = get(client, "/health/live", &[("host", "api:8003")]).await;
    assert_eq!(health.status(), StatusCode::OK, "who looks after it calls it as they like");
    let own = client.request(Method::POST, "/api/tweets", Some(ada)).json(&body);
    let own = Answer::of(own.header("origin", &client.base)).await;
    assert_eq!(own.status, StatusCode::CREATED);

    let arguments = ["--no-relay", "--allowed-hosts", "feed.example,other.example"];
    let (mut api, named) = system.another_api(&arguments).await;
    let answer = get(&named, "/", &[("host", "feed.example")]).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let answer = get(&named, "/", &[("host", "evil.example")]).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    api.kill().await;
    system.stop().await;
}
