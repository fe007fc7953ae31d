//! A small world around one store: a clock, a ledger that cannot fail, commits whose applies are delivered late, twice or never, rebuilds
//! that finish long after they read. [`Op`]s happen to it; two worlds to which the same happened must have been answered the same.

use super::books::{Books, Standing, budget, budget_of};
use super::desk::{NOON, Store, counter_at, of_user, one_token_each, rung, workspace};
use super::op::{Ask, Draw, GROUPS, Key, MENU, Op, WORKSPACES};
use crate::counters::run::{ChildOutcome, ChildRequest, Run};
use crate::counters::{Applied, Begun, Claim, Extended, FINGERPRINT_UNKNOWN, HoldOutcome, HoldRequest, Progress, Rebuilt, Record, SumRow};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Balance, Counter, Whose};
use crate::decision::grant::{Purse, PurseUse};
use crate::decision::id::{RequestId, ReservationId, WorkspaceId};
use crate::decision::period::PeriodKind;
use crate::decision::rung::{Rung, Taken};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use std::sync::Arc;

/// A ceiling for all counters, where a mode wants the same for all.
pub(super) const CEILING: i64 = 100;
/// A store may drop groups that were not used for an hour, so each is rebuilt more often than that.
const REBUILD_SECONDS: i64 = 3_000;

/// What a store said.
#[derive(Clone, PartialEq, Debug)]
#[allow(clippy::large_enum_variant, reason = "answers are compared and dropped, never kept in number")]
pub(super) enum Answer {
    Nothing,
    Hold(HoldOutcome),
    Draw(ChildOutcome),
    Record(Option<Box<Record>>),
    Balances(Result<Vec<Balance>, Vec<Whose>>),
    Applied(Vec<Option<Balance>>),
    Extended(Extended),
    FreeAt(Option<Timestamp>),
    /// Whether there was a token; each store has its own.
    Begun(bool),
    Finished(bool),
    Many(Vec<Answer>),
}

/// What may happen in a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// Anything.
    Wild,
    /// One ceiling for all, no usage beyond a hold or after its end, no corrections: then the ledger never passes the ceiling.
    Strict,
    /// Strict, and each commit is applied at once: then spent and held together never pass it either.
    Orderly,
}

/// A rebuild that has read and not finished.
struct Rebuild {
    workspace: WorkspaceId,
    whose: Whose,
    token: u64,
    rows: Vec<SumRow>,
    purses: Vec<Purse>,
}

pub(super) struct World {
    store: Store,
    mode: Mode,
    now: Timestamp,
    rebuilt_at: Timestamp,
    books: Books,
    commits: Vec<(WorkspaceId, Applied)>,
    rebuilds: Vec<Rebuild>,
}

fn name(workspace_number: usize) -> WorkspaceId {
    workspace(["ws_a", "ws_b"][workspace_number])
}

fn id(key: Key) -> ReservationId {
    let request = RequestId::parse(&format!("r{}", key.1)).expect("a key");
    ReservationId::derive(&name(key.0), &request)
}

/// What every store must remember of a reservation.
fn essential(record: Record) -> Record {
    let slim = matches!(record.end, Some(End::Settled | End::Released)) || record.fingerprint == FINGERPRINT_UNKNOWN;
    if !slim && record.end.is_some() && matches!(record.run, Some(Run::Parent(_))) {
        // As it was when it ended, which a store may have noticed before its calls expired or after.
        let run = Some(Run::Parent(Default::default()));
        let used = Amounts::ZERO;
        return Record { run, used, ..record };
    } else if !slim {
        return record;
    }
    Record {
        context: Arc::default(),
        taken: Taken {
            rung: 0,
            output: 0,
            amounts: Amounts::ZERO,
        },
        before: Vec::new(),
        held_at: NOON,
        expires_at: NOON,
        claimed: None,
        used: Amounts::ZERO,
        run: None,
        ..record
    }
}

impl World {
    pub(super) fn new(store: Store, mode: Mode) -> Self {
        Self {
            store,
            mode,
            now: NOON,
            rebuilt_at: NOON,
            books: Books::default(),
            commits: Vec::new(),
            rebuilds: Vec::new(),
        }
    }

    /// The counters that requests of this moment may name.
    fn menu(&self) -> [Counter; MENU] {
        let at = |unit, kind| counter_at(unit, kind, self.now);
        [
            at(Unit::Tokens, PeriodKind::Day),
            at(Unit::Requests, PeriodKind::Minute),
            at(Unit::Tokens, PeriodKind::Lifetime),
            of_user("ann", at(Unit::Tokens, PeriodKind::Hour)),
            of_user("ann", at(Unit::Requests, PeriodKind::Hour)),
            of_user("ben", at(Unit::Tokens, PeriodKind::Minute)),
            of_user("ann", at(Unit::Tokens, PeriodKind::Lifetime)),
            of_user("ben", at(Unit::Tokens, PeriodKind::Lifetime)),
        ]
    }

    /// The purses of these counters. Periods that end are dropped after an hour with what they hold, so only lifetimes are exact.
    fn purses(&self, counters: &[Counter], ceilings: &[i64]) -> Vec<PurseUse> {
        let exact = |counter: &Counter| self.mode == Mode::Wild || counter.kind == PeriodKind::Lifetime;
        let counted = counters.iter().zip(ceilings).enumerate().filter(|(_, (counter, _))| exact(counter));
        let purse = |(place, (counter, hard)): (usize, (&Counter, &i64))| {
            Some(PurseUse {
                budget: budget_of(counter)?,
                counter: place,
                hard: *hard,
            })
        };
        counted.filter_map(purse).collect()
    }

    fn groups(&self) -> [Whose; GROUPS] {
        [0, 3, 5].map(|place| self.menu()[place].whose.clone())
    }

    /// Lets `op` happen, and tells what the store said.
    pub(super) async fn apply(&mut self, op: &Op) -> Answer {
        match *op {
            Op::Pass { micros } => self.pass(micros).await,
            Op::Hold(ref ask) => self.hold(ask).await,
            Op::HoldMany(ref asks) => self.hold_many(asks).await,
            Op::Draw(ref draw) => self.draw(draw).await,
            Op::Claim { key, percent } => Answer::Record(self.claim(key, percent).await.map(Box::new)),
            Op::Settle { key, percent, delivered } => self.settle(key, percent, delivered).await,
            Op::Checkpoint { key, percent, delivered } => self.checkpoint(key, percent, delivered).await,
            Op::Release { key, delivered } => self.release(key, delivered).await,
            Op::Resolve { delivered } => self.resolve(delivered).await,
            Op::Deliver { commit } if !self.commits.is_empty() => self.deliver(commit % self.commits.len()).await,
            Op::Correct { counter, by, delivered } if self.mode == Mode::Wild => self.correct(counter, by, delivered).await,
            Op::Give {
                workspace,
                budget: number,
                amount,
                seconds,
                delivered,
            } => {
                let workspace = name(workspace);
                // What is held on a grant that expires passes the limit until it ends, and is recorded all the same.
                let seconds = seconds.filter(|_| self.mode != Mode::Orderly);
                let expires_at = seconds.map(|seconds| self.now.plus_seconds(seconds));
                self.books.give(&workspace, budget(number), amount, expires_at, self.now);
                let applied = Applied {
                    purses: self.books.purses(&workspace, self.now),
                    ..Applied::default()
                };
                self.send(workspace, applied, delivered).await
            }
            Op::Extend { key, seconds } => self.extend(key, seconds).await,
            Op::Find { key } => {
                let found = self.store.find(id(key), self.now).await.expect("find");
                Answer::Record(found.map(essential).map(Box::new))
            }
            Op::Balances {
                workspace,
                named_seconds_ago,
            } => Answer::Balances(self.balances(workspace, named_seconds_ago).await),
            Op::FreeAt { workspace, counter, room } => self.free_at(workspace, counter, room).await,
            Op::Rebuild { workspace, group } => self.rebuild(workspace, group).await,
            Op::Begin { workspace, group } => Answer::Begun(self.begin(workspace, group).await),
            Op::Finish { rebuild } if !self.rebuilds.is_empty() => self.finish(rebuild % self.rebuilds.len()).await,
            Op::Deliver { .. } | Op::Correct { .. } | Op::Finish { .. } => Answer::Nothing,
        }
    }

    /// Checks what must be true between any two ops. Asks the store only where it must: each question also brings a store up to date.
    pub(super) async fn check(&self) -> Result<(), String> {
        if self.mode == Mode::Wild {
            return Ok(());
        }
        if let Some(row) = self
            .books
            .rows()
            .find(|row| row.spent > self.ceiling(&row.counter, CEILING) + row.paid)
        {
            return Err(format!("the ledger passed the ceiling: {row:?}"));
        }
        for workspace in (0..WORKSPACES).filter(|_| self.mode == Mode::Orderly) {
            let Ok(balances) = self.balances(workspace, None).await else {
                continue;
            };
            let within = |(counter, balance): &(&Counter, &Balance)| {
                balance.held >= 0 && balance.taken() <= self.ceiling(counter, CEILING) + balance.granted
            };
            if let Some(wrong) = self.menu().iter().zip(&balances).find(|pair| !within(pair)) {
                return Err(format!("{wrong:?}"));
            }
        }
        Ok(())
    }

    /// Lets time pass, in steps that leave no group unused for so long that a store may drop it.
    async fn pass(&mut self, micros: i64) -> Answer {
        let until = self.now.plus_micros(micros);
        let mut answers = Vec::new();
        while self.rebuilt_at.plus_seconds(REBUILD_SECONDS) <= until {
            self.now = self.now.max(self.rebuilt_at.plus_seconds(REBUILD_SECONDS));
            self.rebuilt_at = self.now;
            for workspace in 0..WORKSPACES {
                for group in 0..GROUPS {
                    answers.push(self.rebuild(workspace, group).await);
                }
            }
        }
        self.now = until;
        Answer::Many(answers)
    }

    /// Requests are few, so that some are refused for them too.
    fn ceiling(&self, counter: &Counter, tokens: i64) -> i64 {
        if counter.unit == Unit::Requests { tokens / 25 } else { tokens }
    }

    fn named_since(&self, seconds_ago: Option<i64>) -> Timestamp {
        seconds_ago.map_or(Timestamp::MIN, |seconds| self.now.plus_seconds(-seconds))
    }

    fn request(&self, ask: &Ask) -> HoldRequest {
        let asked = self.menu().into_iter().enumerate();
        let counters: Vec<Counter> = asked
            .filter(|(place, _)| ask.counters & (1 << place) != 0)
            .map(|(_, counter)| counter)
            .collect();
        let ceiling = if self.mode == Mode::Wild { ask.ceiling } else { CEILING };
        let ceilings: Vec<i64> = counters.iter().map(|counter| self.ceiling(counter, ceiling)).collect();
        let expires_at = self.now.plus_seconds(ask.seconds);
        let mut purses = if ask.granted {
            self.purses(&counters, &ceilings)
        } else {
            Vec::new()
        };
        // A budget has one counter in a request.
        purses.dedup_by(|one, other| one.budget == other.budget);
        let mut rungs = vec![rung(ask.tokens, &ceilings, expires_at), rung(ask.tokens / 2, &ceilings, expires_at)];
        rungs.iter_mut().for_each(|rung| rung.needs.requests = ask.requests);
        let mut request = HoldRequest {
            workspace: name(ask.key.0),
            reservation: id(ask.key),
            fingerprint: ask.fingerprint,
            counters,
            purses,
            named_since: self.named_since(ask.named_seconds_ago),
            rungs,
            open_max: ask.open_max,
            charge_on_expiry: ask.charged,
            tell_on_expiry: ask.told,
            context: Arc::from(format!("{ask:?}").as_bytes()),
            now: self.now,
        };
        for used in &request.purses {
            for rung in &mut request.rungs {
                rung.limits[used.counter].granted = true;
            }
        }
        request
    }

    async fn hold(&mut self, ask: &Ask) -> Answer {
        let request = self.request(ask);
        let outcome = self.store.hold(&request).await.expect("hold");
        self.note(&request, &outcome);
        Answer::Hold(outcome)
    }

    async fn hold_many(&mut self, asks: &[Ask]) -> Answer {
        let requests: Vec<HoldRequest> = asks.iter().map(|ask| self.request(ask)).collect();
        let outcomes = self.store.hold_many(&requests).await;
        assert_eq!(outcomes.len(), requests.len(), "each has an answer");
        let mut answers = Vec::new();
        for (request, outcome) in requests.iter().zip(outcomes) {
            let outcome = outcome.expect("hold together");
            self.note(request, &outcome);
            answers.push(Answer::Hold(outcome));
        }
        Answer::Many(answers)
    }

    fn note(&mut self, request: &HoldRequest, outcome: &HoldOutcome) {
        if let HoldOutcome::Held { taken, .. } = outcome {
            let (id, counters) = (request.reservation, request.counters.clone());
            self.books.open(id, taken.amounts, counters, request.charge_on_expiry, self.now);
        }
    }

    /// A call that wants all its tokens, or as many as are left.
    async fn draw(&mut self, draw: &Draw) -> Answer {
        let Draw { ask, parent, .. } = draw;
        let expires_at = self.now.plus_seconds(ask.seconds);
        let whole = rung(ask.tokens, &[], expires_at);
        let shorter = Rung {
            cap: Some(one_token_each(1, ask.tokens)),
            ..whole.clone()
        };
        let held_at = self.books.standing(id(*parent)).held_at.unwrap_or(NOON);
        let request = ChildRequest {
            workspace: name(ask.key.0),
            reservation: id(ask.key),
            fingerprint: ask.fingerprint,
            parent: id(*parent),
            parent_held_at: held_at.plus_micros(i64::from(draw.is_stale)),
            calls_max: draw.calls_max,
            rungs: vec![whole, shorter],
            open_max: ask.open_max,
            charge_on_expiry: ask.charged,
            tell_on_expiry: ask.told,
            context: Arc::from(format!("{ask:?}").as_bytes()),
            now: self.now,
        };
        let outcome = self.store.hold_child(&request).await.expect("hold for a run");
        if let ChildOutcome::Held(record) = &outcome {
            self.books
                .open_call(record.reservation, request.parent, record.taken.amounts, ask.charged, self.now);
        }
        Answer::Draw(outcome)
    }

    /// Claims this share of what was held. `None`: all, for good.
    async fn claim(&self, key: Key, percent: Option<i64>) -> Option<Record> {
        let held = self.books.standing(id(key)).held;
        let claim = percent.map_or(Claim::Final, |percent| Claim::UpTo(self.share(held, percent)));
        let answer = self.store.claim(id(key), claim, self.now).await.expect("claim");
        let record = answer.expect("a store that lost nothing need not be rebuilt for it");
        record.map(essential)
    }

    fn share(&self, held: Amounts, percent: i64) -> Amounts {
        let percent = if self.mode == Mode::Wild { percent } else { percent.min(100) };
        let of = |amount: i64, _| Some(amount * percent / 100);
        held.zip(Amounts::ZERO, of).expect("small numbers")
    }

    /// What the ledger may still record for a claim that was answered with this record: nothing once it has ended, unless it expired and a
    /// late settle is allowed to happen.
    fn may_record(&self, record: &Record, late: bool) -> bool {
        match (record.end, self.books.standing(record.reservation).end) {
            (None, None) => true,
            (None | Some(End::Expired), None | Some(End::Expired)) => late && self.mode == Mode::Wild,
            _ => false,
        }
    }

    async fn settle(&mut self, key: Key, percent: i64, delivered: bool) -> Answer {
        let Some(record) = self.claim(key, None).await else {
            return Answer::Record(None);
        };
        if matches!(record.run, Some(Run::Parent(_))) {
            return Answer::Record(Some(Box::new(record)));
        }
        let used = self.share(self.books.standing(id(key)).held, percent);
        if self.may_record(&record, true) {
            self.books.post(&name(key.0), id(key), used, Some(End::Settled), self.now);
        }
        self.commit_if(|standing| standing.end.is_some(), record, delivered).await
    }

    async fn checkpoint(&mut self, key: Key, percent: i64, delivered: bool) -> Answer {
        let Some(record) = self.claim(key, Some(percent)).await else {
            return Answer::Record(None);
        };
        if matches!(record.run, Some(Run::Parent(_))) {
            return Answer::Record(Some(Box::new(record)));
        }
        let recorded = self.may_record(&record, false);
        if recorded {
            let used = self.share(self.books.standing(id(key)).held, percent);
            self.books.post(&name(key.0), id(key), used, None, self.now);
        }
        self.commit_if(|_| recorded, record, delivered).await
    }

    async fn release(&mut self, key: Key, delivered: bool) -> Answer {
        if self.books.standing(id(key)).end.is_none() {
            self.books.post(&name(key.0), id(key), Amounts::ZERO, Some(End::Released), self.now);
        }
        self.send(name(key.0), self.books.commit(&name(key.0), id(key), self.now), delivered)
            .await
    }

    async fn resolve(&mut self, delivered: bool) -> Answer {
        let mut due = self.store.due(self.now, usize::MAX).await.expect("due");
        due.sort_by_key(|record| record.reservation);
        let mut answers = Vec::new();
        for record in due {
            let standing = self.books.standing(record.reservation);
            if standing.end.is_none() && record.end.is_some() {
                // It ended by itself: somebody was told, and the ledger knows no end.
                let told = Applied {
                    reservation: Some((record.reservation, Progress::Ended(End::Expired))),
                    ..Applied::default()
                };
                answers.push(Answer::Record(Some(Box::new(essential(record.clone())))));
                answers.push(self.send(record.workspace, told, delivered).await);
                continue;
            }
            if standing.end.is_none() {
                let used = if standing.charged { record.taken.amounts } else { Amounts::ZERO };
                self.books
                    .post(&record.workspace, record.reservation, used, Some(End::Expired), self.now);
            }
            answers.push(self.commit_if(|_| true, record, delivered).await);
        }
        Answer::Many(answers)
    }

    /// Tells the record that a flow got, and commits where it has something to commit.
    async fn commit_if(&mut self, has_something: impl Fn(&Standing) -> bool, record: Record, delivered: bool) -> Answer {
        let (workspace, id) = (record.workspace.clone(), record.reservation);
        let told = Answer::Record(Some(Box::new(essential(record))));
        if !has_something(&self.books.standing(id)) {
            return told;
        }
        let applied = self.books.commit(&workspace, id, self.now);
        Answer::Many(vec![told, self.send(workspace, applied, delivered).await])
    }

    async fn correct(&mut self, counter: usize, by: i64, delivered: bool) -> Answer {
        let workspace = name(0);
        let row = self.books.add(&workspace, &self.menu()[counter], by, (self.now, self.now));
        let applied = Applied {
            rows: vec![row],
            reservation: None,
            purses: Vec::new(),
        };
        self.send(workspace, applied, delivered).await
    }

    /// Has the store apply a commit, now or perhaps later.
    async fn send(&mut self, workspace: WorkspaceId, applied: Applied, delivered: bool) -> Answer {
        self.commits.push((workspace, applied));
        if delivered || self.mode == Mode::Orderly {
            self.deliver(self.commits.len() - 1).await
        } else {
            Answer::Nothing
        }
    }

    async fn deliver(&mut self, commit: usize) -> Answer {
        let (workspace, applied) = &self.commits[commit];
        let menu = self.menu();
        let answer = self.store.apply(workspace, applied, &menu, &self.all_purses(&menu), self.now).await;
        Answer::Applied(answer.expect("apply"))
    }

    fn all_purses(&self, menu: &[Counter]) -> Vec<PurseUse> {
        let ceilings: Vec<i64> = menu.iter().map(|counter| self.ceiling(counter, CEILING)).collect();
        self.purses(menu, &ceilings)
    }

    async fn extend(&self, key: Key, seconds: i64) -> Answer {
        let until = self.now.plus_seconds(seconds);
        Answer::Extended(self.store.extend(id(key), until, self.now).await.expect("extend"))
    }

    async fn balances(&self, workspace: usize, named_seconds_ago: Option<i64>) -> Result<Vec<Balance>, Vec<Whose>> {
        let named_since = self.named_since(named_seconds_ago);
        let menu = self.menu();
        let purses = self.all_purses(&menu);
        let answer = self.store.balances(&name(workspace), &menu, &purses, named_since, self.now).await;
        answer.expect("balances")
    }

    async fn free_at(&self, workspace: usize, counter: usize, room: i64) -> Answer {
        let counter = &self.menu()[counter];
        let ceiling = self.ceiling(counter, CEILING);
        let answer = self.store.free_at(&name(workspace), counter, ceiling, room, self.now).await;
        Answer::FreeAt(answer.expect("free_at"))
    }

    async fn rebuild(&mut self, workspace: usize, group: usize) -> Answer {
        if !self.begin(workspace, group).await {
            return Answer::Begun(false);
        }
        self.finish(self.rebuilds.len() - 1).await
    }

    /// Begins, and reads at once: the rows of the group, those of the menu born where they were missing.
    async fn begin(&mut self, workspace: usize, group: usize) -> bool {
        let (workspace, whose) = (name(workspace), self.groups()[group].clone());
        let Begun::Started { token, .. } = self.store.begin(&workspace, &whose, self.now).await.expect("begin") else {
            return false;
        };
        let rows = self.books.group(&workspace, &whose, &self.menu());
        let purses = match whose {
            Whose::Workspace => self.books.purses(&workspace, self.now),
            Whose::User(_) => Vec::new(),
        };
        self.rebuilds.push(Rebuild {
            workspace,
            whose,
            token,
            rows,
            purses,
        });
        true
    }

    async fn finish(&mut self, rebuild: usize) -> Answer {
        let Rebuild {
            workspace,
            whose,
            token,
            rows,
            purses,
        } = &self.rebuilds[rebuild];
        let rebuilt = Rebuilt {
            token: *token,
            adopted: &[],
            rows,
            purses,
        };
        let answer = self.store.finish(workspace, whose, &rebuilt, self.now).await;
        Answer::Finished(answer.expect("finish"))
    }
}
