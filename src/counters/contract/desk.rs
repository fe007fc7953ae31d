//! A workspace before a store, with a clock that only the test moves: the verbs in which the cases are told.

use crate::counters::run::{ChildOutcome, ChildRequest};
use crate::counters::{Applied, Begun, Claim, Counters, HoldOutcome, HoldRequest, Progress, Rebuilt, Record, SumRow};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::{Feature, RequestId, ReservationId, UserId, WorkspaceId};
use crate::decision::period::{Period, PeriodKind};
use crate::decision::rung::{Cap, Limit, Line, Rung};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use std::sync::Arc;

pub(crate) type Store = Arc<dyn Counters>;

/// 2026-11-21T12:00:00Z, when every case begins.
pub(crate) const NOON: Timestamp = Timestamp::from_micros(1_795_262_400_000_000);
/// How long a hold lives unless the case says otherwise.
pub(crate) const HOLD_SECONDS: i64 = 300;

/// The period of `kind` that `at` lies in, as far as these cases need it.
pub(crate) fn period(kind: PeriodKind, at: Timestamp) -> Period {
    let seconds = match kind {
        PeriodKind::Minute => 60,
        PeriodKind::Hour => 3_600,
        PeriodKind::Lifetime => {
            return Period {
                start: Timestamp::MIN,
                end: Timestamp::MAX,
            };
        }
        _ => 86_400,
    };
    let start = Timestamp::from_micros(at.micros() - at.micros().rem_euclid(seconds * 1_000_000));
    Period {
        start,
        end: start.plus_seconds(seconds),
    }
}

pub(crate) fn counter_at(unit: Unit, kind: PeriodKind, at: Timestamp) -> Counter {
    Counter {
        whose: Whose::Workspace,
        feature: None,
        unit,
        kind,
        period: period(kind, at),
    }
}

/// The whole workspace's counter of the period that runs at noon.
pub(crate) fn counter(unit: Unit, kind: PeriodKind) -> Counter {
    counter_at(unit, kind, NOON)
}

/// Tokens of the day, which most cases count.
pub(crate) fn daily() -> Counter {
    counter(Unit::Tokens, PeriodKind::Day)
}

pub(crate) fn user(name: &str) -> Whose {
    Whose::User(Some(UserId::parse(name).expect("a name")))
}

pub(crate) fn of_user(name: &str, counter: Counter) -> Counter {
    Counter {
        whose: user(name),
        ..counter
    }
}

pub(crate) fn of_feature(name: &str, counter: Counter) -> Counter {
    Counter {
        feature: Some(Feature::parse(name).expect("a name")),
        ..counter
    }
}

pub(crate) fn workspace(name: &str) -> WorkspaceId {
    WorkspaceId::parse(name).expect("a name")
}

pub(crate) fn tokens(tokens: i64) -> Amounts {
    Amounts { tokens, ..Amounts::ZERO }
}

pub(crate) fn row(counter: &Counter, spent: i64, version: i64) -> SumRow {
    SumRow {
        counter: counter.clone(),
        spent,
        version,
        paid: 0,
    }
}

/// A rung that needs these tokens, and one request, below these ceilings.
pub(crate) fn rung(tokens: i64, ceilings: &[i64], expires_at: Timestamp) -> Rung {
    let limit = |(counter, ceiling): (usize, &i64)| Limit {
        counter,
        open_below: None,
        ceiling: Some(*ceiling),
        granted: false,
    };
    Rung {
        needs: Amounts {
            tokens,
            requests: 1,
            ..Amounts::ZERO
        },
        output: tokens,
        cap: None,
        limits: ceilings.iter().enumerate().map(limit).collect(),
        expires_at,
    }
}

/// A cap for answers that cost their tokens and nothing else.
pub(crate) fn one_token_each(least: i64, longest: i64) -> Cap {
    let line = |per_output, up| Line::new(0, per_output, 1, longest, up);
    Cap {
        least,
        tokens: line(1, false),
        usd: line(0, false),
        credits: line(0, true),
    }
}

#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) store: Store,
    pub(crate) workspace: WorkspaceId,
    pub(crate) now: Timestamp,
}

impl Desk {
    /// A workspace that nothing has been built for.
    pub(crate) fn bare(store: Store, name: &str) -> Desk {
        Desk {
            store,
            workspace: workspace(name),
            now: NOON,
        }
    }

    /// A workspace whose ledger says that nothing is spent on these counters.
    pub(crate) async fn open(store: Store, counters: &[&Counter]) -> Desk {
        let desk = Desk::bare(store, "ws_a");
        let rows: Vec<SumRow> = counters.iter().map(|counter| row(counter, 0, 1)).collect();
        desk.rebuild(&rows).await;
        desk
    }

    /// Rebuilds every group that has a row among these, with its rows.
    pub(crate) async fn rebuild(&self, rows: &[SumRow]) {
        let mut groups: Vec<&Whose> = rows.iter().map(|row| &row.counter.whose).collect();
        groups.sort();
        groups.dedup();
        for whose in groups {
            let of_group: Vec<SumRow> = rows.iter().filter(|row| row.counter.whose == *whose).cloned().collect();
            let token = self.begun(whose).await;
            assert!(self.finish(whose, token, &of_group).await, "{whose:?} is rebuilt");
        }
    }

    pub(crate) async fn begin(&self, whose: &Whose) -> Begun {
        self.store.begin(&self.workspace, whose, self.now).await.expect("begin")
    }

    pub(crate) async fn begun(&self, whose: &Whose) -> u64 {
        match self.begin(whose).await {
            Begun::Started { token, .. } => token,
            Begun::Wait => panic!("{whose:?} is being rebuilt by nobody else"),
        }
    }

    pub(crate) async fn finish(&self, whose: &Whose, token: u64, rows: &[SumRow]) -> bool {
        let rebuilt = Rebuilt {
            token,
            adopted: &[],
            rows,
            purses: &[],
        };
        self.store.finish(&self.workspace, whose, &rebuilt, self.now).await.expect("finish")
    }

    pub(crate) fn later(&mut self, seconds: i64) -> &mut Self {
        self.now = self.now.plus_seconds(seconds);
        self
    }

    /// Waits for the next hour, in two steps, since a group that is not used for an hour may be forgotten. Returns its counter of tokens.
    pub(crate) async fn next_hour(&mut self) -> Counter {
        for _ in 0..2 {
            self.later(1_800).balance(&daily()).await;
        }
        counter_at(Unit::Tokens, PeriodKind::Hour, self.now)
    }

    pub(crate) fn id(&self, key: &str) -> ReservationId {
        ReservationId::derive(&self.workspace, &RequestId::parse(key).expect("a key"))
    }

    /// A request for `tokens`, and one request, on each of these counters below its ceiling.
    pub(crate) fn ask(&self, key: &str, tokens: i64, limits: &[(&Counter, i64)]) -> HoldRequest {
        let ceilings: Vec<i64> = limits.iter().map(|(_, ceiling)| *ceiling).collect();
        HoldRequest {
            workspace: self.workspace.clone(),
            reservation: self.id(key),
            fingerprint: 1,
            counters: limits.iter().map(|(counter, _)| (*counter).clone()).collect(),
            purses: Vec::new(),
            named_since: Timestamp::MIN,
            rungs: vec![rung(tokens, &ceilings, self.now.plus_seconds(HOLD_SECONDS))],
            open_max: u32::MAX,
            charge_on_expiry: false,
            tell_on_expiry: false,
            context: Arc::from(format!("context of {key}").as_bytes()),
            now: self.now,
        }
    }

    pub(crate) async fn hold(&self, request: &HoldRequest) -> HoldOutcome {
        self.store.hold(request).await.expect("hold")
    }

    /// Holds, and wants it to fit.
    pub(crate) async fn held(&self, key: &str, tokens: i64, limits: &[(&Counter, i64)]) -> ReservationId {
        let outcome = self.hold(&self.ask(key, tokens, limits)).await;
        assert!(matches!(outcome, HoldOutcome::Held { .. }), "{key}: {outcome:?}");
        self.id(key)
    }

    /// A request of a call for `tokens`, and one request, of a parent that was held at noon.
    pub(crate) fn call(&self, key: &str, parent: ReservationId, tokens: i64) -> ChildRequest {
        ChildRequest {
            workspace: self.workspace.clone(),
            reservation: self.id(key),
            fingerprint: 1,
            parent,
            parent_held_at: NOON,
            calls_max: None,
            rungs: vec![rung(tokens, &[], self.now.plus_seconds(HOLD_SECONDS))],
            open_max: u32::MAX,
            charge_on_expiry: false,
            tell_on_expiry: false,
            context: Arc::from(format!("context of {key}").as_bytes()),
            now: self.now,
        }
    }

    pub(crate) async fn draw(&self, request: &ChildRequest) -> ChildOutcome {
        self.store.hold_child(request).await.expect("hold for a run")
    }

    /// Draws, and wants the parent to have enough.
    pub(crate) async fn drawn(&self, key: &str, parent: ReservationId, tokens: i64) -> ReservationId {
        let outcome = self.draw(&self.call(key, parent, tokens)).await;
        assert!(matches!(outcome, ChildOutcome::Held(_)), "{key}: {outcome:?}");
        self.id(key)
    }

    /// Whether a hold would fit now. Takes it if so.
    pub(crate) async fn fits(&self, key: &str, tokens: i64, limits: &[(&Counter, i64)]) -> bool {
        match self.hold(&self.ask(key, tokens, limits)).await {
            HoldOutcome::Held { .. } => true,
            HoldOutcome::Short { .. } => false,
            other => panic!("{key}: {other:?}"),
        }
    }

    /// What is spent and held.
    pub(crate) async fn balance(&self, counter: &Counter) -> (i64, i64) {
        let known = self.known(counter).await;
        known.unwrap_or_else(|| panic!("{counter:?} is known"))
    }

    /// The same, or `None` where its group must be rebuilt.
    pub(crate) async fn known(&self, counter: &Counter) -> Option<(i64, i64)> {
        self.known_if_named_since(counter, Timestamp::MIN).await
    }

    pub(crate) async fn known_if_named_since(&self, counter: &Counter, named_since: Timestamp) -> Option<(i64, i64)> {
        let asked = std::slice::from_ref(counter);
        let answer = self.store.balances(&self.workspace, asked, &[], named_since, self.now).await;
        match answer.expect("balances") {
            Ok(balances) => Some((balances[0].spent, balances[0].held)),
            Err(groups) => {
                assert_eq!(groups, std::slice::from_ref(&counter.whose));
                None
            }
        }
    }

    pub(crate) async fn find(&self, id: ReservationId) -> Option<Record> {
        self.store.find(id, self.now).await.expect("find")
    }

    pub(crate) async fn end_of(&self, id: ReservationId) -> Option<End> {
        self.find(id).await.expect("it is remembered").end
    }

    pub(crate) async fn claim(&self, id: ReservationId, claim: Claim) -> Record {
        let record = self.store.claim(id, claim, self.now).await.expect("claim");
        record.expect("no rebuild is needed").expect("it is remembered")
    }

    /// Applies a commit that changed these rows and brought a reservation this far.
    pub(crate) async fn apply(&self, rows: &[SumRow], id: ReservationId, progress: Progress) {
        let applied = Applied {
            rows: rows.to_vec(),
            reservation: Some((id, progress)),
            purses: Vec::new(),
        };
        self.store
            .apply(&self.workspace, &applied, &[], &[], self.now)
            .await
            .expect("apply");
    }

    pub(crate) async fn apply_rows(&self, rows: &[SumRow]) {
        let applied = Applied {
            rows: rows.to_vec(),
            reservation: None,
            purses: Vec::new(),
        };
        self.store
            .apply(&self.workspace, &applied, &[], &[], self.now)
            .await
            .expect("apply");
    }

    /// Claims for good, and applies the commit that followed.
    pub(crate) async fn settle(&self, id: ReservationId, rows: &[SumRow]) {
        self.claim(id, Claim::Final).await;
        self.apply(rows, id, Progress::Ended(End::Settled)).await;
    }

    /// Claims for good, and applies a commit that says how much was used.
    pub(crate) async fn settle_using(&self, id: ReservationId, used: Amounts, rows: &[SumRow]) {
        self.claim(id, Claim::Final).await;
        self.apply(rows, id, Progress::EndedUsing(End::Settled, used)).await;
    }

    pub(crate) async fn release(&self, id: ReservationId) {
        self.apply(&[], id, Progress::Ended(End::Released)).await;
    }

    pub(crate) async fn due(&self, limit: usize) -> Vec<ReservationId> {
        let due = self.store.due(self.now, limit).await.expect("due");
        due.into_iter().map(|record| record.reservation).collect()
    }

    pub(crate) async fn free_at(&self, counter: &Counter, ceiling: i64, room: i64) -> Option<Timestamp> {
        let answer = self.store.free_at(&self.workspace, counter, ceiling, room, self.now).await;
        answer.expect("free_at")
    }
}
