//! The read model on a real Citus, where that is installed.

use e2e::citus::Citus;
use e2e::database::TestDatabase;
use events::store::schema::Schema;
use events::store::{Connections, Database};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::projection::{is_exact_however_it_arrives, read_by_many};

async fn migrated(citus: &Citus) -> Connections {
    let database = Database::parse("FEED_DATABASE_URL", &citus.url(), "rookery test").unwrap();
    let feed = database.connect(4).await.unwrap();
    Schema::Feed.migrate(&feed).await.unwrap();
    feed
}

#[tokio::test(flavor = "multi_thread")]
async fn random_histories_are_exact_on_several_nodes() {
    let Some(citus) = Citus::start().await else { return };
    let log = TestDatabase::migrated().await;
    let feed = migrated(&citus).await;
    let seed = rand::rng().random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let bounds = read_by_many(&mut random);
    is_exact_however_it_arrives(&mut random, 500, &log.pool().await, &feed, bounds).await;
}
