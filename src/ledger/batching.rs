//! Collecting entries into batches, and sealing them, inside of a transaction.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`. Collectors of one meter take turns by its row; whoever seals takes
//! the row of the workspace and meter, so that what is carried is read and written by one at a time.

use super::describe::Description;
use super::fault::Fault;
use super::sending::{deliver, refresh};
use super::{Connection, audited, many};
use crate::decision::billing::delivery::{Delivery, Event};
use crate::decision::billing::window::{is_metered, seals_at, window};
use crate::decision::billing::{Batch, Terms, batch_id, value};
use crate::decision::id::{EntryId, MeterId, WorkspaceId};
use crate::decision::period::{Calendar, Period};
use crate::decision::time::Timestamp;
use crate::ledger::billing::{BEFORE_SECONDS, Collected, Collecting, PASS_LAG_SECONDS, Place, Sealing};
use crate::ledger::billing_sql as sql;
use crate::ledger::record::{self, BatchRow, MemberRecord, UncollectedRow};
use async_trait::async_trait;
use sqlx::AssertSqlSafe;
use std::collections::{BTreeMap, HashMap};

/// Meters to be noted.
pub(super) struct Beginning {
    pub(super) meters: Vec<MeterId>,
    pub(super) since: Timestamp,
}

#[async_trait]
impl Description<()> for Beginning {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        for meter in &self.meters {
            begin(connection, meter, self.since).await?;
        }
        Ok(((), true))
    }
}

async fn begin(connection: &mut Connection, meter: &MeterId, since: Timestamp) -> Result<(), Fault> {
    let statement = sqlx::query(sql::BEGIN_METER).bind(meter.as_str()).bind(since.micros());
    statement.execute(connection).await?;
    Ok(())
}

/// A place in the order of recording; no id sorts below the empty text.
type Cursor = (i64, String);

/// What of a page goes into one batch.
#[derive(Default)]
struct Share {
    members: Vec<(String, i64)>,
    last_used_at: i64,
}

#[async_trait]
impl Description<Collected> for Collecting {
    async fn write(&self, connection: &mut Connection) -> Result<(Collected, bool), Fault> {
        begin(connection, &self.meter.id, self.since).await?;
        let (number, since): (i64, i64) = sqlx::query_as(sql::LOCK_METER)
            .bind(self.meter.id.as_str())
            .fetch_one(&mut *connection)
            .await?;
        let from = cursor(connection, &self.place, number, since).await?;
        let rows: Vec<UncollectedRow> = sqlx::query_as(AssertSqlSafe(sql::uncollected(self.meter.unit)))
            .bind(from.0)
            .bind(&from.1)
            .bind(self.until.micros())
            .bind(number)
            .bind(i64::try_from(self.limit).unwrap_or(i64::MAX))
            .fetch_all(&mut *connection)
            .await?;
        let next = match rows.last() {
            Some(last) => Some((Timestamp::from_micros(last.recorded_at), record::entry_id(&last.entry_id)?)),
            None => None,
        };
        let is_full = rows.len() >= self.limit;
        let shares = shares(self, rows, Timestamp::from_micros(since))?;
        let mut members = Vec::new();
        for ((workspace, window), share) in shares {
            let batch = add(connection, self, &workspace, window, &share).await?;
            let member = |(entry_id, counted)| MemberRecord {
                meter_number: number,
                entry_id,
                batch_number: batch,
                counted,
            };
            members.extend(share.members.into_iter().map(member));
        }
        let count = members.len();
        many::insert(connection, members).await?;
        move_on(connection, &self.place, number, next).await?;
        let collected = Collected {
            members: count,
            next: next.filter(|_| is_full),
        };
        Ok((collected, true))
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

/// What the meter counts of a page and has not got, by workspace and window.
fn shares(collecting: &Collecting, rows: Vec<UncollectedRow>, since: Timestamp) -> Result<BTreeMap<(String, Period), Share>, Fault> {
    let mut calendars: HashMap<String, Calendar> = HashMap::new();
    let mut shares: BTreeMap<(String, Period), Share> = BTreeMap::new();
    let only = &collecting.meter.only;
    let wanted = |row: &UncollectedRow| {
        row.is_member == 0 && row.counted != 0 && only.admits(&row.feature, &row.model, row.tier.as_deref().unwrap_or_default())
    };
    for row in rows.into_iter().filter(wanted) {
        if !calendars.contains_key(&row.calendar) {
            calendars.insert(row.calendar.clone(), record::calendar(&row.calendar)?);
        }
        let calendar = &calendars[&row.calendar];
        let (used_at, recorded_at) = (Timestamp::from_micros(row.occurred_at), Timestamp::from_micros(row.recorded_at));
        if !is_metered(used_at, recorded_at, since, calendar) {
            continue;
        }
        let window = window(used_at, collecting.window_seconds, calendar);
        let share = shares.entry((row.workspace_id, window)).or_default();
        share.last_used_at = share.last_used_at.max(row.occurred_at);
        share.members.push((row.entry_id, row.counted));
    }
    Ok(shares)
}

/// Adds a share to the open batch of its window, which is opened if there is none, and returns the batch's number.
async fn add(connection: &mut Connection, collecting: &Collecting, workspace: &str, window: Period, share: &Share) -> Result<i64, Fault> {
    let meter = &collecting.meter;
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
    let (workspace, meter): (&WorkspaceId, &MeterId) = (&batch.workspace, &batch.meter);
    let (carried, number): (String, i64) = sqlx::query_as(sql::COUNT_SEAL)
        .bind(workspace.as_str())
        .bind(meter.as_str())
        .fetch_one(&mut *connection)
        .await?;
    let carried = record::exact("carry", &carried)?;
    let (value, carry) = value(batch.factor, batch.counted, carried, sealing.accepts_negative);
    sqlx::query(sql::CARRY)
        .bind(workspace.as_str())
        .bind(meter.as_str())
        .bind(carry.to_string())
        .execute(&mut *connection)
        .await?;
    sqlx::query(sql::SEAL)
        .bind(batch.id.to_string())
        .bind(sealing.now.micros())
        .bind(number)
        .bind(value)
        .bind(carry.to_string())
        .execute(&mut *connection)
        .await?;
    let event = Event::Sealed { is_zero: value == 0 };
    // An open batch can always be sealed, whatever a provider's terms are.
    let sealed = Delivery::open()
        .step(event, &Terms::NONE, sealing.now, 0)
        .unwrap_or_else(|_| batch.delivery.clone());
    deliver(connection, batch.id, &sealed).await?;
    refresh(connection, workspace, meter).await
}
