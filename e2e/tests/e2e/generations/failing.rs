//! Rebuilds that do not come to their end: the live generation is as it was, and nothing is left of them.

use e2e::database::TestDatabase;
use e2e::exact::feeds_are_exact;
use e2e::history::{given, history};
use e2e::model::Model;
use e2e::process::{Process, run};
use e2e::until;
use events::Position;
use projector::bounds::Bounds;
use projector::checkpoint;
use projector::feed::{Feeds, HomeFeeds};
use projector::generation::{self, Aside, GenerationError, Incoming};
use projector::projection::ReadModel;
use projector::rebuild::{Built, RebuildError};
use projector::verify::Facts;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use super::{KEPT, claim, reading, rebuild, small_system, until_swapping};

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_a_rebuild_changes_nothing_and_the_next_one_cleans_up() {
    let (system, ada) = small_system().await;
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    let status = async || {
        let amqp_url = system.amqp_url();
        let variables = [variables[0], ("AMQP_URL", amqp_url.as_str())];
        let output = run("projector", &["status", "--json"], &variables).await;
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };

    // In the replay: nobody can read the log's events while this transaction has them.
    let mut lent = system.log.lend().await.unwrap();
    let mut holder = lent.begin().await.unwrap();
    sqlx::query("lock table events in access exclusive mode").execute(&mut *holder).await.unwrap();
    let mut rebuild = Process::start("projector", &["rebuild"], &variables);
    until("the next generation is begun", async || {
        generation::aside(&system.log, HomeFeeds::LAYOUT).await.ok()?.next
    })
    .await;
    rebuild.kill().await;
    holder.rollback().await.unwrap();
    system.client.tweet(ada, "after the first").await;
    system.every_feed_is_exact().await;
    assert_eq!(status().await["feed"]["rebuild"]["by"], Value::Null, "it was left unfinished");

    // In the swap.
    let reader = reading(&system.log, "feed_items").await;
    let mut rebuild = Process::start("projector", &["rebuild"], &variables);
    until_swapping(&system.log).await;
    assert!(status().await["feed"]["rebuild"]["by"].as_str().unwrap().contains("rookery rebuild"));
    rebuild.kill().await;
    drop(reader);
    system.client.tweet(ada, "after the second").await;
    system.every_feed_is_exact().await;
    assert_eq!(checkpoint::load(&system.log).await.unwrap().generation, 1);

    let last = until("PostgreSQL notices the end of the one that was killed", async || {
        let output = run("projector", &["rebuild"], &variables).await;
        output.status.success().then_some(output)
    })
    .await;
    assert!(String::from_utf8_lossy(&last.stdout).contains("generation 2 is live"));
    let aside = generation::aside(&system.log, HomeFeeds::LAYOUT).await.unwrap();
    assert_eq!(aside, Aside { next: None, previous: Some(1) });
    assert_eq!(status().await["feed"]["rebuild"], Value::Null);
    system.every_feed_is_exact().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_stop_a_rebuild_leaves_nothing_behind() {
    let (system, _) = small_system().await;
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    let reader = reading(&system.log, "tweets").await;
    let mut rebuild = Process::start("projector", &["rebuild"], &variables);
    until_swapping(&system.log).await;
    rebuild.signal("-TERM").await;
    assert_eq!(rebuild.ended().await.code(), Some(1));
    until("its last words", async || {
        let words = "stopped; the live generation is as it was";
        rebuild.log().last()?.contains(words).then_some(())
    })
    .await;
    assert_eq!(generation::aside(&system.log, HomeFeeds::LAYOUT).await.unwrap(), Aside::default());
    drop(reader);
    system.stop().await;
}

/// A generation that went wrong never goes live: here its feeds lose a row as they are made.
#[tokio::test]
async fn a_generation_that_differs_from_the_log_does_not_go_live() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let log = given(&pool, history(&mut StdRng::seed_from_u64(5), 300)).await;
    let projection = Feeds::of_feeds(
        pool.clone(),
        pool.clone(),
        Bounds::keeping(KEPT),
        CancellationToken::new(),
    );
    let mut live = projection.take_over().await.unwrap();
    let now = Model::of(&log);
    projection.apply_from_log(&mut live, Position(now.position)).await.unwrap();

    let mut claim = claim(&database).await;
    let Incoming { schema, database: incoming } = claim.make_next().await.unwrap();
    let next = incoming.connect(2).await.unwrap();
    let wrong = Feeds::of_feeds(
        pool.clone(),
        next.clone(),
        Bounds::keeping(KEPT),
        CancellationToken::new(),
    );
    let mut checkpoint = wrong.take_over().await.unwrap();
    wrong.apply_from_log(&mut checkpoint, Position(now.position)).await.unwrap();
    let lose = "delete from feed_items where (user_id, tweet_id) in (
        select feed_items.user_id, tweet_id from feed_items join tweets using (tweet_id)
        join users on users.user_id = author_id
        where tweets.deleted_position = 0 and users.deleted_position = 0 limit 1)";
    assert_eq!(sqlx::query(lose).execute(&next).await.unwrap().rows_affected(), 1);

    let error = rebuild(&pool)
        .put_live::<HomeFeeds>(
            &mut claim,
            &schema,
            &next,
            Built { checkpoint, facts: Facts::default() },
        )
        .await
        .unwrap_err();
    let RebuildError::Differs(report) = error else { panic!("{error}") };
    assert_eq!(report.differences, 1, "{:?}", report.listed);
    assert_eq!(projector::checkpoint::load(&pool).await.unwrap().generation, 1);
    feeds_are_exact(&pool, &now, None, &now).await;
}

/// PostgreSQL says that its disk is full in the middle of the work: here it is made to say so.
#[tokio::test]
async fn a_full_disk_is_named_and_nothing_is_left_of_the_attempt() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    given(&pool, history(&mut StdRng::seed_from_u64(6), 50)).await;
    for statement in [
        "create function full_disk() returns boolean language plpgsql as $$
            begin raise disk_full using message = 'No space left on device'; end $$",
        "alter table events rename to kept_events",
        "create view events as select * from kept_events where position < 40 or full_disk()",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let error = rebuild(&pool).run::<HomeFeeds>(claim(&database).await).await.unwrap_err();
    assert!(matches!(error, RebuildError::DiskFull(_)), "{error}");
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert_eq!(generation::aside(&pool, HomeFeeds::LAYOUT).await.unwrap(), Aside::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rebuilds_the_second_says_who_is_at_it() {
    let (system, _) = small_system().await;
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    let reader = reading(&system.log, "tweets").await;
    let mut first = Process::start("projector", &["rebuild"], &variables);
    until_swapping(&system.log).await;
    for command in ["rebuild", "rollback"] {
        let second = run("projector", &[command], &variables).await;
        assert_eq!(second.status.code(), Some(1));
        let text = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(text.contains("rookery rebuild") && text.contains("is at it since"), "{text}");
    }
    drop(reader);
    assert!(first.ended().await.success());
    system.stop().await;
}

#[tokio::test]
async fn without_a_generation_before_there_is_no_rollback() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let error = rebuild(&pool).roll_back::<HomeFeeds>(claim(&database).await).await.unwrap_err();
    assert!(matches!(error, RebuildError::Generation(GenerationError::NoPrevious)), "{error}");
}
