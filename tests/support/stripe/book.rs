//! What the fake Stripe keeps, and by which rules: meters, meter events, their cancellations, credit grants, and reports of events that
//! were taken and turned out to be wrong. Pure: now is an argument, and a refusal is a value.

use super::form::Form;
use super::subscriptions::{Subscription, is_never_invoiced, period_of};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How old an event may be, and how far ahead of now.
const PAST_SECONDS_MAX: i64 = 35 * 86_400;
const AHEAD_SECONDS_MAX: i64 = 300;
/// How long an identifier is unique, and how long an event may be cancelled after it was received.
const DEDUPE_SECONDS: i64 = 86_400;
const IDENTIFIER_CHARS_MAX: usize = 100;
/// How many samples of each code a report names.
const SAMPLES_MAX: usize = 5;
const LIST_DEFAULT: usize = 10;
const LIST_MAX: usize = 100;

/// What Stripe says instead of an answer.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub status: u16,
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub message: String,
    pub param: Option<&'static str>,
}

impl Refusal {
    pub fn invalid(code: Option<&'static str>, param: Option<&'static str>, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            kind: "invalid_request_error",
            code,
            message: message.into(),
            param,
        }
    }

    fn missing(param: &'static str) -> Self {
        Self::invalid(Some("parameter_missing"), Some(param), format!("Missing required param: {param}."))
    }

    pub fn unknown(what: &str, id: &str) -> Self {
        let message = format!("No such {what}: '{id}'");
        Self {
            status: 404,
            ..Self::invalid(Some("resource_missing"), Some("id"), message)
        }
    }

    pub fn body(&self) -> Value {
        let mut error = json!({"type": self.kind, "message": self.message});
        if let Some(code) = self.code {
            error["code"] = json!(code);
            error["doc_url"] = json!(format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")));
        }
        if let Some(param) = self.param {
            error["param"] = json!(param);
        }
        json!({ "error": error })
    }
}

/// A meter, as an account has set it up.
#[derive(Clone, Debug)]
pub struct Meter {
    pub id: String,
    pub event_name: String,
    pub customer_key: String,
    pub value_key: String,
    pub formula: String,
    /// Of a meter that takes the last event of an `hour` or a `day` for all of it.
    pub time_window: Option<&'static str>,
    pub is_active: bool,
    created: i64,
}

/// A meter event that was accepted.
#[derive(Clone, Debug)]
pub struct Event {
    pub identifier: String,
    pub event_name: String,
    pub meter: String,
    pub customer: String,
    pub value: i64,
    pub timestamp: i64,
    pub received_at: i64,
    pub is_cancelled: bool,
    /// Its period was finalized when it was received.
    pub is_never_invoiced: bool,
    /// Why it does not count although it was accepted; told later, in a report.
    pub fault: Option<&'static str>,
    is_reported: bool,
}

/// What `Book` counts of one customer and meter.
impl Event {
    pub fn counts(&self) -> bool {
        !self.is_cancelled && self.fault.is_none()
    }

    fn shown(&self, meter: &Meter) -> Value {
        json!({
            "object": "billing.meter_event", "created": self.received_at, "event_name": self.event_name, "identifier": self.identifier,
            "livemode": false, "timestamp": self.timestamp,
            "payload": {&meter.customer_key: self.customer, &meter.value_key: self.value.to_string()},
        })
    }
}

/// A credit grant.
#[derive(Clone, Debug)]
pub struct Grant {
    pub id: String,
    pub customer: String,
    pub cents: i64,
    pub metadata: BTreeMap<String, String>,
    pub expires_at: Option<i64>,
    pub voided_at: Option<i64>,
    /// Something of it was set off against an invoice: it can expire, and not be voided any more.
    pub is_used: bool,
    shown: Value,
}

impl Grant {
    fn shown(&self) -> Value {
        let mut shown = self.shown.clone();
        shown["expires_at"] = json!(self.expires_at);
        shown["voided_at"] = json!(self.voided_at);
        shown
    }
}

/// The account of the fake.
#[derive(Debug)]
pub struct Book {
    pub customers: BTreeSet<String>,
    pub meters: Vec<Meter>,
    pub events: Vec<Event>,
    pub grants: Vec<Grant>,
    pub subscriptions: Vec<Subscription>,
    /// How long after it was received an event is in the summaries.
    pub summary_lag_seconds: i64,
    /// How many samples of each code a report names.
    pub samples_max: usize,
    /// Reports are pushed whole, as older endpoints have them; otherwise without their data.
    pub pushes_whole: bool,
    /// Where an identifier was used last.
    latest: HashMap<String, usize>,
    reports: BTreeMap<String, Value>,
    next: u64,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            customers: BTreeSet::new(),
            meters: Vec::new(),
            events: Vec::new(),
            grants: Vec::new(),
            subscriptions: Vec::new(),
            summary_lag_seconds: 0,
            samples_max: SAMPLES_MAX,
            pushes_whole: false,
            latest: HashMap::new(),
            reports: BTreeMap::new(),
            next: 0,
        }
    }
}

impl Book {
    pub fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}_fake{:08}", self.next)
    }

    pub fn add_customer(&mut self, customer: &str) {
        self.customers.insert(customer.to_owned());
    }

    /// A meter that sums, with the usual keys.
    pub fn add_meter(&mut self, event_name: &str) -> String {
        let id = self.id("mtr");
        self.meters.push(Meter {
            id: id.clone(),
            event_name: event_name.to_owned(),
            customer_key: "stripe_customer_id".to_owned(),
            value_key: "value".to_owned(),
            formula: "sum".to_owned(),
            time_window: None,
            is_active: true,
            created: 1_700_000_000,
        });
        id
    }

    /// A customer subscribes, as of then; the id.
    pub fn subscribe(&mut self, customer: &str, price: &str, started_at: i64) -> String {
        let id = self.id("sub");
        self.subscriptions.push(Subscription::new(id.clone(), customer, price, started_at));
        id
    }

    pub fn subscription(&mut self, id: &str) -> &mut Subscription {
        self.subscriptions.iter_mut().find(|one| one.id == id).expect("a subscription")
    }

    pub fn subscription_event(&mut self, now: i64, id: &str, kind: &str) -> Value {
        let event = self.id("evt");
        self.subscription(id).told(event, kind, now)
    }

    /// What was accepted as of a period that was finalized.
    pub fn never_invoiced(&self) -> Vec<&Event> {
        self.events
            .iter()
            .filter(|event| event.counts() && event.is_never_invoiced)
            .collect()
    }

    /// What a customer is billed for on a meter in the period of its subscription that `timestamp` lies in.
    pub fn invoiced(&self, customer: &str, event_name: &str, timestamp: i64) -> i64 {
        let period = period_of(&self.subscriptions, customer, timestamp);
        let theirs = |event: &&Event| event.customer == customer && event.event_name == event_name && event.counts();
        let events = self.events.iter().filter(theirs).filter(|event| !event.is_never_invoiced);
        let of_period = events.filter(|event| period_of(&self.subscriptions, customer, event.timestamp) == period);
        of_period.map(|event| event.value).sum()
    }

    /// What a customer is billed for on a meter, by all that was received.
    pub fn total(&self, customer: &str, event_name: &str) -> i64 {
        let theirs = |event: &&Event| event.customer == customer && event.event_name == event_name && event.counts();
        self.events.iter().filter(theirs).map(|event| event.value).sum()
    }

    /// The same for all customers and meters at once.
    pub fn totals(&self) -> BTreeMap<(String, String), i64> {
        let mut totals = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.counts()) {
            *totals.entry((event.customer.clone(), event.event_name.clone())).or_default() += event.value;
        }
        totals
    }

    /// Who the meter event is about, so that two calls about the same do not run at once.
    pub fn locked_by(&self, form: &Form) -> Option<(String, String)> {
        let event_name = form.get("event_name")?;
        let meter = self.meters.iter().find(|meter| meter.event_name == event_name)?;
        let customer = form.get(&format!("payload[{}]", meter.customer_key))?;
        Some((customer.to_owned(), event_name.to_owned()))
    }

    /// `POST /v1/billing/meter_events`.
    pub fn meter_event(&mut self, now: i64, form: &Form) -> Result<Value, Refusal> {
        let event_name = form.get("event_name").ok_or(Refusal::missing("event_name"))?;
        let no_meter = || {
            Refusal::invalid(
                None,
                Some("event_name"),
                format!("No active meter found for event name {event_name}."),
            )
        };
        let meter = self.meters.iter().find(|meter| meter.event_name == event_name && meter.is_active);
        let meter = meter.ok_or_else(no_meter)?.clone();
        let in_payload = |key: &str| {
            let missing = || {
                Refusal::invalid(
                    None,
                    Some("payload"),
                    format!("Missing payload key '{key}' for the meter {}.", meter.id),
                )
            };
            form.get(&format!("payload[{key}]")).ok_or_else(missing)
        };
        let customer = in_payload(&meter.customer_key)?.to_owned();
        let value = whole(in_payload(&meter.value_key)?)?;
        let timestamp = match form.get("timestamp") {
            None => now,
            Some(text) => text.parse().map_err(|_| {
                Refusal::invalid(
                    Some("parameter_invalid_integer"),
                    Some("timestamp"),
                    format!("Invalid integer: {text}"),
                )
            })?,
        };
        if timestamp < now - PAST_SECONDS_MAX {
            let message = "The timestamp is too far in the past: it must be within the past 35 calendar days.";
            return Err(Refusal::invalid(Some("timestamp_too_far_in_past"), Some("timestamp"), message));
        }
        if timestamp > now + AHEAD_SECONDS_MAX {
            let message = "The timestamp is too far in the future: it may be at most 5 minutes ahead.";
            return Err(Refusal::invalid(Some("timestamp_in_future"), Some("timestamp"), message));
        }
        let identifier = match form.get("identifier") {
            Some(identifier) if identifier.is_empty() || identifier.len() > IDENTIFIER_CHARS_MAX => {
                return Err(Refusal::invalid(
                    None,
                    Some("identifier"),
                    "The identifier must have 1 to 100 characters.",
                ));
            }
            Some(identifier) => identifier.to_owned(),
            None => self.id("ident"),
        };
        if let Some(event) = self.latest.get(&identifier).and_then(|at| self.events.get(*at))
            && now - event.received_at < DEDUPE_SECONDS
        {
            return Err(duplicate(&identifier));
        }
        let is_never_invoiced = is_never_invoiced(&mut self.subscriptions, &customer, timestamp, now);
        let fault = (!self.customers.contains(&customer)).then_some("meter_event_customer_not_found");
        let event = Event {
            identifier: identifier.clone(),
            event_name: event_name.to_owned(),
            meter: meter.id.clone(),
            customer,
            value,
            timestamp,
            received_at: now,
            is_cancelled: false,
            is_never_invoiced,
            fault,
            is_reported: false,
        };
        let shown = event.shown(&meter);
        self.latest.insert(identifier, self.events.len());
        self.events.push(event);
        Ok(shown)
    }

    /// `POST /v1/billing/meter_event_adjustments`.
    pub fn adjustment(&mut self, now: i64, form: &Form) -> Result<Value, Refusal> {
        let event_name = form.get("event_name").ok_or(Refusal::missing("event_name"))?;
        if form.get("type") != Some("cancel") {
            return Err(Refusal::invalid(None, Some("type"), "Invalid type: must be cancel"));
        }
        let identifier = form.get("cancel[identifier]").ok_or(Refusal::missing("cancel[identifier]"))?;
        let found = self.latest.get(identifier).and_then(|at| self.events.get_mut(*at));
        let Some(event) = found.filter(|event| event.event_name == event_name) else {
            return Err(Refusal::invalid(
                Some("resource_missing"),
                Some("cancel[identifier]"),
                format!("No event found with identifier {identifier}."),
            ));
        };
        if event.is_cancelled {
            return Err(Refusal::invalid(
                None,
                Some("cancel[identifier]"),
                format!("The event {identifier} is already cancelled."),
            ));
        }
        if now - event.received_at > DEDUPE_SECONDS {
            let message = format!("The event {identifier} was received more than 24 hours ago and cannot be cancelled.");
            return Err(Refusal::invalid(None, Some("cancel[identifier]"), message));
        }
        event.is_cancelled = true;
        Ok(
            json!({"object": "billing.meter_event_adjustment", "cancel": {"identifier": identifier}, "event_name": event_name, "livemode": false, "status": "pending", "type": "cancel"}),
        )
    }

    /// `POST /v1/billing/meters`.
    pub fn create_meter(&mut self, now: i64, form: &Form) -> Result<Value, Refusal> {
        let event_name = form.get("event_name").ok_or(Refusal::missing("event_name"))?.to_owned();
        let formula = form
            .get("default_aggregation[formula]")
            .ok_or(Refusal::missing("default_aggregation[formula]"))?;
        form.get("display_name").ok_or(Refusal::missing("display_name"))?;
        if self.meters.iter().any(|meter| meter.is_active && meter.event_name == event_name) {
            return Err(Refusal::invalid(
                None,
                Some("event_name"),
                format!("There is an active meter with event name {event_name} already."),
            ));
        }
        let id = self.add_meter(&event_name);
        let meter = self.meters.last_mut().expect("it was added");
        meter.formula = formula.to_owned();
        meter.created = now;
        let key = |name: &str| form.get(name).map(str::to_owned);
        meter.customer_key = key("customer_mapping[event_payload_key]").unwrap_or_else(|| meter.customer_key.clone());
        meter.value_key = key("value_settings[event_payload_key]").unwrap_or_else(|| meter.value_key.clone());
        self.meter(&id)
    }

    /// `POST /v1/billing/meters/{id}/deactivate` and `/reactivate`.
    pub fn set_meter(&mut self, id: &str, is_active: bool) -> Result<Value, Refusal> {
        let meter = self
            .meters
            .iter_mut()
            .find(|meter| meter.id == id)
            .ok_or_else(|| Refusal::unknown("meter", id))?;
        meter.is_active = is_active;
        Ok(shown_meter(meter))
    }

    /// `GET /v1/billing/meters/{id}`.
    pub fn meter(&self, id: &str) -> Result<Value, Refusal> {
        let meter = self.meters.iter().find(|meter| meter.id == id);
        meter.map(shown_meter).ok_or_else(|| Refusal::unknown("meter", id))
    }

    /// `GET /v1/billing/meters`.
    pub fn meters(&self, form: &Form) -> Result<Value, Refusal> {
        let wanted = |meter: &&Meter| match form.get("status") {
            Some("active") => meter.is_active,
            Some("inactive") => !meter.is_active,
            _ => true,
        };
        list(
            "/v1/billing/meters",
            self.meters.iter().rev().filter(wanted).map(shown_meter).collect(),
            form,
        )
    }

    /// `GET /v1/billing/meters/{id}/event_summaries`.
    pub fn summaries(&self, now: i64, id: &str, form: &Form) -> Result<Value, Refusal> {
        self.meter(id)?;
        let customer = form.get("customer").ok_or(Refusal::missing("customer"))?;
        if !self.customers.contains(customer) {
            return Err(Refusal::invalid(
                Some("resource_missing"),
                Some("customer"),
                format!("No such customer: '{customer}'"),
            ));
        }
        let time = |name: &'static str| -> Result<i64, Refusal> {
            let text = form.get(name).ok_or(Refusal::missing(name))?;
            text.parse()
                .map_err(|_| Refusal::invalid(Some("parameter_invalid_integer"), Some(name), format!("Invalid integer: {text}")))
        };
        let (start, end) = (time("start_time")?, time("end_time")?);
        let (step, word) = match form.get("value_grouping_window") {
            None => (60, "minute"),
            Some("hour") => (3_600, "hour"),
            Some("day") => (86_400, "day"),
            Some(_) => {
                return Err(Refusal::invalid(
                    None,
                    Some("value_grouping_window"),
                    "Invalid value_grouping_window: must be one of day or hour",
                ));
            }
        };
        for (name, moment) in [("start_time", start), ("end_time", end)] {
            if moment % step != 0 {
                return Err(Refusal::invalid(
                    None,
                    Some(name),
                    format!("{name} must be aligned with {word} boundaries."),
                ));
            }
        }
        if start >= end {
            return Err(Refusal::invalid(None, Some("end_time"), "end_time must be after start_time."));
        }
        let width = if form.get("value_grouping_window").is_some() {
            step
        } else {
            end - start
        };
        let mut sums: BTreeMap<i64, i64> = BTreeMap::new();
        let seen = |event: &&Event| {
            event.meter == id
                && event.customer == customer
                && event.counts()
                && (start..end).contains(&event.timestamp)
                && event.received_at + self.summary_lag_seconds <= now
        };
        for event in self.events.iter().filter(seen) {
            *sums.entry(start + (event.timestamp - start) / width * width).or_default() += event.value;
        }
        let shown = |(from, sum): (&i64, &i64)| {
            json!({"object": "billing.meter_event_summary", "id": format!("mtrusg_{id}_{customer}_{from}"), "aggregated_value": sum,
                   "start_time": from, "end_time": from + width, "livemode": false, "meter": id})
        };
        // Newest first, and windows without events are left out.
        list(
            &format!("/v1/billing/meters/{id}/event_summaries"),
            sums.iter().rev().map(shown).collect(),
            form,
        )
    }

    /// `POST /v1/billing/credit_grants`.
    pub fn create_grant(&mut self, now: i64, form: &Form) -> Result<Value, Refusal> {
        let customer = form.get("customer").ok_or(Refusal::missing("customer"))?.to_owned();
        if !self.customers.contains(&customer) {
            return Err(Refusal::invalid(
                Some("resource_missing"),
                Some("customer"),
                format!("No such customer: '{customer}'"),
            ));
        }
        if form.get("amount[type]") != Some("monetary") {
            return Err(Refusal::missing("amount[type]"));
        }
        let cents = whole(
            form.get("amount[monetary][value]")
                .ok_or(Refusal::missing("amount[monetary][value]"))?,
        )?;
        let currency = form
            .get("amount[monetary][currency]")
            .ok_or(Refusal::missing("amount[monetary][currency]"))?;
        if cents <= 0 {
            return Err(Refusal::invalid(None, Some("amount[monetary][value]"), "Invalid positive integer"));
        }
        if form.get("applicability_config[scope][price_type]").is_none() && !form.has("applicability_config[scope][prices]") {
            return Err(Refusal::missing("applicability_config[scope][price_type]"));
        }
        let time = |name: &str| form.get(name).and_then(|text| text.parse::<i64>().ok());
        let expires_at = time("expires_at");
        if expires_at.is_some_and(|at| at <= now) {
            return Err(Refusal::invalid(None, Some("expires_at"), "expires_at must be in the future."));
        }
        let metadata = form.below("metadata");
        let id = self.id("credgr");
        let shown = json!({
            "object": "billing.credit_grant", "id": id, "customer": customer, "customer_account": null, "livemode": false,
            "amount": {"type": "monetary", "monetary": {"currency": currency, "value": cents}},
            "applicability_config": {"scope": {"price_type": "metered"}}, "category": form.get("category").unwrap_or("paid"),
            "created": now, "updated": now, "effective_at": time("effective_at").unwrap_or(now), "expires_at": null, "voided_at": null,
            "metadata": metadata, "name": form.get("name"), "priority": time("priority").unwrap_or(50), "test_clock": null,
        });
        let grant = Grant {
            id,
            customer,
            cents,
            metadata,
            expires_at,
            voided_at: None,
            is_used: false,
            shown,
        };
        let shown = grant.shown();
        self.grants.push(grant);
        Ok(shown)
    }

    /// `POST /v1/billing/credit_grants/{id}/void` and `/expire`.
    pub fn end_grant(&mut self, now: i64, id: &str, is_void: bool) -> Result<Value, Refusal> {
        let grant = self
            .grants
            .iter_mut()
            .find(|grant| grant.id == id)
            .ok_or_else(|| Refusal::unknown("credit grant", id))?;
        if grant.voided_at.is_some() {
            return Err(Refusal::invalid(None, None, "This credit grant has already been voided."));
        }
        if is_void && grant.is_used {
            return Err(Refusal::invalid(
                None,
                None,
                "This credit grant has been applied to an invoice and cannot be voided.",
            ));
        }
        if is_void {
            grant.voided_at = Some(now);
        } else {
            grant.expires_at = Some(now);
        }
        Ok(grant.shown())
    }

    /// `GET /v1/billing/credit_grants/{id}`.
    pub fn grant(&self, id: &str) -> Result<Value, Refusal> {
        let grant = self.grants.iter().find(|grant| grant.id == id);
        grant.map(Grant::shown).ok_or_else(|| Refusal::unknown("credit grant", id))
    }

    /// `GET /v1/billing/credit_grants`.
    pub fn grants(&self, form: &Form) -> Result<Value, Refusal> {
        let wanted = |grant: &&Grant| form.get("customer").is_none_or(|customer| grant.customer == customer);
        list(
            "/v1/billing/credit_grants",
            self.grants.iter().rev().filter(wanted).map(Grant::shown).collect(),
            form,
        )
    }

    /// The reports, one for each meter, of what was accepted and turned out to be wrong since the last ones, as they are pushed.
    pub fn report(&mut self, now: i64) -> Vec<Value> {
        let mut by_meter: BTreeMap<String, Faults> = BTreeMap::new();
        for event in self.events.iter_mut().filter(|event| event.fault.is_some() && !event.is_reported) {
            event.is_reported = true;
            let faults = by_meter.entry(event.meter.clone()).or_default();
            let code = event.fault.unwrap_or_default();
            faults.by_code.entry(code).or_default().push(event.identifier.clone());
            let received = (event.received_at, event.received_at);
            let (first, last) = faults.received.unwrap_or(received);
            faults.received = Some((first.min(event.received_at), last.max(event.received_at)));
        }
        let mut reports = Vec::new();
        for (meter, faults) in by_meter {
            let id = self.id("evt");
            let report = error_report(&id, &meter, &faults, self.samples_max, now);
            let mut pushed = report.clone();
            if !self.pushes_whole {
                pushed.as_object_mut().expect("an object").remove("data");
            }
            self.reports.insert(id, report);
            reports.push(pushed);
        }
        reports
    }

    /// `GET /v2/core/events/{id}`.
    pub fn event(&self, id: &str) -> Result<Value, Refusal> {
        self.reports.get(id).cloned().ok_or_else(|| Refusal::unknown("event", id))
    }
}

/// The words by which clients know that an event is there already.
pub fn duplicate(identifier: &str) -> Refusal {
    Refusal::invalid(None, None, format!("An event already exists with identifier {identifier}."))
}

fn whole(text: &str) -> Result<i64, Refusal> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let parsed = (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok());
    let wrong = || {
        Refusal::invalid(
            None,
            Some("payload"),
            format!("Invalid value '{text}': values must be whole numbers."),
        )
    };
    parsed.flatten().ok_or_else(wrong)
}

fn shown_meter(meter: &Meter) -> Value {
    json!({
        "object": "billing.meter", "id": meter.id, "created": meter.created, "updated": meter.created, "livemode": false,
        "customer_mapping": {"event_payload_key": meter.customer_key, "type": "by_id"}, "default_aggregation": {"formula": meter.formula},
        "display_name": meter.event_name, "event_name": meter.event_name, "event_time_window": meter.time_window,
        "status": if meter.is_active { "active" } else { "inactive" }, "status_transitions": {"deactivated_at": null},
        "value_settings": {"event_payload_key": meter.value_key},
    })
}

/// One page of a list, by Stripe's cursor.
fn list(url: &str, all: Vec<Value>, form: &Form) -> Result<Value, Refusal> {
    let limit = form.get("limit").map_or(Ok(LIST_DEFAULT), str::parse);
    let limit = limit.ok().filter(|limit| (1..=LIST_MAX).contains(limit));
    let limit = limit.ok_or_else(|| Refusal::invalid(None, Some("limit"), "Invalid limit: must be between 1 and 100"))?;
    let skipped = match form.get("starting_after") {
        None => 0,
        Some(id) => {
            1 + all
                .iter()
                .position(|one| one["id"] == id)
                .ok_or_else(|| Refusal::unknown("object", id))?
        }
    };
    let data: Vec<&Value> = all.iter().skip(skipped).take(limit).collect();
    Ok(json!({"object": "list", "url": url, "has_more": skipped + data.len() < all.len(), "data": data}))
}

/// What went wrong with the events of one meter.
#[derive(Default)]
struct Faults {
    by_code: BTreeMap<&'static str, Vec<String>>,
    received: Option<(i64, i64)>,
}

/// An event of Stripe's second kind, as its documentation shows one, with its data.
fn error_report(id: &str, meter: &str, faults: &Faults, samples_max: usize, now: i64) -> Value {
    let moment = |seconds: i64| weir::decision::time::Timestamp::from_micros(seconds * 1_000_000).to_string();
    let sample = |code: &str, identifier: &String| {
        let said = match code {
            "meter_event_customer_not_found" => format!("Customer not found for event {identifier}"),
            _ => format!("The event {identifier} is not valid"),
        };
        json!({"error_message": said, "request": {"identifier": identifier}})
    };
    let kind = |(code, identifiers): (&&'static str, &Vec<String>)| {
        let samples: Vec<Value> = identifiers.iter().take(samples_max).map(|one| sample(code, one)).collect();
        json!({"code": code, "error_count": identifiers.len(), "sample_errors": samples})
    };
    let count: usize = faults.by_code.values().map(Vec::len).sum();
    let (first, last) = faults.received.unwrap_or((now, now));
    json!({
        "id": id, "object": "v2.core.event", "type": "v1.billing.meter.error_report_triggered", "created": moment(now), "livemode": false,
        "context": null, "reason": null,
        "related_object": {"id": meter, "type": "billing.meter", "url": format!("/v1/billing/meters/{meter}")},
        "data": {
            "developer_message_summary": format!("There are {count} invalid events"),
            "reason": {"error_count": count, "error_types": faults.by_code.iter().map(kind).collect::<Vec<Value>>()},
            // Looked at some seconds after they came, in steps of ten seconds.
            "validation_start": moment(first / 10 * 10 + 10), "validation_end": moment(last / 10 * 10 + 20),
        },
    })
}
