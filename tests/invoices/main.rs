//! Invoice previews over HTTP: lines that add up to the total to the cent, what grants paid, periods and who may look. And the rating of tiers
//! and prices held against rows of what others compute.

mod rows;
#[path = "../support/mod.rs"]
mod support;

use serde_json::{Value, json};
use support::TestApp;

impl TestApp {
    async fn preview(&self, query: &str) -> Value {
        let preview = self.get(&format!("/v1/workspaces/ws/invoice-preview{query}")).await.expect(200);
        adds_up(&preview);
        preview
    }

    /// A workspace `ws` on plan `priced`.
    async fn priced(&self, pricing: Value, budgets: Value) {
        let plan = json!({"name": "Priced", "pricing": pricing, "budgets": budgets});
        self.put("/v1/admin/plans/priced", plan).await.expect_one_of(&[200, 201]);
        self.put("/v1/admin/workspaces/ws", json!({"plan_id": "priced", "seats": 3}))
            .await
            .expect_one_of(&[200, 201]);
    }

    /// Records a use of so many tokens, and returns its entry's id.
    async fn used(&self, request: &str, tokens: i64, more: Value) -> String {
        let mut body = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": request,
            "usage": {"input_tokens": tokens, "output_tokens": 0}});
        body.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        let recorded = self.post("/v1/usage", body).await.expect(200);
        recorded["entry"]["entry_id"].as_str().expect("an id").to_owned()
    }
}

fn nanos(value: &Value) -> i64 {
    weir::decision::money::Usd::parse(value.as_str().expect("usd"))
        .expect("usd")
        .nanos()
}

/// Lines in whole cents are the total, exact ones the exact total, and both are the same to the cent.
#[track_caller]
fn adds_up(preview: &Value) {
    let lines = preview["lines"].as_array().expect("lines");
    let sum = |member: &str| lines.iter().map(|line| nanos(&line[member])).sum::<i64>();
    let (total, exact) = (nanos(&preview["total_usd"]), nanos(&preview["exact_total_usd"]));
    assert_eq!((sum("amount_usd"), sum("exact_usd")), (total, exact), "{preview:#}");
    assert!(lines.iter().all(|line| nanos(&line["amount_usd"]) % 10_000_000 == 0), "{preview:#}");
    assert!((total - exact).abs() <= 5_000_000, "{preview:#}");
    assert_eq!((&preview["is_final"], &preview["currency"]), (&json!(false), &json!("usd")));
}

/// Kind, quantity and amount of each line.
fn lines(preview: &Value) -> Vec<(String, Value, String)> {
    let lines = preview["lines"].as_array().expect("lines").iter();
    let cents = |line: &Value| line["amount_usd"].as_str().expect("usd").trim_end_matches("0000000").to_owned();
    lines
        .map(|line| {
            (
                line["kind"].as_str().expect("a kind").to_owned(),
                line["quantity"].clone(),
                cents(line),
            )
        })
        .collect()
}

#[track_caller]
fn has(preview: &Value, expected: &[(&str, i64, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(kind, quantity, amount)| ((*kind).to_owned(), json!(quantity), (*amount).to_owned()))
        .collect();
    assert_eq!(lines(preview), expected, "{preview:#}");
}

#[tokio::test]
async fn a_preview_has_a_line_for_each_thing_and_corrections_count() {
    let app = TestApp::start().await;
    let pricing = json!({"model": "seat_plus_usage", "base_usd": "50.00", "seat_usd": "20.00", "included_seats": 1,
        "overage": {"budget_id": "tokens", "per": 1000, "usd": "0.333"},
        "outcomes": {"contract_drafted": "2.00"},
        "usage": [{"id": "requests", "unit": "requests", "included": 1, "tiers": [{"up_to": 2, "unit_usd": "0.50"}, {"unit_usd": "0.25"}]}]});
    app.priced(
        pricing,
        json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000, "at_hard": "overage"}]),
    )
    .await;
    has(&app.preview("").await, &[("base", 1, "50.00"), ("seats", 2, "40.00")]);
    app.used("a", 700, json!({"billable_outcomes": {"contract_drafted": 1, "mail_sent": 2}}))
        .await;
    let over = app.used("b", 1800, json!({})).await;
    app.used("c", 10, json!({})).await;
    app.used(
        "d",
        0,
        json!({"usage": {"input_tokens": 5, "output_tokens": 0}, "billable_outcomes": {"contract_drafted": 2}}),
    )
    .await;
    let expected = [
        ("base", 1, "50.00"),
        ("seats", 2, "40.00"),
        ("usage", 2, "1.00"),
        ("usage", 1, "0.25"),
        ("overage", 1515, "0.50"),
        ("outcome", 3, "6.00"),
        ("outcome", 2, "0.00"),
    ];
    let preview = app.preview("").await;
    has(&preview, &expected);
    assert_eq!(
        (&preview["plan_id"], &preview["plan_version"], &preview["seats"]),
        (&json!("priced"), &json!(1), &json!(3))
    );
    assert_eq!(
        preview["period"],
        json!({"start": "2025-11-01T00:00:00Z", "end": "2025-12-01T00:00:00Z"})
    );
    assert_eq!(
        preview["plan_versions"],
        json!([{"plan_id": "priced", "plan_version": 1, "entries": 4}])
    );
    let overage = &preview["lines"][4];
    assert_eq!(
        (&overage["budget_id"], &overage["unit"], &overage["period"]),
        (&json!("tokens"), &json!("tokens"), &preview["period"])
    );
    assert_eq!(
        (&overage["price_usd"], &overage["per"], &overage["exact_usd"]),
        (&json!("0.333000000"), &json!(1000), &json!("0.504495000"))
    );
    let correction = json!({"entry_id": over, "usage": {"input_tokens": 300, "output_tokens": 0}, "reason": "counted twice"});
    app.post("/v1/admin/ledger/corrections", correction).await.expect(201);
    has(
        &app.preview("?period=current").await,
        &[&expected[..4], &[("overage", 15, "0.00")], &expected[5..]].concat(),
    );
}

#[tokio::test]
async fn a_month_ends_and_its_invoice_stays_what_it_was() {
    let app = TestApp::start().await;
    let pricing = |usd: &str| json!({"model": "flat", "base_usd": usd, "outcomes": {"done": "1"}});
    app.priced(
        pricing("10"),
        json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]),
    )
    .await;
    app.used("a", 10, json!({"billable_outcomes": {"done": 2}})).await;
    has(&app.preview("").await, &[("base", 1, "10.00"), ("outcome", 2, "2.00")]);
    app.set_clock("2025-12-05T00:00:00Z");
    has(&app.preview("").await, &[("base", 1, "10.00")]);
    has(
        &app.preview("?period=previous").await,
        &[("base", 1, "10.00"), ("outcome", 2, "2.00")],
    );
    // Another plan now: the month that has ended is priced by the one that it was used under.
    app.put(
        "/v1/admin/plans/other",
        json!({"name": "Other", "pricing": pricing("99"), "unlimited": true}),
    )
    .await
    .expect(201);
    app.put("/v1/admin/workspaces/ws", json!({"plan_id": "other", "seats": 3}))
        .await
        .expect(200);
    has(&app.preview("").await, &[("base", 1, "99.00")]);
    let previous = app.preview("?at=2025-11-30T23:59:59.999999Z").await;
    has(&previous, &[("base", 1, "10.00"), ("outcome", 2, "2.00")]);
    assert_eq!(
        (&previous["plan_id"], &previous["as_of"]),
        (&json!("priced"), &json!("2025-12-05T00:00:00Z"))
    );
    // A late report of the month that has ended.
    app.used(
        "b",
        10,
        json!({"occurred_at": "2025-11-30T10:00:00Z", "billable_outcomes": {"done": 5}}),
    )
    .await;
    has(
        &app.preview("?period=previous").await,
        &[("base", 1, "10.00"), ("outcome", 7, "7.00")],
    );
    // Nor does another price of the old plan reach back.
    app.put(
        "/v1/admin/plans/priced",
        json!({"name": "Priced", "pricing": {"model": "flat", "base_usd": "12", "outcomes": {"done": "3"}}, "unlimited": true}),
    )
    .await
    .expect(200);
    has(
        &app.preview("?period=previous").await,
        &[("base", 1, "10.00"), ("outcome", 7, "7.00")],
    );
}

#[tokio::test]
async fn each_week_is_on_the_invoice_of_the_month_in_which_it_ends() {
    let app = TestApp::start_at("2025-11-03T10:00:00Z").await;
    let pricing = json!({"model": "tiered_seats", "seat_tiers": {"mode": "volume", "tiers": [{"up_to": 2, "unit_usd": "30"}, {"unit_usd": "25"}]},
        "overage": {"budget_id": "tokens", "per": 1, "usd": "0.01"}});
    let budgets = json!([{"id": "tokens", "scope": "user", "unit": "tokens", "period": "week", "hard": 100, "at_hard": "overage"}]);
    app.priced(pricing, budgets).await;
    // Weeks begin on 3, 10, 17, 24 November; the last one ends on 1 December, as the month does.
    for (day, user, tokens) in [
        ("03", "u", 150),
        ("05", "v", 120),
        ("12", "u", 90),
        ("24", "v", 101),
        ("30", "v", 3),
    ] {
        app.set_clock(&format!("2025-11-{day}T12:00:00Z"));
        app.used(&format!("{day}{user}"), tokens, json!({"user_id": user})).await;
    }
    let november = [("seats", 3, "75.00"), ("overage", 70, "0.70"), ("overage", 4, "0.04")];
    let preview = app.preview("").await;
    has(&preview, &november);
    assert_eq!(
        preview["lines"][1]["period"],
        json!({"start": "2025-11-03T00:00:00Z", "end": "2025-11-10T00:00:00Z"})
    );
    app.set_clock("2025-12-30T12:00:00Z");
    app.used("late", 200, json!({"user_id": "u"})).await;
    has(&app.preview("").await, &[("seats", 3, "75.00")]);
    has(&app.preview("?period=previous").await, &november);
    app.set_clock("2026-01-02T12:00:00Z");
    has(&app.preview("").await, &[("seats", 3, "75.00"), ("overage", 100, "1.00")]);
}

#[tokio::test]
async fn what_grants_pay_is_told_and_not_charged() {
    let app = TestApp::start().await;
    let pricing = json!({"model": "usage", "credit_usd": "1.00", "minimum_usd": "3.00", "overage": {"budget_id": "tokens", "per": 10, "usd": "0.10"},
        "usage": [{"id": "words", "budget_id": "tokens", "per": 100, "tiers": [{"unit_usd": "0.50"}]}]});
    app.priced(
        pricing,
        json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 100, "at_hard": "overage"}]),
    )
    .await;
    let grants = "/v1/admin/workspaces/ws/grants";
    app.post(grants, json!({"key": "bought", "amount": 50})).await.expect(201);
    app.follow_all().await;
    app.used("a", 120, json!({})).await;
    let preview = app.preview("").await;
    has(&preview, &[("usage", 100, "0.50"), ("credit", 1, "-0.50"), ("minimum", 1, "3.00")]);
    let [grant] = &preview["grants"].as_array().expect("grants")[..] else {
        panic!("one")
    };
    assert_eq!(
        (&grant["key"], &grant["budget_id"], &grant["paid"]),
        (&json!("bought"), &json!("tokens"), &json!(20))
    );
    app.used("b", 230, json!({})).await;
    let preview = app.preview("").await;
    has(
        &preview,
        &[
            ("usage", 300, "1.50"),
            ("overage", 200, "2.00"),
            ("credit", 1, "-1.00"),
            ("minimum", 1, "0.50"),
        ],
    );
    assert_eq!(preview["grants"][0]["paid"], 50);
    // One that came afterwards pays with the next use, and what it has left is taken off until then.
    app.post(grants, json!({"key": "later", "amount": 30})).await.expect(201);
    app.follow_all().await;
    assert_eq!(
        lines(&app.preview("").await)[1],
        ("overage".to_owned(), json!(170), "1.70".to_owned())
    );
    app.used("c", 1, json!({})).await;
    let preview = app.preview("").await;
    assert_eq!(lines(&preview)[1], ("overage".to_owned(), json!(171), "1.71".to_owned()));
    assert_eq!(preview["grants"].as_array().expect("grants").len(), 2);
}

#[tokio::test]
async fn the_period_is_the_workspaces_own_and_not_everybody_may_look() {
    let app = TestApp::start().await;
    let body = json!({"billing_anchor_day": 15, "timezone": "Europe/Berlin"});
    app.put("/v1/admin/workspaces/ws", body).await.expect(201);
    let preview = app.preview("").await;
    assert_eq!(
        preview["period"],
        json!({"start": "2025-11-14T23:00:00Z", "end": "2025-12-14T23:00:00Z"})
    );
    assert_eq!(app.preview("?period=previous").await["period"]["start"], "2025-10-14T22:00:00Z");
    let path = "/v1/workspaces/ws/invoice-preview";
    for (query, status) in [
        ("?period=next", 422),
        ("?period=current&at=2025-11-20T00:00:00Z", 422),
        ("?at=2026-11-20T00:00:00Z", 422),
        ("?at=soon", 422),
        ("?since=x", 400),
    ] {
        assert_eq!(app.get(&format!("{path}{query}")).await.status.as_u16(), status, "{query}");
    }
    app.get("/v1/workspaces/nobody/invoice-preview").await.problem(404, "not_found");
    let asked = async |scope: &str, workspace: Option<&str>| {
        let token = app.token(scope, workspace);
        app.call_as(&token, reqwest::Method::GET, path, None).await.status.as_u16()
    };
    assert_eq!(asked("read", Some("ws")).await, 200);
    assert_eq!(asked("read", Some("other")).await, 404);
    assert_eq!(
        asked("portal", Some("ws")).await,
        403,
        "what it pays is its customer's matter, and no portal's"
    );
}
