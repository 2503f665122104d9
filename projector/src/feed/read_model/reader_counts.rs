//! `reader_counts`: how many readers an author has, see [`pulled`](crate::feed::pulled).

use events::Position;
use sqlx::{PgConnection, PgExecutor};

use crate::changes::Changes;
use crate::feed::pulled::ReaderCounts;

/// Counts those who began and ceased to read in this run, which ends at `last`.
pub(crate) async fn add(
    transaction: &mut PgConnection,
    changes: &Changes,
    last: Position,
) -> Result<(), sqlx::Error> {
    let (authors, gained): (Vec<i64>, Vec<i64>) =
        changes.readers_gained().into_iter().map(|(author, gained)| (author.0, gained)).unzip();
    if authors.is_empty() {
        return Ok(());
    }
    sqlx::query_file!("src/feed/read_model/reader_counts/add.sql", &authors, &gained, last.0)
        .execute(transaction)
        .await?;
    Ok(())
}

/// Authors in one statement of [`write`].
const AUTHORS_PER_STATEMENT: usize = 10_000;

/// Writes `counts`, as they are at `position`, into the empty table.
pub(crate) async fn write(
    feed: impl PgExecutor<'_> + Copy,
    counts: &ReaderCounts,
    position: Position,
) -> Result<(), sqlx::Error> {
    let mut counts = counts.iter().peekable();
    while counts.peek().is_some() {
        let (authors, readers): (Vec<i64>, Vec<i64>) = counts
            .by_ref()
            .take(AUTHORS_PER_STATEMENT)
            .map(|(author, readers)| (author.0, readers))
            .unzip();
        sqlx::query!(
            r#"
            insert into reader_counts (author_id, position, readers)
            select author_id, $3, readers from unnest($1::bigint[], $2::bigint[]) as counted (author_id, readers)
            "#,
            &authors,
            &readers,
            position.0
        )
        .execute(feed)
        .await?;
    }
    Ok(())
}
