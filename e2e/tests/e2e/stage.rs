//! A star, her readers, and a projection of what happens to them, held against the definition after each step.

use api::views::{FeedItem, Page, feed};
use e2e::database::TestDatabase;
use e2e::exact::feeds_are_exact;
use e2e::history::given;
use e2e::model::Model;
use events::event::{Followed, TweetCreated, Unfollowed, UserRegistered};
use events::store::Connections;
use events::{Event, Position, TweetId, UserId};
use projector::bounds::Bounds;
use projector::checkpoint::Checkpoint;
use projector::feed::Feeds;
use projector::feed::read_model::holding;
use projector::progress::{Phase, Progress};
use projector::verify::{Facts, Report, compare};
use tokio_util::sync::CancellationToken;

pub const STAR: UserId = UserId(1);

/// Readers of the star, herself among them.
pub const READERS: i64 = 10;

/// A star and her readers, as the projection finds them.
pub struct Stage {
    pub database: TestDatabase,
    pub pool: Connections,
    pub projection: Feeds,
    pub checkpoint: Checkpoint,
}

pub fn register(user_id: i64) -> Event {
    let (username, email) = (format!("user{user_id}"), format!("{user_id}@example.org"));
    Event::UserRegistered(UserRegistered { user_id: UserId(user_id), username, email })
}

pub fn tweet(author_id: UserId) -> Event {
    Event::TweetCreated(TweetCreated { author_id, content: "hello".to_owned() })
}

pub fn follow(follower_id: UserId, followed_id: UserId) -> Event {
    Event::Followed(Followed { follower_id, followed_id })
}

pub fn unfollow(follower_id: UserId, followed_id: UserId) -> Event {
    Event::Unfollowed(Unfollowed { follower_id, followed_id })
}

impl Stage {
    pub async fn set(bounds: Bounds) -> Self {
        let database = TestDatabase::migrated().await;
        // A single session: what it counts of its work is known as soon as it is asked.
        let pool = database.database().connect(1).await.unwrap();
        let token = CancellationToken::new();
        let projection = Feeds::of_feeds(pool.clone(), pool.clone(), bounds, token);
        let checkpoint = projection.take_over().await.unwrap();
        let mut stage = Self { database, pool, projection, checkpoint };
        stage.happen((1..=READERS).map(register).collect()).await;
        stage.happen((2..=READERS).map(|reader| follow(UserId(reader), STAR)).collect()).await;
        stage
    }

    /// Applies `events` in one run; returns the position of the last.
    pub async fn happen(&mut self, events: Vec<Event>) -> Position {
        let head = Position(given(&self.pool, events).await.len().try_into().unwrap());
        self.projection.apply_from_log(&mut self.checkpoint, head).await.unwrap();
        head
    }

    pub async fn step(&mut self) {
        self.projection.go_on(&mut self.checkpoint).await.unwrap();
    }

    pub async fn rows(&self) -> i64 {
        let count = sqlx::query_scalar("select count(*) from feed_items").fetch_one(&self.pool);
        count.await.unwrap()
    }

    /// Every feed by the cursor, and the newest by each other way to read them.
    pub async fn is_exact(&self) {
        let log = e2e::model::read_log(&self.pool).await;
        let model = Model::of(&log[..usize::try_from(self.checkpoint.position.0).unwrap()]);
        feeds_are_exact(&self.pool, &model, None, &model).await;
        let readers: Vec<UserId> = model.users.iter().copied().collect();
        let start = Position::START;
        let all = self.checkpoint.position;
        let news = feed::news(&self.pool, &readers, start, all).await.unwrap().value;
        for reader in &readers {
            let whole = model.feed(*reader);
            for skip in 0..whole.len() {
                let page = Page { skip: i64::try_from(skip).unwrap(), limit: 2 };
                let found = feed::page(&self.pool, *reader, feed::NEWEST, page).await.unwrap();
                assert_eq!(
                    ids(found.value.as_ref()),
                    whole.iter().skip(skip).take(2).copied().collect::<Vec<_>>()
                );
            }
            let upward: Vec<TweetId> = whole.iter().rev().copied().collect();
            let since = feed::since(&self.pool, *reader, start, 1_000).await.unwrap();
            assert_eq!(ids(since.value.as_ref()), upward, "reader {reader} from the oldest on");
            if !news.too_much.contains(reader) {
                let told = news.tweets.iter().filter(|(_, readers)| readers.contains(reader));
                let told: Vec<TweetId> = told.map(|(item, _)| item.tweet_id).collect();
                assert_eq!(told, upward, "what is new to reader {reader}");
            }
            for tweet in upward.into_iter().chain([TweetId(1)]) {
                let holding = holding::look(&self.pool, *reader, tweet).await.unwrap();
                assert_eq!(holding.holds.is_read(), whole.contains(&tweet), "{holding:?}");
            }
        }
        let report = self.verified().await;
        assert!(report.is_clean(), "{report:?}");
    }

    pub async fn verified(&self) -> Report {
        let progress = Progress::starting(Phase::CheckLog);
        compare(&self.pool, &self.pool, &mut Facts::default(), 20, &progress).await.unwrap()
    }
}

pub fn ids(items: Option<&Vec<FeedItem>>) -> Vec<TweetId> {
    items.into_iter().flatten().map(|item| item.tweet_id).collect()
}
