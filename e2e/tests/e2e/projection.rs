//! The projection on a real database: whatever arrives in whatever order, the feeds are exact.

use api::views::{Page, feed};
use e2e::database::TestDatabase;
use e2e::exact::feeds_are_exact;
use e2e::history::{cut, deliveries, given, history, new_user};
use e2e::model::Model;
use events::event::{Followed, TweetCreated, Unfollowed, UserDeleted};
use events::store::{Connections, Engine};
use events::{Event, Position, RecordedEvent, TweetId, UserId};
use projector::bounds::Bounds;
use projector::changes::Ways;
use projector::checkpoint::{self, Checkpoint};
use projector::feed::Feeds;
use projector::feed::apply::apply;
use projector::feed::pulled::PullFrom;
use projector::feed::read_model::dormant::{bring_back, drop_rows};
use projector::feed::work::{Counted, Work};
use projector::progress::{Phase, Progress};
use projector::projection::{ApplyError, ProjectionError};
use projector::verify::{Facts, compare};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

/// So few that the floor is passed all the time.
const KEPT: i64 = 20;

pub async fn is_verified(log: &Connections, feed: &Connections) {
    let progress = Progress::starting(Phase::CheckLog);
    let report = compare(log, feed, &mut Facts::default(), 20, &progress).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

/// The oracle for G5, G6 and G7: random histories, delivered in slices that are doubled, dropped
/// and out of order, by projectors that start anew in between.
#[tokio::test(flavor = "multi_thread")]
async fn random_histories_are_exact_however_they_arrive() {
    let fresh = rand::rng().random();
    for seed in [1, 2, 3, fresh] {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let database = TestDatabase::migrated().await;
        // What is written for a distributed database means the same on one PostgreSQL.
        let engine = if seed == 2 { Engine::Distributed } else { Engine::Single };
        let feed = database.database().written_for(engine).connect(4).await.unwrap();
        // Every history but one is written as if everybody were read by very many.
        let bounds = if seed == 3 { Bounds::keeping(KEPT) } else { read_by_many(&mut random) };
        is_exact_however_it_arrives(&mut random, 700, &feed, &feed, bounds).await;
    }
}

/// Bounds that few readers pass.
pub fn read_by_many(random: &mut StdRng) -> Bounds {
    let (fan_out_rows, pull_from) = (random.random_range(1..9), random.random_range(1..9));
    Bounds { fan_out_rows, pull_from: PullFrom(pull_from), ..Bounds::keeping(KEPT) }
}

/// A random history of about `length` events, in whose middle and at whose end each feed is held against the definition.
pub async fn is_exact_however_it_arrives(
    random: &mut StdRng,
    length: usize,
    log: &Connections,
    feed: &Connections,
    bounds: Bounds,
) {
    println!("{bounds:?}");
    let events = given(log, history(random, length)).await;
    let now = Model::of(&events);
    let projection = Feeds::of_feeds(log.clone(), feed.clone(), bounds, CancellationToken::new());
    let mut slices = deliveries(random, &events);
    let mut checkpoint = projection.take_over().await.unwrap();
    while !slices.is_empty() {
        let rest = slices.split_off(random.random_range(1..=slices.len().min(6)));
        let batch = std::mem::replace(&mut slices, rest);
        projection.apply_slices(&mut checkpoint, batch).await.unwrap();
        some_come_and_go(random, feed, checkpoint, bounds).await;
        if random.random_ratio(1, 5) {
            checkpoint = projection.take_over().await.unwrap();
            let reached = usize::try_from(checkpoint.position.0).unwrap();
            let model = Model::of(&events[..reached]);
            feeds_are_exact(feed, &model, None, &model).await;
        }
    }
    assert_eq!(checkpoint.position.0, now.position);
    feeds_are_exact(feed, &now, None, &now).await;
    is_verified(log, feed).await;
    while checkpoint.under_way.is_some() {
        projection.go_on(&mut checkpoint).await.unwrap();
    }
    feeds_are_exact(feed, &now, None, &now).await;
    is_verified(log, feed).await;

    for _ in 0..5 {
        let at = random.random_range(0..=events.len());
        let then = Model::of(&events[..at]);
        let position = Position(i64::try_from(at).unwrap());
        feeds_are_exact(feed, &then, Some(position), &now).await;
    }
}

/// A few readers fall dormant, a few come back.
pub async fn some_come_and_go(
    random: &mut StdRng,
    pool: &Connections,
    checkpoint: Checkpoint,
    bounds: Bounds,
) {
    let mut readers: Vec<UserId> = (1..30).map(UserId).collect();
    readers.shuffle(random);
    let (fall, back) = (random.random_range(0..4), random.random_range(0..4));
    drop_rows(pool, checkpoint, &readers[..fall], bounds).await.unwrap();
    readers.shuffle(random);
    bring_back(pool, checkpoint, &readers[..back], bounds).await.unwrap();
}

/// Skipping and the cursor are two ways to the same pages, above the floor and below it.
#[tokio::test]
async fn skipping_reads_the_same_pages_as_the_cursor() {
    let mut random = StdRng::seed_from_u64(7);
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let log = given(&pool, history(&mut random, 600)).await;
    let model = Model::of(&log);
    let bounds = Bounds { fan_out_rows: 1, pull_from: PullFrom(4), ..Bounds::keeping(KEPT) };
    let projection = Feeds::of_feeds(pool.clone(), pool.clone(), bounds, CancellationToken::new());
    let mut checkpoint = projection.take_over().await.unwrap();
    projection.apply_from_log(&mut checkpoint, Position(model.position)).await.unwrap();
    assert_ne!(checkpoint.under_way, None, "not all of it is in rows");

    for reader in &model.users {
        let whole = model.feed(*reader);
        for skip in (0..whole.len() + 9).step_by(9) {
            let page = Page { skip: i64::try_from(skip).unwrap(), limit: 9 };
            let now = feed::page(&pool, *reader, feed::NEWEST, page).await.unwrap();
            let at = feed::page_at(&pool, *reader, feed::NEWEST, page, checkpoint.position).await;
            let expected: Vec<_> = whole.iter().skip(skip).take(9).copied().collect();
            for found in [now, at.unwrap()] {
                let items = found.value.expect("the reader exists");
                let ids: Vec<_> = items.iter().map(|item| item.tweet_id).collect();
                assert_eq!(ids, expected, "reader {reader}, skip {skip}");
            }
        }
    }
}

#[tokio::test]
async fn applying_twice_is_applying_once() {
    let mut random = StdRng::seed_from_u64(11);
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let log = given(&pool, history(&mut random, 200)).await;
    let projection = Feeds::of_feeds(
        pool.clone(),
        pool.clone(),
        Bounds::keeping(KEPT),
        CancellationToken::new(),
    );
    let mut checkpoint = projection.take_over().await.unwrap();
    for _ in 0..2 {
        let slices = cut(&mut random, log.clone());
        projection.apply_slices(&mut checkpoint, slices).await.unwrap();
    }
    let model = Model::of(&log);
    assert_eq!(checkpoint.position.0, model.position);
    feeds_are_exact(&pool, &model, None, &model).await;
}

/// Feeds that have grown are found by a hash of what was delivered, so the same log has the same end each time.
#[tokio::test]
async fn feeds_are_cut_back_in_transactions_of_any_size() {
    const READERS: i64 = 16;
    const TWEETS: i64 = 1_500;
    /// Two and a half times what one look in 256 rows leaves above the cap on average.
    const ABOVE_MAX: i64 = 640;
    let author_id = UserId(1);
    let users = (0..READERS).map(|mut registered| new_user(&mut registered));
    let follows = (2..=READERS).map(|reader| {
        Event::Followed(Followed { follower_id: UserId(reader), followed_id: author_id })
    });
    let tweets = (0..TWEETS)
        .map(|number| Event::TweetCreated(TweetCreated { author_id, content: number.to_string() }));
    for run in [1, 7, 300] {
        let database = TestDatabase::migrated().await;
        let pool = database.pool().await;
        let events = users.clone().chain(follows.clone()).chain(tweets.clone()).collect();
        let log = given(&pool, events).await;
        let mut checkpoint = checkpoint::load(&pool).await.unwrap();
        for events in log.chunks(run) {
            let applied = apply(&pool, checkpoint, events, &Ways::default(), KEPT).await.unwrap();
            checkpoint = applied.checkpoint;
        }
        let rows: i64 =
            sqlx::query_scalar("select count(*) from feed_items").fetch_one(&pool).await.unwrap();
        let kept = rows / READERS;
        assert!((KEPT..KEPT + ABOVE_MAX).contains(&kept), "{kept} a feed, in runs of {run}");
        let model = Model::of(&log);
        feeds_are_exact(&pool, &model, None, &model).await;
    }
}

/// Into how many transactions the log goes after `after`.
async fn cut_after(pool: &Connections, log: &[RecordedEvent], after: usize, kept: i64) -> Work {
    let bounds = Bounds::keeping(kept);
    Work::of(pool, &log[after..], bounds, &mut Counted::default()).await.unwrap()
}

#[tokio::test]
async fn a_run_is_cut_by_what_it_brings_about() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    // User 1 has a thousand readers, 100,000 tweets, and reads 100,000 others. Users 3 and 4 have very many readers.
    let many = "
        insert into tweets select 1000000 + number, 1, '', now(), 0, false from generate_series(1, 100000) number;
        insert into follows select 1, author, 1 from generate_series(1001, 101000) author;
        insert into follows values (1, 1, 1);
        insert into reader_counts values (1, 1, 999), (3, 1, 30000), (4, 1, 50000)";
    sqlx::raw_sql(many).execute(&mut *pool.lend().await.unwrap()).await.unwrap();
    let tweet =
        |author_id| Event::TweetCreated(TweetCreated { author_id, content: "hello".to_owned() });
    let pair = (UserId(2), UserId(1));

    let log = given(&pool, vec![tweet(UserId(1)); 400]).await;
    let cut = cut_after(&pool, &log, 0, KEPT).await;
    assert_eq!(cut.transactions, [250, 150], "250,000 rows for a thousand readers");
    assert_eq!(cut.ways, Ways::default());

    // Follows and unfollows: what the author brings in or leaves behind.
    let (follower_id, followed_id) = pair;
    let log = given(&pool, vec![Event::Followed(Followed { follower_id, followed_id }); 9]).await;
    assert_eq!(cut_after(&pool, &log, 400, 1_000_000).await.transactions, [2, 2, 2, 2, 1]);
    assert_eq!(cut_after(&pool, &log, 400, KEPT).await.transactions, [9], "no more than is kept");
    let unfollowed = Unfollowed { follower_id, followed_id };
    let log = given(&pool, vec![Event::Unfollowed(unfollowed); 9]).await;
    assert_eq!(cut_after(&pool, &log, 409, 1_000_000).await.transactions, [2, 2, 2, 2, 1]);
    let leaves = vec![Event::UserDeleted(UserDeleted { user_id: UserId(1) }); 9];
    let log = given(&pool, leaves).await;
    assert_eq!(cut_after(&pool, &log, 418, KEPT).await.transactions, [2, 2, 2, 2, 1]);

    // Those who begin to follow within the run read what comes after.
    let mut joins: Vec<Event> = (0..1_000)
        .map(|reader| (UserId(2_000 + reader), UserId(9)))
        .map(|(follower_id, followed_id)| Followed { follower_id, followed_id })
        .map(Event::Followed)
        .collect();
    joins.extend(vec![tweet(UserId(9)); 300]);
    let log = given(&pool, joins).await;
    let cut = cut_after(&pool, &log, 427, 1).await.transactions;
    assert_eq!(cut, [1_248, 52], "1,000 follows, and 248 tweets for them and their author");

    // What would be too much at once is only begun, and not too many of them.
    let log = given(&pool, vec![tweet(UserId(3)); 100]).await;
    let cut = cut_after(&pool, &log, 1_727, KEPT).await;
    assert_eq!((cut.transactions, cut.ways.step_by_step), (vec![64, 36], [UserId(3)].into()));
    assert!(cut.ways.pulled.is_empty());

    // What was counted for one run is not asked again for the next.
    let (bounds, mut counted) = (Bounds::keeping(KEPT), Counted::default());
    let first = Work::of(&pool, &log[1_727..], bounds, &mut counted).await.unwrap();
    sqlx::query("truncate reader_counts").execute(&pool).await.unwrap();
    let again = Work::of(&pool, &log[1_727..], bounds, &mut counted).await.unwrap();
    assert_eq!(first, again);

    // What is pulled is one row, from the very tweet on that has enough readers.
    let stops = Unfollowed { follower_id, followed_id: UserId(4) };
    let starts = Followed { follower_id, followed_id: UserId(4) };
    let [stops, starts] = [Event::Unfollowed(stops), Event::Followed(starts)];
    let [before, after] = [vec![tweet(UserId(4)); 2_000], vec![tweet(UserId(4)); 48]];
    let run = [before, vec![stops, tweet(UserId(4)), starts], after].concat();
    let log = given(&pool, run).await;
    sqlx::query("insert into reader_counts values (4, 1, 50000)").execute(&pool).await.unwrap();
    let cut = cut_after(&pool, &log, 1_827, KEPT).await;
    assert_eq!(cut.transactions, [2_048, 3]);
    let pulled = |position| cut.ways.pulled.contains(&TweetId(position));
    assert!((1_828..=3_827).chain(3_831..=3_878).all(pulled) && !pulled(3_829));
    assert_eq!(cut.ways.pulled.len(), 2_048);
}

#[tokio::test]
async fn a_projector_that_was_relieved_cannot_write() {
    let mut random = StdRng::seed_from_u64(13);
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let log = given(&pool, history(&mut random, 100)).await;
    let first = checkpoint::take_over(&pool).await.unwrap();
    let second = checkpoint::take_over(&pool).await.unwrap();

    let late = apply(&pool, first, &log[..50], &Ways::default(), KEPT).await;
    assert!(matches!(late, Err(ApplyError::Fenced(_))));
    let moved = apply(&pool, second, &log[..50], &Ways::default(), KEPT).await.unwrap().checkpoint;
    let again = apply(&pool, second, &log[..60], &Ways::default(), KEPT).await;
    assert!(matches!(again, Err(ApplyError::Fenced(_))), "nor one that is behind itself");
    assert_eq!(checkpoint::load(&pool).await.unwrap(), moved);
}

#[tokio::test]
async fn an_event_of_a_newer_release_stops_the_projection_and_changes_nothing() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    given(&pool, vec![new_user(&mut 0)]).await;
    let newer = "insert into events values (2, gen_random_uuid(), 'tweet-2', 1, 'TweetPinned', 1, '{}', '{}', now())";
    sqlx::query(newer).execute(&pool).await.unwrap();

    let projection = Feeds::of_feeds(
        pool.clone(),
        pool.clone(),
        Bounds::keeping(KEPT),
        CancellationToken::new(),
    );
    let mut checkpoint = projection.take_over().await.unwrap();
    let error = projection.apply_from_log(&mut checkpoint, Position(2)).await.unwrap_err();
    assert!(error.is_final() && error.to_string().contains("TweetPinned"), "{error}");
    assert_eq!(checkpoint::load(&pool).await.unwrap().position, Position(0));
}

#[tokio::test]
async fn a_read_model_of_another_log_is_refused() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    sqlx::query("update checkpoint set position = 7").execute(&pool).await.unwrap();
    let projection = Feeds::of_feeds(
        pool.clone(),
        pool.clone(),
        Bounds::keeping(KEPT),
        CancellationToken::new(),
    );
    let error = projection.take_over().await.unwrap_err();
    assert!(matches!(error, ProjectionError::OtherHistory(_)) && error.is_final(), "{error}");
}
