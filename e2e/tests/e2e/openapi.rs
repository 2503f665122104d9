//! The description of the service, held against the service.

use std::collections::HashMap;

use e2e::client::Answer;
use e2e::system::System;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

/// The operations of the description: path, method, and what is said of it.
fn operations(description: &Value) -> Vec<(String, Method, Value)> {
    let mut operations = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            operations.push((path.clone(), method, operation.clone()));
        }
    }
    operations
}

async fn description(system: &System) -> Value {
    let answer = system.client.get("/openapi.json", None).await;
    assert_eq!(answer.status, 200);
    answer.body
}

/// `path` with 1 for each number in it.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| if part.starts_with('{') { "1" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bound_in_the_description_is_where_the_service_has_it() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    system.client.tweet(ada, "hello").await;
    system.caught_up().await;
    let description = description(&system).await;
    let mut tried = 0;
    for (path, method, operation) in operations(&description) {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let in_query = parameters.iter().filter(|parameter| parameter["in"] == "query");
        let required = |but: &str| {
            let needed = parameters.iter().filter(|parameter| parameter["required"] == true);
            let needed =
                needed.filter(|parameter| parameter["in"] == "query" && parameter["name"] != but);
            needed
                .map(|parameter| format!("&{}=1", parameter["name"].as_str().unwrap()))
                .collect::<Vec<_>>()
                .concat()
        };
        for parameter in in_query.filter(|parameter| parameter["schema"]["type"] == "integer") {
            let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            // A stream would not end.
            if name == "last_event_id" {
                continue;
            }
            let ask = async |value: i64| {
                let path = format!("{}?{name}={value}{}", filled(&path), required(name));
                Answer::of(system.client.request(method.clone(), &path, Some(ada))).await.status
            };
            if let Some(least) = schema["minimum"].as_i64() {
                assert_eq!(ask(least - 1).await, 422, "{path} {name}");
                assert_ne!(ask(least).await, 422, "{path} {name}");
                tried += 1;
            }
            if let Some(most) = schema["maximum"].as_i64() {
                assert_eq!(ask(most + 1).await, 422, "{path} {name}");
                assert_ne!(ask(most).await, 422, "{path} {name}");
                tried += 1;
            }
        }
    }
    assert!(tried > 20, "{tried}");

    let schemas = &description["components"]["schemas"];
    for (path, schema, field, others) in [
        ("/api/tweets", "NewTweet", "content", json!({})),
        ("/api/users", "NewUser", "username", json!({ "email": "new@example.org" })),
    ] {
        let of_field = &schemas[schema]["properties"][field];
        let ask = async |length: u64| {
            let mut body = others.clone();
            body[field] = "é".repeat(usize::try_from(length).unwrap()).into();
            system.client.post(path, Some(ada), body).await.status.as_u16()
        };
        let (least, most) =
            (of_field["minLength"].as_u64().unwrap(), of_field["maxLength"].as_u64().unwrap());
        assert_eq!((ask(least - 1).await, ask(most + 1).await), (422, 422), "{path} {field}");
        assert_eq!(ask(most).await, 201, "{path} {field}");
    }
    system.stop().await;
}

/// What a reader of the documentation sees is made from these.
#[tokio::test(flavor = "multi_thread")]
async fn every_text_and_every_id_in_the_description_has_an_example() {
    let system = System::start().await;
    let description = description(&system).await;
    let mut without = Vec::new();
    for (name, schema) in description["components"]["schemas"].as_object().unwrap() {
        let is_id = ["Position", "UserId", "TweetId"].contains(&name.as_str());
        if is_id && !has_example(schema) {
            without.push(name.clone());
        }
        for (field, of_field) in schema["properties"].as_object().into_iter().flatten() {
            let is_text = of_field["type"] == "string"
                || of_field["type"]
                    .as_array()
                    .is_some_and(|types| types.contains(&json!("string")));
            let is_free = of_field["format"].is_null() && of_field["enum"].is_null();
            if is_text && is_free && !has_example(of_field) {
                without.push(format!("{name}.{field}"));
            }
        }
    }
    assert_eq!(without, Vec::<String>::new());
    system.stop().await;
}

/// Whose operation ids are no identifiers of one operation, generators of clients give one method to two.
#[tokio::test(flavor = "multi_thread")]
async fn every_operation_has_an_id_of_its_own_and_every_link_leads_to_one() {
    let system = System::start().await;
    let description = description(&system).await;
    let operations = operations(&description);
    let mut ids = HashMap::new();
    for (path, _, operation) in &operations {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id, operation).is_none(), "{path}: {id} is there twice");
    }
    let mut links = 0;
    for (path, _, operation) in &operations {
        let responses = operation["responses"].as_object().unwrap().values();
        for (name, link) in responses.filter_map(|one| one["links"].as_object()).flatten() {
            let next = ids[link["operationId"].as_str().unwrap()];
            for parameter in link["parameters"].as_object().unwrap().keys() {
                let plain = parameter.strip_prefix("header.").unwrap_or(parameter);
                let known = next["parameters"].as_array().unwrap();
                let is_known = known.iter().any(|known| known["name"] == plain);
                assert!(is_known, "{path}: {name} has no {parameter}");
            }
            links += 1;
        }
    }
    assert!(links > 0);
    system.stop().await;
}

/// What a link's `expression` is, after `request` was answered by `answer`.
fn evaluated(expression: &str, request: &Value, answer: &Answer) -> String {
    let value = match expression.split_once('#') {
        Some(("$response.body", pointer)) => answer.body.pointer(pointer).cloned(),
        Some(("$request.body", pointer)) => request.pointer(pointer).cloned(),
        _ if expression == "$response.header.X-Log-Position" => {
            answer.position.map(|position| json!(position))
        }
        _ => panic!("what is {expression}?"),
    };
    value.unwrap_or_else(|| panic!("{expression} is not in {}", answer.body)).to_string()
}

/// As a client does that knows nothing but the description: what it has just made is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_has_made_is_found_at_once_by_the_links_of_its_answer() {
    let system = System::start().await;
    let client = &system.client;
    let (ada, bob) = (client.register("ada").await, client.register("bob").await);
    let description = description(&system).await;
    let operations = operations(&description);
    let mut followed = 0;
    for (path, method, command) in &operations {
        let responses = command["responses"].as_object().unwrap().values();
        let links: Vec<_> =
            responses.filter_map(|one| one["links"].as_object()).flatten().collect();
        for (name, link) in links {
            let body = match command["operationId"].as_str().unwrap() {
                "users_register" => {
                    json!({ "username": format!("u_{name}"), "email": format!("{name}@example.org") })
                }
                "tweets_create" => json!({ "content": format!("for {name}") }),
                "subscriptions_follow" => json!({ "followed_id": bob }),
                other => panic!("how does one call {other}?"),
            };
            let request = client.request(method.clone(), path, Some(ada)).json(&body);
            let answer = Answer::of(request).await;
            assert!(answer.status.is_success(), "{path} for {name}: {}", answer.body);
            let next = |(_, _, operation): &&(_, _, Value)| {
                operation["operationId"] == link["operationId"]
            };
            let (path, method, operation) = operations.iter().find(next).unwrap();
            let (mut path, mut position) = (path.clone(), "0".to_owned());
            for (parameter, expression) in link["parameters"].as_object().unwrap() {
                let value = evaluated(expression.as_str().unwrap(), &body, &answer);
                let in_path = format!("{{{parameter}}}");
                if parameter == "header.X-Min-Log-Position" {
                    position = value;
                } else if path.contains(&in_path) {
                    path = path.replace(&in_path, &value);
                } else {
                    path = format!("{path}?{parameter}={value}");
                }
            }
            let request = client.request(method.clone(), &path, Some(ada));
            let answer = Answer::of(request.header("X-Min-Log-Position", &position)).await;
            let id = &operation["operationId"];
            assert!(answer.status.is_success(), "{name}, {id}, {path}: {}", answer.body);
            followed += 1;
            // So that it can be followed again.
            client.delete(&format!("/api/subscriptions/unfollow/{bob}"), Some(ada)).await;
        }
    }
    assert!(followed > 10, "{followed} links");
    system.stop().await;
}

fn has_example(schema: &Value) -> bool {
    !schema["example"].is_null() || !schema["examples"].is_null()
}

/// Each described path is one that is answered, with a slash at its end or without; and who may call it has to say who
/// they are just where the description says so.
#[tokio::test(flavor = "multi_thread")]
async fn every_described_operation_is_there_and_asks_who_calls_where_it_says_so() {
    let system = System::start().await;
    let described = operations(&description(&system).await);
    assert!(described.len() > 20);
    for (path, method, operation) in described {
        let needs_caller = operation["security"]
            .as_array()
            .is_some_and(|ways| ways.iter().all(|way| *way != json!({})));
        for path in [filled(&path), filled(&path) + "/"] {
            let answer = Answer::of(system.client.request(method.clone(), &path, None)).await;
            assert_ne!(answer.status, 405, "{method} {path}");
            assert_ne!(answer.body["detail"], format!("there is no {path}"), "{method} {path}");
            let refused = answer.status == 401;
            // A body is looked at first.
            assert!(refused == needs_caller, "{method} {path}: {}", answer.status);
            assert!(
                operation["responses"].get(answer.status.as_str()).is_some(),
                "{method} {path}"
            );
            let huge = system.client.request(method.clone(), &path, None).body(vec![b' '; 20_000]);
            let answer = Answer::of(huge).await;
            assert_eq!(answer.status, 413, "{method} {path}");
            assert!(operation["responses"].get("413").is_some(), "{method} {path}");
        }
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_is_in_the_program() {
    let system = System::start().await;
    let page = reqwest::get(format!("{}/docs", system.client.base)).await.unwrap();
    assert_eq!(page.url().path(), "/docs/index.html");
    let page = page.text().await.unwrap();
    for (mark, attribute) in
        [("<script src=\"", '"'), ("<link rel=\"stylesheet\" type=\"text/css\" href=\"", '"')]
    {
        for link in page.split(mark).skip(1) {
            let file = link.split(attribute).next().unwrap().trim_start_matches("./");
            assert!(!file.contains("//"), "{file} is from elsewhere");
            let found = reqwest::get(format!("{}/docs/{file}", system.client.base)).await.unwrap();
            assert_eq!(found.status(), 200, "{file}");
        }
    }
    let initializer =
        reqwest::get(format!("{}/docs/swagger-initializer.js", system.client.base)).await.unwrap();
    assert!(initializer.text().await.unwrap().contains("/openapi.json"));
    assert_eq!(system.client.get("/docs/nothing.js", None).await.status, 404);
    system.stop().await;
}

/// schemathesis makes requests from the description, sensible ones and odd ones, and holds each answer against it.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_gets_an_answer_that_the_description_does_not_have() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    let bob = system.client.register("bob").await;
    system.client.follow(bob, ada).await;
    system.client.tweet(ada, "hello").await;
    system.caught_up().await;

    let here = env!("CARGO_MANIFEST_DIR");
    let tried = Command::new(format!("{here}/../target/tools/python/bin/schemathesis"))
        .current_dir(std::env::temp_dir())
        .args(["--config-file", &format!("{here}/schemathesis.toml")])
        .args(["run", &format!("{}/openapi.json", system.client.base), "--header", "X-User-ID: 1"])
        .args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"])
        .args(["--checks", "response_schema_conformance,response_headers_conformance"])
        // Streams have no end.
        .args(["--exclude-path", "/api/feed/stream", "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "30", "--seed", "7", "--workers", "1", "--no-color"])
        .args(["--suppress-health-check", "all", "--generation-database", "none"])
        .args(["--continue-on-failure"])
        .output()
        .await
        .expect("scripts/python.sh has installed it");
    let said = String::from_utf8_lossy(&tried.stdout);
    assert!(tried.status.success(), "{said}\n{}", String::from_utf8_lossy(&tried.stderr));
    system.stop().await;
}
