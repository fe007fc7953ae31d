//! A Stripe in the test's own process, over real HTTP, that keeps a book ([`book`]) and goes wrong by plan ([`faults`]). It obeys what
//! Stripe documents of meters, meter events, adjustments, summaries, credit grants, idempotency and webhooks; everything else is 404.

#![allow(dead_code, reason = "each suite uses what it needs")]

pub mod book;
pub mod faults;
pub mod form;
mod http;
pub mod subscriptions;
pub mod webhooks;

use actix_web::web::{self, Data, PayloadConfig};
use actix_web::{App, HttpServer};
use book::Book;
use faults::{Fault, Plan};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use weir::clock::Clock;

/// The key that the fake takes.
pub const KEY: &str = "sk_test_fake_planted_secret";

/// Bytes of a request, as much as any of them needs.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What the handlers share with the test.
pub struct Shared {
    clock: Arc<dyn Clock>,
    book: Mutex<Book>,
    plan: Mutex<Plan>,
    /// Customers and meters of which a call is running.
    running: Mutex<HashSet<(String, String)>>,
    remembered: Mutex<HashMap<String, http::Remembered>>,
    hook: Mutex<Option<webhooks::Hook>>,
    /// How often each answer was given: its status and code, or its fault.
    told: Mutex<BTreeMap<String, u64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn now(&self) -> i64 {
        self.clock.now().micros().div_euclid(1_000_000)
    }

    fn count(&self, what: impl Into<String>) {
        *locked(&self.told).entry(what.into()).or_default() += 1;
    }
}

/// A running fake; it ends with this value.
pub struct FakeStripe {
    pub url: String,
    shared: Arc<Shared>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for FakeStripe {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FakeStripe {
    /// On any free port of this machine.
    pub fn start(clock: Arc<dyn Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let shared = Arc::new(Shared {
            clock,
            book: Mutex::default(),
            plan: Mutex::new(Plan::none()),
            running: Mutex::default(),
            remembered: Mutex::default(),
            hook: Mutex::default(),
            told: Mutex::default(),
        });
        let data = Data::from(shared.clone());
        let app = move || {
            App::new()
                .app_data(data.clone())
                .app_data(PayloadConfig::new(BODY_BYTES_MAX))
                .default_service(web::to(http::answer))
        };
        let server = HttpServer::new(app)
            .workers(2)
            .disable_signals()
            .listen(listener)
            .expect("it listens")
            .run();
        Self {
            url,
            shared,
            server: tokio::spawn(async move {
                server.await.expect("the fake runs");
            }),
        }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        locked(&self.shared.book)
    }

    pub fn plan(&self) -> MutexGuard<'_, Plan> {
        locked(&self.shared.plan)
    }

    pub fn set_plan(&self, plan: Plan) {
        *self.plan() = plan;
    }

    /// The next calls that change something meet these, in this order.
    pub fn next(&self, faults: &[Fault]) {
        self.plan().queue(faults);
    }

    /// Nothing is answered from now on, or everything again.
    pub fn set_down(&self, is_down: bool) {
        self.plan().is_down = is_down;
    }

    /// How often each answer was given.
    pub fn told(&self) -> BTreeMap<String, u64> {
        locked(&self.shared.told).clone()
    }

    /// Where events are sent, and with which secret they are signed.
    pub fn hook(&self, url: &str, secret: &str) {
        *locked(&self.shared.hook) = Some(webhooks::Hook {
            url: url.to_owned(),
            secret: secret.to_owned(),
        });
    }

    /// Tells the hook what was accepted and turned out to be wrong; what was pushed.
    pub async fn push_reports(&self) -> Vec<serde_json::Value> {
        let now = self.shared.now();
        let reports = self.book().report(now);
        for report in &reports {
            assert_eq!(self.tell(report).await, 200, "{report}");
        }
        reports
    }

    /// How often an event was asked for.
    pub fn events_asked(&self) -> u64 {
        self.told().get("event").copied().unwrap_or(0)
    }

    /// Tells the hook of a subscription, as it is now: that it was `created`, `updated` or `deleted`.
    pub async fn tell_subscription(&self, id: &str, kind: &str) {
        let event = self.book().subscription_event(self.shared.now(), id, kind);
        assert_eq!(self.tell(&event).await, 200, "{event:#}");
    }

    /// Sends an event to the hook, signed; the status of its answer.
    pub async fn tell(&self, event: &serde_json::Value) -> u16 {
        let hook = locked(&self.shared.hook).clone().expect("a hook was set");
        webhooks::deliver(&hook, event, self.shared.now()).await
    }
}
