//! A counter store that is too simple to be wrong: lists that are walked from end to end, and nothing kept that can be computed.
//!
//! What is held on a counter is not stored; it is added up from the holds each time. It forgets no group and knows no limit of memory.
//!
//! Unlike the store in memory it can lose all it knows, or come back as it was earlier, or do without a rule: so there it is also the store
//! of the model, which tries out what that may lead to.

use crate::counters::run::{ChildOutcome, ChildRequest, Run};
use crate::counters::{
    Applied, Begun, CLAIM_OPEN_SECONDS, Claim, Counters, CountersError, Extended, FINGERPRINT_UNKNOWN, FREE_AT_HOLDS_MAX, HOLD_SECONDS_MAX,
    HoldOutcome, HoldRequest, KEEP_ENDED_SECONDS, PURSE_HOLDERS_MAX, Progress, REBUILD_CLOCKS_MILLIS, REBUILD_JOIN_MILLIS,
    REBUILD_JOIN_MILLIS_MAX, Rebuilt, Record, SumRow, TOMBSTONE_SECONDS,
};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::finding::Finding;
use crate::decision::grant::{Purse, PurseUse};
use crate::decision::id::{BudgetId, ReservationId, WorkspaceId};
use crate::decision::period::PeriodKind;
use crate::decision::rung::{Taken, first_fit};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

mod run;

#[derive(Default)]
pub(crate) struct Naive(Mutex<State>);

/// Rules that a model may take away, to see what they are for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rules {
    /// A row is only replaced by a newer one.
    pub(crate) newer_only: bool,
    /// A finish needs the token of the current begin.
    pub(crate) token: bool,
    /// What another process left is not live before it is rebuilt and compared with the ledger.
    pub(crate) epoch: bool,
    /// A group that another process left is not live before its rebuild has ended.
    pub(crate) live: bool,
    /// What was held in an earlier generation of its group has ended.
    pub(crate) generation: bool,
    /// What a call used that had given back its hold is taken from its run.
    pub(crate) late_use: bool,
}

impl Rules {
    pub(crate) const ALL: Rules = Rules {
        newer_only: true,
        token: true,
        epoch: true,
        live: true,
        generation: true,
        late_use: true,
    };
}

impl Default for Rules {
    fn default() -> Self {
        Rules::ALL
    }
}

#[derive(Clone, Default, Debug)]
pub(crate) struct State {
    rules: Rules,
    groups: BTreeMap<(WorkspaceId, Whose), Group>,
    holds: Vec<Hold>,
    tokens: u64,
    serials: u64,
    /// Of the process that runs; each has its own.
    epoch: u64,
    /// In which epoch the open holds of a workspace were last compared with the ledger.
    compared: BTreeMap<WorkspaceId, u64>,
}

#[derive(Clone, Default, Debug)]
struct Group {
    epoch: u64,
    generation: u64,
    /// Its token, when the last one began or joined, and for how many milliseconds others wait.
    rebuild: Option<(u64, Timestamp, i64)>,
    built_at: Option<Timestamp>,
    rows: BTreeMap<Counter, SumRow>,
    /// By budget, each with the counters that held on it and their limits then.
    purses: BTreeMap<(BudgetId, Unit), (Purse, BTreeMap<Counter, i64>)>,
}

/// A reservation, live or ended.
#[derive(Clone, Debug)]
struct Hold {
    record: Record,
    counters: Vec<Counter>,
    /// Of the group of each counter.
    generations: Vec<u64>,
    charged: bool,
    /// Somebody wants to hear of its end by itself, and no end of it was applied.
    untold: bool,
    claimed_at: Timestamp,
    ended_at: Timestamp,
    /// Tells it from others that had its id.
    serial: u64,
    /// Of a call, which hold it draws from.
    parent: Option<u64>,
    /// Of a parent, one for each call.
    lines: Vec<run::Line>,
}

impl Hold {
    fn remaining(&self) -> Amounts {
        let lent = match self.record.run {
            Some(Run::Parent(lending)) => lending.lent,
            _ => Amounts::ZERO,
        };
        self.record.taken.amounts.beyond(self.record.used.plus(lent))
    }

    fn is_parent(&self) -> bool {
        matches!(self.record.run, Some(Run::Parent(_)))
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
            Some(End::Expired) if self.untold => Some(self.record.expires_at),
            _ => None,
        }
    }

    fn holds(&self, counter: &Counter) -> i64 {
        let is_attempt = counter.unit == Unit::Requests && matches!(counter.kind, PeriodKind::Minute | PeriodKind::Hour);
        let counts = match self.record.end {
            None => true,
            Some(_) if self.is_parent() => false,
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
    pub(crate) fn under(rules: Rules) -> Self {
        State { rules, ..State::default() }
    }

    /// A new process that knows what an earlier one knew at some time, which may be nothing.
    pub(crate) fn next_process(&self, knowing: &State) -> Self {
        State {
            rules: self.rules,
            tokens: self.tokens,
            serials: self.serials,
            epoch: self.epoch + 1,
            ..knowing.clone()
        }
    }

    /// The same process, whose groups are gone.
    pub(crate) fn without_groups(&self) -> Self {
        State {
            groups: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Lets everything happen that happens by itself until `now`.
    fn pass(&mut self, now: Timestamp) {
        for hold in &mut self.holds {
            if hold.expires_by_itself() && hold.record.expires_at <= now {
                hold.end(End::Expired, hold.record.expires_at);
            }
        }
        self.holds
            .retain(|hold| hold.record.end.is_none() || now < hold.ended_at.plus_seconds(TOMBSTONE_SECONDS));
        self.follow_calls();
    }

    fn hold(&mut self, id: ReservationId) -> Option<&mut Hold> {
        self.holds.iter_mut().find(|hold| hold.record.reservation == id)
    }

    fn of_workspace<'a>(&'a self, workspace: &'a WorkspaceId) -> impl Iterator<Item = &'a Hold> {
        self.holds.iter().filter(move |hold| hold.record.workspace == *workspace)
    }

    /// The generation of a group, 0 if it is not there.
    fn generation(&self, workspace: &WorkspaceId, whose: &Whose) -> u64 {
        let group = self.groups.get(&(workspace.clone(), whose.clone()));
        group.map_or(0, |group| group.generation)
    }

    /// Whether a hold counts nothing any more on some of its counters.
    fn is_lost(&self, hold: &Hold) -> bool {
        let lost = |(counter, generation): (&Counter, &u64)| self.generation(&hold.record.workspace, &counter.whose) != *generation;
        self.rules.generation && hold.counters.iter().zip(&hold.generations).any(lost)
    }

    fn is_compared(&self, workspace: &WorkspaceId) -> bool {
        !self.rules.epoch || self.compared.get(workspace) == Some(&self.epoch)
    }

    /// A record as it is told: what was lost has ended for whoever asks.
    fn told(&self, id: ReservationId) -> Option<Record> {
        let hold = self.holds.iter().find(|hold| hold.record.reservation == id)?;
        let ended = hold.record.end.is_none() && self.is_lost(hold);
        Some(Record {
            end: if ended { Some(End::Expired) } else { hold.record.end },
            ..hold.record.clone()
        })
    }

    fn balance(&self, workspace: &WorkspaceId, counter: &Counter, named_since: Timestamp, now: Timestamp) -> Option<Balance> {
        let group = self.groups.get(&(workspace.clone(), counter.whose.clone()))?;
        if self.rules.epoch && group.epoch != self.epoch {
            return None;
        }
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
        let held = self.held(workspace, counter);
        Some(Balance { spent, held, granted: 0 })
    }

    /// What grants paid of a counter.
    fn paid(&self, workspace: &WorkspaceId, counter: &Counter) -> i64 {
        let group = self.groups.get(&(workspace.clone(), counter.whose.clone()));
        group.and_then(|group| group.rows.get(counter)).map_or(0, |row| row.paid)
    }

    /// What live holds of the group's generation hold on a counter.
    fn held(&self, workspace: &WorkspaceId, counter: &Counter) -> i64 {
        let generation = self.generation(workspace, &counter.whose);
        let held = self.of_workspace(workspace).map(|hold| {
            let place = hold.counters.iter().position(|held_on| held_on == counter);
            let counts = place.is_some_and(|place| hold.generations[place] == generation);
            if counts { hold.holds(counter) } else { 0 }
        });
        held.sum()
    }

    /// How much a counter holds on grants. Where its sum may be old, all that it holds.
    fn on_grants(&self, workspace: &WorkspaceId, counter: &Counter, hard: i64, now: Timestamp) -> i64 {
        let held = self.held(workspace, counter);
        let Some(group) = self.groups.get(&(workspace.clone(), counter.whose.clone())) else {
            return 0;
        };
        if counter.period.end.plus_seconds(KEEP_ENDED_SECONDS) <= now {
            return 0;
        }
        if group.built_at.is_none() || (self.rules.epoch && group.epoch != self.epoch) {
            return held;
        }
        let row = group.rows.get(counter);
        let (spent, paid) = row.map_or((0, 0), |row| (row.spent, row.paid));
        (spent + held - hard - paid).min(held).max(0)
    }

    /// What a purse has left for a counter; `None`: only the ledger knows.
    fn left(&self, workspace: &WorkspaceId, used: &PurseUse, counter: &Counter, now: Timestamp) -> Option<i64> {
        let own = self.groups.get(&(workspace.clone(), Whose::Workspace))?;
        own.built_at?;
        if self.rules.epoch && own.epoch != self.epoch {
            return None;
        }
        let (purse, holders) = own
            .purses
            .get(&(used.budget.clone(), counter.unit))
            .filter(|(purse, _)| now < purse.until)?;
        let others = holders.iter().filter(|(other, _)| *other != counter);
        let held: Vec<i64> = others
            .map(|(other, hard)| self.on_grants(workspace, other, *hard, now))
            .filter(|held| *held > 0)
            .collect();
        let left = purse.left - held.iter().sum::<i64>();
        Some(if held.len() < PURSE_HOLDERS_MAX { left.max(0) } else { 0 })
    }

    fn set_purse(&mut self, workspace: &WorkspaceId, purse: &Purse) {
        let Some(own) = self.groups.get_mut(&(workspace.clone(), Whose::Workspace)) else {
            return;
        };
        if self.rules.epoch && own.epoch != self.epoch {
            return;
        }
        let known = own
            .purses
            .entry((purse.budget.clone(), purse.unit))
            .or_insert_with(|| (purse.clone(), BTreeMap::new()));
        if (purse.version, purse.until) > (known.0.version, known.0.until) {
            known.0 = purse.clone();
        }
    }

    fn note_holder(&mut self, workspace: &WorkspaceId, used: &PurseUse, counter: &Counter, now: Timestamp) {
        let own = (workspace.clone(), Whose::Workspace);
        if self.on_grants(workspace, counter, used.hard, now) == 0 {
            return;
        }
        let purse = (used.budget.clone(), counter.unit);
        let Some((_, holders)) = self.groups.get(&own).and_then(|own| own.purses.get(&purse)).cloned() else {
            return;
        };
        let is_known = holders.contains_key(counter);
        let mut kept = holders;
        kept.retain(|other, hard| is_known || self.on_grants(workspace, other, *hard, now) > 0);
        kept.insert(counter.clone(), used.hard);
        if let Some((_, holders)) = self.groups.get_mut(&own).and_then(|own| own.purses.get_mut(&purse)) {
            *holders = kept;
        }
    }

    fn balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<Balance>, Vec<Whose>> {
        let known: Vec<_> = counters
            .iter()
            .map(|counter| self.balance(workspace, counter, named_since, now))
            .collect();
        let mut seen = BTreeSet::new();
        let unknown = counters.iter().zip(&known).filter(|(_, known)| known.is_none());
        let mut unready: Vec<Whose> = unknown
            .map(|(counter, _)| counter.whose.clone())
            .filter(|whose| seen.insert(whose.clone()))
            .collect();
        let left: Vec<Option<i64>> = purses
            .iter()
            .map(|used| self.left(workspace, used, &counters[used.counter], now))
            .collect();
        if left.contains(&None) && seen.insert(Whose::Workspace) {
            unready.push(Whose::Workspace);
        }
        if unready.is_empty() {
            let mut balances: Vec<Balance> = known.into_iter().flatten().collect();
            for (used, left) in purses.iter().zip(left) {
                balances[used.counter].granted = self.paid(workspace, &counters[used.counter]) + left.unwrap_or(0);
            }
            Ok(balances)
        } else {
            Err(unready)
        }
    }

    fn set(&mut self, workspace: &WorkspaceId, row: &SumRow) {
        let Some(group) = self.groups.get_mut(&(workspace.clone(), row.counter.whose.clone())) else {
            return;
        };
        if self.rules.epoch && group.epoch != self.epoch {
            return;
        }
        let is_newer = group.rows.get(&row.counter).is_none_or(|known| known.version < row.version);
        if is_newer || !self.rules.newer_only {
            group.rows.insert(row.counter.clone(), row.clone());
        }
    }

    /// What is known of a request that wants to hold; of nothing that died it remains ignorant.
    fn recall(&mut self, workspace: &WorkspaceId, id: ReservationId, fingerprint: u128) -> Option<HoldOutcome> {
        let compared = self.is_compared(workspace);
        let hold = self.holds.iter().find(|hold| hold.record.reservation == id)?;
        let known = hold.record.fingerprint;
        match hold.record.end {
            _ if known != fingerprint && known != FINGERPRINT_UNKNOWN => Some(HoldOutcome::Mismatch),
            Some(end) => Some(HoldOutcome::Ended(end)),
            None if !compared => Some(HoldOutcome::Unready(vec![Whose::Workspace])),
            None if !self.is_lost(hold) => Some(HoldOutcome::Replayed(Box::new(hold.record.clone()))),
            None => {
                self.holds.retain(|hold| hold.record.reservation != id);
                self.follow_calls();
                None
            }
        }
    }

    fn serial(&mut self) -> u64 {
        self.serials += 1;
        self.serials
    }

    fn admit(&mut self, request: &HoldRequest) -> HoldOutcome {
        let compared = self.is_compared(&request.workspace);
        if let Some(known) = self.recall(&request.workspace, request.reservation, request.fingerprint) {
            return known;
        }
        let balances = match self.balances(
            &request.workspace,
            &request.counters,
            &request.purses,
            request.named_since,
            request.now,
        ) {
            Ok(balances) => balances,
            Err(groups) => return HoldOutcome::Unready(groups),
        };
        let open = self
            .of_workspace(&request.workspace)
            .filter(|hold| hold.record.end.is_none())
            .count();
        if !compared && open > 0 {
            return HoldOutcome::Unready(vec![Whose::Workspace]);
        }
        self.compared.insert(request.workspace.clone(), self.epoch);
        if open >= request.open_max as usize {
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
            run: None,
        };
        let serial = self.serial();
        let of = |counter: &Counter| self.generation(&request.workspace, &counter.whose);
        let generations = request.counters.iter().map(of).collect();
        self.holds.push(Hold {
            record,
            generations,
            counters: request.counters.clone(),
            charged: request.charge_on_expiry,
            untold: request.tell_on_expiry,
            claimed_at: request.now,
            ended_at: Timestamp::MAX,
            serial,
            parent: None,
            lines: Vec::new(),
        });
        for used in &request.purses {
            self.note_holder(&request.workspace, used, &request.counters[used.counter], request.now);
        }
        HoldOutcome::Held { taken, before: balances }
    }

    fn progress(&mut self, workspace: &WorkspaceId, id: ReservationId, progress: Progress, now: Timestamp) {
        let (end, used) = match progress {
            Progress::Used(used) => (None, Some(used)),
            Progress::Ended(end) => (Some(end), None),
            Progress::EndedUsing(end, used) => (Some(end), Some(used)),
        };
        if let Some(hold) = self.hold(id).filter(|hold| hold.record.workspace == *workspace) {
            hold.untold &= end.is_none();
        }
        match (self.hold(id), end) {
            (Some(hold), _) if hold.record.workspace != *workspace => {}
            (Some(hold), None) if hold.record.end.is_none() => hold.use_in_all(used),
            (Some(hold), Some(end)) if hold.record.end.is_none() => {
                let all = hold.record.taken.amounts;
                if hold.parent.is_some() {
                    hold.use_in_all(used.or((end == End::Settled).then_some(all)));
                }
                hold.end(end, now);
            }
            (Some(hold), Some(End::Settled)) if hold.record.end == Some(End::Expired) => {
                let (serial, attempts) = (hold.serial, hold.attempts());
                let used = used.unwrap_or(hold.record.taken.amounts);
                let more = used.beyond(hold.record.used).beyond(attempts);
                hold.end(End::Settled, now);
                self.use_late(serial, more);
            }
            (None, Some(end)) if id.slot() == crate::decision::id::slot(workspace) => {
                self.holds.push(unknown(workspace, id, end, now));
            }
            _ => {}
        }
        self.follow_calls();
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
        run: None,
    };
    Hold {
        record,
        generations: Vec::new(),
        counters: Vec::new(),
        charged: false,
        untold: false,
        claimed_at: now,
        ended_at: now,
        serial: 0,
        parent: None,
        lines: Vec::new(),
    }
}

impl Naive {
    pub(crate) fn of(state: State) -> Self {
        Self(Mutex::new(state))
    }

    pub(crate) fn state(&self) -> State {
        self.0.lock().expect("no panic under the lock").clone()
    }

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

    async fn hold_child(&self, request: &ChildRequest) -> Result<ChildOutcome, CountersError> {
        Ok(self.at(request.now).admit_child(request))
    }

    async fn balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Vec<Balance>, Vec<Whose>>, CountersError> {
        Ok(self.at(now).balances(workspace, counters, purses, named_since, now))
    }

    async fn find(&self, reservation: ReservationId, now: Timestamp) -> Result<Option<Record>, CountersError> {
        Ok(self.at(now).told(reservation))
    }

    async fn claim(
        &self,
        reservation: ReservationId,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Result<Option<Record>, Vec<Whose>>, CountersError> {
        let mut state = self.at(now);
        let Some(told) = state.told(reservation) else {
            return Ok(Ok(None));
        };
        if told.end.is_none() && !state.is_compared(&told.workspace) {
            return Ok(Err(vec![Whose::Workspace]));
        }
        let Some(hold) = state.hold(reservation).filter(|hold| told.end.is_none() && !hold.is_parent()) else {
            return Ok(Ok(Some(told)));
        };
        hold.claimed_at = now;
        hold.record.claimed = Some(match (hold.record.claimed, claim) {
            (Some(Claim::UpTo(before)), Claim::UpTo(more)) => Claim::UpTo(before.max(more)),
            (Some(Claim::Final), _) => Claim::Final,
            (_, claim) => claim,
        });
        Ok(Ok(Some(hold.record.clone())))
    }

    async fn apply(
        &self,
        workspace: &WorkspaceId,
        applied: &Applied,
        read: &[Counter],
        purses: &[PurseUse],
        now: Timestamp,
    ) -> Result<Vec<Option<Balance>>, CountersError> {
        let mut state = self.at(now);
        applied.rows.iter().for_each(|row| state.set(workspace, row));
        applied.purses.iter().for_each(|purse| state.set_purse(workspace, purse));
        if let Some((id, progress)) = applied.reservation {
            state.progress(workspace, id, progress, now);
        }
        state.pass(now);
        let mut balances: Vec<Option<Balance>> = read
            .iter()
            .map(|counter| state.balance(workspace, counter, Timestamp::MAX, now))
            .collect();
        for used in purses {
            let left = state.left(workspace, used, &read[used.counter], now);
            if let Some(balance) = &mut balances[used.counter] {
                balance.granted = state.paid(workspace, &read[used.counter]) + left.unwrap_or(0);
            }
        }
        Ok(balances)
    }

    async fn extend(&self, reservation: ReservationId, until: Timestamp, now: Timestamp) -> Result<Extended, CountersError> {
        let mut state = self.at(now);
        let told = state.told(reservation);
        let run_ends_at = state.run_ends_at(reservation);
        let Some((hold, told)) = state.hold(reservation).zip(told) else {
            return Ok(Extended::Unknown);
        };
        let record = &mut hold.record;
        Ok(match told.end {
            Some(end) => Extended::Ended(end),
            None => {
                let latest = record.held_at.plus_seconds(HOLD_SECONDS_MAX).min(run_ends_at);
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
        leaving.retain(|hold| !state.is_lost(hold));
        leaving.sort_by_key(|hold| (hold.record.expires_at, hold.record.reservation));
        let beyond = leaving.len() > FREE_AT_HOLDS_MAX;
        leaving.truncate(FREE_AT_HOLDS_MAX);
        let stays = counter.unit == Unit::Requests && counter.kind.is_rate();
        let mut taken = balance.spent + balance.held;
        let mut moments = vec![(now, 0)];
        moments.extend(
            leaving
                .iter()
                .map(|hold| (hold.record.expires_at, if stays { 0 } else { state.freed_by_expiry(hold, counter) })),
        );
        let enough = moments.into_iter().find_map(|(at, freed)| {
            taken -= freed;
            (taken + room <= ceiling).then_some(at)
        });
        let looked_until = leaving.last().filter(|_| beyond && !stays).map(|hold| hold.record.expires_at);
        Ok(enough.or(looked_until))
    }

    async fn begin(&self, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> Result<Begun, CountersError> {
        let mut state = self.at(now);
        state.tokens += 1;
        let mut token = state.tokens;
        let (epoch, live) = (state.epoch, state.rules.live);
        let new = || Group {
            epoch,
            generation: token,
            ..Group::default()
        };
        let group = state.groups.entry((workspace.clone(), whose.clone())).or_insert_with(new);
        let mut wait = REBUILD_JOIN_MILLIS;
        if let Some((running, begun_at, millis)) = group.rebuild.filter(|_| group.epoch == epoch) {
            if now < begun_at.plus_micros(millis * 1_000) && begun_at < now.plus_micros(REBUILD_CLOCKS_MILLIS * 1_000) {
                return Ok(Begun::Wait);
            }
            (token, wait) = (running, REBUILD_JOIN_MILLIS_MAX.min(2 * millis));
        }
        if group.epoch != epoch {
            (group.epoch, group.built_at) = (epoch, group.built_at.filter(|_| !live));
        }
        group.rebuild = Some((token, now, wait));
        let compared = state.is_compared(workspace);
        let open = state.of_workspace(workspace).filter(|hold| hold.record.end.is_none() && !compared);
        let adopt: Vec<ReservationId> = open.map(|hold| hold.record.reservation).collect();
        if adopt.is_empty() {
            state.compared.insert(workspace.clone(), epoch);
        }
        Ok(Begun::Started { token, adopt })
    }

    async fn finish(&self, workspace: &WorkspaceId, whose: &Whose, rebuilt: &Rebuilt<'_>, now: Timestamp) -> Result<bool, CountersError> {
        let mut state = self.at(now);
        let (rules, epoch) = (state.rules, state.epoch);
        let Some(group) = state.groups.get_mut(&(workspace.clone(), whose.clone())) else {
            return Ok(false);
        };
        if rules.token && (group.epoch != epoch || group.rebuild.is_none_or(|(current, ..)| current != rebuilt.token)) {
            return Ok(false);
        }
        group.rebuild = None;
        group.built_at = group.built_at.or(Some(now));
        state.compared.insert(workspace.clone(), epoch);
        for (reservation, progress) in rebuilt.adopted {
            state.progress(workspace, *reservation, *progress, now);
        }
        rebuilt.rows.iter().for_each(|row| state.set(workspace, row));
        rebuilt.purses.iter().for_each(|purse| state.set_purse(workspace, purse));
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
