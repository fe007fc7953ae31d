//! The real program: its first minute, kill -9 under load, a stop that drains, and two that want the same data.

mod support;

use futures_util::future::join_all;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::stores::{self, Stores};
use support::{Reply, postgres, redis};
use weir::clock::{Clock, SystemClock};
use weir::counters::Counters;
use weir::counters::redis::{RedisCounters, RedisSettings};
use weir::decision::id::ReservationId;

/// A `weir serve` process, killed with this value.
struct Process {
    child: Child,
    url: String,
    token: String,
    client: Client,
}

/// Waits until it is true, for as long as nobody should have to.
async fn until(what: &str, is_true: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is_true().await {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn weir(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.current_dir(data).env_clear().env("WEIR_DATA_DIR", data.join("data"));
    command
}

impl Process {
    fn start(data: &Path) -> Self {
        let policies = support::policies();
        Self::start_with(data, &["--policies", policies.to_str().expect("text")])
    }

    fn start_with(data: &Path, arguments: &[&str]) -> Self {
        Self::start_among(data, arguments, &[])
    }

    /// On the stores of the production profile.
    fn start_on(data: &Path, variables: &[(&str, &str)]) -> Self {
        let policies = support::policies();
        Self::start_among(data, &["--policies", policies.to_str().expect("text")], variables)
    }

    fn start_among(data: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = weir(data);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        command.envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("weir starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output"))
            .lines()
            .map_while(Result::ok);
        let address = lines.find_map(|line| {
            let rest = line.split("http://").nth(1)?;
            Some(format!("http://{}", rest.split(['/', ' ']).next()?))
        });
        let url = address.expect("serve prints its address");
        std::thread::spawn(move || lines.for_each(drop));
        let output = weir(data)
            .args(["token", "--scope", "authorize,read,admin,usage:write"])
            .envs(variables.iter().copied())
            .output()
            .expect("a token");
        let token = String::from_utf8(output.stdout)
            .expect("text")
            .lines()
            .last()
            .expect("a line")
            .to_owned();
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .expect("a client");
        Self { child, url, token, client }
    }

    async fn try_call(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Reply> {
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.ok()?;
        let (status, headers) = (response.status(), response.headers().clone());
        Some(Reply {
            status,
            headers,
            text: response.text().await.ok()?,
        })
    }

    /// Waits until it has ended by itself, with success.
    async fn ends_well(&mut self) {
        let began = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(began.elapsed() < Duration::from_secs(30), "it does not stop");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(status.success(), "{status}");
    }

    async fn get(&self, path: &str) -> Value {
        self.try_call(Method::GET, path, None).await.expect("an answer").expect(200)
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.child.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success(), "kill {signal}");
    }

    /// Ends the process at once, as a power cut would.
    fn kill(mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it is gone");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the service has acknowledged: request id → tokens.
type Acknowledged = Arc<Mutex<HashMap<String, i64>>>;

/// Authorizes and settles until the service is gone.
async fn work(process: Arc<Process>, round: usize, worker: usize, acknowledged: Acknowledged) {
    for n in 0.. {
        let id = format!("{round}-{worker}-{n}");
        let ask = json!({"workspace_id": format!("ws-{}", n % 3), "feature": "chat", "model": "small", "request_id": id, "input_tokens": 10, "max_output_tokens": 10});
        let Some(answer) = process.try_call(Method::POST, "/v1/authorize", Some(&ask)).await else {
            return;
        };
        let answer = answer.expect(200);
        assert_eq!(answer["decision"], "allow", "{answer}");
        let path = format!("/v1/reservations/{}/settle", answer["reservation_id"].as_str().expect("an id"));
        let report = json!({"usage": {"input_tokens": 10, "output_tokens": n % 10}});
        let Some(settled) = process.try_call(Method::POST, &path, Some(&report)).await else {
            return;
        };
        settled.expect(200);
        acknowledged.lock().expect("no panic").insert(id, 10 + n % 10);
    }
}

async fn ledger(process: &Process, workspace: &str) -> Vec<(String, i64)> {
    let mut entries = Vec::new();
    let mut next = String::new();
    loop {
        let page = process.get(&format!("/v1/workspaces/{workspace}/ledger?limit=500{next}")).await;
        for entry in page["data"].as_array().expect("data") {
            entries.push((
                entry["request_id"].as_str().expect("an id").to_owned(),
                entry["counted"]["tokens"].as_i64().expect("a number"),
            ));
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => return entries,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_kill_minus_nine_every_acknowledged_settle_is_in_the_ledger_once() {
    let data = tempfile::tempdir().expect("a directory");
    let acknowledged = Acknowledged::default();
    for round in 0..5 {
        let process = Arc::new(Process::start(data.path()));
        let workers: Vec<_> = (0..16)
            .map(|worker| tokio::spawn(work(process.clone(), round, worker, acknowledged.clone())))
            .collect();
        tokio::time::sleep(Duration::from_millis(300 + 137 * round as u64)).await;
        process.signal("-9");
        for worker in workers {
            worker.await.expect("a worker's own checks hold");
        }
        Arc::into_inner(process).expect("nobody uses it any more").kill();
    }
    let process = Process::start(data.path());
    let mut in_ledger: HashMap<String, Vec<i64>> = HashMap::new();
    for workspace in ["ws-0", "ws-1", "ws-2"] {
        let entries = ledger(&process, workspace).await;
        let sum: i64 = entries.iter().map(|(_, tokens)| tokens).sum();
        let usage = process.get(&format!("/v1/workspaces/{workspace}/usage")).await;
        assert_eq!(usage["budgets"][0]["spent"], sum, "{workspace}: the counter is the ledger's sum");
        for (id, tokens) in entries {
            in_ledger.entry(id).or_default().push(tokens);
        }
    }
    let acknowledged = acknowledged.lock().expect("no panic").clone();
    assert!(acknowledged.len() > 50, "only {} settles were acknowledged", acknowledged.len());
    for (id, tokens) in &acknowledged {
        assert_eq!(in_ledger.get(id), Some(&vec![*tokens]), "{id}");
    }
    assert!(in_ledger.values().all(|entries| entries.len() == 1), "an entry stands twice");
    println!(
        "{} settles acknowledged over 5 kills, {} in the ledger",
        acknowledged.len(),
        in_ledger.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_well_and_what_was_recorded_is_there() {
    let data = tempfile::tempdir().expect("a directory");
    let mut process = Process::start(data.path());
    let ask = json!({"workspace_id": "ws", "feature": "chat", "model": "small", "input_tokens": 10, "max_output_tokens": 10});
    let answer = process
        .try_call(Method::POST, "/v1/authorize", Some(&ask))
        .await
        .expect("an answer")
        .expect(200);
    let path = format!("/v1/reservations/{}/settle", answer["reservation_id"].as_str().expect("an id"));
    let report = json!({"usage": {"input_tokens": 10, "output_tokens": 1}});
    process
        .try_call(Method::POST, &path, Some(&report))
        .await
        .expect("an answer")
        .expect(200);
    process.signal("-TERM");
    process.ends_well().await;
    drop(process);
    let process = Process::start(data.path());
    assert_eq!(ledger(&process, "ws").await.len(), 1);
}

/// The URLs of stores of the production profile, where there are servers.
async fn production() -> Option<(String, String)> {
    if !stores::can_be_production() {
        return None;
    }
    match Stores::empty_production().await {
        Stores::Production { database, redis } => Some((database, redis)),
        _ => panic!("the production profile"),
    }
}

/// What the environment of a process says of these stores.
fn variables<'a>(database: &'a str, redis: &'a str) -> [(&'static str, &'a str); 3] {
    [
        ("WEIR_DATABASE_URL", database),
        ("WEIR_REDIS_URL", redis),
        ("WEIR_JWT_SECRET", support::SECRET),
    ]
}

/// Three programs that share nothing but their stores, asked by 60 clients at once. Each settles what it got, so that levels are passed by all
/// of them together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_through_three_processes_take_exactly_a_hundred_and_each_level_is_told_once() {
    const CLIENTS: usize = 60;
    let Some((database, redis)) = production().await else { return };
    let data = tempfile::tempdir().expect("a directory");
    let variables = variables(&database, &redis);
    let first = Process::start_on(data.path(), &variables);
    let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "lifetime", "soft": 60, "hard": 100, "alerts": [0.5, 0.8]}]);
    let plan = json!({"name": "P", "pricing": {"model": "flat", "base_usd": "0"}, "budgets": budgets});
    for (path, body) in [("plans/p", plan), ("workspaces/ws", json!({"plan_id": "p"}))] {
        let answer = first.try_call(Method::PUT, &format!("/v1/admin/{path}"), Some(&body)).await;
        answer.expect("an answer").expect(201);
    }
    let processes = [
        first,
        Process::start_on(data.path(), &variables),
        Process::start_on(data.path(), &variables),
    ];
    let asked = AtomicUsize::new(0);
    let client = async |_| {
        let mut allowed = 0;
        loop {
            let n = asked.fetch_add(1, Ordering::SeqCst);
            if n >= 1_000 {
                return allowed;
            }
            let ask = json!({"workspace_id": "ws", "feature": "chat", "model": "small", "request_id": format!("r{n}"), "input_tokens": 1, "max_output_tokens": 0});
            let answer = processes[n % 3].try_call(Method::POST, "/v1/authorize", Some(&ask)).await;
            let answer = answer.expect("an answer").expect(200);
            if answer["decision"] == "allow" {
                allowed += 1;
                let path = format!("/v1/reservations/{}/settle", answer["reservation_id"].as_str().expect("an id"));
                let report = json!({"usage": {"input_tokens": 1, "output_tokens": 0}});
                let answer = processes[(n + 1) % 3].try_call(Method::POST, &path, Some(&report)).await;
                answer.expect("an answer").expect(200);
            }
        }
    };
    let allowed: Vec<usize> = join_all((0..CLIENTS).map(client)).await;
    assert_eq!(allowed.into_iter().sum::<usize>(), 100);
    assert_eq!(ledger(&processes[0], "ws").await.len(), 100);
    let events = processes[1]
        .client
        .get(format!("{}/v1/workspaces/ws/events?limit=100", processes[1].url));
    let events = events.bearer_auth(&processes[1].token).header("accept", "application/json").send();
    let events: Value = events.await.expect("an answer").json().await.expect("a list");
    let of_levels = events["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|event| event["data"]["level"].is_i64());
    let mut told: Vec<Value> = of_levels.map(|event| json!([event["data"]["level"], event["type"]])).collect();
    told.sort_by_key(|level| level[0].as_i64());
    let expected = json!([
        [50, "budget.threshold_reached"],
        [60, "budget.soft_limit_reached"],
        [80, "budget.threshold_reached"],
        [100, "budget.exhausted"]
    ]);
    assert_eq!(Value::Array(told), expected, "{events}");
}

/// The ledger keeps settlements waiting while the process is told to stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_answers_what_it_has_begun() {
    const SETTLES: usize = 20;
    let Some((database, redis)) = production().await else { return };
    let data = tempfile::tempdir().expect("a directory");
    let variables = variables(&database, &redis);
    let mut process = Process::start_on(data.path(), &variables);
    let mut held = Vec::new();
    for n in 0..SETTLES {
        let ask = json!({"workspace_id": "ws", "feature": "chat", "model": "small", "request_id": format!("r{n}"), "input_tokens": 10, "max_output_tokens": 10});
        let answer = process
            .try_call(Method::POST, "/v1/authorize", Some(&ask))
            .await
            .expect("an answer")
            .expect(200);
        held.push(answer["reservation_id"].as_str().expect("an id").to_owned());
    }
    let mut keeper = PgConnection::connect(&database).await.expect("the database");
    sqlx::raw_sql("BEGIN").execute(&mut keeper).await.expect("begun");
    let lock = sqlx::query("SELECT workspace_id FROM workspace WHERE workspace_id = 'ws' FOR UPDATE");
    lock.fetch_one(&mut keeper).await.expect("the workspace is locked");
    let settles: Vec<_> = held
        .iter()
        .map(|id| {
            let request = process.client.post(format!("{}/v1/reservations/{id}/settle", process.url));
            let report = json!({"usage": {"input_tokens": 10, "output_tokens": 1}});
            tokio::spawn(request.bearer_auth(&process.token).json(&report).send())
        })
        .collect();
    // A settlement claims its hold before it asks the ledger.
    let counters = RedisCounters::connect(RedisSettings::new(&redis)).await.expect("the counters");
    for id in &held {
        let id = ReservationId::parse(id).expect("an id");
        until("the settlement is under way", async || {
            let record = counters.find(id, SystemClock.now()).await.expect("the counters answer");
            record.expect("its hold").claimed.is_some()
        })
        .await;
    }
    process.signal("-TERM");
    let address = process.url.strip_prefix("http://").expect("an address").to_owned();
    until("nobody listens any more", async || {
        tokio::net::TcpStream::connect(&address).await.is_err()
    })
    .await;
    assert!(settles.iter().all(|settle| !settle.is_finished()), "all of them wait");
    sqlx::raw_sql("ROLLBACK").execute(&mut keeper).await.expect("unlocked");
    for settle in settles {
        let answer = settle.await.expect("a task").expect("an answer");
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap_or_default());
    }
    process.ends_well().await;
    let count = "SELECT COUNT(*), COUNT(DISTINCT request_id) FROM entry WHERE workspace_id = 'ws'";
    let entries: (i64, i64) = sqlx::query_as(count).fetch_one(&mut keeper).await.expect("counted");
    assert_eq!(entries, (SETTLES as i64, SETTLES as i64));
    let agree = weir(data.path())
        .args(["ledger", "verify"])
        .envs(variables)
        .output()
        .expect("it runs");
    assert!(agree.status.success(), "{}", String::from_utf8_lossy(&agree.stdout));
}

/// What `/metrics` says of these, all labels together; 0 where it says nothing.
async fn counted(process: &Process, names: [&str; 4]) -> [u64; 4] {
    let reply = process.try_call(Method::GET, "/metrics", None).await.expect("an answer");
    let text = reply.text;
    names.map(|name| {
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{')).then(|| value.parse::<u64>().expect("a whole number"))
        };
        text.lines().filter_map(of).sum()
    })
}

/// A process of its own, so that nobody else counts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_stores_are_counted_once_each_in_the_metrics() {
    if !stores::can_be_production() {
        return;
    }
    let Some(ledger) = postgres::Postgres::start() else { return };
    let mut counters = redis::Server::start();
    let Stores::Production { database, .. } = Stores::empty_production_in(&ledger).await else {
        panic!("the production profile");
    };
    let redis = counters.url();
    let data = tempfile::tempdir().expect("a directory");
    let process = Process::start_on(data.path(), &variables(&database, &redis));
    let call = async |method, path: &str, body: Value| process.try_call(method, path, Some(&body)).await.expect("an answer");
    for (name, answer) in [("strict", "deny"), ("lenient", "allow")] {
        let plan = json!({"name": name, "pricing": {"model": "flat", "base_usd": "0"}, "on_store_unavailable": answer,
            "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1_000_000}]});
        let put = async |path: String, body| call(Method::PUT, &path, body).await.expect_one_of(&[200, 201]);
        put(format!("/v1/admin/plans/{name}"), plan).await;
        put(format!("/v1/admin/workspaces/{name}"), json!({"plan_id": name})).await;
    }
    let authorize = async |workspace: &str, id: &str| {
        let ask = json!({"workspace_id": workspace, "feature": "chat", "model": "small", "request_id": id, "input_tokens": 10, "max_output_tokens": 10});
        call(Method::POST, "/v1/authorize", ask).await
    };
    let settle = async |held: &Value| {
        let report =
            json!({"workspace_id": "strict", "feature": "chat", "model": "small", "usage": {"input_tokens": 10, "output_tokens": 5}});
        let id = held["reservation_id"].as_str().expect("a reservation");
        call(Method::POST, &format!("/v1/reservations/{id}/settle"), report).await
    };
    let names = [
        "weir_store_failed_total",
        "weir_authorize_degraded_total",
        "weir_apply_failed_total",
        "weir_late_total",
    ];
    let mut held = Vec::new();
    for n in 0..2 {
        held.push(authorize("strict", &format!("r{n}")).await.expect(200));
    }
    authorize("lenient", "known").await.expect(200);
    assert_eq!(counted(&process, names).await, [0; 4], "nothing has failed");

    counters.kill();
    authorize("strict", "refused").await.expect(503);
    assert_eq!(counted(&process, names).await, [1, 0, 0, 0]);
    assert_eq!(authorize("lenient", "away").await.expect(200)["degraded"], true);
    assert_eq!(counted(&process, names).await, [1, 1, 0, 0]);
    let told = settle(&held[0]).await.expect(200);
    let late = u64::from(told["late"] == true);
    assert_eq!(counted(&process, names).await, [1, 1, 1, late]);

    // It comes back empty: the holds that it had are gone.
    counters.run();
    until("the counters are there again", async || {
        let ready = process.try_call(Method::GET, "/readyz", None).await;
        ready.expect("an answer").status == 200
    })
    .await;
    // Each thread has a connection of its own, and after a failure waits a tenth of a second before it makes another one.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let told = settle(&held[1]).await.expect(200);
    assert_eq!(told["late"], true);
    assert_eq!(counted(&process, names).await, [1, 1, 1, late + 1]);

    let more = authorize("strict", "more").await.expect(200);
    ledger.stop_immediately();
    settle(&more).await.expect(503);
    assert_eq!(counted(&process, names).await, [2, 1, 1, late + 1]);
    let metrics = process.try_call(Method::GET, "/metrics", None).await.expect("an answer").text;
    for store in ["counters", "ledger"] {
        assert!(
            metrics.contains(&format!("weir_store_failed_total{{store=\"{store}\"}} 1")),
            "{metrics}"
        );
    }
}

#[tokio::test]
async fn a_decision_is_explained_by_its_service_and_when_that_is_gone_by_its_ledger() {
    let data = tempfile::tempdir().expect("a directory");
    let process = Process::start(data.path());
    let ask = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "input_tokens": 100, "max_output_tokens": 50});
    let answer = process
        .try_call(Method::POST, "/v1/authorize", Some(&ask))
        .await
        .expect("an answer")
        .expect(200);
    let explain = |id: &Value, more: &[&str]| {
        let output = weir(data.path()).args(["explain", id.as_str().expect("an id")]).args(more).output();
        let output = output.expect("weir runs");
        (output.status.success(), String::from_utf8(output.stdout).expect("text"))
    };
    let (good, text) = explain(&answer["reservation_id"], &[]);
    assert!(good && text.contains("=> 1 asked") && text.contains("Rung 1 of 1 fits."), "{text}");
    let (good, held) = explain(&answer["decision_id"], &["--json"]);
    let held: Value = serde_json::from_str(&held).expect("JSON");
    assert!(
        good && held["decision"] == "allow" && held["reservation_id"] == answer["reservation_id"],
        "{held}"
    );
    process.kill();
    let (good, logged) = explain(&answer["decision_id"], &["--json"]);
    assert!(good);
    assert_eq!(serde_json::from_str::<Value>(&logged).expect("JSON"), held);
    assert!(!explain(&json!("dec_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f"), &[]).0, "nobody made it");
    assert!(!explain(&json!("nonsense"), &[]).0);
}

#[test]
fn a_second_service_on_the_same_data_is_told_of_the_first() {
    let data = tempfile::tempdir().expect("a directory");
    let first = Process::start(data.path());
    let second = weir(data.path())
        .args(["serve", "--listen", "127.0.0.1:0"])
        .output()
        .expect("it ends");
    assert!(!second.status.success());
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(told.contains(&first.child.id().to_string()), "{told}");
}

#[tokio::test]
async fn a_service_whose_output_nobody_reads_goes_on() {
    let data = tempfile::tempdir().expect("a directory");
    let mut command = weir(data.path());
    let piped = command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = piped.spawn().expect("weir starts");
    // Both ends are closed before it has said anything.
    drop((child.stdout.take(), child.stderr.take()));
    let began = Instant::now();
    let running = data.path().join("data/serve.lock");
    let url = loop {
        let told = std::fs::read_to_string(&running).unwrap_or_default();
        if let Some(rest) = told.split("http://").nth(1) {
            break format!("http://{}", rest.split_whitespace().next().unwrap_or_default());
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it does not come up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let client = Client::builder().no_proxy().build().expect("a client");
    for _ in 0..20 {
        let health = client.get(format!("{url}/healthz")).send().await.expect("it answers");
        assert_eq!(health.status(), 200);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(child.try_wait().expect("a child").is_none(), "it runs");
    child.kill().expect("it is killed");
    child.wait().expect("it is gone");
}

#[test]
fn start_up_errors_say_what_to_do() {
    let data = tempfile::tempdir().expect("a directory");
    std::fs::write(data.path().join("a.csv"), "a,b\n1,2\n").expect("written");
    let told = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = weir(data.path())
            .args(arguments)
            .envs(variables.iter().copied())
            .output()
            .expect("it ends");
        assert!(!output.status.success(), "{arguments:?} {variables:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().expect("an address").to_string();
    for (arguments, variables, words) in [
        (&["serve", "--listen", &taken][..], &[][..], "choose another port with --listen"),
        (&["serve", "--policies", "/nonexistent"], &[], "without --policies the samples"),
        (&["serve", "--listen", "nonsense"][..], &[][..], "listen"),
        (&["serve"], &[("WEIR_REDIS_URL", "redis://127.0.0.1:1")], "WEIR_DATABASE_URL"),
        (&["serve"], &[("WEIR_JWT_SECRET", "short")], "32"),
        (&["token", "--scope", "everything"], &[], "scope"),
        (&["policy", "check", "/nonexistent"], &[], "/nonexistent"),
        (&["replay", "/nonexistent.csv", "--data-dir", "untouched"], &[], "/nonexistent.csv"),
        (&["replay", "a.csv", "--data-dir", "untouched"], &[], "a.csv:1: no column TIMESTAMP"),
    ] {
        let text = told(arguments, variables);
        assert!(
            text.to_lowercase().contains(&words.to_lowercase()),
            "{arguments:?} {variables:?}: {text}"
        );
    }
    assert!(!data.path().join("untouched").exists(), "a mistake in a file's name starts nothing");
    let policies = data.path().join("policies");
    std::fs::create_dir(&policies).expect("a directory");
    for file in ["models.yaml", "plans.yaml", "routing.yaml"] {
        std::fs::copy(support::policies().join(file), policies.join(file)).expect("a copy");
    }
    let plans = std::fs::read_to_string(policies.join("plans.yaml"))
        .expect("text")
        .replace("hard: 1000000", "budget: 1000000");
    std::fs::write(policies.join("plans.yaml"), plans).expect("written");
    let text = told(&["serve", "--policies", policies.to_str().expect("text")], &[]);
    assert!(
        text.contains("plans.yaml:") && text.contains("budget") && text.contains("hard"),
        "{text}"
    );
}

#[tokio::test]
async fn without_policy_files_what_is_in_force_stays() {
    let data = tempfile::tempdir().expect("a directory");
    let plans = async |process: Process| process.get("/v1/admin/plans").await["data"].clone();
    let first = plans(Process::start(data.path())).await;
    let second = plans(Process::start_with(data.path(), &[])).await;
    assert_eq!(
        first, second,
        "the samples must not replace an operator's plans because a directory is missing"
    );
}

#[test]
fn a_token_for_a_directory_of_no_service_says_so() {
    let data = tempfile::tempdir().expect("a directory");
    let token = || weir(data.path()).args(["token", "--scope", "read"]).output().expect("it ends");
    let (first, second) = (token(), token());
    assert!(String::from_utf8_lossy(&first.stderr).contains("no service has used"), "{first:?}");
    assert!(second.stderr.is_empty(), "{second:?}");
}

#[test]
fn a_replay_of_the_sample_trace_agrees_with_itself() {
    let data = tempfile::tempdir().expect("a directory");
    let trace = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/trace.csv");
    let output = weir(data.path())
        .args(["replay", "--speed", "max", "--workspaces", "10"])
        .arg(&trace)
        .output()
        .expect("it ends");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        told.contains("600 requests") && told.contains("0 errors") && told.contains("0 do not"),
        "{told}"
    );
}
