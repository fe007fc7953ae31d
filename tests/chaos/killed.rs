//! A node dies at each named point of each flow, and its client asks another node, with the same ids. What was to be recorded is recorded
//! once, what was held is free or runs out, and the counters are what the ledger says.

use super::books::{Books, Which};
use super::node::{self, Node, Settings};
use super::points::{Act, Trap, When, before_postgres, before_redis};
use super::record::Micros;
use super::scene::{Folder, SCHEMA, schema_in, token};
use super::support::postgres::Postgres;
use super::support::proxy::Proxy;
use super::support::{self, local, redis};
use serde_json::{Value, json};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir::flow::sweep::EVERY_SECONDS;

/// No limit is reached here, nor anything that is told on the way to it.
const LIMIT: i64 = 10_000_000;
const PATIENCE: Duration = Duration::from_secs(10);
/// How long counters may be behind what was used without a hold: until the next sweep, and holds until they run out.
const SWEPT_MAX: Duration = Duration::from_secs(EVERY_SECONDS + 10);
/// How long the other node may take to answer for good: longer than it takes until another rebuild is joined.
const AGAIN_MAX: Duration = Duration::from_secs(20);
/// What each request holds and what it uses, in tokens.
const INPUT: i64 = 20;
const OUTPUT_MAX: i64 = 40;
const OUTPUT: i64 = 10;
const HELD: i64 = INPUT + OUTPUT_MAX;
const USED: i64 = INPUT + OUTPUT;
/// How many requests a workspace has had before, so that its counters are there and hold what there is.
const BEFORE: i64 = 2;
const HOLD_SECONDS: i64 = 300;
/// Of holds that are left to themselves.
const SHORT_HOLD_SECONDS: i64 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flow {
    Authorize,
    Settle,
    Release,
    Checkpoint,
    Usage,
    Rebuild,
}

const POINTS: [(Flow, Act, When); 20] = [
    (Flow::Usage, Act::Post, When::Sent),
    (Flow::Usage, Act::Post, When::Answered),
    (Flow::Authorize, Act::Hold, When::Sent),
    (Flow::Authorize, Act::Hold, When::Answered),
    (Flow::Settle, Act::Claim, When::Sent),
    (Flow::Settle, Act::Claim, When::Answered),
    (Flow::Settle, Act::Post, When::Sent),
    (Flow::Settle, Act::Post, When::Answered),
    (Flow::Settle, Act::Apply, When::Sent),
    (Flow::Settle, Act::Apply, When::Answered),
    (Flow::Release, Act::Post, When::Sent),
    (Flow::Release, Act::Post, When::Answered),
    (Flow::Release, Act::Apply, When::Sent),
    (Flow::Checkpoint, Act::Claim, When::Answered),
    (Flow::Checkpoint, Act::Post, When::Sent),
    (Flow::Checkpoint, Act::Post, When::Answered),
    (Flow::Checkpoint, Act::Apply, When::Sent),
    (Flow::Rebuild, Act::Begin, When::Answered),
    (Flow::Rebuild, Act::Finish, When::Sent),
    (Flow::Rebuild, Act::Finish, When::Answered),
];

struct Killing {
    /// The node that dies, behind proxies, and the one that is asked then.
    node: Arc<Node>,
    other: Node,
    trap: Arc<Trap>,
    client: reqwest::Client,
    token: String,
    redis: redis::Server,
    postgres: Postgres,
    _proxies: [Proxy; 2],
    _folder: Folder,
}

/// A workspace in which one request meets a point.
struct One<'a> {
    killing: &'a Killing,
    name: String,
    workspace: String,
}

impl Killing {
    async fn start(postgres: Postgres) -> Self {
        let redis = redis::Server::start();
        let direct = postgres.url(SCHEMA);
        schema_in(&direct).await;
        let folder = Folder::new();
        let policies = node::policies(&folder.path(), LIMIT);
        let settings = |database_url: String, redis_url: String| Settings {
            folder: folder.path(),
            policies: policies.clone(),
            database_url,
            redis_url,
            more: Vec::new(),
        };
        let trap = Arc::new(Trap::default());
        let proxies = [
            Proxy::watched(local(postgres.port()), before_postgres(&trap)),
            Proxy::watched(local(redis.port), before_redis(&trap)),
        ];
        let watched = settings(
            postgres.url_at(proxies[0].port(), SCHEMA),
            format!("redis://{}", proxies[1].address()),
        );
        let node = Arc::new(Node::start(0, watched));
        trap.for_node(node.clone());
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client");
        let token = token();
        // Each script is sent whole the first time, by whoever comes first.
        let first = Caller {
            client: &client,
            token: &token,
        };
        let held = first.authorize(&node, "first", "r", HOLD_SECONDS).await;
        first.settle(&node, &held.expect(200), OUTPUT, true).await.expect(200);
        assert!(trap.knows_all(), "a script is known by other words now");
        let other = Node::start(1, settings(direct, redis.url()));
        Self {
            node,
            other,
            trap,
            client,
            token,
            redis,
            postgres,
            _proxies: proxies,
            _folder: folder,
        }
    }

    fn asks(&self) -> Caller<'_> {
        Caller {
            client: &self.client,
            token: &self.token,
        }
    }
}

/// What a client was told; status 0: nothing.
#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

struct Caller<'a> {
    client: &'a reqwest::Client,
    token: &'a str,
}

impl Caller<'_> {
    async fn post(&self, node: &Node, path: &str, body: &Value) -> Answer {
        let sent = self
            .client
            .post(format!("{}{path}", node.url()))
            .bearer_auth(self.token)
            .json(body)
            .send()
            .await;
        let nothing = Answer {
            status: 0,
            body: Value::Null,
        };
        let Ok(response) = sent else { return nothing };
        let status = response.status().as_u16();
        response.json().await.map_or(nothing, |body| Answer { status, body })
    }

    async fn authorize(&self, node: &Node, workspace: &str, id: &str, hold_seconds: i64) -> Answer {
        let body = json!({"workspace_id": workspace, "feature": "chat", "model": "big", "request_id": id, "input_tokens": INPUT,
            "max_output_tokens": OUTPUT_MAX, "hold_seconds": hold_seconds});
        self.post(node, "/v1/authorize", &body).await
    }

    async fn settle(&self, node: &Node, held: &Value, output: i64, is_final: bool) -> Answer {
        let body = json!({"usage": {"input_tokens": INPUT, "output_tokens": output}, "final": is_final});
        self.post(node, &path(held, "settle"), &body).await
    }

    async fn release(&self, node: &Node, held: &Value) -> Answer {
        self.post(node, &path(held, "release"), &json!({})).await
    }

    async fn use_directly(&self, node: &Node, workspace: &str) -> Answer {
        let body = json!({"workspace_id": workspace, "feature": "chat", "model": "big", "request_id": "it",
            "usage": {"input_tokens": INPUT, "output_tokens": OUTPUT}});
        self.post(node, "/v1/usage", &body).await
    }
}

fn reservation(held: &Value) -> &str {
    held["reservation_id"].as_str().expect("a reservation")
}

fn path(held: &Value, verb: &str) -> String {
    format!("/v1/reservations/{}/{verb}", reservation(held))
}

/// Asks until there is an answer that says what came of it.
async fn again(ask: impl AsyncFn() -> Answer) -> Value {
    let began = Instant::now();
    loop {
        let answer = ask().await;
        if !matches!(answer.status, 0 | 503) {
            return answer.expect(200);
        }
        assert!(began.elapsed() < AGAIN_MAX, "the other node does not answer: {answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

impl One<'_> {
    /// A workspace in which something was used before, by the other node.
    async fn new(killing: &Killing, name: String) -> One<'_> {
        let workspace = name.to_lowercase().replace(' ', "-");
        let asks = killing.asks();
        for number in 0..BEFORE {
            let held = asks
                .authorize(&killing.other, &workspace, &format!("before-{number}"), HOLD_SECONDS)
                .await;
            asks.settle(&killing.other, &held.expect(200), OUTPUT, true).await.expect(200);
        }
        One { killing, name, workspace }
    }

    /// Holds on the node that is to die.
    async fn held(&self, hold_seconds: i64) -> Value {
        let (asks, node) = (self.killing.asks(), &self.killing.node);
        asks.authorize(node, &self.workspace, "it", hold_seconds).await.expect(200)
    }

    /// Has the node die at the point of this call.
    async fn dies(&self, (act, when): (Act, When), about: &str, call: impl Future<Output = Answer>) {
        self.killing.trap.arm(act, when, about);
        let answer = call.await;
        // The client knows before the trap that it is dead.
        let began = Instant::now();
        while !self.killing.trap.has_sprung() {
            let may_have_died = answer.status == 0 && began.elapsed() < PATIENCE;
            assert!(may_have_died, "{}: the point was not reached: {answer:?}", self.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(answer.status, 0, "{}: it is dead, and answers {answer:?}", self.name);
    }

    /// What the counters say to be spent and held.
    async fn counted(&self) -> (i64, i64) {
        let Killing { client, token, other, .. } = self.killing;
        let url = format!("{}/v1/workspaces/{}/usage", other.url(), self.workspace);
        let answer = client.get(url).bearer_auth(token).send().await.expect("an answer");
        let body: Value = answer.json().await.expect("JSON");
        let mut budgets = body["budgets"].as_array().expect("budgets").iter();
        let tokens = budgets.find(|budget| budget["budget_id"] == "tokens").expect("a budget of tokens");
        let amount = |name: &str| tokens[name].as_i64().expect("a number");
        (amount("spent"), amount("held"))
    }

    /// The ledger has so much use beside that from before, all of it of this reservation or of none.
    async fn is_recorded(&self, held: Option<&Value>, used: Option<i64>, end: Option<&str>) {
        let books = Books::read(&self.killing.postgres.url(SCHEMA)).await.expect("the ledger is read");
        let name = &self.name;
        let all = books.all_entries().filter(|entry| entry.workspace_id == self.workspace);
        let its = all.filter(|entry| match held {
            Some(held) => entry.reservation_id.as_deref() == Some(reservation(held)),
            None => entry.reservation_id.is_none(),
        });
        let counted: Vec<i64> = its.map(|entry| entry.counted_tokens).collect();
        assert_eq!(counted, Vec::from_iter(used), "{name}: what is recorded");
        if let Some(held) = held {
            let row = books.ends.get(reservation(held));
            assert_eq!(row.and_then(|row| row.end.as_deref()), end, "{name}");
            assert!(
                books.checkpoint(&self.workspace, reservation(held)).is_none(),
                "{name}: no checkpoint is left"
            );
        }
        let spent = books.spent(&Which {
            workspace: &self.workspace,
            user: None,
            feature: None,
            unit: "tokens",
            from: Micros::MIN,
            to: Micros::MAX,
        });
        assert_eq!(spent, BEFORE * USED + used.unwrap_or(0), "{name}: nothing else is recorded");
    }

    /// The same, and the counters say so too.
    async fn is_recorded_and_counted(&self, held: Option<&Value>, used: Option<i64>, end: Option<&str>) {
        self.is_recorded(held, used, end).await;
        let spent = BEFORE * USED + used.unwrap_or(0);
        assert_eq!(self.counted().await, (spent, 0), "{}: the counters", self.name);
    }

    /// The counters come to say so.
    async fn comes_to(&self, spent: i64) {
        let began = Instant::now();
        while self.counted().await != (spent, 0) {
            assert!(
                began.elapsed() < SWEPT_MAX,
                "{}: the counters stay {:?}",
                self.name,
                self.counted().await
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn authorize(&self, point: (Act, When)) {
        let Killing { node, other, .. } = self.killing;
        let asks = self.killing.asks();
        let ask = async |node: &Node| asks.authorize(node, &self.workspace, "it", HOLD_SECONDS).await;
        self.dies(point, &format!("{},", self.workspace), ask(node)).await;
        let was_held = if point.1 == When::Sent { 0 } else { HELD };
        assert_eq!(self.counted().await, (BEFORE * USED, was_held), "{}", self.name);
        let held = again(async || ask(other).await).await;
        assert_eq!(self.counted().await, (BEFORE * USED, HELD), "{}: held once", self.name);
        let settled = asks.settle(other, &held, OUTPUT, true).await.expect(200);
        assert_eq!(settled["late"], false, "{}", self.name);
        self.is_recorded_and_counted(Some(&held), Some(USED), Some("settled")).await;
    }

    async fn settle(&self, point: (Act, When)) {
        let Killing { node, other, .. } = self.killing;
        let (asks, held) = (self.killing.asks(), self.held(HOLD_SECONDS).await);
        self.dies(point, about(&held), asks.settle(node, &held, OUTPUT, true)).await;
        let settled = again(async || asks.settle(other, &held, OUTPUT, true).await).await;
        let was_committed = point.0 == Act::Apply || point == (Act::Post, When::Answered);
        assert_eq!(
            (&settled["late"], &settled["replayed"]),
            (&json!(false), &json!(was_committed)),
            "{}",
            self.name
        );
        self.is_recorded_and_counted(Some(&held), Some(USED), Some("settled")).await;
        let once_more = asks.settle(other, &held, OUTPUT, true).await.expect(200);
        assert_eq!(once_more["entry"], settled["entry"], "{}", self.name);
        asks.release(other, &held).await.expect(409);
    }

    async fn release(&self, point: (Act, When)) {
        let Killing { node, other, .. } = self.killing;
        let (asks, held) = (self.killing.asks(), self.held(HOLD_SECONDS).await);
        self.dies(point, about(&held), asks.release(node, &held)).await;
        assert_eq!(
            self.counted().await,
            (BEFORE * USED, HELD),
            "{}: it holds until it is asked again",
            self.name
        );
        again(async || asks.release(other, &held).await).await;
        self.is_recorded_and_counted(Some(&held), None, Some("released")).await;
        asks.settle(other, &held, OUTPUT, true).await.expect(409);
    }

    async fn checkpoint(&self, point: (Act, When)) {
        let Killing { node, other, .. } = self.killing;
        let (asks, held) = (self.killing.asks(), self.held(HOLD_SECONDS).await);
        let so_far = OUTPUT / 2;
        self.dies(point, about(&held), asks.settle(node, &held, so_far, false)).await;
        let checked = again(async || asks.settle(other, &held, so_far, false).await).await;
        assert_eq!(checked["checkpoint"]["output_tokens"], so_far, "{}", self.name);
        let spent = BEFORE * USED + INPUT + so_far;
        assert_eq!(
            self.counted().await,
            (spent, HELD - INPUT - so_far),
            "{}: spent, and the rest is held",
            self.name
        );
        let settled = asks.settle(other, &held, OUTPUT, true).await.expect(200);
        assert_eq!(settled["late"], false, "{}", self.name);
        self.is_recorded_and_counted(Some(&held), Some(USED), Some("settled")).await;
    }

    async fn use_directly(&self, point: (Act, When)) {
        let Killing { node, other, .. } = self.killing;
        let asks = self.killing.asks();
        let call = asks.use_directly(node, &self.workspace);
        self.dies(point, &self.workspace, call).await;
        let recorded = again(async || asks.use_directly(other, &self.workspace).await).await;
        assert_eq!(
            recorded["status"],
            if point.1 == When::Answered { "duplicate" } else { "recorded" },
            "{}: {recorded}",
            self.name
        );
        self.is_recorded(None, Some(USED), None).await;
    }

    /// All counters are lost, and who rebuilds them dies.
    async fn rebuild(&self, point: (Act, When)) {
        let Killing { node, other, redis, .. } = self.killing;
        let asks = self.killing.asks();
        redis.cli(&["FLUSHALL"]);
        let ask = async |node: &Node| asks.authorize(node, &self.workspace, "it", HOLD_SECONDS).await;
        self.dies(point, &format!("{},", self.workspace), ask(node)).await;
        let held = again(async || ask(other).await).await;
        assert_eq!(self.counted().await, (BEFORE * USED, HELD), "{}: nothing is lost", self.name);
        asks.settle(other, &held, OUTPUT, true).await.expect(200);
        self.is_recorded_and_counted(Some(&held), Some(USED), Some("settled")).await;
    }

    /// Nobody asks again: the hold runs out, and nothing is recorded.
    async fn runs_out(&self, held: Option<&Value>, end: Option<&str>) {
        self.comes_to(BEFORE * USED).await;
        if let Some(held) = held {
            self.is_recorded(Some(held), None, end).await;
        }
    }
}

/// What of a reservation stands in the keys and in the statements about it.
fn about(held: &Value) -> &str {
    reservation(held).strip_prefix("rsv_").expect("it begins so")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_may_die_at_any_point_of_a_flow() {
    if !redis::is_there() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    let killing = Killing::start(postgres).await;
    let asks = killing.asks();
    let began = Instant::now();

    // Holds that nobody asks for again run out while the others have their turn.
    let lost = One::new(&killing, "nobody heard".to_owned()).await;
    let call = asks.authorize(&killing.node, &lost.workspace, "it", SHORT_HOLD_SECONDS);
    lost.dies((Act::Hold, When::Answered), &format!("{},", lost.workspace), call).await;
    assert_eq!(lost.counted().await.1, HELD);
    killing.node.run();
    let released = One::new(&killing, "released and held".to_owned()).await;
    let held = released.held(SHORT_HOLD_SECONDS).await;
    let call = asks.release(&killing.node, &held);
    released.dies((Act::Apply, When::Sent), about(&held), call).await;
    killing.node.run();

    // Those of whose use nobody told the counters.
    let mut behind: Vec<One<'_>> = Vec::new();
    let mut has_lost_counters = false;
    for (flow, act, when) in POINTS {
        if flow == Flow::Rebuild && !has_lost_counters {
            lost.runs_out(None, None).await;
            released.runs_out(Some(&held), Some("released")).await;
            for one in behind.drain(..) {
                one.comes_to((BEFORE + 1) * USED).await;
            }
            has_lost_counters = true;
        }
        let one = One::new(&killing, format!("{flow:?} {act:?} {when:?}")).await;
        match flow {
            Flow::Authorize => one.authorize((act, when)).await,
            Flow::Settle => one.settle((act, when)).await,
            Flow::Release => one.release((act, when)).await,
            Flow::Checkpoint => one.checkpoint((act, when)).await,
            Flow::Usage => one.use_directly((act, when)).await,
            Flow::Rebuild => one.rebuild((act, when)).await,
        }
        println!("{:7.3} s  {} and asked again", began.elapsed().as_secs_f64(), one.name);
        killing.node.run();
        if flow == Flow::Usage {
            behind.push(one);
        }
    }

    let verified = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["ledger", "verify"])
        .env_clear()
        .envs([
            ("WEIR_DATABASE_URL", killing.postgres.url(SCHEMA)),
            ("WEIR_REDIS_URL", killing.redis.url()),
        ])
        .env("WEIR_JWT_SECRET", support::SECRET)
        .output()
        .expect("it runs");
    assert!(
        verified.status.success(),
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr)
    );
}
