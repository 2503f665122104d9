//! What a batch of commands costs.

use super::*;

/// Commands of every kind, each with a key of its own, and what each visits. Says how many were accepted.
async fn commands(session: &Session) -> (usize, BTreeMap<&'static str, (i64, i64)>) {
    let log_head = watch::channel(Position::START).0;
    let (appender, task) =
        Appender::new(session.one.clone(), Clock::system(), RANGE_EVENTS, log_head);
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
        let clear = "truncate accounts, idempotency_keys, markers, last_readings, relationships, deleted_tweets;
            do $$ declare t text; begin foreach t in array array['events', 'events_1', 'events_10001', 'events_20001'] loop
                execute format('alter table %I disable trigger events_append_only', t);
            end loop; end $$;
            truncate events";
        sqlx::raw_sql(clear).execute(&mut *session.one.lend().await.unwrap()).await.unwrap();
        session.fill().await;
        let registered = "update last_user_id set user_id = 9000";
        sqlx::query(registered).execute(&session.one).await.unwrap();
        let (accepted, found) = commands(&session).await;
        assert_eq!(accepted, 4, "of seven, three have to be refused");
        are_bounded(&found);
    }
}
