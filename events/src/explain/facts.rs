//! What the events say about one reader and one tweet, as far as they were applied.

use super::Reason;
use crate::event::{Event, Followed, TweetDeleted, Unfollowed, UserDeleted, UserRegistered};
use crate::id::{Position, TweetId, UserId};
use crate::recorded::RecordedEvent;

/// See the module.
#[derive(Debug)]
pub(super) struct Facts {
    user: UserId,
    tweet: TweetId,
    author: Option<UserId>,
    reader_account: Account,
    author_account: Account,
    tweet_deleted: Option<Position>,
    relation: Relation,
    /// Follows and unfollows before the first that was applied. Versions count from 1 without
    /// holes, so nobody has to count events that were not read.
    pub(super) earlier_left_out: i32,
}

#[derive(Debug, Clone, Copy)]
enum Account {
    Unknown,
    Registered,
    Deleted(Position),
}

/// How the reader stands to the author.
#[derive(Debug, Clone, Copy)]
enum Relation {
    NeverFollowed,
    Follows { position: Position, again: bool },
    Unfollowed { position: Position },
}

impl Facts {
    /// Before any event.
    pub(super) fn new(user: UserId, tweet: TweetId, author: Option<UserId>) -> Self {
        Self {
            user,
            tweet,
            author,
            reader_account: Account::Unknown,
            author_account: Account::Unknown,
            tweet_deleted: None,
            relation: Relation::NeverFollowed,
            earlier_left_out: 0,
        }
    }

    /// Carries out what `event` says, and returns whether it says anything about the two.
    pub(super) fn apply(&mut self, recorded: &RecordedEvent, event: &Event) -> bool {
        let position = recorded.position;
        match event {
            Event::UserRegistered(UserRegistered { user_id, .. }) => {
                self.account(*user_id, Account::Registered)
            }
            Event::UserDeleted(UserDeleted { user_id }) => {
                self.account(*user_id, Account::Deleted(position))
            }
            Event::TweetCreated(_) => self.tweet == TweetId::from(position),
            Event::TweetDeleted(TweetDeleted { tweet_id, .. }) => {
                let is_it = self.tweet == *tweet_id;
                if is_it {
                    self.tweet_deleted = Some(position);
                }
                is_it
            }
            Event::Followed(Followed { follower_id, followed_id }) => {
                let again = recorded.version > 1;
                let follows = Relation::Follows { position, again };
                self.relation(*follower_id, *followed_id, recorded, follows)
            }
            Event::Unfollowed(Unfollowed { follower_id, followed_id }) => {
                let unfollowed = Relation::Unfollowed { position };
                self.relation(*follower_id, *followed_id, recorded, unfollowed)
            }
        }
    }

    fn account(&mut self, user: UserId, account: Account) -> bool {
        let (is_reader, is_author) = (user == self.user, Some(user) == self.author);
        if is_reader {
            self.reader_account = account;
        }
        if is_author {
            self.author_account = account;
        }
        is_reader || is_author
    }

    fn relation(
        &mut self,
        follower: UserId,
        followed: UserId,
        recorded: &RecordedEvent,
        relation: Relation,
    ) -> bool {
        let is_theirs = follower == self.user && Some(followed) == self.author;
        if is_theirs {
            if matches!(self.relation, Relation::NeverFollowed) {
                self.earlier_left_out = recorded.version - 1;
            }
            self.relation = relation;
        }
        is_theirs
    }

    /// Everything that speaks for the tweet's being in the feed at `at`, or against it. A cause
    /// that only follows from another is left out: who does not exist follows nobody.
    ///
    /// The order is that in which they decide: without a reader there is no feed, without a tweet
    /// nothing that could be in it, and only then does it matter who follows whom.
    pub(super) fn reasons(&self, named: Option<&RecordedEvent>, at: Position) -> Vec<Reason> {
        let mut reasons = Vec::new();
        match self.reader_account {
            Account::Unknown => reasons.push(Reason::NoSuchUser),
            Account::Deleted(position) => reasons.push(Reason::UserDeleted { position }),
            Account::Registered => {}
        }
        let (Some(named), Some(author)) = (named, self.author) else {
            reasons.push(named.map_or(Reason::NoSuchEvent, |other| Reason::NotATweet {
                kind: other.kind.clone(),
            }));
            return reasons;
        };
        if named.position > at {
            reasons.push(Reason::WrittenLater { position: named.position });
        }
        reasons.extend(self.tweet_deleted.map(|position| Reason::TweetDeleted { position }));
        if author == self.user {
            reasons.push(Reason::Own);
        } else {
            self.reasons_of_author(author, &mut reasons);
        }
        reasons
    }

    fn reasons_of_author(&self, author: UserId, reasons: &mut Vec<Reason>) {
        match self.author_account {
            Account::Unknown => reasons.push(Reason::NoSuchAuthor { author }),
            Account::Deleted(position) => reasons.push(Reason::AuthorDeleted { author, position }),
            Account::Registered => {}
        }
        match self.relation {
            Relation::Follows { position, again } => {
                reasons.push(Reason::Follows { author, position, again });
            }
            Relation::Unfollowed { position } => {
                reasons.push(Reason::Unfollowed { author, position });
            }
            Relation::NeverFollowed => {
                let accounts = (self.reader_account, self.author_account);
                if !matches!(accounts, (Account::Unknown, _) | (_, Account::Unknown)) {
                    reasons.push(Reason::NeverFollowed { author });
                }
            }
        }
    }
}
