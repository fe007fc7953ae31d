//! The real program: its first minute, kill -9 under load, a stop that drains, and two that want the same data.

mod support;

use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::Reply;

/// A `weir serve` process, killed with this value.
struct Process {
    child: Child,
    url: String,
    token: String,
    client: Client,
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
        let mut command = weir(data);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
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
async fn a_stop_answers_what_it_has_begun() {
    let data = tempfile::tempdir().expect("a directory");
    let acknowledged = Acknowledged::default();
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
    acknowledged.lock().expect("no panic").insert("one".to_owned(), 11);
    process.signal("-TERM");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = process.child.try_wait().expect("a child") {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "it does not stop");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status.success(), "{status}");
    drop(process);
    let process = Process::start(data.path());
    assert_eq!(ledger(&process, "ws").await.len(), 1);
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
