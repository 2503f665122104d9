//! Who follows whom.

use events::event::{Followed, Unfollowed};
use events::{Event, UserId};

use super::{DecisionState, Rejection};

pub(super) fn follow(
    state: &DecisionState,
    follower_id: UserId,
    followed_id: UserId,
) -> Result<Event, Rejection> {
    if follower_id == followed_id {
        return Err(Rejection::FollowsSelf);
    }
    if state.account(followed_id).is_none() {
        return Err(Rejection::UserUnknown(followed_id));
    }
    if state.follows(follower_id, followed_id) {
        return Err(Rejection::AlreadyFollowing(followed_id));
    }
    Ok(Event::Followed(Followed { follower_id, followed_id }))
}

/// A deleted user is followed by nobody, so there is nothing to end.
pub(super) fn unfollow(
    state: &DecisionState,
    follower_id: UserId,
    followed_id: UserId,
) -> Result<Event, Rejection> {
    if state.account(followed_id).is_none() || !state.follows(follower_id, followed_id) {
        return Err(Rejection::NotFollowing(followed_id));
    }
    Ok(Event::Unfollowed(Unfollowed { follower_id, followed_id }))
}
