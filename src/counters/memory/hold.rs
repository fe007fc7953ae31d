//! What is remembered of a reservation: a hold while it lives and after it expired, a tombstone once it was settled or released.
//!
//! Decides by comparison alone when a hold ends and who may end it; moves no counter.

use super::run::Kin;
use crate::counters::{CLAIM_OPEN_SECONDS, Claim, FINGERPRINT_UNKNOWN, HOLD_SECONDS_MAX, Record, TOMBSTONE_SECONDS};
use crate::decision::amount::Amounts;
use crate::decision::counter::{Balance, Counter};
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::rung::Taken;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use std::sync::Arc;

/// What an allocation and its places in maps and queues cost beside its own size, about.
const OVERHEAD_BYTES: usize = 96;

/// A reservation. Boxed, so that maps that grow move pointers only.
#[cfg_attr(test, derive(Clone, Debug))]
pub(super) enum Remembered {
    Hold(Box<Hold>),
    Tombstone(Box<Tombstone>),
}

/// A hold with all that a settle may ask for, be it late.
#[cfg_attr(test, derive(Clone, Debug))]
pub(super) struct Hold {
    pub(super) workspace: WorkspaceId,
    pub(super) fingerprint: u128,
    pub(super) context: Arc<[u8]>,
    /// Each counter, with its balance just before the hold.
    pub(super) counters: Box<[(Arc<Counter>, Balance)]>,
    pub(super) taken: Taken,
    pub(super) held_at: Timestamp,
    pub(super) expires_at: Timestamp,
    pub(super) charge_on_expiry: bool,
    /// Somebody wants to hear of it if it runs out by itself, and the ledger does not know of its end.
    pub(super) tell_on_expiry: bool,
    /// Of most holds nothing was reported yet, so this is apart.
    pub(super) reported: Option<Box<Reported>>,
    /// Of a run: what it is there.
    pub(super) kin: Option<Box<Kin>>,
    pub(super) expired_at: Option<Timestamp>,
}

/// What reports have said of a hold.
#[cfg_attr(test, derive(Clone, Debug))]
pub(super) struct Reported {
    claimed: Option<Claim>,
    /// When it was claimed last.
    claimed_at: Timestamp,
    used: Amounts,
}

/// The end of a reservation, and just enough to recognise it.
#[cfg_attr(test, derive(Clone, Debug))]
pub(super) struct Tombstone {
    pub(super) workspace: WorkspaceId,
    pub(super) fingerprint: u128,
    pub(super) end: End,
    pub(super) ended_at: Timestamp,
}

/// What a live hold waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// It ends by itself at this moment.
    Expiry(Timestamp),
    /// Only the ledger ends it, and is asked from this moment on.
    Ledger(Timestamp),
}

impl Hold {
    /// What of it still counts as held.
    pub(super) fn remaining(&self) -> Amounts {
        let gone = match self.parent() {
            Some((lending, used)) => used.plus(lending.lent),
            None => self.used(),
        };
        self.taken.amounts.beyond(gone)
    }

    /// What was recorded as spent, by itself or, of a parent, by its calls.
    pub(super) fn used(&self) -> Amounts {
        match self.parent() {
            Some((_, used)) => used,
            None => self.reported.as_ref().map_or(Amounts::ZERO, |reported| reported.used),
        }
    }

    /// Whether anything was said of its use.
    pub(super) fn is_reported(&self) -> bool {
        self.claimed().is_some() || self.used() != Amounts::ZERO
    }

    fn claimed(&self) -> Option<Claim> {
        self.reported.as_ref()?.claimed
    }

    fn reported(&mut self) -> &mut Reported {
        let nothing = Reported {
            claimed: None,
            claimed_at: self.held_at,
            used: Amounts::ZERO,
        };
        self.reported.get_or_insert_with(|| Box::new(nothing))
    }

    pub(super) fn is_live(&self) -> bool {
        self.expired_at.is_none()
    }

    pub(super) fn counters(&self) -> impl Iterator<Item = &Counter> {
        self.counters.iter().map(|(counter, _)| &**counter)
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Hold>() + size_of::<Reported>() + size_of::<Kin>() + self.context.len() + size_of_val(&*self.counters) + OVERHEAD_BYTES
    }

    /// A claim in flight goes first: its commit, not the clock, decides how the hold ends.
    pub(super) fn wait(&self) -> Wait {
        if let Some(claimed_at) = self.open_claim() {
            Wait::Ledger(claimed_at.plus_seconds(CLAIM_OPEN_SECONDS))
        } else if self.is_charged() {
            Wait::Ledger(self.expires_at)
        } else {
            Wait::Expiry(self.expires_at)
        }
    }

    /// When somebody is to be told that it runs out by itself, or that it did.
    pub(super) fn told_at(&self) -> Option<Timestamp> {
        match self.wait() {
            Wait::Expiry(at) if self.tell_on_expiry => Some(at),
            _ => None,
        }
    }

    /// Whether it is recorded as used when it runs out. A parent is not: its calls are.
    fn is_charged(&self) -> bool {
        self.charge_on_expiry && self.parent().is_none()
    }

    /// Whether its requests stay held on counters of a rate after it ended so: an attempt counts, unless the ledger has recorded it. What
    /// a parent still has was not attempted.
    pub(super) fn keeps_rates(&self, end: End) -> bool {
        match end {
            _ if self.parent().is_some() => false,
            End::Settled => false,
            End::Released => true,
            End::Expired => !self.charge_on_expiry,
        }
    }

    /// When it was claimed last, if what was claimed has not all been applied.
    fn open_claim(&self) -> Option<Timestamp> {
        let reported = self.reported.as_ref()?;
        let open = match reported.claimed? {
            Claim::Final => true,
            Claim::UpTo(amounts) => amounts.beyond(reported.used) != Amounts::ZERO,
        };
        open.then_some(reported.claimed_at)
    }

    /// Claims only grow.
    pub(super) fn claim(&mut self, claim: Claim, now: Timestamp) {
        let reported = self.reported();
        reported.claimed = Some(match (reported.claimed, claim) {
            (Some(Claim::Final), _) | (_, Claim::Final) => Claim::Final,
            (Some(Claim::UpTo(earlier)), Claim::UpTo(amounts)) => Claim::UpTo(earlier.max(amounts)),
            (None, claim) => claim,
        });
        reported.claimed_at = now;
    }

    /// What was recorded of it, never less than before.
    pub(super) fn apply(&mut self, used: Amounts) {
        let reported = self.reported();
        reported.used = reported.used.max(used);
    }

    /// Moves the expiry, never to an earlier moment.
    pub(super) fn extend(&mut self, until: Timestamp) {
        let latest = self.held_at.plus_seconds(HOLD_SECONDS_MAX);
        self.expires_at = self.expires_at.max(until.min(latest));
    }

    pub(super) fn record(&self, reservation: ReservationId) -> Record {
        Record {
            workspace: self.workspace.clone(),
            reservation,
            fingerprint: self.fingerprint,
            context: self.context.clone(),
            taken: self.taken,
            before: self.counters.iter().map(|(_, before)| *before).collect(),
            held_at: self.held_at,
            expires_at: self.expires_at,
            claimed: self.claimed(),
            used: self.used(),
            end: self.expired_at.map(|_| End::Expired),
            run: self.kin.as_ref().map(|kin| kin.told()),
        }
    }
}

impl Tombstone {
    fn record(&self, reservation: ReservationId) -> Record {
        Record {
            workspace: self.workspace.clone(),
            reservation,
            fingerprint: self.fingerprint,
            context: Arc::default(),
            taken: Taken {
                rung: 0,
                output: 0,
                amounts: Amounts::ZERO,
            },
            before: Vec::new(),
            held_at: self.ended_at,
            expires_at: self.ended_at,
            claimed: None,
            used: Amounts::ZERO,
            end: Some(self.end),
            run: None,
        }
    }
}

impl Remembered {
    pub(super) fn record(&self, reservation: ReservationId) -> Record {
        match self {
            Remembered::Hold(hold) => hold.record(reservation),
            Remembered::Tombstone(tombstone) => tombstone.record(reservation),
        }
    }

    pub(super) fn live(&mut self) -> Option<&mut Hold> {
        match self {
            Remembered::Hold(hold) if hold.is_live() => Some(hold),
            _ => None,
        }
    }

    /// How it ended, and when.
    pub(super) fn ended(&self) -> Option<(End, Timestamp)> {
        match self {
            Remembered::Hold(hold) => hold.expired_at.map(|at| (End::Expired, at)),
            Remembered::Tombstone(tombstone) => Some((tombstone.end, tombstone.ended_at)),
        }
    }

    pub(super) fn workspace(&self) -> &WorkspaceId {
        match self {
            Remembered::Hold(hold) => &hold.workspace,
            Remembered::Tombstone(tombstone) => &tombstone.workspace,
        }
    }

    /// Whether it belongs to the request of this workspace and fingerprint, as far as one can tell.
    pub(super) fn is_of(&self, workspace: &WorkspaceId, fingerprint: u128) -> bool {
        let known = match self {
            Remembered::Hold(hold) => hold.fingerprint,
            Remembered::Tombstone(tombstone) => tombstone.fingerprint,
        };
        self.workspace() == workspace && (known == fingerprint || known == FINGERPRINT_UNKNOWN)
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Remembered::Hold(hold) => hold.bytes(),
            Remembered::Tombstone(_) => size_of::<Tombstone>() + OVERHEAD_BYTES,
        }
    }
}

/// Whether an end of this moment is to be forgotten by now.
pub(super) fn is_forgotten(ended_at: Timestamp, now: Timestamp) -> bool {
    ended_at.plus_seconds(TOMBSTONE_SECONDS) <= now
}
