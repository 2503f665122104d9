//! What the read model has for one reader and one tweet: what a page would be made of.

use events::{Position, TweetId, UserId};
use serde::Serialize;
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::feed::read_model::dormant::DORMANT_FLOOR;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Holding {
    pub generation: i32,
    /// The checkpoint that this is so at.
    pub position: Position,
    /// The event there.
    pub event_id: Uuid,
    pub holds: Holds,
    /// The oldest tweet that this feed keeps a row for.
    pub floor: TweetId,
    /// With how many readers an author's tweets are pulled. `None` when that is not laid down yet.
    pub pull_from: Option<i64>,
}

/// Where a page would take the tweet from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// From `feed_items`.
    Row,
    /// There is a row, but the tweet, its author or the reader is marked as deleted.
    RowPassedOver,
    /// From the author's tweets, because it is below the floor.
    BelowFloor,
    /// From the author's tweets, because the reader is dormant: no row is kept for them.
    Dormant,
    /// From the author's tweets, because it is pulled.
    Pulled,
    /// From the fan-out that is under way and has yet to come to this reader.
    FanOutUnderWay,
    /// From nowhere.
    Nothing,
}

impl Holds {
    /// Whether a page would have it.
    #[must_use]
    pub const fn is_read(self) -> bool {
        match self {
            Self::Row | Self::BelowFloor | Self::Dormant | Self::Pulled | Self::FanOutUnderWay => {
                true
            }
            Self::RowPassedOver | Self::Nothing => false,
        }
    }
}

/// Looks at what the read model has for `tweet` in the feed of `user`: one statement, so that all of
/// it is of one position.
///
/// # Errors
/// [`sqlx::Error`] when the database is away.
pub async fn look(
    executor: impl PgExecutor<'_>,
    user: UserId,
    tweet: TweetId,
) -> Result<Holding, sqlx::Error> {
    // What the statement of a page says (page_whole.sql of the api), for one tweet.
    let found = sqlx::query!(
        r#"
        select
            checkpoint.generation,
            checkpoint.position as "position: Position",
            checkpoint.event_id,
            coalesce(floors.floor, 0) as "floor!: TweetId",
            feed_items.tweet_id is not null as "has_row!",
            reader.user_id is not null and author.user_id is not null as "is_readable!",
            follows.followed_id is not null as "is_followed!",
            fan_outs.tweet_id is not null as "is_under_way!",
            coalesce(tweets.pulled, false) as "is_pulled!",
            rules.pull_from as "pull_from?"
        from (select * from checkpoint order by position desc, fence desc limit 1) as checkpoint
        left join users reader on reader.user_id = $1 and reader.deleted_position = 0
        left join floors on floors.user_id = $1
        left join feed_items on feed_items.user_id = $1 and feed_items.tweet_id = $2
        left join tweets on tweets.tweet_id = $2 and tweets.deleted_position = 0
        left join rules on true
        left join users author on author.user_id = tweets.author_id and author.deleted_position = 0
        left join follows on follows.follower_id = $1 and follows.followed_id = tweets.author_id
            and follows.until_position = 0
        left join fan_outs on fan_outs.tweet_id = $2 and fan_outs.tweet_id >= checkpoint.under_way
            and fan_outs.next_reader <= $1
        "#,
        user.0,
        tweet.0
    )
    .fetch_one(executor)
    .await?;
    let holds = if found.has_row {
        if found.is_readable { Holds::Row } else { Holds::RowPassedOver }
    } else if !found.is_readable || !found.is_followed {
        Holds::Nothing
    } else if found.floor == DORMANT_FLOOR {
        Holds::Dormant
    } else if tweet < found.floor {
        Holds::BelowFloor
    } else if found.is_pulled {
        Holds::Pulled
    } else if found.is_under_way {
        Holds::FanOutUnderWay
    } else {
        Holds::Nothing
    };
    let (generation, floor) = (found.generation, found.floor);
    let (position, event_id) = (found.position, found.event_id);
    Ok(Holding { generation, position, event_id, holds, floor, pull_from: found.pull_from })
}
