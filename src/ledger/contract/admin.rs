//! What operators look up and change besides policies: entries and their corrections, uses without a price, providers, workspaces.

use super::book::{Book, Draft, at, audited, month, reservation, settle, workspace};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::entry::Entry;
use crate::decision::id::{EntryId, ModelId, PlanId, Provider};
use crate::decision::provider::{ProviderSetting, ProviderState};
use crate::decision::workspace::{Status, Suspender, Workspace};
use crate::ledger::audit::AuditQuery;
use crate::ledger::correction::{Correction, UnpricedQuery};
use crate::ledger::directory::WorkspaceQuery;
use crate::ledger::{Post, Posted, Tells};
use std::collections::BTreeMap;
use tokio::task::JoinSet;

/// A correction of `original` by these tokens, decided on this revision.
fn correction(original: &Entry, tokens: i64, revision: i64) -> Correction {
    let mut entry = settle(original.request_id.as_str())
        .of(original.workspace_id.as_str())
        .correcting(original)
        .entry;
    entry.occurred_at = original.occurred_at;
    entry.counted = Amounts { tokens, ..Amounts::ZERO };
    Correction {
        audited: audited("entry.correct", &original.entry_id.to_string()),
        post: Post {
            workspace: original.workspace_id.clone(),
            reservation: reservation(original.workspace_id.as_str(), "corrections"),
            request_id: original.request_id.clone(),
            revision,
            end: None,
            fingerprint: None,
            checkpoint: None,
            entries: vec![entry],
            counters: Vec::new(),
            charges: Vec::new(),
            tells: Tells::default(),
            now: at(2_000),
        },
    }
}

async fn correct(book: &Book, corrections: Vec<Correction>) -> Vec<Posted> {
    book.ledger().correct(corrections).await.expect("the ledger answers")
}

async fn told(book: &Book) -> usize {
    let query = AuditQuery {
        limit: 500,
        ..AuditQuery::default()
    };
    book.ledger().audit_log(&query).await.expect("the ledger answers").len()
}

async fn recorded(book: &Book, draft: Draft) -> Entry {
    let entry = draft.entry.clone();
    book.done(draft).await;
    entry
}

pub(in crate::ledger) async fn a_correction_moves_the_rows_of_its_originals_time_and_is_audited(book: Book) {
    let entry = recorded(&book, settle("r").naming([month(Unit::Tokens)])).await;
    let before = book.spent(&month(Unit::Tokens)).await;
    let made = correction(&entry, -40, 0);
    let written = made.post.entries[0].clone();
    let posted = correct(&book, vec![made]).await;
    let [Posted::Done { rows, .. }] = &posted[..] else {
        panic!("refused: {posted:?}")
    };
    assert_eq!(
        rows.iter().find(|row| row.counter == month(Unit::Tokens)).map(|row| row.spent),
        Some(before - 40)
    );
    assert_eq!(book.spent(&month(Unit::Tokens)).await, before - 40);
    assert_eq!(told(&book).await, 1);
    let ledger = book.ledger();
    assert_eq!(ledger.entry(entry.entry_id).await.expect("the ledger answers"), Some(entry.clone()));
    assert_eq!(
        ledger.entry(written.entry_id).await.expect("the ledger answers"),
        Some(written.clone())
    );
    assert_eq!(ledger.corrections(&[entry.entry_id]).await.expect("the ledger answers"), [written]);
    assert_eq!(ledger.corrections(&[]).await.expect("the ledger answers"), []);
    let unknown = EntryId::from_uuid(uuid::Uuid::from_u128(u128::MAX));
    assert_eq!(ledger.entry(unknown).await.expect("the ledger answers"), None);
    book.balances().await;
}

pub(in crate::ledger) async fn a_correction_decided_on_an_old_revision_leaves_nothing_behind(book: Book) {
    let entry = recorded(&book, settle("r").naming([month(Unit::Tokens)])).await;
    let other = recorded(&book, settle("other")).await;
    assert!(matches!(
        &correct(&book, vec![correction(&entry, -1, 0)]).await[..],
        [Posted::Done { .. }]
    ));
    let spent = book.spent(&month(Unit::Tokens)).await;
    let mut beside = correction(&other, -2, 0);
    beside.post.reservation = reservation("ws_a", "other_corrections");
    let posted = correct(&book, vec![correction(&entry, -5, 0), beside]).await;
    let [Posted::Stands(standing), Posted::Done { .. }] = &posted[..] else {
        panic!("{posted:?}")
    };
    assert_eq!(standing.revision, 1);
    assert_eq!(book.spent(&month(Unit::Tokens)).await, spent - 2, "its neighbour is written");
    assert_eq!(told(&book).await, 2, "and only that one told");
    book.balances().await;
}

pub(in crate::ledger) async fn of_racing_corrections_on_one_revision_one_is_made(book: Book) {
    let entry = recorded(&book, settle("r").naming([month(Unit::Tokens)])).await;
    let before = book.spent(&month(Unit::Tokens)).await;
    let mut racing = JoinSet::new();
    for _ in 0..10 {
        let (ledger, made) = (book.ledger(), correction(&entry, -3, 0));
        racing.spawn(async move { ledger.correct(vec![made]).await.expect("the ledger answers") });
    }
    let done = racing.join_all().await.into_iter().flatten();
    assert_eq!(done.filter(|posted| matches!(posted, Posted::Done { .. })).count(), 1);
    assert_eq!(book.spent(&month(Unit::Tokens)).await, before - 3);
    assert_eq!(told(&book).await, 1);
    book.balances().await;
}

pub(in crate::ledger) async fn a_correction_whose_record_cannot_be_written_is_not_made(book: Book) {
    let entry = recorded(&book, settle("r").naming([month(Unit::Tokens)])).await;
    let first = correction(&entry, -3, 0);
    let record = first.audited.clone();
    correct(&book, vec![first]).await;
    let spent = book.spent(&month(Unit::Tokens)).await;
    let second = Correction {
        audited: record,
        ..correction(&entry, -4, 1)
    };
    assert!(book.ledger().correct(vec![second]).await.is_err());
    assert_eq!(book.spent(&month(Unit::Tokens)).await, spent);
    assert_eq!(book.entries("ws_a").await.len(), 2);
    book.balances().await;
}

pub(in crate::ledger) async fn what_has_no_price_is_listed_until_a_correction_has_one(book: Book) {
    let draft = |request: &str, second, model: &str| {
        let mut draft = settle(request).at(second).model(model);
        draft.entry.priced = false;
        draft.entry.cost_usd = None;
        draft
    };
    recorded(&book, settle("priced").at(1_000)).await;
    let c = recorded(&book, draft("c", 1_300, "m1")).await;
    let a = recorded(&book, draft("a", 1_100, "m1")).await;
    let b = recorded(&book, draft("b", 1_200, "m2").of("ws_b")).await;
    let list = async |query: UnpricedQuery| {
        let found = book.ledger().unpriced(&query).await.expect("the ledger answers");
        found.iter().map(|entry| entry.request_id.to_string()).collect::<Vec<_>>()
    };
    let all = UnpricedQuery {
        limit: 10,
        ..UnpricedQuery::default()
    };
    assert_eq!(list(all.clone()).await, ["a", "b", "c"], "oldest first");
    for (query, expected) in [
        (
            UnpricedQuery {
                workspace: Some(workspace("ws_a")),
                ..all.clone()
            },
            vec!["a", "c"],
        ),
        (
            UnpricedQuery {
                model: ModelId::parse("m2").ok(),
                ..all.clone()
            },
            vec!["b"],
        ),
        (
            UnpricedQuery {
                from: Some(at(1_200)),
                to: Some(at(1_300)),
                ..all.clone()
            },
            vec!["b"],
        ),
        (
            UnpricedQuery {
                after: Some((a.occurred_at, a.entry_id)),
                limit: 1,
                ..all.clone()
            },
            vec!["b"],
        ),
        (
            UnpricedQuery {
                after: Some((b.occurred_at, b.entry_id)),
                ..all.clone()
            },
            vec!["c"],
        ),
    ] {
        assert_eq!(list(query.clone()).await, expected, "{query:?}");
    }
    // A correction that has none either does not take it off the list; one with a price does, and is never listed itself.
    let mut unpriced = correction(&c, -1, 0);
    unpriced.post.entries[0].priced = false;
    correct(&book, vec![unpriced]).await;
    assert_eq!(list(all.clone()).await, ["a", "b", "c"]);
    correct(&book, vec![correction(&c, 0, 1)]).await;
    assert_eq!(list(all).await, ["a", "b"]);
}

pub(in crate::ledger) async fn a_policy_object_tells_when_it_changed(book: Book) {
    let change = |version: i64, id: &str| crate::ledger::PolicyChange {
        expected_version: version,
        objects: vec![("model".to_owned(), id.to_owned(), Some(serde_json::json!(version)))],
        by: super::book::by("usr_1"),
        audited: Vec::new(),
        files_hash: None,
        now: at(1),
    };
    for (version, id) in [(0, "a"), (1, "b"), (2, "a"), (3, "b"), (4, "a")] {
        book.ledger().change_policy(change(version, id)).await.expect("the ledger answers");
    }
    for (kind, id, expected) in [("model", "a", vec![5, 3, 1]), ("model", "b", vec![4, 2]), ("plan", "a", vec![])] {
        assert_eq!(
            book.ledger().policy_versions_of(kind, id).await.expect("the ledger answers"),
            expected,
            "{kind} {id}"
        );
    }
}

pub(in crate::ledger) async fn a_provider_is_remembered_as_it_was_set_last(mut book: Book) {
    let setting = |name: &str, state, second| ProviderSetting {
        provider: Provider::parse(name).expect(name),
        state,
        changed_at: at(second),
    };
    assert_eq!(book.ledger().providers().await.expect("the ledger answers"), []);
    let steps = [
        setting("zenith", ProviderState::Drained, 1),
        setting("acme", ProviderState::Drained, 2),
        setting("zenith", ProviderState::Auto, 3),
    ];
    for step in &steps {
        let record = audited("provider.put", step.provider.as_str());
        book.ledger().put_provider(step, record).await.expect("the ledger answers");
    }
    book.reopen().await;
    assert_eq!(
        book.ledger().providers().await.expect("the ledger answers"),
        [steps[1].clone(), steps[2].clone()],
        "by name"
    );
    assert_eq!(told(&book).await, 3);
    let taken = audited("provider.put", "acme");
    book.ledger()
        .put_provider(&steps[1], taken.clone())
        .await
        .expect("the ledger answers");
    let refused = book.ledger().put_provider(&setting("new", ProviderState::Drained, 9), taken).await;
    assert!(refused.is_err(), "its record cannot be written");
    assert_eq!(book.ledger().providers().await.expect("the ledger answers").len(), 2);
}

pub(in crate::ledger) async fn workspaces_are_listed_newest_first_and_filtered(book: Book) {
    let put = async |id: &str, second: i64, plan: Option<&str>, status: Status| {
        let mut new = Workspace::unknown(workspace(id), at(second));
        new.plan_id = plan.map(|plan| PlanId::parse(plan).expect(plan));
        new.status = status;
        new.suspended_by = (status == Status::Suspended).then_some(Suspender::Operator);
        let put = book.ledger().put_workspace(&new, 0, audited("workspace.put", id)).await;
        assert!(put.expect("the ledger answers"));
        new
    };
    let mut all = BTreeMap::new();
    for (id, second, plan, status) in [
        ("ws_b", 10, Some("pro"), Status::Active),
        ("ws_a", 10, None, Status::Active),
        ("ws_d", 30, Some("pro"), Status::Suspended),
        ("ws_c", 20, Some("free"), Status::Active),
    ] {
        all.insert(id, put(id, second, plan, status).await);
    }
    let list = async |query: WorkspaceQuery| book.ledger().workspaces(&query).await.expect("the ledger answers");
    let every = WorkspaceQuery {
        limit: 10,
        ..WorkspaceQuery::default()
    };
    let after = |id: &str| Some((all[id].created_at, workspace(id)));
    for (query, expected) in [
        (every.clone(), vec!["ws_d", "ws_c", "ws_b", "ws_a"]),
        (WorkspaceQuery { limit: 2, ..every.clone() }, vec!["ws_d", "ws_c"]),
        (
            WorkspaceQuery {
                after: after("ws_c"),
                limit: 1,
                ..every.clone()
            },
            vec!["ws_b"],
        ),
        (
            WorkspaceQuery {
                after: after("ws_b"),
                ..every.clone()
            },
            vec!["ws_a"],
        ),
        (
            WorkspaceQuery {
                plan: PlanId::parse("pro").ok(),
                ..every.clone()
            },
            vec!["ws_d", "ws_b"],
        ),
        (
            WorkspaceQuery {
                status: Some(Status::Suspended),
                ..every.clone()
            },
            vec!["ws_d"],
        ),
        (
            WorkspaceQuery {
                plan: PlanId::parse("pro").ok(),
                status: Some(Status::Active),
                ..every.clone()
            },
            vec!["ws_b"],
        ),
        (
            WorkspaceQuery {
                from: Some(at(10)),
                to: Some(at(30)),
                ..every.clone()
            },
            vec!["ws_c", "ws_b", "ws_a"],
        ),
    ] {
        let expected: Vec<Workspace> = expected.into_iter().map(|id| all[id].clone()).collect();
        assert_eq!(list(query.clone()).await, expected, "{query:?}");
    }
}
