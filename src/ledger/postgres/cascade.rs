//! Escalations in PostgreSQL, and what nodes tell each other of failing models.

use super::cascaded::{self, Offering, Taking};
use super::describe::Description;
use super::fault::Fault;
use super::{Connection, PostgresLedger};
use crate::decision::cascade::{Band, Offered};
use crate::decision::id::ReservationId;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::cascade::{CascadeLedger, GIVE_BACK, TAKE, bands};
use crate::ledger::health::HealthLedger;
use async_trait::async_trait;

const BANDS: &str = bands!(
    "first_entry.entry_id = first.entry_id AND first_entry.occurred_at = first.entry_occurred_at",
    "second_entry.entry_id = second.entry_id AND second_entry.occurred_at = second.entry_occurred_at"
);

#[async_trait]
impl CascadeLedger for PostgresLedger {
    async fn offer_escalation(&self, offered: &Offered) -> Result<(), LedgerError> {
        self.describe("offer an escalation", Offering(offered.clone())).await
    }

    async fn escalation(&self, reservation: ReservationId) -> Result<Option<Offered>, LedgerError> {
        read!(self, "read an escalation", cascaded::offered(reservation))
    }

    async fn take_escalation(&self, reservation: ReservationId, taker: ReservationId) -> Result<bool, LedgerError> {
        self.describe(
            "take an escalation",
            Taking {
                statement: TAKE,
                reservation,
                taker,
            },
        )
        .await
    }

    async fn give_back_escalation(&self, reservation: ReservationId, taker: ReservationId) -> Result<(), LedgerError> {
        let given = self.describe(
            "give an escalation back",
            Taking {
                statement: GIVE_BACK,
                reservation,
                taker,
            },
        );
        given.await.map(drop)
    }

    async fn escalation_links(&self, reservation: ReservationId) -> Result<(Option<ReservationId>, Option<ReservationId>), LedgerError> {
        read!(self, "read the tries of a request", cascaded::linked(reservation))
    }

    async fn escalations(&self, from: Timestamp, to: Timestamp) -> Result<Vec<Band>, LedgerError> {
        read!(self, "sum escalations up", cascaded::bands(BANDS, from, to))
    }
}

/// What a node told before is of no use any more.
const TELL_HEALTH: &str = "INSERT INTO provider_health (node, told_at, report) VALUES ($1, $2, $3) \
     ON CONFLICT (node) DO UPDATE SET told_at = excluded.told_at, report = excluded.report";

/// Rows of nodes that are gone go too, each time a few. Nobody waits for one that another node is about to delete.
const FORGET_NODES: &str = "DELETE FROM provider_health WHERE node IN (SELECT node FROM provider_health WHERE told_at < $1 \
     ORDER BY node LIMIT 8 FOR UPDATE SKIP LOCKED)";

const HEAR_HEALTH: &str = "SELECT report FROM provider_health WHERE node <> $1 AND told_at >= $2 ORDER BY node LIMIT 1000";

struct Telling {
    node: String,
    report: Vec<u8>,
    now: Timestamp,
    since: Timestamp,
}

#[async_trait]
impl Description<()> for Telling {
    async fn write(&self, connection: &mut Connection) -> Result<((), bool), Fault> {
        let tell = sqlx::query(TELL_HEALTH).bind(&self.node).bind(self.now.micros()).bind(&self.report);
        tell.execute(&mut *connection).await?;
        sqlx::query(FORGET_NODES).bind(self.since.micros()).execute(connection).await?;
        Ok(((), true))
    }
}

mod heard {
    use super::super::Connection;
    use super::super::fault::Fault;
    use super::HEAR_HEALTH;
    use crate::decision::time::Timestamp;

    pub(super) async fn from_others(connection: &mut Connection, node: &str, since: Timestamp) -> Result<Vec<Vec<u8>>, Fault> {
        let query = sqlx::query_scalar(HEAR_HEALTH).bind(node).bind(since.micros());
        Ok(query.fetch_all(connection).await?)
    }
}

#[async_trait]
impl HealthLedger for PostgresLedger {
    async fn exchange_reports(
        &self,
        node: &str,
        report: Option<Vec<u8>>,
        now: Timestamp,
        since: Timestamp,
    ) -> Result<Vec<Vec<u8>>, LedgerError> {
        if let Some(report) = report {
            let node = node.to_owned();
            let telling = Telling { node, report, now, since };
            self.describe("tell other nodes what was counted", telling).await?;
        }
        read!(self, "hear what other nodes counted", heard::from_others(node, since))
    }
}
