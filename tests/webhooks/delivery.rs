//! From the event to the answer: what is sent, when it is sent again, and when an endpoint is given up.

use super::receiver::{Manner, answers};
use super::*;
use weir::clock::SystemClock;
use weir::decision::webhook::retry::{FAILING_SECONDS_MAX, SCHEDULE_DEFAULT};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_arrives_signed_and_is_the_same_on_every_try() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let endpoint = app.endpoint(&receiver.url("/hook"), Some("ws_a")).await;
    let other = app.endpoint(&receiver.url("/other"), Some("ws_b")).await;
    let worker = worker_of(&app);
    receiver.on("/hook", answers(500));
    let event = app.happen("ws_a").await;
    assert_eq!(worker.deliver_due().await.expect("the ledger answers"), 1);
    app.pass_seconds(6);
    receiver.on("/hook", Manner::Answers(204, "", String::new()));
    assert_eq!(worker.deliver_due().await.expect("the ledger answers"), 1);
    app.pass_seconds(1_000_000);
    assert_eq!(
        worker.deliver_due().await.expect("the ledger answers"),
        0,
        "what arrived is not sent again"
    );

    let seen = receiver.seen("/hook");
    assert_eq!(seen.len(), 2);
    assert!(is_one_event(&seen, event));
    assert!(
        seen.iter()
            .all(|seen| is_signed(seen, &endpoint["secret"]) && !is_signed(seen, &other["secret"]))
    );
    assert_eq!(seen[0].header("content-type"), "application/json");
    let moments: Vec<i64> = seen
        .iter()
        .map(|seen| seen.header("webhook-timestamp").parse().expect("seconds"))
        .collect();
    assert_eq!(moments[1] - moments[0], 6, "the time is that of the try");
    let body: Value = serde_json::from_str(&seen[0].body).expect("JSON");
    assert_eq!(body["type"], "budget.exhausted");
    assert_eq!(body["timestamp"], "2025-11-21T10:00:00Z");
    assert_eq!(body["data"]["message"], "naïve \"配额\"");
    assert_eq!(receiver.seen("/other").len(), 0, "it is another workspace's");
    let delivery = &app.deliveries(&endpoint).await[0];
    assert_eq!((&delivery["status"], &delivery["tries"]), (&json!("delivered"), &json!(2)));
    assert_eq!(
        (&delivery["event_id"], &delivery["last_try"]["response_status"]),
        (&json!(event), &json!(204))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_secret_is_rotated_both_sign() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let old = app.endpoint(&receiver.url("/hook"), Some("ws_a")).await;
    let new = app.post(&path(&old, "/rotate"), json!({"overlap_seconds": 3600})).await.expect(200);
    assert_ne!(old["secret"], new["secret"]);
    let worker = worker_of(&app);
    for (pass, is_old, signatures) in [(0, true, 2), (3_599, true, 2), (1, false, 1)] {
        app.pass_seconds(pass);
        app.happen("ws_a").await;
        worker.deliver_due().await.expect("the ledger answers");
        let seen = receiver.seen("/hook").pop().expect("it arrives");
        assert_eq!((is_signed(&seen, &old["secret"]), is_signed(&seen, &new["secret"])), (is_old, true));
        assert_eq!(seen.header("webhook-signature").split(' ').count(), signatures);
    }
    // One that leaked is gone at once.
    let last = app.post(&path(&old, "/rotate"), json!({"overlap_seconds": 0})).await.expect(200);
    app.happen("ws_a").await;
    worker.deliver_due().await.expect("the ledger answers");
    let seen = receiver.seen("/hook").pop().expect("it arrives");
    assert!(is_signed(&seen, &last["secret"]) && !is_signed(&seen, &new["secret"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_library_of_another_language_agrees() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    // It goes by the machine's clock.
    app.set_clock(&SystemClock.now().to_string());
    let old = app.endpoint(&receiver.url("/hook"), Some("ws_a")).await;
    let other = app.endpoint(&receiver.url("/other"), Some("ws_b")).await;
    let new = app.post(&path(&old, "/rotate"), json!({"overlap_seconds": 3600})).await.expect(200);
    app.happen("ws_a").await;
    worker_of(&app).deliver_due().await.expect("the ledger answers");
    let seen = receiver.seen("/hook").pop().expect("it arrives");
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| seen.header(name).to_owned());
    let secrets = [&other, &old, &new].map(|endpoint| endpoint["secret"].as_str().expect("a secret").to_owned());
    let ran = tokio::process::Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/standard_webhooks_client"))
        .arg(&seen.body)
        .args(headers)
        .args(secrets)
        .output()
        .await;
    let ran = ran.expect("the script runs");
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if ran.status.code() == Some(75) && std::env::var_os("WEIR_TEST_NO_SKIPS").is_none() {
        eprintln!("skipped: the library cannot be installed here: {said}");
        return;
    }
    assert!(ran.status.success(), "{said}");
}

/// Whoever rotates faster than its receivers follow has each secret sign as long as it was promised, up to four beside the present one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn up_to_four_replaced_secrets_sign_and_a_fifth_is_told_when_the_first_ends() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let made = app.endpoint(&receiver.url("/hook"), Some("ws_a")).await;
    let rotate = async |overlap_seconds: i64| {
        let body = json!({"overlap_seconds": overlap_seconds});
        app.post(&path(&made, "/rotate"), body).await
    };
    let mut secrets = vec![made["secret"].clone()];
    for overlap_seconds in [4_000, 1_000, 3_000, 2_000] {
        let rotated = rotate(overlap_seconds).await.expect(200);
        assert_eq!(rotated["replaced_secret_expires_at"], "2025-11-21T11:06:40Z", "the last to end");
        secrets.push(rotated["secret"].clone());
    }
    let worker = worker_of(&app);
    let signing = async |app: &TestApp| {
        app.happen("ws_a").await;
        worker.deliver_due().await.expect("the ledger answers");
        let seen = receiver.seen("/hook").pop().expect("it arrives");
        let signing: Vec<usize> = (0..secrets.len()).filter(|place| is_signed(&seen, &secrets[*place])).collect();
        (signing, seen.header("webhook-signature").split(' ').count())
    };
    assert_eq!(signing(&app).await, (vec![0, 1, 2, 3, 4], 5));
    let refused = rotate(60).await;
    assert_eq!(refused.json()["errors"][0]["pointer"], "/overlap_seconds", "{}", refused.text);
    assert!(refused.text.contains("2025-11-21T10:16:40Z"), "{}", refused.text);
    refused.problem(422, "unacceptable");
    assert_eq!(signing(&app).await, (vec![0, 1, 2, 3, 4], 5), "what is refused changes nothing");
    app.pass_seconds(1_000);
    assert_eq!(signing(&app).await, (vec![0, 2, 3, 4], 4));
    // From here on the present one is new to those that are known here.
    rotate(60).await.expect(200);
    assert_eq!(signing(&app).await, (vec![0, 2, 3, 4], 5));
    // One that leaked is replaced at once, however many sign.
    rotate(60).await.problem(422, "unacceptable");
    rotate(0).await.expect(200);
    assert_eq!(signing(&app).await, (vec![0, 2, 3, 4], 5));
    app.pass_seconds(10_000);
    let now = app.endpoint_now(&made).await;
    assert_eq!(now["replaced_secret_expires_at"], Value::Null);
    assert_eq!(signing(&app).await, (vec![], 1));
}

/// Dead for days: each try comes by the schedule and not sooner, then the delivery has failed; the endpoint ends after five days of only
/// failures, and others are told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_dead_for_days_is_tried_by_the_schedule_and_then_disabled() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let dead = app.endpoint(&receiver.url("/dead"), Some("ws_a")).await;
    let other = app.endpoint(&receiver.url("/other"), Some("ws_a")).await;
    receiver.on("/dead", answers(500));
    let worker = worker_of(&app);
    let event = app.happen("ws_a").await;
    worker.deliver_due().await.expect("the ledger answers");
    for (tries, delay) in (1..).zip(&SCHEDULE_DEFAULT[1..]) {
        assert_eq!(receiver.seen("/dead").len(), tries);
        app.pass_seconds(delay - 1);
        assert_eq!(
            worker.deliver_due().await.expect("the ledger answers"),
            0,
            "try {tries} comes too soon"
        );
        // A tenth of jitter at most.
        app.pass_seconds(delay / 10 + 2);
        assert_eq!(
            worker.deliver_due().await.expect("the ledger answers"),
            1,
            "try {tries} comes too late"
        );
    }
    let seen = receiver.seen("/dead");
    assert_eq!(seen.len(), SCHEDULE_DEFAULT.len());
    assert!(is_one_event(&seen, event));
    assert_eq!(app.deliveries(&dead).await[0]["status"], "failed");
    assert_eq!(
        app.endpoint_now(&dead).await["enabled"],
        true,
        "it has not failed for five days yet"
    );

    app.pass_seconds(FAILING_SECONDS_MAX);
    app.happen("ws_a").await;
    app.happen("ws_a").await;
    worker.deliver_due().await.expect("the ledger answers");
    let ended = app.endpoint_now(&dead).await;
    assert_eq!(
        (&ended["enabled"], &ended["disabled_reason"]),
        (&json!(false), &json!("only_failures"))
    );
    let statuses: HashSet<String> = app.deliveries(&dead).await.iter().map(|one| one["status"].to_string()).collect();
    assert_eq!(statuses, HashSet::from(["\"failed\"".to_owned(), "\"cancelled\"".to_owned()]));
    let told = receiver.seen("/other").pop().expect("it is told");
    let told: Value = serde_json::from_str(&told.body).expect("JSON");
    let told_data = &told["data"];
    assert_eq!((&told_data["host"], &told_data["url"]), (&json!("127.0.0.1"), &Value::Null));
    assert!(
        !told.to_string().contains("/dead"),
        "what may be secret of the URL is not told to others"
    );
    assert_eq!(told["type"], "webhook_endpoint.disabled");
    assert_eq!(told["data"]["endpoint_id"], dead["endpoint_id"]);
    let records = app.get("/v1/admin/audit-log?action=webhook_endpoint.disable").await.expect(200);
    assert_eq!(records["data"].as_array().map(Vec::len), Some(1));
    let before = receiver.seen("/dead").len();
    app.happen("ws_a").await;
    worker.deliver_due().await.expect("the ledger answers");
    assert_eq!(receiver.seen("/dead").len(), before, "it is left alone");

    // It comes back, and gets what it missed.
    receiver.on("/dead", answers(200));
    app.patch_endpoint(&dead, json!({"enabled": true})).await.expect(200);
    let stretch = json!({"from": "2025-11-21T00:00:00Z", "to": "2025-12-21T00:00:00Z"});
    let replayed = app.post(&path(&dead, "/replay"), stretch).await.expect(200);
    assert_eq!(replayed["deliveries"], 5, "four that happened, and that it was disabled");
    worker.deliver_due().await.expect("the ledger answers");
    let seen = receiver.seen("/dead");
    assert_eq!(seen.len() - before, 5);
    assert!(
        seen[before..].iter().any(|seen| seen.header("webhook-id") == event.to_string()),
        "under the id that it always had"
    );
    let after = app.deliveries(&dead).await;
    assert!(after.iter().all(|one| one["status"] == "delivered"), "{after:?}");
    assert!(app.deliveries(&other).await.iter().all(|one| one["status"] == "delivered"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_may_ask_for_time_or_to_be_left_alone() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let busy = app.endpoint(&receiver.url("/busy"), Some("ws_a")).await;
    receiver.on("/busy", Manner::Answers(503, "Retry-After: 120\r\n", "later".to_owned()));
    let worker = worker_of(&app);
    app.happen("ws_a").await;
    worker.deliver_due().await.expect("the ledger answers");
    app.pass_seconds(119);
    assert_eq!(
        worker.deliver_due().await.expect("the ledger answers"),
        0,
        "it asked for two minutes"
    );
    app.pass_seconds(20);
    assert_eq!(worker.deliver_due().await.expect("the ledger answers"), 1);

    receiver.on("/busy", answers(410));
    app.pass_seconds(2_000);
    worker.deliver_due().await.expect("the ledger answers");
    let gone = app.endpoint_now(&busy).await;
    assert_eq!((&gone["enabled"], &gone["disabled_reason"]), (&json!(false), &json!("gone")));
    assert_eq!(app.deliveries(&busy).await[0]["reason"], "endpoint_gone");
    app.pass_seconds(1_000_000);
    assert_eq!(worker.deliver_due().await.expect("the ledger answers"), 0);
}

/// The end of an endpoint is told in the words of the plan of those who read it, or of the policy where it is the operators'.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_an_endpoint_ended_is_told_in_the_words_of_its_plan() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let german = json!({"name": "german", "locale": "de", "pricing": {"model": "flat", "base_usd": "0"},
        "budgets": [{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1_000}]});
    app.put("/v1/admin/plans/german", german).await.expect(201);
    app.put("/v1/admin/workspaces/ws_de", json!({"plan_id": "german"}))
        .await
        .expect(201);
    let own = json!({"default_locale": "en", "locales": [{"id": "en", "texts": {"endpoint_gone": "{host} is gone."}}]});
    app.put("/v1/admin/messages", own).await.expect(201);
    let operators = app.endpoint(&receiver.url("/operators"), None).await;
    let watching = app.endpoint(&receiver.url("/watching"), None).await;
    app.endpoint(&receiver.url("/de"), Some("ws_de")).await;
    for place in ["/operators", "/de"] {
        receiver.on(place, answers(410));
    }
    let worker = worker_of(&app);
    app.happen("ws_de").await;
    worker.deliver_due().await.expect("the ledger answers");
    app.pass_seconds(1);
    worker.deliver_due().await.expect("the ledger answers");
    let told: Vec<Value> = receiver
        .seen("/watching")
        .iter()
        .map(|seen| serde_json::from_str::<Value>(&seen.body).expect("JSON"))
        .filter(|body| body["type"] == "webhook_endpoint.disabled")
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for body in told {
        let message = body["data"]["message"].as_str().expect("a message").to_owned();
        match body["data"]["endpoint_id"] == operators["endpoint_id"] {
            true => assert_eq!(message, "127.0.0.1 is gone."),
            false => assert!(
                message.starts_with("Der Webhook-Endpunkt bei 127.0.0.1 hat mit 410 Gone geantwortet"),
                "{message}"
            ),
        }
    }
    assert_eq!(app.endpoint_now(&watching).await["enabled"], true);
    let records = app.get("/v1/admin/audit-log?action=webhook_endpoint.disable").await.expect(200);
    let reasons = records["data"]
        .as_array()
        .expect("data")
        .iter()
        .map(|record| record["reason"].as_str());
    assert!(
        reasons
            .flatten()
            .all(|reason| reason.starts_with("The webhook endpoint at 127.0.0.1")),
        "{records}"
    );
}

/// The node dies after the receiver has the event and before that is noted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_and_not_noted_is_sent_again_under_the_same_id() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let endpoint = app.endpoint(&receiver.url("/hook"), Some("ws_a")).await;
    receiver.on("/hook", Manner::Hangs);
    let event = app.happen("ws_a").await;
    let dying = worker_of(&app);
    let trying = tokio::spawn(async move { dying.deliver_due().await });
    while receiver.seen("/hook").is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    trying.abort();
    let app = app.restart().await;
    receiver.on("/hook", answers(200));
    let (worker, second) = (worker_of(&app), worker_of(&app));
    assert_eq!(
        worker.deliver_due().await.expect("the ledger answers"),
        0,
        "as far as anybody knows it runs"
    );
    app.pass_seconds(61);
    let both = tokio::join!(worker.deliver_due(), second.deliver_due());
    assert_eq!(both.0.expect("the ledger answers") + both.1.expect("the ledger answers"), 1);
    let seen = receiver.seen("/hook");
    assert_eq!(seen.len(), 2);
    assert!(is_one_event(&seen, event));
    assert_eq!(app.deliveries(&endpoint).await[0]["status"], "delivered");
}

/// Each use is told of to whoever names that event, and without what it costs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_use_is_told_of_to_whoever_names_it_without_its_cost() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    app.workspace_with_tokens("ws_a", 1_000_000).await;
    let everything = app.endpoint(&receiver.url("/all"), Some("ws_a")).await;
    let settle = async |app: &TestApp| {
        let reservation = app.authorize("ws_a").tokens(100, 50).reserved().await;
        app.settle(&reservation, 100, 50).await.expect(200);
    };
    settle(&app).await;
    let body = json!({"url": receiver.url("/uses"), "workspace_id": "ws_a", "events": ["usage.recorded"]});
    let named = app.post(ENDPOINTS, body).await.expect(201);
    settle(&app).await;
    let worker = worker_of(&app);
    worker.deliver_due().await.expect("the ledger answers");
    let seen = receiver.seen("/uses");
    assert_eq!(
        (seen.len(), receiver.seen("/all").len()),
        (1, 0),
        "only what came after it was asked for, and not for *"
    );
    let told: Value = serde_json::from_str(&seen[0].body).expect("JSON");
    assert_eq!(
        (&told["type"], &told["data"]["workspace_id"]),
        (&json!("usage.recorded"), &json!("ws_a"))
    );
    assert!(!seen[0].body.contains("cost") && !seen[0].body.contains("usd"), "{}", seen[0].body);
    app.patch_endpoint(&named, json!({"enabled": false})).await.expect(200);
    settle(&app).await;
    worker.deliver_due().await.expect("the ledger answers");
    assert_eq!(app.deliveries(&named).await.len() + app.deliveries(&everything).await.len(), 1);
}

/// The service was away for so long that what waits is history: it ends as too old, once, and what comes after it arrives at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_longer_than_its_tries_take_ends_as_too_old() {
    let (app, receiver) = (TestApp::alone().await, Receiver::start().await);
    let endpoint = app.endpoint(&receiver.url("/hook"), Some("ws_a")).await;
    receiver.on("/hook", answers(500));
    let worker = worker_of(&app);
    app.happen("ws_a").await;
    assert_eq!(worker.deliver_due().await.expect("the ledger answers"), 1);
    app.pass_seconds(4 * 24 * 3_600);
    worker.prune().await.expect("the ledger answers");
    assert_eq!(app.deliveries(&endpoint).await[0]["status"], "pending", "late is better than never");
    app.pass_seconds(24 * 3_600 + 3_600);
    let pruned = worker.prune().await.expect("the ledger answers");
    assert_eq!((pruned.rows, pruned.is_all), (1, true));
    let old = &app.deliveries(&endpoint).await[0];
    assert_eq!((&old["status"], &old["reason"]), (&json!("cancelled"), &json!("too_old")));
    receiver.on("/hook", answers(200));
    let event = app.happen("ws_a").await;
    assert_eq!(worker.deliver_due().await.expect("the ledger answers"), 1);
    assert!(is_one_event(&receiver.seen("/hook")[1..], event));
    // What is forgotten a month later goes in the same round.
    app.pass_seconds(60 * 24 * 3_600);
    let pruned = worker.prune().await.expect("the ledger answers");
    assert_eq!((pruned.rows, app.deliveries(&endpoint).await.len()), (2, 0));
}
