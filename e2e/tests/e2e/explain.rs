//! Why a tweet is in a feed or not, held against the definition.

use std::collections::{BTreeSet, HashMap};

use e2e::database::TestDatabase;
use e2e::history::{given, history};
use e2e::model::Model;
use events::explain::{author_of, explain, streams};
use events::store::explain::Question;
use events::{Explanation, Position, RecordedEvent, TweetId, UserId};
use projector::bounds::Bounds;
use projector::feed::Feeds;
use projector::feed::pulled::PullFrom;
use projector::feed::read_model::holding;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

use crate::projection::some_come_and_go;

/// So few that most of a feed is below the floor.
const KEPT: i64 = 20;

/// All (user, tweet) of the definition at one position.
fn feeds(log: &[RecordedEvent]) -> BTreeSet<(UserId, TweetId)> {
    let model = Model::of(log);
    let of = |user: UserId| model.feed(user).into_iter().map(move |tweet| (user, tweet));
    model.users.iter().copied().flat_map(of).collect()
}

/// Explains from `by_stream`, which has the whole log, what is read from the database otherwise.
fn explained(
    log: &[RecordedEvent],
    by_stream: &HashMap<&str, Vec<&RecordedEvent>>,
    (user, tweet): (UserId, TweetId),
    at: Position,
) -> Explanation {
    let named = log.get(usize::try_from(tweet.0 - 1).unwrap());
    let author = named.and_then(|named| author_of(named).unwrap());
    let streams = streams(user, tweet, author);
    let of_streams = streams.iter().filter_map(|stream| by_stream.get(stream.as_str()));
    let mut events: Vec<RecordedEvent> =
        of_streams.flatten().copied().chain(named).cloned().collect();
    events.sort_by_key(|event| event.position);
    events.dedup_by_key(|event| event.position);
    explain(user, tweet, at, &events).unwrap()
}

/// The definition twice: the model replays the whole log, an explanation has a few events of it.
/// Every user that there is and one that there is not, every position as a tweet and one beyond.
#[tokio::test(flavor = "multi_thread")]
async fn random_histories_are_explained_as_the_definition_has_them() {
    let fresh = rand::rng().random();
    for seed in [1, 2, fresh] {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let database = TestDatabase::migrated().await;
        let pool = database.pool().await;
        let log = given(&pool, history(&mut random, 400)).await;
        let users = log.iter().filter(|event| event.kind == "UserRegistered").count();
        let mut by_stream = HashMap::<&str, Vec<&RecordedEvent>>::new();
        for event in &log {
            by_stream.entry(&event.stream).or_default().push(event);
        }
        let user = |user: usize| UserId(i64::try_from(user).unwrap());
        let tweet = |tweet: usize| TweetId(i64::try_from(tweet).unwrap());

        let past = (0..4).map(|_| random.random_range(0..log.len())).collect::<Vec<_>>();
        for end in past.into_iter().chain([0, log.len()]) {
            let expected = feeds(&log[..end]);
            let at = Position(i64::try_from(end).unwrap());
            for pair in
                (1..=users + 1).flat_map(|u| (1..=log.len() + 1).map(move |t| (user(u), tweet(t))))
            {
                let found = explained(&log, &by_stream, pair, at);
                assert_eq!(found.present, expected.contains(&pair), "{}", found.verdict);
            }
            for _ in 0..50 {
                let user = user(random.random_range(1..=users + 1));
                let tweet = tweet(random.random_range(1..=log.len() + 1));
                let question = Question::ask(&pool, user, tweet).await.unwrap();
                let found = question.answer(&pool, at).await.unwrap();
                assert_eq!(found, explained(&log, &by_stream, (user, tweet), at));
            }
        }
    }
}

/// What is said of the read model is what its pages show.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_read_model_has_is_what_the_definition_has_at_its_checkpoint() {
    let mut random = StdRng::seed_from_u64(5);
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let log = given(&pool, history(&mut random, 600)).await;
    let bounds = Bounds { fan_out_rows: 2, pull_from: PullFrom(5), ..Bounds::keeping(KEPT) };
    let projection = Feeds::of_feeds(pool.clone(), pool.clone(), bounds, CancellationToken::new());
    let mut checkpoint = projection.take_over().await.unwrap();
    let mut seen = BTreeSet::new();
    for end in (75..=600).step_by(75) {
        projection.apply_from_log(&mut checkpoint, Position(end)).await.unwrap();
        some_come_and_go(&mut random, &pool, checkpoint, bounds).await;
        let log = &log[..usize::try_from(end).unwrap()];
        let expected = feeds(log);
        let users = log.iter().filter(|event| event.kind == "UserRegistered").count();
        for _ in 0..500 {
            let user = UserId(random.random_range(1..=i64::try_from(users).unwrap()));
            let tweet = TweetId(random.random_range(1..=end));
            let found = holding::look(&pool, user, tweet).await.unwrap();
            assert_eq!(found.position, Position(end));
            let is_there = expected.contains(&(user, tweet));
            assert_eq!(found.holds.is_read(), is_there, "{user} {tweet}: {found:?}");
            seen.insert(format!("{:?}", found.holds));
        }
    }
    let all =
        ["BelowFloor", "Dormant", "FanOutUnderWay", "Nothing", "Pulled", "Row", "RowPassedOver"];
    assert!(seen.iter().eq(all), "only {seen:?} came up");
}
