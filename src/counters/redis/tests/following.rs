//! A store over a cluster whose slots move, which does after a move what a flow does: told that a group which was live must be rebuilt, it
//! begins, reads its ledger, which is all that it was ever given, finishes, and asks again. Nothing else is done for a case; what it does not
//! expect it is told.

use super::moving::Moves;
use crate::counters::contract::desk::row;
use crate::counters::redis::RedisCounters;
use crate::counters::run::{ChildOutcome, ChildRequest};
use crate::counters::{
    Applied, Begun, Claim, Counters, CountersError, Extended, HoldOutcome, HoldRequest, KnownGroup, REBUILD_CLOCKS_MILLIS,
    REBUILD_JOIN_MILLIS, REBUILD_JOIN_MILLIS_MAX, Rebuilt, Record, SumRow,
};
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::finding::Finding;
use crate::decision::grant::{Purse, PurseUse};
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::period::PeriodKind;
use crate::decision::time::Timestamp;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How much later another rebuild is begun, so that one that runs is joined.
const JOIN_SECONDS: i64 = 60;
/// In place of a number of moves: what came after it is to blame for whatever the store says.
const NEVER_STILL: usize = 1;
const LOOK_AGAIN: Duration = Duration::from_millis(2);

type Group = (WorkspaceId, Whose);
type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, CountersError>> + Send + 'a>>;

pub(super) struct Following {
    inner: RedisCounters,
    moves: &'static Moves,
    /// Held while a group is rebuilt.
    ledger: tokio::sync::Mutex<Ledger>,
    /// How often groups were rebuilt here.
    rebuilt: AtomicUsize,
}

#[derive(Default)]
struct Ledger {
    groups: HashMap<Group, State>,
    rows: HashMap<WorkspaceId, Vec<SumRow>>,
    purses: HashMap<WorkspaceId, Vec<Purse>>,
}

/// What the case knows of a group.
#[derive(Default)]
struct State {
    built_at: Option<Timestamp>,
    rebuild: Option<Running>,
    /// The moves there had been when it was last rebuilt, and whether that was here.
    moves: usize,
    was_rebuilt_here: bool,
}

/// A rebuild of the case, and the token by which the store knows it.
struct Running {
    token: u64,
    inner: u64,
    /// When the case began or joined it last, and how long after that others wait.
    since: Timestamp,
    wait_millis: i64,
    /// The moves there had been when it began.
    moves: usize,
}

impl Running {
    fn is_waited_for(&self, now: Timestamp) -> bool {
        let since = now.micros() - self.since.micros();
        since > -REBUILD_CLOCKS_MILLIS * 1_000 && since < self.wait_millis * 1_000
    }

    fn join(&mut self, now: Timestamp) {
        self.since = now;
        self.wait_millis = REBUILD_JOIN_MILLIS_MAX.min(2 * self.wait_millis);
    }
}

/// What a question is about: where it is asked, which counters it names, and since when all know them.
struct About<'a> {
    workspace: &'a WorkspaceId,
    counters: &'a [Counter],
    named_since: Timestamp,
    now: Timestamp,
}

impl Ledger {
    fn remember(&mut self, workspace: &WorkspaceId, rows: &[SumRow], purses: &[Purse]) {
        let known = self.rows.entry(workspace.clone()).or_default();
        for row in rows {
            match known.iter_mut().find(|other| other.counter == row.counter) {
                Some(other) if other.version < row.version => *other = row.clone(),
                Some(_) => {}
                None => known.push(row.clone()),
            }
        }
        let known = self.purses.entry(workspace.clone()).or_default();
        for purse in purses {
            match known
                .iter_mut()
                .find(|other| (&other.budget, other.unit) == (&purse.budget, purse.unit))
            {
                Some(other) if purse.is_newer(other) => *other = purse.clone(),
                Some(_) => {}
                None => known.push(purse.clone()),
            }
        }
    }

    /// The rows of a group, and, with the workspace's own, what its grants have left.
    fn read(&self, (workspace, whose): &Group) -> (Vec<SumRow>, Vec<Purse>) {
        let rows = self.rows.get(workspace).into_iter().flatten();
        let rows = rows.filter(|row| row.counter.whose == *whose).cloned().collect();
        let purses = self.purses.get(workspace).filter(|_| *whose == Whose::Workspace);
        (rows, purses.cloned().unwrap_or_default())
    }

    fn knows(&self, workspace: &WorkspaceId, row: &SumRow) -> bool {
        let mut rows = self.rows.get(workspace).into_iter().flatten();
        rows.any(|other| other.counter == row.counter)
    }

    fn live_beside(&self, workspace: &WorkspaceId, groups: &[Whose]) -> Vec<Whose> {
        let live = self
            .groups
            .iter()
            .filter(|((of, _), state)| of == workspace && state.built_at.is_some());
        let others = live.map(|((_, whose), _)| whose).filter(|whose| !groups.contains(whose));
        others.cloned().collect()
    }

    fn is_live(&self, (workspace, whose): &Group) -> bool {
        let live = |group: &Group| self.groups.get(group).is_some_and(|state| state.built_at.is_some());
        // The workspace's own group knows of all groups with what their holds were last compared.
        let any = || {
            self.groups
                .iter()
                .any(|((of, _), state)| of == workspace && state.built_at.is_some())
        };
        live(&(workspace.clone(), whose.clone())) || (*whose == Whose::Workspace && any())
    }
}

impl Following {
    pub(super) fn over(inner: RedisCounters, moves: &'static Moves) -> Self {
        Self {
            inner,
            moves,
            ledger: tokio::sync::Mutex::default(),
            rebuilt: AtomicUsize::new(0),
        }
    }

    /// Asks, and again after a rebuild for as long as moves are to blame for groups that the answer misses.
    async fn ask<'a, T: Send + Sync>(
        &self,
        about: &About<'_>,
        op: impl Fn() -> Answer<'a, T> + Send + Sync,
        missed: impl Fn(&T) -> Vec<Whose> + Send + Sync,
    ) -> Result<T, CountersError> {
        loop {
            let rebuilt = self.rebuilt.load(Ordering::SeqCst);
            let answer = op().await?;
            let groups = missed(&answer);
            if groups.is_empty() || !self.rebuild(about, &groups, rebuilt).await? {
                return Ok(answer);
            }
        }
    }

    /// Rebuilds groups that a move has put out of use. False: it is not for a move that they are missed.
    async fn rebuild(&self, about: &About<'_>, groups: &[Whose], rebuilt: usize) -> Result<bool, CountersError> {
        let mut ledger = self.ledger.lock().await;
        if self.rebuilt.load(Ordering::SeqCst) != rebuilt {
            return Ok(true);
        }
        let moves = self.moves.number();
        let mut done = false;
        // Those of other users too, as their requests would: until then all that they hold counts as held on grants.
        let others = ledger.live_beside(about.workspace, groups);
        for whose in groups.iter().chain(&others) {
            let group = (about.workspace.clone(), whose.clone());
            if !ledger.is_live(&group) {
                return Ok(false);
            }
            let state = ledger.groups.entry(group.clone()).or_default();
            let (built_at, was_rebuilt_here) = (state.built_at.unwrap_or(about.now), state.was_rebuilt_here);
            // What began after the case's build began at zero, whenever it was built again.
            let born = about.counters.iter().filter(|counter| {
                let start = counter.period.start;
                let is_recent = start >= built_at && start >= about.named_since;
                counter.whose == *whose && is_recent && counter.kind != PeriodKind::Lifetime
            });
            let born: Vec<SumRow> = born.map(|counter| row(counter, 0, 0)).collect();
            let births = was_rebuilt_here && born.iter().any(|row| !ledger.knows(about.workspace, row));
            if self.moves.are_still(moves) && ledger.groups[&group].moves == moves && !births {
                continue;
            }
            ledger.remember(about.workspace, &born, &[]);
            let (rows, purses) = ledger.read(&group);
            let token = self.begin_over(&group, about.now).await?;
            let read = Rebuilt {
                token,
                adopted: &[],
                rows: &rows,
                purses: &purses,
            };
            self.inner.finish(about.workspace, whose, &read, about.now).await?;
            let state = ledger.groups.entry(group).or_default();
            (state.moves, state.was_rebuilt_here) = (moves, true);
            // That of the case was joined, and so is over for the store.
            if let Some(running) = state.rebuild.as_mut().filter(|running| running.inner == token) {
                running.moves = NEVER_STILL;
            }
            self.rebuilt.fetch_add(1, Ordering::SeqCst);
            done = true;
        }
        if done {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(done)
    }

    async fn begin_over(&self, (workspace, whose): &Group, now: Timestamp) -> Result<u64, CountersError> {
        let mut at = now;
        loop {
            match self.inner.begin(workspace, whose, at).await? {
                Begun::Started { token, .. } => return Ok(token),
                Begun::Wait => at = at.plus_seconds(JOIN_SECONDS),
            }
        }
    }
}

#[async_trait]
impl Counters for Following {
    async fn hold(&self, request: &HoldRequest) -> Result<HoldOutcome, CountersError> {
        let about = About {
            workspace: &request.workspace,
            counters: &request.counters,
            named_since: request.named_since,
            now: request.now,
        };
        let missed = |outcome: &HoldOutcome| match outcome {
            HoldOutcome::Unready(groups) => groups.clone(),
            _ => Vec::new(),
        };
        self.ask(&about, || self.inner.hold(request), missed).await
    }

    async fn hold_child(&self, request: &ChildRequest) -> Result<ChildOutcome, CountersError> {
        let about = About {
            workspace: &request.workspace,
            counters: &[],
            named_since: Timestamp::MIN,
            now: request.now,
        };
        let missed = |outcome: &ChildOutcome| match outcome {
            ChildOutcome::Unready(groups) => groups.clone(),
            _ => Vec::new(),
        };
        self.ask(&about, || self.inner.hold_child(request), missed).await
    }

    async fn hold_many(&self, requests: &[HoldRequest]) -> Vec<Result<HoldOutcome, CountersError>> {
        let mut outcomes = self.inner.hold_many(requests).await;
        for (outcome, request) in outcomes.iter_mut().zip(requests) {
            if let Ok(HoldOutcome::Unready(_)) = outcome {
                *outcome = self.hold(request).await;
            }
        }
        outcomes
    }

    async fn balances(
        &self,
        workspace: &WorkspaceId,
        counters: &[Counter],
        purses: &[PurseUse],
        named_since: Timestamp,
        now: Timestamp,
    ) -> Result<Result<Vec<Balance>, Vec<Whose>>, CountersError> {
        let about = About {
            workspace,
            counters,
            named_since,
            now,
        };
        let op = || self.inner.balances(workspace, counters, purses, named_since, now);
        self.ask(&about, op, |answer| answer.clone().err().unwrap_or_default()).await
    }

    async fn find(&self, reservation: ReservationId, now: Timestamp) -> Result<Option<Record>, CountersError> {
        self.inner.find(reservation, now).await
    }

    async fn claim(
        &self,
        reservation: ReservationId,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Result<Option<Record>, Vec<Whose>>, CountersError> {
        let Some(record) = self.inner.find(reservation, now).await? else {
            return self.inner.claim(reservation, claim, now).await;
        };
        let about = About {
            workspace: &record.workspace,
            counters: &[],
            named_since: Timestamp::MIN,
            now,
        };
        let op = || self.inner.claim(reservation, claim, now);
        self.ask(&about, op, |answer| answer.clone().err().unwrap_or_default()).await
    }

    async fn apply(
        &self,
        workspace: &WorkspaceId,
        applied: &Applied,
        read: &[Counter],
        purses: &[PurseUse],
        now: Timestamp,
    ) -> Result<Vec<Option<Balance>>, CountersError> {
        self.ledger.lock().await.remember(workspace, &applied.rows, &applied.purses);
        let about = About {
            workspace,
            counters: &[],
            named_since: Timestamp::MIN,
            now,
        };
        let missed = |answer: &Vec<Option<Balance>>| -> Vec<Whose> {
            let unknown = answer.iter().zip(read).filter(|(balance, _)| balance.is_none());
            unknown.map(|(_, counter)| counter.whose.clone()).collect()
        };
        let op = || self.inner.apply(workspace, applied, read, purses, now);
        self.ask(&about, op, missed).await
    }

    async fn extend(&self, reservation: ReservationId, until: Timestamp, now: Timestamp) -> Result<Extended, CountersError> {
        self.inner.extend(reservation, until, now).await
    }

    async fn free_at(
        &self,
        workspace: &WorkspaceId,
        counter: &Counter,
        ceiling: i64,
        room: i64,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CountersError> {
        // It is told of a group that was just live.
        let known = self.balances(workspace, std::slice::from_ref(counter), &[], Timestamp::MIN, now);
        let is_known = known.await?.is_ok();
        let about = About {
            workspace,
            counters: std::slice::from_ref(counter),
            named_since: Timestamp::MIN,
            now,
        };
        let missed = |answer: &Option<Timestamp>| match answer {
            None if is_known => vec![counter.whose.clone()],
            _ => Vec::new(),
        };
        let op = || self.inner.free_at(workspace, counter, ceiling, room, now);
        self.ask(&about, op, missed).await
    }

    async fn begin(&self, workspace: &WorkspaceId, whose: &Whose, now: Timestamp) -> Result<Begun, CountersError> {
        let group = (workspace.clone(), whose.clone());
        let about = About {
            workspace,
            counters: &[],
            named_since: Timestamp::MIN,
            now,
        };
        // What is live stays so while it is rebuilt, if it is of the process that is asked.
        let rebuilt = self.rebuilt.load(Ordering::SeqCst);
        if self.ledger.lock().await.is_live(&group) {
            self.rebuild(&about, std::slice::from_ref(whose), rebuilt).await?;
        }
        let mut ledger = self.ledger.lock().await;
        let moves = self.moves.number();
        let begun = self.inner.begin(workspace, whose, now).await?;
        let (started, adopt) = match begun {
            Begun::Started { token, adopt } => (Some(token), adopt),
            Begun::Wait => (None, Vec::new()),
        };
        let state = ledger.groups.entry(group).or_default();
        match (&mut state.rebuild, started) {
            // It may have died with its process, and another one taken its place: the case is told what it would have been told without.
            (Some(running), _) if !self.moves.are_still(running.moves) => {
                running.inner = started.unwrap_or(running.inner);
                if running.is_waited_for(now) {
                    return Ok(Begun::Wait);
                }
                running.join(now);
                let token = running.token;
                Ok(Begun::Started { token, adopt })
            }
            (_, None) => Ok(Begun::Wait),
            (Some(running), Some(inner)) if running.inner == inner => {
                running.join(now);
                let token = running.token;
                Ok(Begun::Started { token, adopt })
            }
            (rebuild, Some(token)) => {
                *rebuild = Some(Running {
                    token,
                    inner: token,
                    since: now,
                    wait_millis: REBUILD_JOIN_MILLIS,
                    moves,
                });
                Ok(Begun::Started { token, adopt })
            }
        }
    }

    async fn finish(&self, workspace: &WorkspaceId, whose: &Whose, rebuilt: &Rebuilt<'_>, now: Timestamp) -> Result<bool, CountersError> {
        let group = (workspace.clone(), whose.clone());
        let mut ledger = self.ledger.lock().await;
        let running = ledger.groups.get(&group).and_then(|state| state.rebuild.as_ref());
        let Some((mut token, since)) = running
            .filter(|running| running.token == rebuilt.token)
            .map(|running| (running.inner, running.moves))
        else {
            return self.inner.finish(workspace, whose, rebuilt, now).await;
        };
        let was_rebuilt = self.rebuilt.load(Ordering::SeqCst) > 0;
        loop {
            let moves = self.moves.number();
            // What was recorded since the begin is read by the next one.
            let mut read = Ledger::default();
            let (rows, purses) = ledger.read(&group);
            read.remember(workspace, rebuilt.rows, rebuilt.purses);
            if token != rebuilt.token {
                read.remember(workspace, &rows, &purses);
            }
            let (rows, purses) = read.read(&group);
            let again = Rebuilt {
                token,
                adopted: rebuilt.adopted,
                rows: &rows,
                purses: &purses,
            };
            let finished = self.inner.finish(workspace, whose, &again, now).await?;
            if finished {
                ledger.remember(workspace, &rows, &purses);
                let state = ledger.groups.entry(group).or_default();
                state.built_at = state.built_at.or(Some(now));
                (state.rebuild, state.moves) = (None, moves);
                return Ok(true);
            }
            if self.moves.are_still(since) && !was_rebuilt {
                return Ok(false);
            }
            token = self.begin_over(&group, now).await?;
        }
    }

    async fn forget_rows(&self, now: Timestamp) -> Result<u64, CountersError> {
        self.inner.forget_rows(now).await
    }

    fn known(&self) -> BoxStream<'_, Result<KnownGroup, CountersError>> {
        self.inner.known()
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Record>, CountersError> {
        self.inner.due(now, limit).await
    }

    async fn inspect(&self, now: Timestamp) -> Result<Vec<Finding>, CountersError> {
        self.inner.inspect(now).await
    }

    async fn open(&self) -> Result<u64, CountersError> {
        self.inner.open().await
    }
}
