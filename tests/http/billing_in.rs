//! What Stripe tells, over HTTP: who may tell it, each event once, in whatever order, and what a workspace becomes.

use crate::support::{Reply, TestApp};
use futures_util::future::join_all;
use serde_json::{Value, json};
use weir::api::stripe_signature::{Refused, check, sign};
use weir::flow::{Options, SigningSecrets};

const SECRET: &str = "whsec_planted_0123456789";
const OLD_SECRET: &str = "whsec_old_0123456789";
/// A file of signature vectors with the verdict of another library, one JSON object a line.
const VECTORS: &str = "WEIR_SIGNATURE_VECTORS";

fn options() -> Options {
    Options {
        stripe_webhook_secrets: SigningSecrets::parse(&format!("{SECRET},{OLD_SECRET}")),
        ..Options::default()
    }
}

/// A service that has plans, prices that stand for them, and a workspace with a customer.
async fn start() -> TestApp {
    let app = TestApp::start_with(options()).await;
    for plan in ["pro", "max"] {
        let body = json!({"name": plan, "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]});
        app.put(&format!("/v1/admin/plans/{plan}"), body).await.expect(201);
    }
    let billing = json!({"plans_by_price": {"price_pro": "pro", "price_max": "max"}});
    app.put("/v1/admin/billing", billing).await.expect_one_of(&[200, 201]);
    app.put("/v1/admin/workspaces/ws", json!({"stripe_customer_id": "cus_1"}))
        .await
        .expect(201);
    app
}

trait Stripe {
    fn seconds(&self) -> i64;
    fn event(&self, id: &str, kind: &str, created: i64, object: Value) -> Value;
    async fn deliver(&self, url: &str, header: &str, body: &str) -> Reply;
    async fn tell_at(&self, url: &str, event: &Value) -> Reply;
    async fn tell(&self, event: &Value) -> String;
    async fn workspace(&self) -> Value;
    async fn records(&self) -> Vec<Value>;
}

impl Stripe for TestApp {
    fn seconds(&self) -> i64 {
        self.service.clock.now().micros() / 1_000_000
    }

    fn event(&self, id: &str, kind: &str, created: i64, object: Value) -> Value {
        let created = self.seconds() + created;
        json!({"id": id, "object": "event", "api_version": "2025-10-29", "type": kind, "created": created, "data": {"object": object}})
    }

    async fn deliver(&self, url: &str, header: &str, body: &str) -> Reply {
        let request = self.client.post(format!("{url}/webhooks/stripe")).body(body.to_owned());
        let request = request
            .header("content-type", "application/json; charset=utf-8")
            .header("stripe-signature", header);
        let reply = Reply::read(request.send().await.expect("an answer")).await;
        self.follow_all().await;
        reply
    }

    async fn tell_at(&self, url: &str, event: &Value) -> Reply {
        let (body, now) = (event.to_string(), self.seconds());
        let header = format!("t={now},v1={}", sign(SECRET.as_bytes(), now, body.as_bytes()));
        self.deliver(url, &header, &body).await
    }

    /// The outcome of an event that is taken.
    async fn tell(&self, event: &Value) -> String {
        let answer = self.tell_at(&self.url, event).await.expect(200);
        assert_eq!(answer["received"], true);
        answer["outcome"].as_str().expect("an outcome").to_owned()
    }

    async fn workspace(&self) -> Value {
        self.get("/v1/admin/workspaces/ws").await.expect(200)
    }

    /// The audit records of what Stripe changed, newest first.
    async fn records(&self) -> Vec<Value> {
        let log = self.get("/v1/admin/audit-log?action=workspace.subscription").await.expect(200);
        log["data"].as_array().expect("records").clone()
    }
}

fn subscription(id: &str, price: &str, seats: i64, status: &str) -> Value {
    json!({"id": id, "object": "subscription", "customer": "cus_1", "status": status, "start_date": 1_763_000_000,
        "billing_cycle_anchor": 1_763_600_000, "items": {"object": "list", "data": [
            {"id": "si_1", "price": {"id": "price_of_use", "recurring": {"usage_type": "metered"}}},
            {"id": "si_2", "price": {"id": price}, "quantity": seats, "current_period_end": 1_766_000_000}]}})
}

const UPDATED: &str = "customer.subscription.updated";
const DELETED: &str = "customer.subscription.deleted";

#[tokio::test]
async fn a_subscription_gives_plan_seats_anchor_and_status_and_is_audited() {
    let app = start().await;
    let created = app.event(
        "evt_1",
        "customer.subscription.created",
        0,
        subscription("sub_1", "price_pro", 5, "active"),
    );
    assert_eq!(app.tell(&created).await, "applied");
    let workspace = app.workspace().await;
    assert_eq!(
        (
            &workspace["plan_id"],
            &workspace["seats"],
            &workspace["status"],
            &workspace["billing_anchor_day"]
        ),
        (&json!("pro"), &json!(5), &json!("active"), &json!(20))
    );
    let [record] = &app.records().await[..] else { panic!("one change") };
    assert_eq!(
        (&record["actor"], &record["reason"]),
        (&json!("stripe:evt_1"), &json!("customer.subscription.created"))
    );
    assert_eq!(
        (&record["before"]["plan_id"], &record["after"]["plan_id"]),
        (&Value::Null, &json!("pro"))
    );
    assert!(record["request_id"].is_string(), "{record}");
    // Not paid, and paid again.
    for (id, status, expected) in [
        ("evt_2", "past_due", "active"),
        ("evt_3", "unpaid", "suspended"),
        ("evt_4", "active", "active"),
        ("evt_5", "paused", "suspended"),
    ] {
        app.pass_seconds(1);
        app.tell(&app.event(id, UPDATED, 0, subscription("sub_1", "price_pro", 5, status)))
            .await;
        assert_eq!(app.workspace().await["status"], expected, "{status}");
    }
    assert_eq!(app.authorize("ws").tokens(1, 1).denied().await["code"], "workspace_suspended");
    app.pass_seconds(1);
    assert_eq!(
        app.tell(&app.event("evt_6", UPDATED, 0, subscription("sub_1", "price_max", 9, "active")))
            .await,
        "applied"
    );
    let workspace = app.workspace().await;
    assert_eq!((&workspace["plan_id"], &workspace["seats"]), (&json!("max"), &json!(9)));
    assert_eq!(app.authorize("ws").tokens(1, 1).allowed().await["plan_id"], "max");
    // It ends: what a customer without a subscription has.
    app.pass_seconds(1);
    assert_eq!(
        app.tell(&app.event("evt_7", DELETED, 0, subscription("sub_1", "price_max", 9, "canceled")))
            .await,
        "applied"
    );
    let workspace = app.workspace().await;
    assert_eq!(
        (&workspace["plan_id"], &workspace["seats"], &workspace["status"]),
        (&Value::Null, &json!(1), &json!("active"))
    );
}

#[tokio::test]
async fn an_event_that_comes_again_or_late_changes_nothing() {
    let app = start().await;
    let first = app.event("evt_1", UPDATED, -20, subscription("sub_1", "price_pro", 5, "active"));
    let second = app.event("evt_2", UPDATED, -10, subscription("sub_1", "price_max", 9, "active"));
    assert_eq!(app.tell(&second).await, "applied");
    assert_eq!(app.tell(&second).await, "applied", "what became of it is told again");
    assert_eq!(app.tell(&first).await, "stale");
    let created = app.event(
        "evt_0",
        "customer.subscription.created",
        -10,
        subscription("sub_1", "price_pro", 1, "active"),
    );
    assert_eq!(app.tell(&created).await, "stale", "of one second the creation is the first");
    assert_eq!(
        (app.workspace().await["plan_id"].clone(), app.records().await.len()),
        (json!("max"), 1)
    );
    let same = app.event("evt_3", UPDATED, -5, subscription("sub_1", "price_max", 9, "active"));
    assert_eq!(app.tell(&same).await, "unchanged");
    assert_eq!(
        app.tell(&app.event("evt_4", DELETED, -4, subscription("sub_1", "price_max", 9, "active")))
            .await,
        "applied"
    );
    let late = app.event("evt_5", UPDATED, -4, subscription("sub_1", "price_max", 9, "active"));
    assert_eq!(app.tell(&late).await, "stale", "of one second the deletion is the last");
    assert_eq!(app.workspace().await["plan_id"], Value::Null);
    // A new one, beside the old one whose end is told late.
    let mut new = subscription("sub_2", "price_pro", 3, "active");
    new["start_date"] = json!(1_763_100_000);
    assert_eq!(app.tell(&app.event("evt_6", UPDATED, 0, new)).await, "applied");
    assert_eq!(
        app.tell(&app.event("evt_7", DELETED, 5, subscription("sub_1", "price_max", 9, "active")))
            .await,
        "unchanged"
    );
    assert_eq!(app.workspace().await["plan_id"], "pro");
}

#[tokio::test]
async fn what_nobody_has_is_kept_and_taken_when_somebody_has_it() {
    let app = start().await;
    let mut foreign = subscription("sub_1", "price_pro", 5, "active");
    foreign["customer"] = json!("cus_2");
    let event = app.event("evt_1", UPDATED, 0, foreign);
    assert_eq!(app.tell(&event).await, "unmatched");
    app.put("/v1/admin/workspaces/other", json!({"stripe_customer_id": "cus_2"}))
        .await
        .expect(201);
    // A checkout tells Stripe before the product tells us whose customer that is.
    let other = app.get("/v1/admin/workspaces/other").await.expect(200);
    assert_eq!((&other["plan_id"], &other["seats"]), (&json!("pro"), &json!(5)));
    assert_eq!(app.tell(&event).await, "unchanged", "Stripe sends it again");
    app.patch("/v1/admin/workspaces/other", json!({"plan_id": "max"})).await.expect(200);
    app.patch("/v1/admin/workspaces/other", json!({"stripe_customer_id": "cus_2"}))
        .await
        .expect(200);
    let other = app.get("/v1/admin/workspaces/other").await.expect(200);
    assert_eq!(other["plan_id"], "max", "what an operator set stays until the next event");
    let unmapped = app.event("evt_2", UPDATED, 1, subscription("sub_2", "price_new", 5, "active"));
    assert_eq!(app.tell(&unmapped).await, "unmapped");
    assert_eq!(app.workspace().await["plan_id"], Value::Null);
    let billing = json!({"plans_by_price": {"price_pro": "pro", "price_new": "max"}});
    app.put("/v1/admin/billing", billing).await.expect(200);
    assert_eq!(app.tell(&unmapped).await, "applied");
    assert_eq!(app.workspace().await["plan_id"], "max");
    let nobodys = json!({"id": "in_1", "customer": null, "currency": "usd", "total": 5});
    for (id, kind, object) in [
        ("evt_3", "payout.paid", json!({})),
        ("evt_4", "a.kind.that.comes", Value::Null),
        ("evt_5", "invoice.paid", nobodys),
    ] {
        assert_eq!(app.tell(&app.event(id, kind, 0, object)).await, "ignored");
    }
    app.get("/metrics").await; // Counted, and without a label for each kind.
}

/// What a subscription did to a workspace is undone when it ends, whatever its price stands for by then, and done whenever it is told with
/// effect for the first time.
#[tokio::test]
async fn what_a_price_stood_for_is_remembered_and_a_debt_that_was_told_too_early_suspends() {
    let app = start().await;
    let map = async |plans: Value| {
        app.put("/v1/admin/billing", json!({"plans_by_price": plans}))
            .await
            .expect_one_of(&[200, 201]);
    };
    let shown = async || {
        let workspace = app.workspace().await;
        (
            workspace["plan_id"].clone(),
            workspace["seats"].clone(),
            workspace["status"].clone(),
        )
    };
    let told = async |id: &str, kind: &str, second: i64, status: &str| {
        app.tell(&app.event(id, kind, second, subscription("sub_1", "price_pro", 3, status)))
            .await
    };
    assert_eq!(told("evt_1", UPDATED, 1, "active").await, "applied");
    map(json!({"price_pro": "max"})).await;
    assert_eq!(told("evt_2", "customer.subscription.deleted", 2, "canceled").await, "applied");
    assert_eq!(
        shown().await,
        (Value::Null, json!(1), json!("active")),
        "another plan by now, and over all the same"
    );
    map(json!({"price_pro": "pro"})).await;
    let of_second = |second: i64, status: &str| subscription("sub_2", "price_pro", 3, if second > 0 { status } else { "active" });
    assert_eq!(app.tell(&app.event("evt_3", UPDATED, 3, of_second(3, "unpaid"))).await, "applied");
    assert_eq!(shown().await.2, "suspended");
    map(json!({"price_max": "max"})).await;
    assert_eq!(app.tell(&app.event("evt_4", UPDATED, 4, of_second(4, "active"))).await, "applied");
    assert_eq!(
        shown().await,
        (json!("pro"), json!(3), json!("active")),
        "its price stands for nothing new"
    );
    // Before anybody has the customer.
    let mut unpaid = subscription("sub_9", "price_max", 2, "unpaid");
    unpaid["customer"] = json!("cus_9");
    let early = app.event("evt_9", UPDATED, 0, unpaid);
    assert_eq!(app.tell(&early).await, "unmatched");
    app.put("/v1/admin/workspaces/late", json!({"stripe_customer_id": "cus_9"}))
        .await
        .expect(201);
    assert_eq!(
        app.tell(&early).await,
        "unchanged",
        "that it owes was known when it was given the customer"
    );
    let late = app.get("/v1/admin/workspaces/late").await.expect(200);
    assert_eq!((&late["plan_id"], &late["status"]), (&json!("max"), &json!("suspended")));
    // Whoever lets it go on is not overruled by what is known already.
    app.patch("/v1/admin/workspaces/late", json!({"status": "active"}))
        .await
        .expect(200);
    app.tell(&early).await;
    assert_eq!(app.get("/v1/admin/workspaces/late").await.expect(200)["status"], "active");
}

/// A payment lifts what a debt suspended. What an operator suspended, before the debt or during it, is his to lift.
#[tokio::test]
async fn a_payment_lifts_no_suspension_of_an_operator() {
    let app = start().await;
    let told = async |id: u32, kind: &str, status: &str| {
        app.pass_seconds(1);
        let event = app.event(&format!("evt_{id}"), kind, 0, subscription("sub_1", "price_pro", 5, status));
        app.tell(&event).await
    };
    let by_hand = async |status: &str| app.patch("/v1/admin/workspaces/ws", json!({"status": status})).await.expect(200);
    let shown = async || {
        let workspace = app.workspace().await;
        (workspace["status"].clone(), workspace["suspended_by"].clone())
    };
    let (active, operators) = ((json!("active"), Value::Null), (json!("suspended"), json!("operator")));
    told(1, UPDATED, "active").await;
    by_hand("suspended").await;
    assert_eq!(told(2, UPDATED, "unpaid").await, "unchanged");
    assert_eq!(shown().await, operators);
    assert_eq!(told(3, UPDATED, "active").await, "unchanged");
    assert_eq!(shown().await, operators, "paid");
    told(4, UPDATED, "unpaid").await;
    assert_eq!(told(5, DELETED, "canceled").await, "applied");
    assert_eq!(
        (shown().await, &app.workspace().await["plan_id"]),
        (operators.clone(), &Value::Null),
        "over"
    );
    by_hand("active").await;
    assert_eq!(shown().await, active);
    // A debt suspended it, and then somebody by hand.
    app.pass_seconds(1);
    let again = |status: &str| subscription("sub_2", "price_pro", 5, status);
    app.tell(&app.event("evt_6", UPDATED, 0, again("unpaid"))).await;
    assert_eq!(shown().await, (json!("suspended"), json!("subscription")));
    app.patch("/v1/admin/workspaces/ws", json!({"seats": 7})).await.expect(200);
    assert_eq!(shown().await.1, "subscription", "that was about something else");
    by_hand("suspended").await;
    app.pass_seconds(1);
    app.tell(&app.event("evt_7", UPDATED, 0, again("active"))).await;
    assert_eq!(shown().await, operators);
    // Let go on during a debt, it goes on until the next one.
    by_hand("active").await;
    for (id, status, expected) in [
        ("evt_8", "unpaid", "suspended"),
        ("evt_9", "paused", "active"),
        ("evt_10", "active", "active"),
    ] {
        app.pass_seconds(1);
        app.tell(&app.event(id, UPDATED, 0, again(status))).await;
        assert_eq!(shown().await.0, expected, "{status}");
        by_hand("active").await;
    }
}

#[tokio::test]
async fn only_who_signs_in_time_is_heard() {
    let app = start().await;
    let body = app
        .event("evt_1", UPDATED, 0, subscription("sub_1", "price_pro", 5, "active"))
        .to_string();
    let now = app.seconds();
    let by = |secret: &str, time: i64| sign(secret.as_bytes(), time, body.as_bytes());
    let altered = body.replace("\"quantity\":5", "\"quantity\":500");
    assert_ne!(altered, body);
    for (header, sent) in [
        (String::new(), &body),
        (format!("t={now}"), &body),
        (format!("t={now},v1={}", by("whsec_foreign", now)), &body),
        (format!("t={now},v0={}", by(SECRET, now)), &body),
        (format!("t={now},v1={}", by(SECRET, now)), &altered),
        (format!("t={},v1={}", now + 1, by(SECRET, now)), &body),
        (format!("t={},v1={}", now - 301, by(SECRET, now - 301)), &body),
        (format!("t={},v1={}", now + 301, by(SECRET, now + 301)), &body),
    ] {
        let problem = app.deliver(&app.url, &header, sent).await.problem(400, "signature_invalid");
        assert!(!problem.to_string().contains("whsec"), "{problem}");
    }
    assert_eq!(app.workspace().await["plan_id"], Value::Null);
    // While a secret is rolled Stripe signs with both.
    let header = format!("t={now},v1={},v1={}", by("whsec_foreign", now), by(OLD_SECRET, now));
    assert_eq!(app.deliver(&app.url, &header, &body).await.expect(200)["outcome"], "applied");
    // A replay of what was signed long ago.
    app.pass_seconds(600);
    app.deliver(&app.url, &header, &body).await.problem(400, "signature_invalid");
    let long = "x".repeat(256 * 1024 + 1);
    app.deliver(&app.url, "t=1,v1=x", &long).await.problem(413, "body_too_large");
    let unreadable = app.event("evt_2", UPDATED, 0, json!({"id": "sub_1"}));
    let problem = app.tell_at(&app.url, &unreadable).await.problem(400, "malformed");
    assert_eq!(problem["errors"][0]["pointer"], "/data/object/customer");
    let without = TestApp::start().await;
    let problem = without.tell_at(&without.url, &unreadable).await;
    assert!(problem.header("retry-after").is_some());
    problem.problem(503, "not_configured");
}

#[tokio::test]
async fn what_was_paid_is_kept_by_period_without_taxes() {
    let app = start().await;
    let invoice = |id: &str, customer: &str, total: i64| {
        json!({"id": id, "customer": customer, "currency": "usd", "total": total + 19, "total_excluding_tax": total,
            "period_start": 1_760_000_000, "period_end": 1_762_000_000, "lines": {"data": [
                {"id": "il_1", "amount": 1000, "period": {"start": 1_762_000_000, "end": 1_764_000_000}}]}})
    };
    let note = json!({"id": "cn_1", "customer": "cus_1", "currency": "usd", "total": 250});
    assert_eq!(
        app.tell(&app.event("evt_1", "invoice.paid", 0, invoice("in_1", "cus_1", 1500)))
            .await,
        "applied"
    );
    assert_eq!(
        app.tell(&app.event("evt_2", "invoice.paid", 0, invoice("in_1", "cus_1", 1500)))
            .await,
        "applied",
        "by another event"
    );
    assert_eq!(
        app.tell(&app.event("evt_3", "invoice.paid", 0, invoice("in_2", "cus_9", 1000)))
            .await,
        "unmatched"
    );
    assert_eq!(app.tell(&app.event("evt_4", "credit_note.created", 0, note)).await, "applied");
    let (workspace, at) = (
        app.service
            .ledger
            .workspace(&"ws".parse_id())
            .await
            .expect("it answers")
            .expect("it is there"),
        |s: i64| weir::decision::time::Timestamp::from_micros(0).plus_seconds(s),
    );
    let revenue = app
        .service
        .ledger
        .revenue(&workspace.id, workspace.stripe_customer_id.as_deref(), at(0), at(2_000_000_000))
        .await;
    let told: Vec<(String, i64)> = revenue
        .expect("it answers")
        .into_iter()
        .map(|part| (part.source, part.amount))
        .collect();
    let expected = [("in_1/rest", 500), ("in_1/il_1", 1000), ("cn_1/created", -250)];
    assert_eq!(told, expected.map(|(source, amount)| (source.to_owned(), amount)));
}

#[tokio::test]
async fn usage_that_stripe_could_not_count_rejects_its_batch() {
    let app = start().await;
    let billing = json!({"meters": [{"id": "tokens", "event_name": "tokens", "unit": "tokens"}]});
    app.put("/v1/admin/billing", billing).await.expect(200);
    let used = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "r", "usage": {"input_tokens": 5, "output_tokens": 0}});
    app.post("/v1/usage", used).await.expect(200);
    app.post("/v1/admin/billing/flush", json!({})).await.expect(200);
    let batches = async || app.get("/v1/admin/billing/batches").await.expect(200)["data"].clone();
    let batch = batches().await[0].clone();
    assert_eq!(batch["state"], "sealed", "{batch:#}");
    let report = |id: &str, identifier: &Value| {
        json!({"id": id, "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered", "created": "2025-11-21T10:00:00.000Z",
            "related_object": {"id": "mtr_1"}, "data": {"reason": {"error_types": [{"code": "meter_event_no_customer_defined",
            "sample_errors": [{"error_message": "no customer", "request": {"identifier": identifier}}]}]}}})
    };
    assert_eq!(app.tell(&report("evt_1", &json!("somebody else's"))).await, "applied");
    assert_eq!(
        app.tell(&report("evt_2", &json!("bat_01931f0c7a5b7c3e8f2a1b0c9d8e7f6a"))).await,
        "applied"
    );
    assert_eq!(batches().await[0]["state"], "sealed");
    for _ in 0..2 {
        assert_eq!(app.tell(&report("evt_3", &batch["batch_id"])).await, "applied");
        let rejected = batches().await[0].clone();
        assert_eq!(rejected["state"], "rejected", "{rejected:#}");
        assert!(rejected.to_string().contains("no customer"), "{rejected:#}");
    }
    let kept = app
        .service
        .ledger
        .meter_errors(weir::decision::time::Timestamp::MIN, 10)
        .await
        .expect("it answers");
    assert_eq!(kept.len(), 3);
}

/// The id of a workspace.
trait ParseId {
    fn parse_id(&self) -> weir::decision::id::WorkspaceId;
}

impl ParseId for str {
    fn parse_id(&self) -> weir::decision::id::WorkspaceId {
        weir::decision::id::WorkspaceId::parse(self).expect(self)
    }
}

#[tokio::test]
async fn an_event_that_two_nodes_get_at_once_is_handled_once() {
    let app = start().await;
    for round in 0..5 {
        app.pass_seconds(1);
        // Two events about the same subscription, each to every node several times.
        let of = |n: i64| {
            let seats = 10 + round * 2 + n;
            app.event(
                &format!("evt_{round}_{n}"),
                UPDATED,
                n,
                subscription("sub_1", "price_pro", seats, "active"),
            )
        };
        let (one, two) = (of(0), of(1));
        let urls: Vec<&str> = app.beside.iter().chain(Some(&app)).map(|node| node.url.as_str()).collect();
        let calls = (0..4).flat_map(|_| urls.iter().flat_map(|url| [app.tell_at(url, &one), app.tell_at(url, &two)]));
        for reply in join_all(calls).await {
            let outcome = reply.expect(200)["outcome"].clone();
            assert!(outcome == "applied" || outcome == "stale", "{outcome}");
        }
        assert_eq!(app.workspace().await["seats"], 11 + round * 2, "the newer one holds");
    }
    let records = app.records().await;
    let mut actors: Vec<&str> = records.iter().map(|record| record["actor"].as_str().expect("an actor")).collect();
    let all = actors.len();
    actors.sort_unstable();
    actors.dedup();
    assert_eq!(actors.len(), all, "each event at most once");
}

/// Vectors of our own, and those of the file that the environment names: what another library says of each.
#[test]
fn the_signature_is_judged_as_other_libraries_do() {
    let (mut judged, mut stricter) = (0, Vec::new());
    let text = match std::env::var(VECTORS) {
        Ok(path) => std::fs::read_to_string(path).expect("the file of vectors"),
        Err(_) => include_str!("../data/signature_cases.jsonl").to_owned(),
    };
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).expect(line);
        let word = |name: &str| case[name].as_str().expect(name);
        let secrets = SigningSecrets::parse(word("secret")).expect("a secret");
        let found = check(
            Some(word("header")),
            word("body").as_bytes(),
            &secrets,
            case["now"].as_i64().expect("now"),
        );
        let expected = case["expected_valid_stripe_python"].as_bool().expect("a verdict");
        // Other libraries look at the age alone; we refuse what is too far ahead as well.
        if found == Err(Refused::Untimely) && expected {
            stricter.push(word("name").to_owned());
        } else {
            assert_eq!(found.is_ok(), expected, "{}: {found:?}", word("name"));
        }
        judged += 1;
    }
    assert!(stricter.iter().all(|name| name.contains("future")), "{stricter:?}");
    println!("{judged} vectors, {} of them refused for being ahead", stricter.len());
}
