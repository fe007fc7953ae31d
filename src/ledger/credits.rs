//! Credits of paid grants in the ledger: who gives which one to the billing provider, and what became of it. A method is one whole
//! transaction. The promises, which `contract/credits.rs` checks on each store:
//!
//! 1. The credit of a paid grant is written with the grant, and its void with the void of the grant. A grant that was not paid for has none.
//! 2. Of a credit one node has a claim at a time; what it left behind is taken over when the claim has ended. An answer counts under its own
//!    claim only, but for the knowledge that the provider has it.
//! 3. How a credit stands changes by [`CreditDelivery::step`] alone.

#[cfg(doc)]
use crate::decision::billing::credit::CreditDelivery;

use super::LedgerError;
use super::audit::Audited;
use crate::decision::billing::credit::{Credit, CreditAnswer, CreditEvent, CreditImpossible, CreditState};
use crate::decision::id::{GrantId, WorkspaceId};
use crate::decision::time::Timestamp;
use async_trait::async_trait;

/// Credits to be taken in hand.
#[derive(Clone, Copy, Debug)]
pub struct CreditClaiming {
    pub lease_seconds: i64,
    pub limit: usize,
    pub now: Timestamp,
}

/// What a claim found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreditClaims {
    /// These are the caller's until the claim ends.
    pub claims: Vec<Credit>,
    /// These are not to be given after all.
    pub set_aside: Vec<Credit>,
}

/// What the provider answered.
#[derive(Clone, Debug)]
pub struct CreditAnswered {
    pub grant: GrantId,
    /// Under which claim, as [`Credit::delivery`] counts them.
    pub claim: i64,
    pub answer: CreditAnswer,
    pub now: Timestamp,
    pub chance: u32,
}

/// Something that happens to one credit, but for what senders do.
#[derive(Clone, Debug)]
pub struct CreditChange {
    pub grant: GrantId,
    pub event: CreditEvent,
    pub now: Timestamp,
    /// Who did it, where somebody did.
    pub audited: Option<Audited>,
}

/// Which credits of unknown fate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostCredits {
    pub workspace: Option<WorkspaceId>,
    /// Only those behind this one.
    pub after: Option<(Timestamp, GrantId)>,
    pub limit: usize,
}

/// What became of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CreditChanged {
    Done(Box<Credit>),
    /// Nothing was written.
    Refused(Box<Credit>, CreditImpossible),
    /// The grant has none.
    Gone,
}

/// A ledger that has the credits of paid grants.
#[async_trait]
pub trait CreditLedger: Send + Sync {
    /// Takes credits that are due, so that nobody else sends them.
    async fn claim_credits(&self, claiming: CreditClaiming) -> Result<CreditClaims, LedgerError>;

    /// Writes what the provider answered. `None`: the claim had ended, and the answer is of no more use.
    async fn credit_answered(&self, answered: CreditAnswered) -> Result<Option<Credit>, LedgerError>;

    /// Has something happen to a credit.
    async fn change_credit(&self, change: CreditChange) -> Result<CreditChanged, LedgerError>;

    /// Has credits that waited for a customer go on where there is one by now, at most `limit`, and tells how many.
    async fn resume_credits(&self, limit: usize, now: Timestamp) -> Result<usize, LedgerError>;

    /// The credits of a workspace whose grants were given from `from` to `to`, both inclusive.
    async fn credits_of(&self, workspace: &WorkspaceId, from: Timestamp, to: Timestamp) -> Result<Vec<Credit>, LedgerError>;

    /// At most `limit` credits that are neither given nor void, oldest first.
    async fn open_credits(&self, workspace: Option<&WorkspaceId>, limit: usize) -> Result<Vec<Credit>, LedgerError>;

    /// Those of unknown fate that nobody looks for by himself any more, oldest first: what the others are does not crowd them out.
    async fn lost_credits(&self, query: &LostCredits) -> Result<Vec<Credit>, LedgerError>;

    /// How many credits are in each state but acknowledged and voided.
    async fn credit_states(&self) -> Result<Vec<(CreditState, i64)>, LedgerError>;
}

const COLUMNS: &str = "credit.grant_id, credit.workspace_id, credit.created_at, credit.state, credit.is_void, credit.customer, \
     credit.provider_id, credit.key_number, credit.claims, credit.tries, credit.unsure_since, credit.next_try_at, credit.reason_code, \
     credit.reason, credit.acknowledged_at, given.paid_amount, given.paid_currency, given.effective_at, given.expires_at \
     FROM grant_credit AS credit JOIN budget_grant AS given ON given.grant_id = credit.grant_id";

pub(super) const BEGIN: &str = "INSERT INTO grant_credit (grant_id, workspace_id, created_at, state, is_void, key_number, claims, tries, \
     next_try_at) VALUES ($1, $2, $3, $4, 0, $5, 0, 0, $6)";

/// Credits that are due at `$1`; `$2` limit. `$locked` is how a store passes over rows that others have.
pub(super) fn due(locked: &str) -> String {
    format!("SELECT grant_id FROM grant_credit WHERE next_try_at <= $1 ORDER BY next_try_at LIMIT $2{locked}")
}

/// Takes the lock of a credit.
pub(super) const LOCK: &str = "UPDATE grant_credit SET claims = claims WHERE grant_id = $1";

pub(super) fn credit() -> String {
    format!("SELECT {COLUMNS} WHERE credit.grant_id = $1")
}

pub(super) const CUSTOMER: &str = "SELECT stripe_customer_id FROM workspace WHERE workspace_id = $1";

pub(super) const DELIVER: &str = "UPDATE grant_credit SET state = $2, is_void = $3, customer = $4, provider_id = $5, key_number = $6, \
     claims = $7, tries = $8, unsure_since = $9, next_try_at = $10, reason_code = $11, reason = $12, acknowledged_at = $13 WHERE grant_id = $1";

/// Those that wait for a customer, where there is one by now; `$1` limit.
pub(super) const RESUMABLE: &str = "SELECT credit.grant_id FROM grant_credit AS credit JOIN workspace \
     ON workspace.workspace_id = credit.workspace_id WHERE credit.state <> 'acknowledged' AND credit.state <> 'voided' \
     AND credit.state = 'unbillable' AND credit.reason_code = 'no_customer' AND workspace.stripe_customer_id IS NOT NULL \
     ORDER BY credit.created_at, credit.grant_id LIMIT $1";

pub(super) fn of_workspace() -> String {
    format!("SELECT {COLUMNS} WHERE credit.workspace_id = $1 AND credit.created_at >= $2 AND credit.created_at <= $3")
}

/// Of workspace `$1`, or of all where it is empty; `$2` limit.
pub(super) fn open() -> String {
    format!(
        "SELECT {COLUMNS} WHERE credit.state <> 'acknowledged' AND credit.state <> 'voided' AND ($1 = '' OR credit.workspace_id = $1) \
         ORDER BY credit.created_at, credit.grant_id LIMIT $2"
    )
}

/// Of workspace `$1`, or of all where it is empty; behind the one made at `$2` with the id `$3`; `$4` limit.
pub(super) fn lost() -> String {
    format!(
        "SELECT {COLUMNS} WHERE credit.state <> 'acknowledged' AND credit.state <> 'voided' AND credit.state = 'unknown' \
         AND credit.next_try_at IS NULL AND ($1 = '' OR credit.workspace_id = $1) \
         AND (credit.created_at, credit.grant_id) > ($2, $3) ORDER BY credit.created_at, credit.grant_id LIMIT $4"
    )
}

pub(super) const STATES: &str = "SELECT state, CAST(COUNT(*) AS BIGINT) FROM grant_credit WHERE state <> 'acknowledged' \
     AND state <> 'voided' GROUP BY state ORDER BY state";
