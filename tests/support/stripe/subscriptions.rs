//! The subscriptions of the fake, and the periods in which it invoices: they begin at the second of the anchor, a month apart. A period is
//! finalized an hour after its end, and at once where it ends because the anchor is set anew. What is told as of a finalized period is
//! accepted, and comes onto no invoice.

use serde_json::{Value, json};

/// How long after its end a period still takes what is told.
const DRAFT_SECONDS: i64 = 3_600;

/// From when until when, and from when on it takes nothing more.
#[derive(Clone, Debug)]
struct Period {
    start: i64,
    end: i64,
    finalized_at: i64,
}

#[derive(Clone, Debug)]
pub struct Subscription {
    pub id: String,
    pub customer: String,
    price: String,
    started_at: i64,
    anchor: i64,
    ended_at: Option<i64>,
    periods: Vec<Period>,
}

/// `months` after `anchor`.
fn step(anchor: i64, months: i64) -> i64 {
    let anchor = jiff::Timestamp::from_second(anchor)
        .expect("a moment")
        .to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let months = jiff::Span::new().months(months);
    anchor.checked_add(months).expect("a moment").timestamp().as_second()
}

impl Subscription {
    /// One that began at `started_at`, by the second.
    pub fn new(id: String, customer: &str, price: &str, started_at: i64) -> Self {
        Self {
            id,
            customer: customer.to_owned(),
            price: price.to_owned(),
            started_at,
            anchor: started_at,
            ended_at: None,
            periods: Vec::new(),
        }
    }

    /// Its periods until now.
    fn go_on(&mut self, now: i64) {
        let end = |periods: &[Period]| periods.last().map(|last| last.end);
        while self.ended_at.is_none() && end(&self.periods).is_none_or(|end| end <= now) {
            let start = end(&self.periods).unwrap_or(self.started_at);
            let next = (0..).map(|months| step(self.anchor, months)).find(|turn| *turn > start);
            let end = next.expect("a later month");
            let finalized_at = end + DRAFT_SECONDS;
            self.periods.push(Period { start, end, finalized_at });
        }
    }

    /// Another plan, with a new anchor: what was used is invoiced now.
    pub fn reset(&mut self, now: i64, price: &str) {
        self.end_period(now, now);
        (self.anchor, self.price) = (now, price.to_owned());
    }

    /// It ends now.
    pub fn cancel(&mut self, now: i64) {
        self.end_period(now, now + DRAFT_SECONDS);
        self.ended_at = Some(now);
    }

    fn end_period(&mut self, now: i64, finalized_at: i64) {
        self.go_on(now);
        let last = self.periods.last_mut().expect("it has begun");
        (last.end, last.finalized_at) = (now, finalized_at);
    }

    /// The event that tells of it.
    pub fn told(&mut self, event: String, kind: &str, now: i64) -> Value {
        self.go_on(now);
        let last = self.periods.last().expect("it has begun");
        let status = if self.ended_at.is_some() { "canceled" } else { "active" };
        let recurring = json!({"interval": "month", "interval_count": 1, "usage_type": "metered"});
        json!({
            "id": event, "object": "event", "type": format!("customer.subscription.{kind}"), "created": now, "livemode": false,
            "data": {"object": {
                "id": self.id, "object": "subscription", "customer": self.customer, "status": status, "start_date": self.started_at,
                "billing_cycle_anchor": self.anchor, "ended_at": self.ended_at, "items": {"object": "list", "data": [{
                    "id": "si_1", "price": {"id": self.price, "recurring": recurring},
                    "current_period_start": last.start, "current_period_end": last.end}]}}},
        })
    }
}

/// Whether what is told of a customer at `now` as of `timestamp` comes onto no invoice although there is one for it. What was used before a
/// customer had a subscription belongs to none.
pub fn is_never_invoiced(all: &mut [Subscription], customer: &str, timestamp: i64, now: i64) -> bool {
    let mut theirs: Vec<&mut Subscription> = all.iter_mut().filter(|one| one.customer == customer).collect();
    theirs.iter_mut().for_each(|one| one.go_on(now));
    let periods = || theirs.iter().flat_map(|one| &one.periods);
    let is_of = |period: &&Period| period.start <= timestamp && timestamp < period.end;
    let is_open = |period: &&Period| now < period.finalized_at;
    let has_come = |period: &&Period| period.start <= now;
    match periods().any(|period| is_of(&period)) {
        true => !periods().any(|period| is_of(&period) && is_open(&period)),
        false => periods().any(|period| period.end <= timestamp) && periods().any(|period| timestamp < period.start && has_come(&period)),
    }
}

/// The number of the period of a customer in which `timestamp` lies, over all subscriptions.
pub fn period_of(all: &[Subscription], customer: &str, timestamp: i64) -> Option<(i64, i64)> {
    let theirs = all.iter().filter(|one| one.customer == customer).flat_map(|one| &one.periods);
    let mut found = theirs.filter(|period| period.start <= timestamp && timestamp < period.end);
    found.next().map(|period| (period.start, period.end))
}
