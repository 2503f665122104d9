//! What the projection of the counts does with an event.

use super::projection::{follow, recorded, tweet, unfollow};
use super::*;

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
