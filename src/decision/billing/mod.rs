//! Billing: what a provider is told of recorded use, in batches. Which entries make a batch, what its value is, when it is told and what
//! becomes of it are decided here; who stores and who sends it is not known.
//!
//! Invariants: of one workspace and meter, the values of all sealed batches and what is carried add up to what their entries counted,
//! exactly ([`exact`]). A batch whose fate is not known is told again only while the provider recognises its identifier ([`delivery`]). The
//! credit of a grant that was paid for is looked for before it is given ([`credit`]). What is owed back and meets no later use is taken back from
//! what was told ([`adjust`]).

pub mod adjust;
pub mod credit;
pub mod delivery;
pub mod exact;
pub mod periods;
pub mod reconcile;
pub mod report;
pub mod window;

use super::amount::Unit;
use super::id::{BatchId, MeterId, WorkspaceId};
use super::meter::Factor;
use super::period::Period;
use super::time::Timestamp;
use delivery::{Delivery, Event, Reason, ReasonCode};
use exact::Exact;
use periods::Periods;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a provider promises and wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// Whether anything is sent at all; if not, batches stay sealed.
    pub sends: bool,
    /// For how long it recognises an identifier that it has taken; `None`: it never does, so nothing is told twice.
    pub dedupe_seconds: Option<i64>,
    /// Whether a value may be negative.
    pub accepts_negative: bool,
    /// The oldest use that it takes.
    pub oldest_seconds: Option<i64>,
    /// Whether a workspace needs a customer there.
    pub needs_customer: bool,
    /// Whether it closes the books of a period, so that use of then is to be told as of now.
    pub closes_periods: bool,
    /// Whether a value below zero takes back what it was told in the same period, as long as their sum does not fall below zero.
    pub takes_back: bool,
    /// How many calls a second it takes from one account.
    pub calls_per_second: u32,
}

impl Terms {
    /// Of no provider.
    pub const NONE: Terms = Terms {
        sends: false,
        dedupe_seconds: None,
        accepts_negative: false,
        oldest_seconds: None,
        needs_customer: false,
        closes_periods: false,
        takes_back: false,
        calls_per_second: 1,
    };

    /// Whether it takes nothing of that time any more.
    pub fn is_too_old(&self, at: Timestamp, now: Timestamp) -> bool {
        self.oldest_seconds.is_some_and(|seconds| at <= now.plus_seconds(-seconds))
    }
}

/// So long before the provider takes something no more it is told as of now: clocks differ, and tries take time.
const HOUR_SECONDS: i64 = 3_600;

/// Whether a batch grows, waits, is under way, or where it ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = BatchState)]
pub enum State {
    /// Its window is not over, or was over only just now: use is still added to it.
    Open,
    /// Its value is fixed; it waits to be sent, for the first time or again.
    Sealed,
    /// A node is sending it.
    Sending,
    /// The provider has it, or there was nothing to tell.
    Acknowledged,
    /// The provider refuses it.
    Rejected,
    /// Nobody knows whether the provider has it, and it is too late to ask by sending it again: reconcile finds out.
    Unknown,
    /// It cannot be told: `reason` says why.
    Unbillable,
}

impl State {
    pub const ALL: [State; 7] = [
        State::Open,
        State::Sealed,
        State::Sending,
        State::Acknowledged,
        State::Rejected,
        State::Unknown,
        State::Unbillable,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Sealed => "sealed",
            State::Sending => "sending",
            State::Acknowledged => "acknowledged",
            State::Rejected => "rejected",
            State::Unknown => "unknown",
            State::Unbillable => "unbillable",
        }
    }

    pub fn parse(text: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == text)
    }
}

/// The value of a batch, fixed when it is sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    pub at: Timestamp,
    /// Counts the sealed batches of its workspace and meter, from 1.
    pub number: i64,
    /// What the provider is told, whole.
    pub value: i64,
    /// What is carried to the next batch of its workspace and meter.
    pub carry: Exact,
}

/// Entries of one workspace, meter and window, and what is told of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    pub id: BatchId,
    pub workspace: WorkspaceId,
    pub meter: MeterId,
    /// The hour of use, cut where a billing period begins.
    pub window: Period,
    /// Counts the batches of one window, from 1: what is recorded after the first was sealed makes another one.
    pub sequence: i64,
    /// How the meter was defined when it was opened.
    pub event_name: String,
    pub unit: Unit,
    pub factor: Factor,
    pub members: i64,
    /// What its members counted, in the smallest part of the unit.
    pub counted: i64,
    /// The last use among its members: the time that the provider is told, unless the books of then are closed.
    pub last_used_at: Timestamp,
    pub opened_at: Timestamp,
    /// From then on it is sealed.
    pub seals_at: Timestamp,
    /// `None` while it is open.
    pub sealed: Option<Sealed>,
    /// The batch that its value is taken back from, or that it puts back into the carry; `None`: it is of use ([`adjust`]).
    pub adjusts: Option<BatchId>,
    pub delivery: Delivery,
}

impl Batch {
    /// What the provider knows it by.
    pub fn identifier(&self) -> String {
        identifier(self.id, self.delivery.generation)
    }

    pub fn value(&self) -> i64 {
        self.sealed.as_ref().map_or(0, |sealed| sealed.value)
    }

    /// What happens to it when it is due: it is sent, as of a time, or cannot be told.
    pub fn when_due(&self, terms: &Terms, periods: &Periods, customer: Option<&str>, late_after_seconds: i64, now: Timestamp) -> Event {
        // Whom it may have been told of once, it is told of again.
        let told_before = self.delivery.customer.as_deref().filter(|_| self.delivery.unsure_since.is_some());
        let customer = told_before.or(customer);
        if terms.needs_customer && customer.is_none() {
            return Event::Unbillable(Reason {
                code: ReasonCode::NoCustomer,
                detail: format!("workspace {} has no stripe_customer_id", self.workspace),
            });
        }
        // What may have been taken as of one time is told as of that time again, as long as its books are open: reconcile can then find it.
        let told_as_of = self
            .delivery
            .told_at
            .filter(|_| self.delivery.unsure_since.is_some())
            .unwrap_or(self.last_used_at);
        let told_at = match window::told_at(told_as_of, periods, terms.closes_periods, late_after_seconds, now) {
            // Its period goes on, as that of a year does, and the provider takes nothing so old any more.
            old if terms.closes_periods && terms.is_too_old(old, now.plus_seconds(HOUR_SECONDS)) => now,
            told_at => told_at,
        };
        // What is told as of now may be told however old the use is, a correction of long ago too; but not for as long as one likes: nobody
        // expects a bill for half a year because a workspace has a customer at last.
        let since = if told_at > told_as_of { self.opened_at } else { told_at };
        if terms.is_too_old(since, now) {
            let (used_at, days) = (self.last_used_at, terms.oldest_seconds.unwrap_or_default() / 86_400);
            return Event::Unbillable(Reason {
                code: ReasonCode::TooOld,
                detail: format!("it was used at {used_at}, and would be told {days} days too late or more: since {since}"),
            });
        }
        Event::Claimed {
            customer: customer.filter(|_| terms.needs_customer).map(str::to_owned),
            told_at,
        }
    }
}

/// The id of a batch is made of what it is about: after a crash, and on another node, the same batch has the same one.
pub fn batch_id(workspace: &WorkspaceId, meter: &MeterId, window: Period, sequence: i64) -> BatchId {
    let mut hash = Sha256::new();
    for text in [workspace.as_str(), meter.as_str()] {
        hash.update([text.len() as u8]); // A name has at most 128 characters, so its length keeps the parts apart.
        hash.update(text);
    }
    for number in [window.start.micros(), window.end.micros(), sequence] {
        hash.update(number.to_be_bytes());
    }
    let digest = hash.finalize();
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    BatchId::of_digest(&bytes)
}

/// What a provider knows a batch by. A batch that it took and then could not bill is told anew, as another event.
pub fn identifier(batch: BatchId, generation: i64) -> String {
    match generation {
        ..=1 => batch.to_string(),
        later => format!("{batch}-{later}"),
    }
}

/// The batch and generation of an identifier; `None`: it is none of ours.
pub fn of_identifier(identifier: &str) -> Option<(BatchId, i64)> {
    let (id, generation) = match identifier.split_once('-') {
        Some((id, generation)) => (id, generation.parse().ok().filter(|generation| *generation > 1)?),
        None => (identifier, 1),
    };
    Some((BatchId::parse(id).ok()?, generation))
}

/// What is told of `counted`, and what is carried on, after `carried`. Where the provider takes no negative values, what is owed back waits
/// until there is enough to set it off against.
pub fn value(factor: Factor, counted: i64, carried: Exact, accepts_negative: bool) -> (i64, Exact) {
    let total = Exact::of(factor, counted).plus(carried);
    let least = if accepts_negative { i64::MIN } else { 0 };
    let told = total.whole().clamp(i128::from(least), i128::from(i64::MAX)) as i64;
    (told, total.minus(told))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(workspace: &str, meter: &str, start: i64, sequence: i64) -> BatchId {
        let window = Period {
            start: Timestamp::from_micros(start),
            end: Timestamp::from_micros(start + 3_600_000_000),
        };
        let (workspace, meter) = (
            WorkspaceId::parse(workspace).expect("a name"),
            MeterId::parse(meter).expect("a name"),
        );
        batch_id(&workspace, &meter, window, sequence)
    }

    #[test]
    fn an_id_is_of_one_workspace_meter_window_and_sequence() {
        assert_eq!(id("ab", "c", 0, 1), id("ab", "c", 0, 1));
        for other in [id("a", "bc", 0, 1), id("ab", "d", 0, 1), id("ab", "c", 1, 1), id("ab", "c", 0, 2)] {
            assert_ne!(id("ab", "c", 0, 1), other);
        }
    }

    #[test]
    fn an_identifier_names_its_batch_and_generation() {
        let batch = id("a", "b", 0, 1);
        for generation in [1, 2, 17] {
            assert_eq!(of_identifier(&identifier(batch, generation)), Some((batch, generation)));
        }
        assert_eq!(identifier(batch, 1), batch.to_string());
        for bad in [
            "",
            "bat_",
            "x",
            &format!("{batch}-1"),
            &format!("{batch}-"),
            &format!("{batch}-2-3"),
        ] {
            assert_eq!(of_identifier(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_owed_back_waits_for_enough_to_set_it_off_against() {
        let one = Factor::new(1_000_000_000, 1_000_000_000, Unit::Tokens).expect("one");
        let (told, carried) = value(one, -30, Exact::ZERO, false);
        assert_eq!((told, carried.to_string().as_str()), (0, "-30"));
        let (told, carried) = value(one, 20, carried, false);
        assert_eq!((told, carried.to_string().as_str()), (0, "-10"));
        assert_eq!(value(one, 25, carried, false), (15, Exact::ZERO));
        assert_eq!(value(one, -30, Exact::ZERO, true), (-30, Exact::ZERO));
    }
}
