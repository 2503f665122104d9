//! Slices on their way to the broker: `api/src/relay/publisher.rs`.

use crate::broker::{Answer, Slice};
use crate::mutation::Mutation;
use crate::system::Position;

/// The slices of one round and what the broker said to them; `None` was not published yet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Publishing(Vec<(Slice, Option<Answer>)>);

/// How far the slices were confirmed, from the first without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    All {
        to: Position,
    },
    /// The broker refused the slice after these; `None` if it is the first.
    Refused {
        to: Option<Position>,
    },
    /// `BrokerError::Unroutable`
    Unroutable,
}

impl Publishing {
    /// `Slice::cut` of the events from `first` to `last`: one event per slice, or all in one.
    pub fn cut(first: Position, last: Position, in_one_slice: bool) -> Self {
        let slices = if in_one_slice {
            vec![Slice { first, last }]
        } else {
            (first..=last).map(|only| Slice { first: only, last: only }).collect()
        };
        Self(slices.into_iter().map(|slice| (slice, None)).collect())
    }

    /// The slice to publish next.
    pub fn next(&self) -> Option<Slice> {
        self.0.iter().find(|(_, answer)| answer.is_none()).map(|(slice, _)| *slice)
    }

    /// What the broker says to that.
    pub fn answer(&mut self, said: Answer) {
        let next = self.0.iter_mut().find(|(_, answer)| answer.is_none());
        next.expect("a slice was published").1 = Some(said);
    }

    /// The slices that the broker took.
    pub fn acknowledged(&self) -> impl Iterator<Item = Slice> {
        self.0.iter().filter(|(_, answer)| *answer == Some(Answer::Ack)).map(|(slice, _)| *slice)
    }

    /// `confirmed_prefix`
    pub fn confirmed_prefix(&self, mutation: Mutation) -> Published {
        let is_confirmed = |(_, answer): &(Slice, Option<Answer>)| match answer {
            _ if mutation == Mutation::CursorMovesBeforeConfirm => true,
            Some(Answer::Ack) => true,
            Some(Answer::Returned) => mutation == Mutation::UnroutableIsConfirmed,
            Some(Answer::Nack) | None => false,
        };
        let confirmed = if mutation == Mutation::CursorPassesRefused {
            self.0.iter().rposition(is_confirmed).map_or(0, |last| last + 1)
        } else {
            self.0.iter().take_while(|slice| is_confirmed(slice)).count()
        };
        let to = self.0[..confirmed].last().map(|(slice, _)| slice.last);
        match (self.0.get(confirmed), to) {
            (None, Some(to)) => Published::All { to },
            (Some((_, Some(Answer::Returned))), _) => Published::Unroutable,
            (_, to) => Published::Refused { to },
        }
    }
}
