//! `grant_credit`: how a paid grant stands at the billing provider.

use super::{Unreadable, parse, read_word, unreadable};
use crate::decision::billing::credit::{Credit, CreditDelivery, CreditState};
use crate::decision::grant::Purchase;
use crate::decision::id::{GrantId, WorkspaceId};
use crate::decision::time::Timestamp;

/// A credit as it is stored, with what its grant says.
#[derive(sqlx::FromRow)]
pub(in crate::ledger) struct CreditRow {
    grant_id: String,
    workspace_id: String,
    created_at: i64,
    state: String,
    is_void: i64,
    customer: Option<String>,
    provider_id: Option<String>,
    key_number: i64,
    claims: i64,
    tries: i64,
    unsure_since: Option<i64>,
    next_try_at: Option<i64>,
    reason_code: Option<String>,
    reason: Option<String>,
    acknowledged_at: Option<i64>,
    paid_amount: Option<i64>,
    paid_currency: Option<String>,
    effective_at: i64,
    expires_at: Option<i64>,
}

impl CreditRow {
    pub(in crate::ledger) fn read(self) -> Result<Credit, Unreadable> {
        let at = Timestamp::from_micros;
        let paid = purchase(self.paid_amount, self.paid_currency)?;
        let unpaid = || unreadable("paid_amount", "null", "is of a grant that has a credit");
        Ok(Credit {
            grant: parse("grant_id", &self.grant_id, GrantId::parse)?,
            workspace: parse("workspace_id", &self.workspace_id, WorkspaceId::parse)?,
            paid: paid.ok_or_else(unpaid)?,
            effective_at: at(self.effective_at),
            expires_at: self.expires_at.map(at),
            created_at: at(self.created_at),
            delivery: CreditDelivery {
                state: credit_state(&self.state)?,
                is_void: self.is_void != 0,
                customer: self.customer,
                provider_id: self.provider_id,
                key_number: self.key_number,
                claims: self.claims,
                tries: self.tries,
                unsure_since: self.unsure_since.map(at),
                next_try_at: self.next_try_at.map(at),
                reason: super::batch::reason(self.reason_code.as_deref(), self.reason)?,
                acknowledged_at: self.acknowledged_at.map(at),
            },
        })
    }
}

/// What was paid, as two columns have it.
pub(super) fn purchase(amount: Option<i64>, currency: Option<String>) -> Result<Option<Purchase>, Unreadable> {
    match (amount, currency) {
        (Some(amount), Some(currency)) => Ok(Some(Purchase { amount, currency })),
        (None, None) => Ok(None),
        (amount, _) => Err(unreadable(
            "paid_amount",
            format!("{amount:?}"),
            "needs a currency, and a currency needs it",
        )),
    }
}

pub(in crate::ledger) fn credit_state(text: &str) -> Result<CreditState, Unreadable> {
    read_word("state", text)
}
