//! Billing from the first use to the provider's book, over HTTP and with a provider that answers, keeps silent and forgets as it is told.
//! Rounds are driven by hand and the clock is moved; nothing sleeps.

use crate::support;
use crate::support::TestApp;
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use weir::app;
use weir::billing::{Answer, Credit, CreditAnswer, Outgoing, Provider, SummaryQuery, Terms, Untold};
use weir::flow::Options;
use weir::flow::verify::verify;

const HOUR: i64 = 3_600;
const BATCHES: &str = "/v1/admin/billing/batches";

/// What the provider does with a call.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Answers,
    /// It takes it, and its answer is lost.
    TakesSilently,
    /// It does not take it, and nobody learns of that.
    LosesSilently,
    Refuses,
    Busy,
    /// It takes it, and its answer never comes.
    TakesAndHangs,
    Hangs,
}

/// A provider that keeps a book: of one identifier it takes one event.
struct Fake {
    terms: Terms,
    book: Mutex<BTreeMap<String, Outgoing>>,
    /// What it does with the next calls; afterwards it answers.
    next: Mutex<VecDeque<Fate>>,
    /// Whether it keeps credits, of which it never says a word.
    keeps_credits: AtomicBool,
    calls: Mutex<Vec<Outgoing>>,
}

impl Fake {
    fn new(needs_customer: bool) -> Arc<Self> {
        Arc::new(Self {
            terms: Terms {
                sends: true,
                dedupe_seconds: Some(86_400),
                accepts_negative: false,
                oldest_seconds: Some(35 * 86_400),
                needs_customer,
                closes_periods: true,
                takes_back: false,
                calls_per_second: 500,
            },
            book: Mutex::default(),
            next: Mutex::default(),
            keeps_credits: AtomicBool::new(false),
            calls: Mutex::default(),
        })
    }

    fn will(&self, fates: impl IntoIterator<Item = Fate>) {
        self.next.lock().expect("no test panicked").extend(fates);
    }

    /// The sum of what it has of a workspace.
    fn has(&self, workspace: &str) -> i64 {
        let book = self.book.lock().expect("no test panicked");
        let own = book.values().filter(|event| event.workspace.as_str() == workspace);
        own.map(|event| event.value).sum()
    }

    fn calls(&self) -> usize {
        self.calls.lock().expect("no test panicked").len()
    }
}

#[async_trait]
impl Provider for Fake {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn terms(&self) -> Terms {
        self.terms
    }

    async fn send(&self, batch: &Outgoing) -> Answer {
        self.calls.lock().expect("no test panicked").push(batch.clone());
        let fate = self.next.lock().expect("no test panicked").pop_front().unwrap_or(Fate::Answers);
        let mut is_known = false;
        if matches!(fate, Fate::Answers | Fate::TakesSilently | Fate::TakesAndHangs) {
            let mut book = self.book.lock().expect("no test panicked");
            is_known = book.contains_key(&batch.identifier);
            book.entry(batch.identifier.clone()).or_insert_with(|| batch.clone());
        }
        let reason = "as the test has it".to_owned();
        match fate {
            Fate::Answers if is_known => Answer::Duplicate,
            Fate::Answers => Answer::Acknowledged,
            Fate::TakesSilently | Fate::LosesSilently => Answer::Unknown { reason },
            Fate::Refuses => Answer::Rejected { reason },
            Fate::Busy => Answer::RetryAfter {
                seconds: Some(7),
                is_away: false,
                reason,
            },
            Fate::TakesAndHangs | Fate::Hangs => std::future::pending().await,
        }
    }

    async fn summary(&self, _: &SummaryQuery) -> Result<Option<i64>, Untold> {
        Ok(None)
    }

    fn keeps_credits(&self) -> bool {
        self.keeps_credits.load(Ordering::Relaxed)
    }

    async fn give_credit(&self, _: &Credit) -> CreditAnswer {
        std::future::pending().await
    }
}

/// A service with one meter of tokens and one of thousands of requests.
struct Billed {
    app: TestApp,
    _policies: TempDir,
}

impl Billed {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for file in std::fs::read_dir(support::policies()).expect("the policies of the tests") {
            let file = file.expect("a file");
            std::fs::copy(file.path(), folder.path().join(file.file_name())).expect("a copy");
        }
        let meters = "meters:\n  - {id: tokens, event_name: weir_tokens, unit: tokens}\n  \
             - {id: thirds, event_name: weir_thirds, unit: requests, scale: \"0.3\"}\n";
        std::fs::write(folder.path().join("billing.yaml"), meters).expect("a file");
        Self {
            app: TestApp::start_in_at(folder.path().to_owned(), support::BEGIN, Options::default()).await,
            _policies: folder,
        }
    }

    async fn telling(provider: &Arc<Fake>) -> Self {
        let billed = Self::start().await;
        billed.employ(provider);
        billed
    }

    fn employ(&self, provider: &Arc<Fake>) {
        for node in self.app.beside.iter().chain(Some(&self.app)) {
            app::billing::employ(&node.service, provider.clone());
        }
    }

    async fn restart(self, provider: &Arc<Fake>) -> Self {
        let billed = Self {
            app: self.app.restart().await,
            ..self
        };
        billed.employ(provider);
        billed
    }

    /// What the leading node does; each node may be it.
    async fn round(&self) {
        for node in self.app.beside.iter().chain(Some(&self.app)) {
            weir::flow::billing::round(&node.service).await.expect("a round");
        }
    }

    async fn flush(&self) -> Value {
        self.app.call(Method::POST, "/v1/admin/billing/flush", None).await.expect(200)
    }

    async fn use_tokens(&self, workspace: &str, request: &str, tokens: i64) {
        let body = json!({"workspace_id": workspace, "feature": "chat", "model": "big", "request_id": request,
            "usage": {"input_tokens": tokens, "output_tokens": 0}});
        self.app.post("/v1/usage", body).await.expect(200);
    }

    async fn batches(&self, query: &str) -> Vec<Value> {
        let page = self.app.get(&format!("{BATCHES}?limit=500&{query}")).await.expect(200);
        page["data"].as_array().expect("a list").clone()
    }

    /// The only batch of tokens.
    async fn batch(&self) -> Value {
        let mut batches = self.batches("meter=tokens").await;
        assert_eq!(batches.len(), 1, "{batches:#?}");
        batches.remove(0)
    }

    async fn resend(&self, batch: &Value, body: Option<Value>) -> support::Reply {
        let id = batch["batch_id"].as_str().expect("an id");
        self.app.call(Method::POST, &format!("{BATCHES}/{id}/resend"), body).await
    }

    /// What the ledger counted, what batches say and what the provider has are one.
    async fn balances(&self, provider: &Fake, workspace: &str) {
        let counted: i64 = self
            .app
            .ledger(workspace)
            .await
            .iter()
            .map(|entry| entry["counted"]["tokens"].as_i64().expect("tokens"))
            .sum();
        let batches = self.batches(&format!("workspace_id={workspace}&meter=tokens")).await;
        let value: i64 = batches.iter().map(|batch| batch["value"].as_i64().expect("a value")).sum();
        assert_eq!(value, counted, "{batches:#?}");
        let told = {
            let book = provider.book.lock().expect("no test panicked");
            let told = book
                .values()
                .filter(|event| event.workspace.as_str() == workspace && event.event_name == "weir_tokens");
            told.map(|event| event.value).sum::<i64>()
        };
        assert_eq!(told, counted);
        let service = &self.app.service;
        let found = verify(&*service.ledger, Some(&*service.counters), &*service.clock, |_| {})
            .await
            .expect("the ledger answers");
        assert_eq!(found.differences, []);
        assert!(found.batches > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_provider_batches_are_sealed_and_can_be_looked_at() {
    let billed = Billed::start().await;
    billed.use_tokens("ws_a", "r1", 100).await;
    billed.use_tokens("ws_a", "r2", 50).await;
    billed.use_tokens("ws_b", "r3", 7).await;
    assert_eq!(billed.flush().await, json!({"collected": 6, "sealed": 4, "acknowledged": 0}));
    assert_eq!(billed.flush().await, json!({"collected": 0, "sealed": 0, "acknowledged": 0}));
    let all = billed.batches("").await;
    assert_eq!(all.len(), 4);
    let tokens = billed.batches("workspace_id=ws_a&meter=tokens&state=sealed").await;
    let [batch] = tokens.as_slice() else { panic!("{tokens:#?}") };
    for (name, expected) in [
        ("value", json!(150)),
        ("counted", json!(150)),
        ("members", json!(2)),
        ("carry", json!("0")),
        ("sequence", json!(1)),
        ("event_name", json!("weir_tokens")),
        ("identifier", batch["batch_id"].clone()),
        ("tries", json!(0)),
        ("customer", Value::Null),
        ("reason", Value::Null),
    ] {
        assert_eq!(batch[name], expected, "{name} of {batch:#}");
    }
    // Six tenths of two requests: nothing is told of them, and they are carried.
    let thirds = billed.batches("workspace_id=ws_a&meter=thirds").await;
    assert_eq!(
        (&thirds[0]["value"], &thirds[0]["carry"], &thirds[0]["state"]),
        (&json!(0), &json!("0.6"), &json!("acknowledged"))
    );
    assert_eq!(thirds[0]["reason"], "nothing_to_tell");
    billed.app.pass_seconds(1);
    billed.use_tokens("ws_a", "r4", 1).await;
    billed.use_tokens("ws_a", "r5", 1).await;
    billed.flush().await;
    let thirds = billed.batches("workspace_id=ws_a&meter=thirds").await;
    assert_eq!(
        (&thirds[0]["value"], &thirds[0]["carry"], &thirds[0]["sequence"]),
        (&json!(1), &json!("0.2"), &json!(2))
    );

    let first = billed.app.get(&format!("{BATCHES}?limit=1")).await.expect(200);
    let cursor = first["next_cursor"].as_str().expect("more");
    let second = billed.app.get(&format!("{BATCHES}?limit=1&cursor={cursor}")).await.expect(200);
    assert_ne!(first["data"][0]["batch_id"], second["data"][0]["batch_id"]);
    let one = billed
        .app
        .get(&format!("{BATCHES}/{}", batch["batch_id"].as_str().expect("an id")))
        .await
        .expect(200);
    assert_eq!(one, *batch);
}

/// A provider that hangs when it is asked for credits takes batches all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credit_without_an_answer_holds_up_no_batch() {
    let provider = Fake::new(false);
    provider.keeps_credits.store(true, Ordering::Relaxed);
    let billed = Billed::telling(&provider).await;
    billed.app.workspace_with_tokens("ws_a", 1_000).await;
    let customer = json!({"stripe_customer_id": "cus_a"});
    billed.app.patch("/v1/admin/workspaces/ws_a", customer).await.expect(200);
    let paid = json!({"amount": 5, "unit": "tokens", "paid": {"amount": 500, "currency": "usd"}});
    let grant = billed.app.post("/v1/admin/workspaces/ws_a/grants", paid).await.expect(201);
    billed.use_tokens("ws_a", "r1", 100).await;
    let service = billed.app.service.clone();
    let credits = tokio::spawn(async move { weir::flow::billing::round_of_credits(&service).await.map(drop) });
    // Until it is with the provider, where it hangs.
    let of_grant = async || {
        let page = billed.app.get("/v1/admin/workspaces/ws_a/grants").await.expect(200);
        page["data"][0]["billing"]["state"].clone()
    };
    while of_grant().await != "sending" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    billed.app.pass_seconds(2 * 3_600);
    let rounds = async {
        billed.round().await;
        billed.app.pass_seconds(61);
        billed.round().await;
    };
    tokio::time::timeout(Duration::from_secs(20), rounds)
        .await
        .expect("nothing waits for the credit");
    assert_eq!((provider.has("ws_a"), of_grant().await), (100, json!("sending")), "{grant}");
    assert!(!credits.is_finished());
    credits.abort();
}

/// Whoever takes a meter out means that use is not charged; whoever changes what it counts means it of what is used from then on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_meter_that_was_away_bills_nothing_of_that_time() {
    let billed = Billed::start().await;
    let policy = async |meters: Value| {
        billed.app.pass_seconds(1);
        let body = json!({"meters": meters});
        billed.app.put("/v1/admin/billing", body).await.expect_one_of(&[200, 201]);
        billed.app.pass_seconds(1);
    };
    let told = async || {
        billed.flush().await;
        let batches = billed.batches("workspace_id=ws_a&meter=tokens").await;
        batches.iter().map(|batch| batch["counted"].as_i64().expect("a count")).sum::<i64>()
    };
    let tokens = json!({"id": "tokens", "event_name": "weir_tokens", "unit": "tokens"});
    billed.use_tokens("ws_a", "r1", 100).await;
    assert_eq!(told().await, 100);
    // Nobody collects in between, and nobody looks at the policy that had no meter.
    billed.use_tokens("ws_a", "r2", 1).await;
    policy(json!([])).await;
    billed.use_tokens("ws_a", "r3", 7).await;
    let entries = billed.app.ledger("ws_a").await;
    policy(json!([tokens])).await;
    billed.use_tokens("ws_a", "r4", 10).await;
    assert_eq!(told().await, 111);
    // A correction of what was not billed is not billed, and one of what was is.
    for (request, target, sum) in [("r3", 0, 111), ("r1", 60, 71)] {
        let entry = entries.iter().find(|entry| entry["request_id"] == request).expect("an entry");
        let usage = json!({"input_tokens": target, "output_tokens": 0});
        let body = json!({"entry_id": entry["entry_id"], "usage": usage, "reason": "ticket 7"});
        billed
            .app
            .post("/v1/admin/ledger/corrections", body)
            .await
            .expect_one_of(&[200, 201]);
        assert_eq!(told().await, sum, "{request}");
    }
    let mut only_search = tokens.clone();
    only_search["where"] = json!({"feature": "search"});
    policy(json!([only_search])).await;
    billed.use_tokens("ws_a", "r5", 400).await;
    policy(json!([tokens])).await;
    billed.use_tokens("ws_a", "r6", 30).await;
    assert_eq!(told().await, 101);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused() {
    let billed = Billed::start().await;
    for (path, status, code) in [
        ("?state=sold", 422, "invalid_value"),
        ("?limit=0", 422, "invalid_value"),
        ("?meter=", 422, "invalid_value"),
        ("?what=1", 400, "malformed_request"),
        ("?cursor=x", 422, "invalid_value"),
        ("/bat_1", 404, "not_found"),
        ("/bat_00000000000080008000000000000001", 404, "not_found"),
    ] {
        let reply = billed.app.get(&format!("{BATCHES}{path}")).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {}", reply.text);
        if status == 404 {
            reply.problem(status, code);
        }
    }
    billed.app.post("/v1/admin/billing/flush", json!({"now": true})).await.expect(400);
    let nobody = json!({"batch_id": "bat_00000000000080008000000000000001"});
    billed.resend(&nobody, None).await.problem(404, "not_found");
    let bound = billed.app.token("admin", Some("ws_a"));
    billed
        .app
        .call_as(&bound, Method::GET, BATCHES, None)
        .await
        .problem(403, "insufficient_scope");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_use_reaches_the_provider_once() {
    let provider = Fake::new(false);
    let billed = Billed::telling(&provider).await;
    let held = billed.app.authorize("ws_a").reserved().await;
    billed.app.settle(&held, 100, 40).await.expect(200);
    billed.use_tokens("ws_a", "direct", 60).await;
    billed.app.pass_seconds(10);
    billed.round().await;
    assert_eq!(provider.calls(), 0, "its hour is not over");
    assert_eq!(billed.batches("state=open&meter=tokens").await[0]["counted"], 200);
    billed.app.pass_seconds(HOUR + 60);
    billed.round().await;
    assert_eq!(provider.has("ws_a"), 200);
    let told = provider.calls.lock().expect("no test panicked")[0].at;
    assert_eq!(billed.batch().await["told_at"], json!(told), "as of its last use");

    // Late for its hour: the next batch of it. A correction lowers the next value.
    let late = json!({"workspace_id": "ws_a", "feature": "chat", "model": "big", "request_id": "late",
        "occurred_at": told, "usage": {"input_tokens": 30, "output_tokens": 0}});
    let entry = billed.app.post("/v1/usage", late).await.expect(200)["entry"]["entry_id"].clone();
    billed.flush().await;
    let correction = json!({"entry_id": entry, "counted": {"tokens": 10}, "reason": "counted twice"});
    billed.app.pass_seconds(1);
    billed.app.post("/v1/admin/ledger/corrections", correction).await.expect(201);
    billed.flush().await;
    assert_eq!(provider.has("ws_a"), 230, "what is owed back is carried");
    let newest = billed.batches("meter=tokens").await.remove(0);
    assert_eq!(
        (&newest["value"], &newest["carry"], &newest["sequence"]),
        (&json!(0), &json!("-20"), &json!(3))
    );
    billed.use_tokens("ws_a", "more", 50).await;
    billed.flush().await;
    billed.round().await;
    billed.balances(&provider, "ws_a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_answers_and_busy_hours_cost_nothing() {
    let provider = Fake::new(false);
    let billed = Billed::telling(&provider).await;
    for workspace in ["ws_a", "ws_b", "ws_c"] {
        billed.use_tokens(workspace, workspace, 100).await;
    }
    provider.will([Fate::TakesSilently, Fate::LosesSilently, Fate::Busy]);
    billed.flush().await;
    let reasons = |batches: Vec<Value>| -> Vec<String> {
        let mut reasons: Vec<String> = batches
            .iter()
            .map(|batch| batch["reason"].as_str().expect("a reason").to_owned())
            .collect();
        reasons.sort();
        reasons
    };
    assert_eq!(
        reasons(billed.batches("meter=tokens&state=sealed").await),
        ["busy", "unanswered", "unanswered"]
    );
    billed.round().await;
    assert_eq!(provider.calls(), 3, "not before the pause is over");
    billed.app.pass_seconds(60);
    billed.round().await;
    assert_eq!(billed.batches("meter=tokens&state=acknowledged").await.len(), 3);
    for workspace in ["ws_a", "ws_b", "ws_c"] {
        billed.balances(&provider, workspace).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_thirty_hours_ends_in_no_guess() {
    let provider = Fake::new(false);
    let billed = Billed::telling(&provider).await;
    billed.use_tokens("ws_a", "r1", 100).await;
    provider.will([Fate::TakesSilently]);
    billed.flush().await;
    billed.app.pass_seconds(30 * HOUR);
    billed.round().await;
    assert_eq!(provider.calls(), 1, "nobody sends it by guess");
    let batch = billed.batch().await;
    assert_eq!(
        (&batch["state"], &batch["reason"], &batch["tries"]),
        (&json!("unknown"), &json!("unanswered"), &json!(1))
    );
    billed.resend(&batch, None).await.problem(409, "batch_conflict");
    billed.use_tokens("ws_a", "r2", 7).await;
    billed.flush().await;
    assert_eq!(provider.has("ws_a"), 107, "others go on");
    billed.resend(&batch, Some(json!({"force": true}))).await.expect(200);
    billed.round().await;
    billed.balances(&provider, "ws_a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_is_sent_again_by_whoever_says_so() {
    let provider = Fake::new(false);
    let billed = Billed::telling(&provider).await;
    billed.use_tokens("ws_a", "r1", 100).await;
    provider.will([Fate::Refuses]);
    billed.flush().await;
    let batch = billed.batch().await;
    assert_eq!((&batch["state"], &batch["reason"]), (&json!("rejected"), &json!("refused")));
    assert_eq!(batch["reason_detail"], "as the test has it");
    billed.app.pass_seconds(HOUR);
    billed.round().await;
    assert_eq!(provider.calls(), 1, "not by itself");
    assert_eq!(billed.resend(&batch, Some(json!({}))).await.expect(200)["state"], "sealed");
    billed.round().await;
    assert_eq!(billed.batch().await["state"], "acknowledged");
    billed.resend(&batch, None).await.problem(409, "batch_conflict");
    billed.resend(&batch, Some(json!({"again": true}))).await.expect(400);
    let log = billed.app.get("/v1/admin/audit-log?action=billing.batch.resend").await.expect(200);
    assert_eq!(log["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&log["data"][0]["subject_id"], &log["data"][0]["before"]["state"]),
        (&batch["batch_id"], &json!("rejected"))
    );
    let log = billed.app.get("/v1/admin/audit-log?action=billing.flush").await.expect(200);
    assert_eq!(log["data"].as_array().map(Vec::len), Some(1));
    billed.balances(&provider, "ws_a").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workspace_without_a_customer_keeps_nobody_waiting() {
    let provider = Fake::new(true);
    let billed = Billed::telling(&provider).await;
    billed
        .app
        .put("/v1/admin/workspaces/ws_b", json!({"stripe_customer_id": "cus_b"}))
        .await
        .expect(201);
    billed.use_tokens("ws_a", "r1", 100).await;
    billed.use_tokens("ws_b", "r2", 50).await;
    billed.flush().await;
    assert_eq!((provider.has("ws_a"), provider.has("ws_b")), (0, 50));
    let waiting = billed.batches("meter=tokens&state=unbillable").await;
    assert_eq!((waiting.len(), &waiting[0]["reason"]), (1, &json!("no_customer")));
    billed
        .app
        .patch("/v1/admin/workspaces/ws_a", json!({"stripe_customer_id": "cus_a"}))
        .await
        .expect(200);
    billed.resend(&waiting[0], None).await.expect(200);
    billed.round().await;
    let batch = billed.batches("meter=tokens&workspace_id=ws_a").await.remove(0);
    assert_eq!((&batch["state"], &batch["customer"]), (&json!("acknowledged"), &json!("cus_a")));

    // Without anybody's doing, too: whoever comes to have a customer is billed from then on, for what was before as well.
    billed.use_tokens("ws_c", "r3", 9).await;
    billed.flush().await;
    billed
        .app
        .put("/v1/admin/workspaces/ws_c", json!({"stripe_customer_id": "cus_c"}))
        .await
        .expect(200);
    billed.app.pass_seconds(61);
    billed.round().await;
    for workspace in ["ws_a", "ws_b", "ws_c"] {
        billed.balances(&provider, workspace).await;
    }
}

/// A crash at each point of a call: before the provider was reached, after it took the batch, and between two of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_dies_in_the_middle_costs_its_lease() {
    for fate in [Fate::Hangs, Fate::TakesAndHangs] {
        let provider = Fake::new(false);
        let billed = Billed::telling(&provider).await;
        billed.use_tokens("ws_a", "r1", 100).await;
        provider.will([fate]);
        let service = billed.app.service.clone();
        let by = weir::flow::audit::By {
            actor: "tests".to_owned(),
            reason: String::new(),
            request_id: None,
        };
        let dying = tokio::spawn(async move { weir::flow::billing::flush(&service, &by).await });
        while provider.calls() == 0 {
            tokio::task::yield_now().await;
        }
        dying.abort();
        assert!(dying.await.is_err_and(|end| end.is_cancelled()), "it died in the middle");
        let billed = billed.restart(&provider).await;
        billed.round().await;
        assert_eq!(
            (provider.calls(), &billed.batch().await["state"]),
            (1, &json!("sending")),
            "it is still another's"
        );
        billed.app.pass_seconds(121);
        billed.round().await;
        let batch = billed.batch().await;
        assert_eq!((&batch["state"], &batch["tries"]), (&json!("acknowledged"), &json!(2)), "{fate:?}");
        billed.balances(&provider, "ws_a").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_flush_at_once_tell_each_batch_once() {
    let provider = Fake::new(false);
    let billed = Billed::telling(&provider).await;
    for n in 0..12 {
        billed.use_tokens(&format!("ws_{}", n % 3), &format!("r{n}"), 10 + n).await;
    }
    let flushes = futures_util::future::join_all((0..6).map(|_| billed.flush()));
    flushes.await;
    billed.round().await;
    let calls: Vec<String> = provider
        .calls
        .lock()
        .expect("no test panicked")
        .iter()
        .map(|call| call.identifier.clone())
        .collect();
    let once: std::collections::BTreeSet<&String> = calls.iter().collect();
    assert_eq!(once.len(), calls.len(), "{calls:?}");
    for n in 0..3 {
        billed.balances(&provider, &format!("ws_{n}")).await;
    }
}
