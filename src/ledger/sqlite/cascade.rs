//! Escalations in SQLite, and what nodes tell each other: one process has nobody to tell.

use super::SqliteLedger;
use super::cascaded::{self, Offering, Taking};
use crate::decision::cascade::{Band, Offered};
use crate::decision::id::ReservationId;
use crate::decision::time::Timestamp;
use crate::ledger::LedgerError;
use crate::ledger::cascade::{CascadeLedger, GIVE_BACK, TAKE, bands};
use crate::ledger::health::HealthLedger;
use async_trait::async_trait;

const BANDS: &str = bands!("first_entry.entry_id = first.entry_id", "second_entry.entry_id = second.entry_id");

#[async_trait]
impl CascadeLedger for SqliteLedger {
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

#[async_trait]
impl HealthLedger for SqliteLedger {
    async fn exchange_reports(&self, _: &str, _: Option<Vec<u8>>, _: Timestamp, _: Timestamp) -> Result<Vec<Vec<u8>>, LedgerError> {
        Ok(Vec::new())
    }
}
