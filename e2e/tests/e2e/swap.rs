//! The moment in which another generation takes the place of the live one.

use std::convert::Infallible;

use e2e::database::TestDatabase;
use e2e::exact::feeds_are_exact;
use e2e::history::{given, history};
use e2e::model::Model;
use e2e::until;
use events::store::Connections;
use events::{Mark, Position, RecordedEvent};
use projector::bounds::Bounds;
use projector::checkpoint::{self, Checkpoint};
use projector::feed::{Feeds, HomeFeeds};
use projector::generation::{Claim, Incoming, SwapError};
use projector::progress::{Phase, Progress};
use projector::projection::{ProjectionError, ReadModel};
use projector::rebuild::{Built, Rebuild};
use projector::verify::Facts;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sqlx::Connection;
use tokio_util::sync::CancellationToken;

use super::generations::{KEPT, claim, reading};

/// A live generation at the end of a log, and the next one, which is not as far.
struct Generations {
    database: TestDatabase,
    live: Connections,
    log: Vec<RecordedEvent>,
    claim: Claim,
    schema: String,
    incoming: Connections,
    next: Feeds,
    reached: Checkpoint,
}

/// The next generation has applied all but the last `missing` events.
async fn generations(missing: i64) -> Generations {
    let database = TestDatabase::migrated().await;
    let live = database.pool().await;
    let log = given(&live, history(&mut StdRng::seed_from_u64(8), 200)).await;
    let head = Position(i64::try_from(log.len()).unwrap());
    let projection = Feeds::of_feeds(
        live.clone(),
        live.clone(),
        Bounds::keeping(KEPT),
        CancellationToken::new(),
    );
    let mut checkpoint = projection.take_over().await.unwrap();
    projection.apply_from_log(&mut checkpoint, head).await.unwrap();

    let mut claim = claim(&database).await;
    let Incoming { schema, database: incoming } = claim.make_next().await.unwrap();
    let pool = incoming.connect(2).await.unwrap();
    // Its fan-outs are under way when it goes live.
    let bounds = Bounds { fan_out_rows: 2, ..Bounds::keeping(KEPT) };
    let next = Feeds::of_feeds(live.clone(), pool.clone(), bounds, CancellationToken::new());
    let mut reached = next.take_over().await.unwrap();
    next.apply_from_log(&mut reached, Position(head.0 - missing)).await.unwrap();
    Generations { database, live, log, claim, schema, incoming: pool, next, reached }
}

#[tokio::test]
async fn a_generation_that_is_behind_does_not_go_live() {
    let mut generations = generations(1).await;
    let catch_up = async |live: Mark| Ok::<_, Infallible>(live.position);
    let error = generations.claim.swap(&generations.schema, catch_up).await.unwrap_err();
    assert!(matches!(error, SwapError::Behind), "{error}");
    let now = Model::of(&generations.log);
    feeds_are_exact(&generations.live, &now, None, &now).await;
    assert_eq!(checkpoint::load(&generations.live).await.unwrap().generation, 1);

    // What it lacks it gets from the catch-up, which is told how far the live one is.
    let Generations { claim, schema, next, reached, .. } = &mut generations;
    let catch_up = async |live: Mark| {
        next.apply_from_log(reached, live.position).await?;
        Ok::<_, ProjectionError>(live.position)
    };
    let swapped = claim.swap(schema, catch_up).await.unwrap();
    assert_eq!((swapped.generation, swapped.position.0), (2, now.position));
    assert_ne!(checkpoint::load(&generations.live).await.unwrap().under_way, None);
    feeds_are_exact(&generations.live, &now, None, &now).await;
}

/// If the live generation moved on while the other one catches up, that one would be behind again.
/// A later release migrates the live generation while this one builds the next.
#[tokio::test]
async fn a_generation_of_another_schema_does_not_go_live() {
    let mut generations = generations(0).await;
    let later = "insert into feed_migrations (version, description, success, checksum, execution_time) values (9001, 'later', true, '', 0)";
    sqlx::query(later).execute(&generations.live).await.unwrap();
    let catch_up = async |live: Mark| Ok::<_, Infallible>(live.position);
    let error = generations.claim.swap(&generations.schema, catch_up).await.unwrap_err();
    assert!(matches!(error, SwapError::OtherRelease { live: 9001, incoming: 1 }), "{error}");
    assert_eq!(checkpoint::load(&generations.live).await.unwrap().generation, 1);
}

#[tokio::test]
async fn the_projector_stands_still_from_the_last_catch_up_to_the_swap() {
    let mut generations = generations(0).await;
    let elsewhere = generations.database.pool().await;
    let swapped = generations
        .claim
        .swap(&generations.schema, async |live| {
            let mut lent = elsewhere.lend().await?;
            let mut transaction = lent.begin().await?;
            let write = "lock table checkpoint in row exclusive mode nowait";
            let refused = sqlx::query(write).execute(&mut *transaction).await.unwrap_err();
            let code = refused.as_database_error().unwrap().code();
            assert_eq!(
                code.unwrap(),
                "55P03",
                "the projector cannot move the checkpoint: {refused}"
            );
            transaction.rollback().await?;
            // Nor can it go on with fan-outs.
            let engine = lent.engine();
            let mut transaction = lent.begin().await?;
            sqlx::query("set local lock_timeout = '100ms'").execute(&mut *transaction).await?;
            let at = checkpoint::load(&mut *transaction).await?;
            let held = checkpoint::hold(&mut transaction, engine, at).await.unwrap_err();
            assert!(held.to_string().contains("lock timeout"), "{held}");
            transaction.rollback().await?;
            // Readers go on.
            checkpoint::load(&elsewhere).await.map(|_| live.position)
        })
        .await;
    assert_eq!(swapped.unwrap().generation, 2);
}

/// Whoever reads one table while the swap has another and wants that one: without an end to the
/// swap's patience, every other reader would wait until PostgreSQL looks for deadlocks.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_swap_waits_for_one_reader_the_others_wait_less_than_a_deadlock_takes() {
    let generations = generations(0).await;
    let reader = reading(&generations.live, "floors").await;
    let (mut claim, schema) = (generations.claim, generations.schema);
    let mut others = generations.live.lend().await.unwrap();
    // PostgreSQL's default `deadlock_timeout`.
    sqlx::query("set lock_timeout = '1s'").execute(&mut *others).await.unwrap();
    let swap = tokio::spawn(async move {
        claim.swap(&schema, async |live| Ok::<_, Infallible>(live.position)).await.unwrap_err()
    });
    let mut reads = 0;
    while !swap.is_finished() {
        for table in ["checkpoint", "users", "tweets", "follows", "feed_items", "floors"] {
            let read = sqlx::AssertSqlSafe(format!("select 1 from {table} limit 1"));
            sqlx::query(read).fetch_optional(&mut *others).await.unwrap();
        }
        reads += 1;
    }
    assert!(reads > 0);
    let error = swap.await.unwrap();
    assert!(matches!(error, SwapError::Busy), "{error}");
    drop(reader);
}

/// A commit whose answer was lost: the checkpoint is further than the one who moved it knows.
#[tokio::test]
async fn a_rebuild_goes_on_from_where_its_generation_is() {
    let Generations { database, live, log, mut claim, schema, next, reached, incoming } =
        generations(30).await;
    let stale = reached;
    let mut unheard_of = next.take_over().await.unwrap();
    next.apply_from_log(&mut unheard_of, Position(reached.position.0 + 7)).await.unwrap();

    let progress = Progress::starting(Phase::CatchUp);
    let bounds = Bounds::keeping(KEPT);
    let rebuild = Rebuild::new(live.clone(), bounds, progress, CancellationToken::new());
    let built = Built { checkpoint: stale, facts: Facts::default() };
    let rebuilt = rebuild.put_live::<HomeFeeds>(&mut claim, &schema, &incoming, built).await;
    assert_eq!(rebuilt.unwrap().swapped.position.0, i64::try_from(log.len()).unwrap());
    let now = Model::of(&log);
    feeds_are_exact(&live, &now, None, &now).await;
    drop(database);
}

/// Whoever has lost the claim on the way can write into nothing that their successor builds.
#[tokio::test]
async fn each_attempt_has_a_schema_of_its_own() {
    let Generations { database, log, claim: lost, schema, next, mut reached, .. } =
        generations(30).await;
    drop(lost);
    let mut successor = until("the claim is free", async || {
        Claim::take(&database.database(), HomeFeeds::LAYOUT, "rookery test").await.ok()
    })
    .await;
    let theirs = successor.make_next().await.unwrap();
    assert_ne!(theirs.schema, schema);
    let head = Position(i64::try_from(log.len()).unwrap());
    next.apply_from_log(&mut reached, head).await.unwrap_err();
    let theirs = theirs.database.connect(1).await.unwrap();
    assert_eq!(checkpoint::load(&theirs).await.unwrap().position, Position::START);
}
