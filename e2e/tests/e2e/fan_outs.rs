//! A tweet with more readers than one transaction should write for enters their feeds step by step, and is in each of
//! them from its own transaction on.

use api::views::{Page, delivery, feed};
use e2e::history::given;
use e2e::system::System;
use e2e::until;
use events::event::{TweetDeleted, UserDeleted};
use events::store::Connections;
use events::{Event, Position, TweetId, UserId};
use projector::bounds::Bounds;
use projector::checkpoint;
use projector::feed::read_model::fan_out::{self, FAN_OUTS_MAX};
use projector::feed::read_model::holding::{self, Holds};
use projector::projection::{ApplyError, ProjectionError};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::stage::{READERS, STAR, Stage, follow, tweet, unfollow};

/// So few readers are served by a step.
const ROWS: i64 = 3;

/// One reader at a time, and nobody has so many that there are none.
const STEP_BY_STEP: [&str; 4] = ["--fan-out-rows", "1", "--pull-from", "1000"];

const BOUNDS: Bounds = Bounds { fan_out_rows: ROWS, ..Bounds::keeping(5) };

#[tokio::test]
async fn a_tweet_is_in_every_feed_at_once_and_its_rows_come_step_by_step() {
    let mut stage = Stage::set(BOUNDS).await;
    let at = stage.happen(vec![tweet(STAR)]).await;
    // Between its own transaction and the next event there was the first step.
    for rows in [3, 6, 9] {
        assert_eq!(stage.rows().await, rows);
        assert_eq!(stage.checkpoint.position, at);
        assert_ne!(stage.checkpoint.under_way, None);
        stage.is_exact().await;
        let delivered =
            delivery::find(&stage.pool, TweetId(at.0), STAR).await.unwrap().value.unwrap();
        assert_eq!((delivered.followers, delivered.feeds), (READERS - 1, READERS - 1));
        stage.step().await;
    }
    assert_eq!((stage.rows().await, stage.checkpoint.under_way), (READERS, None));
    assert_eq!(stage.checkpoint, checkpoint::load(&stage.pool).await.unwrap());
    stage.is_exact().await;
}

#[tokio::test]
async fn verifying_notices_a_fan_out_that_is_not_where_its_rows_are() {
    let mut stage = Stage::set(BOUNDS).await;
    let tweet = stage.happen(vec![tweet(STAR)]).await;
    for (next_reader, what) in
        [(3, "does not belong into the feed of user 3"), (5, "is missing in the feed of user 4")]
    {
        let moved = "update fan_outs set next_reader = $1";
        sqlx::query(moved).bind(next_reader).execute(&stage.pool).await.unwrap();
        let report = stage.verified().await;
        assert_eq!(report.differences, 1, "{report:?}");
        assert_eq!(report.listed[0].what, format!("tweet {tweet} {what}"));
    }
}

#[tokio::test]
async fn tweets_that_stand_at_the_same_reader_go_on_together() {
    let mut stage = Stage::set(BOUNDS).await;
    stage.happen(vec![tweet(STAR), tweet(STAR), tweet(STAR)]).await;
    assert_eq!(stage.rows().await, 3, "one reader has all three");
    stage.happen(vec![tweet(UserId(2)), tweet(STAR)]).await;
    // Three at the second reader, one at the first: and each of user 2 for herself.
    stage.is_exact().await;
    while stage.checkpoint.under_way.is_some() {
        stage.step().await;
        stage.is_exact().await;
    }
    assert_eq!(stage.rows().await, 4 * READERS + 1);
}

#[tokio::test]
async fn whatever_changes_on_the_way_no_reader_has_a_tweet_twice_or_not_at_all() {
    // One whom the fan-out has come to, and one whom it has yet to come to.
    let (early, late) = (UserId(2), UserId(9));
    let leave = |user_id| vec![Event::UserDeleted(UserDeleted { user_id })];
    let many = |author| vec![tweet(author); 20];
    // What happens after two steps, and after one more.
    let changes = [
        ("nothing", vec![], vec![]),
        (
            "readers leave and come back",
            vec![unfollow(early, STAR), unfollow(late, STAR)],
            vec![follow(late, STAR), follow(early, STAR)],
        ),
        (
            "readers come back in the same run",
            vec![unfollow(late, STAR), follow(late, STAR)],
            vec![unfollow(early, STAR), follow(early, STAR)],
        ),
        ("floors rise past it", many(late), many(early)),
        ("readers are deleted", leave(late), leave(early)),
        ("the author is deleted", leave(STAR), vec![]),
        ("she goes on", vec![tweet(STAR); 3], vec![tweet(STAR); 20]),
        ("readers follow others", vec![follow(late, early)], vec![follow(early, late)]),
    ];
    for (what, after_two_steps, later) in changes {
        println!("{what}");
        let mut stage = Stage::set(BOUNDS).await;
        stage.happen(vec![tweet(STAR)]).await;
        stage.step().await;
        for events in [after_two_steps, later] {
            stage.happen(events).await;
            stage.is_exact().await;
        }
        while stage.checkpoint.under_way.is_some() {
            stage.step().await;
            stage.is_exact().await;
        }
    }
}

#[tokio::test]
async fn a_tweet_that_is_deleted_on_the_way_goes_no_further() {
    let mut stage = Stage::set(BOUNDS).await;
    let at = stage.happen(vec![tweet(STAR)]).await;
    assert_eq!(
        holding::look(&stage.pool, UserId(9), TweetId(at.0)).await.unwrap().holds,
        Holds::FanOutUnderWay
    );
    let deleted = TweetDeleted { tweet_id: TweetId(at.0), author_id: STAR };
    stage.happen(vec![Event::TweetDeleted(deleted)]).await;
    assert_eq!(stage.rows().await, 3);
    stage.is_exact().await;
    stage.step().await;
    assert_eq!((stage.rows().await, stage.checkpoint.under_way), (3, None));
}

#[tokio::test]
async fn there_are_never_more_under_way_than_pages_can_look_at() {
    let mut stage = Stage::set(Bounds { fan_out_rows: 1, ..BOUNDS }).await;
    let tweets = usize::try_from(FAN_OUTS_MAX).unwrap() + 100;
    let at = Position(stage.checkpoint.position.0);
    let log = given(&stage.pool, vec![tweet(STAR); tweets]).await;
    let mut most = 0;
    for position in (at.0..=i64::try_from(log.len()).unwrap()).step_by(17) {
        stage.projection.apply_from_log(&mut stage.checkpoint, Position(position)).await.unwrap();
        let Some(under_way) = stage.checkpoint.under_way else { continue };
        most = most.max(fan_out::count(&stage.pool, under_way).await.unwrap());
    }
    assert!(most > FAN_OUTS_MAX / 2 && most <= FAN_OUTS_MAX, "{most}");
    stage.is_exact().await;
}

#[tokio::test]
async fn a_projector_that_was_relieved_does_not_go_on_with_fan_outs() {
    let mut stage = Stage::set(BOUNDS).await;
    stage.happen(vec![tweet(STAR)]).await;
    let newer = checkpoint::take_over(&stage.pool).await.unwrap();
    let late = stage.projection.go_on(&mut stage.checkpoint).await;
    assert!(matches!(late, Err(ProjectionError::Apply(ApplyError::Fenced(_)))), "{late:?}");
    assert_eq!(stage.rows().await, 3);
    stage.checkpoint = newer;
    stage.step().await;
    assert_eq!(stage.rows().await, 6);
}

/// The server crashed and lost the step that ended the fan-out: position and fence are what they were.
#[tokio::test]
async fn a_step_that_was_lost_is_noticed_before_anything_is_written() {
    let mut stage = Stage::set(BOUNDS).await;
    let at = stage.happen(vec![tweet(STAR)]).await;
    let before = stage.checkpoint;
    while stage.checkpoint.under_way.is_some() {
        stage.step().await;
    }
    let lose = format!(
        "delete from feed_items where user_id > 3;
         insert into fan_outs values ({at}, {STAR}, 4);
         update checkpoint set under_way = {at}"
    );
    let mut lent = stage.pool.lend().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(lose)).execute(&mut *lent).await.unwrap();
    lent.give_back();
    assert_eq!(checkpoint::load(&stage.pool).await.unwrap(), before);

    let head = Position(given(&stage.pool, vec![tweet(UserId(2))]).await.len().try_into().unwrap());
    let late = stage.projection.apply_from_log(&mut stage.checkpoint, head).await;
    assert!(matches!(late, Err(ProjectionError::Apply(ApplyError::Fenced(_)))), "{late:?}");
    stage.checkpoint = stage.projection.take_over().await.unwrap();
    stage.projection.apply_from_log(&mut stage.checkpoint, head).await.unwrap();
    stage.is_exact().await;
}

/// Blocks of `fan_outs` that the first page of every reader looks at.
async fn blocks_of_pages(one: &Connections) -> i64 {
    let counted = async || -> i64 {
        let mut lent = one.lend().await.unwrap();
        sqlx::query("select pg_stat_force_next_flush()").execute(&mut *lent).await.unwrap();
        let counted = sqlx::query_scalar(
            "select heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read
             from pg_statio_user_tables where relname = 'fan_outs'",
        );
        let counted = counted.fetch_one(&mut *lent).await.unwrap();
        lent.give_back();
        counted
    };
    let before = counted().await;
    for reader in 1..=READERS {
        let page = Page { skip: 0, limit: 20 };
        feed::page(one, UserId(reader), feed::NEWEST, page).await.unwrap();
    }
    counted().await - before
}

#[tokio::test]
async fn an_old_snapshot_makes_no_page_slower_for_fan_outs_that_have_ended() {
    let mut stage = Stage::set(BOUNDS).await;
    // Vacuum would be counted with the pages.
    let by_hand = "alter table fan_outs set (autovacuum_enabled = off)";
    sqlx::query(by_hand).execute(&stage.pool).await.unwrap();
    let mut holder = PgConnection::connect(&stage.database.url).await.unwrap();
    let hold = "begin isolation level repeatable read; select count(*) from events";
    sqlx::raw_sql(hold).execute(&mut holder).await.unwrap();
    let mut most = 0;
    for _ in 0..200 {
        stage.happen(vec![tweet(STAR)]).await;
        most = most.max(blocks_of_pages(&stage.pool).await);
        while stage.checkpoint.under_way.is_some() {
            stage.step().await;
        }
    }
    assert_eq!(blocks_of_pages(&stage.pool).await, 0, "nothing is under way");
    // For a page that is not in rows alone: the index, the row, and both again for the whole of it.
    assert!(most <= 8 * READERS, "{most} blocks for {READERS} pages");
    holder.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_two_steps_a_fan_out_goes_on_where_it_was() {
    let mut system = System::start_with(&STEP_BY_STEP).await;
    let star = system.client.register("star").await;
    system.caught_up().await;
    let mut readers = Vec::new();
    for number in 0..60 {
        let reader = system.client.register(&format!("reader{number}")).await;
        system.client.follow(reader, star).await;
        readers.push(reader);
    }
    system.caught_up().await;
    for round in 0..3 {
        let tweet = system.client.tweet(star, "hello").await;
        let halfway = async || {
            let count = "select count(*) from feed_items where tweet_id = $1";
            let count = sqlx::query_scalar(count).bind(tweet.0).fetch_one(&system.log);
            let rows: i64 = count.await.ok()?;
            (rows > 5 * (round + 1)).then_some(rows)
        };
        until("it is under way", halfway).await;
        system.projector.kill().await;
        let rows: i64 = sqlx::query_scalar("select count(*) from feed_items where tweet_id = $1")
            .bind(tweet.0)
            .fetch_one(&system.log)
            .await
            .unwrap();
        println!("killed at {rows} of {} rows", readers.len() + 1);
        system.every_feed_alone_is_exact().await;
        let amqp_url = system.amqp_url();
        system.projector =
            e2e::system::start_projector(&system.database.url, &amqp_url, &[], &STEP_BY_STEP).await;
    }
    until("nothing is under way", async || {
        let found = checkpoint::load(&system.log).await.ok()?;
        found.under_way.is_none().then_some(())
    })
    .await;
    for reader in readers {
        assert_eq!(system.kept_rows(reader).await, 3);
    }
    system.every_feed_is_exact().await;
    system.stop().await;
}
