//! A service in the test's own process, over real HTTP, with a clock that the test moves. Tests speak in verbs.

#![allow(dead_code, reason = "each suite uses the verbs that it needs")]

pub mod blind;
pub mod certificates;
pub mod disk;
pub mod embeddings;
pub mod issuer;
pub mod postgres;
pub mod proxy;
pub mod redis;
pub mod stores;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use stores::Stores;
use weir::api::auth::{Claims, Keys, ScopeSet, Verifier, mint};
use weir::app;
use weir::clock::{Clock, MovableClock};
use weir::decision::address::Range;
use weir::decision::id::WorkspaceId;
use weir::decision::time::Timestamp;
use weir::decision::webhook::seal::SealKey;
use weir::flow::{Options, Service, WebhookOptions};

/// Signs the credentials of tests.
pub const SECRET: &str = "a secret for tests, long enough to be one";

/// How often a request is sent again that the service asks to send again, and how soon.
const TRIES_MAX: usize = 50;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often a service is started again.
const STARTS_MAX: usize = 4;

/// How many nodes share the work of a test on the production profile.
const NODES: usize = 3;

/// The moment at which tests begin unless they say otherwise.
pub const BEGIN: &str = "2025-11-21T10:00:00Z";

pub struct TestApp {
    pub url: String,
    pub client: Client,
    pub clock: Arc<MovableClock>,
    pub service: Arc<Service>,
    stores: Arc<Stores>,
    policies: PathBuf,
    options: Options,
    next: Arc<AtomicU64>,
    server: Running,
    /// Other nodes on the same stores: requests go to all of them in turn.
    pub beside: Vec<TestApp>,
    turn: AtomicUsize,
}

/// A server task, ended with this value.
struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What settings would make: a key for secrets, and this machine's first address open to webhooks.
pub fn options() -> Options {
    Options {
        webhooks: WebhookOptions {
            allowed: vec![Range {
                address: "127.0.0.1".parse().expect("an address"),
                prefix_bits: 32,
            }],
            seal: Some(Arc::new(SealKey::new(SECRET.as_bytes()))),
            ..WebhookOptions::default()
        },
        ..Options::default()
    }
}

/// Where a server of the test's own listens.
pub fn local(port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::from(([127, 0, 0, 1], port))
}

/// The policies of the tests, written by us for them.
pub fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies")
}

impl TestApp {
    pub async fn start() -> Self {
        Self::start_at(BEGIN).await
    }

    pub async fn start_at(moment: &str) -> Self {
        let clock = Arc::new(MovableClock::at(Timestamp::parse(moment).expect("a moment")));
        Self::start_all(Arc::new(Stores::empty().await), clock, policies(), options()).await
    }

    /// One service, on either profile, with set-ups that settings would make.
    pub async fn alone_with(options: Options) -> Self {
        let clock = Arc::new(MovableClock::at(Timestamp::parse(BEGIN).expect("a moment")));
        Self::start_on(Arc::new(Stores::empty().await), clock, policies(), options).await
    }

    /// With set-ups that settings would make.
    pub async fn start_with(options: Options) -> Self {
        let clock = Arc::new(MovableClock::at(Timestamp::parse(BEGIN).expect("a moment")));
        Self::start_all(Arc::new(Stores::empty().await), clock, policies(), options).await
    }

    /// With the policies that are shipped, at a moment when all their prices are in force.
    pub async fn start_on_samples(options: Options) -> Self {
        let clock = Arc::new(MovableClock::at(Timestamp::parse("2026-11-24T10:00:00Z").expect("a moment")));
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        Self::start_all(Arc::new(Stores::empty().await), clock, samples, options).await
    }

    /// With policies of the test's own.
    pub async fn start_in_at(policies: PathBuf, moment: &str, options: Options) -> Self {
        let clock = Arc::new(MovableClock::at(Timestamp::parse(moment).expect("a moment")));
        Self::start_all(Arc::new(Stores::empty().await), clock, policies, options).await
    }

    /// One service, on either profile.
    pub async fn alone() -> Self {
        Self::on(Stores::empty().await).await
    }

    /// One service on embedded stores, several nodes on those of the production profile.
    async fn start_all(stores: Arc<Stores>, clock: Arc<MovableClock>, policies: PathBuf, options: Options) -> Self {
        let mut app = Self::start_on(stores.clone(), clock.clone(), policies.clone(), options.clone()).await;
        if !matches!(*stores, Stores::Embedded(_)) {
            for _ in 1..NODES {
                app.beside
                    .push(Self::start_on(stores.clone(), clock.clone(), policies.clone(), options.clone()).await);
            }
        }
        app
    }

    /// Loses all counters and holds, and nothing else.
    pub async fn lose_counters(self) -> Self {
        match &*self.stores {
            Stores::Embedded(_) => self.restart().await,
            Stores::Production { .. } | Stores::Cluster { .. } => {
                self.stores.flush();
                self
            }
        }
    }

    /// A node on these stores.
    pub async fn on(stores: Stores) -> Self {
        let clock = Arc::new(MovableClock::at(Timestamp::parse(BEGIN).expect("a moment")));
        Self::start_on(Arc::new(stores), clock, policies(), options()).await
    }

    /// Nodes of the production profile over the same stores and by the same clock.
    pub async fn nodes(count: usize) -> Vec<Self> {
        let clock = Arc::new(MovableClock::at(Timestamp::parse(BEGIN).expect("a moment")));
        let stores = Arc::new(Stores::empty_production().await);
        let mut nodes = Vec::with_capacity(count);
        for _ in 0..count {
            nodes.push(Self::start_on(stores.clone(), clock.clone(), policies(), options()).await);
        }
        // Their requests have ids of their own.
        let next = nodes[0].next.clone();
        nodes.iter_mut().for_each(|node| node.next = next.clone());
        nodes
    }

    async fn start_on(stores: Arc<Stores>, clock: Arc<MovableClock>, policies: PathBuf, options: Options) -> Self {
        let mut tries = 0;
        let service = loop {
            let as_clock: Arc<dyn Clock> = clock.clone();
            match stores.open(&policies, as_clock, options.clone()).await {
                Ok(service) => break service,
                // A store on a busy machine may answer later than a service waits for it; whoever runs one starts it again.
                Err(error) if tries < STARTS_MAX => {
                    tries += 1;
                    eprintln!("a service did not start, so it is started again: {error}");
                }
                Err(error) => panic!("the service starts: {error}"),
            }
        };
        Self::listen(service, stores, clock, policies, options)
    }

    /// A node of a service that was put together by hand, beside another node.
    pub async fn serve_on(service: Arc<Service>, beside: &Self) -> Self {
        Self::listen(
            service,
            beside.stores.clone(),
            beside.clock.clone(),
            beside.policies.clone(),
            beside.options.clone(),
        )
    }

    fn listen(service: Arc<Service>, stores: Arc<Stores>, clock: Arc<MovableClock>, policies: PathBuf, options: Options) -> Self {
        Self::listen_as(service, stores, clock, policies, options, verifier())
    }

    /// The same service behind another verifier of credentials.
    pub fn verified_by(&self, verifier: Verifier) -> Self {
        let (stores, policies, options) = (self.stores.clone(), self.policies.clone(), self.options.clone());
        Self::listen_as(self.service.clone(), stores, self.clock.clone(), policies, options, verifier)
    }

    fn listen_as(
        service: Arc<Service>,
        stores: Arc<Stores>,
        clock: Arc<MovableClock>,
        policies: PathBuf,
        options: Options,
        verifier: Verifier,
    ) -> Self {
        let (server, address) = app::serve(service.clone(), verifier, "127.0.0.1:0").expect("a port");
        let server = Running(tokio::spawn(async move {
            server.await.expect("the server runs");
        }));
        // Shorter than the service keeps a silent connection, so that none is closed just when it is used again.
        let client = Client::builder().no_proxy().pool_idle_timeout(Duration::from_secs(20));
        let client = client.build().expect("a client");
        let url = format!("http://{address}");
        Self {
            url,
            client,
            clock,
            service,
            stores,
            policies,
            options,
            next: Arc::default(),
            server,
            beside: Vec::new(),
            turn: AtomicUsize::new(0),
        }
    }

    /// Ends the service as a crash would leave it, and starts another on the same data.
    pub async fn restart(self) -> Self {
        let is_several = !self.beside.is_empty() || matches!(*self.stores, Stores::Embedded(_));
        drop((self.server, self.beside));
        match is_several {
            true => Self::start_all(self.stores, self.clock, self.policies, self.options).await,
            false => Self::start_on(self.stores, self.clock, self.policies, self.options).await,
        }
    }

    /// Lets nobody write an answer to a request into the ledger, until what is returned is dropped.
    pub async fn keep_answers_waiting(&self) -> Box<dyn Send> {
        self.stores.keep_answers_waiting().await
    }

    /// The URL of the ledger's database, of the production profile.
    pub fn database(&self) -> &str {
        self.stores.database()
    }

    /// Another node of the production profile over the same stores and by the same clock, which reaches the database in another way.
    pub async fn beside_through(&self, database: String) -> Self {
        let stores = Arc::new(self.stores.through(database));
        Self::start_on(stores, self.clock.clone(), self.policies.clone(), self.options.clone()).await
    }

    pub fn pass_seconds(&self, seconds: i64) {
        self.clock.advance_seconds(seconds);
    }

    pub fn set_clock(&self, moment: &str) {
        self.clock.set(Timestamp::parse(moment).expect("a moment"));
    }

    /// A credential with these scopes.
    pub fn token(&self, scopes: &str, workspace: Option<&str>) -> String {
        token(&*self.clock, scopes, workspace)
    }

    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.call_as(&self.admin_token(), method, path, body).await
    }

    /// Minted anew, because tests move the clock past any expiry.
    fn admin_token(&self) -> String {
        token(&*self.clock, "admin", None)
    }

    pub async fn call_as(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.call_with(token, method, path, &[], body).await
    }

    /// With these headers besides.
    pub async fn call_with(&self, token: &str, method: Method, path: &str, headers: &[(&str, &str)], body: Option<Value>) -> Reply {
        let is_production = !matches!(*self.stores, Stores::Embedded(_));
        for _ in 0..TRIES_MAX {
            // On two busy cores a real server is sometimes late, or a connection is given up. A caller then asks again, as the answer says.
            match self.try_call(token, method.clone(), path, headers, body.as_ref()).await {
                Ok(reply) if reply.status != StatusCode::SERVICE_UNAVAILABLE || !is_production => return reply,
                Ok(reply) => assert!(reply.header("retry-after").is_some(), "{}", reply.text),
                Err(error) => assert!(is_production, "an answer: {error:?}"),
            }
            tokio::time::sleep(TRY_AGAIN_AFTER).await;
        }
        panic!("{path} was unavailable {TRIES_MAX} times");
    }

    async fn call_once(&self, token: &str, method: Method, path: &str, body: Option<&Value>) -> Reply {
        self.try_call(token, method, path, &[], body).await.expect("an answer")
    }

    async fn try_call(
        &self,
        token: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> reqwest::Result<Reply> {
        let is_change = !matches!(method, Method::GET | Method::POST);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % (self.beside.len() + 1);
        let node = turn.checked_sub(1).map_or(self, |place| &self.beside[place]);
        let mut request = self.client.request(method, format!("{}{path}", node.url)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, reqwest::header::HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
        }
        let reply = Reply::read(request.send().await?).await;
        if is_change {
            // As the background would within two seconds.
            for node in self.beside.iter().chain(Some(self).filter(|_| !self.beside.is_empty())) {
                node.follow().await;
            }
        }
        Ok(reply)
    }

    /// The answer as it comes, be it that a store is away.
    pub async fn post_once(&self, path: &str, body: Value) -> Reply {
        self.call_once(&self.admin_token(), Method::POST, path, Some(&body)).await
    }

    /// The answer as it comes, be it that a store is away.
    pub async fn get_once(&self, path: &str) -> Reply {
        self.call_once(&self.admin_token(), Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, Some(body)).await
    }

    /// As an operator, with these headers.
    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Value) -> Reply {
        self.call_with(&self.admin_token(), method, path, headers, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, None).await
    }

    /// A plan and a workspace on it, both of this name.
    pub async fn workspace_on(&self, name: &str, plan: Value) {
        let mut plan = plan;
        plan["name"] = json!(name);
        plan["pricing"] = json!({"model": "flat", "base_usd": "0"});
        self.put(&format!("/v1/admin/plans/{name}"), plan).await.expect_one_of(&[200, 201]);
        self.put(&format!("/v1/admin/workspaces/{name}"), json!({"plan_id": name}))
            .await
            .expect_one_of(&[200, 201]);
    }

    /// A workspace with one hard monthly budget of tokens.
    pub async fn workspace_with_tokens(&self, name: &str, hard: i64) {
        self.workspace_on(
            name,
            json!({"budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": hard}]}),
        )
        .await;
    }

    pub fn authorize(&self, workspace: &str) -> Asking<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut body = Map::new();
        for (name, value) in [
            ("workspace_id", json!(workspace)),
            ("feature", json!("chat")),
            ("model", json!("big")),
            ("request_id", json!(format!("request-{number}"))),
            ("input_tokens", json!(100)),
            ("max_output_tokens", json!(50)),
        ] {
            body.insert(name.to_owned(), value);
        }
        Asking { app: self, body }
    }

    pub async fn settle(&self, reservation: &str, input: i64, output: i64) -> Reply {
        let usage = json!({"input_tokens": input, "output_tokens": output});
        self.post(&format!("/v1/reservations/{reservation}/settle"), json!({"usage": usage}))
            .await
    }

    pub async fn release(&self, reservation: &str) -> Reply {
        self.call(Method::POST, &format!("/v1/reservations/{reservation}/release"), None)
            .await
    }

    /// A budget of a workspace as `/usage` shows it.
    pub async fn budget(&self, workspace: &str, budget: &str) -> Value {
        let usage = self.get(&format!("/v1/workspaces/{workspace}/usage")).await.expect(200);
        let budgets = usage["budgets"].as_array().expect("budgets");
        budgets
            .iter()
            .find(|found| found["budget_id"] == budget)
            .unwrap_or_else(|| panic!("no budget {budget} in {usage}"))
            .clone()
    }

    pub async fn spent(&self, workspace: &str, budget: &str) -> i64 {
        self.budget(workspace, budget).await["spent"].as_i64().expect("an integer")
    }

    pub async fn held(&self, workspace: &str, budget: &str) -> i64 {
        self.budget(workspace, budget).await["held"].as_i64().expect("an integer")
    }

    /// All entries of a workspace, newest first, over as many pages as it takes.
    pub async fn ledger(&self, workspace: &str) -> Vec<Value> {
        let mut entries = Vec::new();
        let mut path = format!("/v1/workspaces/{workspace}/ledger?limit=500");
        loop {
            let page = self.get(&path).await.expect(200);
            entries.extend(page["data"].as_array().expect("data").clone());
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/v1/workspaces/{workspace}/ledger?limit=500&cursor={cursor}"),
                None => return entries,
            }
        }
    }

    /// Takes over what other nodes have changed, as the background would.
    pub async fn follow(&self) {
        weir::flow::policy::follow(&self.service).await.expect("the policy is followed");
        weir::flow::workspace::follow(&self.service).await.expect("workspaces are followed");
        weir::flow::providers::follow(&self.service).await.expect("providers are followed");
        weir::flow::api_keys::follow(&self.service).await.expect("API keys are followed");
        weir::flow::fair_use::follow(&self.service).await.expect("fair use is followed");
        weir::flow::cache::follow(&self.service).await.expect("kept answers are followed");
        weir::flow::webhooks::follow(&self.service).await.expect("subscribers are followed");
    }

    /// The same on every node.
    pub async fn follow_all(&self) {
        for node in self.beside.iter().chain(Some(self)) {
            node.follow().await;
        }
    }

    /// Tells of the budgets that refused requests, on all nodes, as the background would.
    pub async fn tell_walls(&self) {
        for node in self.beside.iter().chain(Some(self)) {
            weir::flow::wall::tell(&node.service).await.expect("it is told");
        }
    }

    /// Writes the decision logs of all nodes, as the background would within a quarter of a second.
    pub async fn log_decisions(&self) {
        for node in self.beside.iter().chain(Some(self)) {
            weir::flow::decided::flush_all(&node.service).await.expect("the log is written");
        }
    }

    /// Runs what the background would do by now.
    pub async fn expire_due(&self) {
        let mut failures = 0;
        loop {
            match weir::flow::expire::expire_due(&self.service).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    failures += 1;
                    assert!(
                        !matches!(*self.stores, Stores::Embedded(_)) && failures < TRIES_MAX,
                        "the resolver fails: {error:?}"
                    );
                }
            }
        }
    }
}

/// What verifies the credentials of tests.
pub fn verifier() -> Verifier {
    let keys = Keys::none().with_secret(SECRET.as_bytes()).expect("a long secret");
    Verifier::new(keys, "weir", "weir")
        .with_secret(SECRET.as_bytes())
        .expect("a long secret")
}

fn token(clock: &dyn Clock, scopes: &str, workspace: Option<&str>) -> String {
    let workspace = workspace.map(|workspace| WorkspaceId::parse(workspace).expect("a name"));
    let claims = Claims {
        issuer: "weir",
        audience: "weir",
        subject: "tests",
        scopes: ScopeSet::of_claim(scopes),
        workspace: workspace.as_ref(),
        issued_at: clock.now(),
        ttl_seconds: 3_600,
    };
    mint(SECRET.as_bytes(), &claims)
}

/// A request to authorize that is still being put together.
pub struct Asking<'a> {
    app: &'a TestApp,
    pub body: Map<String, Value>,
}

impl Asking<'_> {
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body.insert(name.to_owned(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.body.remove(name);
        self
    }

    pub fn tokens(self, input: i64, output: i64) -> Self {
        self.with("input_tokens", input).with("max_output_tokens", output)
    }

    pub fn model(self, model: &str) -> Self {
        self.with("model", model)
    }

    pub fn feature(self, feature: &str) -> Self {
        self.with("feature", feature)
    }

    pub fn user(self, user: &str) -> Self {
        self.with("user_id", user)
    }

    pub fn id(self, request_id: &str) -> Self {
        self.with("request_id", request_id)
    }

    pub async fn send(self) -> Reply {
        self.app.post("/v1/authorize", Value::Object(self.body)).await
    }

    /// The answer as it comes, be it that a store is away.
    pub async fn send_once(self) -> Reply {
        self.app.post_once("/v1/authorize", Value::Object(self.body)).await
    }

    /// The answer, which must be an allowed one.
    pub async fn allowed(self) -> Value {
        let answer = self.send().await.expect(200);
        assert_eq!(answer["decision"], "allow", "{answer:#}");
        answer
    }

    /// The answer, which must be one that was kept.
    pub async fn cached(self) -> Value {
        let answer = self.send().await.expect(200);
        assert_eq!(answer["decision"], "cached", "{answer:#}");
        answer
    }

    /// The answer, which must be a denial.
    pub async fn denied(self) -> Value {
        let answer = self.send().await.expect(200);
        assert_eq!(answer["decision"], "deny", "{answer:#}");
        answer
    }

    /// The id of the reservation of an allowed request.
    pub async fn reserved(self) -> String {
        self.allowed().await["reservation_id"].as_str().expect("a reservation").to_owned()
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Reply {
    pub async fn read(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self {
            status,
            headers,
            text: response.text().await.expect("a body"),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {} {}", self.status, self.text))
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.json()
    }

    #[track_caller]
    pub fn expect_one_of(self, statuses: &[u16]) -> Value {
        assert!(statuses.contains(&self.status.as_u16()), "{}: {}", self.status, self.text);
        self.json()
    }

    /// A problem document with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(
            self.headers.get("content-type").and_then(|value| value.to_str().ok()),
            Some("application/problem+json"),
            "{}",
            self.text
        );
        let problem = self.expect(status);
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        problem
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
