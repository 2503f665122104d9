//! A tweet whose author has very many readers is pulled: it is in each of their feeds at once and has a row in none.

use api::views::delivery;
use events::event::{TweetDeleted, UserDeleted};
use events::store::Connections;
use events::{Event, TweetId, UserId};
use projector::bounds::Bounds;
use projector::feed::pulled::PullFrom;
use projector::feed::read_model::holding::{self, Holds};
use projector::feed::{Feeds, HomeFeeds};
use projector::progress::{Phase, Progress};
use projector::rebuild::Rebuild;
use projector::verify::Part;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::generations::claim;
use crate::stage::{READERS, STAR, Stage, follow, register, tweet, unfollow};

/// The star has just as many readers.
const BOUNDS: Bounds = Bounds { pull_from: PullFrom(READERS - 1), ..Bounds::keeping(5) };

const EARLY: UserId = UserId(2);
const LATE: UserId = UserId(9);

async fn pulled(pool: &Connections) -> Vec<bool> {
    let tweets = "select pulled from tweets order by tweet_id";
    sqlx::query_scalar(tweets).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn a_tweet_that_is_pulled_is_in_every_feed_at_once_and_has_a_row_in_none() {
    let mut stage = Stage::set(BOUNDS).await;
    let at = stage.happen(vec![tweet(STAR)]).await;
    assert_eq!((stage.rows().await, stage.checkpoint.under_way), (0, None));
    stage.is_exact().await;
    let holding = holding::look(&stage.pool, LATE, TweetId(at.0)).await.unwrap();
    assert_eq!((holding.holds, holding.pull_from), (Holds::Pulled, Some(READERS - 1)));
    let delivered = delivery::find(&stage.pool, TweetId(at.0), STAR).await.unwrap().value.unwrap();
    assert_eq!((delivered.followers, delivered.feeds), (READERS - 1, READERS - 1));
}

/// In one run or in one for each event.
#[tokio::test]
async fn a_tweet_stays_what_it_was_when_it_was_written() {
    let events = [
        tweet(STAR),
        unfollow(EARLY, STAR),
        tweet(STAR),
        follow(EARLY, STAR),
        tweet(STAR),
        Event::UserDeleted(UserDeleted { user_id: LATE }),
        tweet(STAR),
        unfollow(UserId(3), STAR),
        tweet(STAR),
    ];
    for run in [1, 2, events.len()] {
        let mut stage = Stage::set(BOUNDS).await;
        for events in events.chunks(run) {
            stage.happen(events.to_vec()).await;
            stage.is_exact().await;
        }
        // Who has left without unfollowing counts on.
        assert_eq!(pulled(&stage.pool).await, [true, false, true, true, false], "runs of {run}");
        let counted = "select readers from reader_counts where author_id = $1";
        let counted: Vec<i64> =
            sqlx::query_scalar(counted).bind(STAR.0).fetch_all(&stage.pool).await.unwrap();
        assert_eq!(counted, [READERS - 2], "runs of {run}");
    }
}

#[tokio::test]
async fn whatever_happens_to_readers_and_authors_feeds_are_exact_in_between() {
    let leave = |user_id| vec![Event::UserDeleted(UserDeleted { user_id })];
    let many = |author| vec![tweet(author); 20];
    let changes = [
        ("a reader leaves and comes back", vec![unfollow(LATE, STAR)], vec![follow(LATE, STAR)]),
        ("in the same run", vec![unfollow(LATE, STAR), follow(LATE, STAR)], vec![tweet(STAR)]),
        ("floors rise past it", many(LATE), many(EARLY)),
        ("readers are deleted", leave(LATE), leave(EARLY)),
        ("the author is deleted", leave(STAR), vec![tweet(EARLY)]),
        ("she writes more than a feed keeps", many(STAR), vec![unfollow(EARLY, STAR)]),
        (
            "what has rows and what is pulled take turns",
            [many(STAR), vec![unfollow(EARLY, STAR)], many(STAR)].concat(),
            [vec![follow(EARLY, STAR)], many(STAR), vec![unfollow(LATE, STAR)]].concat(),
        ),
        (
            "a stranger follows everyone",
            many(EARLY),
            [EARLY, LATE].map(|author| follow(UserId(4), author)).to_vec(),
        ),
    ];
    for (what, first, then) in changes {
        println!("{what}");
        let mut stage = Stage::set(BOUNDS).await;
        let at = stage.happen(vec![tweet(STAR), tweet(EARLY), tweet(STAR)]).await;
        for events in [first, then] {
            stage.happen(events).await;
            stage.is_exact().await;
        }
        let deleted = TweetDeleted { tweet_id: TweetId(at.0), author_id: STAR };
        stage.happen(vec![Event::TweetDeleted(deleted)]).await;
        stage.is_exact().await;
    }
}

/// Pages of one who reads hundreds of authors that are pulled, found from either side: they are few, or the reader's are.
#[tokio::test]
async fn those_who_are_pulled_are_found_from_the_shorter_side() {
    let bounds = Bounds { pull_from: PullFrom(1), ..Bounds::keeping(5) };
    let mut stage = Stage::set(bounds).await;
    let reader = UserId(1);
    for authors in [11..61, 61..111] {
        let users = authors.clone().map(register);
        let others = authors.clone().map(|author| follow(UserId(2), UserId(author)));
        let half = authors.clone().step_by(2).map(|author| follow(reader, UserId(author)));
        stage.happen(users.chain(others).chain(half).collect()).await;
        let tweets = authors.clone().chain(authors.rev().step_by(3));
        stage.happen(tweets.map(|author| tweet(UserId(author))).collect()).await;
        stage.is_exact().await;
    }
    let authors = sqlx::query_scalar("select count(*) from pulled_authors");
    let authors: i64 = authors.fetch_one(&stage.pool).await.unwrap();
    assert_eq!(authors, 100, "more than are looked at from their side");
}

#[tokio::test]
async fn the_rule_of_a_generation_holds_until_it_is_made_anew() {
    let mut stage = Stage::set(BOUNDS).await;
    stage.happen(vec![tweet(STAR)]).await;
    let without = Bounds { pull_from: PullFrom(1_000), ..BOUNDS };
    let (log, token) = (stage.pool.clone(), CancellationToken::new());
    stage.projection = Feeds::of_feeds(log.clone(), log.clone(), without, token.clone());
    stage.checkpoint = stage.projection.take_over().await.unwrap();
    stage.happen(vec![tweet(STAR)]).await;
    stage.is_exact().await;
    assert_eq!(pulled(&log).await, [true, true]);

    let rebuild = Rebuild::new(log.clone(), without, Progress::starting(Phase::Replay), token);
    rebuild.run::<HomeFeeds>(claim(&stage.database).await).await.unwrap();
    assert_eq!(pulled(&log).await, [false, false]);
    assert_eq!(stage.rows().await, 2 * READERS);
    stage.checkpoint = stage.projection.take_over().await.unwrap();
    stage.happen(vec![tweet(STAR)]).await;
    stage.is_exact().await;
    assert_eq!(pulled(&log).await, [false, false, false]);
}

#[tokio::test]
async fn verifying_notices_what_is_pulled_and_should_not_be() {
    let mut stage = Stage::set(BOUNDS).await;
    let at = stage.happen(vec![tweet(STAR)]).await;
    let changes = [
        ("update tweets set pulled = false", Part::Tweets, "with this content, pulled"),
        ("insert into feed_items select 3, tweet_id from tweets", Part::Feeds, "does not belong"),
        ("delete from pulled_authors", Part::Readers, "pulled_authors does not say so"),
        ("update reader_counts set readers = 7 where author_id = 1", Part::Readers, "says 7"),
        ("delete from reader_counts", Part::Readers, "says nothing"),
        ("insert into reader_counts values (4, 1, 2)", Part::Readers, "0 began to read user 4"),
    ];
    for (change, part, words) in changes {
        let copied =
            "create table copy as table tweets; create table counts_copy as table reader_counts";
        let restored = "delete from tweets; insert into tweets table copy; drop table copy;
            delete from reader_counts; insert into reader_counts table counts_copy; drop table counts_copy;
            insert into pulled_authors values (1) on conflict do nothing; delete from feed_items";
        for statements in [copied, change] {
            let mut lent = stage.pool.lend().await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *lent).await.unwrap();
            lent.give_back();
        }
        let report = stage.verified().await;
        let found = report.listed.iter().any(|it| it.part == part && it.what.contains(words));
        assert!(found, "{change}: {:#?}", report.listed);
        let mut lent = stage.pool.lend().await.unwrap();
        sqlx::raw_sql(restored).execute(&mut *lent).await.unwrap();
        lent.give_back();
        assert!(stage.verified().await.is_clean(), "{change} was undone");
    }
    assert_eq!(stage.checkpoint.position, at);
}

/// Blocks of `reader_counts` that `work` looks at.
async fn blocks(one: &Connections, work: impl AsyncFnOnce()) -> i64 {
    let counted = async || -> i64 {
        let mut lent = one.lend().await.unwrap();
        sqlx::query("select pg_stat_force_next_flush()").execute(&mut *lent).await.unwrap();
        let counted = sqlx::query_scalar(
            "select heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
             from pg_statio_user_tables where relname = 'reader_counts'",
        );
        let counted = counted.fetch_one(&mut *lent).await.unwrap();
        lent.give_back();
        counted
    };
    let before = counted().await;
    work().await;
    counted().await - before
}

/// While somebody holds an old snapshot, every count that a celebrity ever had stays where it was.
#[tokio::test]
async fn an_old_snapshot_makes_no_count_slower() {
    let mut stage = Stage::set(BOUNDS).await;
    let by_hand = "alter table reader_counts set (autovacuum_enabled = off)";
    sqlx::query(by_hand).execute(&stage.pool).await.unwrap();
    let mut holder = PgConnection::connect(&stage.database.url).await.unwrap();
    let hold = "begin isolation level repeatable read; select count(*) from events";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
    let mut least = Vec::new();
    for _ in 0..5 {
        let mut of_round = i64::MAX;
        for _ in 0..150 {
            let pool = stage.pool.clone();
            let round = blocks(&pool, async || {
                stage.happen(vec![unfollow(EARLY, STAR)]).await;
                stage.happen(vec![follow(EARLY, STAR)]).await;
            });
            of_round = of_round.min(round.await);
        }
        least.push(of_round);
    }
    // Where the index had a level less, the first rounds cost less.
    assert!(least[4] <= least[1] + 2, "{least:?} blocks for two counts");
    holder.close().await.unwrap();
}
