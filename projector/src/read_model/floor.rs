//! The floor of a feed: from it up `feed_items` is complete, below it there is nothing and a read
//! goes on with the tweets of those followed.
//!
//! **Invariant**: a floor only rises, and in the transaction that raises it every row below it goes.
//! So removal never leaves a hole, and the cap bounds storage without cutting any feed short.
//!
//! Below the floor that a feed had there is nothing to remove, so the index is entered there: while
//! somebody holds an old snapshot, every row that was ever removed is still in it.

use sqlx::PgConnection;

use crate::changes::{FeedChanges, columns};

/// Raises the floors of readers who began to follow an author with more than `kept` tweets, so that
/// what such an author brings in is bounded too.
pub(crate) async fn raise_for_long_authors(
    transaction: &mut PgConnection,
    changes: &FeedChanges,
    kept: i64,
) -> Result<(), sqlx::Error> {
    let (readers, authors) = columns(changes.started.iter().copied());
    if readers.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        with higher as materialized (
            select started.user_id, max(beyond.tweet_id) + 1 as floor
            from unnest($1::bigint[], $2::bigint[]) as started (user_id, author_id)
            cross join lateral (
                select tweet_id from tweets
                where (author_id, deleted_position, tweet_id) > (started.author_id, 0, 0)
                    and (author_id, deleted_position, tweet_id) < (started.author_id, 1, 0)
                order by author_id desc, deleted_position desc, tweet_id desc
                offset $3 limit 1
            ) as beyond
            group by started.user_id
        ), raised as (
            insert into floors (user_id, floor)
            select user_id, floor from higher
            on conflict (user_id) do update set floor = greatest(floors.floor, excluded.floor)
        )
        delete from feed_items where ctid = any(array(
            select item.ctid
            from higher
            left join lateral (
                select floor from floors where floors.user_id = higher.user_id limit 1
            ) as before on true
            cross join lateral (
                select ctid from feed_items
                where feed_items.user_id = higher.user_id
                    and feed_items.tweet_id >= coalesce(before.floor, 0)
                    and feed_items.tweet_id < higher.floor
                offset 0
            ) as item
        ))
        "#,
        &readers,
        &authors,
        kept,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Cuts the feeds of `users` back to their newest `kept` rows, where they have more.
pub(crate) async fn trim(
    transaction: &mut PgConnection,
    users: &[i64],
    kept: i64,
) -> Result<(), sqlx::Error> {
    if users.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        with higher as materialized (
            select distinct grown.user_id, beyond.tweet_id + 1 as floor
            from unnest($1::bigint[]) as grown (user_id)
            cross join lateral (
                select tweet_id from feed_items
                where feed_items.user_id = grown.user_id
                order by user_id desc, tweet_id desc
                offset $2 limit 1
            ) as beyond
        ), raised as (
            insert into floors (user_id, floor)
            select user_id, floor from higher
            on conflict (user_id) do update set floor = greatest(floors.floor, excluded.floor)
        )
        delete from feed_items where ctid = any(array(
            select item.ctid
            from higher
            left join lateral (
                select floor from floors where floors.user_id = higher.user_id limit 1
            ) as before on true
            cross join lateral (
                select ctid from feed_items
                where feed_items.user_id = higher.user_id
                    and feed_items.tweet_id >= coalesce(before.floor, 0)
                    and feed_items.tweet_id < higher.floor
                offset 0
            ) as item
        ))
        "#,
        users,
        kept,
    )
    .execute(transaction)
    .await?;
    Ok(())
}
