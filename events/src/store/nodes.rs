//! The nodes of a distributed read model, and how far each is.
//!
//! A page is of one reader and read on one node, rows and checkpoint together. What is read of many readers comes from several, each of
//! which commits a transaction of the projector at a moment of its own: it is of the position that all of them had before, or of
//! a later one.

use std::io;

use serde::Serialize;

use super::{Connections, Engine};
use crate::Position;

/// A node, as the coordinator knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Host and port.
    pub address: String,
    /// The checkpoint that it has; `None` while it is away.
    pub position: Option<Position>,
    /// How many parts of the readers it has.
    pub shards: i64,
}

/// Not checked when this is compiled: one PostgreSQL knows nothing of this.
const NODES: &str = "
    select
        nodename || ':' || nodeport,
        case when success then result::bigint end,
        (
            select count(*) from citus_shards
            where citus_shards.table_name = 'feed_items'::regclass
                and citus_shards.nodename = pg_dist_node.nodename
                and citus_shards.nodeport = pg_dist_node.nodeport
        )
    from run_command_on_all_nodes(format(
        'select position from %I.checkpoint order by position desc, fence desc limit 1',
        (
            select nspname from pg_class join pg_namespace on pg_namespace.oid = relnamespace
            where pg_class.oid = 'checkpoint'::regclass
        )
    )) as answer
    join pg_dist_node using (nodeid)
    order by nodeid
    limit $1";

/// The most nodes that are asked.
const NODES_MAX: i64 = 10_000;

/// The nodes of `feed`; none, where it is one PostgreSQL.
///
/// # Errors
/// [`sqlx::Error`] when the coordinator is away.
pub async fn nodes(feed: &Connections) -> Result<Vec<Node>, sqlx::Error> {
    if feed.engine().await? == Engine::Single {
        return Ok(Vec::new());
    }
    let found: Vec<(String, Option<Position>, i64)> =
        sqlx::query_as(NODES).bind(NODES_MAX).fetch_all(feed).await?;
    let node = |(address, position, shards)| Node { address, position, shards };
    Ok(found.into_iter().map(node).collect())
}

/// The position that every node of `feed` has, which is distributed.
///
/// # Errors
/// [`sqlx::Error`] when the coordinator is away, or any other.
pub async fn position_of_every_node(feed: &Connections) -> Result<Position, sqlx::Error> {
    let positions = nodes(feed).await?.into_iter().map(|node| {
        let Node { address, position, .. } = node;
        position.ok_or_else(|| io::Error::other(format!("node {address} is away")))
    });
    let positions: Vec<Position> = positions.collect::<Result<_, _>>()?;
    Ok(positions.into_iter().min().unwrap_or(Position::START))
}
