//! Reading `users`, `tweets` and `follows` as facts, as of a position.

use chrono::{DateTime, Utc};
use events::store::Connections;
use events::{Position, TweetId, UserId};

use super::fact::{Fact, Fingerprint};
use super::{Differences, Facts, Part};
use crate::feed::pulled::PullFrom;
use crate::progress::Progress;

/// Rows in one read.
const PAGE_ROWS: i64 = 10_000;

/// How many rows there were.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rows {
    pub users: u64,
    pub tweets: u64,
    pub follows: u64,
    /// From after the checkpoint.
    pub later: u64,
}

/// The tables, read page by page in the order of their keys.
pub(super) struct Tables<'a> {
    feed: &'a Connections,
    facts: &'a Facts,
    pub rows: Rows,
    progress: &'a Progress,
}

impl<'a> Tables<'a> {
    pub(super) fn of(feed: &'a Connections, facts: &'a Facts, progress: &'a Progress) -> Self {
        Self { feed, facts, rows: Rows::default(), progress }
    }

    /// The position as of which they are read.
    pub(super) const fn to(&self) -> Position {
        self.facts.position()
    }

    /// The rule by which tweets are pulled.
    pub(super) const fn rule(&self) -> Option<PullFrom> {
        self.facts.rule()
    }

    /// Shows `look` every fact; what a row says by its place among others goes to `differences`.
    pub(super) async fn read(
        &mut self,
        mut look: impl FnMut(Fact),
        mut differences: Option<&mut Differences>,
    ) -> Result<(), sqlx::Error> {
        self.rows = Rows::default();
        self.read_users(&mut look).await?;
        self.read_tweets(&mut look).await?;
        self.read_follows(&mut look, &mut differences).await
    }

    /// `position`, unless it is after the checkpoint.
    fn by_now(&mut self, position: Option<Position>) -> Option<Position> {
        let by_now = position.filter(|position| *position <= self.facts.position());
        self.rows.later += u64::from(by_now != position);
        by_now
    }

    async fn read_users(&mut self, look: &mut impl FnMut(Fact)) -> Result<(), sqlx::Error> {
        struct Row {
            user_id: UserId,
            username: String,
            email: String,
            created_at: DateTime<Utc>,
            deleted: Option<Position>,
        }
        let mut after = UserId(0);
        loop {
            let page = sqlx::query_as!(
                Row,
                r#"
                select user_id as "user_id: UserId", username, email, created_at,
                    nullif(deleted_position, 0) as "deleted: Position"
                from users where user_id > $1 order by user_id limit $2
                "#,
                after.0,
                PAGE_ROWS
            )
            .fetch_all(self.feed)
            .await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.user_id;
            self.progress.advance(page.len() as u64);
            for Row { user_id, username, email, created_at, deleted } in page {
                // Ids are given in the order of registration.
                if user_id > self.facts.last_user() {
                    self.rows.later += 1;
                    continue;
                }
                self.rows.users += 1;
                let details = Fingerprint::of(&[&username, &email]);
                look(Fact::Registered { user_id, details, created_at });
                if let Some(at) = self.by_now(deleted) {
                    look(Fact::UserDeleted { user_id, at });
                }
            }
        }
    }

    async fn read_tweets(&mut self, look: &mut impl FnMut(Fact)) -> Result<(), sqlx::Error> {
        struct Row {
            tweet_id: TweetId,
            author_id: UserId,
            content: String,
            created_at: DateTime<Utc>,
            deleted: Option<Position>,
            pulled: bool,
        }
        let mut after = TweetId(0);
        loop {
            let page = sqlx::query_as!(
                Row,
                r#"
                select tweet_id as "tweet_id: TweetId", author_id as "author_id: UserId", content,
                    created_at, nullif(deleted_position, 0) as "deleted: Position", pulled
                from tweets where tweet_id > $1 order by tweet_id limit $2
                "#,
                after.0,
                PAGE_ROWS
            )
            .fetch_all(self.feed)
            .await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = last.tweet_id;
            self.progress.advance(page.len() as u64);
            for Row { tweet_id, author_id, content, created_at, deleted, pulled } in page {
                if self.by_now(Some(Position(tweet_id.0))).is_none() {
                    continue;
                }
                self.rows.tweets += 1;
                let content = Fingerprint::of(&[&content]);
                look(Fact::Created { tweet_id, author_id, content, created_at, pulled });
                if let Some(at) = self.by_now(deleted) {
                    look(Fact::TweetDeleted { tweet_id, at });
                }
            }
        }
    }

    async fn read_follows(
        &mut self,
        look: &mut impl FnMut(Fact),
        differences: &mut Option<&mut Differences>,
    ) -> Result<(), sqlx::Error> {
        let mut after = (UserId(0), UserId(0), Position::START);
        let mut before: Option<Follow> = None;
        loop {
            let page = sqlx::query_as!(
                Follow,
                r#"
                select follower_id as "follower_id: UserId", followed_id as "followed_id: UserId",
                    since_position as "since: Position", nullif(until_position, 0) as "until: Position",
                    nullif(follower.deleted_position, 0) as "reader_deleted: Position"
                from follows
                left join users follower on follower.user_id = follows.follower_id
                where (follower_id, followed_id, since_position) > ($1, $2, $3)
                order by follower_id, followed_id, since_position
                limit $4
                "#,
                after.0.0,
                after.1.0,
                after.2.0,
                PAGE_ROWS
            )
            .fetch_all(self.feed)
            .await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.follower_id, last.followed_id, last.since);
            self.progress.advance(page.len() as u64);
            for mut follow in page {
                if self.by_now(Some(follow.since)).is_none() {
                    continue;
                }
                self.rows.follows += 1;
                follow.until = self.by_now(follow.until);
                follow.reader_deleted = self.by_now(follow.reader_deleted);
                for fact in follow.facts() {
                    look(fact);
                }
                if let (Some(what), Some(differences)) =
                    (follow.fault(before.as_ref()), differences.as_mut())
                {
                    differences.add(Part::Follows, what, follow.streams());
                }
                before = Some(follow);
            }
        }
    }
}

/// A row of `follows`, as of the checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Follow {
    follower_id: UserId,
    followed_id: UserId,
    since: Position,
    until: Option<Position>,
    reader_deleted: Option<Position>,
}

impl Follow {
    fn facts(&self) -> impl Iterator<Item = Fact> {
        let Self { follower_id, followed_id, since, until, reader_deleted } = *self;
        // What ends with the reader's account follows from its end.
        let ended = until.filter(|until| Some(*until) != reader_deleted);
        [
            Some(Fact::Began { follower_id, followed_id, at: since }),
            ended.map(|at| Fact::Ended { follower_id, followed_id, at }),
        ]
        .into_iter()
        .flatten()
    }

    /// What is wrong with the row beside the row before it: facts alone do not say which end
    /// belongs to which beginning.
    fn fault(&self, before: Option<&Self>) -> Option<String> {
        let Self { follower_id, followed_id, since, until, reader_deleted } = self;
        let before = before.filter(|before| {
            (before.follower_id, before.followed_id) == (*follower_id, *followed_id)
        });
        let name = format!("that user {follower_id} reads user {followed_id} since {since}");
        if until.is_some_and(|until| until <= *since) {
            Some(format!("{name} ends before it begins"))
        } else if before.is_some_and(|before| before.until.is_none_or(|until| until >= *since)) {
            Some(format!("{name} begins before the time before has ended"))
        } else if let (None, Some(deleted)) = (until, reader_deleted) {
            Some(format!("{name} goes on after the reader was deleted at {deleted}"))
        } else {
            None
        }
    }

    fn streams(&self) -> Vec<String> {
        let Self { follower_id, followed_id, since: at, .. } = *self;
        vec![Fact::Began { follower_id, followed_id, at }.stream(), format!("user-{follower_id}")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follow(since: i64, until: Option<i64>, reader_deleted: Option<i64>) -> Follow {
        Follow {
            follower_id: UserId(1),
            followed_id: UserId(2),
            since: Position(since),
            until: until.map(Position),
            reader_deleted: reader_deleted.map(Position),
        }
    }

    #[test]
    fn intervals_have_to_be_in_order_and_end_with_their_reader() {
        let first = follow(3, Some(5), None);
        assert_eq!(first.fault(None), None);
        assert_eq!(follow(7, None, None).fault(Some(&first)), None);
        assert_eq!(follow(7, Some(9), Some(9)).fault(Some(&first)), None);
        assert!(follow(7, Some(6), None).fault(Some(&first)).is_some());
        assert!(follow(4, None, None).fault(Some(&first)).is_some());
        assert!(follow(7, None, None).fault(Some(&follow(3, None, None))).is_some());
        assert!(follow(7, None, Some(9)).fault(Some(&first)).is_some());
    }

    #[test]
    fn what_ends_with_the_reader_is_no_fact_of_its_own() {
        assert_eq!(follow(3, Some(9), Some(9)).facts().count(), 1);
        assert_eq!(follow(3, Some(5), Some(9)).facts().count(), 2);
    }
}
