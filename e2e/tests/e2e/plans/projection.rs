//! What the projection of the feeds does with an event.

use super::*;

pub fn recorded(position: i64, event: &Event) -> RecordedEvent {
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

pub fn follow(follower: i64, followed: i64) -> Event {
    let (follower_id, followed_id) = (UserId(follower), UserId(followed));
    Event::Followed(Followed { follower_id, followed_id })
}

pub fn unfollow(follower: i64, followed: i64) -> Event {
    let (follower_id, followed_id) = (UserId(follower), UserId(followed));
    Event::Unfollowed(Unfollowed { follower_id, followed_id })
}

pub fn tweet(author: i64) -> Event {
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
                apply(one, checkpoint, &events, &Ways::default(), KEPT).await.unwrap();
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
