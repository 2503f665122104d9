//! Changes: whoever applies them to what they hold, holds what a page would give.

use std::collections::BTreeMap;

use api::changes::{Cause, Change, changes};
use api::views::feed;
use e2e::client::Answer;
use e2e::database::TestDatabase;
use e2e::history::{given, history};
use e2e::model::{Model, read_log};
use e2e::system::System;
use events::{Position, RecordedEvent, TweetId, UserId};
use projector::bounds::Bounds;
use projector::feed::Feeds;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const KEPT: i64 = 20;

/// The newest `window` of the feed of `reader` in each state from `from` on, and the whole feed.
struct Then {
    windows: Vec<Vec<TweetId>>,
    feeds: Vec<Vec<TweetId>>,
}

impl Then {
    fn of(models: &[Model], reader: UserId, window: usize) -> Self {
        let feeds: Vec<_> = models.iter().map(|model| model.feed(reader)).collect();
        let cut = |feed: &Vec<TweetId>| feed.iter().take(window).copied().collect();
        Self { windows: feeds.iter().map(cut).collect(), feeds }
    }

    /// The step after which `tweet` was in what `lists` are, or was not, for good.
    fn last_step(lists: &[Vec<TweetId>], tweet: TweetId, is_in: bool) -> usize {
        (1..lists.len())
            .rev()
            .find(|step| lists[step - 1].contains(&tweet) != is_in)
            .expect("it came or went")
    }
}

fn is_the_cause(log: &[RecordedEvent], cause: Cause, from: usize, step: usize) {
    assert_eq!(usize::try_from(cause.position.0).unwrap(), from + step, "{cause:?}");
    assert_eq!(log[from + step - 1].kind, cause.kind, "{cause:?}");
}

/// The changes from `from` to the last of `models`, held against each state in between.
fn are_exact(
    found: &[Change],
    log: &[RecordedEvent],
    models: &[Model],
    reader: UserId,
    window: usize,
) {
    let from = usize::try_from(models[0].position).unwrap();
    let then = Then::of(models, reader, window);
    let mut held = then.windows[0].clone();
    for change in found {
        match change {
            Change::Added { item, cause } => {
                assert!(!held.contains(&item.tweet_id), "{item:?} is new");
                held.push(item.tweet_id);
                let step = Then::last_step(&then.windows, item.tweet_id, true);
                is_the_cause(log, *cause, from, step);
            }
            Change::Removed { tweet_id, cause } => {
                assert!(held.contains(tweet_id), "{tweet_id} was there");
                held.retain(|tweet| tweet != tweet_id);
                let step = Then::last_step(&then.feeds, *tweet_id, false);
                is_the_cause(log, *cause, from, step);
            }
        }
    }
    held.sort_unstable_by(|one, other| other.cmp(one));
    held.truncate(window);
    assert_eq!(&held, then.windows.last().unwrap(), "reader {reader}, from {from}, {window} kept");
}

/// feed(N) and changes(N, M) are feed(M), in as many random histories as there are seeds, with each
/// cause the event that did it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_and_the_changes_are_what_a_page_would_give() {
    let fresh = rand::rng().random();
    for seed in [1, 2, fresh] {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let database = TestDatabase::migrated().await;
        let pool = database.pool().await;
        let log = given(&pool, history(&mut random, 500)).await;
        let mut models = vec![Model::default()];
        for recorded in &log {
            let mut next = models[models.len() - 1].clone();
            next.apply(recorded.position, &recorded.event().unwrap());
            models.push(next);
        }
        let projection = Feeds::of_feeds(
            pool.clone(),
            pool.clone(),
            Bounds::keeping(KEPT),
            CancellationToken::new(),
        );
        let mut checkpoint = projection.take_over().await.unwrap();
        let (mut told, mut resets) = (0, 0);
        for to in [60, 150, 300, log.len()] {
            let position = Position(i64::try_from(to).unwrap());
            projection.apply_from_log(&mut checkpoint, position).await.unwrap();
            for reader in &models[to].users {
                let from = random.random_range(to.saturating_sub(120)..=to);
                let window = [1, 4, 12, 100][random.random_range(0..4)];
                let since = Position(i64::try_from(from).unwrap());
                let between = &models[from..=to];
                for wanted in [2 * window, 10_000] {
                    let limit = i64::try_from(wanted).unwrap();
                    let stays = feed::stays(&pool, *reader, since, limit).await.unwrap();
                    assert_eq!(stays.position, position);
                    let stays = stays.value.expect("the reader exists");
                    let are_all = stays.len() < wanted;
                    if let Ok(found) = changes(&stays, are_all, since, position, window) {
                        told += found.len();
                        are_exact(&found, &log, between, *reader, window);
                    } else {
                        assert!(!are_all, "seed {seed}: nothing is too much where all is known");
                        resets += 1;
                    }
                }
            }
        }
        assert!(told > 100 && resets > 0, "{told} changes and {resets} resets");
    }
}

async fn changes_of(system: &System, reader: UserId, query: &str, min: Position) -> Answer {
    let path = format!("/api/feed/changes?{query}");
    let request = system.client.request(Method::GET, &path, Some(reader));
    Answer::of(request.header("X-Min-Log-Position", min.0)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_name_what_came_and_went_and_why() {
    let system = System::start().await;
    let rookery = &system.client;
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    let cleo = rookery.register("cleo").await;
    let first = rookery.tweet(ada, "first").await;
    let old = rookery.tweet(cleo, "old").await;
    let held = rookery.follow(bob, ada).await;
    let followed = rookery.follow(bob, cleo).await;
    let second = rookery.tweet(ada, "second").await;
    let gone = rookery.delete(&format!("/api/tweets/{first}"), Some(ada)).await.position.unwrap();

    let answer = changes_of(&system, bob, &format!("from={held}"), gone).await;
    assert_eq!((answer.status, answer.position), (StatusCode::OK, Some(gone)), "{}", answer.body);
    let tweeted = json!({ "type": "TweetCreated", "position": second });
    let found: Vec<Value> = answer.body["changes"].as_array().unwrap().clone();
    let seen: Vec<Value> = found
        .iter()
        .map(|change| {
            let tweet = change["item"]["tweet_id"].as_i64().or(change["tweet_id"].as_i64());
            json!([change["type"], tweet, change["cause"]])
        })
        .collect();
    let expected = [
        json!(["added", old, { "type": "Followed", "position": followed }]),
        json!(["added", second, tweeted]),
        json!(["removed", first, { "type": "TweetDeleted", "position": gone }]),
    ];
    assert_eq!(seen, expected);
    assert_eq!(found[1]["item"]["content"], "second");
    assert_eq!((&answer.body["from"], &answer.body["to"]), (&json!(held), &json!(gone)));
    assert_eq!(answer.body["reset"], Value::Null);

    let nothing = changes_of(&system, bob, &format!("from={gone}"), gone).await;
    assert_eq!(nothing.body["changes"], json!([]));
    // One item is held, and two have come: a page is shorter.
    for number in 0..3 {
        rookery.tweet(ada, &format!("more {number}")).await;
    }
    let head = system.head().await;
    let too_many = changes_of(&system, bob, &format!("from={held}&limit=1"), head).await;
    assert!(too_many.body["reset"].is_string(), "{}", too_many.body);
    assert_eq!(too_many.body["changes"], json!([]));

    for wrong in
        ["", "limit=20", "from=-1", "from=x", "from=999", "from=0&limit=0", "from=0&limit=1001"]
    {
        let answer = changes_of(&system, bob, wrong, head).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}: {}", answer.body);
    }
    assert_eq!(changes_of(&system, UserId(99), "from=0", head).await.status, StatusCode::NOT_FOUND);
    let nobody = rookery.get("/api/feed/changes?from=0", None).await;
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    system.stop().await;
}

/// Up from a tweet, page by page, as down.
#[tokio::test(flavor = "multi_thread")]
async fn pages_go_up_as_they_go_down() {
    let system = System::start_with(&["--feed-kept", "10"]).await;
    let rookery = &system.client;
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    rookery.follow(bob, ada).await;
    for number in 0..50 {
        rookery.tweet(if number % 2 == 0 { ada } else { bob }, &format!("tweet {number}")).await;
    }
    let head = system.caught_up().await;
    let all = rookery.feed(bob, head).await;
    let (mut read, mut path) = (Vec::new(), "/api/feed/?after=0&limit=7".to_owned());
    loop {
        let page = rookery.get(&path, Some(bob)).await;
        assert_eq!(page.position, Some(head));
        let mut ids = page.ids();
        assert!(ids.is_sorted_by(|one, other| one > other), "newest first");
        ids.reverse();
        read.extend(ids);
        let Some(link) = page.link else { break };
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"prev\"").unwrap().to_owned();
    }
    read.reverse();
    assert_eq!(read, all);
    for with in ["before=9", "skip=0", "at=3"] {
        let answer = rookery.get(&format!("/api/feed/?after=1&{with}"), Some(bob)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{with}");
    }
    system.stop().await;
}

/// Somebody's clock was ahead: the next event is not recorded before the last.
#[tokio::test(flavor = "multi_thread")]
async fn time_in_the_log_never_goes_back() {
    let system = System::start().await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    let ahead = "insert into events
        select 2, gen_random_uuid(), 'tweet-2', 1, 'TweetCreated', 1,
            '{\"author_id\": 1, \"content\": \"from the future\"}', '{}', now() + interval '1 hour'";
    sqlx::query(ahead).execute(&system.log).await.unwrap();
    rookery.tweet(ada, "from now").await;
    let log = read_log(&system.log).await;
    assert_eq!(log[2].recorded_at, log[1].recorded_at);
    system.stop().await;
}

/// A time stands for the position that the log had reached by then.
#[tokio::test(flavor = "multi_thread")]
async fn times_are_positions() {
    let system = System::start().await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    let mut recorded: BTreeMap<i64, String> = BTreeMap::new();
    for number in 0..30 {
        let body = json!({ "content": format!("tweet {number}") });
        let tweet = rookery.post("/api/tweets", Some(ada), body).await.body;
        let created_at = tweet["created_at"].as_str().unwrap().to_owned();
        recorded.insert(tweet["id"].as_i64().unwrap(), created_at);
    }
    let head = system.caught_up().await;
    for (position, time) in &recorded {
        // Several may have been recorded in one microsecond.
        let last = recorded.iter().filter(|(_, other)| *other <= time).map(|(at, _)| *at).max();
        for path in [format!("/api/feed/?at={time}"), format!("/api/feed/?limit=1&at={time}")] {
            let page = rookery.get(&path, Some(ada)).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.body);
            assert_eq!(page.position.map(|at| at.0), last, "{position} at {time}");
        }
        let changes = changes_of(&system, ada, &format!("from={time}"), head).await;
        assert_eq!(changes.body["from"].as_i64(), last);
    }
    let before = rookery.get("/api/feed/?at=2000-01-01T00:00:00Z", Some(ada)).await;
    assert_eq!((before.status, before.position), (StatusCode::OK, Some(Position::START)));
    let after = rookery.get("/api/feed/?at=2100-01-01T00:00:00%2B02:00", Some(ada)).await;
    assert_eq!((after.status, after.position), (StatusCode::OK, Some(head)));
    let wrong = rookery.get("/api/feed/?at=yesterday", Some(ada)).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    system.stop().await;
}
