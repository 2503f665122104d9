//! What a stream tells beside new items, and that it is enough to hold an exact replica.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use e2e::client::{Answer, Rookery};
use e2e::live::{LiveFeed, Told};
use e2e::model::Model;
use e2e::process::run;
use e2e::system::{System, start_api};
use events::store::ranges;
use events::{Position, TweetId, UserId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Method, StatusCode};
use serde_json::json;

async fn told_until(stream: &mut LiveFeed, last: TweetId) -> Vec<Told> {
    let mut told = Vec::new();
    while !matches!(told.last(), Some(Told::Item(tweet, _)) if *tweet == last) {
        told.push(stream.told().await.expect("the stream goes on"));
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_left_a_feed_and_why() {
    let system = System::start().await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    let (bob, cleo) = (rookery.register("bob").await, rookery.register("cleo").await);
    let old = rookery.tweet(ada, "old").await;
    rookery.follow(bob, ada).await;
    let seen = system.caught_up().await;
    let mut of_bob = LiveFeed::open(rookery, bob, Some(seen)).await;
    let mut of_cleo = LiveFeed::open(rookery, cleo, Some(seen)).await;

    let follow = rookery.follow(bob, cleo).await;
    let tweet = rookery.tweet(cleo, "hello").await;
    rookery.delete(&format!("/api/tweets/{old}"), Some(ada)).await;
    rookery.delete(&format!("/api/subscriptions/unfollow/{cleo}"), Some(bob)).await;
    rookery.delete(&format!("/api/users/{ada}"), Some(ada)).await;
    let own = rookery.tweet(bob, "the last").await;
    let expected = [
        Told::Followed(cleo),
        Told::TweetRemoved(old),
        Told::AuthorRemoved(cleo),
        Told::AuthorRemoved(ada),
        Told::Item(own, bob),
    ];
    // Cleo's tweet is told where a look came before she was unfollowed.
    let but_that = |told: Vec<Told>| -> Vec<Told> {
        told.into_iter().filter(|told| *told != Told::Item(tweet, cleo)).collect()
    };
    assert_eq!(but_that(told_until(&mut of_bob, own).await), expected);
    assert_eq!(of_cleo.told().await, Some(Told::Item(tweet, cleo)), "nothing of others");

    // Who missed all of it is told the same, from wherever they come back.
    system.caught_up().await;
    let mut late = LiveFeed::open(rookery, bob, Some(seen)).await;
    assert_eq!(told_until(&mut late, own).await, expected);
    let mut later = LiveFeed::open(rookery, bob, Some(follow)).await;
    assert_eq!(told_until(&mut later, own).await, expected[1..]);

    // A stream ends with its reader.
    rookery.delete(&format!("/api/users/{cleo}"), Some(cleo)).await;
    assert_eq!(of_cleo.told().await, None);
    system.stop().await;
}

/// Who was away for too long reads a page, and goes on from there.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_from_too_long_ago_says_so_and_goes_on() {
    let system = System::start().await;
    let rookery = &system.client;
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    rookery.follow(bob, ada).await;
    // As if ada and her followers had come and gone all the time.
    ranges::open(&system.log, Position(200_000), 200_000).await.unwrap();
    let many = "insert into events
        select 3 + number, gen_random_uuid(), 'relationship-1-2', number,
            case when number % 2 = 1 then 'Followed' else 'Unfollowed' end, 1,
            '{\"follower_id\": 1, \"followed_id\": 2}', '{}', now()
        from generate_series(1, 100010) number";
    sqlx::query(many).execute(&system.log).await.unwrap();
    let head = system.caught_up().await;
    let mut stream = LiveFeed::open(rookery, bob, Some(Position(3))).await;
    assert_eq!(stream.told().await, Some(Told::Reset));
    assert_eq!(stream.last_event_id, head);
    let tweet = rookery.tweet(ada, "and on it goes").await;
    assert_eq!(stream.told().await, Some(Told::Item(tweet, ada)));
    system.stop().await;
}

/// What others do while somebody is away is none of their business.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_back_is_told_of_their_own_turns_only() {
    let system = System::start().await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    let (bob, cleo) = (rookery.register("bob").await, rookery.register("cleo").await);
    rookery.follow(bob, ada).await;
    rookery.follow(cleo, ada).await;
    let (hers, other) =
        (rookery.tweet(ada, "hers").await, rookery.tweet(cleo, "not for bob").await);
    let seen = system.caught_up().await;
    rookery.delete(&format!("/api/subscriptions/unfollow/{ada}"), Some(cleo)).await;
    rookery.follow(cleo, bob).await;
    rookery.delete(&format!("/api/tweets/{other}"), Some(cleo)).await;
    rookery.delete(&format!("/api/users/{cleo}"), Some(cleo)).await;
    rookery.delete(&format!("/api/tweets/{hers}"), Some(ada)).await;
    let last = rookery.tweet(ada, "the last").await;
    system.caught_up().await;
    let mut stream = LiveFeed::open(rookery, bob, Some(seen)).await;
    assert_eq!(stream.told().await, Some(Told::TweetRemoved(hers)));
    assert_eq!(stream.told().await, Some(Told::Item(last, ada)));
    system.stop().await;
}

/// The whole feed as of one position, `min` or later; `None` when the api is away.
async fn whole_feed(
    rookery: &Rookery,
    reader: UserId,
    min: Position,
) -> Option<(Position, BTreeMap<TweetId, UserId>)> {
    let mut feed = BTreeMap::new();
    let mut path = "/api/feed/?limit=100".to_owned();
    let mut position = None;
    loop {
        let request = rookery.request(Method::GET, &path, Some(reader));
        let page = Answer::if_any(request.header("X-Min-Log-Position", min.0)).await?;
        if page.status != StatusCode::OK {
            return None;
        }
        for item in page.body.as_array()? {
            let author = UserId(item["author_id"].as_i64()?);
            feed.insert(TweetId(item["tweet_id"].as_i64()?), author);
        }
        let at = *position.get_or_insert(page.position?);
        let Some(next) = page.next() else { return Some((at, feed)) };
        path = if next.contains("&at=") { next } else { format!("{next}&at={at}") };
    }
}

/// What a client holds that reads its feed once and then only listens, when it has heard of `end`.
async fn replica(
    client: Arc<Mutex<Rookery>>,
    reader: UserId,
    end: Arc<Mutex<Option<Position>>>,
) -> Vec<TweetId> {
    let mut held: Option<BTreeMap<TweetId, UserId>> = None;
    let mut at = Position::START;
    loop {
        tokio::task::yield_now().await;
        let rookery = client.lock().unwrap().clone();
        if held.is_none() {
            let Some((position, feed)) = whole_feed(&rookery, reader, at).await else { continue };
            (held, at) = (Some(feed), position);
        }
        let Some(mut stream) = LiveFeed::open_if_any(&rookery, reader, Some(at)).await else {
            continue;
        };
        while let Some(feed) = &mut held {
            if end.lock().unwrap().is_some_and(|end| at >= end) {
                return feed.keys().rev().copied().collect();
            }
            let Some(told) = stream.told().await else { break };
            match told {
                Told::Item(tweet, author) => drop(feed.insert(tweet, author)),
                Told::TweetRemoved(tweet) => drop(feed.remove(&tweet)),
                Told::AuthorRemoved(author) => feed.retain(|_, by| *by != author),
                // Older tweets came in: read them.
                Told::Followed(_) | Told::Reset => held = None,
            }
            at = stream.last_event_id;
        }
    }
}

/// Random commands, while the api that streams is killed and the read model rebuilt: each client holds
/// what the definition says.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_only_listens_holds_an_exact_replica() {
    let mut system = System::start_with(&["--feed-kept", "20"]).await;
    let (mut steady, writer) = system.another_api(&[]).await;
    let names: Vec<String> = (0..6).map(|number| format!("user{number}")).collect();
    let mut users = Vec::new();
    for name in &names {
        users.push(writer.register(name).await);
    }
    system.caught_up().await;
    let client = Arc::new(Mutex::new(system.client.clone()));
    let end = Arc::new(Mutex::new(None));
    let replicas: Vec<_> = users
        .iter()
        .map(|user| tokio::spawn(replica(Arc::clone(&client), *user, Arc::clone(&end))))
        .collect();

    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut tweets: Vec<(TweetId, UserId)> = Vec::new();
    let database_url = system.database.url.clone();
    for step in 0..400 {
        let user = users[random.random_range(0..users.len())];
        let other = users[random.random_range(0..users.len())];
        match random.random_range(0..10) {
            0..6 => tweets.push((writer.tweet(user, &format!("tweet {step}")).await, user)),
            6 if !tweets.is_empty() => {
                let (tweet, author) = tweets.swap_remove(random.random_range(0..tweets.len()));
                writer.delete(&format!("/api/tweets/{tweet}"), Some(author)).await;
            }
            7 => drop(
                writer.delete(&format!("/api/subscriptions/unfollow/{other}"), Some(user)).await,
            ),
            _ => {
                let body = json!({ "followed_id": other });
                writer.post("/api/subscriptions/follow", Some(user), body).await;
            }
        }
        if step % 130 == 100 {
            system.api.kill().await;
            let rebuilt = run("projector", &["rebuild"], &[("DATABASE_URL", &database_url)]).await;
            assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
            let amqp_url = system.amqp_url();
            (system.api, system.client) = start_api(&database_url, &amqp_url, &[], &[]).await;
            *client.lock().unwrap() = system.client.clone();
        }
    }
    // Everyone hears of their own last tweet; up to there they have to be exact.
    for user in &users {
        writer.tweet(*user, "the last").await;
    }
    let model = Model::of_log(&system.log).await;
    let lasts: BTreeMap<UserId, TweetId> =
        users.iter().map(|user| (*user, model.feed(*user)[0])).collect();
    *end.lock().unwrap() = Some(Position(lasts.values().map(|tweet| tweet.0).min().unwrap()));
    // And of one more, now that they know where it ends: who had heard of all before would hear of nothing else.
    for user in &users {
        writer.tweet(*user, "after the last").await;
    }
    system.caught_up().await;
    for (user, replica) in users.iter().zip(replicas) {
        let mut held = replica.await.unwrap();
        let mut expected = model.feed(*user);
        // It returns as soon as it has heard of the first of the last ones.
        let until = Position(lasts.values().map(|tweet| tweet.0).min().unwrap());
        held.retain(|tweet| tweet.0 <= until.0);
        expected.retain(|tweet| tweet.0 <= until.0);
        assert_eq!(held, expected, "the replica of user {user}");
    }
    steady.kill().await;
    system.stop().await;
}
