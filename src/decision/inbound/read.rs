//! Reads an event of Stripe's out of its JSON.
//!
//! The few members that are needed are looked up here by name, and everything else is passed over, instead of reading into types of a
//! client library: those are of one version of Stripe's API, and an event is written by the version of the account or endpoint that it is
//! sent for. In between members have moved (`current_period_end` from subscriptions to their items, an invoice's `subscription` below its
//! `parent`), taxes were named anew, and prices were once plans.

use super::{About, COUNT_MAX, Cycle, Event, Every, ID_CHARS_MAX, Interval, Item, Revenue, Subscription, report};
use crate::decision::period::Period;
use crate::decision::time::Timestamp;
use crate::decision::value;
use serde_json::Value;

/// The most items and lines of one event that are looked at.
const ITEMS_MAX: usize = 200;
/// The last moment that is taken for one, so that no sum of it leaves its range: the year 9999.
const SECONDS_MAX: i64 = 253_370_678_400;

/// An event lacks what its kind must have; says where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    pub pointer: String,
    pub detail: String,
}

/// Reads an event. What is unknown is passed over; what a known kind must have is not.
pub fn read(body: &Value) -> Result<Event, Unreadable> {
    let kind = text(body, "/type")?;
    let created = moment(body.pointer("/created")).ok_or_else(|| wrong("/created", "is no moment"))?;
    // Of accounts without customers, which no workspace can have: nothing can come of it, however often it is sent.
    if body.pointer("/data/object/customer") == Some(&Value::Null) {
        let mut of_nobody = body.clone();
        of_nobody["data"]["object"]["customer"] = Value::from("nobody");
        let about = About::Nothing;
        return Ok(Event {
            about,
            ..read(&of_nobody)?
        });
    }
    let about = match kind {
        "customer.subscription.created" => About::Subscription(subscription(body, created, 0)?),
        // Each of these carries the whole subscription, as `updated` does.
        "customer.subscription.updated" | "customer.subscription.paused" | "customer.subscription.resumed" => {
            About::Subscription(subscription(body, created, 1)?)
        }
        "customer.subscription.deleted" => About::Subscription(subscription(body, created, 2)?),
        "invoice.paid" => invoice(body, created)?,
        "credit_note.created" => credit_note(body, created, -1)?,
        "credit_note.voided" => credit_note(body, created, 1)?,
        "v1.billing.meter.error_report_triggered" | "v1.billing.meter.no_meter_found" => About::MeterErrors(report::report(body)),
        _ => About::Nothing,
    };
    Ok(Event {
        id: id(body.pointer("/id"), "/id")?,
        kind: kind.to_owned(),
        created,
        about,
    })
}

fn wrong(pointer: &str, why: &str) -> Unreadable {
    Unreadable {
        pointer: pointer.to_owned(),
        detail: why.to_owned(),
    }
}

fn text<'a>(body: &'a Value, pointer: &str) -> Result<&'a str, Unreadable> {
    let found = body.pointer(pointer).and_then(Value::as_str);
    let is_name = |text: &&str| !text.is_empty() && text.len() <= ID_CHARS_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    found.filter(is_name).ok_or_else(|| wrong(pointer, "is no name of Stripe's"))
}

/// An id, or an object that has one: what Stripe was asked to expand.
pub(super) fn id(value: Option<&Value>, pointer: &str) -> Result<String, Unreadable> {
    let found = value.map(|value| value.get("id").unwrap_or(value)).and_then(Value::as_str);
    let is_id = |text: &&str| !text.is_empty() && text.len() <= ID_CHARS_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    found.filter(is_id).map(str::to_owned).ok_or_else(|| wrong(pointer, "is no id"))
}

/// Seconds since 1970, or, in events of the newer kind, RFC 3339.
pub(super) fn moment(value: Option<&Value>) -> Option<Timestamp> {
    match value? {
        Value::String(text) => Timestamp::parse(text).ok(),
        seconds => {
            let seconds = whole(Some(seconds)).filter(|seconds| (0..=SECONDS_MAX).contains(seconds))?;
            Some(Timestamp::from_micros(0).plus_seconds(seconds))
        }
    }
}

/// An integer, however it is written: to JSON `5.0` is one.
pub(super) fn whole(value: Option<&Value>) -> Option<i64> {
    value::integer(value?, "a count", i64::MIN, i64::MAX).ok()
}

pub(super) fn list<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    let found = object
        .pointer(pointer)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    &found[..found.len().min(ITEMS_MAX)]
}

fn subscription(body: &Value, created: Timestamp, rank: i64) -> Result<Subscription, Unreadable> {
    const OBJECT: &str = "/data/object";
    let object = body.pointer(OBJECT).ok_or_else(|| wrong(OBJECT, "is missing"))?;
    let customer = id(object.get("customer"), "/data/object/customer")?;
    let items = list(object, "/items/data").iter().filter_map(item).collect();
    let day = object.pointer("/billing_cycle_anchor_config/day_of_month").and_then(Value::as_u64);
    // One that is gone is gone, whatever state it was in.
    let status = match rank {
        2 => "canceled",
        _ => text(body, "/data/object/status")?,
    };
    Ok(Subscription {
        id: id(object.get("id"), "/data/object/id")?,
        customer,
        status: status.to_owned(),
        items,
        cycle: cycle(object, status == "canceled", created),
        anchor_day: day.and_then(|day| u8::try_from(day).ok()).filter(|day| (1..=31).contains(day)),
        anchor_at: moment(object.get("billing_cycle_anchor")),
        started_at: moment(object.get("start_date"))
            .or(moment(object.get("created")))
            .unwrap_or(created),
        told_at: created,
        rank,
    })
}

/// The period of now, which newer versions tell of each item and older ones of the subscription. Of several the one counts that use is
/// billed by, and of those the one that ends first.
fn cycle(object: &Value, is_over: bool, created: Timestamp) -> Cycle {
    let items = list(object, "/items/data");
    let recurring = |item: &Value, newer: &str, older: &str| item.pointer(newer).or(item.pointer(older)).cloned();
    let is_metered =
        |item: &Value| recurring(item, "/price/recurring/usage_type", "/plan/usage_type").is_some_and(|kind| kind == "metered");
    let bounds = |of: &Value| {
        let (start, end) = (moment(of.get("current_period_start"))?, moment(of.get("current_period_end"))?);
        (start < end).then_some(Period { start, end })
    };
    let every = |item: &Value| {
        let interval = match recurring(item, "/price/recurring/interval", "/plan/interval")?.as_str()? {
            "day" => Interval::Day,
            "week" => Interval::Week,
            "month" => Interval::Month,
            "year" => Interval::Year,
            _ => return None,
        };
        let count = recurring(item, "/price/recurring/interval_count", "/plan/interval_count");
        let count = whole(count.as_ref()).filter(|count| (1..=COUNT_MAX).contains(count)).unwrap_or(1);
        Some(Every { interval, count })
    };
    let known = items.iter().map(|item| (item, bounds(item).or_else(|| bounds(object))));
    let first = known.min_by_key(|(item, period)| (period.is_none(), !is_metered(item), period.map(|period| period.end)));
    let (every, period) = first.map_or((None, bounds(object)), |(item, period)| (every(item), period));
    // Where Stripe does not say when it ended, it did when it was told to have.
    let ended_at = is_over.then(|| moment(object.get("ended_at")).unwrap_or(created));
    Cycle::now(every.unwrap_or_default(), period, ended_at)
}

/// Older accounts name a plan where newer ones name a price; where both are there they are the same.
fn item(item: &Value) -> Option<Item> {
    let price = id(item.get("price"), "").or_else(|_| id(item.get("plan"), "")).ok()?;
    let quantity = whole(item.get("quantity")).filter(|quantity| *quantity >= 0);
    Some(Item {
        price,
        quantity,
        plan: None,
    })
}

/// What a paid invoice is for, line by line without taxes, each in its own period: a subscription's base is paid ahead and its use
/// afterwards, on one invoice. What the lines do not tell, for they may not all be there, is in the invoice's own period: so the parts add
/// up to what the invoice says.
fn invoice(body: &Value, created: Timestamp) -> Result<About, Unreadable> {
    let object = body.pointer("/data/object").ok_or_else(|| wrong("/data/object", "is missing"))?;
    let document = id(object.get("id"), "/data/object/id")?;
    let customer = id(object.get("customer"), "/data/object/customer")?;
    let currency = currency(object)?;
    let total = without_taxes(object).ok_or_else(|| wrong("/data/object/total", "is no amount"))?;
    let paid_at = moment(object.pointer("/status_transitions/paid_at")).unwrap_or(created);
    let revenue = |line: &str, amount: i64, period: Period| Revenue {
        source: format!("{document}/{line}"),
        document: document.clone(),
        amount,
        currency: currency.clone(),
        period,
        paid_at,
    };
    let own = period(object.get("period_start"), object.get("period_end"), paid_at);
    let mut left = total;
    let mut parts = Vec::new();
    for line in list(object, "/lines/data") {
        let (Ok(id), Some(amount)) = (id(line.get("id"), ""), line_amount(line)) else {
            continue;
        };
        let Some(rest) = left.checked_sub(amount).filter(|_| amount != 0) else {
            continue;
        };
        left = rest;
        let of_line = period(line.pointer("/period/start"), line.pointer("/period/end"), paid_at);
        parts.push(revenue(&id, amount, of_line));
    }
    if left != 0 {
        parts.push(revenue("rest", left, own));
    }
    Ok(About::Revenue { customer, parts })
}

/// Negative for what is given back; a credit note that is voided gives it again. Neither says a period, so it counts when it happens.
fn credit_note(body: &Value, created: Timestamp, sign: i64) -> Result<About, Unreadable> {
    let object = body.pointer("/data/object").ok_or_else(|| wrong("/data/object", "is missing"))?;
    let document = id(object.get("id"), "/data/object/id")?;
    let amount = without_taxes(object).ok_or_else(|| wrong("/data/object/total", "is no amount"))?;
    let amount = amount
        .checked_mul(sign)
        .ok_or_else(|| wrong("/data/object/total", "is no amount"))?;
    let part = Revenue {
        source: format!("{document}/{}", if sign < 0 { "created" } else { "voided" }),
        document,
        amount,
        currency: currency(object)?,
        period: period(None, None, created),
        paid_at: created,
    };
    let customer = id(object.get("customer"), "/data/object/customer")?;
    let parts = if amount == 0 { Vec::new() } else { vec![part] };
    Ok(About::Revenue { customer, parts })
}

fn currency(object: &Value) -> Result<String, Unreadable> {
    let found = object.get("currency").and_then(Value::as_str);
    let is_code = |text: &&str| text.len() == 3 && text.bytes().all(|b| b.is_ascii_alphabetic());
    let found = found.filter(is_code).map(str::to_ascii_lowercase);
    found.ok_or_else(|| wrong("/data/object/currency", "is no currency"))
}

/// `total_excluding_tax` where the version has it; else the total less its taxes, which have had two names.
fn without_taxes(object: &Value) -> Option<i64> {
    if let Some(amount) = whole(object.get("total_excluding_tax")) {
        return Some(amount);
    }
    let total = whole(object.get("total"))?;
    if let Some(tax) = whole(object.get("tax")) {
        return total.checked_sub(tax);
    }
    let named = ["/total_taxes", "/total_tax_amounts"];
    let taxes = named.iter().map(|pointer| list(object, pointer)).find(|taxes| !taxes.is_empty());
    taxes
        .unwrap_or_default()
        .iter()
        .try_fold(total, |left, tax| left.checked_sub(whole(tax.get("amount"))?))
}

/// What a line comes to without taxes: less its discounts, and less those taxes that its amount includes.
fn line_amount(line: &Value) -> Option<i64> {
    let amount = whole(line.get("amount"))?;
    let less = |left: i64, part: &Value| left.checked_sub(whole(part.get("amount"))?);
    let amount = list(line, "/discount_amounts").iter().try_fold(amount, less)?;
    let older = list(line, "/tax_amounts").iter().filter(|tax| tax["inclusive"] == true);
    let newer = list(line, "/taxes").iter().filter(|tax| tax["tax_behavior"] == "inclusive");
    older.chain(newer).try_fold(amount, less)
}

/// A period; one without a length is the moment itself.
fn period(start: Option<&Value>, end: Option<&Value>, otherwise: Timestamp) -> Period {
    let start = moment(start).or(moment(end)).unwrap_or(otherwise);
    let end = moment(end).filter(|end| *end > start).unwrap_or(start.plus_micros(1));
    Period { start, end }
}
