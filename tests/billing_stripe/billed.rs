//! A service that bills to a fake Stripe by the test's clock, and what each customer must be billed in the end.

use crate::stripe::{FakeStripe, KEY};
use crate::support::TestApp;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use weir::billing::stripe::{Stripe, StripeSettings};
use weir::clock::Clock;
use weir::config::Secret;
use weir::decision::time::Timestamp;
use weir::flow::{self, Options, Service, SigningSecrets};

/// A meter of each kind: a plain one, one with a filter, and one of money whose values have fractions.
pub const METERS: &str = "meters:
  - {id: tokens, event_name: tokens, unit: tokens}
  - {id: calls, event_name: calls, unit: requests, where: {feature: chat}}
  - {id: cents, event_name: cents, unit: usd, scale: 100, markup: \"1.25\"}
plans_by_price: {price_month: unlimited, price_other: unlimited}
";
/// What the fake signs its events with.
pub const WEBHOOK_SECRET: &str = "whsec_fake_planted_secret";
pub const EVENT_NAMES: [&str; 3] = ["tokens", "calls", "cents"];

/// The policies of the tests, and these meters.
pub fn policies(folder: &Path) -> PathBuf {
    let policies = folder.join("policies");
    std::fs::create_dir_all(&policies).expect("a folder");
    for file in ["models.yaml", "plans.yaml", "routing.yaml"] {
        std::fs::copy(crate::support::policies().join(file), policies.join(file)).expect("a copy");
    }
    std::fs::write(policies.join("billing.yaml"), METERS).expect("written");
    policies
}

/// What entries counted, by customer and event name, in the smallest part of the unit.
#[derive(Default)]
pub struct Counted(BTreeMap<(String, &'static str), i64>);

impl Counted {
    /// An entry as the service answered with it.
    pub fn add(&mut self, customer: &str, entry: &Value) {
        let counted = &entry["counted"];
        let usd = counted["usd"].as_str().expect("usd");
        let (whole, parts) = usd.split_once('.').expect("nine decimals");
        let nanos: i64 = format!("{whole}{parts}").parse().expect("digits");
        let calls = if entry["feature"] == "chat" {
            counted["requests"].as_i64()
        } else {
            Some(0)
        };
        let mut add = |name, value| *self.0.entry((customer.to_owned(), name)).or_default() += value;
        add("tokens", counted["tokens"].as_i64().expect("tokens"));
        add("calls", calls.expect("requests"));
        add("cents", nanos);
    }

    /// What Stripe must have summed up in the end.
    pub fn values(&self) -> BTreeMap<(String, String), i64> {
        let value = |name: &str, counted: i64| match name {
            // Dollars in billionths, by 1.25 and by 100: whole cents, and the fraction is still carried.
            "cents" => counted.div_euclid(8_000_000),
            _ => counted,
        };
        let told = self
            .0
            .iter()
            .map(|((customer, name), counted)| ((customer.clone(), (*name).to_owned()), value(name, *counted)));
        told.filter(|(_, value)| *value != 0).collect()
    }
}

pub struct Billed {
    pub app: Option<TestApp>,
    pub fake: FakeStripe,
    pub counted: Counted,
    settings: StripeSettings,
    /// The last request id is `use-{next}`.
    pub next: u64,
    _folder: TempDir,
}

impl Billed {
    pub async fn start(moment: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = Options {
            stripe_webhook_secrets: SigningSecrets::parse(WEBHOOK_SECRET),
            ..Options::default()
        };
        let app = TestApp::start_in_at(policies(folder.path()), moment, options).await;
        let fake = FakeStripe::start(app.clock.clone());
        for name in EVENT_NAMES {
            fake.book().add_meter(name);
        }
        let settings = StripeSettings {
            timeout: Duration::from_millis(1_000),
            ..StripeSettings::new(Secret::new(KEY.to_owned()), &fake.url)
        };
        let billed = Self {
            app: Some(app),
            fake,
            counted: Counted::default(),
            settings,
            next: 0,
            _folder: folder,
        };
        billed.employ();
        billed
    }

    pub fn app(&self) -> &TestApp {
        self.app.as_ref().expect("it runs")
    }

    fn services(&self) -> Vec<Arc<Service>> {
        let app = self.app();
        app.beside.iter().chain(Some(app)).map(|node| node.service.clone()).collect()
    }

    fn employ(&self) {
        for service in self.services() {
            let stripe = Stripe::new(&self.settings, service.clock.clone()).expect("a client");
            weir::app::billing::employ(&service, Arc::new(stripe));
        }
    }

    /// Ends all nodes as a crash would, and starts them again.
    pub async fn restart(&mut self) {
        let app = self.app.take().expect("it runs").restart().await;
        self.app = Some(app);
        self.employ();
    }

    pub fn now(&self) -> Timestamp {
        self.app().clock.now()
    }

    /// A workspace on a plan without limits, and its customer.
    pub async fn workspace(&self, name: &str, customer: Option<&str>) {
        let body = json!({"plan_id": "unlimited", "stripe_customer_id": customer});
        self.app()
            .put(&format!("/v1/admin/workspaces/{name}"), body)
            .await
            .expect_one_of(&[200, 201]);
    }

    /// Records uses: workspace, feature, input tokens, and how many seconds ago.
    pub async fn record(&mut self, customer: &str, uses: &[(&str, &str, i64, i64)]) {
        let mut entries = Vec::new();
        for (workspace, feature, tokens, seconds_ago) in uses {
            self.next += 1;
            entries.push(json!({
                "workspace_id": workspace, "feature": feature, "model": "big", "request_id": format!("use-{}", self.next),
                "usage": {"input_tokens": tokens, "output_tokens": 7}, "occurred_at": self.now().plus_seconds(-seconds_ago).to_string(),
            }));
        }
        let answer = self.app().post("/v1/usage", json!({ "entries": entries })).await.expect(200);
        for result in answer["results"].as_array().expect("results") {
            assert_eq!(result["status"], "recorded", "{result}");
            self.counted.add(customer, &result["entry"]);
        }
    }

    /// What was recorded under `request` (`use-1` is the first) came to so many input tokens and no output, as it turns out.
    pub async fn correct(&mut self, workspace: &str, customer: &str, request: &str, tokens: i64) {
        let entries = self.app().ledger(workspace).await;
        let own = entries.iter().filter(|entry| entry["request_id"] == request);
        let first = own.min_by_key(|entry| entry["corrects"].is_string()).expect("an entry");
        let usage = json!({"input_tokens": tokens, "output_tokens": 0});
        let body = json!({"entry_id": first["entry_id"], "usage": usage, "reason": "ticket 7"});
        let reply = self.app().post("/v1/admin/ledger/corrections", body).await;
        let corrected = reply.expect_one_of(&[200, 201]);
        self.counted.add(customer, &corrected["entry"]);
    }

    /// Rounds as time passes, until nothing is owed back.
    pub async fn until_settled(&self) {
        for _ in 0..200 {
            self.until_told().await;
            if self.app().service.ledger.owed().await.expect("a count") == 0 {
                return;
            }
            self.app().pass_seconds(300);
        }
        panic!("something is still owed");
    }

    /// One round on every node at once, and twice on each: whoever leads, several senders race for what is due.
    pub async fn round(&self) {
        let rounds = self
            .services()
            .into_iter()
            .flat_map(|service| [service.clone(), service])
            .map(|service| async move {
                let (batches, credits, reports) = tokio::join!(
                    flow::billing::round(&service),
                    flow::billing::round_of_credits(&service),
                    flow::reports::round(&service)
                );
                reports.and(batches).and(credits)
            });
        for done in futures_util::future::join_all(rounds).await {
            done.expect("a round");
        }
    }

    /// A round whose senders are gone after so long, wherever they were.
    pub async fn cut_round(&self, after: Duration) {
        let _ = tokio::time::timeout(after, self.round()).await;
    }

    /// Rounds as time passes, until nothing waits.
    pub async fn until_told(&self) {
        for _ in 0..400 {
            self.app().pass_seconds(61);
            self.round().await;
            let states = self.app().service.ledger.batch_states().await.expect("states");
            let waits = |state: &weir::decision::billing::State| {
                use weir::decision::billing::State;
                matches!(state, State::Open | State::Sealed | State::Sending)
            };
            if !states.iter().any(|count| waits(&count.state)) {
                return;
            }
        }
        panic!("batches still wait: {:?}", self.app().service.ledger.batch_states().await);
    }

    pub async fn reconcile(&self, body: Value) -> Value {
        self.app().post("/v1/admin/billing/reconcile", body).await.expect(200)
    }

    /// Batches in one state.
    pub async fn batches(&self, state: &str) -> Vec<Value> {
        let page = self
            .app()
            .get(&format!("/v1/admin/billing/batches?state={state}&limit=500"))
            .await
            .expect(200);
        page["data"].as_array().expect("data").clone()
    }
}

/// The differences of a report that are not only carried fractions, as `customer event code value`.
pub fn named(report: &Value) -> Vec<String> {
    let mut named = Vec::new();
    for line in report["lines"].as_array().expect("lines") {
        for difference in line["differences"].as_array().expect("differences") {
            if difference["code"] != "carried_fraction" {
                let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
                let whose = match line["customer"].as_str() {
                    Some(customer) => customer.to_owned(),
                    None => text(&line["workspaces"][0]),
                };
                named.push(format!(
                    "{whose} {} {} {}",
                    text(&line["event_name"]),
                    text(&difference["code"]),
                    text(&difference["value"])
                ));
            }
        }
    }
    named
}
