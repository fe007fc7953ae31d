//! A batch whose posts grants may have to pay for, or that may reach what is to be told: the call of `post_batch_watched`, the payments and
//! the events are one transaction, so a few turns of the client hold the workspaces' rows. Time-outs of the connection bound how long; nobody
//! else's batch is done in this way.

use super::Connection;
use super::call::{self, Outcome, Teller, Write};
use super::fault::Fault;
use super::paying::{self, Due};
use super::telling;
use crate::counters::SumRow;
use crate::decision::grant::Charge;
use crate::ledger::tells::Written;
use sqlx::Connection as _;

/// Writes a batch, has it paid and tells what happened with it, all or nothing.
pub(super) async fn post_pay_and_tell(connection: &mut Connection, writes: &[Write<'_>]) -> Result<Vec<Outcome>, Fault> {
    // Dropped on the way out, a transaction is rolled back before the connection is used again.
    let mut transaction = connection.begin().await?;
    let mut outcomes = call::post_batch(&mut transaction, writes, Teller::Caller).await?;
    let spent = spent_after_each(writes, &outcomes);
    let written = writes.iter().zip(&mut outcomes).zip(spent);
    let due = written.filter_map(|((write, outcome), spent)| match (write, outcome) {
        (Write::Post(post), Outcome::Done(rows, purses)) => Some(Due { post, rows, purses, spent }),
        _ => None,
    });
    paying::pay(&mut transaction, due.collect()).await?;
    tell(&mut transaction, writes, &outcomes).await?;
    transaction.commit().await?;
    Ok(outcomes)
}

/// Tells what happened with the posts that were written.
pub(super) async fn tell(connection: &mut Connection, writes: &[Write<'_>], outcomes: &[Outcome]) -> Result<(), Fault> {
    let written = writes.iter().zip(outcomes).filter_map(|(write, outcome)| match (write, outcome) {
        (Write::Post(post), Outcome::Done(rows, _)) => Some(Written { post, rows }),
        _ => None,
    });
    let written: Vec<Written<'_>> = written.collect();
    let before = |one: &Written<'_>, row: &SumRow| {
        let of_workspace = written.iter().filter(|other| other.post.workspace == one.post.workspace);
        let brought = of_workspace.map(|other| other.post.brings(&row.counter));
        brought.fold(row.spent, i64::saturating_sub)
    };
    telling::tell(connection, &written, before).await
}

/// By post and charge, what the counter had spent once the post was counted. The call tells the sums as the whole batch left them, so what
/// later posts brought is taken away again. A checkpoint that they replaced is not known here: then a use is paid with a later one of this
/// batch, and the batch as a whole pays the same.
fn spent_after_each(writes: &[Write<'_>], outcomes: &[Outcome]) -> Vec<Vec<i64>> {
    let spent = |place: usize, rows: &[SumRow], charge: &Charge| {
        let in_all = rows.iter().find(|row| row.counter == charge.counter).map_or(0, |row| row.spent);
        let later = writes.iter().zip(outcomes).skip(place + 1);
        let brought = later.filter_map(|(write, outcome)| match (write, outcome) {
            (Write::Post(post), Outcome::Done(..)) if post.workspace == *writes[place].workspace() => Some(post.brings(&charge.counter)),
            _ => None,
        });
        brought.fold(in_all, i64::saturating_sub)
    };
    let of_post = |(place, (write, outcome)): (usize, (&Write<'_>, &Outcome))| match (write, outcome) {
        (Write::Post(post), Outcome::Done(rows, _)) => post.charges.iter().map(|charge| spent(place, rows, charge)).collect(),
        _ => Vec::new(),
    };
    writes.iter().zip(outcomes).enumerate().map(of_post).collect()
}
