//! Whoever has not read for long holds no rows: their pages are exact all the same, and the rows come back when they read.

mod service;

use std::time::Duration;

use events::event::UserDeleted;
use events::store::Connections;
use events::{Event, TweetId, UserId};
use projector::bounds::Bounds;
use projector::feed::dormancy::{self, DormantAfter};
use projector::feed::pulled::PullFrom;
use projector::feed::read_model::dormant::{Served, bring_back, drop_rows};
use projector::feed::read_model::holding::{self, Holds};

use crate::stage::{STAR, Stage, follow, tweet, unfollow};

const EARLY: UserId = UserId(2);
const LATE: UserId = UserId(9);
const OTHER: UserId = UserId(5);

/// Few enough that a floor is passed soon.
const KEPT: i64 = 5;

async fn rows_of(pool: &Connections, reader: UserId) -> i64 {
    let count = "select count(*) from feed_items where user_id = $1";
    sqlx::query_scalar(count).bind(reader.0).fetch_one(pool).await.unwrap()
}

async fn falls_dormant(stage: &Stage, reader: UserId, bounds: Bounds) {
    let served = drop_rows(&stage.pool, stage.checkpoint, &[reader], bounds).await.unwrap();
    assert_eq!(served, Served { readers: 1, changed: 1, deliveries: 0 });
    stage.is_exact().await;
    assert_eq!(rows_of(&stage.pool, reader).await, 0);
}

async fn is_brought_back(stage: &Stage, reader: UserId, bounds: Bounds) -> u64 {
    let served = bring_back(&stage.pool, stage.checkpoint, &[reader], bounds).await.unwrap();
    assert_eq!((served.readers, served.changed), (1, 1));
    stage.is_exact().await;
    assert_eq!(rows_of(&stage.pool, reader).await.unsigned_abs(), served.deliveries);
    served.deliveries
}

/// Where tweets come by rows, by fan-outs under way, and from the authors.
const BOUNDS: [Bounds; 3] = [
    Bounds::keeping(KEPT),
    Bounds { fan_out_rows: 2, ..Bounds::keeping(KEPT) },
    Bounds { pull_from: PullFrom(9), ..Bounds::keeping(KEPT) },
];

#[tokio::test]
async fn whatever_happens_meanwhile_feeds_are_exact_without_rows_and_with_them_again() {
    let leave = |user_id| vec![Event::UserDeleted(UserDeleted { user_id })];
    let many = |author| vec![tweet(author); 6];
    let changes = [
        ("nothing happens", vec![]),
        ("those they read write", [many(STAR), vec![tweet(LATE)]].concat()),
        ("they write themselves", many(LATE)),
        ("they cease to read", vec![unfollow(LATE, STAR)]),
        ("they cease, and begin again", vec![unfollow(LATE, STAR), follow(LATE, STAR)]),
        ("they read somebody more", [vec![follow(LATE, EARLY)], many(EARLY)].concat()),
        ("somebody reads them", vec![follow(EARLY, LATE), tweet(LATE)]),
        ("whom they read is deleted", [many(STAR), leave(STAR)].concat()),
        ("another reader is deleted", [leave(EARLY), many(STAR)].concat()),
    ];
    for bounds in BOUNDS {
        for (what, events) in &changes {
            println!("{what}, {bounds:?}");
            let mut stage = Stage::set(bounds).await;
            stage.happen(vec![tweet(STAR), tweet(LATE), tweet(STAR)]).await;
            falls_dormant(&stage, LATE, bounds).await;
            for events in events.chunks(6) {
                stage.happen(events.to_vec()).await;
                stage.is_exact().await;
                assert_eq!(rows_of(&stage.pool, LATE).await, 0, "no row is written for them");
            }
            is_brought_back(&stage, LATE, bounds).await;
            let more = vec![tweet(OTHER), follow(LATE, OTHER), tweet(OTHER)];
            stage.happen([more, many(LATE)].concat()).await;
            stage.is_exact().await;
            while stage.checkpoint.under_way.is_some() {
                stage.step().await;
                stage.is_exact().await;
            }
        }
    }
}

/// At each step of it, and each of what was then under way.
#[tokio::test]
async fn readers_fall_dormant_and_come_back_in_the_middle_of_a_fan_out() {
    let bounds = Bounds { fan_out_rows: 2, ..Bounds::keeping(KEPT) };
    for (falls_after, returns_after) in [(0, 0), (0, 1), (0, 5), (2, 2), (2, 4), (5, 5)] {
        println!("after {falls_after} and {returns_after} steps");
        let mut stage = Stage::set(bounds).await;
        stage.happen(vec![tweet(STAR), tweet(LATE)]).await;
        for steps in 0..8 {
            if steps == falls_after {
                for reader in [EARLY, LATE] {
                    falls_dormant(&stage, reader, bounds).await;
                }
                stage.happen(vec![tweet(STAR)]).await;
            }
            if steps == returns_after {
                for reader in [LATE, EARLY] {
                    is_brought_back(&stage, reader, bounds).await;
                }
            }
            stage.step().await;
            stage.is_exact().await;
        }
        while stage.checkpoint.under_way.is_some() {
            stage.step().await;
        }
        stage.is_exact().await;
        assert_eq!((rows_of(&stage.pool, EARLY).await, rows_of(&stage.pool, LATE).await), (2, 3));
    }
}

#[tokio::test]
async fn one_transaction_serves_as_many_readers_as_it_has_room_for() {
    let bounds = Bounds { fan_out_rows: 12, ..Bounds::keeping(KEPT) };
    let mut stage = Stage::set(bounds).await;
    stage.happen(vec![tweet(STAR); 4]).await;
    // Six rows and follows each, and somebody who is not there.
    let readers: Vec<UserId> = [4_711, 3, 4, 5, 6].map(UserId).to_vec();
    let served = drop_rows(&stage.pool, stage.checkpoint, &readers, bounds).await.unwrap();
    assert_eq!(served, Served { readers: 3, changed: 2, deliveries: 0 });
    let again = drop_rows(&stage.pool, stage.checkpoint, &readers, bounds).await.unwrap();
    assert_eq!(again, Served { readers: 5, changed: 2, deliveries: 0 }, "the first are done");
    let awake = bring_back(&stage.pool, stage.checkpoint, &[EARLY, LATE], bounds).await.unwrap();
    assert_eq!((awake.changed, awake.deliveries), (0, 0), "they are not dormant");
    let back = bring_back(&stage.pool, stage.checkpoint, &readers, bounds).await.unwrap();
    assert_eq!(back, Served { readers: 3, changed: 2, deliveries: 8 });
    stage.is_exact().await;
}

#[tokio::test]
async fn a_feed_that_is_longer_than_is_kept_comes_back_with_a_floor_and_another_without() {
    let bounds = Bounds::keeping(KEPT);
    let mut stage = Stage::set(bounds).await;
    let oldest = stage.happen([vec![tweet(LATE); 3], vec![tweet(STAR); 2]].concat()).await.0 - 4;
    for (reader, rows) in [(LATE, KEPT), (EARLY, 2)] {
        falls_dormant(&stage, reader, bounds).await;
        assert_eq!(is_brought_back(&stage, reader, bounds).await, rows.unsigned_abs());
        let holding = holding::look(&stage.pool, reader, TweetId(oldest)).await.unwrap();
        assert_eq!(holding.floor.0, 0, "all of it is there");
    }
    stage.happen(vec![tweet(EARLY), tweet(STAR)]).await;
    falls_dormant(&stage, LATE, bounds).await;
    let holding = holding::look(&stage.pool, LATE, TweetId(oldest)).await.unwrap();
    assert_eq!(holding.holds, Holds::Dormant);
    assert_eq!(is_brought_back(&stage, LATE, bounds).await, KEPT.unsigned_abs());
    let holding = holding::look(&stage.pool, LATE, TweetId(oldest)).await.unwrap();
    assert_eq!((holding.holds, holding.floor.0), (Holds::BelowFloor, oldest + 1));
}

#[tokio::test]
async fn verify_finds_who_is_dormant_by_halves() {
    let bounds = Bounds::keeping(KEPT);
    let mut stage = Stage::set(bounds).await;
    stage.happen(vec![tweet(STAR)]).await;
    falls_dormant(&stage, LATE, bounds).await;
    let changes = [
        ("update follows set dormant = false where follower_id = 9", "of user 9 disagree about"),
        ("update follows set dormant = true where follower_id = 2", "of user 2 disagree about"),
        ("delete from floors where user_id = 9", "of user 9 disagree about"),
        ("insert into floors values (2, 9223372036854775807)", "of user 2 disagree about"),
        ("insert into feed_items values (9, 20)", "does not belong into the feed of user 9"),
    ];
    for (change, complaint) in changes {
        let mut lent = stage.pool.lend().await.unwrap();
        let before = "create table before_follows as table follows; create table before_floors as table floors;
            create table before_items as table feed_items";
        sqlx::raw_sql(before).execute(&mut *lent).await.unwrap();
        sqlx::raw_sql(change).execute(&mut *lent).await.unwrap();
        lent.give_back();
        let report = stage.verified().await;
        let found = report.listed.iter().any(|difference| difference.what.contains(complaint));
        assert!(found, "{change}: {report:?}");
        let mut lent = stage.pool.lend().await.unwrap();
        let after =
            "truncate follows, floors, feed_items; insert into follows table before_follows;
            insert into floors table before_floors; insert into feed_items table before_items;
            drop table before_follows, before_floors, before_items";
        sqlx::raw_sql(after).execute(&mut *lent).await.unwrap();
        lent.give_back();
    }
    stage.is_exact().await;
}

/// The api announces who returns, and only them; a rule of none wants nobody dormant.
#[tokio::test]
async fn who_is_dormant_follows_from_the_last_reading_or_the_registration() {
    let stage = Stage::set(Bounds::keeping(KEPT)).await;
    let accounts = "insert into accounts select g, 'u' || g, 'e' || g, 'u' || g, 'e' || g, now() from generate_series(1, 10) g";
    sqlx::query(accounts).execute(&stage.pool).await.unwrap();
    let readings = "insert into last_readings values (2, now() - interval '5 days'), (3, now() - interval '1 day')";
    sqlx::query(readings).execute(&stage.pool).await.unwrap();
    let registered =
        "update users set created_at = now() - interval '9 days' where user_id in (1, 2, 3, 4)";
    sqlx::query(registered).execute(&stage.pool).await.unwrap();
    let after = |days: u64| Some(DormantAfter(Duration::from_hours(24 * days)));
    for (after, dormant) in
        [(after(2), vec![1, 2, 4]), (after(6), vec![1, 4]), (after(10), vec![]), (None, vec![])]
    {
        let pool = &stage.pool;
        let found = dormancy::look(pool, pool, UserId(1), 7, after).await.unwrap();
        assert_eq!(found.len(), 7, "a range of ids");
        let should_be = found.iter().filter(|reader| reader.should_be).map(|reader| reader.id.0);
        assert_eq!(should_be.collect::<Vec<_>>(), dormant, "{after:?}");
    }
}
