//! Tickets for streams: for clients that cannot set headers, such as a browser's `EventSource`.
//!
//! A ticket says who its bearer is and until when that holds, signed with the key by which the log
//! also signs its slices: so every api of this log knows it. It goes into a URL, where more people may see
//! it than a header, so it lives for a minute; what it opens ends when the login does that it was got with.

use chrono::{DateTime, Utc};
use events::UserId;
use events::slice::SliceKey;

use crate::authentication::Proof;

/// How long a ticket opens streams: long enough for a client that has just got it.
pub const TICKET_SECONDS: i64 = 60;

/// Gives out tickets and takes them.
#[derive(Debug)]
pub struct Tickets(SliceKey);

/// Why a ticket opens nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    #[error("this is not a ticket of this service")]
    Untrusted,
    #[error("the ticket has expired: get another")]
    Expired,
}

impl Tickets {
    /// Signed with `key`, which every api of one log has.
    #[must_use]
    pub fn new(key: SliceKey) -> Self {
        Self(key)
    }

    /// A ticket for `proof`, and when it ends.
    #[must_use]
    pub fn give(&self, proof: Proof, now: DateTime<Utc>) -> (String, DateTime<Utc>) {
        let expires = now + chrono::Duration::seconds(TICKET_SECONDS);
        let login_ends = proof.expires.map_or(0, |ends| ends.timestamp());
        let says = format!("{}.{}.{login_ends}", proof.user, expires.timestamp());
        let signature = self.0.sign(signed(&says).as_bytes());
        (format!("{says}.{signature}"), expires)
    }

    /// Who bears `ticket`.
    ///
    /// # Errors
    /// [`TicketError`]
    pub fn take(&self, ticket: &str, now: DateTime<Utc>) -> Result<Proof, TicketError> {
        let (says, signature) = ticket.rsplit_once('.').ok_or(TicketError::Untrusted)?;
        if !self.0.is_signature_of(signed(says).as_bytes(), signature) {
            return Err(TicketError::Untrusted);
        }
        let numbers = says.split('.').map(str::parse::<i64>).collect::<Result<Vec<_>, _>>();
        let Ok([user, expires, login_ends]) = numbers.as_deref() else {
            return Err(TicketError::Untrusted);
        };
        if now.timestamp() >= *expires {
            return Err(TicketError::Expired);
        }
        let expires = DateTime::from_timestamp_secs(*login_ends).filter(|_| *login_ends != 0);
        Ok(Proof { user: UserId(*user), expires })
    }
}

/// What is signed: nothing that could be taken for a slice, which begins with a bracket.
fn signed(says: &str) -> String {
    format!("ticket for a stream: {says}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_for_a_minute_and_for_nobody_else() {
        let tickets = Tickets::new(SliceKey::new(b"secret"));
        let now = DateTime::from_timestamp_secs(1_700_000_000).unwrap();
        let after = |seconds| now + chrono::Duration::seconds(seconds);
        for expires in [None, Some(after(3_600))] {
            let proof = Proof { user: UserId(7), expires };
            let (ticket, ends) = tickets.give(proof, now);
            assert_eq!(ends, after(60));
            assert_eq!(tickets.take(&ticket, after(59)), Ok(proof));
            assert_eq!(tickets.take(&ticket, after(60)), Err(TicketError::Expired));
            let of_another = ticket.replacen('7', "8", 1);
            assert_eq!(tickets.take(&of_another, now), Err(TicketError::Untrusted));
            let elsewhere = Tickets::new(SliceKey::new(b"another"));
            assert_eq!(elsewhere.take(&ticket, now), Err(TicketError::Untrusted));
        }
        for nonsense in ["", ".", "7.1.0.", "7.1.0.zz", "é.é"] {
            assert_eq!(tickets.take(nonsense, now), Err(TicketError::Untrusted), "{nonsense}");
        }
    }
}
