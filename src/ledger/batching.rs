//! Collecting entries into batches, and sealing them, inside of a transaction.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`. Who collects reads a page first, and writes it only if nobody else
//! has collected of that meter since. Whoever seals takes the row of the workspace and meter, so that what is carried is read and written by
//! one at a time.

use super::describe::Description;
use super::fault::Fault;
use super::reigns::reigns;
use super::sending::{deliver, lock, periods, refresh};
use super::{Connection, audited, many};
use crate::decision::billing::delivery::{Delivery, Event};
use crate::decision::billing::exact::Exact;
use crate::decision::billing::periods::Periods;
use crate::decision::billing::window::{reign, seals_at, window};
use crate::decision::billing::{Batch, Terms, batch_id, value};
use crate::decision::id::{BatchId, EntryId};
use crate::decision::meter::{Meter, Reign};
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::ledger::billing::{BEFORE_SECONDS, Collected, Collecting, Debt, PASS_LAG_SECONDS, Place, Sealing};
use crate::ledger::billing_sql as sql;
use crate::ledger::record::{self, BatchRow, MemberRecord, UncollectedRow};
use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, HashMap};

/// A place in the order of recording; no id sorts below the empty text.
type Cursor = (i64, String);

/// What of a page goes into one batch.
#[derive(Default)]
struct Share {
    members: Vec<(String, i64)>,
    last_used_at: i64,
}

/// The reign of its meter by its place, the workspace, the window.
type Where = (usize, String, Period);

/// A page of entries as it was read: what the meter counts of it and has not got.
pub(super) struct Page {
    collecting: Collecting,
    meter_number: i64,
    /// How often entries of the meter had been collected by then. If they were since, the page is read again.
    rounds: i64,
    reigns: Vec<Reign>,
    /// By the place of the reign under which they are counted, workspace and window.
    shares: BTreeMap<Where, Share>,
    last: Option<(Timestamp, EntryId)>,
    is_full: bool,
}

impl Page {
    /// Nothing to be written: no entry was looked at.
    pub(super) fn nothing(&self) -> Option<Collected> {
        self.last.is_none().then_some(Collected { members: 0, next: None })
    }
}

/// Reads a page, outside of any transaction that writes: while it is looked through, nobody waits. `None`: the meter is not known yet.
pub(super) async fn page(connection: &mut Connection, collecting: &Collecting) -> Result<Option<Page>, Fault> {
    let known: Option<(i64, i64, i64)> = sqlx::query_as(sql::METER)
        .bind(collecting.meter.id.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    let Some((meter_number, since, rounds)) = known else {
        return Ok(None);
    };
    let reigns = reigns(connection, meter_number).await?;
    if reigns.is_empty() {
        return Ok(None);
    }
    let from = cursor(connection, &collecting.place, meter_number, since).await?;
    let rows: Vec<UncollectedRow> = sqlx::query_as(sql::UNCOLLECTED)
        .bind(from.0)
        .bind(&from.1)
        .bind(collecting.until.micros())
        .bind(meter_number)
        .bind(i64::try_from(collecting.limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await?;
    let last = match rows.last() {
        Some(last) => Some((Timestamp::from_micros(last.recorded_at), record::entry_id(&last.entry_id)?)),
        None => None,
    };
    let mut of_workspaces: HashMap<String, Periods> = HashMap::new();
    for row in rows.iter().filter(|row| row.is_member == 0) {
        if !of_workspaces.contains_key(&row.workspace_id) {
            let found = periods(connection, record::calendar(&row.calendar)?, row.stripe_customer_id.as_deref()).await?;
            of_workspaces.insert(row.workspace_id.clone(), found);
        }
    }
    Ok(Some(Page {
        meter_number,
        rounds,
        is_full: rows.len() >= collecting.limit,
        shares: shares(collecting, rows, &reigns, &of_workspaces),
        reigns,
        last,
        collecting: collecting.clone(),
    }))
}

/// Writes a page; `None`: somebody else has collected in between, and nothing was written.
#[async_trait]
impl Description<Option<Collected>> for Page {
    async fn write(&self, connection: &mut Connection) -> Result<(Option<Collected>, bool), Fault> {
        let turn = sqlx::query(sql::TAKE_TURN).bind(self.meter_number).bind(self.rounds);
        if turn.execute(&mut *connection).await?.rows_affected() == 0 {
            return Ok((None, false));
        }
        let mut members = Vec::new();
        for ((reign, workspace, window), share) in &self.shares {
            let meter = &self.reigns[*reign].meter;
            let batch = add(connection, &self.collecting, meter, workspace, *window, share).await?;
            members.extend(share.members.iter().map(|(entry_id, counted)| MemberRecord {
                meter_number: self.meter_number,
                entry_id: entry_id.clone(),
                batch_number: batch,
                counted: *counted,
            }));
        }
        let count = members.len();
        many::insert(connection, members).await?;
        move_on(connection, &self.collecting.place, self.meter_number, self.last).await?;
        let collected = Collected {
            members: count,
            next: self.last.filter(|_| self.is_full),
        };
        Ok((Some(collected), true))
    }
}

async fn cursor(connection: &mut Connection, place: &Place, meter_number: i64, since: i64) -> Result<Cursor, Fault> {
    let pass = match place {
        Place::Ahead(Some((at, id))) => return Ok((at.micros(), id.to_string())),
        Place::Ahead(None) => 0,
        Place::Pass(pass) => *pass,
    };
    let known: Option<Cursor> = sqlx::query_as(sql::PASS)
        .bind(meter_number)
        .bind(pass as i64)
        .fetch_optional(connection)
        .await?;
    let since = Timestamp::from_micros(since);
    let before = if pass == 0 {
        BEFORE_SECONDS
    } else {
        PASS_LAG_SECONDS[PASS_LAG_SECONDS.len() - 1]
    };
    Ok(known.unwrap_or_else(|| (since.plus_seconds(-before).micros(), String::new())))
}

/// What the meter counts of a page and has not got.
fn shares(
    collecting: &Collecting,
    rows: Vec<UncollectedRow>,
    reigns: &[Reign],
    of_workspaces: &HashMap<String, Periods>,
) -> BTreeMap<Where, Share> {
    let mut shares: BTreeMap<Where, Share> = BTreeMap::new();
    for row in rows.into_iter().filter(|row| row.is_member == 0) {
        let Some(periods) = of_workspaces.get(&row.workspace_id) else {
            continue;
        };
        let used_at = Timestamp::from_micros(row.occurred_at);
        let Some(place) = counting(&row, used_at, reigns, periods) else {
            continue;
        };
        let counted = row.counted(reigns[place].meter.unit);
        if counted == 0 {
            continue;
        }
        let window = window(used_at, collecting.window_seconds, periods);
        let share = shares.entry((place, row.workspace_id, window)).or_default();
        share.last_used_at = share.last_used_at.max(row.occurred_at);
        share.members.push((row.entry_id, counted));
    }
    shares
}

/// The place of the reign under which an entry counts, if it does. A correction counts as its original does: it is of the same use.
fn counting(row: &UncollectedRow, used_at: Timestamp, reigns: &[Reign], periods: &Periods) -> Option<usize> {
    let recorded_at = Timestamp::from_micros(row.original_recorded_at.unwrap_or(row.recorded_at));
    let found = reign(reigns, used_at, recorded_at, periods);
    let admits = |reign: &&Reign| {
        let only = &reign.meter.only;
        only.admits(&row.feature, &row.model, row.tier.as_deref().unwrap_or_default())
    };
    let place = |found: &Reign| reigns.iter().position(|reign| reign.from == found.from);
    match found.filter(admits) {
        Some(found) => place(found),
        // It was told, so what it was too much or too little is told as well.
        None if row.corrects_member != 0 => found.or(reigns.last()).and_then(place),
        None => None,
    }
}

/// Adds a share to the open batch of its window, which is opened if there is none, and returns the batch's number.
async fn add(
    connection: &mut Connection,
    collecting: &Collecting,
    meter: &Meter,
    workspace: &str,
    window: Period,
    share: &Share,
) -> Result<i64, Fault> {
    let members = i64::try_from(share.members.len()).unwrap_or(i64::MAX);
    let counted = share.members.iter().map(|(_, counted)| counted).sum::<i64>();
    let (start, end) = (window.start.micros(), window.end.micros());
    let added: Option<i64> = sqlx::query_scalar(sql::ADD_TO_OPEN)
        .bind(workspace)
        .bind(meter.id.as_str())
        .bind(start)
        .bind(end)
        .bind(&meter.event_name)
        .bind(meter.unit.as_str())
        .bind(meter.factor.numerator())
        .bind(meter.factor.denominator())
        .bind(members)
        .bind(counted)
        .bind(share.last_used_at)
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(number) = added {
        return Ok(number);
    }
    sqlx::query(sql::BEGIN_ACCOUNT)
        .bind(workspace)
        .bind(meter.id.as_str())
        .execute(&mut *connection)
        .await?;
    // Who adjusts a batch of the same window counts on from it, too.
    lock(connection, &record::workspace_id(workspace)?, &meter.id).await?;
    let sequence: i64 = sqlx::query_scalar(sql::NEXT_SEQUENCE)
        .bind(workspace)
        .bind(meter.id.as_str())
        .bind(start)
        .bind(end)
        .fetch_one(&mut *connection)
        .await?;
    let id = batch_id(&record::workspace_id(workspace)?, &meter.id, window, sequence);
    let opened = sqlx::query_scalar(sql::OPEN_BATCH)
        .bind(id.to_string())
        .bind(workspace)
        .bind(meter.id.as_str())
        .bind(start)
        .bind(end)
        .bind(sequence)
        .bind(&meter.event_name)
        .bind(meter.unit.as_str())
        .bind(meter.factor.numerator())
        .bind(meter.factor.denominator())
        .bind(members)
        .bind(counted)
        .bind(share.last_used_at)
        .bind(collecting.now.micros())
        .bind(seals_at(window, collecting.now, collecting.seal_after_seconds).micros());
    Ok(opened.fetch_one(connection).await?)
}

/// The next collector of this pass goes on after what this one looked at.
async fn move_on(connection: &mut Connection, place: &Place, meter_number: i64, next: Option<(Timestamp, EntryId)>) -> Result<(), Fault> {
    let (Place::Pass(pass), Some((at, entry))) = (place, next) else {
        return Ok(());
    };
    let statement = sqlx::query(sql::MOVE_PASS).bind(meter_number).bind(*pass as i64);
    statement.bind(at.micros()).bind(entry.to_string()).execute(connection).await?;
    Ok(())
}

#[async_trait]
impl Description<usize> for Sealing {
    async fn write(&self, connection: &mut Connection) -> Result<(usize, bool), Fault> {
        let rows: Vec<BatchRow> = sqlx::query_as(AssertSqlSafe(sql::to_seal(many::SKIP_LOCKED)))
            .bind(self.due.micros())
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        let mut batches = rows.into_iter().map(Batch::try_from).collect::<Result<Vec<_>, _>>()?;
        // In one order, so that two who seal do not stand crosswise.
        batches.sort_by(|a, b| (&a.workspace, &a.meter, a.window, a.sequence).cmp(&(&b.workspace, &b.meter, b.window, b.sequence)));
        for batch in &batches {
            seal(connection, self, batch).await?;
        }
        audited::write(connection, self.audited.as_slice()).await?;
        Ok((batches.len(), true))
    }
}

async fn seal(connection: &mut Connection, sealing: &Sealing, batch: &Batch) -> Result<(), Fault> {
    let carried = carried(connection, batch).await?;
    let (value, carry) = value(batch.factor, batch.counted, carried, sealing.accepts_negative);
    fix(connection, batch.id, batch, value, carry, sealing.now).await?;
    let event = Event::Sealed { is_zero: value == 0 };
    // An open batch can always be sealed, whatever a provider's terms are.
    let sealed = Delivery::open()
        .step(event, &Terms::NONE, sealing.now, 0)
        .unwrap_or_else(|_| batch.delivery.clone());
    deliver(connection, batch.id, &sealed).await?;
    refresh(connection, &batch.workspace, &batch.meter).await
}

/// What is carried of the definition of a batch, by its workspace and meter; their row is locked.
pub(super) async fn carried(connection: &mut Connection, batch: &Batch) -> Result<Exact, Fault> {
    let definition = Debt {
        workspace: batch.workspace.clone(),
        meter: batch.meter.clone(),
        event_name: batch.event_name.clone(),
        unit: batch.unit,
        factor: batch.factor,
        since: batch.opened_at,
    };
    carried_of(connection, &definition).await
}

pub(super) async fn carried_of(connection: &mut Connection, of: &Debt) -> Result<Exact, Fault> {
    lock(connection, &of.workspace, &of.meter).await?;
    let carried: Option<String> = sqlx::query_scalar(sql::CARRIED)
        .bind(of.workspace.as_str())
        .bind(of.meter.as_str())
        .bind(&of.event_name)
        .bind(of.unit.as_str())
        .bind(of.factor.numerator())
        .bind(of.factor.denominator())
        .fetch_optional(connection)
        .await?;
    Ok(carried.map_or(Ok(Exact::ZERO), |carried| record::exact("carry", &carried))?)
}

/// Fixes the value of batch `id`, which is defined as `batch` is, and what is carried after it.
pub(super) async fn fix(
    connection: &mut Connection,
    id: BatchId,
    batch: &Batch,
    value: i64,
    carry: Exact,
    now: Timestamp,
) -> Result<(), Fault> {
    let number: i64 = sqlx::query_scalar(sql::COUNT_SEAL)
        .bind(batch.workspace.as_str())
        .bind(batch.meter.as_str())
        .fetch_one(&mut *connection)
        .await?;
    sqlx::query(sql::CARRY)
        .bind(batch.workspace.as_str())
        .bind(batch.meter.as_str())
        .bind(&batch.event_name)
        .bind(batch.unit.as_str())
        .bind(batch.factor.numerator())
        .bind(batch.factor.denominator())
        .bind(carry.to_string())
        .bind(carry.owed())
        .bind(now.micros())
        .execute(&mut *connection)
        .await?;
    sqlx::query(sql::SEAL)
        .bind(id.to_string())
        .bind(now.micros())
        .bind(number)
        .bind(value)
        .bind(carry.to_string())
        .execute(connection)
        .await?;
    Ok(())
}
