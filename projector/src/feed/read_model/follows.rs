//! `follows`: who reads whom, and from when until when.

use std::collections::BTreeMap;

use events::store::Engine;
use events::{Position, UserId};
use sqlx::PgConnection;

use crate::changes::Changes;
use crate::feed::read_model::dormant::DORMANT_FLOOR;

/// Ends the follows that held before this run and ended in it.
pub(crate) async fn end(
    transaction: &mut PgConnection,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    if changes.ended.is_empty() {
        return Ok(());
    }
    let followers: Vec<i64> = changes.ended.keys().map(|pair| pair.0.0).collect();
    let followed: Vec<i64> = changes.ended.keys().map(|pair| pair.1.0).collect();
    let positions: Vec<i64> = changes.ended.values().map(|at| at.0).collect();
    sqlx::query!(
        r#"
        update follows set until_position = gone.position
        from unnest($1::bigint[], $2::bigint[], $3::bigint[])
            as gone (follower_id, followed_id, position)
        where follows.follower_id = gone.follower_id
            and follows.followed_id = gone.followed_id
            and follows.until_position = 0
        "#,
        &followers,
        &followed,
        &positions,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Writes the follows that began in this run, those that ended in it again among them: a feed as
/// it was at a position in between needs them. Who is dormant stays so.
pub(crate) async fn begin(
    transaction: &mut PgConnection,
    engine: Engine,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    if changes.begun.is_empty() {
        return Ok(());
    }
    let begun: Vec<_> = changes
        .begun
        .iter()
        .flat_map(|(pair, intervals)| intervals.iter().map(move |interval| (pair, interval)))
        .collect();
    let followers: Vec<i64> = begun.iter().map(|(pair, _)| pair.0.0).collect();
    let followed: Vec<i64> = begun.iter().map(|(pair, _)| pair.1.0).collect();
    let since: Vec<i64> = begun.iter().map(|(_, interval)| interval.since.0).collect();
    let until: Vec<i64> =
        begun.iter().map(|(_, interval)| interval.until.map_or(0, |at| at.0)).collect();
    match engine {
        Engine::Single => {
            sqlx::query!(
                r#"
                insert into follows (follower_id, followed_id, since_position, until_position, dormant)
                select begun.*, (
                    select floor = $5 from floors where floors.user_id = begun.follower_id limit 1
                ) is true
                from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                    as begun (follower_id, followed_id, since_position, until_position)
                "#,
                &followers,
                &followed,
                &since,
                &until,
                DORMANT_FLOOR.0,
            )
            .execute(transaction)
            .await?
        }
        // Who is dormant is known where the reader is, and the rows come from here.
        Engine::Distributed => {
            sqlx::query!(
                r#"
                insert into follows (follower_id, followed_id, since_position, until_position)
                select follower_id, followed_id, since_position, until_position
                from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])
                    as begun (follower_id, followed_id, since_position, until_position)
                "#,
                &followers,
                &followed,
                &since,
                &until,
            )
            .execute(&mut *transaction)
            .await?;
            sqlx::query!(
                r#"
                update follows set dormant = true
                from unnest($1::bigint[], $2::bigint[], $3::bigint[])
                    as begun (follower_id, followed_id, since_position)
                cross join floors
                where floors.user_id = begun.follower_id and floors.floor = $4
                    and follows.follower_id = floors.user_id
                    and follows.followed_id = begun.followed_id
                    and follows.since_position = begun.since_position
                "#,
                &followers,
                &followed,
                &since,
                DORMANT_FLOOR.0,
            )
            .execute(transaction)
            .await?
        }
    };
    Ok(())
}

/// Says in what `readers` follow now whether they are dormant.
pub(crate) async fn mark(
    transaction: &mut PgConnection,
    engine: Engine,
    readers: &[i64],
    dormant: bool,
) -> Result<(), sqlx::Error> {
    match engine {
        Engine::Single => {
            sqlx::query!(
                r#"
                update follows set dormant = $2 where ctid = any(array(
                    select followed.ctid
                    from unnest($1::bigint[]) as reader (user_id)
                    cross join lateral (
                        select ctid from follows
                        where follower_id = reader.user_id and until_position = 0 and dormant <> $2
                        offset 0
                    ) as followed
                ))
                "#,
                readers,
                dormant
            )
            .execute(transaction)
            .await?
        }
        Engine::Distributed => {
            sqlx::query!(
                r#"
                update follows set dormant = $2
                where follower_id = any($1) and until_position = 0 and dormant <> $2
                "#,
                readers,
                dormant
            )
            .execute(transaction)
            .await?
        }
    };
    Ok(())
}

/// Ends what the users deleted in this run followed, so that nothing is delivered to them any more.
/// Who followed them stays: their tweets are passed over by each read.
pub(crate) async fn end_of_deleted(
    transaction: &mut PgConnection,
    deleted: &BTreeMap<UserId, Position>,
) -> Result<(), sqlx::Error> {
    if deleted.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = deleted.keys().map(|user| user.0).collect();
    let positions: Vec<i64> = deleted.values().map(|at| at.0).collect();
    sqlx::query!(
        r#"
        update follows set until_position = gone.position
        from unnest($1::bigint[], $2::bigint[]) as gone (user_id, position)
        where follows.follower_id = gone.user_id and follows.until_position = 0
        "#,
        &ids,
        &positions,
    )
    .execute(transaction)
    .await?;
    Ok(())
}
