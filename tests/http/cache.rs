//! The cache over HTTP: what is given again, to whom, what it counts for, and what ends it.

use crate::support;
use crate::support::embeddings::{Embeddings, REFUSED, vector};
use crate::support::{Asking, TestApp};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use weir::cache::embedder::{EmbedError, Embedder};
use weir::clock::Clock;
use weir::counters::{Applied, Progress};
use weir::decision::entry::Entry;
use weir::decision::id::{EntryId, RequestId, ReservationId, WorkspaceId};
use weir::decision::standing::End;
use weir::ledger::{Post, Posted, Tells};

/// A plan of plenty whose features keep answers as they say.
fn plan(features: Value) -> Value {
    json!({"budgets": [
        {"id": "tokens", "unit": "tokens", "period": "month", "hard": 1_000_000},
        {"id": "usd", "unit": "usd", "period": "month", "hard": "100"},
        {"id": "requests", "unit": "requests", "period": "month", "hard": 10_000}
    ], "features": features})
}

async fn with_cache(features: Value) -> TestApp {
    let app = TestApp::start().await;
    app.workspace_on("ws", plan(features)).await;
    app
}

fn faq<'a>(app: &'a TestApp, prompt: &str) -> Asking<'a> {
    app.authorize("ws").feature("faq").with("cache", json!({"prompt": prompt}))
}

/// Settles with an answer to keep, and says which one it became.
async fn answered(app: &TestApp, reservation: &Value, response: Value) -> Value {
    let path = format!("/v1/reservations/{}/settle", reservation["reservation_id"].as_str().expect("an id"));
    let body = json!({"usage": {"input_tokens": 100, "output_tokens": 40}, "cache_store": {"response": response}});
    let settled = app.post(&path, body).await.expect(200);
    app.follow_all().await;
    settled["cache_store"].clone()
}

/// Asks, and answers what was asked.
async fn kept(app: &TestApp, asking: Asking<'_>, response: Value) -> String {
    let allowed = asking.allowed().await;
    assert_eq!(allowed["cache"]["status"], "miss", "{allowed:#}");
    let stored = answered(app, &allowed, response).await;
    assert_eq!(stored["stored"], true, "{stored}");
    stored["cache_entry_id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_given_again_at_no_cost_and_is_in_the_ledger() {
    let app = with_cache(json!({"faq": {"cache": {}}})).await;
    let first = faq(&app, "What is a quota?").allowed().await;
    assert_eq!(first["cache"], json!({"status": "miss", "leader": true}));
    let second = faq(&app, "What is a quota?").allowed().await;
    assert_eq!(
        second["cache"],
        json!({"status": "miss", "leader": false}),
        "somebody asks the model already"
    );
    let response = json!({"text": "A ceiling.", "n": [1, 2.5], "ä": null});
    let stored = answered(&app, &first, response.clone()).await;
    app.pass_seconds(31);
    let before = app.budget("ws", "tokens").await;

    let given = faq(&app, "What is a quota?").id("hit-1").cached().await;
    assert_eq!(
        given["cache"],
        json!({"status": "hit", "kind": "exact", "similarity": 1, "cache_entry_id": stored["cache_entry_id"], "age_seconds": 31,
            "response": response})
    );
    assert_eq!((&given["reservation_id"], &given["request_id"]), (&Value::Null, &json!("hit-1")));
    assert_eq!(app.budget("ws", "tokens").await, before, "nothing is spent, and nothing held");
    let entry = app
        .ledger("ws")
        .await
        .into_iter()
        .find(|entry| entry["request_id"] == "hit-1")
        .expect("an entry");
    assert_eq!(entry, given["entry"]);
    for (field, expected) in [
        ("kind", json!("cache_hit")),
        ("cache_hit", json!(true)),
        ("cost_usd", json!("0.000000000")),
        // 100 tokens in and 40 out of `big`.
        ("list_cost_usd", json!("0.002200000")),
        ("counted", json!({"tokens": 0, "usd": "0.000000000", "requests": 0})),
        ("input_tokens", json!(0)),
        ("requests", json!(1)),
        ("reservation_id", Value::Null),
        ("model", json!("big")),
        ("occurred_at", json!("2025-11-21T10:00:31Z")),
    ] {
        assert_eq!(entry[field], expected, "{field}");
    }
    for other in ["What is a quota", "What is a quota? ", "what is a quota?"] {
        assert_eq!(faq(&app, other).allowed().await["cache"]["status"], "miss", "{other:?}");
    }
    assert_eq!(app.service.ledger.verify().await.expect("the ledger answers"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_had_an_answer_is_told_the_same_again() {
    let app = with_cache(json!({"faq": {"cache": {"semantic": true}}})).await;
    let id = kept(&app, faq(&app, "What is a quota?"), json!({"n": 1})).await;
    let first = faq(&app, "What is a quota?").id("r").send().await;
    assert_eq!(first.header("idempotency-replayed"), None);
    // Budgets are told as they stand.
    let but_budgets = |mut answer: Value| {
        answer["budgets"] = Value::Null;
        answer
    };
    let first = but_budgets(first.expect(200));
    // And it can be explained.
    app.log_decisions().await;
    let decision = first["decision_id"].as_str().expect("an id");
    let why = app.get(&format!("/v1/decisions/{decision}/explain")).await.expect(200);
    assert_eq!(
        (&why["decision"], &why["cache_entry_id"], &why["reservation_id"], &why["rungs"]),
        (&json!("cached"), &json!(id), &Value::Null, &json!([]))
    );
    assert_eq!(why["workspace_version"], 1, "{why:#}");
    let answers: Vec<&Value> = why["questions"]
        .as_array()
        .expect("questions")
        .iter()
        .map(|asked| &asked["answer"])
        .collect();
    let expected = |place: usize| if place < 4 { "passed" } else { "not_asked" };
    assert!(
        answers.iter().enumerate().all(|(place, answer)| **answer == expected(place)),
        "{why}"
    );
    app.pass_seconds(5);
    // Even when there is a newer answer by now.
    let other = app
        .authorize("ws")
        .feature("faq")
        .with("cache", json!({"prompt": "What is a quota?", "params": {"t": 1}}));
    kept(&app, other, json!({"n": 2})).await;
    for _ in 0..3 {
        let again = faq(&app, "What is a quota?").id("r").send().await;
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        assert_eq!(but_budgets(again.expect(200)), first);
    }
    let count = app.ledger("ws").await.iter().filter(|entry| entry["kind"] == "cache_hit").count();
    assert_eq!(count, 1);
    faq(&app, "Another?").id("r").send().await.problem(422, "idempotency_mismatch");
    // An answer that is gone is not told again; the request had its end.
    app.post("/v1/cache/feedback", json!({"cache_entry_id": id, "correct": false}))
        .await
        .expect(200);
    faq(&app, "What is a quota?").id("r").send().await.problem(409, "already_settled");
    // One that was allowed stays so, whatever is kept since.
    let allowed = faq(&app, "Later?").id("s").allowed().await;
    kept(&app, faq(&app, "Later?"), json!({})).await;
    let again = faq(&app, "Later?").id("s").send().await.expect(200);
    assert_eq!(again, allowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_at_once_under_one_id_are_told_one_answer() {
    let app = with_cache(json!({"faq": {"cache": {"bill": "full"}}})).await;
    kept(&app, faq(&app, "What is a quota?"), json!({"n": 1})).await;
    let asked = (0..50).map(|_| faq(&app, "What is a quota?").id("one").send());
    let answers = futures_util::future::join_all(asked).await;
    let answers: Vec<Value> = answers.into_iter().map(|answer| answer.expect(200)).collect();
    for answer in &answers {
        assert_eq!((&answer["cache"], &answer["entry"]), (&answers[0]["cache"], &answers[0]["entry"]));
        assert_eq!(answer["decision_id"], answers[0]["decision_id"]);
    }
    assert_eq!(app.spent("ws", "tokens").await, 140 + 140, "once");
}

/// Two try at once under one id: one comes before the answer is kept and is given a hold, the other one after and is given the answer, and
/// neither sees the other. Whoever called the model all the same must be able to say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_made_beside_a_hit_of_its_id_is_recorded() {
    let app = with_cache(json!({"faq": {"cache": {}}})).await;
    let held = faq(&app, "What is a quota?").id("twice").allowed().await;
    let other = faq(&app, "What is a quota?").allowed().await;
    answered(&app, &other, json!({"n": 1})).await;
    let spent = app.spent("ws", "tokens").await;
    faq(&app, "What is a quota?").id("hit").cached().await;
    let (ledger, counters) = (&app.service.ledger, &app.service.counters);
    let (workspace, now) = (WorkspaceId::parse("ws").expect("a name"), app.clock.now());
    let of = |name: &str| ReservationId::derive(&workspace, &RequestId::parse(name).expect("a name"));
    let standing = ledger.standing(of("hit")).await.expect("the ledger answers").expect("it was given");
    let entry = Entry {
        entry_id: EntryId::from_uuid(app.clock.uuid()),
        request_id: RequestId::parse("twice").expect("a name"),
        ..standing.entry.expect("an entry")
    };
    let post = Post {
        workspace: workspace.clone(),
        reservation: of("twice"),
        request_id: entry.request_id.clone(),
        revision: 0,
        end: Some(End::Settled),
        fingerprint: Some(1),
        checkpoint: None,
        entries: vec![entry],
        counters: Vec::new(),
        charges: Vec::new(),
        tells: Tells::default(),
        now,
    };
    assert!(matches!(ledger.post(post).await, Ok(Posted::Done { .. })));
    let ended = Applied {
        reservation: Some((of("twice"), Progress::Ended(End::Settled))),
        ..Applied::default()
    };
    counters.apply(&workspace, &ended, &[], &[], now).await.expect("applied");

    let path = format!("/v1/reservations/{}/settle", held["reservation_id"].as_str().expect("an id"));
    let body = json!({"usage": {"input_tokens": 100, "output_tokens": 40}});
    let settled = app.post(&path, body.clone()).await.expect(200);
    assert_eq!(
        (&settled["entry"]["kind"], &settled["entry"]["cost_usd"]),
        (&json!("correction"), &json!("0.002200000"))
    );
    assert_eq!(app.post(&path, body).await.expect(200)["entry"], settled["entry"], "told again");
    assert_eq!(app.spent("ws", "tokens").await, spent + 140);
    assert_eq!(ledger.verify().await.expect("the ledger answers"), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hit_counts_by_the_features_bill_and_asks_no_budget() {
    let rules = json!({"free": {"cache": {"bill": "free"}}, "full": {"cache": {"bill": "full"}}, "half": {"cache": {"bill": 0.5}},
        "third": {"cache": {"bill": 0.3333}}});
    let app = with_cache(rules).await;
    for (feature, tokens, usd, requests) in [
        ("free", 0, "0.000000000", 0),
        ("full", 140, "0.002200000", 1),
        ("half", 70, "0.001100000", 1),
        ("third", 47, "0.000733260", 0),
    ] {
        let ask = || app.authorize("ws").feature(feature).with("cache", json!({"prompt": "p"}));
        kept(&app, ask(), json!({})).await;
        let before = app.spent("ws", "tokens").await;
        let given = ask().cached().await;
        assert_eq!(
            given["entry"]["counted"],
            json!({"tokens": tokens, "usd": usd, "requests": requests}),
            "{feature}"
        );
        assert_eq!(app.spent("ws", "tokens").await, before + tokens, "{feature}");
        assert_eq!(given["budgets"][0]["spent"], before + tokens, "{feature}");
    }
    // What is counted is what the answer cost; what another model would have cost is only told.
    let ask = || {
        app.authorize("ws")
            .feature("full")
            .with("cache", json!({"prompt": "by a smaller one"}))
    };
    let path = format!("/v1/reservations/{}/settle", ask().reserved().await);
    let usage = json!({"input_tokens": 100, "output_tokens": 40});
    let body = json!({"model": "small", "usage": usage, "cache_store": {"response": {}}});
    let made = app.post(&path, body).await.expect(200)["entry"].clone();
    app.follow_all().await;
    let given = ask().cached().await["entry"].clone();
    assert_eq!(given["counted"]["usd"], made["cost_usd"], "{given:#}");
    assert_eq!(given["list_cost_usd"], json!("0.002200000"));
    assert_ne!(made["cost_usd"], given["list_cost_usd"]);
    // Past every limit the answer is there all the same, and counts.
    app.put(
        "/v1/admin/workspaces/ws",
        json!({"plan_id": "ws", "overrides": {"tokens": {"hard": 1}}}),
    )
    .await
    .expect(200);
    app.authorize("ws").feature("full").denied().await;
    let before = app.spent("ws", "tokens").await;
    app.authorize("ws")
        .feature("full")
        .with("cache", json!({"prompt": "p"}))
        .cached()
        .await;
    assert_eq!(app.spent("ws", "tokens").await, before + 140);
    // The questions come first.
    app.patch("/v1/admin/workspaces/ws", json!({"status": "suspended"}))
        .await
        .expect(200);
    let denied = app
        .authorize("ws")
        .feature("full")
        .with("cache", json!({"prompt": "p"}))
        .denied()
        .await;
    assert_eq!(
        (&denied["code"], &denied["cache"]["status"]),
        (&json!("workspace_suspended"), &json!("off"))
    );
}

/// Every pair of two workspaces, users, features, systems, parameters and families, with the same prompt and the same vector.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_crosses_from_one_to_another() {
    let app = TestApp::start().await;
    let rules = json!({"cache": {"semantic": true, "threshold": 0}});
    for name in ["ws_a", "ws_b"] {
        app.workspace_on(name, plan(json!({"faq": rules, "help": rules}))).await;
    }
    let vector = json!([0.6, 0.8]);
    let of = |workspace: &str, user: Option<&str>, feature: &str, model: &str, cache: Value| {
        let mut cache = cache;
        cache["prompt"] = json!("the same");
        cache["embedding"] = vector.clone();
        let asking = app.authorize(workspace).feature(feature).model(model);
        match user {
            Some(user) => asking.user(user),
            None => asking,
        }
        .with("cache", cache)
    };
    let personal = |system: &str| json!({"scope": "user", "system": system});
    let kinds: Vec<(&str, Option<&str>, &str, &str, Value)> = vec![
        ("ws_a", None, "faq", "big", json!({})),
        ("ws_b", None, "faq", "big", json!({})),
        ("ws_a", None, "help", "big", json!({})),
        ("ws_a", None, "faq", "other", json!({})),
        ("ws_a", None, "faq", "big", json!({"system": ""})),
        ("ws_a", None, "faq", "big", json!({"system": "Be brief."})),
        ("ws_a", None, "faq", "big", json!({"params": {"temperature": 0}})),
        ("ws_a", None, "faq", "big", json!({"params": {"temperature": 0.5}})),
        ("ws_a", None, "faq", "big", json!({"params": {"temperature": "0"}})),
        ("ws_a", Some("u1"), "faq", "big", personal("x")),
        ("ws_a", Some("u2"), "faq", "big", personal("x")),
        ("ws_b", Some("u1"), "faq", "big", personal("x")),
    ];
    // Nothing of those before is found by those behind them,
    for (number, (workspace, user, feature, model, cache)) in kinds.iter().enumerate() {
        kept(&app, of(workspace, *user, feature, model, cache.clone()), json!({"number": number})).await;
    }
    // and each finds its own, be it by the very prompt or by one that is only similar.
    for (number, (workspace, user, feature, model, cache)) in kinds.iter().enumerate() {
        let given = of(workspace, *user, feature, model, cache.clone()).cached().await;
        assert_eq!(
            (&given["cache"]["kind"], &given["cache"]["response"]["number"]),
            (&json!("exact"), &json!(number))
        );
        let mut similar = of(workspace, *user, feature, model, cache.clone());
        similar.body["cache"]["prompt"] = json!("the same, nearly");
        let given = similar.cached().await;
        assert_eq!(
            (&given["cache"]["kind"], &given["cache"]["response"]["number"]),
            (&json!("semantic"), &json!(number))
        );
    }
    // Another model of vectors, or vectors of another length, are other vectors.
    for (model, embedding) in [(Some("m"), vector.clone()), (None, json!([0.6, 0.8, 0.0]))] {
        let mut other = of("ws_a", None, "faq", "big", json!({"embedding_model": model}));
        other.body["cache"]["prompt"] = json!("the same, nearly");
        other.body["cache"]["embedding"] = embedding;
        assert_eq!(other.allowed().await["cache"]["status"], "miss");
    }
    // The same said in another way is the same.
    let same = of("ws_a", None, "faq", "big-latest", json!({"params": {}})).cached().await;
    assert_eq!(same["cache"]["response"]["number"], 0);
    let same = of("ws_a", None, "faq", "mid", json!({"params": {"temperature": 0.0}}))
        .cached()
        .await;
    assert_eq!(same["cache"]["response"]["number"], 6, "a model of the same family");
    let nobody = of("ws_a", None, "faq", "big", personal("x")).allowed().await;
    assert_eq!(nobody["cache"], json!({"status": "off"}), "a personal answer of nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_similar_prompt_finds_its_answer_unless_a_detail_differs() {
    let embeddings = Embeddings::start();
    let app = TestApp::start_with(embeddings.options()).await;
    app.workspace_on(
        "ws",
        plan(json!({"faq": {"cache": {"exact": false, "semantic": true, "threshold": 0.9, "ttl_seconds": 3600}}})),
    )
    .await;
    let id = kept(&app, faq(&app, "How do I lose 10 kg of weight in 20 days?"), json!({"n": 1})).await;
    app.pass_seconds(7);
    let given = faq(&app, "How do I lose 10 kg of weights in 20 days?").cached().await;
    assert_eq!(
        (
            &given["cache"]["kind"],
            &given["cache"]["cache_entry_id"],
            &given["cache"]["age_seconds"]
        ),
        (&json!("semantic"), &json!(id), &json!(7))
    );
    let similarity = given["cache"]["similarity"].as_f64().expect("a number");
    assert!((0.9..1.0).contains(&similarity), "{similarity}");
    for other in [
        "How do I lose 10 kg of weight in 30 days?",
        "How do I lose 10 kg of weight in 20 weeks?",
        "How do I not lose 10 kg of weight in 20 days?",
        "How do I gain 10 kg of weight in 20 days?",
        "Who is the mayor of Ulm?",
    ] {
        let missed = faq(&app, other).allowed().await;
        assert_eq!(missed["cache"]["status"], "miss", "{other}");
    }
    // It is there after a restart, and until it expires.
    let app = app.restart().await;
    let similar = |id: &str| faq(&app, "How do I lose 10 kg of weights in 20 days?").id(id);
    assert_eq!(similar("after-a-restart").cached().await["cache"]["cache_entry_id"], json!(id));
    app.pass_seconds(3_600);
    similar("when-it-has-expired").allowed().await;
    // A prompt with an image says more than its text.
    let image =
        json!([{"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "u"}}]}]);
    let asked = embeddings.seen.texts.load(Ordering::Relaxed);
    faq(&app, "").id("an-image").with("cache", json!({"prompt": image})).allowed().await;
    assert_eq!(embeddings.seen.texts.load(Ordering::Relaxed), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_slow_before_an_answer_is_given_makes_a_miss() {
    let app = with_cache(json!({"faq": {"cache": {}}})).await;
    kept(&app, faq(&app, "p"), json!({"n": 1})).await;
    let waiting = app.keep_answers_waiting().await;
    let begun = std::time::Instant::now();
    let allowed = faq(&app, "p").id("slow").allowed().await;
    assert_eq!(allowed["cache"], json!({"status": "error"}));
    let took = begun.elapsed();
    // Far less than a store waits for a lock.
    assert!(
        (250..3_000).contains(&took.as_millis()),
        "it waited for the ledger a little: {took:?}"
    );
    assert_eq!(app.ledger("ws").await.len(), 1, "no hit was written, only what made the answer");
    drop(waiting);
    assert_eq!(faq(&app, "p").id("quick").cached().await["cache"]["response"], json!({"n": 1}));
    // Whoever holds is told so again, whatever was noted meanwhile.
    let again = faq(&app, "p").id("slow").allowed().await;
    assert_eq!(again["reservation_id"], allowed["reservation_id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_slow_or_fails_delays_nobody_and_many_texts_share_a_request() {
    let embeddings = Embeddings::start();
    let app = TestApp::start_with(embeddings.options_within(400)).await;
    app.workspace_on("ws", plan(json!({"faq": {"cache": {"semantic": true}}}))).await;
    let texts: Vec<String> = (0..40).map(|n| format!("question {n}")).collect();
    embeddings.seen.delay_millis.store(30, Ordering::Relaxed);
    futures_util::future::join_all(texts.iter().map(|text| faq(&app, text).allowed())).await;
    let (requests, sent) = (&embeddings.seen.requests, &embeddings.seen.texts);
    assert!(
        requests.load(Ordering::Relaxed) < 30,
        "{} requests for {} texts",
        requests.load(Ordering::Relaxed),
        sent.load(Ordering::Relaxed)
    );

    embeddings.seen.delay_millis.store(60_000, Ordering::Relaxed);
    let begun = std::time::Instant::now();
    assert_eq!(faq(&app, "slow").allowed().await["cache"]["status"], "miss");
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    embeddings.seen.delay_millis.store(0, Ordering::Relaxed);
    embeddings.seen.is_failing.store(true, Ordering::Relaxed);
    for n in 0..30 {
        assert_eq!(faq(&app, &format!("failing {n}")).allowed().await["cache"]["status"], "miss");
    }
    let before = requests.load(Ordering::Relaxed);
    for n in 0..9 {
        faq(&app, &format!("left alone {n}")).allowed().await;
    }
    assert!(
        requests.load(Ordering::Relaxed) - before <= 3,
        "it is left alone for a while by each node"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_that_the_endpoint_refuses_fails_no_other_and_leaves_nobody_alone() {
    let embeddings = Embeddings::start();
    let settings = embeddings.options_within(20_000).embeddings.expect("settings");
    let embedder = Embedder::new(&settings);
    embeddings.seen.delay_millis.store(30, Ordering::Relaxed);
    let texts: Vec<Arc<str>> = (0..40)
        .map(|n| {
            if n % 10 == 3 {
                REFUSED.into()
            } else {
                format!("question {n}").into()
            }
        })
        .collect();
    let made = futures_util::future::join_all(texts.iter().map(|text| embedder.embed(text))).await;
    for (text, made) in texts.iter().zip(made) {
        assert_eq!(made.as_ref().err(), (**text == *REFUSED).then_some(&EmbedError::Refused), "{text}");
    }
    // However often, it says nothing of the endpoint.
    embeddings.seen.delay_millis.store(0, Ordering::Relaxed);
    for _ in 0..10 {
        assert_eq!(embedder.embed(&REFUSED.into()).await.err(), Some(EmbedError::Refused));
    }
    assert!(embedder.embed(&"fine".into()).await.is_ok());
    let before = embeddings.seen.requests.load(Ordering::Relaxed);
    assert_eq!(embedder.embed(&" \n".into()).await.err(), Some(EmbedError::Blank));
    assert_eq!(embeddings.seen.requests.load(Ordering::Relaxed), before, "nothing was asked of it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_purged_and_wrong_ones_are_evicted_by_their_own_workspace() {
    let app = TestApp::start().await;
    let rules = json!({"cache": {"semantic": true}});
    for name in ["ws", "other"] {
        app.workspace_on(name, plan(json!({"faq": rules, "help": rules}))).await;
    }
    let of = |workspace: &str, feature: &str, prompt: &str| {
        let cache = json!({"prompt": prompt, "embedding": vector("what is it")});
        app.authorize(workspace).feature(feature).with("cache", cache)
    };
    let places = [("ws", "faq"), ("ws", "help"), ("other", "faq")];
    let mut ids = Vec::new();
    for (workspace, feature) in places {
        ids.push(kept(&app, of(workspace, feature, "what is it?"), json!({})).await);
    }
    let found = async |prompt: &str| {
        let mut found = Vec::new();
        for (workspace, feature) in places {
            found.push(of(workspace, feature, prompt).send().await.expect(200)["decision"] == "cached");
        }
        found
    };
    assert_eq!(found("what is it?").await, [true, true, true]);
    assert_eq!(found("what is it ?").await, [true, true, true]);

    // A credential of another workspace finds nothing to say anything about.
    let feedback = |id: &str, correct: bool| json!({"cache_entry_id": id, "correct": correct});
    let stranger = app.token("authorize", Some("other"));
    let post = async |token: &str, body: Value| app.call_as(token, Method::POST, "/v1/cache/feedback", Some(body)).await;
    let foreign = post(&stranger, feedback(&ids[0], false)).await.problem(404, "not_found");
    let unknown = post(&stranger, feedback("cch_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f", false))
        .await
        .problem(404, "not_found");
    assert_eq!(foreign["detail"], unknown["detail"]);
    let right = app.post("/v1/cache/feedback", feedback(&ids[0], true)).await.expect(200);
    assert_eq!(right, json!({"cache_entry_id": ids[0], "evicted": false}));
    assert_eq!(found("what is it?").await, [true, true, true]);
    let own = app.token("authorize", Some("ws"));
    let wrong = post(&own, feedback(&ids[0], false)).await.expect(200);
    assert_eq!(wrong["evicted"], true);
    assert_eq!(found("what is it?").await, [false, true, true]);
    assert_eq!(found("what is it ?").await, [false, true, true]);
    app.post("/v1/cache/feedback", json!({"cache_entry_id": "cch_1", "correct": true}))
        .await
        .problem(422, "unacceptable");

    // By feature, by workspace, and only one's own.
    let purge = async |token: &str, query: &str| app.call_as(token, Method::DELETE, &format!("/v1/cache{query}"), None).await;
    purge(&stranger, "?workspace_id=ws").await.problem(404, "not_found");
    purge(&app.token("authorize", None), "").await.problem(400, "malformed");
    purge(&app.token("read", None), "?workspace_id=ws")
        .await
        .problem(403, "insufficient_scope");
    assert_eq!(purge(&own, "?feature=faq").await.status.as_u16(), 204);
    assert_eq!(found("what is it?").await, [false, true, true]);
    assert_eq!(purge(&app.token("authorize", None), "?workspace_id=ws").await.status.as_u16(), 204);
    assert_eq!(found("what is it?").await, [false, false, true]);
    assert_eq!(found("what is it ?").await, [false, false, true]);
    // Each purge that was allowed is on record.
    let log = app.get("/v1/admin/audit-log?action=cache.purge").await.expect(200);
    let told = log["data"].as_array().expect("records");
    let of_ws = |feature: Value| {
        told.iter()
            .any(|record| record["workspace_id"] == "ws" && record["before"]["feature"] == feature)
    };
    assert!(told.len() == 2 && of_ws(json!("faq")) && of_ws(Value::Null), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_timely_success_of_the_family_that_was_asked_for_is_kept() {
    let app = with_cache(json!({"faq": {"cache": {}}, "off": {}})).await;
    let settle = async |allowed: &Value, mut body: Value| {
        body["usage"] = json!({"input_tokens": 100, "output_tokens": 40});
        let path = format!("/v1/reservations/{}/settle", allowed["reservation_id"].as_str().expect("an id"));
        app.post(&path, body).await
    };
    let store = json!({"response": {"n": 1}});
    for (body, expected) in [
        (json!({"outcome": "error", "cache_store": store}), false),
        (json!({"outcome": "cancelled", "cache_store": store}), false),
        (json!({"model": "other", "cache_store": store}), false),
        (json!({"model": "unheard-of", "cache_store": store}), false),
        (json!({"model": "small", "cache_store": store}), true),
    ] {
        let allowed = faq(&app, "one of several").allowed().await;
        let settled = settle(&allowed, body.clone()).await.expect(200);
        assert_eq!(settled["cache_store"]["stored"], expected, "{body}");
    }
    assert_eq!(faq(&app, "one of several").cached().await["model"], "small");
    // Too late; without having asked; where it is off; without anything to keep; too large.
    let late = faq(&app, "late").allowed().await;
    app.pass_seconds(601);
    assert_eq!(
        settle(&late, json!({"cache_store": store})).await.expect(200)["cache_store"]["stored"],
        false
    );
    let unasked = app.authorize("ws").feature("faq").allowed().await;
    assert_eq!(unasked.get("cache"), None);
    assert_eq!(
        settle(&unasked, json!({"cache_store": store})).await.expect(200)["cache_store"]["stored"],
        false
    );
    let off = app
        .authorize("ws")
        .feature("off")
        .with("cache", json!({"prompt": "p"}))
        .allowed()
        .await;
    assert_eq!(off["cache"], json!({"status": "off"}));
    assert_eq!(
        settle(&off, json!({"cache_store": store})).await.expect(200)["cache_store"]["stored"],
        false
    );
    let nothing = faq(&app, "nothing").allowed().await;
    assert_eq!(settle(&nothing, json!({})).await.expect(200).get("cache_store"), None);
    let noise: String = (0..400_000u32)
        .map(|n| char::from_u32(0x4e00 + n.wrapping_mul(2_654_435_761) % 20_000).expect("a letter"))
        .collect();
    let large = faq(&app, "large").allowed().await;
    let refused = settle(&large, json!({"cache_store": {"response": {"text": noise}}})).await;
    assert!([200, 413].contains(&refused.status.as_u16()), "{}", refused.status);
    faq(&app, "large").allowed().await;
    settle(&large, json!({"cache_store": {"response": "text"}}))
        .await
        .problem(400, "malformed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_batches_and_dry_runs() {
    let app = with_cache(json!({"faq": {"cache": {}}})).await;
    let id = kept(&app, faq(&app, "p"), json!({"n": 1})).await;
    // A call of a run is answered, and takes nothing of its parent.
    let parent = app.authorize("ws").with("max_calls", 5).tokens(1_000, 0).reserved().await;
    let call = |prompt: &str| faq(&app, prompt).with("parent_reservation_id", parent.clone()).tokens(10, 10);
    assert_eq!(call("p").cached().await["cache"]["cache_entry_id"], json!(id));
    let missed = call("q").allowed().await;
    assert_eq!(missed["cache"], json!({"status": "miss", "leader": true}));
    answered(&app, &missed, json!({"n": 2})).await;
    assert_eq!(call("q").cached().await["cache"]["response"], json!({"n": 2}));
    let run = app.get(&format!("/v1/reservations/{parent}")).await.expect(200);
    assert_eq!(run["run"]["calls"], 1, "{run:#}");
    // What is many things at once has no one answer.
    for asking in [faq(&app, "p").with("requests", 2), faq(&app, "p").with("max_calls", 2)] {
        assert_eq!(asking.allowed().await["cache"], json!({"status": "off"}));
    }
    let dry = app
        .post("/v1/authorize?dry_run=true", Value::Object(faq(&app, "p").body))
        .await
        .expect(200);
    assert_eq!((&dry["decision"], &dry["cache"]["status"]), (&json!("allow"), &json!("off")));
    // In a batch each asks for itself.
    let items: Vec<Value> = ["p", "q", "r"].iter().map(|prompt| Value::Object(faq(&app, prompt).body)).collect();
    let batch = json!({"requests": items});
    let first = app.post("/v1/authorize/batch", batch.clone()).await.expect(200);
    let told: Vec<&Value> = first["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| &result["decision"]["decision"])
        .collect();
    assert_eq!(told, ["cached", "cached", "allow"], "{first:#}");
    let again = app.post("/v1/authorize/batch", batch).await.expect(200);
    for place in 0..3 {
        let (first, again) = (&first["results"][place]["decision"], &again["results"][place]["decision"]);
        assert_eq!((&first["decision_id"], &first["cache"]), (&again["decision_id"], &again["cache"]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_cache_is_asked_must_make_sense() {
    let app = with_cache(json!({"faq": {"cache": {"semantic": true}}})).await;
    for (cache, status, pointer) in [
        (json!({}), 400, "/cache/prompt"),
        (json!({"prompt": 5}), 400, "/cache/prompt"),
        (json!({"prompt": "p", "system": 5}), 400, "/cache/system"),
        (json!({"prompt": "p", "scope": "everyone"}), 422, "/cache/scope"),
        (json!({"prompt": "p", "embedding": []}), 422, "/cache/embedding"),
        (json!({"prompt": "p", "embedding": [0, 0.0]}), 422, "/cache/embedding"),
        (json!({"prompt": "p", "embedding": ["1"]}), 400, "/cache/embedding/0"),
        (json!({"prompt": "p", "embedding": vec![0.5; 4_097]}), 422, "/cache/embedding"),
        (json!({"prompt": "p", "embedding_model": "m"}), 422, "/cache/embedding_model"),
        (
            json!({"prompt": "p", "embedding": [1], "embedding_model": "m".repeat(256)}),
            422,
            "/cache/embedding_model",
        ),
        (json!({"prompt": "p", "unheard": 1}), 400, "/cache/unheard"),
    ] {
        let problem = app
            .authorize("ws")
            .feature("faq")
            .with("cache", cache.clone())
            .send()
            .await
            .expect(status);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{cache}");
    }
    for cache in [
        json!({"prompt": ""}),
        json!({"prompt": []}),
        json!({"prompt": "p", "embedding": [1e300, -1e-300]}),
        json!({"prompt": "x".repeat(100_000)}),
    ] {
        assert_eq!(
            app.authorize("ws").feature("faq").with("cache", cache).allowed().await["cache"]["status"],
            "miss"
        );
    }
}

/// How many scripts this server has run.
fn scripts_run(server: &support::redis::Server) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let calls = |name: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":calls="));
        line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0u64)
    };
    calls("cmdstat_evalsha") + calls("cmdstat_eval")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_and_a_hit_take_one_round_trip_of_redis_more() {
    if !support::stores::can_be_production() {
        return;
    }
    let server = tokio::task::spawn_blocking(support::redis::Server::start).await.expect("no panic");
    let stores = support::stores::Stores::empty_production_on(server.url()).await;
    let app = TestApp::on(stores).await;
    app.workspace_on("ws", plan(json!({"faq": {"cache": {}}}))).await;
    kept(&app, faq(&app, "p"), json!({})).await;
    // Every script is known by then.
    faq(&app, "p").cached().await;
    let before = scripts_run(&server);
    app.authorize("ws").allowed().await;
    let plain = scripts_run(&server) - before;
    for (prompt, decision) in [("q", "allow"), ("p", "cached")] {
        let before = scripts_run(&server);
        assert_eq!(faq(&app, prompt).send().await.expect(200)["decision"], decision);
        assert_eq!(scripts_run(&server) - before, plain + 1, "{decision}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_is_away_is_an_error_and_no_reason_not_to_decide() {
    if !support::stores::can_be_production() {
        return;
    }
    let server = tokio::task::spawn_blocking(support::redis::Server::start).await.expect("no panic");
    let stores = support::stores::Stores::empty_production_on(server.url()).await;
    let app = TestApp::on(stores).await;
    let mut plan = plan(json!({"faq": {"cache": {}}}));
    plan["on_store_unavailable"] = json!("allow");
    app.workspace_on("ws", plan).await;
    kept(&app, faq(&app, "p"), json!({})).await;
    let rules = json!([{"name": "slow", "when": "true", "throttle_ms": 200, "override": true}]);
    app.put("/v1/admin/routing", json!({"rules": rules, "default_model": "mid"}))
        .await
        .expect_one_of(&[200, 201]);
    app.follow_all().await;
    drop(server);
    let answer = faq(&app, "p").send_once().await.expect(200);
    assert_eq!(
        (&answer["decision"], &answer["degraded"], &answer["cache"]),
        (&json!("allow"), &json!(true), &json!({"status": "error"}))
    );
    // Of budgets nothing is known; what a rule says is told all the same.
    assert_eq!(
        (
            &answer["budgets"],
            &answer["actions"],
            &answer["delay_ms"],
            &answer["reasons"][0]["code"]
        ),
        (&json!([]), &json!(["throttle", "route"]), &json!(200), &json!("routed"))
    );
}
