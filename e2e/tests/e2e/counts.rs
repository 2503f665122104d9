//! The projection of counts: exact whatever comes in whatever order, and independent of the feeds in all that an operator does.

use api::views::counts;
use e2e::database::TestDatabase;
use e2e::history::{deliveries, given, history};
use e2e::model::Model;
use e2e::process::run;
use e2e::system::{System, start_api, start_projector};
use e2e::vhost::Vhost;
use events::event::{Followed, UserDeleted, UserRegistered};
use events::projection::ProjectionName;
use events::store::Connections;
use events::{Event, Position, UserId};
use projector::bounds::Bounds;
use projector::counts::{Counts, compare};
use projector::generation::Claim;
use projector::progress::{Phase, Progress};
use projector::projection::{Projection, ReadModel};
use projector::rebuild::Rebuild;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

fn projection(log: &Connections, counts: &Connections) -> Projection<Counts> {
    let model = Counts::at(counts, Bounds::keeping(10), &CancellationToken::new());
    Projection::new(log.clone(), counts.clone(), model)
}

async fn are_exact(connections: &Connections, model: &Model) {
    for user in 1..=model.users.last().map_or(0, |last| last.0) + 1 {
        let user = UserId(user);
        let found = counts::find(connections, user).await.unwrap();
        assert_eq!(found.position.0, model.position);
        let expected = model.users.contains(&user).then(|| model.counts(user));
        assert_eq!(found.value, expected, "user {user} at {}", model.position);
    }
}

async fn is_verified(log: &Connections, connections: &Connections) {
    let progress = Progress::starting(Phase::CompareCounts);
    let report = compare(log, connections, 20, &progress).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_are_counted_however_they_arrive_and_a_rebuild_counts_the_same() {
    let fresh = rand::rng().random();
    for seed in [1, 2, fresh] {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let database = TestDatabase::migrated().await;
        let (log, connections) = (database.pool().await, database.counts().await);
        let events = given(&log, history(&mut random, 900)).await;
        let now = Model::of(&events);
        let projection = projection(&log, &connections);
        let mut slices = deliveries(&mut random, &events);
        let mut checkpoint = projection.take_over().await.unwrap();
        while !slices.is_empty() {
            let rest = slices.split_off(random.random_range(1..=slices.len().min(6)));
            let batch = std::mem::replace(&mut slices, rest);
            projection.apply_slices(&mut checkpoint, batch).await.unwrap();
            let reached = usize::try_from(checkpoint.position.0).unwrap();
            are_exact(&connections, &Model::of(&events[..reached])).await;
        }
        assert_eq!(checkpoint.position.0, now.position);
        is_verified(&log, &connections).await;

        let at = database.database().of(ProjectionName::Counts);
        let claim = Claim::take(&at, Counts::LAYOUT, "rookery test").await.unwrap();
        let progress = Progress::starting(Phase::Replay);
        let rebuild =
            Rebuild::new(log.clone(), Bounds::keeping(10), progress, CancellationToken::new());
        let rebuilt = rebuild.run::<Counts>(claim).await.unwrap();
        assert_eq!((rebuilt.swapped.generation, rebuilt.swapped.position.0), (2, now.position));
        are_exact(&connections, &now).await;
        is_verified(&log, &connections).await;
    }
}

/// What an operator does to the one leaves the other alone.
#[tokio::test(flavor = "multi_thread")]
async fn counts_are_verified_rebuilt_and_rolled_back_by_themselves() {
    let system = System::start().await;
    let (ada, bob) = (system.client.register("ada").await, system.client.register("bob").await);
    system.client.follow(bob, ada).await;
    for number in 0..3 {
        system.client.tweet(ada, &format!("tweet {number}")).await;
    }
    system.every_feed_is_exact().await;

    let connections = system.database.counts().await;
    let tamper = "update user_counts set tweets = tweets + 1 where user_id = $1";
    sqlx::query(tamper).bind(ada.0).execute(&connections).await.unwrap();
    let amqp = system.amqp_url();
    let variables = [("DATABASE_URL", system.database.url.as_str()), ("AMQP_URL", &amqp)];
    let projector = async |arguments: &[&str]| {
        let output = run("projector", arguments, &variables).await;
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = projector(&["verify"]).await;
    assert_eq!(code, 1, "{said}");
    let wrong = format!(
        "counts: user {ada} has 4 tweets, 1 followers and 0 followed, and should have 3 tweets"
    );
    assert!(said.contains(&wrong) && said.contains("no differences"), "{said}");
    assert_eq!(projector(&["verify", "feed"]).await.0, 0);
    assert_eq!(projector(&["verify", "likes"]).await.0, 2);

    let (code, said) = projector(&["rebuild", "counts"]).await;
    assert!(code == 0 && said.contains("generation 2 is live"), "{said}");
    system.client.tweet(ada, "the fourth").await;
    system.every_feed_is_exact().await;
    assert_eq!(projector(&["verify"]).await.0, 0);

    let (_, json) = projector(&["status", "--json"]).await;
    let status: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&status["feed"]["generation"], &status["counts"]["generation"]),
        (&1.into(), &2.into())
    );
    assert_eq!(status["counts"]["position"], status["log"]["head"]);
    assert_eq!(status["counts"]["queue_depth"], 0, "{status:#}");
    assert_eq!(status["wrong"], json!([]));
    // The generation before is the one that was tampered with: it does not come back.
    let (code, said) = projector(&["rollback", "counts"]).await;
    assert!(code == 1 && said.contains("has 4 tweets"), "{said}");
    system.every_feed_is_exact().await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_projection_goes_on_without_the_other() {
    let (database, vhost) = (TestDatabase::create().await, Vhost::create().await);
    let (_api, client) = start_api(&database.url, &vhost.url, &[], &[]).await;
    let mut feed = start_projector(&database.url, &vhost.url, &[], &["feed"]).await;
    let ada = client.register("ada").await;
    let tweet = client.tweet(ada, "nobody counts").await;
    let here = Position(tweet.0);
    assert_eq!(client.feed(ada, here).await, [tweet]);
    let path = format!("/api/users/{ada}/counts");
    let refused = client.get(&path, None).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(client.get("/health/ready", None).await.status, 200);

    let mut counts = start_projector(&database.url, &vhost.url, &[], &["counts"]).await;
    feed.kill().await;
    let tweet = client.tweet(ada, "nobody reads").await;
    let counted = client.counts(ada, Position(tweet.0)).await;
    assert_eq!(counted, json!({ "tweets": 2, "followers": 0, "following": 0 }));
    counts.kill().await;
    vhost.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_account_costs_what_it_followed() {
    let database = TestDatabase::migrated().await;
    let (log, connections) = (database.pool().await, database.counts().await);
    let mut events: Vec<_> = (1..=300).map(user).collect();
    events.extend((2..=300).map(|follower| follows(follower, 1)));
    events.push(follows(1, 2));
    events.push(Event::UserDeleted(UserDeleted { user_id: UserId(1) }));
    let events = given(&log, events).await;
    let projection = projection(&log, &connections);
    let mut checkpoint = projection.take_over().await.unwrap();
    let last = Position(i64::try_from(events.len()).unwrap());
    projection.apply_from_log(&mut checkpoint, Position(last.0 - 1)).await.unwrap();
    // Where a row is changes with each version of it.
    let rows = async || -> Vec<String> {
        let rows = "select ctid::text from user_counts where user_id > 2 order by user_id";
        sqlx::query_scalar(rows).fetch_all(&connections).await.unwrap()
    };
    let before = rows().await;
    projection.apply_from_log(&mut checkpoint, last).await.unwrap();
    assert_eq!(rows().await, before, "who followed it is not written");
    are_exact(&connections, &Model::of(&events)).await;
}

fn user(number: i64) -> Event {
    let username = format!("user{number}");
    let email = format!("{username}@example.org");
    Event::UserRegistered(UserRegistered { user_id: UserId(number), username, email })
}

fn follows(follower: i64, followed: i64) -> Event {
    let (follower_id, followed_id) = (UserId(follower), UserId(followed));
    Event::Followed(Followed { follower_id, followed_id })
}
