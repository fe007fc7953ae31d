//! Which answers are good enough to be given to others: whole ones, not judged bad, to requests that say the same to the model.

use crate::support::{Asking, TestApp};
use serde_json::{Value, json};

async fn with_cache(rules: Value) -> TestApp {
    let app = TestApp::start().await;
    let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1_000_000}]);
    app.workspace_on("ws", json!({"budgets": budgets, "features": {"faq": {"cache": rules}}}))
        .await;
    app
}

fn faq(app: &TestApp, cache: Value) -> Asking<'_> {
    app.authorize("ws").feature("faq").with("cache", cache)
}

/// Asks in vain, answers with `n`, and says whether that was kept.
async fn answered(app: &TestApp, asking: Asking<'_>, report: Value, n: i64) -> bool {
    let allowed = asking.allowed().await;
    assert_eq!(allowed["cache"]["status"], "miss", "{allowed:#}");
    settled(app, &allowed, report, n).await
}

async fn settled(app: &TestApp, allowed: &Value, mut report: Value, n: i64) -> bool {
    report["cache_store"] = json!({"response": {"n": n}});
    let path = format!("/v1/reservations/{}/settle", allowed["reservation_id"].as_str().expect("an id"));
    let settled = app.post(&path, report).await.expect(200);
    app.follow_all().await;
    settled["cache_store"]["stored"].as_bool().expect("whether it is kept")
}

fn usage(output_tokens: i64) -> Value {
    json!({"usage": {"input_tokens": 100, "output_tokens": output_tokens}})
}

fn talk(system: (&str, &str), before: &str, question: &str) -> Value {
    let (role, system) = system;
    json!({"embedding": [0.6, 0.8], "prompt": [
        {"role": role, "content": system},
        {"role": "user", "content": before},
        {"role": "assistant", "content": "I see."},
        {"role": "user", "content": question},
    ]})
}

/// A vector of the last question alone sees nothing of what stands before it.
#[tokio::test]
async fn a_similar_question_in_another_conversation_finds_nothing() {
    let app = with_cache(json!({"semantic": true, "threshold": 0.9})).await;
    let public = ("system", "You speak to customers.");
    assert!(answered(&app, faq(&app, talk(public, "hello", "how do i reset my password?")), usage(40), 1).await);
    let given = faq(&app, talk(public, "hello", "how can i reset my password?")).cached().await;
    assert_eq!(
        (&given["cache"]["kind"], &given["cache"]["response"]),
        (&json!("semantic"), &json!({"n": 1}))
    );
    for other in [
        talk(("system", "You speak to administrators."), "hello", "how can i reset my password?"),
        talk(("developer", "You speak to customers."), "hello", "how can i reset my password?"),
        talk(public, "it is about the router", "how can i reset my password?"),
    ] {
        assert_eq!(faq(&app, other.clone()).allowed().await["cache"]["status"], "miss", "{other}");
    }
    // Nobody asks anything: what a tool brought is compared as a whole only.
    let mut tool = talk(public, "hello", "how can i reset my password?");
    tool["prompt"][3]["role"] = json!("tool");
    assert!(answered(&app, faq(&app, tool.clone()), usage(40), 2).await);
    assert_eq!(faq(&app, tool.clone()).cached().await["cache"]["kind"], "exact");
    tool["prompt"][3]["content"] = json!("how do i reset my password?");
    assert_eq!(faq(&app, tool).allowed().await["cache"]["status"], "miss");
}

#[tokio::test]
async fn an_answer_that_was_cut_off_is_given_to_nobody_who_asks_for_more() {
    let app = with_cache(json!({"semantic": true, "threshold": 0.9})).await;
    let essay = |most: i64| {
        let cache = json!({"prompt": "write an essay", "embedding": [0.6, 0.8]});
        faq(&app, cache).with("max_output_tokens", most)
    };
    assert!(answered(&app, essay(5), usage(5), 1).await);
    assert_eq!(essay(5).cached().await["cache"]["response"]["n"], 1, "as long as was asked for");
    assert_eq!(essay(4).cached().await["cache"]["response"]["n"], 1);
    assert!(answered(&app, essay(5_000), usage(4_000), 2).await);
    for most in [4, 5_000, 6_000] {
        assert_eq!(
            essay(most).cached().await["cache"]["response"]["n"],
            2,
            "a whole one is for everybody"
        );
    }

    // Where a budget leaves room for less than was wanted, an answer of that length is no answer.
    for (workspace, output_tokens, is_kept) in [("ws_cut", 400, false), ("ws_whole", 39, true)] {
        let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 500}]);
        app.workspace_on(workspace, json!({"budgets": budgets, "features": {"faq": {"cache": {}}}}))
            .await;
        let poem = || {
            let asking = app.authorize(workspace).feature("faq").tokens(100, 1_500);
            asking.with("min_output_tokens", 1).with("cache", json!({"prompt": "write a poem"}))
        };
        let capped = poem().allowed().await;
        assert_eq!(
            (&capped["max_output_tokens"], &capped["actions"]),
            (&json!(400), &json!(["cap"])),
            "{capped:#}"
        );
        assert_eq!(settled(&app, &capped, usage(output_tokens), 1).await, is_kept, "{workspace}");
        assert_eq!(
            poem().send().await.expect_one_of(&[200, 402, 429])["decision"] == "cached",
            is_kept,
            "{workspace}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_was_judged_bad_is_not_kept_and_that_of_its_second_try_is() {
    let app = with_cache(json!({"semantic": true, "threshold": 0.9})).await;
    let escalation = json!({"model": "big", "min_quality_score": 0.7});
    let rules = json!([{"name": "cheap-first", "when": "true", "model": "mid", "escalation": escalation}]);
    app.put("/v1/admin/routing", json!({"rules": rules, "default_model": "mid"}))
        .await
        .expect_one_of(&[200, 201]);
    let asking = |prompt: &str| faq(&app, json!({"prompt": prompt, "embedding": [0.6, 0.8]})).model("auto");
    let judged = |score: f64| {
        let mut report = usage(40);
        report["quality_score"] = json!(score);
        report
    };
    let first = asking("what is it?").allowed().await;
    assert_eq!(first["model"], "mid");
    assert!(!settled(&app, &first, judged(0.1), 1).await, "bad");
    let second = asking("what is it?")
        .with("escalate_from", first["reservation_id"].clone())
        .allowed()
        .await;
    assert_eq!((&second["model"], &second["cache"]["status"]), (&json!("big"), &json!("miss")));
    assert!(settled(&app, &second, judged(0.2), 2).await, "there is nothing better");
    assert_eq!(asking("what is it?").cached().await["cache"]["response"]["n"], 2);
    assert_eq!(asking("what is that?").cached().await["cache"]["response"]["n"], 2);
    // A second try never gets what is kept, which was not good enough; what is kept by then makes way for it.
    let apart = |prompt: &str| faq(&app, json!({"prompt": prompt, "embedding": [1.0, 0.0]})).model("auto");
    let first = apart("and now?").allowed().await;
    assert!(answered(&app, apart("and now?"), judged(0.7), 3).await, "good");
    assert!(!settled(&app, &first, judged(0.6), 4).await);
    assert_eq!(apart("and now?").cached().await["cache"]["response"]["n"], 3);
    let second = apart("and now?")
        .with("escalate_from", first["reservation_id"].clone())
        .allowed()
        .await;
    assert!(settled(&app, &second, judged(0.9), 5).await);
    assert_eq!(apart("and now?").cached().await["cache"]["response"]["n"], 5);
}

/// Also at the caller's own limit: half an answer is not what the same question wants.
#[tokio::test]
async fn an_answer_that_says_that_it_was_cut_off_is_not_kept() {
    let app = with_cache(json!({})).await;
    for (response, is_kept) in [
        (
            json!({"choices": [{"finish_reason": "length", "message": {"content": "half of i"}}]}),
            false,
        ),
        (json!({"stop_reason": "max_tokens"}), false),
        (json!({"stop_reason": "end_turn"}), true),
    ] {
        let allowed = faq(&app, json!({"prompt": "p"})).tokens(100, 50).allowed().await;
        let path = format!("/v1/reservations/{}/settle", allowed["reservation_id"].as_str().expect("an id"));
        let body = json!({"usage": {"input_tokens": 100, "output_tokens": 50}, "cache_store": {"response": response}});
        let settled = app.post(&path, body).await.expect(200);
        assert_eq!(settled["cache_store"]["stored"], is_kept, "{response}");
    }
}

/// Whoever waits for a leader would else wait for a minute, for nothing.
#[tokio::test]
async fn a_lead_ends_when_no_answer_will_come() {
    let app = with_cache(json!({})).await;
    let ask = |prompt: &str| faq(&app, json!({"prompt": prompt})).tokens(100, 50);
    let leads = |decision: &Value| {
        assert_eq!(decision["cache"]["status"], "miss", "{decision:#}");
        decision["cache"]["leader"] == true
    };
    let first = ask("p").allowed().await;
    assert!(leads(&first) && !leads(&ask("p").allowed().await));
    let path = |held: &Value, what: &str| format!("/v1/reservations/{}/{what}", held["reservation_id"].as_str().expect("an id"));
    app.post(&path(&first, "release"), json!({})).await.expect(200);
    let cut = json!({"usage": {"input_tokens": 100, "output_tokens": 50}, "cache_store": {"response": {"stop_reason": "max_tokens"}}});
    for report in [
        json!({"usage": {"input_tokens": 100, "output_tokens": 50}, "outcome": "error"}),
        json!({"usage": {"input_tokens": 100, "output_tokens": 50}}),
        cut,
    ] {
        let next = ask("p").allowed().await;
        assert!(leads(&next) && !leads(&ask("p").allowed().await), "before {report}");
        app.post(&path(&next, "settle"), report).await.expect(200);
    }
    // A denial, by a question that comes before the budgets.
    faq(&app, json!({"prompt": "q"})).tokens(2_000_000, 50).denied().await;
    assert!(leads(&ask("q").allowed().await));
    let parent = app.authorize("ws").with("max_calls", 5).tokens(1_000, 0).reserved().await;
    let call = |input: i64| {
        faq(&app, json!({"prompt": "r"}))
            .with("parent_reservation_id", parent.clone())
            .tokens(input, 10)
    };
    call(5_000).denied().await;
    assert!(leads(&call(10).allowed().await));
    // And by a budget: the next one that is denied led too.
    let all = json!({"workspace_id": "ws", "feature": "chat", "model": "big", "request_id": "all", "usage": {"input_tokens": 999_990, "output_tokens": 0}});
    app.post("/v1/usage", all).await.expect_one_of(&[200, 201]);
    for _ in 0..2 {
        assert!(leads(&ask("s").denied().await));
    }
}

#[tokio::test]
async fn an_answer_of_no_use_has_one_leader_too() {
    let app = with_cache(json!({})).await;
    let ask = |output: i64| faq(&app, json!({"prompt": "p"})).tokens(100, output);
    let first = ask(50).allowed().await;
    assert!(settled(&app, &first, usage(50), 1).await);
    let leaders = [ask(60).allowed().await, ask(60).allowed().await, ask(70).allowed().await];
    let leads: Vec<bool> = leaders.iter().map(|decision| decision["cache"]["leader"] == true).collect();
    assert_eq!(leads, [true, false, false], "{leaders:#?}");
    assert_eq!(
        ask(50).cached().await["cache"]["response"],
        json!({"n": 1}),
        "it is still there for whom it is enough"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_tells_how_many_requests_of_each_feature_the_cache_answered() {
    let app = with_cache(json!({})).await;
    app.workspace_on("other", json!({"unlimited": true})).await;
    let report = async |query: &str| app.get(&format!("/v1/reports/unit-economics?{query}")).await;
    assert_eq!(report("workspace_id=ws").await.expect(200)["data"], json!([]));
    let ask = || faq(&app, json!({"prompt": "p"})).tokens(100, 50);
    assert!(answered(&app, ask(), usage(40), 1).await);
    for _ in 0..2 {
        ask().cached().await;
    }
    let chat = app.authorize("other").feature("chat").tokens(100, 50).allowed().await;
    let path = format!("/v1/reservations/{}/settle", chat["reservation_id"].as_str().expect("an id"));
    app.post(&path, json!({"usage": usage(40)["usage"]})).await.expect(200);
    let faq = json!({"feature": "faq", "requests": 3, "cache_hits": 2, "cache_hit_rate": 0.6666, "cost_usd": "0.002200000",
        "cache_avoided_usd": "0.004400000"});
    let chat = json!({"feature": "chat", "requests": 1, "cache_hits": 0, "cache_hit_rate": 0, "cost_usd": "0.002200000",
        "cache_avoided_usd": "0.000000000"});
    let told = report("group_by=feature&from=2025-11-21T00:00:00Z&to=2025-11-22T00:00:00Z")
        .await
        .expect(200);
    assert_eq!(
        told,
        json!({"from": "2025-11-21T00:00:00Z", "to": "2025-11-22T00:00:00Z", "group_by": "feature", "data": [faq, chat]})
    );
    assert_eq!(
        report("").await.expect(200)["data"],
        json!([faq, chat]),
        "by default the last thirty days"
    );
    assert_eq!(report("workspace_id=ws").await.expect(200)["data"], json!([faq]));
    assert_eq!(
        report("workspace_id=ws&to=2025-11-21T00:00:00Z").await.expect(200)["data"],
        json!([])
    );
    report("workspace_id=nobody").await.expect(404);
    for (query, status) in [
        ("from=2025-11-21T00:00:00Z&to=2025-11-21T00:00:00Z", 422),
        ("from=2024-11-01T00:00:00Z&to=2025-11-21T00:00:00Z", 422),
        ("group_by=shoe_size", 422),
        ("compare=previous", 400),
    ] {
        report(query).await.expect(status);
    }
}
