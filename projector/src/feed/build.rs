//! Making a whole generation of the feeds in bulk: the log is replayed without feeds and without most indexes, then the feeds
//! are written at once from what is there.

mod copy;
mod dormant;
mod everywhere;
mod feeds;
mod indexes;
mod replay;

use events::store::Connections;

use crate::checkpoint;
use crate::feed::read_model::rules;
use crate::progress::Phase;
use crate::rebuild::{Built, Rebuild, RebuildError};
use crate::verify::Facts;

/// How many connections work out feeds: one more than that rarely pays, because each keeps a core
/// of PostgreSQL busy.
const FEED_CONNECTIONS: usize = 2;

/// Makes the feeds as they are at the head of the log in `next`, which is empty.
pub(super) async fn build(
    rebuild: &Rebuild,
    next: &Connections,
) -> Result<Built<Facts>, RebuildError> {
    let progress = rebuild.progress();
    let head = rebuild.sight_head().await?;
    progress.begin(Phase::Replay, head.0.unsigned_abs());
    let aside = indexes::set_aside(next).await?;
    let empty = checkpoint::load(next).await?;
    let rule = rules::laid_down(next, rebuild.bounds().pull_from).await?;
    let (checkpoint, facts) =
        replay::replay(rebuild.log(), next, empty, head, rule, progress).await?;

    // Before the index of an author's readers is made, in which they are apart.
    dormant::mark(rebuild.log(), next, rebuild.bounds().dormant_after).await?;
    let (feeds, others): (Vec<_>, Vec<_>) =
        aside.into_iter().partition(|index| index.table == "feed_items");
    progress.begin(Phase::Index, others.len() as u64);
    indexes::make(next, &others, progress).await?;
    progress.begin(Phase::Feeds, 0);
    feeds::write(next, rebuild.bounds().kept, FEED_CONNECTIONS, progress).await?;
    progress.begin(Phase::IndexFeeds, feeds.len() as u64);
    indexes::make(next, &feeds, progress).await?;
    Ok(Built { checkpoint, facts })
}
