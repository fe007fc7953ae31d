//! Clients: each authorizes a few requests, ends them as it had meant to, and asks again, at another node, whatever it got no answer to.
//! They hold the service to its word on the way: what an answer may be after those before it is checked here.

use super::node::Node;
use super::record::{Call, Fate, Micros, Record, Request, SECOND, Settled, now};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use reqwest::Client;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How many workspaces are in use at a time. One whose limit is used up makes room for the next.
const WORKSPACES_AT_ONCE: usize = 10;
/// The most requests that are remembered; then the clients stop.
const REQUESTS_MAX: usize = 300_000;
/// How often one request is sent; a client that gives up tells so. For longer than stores are away in a long run.
const TRIES_MAX: usize = 4_000;
/// Whose use it is that is reported only to be too much. It counts no tokens, so it passes no limit.
pub const FLOOD: &str = "flood";
const FLOOD_USES: usize = 1_000;
/// How long holds live that are ended by their client, and those that are left to themselves.
const HOLD_SECONDS: i64 = 30;
const ABANDONED_HOLD_SECONDS: std::ops::Range<i64> = 8..14;

/// The clients and what they share.
pub struct Clients {
    pub nodes: Vec<Arc<Node>>,
    pub token: String,
    pub record: Record,
    client: Client,
    stop: AtomicBool,
    /// After this a request that is still not answered is a fault.
    give_up_at: std::sync::atomic::AtomicI64,
    places: Vec<AtomicUsize>,
}

/// What came back: a status and its JSON, or nothing.
struct Answer {
    status: u16,
    word: String,
    body: Value,
}

impl Answer {
    /// What is spent of the limit, where it is told.
    fn spent(&self) -> Option<i64> {
        let mut budgets = self.body["budgets"].as_array()?.iter();
        budgets.find(|budget| budget["budget_id"] == "tokens")?["spent"].as_i64()
    }

    /// Whether it says what came of the request; otherwise it is to be asked again.
    fn is_final(&self) -> bool {
        self.status != 0 && self.status != 503
    }
}

impl Clients {
    pub fn new(nodes: Vec<Arc<Node>>, token: String) -> Self {
        Self {
            nodes,
            token,
            record: Record::default(),
            client: Client::builder().no_proxy().timeout(PATIENCE).build().expect("a client"),
            stop: AtomicBool::new(false),
            give_up_at: std::sync::atomic::AtomicI64::new(Micros::MAX),
            places: (0..WORKSPACES_AT_ONCE).map(|_| AtomicUsize::new(0)).collect(),
        }
    }

    /// No new requests; those that run are ended, within `seconds`.
    pub fn stop(&self, seconds: i64) {
        self.stop.store(true, Ordering::SeqCst);
        self.give_up_at.store(now() + seconds * SECOND, Ordering::SeqCst);
    }

    /// Reports many uses at once and tells how many of them were refused because too many waited already. Nobody asks what became of the others.
    pub async fn flood(&self, node: usize, number: usize) -> usize {
        let one = |place| {
            json!({"workspace_id": FLOOD, "feature": "chat", "model": "big", "request_id": format!("{number}-{place}"),
                "usage": {"input_tokens": 0, "output_tokens": 0}})
        };
        let entries: Vec<Value> = (0..FLOOD_USES).map(one).collect();
        let answer = self.post(node, "/v1/usage", Some(&json!({"entries": entries}))).await;
        let results = answer.body["results"].as_array().map_or(&[][..], Vec::as_slice);
        results.iter().filter(|result| result["error"]["code"] == "overloaded").count()
    }

    /// One client, until it is stopped.
    pub async fn work(self: Arc<Self>, number: usize, seed: u64) {
        let mut random = SmallRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(number as u64));
        let mut asked = 0;
        while !self.stop.load(Ordering::SeqCst) && self.record.count() < REQUESTS_MAX {
            let mut open = Vec::new();
            // Some hold much for long: when that dies with Redis, others take its room before it is settled.
            let (most, pause_millis) = if number.is_multiple_of(4) { (24, 3_000) } else { (6, 200) };
            for _ in 0..random.random_range(1..most) {
                asked += 1;
                let mut worker = Worker::new(&self, &mut random);
                let request = worker.request(format!("{number}-{asked}"));
                open.extend(worker.authorize(request).await);
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..pause_millis))).await;
            for request in open {
                let ended = Worker::new(&self, &mut random).end(request).await;
                self.record.request(ended);
            }
        }
    }

    pub async fn get(&self, node: usize, path: &str) -> Option<(u16, Value)> {
        let url = format!("{}{path}", self.nodes[node].url());
        let response = self.client.get(url).bearer_auth(&self.token).send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, response.json().await.ok()?))
    }

    async fn post(&self, node: usize, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self
            .client
            .post(format!("{}{path}", self.nodes[node].url()))
            .bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let nothing = |error: reqwest::Error| Answer {
            status: 0,
            word: if error.is_timeout() { "silence" } else { "broken" }.to_owned(),
            body: Value::Null,
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return nothing(error),
        };
        let status = response.status().as_u16();
        match response.json::<Value>().await {
            Ok(body) => {
                let word = body["decision"].as_str().or(body["code"].as_str()).unwrap_or("ok").to_owned();
                Answer { status, word, body }
            }
            Err(error) => nothing(error),
        }
    }
}

/// A client at work on one request.
struct Worker<'a> {
    clients: &'a Clients,
    random: &'a mut SmallRng,
}

impl<'a> Worker<'a> {
    fn new(clients: &'a Clients, random: &'a mut SmallRng) -> Self {
        Self { clients, random }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// A request as it is meant to go.
    fn request(&mut self, id: String) -> Request {
        let fate = match self.random.random_range(0..100) {
            0..58 => Fate::Settle,
            58..70 => Fate::Release,
            70..78 => Fate::Race,
            78..88 => Fate::CheckpointThenSettle,
            88..91 => Fate::CheckpointThenRelease,
            91..94 => Fate::CheckpointThenAbandon,
            _ => Fate::Abandon,
        };
        let (input, output_max) = (self.random.random_range(20..200), self.random.random_range(40..400));
        let is_abandoned = matches!(fate, Fate::Abandon | Fate::CheckpointThenAbandon);
        // Some that are settled have a short hold too, which may run out while a store is away.
        let is_short = is_abandoned || self.chance(5);
        let place = self.random.random_range(0..WORKSPACES_AT_ONCE);
        let current = self.clients.places[place].load(Ordering::SeqCst);
        // One that is used up is tried again at times: that is where a limit would be passed.
        let which = if self.chance(15) { current.saturating_sub(1) } else { current };
        Request {
            id,
            workspace: format!("ws-{place}-{which}"),
            user: self.chance(70).then(|| format!("user-{}", self.random.random_range(0..2))),
            feature: if self.chance(30) { "summary" } else { "chat" },
            fate,
            input,
            output_max,
            output: self.random.random_range(output_max / 2..=output_max),
            hold_seconds: if is_short {
                self.random.random_range(ABANDONED_HOLD_SECONDS)
            } else {
                HOLD_SECONDS
            },
            calls: Vec::new(),
            reservation: None,
            expires_at: 0,
            checkpoint: None,
            checkpoint_sent: None,
            settled: Vec::new(),
            released: false,
        }
    }

    /// Sends one call until it is answered for good, each time to a node by chance. The last answer is the result.
    async fn ask(&mut self, verb: &'static str, path: &str, body: Option<&Value>, calls: &mut Vec<Call>) -> Answer {
        let mut tries = 0;
        loop {
            tries += 1;
            let node = self.random.random_range(0..self.clients.nodes.len());
            let sent = now();
            let answer = self.clients.post(node, path, body).await;
            calls.push(Call {
                verb,
                node,
                sent,
                answered: now(),
                status: answer.status,
                word: answer.word.clone(),
                spent: answer.spent(),
            });
            let over = tries == TRIES_MAX || now() > self.clients.give_up_at.load(Ordering::SeqCst);
            if answer.is_final() || over {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(self.random.random_range(50..300))).await;
        }
    }

    /// The request, if it is allowed. Otherwise it is over.
    async fn authorize(&mut self, mut request: Request) -> Option<Request> {
        let mut body = json!({"workspace_id": request.workspace, "feature": request.feature, "model": "big", "request_id": request.id,
            "input_tokens": request.input, "max_output_tokens": request.output_max, "hold_seconds": request.hold_seconds});
        if let Some(user) = &request.user {
            body["user_id"] = json!(user);
        }
        let mut calls = Vec::new();
        let answer = self.ask("authorize", "/v1/authorize", Some(&body), &mut calls).await;
        request.calls = calls;
        match (answer.status, answer.word.as_str()) {
            (200, "allow") => {
                request.reservation = answer.body["reservation_id"].as_str().map(str::to_owned);
                request.expires_at = answer.body["expires_at"].as_str().map_or(0, micros);
                if answer.body["held"]["tokens"] != request.held() {
                    self.wrong(&request, &format!("the hold is not what was asked for: {}", answer.body));
                }
                // Sent again, it is the same reservation, while that is held.
                if self.chance(3) {
                    let again = self.ask("authorize", "/v1/authorize", Some(&body), &mut request.calls).await;
                    let id = again.body["reservation_id"].as_str();
                    // After a loss it is held anew.
                    request.expires_at = again.body["expires_at"].as_str().map_or(request.expires_at, micros);
                    if again.word == "allow" && id != request.reservation.as_deref() {
                        self.wrong(&request, "one id has two reservations");
                    }
                }
                return Some(request);
            }
            (200, "deny") => {
                let by = &answer.body["reasons"][0]["blocked_by"];
                if by == "spent" {
                    self.move_on(&request.workspace);
                }
                tokio::time::sleep(Duration::from_millis(self.random.random_range(5..40))).await;
            }
            // It was held, nobody heard of it, and it ran out.
            (409, "reservation_expired") if request.calls.len() > 1 => {}
            _ => self.wrong(&request, &format!("authorize: {} {}", answer.status, answer.body)),
        }
        self.clients.record.request(request);
        None
    }

    /// Leaves a workspace that is used up for a new one.
    fn move_on(&self, workspace: &str) {
        let mut parts = workspace.split('-').skip(1).map(|part| part.parse::<usize>().expect("a number"));
        if let (Some(place), Some(which)) = (parts.next(), parts.next()) {
            // Somebody else may have been first.
            let _ = self.clients.places[place].compare_exchange(which, which + 1, Ordering::SeqCst, Ordering::SeqCst);
        }
    }

    fn wrong(&self, request: &Request, what: &str) {
        self.clients.record.wrong(format!("{what}\n{}", request.trace()));
    }

    async fn end(&mut self, mut request: Request) -> Request {
        if request.fate.has_checkpoints() {
            self.checkpoints(&mut request).await;
        }
        match request.fate {
            Fate::Settle | Fate::CheckpointThenSettle => self.settle_and_insist(&mut request).await,
            Fate::Release | Fate::CheckpointThenRelease => self.release_and_insist(&mut request).await,
            Fate::Race => self.race(&mut request).await,
            Fate::Abandon | Fate::CheckpointThenAbandon => {}
        }
        request
    }

    fn path(request: &Request, verb: &str) -> String {
        format!("/v1/reservations/{}/{verb}", request.reservation.as_deref().expect("it is allowed"))
    }

    /// What is reported, with all that is needed should the reservation be lost.
    fn report(request: &Request, output: i64) -> Value {
        let usage = json!({"input_tokens": request.input, "output_tokens": output});
        let mut body = json!({"usage": usage, "model": "big", "workspace_id": request.workspace, "feature": request.feature});
        if let Some(user) = &request.user {
            body["user_id"] = json!(user);
        }
        body
    }

    async fn checkpoints(&mut self, request: &mut Request) {
        for _ in 0..self.random.random_range(1..4) {
            let so_far = self.random.random_range(0..=request.output);
            let mut body = Self::report(request, so_far);
            body["final"] = json!(false);
            request.checkpoint_sent = request.checkpoint_sent.max(Some(so_far));
            let answer = self
                .ask("checkpoint", &Self::path(request, "settle"), Some(&body), &mut request.calls)
                .await;
            match (answer.status, answer.word.as_str()) {
                (200, _) => {
                    request.checkpoint = request.checkpoint.max(Some(so_far));
                    if Some(&answer.body["checkpoint"]["output_tokens"]) != request.checkpoint.map(Value::from).as_ref() {
                        self.wrong(request, &format!("a checkpoint fell back: {}", answer.body));
                    }
                }
                (409, "reservation_expired") => return,
                _ => return self.wrong(request, &format!("checkpoint: {} {}", answer.status, answer.body)),
            }
        }
    }

    fn note_settled(&self, request: &mut Request, body: &Value) {
        let settled = Settled {
            entry_id: body["entry"]["entry_id"].as_str().unwrap_or_default().to_owned(),
            late: body["late"] == true,
            replayed: body["replayed"] == true,
        };
        if request.settled.first().is_some_and(|first| first.entry_id != settled.entry_id) {
            self.wrong(request, &format!("a settle sent again has another entry: {body}"));
        }
        if !request.settled.is_empty() && !settled.replayed {
            self.wrong(request, &format!("a settle sent again is not known as such: {body}"));
        }
        request.settled.push(settled);
    }

    async fn settle(&mut self, request: &mut Request, output: i64) -> Answer {
        let body = Self::report(request, output);
        self.ask("settle", &Self::path(request, "settle"), Some(&body), &mut request.calls)
            .await
    }

    /// Settles, and then tries what must not change it any more.
    async fn settle_and_insist(&mut self, request: &mut Request) {
        let answer = self.settle(request, request.output).await;
        if answer.status != 200 {
            return self.wrong(request, &format!("settle: {} {}", answer.status, answer.body));
        }
        self.note_settled(request, &answer.body);
        if self.chance(10) {
            let answer = self.settle(request, request.output).await;
            match answer.status {
                200 => self.note_settled(request, &answer.body),
                _ => self.wrong(request, &format!("settled again: {} {}", answer.status, answer.body)),
            }
        }
        if self.chance(5) {
            let body = Self::report(request, request.output + 1);
            let answer = self
                .ask("settle other", &Self::path(request, "settle"), Some(&body), &mut request.calls)
                .await;
            if (answer.status, answer.word.as_str()) != (409, "settle_conflict") {
                self.wrong(request, &format!("settled with another report: {} {}", answer.status, answer.body));
            }
        }
        if self.chance(5) {
            let answer = self
                .ask("release late", &Self::path(request, "release"), None, &mut request.calls)
                .await;
            if (answer.status, answer.word.as_str()) != (409, "already_settled") {
                self.wrong(request, &format!("released after settle: {} {}", answer.status, answer.body));
            }
        }
    }

    async fn release_and_insist(&mut self, request: &mut Request) {
        let answer = self.ask("release", &Self::path(request, "release"), None, &mut request.calls).await;
        match (answer.status, answer.word.as_str()) {
            (200, _) => request.released = true,
            // Its hold died with Redis, and nothing is known of it. Whether it could have died is looked at in the end.
            (404, "reservation_unknown") => return,
            _ => return self.wrong(request, &format!("release: {} {}", answer.status, answer.body)),
        }
        if self.chance(15) {
            let body = Self::report(request, request.output);
            let answer = self
                .ask("settle late", &Self::path(request, "settle"), Some(&body), &mut request.calls)
                .await;
            if (answer.status, answer.word.as_str()) != (409, "reservation_released") {
                self.wrong(request, &format!("settled after release: {} {}", answer.status, answer.body));
            }
        }
    }

    /// Settles and releases at once. One of them ends it, and the other one is told.
    async fn race(&mut self, request: &mut Request) {
        let (settle_path, release_path) = (Self::path(request, "settle"), Self::path(request, "release"));
        let body = Self::report(request, request.output);
        let (mut settles, mut releases) = (Vec::new(), Vec::new());
        let mut other_random = SmallRng::seed_from_u64(self.random.random());
        let clients = self.clients;
        let mut other = Worker::new(clients, &mut other_random);
        let (settle, release) = tokio::join!(
            self.ask("settle", &settle_path, Some(&body), &mut settles),
            other.ask("release", &release_path, None, &mut releases)
        );
        request.calls.extend(settles);
        request.calls.extend(releases);
        match ((settle.status, settle.word.as_str()), (release.status, release.word.as_str())) {
            ((200, _), (409, "already_settled") | (404, "reservation_unknown")) => self.note_settled(request, &settle.body),
            ((409, "reservation_released"), (200, _)) => request.released = true,
            _ => self.wrong(
                request,
                &format!(
                    "settle and release at once: {} {}, {} {}",
                    settle.status, settle.body, release.status, release.body
                ),
            ),
        }
    }
}

/// A moment as callers see it.
pub fn micros(text: &str) -> Micros {
    text.parse::<jiff::Timestamp>().expect("a moment").as_microsecond()
}
