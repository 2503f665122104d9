//! Indexes of a new generation that are made when their tables are full: sorting once costs less
//! than keeping sorted.

use std::collections::BTreeSet;

use events::store::Connections;
use sqlx::AssertSqlSafe;

use crate::progress::Progress;

/// The tables that are filled in bulk.
const FILLED: [&str; 3] = ["tweets", "follows", "feed_items"];

/// What applying events needs all the same: to end a follow, to mark a tweet.
const NEEDED: [&str; 2] = ["tweets_pkey", "follows_by_follower"];

/// An index that was set aside, and how to make it again.
#[derive(Debug)]
pub(super) struct Index {
    pub table: String,
    make: String,
}

/// Removes from the empty tables of the next generation every index that can wait.
pub(super) async fn set_aside(next: &Connections) -> Result<Vec<Index>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select
            owner.relname as "table!", member.relname as "index!",
            pg_get_indexdef(member.oid) as "definition!",
            kept.conname as "constraint?", pg_get_constraintdef(kept.oid) as constraint_definition
        from pg_index
        join pg_class owner on owner.oid = pg_index.indrelid
        join pg_class member on member.oid = pg_index.indexrelid
        left join pg_constraint kept on kept.conindid = member.oid
        where owner.relnamespace = current_schema()::regnamespace
            and owner.relname = any($1) and member.relname <> all($2)
        order by member.relname
        "#,
        &FILLED as _,
        &NEEDED as _,
    )
    .fetch_all(next)
    .await?;
    let mut indexes = Vec::new();
    for row in rows {
        let table = row.table;
        let (drop, make) = match (row.constraint, row.constraint_definition) {
            (Some(name), Some(definition)) => (
                format!("alter table {table} drop constraint {name}"),
                format!("alter table {table} add constraint {name} {definition}"),
            ),
            _ => (format!("drop index {}", row.index), row.definition),
        };
        sqlx::query(AssertSqlSafe(drop)).execute(next).await?;
        indexes.push(Index { table, make });
    }
    Ok(indexes)
}

/// Makes `indexes`, those of different tables at the same time. Vacuum before the first of a table
/// would find nothing; after the last it lets an index alone answer, because it then knows which
/// rows everyone can see.
pub(super) async fn make(
    next: &Connections,
    indexes: &[Index],
    progress: &Progress,
) -> Result<(), sqlx::Error> {
    let tables: BTreeSet<&str> = indexes.iter().map(|index| index.table.as_str()).collect();
    let of_table = async |table: &str| {
        for index in indexes.iter().filter(|index| index.table == table) {
            sqlx::query(AssertSqlSafe(index.make.clone())).execute(next).await?;
            progress.advance(1);
        }
        sqlx::query(AssertSqlSafe(format!("vacuum (analyze) {table}"))).execute(next).await
    };
    futures_util::future::try_join_all(tables.into_iter().map(of_table)).await?;
    Ok(())
}
