//! Every statement of reads, appends and projection has one plan, whatever the planner knows.
//!
//! Each is run on empty tables, where a session that keeps plans would make them; then the tables are
//! filled without a look at them; then it is counted how many rows and index entries it visits.
//! Milliseconds would say less, and say it later.

mod appends;
mod counting;
mod dormant;
mod projection;
mod reads;

use std::collections::BTreeMap;

use api::appender::{Appender, IdempotencyKey};
use api::domain::{Command, Content, Email, Username};
use api::views::feed::NEWEST;
use api::views::{self, Page};
use e2e::database::TestDatabase;
use events::event::{
    Followed, TweetCreated, TweetDeleted, Unfollowed, UserDeleted, UserRegistered,
};
use events::projection::ProjectionName;
use events::recorded::Metadata;
use events::store::database::PLANNED_EACH_TIME;
use events::store::{Connections, append, history, outbox, ranges, read};
use events::{Clock, Event, Mark, Position, RecordedEvent, TweetId, UserId};
use projector::bounds::Bounds;
use projector::changes::Ways;
use projector::checkpoint;
use projector::counts::Counts;
use projector::feed::apply::apply;
use projector::projection::ReadModel;
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, Connection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Authors of whom each reader follows all, and what each has written.
const AUTHORS: i64 = 50;
const TWEETS_EACH: i64 = 400;
const KEPT: i64 = 1_000;

/// A page of twenty and the one more that says whether there is another.
const PAGE: Page = Page { skip: 0, limit: 21 };

/// Of the log; it is filled beyond the second.
const RANGE_EVENTS: i64 = 10_000;

const TABLES: &str = "'events_1', 'events_10001', 'events_20001', 'relationships', 'deleted_tweets', 'accounts', 'idempotency_keys', 'markers', 'last_readings', 'users', 'tweets', 'follows', 'feed_items', 'floors', 'reader_counts', 'pulled_authors', 'rules'";

/// A single session, so that what it knows of the tables is from when they were empty.
struct Session {
    _database: TestDatabase,
    one: Connections,
    tables: &'static str,
}

/// How a session plans, and what the planner was told of the empty tables.
#[derive(Debug, Clone, Copy)]
struct Planner {
    plans_each_time: bool,
    /// Vacuumed and looked at while they are empty: from then on the planner believes that they are
    /// tiny, not only that it knows nothing of them.
    has_looked: bool,
}

const PLANNERS: [Planner; 4] = [
    Planner { plans_each_time: false, has_looked: false },
    Planner { plans_each_time: false, has_looked: true },
    Planner { plans_each_time: true, has_looked: false },
    Planner { plans_each_time: true, has_looked: true },
];

impl Session {
    async fn on_empty_tables(planner: Planner) -> Self {
        Self::of(ProjectionName::Feed, TABLES, planner).await
    }

    async fn of(projection: ProjectionName, tables: &'static str, planner: Planner) -> Self {
        let database = TestDatabase::migrated().await;
        let mut sessions = database.database().of(projection);
        if planner.plans_each_time {
            sessions = sessions.with_settings(PLANNED_EACH_TIME);
        }
        let one = sessions.connect(1).await.unwrap();
        if projection == ProjectionName::Feed {
            ranges::open(&one, Position(3 * RANGE_EVENTS), RANGE_EVENTS).await.unwrap();
        }
        let off = format!(
            "do $$ declare t text; begin foreach t in array array[{tables}] loop
                execute format('alter table %I set (autovacuum_enabled = off)', t);
            end loop; end $$"
        );
        sqlx::raw_sql(AssertSqlSafe(off)).execute(&mut *one.lend().await.unwrap()).await.unwrap();
        let session = Self { _database: database, one, tables };
        if planner.has_looked {
            session.look().await;
        }
        session
    }

    async fn look(&self) {
        let mut lent = self.one.lend().await.unwrap();
        for table in self.tables.split(", ") {
            let vacuum = format!("vacuum (analyze) {}", table.trim_matches('\''));
            sqlx::query(AssertSqlSafe(vacuum)).execute(&mut *lent).await.unwrap();
        }
        lent.give_back();
    }

    /// Rows and index entries visited by `work`, which is one or more statements.
    async fn visited(&self, work: impl AsyncFnOnce(&Connections)) -> i64 {
        let before = self.counted().await;
        work(&self.one).await;
        self.counted().await - before
    }

    async fn counted(&self) -> i64 {
        let mut lent = self.one.lend().await.unwrap();
        // What a session has counted is made known at the end of its transaction, when it is asked.
        sqlx::query("select pg_stat_force_next_flush()").execute(&mut *lent).await.unwrap();
        let counted = sqlx::query_scalar(
            "select (sum(seq_tup_read) + sum(coalesce(idx_tup_fetch, 0)) + (
                select sum(idx_tup_read) from pg_stat_user_indexes
            ))::bigint from pg_stat_user_tables",
        );
        let counted = counted.fetch_one(&mut *lent).await.unwrap();
        lent.give_back();
        counted
    }

    async fn fill(&self) {
        let tweets = AUTHORS * TWEETS_EACH;
        let fill = format!(
            "insert into users select g, 'user' || g, 'u' || g || '@example.org', now(), 0
                from generate_series(1, 2000) g;
             insert into accounts select g, 'user' || g, 'u' || g || '@example.org', 'user' || g,
                'u' || g || '@example.org', now() from generate_series(1, 2000) g;
             insert into idempotency_keys select 'user-' || 1000 + g % 10, 'key ' || g, '', 'null', now()
                from generate_series(1, 2000) g;
             insert into tweets select g, 1 + g % {AUTHORS}, 'content ' || g, now(), 0, false
                from generate_series(1, {tweets}) g;
             insert into follows select reader, author, 1, 0
                from generate_series(1, 200) reader, generate_series(1, {AUTHORS}) author;
             insert into feed_items select reader, tweet_id
                from generate_series(1, 200) reader, tweets where tweet_id > {tweets} - {KEPT};
             insert into floors select reader, {tweets} - {KEPT} + 1 from generate_series(1, 2000) reader;
             insert into events select g, gen_random_uuid(), 'tweet-' || g, 1, 'TweetCreated', 1,
                jsonb_build_object('author_id', 1 + g % {AUTHORS}, 'content', 'content ' || g), '{{}}', now()
                from generate_series(1, {tweets}) g;
             update checkpoint set position = {tweets};"
        );
        let mut lent = self.one.lend().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut *lent).await.unwrap();
        lent.give_back();
    }
}

impl Session {
    /// Reader 8 begins to read 500 authors more, whose 20 tweets each, the newest of all, are pulled.
    async fn fill_pulled(&self) {
        let end = AUTHORS * TWEETS_EACH;
        let fill = format!(
            "insert into pulled_authors select g from generate_series(1001, 1500) g;
             insert into follows select 8, g, 1, 0 from generate_series(1001, 1500) g;
             insert into tweets select {end} + g, 1001 + g % 500, 'content ' || g, now(), 0, true
                from generate_series(1, 10000) g;"
        );
        let mut lent = self.one.lend().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut *lent).await.unwrap();
        lent.give_back();
    }
}

fn are_bounded(found: &BTreeMap<&'static str, (i64, i64)>) {
    for (name, (visited, most)) in found {
        assert!(visited <= most, "{name} visits {visited}: {found:#?}");
    }
}
