//! Money at random, over HTTP: users of one balance, runs, releases, late settles, grants that come, end and are voided. Whatever was
//! admitted stood within `hard + granted` when it was, and the books agree at the end.

use crate::support::TestApp;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};

const GRANTS: &str = "/v1/admin/workspaces/ws/grants";
const HARD: i64 = 100;
const USERS: [&str; 3] = ["ann", "ben", "cid"];

/// What one case does, and what it has given and reserved.
struct Case {
    app: TestApp,
    random: SmallRng,
    /// Open reservations: id, what they hold, and whether calls may draw from them.
    open: Vec<(String, i64, bool)>,
    grants: Vec<String>,
    given: i64,
}

impl Case {
    fn below(&mut self, most: i64) -> i64 {
        self.random.random_range(0..most)
    }

    fn user(&mut self) -> &'static str {
        USERS[self.below(USERS.len() as i64) as usize]
    }

    async fn step(&mut self) {
        match self.below(20) {
            0..8 => self.authorize().await,
            8..13 => self.settle().await,
            13 => self.release().await,
            14 => self.call().await,
            15 => self.give().await,
            16 => self.void().await,
            _ => {
                let seconds = self.below(90);
                self.app.pass_seconds(seconds);
                self.app.expire_due().await;
            }
        }
    }

    async fn authorize(&mut self) {
        let (user, tokens, seconds) = (self.user(), 1 + self.below(60), 30 + self.below(300));
        let asked = self.app.authorize("ws").tokens(tokens, 0).user(user).with("hold_seconds", seconds);
        let answer = asked.send().await.expect(200);
        if answer["decision"] == "allow" {
            self.within(&answer);
            let id = answer["reservation_id"].as_str().expect("an id").to_owned();
            self.open.push((id, tokens, true));
        }
    }

    fn within(&self, answer: &Value) {
        for budget in answer["budgets"].as_array().expect("budgets") {
            let [spent, held, hard, granted] = ["spent", "held", "hard", "granted"].map(|name| budget[name].as_i64().expect(name));
            assert!(spent + held <= hard + granted, "{answer}");
            assert!(granted <= self.given, "{answer}");
        }
    }

    fn any(&mut self) -> Option<(String, i64, bool)> {
        let count = self.open.len() as i64;
        (count > 0).then(|| {
            let place = self.below(count) as usize;
            self.open.swap_remove(place)
        })
    }

    async fn settle(&mut self) {
        let Some((id, held, _)) = self.any() else { return };
        let used = self.below(held + 1);
        // A parent has no entry of its own.
        self.app.settle(&id, used, 0).await.expect_one_of(&[200, 409]);
    }

    async fn release(&mut self) {
        let Some((id, ..)) = self.any() else { return };
        self.app.release(&id).await.expect_one_of(&[200, 409]);
    }

    async fn call(&mut self) {
        let Some((parent, held, may_have_calls)) = self.any() else { return };
        let tokens = 1 + self.below(held);
        if may_have_calls {
            let user = self.user();
            let asked = self.app.authorize("ws").tokens(tokens, 0).user(user).with("hold_seconds", 40);
            let reply = asked.with("parent_reservation_id", parent.as_str()).send().await;
            let answer = reply.expect_one_of(&[200, 409]);
            if let Some(call) = answer["reservation_id"].as_str().filter(|_| answer["decision"] == "allow") {
                self.open.push((call.to_owned(), tokens, false));
            }
        }
        self.open.push((parent, held, may_have_calls));
    }

    async fn give(&mut self) {
        let (amount, priority) = (1 + self.below(80), self.below(3));
        let ends = self.app.service.clock.now().plus_seconds(60 + self.below(600));
        let mut body = json!({"budget_id": "tokens", "amount": amount, "priority": priority});
        if self.below(2) == 0 {
            body["expires_at"] = json!(ends);
        }
        let grant = self.app.post(GRANTS, body).await.expect(201);
        self.app.follow_all().await;
        self.given += amount;
        self.grants.push(grant["grant_id"].as_str().expect("an id").to_owned());
    }

    async fn void(&mut self) {
        let count = self.grants.len() as i64;
        if count > 0 {
            let place = self.below(count) as usize;
            let path = format!("{GRANTS}/{}", self.grants.swap_remove(place));
            self.app.call(Method::DELETE, &path, None).await;
        }
    }

    /// Everything ends, and everybody's books say the same.
    async fn end(mut self) {
        while !self.open.is_empty() {
            self.settle().await;
        }
        self.app.pass_seconds(2_000);
        self.app.expire_due().await;
        let (ledger, clock) = (&self.app.service.ledger, &*self.app.service.clock);
        let found = weir::flow::verify::verify(&**ledger, Some(&*self.app.service.counters), clock, |_| {}).await;
        let found = found.expect("it is verified");
        assert!(found.differences.is_empty(), "{:?}", found.differences);
        let mut paid = 0;
        for user in USERS {
            let usage = self.app.get(&format!("/v1/workspaces/ws/usage?user_id={user}")).await.expect(200);
            let budget = &usage["budgets"][0];
            let [spent, held, hard] = ["spent", "held", "hard"].map(|name| budget[name].as_i64().expect(name));
            assert_eq!((held, hard), (0, HARD), "{user}: {budget}");
            paid += (spent - hard).max(0);
        }
        assert!(paid <= self.given, "{paid} passed the limits, {} were given", self.given);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_no_more_is_admitted_than_plan_and_grants_allow() {
    for seed in 0..6 {
        let app = TestApp::start().await;
        let plan = json!({"budgets": [{"id": "tokens", "scope": "user", "unit": "tokens", "period": "month", "hard": HARD}]});
        app.workspace_on("ws", plan).await;
        let mut case = Case {
            app,
            random: SmallRng::seed_from_u64(seed),
            open: Vec::new(),
            grants: Vec::new(),
            given: 0,
        };
        for _ in 0..150 {
            case.step().await;
        }
        case.end().await;
    }
}
