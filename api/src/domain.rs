//! What may happen: each command against the decision state, and nothing else. No clock, no
//! database, no HTTP.

pub mod relationship;
pub mod state;
pub mod tweet;
pub mod user;
mod visible;

use events::{Event, TweetId, UserId};
use serde::{Deserialize, Serialize};

pub use state::{Account, DecisionState};
pub use tweet::Content;
pub use user::{Email, Username};

/// What a client asks for, already well-formed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Command {
    Register { username: Username, email: Email },
    DeleteUser { user_id: UserId },
    Tweet { author_id: UserId, content: Content },
    DeleteTweet { author_id: UserId, tweet_id: TweetId },
    Follow { follower_id: UserId, followed_id: UserId },
    Unfollow { follower_id: UserId, followed_id: UserId },
}

/// Why a well-formed command is not accepted. Kept as the answer to an idempotency key, so a
/// variant's name is part of the stored data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejection {
    #[error("the username {0} is taken")]
    UsernameTaken(String),
    #[error("the e-mail address {0} is taken")]
    EmailTaken(String),
    #[error("the calling user {0} does not exist")]
    CallerUnknown(UserId),
    #[error("there is no user {0}")]
    UserUnknown(UserId),
    #[error("you have no tweet {0}")]
    TweetUnknown(TweetId),
    #[error("you cannot follow yourself")]
    FollowsSelf,
    #[error("you already follow user {0}")]
    AlreadyFollowing(UserId),
    #[error("you do not follow user {0}")]
    NotFollowing(UserId),
}

impl Command {
    /// Who asks; `None` for a registration.
    #[must_use]
    pub const fn caller(&self) -> Option<UserId> {
        match self {
            Self::Register { .. } => None,
            Self::DeleteUser { user_id: caller }
            | Self::Tweet { author_id: caller, .. }
            | Self::DeleteTweet { author_id: caller, .. }
            | Self::Follow { follower_id: caller, .. }
            | Self::Unfollow { follower_id: caller, .. } => Some(*caller),
        }
    }

    /// Decides the command against `state`.
    ///
    /// # Errors
    /// The [`Rejection`] that the client hears.
    pub fn decide(&self, state: &DecisionState) -> Result<Event, Rejection> {
        if let Some(caller) = self.caller()
            && state.account(caller).is_none()
        {
            return Err(Rejection::CallerUnknown(caller));
        }
        match self {
            Self::Register { username, email } => user::register(state, username, email),
            Self::DeleteUser { user_id } => Ok(user::delete(*user_id)),
            Self::Tweet { author_id, content } => Ok(tweet::create(*author_id, content)),
            Self::DeleteTweet { author_id, tweet_id } => {
                tweet::delete(state, *author_id, *tweet_id)
            }
            Self::Follow { follower_id, followed_id } => {
                relationship::follow(state, *follower_id, *followed_id)
            }
            Self::Unfollow { follower_id, followed_id } => {
                relationship::unfollow(state, *follower_id, *followed_id)
            }
        }
    }
}
