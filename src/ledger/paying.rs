//! What grants pay: inside of the transaction that records a use, behind the workspace's lock.
//!
//! Written once and compiled into each store (`#[path]`), like `granting.rs`.

use super::fault::Fault;
use super::granting::{add, next_version, pot};
use super::{Connection, audited};
use crate::counters::SumRow;
use crate::decision::counter::Counter;
use crate::decision::grant::{self, Charge, Grant, Pot, Purse, Source, TopUp};
use crate::decision::id::{AuditId, BudgetId, GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::audit::{Audited, By, Subject};
use crate::ledger::record::SumPlace;
use crate::ledger::{Post, grant_document, grant_sql as sql};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A post that is written, and what its writer learns of it.
pub(super) struct Due<'a> {
    pub(super) post: &'a Post,
    pub(super) rows: &'a mut Vec<SumRow>,
    pub(super) purses: &'a mut Vec<Purse>,
    /// By charge: what the counter had spent once this post was counted, and none of those after it.
    pub(super) spent: Vec<i64>,
}

/// Has the posts of a transaction paid, in their order, and shows what changed to each of them.
pub(super) async fn pay(connection: &mut Connection, mut due: Vec<Due<'_>>) -> Result<(), Fault> {
    let moments = due
        .iter()
        .filter(|one| !one.post.charges.is_empty())
        .filter_map(|one| Some(occurred_at(one.post)?.min(one.post.now)));
    let Some(since) = moments.min() else { return Ok(()) };
    let mut till = Till {
        since,
        pots: HashMap::new(),
        paid: HashMap::new(),
        changed: BTreeMap::new(),
    };
    for one in &due {
        let Some(at) = occurred_at(one.post) else { continue };
        for (charge, spent) in one.post.charges.iter().zip(&one.spent) {
            till.charge(connection, one, charge, *spent, at).await?;
        }
    }
    till.close(connection, &mut due).await
}

/// When the use of a post occurred; `None`: it records none.
fn occurred_at(post: &Post) -> Option<Timestamp> {
    let open = post.checkpoint.iter().map(|checkpoint| &checkpoint.entry);
    post.entries.iter().chain(open).map(|entry| entry.occurred_at).next()
}

/// What one transaction has read and paid so far.
struct Till {
    /// No use is earlier, so grants that had ended by then pay nothing, and have nothing left now.
    since: Timestamp,
    pots: HashMap<(WorkspaceId, BudgetId), Pot>,
    /// What grants paid of a counter, in all.
    paid: HashMap<(WorkspaceId, Counter), i64>,
    changed: BTreeMap<WorkspaceId, Changed>,
}

/// What was paid in one workspace by this transaction.
#[derive(Default)]
struct Changed {
    counters: BTreeMap<Counter, i64>,
    budgets: BTreeSet<BudgetId>,
}

impl Till {
    async fn charge(
        &mut self,
        connection: &mut Connection,
        due: &Due<'_>,
        charge: &Charge,
        spent: i64,
        at: Timestamp,
    ) -> Result<(), Fault> {
        let (post, unit) = (due.post, charge.counter.unit);
        let Some(row) = due.rows.iter().find(|row| row.counter == charge.counter) else {
            return Ok(());
        };
        let counter = (post.workspace.clone(), charge.counter.clone());
        let paid = *self.paid.entry(counter.clone()).or_insert(row.paid);
        let missing = grant::unpaid(spent, charge.hard, paid);
        if missing == 0 && charge.top_up.is_none() {
            return Ok(());
        }
        let pot = match self.pots.entry((post.workspace.clone(), charge.budget.clone())) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(pot(connection, &post.workspace, &charge.budget, self.since).await?),
        };
        let mut payments = pot.pay(unit, missing, at, charge.counter.period);
        let short = payments.iter().fold(missing, |short, payment| short - payment.amount);
        if short > 0 && at < post.now {
            // What the grants of its own moment do not reach for is owed in its period, and is paid by those that have been active since.
            payments.extend(pot.pay_owed(unit, short, at, post.now, charge.counter.period));
        }
        let amount: i64 = payments.iter().map(|payment| payment.amount).sum();
        for payment in &payments {
            write(connection, post, charge, payment, at).await?;
        }
        if amount > 0 {
            self.paid.insert(counter, paid.saturating_add(amount));
            let changed = self.changed.entry(post.workspace.clone()).or_default();
            *changed.counters.entry(charge.counter.clone()).or_default() += amount;
            changed.budgets.insert(charge.budget.clone());
        }
        // Only a use of the period that runs tells how much of it is left.
        let Some((top_up, id)) = charge.top_up.filter(|_| charge.counter.period == charge.period) else {
            return Ok(());
        };
        let limit = charge.hard.saturating_add(paid).saturating_add(amount);
        let left = limit.saturating_sub(spent).saturating_add(pot.left(unit, post.now, charge.period));
        if left < top_up.below && may_top_up(connection, post, charge, &top_up).await? {
            let grant = top_up_grant(charge, &top_up, id, post.now);
            add(connection, &post.workspace, &grant).await?;
            audited::write(connection, &[topped_up(&post.workspace, &grant)]).await?;
            pot.add(grant);
            let changed = self.changed.entry(post.workspace.clone()).or_default();
            changed.budgets.insert(charge.budget.clone());
        }
        Ok(())
    }

    /// Writes the sums, under the next version of each workspace, and shows them with what is left to the posts that they are of.
    async fn close(self, connection: &mut Connection, due: &mut [Due<'_>]) -> Result<(), Fault> {
        for (workspace, changed) in self.changed {
            let version = next_version(connection, &workspace).await?;
            let mut rows = Vec::with_capacity(changed.counters.len());
            for (counter, amount) in changed.counters {
                let (spent, paid) = add_to_sum(connection, &workspace, &counter, amount, version).await?;
                rows.push(SumRow {
                    counter,
                    spent,
                    version,
                    paid,
                });
            }
            for one in due.iter_mut().filter(|one| one.post.workspace == workspace) {
                for row in one.rows.iter_mut() {
                    if let Some(newer) = rows.iter().find(|newer| newer.counter == row.counter) {
                        *row = newer.clone();
                    }
                }
                for charge in one.post.charges.iter().filter(|charge| changed.budgets.contains(&charge.budget)) {
                    let Some(pot) = self.pots.get(&(workspace.clone(), charge.budget.clone())) else {
                        continue;
                    };
                    one.purses.push(Purse {
                        budget: charge.budget.clone(),
                        unit: charge.counter.unit,
                        left: pot.left(charge.counter.unit, one.post.now, charge.period),
                        until: pot.until(one.post.now, charge.period),
                        version,
                    });
                }
            }
        }
        Ok(())
    }
}

async fn write(connection: &mut Connection, post: &Post, charge: &Charge, payment: &grant::Payment, at: Timestamp) -> Result<(), Fault> {
    let place = SumPlace::of(&post.workspace, &charge.counter);
    let statement = sqlx::query(sql::ADD_PAYMENT)
        .bind(place.workspace_id)
        .bind(payment.grant.to_string())
        .bind(payment.segment.micros())
        .bind(payment.amount)
        .bind(post.reservation.to_string())
        .bind(place.user_id)
        .bind(place.feature)
        .bind(place.unit)
        .bind(place.period_kind)
        .bind(place.period_start)
        .bind(place.period_end)
        .bind(at.micros())
        .bind(post.now.micros());
    statement.execute(&mut *connection).await?;
    let statement = sqlx::query(sql::ADD_PAID)
        .bind(payment.grant.to_string())
        .bind(payment.segment.micros())
        .bind(post.workspace.as_str())
        .bind(payment.amount);
    statement.execute(connection).await?;
    Ok(())
}

fn top_up_grant(charge: &Charge, top_up: &TopUp, id: GrantId, now: Timestamp) -> Grant {
    Grant {
        id,
        key: None,
        budget: charge.budget.clone(),
        unit: charge.counter.unit,
        amount: top_up.amount,
        priority: top_up.priority,
        effective_at: now,
        expires_at: top_up.expires_after_seconds.map(|seconds| now.plus_seconds(seconds)),
        recurrence: None,
        rollover_min: None,
        rollover_max: None,
        source: Source::TopUp,
        paid: None,
        created_at: now,
        voided_at: None,
    }
}

/// The record of a top-up: nobody asked for it but the workspace's own setting.
fn topped_up(workspace: &WorkspaceId, grant: &Grant) -> Audited {
    Audited {
        id: AuditId::from_uuid(grant.id.uuid()),
        changed_at: grant.created_at,
        by: By {
            actor: "top_up".to_owned(),
            reason: format!("budget {} ran low", grant.budget),
            request_id: None,
        },
        action: "grant.give".to_owned(),
        subject: Subject::of(workspace, "grant", grant.id.to_string()),
        before: None,
        after: Some(grant_document(grant)),
    }
}

/// Whether the period has had fewer top-ups than it may.
async fn may_top_up(connection: &mut Connection, post: &Post, charge: &Charge, top_up: &TopUp) -> Result<bool, Fault> {
    let given: i64 = sqlx::query_scalar(sql::TOP_UPS)
        .bind(post.workspace.as_str())
        .bind(charge.budget.as_str())
        .bind(charge.period.start.micros())
        .bind(charge.period.end.micros())
        .fetch_one(connection)
        .await?;
    Ok(given < i64::from(top_up.per_period_max))
}

async fn add_to_sum(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    counter: &Counter,
    amount: i64,
    version: i64,
) -> Result<(i64, i64), Fault> {
    let place = SumPlace::of(workspace, counter);
    let statement = sqlx::query_as::<_, (i64, i64)>(sql::ADD_TO_SUM)
        .bind(place.workspace_id)
        .bind(place.user_id)
        .bind(place.feature)
        .bind(place.period_end)
        .bind(place.period_kind)
        .bind(place.period_start)
        .bind(place.unit)
        .bind(amount)
        .bind(version);
    Ok(statement.fetch_one(connection).await?)
}
