//! The policy's past, who is on which plan, and that no plan goes which a workspace is on, whoever is faster.

use super::book::{Book, at, audited, settle, workspace};
use crate::decision::id::PlanId;
use crate::decision::workspace::Workspace;
use crate::ledger::audit::By;
use crate::ledger::history::HistoryQuery;
use crate::ledger::{Ledger, PolicyChange};
use serde_json::{Value, json};
use std::sync::Arc;

const LIMIT: usize = 100;

fn change(expected_version: i64, objects: &[(&str, &str, Option<Value>)]) -> PolicyChange {
    PolicyChange {
        expected_version,
        objects: objects
            .iter()
            .map(|(kind, id, body)| ((*kind).to_owned(), (*id).to_owned(), body.clone()))
            .collect(),
        by: By {
            actor: format!("actor-{expected_version}"),
            reason: format!("reason-{expected_version}"),
            request_id: None,
        },
        audited: objects.iter().map(|(kind, id, _)| audited(&format!("{kind}.put"), id)).collect(),
        files_hash: (expected_version == 0).then(|| "hash".to_owned()),
        now: at(expected_version + 1),
    }
}

fn described(id: &str, plan: Option<&str>) -> Workspace {
    let mut described = Workspace::unknown(workspace(id), at(1));
    described.plan_id = plan.map(|plan| PlanId::parse(plan).expect(plan));
    described
}

async fn written(book: &Book, change: PolicyChange) -> Option<i64> {
    book.ledger().change_policy(change).await.expect("the ledger answers")
}

async fn put(ledger: Arc<dyn Ledger>, workspace: Workspace) -> bool {
    ledger
        .put_workspace(&workspace, 0, audited("workspace.put", workspace.id.as_str()))
        .await
        .expect("the ledger answers")
}

pub(in crate::ledger) async fn history_lists_versions_newest_first_with_what_they_changed(book: Book) {
    written(&book, change(0, &[("plan", "pro", Some(json!(1))), ("model", "m", Some(json!(1)))])).await;
    written(&book, change(1, &[("plan", "pro", None)])).await;
    written(&book, change(2, &[])).await;
    let told = async |query: HistoryQuery| -> Vec<String> {
        let versions = book.ledger().policy_history(&query).await.expect("the ledger answers");
        let words = |version: &crate::ledger::history::PolicyVersion| {
            let objects: Vec<String> = version
                .objects
                .iter()
                .map(|object| {
                    format!(
                        "{}/{}@{}{}",
                        object.kind,
                        object.id,
                        object.version,
                        if object.is_deleted { " deleted" } else { "" }
                    )
                })
                .collect();
            assert_eq!(version.changed_at, at(version.version));
            assert_eq!(
                (&*version.actor, &*version.reason),
                (
                    &*format!("actor-{}", version.version - 1),
                    &*format!("reason-{}", version.version - 1)
                )
            );
            assert_eq!(version.files_hash.is_some(), version.version == 1);
            format!("{}: {}", version.version, objects.join(" "))
        };
        versions.iter().map(words).collect()
    };
    let all = HistoryQuery {
        limit: LIMIT,
        ..HistoryQuery::default()
    };
    let object = |kind: &str, id: &str| HistoryQuery {
        object: Some((kind.to_owned(), id.to_owned())),
        ..all.clone()
    };
    assert_eq!(told(all.clone()).await, ["3: ", "2: plan/pro@2 deleted", "1: model/m@1 plan/pro@1"]);
    assert_eq!(
        told(HistoryQuery {
            before: Some(3),
            limit: 1,
            ..all.clone()
        })
        .await,
        ["2: plan/pro@2 deleted"]
    );
    assert_eq!(
        told(object("plan", "pro")).await,
        ["2: plan/pro@2 deleted", "1: model/m@1 plan/pro@1"]
    );
    assert_eq!(told(object("model", "m")).await, ["1: model/m@1 plan/pro@1"]);
    assert_eq!(told(object("model", "pro")).await, Vec::<String>::new());
}

pub(in crate::ledger) async fn workspaces_are_counted_by_the_plan_that_they_chose(book: Book) {
    let counts = async || book.ledger().workspaces_by_plan().await.expect("the ledger answers");
    assert_eq!(counts().await, []);
    for (id, plan) in [("ws_1", Some("pro")), ("ws_2", Some("pro")), ("ws_3", Some("free")), ("ws_4", None)] {
        assert!(put(book.ledger(), described(id, plan)).await);
    }
    book.done(settle("r").of("ws_by_use")).await;
    let mut counted = counts().await;
    counted.sort();
    assert_eq!(counted, [(None, 2), (Some("free".to_owned()), 1), (Some("pro".to_owned()), 2)]);
}

pub(in crate::ledger) async fn a_plan_that_a_workspace_is_on_is_not_taken_away(book: Book) {
    written(
        &book,
        change(0, &[("plan", "pro", Some(json!(1))), ("plan", "free", Some(json!(1)))]),
    )
    .await;
    assert!(put(book.ledger(), described("ws", Some("pro"))).await);
    let away = [("plan", "free", None), ("plan", "pro", None)];
    assert_eq!(written(&book, change(1, &away)).await, None);
    assert_eq!(
        book.ledger().policy().await.expect("the ledger answers").version,
        1,
        "nothing of it was written"
    );
    // A model of that name is no plan, and a plan that changes does not go.
    assert_eq!(
        written(&book, change(1, &[("model", "pro", None), ("plan", "pro", Some(json!(2)))])).await,
        Some(2)
    );
    assert_eq!(written(&book, change(2, &away[..1])).await, Some(3));
}

pub(in crate::ledger) async fn a_workspace_is_not_put_on_a_plan_that_is_gone(book: Book) {
    written(&book, change(0, &[("plan", "pro", Some(json!(1)))])).await;
    written(&book, change(1, &[("plan", "pro", None)])).await;
    assert!(!put(book.ledger(), described("ws", Some("pro"))).await);
    assert_eq!(book.ledger().workspace(&workspace("ws")).await.expect("the ledger answers"), None);
    assert!(put(book.ledger(), described("ws", None)).await);
    written(&book, change(2, &[("plan", "pro", Some(json!(3)))])).await;
    assert!(put(book.ledger(), described("ws_2", Some("pro"))).await, "it is there again");
}

pub(in crate::ledger) async fn a_plan_that_goes_and_a_workspace_that_comes_never_both_win(book: Book) {
    let mut version = 0;
    for round in 0..20 {
        version = written(&book, change(version, &[("plan", "pro", Some(json!(round)))]))
            .await
            .expect("written");
        let gone = change(version, &[("plan", "pro", None)]);
        let (ledger, other) = (book.ledger(), book.ledger());
        let coming = described(&format!("ws_{round}"), Some("pro"));
        let going = tokio::spawn(async move { ledger.change_policy(gone).await.expect("the ledger answers") });
        let coming = tokio::spawn(put(other, coming));
        let (gone, came) = (going.await.expect("done"), coming.await.expect("done"));
        assert!(gone.is_none() || !came, "round {round}");
        if came {
            // It leaves again, so that the next round begins alike.
            let mut moved = described(&format!("ws_{round}"), None);
            moved.version = 2;
            assert!(
                book.ledger()
                    .put_workspace(&moved, 1, audited("workspace.put", moved.id.as_str()))
                    .await
                    .expect("the ledger answers")
            );
        }
        version = gone.unwrap_or(version);
    }
}
