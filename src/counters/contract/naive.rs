//! A counter store that is too simple to be wrong: lists that are walked from end to end, and nothing kept that can be computed.
//!
//! What is held on a counter is not stored; it is added up from the holds each time. It forgets no group and knows no limit of memory.

use crate::counters::{
    Applied, Begun, CLAIM_OPEN_SECONDS, Claim, Counters, CountersError, Extended, FINGERPRINT_UNKNOWN, FREE_AT_HOLDS_MAX, HOLD_SECONDS_MAX,
    HoldOutcome, HoldRequest, KEEP_ENDED_SECONDS, Progress, REBUILD_TAKEOVER_MILLIS, Rebuilt, Record, SumRow, TOMBSTONE_SECONDS,
};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::finding::Finding;
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::period::PeriodKind;
use crate::decision::rung::{Taken, first_fit};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Default)]
pub(crate) struct Naive(Mutex<State>);

#[derive(Default)]
struct State {
    groups: BTreeMap<(WorkspaceId, Whose), Group>,
    holds: Vec<Hold>,
    tokens: u64,
}

#[derive(Default)]
struct Group {
    rebuild: Option<(u64, Timestamp)>,
    built_at: Option<Timestamp>,
    rows: BTreeMap<Counter, SumRow>,
}

/// A reservation, live or ended.
struct Hold {
    record: Record,
    counters: Vec<Counter>,
    charged: bool,
    claimed_at: Timestamp,
    ended_at: Timestamp,
}

impl Hold {
    fn remaining(&self) -> Amounts {
        self.record.taken.amounts.beyond(self.record.used)
    }

    fn has_open_claim(&self) -> bool {
        let used = self.record.used;
        match self.record.claimed {
            None => false,
            Some(Claim::Final) => true,
            Some(Claim::UpTo(claimed)) => claimed.beyond(used) != Amounts::ZERO,
        }
    }

    fn expires_by_itself(&self) -> bool {
        self.record.end.is_none() && !self.charged && !self.has_open_claim()
    }

    /// Since when only the ledger can help.
    fn due_at(&self) -> Option<Timestamp> {
        match self.record.end {
            None if self.has_open_claim() => Some(self.claimed_at.plus_seconds(CLAIM_OPEN_SECONDS)),
            None if self.charged => Some(self.record.expires_at),
            _ => None,
        }
    }

    fn holds(&self, counter: &Counter) -> i64 {
        let is_attempt = counter.unit == Unit::Requests && matches!(counter.kind, PeriodKind::Minute | PeriodKind::Hour);
        let counts = match self.record.end {
            None => true,
            Some(End::Settled) => false,
            Some(End::Expired) => is_attempt && !self.charged,
            Some(End::Released) => is_attempt,
        };
        if counts && self.counters.contains(counter) {
            self.remaining().of(counter.unit)
        } else {
            0
        }
    }

    fn end(&mut self, end: End, at: Timestamp) {
        self.record.end = Some(end);
        self.ended_at = at;
    }
}

impl State {
    /// Lets everything happen that happens by itself until `now`.
    fn pass(&mut self, now: Timestamp) {
        for hold in &mut self.holds {
            if hold.expires_by_itself() && hold.record.expires_at <= now {
                hold.end(End::Expired, hold.record.expires_at);
            }
        }
        self.holds
            .retain(|hold| hold.record.end.is_none() || now < hold.ended_at.plus_seconds(TOMBSTONE_SECONDS));
    }

    fn hold(&mut self, id: ReservationId) -> Option<&mut Hold> {
        self.holds.iter_mut().find(|hold| hold.record.reservation == id)
    }

    fn of_workspace<'a>(&'a self, workspace: &'a WorkspaceId) -> impl Iterator<Item = &'a Hold> {
        self.holds.iter().filter(move |hold| hold.record.workspace == *workspace)
    }

    fn balance(&self, workspace: &WorkspaceId, counter: &Counter, named_since: Timestamp, now: Timestamp) -> Option<Balance> {
        let group = self.groups.get(&(workspace.clone(), counter.whose.clone()))?;
        let built_at = group.built_at?;
        if counter.period.end.plus_seconds(KEEP_ENDED_SECONDS) <= now {
            return None;
        }
        let is_new = counter.kind != PeriodKind::Lifetime && counter.period.start >= built_at && counter.period.start >= named_since;
        let spent = match group.rows.get(counter) {
            Some(row) => row.spent,
            None if is_new => 0,
            None => return None,
        };
        let held = self.of_workspace(workspace).map(|hold| hold.holds(counter)).sum();
        Some(Balance { spent, held })
    }

    fn balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Balance>, Vec<Whose>> {
        let known: Vec<_> = counters
            .iter()
            .map(|counter| self.balance(workspace, counter, named_since, now))
            .collect();
        let mut seen = BTreeSet::new();
        let unknown = counters.iter().zip(&known).filter(|(_, known)| known.is_none());
        let unready: Vec<Whose> = unknown
            .map(|(counter, _)| counter.whose.clone())
            .filter(|whose| seen.insert(whose.clone()))
            .collect();
        if unready.is_empty() {
            Ok(known.into_iter().flatten().collect())
        } else {
            Err(unready)
        }
    }

    fn set(&mut self, workspace: &WorkspaceId, row: &SumRow) {
        let Some(group) = self.groups.get_mut(&(workspace.clone(), row.counter.whose.clone())) else {
            return;
        };
        if group.rows.get(&row.counter).is_none_or(|known| known.version < row.version) {
            group.rows.insert(row.counter.clone(), row.clone());
        }
    }

    fn admit(&mut self, request: &HoldRequest) -> HoldOutcome {
        if let Some(hold) = self.hold(request.reservation) {
            let fingerprint = hold.record.fingerprint;
            return match hold.record.end {
                _ if fingerprint != request.fingerprint && fingerprint != FINGERPRINT_UNKNOWN => HoldOutcome::Mismatch,
                Some(end) => HoldOutcome::Ended(end),
                None => HoldOutcome::Replayed(Box::new(hold.record.clone())),
            };
        }
        let balances = match self.balances(&request.workspace, &request.counters, request.named_since, request.now) {
            Ok(balances) => balances,
            Err(groups) => return HoldOutcome::Unready(groups),
        };
        let open = self.of_workspace(&request.workspace).filter(|hold| hold.record.end.is_none());
        if open.count() >= request.open_max as usize {
            return HoldOutcome::TooManyOpen { balances };
        }
        let units: Vec<Unit> = request.counters.iter().map(|counter| counter.unit).collect();
        let Some(taken) = first_fit(&request.rungs, &units, &balances) else {
            return HoldOutcome::Short { balances };
        };
        let record = Record {
            workspace: request.workspace.clone(),
            reservation: request.reservation,
            fingerprint: request.fingerprint,
            context: request.context.clone(),
            taken,
            before: balances.clone(),
            held_at: request.now,
            expires_at: request.rungs[taken.rung].expires_at,
            claimed: None,
            used: Amounts::ZERO,
            end: None,
        };
        self.holds.push(Hold {
            record,
            counters: request.counters.clone(),
            charged: request.charge_on_expiry,
            claimed_at: request.now,
            ended_at: Timestamp::MAX,
        });
        HoldOutcome::Held { taken, before: balances }
    }

    fn progress(&mut self, workspace: &WorkspaceId, id: ReservationId, progress: Progress, now: Timestamp) {
        match (self.hold(id), progress) {
            (Some(hold), _) if hold.record.workspace != *workspace => {}
            (Some(hold), Progress::Used(used)) if hold.record.end.is_none() => hold.record.used = hold.record.used.max(used),
            (Some(hold), Progress::Ended(end)) if hold.record.end.is_none() => hold.end(end, now),
            (Some(hold), Progress::Ended(End::Settled)) if hold.record.end == Some(End::Expired) => hold.end(End::Settled, now),
            (None, Progress::Ended(end)) if id.slot() == crate::decision::id::slot(workspace) => {
                self.holds.push(unknown(workspace, id, end, now));
            }
            _ => {}
        }
    }
}

/// A reservation of which only the end is known.
fn unknown(workspace: &WorkspaceId, reservation: ReservationId, end: End, now: Timestamp) -> Hold {
    let record = Record {
        workspace: workspace.clone(),
        reservation,
        fingerprint: FINGERPRINT_UNKNOWN,
        context: Arc::default(),
        taken: Taken {
            rung: 0,
            output: 0,
            amounts: Amounts::ZERO,
        },
        before: Vec::new(),
        held_at: now,
        expires_at: now,
        claimed: None,
        used: Amounts::ZERO,
        end: Some(end),
    };
    Hold {
        record,
        counters: Vec::new(),
        charged: false,
        claimed_at: now,
        ended_at: now,
    }
}

impl Naive {
    fn at(&self, now: Timestamp) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().expect("no panic under the lock");
        state.pass(now);
        state
    }
}

#[async_trait]
impl Counters for Naive {
    async fn hold(&self, request: &HoldRequest) -> Result<HoldOutcome, CountersError> {
        let places = request.rungs.iter().flat_map(|rung| &rung.limits).map(|limit| limit.counter);
        if places.max().is_some_and(|place| place >= request.counters.len()) {
            return Err(CountersError {
                act: "hold",
                cause: "a limit names a counter that is not there".into(),
            });
        }
        Ok(self.at(request.now).admit(request))
    }

    async fn balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Vec<Balance>, Vec<Whose>>, CountersError> {
        Ok(self.at(now).balances(workspace, counters, named_since, now))
    }

    async fn find(&self, reservation: ReservationId, now: Timestamp) -> Result<Option<Record>, CountersError> {
        Ok(self.at(now).hold(reservation).map(|hold| hold.record.clone()))
    }

    async fn claim(
        &self,
        reservation: ReservationId,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Result<Option<Record>, Vec<Whose>>, CountersError> {
        let mut state = self.at(now);
        let Some(hold) = state.hold(reservation) else {
            return Ok(Ok(None));
        };
        if hold.record.end.is_none() {
            hold.claimed_at = now;
            hold.record.claimed = Some(match (hold.record.claimed, claim) {
                (Some(Claim::UpTo(before)), Claim::UpTo(more)) => Claim::UpTo(before.max(more)),
                (Some(Claim::Final), _) => Claim::Final,
                (_, claim) => claim,
            });
        }
        Ok(Ok(Some(hold.record.clone())))
    }

    async fn apply(
        &self,
        workspace: &WorkspaceId,
        applied: &Applied,
        read: &[Counter],
        now: Timestamp,
    ) -> Result<Vec<Option<Balance>>, CountersError> {
        let mut state = self.at(now);
        applied.rows.iter().for_each(|row| state.set(workspace, row));
        if let Some((id, progress)) = applied.reservation {
            state.progress(workspace, id, progress, now);
        }
        state.pass(now);
        Ok(read
            .iter()
            .map(|counter| state.balance(workspace, counter, Timestamp::MAX, now))
            .collect())
    }

    async fn extend(&self, reservation: ReservationId, until: Timestamp, now: Timestamp) -> Result<Extended, CountersError> {
        let mut state = self.at(now);
        let Some(hold) = state.hold(reservation) else {
            return Ok(Extended::Unknown);
        };
        let record = &mut hold.record;
        Ok(match record.end {
            Some(end) => Extended::Ended(end),
            None => {
                let latest = record.held_at.plus_seconds(HOLD_SECONDS_MAX);
                record.expires_at = record.expires_at.max(until.min(latest));
                Extended::Until(record.expires_at)
            }
        })
    }

    async fn free_at(
        &self,
        workspace: &WorkspaceId,
        counter: &Counter,
        ceiling: i64,
        room: i64,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CountersError> {
        let state = self.at(now);
        let Some(balance) = state.balance(workspace, counter, Timestamp::MIN, now) else {
            return Ok(None);
        };
        let mut leaving: Vec<&Hold> = state.of_workspace(workspace).filter(|hold| hold.expires_by_itself()).collect();
        leaving.sort_by_key(|hold| (hold.record.expires_at, hold.record.reservation));
        leaving.truncate(FREE_AT_HOLDS_MAX);
        let stays = counter.unit == Unit::Requests && counter.kind.is_rate();
        let mut taken = balance.spent + balance.held;
        let mut moments = vec![(now, 0)];
        moments.extend(
            leaving
                .iter()
                .map(|hold| (hold.record.expires_at, if stays { 0 } else { hold.holds(counter) })),
        );
        Ok(moments.into_iter().find_map(|(at, freed)| {
            taken -= freed;
            (taken + room <= ceiling).then_some(at)
        }))
    }

    async fn begin(&self, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> Result<Begun, CountersError> {
        let mut state = self.at(now);
        state.tokens += 1;
        let token = state.tokens;
        let group = state.groups.entry((workspace.clone(), whose.clone())).or_default();
        let takeover = REBUILD_TAKEOVER_MILLIS * 1_000;
        if group.rebuild.is_some_and(|(_, begun_at)| now < begun_at.plus_micros(takeover)) {
            return Ok(Begun::Wait);
        }
        group.rebuild = Some((token, now));
        Ok(Begun::Started { token, adopt: Vec::new() })
    }

    async fn finish(&self, workspace: &WorkspaceId, whose: &Whose, rebuilt: &Rebuilt<'_>, now: Timestamp) -> Result<bool, CountersError> {
        let mut state = self.at(now);
        let Some(group) = state.groups.get_mut(&(workspace.clone(), whose.clone())) else {
            return Ok(false);
        };
        if group.rebuild.is_none_or(|(current, _)| current != rebuilt.token) {
            return Ok(false);
        }
        group.rebuild = None;
        group.built_at = group.built_at.or(Some(now));
        for (reservation, progress) in rebuilt.adopted {
            state.progress(workspace, *reservation, *progress, now);
        }
        rebuilt.rows.iter().for_each(|row| state.set(workspace, row));
        Ok(true)
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Record>, CountersError> {
        let state = self.at(now);
        let due = state.holds.iter().filter(|hold| hold.due_at().is_some_and(|at| at <= now));
        Ok(due.map(|hold| hold.record.clone()).take(limit).collect())
    }

    async fn inspect(&self, _now: Timestamp) -> Result<Vec<Finding>, CountersError> {
        Ok(Vec::new())
    }

    async fn open(&self) -> Result<u64, CountersError> {
        let state = self.0.lock().expect("no panic under the lock");
        Ok(state.holds.iter().filter(|hold| hold.record.end.is_none()).count() as u64)
    }
}
