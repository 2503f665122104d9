//! Holding the log against itself: no holes, every event readable, each in its stream, versions
//! without holes.

use std::collections::HashSet;

use events::event::TweetDeleted;
use events::store::outbox::{self, Outbox};
use events::store::{Connections, history, read};
use events::{Event, Mark, Position, RecordedEvent};

use super::{Differences, Part};

/// Events in one read.
const PAGE_EVENTS: usize = 8_192;

/// Stream versions in one read. They come from an index alone.
const PAGE_VERSIONS: i64 = 50_000;

/// The next events after `after`, none beyond `to`.
pub(super) async fn page(
    log: &Connections,
    after: Position,
    to: Position,
) -> Result<Vec<RecordedEvent>, sqlx::Error> {
    let wanted = usize::try_from(to.0 - after.0).unwrap_or_default();
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let mut page = read::after(log, after, wanted.min(PAGE_EVENTS)).await?;
    page.retain(|recorded| recorded.position <= to);
    Ok(page)
}

/// Checks the events after `after` and returns those that can be read.
pub(super) fn check<'a>(
    page: &'a [RecordedEvent],
    mut after: Position,
    differences: &mut Differences,
) -> Vec<(&'a RecordedEvent, Event)> {
    let mut decoded = Vec::with_capacity(page.len());
    for recorded in page {
        let position = recorded.position;
        if position != after.next() {
            let what = format!("position {position} follows {after}: there is a hole");
            differences.add(Part::Log, what, vec![recorded.stream.clone()]);
        }
        after = position;
        match recorded.event() {
            Ok(event) => {
                check_place(recorded, &event, differences);
                decoded.push((recorded, event));
            }
            Err(error) => {
                let what = format!("position {position} cannot be read: {error}");
                differences.add(Part::Log, what, vec![recorded.stream.clone()]);
            }
        }
    }
    decoded
}

fn check_place(recorded: &RecordedEvent, event: &Event, differences: &mut Differences) {
    let RecordedEvent { position, stream, version, kind, .. } = recorded;
    let expected = event.stream(*position);
    if *stream != expected {
        let what = format!("{kind} at {position} is in stream {stream} and belongs to {expected}");
        differences.add(Part::Log, what, vec![stream.clone()]);
    }
    // Streams of users and tweets have a beginning and perhaps an end; those of relationships
    // begin and end by turns.
    let fits = match event {
        Event::UserRegistered(_) | Event::TweetCreated(_) => *version == 1,
        Event::UserDeleted(_) | Event::TweetDeleted(_) => *version == 2,
        Event::Followed(_) => version % 2 == 1,
        Event::Unfollowed(_) => version % 2 == 0,
    };
    if !fits {
        let what = format!("{kind} at {position} cannot be version {version} of {stream}");
        differences.add(Part::Log, what, vec![stream.clone()]);
    }
}

/// Checks that the events end where the head says.
pub(super) async fn check_ends(
    log: &Connections,
    last: Position,
    head: Position,
    differences: &mut Differences,
) -> Result<(), sqlx::Error> {
    if last != head {
        let what = format!("the head is {head}, but the last event is {last}");
        differences.add(Part::Log, what, Vec::new());
    }
    let Outbox { position, event_id, .. } = outbox::load(log).await?;
    for mark in history::foreign(log, &[Mark { position, event_id }]).await? {
        let what = format!("the relay's cursor is at {mark}, which the log does not have");
        differences.add(Part::Log, what, Vec::new());
    }
    Ok(())
}

/// Checks that each tweet that is deleted on `page` was created by who deletes it.
pub(super) async fn check_deletions(
    log: &Connections,
    page: &[(&RecordedEvent, Event)],
    differences: &mut Differences,
) -> Result<(), sqlx::Error> {
    let deletions = page.iter().filter_map(|(recorded, event)| match event {
        Event::TweetDeleted(deleted) => Some((recorded, deleted)),
        _ => None,
    });
    let (ids, authors): (Vec<i64>, Vec<i64>) =
        deletions.clone().map(|(_, deleted)| (deleted.tweet_id.0, deleted.author_id.0)).unzip();
    if ids.is_empty() {
        return Ok(());
    }
    let unfounded: HashSet<i64> = sqlx::query_scalar!(
        r#"
        select asked.tweet_id as "tweet_id!"
        from unnest($1::bigint[], $2::bigint[]) as asked (tweet_id, author_id)
        where not exists (
            select from events
            where position = asked.tweet_id and type = 'TweetCreated'
                and (payload ->> 'author_id')::bigint = asked.author_id
            offset 0
        )
        "#,
        &ids,
        &authors,
    )
    .fetch_all(log)
    .await?
    .into_iter()
    .collect();
    for (recorded, deleted) in deletions {
        if unfounded.contains(&deleted.tweet_id.0) {
            let RecordedEvent { position, stream, .. } = recorded;
            let TweetDeleted { tweet_id, author_id } = deleted;
            let what = format!(
                "tweet {tweet_id} is deleted at {position}, but user {author_id} wrote no such tweet"
            );
            differences.add(Part::Log, what, vec![stream.clone()]);
        }
    }
    Ok(())
}

/// Checks that the versions of each stream are 1, 2, 3, … The first of a tweet is its creation, which is found by its
/// position and held by the other checks.
pub(super) async fn check_versions(
    log: &Connections,
    differences: &mut Differences,
) -> Result<(), sqlx::Error> {
    let (mut stream, mut version) = (String::new(), 0);
    loop {
        let rows = sqlx::query!(
            r#"
            select stream, version from events
            where (stream, version) > ($1, $2) and type <> 'TweetCreated'
            order by stream, version
            limit $3
            "#,
            stream,
            version,
            PAGE_VERSIONS
        )
        .fetch_all(log)
        .await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            let first = if row.stream.starts_with("tweet-") { 2 } else { 1 };
            let expected = if row.stream == stream { version + 1 } else { first };
            if row.version != expected {
                let what = format!(
                    "version {} of {} comes where version {expected} should be",
                    row.version, row.stream
                );
                differences.add(Part::Log, what, vec![row.stream.clone()]);
            }
            (stream, version) = (row.stream, row.version);
        }
    }
}
