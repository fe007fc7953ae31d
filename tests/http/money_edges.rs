//! Money at its edges, over HTTP: grants beside plans that change, lost copies, uses out of time, and calls of runs that settle late.

use crate::support::TestApp;
use reqwest::Method;
use serde_json::{Value, json};
use weir::decision::grant::{Grant, PRIORITY_DEFAULT, Source};
use weir::decision::id::{BudgetId, GrantId, WorkspaceId};
use weir::flow::audit;

const GRANTS: &str = "/v1/admin/workspaces/ws/grants";

async fn verified(app: &TestApp) -> Vec<weir::flow::verify::Difference> {
    let (ledger, clock) = (&app.service.ledger, &*app.service.clock);
    let found = weir::flow::verify::verify(&**ledger, Some(&*app.service.counters), clock, |_| {}).await;
    found.expect("it is verified").differences
}

async fn granted(app: &TestApp) -> i64 {
    app.budget("ws", "tokens").await["granted"].as_i64().expect("an integer")
}

/// Gives a grant and follows it everywhere.
async fn give(app: &TestApp, body: Value) -> Value {
    let grant = app.post(GRANTS, body).await.expect(201);
    app.follow_all().await;
    grant
}

/// A grant that the ledger has, and of which no counter was told: what a node leaves that dies in between.
async fn give_and_die(app: &TestApp, key: &str, amount: i64) {
    let now = app.service.clock.now();
    let grant = Grant {
        id: GrantId::from_uuid(app.service.clock.uuid()),
        key: Some(key.to_owned()),
        budget: BudgetId::parse("tokens").expect("a name"),
        unit: weir::decision::amount::Unit::Tokens,
        amount,
        priority: PRIORITY_DEFAULT,
        effective_at: now,
        expires_at: None,
        recurrence: None,
        rollover_min: None,
        rollover_max: None,
        source: Source::Manual,
        paid: None,
        created_at: now,
        voided_at: None,
    };
    let by = audit::By {
        actor: "tester".to_owned(),
        reason: String::new(),
        request_id: None,
    };
    let workspace = WorkspaceId::parse("ws").expect("a name");
    let subject = audit::Subject::of(&workspace, "grant", grant.id.to_string());
    let record = audit::record(&*app.service.clock, &by, "grant.give", subject, None, None);
    app.service.ledger.give(&workspace, grant, None, record).await.expect("it is given");
}

#[tokio::test]
async fn a_grant_of_dollars_is_no_allowance_once_its_budget_counts_tokens() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    app.authorize("ws").tokens(1, 0).allowed().await;
    app.workspace_on(
        "ws",
        json!({"budgets": [{"id": "tokens", "unit": "usd", "period": "month", "hard": "1"}]}),
    )
    .await;
    app.follow_all().await;
    let grant = give(&app, json!({"budget_id": "tokens", "amount": "50.000000001"})).await;
    assert_eq!((&grant["unit"], &grant["balance"]), (&json!("usd"), &json!("50.000000001")));
    app.authorize("ws").tokens(1, 0).allowed().await;
    app.workspace_with_tokens("ws", 100).await;
    app.follow_all().await;
    assert_eq!(verified(&app).await, []);
    app.authorize("ws").tokens(101, 0).denied().await;
    assert_eq!(granted(&app).await, 0);
    app.workspace_on(
        "ws",
        json!({"budgets": [{"id": "tokens", "unit": "usd", "period": "month", "hard": "1"}]}),
    )
    .await;
    app.follow_all().await;
    assert_eq!(app.budget("ws", "tokens").await["granted"], "50.000000001");
}

#[tokio::test]
async fn a_grant_whose_giver_died_is_told_to_the_counters_when_it_is_given_again() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    give(&app, json!({"amount": 10})).await;
    app.authorize("ws").tokens(110, 0).reserved().await;
    give_and_die(&app, "second", 40).await;
    app.authorize("ws").tokens(40, 0).denied().await;
    app.post(GRANTS, json!({"amount": 40, "key": "second"})).await.expect(200);
    app.authorize("ws").tokens(40, 0).allowed().await;
    app.authorize("ws").tokens(1, 0).denied().await;
}

#[tokio::test]
async fn a_use_ahead_of_the_clock_takes_no_balance_of_a_grant_that_ends_before_it() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    give(&app, json!({"amount": 50, "expires_at": "2025-11-21T10:02:00Z"})).await;
    give(&app, json!({"amount": 50})).await;
    let usage = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "u",
        "occurred_at": "2025-11-21T10:04:00Z", "usage": {"input_tokens": 130, "output_tokens": 0}});
    app.post("/v1/usage", usage).await.expect(200);
    let usage = app.get("/v1/workspaces/ws/usage").await.expect(200);
    let mut balances: Vec<i64> = usage["grants"]
        .as_array()
        .expect("grants")
        .iter()
        .filter_map(|grant| grant["balance"].as_i64())
        .collect();
    balances.sort_unstable();
    assert_eq!(balances, [20, 50], "{usage}");
    assert_eq!(granted(&app).await, 100, "thirty are paid, and seventy are left for two minutes");
    app.authorize("ws").tokens(70, 0).allowed().await;
    assert_eq!(verified(&app).await, []);
}

#[tokio::test]
async fn a_purse_that_is_behind_the_ledger_is_found() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    give(&app, json!({"amount": 10})).await;
    let used = app.authorize("ws").tokens(105, 0).reserved().await;
    app.settle(&used, 105, 0).await.expect(200);
    assert_eq!(verified(&app).await, []);
    give_and_die(&app, "second", 40).await;
    let found = verified(&app).await;
    assert_eq!(found.len(), 1, "{found:?}");
    app.post(GRANTS, json!({"amount": 40, "key": "second"})).await.expect(200);
    assert_eq!(verified(&app).await, []);
}

#[tokio::test]
async fn a_call_that_settles_late_has_used_up_so_much_of_its_run() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 1_000).await;
    let parent = app.authorize("ws").tokens(600, 0).with("hold_seconds", 3_600).reserved().await;
    let call = |tokens| app.authorize("ws").tokens(tokens, 0).with("parent_reservation_id", parent.as_str());
    let late = call(250).with("hold_seconds", 60).reserved().await;
    app.pass_seconds(61);
    assert_eq!(app.settle(&late, 250, 0).await.expect(200)["late"], true);
    assert_eq!((app.spent("ws", "tokens").await, app.held("ws", "tokens").await), (250, 350));
    call(351).denied().await;
    let rest = call(350).reserved().await;
    app.settle(&rest, 350, 0).await.expect(200);
    app.call(Method::POST, &format!("/v1/reservations/{parent}/release"), None)
        .await
        .expect(200);
    assert_eq!((app.spent("ws", "tokens").await, app.held("ws", "tokens").await), (600, 0));
    assert_eq!(verified(&app).await, []);
}

#[tokio::test]
async fn a_run_on_grant_money_is_paid_by_a_grant_that_expired_meanwhile() {
    let app = TestApp::start().await;
    app.workspace_with_tokens("ws", 100).await;
    give(&app, json!({"amount": 50, "expires_at": "2025-11-21T10:02:00Z"})).await;
    let parent = app.authorize("ws").tokens(140, 0).with("hold_seconds", 3_600).reserved().await;
    app.pass_seconds(200);
    let call = app
        .authorize("ws")
        .tokens(140, 0)
        .with("parent_reservation_id", parent.as_str())
        .reserved()
        .await;
    app.call(Method::POST, &format!("/v1/reservations/{parent}/release"), None)
        .await
        .expect(200);
    app.settle(&call, 140, 0).await.expect(200);
    let budget = app.budget("ws", "tokens").await;
    assert_eq!(
        (&budget["granted"], &budget["spent"], &budget["held"]),
        (&json!(40), &json!(140), &json!(0))
    );
    assert_eq!(verified(&app).await, []);
}

#[tokio::test]
async fn what_was_authorized_on_a_grant_is_paid_by_it_in_whatever_order_it_is_settled() {
    for settled_in in [[0, 1], [1, 0]] {
        let app = TestApp::start_at("2025-11-30T23:55:00Z").await;
        app.workspace_with_tokens("ws", 100).await;
        let early = app.authorize("ws").tokens(60, 0).with("hold_seconds", 3_600).reserved().await;
        app.pass_seconds(60);
        let grant = give(&app, json!({"amount": 50, "expires_at": "2025-11-30T23:58:00Z"})).await;
        let on_grant = app.authorize("ws").tokens(90, 0).with("hold_seconds", 3_600).reserved().await;
        app.authorize("ws").tokens(1, 0).denied().await;
        app.pass_seconds(if settled_in[0] == 0 { 180 } else { 360 });
        for place in settled_in {
            let (reservation, tokens) = [(&early, 60), (&on_grant, 90)][place];
            app.settle(reservation, tokens, 0).await.expect(200);
        }
        let usage = app.get("/v1/workspaces/ws/usage").await.expect(200);
        let found = usage["grants"]
            .as_array()
            .expect("grants")
            .iter()
            .find(|found| found["grant_id"] == grant["grant_id"]);
        assert!(found.is_none_or(|found| found["balance"] == 0), "{usage}");
        let period = weir::decision::time::Timestamp::from_micros(0);
        let (workspace, whose) = (WorkspaceId::parse("ws").expect("a name"), weir::decision::counter::Whose::Workspace);
        let rows = app.service.ledger.rows(&workspace, &whose, &[], period);
        let november = rows.await.expect("rows").into_iter().find(|row| row.spent > 0).expect("November");
        assert_eq!((november.spent, november.paid), (150, 50), "{settled_in:?}");
        assert_eq!(verified(&app).await, []);
    }
}
