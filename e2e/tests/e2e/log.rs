//! The log, as the database itself keeps it.

use e2e::RANGE_EVENTS;
use e2e::database::TestDatabase;
use events::Position;
use events::store::ranges;
use events::store::schema::{Schema, SchemaError};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

#[tokio::test]
async fn the_database_refuses_to_change_an_event() {
    let database = TestDatabase::migrated().await;
    let mut connection = PgConnection::connect(&database.url).await.unwrap();
    ranges::open(&mut connection, Position(1), RANGE_EVENTS).await.unwrap();
    let insert = "insert into events values (1, gen_random_uuid(), 'user-1', 1, 'UserRegistered', 1, '{}', '{}', now())";
    sqlx::query(insert).execute(&mut connection).await.unwrap();

    let changes = [
        "update events set payload = '{}'",
        "update events set payload = '{}' where false",
        "delete from events",
        "truncate events",
        "truncate events cascade",
        "update events_1 set payload = '{}'",
        "delete from events_1",
        "truncate events_1",
    ];
    for role in ["origin", "replica"] {
        let role = format!("set session_replication_role = {role}");
        sqlx::query(AssertSqlSafe(role)).execute(&mut connection).await.unwrap_or_default();
        for change in changes {
            let error = sqlx::query(change).execute(&mut connection).await.unwrap_err();
            assert!(error.to_string().contains("append-only"), "{change}: {error}");
        }
    }
    let left: i64 =
        sqlx::query_scalar("select count(*) from events").fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn migrations_may_be_applied_by_several_at_once_and_again() {
    let database = TestDatabase::create().await;
    let pools = [database.pool().await, database.pool().await, database.pool().await];
    let applying = pools.iter().map(|pool| async {
        Schema::Log.migrate(pool).await.unwrap();
        Schema::Feed.migrate(pool).await.unwrap();
    });
    futures_util::future::join_all(applying).await;
    assert!(Schema::Log.is_current(&pools[0]).await.unwrap());
    assert!(Schema::Feed.is_current(&pools[0]).await.unwrap());
}

#[tokio::test]
async fn a_schema_of_a_newer_release_is_refused() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let newer = "insert into log_migrations (version, description, success, checksum, execution_time) values (9999, 'newer', true, '', 0)";
    sqlx::query(newer).execute(&pool).await.unwrap();
    let refused = Schema::Log.migrate(&pool).await.unwrap_err();
    assert!(matches!(refused, SchemaError::Newer { version: 9999, .. }), "{refused}");
}

#[tokio::test]
async fn a_migration_that_is_not_what_was_applied_is_refused() {
    let database = TestDatabase::migrated().await;
    let pool = database.pool().await;
    let changed = "update log_migrations set checksum = '' where version = 2";
    sqlx::query(changed).execute(&pool).await.unwrap();
    let refused = Schema::Log.migrate(&pool).await.unwrap_err();
    assert!(refused.to_string().contains("modified"), "{refused}");
}
