//! Which tweets are pulled: no feed keeps a row of them, and a page takes them from their author.
//!
//! **Rule**: a tweet is pulled if its author had so many readers or more ([`PullFrom`]) when it was written. How many that were
//! is a fact of the log: Followed less Unfollowed of the author, up to the tweet. Who left without unfollowing counts on, so that
//! the end of an account changes nothing for those whom it followed.
//!
//! A tweet stays what it was when it was written. So nothing has to be moved when an author gains or loses readers, and one who
//! does so again and again costs nothing: there is no state of being a heavy author, and no second threshold to leave it by.

use std::collections::BTreeMap;

use events::event::{Followed, Unfollowed};
use events::{Event, UserId};

/// From how many readers on an author's tweets are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PullFrom(pub i64);

impl PullFrom {
    /// The rule.
    #[must_use]
    pub const fn pulls(self, readers: i64) -> bool {
        readers >= self.0
    }
}

/// Whom an event brings a reader, or takes one from; users read themselves without one.
#[must_use]
pub const fn change_of_readers(event: &Event) -> Option<(UserId, i64)> {
    match event {
        Event::Followed(Followed { followed_id, .. }) => Some((*followed_id, 1)),
        Event::Unfollowed(Unfollowed { followed_id, .. }) => Some((*followed_id, -1)),
        _ => None,
    }
}

/// So many users share a page of counts.
const PER_PAGE: i64 = 1_024;

/// How many readers everyone has, replayed from the beginning of the log: four bytes a user, as long as their ids are dense, and a
/// log whose ids are not costs a page for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReaderCounts {
    pages: BTreeMap<i64, Box<[i32]>>,
}

impl ReaderCounts {
    /// Goes on by one event.
    pub(crate) fn add(&mut self, event: &Event) {
        if let Some((author, change)) = change_of_readers(event) {
            let (page, place) = place_of(author);
            let empty = || vec![0; usize::try_from(PER_PAGE).unwrap_or_default()].into();
            let count = &mut self.pages.entry(page).or_insert_with(empty)[place];
            *count = count.saturating_add(if change > 0 { 1 } else { -1 });
        }
    }

    /// How many readers `author` has by now.
    pub(crate) fn of(&self, author: UserId) -> i64 {
        let (page, place) = place_of(author);
        self.pages.get(&page).map_or(0, |counts| i64::from(counts[place]))
    }

    /// Everyone who has readers, in order, and how many.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (UserId, i64)> {
        self.pages.iter().flat_map(|(page, counts)| {
            (page * PER_PAGE..)
                .zip(counts.iter())
                .filter(|(_, count)| **count != 0)
                .map(|(author, count)| (UserId(author), i64::from(*count)))
        })
    }
}

fn place_of(author: UserId) -> (i64, usize) {
    let place = usize::try_from(author.0.rem_euclid(PER_PAGE)).unwrap_or_default();
    (author.0.div_euclid(PER_PAGE), place)
}
