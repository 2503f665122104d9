//! A client of the HTTP API.

use events::{Position, TweetId, UserId};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::in_time;

/// Talks to one api.
#[derive(Debug, Clone)]
pub struct Rookery {
    pub base: String,
    http: Client,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub position: Option<Position>,
    pub link: Option<String>,
    pub retry_after: Option<String>,
    /// `WWW-Authenticate`
    pub challenge: Option<String>,
    pub content_type: String,
    pub body: Value,
}

impl Rookery {
    /// A client of the api at `base`.
    #[must_use]
    pub fn at(base: String) -> Self {
        Self { base, http: Client::new() }
    }

    /// A request to `path`, by `caller` if given.
    pub fn request(&self, method: Method, path: &str, caller: Option<UserId>) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match caller {
            Some(caller) => request.header("X-User-ID", caller.0),
            None => request,
        }
    }

    /// Gets `path`.
    pub async fn get(&self, path: &str, caller: Option<UserId>) -> Answer {
        Answer::of(self.request(Method::GET, path, caller)).await
    }

    /// Posts `body` to `path`.
    pub async fn post(&self, path: &str, caller: Option<UserId>, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path, caller).json(&body)).await
    }

    /// Deletes `path`.
    pub async fn delete(&self, path: &str, caller: Option<UserId>) -> Answer {
        Answer::of(self.request(Method::DELETE, path, caller)).await
    }

    /// Registers a user called `name`.
    pub async fn register(&self, name: &str) -> UserId {
        let body = json!({ "username": name, "email": format!("{name}@example.org") });
        let answer = self.post("/api/users/", None, body).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        UserId(answer.body["id"].as_i64().expect("a user has an id"))
    }

    /// Posts a tweet.
    pub async fn tweet(&self, author: UserId, content: &str) -> TweetId {
        let answer = self.post("/api/tweets/", Some(author), json!({ "content": content })).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        TweetId(answer.body["id"].as_i64().expect("a tweet has an id"))
    }

    /// Makes `follower` follow `followed`, and returns the position of that.
    pub async fn follow(&self, follower: UserId, followed: UserId) -> Position {
        let body = json!({ "followed_id": followed });
        let answer = self.post("/api/subscriptions/follow", Some(follower), body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.position.expect("a command names its position")
    }

    /// What `user` has, as of `min` or later.
    pub async fn counts(&self, user: UserId, min: Position) -> Value {
        let path = format!("/api/users/{user}/counts");
        let request = self.request(Method::GET, &path, None);
        let found = Answer::when_there(request.header("X-Min-Log-Position", min.0)).await;
        assert_eq!(found.status, StatusCode::OK, "{path}: {}", found.body);
        found.body
    }

    /// The whole feed of `reader`, page by page to its end, by cursor, as of `min` or later.
    pub async fn feed(&self, reader: UserId, min: Position) -> Vec<TweetId> {
        let mut tweets = Vec::new();
        let mut next = Some("/api/feed/?limit=100".to_owned());
        while let Some(path) = next {
            let request = self.request(Method::GET, &path, Some(reader));
            let page = Answer::when_there(request.header("X-Min-Log-Position", min.0)).await;
            assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.body);
            tweets.extend(page.ids());
            next = page.next();
        }
        tweets
    }
}

impl Answer {
    /// Sends `request` until the position it asks for can be read: a busy machine may take longer than a read waits.
    pub async fn when_there(request: RequestBuilder) -> Self {
        let asking = async {
            loop {
                let answer = Self::of(request.try_clone().expect("it has no body")).await;
                if answer.body["type"] != "urn:rookery:problem:not-there-yet" {
                    return answer;
                }
            }
        };
        in_time("the position can be read", asking).await
    }

    /// Sends `request` and reads the answer.
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("the api answers");
        Self::read(response).await
    }

    /// The answer, or `None` when the connection was refused or cut.
    pub async fn if_any(request: RequestBuilder) -> Option<Self> {
        Some(Self::read(request.send().await.ok()?).await)
    }

    async fn read(response: Response) -> Self {
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().expect("headers are text").to_owned())
        };
        let position = header("x-log-position")
            .map(|text| text.parse::<Position>().expect("a position is a number"));
        let (link, retry_after) = (header("link"), header("retry-after"));
        let challenge = header("www-authenticate");
        let content_type = header("content-type").unwrap_or_default();
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Self { status, position, link, retry_after, challenge, content_type, body }
    }

    /// The path behind `Link: <…>; rel="next"`.
    #[must_use]
    pub fn next(&self) -> Option<String> {
        let link = self.link.as_deref()?;
        Some(link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?.to_owned())
    }

    /// The tweets of a page of a feed.
    #[must_use]
    pub fn ids(&self) -> Vec<TweetId> {
        let items = self.body.as_array().expect("a page is an array");
        items.iter().map(|item| TweetId(item["tweet_id"].as_i64().expect("an id"))).collect()
    }
}
