//! Every statement of reads, appends and projection has one plan, whatever the planner knows.
//!
//! Each is run on empty tables, where a session that keeps plans would make them; then the tables are
//! filled without a look at them; then it is counted how many rows and index entries it visits.
//! Milliseconds would say less, and say it later.

use std::collections::{BTreeMap, BTreeSet};

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
use events::store::{Connections, append, history, outbox, read};
use events::{Clock, Event, Mark, Position, RecordedEvent, TweetId, UserId};
use projector::bounds::Bounds;
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

const TABLES: &str = "'events', 'accounts', 'idempotency_keys', 'markers', 'users', 'tweets', 'follows', 'feed_items', 'floors'";

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
             insert into tweets select g, 1 + g % {AUTHORS}, 'content ' || g, now(), 0
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

/// Every read of the read model and of the log, with the most that it may visit.
async fn reads(session: &Session) -> BTreeMap<&'static str, (i64, i64)> {
    let mut found = BTreeMap::new();
    let end = AUTHORS * TWEETS_EACH;
    let (reader, author) = (UserId(7), UserId(3));
    macro_rules! count {
        ($name:literal, $most:expr, |$one:ident| $read:expr) => {
            let visited = session
                .visited(async |$one| {
                    $read.await.unwrap();
                })
                .await;
            found.insert($name, (visited, $most));
        };
    }
    // A look-up by key is an index entry and a row.
    count!("first page", 200, |one| views::feed::page(one, reader, NEWEST, PAGE));
    let deep = TweetId(end - KEPT - 100);
    count!("page below the floor", 1_200, |one| views::feed::page(one, reader, deep, PAGE));
    let far = Page { skip: 5_000, limit: 21 };
    count!("page after a skip", 20_000, |one| views::feed::page(one, reader, NEWEST, far));
    let past = Position(end - 500);
    count!("page of the past", 1_200, |one| {
        views::feed::page_at(one, reader, NEWEST, PAGE, past)
    });
    count!("what was there since", 3_000, |one| {
        views::feed::stays(one, reader, Position(end - 20), 40)
    });
    count!("what is new since", 300, |one| {
        views::feed::since(one, reader, Position(end - 20), 21)
    });
    count!("what is unread", 300, |one| {
        views::feed::unread(one, reader, TweetId(end - 20), 1_001)
    });
    count!("a marker", 20, |one| api::markers::marker(one, reader));
    let readers: Vec<UserId> = (1..=20).map(UserId).collect();
    count!("what is new for many", 500, |one| {
        views::feed::news(one, &readers, Position(end - 3), Position(end))
    });
    count!("a tweet", 20, |one| views::tweets::find(one, TweetId(17)));
    count!("tweets of a user", 100, |one| { views::tweets::by_author(one, author, NEWEST, PAGE) });
    count!("a user", 20, |one| views::users::find(one, author));
    count!("users", 100, |one| views::users::list(one, UserId(500), PAGE));
    count!("followers", 200, |one| views::follows::followers(one, author, UserId(0), PAGE));
    count!("following", 200, |one| views::follows::following(one, reader, UserId(0), PAGE));
    count!("the head of the log", 20, |one| read::head(one));
    count!("the next events", 100, |one| read::after(one, Position(100), 32));
    count!("a position by its time", 100, |one| read::position_at(one, Clock::system().now()));
    let mark = Mark { position: Position(end), event_id: Uuid::nil() };
    count!("which history it is", 20, |one| history::foreign(one, &[mark]));
    count!("the outbox", 20, |one| outbox::load(one));
    let streams: Vec<String> = (1..=20).map(|number| format!("tweet-{number}")).collect();
    count!("the last of streams", 100, |one| read::last_of_streams(one, &streams));
    count!("the newest of streams", 100, |one| {
        read::newest_of_streams(one, &streams, Position(end), 20)
    });
    count!("the first of streams", 100, |one| read::first_of_streams(one, &streams));
    count!("what an append builds on", 40, |one| async move {
        let mut lent = one.lend().await?;
        let mut transaction = lent.begin_with(append::BEGIN_LOCKED).await?;
        let head = append::head(&mut transaction).await?;
        transaction.rollback().await?;
        lent.give_back();
        Ok::<_, sqlx::Error>(head)
    });
    found
}

fn are_bounded(found: &BTreeMap<&'static str, (i64, i64)>) {
    for (name, (visited, most)) in found {
        assert!(visited <= most, "{name} visits {visited}: {found:#?}");
    }
}

#[tokio::test]
async fn reads_visit_what_they_need_whatever_the_planner_knows() {
    for planner in PLANNERS {
        println!("{planner:?}");
        let session = Session::on_empty_tables(planner).await;
        // As often as makes a session keep a plan.
        for _ in 0..8 {
            reads(&session).await;
        }
        session.fill().await;
        are_bounded(&reads(&session).await);
    }
}

fn recorded(position: i64, event: &Event) -> RecordedEvent {
    let position = Position(position);
    RecordedEvent {
        position,
        event_id: Uuid::now_v7(),
        stream: event.stream(position),
        version: 1,
        kind: event.kind().to_owned(),
        schema_version: event.schema_version(),
        payload: RawValue::from_string(event.payload()).unwrap(),
        metadata: Metadata::default(),
        recorded_at: Clock::system().now(),
    }
}

fn follow(follower: i64, followed: i64) -> Event {
    let (follower_id, followed_id) = (UserId(follower), UserId(followed));
    Event::Followed(Followed { follower_id, followed_id })
}

fn unfollow(follower: i64, followed: i64) -> Event {
    let (follower_id, followed_id) = (UserId(follower), UserId(followed));
    Event::Unfollowed(Unfollowed { follower_id, followed_id })
}

fn tweet(author: i64) -> Event {
    Event::TweetCreated(TweetCreated { author_id: UserId(author), content: "hello".to_owned() })
}

/// Applies each run and counts what that visits.
async fn project(session: &Session, runs: &[(&'static str, Vec<Event>, i64)]) {
    let mut found = BTreeMap::new();
    for (name, events, most) in runs {
        let checkpoint = checkpoint::load(&session.one).await.unwrap();
        let events: Vec<RecordedEvent> = (checkpoint.position.0 + 1..)
            .zip(events)
            .map(|(at, event)| recorded(at, event))
            .collect();
        let visited = session
            .visited(async |one| {
                apply(one, checkpoint, &events, &BTreeSet::new(), KEPT).await.unwrap();
            })
            .await;
        found.insert(*name, (visited, *most));
    }
    are_bounded(&found);
}

async fn projection_visits_what_it_needs(session: Session) {
    let register = |user_id: i64| {
        let (username, email) = (format!("early{user_id}"), format!("{user_id}@example.com"));
        Event::UserRegistered(UserRegistered { user_id: UserId(user_id), username, email })
    };
    // Everything once, often enough for a session to keep plans, while the tables are all but empty.
    for round in 0..8 {
        let (ada, bob) = (9_001 + 2 * round, 9_002 + 2 * round);
        let leave = Event::UserDeleted(UserDeleted { user_id: UserId(ada) });
        for events in [
            vec![register(ada), register(bob), tweet(ada)],
            vec![follow(bob, ada)],
            vec![tweet(ada)],
            vec![unfollow(bob, ada)],
            vec![leave],
        ] {
            project(&session, &[("early", events, i64::MAX)]).await;
        }
    }
    let clear = "truncate users, tweets, follows, feed_items, floors";
    sqlx::query(clear).execute(&session.one).await.unwrap();
    session.fill().await;

    // Readers 1 to 200 follow authors 1 to 50, whose 400 tweets each are all there is; a thousand are kept.
    // A row is written once and looked at a few times: when it is inserted, found again, deleted.
    let (readers, their_rows) = (200, KEPT / AUTHORS);
    let new_readers = || 301..311;
    let deleted = TweetDeleted { tweet_id: TweetId(77), author_id: UserId(28) };
    project(
        &session,
        &[
            ("a tweet", vec![tweet(3)], 10 * readers + 8 * KEPT),
            ("a tweet that nobody reads", vec![tweet(1_700)], 50),
            (
                "ten follows",
                new_readers().map(|reader| follow(reader, 5)).collect(),
                10 * 10 * TWEETS_EACH,
            ),
            (
                "ten unfollows",
                (1..11).map(|reader| unfollow(reader, 9)).collect(),
                10 * (10 * their_rows + 100),
            ),
            ("a tweet deleted", vec![Event::TweetDeleted(deleted)], 50),
            (
                "a reader deleted",
                vec![Event::UserDeleted(UserDeleted { user_id: UserId(150) })],
                6 * KEPT + 20 * AUTHORS,
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn projection_visits_what_it_needs_whatever_the_planner_knows() {
    for planner in PLANNERS {
        println!("{planner:?}");
        projection_visits_what_it_needs(Session::on_empty_tables(planner).await).await;
    }
}

/// The counts' statements, of readers and of the projector, and the most that each may visit.
async fn counting(session: &Session) -> BTreeMap<&'static str, (i64, i64)> {
    let mut found = BTreeMap::new();
    let one = &session.one;
    let visited = session
        .visited(async |one| {
            views::counts::find(one, UserId(7)).await.unwrap();
        })
        .await;
    // Of each who is followed the row of who follows, and whether they are there.
    found.insert("a profile", (visited, 6 * AUTHORS + 20));
    let model = Counts::at(one, Bounds::keeping(KEPT), &CancellationToken::new());
    let leave = Event::UserDeleted(UserDeleted { user_id: UserId(150) });
    for (name, events, most) in [
        ("ten tweets", (1..11).map(tweet).collect(), 200),
        ("ten follows", (301..311).map(|reader| follow(reader, 5)).collect(), 200),
        ("ten unfollows", (301..311).map(|reader| unfollow(reader, 5)).collect(), 200),
        ("a user who leaves", vec![leave], 10 * AUTHORS + 50),
    ] {
        let events: Vec<Event> = events;
        let mut checkpoint = checkpoint::load(one).await.unwrap();
        let events: Vec<RecordedEvent> = (checkpoint.position.0 + 1..)
            .zip(&events)
            .map(|(at, event)| recorded(at, event))
            .collect();
        let visited =
            session.visited(async |_| model.write(&mut checkpoint, &events).await.unwrap()).await;
        found.insert(name, (visited, most));
    }
    found
}

#[tokio::test]
async fn counting_visits_what_it_needs_whatever_the_planner_knows() {
    for planner in PLANNERS {
        println!("{planner:?}");
        let session =
            Session::of(ProjectionName::Counts, "'user_counts', 'counted_follows'", planner).await;
        for _ in 0..8 {
            counting(&session).await;
        }
        let fill = format!(
            "truncate user_counts, counted_follows;
             insert into user_counts select g, 3, 3 from generate_series(1, 20000) g;
             insert into counted_follows select reader, author
                from generate_series(1, 400) reader, generate_series(1001, 1000 + {AUTHORS}) author"
        );
        let mut lent = session.one.lend().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut *lent).await.unwrap();
        lent.give_back();
        are_bounded(&counting(&session).await);
    }
}

/// Commands of every kind, each with a key of its own, and what each visits. Says how many were accepted.
async fn commands(session: &Session) -> (usize, BTreeMap<&'static str, (i64, i64)>) {
    let log_head = watch::channel(Position::START).0;
    let (appender, task) = Appender::new(session.one.clone(), Clock::system(), log_head);
    let stop = CancellationToken::new();
    let running = tokio::spawn(task.run(stop.clone()));
    let (ada, bob) = (UserId(1_001), UserId(1_002));
    let register = |name: &str| Command::Register {
        username: Username::parse(name).unwrap(),
        email: Email::parse(&format!("{name}@example.org")).unwrap(),
    };
    let content = Content::parse("hello").unwrap();
    let commands = [
        ("a registration", register(&format!("new{}", Uuid::now_v7().simple()))),
        ("a name that is taken", register("user7")),
        ("a tweet", Command::Tweet { author_id: ada, content }),
        (
            "a tweet that is not there",
            Command::DeleteTweet { author_id: ada, tweet_id: TweetId(i64::MAX) },
        ),
        ("a tweet of another", Command::DeleteTweet { author_id: ada, tweet_id: TweetId(77) }),
        ("a follow", Command::Follow { follower_id: ada, followed_id: bob }),
        ("an unfollow", Command::Unfollow { follower_id: ada, followed_id: bob }),
    ];
    let (mut accepted, mut found) = (0, BTreeMap::new());
    for (name, command) in commands {
        let key = Some(IdempotencyKey(Uuid::now_v7().to_string()));
        let visited = session
            .visited(async |_| {
                let answer = appender.submit(command, key, Metadata::default()).await;
                accepted += usize::from(answer.is_ok());
            })
            .await;
        found.insert(name, (visited, 60));
    }
    stop.cancel();
    running.await.unwrap();
    (accepted, found)
}

#[tokio::test]
async fn appends_visit_what_they_need_whatever_the_planner_knows() {
    for planner in PLANNERS {
        println!("{planner:?}");
        let session = Session::on_empty_tables(planner).await;
        for _ in 0..8 {
            commands(&session).await;
        }
        let clear = "truncate accounts, idempotency_keys, markers; alter table events disable trigger events_append_only; truncate events";
        sqlx::raw_sql(clear).execute(&mut *session.one.lend().await.unwrap()).await.unwrap();
        session.fill().await;
        let registered =
            "insert into events select max(position) + 1, gen_random_uuid(), 'user-9000', 1,
            'UserRegistered', 1, '{\"user_id\": 9000}', '{}', now() from events";
        sqlx::query(registered).execute(&session.one).await.unwrap();
        let (accepted, found) = commands(&session).await;
        assert_eq!(accepted, 4, "of seven, three have to be refused");
        are_bounded(&found);
    }
}
