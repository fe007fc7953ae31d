//! The words that the cases are written in: drafts of posts, counters by name, and a book that posts and reads.

use super::Fixture;
use crate::counters::SumRow;
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Counter, Whose};
use crate::decision::entry::{Checkpoint, Entry, Kind, Outcome};
use crate::decision::grant::Charge;
use crate::decision::id::{AuditId, EntryId, Feature, ModelId, RequestId, ReservationId, UserId, WorkspaceId};
use crate::decision::period::{Period, PeriodKind};
use crate::decision::price::Mode;
use crate::decision::standing::{End, Standing};
use crate::decision::time::Timestamp;
use crate::decision::usage::Pools;
use crate::ledger::audit::{Audited, By, Subject};
use crate::ledger::{EntryQuery, Ledger, Post, Posted, Tells};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::task::JoinSet;

/// The second at which things happen unless a case says otherwise; inside of [`month`].
pub(in crate::ledger) const NOON: i64 = 1_500;

pub(in crate::ledger) fn at(second: i64) -> Timestamp {
    Timestamp::from_micros(0).plus_seconds(second)
}

pub(in crate::ledger) fn workspace(id: &str) -> WorkspaceId {
    WorkspaceId::parse(id).expect(id)
}

pub(in crate::ledger) fn reservation(workspace_id: &str, request: &str) -> ReservationId {
    ReservationId::derive(&workspace(workspace_id), &RequestId::parse(request).expect(request))
}

/// A counter of everybody, every feature, from second 1,000 until before second 2,000.
pub(in crate::ledger) fn month(unit: Unit) -> Counter {
    Counter {
        whose: Whose::Workspace,
        feature: None,
        unit,
        kind: PeriodKind::Month,
        period: period(1_000, 2_000),
    }
}

pub(in crate::ledger) fn period(start: i64, end: i64) -> Period {
    Period {
        start: at(start),
        end: at(end),
    }
}

/// The same counter of other dimensions.
pub(in crate::ledger) trait But {
    /// Of this user; empty: of the shared one.
    fn of_user(self, user: &str) -> Self;
    fn of_feature(self, feature: &str) -> Self;
    fn within(self, period: Period) -> Self;
}

impl But for Counter {
    fn of_user(self, user: &str) -> Self {
        let user = (!user.is_empty()).then(|| UserId::parse(user).expect(user));
        Self {
            whose: Whose::User(user),
            ..self
        }
    }

    fn of_feature(self, feature: &str) -> Self {
        Self {
            feature: Some(Feature::parse(feature).expect(feature)),
            ..self
        }
    }

    fn within(self, period: Period) -> Self {
        Self { period, ..self }
    }
}

/// A post in the making: 100 tokens of `usr_1` and `chat` in `ws_a`, settled at [`NOON`], unless a case says otherwise.
#[derive(Clone)]
pub(in crate::ledger) struct Draft {
    pub(in crate::ledger) entry: Entry,
    request: String,
    revision: i64,
    end: Option<End>,
    fingerprint: Option<u128>,
    is_checkpoint: bool,
    expires_at: Timestamp,
    corrections: Vec<Entry>,
    counters: Vec<Counter>,
    charges: Vec<Charge>,
    tells: Tells,
    without_entry: bool,
}

/// A settle of this request.
pub(in crate::ledger) fn settle(request: &str) -> Draft {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let model = ModelId::parse("claude-haiku-4-5").expect("a model");
    let entry = Entry {
        entry_id: EntryId::from_uuid(uuid::Uuid::from_u128(NEXT.fetch_add(1, Ordering::Relaxed).into())),
        kind: Kind::Usage,
        corrects: None,
        request_id: RequestId::parse(request).expect(request),
        reservation_id: Some(reservation("ws_a", request)),
        workspace_id: workspace("ws_a"),
        user_id: Some(UserId::parse("usr_1").expect("a user")),
        feature: Feature::parse("chat").expect("a feature"),
        model: model.clone(),
        requested_model: model,
        tier: None,
        provider: None,
        mode: Mode::Interactive,
        requests: 1,
        pools: Pools::default(),
        cache_hit: false,
        latency_ms: None,
        outcome: Outcome::Success,
        priced: true,
        late: false,
        cost_usd: None,
        list_cost_usd: None,
        counted: Amounts {
            tokens: 100,
            requests: 1,
            ..Amounts::ZERO
        },
        price_version: None,
        plan_id: None,
        plan_version: None,
        occurred_at: at(NOON),
        recorded_at: at(NOON),
        tags: BTreeMap::new(),
        provider_request_id: None,
        quality_score: None,
        other_cost_usd: None,
        billable_outcomes: BTreeMap::new(),
    };
    Draft {
        entry,
        request: request.to_owned(),
        revision: 0,
        end: Some(End::Settled),
        fingerprint: None,
        is_checkpoint: false,
        expires_at: at(NOON + 600),
        corrections: Vec::new(),
        counters: Vec::new(),
        charges: Vec::new(),
        tells: Tells::default(),
        without_entry: false,
    }
}

/// A checkpoint of this request, which stays open.
pub(in crate::ledger) fn checkpoint(request: &str) -> Draft {
    Draft {
        end: None,
        is_checkpoint: true,
        ..settle(request)
    }
}

/// An end of this request that records no usage.
pub(in crate::ledger) fn end(request: &str, end: End) -> Draft {
    Draft {
        end: Some(end),
        without_entry: true,
        ..settle(request)
    }
}

impl Draft {
    pub(in crate::ledger) fn of(mut self, workspace_id: &str) -> Self {
        self.entry.workspace_id = workspace(workspace_id);
        self.entry.reservation_id = Some(reservation(workspace_id, &self.request));
        self
    }

    pub(in crate::ledger) fn user(mut self, user: &str) -> Self {
        self.entry.user_id = (!user.is_empty()).then(|| UserId::parse(user).expect(user));
        self
    }

    pub(in crate::ledger) fn feature(mut self, feature: &str) -> Self {
        self.entry.feature = Feature::parse(feature).expect(feature);
        self
    }

    pub(in crate::ledger) fn model(mut self, model: &str) -> Self {
        self.entry.model = ModelId::parse(model).expect(model);
        self
    }

    pub(in crate::ledger) fn tokens(mut self, tokens: i64) -> Self {
        self.entry.counted.tokens = tokens;
        self
    }

    pub(in crate::ledger) fn counted(mut self, counted: Amounts) -> Self {
        self.entry.counted = counted;
        self
    }

    pub(in crate::ledger) fn at(mut self, second: i64) -> Self {
        self.entry.occurred_at = at(second);
        self
    }

    /// The second of its recording, which decides nothing.
    pub(in crate::ledger) fn recorded(mut self, second: i64) -> Self {
        self.entry.recorded_at = at(second);
        self
    }

    /// The revision that it is decided on.
    pub(in crate::ledger) fn on(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    pub(in crate::ledger) fn ending(mut self, end: impl Into<Option<End>>) -> Self {
        self.end = end.into();
        self
    }

    pub(in crate::ledger) fn fingerprint(mut self, fingerprint: u128) -> Self {
        self.fingerprint = Some(fingerprint);
        self
    }

    pub(in crate::ledger) fn expiring(mut self, second: i64) -> Self {
        self.expires_at = at(second);
        self
    }

    /// Records only differences to what `corrected` recorded.
    pub(in crate::ledger) fn correcting(mut self, corrected: &Entry) -> Self {
        self.entry.kind = Kind::Correction;
        self.entry.corrects = Some(corrected.entry_id);
        self
    }

    pub(in crate::ledger) fn with_correction(mut self, correction: Draft) -> Self {
        self.corrections.push(correction.entry);
        self
    }

    pub(in crate::ledger) fn naming(mut self, counters: impl IntoIterator<Item = Counter>) -> Self {
        self.counters.extend(counters);
        self
    }

    /// Falls under budgets that grants may raise.
    pub(in crate::ledger) fn charged(mut self, charges: impl IntoIterator<Item = Charge>) -> Self {
        self.charges.extend(charges);
        self
    }

    pub(in crate::ledger) fn telling(mut self, tells: Tells) -> Self {
        self.tells = tells;
        self
    }

    pub(in crate::ledger) fn post(self) -> Post {
        let mut post = Post {
            workspace: self.entry.workspace_id.clone(),
            reservation: self.entry.reservation_id.expect("a draft is of a reservation"),
            request_id: self.entry.request_id.clone(),
            revision: self.revision,
            end: self.end,
            fingerprint: self.fingerprint,
            checkpoint: None,
            entries: Vec::new(),
            counters: self.counters,
            charges: self.charges,
            tells: self.tells,
            now: at(NOON),
        };
        if self.is_checkpoint {
            post.checkpoint = Some(Checkpoint {
                entry: self.entry,
                expires_at: self.expires_at,
            });
        } else if !self.without_entry {
            post.entries.push(self.entry);
        }
        post.entries.extend(self.corrections);
        post
    }
}

/// A ledger, spoken to in verbs.
pub(in crate::ledger) struct Book {
    fixture: Box<dyn Fixture>,
}

impl Book {
    pub(in crate::ledger) fn over(fixture: Box<dyn Fixture>) -> Self {
        Self { fixture }
    }

    pub(in crate::ledger) fn ledger(&self) -> Arc<dyn Ledger> {
        self.fixture.ledger()
    }

    pub(in crate::ledger) async fn reopen(&mut self) {
        self.fixture.reopen().await;
    }

    /// Posts, expects it to be written, and returns the rows of the answer.
    pub(in crate::ledger) async fn done(&self, draft: Draft) -> Vec<SumRow> {
        match self.ledger().post(draft.post()).await.expect("the ledger answers") {
            Posted::Done { rows, .. } => rows,
            Posted::Stands(standing) => panic!("refused: {standing:?}"),
        }
    }

    /// Posts, expects it to be refused, and returns how the reservation stands.
    pub(in crate::ledger) async fn refused(&self, draft: Draft) -> Standing {
        match self.ledger().post(draft.post()).await.expect("the ledger answers") {
            Posted::Stands(standing) => *standing,
            Posted::Done { rows, .. } => panic!("written: {rows:?}"),
        }
    }

    /// Posts all at once, each from a task of its own, and returns the answers in no order.
    pub(in crate::ledger) async fn race(&self, drafts: impl IntoIterator<Item = Draft>) -> Vec<Posted> {
        let mut racing = JoinSet::new();
        for draft in drafts {
            let ledger = self.ledger();
            racing.spawn(async move { ledger.post(draft.post()).await.expect("the ledger answers") });
        }
        racing.join_all().await
    }

    pub(in crate::ledger) async fn standing(&self, request: &str) -> Option<Standing> {
        let reservation = reservation("ws_a", request);
        self.ledger().standing(reservation).await.expect("the ledger answers")
    }

    /// All rows of a group, whatever their period, by reading as if no time had passed yet.
    pub(in crate::ledger) async fn rows(&self, workspace_id: &str, whose: &Whose) -> Vec<SumRow> {
        let rows = self.ledger().rows(&workspace(workspace_id), whose, &[], Timestamp::MIN).await;
        rows.expect("the ledger answers")
    }

    /// The row of a counter of `ws_a`, if there is one.
    pub(in crate::ledger) async fn row(&self, counter: &Counter) -> Option<SumRow> {
        let rows = self.rows("ws_a", &counter.whose).await;
        rows.into_iter().find(|row| row.counter == *counter)
    }

    /// What a counter of `ws_a` says, which must have a row.
    pub(in crate::ledger) async fn spent(&self, counter: &Counter) -> i64 {
        let row = self.row(counter).await;
        row.unwrap_or_else(|| panic!("no row for {counter:?}")).spent
    }

    /// All entries of a workspace, newest first.
    pub(in crate::ledger) async fn entries(&self, workspace_id: &str) -> Vec<Entry> {
        self.list(&all(workspace_id)).await
    }

    pub(in crate::ledger) async fn list(&self, query: &EntryQuery) -> Vec<Entry> {
        self.ledger().entries(query).await.expect("the ledger answers")
    }

    /// What a case ends with: no sum differs from its entries.
    pub(in crate::ledger) async fn balances(&self) {
        assert_eq!(self.ledger().verify().await.expect("the ledger answers"), []);
    }
}

/// The first page of everything of a workspace.
pub(in crate::ledger) fn all(workspace_id: &str) -> EntryQuery {
    EntryQuery {
        workspace: workspace(workspace_id),
        from: None,
        to: None,
        feature: None,
        user: None,
        model: None,
        after: None,
        limit: 500,
    }
}

/// The first page of `ws_a` with every filter.
pub(in crate::ledger) fn of_one(user: &str, feature: &str, model: &str) -> EntryQuery {
    EntryQuery {
        user: Some(UserId::parse(user).expect(user)),
        feature: Some(Feature::parse(feature).expect(feature)),
        model: Some(ModelId::parse(model).expect(model)),
        ..all("ws_a")
    }
}

/// What the answer of a post says of a counter.
pub(in crate::ledger) fn spent_of(rows: &[SumRow], counter: &Counter) -> Option<i64> {
    rows.iter().find(|row| row.counter == *counter).map(|row| row.spent)
}

/// How many posts of a race were written.
pub(in crate::ledger) fn written(answers: &[Posted]) -> usize {
    answers.iter().filter(|answer| matches!(answer, Posted::Done { .. })).count()
}

/// The record of a change that nobody needs a reason for.
pub(in crate::ledger) fn audited(action: &str, id: &str) -> Audited {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    Audited {
        id: AuditId::from_uuid(uuid::Uuid::from_u128(NEXT.fetch_add(1, Ordering::Relaxed).into())),
        changed_at: at(NOON),
        by: by("usr_admin"),
        action: action.to_owned(),
        subject: Subject::shared(action.split('.').next().unwrap_or_default(), id),
        before: None,
        after: None,
    }
}

pub(in crate::ledger) fn by(actor: &str) -> By {
    By {
        actor: actor.to_owned(),
        reason: "a test's".to_owned(),
        request_id: None,
    }
}
