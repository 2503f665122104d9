//! Reads: pages, lists, single items, what the api looks at.

use super::*;

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
        let head = append::head(&mut transaction, Position::START).await?;
        transaction.rollback().await?;
        lent.give_back();
        Ok::<_, sqlx::Error>(head)
    });
    found
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
        session.fill_pulled().await;
        are_bounded(&reads_of_pulled(&session).await);
    }
}

/// What a reader of 500 authors costs whose tweets are pulled: a few look-ups for each of them, and one who reads none of them
/// no more than before.
async fn reads_of_pulled(session: &Session) -> BTreeMap<&'static str, (i64, i64)> {
    let mut found = BTreeMap::new();
    let end = AUTHORS * TWEETS_EACH;
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
    let (reader, other) = (UserId(8), UserId(7));
    count!("first page", 6_000, |one| views::feed::page(one, reader, NEWEST, PAGE));
    count!("first page of another", 700, |one| views::feed::page(one, other, NEWEST, PAGE));
    let deep = TweetId(end + 5_000);
    count!("page further down", 6_000, |one| views::feed::page(one, reader, deep, PAGE));
    let later = end + 9_980;
    count!("what is new since", 6_000, |one| {
        views::feed::since(one, reader, Position(later), 21)
    });
    count!("what is unread", 6_000, |one| {
        views::feed::unread(one, reader, TweetId(later), 1_001)
    });
    let readers: Vec<UserId> = (1..=20).map(UserId).collect();
    count!("what is new for many", 700, |one| {
        views::feed::news(one, &readers, Position(end + 9_997), Position(end + 10_000))
    });
    found
}
