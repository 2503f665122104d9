//! What the coordinator leaves to the nodes.

use sqlx::{AssertSqlSafe, Row};

use super::Nodes;

/// What is read and written of each reader is sent whole to where they are, and a page of one to one node.
#[tokio::test(flavor = "multi_thread")]
async fn statements_are_sent_whole_to_the_nodes() {
    const EVERY_SHARD: &str = "Task Count: 6";
    const ONE_SHARD: &str = "Task Count: 1";
    let Some(nodes) = Nodes::start().await else { return };
    let mut lent = nodes.feed.lend().await.unwrap();
    let pairs = "('{5, 6}', '{7, 8}')";
    let (arrays, two) = ("bigint[], bigint[]", "bigint, bigint, bigint, bigint");
    for (name, statement, types, arguments, tasks) in [
        (
            "fan-out",
            include_str!("../../../../projector/src/feed/read_model/feed_items/fan_out.sql"),
            arrays,
            pairs,
            EVERY_SHARD,
        ),
        (
            "backfill",
            include_str!("../../../../projector/src/feed/read_model/feed_items/backfill.sql"),
            "bigint[], bigint[], bigint, bigint, bigint",
            "('{5, 6}', '{7, 8}', 255, 5, null)",
            EVERY_SHARD,
        ),
        (
            "removal",
            include_str!(
                "../../../../projector/src/feed/read_model/feed_items/remove_unfollowed_distributed.sql"
            ),
            arrays,
            pairs,
            EVERY_SHARD,
        ),
        (
            "step",
            include_str!("../../../../projector/src/feed/read_model/fan_out/step.sql"),
            "bigint[], bigint, bigint, bigint, bigint",
            "('{1, 2}', 5, 6, 10, 255)",
            EVERY_SHARD,
        ),
        (
            "rows that come back",
            include_str!("../../../../projector/src/feed/read_model/dormant/deliver.sql"),
            "bigint[], bigint",
            "('{5, 6}', null)",
            EVERY_SHARD,
        ),
        (
            "page",
            include_str!("../../../../api/src/views/feed/page.sql"),
            two,
            "(5, 100, 0, 20)",
            ONE_SHARD,
        ),
        (
            "merged page",
            include_str!("../../../../api/src/views/feed/page_merged.sql"),
            two,
            "(5, 100, 0, 20)",
            ONE_SHARD,
        ),
        (
            "whole page",
            include_str!("../../../../api/src/views/feed/page_whole.sql"),
            two,
            "(5, 100, 0, 20)",
            ONE_SHARD,
        ),
    ] {
        let prepare = format!("prepare planned ({types}) as {statement}");
        sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut *lent).await.unwrap();
        let explain = format!("explain (verbose) execute planned {arguments}");
        let plan = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *lent).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|line| line.get(0)).collect();
        sqlx::raw_sql("deallocate planned").execute(&mut *lent).await.unwrap();
        let first =
            plan.iter().find(|line| line.contains("Task Count")).expect("it is distributed");
        assert!(first.contains(tasks), "{name}: {}", plan.join("\n"));
        // What was written is counted by the coordinator, and nothing else passes through it.
        let plan = plan.join("\n");
        assert!(!plan.contains("pull to coordinator") && !plan.contains("repartition"), "{plan}");
        let counted = usize::from(statement.contains("returning"));
        assert_eq!(plan.matches("Distributed Subplan").count(), counted, "{name}: {plan}");
    }
}
