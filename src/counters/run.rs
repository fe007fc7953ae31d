//! Runs: many calls under one ceiling. A reservation becomes a parent when a call first names it, and each call is a reservation of its own
//! that takes its need over from the parent's hold. So no counter changes by it, no budget is asked, and the calls together can never hold
//! more than the parent took.
//!
//! What a call did not use goes back to its parent while that one lives, and is free otherwise. What it used stays used: the parent has that
//! much less, also where a call used more than it held.

use super::Record;
use crate::decision::amount::Amounts;
use crate::decision::counter::Whose;
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::rung::Rung;
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use std::sync::Arc;

/// What a reservation is in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    /// Calls draw from it. What they have used is the [`used`](Record::used) of its record.
    Parent(Lending),
    /// It draws from this one.
    Child(ReservationId),
}

/// What a parent has given to its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lending {
    /// What its live children hold.
    pub lent: Amounts,
    /// How many calls were ever admitted; none is given back.
    pub calls: i64,
    /// How many children are live.
    pub children: i64,
}

/// A request of a call to take its need from a parent's hold.
#[derive(Clone, Debug)]
pub struct ChildRequest {
    pub workspace: WorkspaceId,
    pub reservation: ReservationId,
    pub fingerprint: u128,
    pub parent: ReservationId,
    /// When the parent was held, as the caller knows it: what it knows of an earlier one of that id is not to be used.
    pub parent_held_at: Timestamp,
    /// How many calls the parent admits in all.
    pub calls_max: Option<i64>,
    /// At least one. Their limits are not asked: the parent's rest is the only one.
    pub rungs: Vec<Rung>,
    pub open_max: u32,
    pub charge_on_expiry: bool,
    pub tell_on_expiry: bool,
    pub context: Arc<[u8]>,
    pub now: Timestamp,
}

/// The answer to a call of a run. Where nothing is held, nothing has changed.
#[derive(Clone, PartialEq, Debug)]
pub enum ChildOutcome {
    /// Held now: no longer than its parent.
    Held(Box<Record>),
    /// Held earlier, by the same request.
    Replayed(Box<Record>),
    /// The id belongs to another request.
    Mismatch,
    /// The call's own reservation has ended.
    Ended(End),
    /// The workspace has no such parent, or another one of that id by now.
    NoParent,
    ParentEnded(End),
    /// The named reservation cannot be a parent.
    Unfit(Unfit),
    /// The workspace has `open_max` reservations open.
    TooManyOpen,
    /// The rest of this parent does not do for any rung, or it admits no more calls.
    Exhausted(Box<Record>),
    /// These groups of counters must be rebuilt first.
    Unready(Vec<Whose>),
}

/// Why a live reservation cannot be a parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// It draws from another one: runs have one level.
    Child,
    /// Usage was reported for it, so it is a call of its own.
    Reported,
}
