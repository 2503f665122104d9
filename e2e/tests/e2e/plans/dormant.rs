//! What readers cost who are dormant, fall dormant, or come back.

use api::readings::Readings;
use projector::feed::dormancy::{self, DormantAfter};
use projector::feed::read_model::dormant::{Served, bring_back, drop_rows};

use super::projection::{recorded, tweet};
use super::*;

/// Everything that is done about them, each with the most that it may visit.
async fn dormancy(session: &Session) -> BTreeMap<&'static str, (i64, i64)> {
    let bounds = Bounds::keeping(KEPT);
    let readers: Vec<UserId> = (21..=30).map(UserId).collect();
    let mut found = BTreeMap::new();
    let after = DormantAfter::days(30);
    let checkpoint = checkpoint::load(&session.one).await.unwrap();
    macro_rules! count {
        ($name:literal, $most:expr, |$one:ident| $work:expr) => {{
            let mut outcome = None;
            let work = async |$one: &Connections| outcome = Some($work.await.unwrap());
            let visited = session.visited(work).await;
            found.insert($name, (visited, $most));
            outcome.expect("it was done")
        }};
    }
    let looked =
        count!("a look", 10 * 2_000, |one| { dormancy::look(one, one, UserId(1), 2_000, after) });
    let fallen = count!("readers who fall dormant", 3 * 10 * KEPT, |one| {
        drop_rows(one, checkpoint, &readers, bounds)
    });
    let back = count!("readers who come back", 3 * 10 * KEPT, |one| {
        bring_back(one, checkpoint, &readers, bounds)
    });
    if !looked.is_empty() {
        // A thousand rows and fifty follows each.
        assert_eq!(fallen, Served { readers: 3, changed: 3, deliveries: 0 });
        assert_eq!(back, Served { readers: 3, changed: 3, deliveries: 3 * KEPT.unsigned_abs() });
    }
    let (event, ways) = (recorded(checkpoint.position.0 + 1, &tweet(3)), Ways::default());
    count!("a tweet that ten of two hundred are awake for", 400, |one| {
        apply(one, checkpoint, std::slice::from_ref(&event), &ways, KEPT)
    });
    let (noting, task) = Readings::new(session.one.clone(), Clock::system());
    for reader in &readers {
        noting.note(*reader);
    }
    drop(noting);
    let stop = CancellationToken::new();
    stop.cancel();
    count!("readings", 10 * 20, |_one| async move {
        task.run(stop).await;
        Ok::<_, sqlx::Error>(())
    });
    found
}

#[tokio::test]
async fn dormant_readers_cost_what_they_need_whatever_the_planner_knows() {
    for planner in PLANNERS {
        println!("{planner:?}");
        let session = Session::on_empty_tables(planner).await;
        for _ in 0..8 {
            dormancy(&session).await;
        }
        let clear = "truncate users, tweets, follows, feed_items, floors";
        sqlx::query(clear).execute(&session.one).await.unwrap();
        session.fill().await;
        let asleep = "update follows set dormant = true where follower_id > 10 and follower_id not between 21 and 23;
            update floors set floor = 9223372036854775807 where user_id > 10 and user_id not between 21 and 23;
            delete from feed_items where user_id > 10 and user_id not between 21 and 23";
        let mut lent = session.one.lend().await.unwrap();
        sqlx::raw_sql(asleep).execute(&mut *lent).await.unwrap();
        lent.give_back();
        are_bounded(&dormancy(&session).await);
        let noted = "select count(*) from last_readings";
        let noted: i64 = sqlx::query_scalar(noted).fetch_one(&session.one).await.unwrap();
        assert_eq!(noted, 10);
    }
}
