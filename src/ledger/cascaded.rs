//! Escalations as rows.
//!
//! Written once and compiled into each store (`#[path]`), as the reads are.

use super::Connection;
use super::describe::Description;
use super::fault::Fault;
use crate::decision::cascade::{Band, Offered};
use crate::decision::id::ReservationId;
use crate::decision::time::Timestamp;
use crate::ledger::cascade::{LINKS, OFFER, OFFERED};
use crate::ledger::record::{BandRow, LinkRow, OfferedRow, links};
use async_trait::async_trait;

/// What a settlement permits, as one transaction.
pub(super) struct Offering(pub(super) Offered);

#[async_trait]
impl Description<()> for Offering {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        let offered = &self.0;
        let statement = sqlx::query(OFFER)
            .bind(offered.reservation.to_string())
            .bind(offered.workspace.as_str())
            .bind(offered.feature.as_str())
            .bind(offered.escalation.model.as_str())
            .bind(offered.escalation.min_quality_score.ten_thousandths())
            .bind(offered.offered_at.micros());
        statement.execute(connection).await?;
        Ok(((), true))
    }
}

/// Takes it, or gives it back, as one transaction. False: nothing changed.
pub(super) struct Taking {
    pub(super) statement: &'static str,
    pub(super) reservation: ReservationId,
    pub(super) taker: ReservationId,
}

#[async_trait]
impl Description<bool> for Taking {
    async fn write(&self, connection: &mut Connection) -> Result<(bool, bool), Fault> {
        let statement = sqlx::query(self.statement)
            .bind(self.reservation.to_string())
            .bind(self.taker.to_string());
        Ok((statement.execute(connection).await?.rows_affected() > 0, true))
    }
}

pub(super) async fn offered(connection: &mut Connection, reservation: ReservationId) -> Result<Option<Offered>, Fault> {
    let query = sqlx::query_as::<_, OfferedRow>(OFFERED).bind(reservation.to_string());
    let row = query.fetch_optional(connection).await?;
    Ok(row.map(Offered::try_from).transpose()?)
}

pub(super) async fn linked(
    connection: &mut Connection,
    reservation: ReservationId,
) -> Result<(Option<ReservationId>, Option<ReservationId>), Fault> {
    let query = sqlx::query_as::<_, LinkRow>(LINKS).bind(reservation.to_string());
    Ok(links(reservation, query.fetch_all(connection).await?)?)
}

pub(super) async fn bands(
    connection: &mut Connection,
    statement: &'static str,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Band>, Fault> {
    let query = sqlx::query_as::<_, BandRow>(statement).bind(from.micros()).bind(to.micros());
    let rows = query.fetch_all(connection).await?;
    rows.into_iter().map(|row| Ok(Band::try_from(row)?)).collect()
}
