//! The appender: several at once, on one log.

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};

use api::appender::{Accepted, Appender, IdempotencyKey, Refusal};
use api::domain::{Command, Content, Email, Rejection, Username};
use chrono::{DateTime, Duration, Utc};
use e2e::database::TestDatabase;
use e2e::model::read_log;
use e2e::{RANGE_EVENTS, until};
use events::event::TweetCreated;
use events::recorded::Metadata;
use events::store::append::{self, BEGIN_LOCKED, NewEvent};
use events::store::{Connections, ranges, read};
use events::{Clock, Event, Position, UserId};
use futures_util::future::join_all;
use sqlx::Connection as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// An appender with connections of its own, as in a process of its own.
async fn start_appender(database: &TestDatabase) -> Appender {
    let (head, _) = watch::channel(Position::START);
    let (appender, task) =
        Appender::new(database.pool().await, Clock::system(), RANGE_EVENTS, head);
    tokio::spawn(task.run(CancellationToken::new()));
    appender
}

async fn submit(appender: &Appender, command: Command) -> Result<Accepted, Refusal> {
    appender.submit(command, None, Metadata::default()).await
}

fn register(name: &str) -> Command {
    let email = format!("{name}@example.org");
    Command::Register {
        username: Username::parse(name).unwrap(),
        email: Email::parse(&email).unwrap(),
    }
}

fn tweet(author: i64, content: &str) -> Command {
    Command::Tweet { author_id: UserId(author), content: Content::parse(content).unwrap() }
}

fn follow(follower: i64, followed: i64) -> Command {
    Command::Follow { follower_id: UserId(follower), followed_id: UserId(followed) }
}

/// Follows the log as the relay does, until it has seen `count` events.
async fn tail(log: Connections, count: usize) -> Vec<Position> {
    let mut seen: Vec<Position> = Vec::new();
    until("the tail has seen every event", async || {
        let after = seen.last().copied().unwrap_or(Position::START);
        seen.extend(read::after(&log, after, 64).await.unwrap().iter().map(|event| event.position));
        (seen.len() >= count).then_some(())
    })
    .await;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tailing_reader_sees_every_event_once_and_in_order_while_four_append() {
    const APPENDERS: usize = 4;
    const WRITERS: usize = 8;
    const TWEETS: usize = 50;
    let database = TestDatabase::migrated().await;
    let log = database.pool().await;
    let mut appenders = Vec::new();
    for _ in 0..APPENDERS {
        appenders.push(start_appender(&database).await);
    }
    submit(&appenders[0], register("ada")).await.unwrap();

    let total = 1 + APPENDERS * WRITERS * TWEETS;
    let tail = tail(log.clone(), total);
    let writers = appenders.iter().enumerate().flat_map(|(index, appender)| {
        (0..WRITERS).map(move |writer| async move {
            let mut positions = Vec::new();
            for number in 0..TWEETS {
                let content = format!("{index} {writer} {number}");
                positions.push(submit(appender, tweet(1, &content)).await.unwrap().position);
            }
            assert!(positions.is_sorted(), "a client's own tweets are in its order");
            positions
        })
    });
    let (seen, acknowledged) = tokio::join!(tail, join_all(writers));
    let acknowledged: HashSet<Position> = acknowledged.into_iter().flatten().collect();

    let dense: Vec<Position> = (1..=i64::try_from(total).unwrap()).map(Position).collect();
    assert_eq!(seen, dense);
    assert_eq!(acknowledged.len(), total - 1);
    let log = read_log(&log).await;
    let ids: HashSet<_> = log.iter().map(|event| event.event_id).collect();
    assert_eq!(ids.len(), total);
    assert!(log.windows(2).all(|pair| pair[0].position < pair[1].position));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_race_for_a_name_one_wins() {
    let database = TestDatabase::migrated().await;
    let appenders = [start_appender(&database).await, start_appender(&database).await];
    for round in 0..10 {
        let name = format!("name{round}");
        let racers = (0..8).map(|racer| submit(&appenders[racer % 2], register(&name)));
        let (won, lost): (Vec<_>, Vec<_>) =
            join_all(racers).await.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1);
        let taken = Refusal::Rejected(Rejection::UsernameTaken(name.clone()));
        assert!(lost.iter().all(|refusal| refusal.as_ref().unwrap_err() == &taken));
    }
    let ids: BTreeSet<UserId> = read_log(&database.pool().await)
        .await
        .iter()
        .filter_map(|event| match event.event().unwrap() {
            Event::UserRegistered(registered) => Some(registered.user_id),
            _ => None,
        })
        .collect();
    assert_eq!(ids, (1..=10).map(UserId).collect(), "ids count registrations, refused ones not");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_race_for_a_follow_one_wins_and_its_stream_has_no_holes() {
    let database = TestDatabase::migrated().await;
    let appenders = [start_appender(&database).await, start_appender(&database).await];
    submit(&appenders[0], register("ada")).await.unwrap();
    submit(&appenders[0], register("bob")).await.unwrap();
    for _ in 0..5 {
        let racers = (0..6).map(|racer| submit(&appenders[racer % 2], follow(1, 2)));
        assert_eq!(join_all(racers).await.iter().filter(|end| end.is_ok()).count(), 1);
        let unfollow = Command::Unfollow { follower_id: UserId(1), followed_id: UserId(2) };
        submit(&appenders[1], unfollow).await.unwrap();
    }
    let log = read_log(&database.pool().await).await;
    let versions: Vec<i32> = log
        .iter()
        .filter(|event| event.stream == "relationship-1-2")
        .map(|event| event.version)
        .collect();
    assert_eq!(versions, (1..=10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_those_who_race_with_one_key_all_get_the_answer_of_one() {
    let database = TestDatabase::migrated().await;
    let appenders = [start_appender(&database).await, start_appender(&database).await];
    submit(&appenders[0], register("ada")).await.unwrap();
    let keyed = |racer: usize, content: &str| {
        let key = Some(IdempotencyKey("k-1".to_owned()));
        appenders[racer % 2].submit(tweet(1, content), key, Metadata::default())
    };
    let answers = join_all((0..8).map(|racer| keyed(racer, "once"))).await;
    let first = answers[0].clone().unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref() == Ok(&first)));
    assert_eq!(keyed(0, "another").await, Err(Refusal::KeyReused));
    assert_eq!(read_log(&database.pool().await).await.len(), 2);
}

#[tokio::test]
async fn a_name_can_be_freed_and_taken_and_freed_again() {
    let database = TestDatabase::migrated().await;
    let appender = start_appender(&database).await;
    for id in 1..=3 {
        // Sent together, so that they are likely to share a batch.
        let delete = Command::DeleteUser { user_id: UserId(id) };
        let (registered, deleted) =
            tokio::join!(submit(&appender, register("ada")), submit(&appender, delete));
        assert_eq!(registered.unwrap().account.user_id, UserId(id));
        deleted.unwrap();
    }
}

/// The worst moment: the batch is committed, and the connection is cut before anyone hears of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_nobody_heard_of_is_found_in_the_log_and_not_repeated() {
    let database = TestDatabase::migrated().await;
    let (gate, gated) = database.behind_a_gate().await;
    let (head, _) = watch::channel(Position::START);
    let (appender, task) =
        Appender::new(gated.connect(4).await.unwrap(), Clock::system(), RANGE_EVENTS, head);
    tokio::spawn(task.run(CancellationToken::new()));
    submit(&appender, register("ada")).await.unwrap();

    for round in 1..=10 {
        // A tweet is an append of its own, and committed with it. A registration has more to write.
        gate.swallow_answer_to(b"round");
        let accepted = submit(&appender, tweet(1, &format!("round {round}"))).await.unwrap();
        assert!(!gate.is_armed(), "the answer was swallowed");
        assert_eq!(accepted.position, Position(2 * round), "once");

        gate.swallow_answer_to(b"COMMIT");
        let accepted = submit(&appender, register(&format!("bob{round}"))).await.unwrap();
        assert!(!gate.is_armed(), "the answer was swallowed");
        assert_eq!(accepted.position, Position(2 * round + 1), "once");
    }
    assert_eq!(read_log(&database.pool().await).await.len(), 21);
}

/// Each look at the clock is a minute earlier than the one before.
fn clock_that_goes_back() -> DateTime<Utc> {
    static LOOKS: AtomicI64 = AtomicI64::new(0);
    Clock::system().now() - Duration::minutes(LOOKS.fetch_add(1, Ordering::Relaxed))
}

/// Also where nobody looks at the log again between two appends.
#[tokio::test(flavor = "multi_thread")]
async fn one_who_appends_alone_by_a_clock_that_goes_back_stays_in_order() {
    let database = TestDatabase::migrated().await;
    let (head, _) = watch::channel(Position::START);
    let clock = Clock::showing(clock_that_goes_back);
    let (appender, task) = Appender::new(database.pool().await, clock, RANGE_EVENTS, head);
    tokio::spawn(task.run(CancellationToken::new()));
    submit(&appender, register("ada")).await.unwrap();
    for number in 0..3 {
        submit(&appender, tweet(1, &format!("tweet {number}"))).await.unwrap();
    }
    let log = read_log(&database.pool().await).await;
    assert_eq!(log.len(), 4);
    assert!(log.is_sorted_by_key(|event| event.recorded_at));
}

/// An append that is its own transaction may lie unread with the server while we look whether it came about. It is
/// refused when it comes late; and while nothing of ours has taken its place, nobody is told that nothing was stored.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_the_server_begins_too_late_is_not_repeated_and_not_denied() {
    let database = TestDatabase::migrated().await;
    let (gate, gated) = database.behind_a_gate().await;
    let (head, _) = watch::channel(Position::START);
    let (appender, task) =
        Appender::new(gated.connect(4).await.unwrap(), Clock::system(), RANGE_EVENTS, head);
    tokio::spawn(task.run(CancellationToken::new()));
    let log = database.pool().await;
    submit(&appender, register("ada")).await.unwrap();
    submit(&appender, tweet(1, "to know where the log ends")).await.unwrap();

    gate.hold_back(b"once");
    assert_eq!(submit(&appender, tweet(1, "once")).await.unwrap().position, Position(3));
    gate.release().await;
    assert_eq!(read::head(&log).await.unwrap(), Position(3));

    gate.hold_back_then_cut(b"perhaps");
    assert_eq!(submit(&appender, tweet(1, "perhaps")).await, Err(Refusal::Unknown));
    assert_eq!(read::head(&log).await.unwrap(), Position(3));
    // The attempts that were cut took the lock, and the server may yet have to notice that they ended.
    until_nobody_has_the_lock(&database).await;
    gate.release().await;
    until("the late append is in the log", async || {
        (read::head(&log).await.unwrap() == Position(4)).then_some(())
    })
    .await;
}

/// An append without the lock, by who believes to be alone, is refused when another has appended or
/// is about to. What was decided on an old log is not in the new one.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_overtaken_decides_anew() {
    let database = TestDatabase::migrated().await;
    let appenders = [start_appender(&database).await, start_appender(&database).await];
    submit(&appenders[0], register("ada")).await.unwrap();
    submit(&appenders[0], register("bob")).await.unwrap();
    submit(&appenders[1], tweet(1, "both know the end of the log")).await.unwrap();

    submit(&appenders[0], follow(1, 2)).await.unwrap();
    let again = submit(&appenders[1], follow(1, 2)).await;
    assert_eq!(again, Err(Refusal::Rejected(Rejection::AlreadyFollowing(UserId(2)))));

    // Somebody is in the middle of an append, and nothing goes on before it has ended.
    let mut lent = database.pool().await.lend().await.unwrap();
    let holder = lent.begin_with(BEGIN_LOCKED).await.unwrap();
    let waiting = tokio::spawn({
        let appender = appenders[0].clone();
        async move { submit(&appender, tweet(2, "after the other")).await }
    });
    until_somebody_waits_for_the_lock(&database).await;
    holder.rollback().await.unwrap();
    lent.give_back();
    assert_eq!(waiting.await.unwrap().unwrap().position, Position(5));
}

async fn until_nobody_has_the_lock(database: &TestDatabase) {
    let pool = database.pool().await;
    until("nobody has the lock", async || {
        let held = "select 1 from pg_locks where locktype = 'advisory'
            and database = (select oid from pg_database where datname = current_database())";
        let held = sqlx::query(held).fetch_optional(&pool).await.unwrap();
        held.is_none().then_some(())
    })
    .await;
}

async fn until_somebody_waits_for_the_lock(database: &TestDatabase) {
    let pool = database.pool().await;
    until("an appender waits for the lock", async || {
        let waiting = "select 1 from pg_locks where locktype = 'advisory' and not granted
            and database = (select oid from pg_database where datname = current_database())";
        sqlx::query(waiting).fetch_optional(&pool).await.unwrap().map(|_| ())
    })
    .await;
}

/// What an append takes to be the end of the log may be gone by the time it has the lock: the statement
/// looked before. Nothing is appended then, and no position is given twice or left out.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_looked_too_early_is_refused() {
    let database = TestDatabase::migrated().await;
    let log = database.pool().await;
    ranges::open(&log, Position(RANGE_EVENTS), RANGE_EVENTS).await.unwrap();
    let mut lent = log.lend().await.unwrap();
    // A snapshot for the whole transaction: the earliest that a look can be.
    let mut early = lent.begin_with("begin isolation level repeatable read").await.unwrap();
    assert_eq!(append::head(&mut early, Position::START).await.unwrap().position, Position::START);
    let tweeted = |position| NewEvent {
        position: Position(position),
        event_id: Uuid::now_v7(),
        version: 1,
        event: Event::TweetCreated(TweetCreated {
            author_id: UserId(1),
            content: "hello".to_owned(),
        }),
        metadata: Metadata::default(),
    };
    let now = Clock::system().now();
    let mut other = log.lend().await.unwrap();
    append::append(&mut other, Position::START, &[tweeted(1)], now).await.unwrap();
    other.give_back();

    let batch = [tweeted(1), tweeted(2)];
    let late = append::append(&mut early, Position::START, &batch, now).await;
    assert!(append::is_overtaken(&late.unwrap_err()));
    drop(early);
    drop(lent);
    assert_eq!(read::head(&log).await.unwrap(), Position(1));
}

/// While the database cuts connections in the middle of their work, again and again, what was
/// acknowledged is in the log once, and what was not is there at most once.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_neither_loses_nor_doubles_a_command() {
    let database = TestDatabase::migrated().await;
    let appender = start_appender(&database).await;
    let log = database.pool().await;
    submit(&appender, register("ada")).await.unwrap();

    let cutting = CancellationToken::new();
    let cutter = tokio::spawn({
        let (log, cutting) = (log.clone(), cutting.clone());
        async move {
            let cut = "select pg_terminate_backend(pid) from pg_stat_activity
                where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
                    and backend_type = 'client backend'";
            let (mut cuts, mut cut_at) = (0, None);
            while !cutting.is_cancelled() {
                // Between two cuts the log grows, so that the next hits another batch.
                let head = read::head(&log).await.ok();
                if head != cut_at {
                    let cut = sqlx::query(cut).fetch_all(&log).await.map_or(0, |rows| rows.len());
                    cuts += cut;
                    cut_at = if cut > 0 { head } else { cut_at };
                }
                tokio::task::yield_now().await;
            }
            cuts
        }
    });
    let mut acknowledged = HashSet::new();
    for round in 0..60 {
        let contents: Vec<String> = (0..8).map(|number| format!("{round} {number}")).collect();
        let tweets = contents.iter().map(|content| submit(&appender, tweet(1, content)));
        for (content, answer) in contents.iter().zip(join_all(tweets).await) {
            if answer.is_ok() {
                acknowledged.insert(content.clone());
            }
        }
    }
    cutting.cancel();
    assert!(cutter.await.unwrap() > 0, "something was cut");

    let mut stored = HashSet::new();
    let pool = database.pool().await;
    for event in read_log(&pool).await {
        if let Event::TweetCreated(created) = event.event().unwrap() {
            assert!(stored.insert(created.content.clone()), "{} is doubled", created.content);
        }
    }
    assert!(acknowledged.is_subset(&stored), "something acknowledged is missing");
    assert!(!acknowledged.is_empty());
}
