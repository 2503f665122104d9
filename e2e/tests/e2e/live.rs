//! Feeds that arrive by themselves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::client::Answer;
use e2e::live::LiveFeed;
use e2e::process::run;
use e2e::raw::RawConnection;
use e2e::system::{System, start_api};
use e2e::until;
use events::{Position, TweetId, UserId};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};

#[tokio::test(flavor = "multi_thread")]
async fn a_tweet_arrives_with_everyone_who_reads_its_author_and_nobody_else() {
    let system = System::start().await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    let bob = rookery.register("bob").await;
    let cleo = rookery.register("cleo").await;
    rookery.follow(bob, ada).await;
    rookery.tweet(ada, "before anyone looks").await;
    let seen = Some(system.caught_up().await);

    let mut of_ada = LiveFeed::open(rookery, ada, seen).await;
    let mut of_bob = LiveFeed::open(rookery, bob, seen).await;
    let mut of_bob_too = LiveFeed::open(rookery, bob, seen).await;
    let mut of_cleo = LiveFeed::open(rookery, cleo, seen).await;
    let (first, second) = (rookery.tweet(ada, "hello").await, rookery.tweet(ada, "again").await);
    let own = rookery.tweet(cleo, "only mine").await;
    for stream in [&mut of_ada, &mut of_bob, &mut of_bob_too] {
        assert_eq!(stream.take(2).await, [first, second]);
    }
    assert_eq!(of_cleo.next().await, Some(own));

    // From here on cleo reads ada, and bob does not; cleo is not told of what was written before.
    rookery.follow(cleo, ada).await;
    let unfollow = format!("/api/subscriptions/unfollow/{ada}");
    assert_eq!(rookery.delete(&unfollow, Some(bob)).await.status, StatusCode::OK);
    let third = rookery.tweet(ada, "for cleo").await;
    let last = rookery.tweet(bob, "for bob").await;
    assert_eq!(of_cleo.next().await, Some(third));
    assert_eq!(of_bob.next().await, Some(last));
    system.stop().await;
}

/// A look finds that the floor was raised over what is new: following dora, who writes more than is
/// kept, does that.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_one_gush_arrives_whole_and_in_order() {
    let system = System::start_with(&["--feed-kept", "20"]).await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    let (bob, dora) = (rookery.register("bob").await, rookery.register("dora").await);
    rookery.follow(bob, ada).await;
    let seen = system.caught_up().await;
    let mut stream = LiveFeed::open(rookery, bob, Some(seen)).await;
    let (mut other, beside) = system.another_api(&[]).await;
    system.api.signal("-STOP").await;
    let mut tweets = Vec::new();
    for author in [ada, dora] {
        let posts = (0..40).map(|_| beside.tweet(author, "hello"));
        tweets.extend(join_all(posts).await);
    }
    beside.follow(bob, dora).await;
    tweets.push(beside.tweet(ada, "hello").await);
    tweets.sort_unstable();
    system.caught_up().await;
    system.api.signal("-CONT").await;
    assert_eq!(stream.take(tweets.len()).await, tweets);
    assert!(system.kept_rows(bob).await < 40, "most of it is below the floor");
    other.kill().await;
    system.stop().await;
}

/// Who was away reads what came meanwhile, however much it was: here more than is read at once, and
/// more than is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_from_any_position_also_below_the_floor() {
    let system = System::start_with(&["--feed-kept", "20"]).await;
    let rookery = &system.client;
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    rookery.follow(bob, ada).await;
    let mut tweets = Vec::new();
    // Which deliveries have the size of a feed looked at is chosen by a hash.
    while tweets.len() < 350 || system.kept_rows(bob).await >= 100 {
        let posts = (0..50).map(|number| async move {
            let author = if number % 3 == 0 { bob } else { ada };
            rookery.tweet(author, &format!("tweet {number}")).await
        });
        tweets.extend(join_all(posts).await);
        system.caught_up().await;
    }
    tweets.sort_unstable();

    let mut stream = LiveFeed::open(rookery, bob, Some(Position::START)).await;
    assert_eq!(stream.take(tweets.len()).await, tweets);
    let middle = Position(tweets[200].0);
    let mut stream = LiveFeed::open(rookery, bob, Some(middle)).await;
    assert_eq!(stream.take(tweets.len() - 201).await, tweets[201..]);
    let next = rookery.tweet(ada, "and live from there").await;
    assert_eq!(stream.next().await, Some(next));
    system.stop().await;
}

/// Reads the stream of `reader` until `last` has come, and comes back whenever it ends.
async fn read_until(
    client: Arc<std::sync::Mutex<e2e::client::Rookery>>,
    reader: UserId,
    stopped: Arc<AtomicBool>,
) -> Vec<TweetId> {
    let mut tweets = Vec::new();
    let mut last_event_id = Position::START;
    while !stopped.load(Ordering::Relaxed) {
        let rookery = client.lock().unwrap().clone();
        let opened = LiveFeed::open_if_any(&rookery, reader, Some(last_event_id)).await;
        let Some(mut stream) = opened else {
            tokio::task::yield_now().await;
            continue;
        };
        while let Some(tweet) = stream.next().await {
            tweets.push(tweet);
            if stopped.load(Ordering::Relaxed) {
                break;
            }
        }
        last_event_id = stream.last_event_id;
    }
    tweets
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_resumes_without_a_gap_or_a_repeat() {
    let mut system = System::start().await;
    let (mut steady, writer) = system.another_api(&[]).await;
    let (ada, bob) = (writer.register("ada").await, writer.register("bob").await);
    writer.follow(bob, ada).await;
    system.caught_up().await;
    let client = Arc::new(std::sync::Mutex::new(system.client.clone()));
    let (writing, stopped) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let written = tokio::spawn({
        let (writer, writing) = (writer.clone(), Arc::clone(&writing));
        async move {
            let mut tweets = Vec::new();
            while writing.load(Ordering::Relaxed) {
                tweets.push(writer.tweet(ada, "hello").await);
            }
            tweets
        }
    });
    let read = tokio::spawn(read_until(Arc::clone(&client), bob, Arc::clone(&stopped)));

    let database_url = system.database.url.clone();
    for command in ["rebuild", "rollback", "rebuild"] {
        let output = run("projector", &[command], &[("DATABASE_URL", &database_url)]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        system.api.kill().await;
        let amqp_url = system.amqp_url();
        (system.api, system.client) = start_api(&database_url, &amqp_url, &[], &[]).await;
        *client.lock().unwrap() = system.client.clone();
    }
    system.projector.kill().await;
    system.restart(false).await;
    writing.store(false, Ordering::Relaxed);
    let written = written.await.unwrap();
    system.caught_up().await;

    // One more, after which the reader stops.
    stopped.store(true, Ordering::Relaxed);
    let last = writer.tweet(ada, "the last").await;
    let mut read = read.await.unwrap();
    // The stop may have come between two streams.
    if read.last() != Some(&last) {
        let after = read.last().map_or(Position::START, |tweet| Position(tweet.0));
        let mut stream = LiveFeed::open(&writer, bob, Some(after)).await;
        while read.last() != Some(&last) {
            read.push(stream.next().await.unwrap());
        }
    }
    let expected: Vec<TweetId> = written.into_iter().chain([last]).collect();
    assert_eq!(read, expected);
    steady.kill().await;
    system.stop().await;
}

async fn looks(rookery: &e2e::client::Rookery) -> u64 {
    let metrics = rookery.get("/metrics", None).await.body;
    let line = metrics
        .as_str()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("rookery_stream_look_seconds_count "));
    line.map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_one_look() {
    const READERS: usize = 1_000;
    let system = System::start().await;
    let rookery = &system.client;
    let ada = rookery.register("ada").await;
    let names: Vec<String> = (0..READERS).map(|number| format!("reader{number}")).collect();
    let readers = join_all(names.iter().map(|name| rookery.register(name))).await;
    join_all(readers.iter().map(|reader| rookery.follow(*reader, ada))).await;
    let head = system.caught_up().await;
    until("the api's streams have come as far as the read model", async || {
        (LiveFeed::open(rookery, ada, None).await.last_event_id == head).then_some(())
    })
    .await;
    let mut streams = Vec::new();
    for some in readers.chunks(20) {
        let opened = some.iter().map(|reader| {
            until("the api has room for another stream", || {
                LiveFeed::open_if_any(rookery, *reader, None)
            })
        });
        streams.extend(join_all(opened).await);
    }

    let before = looks(rookery).await;
    let tweet = rookery.tweet(ada, "hello").await;
    let arrived = join_all(streams.iter_mut().map(LiveFeed::next)).await;
    assert_eq!(arrived, vec![Some(tweet); READERS]);
    assert_eq!(looks(rookery).await, before + 1, "one event, one look for everyone");
    system.stop().await;
}

/// A reader that takes nothing is cut off, keeps nobody from anything, and misses nothing in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_is_cut_off_and_resumes() {
    let system = System::start().await;
    let rookery = &system.client;
    let (ada, bob) = (rookery.register("ada").await, rookery.register("bob").await);
    rookery.follow(bob, ada).await;
    let seen = system.caught_up().await;
    let mut attentive = LiveFeed::open(rookery, bob, Some(seen)).await;
    let mut asleep = RawConnection::open_narrow(rookery).await;
    let open = format!(
        "GET /api/feed/stream HTTP/1.1\r\nHost: localhost\r\nX-User-ID: {bob}\r\nLast-Event-ID: {seen}\r\n\r\n"
    );
    asleep.send(open.as_bytes()).await;

    let cut_off = async || {
        let metrics = rookery.get("/metrics", None).await.body;
        metrics.as_str().unwrap().contains("rookery_streams_cut_off_total 1")
    };
    let (mut tweets, content) = (Vec::new(), "🐦".repeat(280));
    while !cut_off().await {
        let posts = (0..200).map(|_| rookery.tweet(ada, &content));
        let mut posted = join_all(posts).await;
        posted.sort_unstable();
        assert_eq!(attentive.take(posted.len()).await, posted, "others get everything at once");
        tweets.extend(posted);
        assert!(tweets.len() < 50_000, "it is never cut off");
    }
    // What it was sent before ends with the connection, and it goes on from there.
    let text = asleep.to_the_end().await;
    let last = text.rmatch_indices("\nid: ").find_map(|(at, _)| {
        let (id, rest) = text[at + 5..].split_once('\n')?;
        rest.contains("\n\n").then(|| id.parse::<Position>().expect("a position"))
    });
    let last = last.unwrap_or(seen);
    let missed: Vec<_> = tweets.iter().copied().filter(|tweet| tweet.0 > last.0).collect();
    assert!(!missed.is_empty());
    let mut again = LiveFeed::open(rookery, bob, Some(last)).await;
    assert_eq!(again.take(missed.len()).await, missed);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_streams_do_not_keep_an_api_from_stopping() {
    let mut system = System::start().await;
    let ada = system.client.register("ada").await;
    system.caught_up().await;
    let mut stream = LiveFeed::open(&system.client, ada, None).await;
    system.api.signal("-TERM").await;
    assert_eq!(stream.next().await, None);
    assert!(system.api.ended().await.success(), "{}", system.api.log().join("\n"));
    system.projector.kill().await;
    system.vhost.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_is_refused_before_it_begins() {
    let system = System::start().await;
    let ada = system.client.register("ada").await;
    system.caught_up().await;
    let open = |caller, last_event_id: &'static str| {
        let request = system.client.request(Method::GET, "/api/feed/stream", caller);
        Answer::of(request.header("Last-Event-ID", last_event_id))
    };
    assert_eq!(open(None, "0").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(open(Some(UserId(99)), "0").await.status, StatusCode::NOT_FOUND);
    for nonsense in ["", "x", "-1", "1.5", "9223372036854775808"] {
        let answer = open(Some(ada), nonsense).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{nonsense:?}");
    }
    let beyond = open(Some(ada), "1000").await;
    assert_eq!(beyond.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(beyond.body["errors"][0]["field"], "Last-Event-ID", "{}", beyond.body);
    until("what was refused has left nothing open", async || {
        let metrics = system.client.get("/metrics", None).await.body;
        metrics.as_str()?.contains("rookery_streams 0").then_some(())
    })
    .await;
    system.stop().await;
}
