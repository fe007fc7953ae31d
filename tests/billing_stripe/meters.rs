//! Meters that go away or become others while something is owed or was not looked at.

use crate::billed::{Billed, named};
use serde_json::{Value, json};

const BEGIN: &str = "2025-11-03T10:00:00Z";
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

async fn with_customer(begin: &str) -> Billed {
    let billed = Billed::start(begin).await;
    billed.fake.book().add_customer("cus_a");
    billed.workspace("ws_a", Some("cus_a")).await;
    billed
}

fn tokens_meter() -> Value {
    json!({"id": "tokens", "event_name": "tokens", "unit": "tokens"})
}

/// These are all the meters from now on.
async fn define(billed: &Billed, meters: Value) {
    billed.app().pass_seconds(1);
    let put = billed.app().put("/v1/admin/billing", json!({"meters": meters})).await;
    put.expect_one_of(&[200, 201]);
    billed.app().follow_all().await;
    billed.app().pass_seconds(1);
}

fn told(billed: &Billed, event_name: &str) -> i64 {
    billed.fake.book().total("cus_a", event_name)
}

fn carried(report: &Value) -> Vec<(&str, &str, &str)> {
    let lines = report["carried"].as_array().expect("carried").iter();
    lines
        .map(|line| {
            let text = |field: &str| line[field].as_str().expect("text");
            (text("event_name"), text("value"), text("code"))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_used_before_a_meter_went_away_is_told_however_long_nobody_looked() {
    let mut billed = with_customer(BEGIN).await;
    define(&billed, json!([tokens_meter()])).await;
    billed.round().await;
    billed.record("cus_a", &[("ws_a", "summary", 93, 60)]).await;
    define(&billed, json!([])).await;
    // The service is away from then on: no round sees what was used.
    billed.app().pass_seconds(5 * DAY);
    let five_days = json!({"from": "2025-11-02T00:00:00Z"});
    let report = billed.reconcile(five_days.clone()).await;
    let found = named(&report);
    assert!(
        found
            .iter()
            .any(|difference| difference.starts_with("cus_a tokens") && difference.ends_with(" 100")),
        "reconcile sees it, although the meter is gone: {report:#}"
    );
    billed.until_told().await;
    assert_eq!(told(&billed, "tokens"), 100);
    // Nothing that is used since is billed, and what is corrected of before is.
    billed.record("cus_a", &[("ws_a", "summary", 1_000, 60)]).await;
    billed.correct("ws_a", "cus_a", "use-1", 250).await;
    billed.app().pass_seconds(DAY);
    billed.until_told().await;
    assert_eq!(told(&billed, "tokens"), 250);
    billed.app().pass_seconds(2 * HOUR);
    let report = billed.reconcile(five_days).await;
    assert_eq!((&report["unexplained"], named(&report)), (&json!(0), vec![]), "{report:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_owed_of_one_definition_is_not_set_off_against_another() {
    // What Stripe was told in October is invoiced when it is corrected, so nothing of it is taken back.
    let mut billed = with_customer("2025-10-30T10:00:00Z").await;
    billed.app().get("/metrics").await;
    define(&billed, json!([tokens_meter()])).await;
    billed.record("cus_a", &[("ws_a", "summary", 93, 60)]).await;
    billed.until_told().await;
    billed.app().pass_seconds(4 * DAY);
    billed.correct("ws_a", "cus_a", "use-1", 70).await;
    billed.until_told().await;
    let report = billed.reconcile(json!({})).await;
    assert_eq!(carried(&report), [("tokens", "-30", "owed_back")], "{report:#}");
    assert_eq!(billed.reconcile(json!({"meter": "calls"})).await["carried"], json!([]));
    // The meter counts thousandths of cents by now: thirty tokens are not thirty of them.
    let money = json!({"id": "tokens", "event_name": "cents", "unit": "usd", "scale": 100_000});
    define(&billed, json!([money])).await;
    billed.record("cus_a", &[("ws_a", "summary", 2_000, 60)]).await;
    billed.until_told().await;
    let entries = billed.app().ledger("ws_a").await;
    let last = entries.iter().find(|entry| entry["counted"]["tokens"] == 2_007).expect("an entry");
    let usd = last["counted"]["usd"].as_str().expect("usd").replace('.', "");
    let nanos: i64 = usd.parse().expect("digits");
    assert_eq!(told(&billed, "cents"), nanos / 10_000, "all of it");
    let report = billed.reconcile(json!({})).await;
    assert_eq!(carried(&report)[0], ("tokens", "-30", "left_over"), "{report:#}");
    let line = &report["carried"][0];
    assert_eq!((&line["workspace_id"], &line["customer"]), (&json!("ws_a"), &json!("cus_a")));
    assert!(line["owed_since"].is_string(), "{line:#}");
    // Back to tokens, what is owed is set off at last.
    define(&billed, json!([tokens_meter()])).await;
    billed.record("cus_a", &[("ws_a", "summary", 43, 60)]).await;
    billed.until_told().await;
    assert_eq!(told(&billed, "tokens"), 100 - 30 + 50);
    let report = billed.reconcile(json!({})).await;
    assert!(
        carried(&report).iter().all(|(event_name, ..)| *event_name != "tokens"),
        "{report:#}"
    );
}
