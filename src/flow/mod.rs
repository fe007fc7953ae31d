//! One verb per file: the order of effects, and what a crash costs at each step. Speaks neither HTTP nor SQL, and holds no rule that
//! `decision` could hold.

use crate::cache::Cache;
use crate::clock::Clock;
use crate::counters::{Counters, CountersError};
use crate::decision::billing::credit::CreditImpossible;
use crate::decision::billing::delivery::Impossible;
use crate::decision::id::{BatchId, EntryId, GrantId, ReservationId, WorkspaceId};
use crate::decision::standing::End;
pub use crate::ledger::events::EventQuery;
use crate::ledger::{Ledger, LedgerError};
use crate::policy::Holder;
use crate::router::Router;
use decided::DecisionLog;
use estimator::Estimator;
use foresee::Foreseen;
use meter::Meters;
pub use options::{EmbeddingSettings, Options, SigningSecrets, WebhookOptions};
use providers::Drained;
use std::sync::Arc;
use tell::Telling;
use workspace::Workspaces;

pub mod answer;
pub mod api_keys;
pub mod audit;
pub mod authorize;
pub mod batch;
pub mod billing;
pub mod cache;
mod cascade;
pub mod context;
pub mod correct;
pub mod credit;
pub mod decided;
mod dry_run;
pub mod estimator;
pub mod exchange;
pub mod expected;
pub mod expire;
pub mod explain;
pub mod extend;
pub mod fair_use;
pub mod find;
pub mod foresee;
pub mod freeing;
pub mod grant;
pub mod health;
pub mod inbound;
pub mod invoice;
mod known;
pub mod llm;
pub mod lookout;
pub mod meter;
mod options;
pub mod policy;
mod prepare;
pub mod providers;
pub mod read;
pub mod rebuild;
pub mod reconcile;
pub mod record;
pub mod release;
pub mod renew;
mod replay;
pub mod reports;
pub mod reprice;
pub mod route;
mod run;
pub mod selftest;
pub mod settle;
mod since;
pub mod sweep;
pub mod tell;
pub mod usage;
pub mod verify;
pub mod wall;
pub mod webhooks;
pub mod workspace;

/// How often a write is decided anew when another one was faster; more would mean a fault, not a race.
pub const DECIDE_AGAIN_MAX: usize = 16;

/// Everything that a flow needs, made once by the composition root.
pub struct Service {
    pub counters: Arc<dyn Counters>,
    pub ledger: Arc<dyn Ledger>,
    pub policy: Holder,
    pub recent: policy::Recent,
    pub workspaces: Workspaces,
    pub drained: Drained,
    pub api_keys: api_keys::ApiKeys,
    pub estimator: Estimator,
    pub decisions: DecisionLog,
    pub health: health::Health,
    pub exchange: exchange::Exchange,
    /// Asked for tiers where a rule wants to know, if one is configured.
    pub llm: Router,
    pub fair_use: fair_use::FairUse,
    pub telling: Telling,
    pub walls: wall::Walls,
    pub foreseen: Foreseen,
    pub freeing: freeing::Freeing,
    pub meters: Meters,
    pub remembered: usage::Remembered,
    pub billing: billing::Employed,
    pub messages: webhooks::Messages,
    pub cache: Cache,
    pub options: Options,
    pub clock: Arc<dyn Clock>,
}

impl Service {
    pub fn new(counters: Arc<dyn Counters>, ledger: Arc<dyn Ledger>, policy: Holder, clock: Arc<dyn Clock>, options: Options) -> Self {
        Self {
            cache: Cache::beside(&*counters, options.embeddings.as_ref()),
            counters,
            ledger,
            policy,
            recent: policy::Recent::default(),
            workspaces: Workspaces::default(),
            drained: Drained::default(),
            api_keys: api_keys::ApiKeys::default(),
            estimator: Estimator::default(),
            decisions: DecisionLog::default(),
            health: health::Health::default(),
            exchange: exchange::Exchange::default(),
            llm: Router::new(options.router.clone()),
            fair_use: fair_use::FairUse::default(),
            telling: Telling::default(),
            walls: wall::Walls::default(),
            foreseen: Foreseen::default(),
            freeing: freeing::Freeing::default(),
            meters: Meters::default(),
            remembered: usage::Remembered::default(),
            billing: billing::Employed::default(),
            messages: webhooks::Messages::through(None),
            options,
            clock,
        }
    }

    /// With what sends to the outside.
    pub fn with_messenger(mut self, messenger: Box<dyn webhooks::Messenger>) -> Self {
        self.messages = webhooks::Messages::through(Some(messenger));
        self
    }

    fn entry_id(&self) -> EntryId {
        EntryId::from_uuid(self.clock.uuid())
    }
}

/// Why a verb did not do what was asked. Denials of authorize are not among these: they are answers.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    #[error("no reservation {0} is known; resend workspace_id, feature, model and usage, and user_id and occurred_at where known")]
    ReservationUnknown(ReservationId),
    #[error("no reservation {0} is known, so nothing is held for it; what it used can still be settled")]
    ReservationGone(ReservationId),
    #[error("nothing of that name is known here")]
    NotFound,
    #[error("reservation {id} has ended: {end}", id = .0, end = .1.as_str())]
    ReservationEnded(ReservationId, End),
    #[error("reservation {0} is the parent of a run, so it has no entry of its own; settle its calls, and release it")]
    ReservationIsParent(ReservationId),
    #[error("no reservation {0} is known that a call could draw from; open a run by authorizing one")]
    ParentUnknown(ReservationId),
    #[error("reservation {id}, which the call would draw from, has ended: {end}; open another run", id = .0, end = .1.as_str())]
    ParentEnded(ReservationId, End),
    #[error("reservation {0} cannot be the parent of a call: it {1}")]
    ParentUnfit(ReservationId, &'static str),
    #[error("no reservation {0} is known that could be tried again")]
    EscalationUnknown(ReservationId),
    #[error("reservation {0} {1}, so it cannot be tried again on a better model")]
    EscalationNotDue(ReservationId, &'static str),
    #[error("reservation {0} was tried again already, under another request id")]
    AlreadyEscalated(ReservationId),
    #[error("reservation {0} is settled with another report; correct its entry instead of settling again")]
    SettleConflict(ReservationId),
    #[error("another use is recorded under this request id")]
    UsageConflict,
    #[error("another grant was given under this key: {0}; choose another key")]
    GrantConflict(GrantId),
    #[error("batch {0} is not sent again: {1}")]
    BatchConflict(BatchId, Impossible),
    #[error("the credit of grant {0} is not sent again: {1}")]
    CreditConflict(GrantId, CreditImpossible),
    #[error("a reservation with this request id is still held; settle it instead: {0}")]
    RequestIdHeld(ReservationId),
    #[error("this key was used for another request")]
    IdempotencyMismatch,
    #[error("the cost passes 1,000,000 USD, the most that one entry may cost")]
    AmountTooLarge,
    #[error("the invoice passes what can be added up: an amount of more than 64 bits, or more periods than one invoice is made of")]
    InvoiceTooLarge,
    #[error("{detail}")]
    LimitTooLarge { pointer: String, detail: String },
    #[error("plan {0} counts by user: name user_id")]
    UserRequired(String),
    #[error("somebody else changed {what} in between; read it again and decide anew")]
    Raced { what: String },
    #[error("{detail}")]
    Malformed { pointer: String, detail: String },
    #[error("{detail}")]
    Unacceptable { pointer: String, detail: String },
    #[error("too many calls; go on in {0} seconds")]
    TooFast(u32),
    #[error("plan {plan} is in use by workspace {workspace}; move its workspaces first")]
    PlanInUse { plan: String, workspace: WorkspaceId },
    #[error("plan {0} is the default plan, which workspaces without a plan are on; name another default_plan first")]
    PlanIsDefault(String),
    #[error("{}", policy::lifecycle::stranded_words(.0))]
    WouldStrand(Vec<policy::lifecycle::Stranded>),
    #[error("there never was a policy version {0}; `weir policy history` lists those that were")]
    NoSuchVersion(i64),
    #[error("the counters of workspace {0} are being rebuilt and did not come up in time")]
    RebuildTimeout(WorkspaceId),
    #[error(transparent)]
    NoRandomness(#[from] crate::clock::NoRandomness),
    #[error(transparent)]
    Counters(#[from] CountersError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl FlowError {
    /// Whether counters cannot be known now: they are away, or they are lost and the ledger, from which they would be rebuilt, is away.
    fn leaves_counters_unknown(&self) -> bool {
        matches!(
            self,
            Self::Counters(_) | Self::RebuildTimeout(_) | Self::Ledger(LedgerError::Unavailable { .. } | LedgerError::Busy)
        )
    }
}
