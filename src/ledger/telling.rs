//! Which levels the posts of a transaction reached, told inside of it: by the sums that it leaves, behind the workspaces' locks.
//!
//! Written once and compiled into each store (`#[path]`), like `paying.rs`.

use super::fault::Fault;
use super::granting::pot;
use super::{Connection, eventing};
use crate::counters::SumRow;
use crate::decision::event::Event;
use crate::decision::level::{self, Watch};
use crate::ledger::tells::Written;

/// Tells what happened with these posts. `before` says what the counter of a row had spent before the post, or before all of them.
pub(super) async fn tell(
    connection: &mut Connection,
    written: &[Written<'_>],
    before: impl Fn(&Written<'_>, &SumRow) -> i64,
) -> Result<(), Fault> {
    let mut events: Vec<Event> = Vec::new();
    for one in written {
        events.extend(one.post.tells.events.iter().cloned());
        for watch in &one.post.tells.watches {
            let row = one.rows.iter().find(|row| row.counter == watch.counter);
            if let Some(row) = row.filter(|row| row.spent >= watch.floor) {
                let before = before(one, row);
                events.extend(reached(connection, one, watch, row, before).await?);
            }
        }
    }
    if !events.is_empty() {
        eventing::add(connection, &events).await?;
    }
    Ok(())
}

async fn reached(connection: &mut Connection, one: &Written<'_>, watch: &Watch, row: &SumRow, before: i64) -> Result<Vec<Event>, Fault> {
    let (post, now) = (one.post, one.post.now);
    let granted = match watch.limited.has_grants {
        true => {
            let pot = pot(connection, &post.workspace, &watch.budget().id, now).await?;
            // What grants have left raises the limit of the period that runs; of others only what they paid there does.
            let left = watch
                .counter
                .period
                .contains(now)
                .then(|| pot.left(row.counter.unit, now, watch.counter.period));
            row.paid.saturating_add(left.unwrap_or(0))
        }
        false => 0,
    };
    if level::levels(&watch.granted(granted), watch.budget())
        .first()
        .is_none_or(|lowest| lowest.at > row.spent)
    {
        return Ok(Vec::new());
    }
    let told = eventing::happened(connection, &post.workspace, &watch.prefix()).await?;
    let due = level::due(watch, granted, before, row.spent, &told).into_iter();
    Ok(due
        .map(|level| level::event(watch, &post.workspace, level, granted, row.spent, now))
        .collect())
}
