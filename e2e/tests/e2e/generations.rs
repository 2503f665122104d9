//! Rebuilding and rolling back: another generation goes live and nobody notices.

mod failing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::client::Answer;
use e2e::database::TestDatabase;
use e2e::exact::feeds_are_exact;
use e2e::history::{given, history};
use e2e::model::Model;
use e2e::process::{Process, run};
use e2e::system::System;
use e2e::until;
use events::projection::ProjectionName;
use events::store::Connections;
use events::store::connections::Lent;
use events::{Position, UserId};
use projector::bounds::Bounds;
use projector::checkpoint;
use projector::feed::pulled::PullFrom;
use projector::feed::{Feeds, HomeFeeds};
use projector::generation::Claim;
use projector::progress::{Phase, Progress};
use projector::projection::ReadModel;
use projector::rebuild::{Rebuild, Rebuilt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Method, StatusCode};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use crate::projection::some_come_and_go;

/// So few that the floor is passed all the time.
pub const KEPT: i64 = 20;

/// So low that many a tweet is pulled, and many another is not.
const BOUNDS: Bounds = Bounds { pull_from: PullFrom(3), ..Bounds::keeping(KEPT) };

pub async fn claim(database: &TestDatabase) -> Claim {
    Claim::take(&database.database(), HomeFeeds::LAYOUT, "rookery test").await.unwrap()
}

fn rebuild(log: &Connections) -> Rebuild {
    let progress = Progress::starting(Phase::Replay);
    Rebuild::new(log.clone(), BOUNDS, progress, CancellationToken::new())
}

async fn rebuilt(database: &TestDatabase, log: &Connections) -> Rebuilt {
    rebuild(log).run::<HomeFeeds>(claim(database).await).await.unwrap()
}

/// Holds the generation before against the live one, table by table. Feeds are the same from the
/// higher of their two floors up; what reads pass over may be there or not.
async fn generations_are_equal(pool: &Connections) {
    let feed = "
        select items.user_id, items.tweet_id from SCHEMA.feed_items items
        join SCHEMA.tweets tweets using (tweet_id)
        join SCHEMA.users author on author.user_id = tweets.author_id
        left join public.floors one on one.user_id = items.user_id
        left join feed_previous.floors other on other.user_id = items.user_id
        where tweets.deleted_position = 0 and author.deleted_position = 0
            and items.tweet_id >= greatest(one.floor, other.floor, 0)";
    let tables = [
        "select * from SCHEMA.users",
        "select * from SCHEMA.tweets",
        "select follower_id, followed_id, since_position, until_position from SCHEMA.follows",
        "select * from SCHEMA.pulled_authors",
        "select author_id, readers from SCHEMA.reader_counts where readers <> 0",
        "select * from SCHEMA.rules",
    ];
    for set in tables.into_iter().chain([feed]) {
        for (one, other) in [("public", "feed_previous"), ("feed_previous", "public")] {
            let (one, other) = (set.replace("SCHEMA", one), set.replace("SCHEMA", other));
            let difference = format!("select count(*) from ({one} except {other}) as more");
            let more: i64 = sqlx::query_scalar(AssertSqlSafe(difference.clone()))
                .fetch_one(pool)
                .await
                .unwrap();
            assert_eq!(more, 0, "{difference}");
        }
    }
}

/// The two ways to make a read model are two implementations of one definition: here they meet.
/// The log grows in between, so that live projection goes on where a rebuild ended, and a rollback
/// catches up live with what it missed.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuilt_generation_equals_the_live_one() {
    let fresh = rand::rng().random();
    for seed in [1, 2, 3, fresh] {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let log_database = TestDatabase::migrated().await;
        let pool = log_database.pool().await;
        // The read model in a database of its own.
        let database = TestDatabase::migrated().await;
        let feed = database.pool().await;
        let mut events = history(&mut random, 900);
        let later = events.split_off(random.random_range(300..900));
        let log = given(&pool, events).await;
        let projection =
            Feeds::of_feeds(pool.clone(), feed.clone(), BOUNDS, CancellationToken::new());

        let mut live = projection.take_over().await.unwrap();
        let half = Position(random.random_range(0..=i64::try_from(log.len()).unwrap()));
        projection.apply_from_log(&mut live, half).await.unwrap();
        some_come_and_go(&mut random, &feed, live, BOUNDS).await;
        let before = Model::of(&log);
        projection.apply_from_log(&mut live, Position(before.position)).await.unwrap();

        let first = rebuilt(&database, &pool).await;
        assert_eq!((first.swapped.generation, first.swapped.replaced), (2, 1));
        assert_eq!(first.swapped.position.0, before.position);
        generations_are_equal(&feed).await;
        feeds_are_exact(&feed, &before, None, &before).await;

        let longest =
            "select max(count) from (select count(*) from feed_items group by user_id) feed";
        let longest: i64 = sqlx::query_scalar(longest).fetch_one(&feed).await.unwrap();
        assert_eq!(longest, KEPT, "a feed keeps its newest rows and no more");

        let log = given(&pool, later).await;
        let now = Model::of(&log);
        let mut live = projection.take_over().await.unwrap();
        some_come_and_go(&mut random, &feed, live, BOUNDS).await;
        projection.apply_from_log(&mut live, Position(now.position)).await.unwrap();
        some_come_and_go(&mut random, &feed, live, BOUNDS).await;
        feeds_are_exact(&feed, &now, None, &now).await;

        let back = rebuild(&pool).roll_back::<HomeFeeds>(claim(&database).await).await.unwrap();
        assert_eq!((back.swapped.generation, back.swapped.replaced), (1, 2));
        assert_eq!(back.swapped.position.0, now.position);
        generations_are_equal(&feed).await;
        feeds_are_exact(&feed, &now, None, &now).await;
        for _ in 0..5 {
            let at = random.random_range(0..=log.len());
            let then = Model::of(&log[..at]);
            let position = Position(i64::try_from(at).unwrap());
            feeds_are_exact(&feed, &then, Some(position), &now).await;
        }
    }
}

#[tokio::test]
async fn a_generation_has_every_table_of_the_read_model() {
    let database = TestDatabase::create().await;
    let pool = database.pool().await;
    events::store::schema::Schema::Feed.migrate(&pool).await.unwrap();
    let tables = "select tablename::text from pg_tables where schemaname = 'public' order by 1";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&pool).await.unwrap();
    // Who leads is no part of a generation.
    let mut expected = [HomeFeeds::LAYOUT.tables, &["projector_lead"]].concat();
    expected.sort_unstable();
    assert_eq!(tables, expected);
}

/// A generation that went live has the very indexes and constraints that the migrations make.
#[tokio::test]
async fn a_rebuilt_generation_has_the_schema_of_the_migrations() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let schema = async || {
        let objects = "
            select pg_get_indexdef(indexrelid) || ' ' || coalesce(pg_get_constraintdef(con.oid), '')
            from pg_index join pg_class on pg_class.oid = indrelid
            left join pg_constraint con on con.conindid = indexrelid
            where relnamespace = 'public'::regnamespace
            union all
            select relname || ' ' || coalesce(reloptions::text, '') from pg_class
            where relnamespace = 'public'::regnamespace and relkind = 'r'
            order by 1";
        sqlx::query_scalar::<_, String>(objects).fetch_all(&pool).await.unwrap()
    };
    let before = schema().await;
    rebuilt(&database, &pool).await;
    assert_eq!(schema().await, before);
}

/// Writes and reads over HTTP all the while: no read fails, none is older than what its reader has
/// seen, each has everything that its reader wrote.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_notices_a_rebuild_or_a_rollback() {
    let system = System::start().await;
    let mut users = Vec::new();
    for name in ["ada", "bob", "cyd"] {
        users.push(system.client.register(name).await);
    }
    for follower in &users {
        for followed in users.iter().filter(|followed| *followed != follower) {
            system.client.follow(*follower, *followed).await;
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut busy = Vec::new();
    for user in users.clone() {
        let (client, stop) = (system.client.clone(), Arc::clone(&stop));
        busy.push(tokio::spawn(async move {
            let (mut seen, mut reads) = (Position::START, 0);
            while !stop.load(Ordering::Relaxed) {
                let tweet = client.tweet(user, "hello").await;
                let request = client.request(Method::GET, "/api/feed/?limit=1", Some(user));
                let page = Answer::of(request.header("X-Min-Log-Position", tweet.0)).await;
                assert_eq!(page.status, StatusCode::OK, "{}", page.body);
                let position = page.position.unwrap();
                assert!(position >= seen, "{position} is older than {seen}");
                assert!(page.ids()[0] >= tweet, "{:?} does not have {tweet}", page.ids());
                (seen, reads) = (position, reads + 1);
            }
            reads
        }));
    }
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    for command in ["rebuild", "rebuild", "rollback", "rebuild"] {
        let output = run("projector", &[command], &variables).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("is live at position"), "{text}");
    }
    stop.store(true, Ordering::Relaxed);
    for user in busy {
        assert!(user.await.unwrap() > 0);
    }
    system.every_feed_is_exact().await;
    let checkpoint = checkpoint::load(&system.log).await.unwrap();
    assert_eq!(checkpoint.generation, 4, "2, then 3, back to 2, and then a new number");
    system.stop().await;
}

/// A transaction that has read `table` and is still open: whoever wants the table for itself waits.
/// It ends when the connection is dropped.
pub async fn reading(pool: &Connections, table: &str) -> Lent {
    let mut reader = pool.lend().await.unwrap();
    let read = format!(
        "set idle_in_transaction_session_timeout = 0; begin; lock table {table} in access share mode"
    );
    sqlx::raw_sql(AssertSqlSafe(read)).execute(&mut *reader).await.unwrap();
    reader
}

/// Waits until the next generation is built and only the swap is missing.
async fn until_swapping(pool: &Connections) {
    until("the rebuild swaps", async || {
        let next = "select nspname::text from pg_namespace where nspname like 'feed_next_%'";
        let next: String = sqlx::query_scalar(next).fetch_one(pool).await.ok()?;
        let rows = AssertSqlSafe(format!("select count(*) from {next}.feed_items"));
        let rows: i64 = sqlx::query_scalar(rows).fetch_one(pool).await.ok()?;
        let waits =
            "select count(*) from pg_stat_activity where application_name like 'rookery rebuild%'
            and datname = current_database() and query like 'lock table%'";
        let waits: i64 = sqlx::query_scalar(waits).fetch_one(pool).await.ok()?;
        (rows > 0 && waits > 0).then_some(())
    })
    .await;
}

async fn small_system() -> (System, UserId) {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    for _ in 0..5 {
        system.client.tweet(ada, "hello").await;
    }
    system.caught_up().await;
    (system, ada)
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_pass_while_a_swap_waits_for_its_turn() {
    let (system, ada) = small_system().await;
    let variables = [("DATABASE_URL", system.database.url.as_str())];
    let reader = reading(&system.log, "users").await;
    let mut rebuild = Process::start("projector", &["rebuild"], &variables);
    until_swapping(&system.log).await;
    for _ in 0..20 {
        let tweet = system.client.tweet(ada, "hello").await;
        let feed = system.client.feed(ada, Position(tweet.0)).await;
        assert_eq!(feed[0], tweet);
    }
    assert_eq!(checkpoint::load(&system.log).await.unwrap().generation, 1);
    drop(reader);
    assert!(rebuild.ended().await.success(), "{}", rebuild.log().join("\n"));
    assert_eq!(checkpoint::load(&system.log).await.unwrap().generation, 2);
    system.every_feed_is_exact().await;
    system.stop().await;
}

/// What nobody can read yet is not announced: who waits for a position would be woken too early,
/// and not again when it is there.
#[tokio::test]
async fn a_generation_that_is_being_built_announces_nothing() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let log = given(&pool, history(&mut StdRng::seed_from_u64(7), 100)).await;
    let mut listener = database.database().listen(ProjectionName::Feed.channel()).await.unwrap();
    rebuilt(&database, &pool).await;
    let end = "select pg_notify($1, 'end')";
    sqlx::query(end).bind(ProjectionName::Feed.channel()).execute(&pool).await.unwrap();
    let mut announced = Vec::new();
    while announced.last().is_none_or(|last| last != "end") {
        announced.push(listener.recv().await.unwrap().payload().to_owned());
    }
    assert_eq!(announced, [log.len().to_string().as_str(), "end"]);
}
