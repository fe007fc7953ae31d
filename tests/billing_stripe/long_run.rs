//! The long run: three processes of the real program on Redis and PostgreSQL record and send while they are killed, and a Stripe that goes
//! wrong in every way. In the end each customer and meter is summed up three times: by what callers were answered, by the fake's book, and
//! by `weir billing reconcile`. Nothing is lost, nothing is told twice, and whatever is not told has a name. Beside it grants are sold, of
//! which some are voided: each one that stands is one credit at Stripe, and no other is.

use crate::billed::{Counted, EVENT_NAMES, policies};
use crate::node::{Node, Settings};
use crate::stripe::faults::{Fault, Plan};
use crate::stripe::{FakeStripe, KEY};
use crate::support::{self, postgres::Postgres, redis};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use weir::api::auth::{Claims, ScopeSet, mint};
use weir::clock::{Clock, SystemClock};

const CUSTOMERS: usize = 200;
const NODES: usize = 3;
const WRITERS: usize = 4;
const CHUNK_ENTRIES: usize = 250;
const SEED: u64 = 5;
const KILL_EVERY: Duration = Duration::from_secs(7);
const QUIET_SECONDS_MAX: u64 = 1_500;
const RATES: [(Fault, u32); 8] = [
    (Fault::RateLimited, 400),
    (Fault::Fails, 250),
    (Fault::FailsAfter, 250),
    (Fault::Drops, 250),
    (Fault::DropsBefore, 250),
    (Fault::Hangs, 10),
    (Fault::SaysDuplicate, 250),
    (Fault::Slow, 200),
];

fn token() -> String {
    let claims = Claims {
        issuer: "weir",
        audience: "weir",
        subject: "long run",
        scopes: ScopeSet::of_claim("admin"),
        workspace: None,
        issued_at: SystemClock.now(),
        ttl_seconds: 24 * 3_600,
    };
    mint(support::SECRET.as_bytes(), &claims)
}

struct World {
    nodes: Vec<Arc<Node>>,
    client: reqwest::Client,
    token: String,
    counted: Mutex<Counted>,
    /// What was paid for each grant, and whether it stands.
    sold: Mutex<BTreeMap<String, (i64, bool)>>,
    recorded: AtomicUsize,
    turn: AtomicUsize,
}

impl World {
    /// The answer of any node, asked again until one gives it: its status, and its text.
    async fn ask(&self, method: Method, path: &str, body: &Value, key: Option<&str>) -> (u16, String) {
        loop {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let url = format!("{}{path}", self.nodes[turn % NODES].url());
            let mut request = self.client.request(method.clone(), url).bearer_auth(&self.token).json(body);
            if let Some(key) = key {
                request = request.header("Idempotency-Key", key);
            }
            if let Ok(response) = request.send().await {
                let (status, text) = (response.status().as_u16(), response.text().await);
                if let (200..=499, Ok(text)) = (status, text) {
                    return (status, text);
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, text) = self.ask(Method::POST, path, body, None).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Sells a grant, and takes every fourth back. Whoever got no answer asks again under the same key.
    async fn sell(&self, writer: usize, chunk: usize, rng: &mut StdRng) {
        let (buyer, cents) = (rng.random_range(0..CUSTOMERS), rng.random_range(1..10_000));
        let body = json!({"amount": 1000, "paid": {"amount": cents, "currency": "usd"}});
        let path = format!("/v1/admin/workspaces/buyer_{buyer}/grants");
        let key = format!("sale-{writer}-{chunk}");
        let (status, text) = self.ask(Method::POST, &path, &body, Some(&key)).await;
        assert_eq!(status, 201, "{text}");
        let grant: Value = serde_json::from_str(&text).expect("JSON");
        let id = grant["grant_id"].as_str().expect("an id").to_owned();
        let stands = !chunk.is_multiple_of(4);
        if !stands {
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..3_000))).await;
            let (status, text) = self.ask(Method::DELETE, &format!("{path}/{id}"), &json!({}), None).await;
            // One that was voided, and whose answer was lost, is not there any more.
            assert!(status == 204 || status == 404 || status == 409, "{status} {text}");
        }
        let before = self.sold.lock().expect("no panic").insert(id, (cents, stands));
        assert_eq!(before, None, "one key, one grant");
    }

    /// How many live credits Stripe has of each grant, and of how many cents.
    fn credited(fake: &FakeStripe) -> BTreeMap<String, (usize, i64)> {
        let mut credited = BTreeMap::new();
        for grant in fake.book().grants.iter().filter(|grant| grant.voided_at.is_none()) {
            let (count, cents) = credited.entry(grant.metadata["weir_grant_id"].clone()).or_insert((0, 0));
            *count += 1;
            *cents += grant.cents;
        }
        credited
    }

    /// Records some uses; an answer that was lost is asked for again, and counts once.
    async fn write(&self, writer: usize, chunk: usize, rng: &mut StdRng, entries: usize) {
        let mut customers = Vec::new();
        let now = SystemClock.now();
        let entry = |number: usize| {
            let customer = rng.random_range(0..CUSTOMERS);
            customers.push(format!("cus_{customer}"));
            json!({
                "workspace_id": format!("ws_{customer}"), "feature": if rng.random_bool(0.5) { "chat" } else { "summary" },
                "model": "big", "request_id": format!("use-{writer}-{chunk}-{number}"), "occurred_at": now.plus_seconds(-rng.random_range(0..6 * 3_600)).to_string(),
                "usage": {"input_tokens": rng.random_range(1..3_000), "output_tokens": rng.random_range(0..500)},
            })
        };
        let body = json!({"entries": (0..entries).map(entry).collect::<Vec<Value>>()});
        // While a store is late some uses are answered 503: all are sent again, and count once.
        let answer = loop {
            let answer = self.post("/v1/usage", &body).await;
            let results = answer["results"].as_array().expect("results");
            if results.iter().all(|result| result["error"]["status"] != 503) {
                break answer;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let mut counted = self.counted.lock().expect("no panic");
        for (result, customer) in answer["results"].as_array().expect("results").iter().zip(customers) {
            assert!(result["status"] == "recorded" || result["status"] == "duplicate", "{result}");
            counted.add(&customer, &result["entry"]);
        }
        self.recorded.fetch_add(entries, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_run_of_real_processes_that_are_killed() {
    let Ok(entries) = std::env::var("WEIR_BILLING_RUN_ENTRIES") else {
        return;
    };
    let entries: usize = entries.parse().expect("WEIR_BILLING_RUN_ENTRIES is a number");
    assert!(redis::is_there(), "Redis is needed");
    let postgres = Postgres::start().expect("PostgreSQL is needed");
    let mut connection = PgConnection::connect(&postgres.url("billing_run")).await.expect("the database");
    sqlx::raw_sql("CREATE SCHEMA billing_run")
        .execute(&mut connection)
        .await
        .expect("a schema");
    let redis = redis::Server::start();
    let folder = tempfile::tempdir().expect("a folder");

    let fake = FakeStripe::start(Arc::new(SystemClock));
    for name in EVENT_NAMES {
        fake.book().add_meter(name);
    }
    (0..CUSTOMERS).for_each(|customer| fake.book().add_customer(&format!("cus_{customer}")));
    fake.set_plan(Plan::seeded(SEED, &RATES).waiting(Duration::from_secs(40), Duration::from_millis(20)));
    let environment = vec![
        ("WEIR_BILLING_PROVIDER", "stripe".to_owned()),
        ("WEIR_STRIPE_SECRET_KEY", KEY.to_owned()),
        ("WEIR_STRIPE_API_BASE", fake.url.clone()),
        ("WEIR_BILLING_SEAL_AFTER_SECONDS", "5".to_owned()),
    ];
    let policies = policies(folder.path());
    let start = |number| {
        let settings = Settings {
            folder: folder.path().to_owned(),
            policies: policies.clone(),
            database_url: postgres.url("billing_run"),
            redis_url: redis.url(),
            more: environment.clone(),
        };
        Arc::new(Node::start(number, settings))
    };
    let nodes: Vec<Arc<Node>> = (0..NODES).map(start).collect();
    let world = Arc::new(World {
        nodes: nodes.clone(),
        client: reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()
            .expect("a client"),
        token: token(),
        counted: Mutex::default(),
        sold: Mutex::default(),
        recorded: AtomicUsize::new(0),
        turn: AtomicUsize::new(0),
    });
    for customer in 0..CUSTOMERS {
        for (name, plan) in [("ws", "unlimited"), ("buyer", "open")] {
            let body = json!({"plan_id": plan, "stripe_customer_id": format!("cus_{customer}")});
            let url = format!("{}/v1/admin/workspaces/{name}_{customer}", nodes[0].url());
            let sent = world.client.put(url).bearer_auth(&world.token).json(&body).send().await;
            assert!(sent.expect("an answer").status().is_success());
        }
    }
    // The nodes follow within two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let began = Instant::now();
    let is_over = Arc::new(AtomicBool::new(false));
    let killer = {
        let (nodes, is_over) = (nodes.clone(), is_over.clone());
        tokio::task::spawn_blocking(move || {
            let mut kills = 0;
            while !is_over.load(Ordering::Relaxed) {
                std::thread::sleep(KILL_EVERY);
                let node = &nodes[kills % NODES];
                node.kill();
                node.run();
                kills += 1;
            }
            kills
        })
    };
    let chunks = entries.div_ceil(WRITERS * CHUNK_ENTRIES);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let world = world.clone();
            tokio::spawn(async move {
                let mut rng = StdRng::seed_from_u64(SEED + writer as u64);
                for chunk in 0..chunks {
                    world.write(writer, chunk, &mut rng, CHUNK_ENTRIES).await;
                    world.sell(writer, chunk, &mut rng).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    println!(
        "{} entries recorded in {:.0} s",
        world.recorded.load(Ordering::Relaxed),
        began.elapsed().as_secs_f64()
    );

    // What is open now is sealed while nodes are still being killed; then they are left alone.
    let flushed = world.post("/v1/admin/billing/flush", &json!({})).await;
    println!("flush: {flushed}");
    tokio::time::sleep(Duration::from_secs(20)).await;
    is_over.store(true, Ordering::Relaxed);
    let kills = killer.await.expect("the killer");
    let states = "SELECT state, COUNT(*), COALESCE(SUM(value), 0)::BIGINT FROM billing_run.billing_batch GROUP BY state ORDER BY state";
    let waiting = "SELECT COUNT(*) FROM billing_run.grant_credit WHERE next_try_at IS NOT NULL";
    let quiet = Instant::now();
    loop {
        let found: Vec<(String, i64, i64)> = sqlx::query_as(states).fetch_all(&mut connection).await.expect("states");
        let waiting = sqlx::query_scalar(waiting).fetch_one(&mut connection).await;
        let waiting: i64 = waiting.expect("a count");
        let is_told = |(state, ..): &(String, i64, i64)| !["open", "sealed", "sending"].contains(&state.as_str());
        if waiting == 0 && found.iter().all(is_told) {
            println!(
                "batches {found:?}, all told {:.0} s after the last entry, {kills} kills",
                quiet.elapsed().as_secs_f64()
            );
            break;
        }
        assert!(
            quiet.elapsed().as_secs() < QUIET_SECONDS_MAX,
            "batches still wait: {found:?}, and {waiting} credits"
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.post("/v1/admin/billing/flush", &json!({})).await;
    }
    println!("the fake told {:?}", fake.told());

    fake.set_plan(Plan::none());
    let (totals, expected) = (fake.book().totals(), world.counted.lock().expect("no panic").values());
    let wrong: Vec<_> = expected.iter().filter(|(key, value)| totals.get(*key) != Some(value)).collect();
    println!(
        "{} sums of customer and meter, {} wrong; {} events in the book",
        expected.len(),
        wrong.len(),
        fake.book().events.len()
    );
    assert_eq!(totals, expected);

    let sold = world.sold.lock().expect("no panic").clone();
    let standing = sold.iter().filter(|(_, (_, stands))| *stands);
    let credits: BTreeMap<String, (usize, i64)> = standing.map(|(id, (cents, _))| (id.clone(), (1, *cents))).collect();
    let voided = fake.book().grants.iter().filter(|grant| grant.voided_at.is_some()).count();
    println!(
        "{} grants sold, {} of them stand; Stripe has {} credits, and {voided} void",
        sold.len(),
        credits.len(),
        World::credited(&fake).len()
    );
    assert_eq!(World::credited(&fake), credits);

    let report = world.post("/v1/admin/billing/reconcile", &json!({})).await;
    assert_eq!(report["unexplained"], 0, "{report:#}");
    let mut tool = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"));
    tool.args(["billing", "reconcile"]).current_dir(folder.path()).env_clear();
    tool.envs([
        ("WEIR_DATABASE_URL", postgres.url("billing_run")),
        ("WEIR_REDIS_URL", redis.url()),
        ("WEIR_JWT_SECRET", support::SECRET.to_owned()),
    ]);
    let ran = tool.envs(environment).output().await.expect("it runs");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    println!("weir billing reconcile: {}", said.lines().last().unwrap_or_default());
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    let verified = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["ledger", "verify"])
        .current_dir(folder.path())
        .env_clear()
        .envs([
            ("WEIR_DATABASE_URL", postgres.url("billing_run")),
            ("WEIR_REDIS_URL", redis.url()),
            ("WEIR_JWT_SECRET", support::SECRET.to_owned()),
        ])
        .output();
    let verified = verified.await.expect("it runs");
    println!(
        "weir ledger verify: {}",
        String::from_utf8_lossy(&verified.stdout).lines().last().unwrap_or_default()
    );
    assert!(verified.status.success());
}
