//! What meters were, and when: written as policies come, inside of a transaction.
//!
//! Written once and compiled into each store (`#[path]`), like `read.rs`. Policies are noted in their order; one that was noted before, or
//! that somebody notes late who has not heard of the next, changes nothing any more.

use super::describe::Description;
use super::fault::Fault;
use super::{Connection, many};
use crate::decision::meter::{Meter, Reign};
use crate::decision::time::Timestamp;
use crate::ledger::billing_sql as sql;
use crate::ledger::record::{ReignRecord, ReignRow};
use async_trait::async_trait;

/// Meters to be noted.
pub(super) struct Beginning {
    pub(super) meters: Vec<Meter>,
    pub(super) since: Timestamp,
    /// Whether these are all that there are, so that others end.
    pub(super) is_all: bool,
}

#[async_trait]
impl Description<()> for Beginning {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        // In one order, so that two who note do not stand crosswise.
        let mut meters: Vec<&Meter> = self.meters.iter().collect();
        meters.sort_by(|a, b| a.id.cmp(&b.id));
        for meter in meters {
            begin(connection, meter, self.since).await?;
        }
        if self.is_all {
            let reigning: Vec<(i64, String)> = sqlx::query_as(sql::REIGNING)
                .bind(self.since.micros())
                .fetch_all(&mut *connection)
                .await?;
            let is_gone = |id: &str| self.meters.iter().all(|meter| meter.id.as_str() != id);
            for (number, _) in reigning.iter().filter(|(_, id)| is_gone(id)) {
                end(connection, *number, self.since).await?;
            }
        }
        Ok(((), true))
    }
}

/// From `since` on the meter is this, unless it has become something else since.
async fn begin(connection: &mut Connection, meter: &Meter, since: Timestamp) -> Result<(), Fault> {
    let statement = sqlx::query(sql::BEGIN_METER).bind(meter.id.as_str()).bind(since.micros());
    statement.execute(&mut *connection).await?;
    let (number, came_at): (i64, i64) = sqlx::query_as(sql::LOCK_METER)
        .bind(meter.id.as_str())
        .fetch_one(&mut *connection)
        .await?;
    let from = match reigns(connection, number).await?.last() {
        // It may have come before anybody wrote down what it is.
        None => Timestamp::from_micros(came_at),
        Some(last) if last.until.is_none() && last.meter == *meter => return Ok(()),
        Some(last) if last.from >= since || last.until.is_some_and(|until| until > since) => return Ok(()),
        Some(_) => since,
    };
    end(connection, number, from).await?;
    many::insert(connection, vec![ReignRecord::new(number, meter, from)]).await
}

async fn end(connection: &mut Connection, meter_number: i64, until: Timestamp) -> Result<(), Fault> {
    let statement = sqlx::query(sql::END_REIGN).bind(meter_number).bind(until.micros());
    statement.execute(connection).await?;
    Ok(())
}

/// What a meter was, oldest first.
pub(super) async fn reigns(connection: &mut Connection, meter_number: i64) -> Result<Vec<Reign>, Fault> {
    let rows: Vec<ReignRow> = sqlx::query_as(sql::REIGNS).bind(meter_number).fetch_all(connection).await?;
    Ok(rows.into_iter().map(Reign::try_from).collect::<Result<_, _>>()?)
}

/// Meters that are not there any more, and were until `since` at least, as they were last.
pub(super) async fn ended(connection: &mut Connection, since: Timestamp) -> Result<Vec<Meter>, Fault> {
    let rows: Vec<ReignRow> = sqlx::query_as(sql::REIGNS_ENDED).bind(since.micros()).fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Reign::try_from(row)?.meter)).collect()
}

/// The last moment at which a meter became another one, came or went.
pub(super) async fn last(connection: &mut Connection) -> Result<Option<Timestamp>, Fault> {
    let last: Option<i64> = sqlx::query_scalar(sql::LAST_REIGN).fetch_one(connection).await?;
    Ok(last.map(Timestamp::from_micros))
}
