//! What happened: entries, the end of each reservation, the sums that counters copy, workspaces and policy versions. The truth.
//!
//! Nothing here is updated in place but the sums, a reservation's standing and the current state of a workspace; entries are append-only
//! and the database itself refuses to change them. A method is one whole transaction. There are two stores: [`sqlite`], a file for one
//! process, and [`postgres`], for any number of nodes that write at once. The promises, which `contract/` checks on each store:
//!
//! 1. [`Ledger::post`] is all or nothing, and answers only after it is durable. Concurrent posts share a commit.
//! 2. A post names the revision of the standing that it was decided on. If that is not the current one nothing is written, and the
//!    answer is the current standing: so a reservation has one end, whoever races.
//! 3. Every existing sum row that an entry falls into (its dimensions match, `period_start ≤ occurred_at < period_end`) changes with it; rows
//!    that the post names and that are missing are born with the ledger's sum. Versions only rise: each row touched gets its workspace's
//!    next version, and one version of a row is one sum. Posts that share a commit may share a version.
//! 4. An open checkpoint counts as spent, like an entry. It is replaced, never added to, by the next checkpoint or the final entry.
//! 5. The first write of a workspace creates it.
//! 6. What changes a description writes who did it, and what it was before, in the same transaction ([`audit`]).
//! 7. Of the answers under one key the first is kept, until it is older than whoever asks wants to know.
//! 8. API keys have promises of their own ([`api_keys`]).
//! 9. A logged decision is kept until it is pruned: the oldest of its kind first, and none that is neither too old nor too much.
//! 10. What passes the limit of a budget with grants is paid by them in the transaction that records it, as far as their balances go, in their
//!     order; no balance is spent twice, and each payment is in the sum's row under its version. What was paid stays paid.
//! 11. What a billing provider told is handled once, with all that follows from it ([`inbound`]).
//! 12. An event is told once, in the transaction of what happened ([`events`]).
//! 13. What a settlement permits ([`cascade`]) is taken once, by one reservation, until that gives it back.
//! 14. A grant that was paid for has a credit, which is written and voided with it ([`credits`]).

use crate::counters::SumRow;
use crate::decision::counter::{Counter, Whose};
use crate::decision::entry::{Checkpoint, Entry};
use crate::decision::event::Event;
use crate::decision::finding::Finding;
use crate::decision::grant::{Charge, Purse};
use crate::decision::id::{EntryId, Feature, ModelId, RequestId, ReservationId, UserId, WorkspaceId};
use crate::decision::standing::{End, Standing};
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use api_keys::ApiKeyLedger;
use async_trait::async_trait;
use audit::{AuditLedger, Audited, By};
use billing::BillingLedger;
use cached::CacheLedger;
use cascade::CascadeLedger;
use correction::CorrectionLedger;
use credits::CreditLedger;
use daily::DailyLedger;
use directory::DirectoryLedger;
use ends::EndsLedger;
use events::EventLedger;
use fair_use::FairUseLedger;
use health::HealthLedger;
use history::PolicyHistory;
use inbound::InboundLedger;
use invoices::InvoiceLedger;
use provider::ProviderLedger;
use told::ToldLedger;
use webhooks::WebhookLedger;

pub mod api_keys;
pub mod audit;
pub mod billing;
mod billing_sql;
pub mod cached;
pub mod cascade;
#[cfg(test)]
mod contract;
pub mod correction;
pub mod credits;
pub mod daily;
mod decisions;
pub mod directory;
pub mod ends;
pub mod events;
pub mod fair_use;
mod grant_sql;
mod grants;
pub mod health;
pub mod history;
pub mod inbound;
pub mod invoices;
pub mod postgres;
pub mod provider;
mod record;
pub mod slices;
mod sql;
pub mod sqlite;
mod tells;
pub mod told;
pub mod webhooks;

pub use decisions::{DecisionLedger, LoggedDecision, Pruning};
pub use grants::{EarlierKey, Given, GrantDifference, GrantLedger, Pots, grant_document};
pub use tells::Tells;

/// The most entries of one page.
pub const PAGE_ENTRIES_MAX: usize = 500;

/// How many sum rows are recomputed in one statement.
const VERIFY_PAGE_ROWS: usize = 500;

/// One write about one reservation or request id.
#[derive(Clone, Debug)]
pub struct Post {
    pub workspace: WorkspaceId,
    /// The reservation; for direct usage the id that its request id would have, which keeps request ids unique over both.
    pub reservation: ReservationId,
    pub request_id: RequestId,
    /// The revision that this was decided on; 0: nothing was known of it.
    pub revision: i64,
    /// `None` leaves it open.
    pub end: Option<End>,
    pub fingerprint: Option<u128>,
    /// Replaces the checkpoint that is there; `None` takes it away.
    pub checkpoint: Option<Checkpoint>,
    /// Usually one, a correction beside it at most.
    pub entries: Vec<Entry>,
    /// What the plan counts for these entries: missing rows of these are born.
    pub counters: Vec<Counter>,
    /// The budgets with grants that these entries fall under; their counters are among those named.
    pub charges: Vec<Charge>,
    pub tells: Tells,
    pub now: Timestamp,
}

impl Post {
    /// How its id stands if nothing is known of it.
    fn unheard_of(&self) -> Standing {
        Standing {
            workspace: self.workspace.clone(),
            request_id: self.request_id.clone(),
            revision: 0,
            end: None,
            entry: None,
            fingerprint: None,
            checkpoint: None,
        }
    }
}

/// The answer to a post.
#[derive(Clone, PartialEq, Debug)]
pub enum Posted {
    /// It is durable. These are the rows that it fell into or named, as they are now, whether or not they moved: a store that missed an
    /// earlier commit learns of it too.
    Done {
        rows: Vec<SumRow>,
        /// What the grants have left that paid for it, and those that were given because of it.
        purses: Vec<Purse>,
    },
    /// Nothing was written: the reservation stands like this.
    Stands(Box<Standing>),
}

/// Which entries to list, newest first.
#[derive(Clone, Debug)]
pub struct EntryQuery {
    pub workspace: WorkspaceId,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub feature: Option<Feature>,
    pub user: Option<UserId>,
    pub model: Option<ModelId>,
    /// After this entry, in the order of the list.
    pub after: Option<(Timestamp, EntryId)>,
    pub limit: usize,
}

/// One policy object of one version: a plan, a model, the routing rules, or a setting that belongs to none.
#[derive(Clone, PartialEq, Debug)]
pub struct PolicyObject {
    /// `plan`, `model`, `routing`, `settings`.
    pub kind: String,
    pub id: String,
    /// Rises with each change of this object.
    pub version: u32,
    /// The document as JSON; `None`: deleted.
    pub body: Option<serde_json::Value>,
}

/// A change of policy, written whole or not at all.
#[derive(Clone, Debug)]
pub struct PolicyChange {
    /// The policy version that it was decided on; another one refuses it.
    pub expected_version: i64,
    pub objects: Vec<(String, String, Option<serde_json::Value>)>,
    /// Who changes it, for history.
    pub by: By,
    /// One for each object.
    pub audited: Vec<Audited>,
    /// The hash of the files that were applied, where files were.
    pub files_hash: Option<String>,
    pub now: Timestamp,
}

/// All policy objects in force, and the version that they make.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PolicyState {
    pub version: i64,
    /// When that version was written.
    pub changed_at: Option<Timestamp>,
    /// Of the files that were applied last.
    pub files_hash: Option<String>,
    pub objects: Vec<PolicyObject>,
}

/// What a request under an `Idempotency-Key` was answered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptAnswer {
    /// Tells requests under one key apart.
    pub fingerprint: u128,
    pub status: u16,
    pub content_type: String,
    pub body: String,
    pub at: Timestamp,
}

/// Counters that a reader names: missing rows are born.
#[derive(Clone, Debug)]
struct Naming {
    workspace: WorkspaceId,
    whose: Whose,
    counters: Vec<Counter>,
    now: Timestamp,
}

impl Naming {
    /// What of `named` is not among `rows`, which were read of the same group.
    fn missing(workspace: &WorkspaceId, whose: &Whose, named: &[Counter], rows: &[SumRow], now: Timestamp) -> Self {
        let asked = named.iter().filter(|counter| counter.whose == *whose && now < counter.period.end);
        let missing = asked.filter(|counter| !rows.iter().any(|row| row.counter == **counter));
        Self {
            workspace: workspace.clone(),
            whose: whose.clone(),
            counters: missing.cloned().collect(),
            now,
        }
    }
}

/// Why the ledger could not answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Nothing is known of what happened: ask again with the same ids.
    #[error("the ledger could not {act}")]
    Unavailable {
        act: &'static str,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Too many writes wait already; nothing was written.
    #[error("the ledger has too many writes waiting; nothing was written, try again shortly")]
    Busy,
    /// What was read is not what was written; needs a person.
    #[error("the ledger holds something that cannot be read: {what}")]
    Corrupt { what: String },
}

/// A page of what was recorded.
#[derive(Clone, PartialEq, Debug)]
pub struct Recorded {
    /// The sums that the page's entries fell into, as they are now.
    pub rows: Vec<(WorkspaceId, SumRow)>,
    /// Where the next page goes on; `None`: this was the last one.
    pub last: Option<(Timestamp, EntryId)>,
}

/// A page of sums that were recomputed.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Verified {
    /// All sums of the page as their rows say.
    pub rows: Vec<(WorkspaceId, SumRow)>,
    pub differences: Vec<SumDifference>,
    /// Rows whose `paid` is not what the payments of grants add up to.
    pub paid_differences: Vec<SumDifference>,
    /// Where the next page goes on; `None`: this was the last one.
    pub last: Option<(WorkspaceId, Counter)>,
}

/// Being the one node that does something. Given up when it is dropped.
#[async_trait]
pub trait Lead: Send + Sync {
    /// Whether it is still held. A store that lost the connection to its leader has given the lead away.
    async fn is_held(&mut self) -> bool;
}

/// A ledger.
#[async_trait]
pub trait Ledger:
    ApiKeyLedger
    + AuditLedger
    + CacheLedger
    + CascadeLedger
    + CorrectionLedger
    + CreditLedger
    + BillingLedger
    + DailyLedger
    + DecisionLedger
    + DirectoryLedger
    + EndsLedger
    + EventLedger
    + FairUseLedger
    + GrantLedger
    + HealthLedger
    + InboundLedger
    + InvoiceLedger
    + PolicyHistory
    + ProviderLedger
    + WebhookLedger
    + ToldLedger
{
    async fn post(&self, post: Post) -> Result<Posted, LedgerError>;

    /// How a reservation or request id stands; `None`: the ledger has never heard of it.
    async fn standing(&self, reservation: ReservationId) -> Result<Option<Standing>, LedgerError>;

    /// How these stand, of those that the ledger has heard of; in no order.
    async fn standings(&self, reservations: &[ReservationId]) -> Result<Vec<(ReservationId, Standing)>, LedgerError>;

    /// The rows of one group whose period has not ended at `now`, those of `named` born where they were missing. Creates the workspace.
    async fn rows(&self, workspace: &WorkspaceId, whose: &Whose, named: &[Counter], now: Timestamp) -> Result<Vec<SumRow>, LedgerError>;

    /// At most `limit` reservations whose checkpoint is past its expiry and not yet an entry, oldest first.
    async fn checkpoints_due(&self, now: Timestamp, limit: usize) -> Result<Vec<(ReservationId, Standing)>, LedgerError>;

    /// Moves the expiry of an open checkpoint, if there is one.
    async fn extend_checkpoint(&self, reservation: ReservationId, until: Timestamp) -> Result<(), LedgerError>;

    async fn entries(&self, query: &EntryQuery) -> Result<Vec<Entry>, LedgerError>;

    /// The workspace; `None` before its first write.
    async fn workspace(&self, id: &WorkspaceId) -> Result<Option<Workspace>, LedgerError>;

    /// Creates or replaces a workspace. False: it is not at `expected_version` (0: not there), or its plan is gone, and nothing changed.
    async fn put_workspace(&self, workspace: &Workspace, expected_version: u32, audited: Audited) -> Result<bool, LedgerError> {
        self.put_workspace_and_tell(workspace, expected_version, audited, Vec::new()).await
    }

    /// The same, and what happens with it.
    async fn put_workspace_and_tell(
        &self,
        workspace: &Workspace,
        expected_version: u32,
        audited: Audited,
        events: Vec<Event>,
    ) -> Result<bool, LedgerError>;

    /// A workspace that is on this plan, if there is one.
    async fn workspace_on_plan(&self, plan: &str) -> Result<Option<WorkspaceId>, LedgerError>;

    /// At most `limit` workspaces that were put after change number `after`, each with the number of its last change, in that order. A
    /// workspace that is numbered later than another one is also seen later: who follows the numbers misses none.
    async fn workspaces_changed(&self, after: i64, limit: usize) -> Result<Vec<(i64, Workspace)>, LedgerError>;

    /// The number of the newest change of a workspace; 0: none was ever put.
    async fn workspace_change(&self) -> Result<i64, LedgerError>;

    /// Resolves when another node may have changed the policy or a workspace. A hint to look sooner, for who looks by the clock anyway: it
    /// may come for nothing, come late, and on a ledger of one process it never comes.
    async fn changed(&self);

    /// The policy in force.
    async fn policy(&self) -> Result<PolicyState, LedgerError>;

    /// The policy as it was at `version`; `None`: there never was one of that number.
    async fn policy_at(&self, version: i64) -> Result<Option<PolicyState>, LedgerError>;

    /// The number of the policy in force, cheap enough to ask each second.
    async fn policy_version(&self) -> Result<i64, LedgerError>;

    /// Writes a change of policy and returns the new version; `None`: the expected version is not the current one, or a workspace is on a
    /// plan that would go, and nothing changed.
    async fn change_policy(&self, change: PolicyChange) -> Result<Option<i64>, LedgerError>;

    /// The answer under `key` that was given after `since`. Where there is none and `answer` is given, that one is kept from now on and is
    /// what is returned: of racing answers all are told the first.
    async fn answer_once(&self, key: u128, answer: Option<KeptAnswer>, since: Timestamp) -> Result<Option<KeptAnswer>, LedgerError>;

    /// The sums that entries recorded at `from` or later fell into, a page of `limit` entries at a time; `after` is where the page before
    /// ended. Clocks of nodes differ and commits take time, so `from` must lie well before what was seen last.
    async fn recorded_since(&self, from: Timestamp, after: Option<(Timestamp, EntryId)>, limit: usize) -> Result<Recorded, LedgerError>;

    /// When the last entry was recorded; `None`: there is none yet.
    async fn last_recorded(&self) -> Result<Option<Timestamp>, LedgerError>;

    /// Makes this node the one that does `what`; `None`: another one is.
    async fn try_lead(&self, what: &str) -> Result<Option<Box<dyn Lead>>, LedgerError>;

    /// Recomputes a page of `limit` sum rows from entries and checkpoints, in the order of their key, and names each difference. The page is
    /// of one moment.
    async fn verify_page(&self, after: Option<&(WorkspaceId, Counter)>, limit: usize) -> Result<Verified, LedgerError>;

    /// Recomputes every sum row, and names each difference.
    async fn verify(&self) -> Result<Vec<SumDifference>, LedgerError> {
        let mut differences = Vec::new();
        let mut after = None;
        loop {
            let page = self.verify_page(after.as_ref(), VERIFY_PAGE_ROWS).await?;
            differences.extend(page.differences);
            match page.last {
                Some(last) => after = Some(last),
                None => return Ok(differences),
            }
        }
    }

    /// Writes and reads nothing of value, to tell whether the ledger answers.
    async fn ping(&self) -> Result<(), LedgerError>;

    /// What its own clock says; `None`: it has none but this machine's.
    async fn clock(&self) -> Result<Option<Timestamp>, LedgerError> {
        Ok(None)
    }

    /// Looks at the store for whoever wants to know whether it is in good order: version, durability, clock.
    async fn inspect(&self, now: Timestamp) -> Result<Vec<Finding>, LedgerError>;

    /// Writes what waits, then closes. Calls that come later are answered with an error.
    async fn close(&self);
}

/// A sum row that is not what its entries say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SumDifference {
    pub workspace: WorkspaceId,
    pub counter: Counter,
    pub row: i64,
    pub entries: i64,
}
