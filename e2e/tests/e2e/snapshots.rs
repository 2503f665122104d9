//! Somebody holds an old snapshot: a backup, a long query, a forgotten session.

use std::time::Duration;

use api::views;
use e2e::database::TestDatabase;
use e2e::history::{given, new_user};
use events::event::TweetCreated;
use events::store::{Connections, append, outbox, ranges, read};
use events::{Event, Mark, Position, UserId};
use projector::changes::Ways;
use projector::checkpoint;
use projector::feed::apply::apply;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Transactions beside the snapshot before it is measured for the first time.
const FIRST_ROUNDS: i64 = 800;

/// Versions of checkpoint, outbox and last user id that the snapshot keeps after that: ten seconds of a busy service,
/// and 160 pages.
const VERSIONS: i64 = 20_000;

const MEASUREMENTS: i64 = 5;

/// One level more of each of the seven indexes, and the map of what everyone can see, once vacuum has
/// made it.
const BLOCKS_MORE_MAX: i64 = 16;

const TABLES: [&str; 4] = ["checkpoint", "outbox", "events_1", "last_user_id"];

/// How many blocks `work` looks at, as the tables count them.
async fn blocks(one: &Connections, work: impl AsyncFnOnce()) -> i64 {
    let before = counted(one).await;
    work().await;
    counted(one).await - before
}

async fn counted(one: &Connections) -> i64 {
    let mut lent = one.lend().await.unwrap();
    sqlx::query("select pg_stat_force_next_flush()").execute(&mut *lent).await.unwrap();
    let counted = sqlx::query_scalar(
        "select sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::bigint
         from pg_statio_user_tables
         where relname in ('checkpoint', 'outbox', 'events_1', 'last_user_id')",
    );
    let counted = counted.fetch_one(&mut *lent).await.unwrap();
    lent.give_back();
    counted
}

/// One tweet on its way: decided, appended, published, applied.
async fn round(one: &Connections, fence: i64) {
    let content = "hello".to_owned();
    let tweet = Event::TweetCreated(TweetCreated { author_id: UserId(1), content });
    let head = read::head(one).await.unwrap();
    let mut lent = one.lend().await.unwrap();
    let mut transaction = lent.begin_with(append::BEGIN_LOCKED).await.unwrap();
    let old = append::head(&mut transaction, Position::START).await.unwrap();
    assert_eq!(old.position, head);
    let position = head.next();
    let new = append::NewEvent {
        position,
        event_id: uuid::Uuid::now_v7(),
        version: 1,
        event: tweet,
        metadata: events::recorded::Metadata::default(),
    };
    let now = events::Clock::system().now();
    append::append(&mut transaction, old.position, &[new], now).await.unwrap();
    transaction.commit().await.unwrap();
    lent.give_back();
    let events = read::after(one, head, 1).await.unwrap();
    let mark = Mark::from(&events[0]);
    outbox::move_cursor(one, fence, mark, Duration::from_mins(1)).await.unwrap();
    let at = checkpoint::load(one).await.unwrap();
    apply(one, at, &events, &Ways::default(), 100).await.unwrap();
}

async fn vacuum(one: &Connections) {
    let mut lent = one.lend().await.unwrap();
    for table in TABLES {
        let vacuum = AssertSqlSafe(format!("vacuum (analyze) {table}"));
        sqlx::query(vacuum).execute(&mut *lent).await.unwrap();
    }
    lent.give_back();
}

/// What so many transactions leave behind that move neither cursor nor checkpoint: renewals of the lease,
/// projectors that take over, and registrations.
async fn versions(one: &Connections) {
    let mut lent = one.lend().await.unwrap();
    let leave = format!(
        "do $$ begin for number in 1..{VERSIONS} loop
            update outbox set revision = revision + 1
            where revision = (select revision from outbox order by revision desc limit 1);
            update checkpoint set moved_at = now(), fence = fence + 1
            where (position, fence) = (
                select position, fence from checkpoint order by position desc, fence desc limit 1
            );
            update last_user_id set user_id = user_id + 1
            where user_id = (select user_id from last_user_id order by user_id desc limit 1);
            commit;
        end loop; end $$"
    );
    sqlx::raw_sql(AssertSqlSafe(leave)).execute(&mut *lent).await.unwrap();
    lent.give_back();
}

/// The least of some measurements, which a page that is split or cleared by chance does not change: the
/// blocks of finding head, cursor and checkpoint, and those of a round.
async fn measure(one: &Connections, fence: i64) -> (i64, i64) {
    let mut least = (i64::MAX, i64::MAX);
    for _ in 0..MEASUREMENTS {
        let found = blocks(one, async || {
            views::checkpoint(one).await.unwrap();
            outbox::load(one).await.unwrap();
            read::head(one).await.unwrap();
        });
        let found = found.await;
        let round = blocks(one, async || round(one, fence).await).await;
        least = (least.0.min(found), least.1.min(round));
    }
    least
}

#[tokio::test]
async fn an_old_snapshot_makes_nothing_slower() {
    let database = TestDatabase::migrated().await;
    let one = database.database().connect(1).await.unwrap();
    ranges::open(&one, Position(100_000), 100_000).await.unwrap();
    for table in TABLES {
        let by_hand = format!("alter table {table} set (autovacuum_enabled = off)");
        sqlx::query(AssertSqlSafe(by_hand)).execute(&one).await.unwrap();
    }
    let log = given(&one, vec![new_user(&mut 0)]).await;
    let first = checkpoint::take_over(&one).await.unwrap();
    apply(&one, first, &log, &Ways::default(), 100).await.unwrap();
    let lead = outbox::take_lead(&one, "test", Duration::from_mins(1)).await.unwrap().unwrap();

    let mut holder = PgConnection::connect(&database.url).await.unwrap();
    let hold = "begin isolation level repeatable read; select count(*) from events";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();

    for _ in 0..FIRST_ROUNDS {
        round(&one, lead.fence).await;
    }
    let (found, written) = measure(&one, lead.fence).await;
    versions(&one).await;
    let then = measure(&one, lead.fence).await;
    // Vacuum can remove nothing, and counts one row where there are so many versions.
    vacuum(&one).await;
    versions(&one).await;
    let after_vacuum = measure(&one, lead.fence).await;
    drop(holder);

    let what = format!("{found} and {written} blocks, then {then:?} and {after_vacuum:?}");
    for (found_then, written_then) in [then, after_vacuum] {
        assert!(found_then <= found + BLOCKS_MORE_MAX, "{what}");
        assert!(written_then <= written + BLOCKS_MORE_MAX, "{what}");
    }
    let reached = 1 + FIRST_ROUNDS + 3 * MEASUREMENTS;
    assert_eq!(checkpoint::load(&one).await.unwrap().position, Position(reached));
}
