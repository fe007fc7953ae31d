//! Events as Stripe writes them, of more than one version of its API; and what they make of a workspace.

mod cycle;

use super::*;
use crate::decision::id::WorkspaceId;
use crate::decision::period::{AnchorDay, Calendar, Setting, Zone};
use crate::decision::workspace::{Status, Suspender, Workspace};
use serde_json::{Value, json};

const CREATED: i64 = 1_764_000_000;

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_micros(0).plus_seconds(seconds)
}

fn event(kind: &str, object: Value) -> Value {
    json!({"id": "evt_1", "object": "event", "type": kind, "created": CREATED, "data": {"object": object}, "livemode": false})
}

fn subscribed(kind: &str, object: Value) -> Subscription {
    match read(&event(kind, object)).expect("an event").about {
        About::Subscription(subscription) => subscription,
        other => panic!("{other:?}"),
    }
}

fn revenue(kind: &str, object: Value) -> Vec<Revenue> {
    match read(&event(kind, object)).expect("an event").about {
        About::Revenue { parts, .. } => parts,
        other => panic!("{other:?}"),
    }
}

fn of_plan(id: &str, price: &str, quantity: Value) -> Value {
    json!({"id": id, "customer": "cus_1", "status": "active", "start_date": CREATED - 100, "billing_cycle_anchor": CREATED,
        "items": {"data": [{"price": {"id": price}, "quantity": quantity}]}})
}

fn plans() -> BTreeMap<PriceId, PlanId> {
    let of = |price: &str, plan: &str| (PriceId::parse(price).expect("a price"), PlanId::parse(plan).expect("a plan"));
    BTreeMap::from([of("price_pro", "pro"), of("price_max", "max")])
}

#[test]
fn a_subscription_is_read_whatever_the_version() {
    let new = subscribed(
        "customer.subscription.updated",
        json!({"id": "sub_1", "customer": "cus_1", "status": "active", "start_date": CREATED - 100, "billing_cycle_anchor": CREATED,
            "billing_cycle_anchor_config": {"day_of_month": 31}, "items": {"data": [
                {"price": {"id": "price_metered", "recurring": {"usage_type": "metered"}}, "current_period_end": CREATED + 5},
                {"price": "price_pro", "quantity": 3}]}, "anything": {"new": []}}),
    );
    assert_eq!((new.anchor_day, new.anchor_at), (Some(31), Some(seconds(CREATED))));
    assert_eq!(new.plan(&plans()), Some((&PlanId::parse("pro").expect("a plan"), Some(3))));
    // Before prices there were plans; what was asked to be expanded is there whole.
    let old = subscribed(
        "customer.subscription.created",
        json!({"id": "sub_1", "customer": {"id": "cus_1", "object": "customer"}, "status": "trialing", "created": CREATED - 50,
            "current_period_end": CREATED + 5, "billing_cycle_anchor_config": {"day_of_month": 1_361_669_285},
            "items": {"data": [{"plan": {"id": "price_max"}, "quantity": null}]}}),
    );
    assert_eq!((old.customer.as_str(), old.anchor_day, old.anchor_at), ("cus_1", None, None));
    assert_eq!(old.started_at, seconds(CREATED - 50));
    assert_eq!(old.plan(&plans()), Some((&PlanId::parse("max").expect("a plan"), None)));
    let gone = subscribed("customer.subscription.deleted", of_plan("sub_1", "price_pro", json!(2)));
    assert!(!gone.is_live(), "whatever its status says");
}

#[test]
fn what_a_known_kind_must_have_is_told_when_it_is_missing() {
    let of = |kind: &str, object: Value| read(&event(kind, object)).map(|_| ()).map_err(|unreadable| unreadable.pointer);
    let invoice = json!({"id": "in_1", "customer": "cus_1", "currency": "usd", "total": 5});
    let without = |member: &str| {
        let mut object = invoice.clone();
        object.as_object_mut().expect("an object").remove(member);
        object
    };
    for (kind, object, pointer) in [
        (
            "customer.subscription.updated",
            json!({"id": "sub_1", "status": "active"}),
            "/data/object/customer",
        ),
        (
            "customer.subscription.updated",
            json!({"id": "sub_1", "customer": "cus_1"}),
            "/data/object/status",
        ),
        (
            "customer.subscription.updated",
            json!({"customer": "cus_1", "status": "active"}),
            "/data/object/id",
        ),
        ("invoice.paid", without("customer"), "/data/object/customer"),
        ("invoice.paid", without("currency"), "/data/object/currency"),
        ("invoice.paid", without("total"), "/data/object/total"),
        ("credit_note.created", without("id"), "/data/object/id"),
    ] {
        assert_eq!(of(kind, object.clone()), Err(pointer.to_owned()), "{kind} {object}");
    }
    assert_eq!(of("invoice.paid", invoice), Ok(()));
    assert_eq!(of("payout.paid", json!(null)), Ok(()), "what is not known needs nothing");
    for (body, pointer) in [
        (json!({"type": "x", "created": 5}), "/id"),
        (json!({"id": "evt_1", "created": 5}), "/type"),
        (json!({"id": "evt_1", "type": "x"}), "/created"),
        (json!({"id": "evt_1", "type": "x", "created": -1}), "/created"),
        (json!({"id": "e".repeat(256), "type": "x", "created": 5}), "/id"),
        (json!([]), "/type"),
    ] {
        assert_eq!(
            read(&body).map(|_| ()).map_err(|unreadable| unreadable.pointer),
            Err(pointer.to_owned()),
            "{body}"
        );
    }
}

#[test]
fn an_invoice_is_its_lines_in_their_periods_and_adds_up() {
    let line = |id: &str, amount: i64, from: i64, more: Value| {
        let mut line = json!({"id": id, "amount": amount, "period": {"start": from, "end": from + 100}});
        line.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        line
    };
    let parts = revenue(
        "invoice.paid",
        json!({"id": "in_1", "customer": "cus_1", "currency": "USD", "total": 15_470, "total_excluding_tax": 13_000, "period_start": 1_000,
        "period_end": 2_000, "status_transitions": {"paid_at": 2_100}, "lines": {"has_more": true, "data": [
            line("il_base", 10_000, 2_000, json!({"discount_amounts": [{"amount": 500}]})),
            line("il_use", 1_190, 1_000, json!({"taxes": [{"amount": 190, "tax_behavior": "inclusive"}, {"amount": 7, "tax_behavior": "exclusive"}]})),
            line("il_nothing", 0, 1_000, json!({})),
            line("il_older", 1_190, 1_000, json!({"tax_amounts": [{"amount": 190, "inclusive": true}]})),
        ]}}),
    );
    let told: Vec<(&str, i64, Timestamp)> = parts
        .iter()
        .map(|part| (part.source.as_str(), part.amount, part.period.start))
        .collect();
    assert_eq!(
        told,
        [
            ("in_1/il_base", 9_500, seconds(2_000)),
            ("in_1/il_use", 1_000, seconds(1_000)),
            ("in_1/il_older", 1_000, seconds(1_000)),
            ("in_1/rest", 1_500, seconds(1_000)),
        ]
    );
    assert_eq!(parts[0].usd(), Some(Usd::parse("95").expect("usd")));
    assert_eq!(parts[0].paid_at, seconds(2_100));
    let of_total = |more: Value| {
        let mut invoice = json!({"id": "in_1", "customer": "cus_1", "currency": "jpy", "total": 119});
        invoice
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        revenue("invoice.paid", invoice)
            .iter()
            .map(|part| (part.amount, part.usd()))
            .collect::<Vec<_>>()
    };
    assert_eq!(of_total(json!({})), [(119, None)]);
    assert_eq!(of_total(json!({"tax": 19})), [(100, None)]);
    assert_eq!(of_total(json!({"total_taxes": [{"amount": 9}, {"amount": 10}]})), [(100, None)]);
    assert_eq!(of_total(json!({"total_tax_amounts": [{"amount": 19}]})), [(100, None)]);
    assert_eq!(of_total(json!({"total": 0})), []);
}

#[test]
fn a_credit_note_gives_back_and_its_void_gives_again() {
    let note = json!({"id": "cn_1", "customer": "cus_1", "currency": "usd", "total": 119, "total_excluding_tax": 100});
    let told = |kind: &str| {
        let parts = revenue(kind, note.clone());
        (parts[0].source.clone(), parts[0].amount, parts[0].period.start)
    };
    let at = seconds(CREATED);
    assert_eq!(told("credit_note.created"), ("cn_1/created".to_owned(), -100, at));
    assert_eq!(told("credit_note.voided"), ("cn_1/voided".to_owned(), 100, at));
}

#[test]
fn a_report_of_refused_usage_names_its_examples_or_at_least_its_meter() {
    let report = json!({"id": "evt_1", "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered",
        "created": "2025-11-24T16:00:00.123Z", "related_object": {"id": "mtr_1", "type": "billing.meter"},
        "data": {"developer_message_summary": "two", "reason": {"error_count": 2, "error_types": [
            {"code": "meter_event_customer_not_found", "sample_errors": [{"error_message": "no \u{0}cus_1", "request": {"identifier": "bat_1"}},
                {"error_message": "no cus_2", "request": {"identifier": "bat_2"}}]},
            {"code": "meter_event_invalid_value", "sample_errors": [{"error_message": "x", "request": {}}]}]}}});
    let read = |body: &Value| match read(body).expect("an event").about {
        About::MeterErrors(report) => report,
        other => panic!("{other:?}"),
    };
    let whole = read(&report).findings.expect("its data").errors;
    let told: Vec<(Option<&str>, &str, &str)> = whole
        .iter()
        .map(|error| (error.identifier.as_deref(), error.code.as_str(), error.message.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (Some("bat_1"), "meter_event_customer_not_found", "no cus_1"),
            (Some("bat_2"), "meter_event_customer_not_found", "no cus_2"),
            (None, "meter_event_invalid_value", "x"),
        ]
    );
    assert!(whole.iter().all(|error| error.meter.as_deref() == Some("mtr_1")));
    let mut notice = report.clone();
    notice.as_object_mut().expect("an object").remove("data");
    let of_meter = Report {
        meter: Some("mtr_1".to_owned()),
        findings: None,
    };
    for data in [None, Some(Value::Null), Some(json!({}))] {
        notice["data"] = data.unwrap_or_default();
        assert_eq!(read(&notice), of_meter);
    }
    let unknown = json!({"id": "evt_2", "type": "v1.billing.meter.no_meter_found", "created": "2025-11-24T16:00:00Z",
        "data": {"developer_message_summary": "none", "reason": {"error_count": 7, "error_types": []}}});
    let none = read(&unknown);
    let findings = none.findings.expect("its data");
    let [error] = &findings.errors[..] else { panic!("one") };
    assert_eq!(
        (none.meter, error.identifier.as_deref(), error.message.as_str()),
        (None, None, "none")
    );
    assert_eq!((findings.error_count, findings.validated), (7, None));
}

#[test]
fn a_report_counts_more_than_it_names_and_says_when_it_looked() {
    let event = |data: Value| {
        let body =
            json!({"id": "evt_1", "type": "v1.billing.meter.error_report_triggered", "created": "2025-11-24T16:00:00Z", "data": data});
        let event = read(&body).expect("an event");
        let About::MeterErrors(report) = event.about.clone() else {
            panic!("a report")
        };
        (Progress::heard(&event, &report, seconds(CREATED)), report.findings)
    };
    let sample = json!({"error_message": "x", "request": {"identifier": "bat_1"}});
    for (error_count, of_code, samples, is_all, counted) in [
        (json!(1), json!(1), 1, true, 1),
        (json!(2), json!(2), 1, false, 2),
        (json!(null), json!(12), 5, false, 12),
        (json!(null), json!(null), 2, true, 2),
        (json!("3"), json!(null), 1, true, 1),
    ] {
        let samples = vec![sample.clone(); samples];
        let (progress, findings) = event(
            json!({"validation_start": "2025-11-24T15:59:40Z", "validation_end": "2025-11-24T15:59:50Z",
            "reason": {"error_count": error_count, "error_types": [{"code": "c", "error_count": of_code, "sample_errors": samples}]}}),
        );
        let errors = findings.expect("its data").errors;
        assert_eq!((!progress.names_not_all(&errors), progress.error_count), (is_all, Some(counted)));
        let at = |text: &str| Timestamp::parse(text).expect("a moment");
        let told = progress.told();
        assert_eq!((told.start, told.end), (at("2025-11-24T14:59:40Z"), at("2025-11-24T16:04:50Z")));
    }
    let (progress, _) = event(json!({"validation_start": "later", "validation_end": "2025-11-24T15:59:50Z", "reason": {}}));
    assert_eq!((progress.validated, progress.told().end), (None, seconds(CREATED + 300)));
}

/// Tries end, and each ends nearer to it.
#[test]
fn a_report_that_cannot_be_had_is_given_up_after_three_days() {
    let body = json!({"id": "evt_1", "type": "v1.billing.meter.error_report_triggered", "created": "2025-11-24T16:00:00Z"});
    let event = read(&body).expect("an event");
    let About::MeterErrors(report) = &event.about else {
        panic!("a report")
    };
    let begun = || Progress::heard(&event, report, seconds(0));
    for (is_missing, seconds_max, tries_min) in [(false, REPORT_SECONDS_MAX + 900, 200), (true, 600, 8)] {
        let mut progress = begun();
        let mut now = 0;
        while let Some(at) = progress.next_try_at {
            assert_eq!(progress.state, ReportState::Fetch);
            now = at.micros() / 1_000_000;
            progress = progress.not_found(is_missing, None, "away".to_owned(), seconds(now), 7);
        }
        assert_eq!(progress.state, ReportState::GivenUp);
        assert!(now <= seconds_max && progress.tries >= tries_min, "{now} {}", progress.tries);
    }
    let asked = begun().not_found(false, Some(40), "busy".to_owned(), seconds(0), 0);
    assert_eq!(asked.next_try_at, Some(seconds(40)));
    let again = |at: Option<i64>| Checked::Again {
        at: at.map(seconds),
        reason: "early".to_owned(),
    };
    let waits = begun().checked(again(Some(3_000)), seconds(9), 0);
    assert_eq!((waits.next_try_at, waits.tries), (Some(seconds(3_000)), 1));
    assert!(begun().checked(again(None), seconds(9), 0).next_try_at > Some(seconds(9)));
    let done = waits.checked(Checked::Done, seconds(3_000), 0);
    assert_eq!((done.state, done.next_try_at, done.reason), (ReportState::Done, None, None));
}

fn workspace() -> Workspace {
    Workspace::unknown(WorkspaceId::parse("ws").expect("a name"), seconds(0))
}

/// What a workspace becomes.
fn becomes(before: &[Subscription], after: &[Subscription], from: &Workspace) -> (Option<String>, i64, Status) {
    let mut next = from.clone();
    apply(before, after, &plans(), &mut next, seconds(CREATED));
    (next.plan_id.map(|plan| plan.to_string()), next.seats.now(), next.status)
}

#[test]
fn of_a_customers_subscriptions_the_one_that_lives_and_began_last_counts() {
    let sub = |id: &str, price: &str, seats: i64, status: &str, began: i64| Subscription {
        status: status.to_owned(),
        started_at: seconds(began),
        ..subscribed("customer.subscription.updated", of_plan(id, price, json!(seats)))
    };
    let pro = |status: &str| sub("sub_1", "price_pro", 5, status, 10);
    let max = |status: &str| sub("sub_2", "price_max", 9, status, 20);
    let is = |plan: Option<&str>, seats, status| (plan.map(str::to_owned), seats, status);
    let (active, suspended) = (Status::Active, Status::Suspended);
    for (before, after, expected) in [
        (vec![], vec![pro("active")], is(Some("pro"), 5, active)),
        (vec![], vec![pro("trialing")], is(Some("pro"), 5, active)),
        (vec![], vec![pro("past_due")], is(Some("pro"), 5, active)),
        (vec![], vec![pro("unpaid")], is(Some("pro"), 5, suspended)),
        (vec![], vec![pro("paused")], is(Some("pro"), 5, suspended)),
        (vec![], vec![pro("a_new_word")], is(Some("pro"), 5, active)),
        (vec![], vec![pro("incomplete")], is(None, 1, active)),
        (vec![], vec![pro("canceled")], is(None, 1, active)),
        (vec![], vec![pro("active"), max("active")], is(Some("max"), 9, active)),
        (vec![], vec![max("canceled"), pro("active")], is(Some("pro"), 5, active)),
        (
            vec![],
            vec![sub("sub_3", "price_other", 2, "active", 30), pro("active")],
            is(Some("pro"), 5, active),
        ),
    ] {
        assert_eq!(becomes(&before, &after, &workspace()), expected, "{after:?}");
    }
    // What was, and what becomes of it.
    let on = |plan: &str, seats, status| {
        let mut workspace = workspace();
        workspace.plan_id = Some(PlanId::parse(plan).expect("a plan"));
        workspace.seats.change(seats, seconds(1));
        if status == Status::Suspended {
            workspace.suspend(Suspender::Subscription);
        }
        workspace
    };
    let by_operator = |mut workspace: Workspace| {
        workspace.suspend(Suspender::Operator);
        workspace
    };
    for (from, before, after, expected) in [
        (
            on("pro", 5, active),
            vec![pro("active")],
            vec![pro("canceled")],
            is(None, 1, active),
        ),
        // An operator has put it elsewhere.
        (
            on("own", 7, active),
            vec![pro("active")],
            vec![pro("canceled")],
            is(Some("own"), 7, active),
        ),
        (
            on("pro", 5, suspended),
            vec![pro("unpaid")],
            vec![pro("active")],
            is(Some("pro"), 5, active),
        ),
        (
            on("pro", 5, suspended),
            vec![pro("unpaid")],
            vec![pro("canceled")],
            is(None, 1, active),
        ),
        (
            on("pro", 5, active),
            vec![pro("unpaid")],
            vec![pro("unpaid")],
            is(Some("pro"), 5, active),
        ),
        // Its price stands for nothing any more, and it owes all the same.
        (
            on("pro", 5, suspended),
            vec![pro("unpaid")],
            vec![sub("sub_1", "price_other", 5, "unpaid", 10)],
            is(None, 1, suspended),
        ),
        // The payment was not heard of.
        (
            on("pro", 5, suspended),
            vec![pro("active")],
            vec![pro("active")],
            is(Some("pro"), 5, active),
        ),
        // It was not for a debt.
        (
            by_operator(on("pro", 5, active)),
            vec![pro("active")],
            vec![pro("unpaid")],
            is(Some("pro"), 5, suspended),
        ),
        (
            by_operator(on("pro", 5, active)),
            vec![pro("unpaid")],
            vec![pro("active")],
            is(Some("pro"), 5, suspended),
        ),
        (
            by_operator(on("pro", 5, active)),
            vec![pro("unpaid")],
            vec![pro("canceled")],
            is(None, 1, suspended),
        ),
        (
            on("pro", 5, active),
            vec![pro("active"), max("active")],
            vec![pro("active"), max("canceled")],
            is(Some("pro"), 5, active),
        ),
    ] {
        assert_eq!(becomes(&before, &after, &from), expected, "{before:?} {after:?}");
    }
}

#[test]
fn the_billing_anchor_is_the_day_in_the_workspaces_zone() {
    // 2025-11-24 16:00 UTC is the 25th in Tokyo.
    let mut one = subscribed("customer.subscription.created", of_plan("sub_1", "price_pro", json!(0)));
    let mut of = |zone: &str, day: Option<u8>| {
        let mut workspace = workspace();
        workspace.calendar = Calendar::new(Setting {
            timezone: Zone::parse(zone).expect(zone),
            billing_anchor_day: AnchorDay::default(),
        });
        one.anchor_day = day;
        apply(&[], std::slice::from_ref(&one), &plans(), &mut workspace, seconds(CREATED));
        (workspace.calendar.setting().billing_anchor_day.get(), workspace.seats.now())
    };
    assert_eq!(of("UTC", None), (24, 1), "a workspace has a seat whatever the quantity");
    assert_eq!(of("Asia/Tokyo", None), (25, 1));
    assert_eq!(of("Asia/Tokyo", Some(31)), (31, 1));
}

#[test]
fn a_subscription_is_what_its_newest_event_says() {
    let at = |told: i64, rank: i64| Subscription {
        told_at: seconds(told),
        rank,
        ..subscribed("customer.subscription.updated", of_plan("sub_1", "price_pro", json!(1)))
    };
    for (one, other, expected) in [
        (at(5, 1), at(6, 1), true),
        (at(6, 1), at(5, 1), false),
        (at(5, 0), at(5, 1), true),
        (at(5, 1), at(5, 2), true),
        (at(5, 2), at(5, 1), false),
        (at(5, 1), at(5, 1), false),
    ] {
        assert_eq!(one.is_older_than(&other), expected);
    }
}
