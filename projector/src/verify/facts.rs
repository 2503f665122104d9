//! Holding `users`, `tweets` and `follows` against the facts of the log, as of the checkpoint that
//! was read first. The tables know of each change at which position it was made, so what came after
//! the checkpoint can be left out.

use std::collections::{BTreeSet, HashSet};

use events::Position;
use events::store::Connections;

use super::digest::{Digest, Says};
use super::fact::{Fact, Place};
use super::tables::{Rows, Tables};
use super::{Differences, Facts, Part, VerifyError, log};
use crate::checkpoint::{self, Checkpoint};
use crate::progress::Progress;

/// Compares the tables in `feed` with `facts`, which end at `checkpoint`.
pub(super) async fn compare(
    log: &Connections,
    feed: &Connections,
    checkpoint: Checkpoint,
    facts: &Facts,
    differences: &mut Differences,
    progress: &Progress,
) -> Result<Rows, VerifyError> {
    let mut digest = Digest::default();
    let mut tables = Tables::of(feed, facts, progress);
    tables
        .read(|fact| digest.add(&fact), Some(&mut *differences))
        .await
        .map_err(VerifyError::ReadModel)?;
    let rows = tables.rows;
    if rows.later > 0 && checkpoint::load(feed).await.map_err(VerifyError::ReadModel)? == checkpoint
    {
        let what = format!("{} rows come from after position {}", rows.later, checkpoint.position);
        differences.add(Part::Checkpoint, what, Vec::new());
    }

    let places = facts.digest().to_look_at(&digest, differences);
    if !places.is_empty() {
        list(log, &mut tables, &places, differences).await?;
    }
    Ok(rows)
}

/// Finds the facts that differ, by a second look at `places`.
async fn list(
    log: &Connections,
    tables: &mut Tables<'_>,
    places: &HashSet<Place>,
    differences: &mut Differences,
) -> Result<(), VerifyError> {
    let mut found = BTreeSet::new();
    let keep = |fact: Fact| {
        if places.contains(&fact.place()) {
            found.insert(fact);
        }
    };
    tables.read(keep, None).await.map_err(VerifyError::ReadModel)?;
    let mut due = BTreeSet::new();
    let (mut after, to) = (Position::START, tables.to());
    let mut says = Says::by(tables.rule());
    loop {
        let page = log::page(log, after, to).await.map_err(VerifyError::Log)?;
        let Some(last) = page.last() else { break };
        after = last.position;
        for recorded in &page {
            // What cannot be read was found by `log::check`.
            if let Ok(event) = recorded.event() {
                let (facts, _) = says.next(recorded, &event);
                due.extend(facts.filter(|fact| places.contains(&fact.place())));
            }
        }
    }
    for fact in due.difference(&found) {
        let what = format!("by the log, {}; the read model does not say so", fact.clause());
        differences.add(fact.place().part, what, vec![fact.stream()]);
    }
    for fact in found.difference(&due) {
        let what = format!("by the read model, {}; the log does not say so", fact.clause());
        differences.add(fact.place().part, what, vec![fact.stream()]);
    }
    Ok(())
}
