//! Marking dormant readers in a new generation, before it has feeds: they get none.

use events::UserId;
use events::store::Connections;

use crate::feed::dormancy::{self, DormantAfter};
use crate::feed::read_model::dormant::DORMANT_FLOOR;

/// How many ids each statement covers.
const READERS_PER_STATEMENT: i64 = 2_000;

/// Marks in `next`, which has no floors yet, everyone who should be dormant by what `log` says.
pub(super) async fn mark(
    log: &Connections,
    next: &Connections,
    after: Option<DormantAfter>,
) -> Result<(), sqlx::Error> {
    if after.is_none() {
        return Ok(());
    }
    let last = dormancy::last(next).await?;
    let mut first = UserId(1);
    while first <= last {
        let found = dormancy::look(log, next, first, READERS_PER_STATEMENT, after).await?;
        let dormant = found.into_iter().filter(|reader| reader.should_be).map(|reader| reader.id);
        mark_some(next, &dormant.collect::<Vec<_>>()).await?;
        first.0 += READERS_PER_STATEMENT;
    }
    Ok(())
}

async fn mark_some(next: &Connections, readers: &[UserId]) -> Result<(), sqlx::Error> {
    if readers.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        with raised as (
            insert into floors (user_id, floor) select reader, $2::bigint from unnest($1::bigint[]) as reader
        )
        update follows set dormant = true where follower_id = any($1) and until_position = 0
        "#,
        readers as _,
        DORMANT_FLOOR.0
    )
    .execute(next)
    .await?;
    Ok(())
}
