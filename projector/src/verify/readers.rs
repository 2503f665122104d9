//! Holding `reader_counts` and `pulled_authors` against the log.

use std::cmp::Ordering;

use events::store::Connections;
use events::{Position, UserId};

use super::{Differences, Part};
use crate::feed::pulled::ReaderCounts;

/// Rows in one read.
const PAGE_ROWS: i64 = 10_000;

/// What an author has by the table.
struct Row {
    author_id: UserId,
    position: Position,
    readers: i64,
}

/// Compares the table with `counts`, which are those at `position`. A row that was written later says nothing about then.
pub(super) async fn compare(
    feed: &Connections,
    position: Position,
    counts: &ReaderCounts,
    differences: &mut Differences,
) -> Result<(), sqlx::Error> {
    let mut due = counts.iter().peekable();
    let mut after = UserId(0);
    loop {
        let page = sqlx::query_as!(
            Row,
            r#"
            select author_id as "author_id: UserId", position as "position: Position", readers
            from reader_counts where author_id > $1 order by author_id, position limit $2
            "#,
            after.0,
            PAGE_ROWS
        )
        .fetch_all(feed)
        .await?;
        let Some(last) = page.last() else { break };
        after = last.author_id;
        for row in page {
            while let Some((author, readers)) =
                due.next_if(|(author, _)| author.cmp(&row.author_id) == Ordering::Less)
            {
                differ(author, readers, "nothing", differences);
            }
            let expected = due
                .next_if(|(author, _)| *author == row.author_id)
                .map_or(0, |(_, readers)| readers);
            if row.position <= position && row.readers != expected {
                differ(row.author_id, expected, &row.readers.to_string(), differences);
            }
        }
    }
    for (author, readers) in due {
        differ(author, readers, "nothing", differences);
    }
    list_unnamed(feed, differences).await
}

fn differ(author: UserId, expected: i64, found: &str, differences: &mut Differences) {
    let what = format!(
        "by the log, {expected} began to read user {author} and did not cease; the read model says {found}"
    );
    differences.add(Part::Readers, what, vec![format!("user-{author}")]);
}

/// Authors of whom a tweet is pulled, and no page knows.
async fn list_unnamed(
    feed: &Connections,
    differences: &mut Differences,
) -> Result<(), sqlx::Error> {
    let unnamed = sqlx::query_scalar!(
        r#"
        select distinct tweets.author_id as "author_id: UserId"
        from tweets
        where tweets.pulled
            and not exists (select from pulled_authors where pulled_authors.author_id = tweets.author_id)
        "#
    );
    for author in unnamed.fetch_all(feed).await? {
        let what =
            format!("user {author} has tweets that are pulled, and pulled_authors does not say so");
        differences.add(Part::Readers, what, vec![format!("user-{author}")]);
    }
    Ok(())
}
