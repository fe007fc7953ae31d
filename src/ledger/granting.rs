//! Grants over a connection: what is read, given, voided, and paid inside of the transaction that records a use.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`. Whoever writes here holds the workspace's lock by then: on SQLite
//! there is one writer, on Postgres the workspace's row is taken first.

use super::Connection;
use super::fault::Fault;
use crate::counters::SumRow;
use crate::decision::counter::Counter;
use crate::decision::grant::{self, Charge, GRANTS_MAX, Grant, Paid, Pot, Purse, Source, TopUp};
use crate::decision::id::{BudgetId, GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::ledger::record::{self, GrantRecord, PaidDifferenceRow, PaidRow, SumPlace};
use crate::ledger::{Given, GrantDifference, Post, Pots, grant_sql as sql};
use sqlx::AssertSqlSafe;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many workspaces are verified in one step.
const VERIFY_WORKSPACES: i64 = 500;

/// What all grants of a workspace have left that had not ended at `at`. The version is read first: a purse may say more than its version
/// promises, never less.
pub(super) async fn pots(connection: &mut Connection, workspace: &WorkspaceId, at: Timestamp) -> Result<Pots, Fault> {
    let version: Option<i64> = sqlx::query_scalar(sql::VERSION)
        .bind(workspace.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    // What was paid is read before the grants: one that comes in between has then paid nothing, not too little.
    let paid: Vec<PaidRow> = sqlx::query_as(sql::PAID)
        .bind(workspace.as_str())
        .bind(at.micros())
        .fetch_all(&mut *connection)
        .await?;
    let given: Vec<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::alive()))
        .bind(workspace.as_str())
        .bind(at.micros())
        .fetch_all(connection)
        .await?;
    let paid = by_grant(&paid)?;
    let mut grants: HashMap<BudgetId, Vec<Grant>> = HashMap::new();
    for row in given {
        let grant = row.read()?;
        grants.entry(grant.budget.clone()).or_default().push(grant);
    }
    let pot = |(budget, grants): (BudgetId, Vec<Grant>)| {
        let own = grants
            .iter()
            .filter_map(|grant| Some((grant.id, paid.get(&grant.id)?.clone())))
            .collect();
        (budget, Pot::new(grants, own))
    };
    Ok(Pots {
        version: version.unwrap_or(0),
        by_budget: grants.into_iter().map(pot).collect(),
    })
}

fn by_grant(rows: &[PaidRow]) -> Result<HashMap<GrantId, Paid>, Fault> {
    let mut paid: HashMap<GrantId, Paid> = HashMap::new();
    for row in rows {
        let (grant, segment, amount) = row.read()?;
        paid.entry(grant).or_default().insert(segment, amount);
    }
    Ok(paid)
}

/// The grants of one budget that had not ended at `at`.
async fn pot(connection: &mut Connection, workspace: &WorkspaceId, budget: &BudgetId, at: Timestamp) -> Result<Pot, Fault> {
    let given: Vec<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::alive_of_budget()))
        .bind(workspace.as_str())
        .bind(at.micros())
        .bind(budget.as_str())
        .fetch_all(&mut *connection)
        .await?;
    let paid: Vec<PaidRow> = sqlx::query_as(sql::PAID_OF_BUDGET)
        .bind(workspace.as_str())
        .bind(at.micros())
        .bind(budget.as_str())
        .fetch_all(connection)
        .await?;
    let grants = given.into_iter().map(GrantRecord::read).collect::<Result<_, _>>()?;
    Ok(Pot::new(grants, by_grant(&paid)?))
}

pub(super) async fn page(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    after: Option<(Timestamp, GrantId)>,
    limit: usize,
) -> Result<Vec<Grant>, Fault> {
    let (at, id) = after.map_or((i64::MAX, String::new()), |(at, id)| (at.micros(), id.to_string()));
    let rows: Vec<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::page()))
        .bind(workspace.as_str())
        .bind(at)
        .bind(id)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(GrantRecord::read).collect::<Result<_, _>>()?)
}

/// Gives a grant, behind the workspace's lock.
pub(super) async fn give(connection: &mut Connection, workspace: &WorkspaceId, grant: &Grant) -> Result<Given, Fault> {
    next_version(connection, workspace).await?;
    if let Some(key) = &grant.key {
        let known: Option<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::of_key()))
            .bind(workspace.as_str())
            .bind(key)
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(known) = known {
            return Ok(Given::Known(known.read()?));
        }
    }
    let alive: i64 = sqlx::query_scalar(sql::ALIVE_COUNT)
        .bind(workspace.as_str())
        .bind(grant.budget.as_str())
        .bind(grant.created_at.micros())
        .fetch_one(&mut *connection)
        .await?;
    if usize::try_from(alive).unwrap_or(usize::MAX) >= GRANTS_MAX {
        return Ok(Given::TooMany);
    }
    add(connection, workspace, grant).await?;
    Ok(Given::New(grant.clone()))
}

async fn add(connection: &mut Connection, workspace: &WorkspaceId, grant: &Grant) -> Result<(), Fault> {
    let row = GrantRecord::new(workspace, grant);
    let statement = sqlx::query(AssertSqlSafe(sql::give()))
        .bind(row.grant_id)
        .bind(row.workspace_id)
        .bind(row.grant_key)
        .bind(row.budget_id)
        .bind(row.unit)
        .bind(row.amount)
        .bind(row.priority)
        .bind(row.effective_at)
        .bind(row.expires_at)
        .bind(row.recurrence)
        .bind(row.rollover_min)
        .bind(row.rollover_max)
        .bind(row.source)
        .bind(row.created_at)
        .bind(row.voided_at)
        .bind(row.ends_at);
    statement.execute(connection).await?;
    Ok(())
}

/// Voids a grant, behind the workspace's lock.
pub(super) async fn void(
    connection: &mut Connection,
    workspace: &WorkspaceId,
    grant: GrantId,
    now: Timestamp,
) -> Result<Option<Grant>, Fault> {
    next_version(connection, workspace).await?;
    let known: Option<GrantRecord> = sqlx::query_as(AssertSqlSafe(sql::grant()))
        .bind(workspace.as_str())
        .bind(grant.to_string())
        .fetch_optional(&mut *connection)
        .await?;
    let Some(known) = known else { return Ok(None) };
    let known = known.read()?;
    if known.ends_at() <= now {
        return Ok(Some(known));
    }
    sqlx::query(sql::VOID)
        .bind(grant.to_string())
        .bind(now.micros())
        .execute(connection)
        .await?;
    Ok(Some(Grant {
        voided_at: Some(now),
        ..known
    }))
}

async fn next_version(connection: &mut Connection, workspace: &WorkspaceId) -> Result<i64, Fault> {
    let version: Option<i64> = sqlx::query_scalar(sql::NEXT_VERSION)
        .bind(workspace.as_str())
        .fetch_optional(connection)
        .await?;
    Ok(version.unwrap_or(0))
}

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
        .filter_map(|one| occurred_at(one.post));
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
    /// No use is earlier, so grants that had ended by then pay nothing.
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
        if short > 0 && at < post.now && charge.counter.period == charge.period {
            // What the grants of its own moment do not reach for is owed in this period, and is paid by those that are active now.
            payments.extend(pot.pay(unit, short, post.now, charge.period));
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
        created_at: now,
        voided_at: None,
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

/// Every sum of payments that differs, and every grant that paid more than it had.
pub(super) async fn verified(connection: &mut Connection) -> Result<Vec<GrantDifference>, Fault> {
    let (mut differences, mut after) = (Vec::new(), String::new());
    loop {
        let workspaces: Vec<String> = sqlx::query_scalar(sql::WITH_PAYMENTS)
            .bind(&after)
            .bind(VERIFY_WORKSPACES)
            .fetch_all(&mut *connection)
            .await?;
        let Some(last) = workspaces.last().cloned() else {
            return Ok(differences);
        };
        after = last;
        for workspace in workspaces {
            let rows: Vec<PaidDifferenceRow> = sqlx::query_as(sql::DIFFERENCES)
                .bind(&workspace)
                .fetch_all(&mut *connection)
                .await?;
            for row in rows {
                let (workspace, grant, segment, paid, payments) = row.read()?;
                differences.push(GrantDifference {
                    workspace,
                    grant,
                    segment,
                    paid,
                    payments,
                });
            }
            let workspace = record::workspace_id(&workspace)?;
            let pots = pots(connection, &workspace, Timestamp::MIN).await?;
            let over = pots.by_budget.values().flat_map(Pot::overdrawn);
            differences.extend(over.map(|(grant, segment)| GrantDifference {
                workspace: workspace.clone(),
                grant: grant.id,
                segment,
                paid: pots.by_budget[&grant.budget].paid(grant.id, segment),
                payments: pots.by_budget[&grant.budget].paid(grant.id, segment),
            }));
        }
    }
}
