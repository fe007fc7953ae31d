//! The period of now, as events of each version tell it, and when a subscription ended.

use super::*;
use crate::decision::period::Period;

#[test]
fn the_period_of_now_is_that_of_the_item_that_use_is_billed_by() {
    let bounds = |start: i64, end: i64| json!({"current_period_start": CREATED + start, "current_period_end": CREATED + end});
    let item = |kind: &str, interval: &str, bounds: Value| {
        let mut item = bounds;
        item["price"] = json!({"id": "price_pro", "recurring": {"usage_type": kind, "interval": interval, "interval_count": 2}});
        item
    };
    let period = |start: i64, end: i64| Period {
        start: seconds(CREATED + start),
        end: seconds(CREATED + end),
    };
    let seats = item("licensed", "year", bounds(0, 3));
    let use_of = |start, end| item("metered", "month", bounds(start, end));
    let none = json!({});
    for (items, own, expected) in [
        (
            json!([seats, use_of(1, 9), use_of(2, 8)]),
            &none,
            Some((period(2, 8), Interval::Month)),
        ),
        (json!([seats]), &none, Some((period(0, 3), Interval::Year))),
        // Before March 2025 it is the subscription's.
        (
            json!([item("metered", "week", json!({}))]),
            &bounds(4, 5),
            Some((period(4, 5), Interval::Week)),
        ),
        (json!([]), &bounds(4, 5), Some((period(4, 5), Interval::Month))),
        (json!([use_of(5, 5)]), &none, None),
        (json!([]), &none, None),
    ] {
        let mut object = of_plan("sub_1", "price_pro", json!(1));
        object["items"] = json!({"data": items});
        for (name, value) in own.as_object().expect("an object") {
            object[name] = value.clone();
        }
        let cycle = subscribed("customer.subscription.updated", object).cycle;
        let told = cycle.told.first().map(|told| (told.period, cycle.every.interval));
        assert_eq!(told, expected, "{items}");
        assert_eq!(cycle.ended_at, None);
    }
    let mut object = of_plan("sub_1", "price_pro", json!(1));
    let of = |object: &Value| subscribed("customer.subscription.deleted", object.clone()).cycle.ended_at;
    assert_eq!(of(&object), Some(seconds(CREATED)), "it ended when it was told");
    object["ended_at"] = json!(CREATED - 5);
    assert_eq!(of(&object), Some(seconds(CREATED - 5)));
    object["status"] = json!("active");
    assert_eq!(subscribed("customer.subscription.updated", object).cycle.ended_at, None);
}
