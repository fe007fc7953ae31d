//! What is described rather than counted: workspaces and policies, changed by whoever saw the version that is there.

use super::book::{Book, at, audited, by, month, settle, workspace};
use crate::decision::amount::Unit;
use crate::decision::id::PlanId;
use crate::decision::money::Usd;
use crate::decision::workspace::{Suspender, Workspace};
use crate::ledger::{KeptAnswer, PolicyChange, PolicyState};
use serde_json::{Value, json};
use tokio::task::JoinSet;

fn described(version: u32) -> Workspace {
    let mut workspace = Workspace::unknown(workspace("ws_a"), at(1));
    workspace.plan_id = Some(PlanId::parse("pro").expect("a plan"));
    workspace.seats.change(5, at(2));
    workspace.suspend(if version.is_multiple_of(2) {
        Suspender::Operator
    } else {
        Suspender::Subscription
    });
    workspace.stripe_customer_id = Some("cus_'1".to_owned());
    workspace.revenue_usd = Some(Usd::from_nanos(-1));
    workspace.version = version;
    workspace.updated_at = at(3);
    let soft = serde_json::from_value(json!({"monthly_tokens": {"soft": i64::MAX, "hard": null, "expires_at": null}}));
    workspace.overrides = soft.expect("overrides");
    workspace
}

pub(in crate::ledger) async fn a_workspace_is_created_once_and_replaced_at_its_version(book: Book) {
    let ledger = book.ledger();
    let put = |version, expected| {
        let ledger = book.ledger();
        async move {
            ledger
                .put_workspace(&described(version), expected, audited("workspace.put", "ws_a"))
                .await
                .expect("the ledger answers")
        }
    };
    assert!(!put(2, 1).await, "there is nothing to replace");
    assert!(put(1, 0).await);
    assert!(!put(1, 0).await, "it is there already");
    assert_eq!(
        ledger.workspace(&workspace("ws_a")).await.expect("the ledger answers"),
        Some(described(1))
    );
    assert!(put(2, 1).await);
    assert!(!put(2, 1).await, "it has moved on");
    assert_eq!(
        ledger.workspace(&workspace("ws_a")).await.expect("the ledger answers"),
        Some(described(2))
    );
}

pub(in crate::ledger) async fn of_racing_changes_of_a_workspace_one_wins(book: Book) {
    book.done(settle("r")).await;
    let mut racing = JoinSet::new();
    for seats in 0..20 {
        let ledger = book.ledger();
        racing.spawn(async move {
            let mut workspace = described(2);
            workspace.seats.change(100 + seats, at(5));
            let won = ledger
                .put_workspace(&workspace, 1, audited("workspace.put", "ws_a"))
                .await
                .expect("the ledger answers");
            won.then_some(workspace)
        });
    }
    let won: Vec<Workspace> = racing.join_all().await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert_eq!(
        book.ledger()
            .workspace(&workspace("ws_a"))
            .await
            .expect("the ledger answers")
            .as_ref(),
        won.first()
    );
}

pub(in crate::ledger) async fn describing_a_workspace_moves_no_sum(book: Book) {
    book.done(settle("a").naming([month(Unit::Tokens)])).await;
    let before = book.row(&month(Unit::Tokens)).await;
    assert!(
        book.ledger()
            .put_workspace(&described(2), 1, audited("workspace.put", "ws_a"))
            .await
            .expect("the ledger answers")
    );
    assert_eq!(book.row(&month(Unit::Tokens)).await, before);
    let after = book.done(settle("b")).await;
    assert!(
        after[0].version > before.expect("a row").version,
        "versions of sums go on where they were"
    );
    assert_eq!(
        book.ledger().workspace(&workspace("ws_a")).await.expect("the ledger answers"),
        Some(described(2))
    );
}

pub(in crate::ledger) async fn a_workspace_is_found_by_its_plan(book: Book) {
    let on = |plan: &'static str| {
        let ledger = book.ledger();
        async move { ledger.workspace_on_plan(plan).await.expect("the ledger answers") }
    };
    book.done(settle("r").of("ws_b")).await;
    assert_eq!(on("pro").await, None);
    assert!(
        book.ledger()
            .put_workspace(&described(1), 0, audited("workspace.put", "ws_a"))
            .await
            .expect("the ledger answers")
    );
    assert_eq!(on("pro").await, Some(workspace("ws_a")));
    assert_eq!(on("free").await, None);
}

fn change(expected_version: i64, objects: &[(&str, &str, Option<Value>)]) -> PolicyChange {
    PolicyChange {
        expected_version,
        objects: objects
            .iter()
            .map(|(kind, id, body)| ((*kind).to_owned(), (*id).to_owned(), body.clone()))
            .collect(),
        by: by("usr_admin"),
        audited: objects.iter().map(|(kind, id, _)| audited(&format!("{kind}.put"), id)).collect(),
        files_hash: None,
        now: at(expected_version + 1),
    }
}

/// Each object as `kind/id@version body`.
fn told(state: &PolicyState) -> Vec<String> {
    let body = |body: &Option<Value>| body.as_ref().map_or("deleted".to_owned(), Value::to_string);
    state
        .objects
        .iter()
        .map(|object| format!("{}/{}@{} {}", object.kind, object.id, object.version, body(&object.body)))
        .collect()
}

pub(in crate::ledger) async fn policy_begins_empty_and_each_change_makes_a_version(book: Book) {
    let ledger = book.ledger();
    assert_eq!(ledger.policy().await.expect("the ledger answers"), PolicyState::default());
    assert_eq!(ledger.policy_version().await.expect("the ledger answers"), 0);
    let plan = |hard: i64| Some(json!({"budgets": [{"unit": "tokens", "hard": hard}], "name": "it's \"Pro\""}));
    let text = |hard: i64| plan(hard).expect("a body").to_string();
    let changes = [
        change(0, &[("plan", "pro", plan(1)), ("model", "pro", Some(json!({})))]),
        change(1, &[("plan", "pro", plan(2)), ("plan", "free", plan(0))]),
        change(2, &[("plan", "pro", None), ("model", "pro", Some(Value::Null))]),
        change(3, &[("plan", "pro", plan(3))]),
    ];
    let states = [
        vec!["model/pro@1 {}".to_owned(), format!("plan/pro@1 {}", text(1))],
        vec![
            "model/pro@1 {}".to_owned(),
            format!("plan/free@1 {}", text(0)),
            format!("plan/pro@2 {}", text(2)),
        ],
        vec![
            "model/pro@2 null".to_owned(),
            format!("plan/free@1 {}", text(0)),
            "plan/pro@3 deleted".to_owned(),
        ],
        vec![
            "model/pro@2 null".to_owned(),
            format!("plan/free@1 {}", text(0)),
            format!("plan/pro@4 {}", text(3)),
        ],
    ];
    for (version, (change, expected)) in (1..).zip(changes.into_iter().zip(&states)) {
        assert_eq!(ledger.change_policy(change).await.expect("the ledger answers"), Some(version));
        let state = ledger.policy().await.expect("the ledger answers");
        assert_eq!((state.version, state.changed_at), (version, Some(at(version))));
        assert_eq!(&told(&state), expected, "version {version}");
        assert_eq!(ledger.policy_version().await.expect("the ledger answers"), version);
    }
    for (version, expected) in (1..).zip(&states) {
        let state = ledger
            .policy_at(version)
            .await
            .expect("the ledger answers")
            .expect("it was in force");
        assert_eq!((state.version, state.changed_at), (version, Some(at(version))));
        assert_eq!(&told(&state), expected, "version {version}, looked back at");
    }
    for never in [-1, 0, 5] {
        assert_eq!(ledger.policy_at(never).await.expect("the ledger answers"), None, "{never}");
    }
}

pub(in crate::ledger) async fn a_change_of_policy_on_an_old_version_changes_nothing(book: Book) {
    let ledger = book.ledger();
    for (expected, answer) in [(1, None), (0, Some(1)), (0, None), (2, None), (1, Some(2))] {
        let change = change(expected, &[("settings", "s", Some(json!(expected)))]);
        assert_eq!(
            ledger.change_policy(change).await.expect("the ledger answers"),
            answer,
            "{expected}"
        );
    }
    assert_eq!(told(&ledger.policy().await.expect("the ledger answers")), ["settings/s@2 1"]);
}

pub(in crate::ledger) async fn of_racing_changes_of_policy_one_wins(book: Book) {
    let mut racing = JoinSet::new();
    for n in 0..20 {
        let ledger = book.ledger();
        racing.spawn(async move {
            let change = change(0, &[("plan", "pro", Some(json!(n)))]);
            ledger.change_policy(change).await.expect("the ledger answers")
        });
    }
    let won = racing.join_all().await.into_iter().flatten().collect::<Vec<_>>();
    assert_eq!(won, [1]);
    assert_eq!(book.ledger().policy().await.expect("the ledger answers").objects.len(), 1);
}

pub(in crate::ledger) async fn the_hash_of_the_files_outlives_changes_without_files(book: Book) {
    let ledger = book.ledger();
    for (version, (hash, expected)) in (0..).zip([(None, None), (Some("a"), Some("a")), (None, Some("a")), (Some("b"), Some("b"))]) {
        let with_hash = PolicyChange {
            files_hash: hash.map(str::to_owned),
            ..change(version, &[])
        };
        ledger.change_policy(with_hash).await.expect("the ledger answers");
        assert_eq!(
            ledger.policy().await.expect("the ledger answers").files_hash.as_deref(),
            expected,
            "after {version}"
        );
    }
    let earlier = ledger.policy_at(3).await.expect("the ledger answers");
    assert_eq!(earlier.and_then(|state| state.files_hash).as_deref(), Some("a"));
}

fn answer(body: &str, seconds: i64) -> KeptAnswer {
    KeptAnswer {
        fingerprint: u128::MAX,
        status: 409,
        content_type: "application/json".to_owned(),
        body: body.to_owned(),
        at: at(seconds),
    }
}

pub(in crate::ledger) async fn of_the_answers_under_a_key_the_first_is_kept_for_its_time(mut book: Book) {
    let kept = async |book: &Book, key, answer, since| {
        let kept = book.ledger().answer_once(key, answer, at(since)).await;
        kept.expect("the ledger answers")
    };
    assert_eq!(kept(&book, 1, None, 0).await, None);
    let first = answer("{\"a\": \"'ä\\u0000\"}", 100);
    assert_eq!(kept(&book, 1, Some(first.clone()), 0).await, Some(first.clone()));
    assert_eq!(
        kept(&book, 1, Some(answer("later", 101)), 0).await,
        Some(first.clone()),
        "the first stays"
    );
    assert_eq!(kept(&book, 2, None, 0).await, None, "another key has none");
    book.reopen().await;
    assert_eq!(kept(&book, 1, None, 99).await, Some(first), "also after a restart");
    assert_eq!(kept(&book, 1, None, 100).await, None, "it is too old by then");
    let second = answer("another", 200);
    assert_eq!(kept(&book, 1, Some(second.clone()), 100).await, Some(second), "and makes room");
}

pub(in crate::ledger) async fn racing_answers_are_all_told_the_first(book: Book) {
    let mut racing = JoinSet::new();
    for n in 0..20 {
        let ledger = book.ledger();
        racing.spawn(async move { ledger.answer_once(7, Some(answer(&n.to_string(), 100 + n)), at(0)).await });
    }
    let told: Vec<_> = racing
        .join_all()
        .await
        .into_iter()
        .map(|told| told.expect("the ledger answers"))
        .collect();
    assert!(told.iter().all(|one| one.is_some() && *one == told[0]), "{told:?}");
}

pub(in crate::ledger) async fn a_ledger_that_works_answers_a_ping(book: Book) {
    book.ledger().ping().await.expect("the ledger answers");
    assert_eq!(book.ledger().workspace(&workspace("ws_a")).await.expect("the ledger answers"), None);
}
