//! How far every node of a distributed read model is.
//!
//! A page is of one reader and read on one node, rows and checkpoint together. What is read of many readers comes from several, each of
//! which commits a transaction of the projector at a moment of its own: it is of the position that all of them had before, or of
//! a later one.

use events::Position;
use events::store::Connections;

/// The position that each node has. Not checked when this is compiled: on one PostgreSQL there is no such function.
const EVERYWHERE: &str = "
    select case when bool_and(success) then min(result) end
    from (
        select success, case when success then result::bigint end as result
        from run_command_on_all_nodes(format(
            'select position from %I.checkpoint order by position desc, fence desc limit 1',
            (
                select nspname from pg_class join pg_namespace on pg_namespace.oid = relnamespace
                where pg_class.oid = 'checkpoint'::regclass
            )
        ))
        limit $1
    ) as node";

/// The most nodes there are.
const NODES_MAX: i64 = 10_000;

/// See the module.
///
/// # Errors
/// [`sqlx::Error`] when the database is away, or one of its nodes.
pub(super) async fn position_of_every_node(feed: &Connections) -> Result<Position, sqlx::Error> {
    let position: Option<i64> =
        sqlx::query_scalar(EVERYWHERE).bind(NODES_MAX).fetch_one(feed).await?;
    let away = || std::io::Error::other("a node of the read model is away");
    Ok(Position(position.ok_or_else(away)?))
}
