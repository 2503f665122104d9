//! What a client can go on with after a command: the id that it was given, and the position from which on reads show what it did.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// The id in an answer.
const ID: &str = "$response.body#/id";

/// The user whom a request named.
const FOLLOWED: &str = "$request.body#/followed_id";

/// After a command, an operation that goes on, and which parameter of it is what.
const GOES_ON: [(&str, &str, &str, &str); 11] = [
    ("users_register", "users_find", "id", ID),
    ("users_register", "users_counts", "id", ID),
    ("users_register", "tweets_by_author", "user_id", ID),
    ("users_register", "subscriptions_followers", "user_id", ID),
    ("users_register", "subscriptions_following", "user_id", ID),
    ("tweets_create", "tweets_find", "id", ID),
    ("tweets_create", "tweets_delivery", "id", ID),
    ("tweets_create", "tweets_delete", "id", ID),
    ("tweets_create", "feed_explain", "tweet", ID),
    ("subscriptions_follow", "users_counts", "id", FOLLOWED),
    ("subscriptions_follow", "subscriptions_unfollow", "followed_id", FOLLOWED),
];

/// Adds to each command what goes on after it.
pub fn add(paths: &mut Map<String, Value>) {
    let operations =
        paths.values().flat_map(|item| item.as_object().into_iter().flat_map(Map::values));
    let waits: HashSet<String> = operations
        .filter(|operation| {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            parameters.clone().any(|parameter| parameter["name"] == "X-Min-Log-Position")
        })
        .filter_map(|operation| Some(operation["operationId"].as_str()?.to_owned()))
        .collect();
    for item in paths.values_mut() {
        for command in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            let id = command["operationId"].clone();
            for (_, next, parameter, what) in GOES_ON.iter().filter(|(after, ..)| id == **after) {
                let mut parameters = json!({ *parameter: what });
                if waits.contains(*next) {
                    parameters["header.X-Min-Log-Position"] =
                        json!("$response.header.X-Log-Position");
                }
                let Some(responses) = command["responses"].as_object_mut() else { continue };
                for (_, response) in responses.iter_mut().filter(|(code, _)| code.starts_with('2'))
                {
                    response["links"][next] =
                        json!({ "operationId": next, "parameters": parameters });
                }
            }
        }
    }
}
