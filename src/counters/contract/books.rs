//! A ledger that cannot fail, for [`World`](super::world::World): one row for each counter, one end for each reservation.

use super::desk::row;
use super::op::BUDGETS;
use super::world::CEILING;
use crate::counters::{Applied, Progress, SumRow};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Counter, Whose};
use crate::decision::grant::{self, Grant, Pot, Purse, Source};
use crate::decision::id::{BudgetId, GrantId, ReservationId, WorkspaceId};
use crate::decision::period::{Period, PeriodKind};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use std::collections::BTreeMap;

/// How a reservation stands.
#[derive(Clone, Default)]
pub(super) struct Standing {
    /// What it was held for last.
    pub(super) held: Amounts,
    pub(super) counters: Vec<Counter>,
    pub(super) charged: bool,
    pub(super) held_at: Option<Timestamp>,
    pub(super) is_call: bool,
    pub(super) reported: Amounts,
    pub(super) end: Option<End>,
}

#[derive(Default)]
pub(super) struct Books {
    sums: BTreeMap<(WorkspaceId, Counter), SumRow>,
    versions: i64,
    standings: BTreeMap<ReservationId, Standing>,
    /// The grants of each budget.
    pots: BTreeMap<(WorkspaceId, BudgetId), Pot>,
    grants: u128,
}

/// The budget whose grants raise a counter, if there is one: lifetimes of the workspace, and of its users together with their hours.
pub(super) fn budget_of(counter: &Counter) -> Option<BudgetId> {
    let name = match (&counter.whose, counter.unit, counter.kind) {
        (Whose::Workspace, Unit::Tokens, PeriodKind::Lifetime) => "all",
        (Whose::User(_), Unit::Tokens, PeriodKind::Lifetime | PeriodKind::Hour) => "users",
        _ => return None,
    };
    BudgetId::parse(name).ok()
}

pub(super) fn budget(number: usize) -> BudgetId {
    BudgetId::parse(["all", "users"][number]).expect("a budget")
}

impl Books {
    pub(super) fn rows(&self) -> impl Iterator<Item = &SumRow> {
        self.sums.values()
    }

    pub(super) fn standing(&self, id: ReservationId) -> Standing {
        self.standings.get(&id).cloned().unwrap_or_default()
    }

    /// Notes what a reservation was held for, on which counters.
    pub(super) fn open(&mut self, id: ReservationId, held: Amounts, counters: Vec<Counter>, charged: bool, now: Timestamp) {
        let standing = self.standings.entry(id).or_default();
        (standing.held, standing.counters, standing.charged) = (held, counters, charged);
        (standing.held_at, standing.is_call) = (Some(now), false);
    }

    /// Notes the same of a call of a run, which holds on the counters of its parent.
    pub(super) fn open_call(&mut self, id: ReservationId, parent: ReservationId, held: Amounts, charged: bool, now: Timestamp) {
        self.open(id, held, self.standing(parent).counters, charged, now);
        self.standings.entry(id).or_default().is_call = true;
    }

    /// Records how far a reservation has come: this much in all, and perhaps its end.
    pub(super) fn post(&mut self, workspace: &WorkspaceId, id: ReservationId, used: Amounts, end: Option<End>, now: Timestamp) {
        let standing = self.standings.entry(id).or_default();
        let more = used.beyond(standing.reported);
        standing.reported = standing.reported.max(used);
        standing.end = end;
        let at = standing.held_at.unwrap_or(now);
        for counter in standing.counters.clone() {
            self.add(workspace, &counter, more.of(counter.unit), (at, now));
        }
    }

    /// Adds to a counter's row, which is born if it is missing, and returns it.
    pub(super) fn add(&mut self, workspace: &WorkspaceId, counter: &Counter, amount: i64, (at, now): (Timestamp, Timestamp)) -> SumRow {
        self.versions += 1;
        let key = (workspace.clone(), counter.clone());
        let sum = self.sums.entry(key).or_insert_with(|| row(counter, 0, 0));
        sum.spent += amount;
        sum.version = self.versions;
        let pot = budget_of(counter).and_then(|budget| self.pots.get_mut(&(workspace.clone(), budget)));
        if let Some(pot) = pot {
            for moment in [at, now] {
                let missing = grant::unpaid(sum.spent, CEILING, sum.paid);
                let payments = pot.pay(counter.unit, missing, moment, Period::LIFETIME);
                sum.paid += payments.iter().map(|payment| payment.amount).sum::<i64>();
            }
        }
        sum.clone()
    }

    pub(super) fn give(&mut self, workspace: &WorkspaceId, budget: BudgetId, amount: i64, expires_at: Option<Timestamp>, now: Timestamp) {
        self.grants += 1;
        self.versions += 1;
        let grant = Grant {
            id: GrantId::from_uuid(uuid::Uuid::from_u128(self.grants)),
            key: None,
            budget: budget.clone(),
            unit: Unit::Tokens,
            amount,
            priority: 0,
            effective_at: now,
            expires_at,
            recurrence: None,
            rollover_min: None,
            rollover_max: None,
            source: Source::Manual,
            paid: None,
            created_at: now,
            voided_at: None,
        };
        self.pots.entry((workspace.clone(), budget)).or_default().add(grant);
    }

    /// What the grants of all budgets have left.
    pub(super) fn purses(&self, workspace: &WorkspaceId, now: Timestamp) -> Vec<Purse> {
        let purse = |number| {
            let budget = budget(number);
            let pot = self.pots.get(&(workspace.clone(), budget.clone())).cloned().unwrap_or_default();
            Purse {
                unit: Unit::Tokens,
                left: pot.left(Unit::Tokens, now, Period::LIFETIME),
                until: pot.until(now, Period::LIFETIME),
                version: self.versions,
                budget,
            }
        };
        (0..BUDGETS).map(purse).collect()
    }

    /// What brings a store to where a reservation stands now.
    pub(super) fn commit(&self, workspace: &WorkspaceId, id: ReservationId, now: Timestamp) -> Applied {
        let standing = self.standing(id);
        let row = |counter: &Counter| self.sums.get(&(workspace.clone(), counter.clone())).cloned();
        let progress = match standing.end {
            None => Progress::Used(standing.reported),
            Some(end) => Progress::ended(end, Some(standing.reported).filter(|_| standing.is_call)),
        };
        Applied {
            rows: standing.counters.iter().filter_map(row).collect(),
            reservation: Some((id, progress)),
            purses: self.purses(workspace, now),
        }
    }

    /// The rows of a group, those of `named` born where they were missing.
    pub(super) fn group(&mut self, workspace: &WorkspaceId, whose: &Whose, named: &[Counter]) -> Vec<SumRow> {
        for counter in named.iter().filter(|counter| counter.whose == *whose) {
            if !self.sums.contains_key(&(workspace.clone(), counter.clone())) {
                self.add(workspace, counter, 0, (Timestamp::MIN, Timestamp::MIN));
            }
        }
        let of_group = self
            .sums
            .iter()
            .filter(|((of, counter), _)| of == workspace && counter.whose == *whose);
        of_group.map(|(_, row)| row.clone()).collect()
    }
}
