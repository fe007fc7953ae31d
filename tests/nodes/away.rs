//! What nodes answer while a store is away, refuses or loads, and what becomes of callers who do not wait.

use super::{books_agree, id, three, workspace};
use crate::support::stores::{self, Stores};
use crate::support::{TestApp, postgres, redis};
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use weir::clock::Clock;
use weir::decision::id::ReservationId;

/// Two workspaces of 1,000 tokens, of which the plan of the second allows what cannot be asked.
async fn strict_and_lenient(node: &TestApp) {
    let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]);
    node.workspace_on("strict", json!({"budgets": budgets})).await;
    node.workspace_on("lenient", json!({"budgets": budgets, "on_store_unavailable": "allow"}))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_plans_say_what_happens_and_nothing_is_lost() {
    if !stores::can_be_production() {
        return;
    }
    let mut server = redis::Server::start();
    let stores = Stores::empty_production_on(server.url()).await;
    let node = TestApp::on(stores).await;
    strict_and_lenient(&node).await;
    let held = node.authorize("strict").tokens(10, 10).reserved().await;
    let lenient = node.authorize("lenient").tokens(10, 10).reserved().await;
    server.kill();
    let refused = node.authorize("strict").send_once().await;
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.problem(503, "store_unavailable");
    let degraded = node.authorize("lenient").id("away").tokens(10, 10).allowed().await;
    assert_eq!((&degraded["degraded"], &degraded["budgets"]), (&json!(true), &json!([])));
    let call = |workspace: &str, parent: &str| node.authorize(workspace).tokens(1, 0).with("parent_reservation_id", parent);
    call("strict", &held).send_once().await.problem(503, "store_unavailable");
    let of_run = call("lenient", &lenient).allowed().await;
    assert_eq!((&of_run["degraded"], &of_run["held"]["tokens"]), (&json!(true), &json!(1)));
    assert_eq!(node.get_once("/readyz").await.json()["counters"], "unavailable");
    let fields = |workspace: &str| json!({"usage": {"input_tokens": 10, "output_tokens": 5}, "workspace_id": workspace, "feature": "chat", "model": "big"});
    let settle = async |reservation: &str, workspace: &str| {
        let path = format!("/v1/reservations/{reservation}/settle");
        node.post(&path, fields(workspace)).await.expect(200)
    };
    settle(id(&degraded), "lenient").await;
    settle(&held, "strict").await;
    server.run();
    assert_eq!(node.spent("strict", "tokens").await, 15);
    assert_eq!(node.spent("lenient", "tokens").await, 15);
    let again = settle(&held, "strict").await;
    assert_eq!(again["replayed"], true);
    assert_eq!(node.get_once("/readyz").await.status.as_u16(), 200);
    books_agree(&node).await;
}

/// How often the store was asked to look through holds: nothing else reads several records at once.
fn looks_through_holds(server: &redis::Server) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_mget:calls="));
    line.map_or(0, |line| line.split(',').next().expect("a number").parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_of_refused_requests_seldom_asks_when_it_frees_up() {
    if !stores::can_be_production() {
        return;
    }
    let server = redis::Server::start();
    let node = TestApp::on(Stores::empty_production_on(server.url()).await).await;
    node.workspace_with_tokens("ws", 1_000).await;
    join_all((0..100).map(|_| node.authorize("ws").tokens(10, 0).allowed())).await;
    let refused = async |tokens: i64| {
        let answer = node.authorize("ws").tokens(tokens, 0).denied().await;
        let reason = &answer["reasons"][0];
        assert_eq!(
            (&reason["blocked_by"], &reason["retry_after_seconds"]),
            (&json!("held"), &json!(600))
        );
    };
    join_all((0..50).map(|_| refused(10))).await;
    for _ in 0..50 {
        refused(10).await;
    }
    assert_eq!(looks_through_holds(&server), 1, "all of them together");
    refused(160).await;
    assert_eq!(looks_through_holds(&server), 2, "for more it looks again, at one page");
    for tokens in 11..60 {
        refused(tokens).await;
    }
    assert_eq!(looks_through_holds(&server), 2, "nothing else lies between");
    node.clock.advance_micros(100_000);
    refused(10).await;
    assert_eq!(looks_through_holds(&server), 3, "what it was told is forgotten after a moment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_authorize_goes_on_and_settle_asks_to_be_sent_again() {
    if !stores::can_be_production() {
        return;
    }
    let server = postgres::Postgres::start().expect("a PostgreSQL");
    let node = TestApp::on(Stores::empty_production_in(&server).await).await;
    node.workspace_with_tokens("ws", 1_000).await;
    let budgets = json!([{"id": "tokens", "unit": "tokens", "period": "month", "hard": 1000}]);
    node.workspace_on("lenient", json!({"budgets": budgets, "on_store_unavailable": "allow"}))
        .await;
    node.authorize("lenient").tokens(10, 10).reserved().await;
    let held = node.authorize("ws").tokens(10, 10).reserved().await;
    server.stop_immediately();
    let more = node.authorize("ws").tokens(10, 10).reserved().await;
    let path = format!("/v1/reservations/{held}/settle");
    let refused = node
        .post_once(&path, json!({"usage": {"input_tokens": 10, "output_tokens": 5}}))
        .await;
    assert!(refused.header("retry-after").is_some());
    refused.problem(503, "store_unavailable");
    let release = node.post_once(&format!("/v1/reservations/{more}/release"), json!({})).await;
    release.problem(503, "store_unavailable");
    assert_eq!(node.get_once("/readyz").await.json()["ledger"], "unavailable");
    // Lost counters cannot be rebuilt now: plans say what happens then, as when the counters are away. Of two requests one finds the ledger
    // away, and the other waits in vain for what the first does.
    node.service.counters.forget_rows(node.clock.now()).await.expect("forgotten");
    let lenient = || node.authorize("lenient").tokens(10, 10).send_once();
    let (strict, first, second) = tokio::join!(node.authorize("ws").tokens(10, 10).send_once(), lenient(), lenient());
    strict.problem(503, "store_unavailable");
    for answer in [first, second].map(|answer| answer.expect(200)) {
        assert_eq!(
            (&answer["decision"], &answer["degraded"]),
            (&json!("allow"), &json!(true)),
            "{answer}"
        );
    }
    server.start_again();
    // A rebuild that came to nothing is waited for, by a clock that stands still here.
    node.pass_seconds(1);
    let settled = node.settle(&held, 10, 5).await.expect(200);
    assert_eq!(settled["late"], false, "the claim kept the hold");
    node.release(&more).await.expect(200);
    assert_eq!((node.spent("ws", "tokens").await, node.held("ws", "tokens").await), (15, 0));
    assert_eq!(node.ledger("ws").await.len(), 1);
    books_agree(&node).await;
}

/// Redis took another's place and has to be compared with the ledger, where somebody keeps the sums locked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_counters_cannot_be_rebuilt_plans_say_what_happens_to_calls_of_runs_too() {
    if !stores::can_be_production() {
        return;
    }
    let server = redis::Server::start();
    let node = TestApp::on(Stores::empty_production_on(server.url()).await).await;
    strict_and_lenient(&node).await;
    let strict = node.authorize("strict").tokens(10, 10).reserved().await;
    let lenient = node.authorize("lenient").tokens(10, 10).reserved().await;
    let mut keeper = PgConnection::connect(node.database()).await.expect("the database");
    let lock = "BEGIN; LOCK TABLE counter_sum IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(lock).execute(&mut keeper).await.expect("locked");
    server.cli(&["DEBUG", "CHANGE-REPL-ID"]);
    // For 10 ms nodes take it for the one that they know.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let call = |workspace: &str, parent: &str| node.authorize(workspace).tokens(1, 0).with("parent_reservation_id", parent);
    call("strict", &strict).send_once().await.problem(503, "overloaded");
    let of_run = call("lenient", &lenient).send_once().await.expect(200);
    assert_eq!((&of_run["degraded"], &of_run["held"]["tokens"]), (&json!(true), &json!(1)));
    // Another one waits in vain for what that rebuild did.
    let of_run = call("lenient", &lenient).send_once().await.expect(200);
    assert_eq!(of_run["degraded"], true);
    sqlx::raw_sql("ROLLBACK").execute(&mut keeper).await.expect("unlocked");
    node.pass_seconds(1);
    for (workspace, parent) in [("strict", &strict), ("lenient", &lenient)] {
        assert_eq!(call(workspace, parent).allowed().await["degraded"], false, "{workspace}");
    }
    books_agree(&node).await;
}

/// Waits until it is true, for as long as nobody should have to.
async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_true().await {
        assert!(began.elapsed() < Duration::from_secs(20), "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a request over a connection of its own.
async fn send_raw(node: &TestApp, path: &str, body: &Value) -> tokio::net::TcpStream {
    let address = node.url.strip_prefix("http://").expect("an address");
    let mut connection = tokio::net::TcpStream::connect(address).await.expect("the service listens");
    let (body, token) = (body.to_string(), node.token("admin", None));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.write_all(request.as_bytes()).await.expect("it is sent");
    connection
}

/// Nothing runs beside requests here and the clock stands still, so nobody else can bring to its end what the caller left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_has_begun_who_hangs_up_comes_to_its_end() {
    let Some(nodes) = three().await else { return };
    let node = &nodes[0];
    let mut keeper = PgConnection::connect(node.database()).await.expect("the database");
    let mut watcher = PgConnection::connect(node.database()).await.expect("the database");
    let usage = json!({"input_tokens": 30, "output_tokens": 12});
    for (name, act, body, left) in [
        ("settled", "settle", json!({"usage": usage}), (42, 0)),
        ("released", "release", json!({}), (0, 0)),
        ("reported", "settle", json!({"usage": usage, "final": false}), (42, 158)),
    ] {
        workspace(&nodes, name, 1_000).await;
        let held = node.authorize(name).tokens(100, 100).reserved().await;
        let lock = format!("BEGIN; SELECT FROM workspace WHERE workspace_id = '{name}' FOR UPDATE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut keeper).await.expect("locked");
        let connection = send_raw(node, &format!("/v1/reservations/{held}/{act}"), &body).await;
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'weir' \
                     AND pid IN (SELECT pid FROM pg_locks WHERE relation = 'workspace'::regclass))";
        until("the ledger keeps it waiting", async || {
            let waits = sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut watcher);
            waits.await.expect("the database")
        })
        .await;
        // As a process that is ended: the connection is reset, and the server has time to see it.
        connection.set_zero_linger().expect("a socket");
        drop(connection);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let id = ReservationId::parse(&held).expect("an id");
        let standing = async || node.service.ledger.standing(id).await.expect("the ledger answers");
        assert!(standing().await.is_none(), "{name}: it waits until the caller is gone");
        sqlx::raw_sql("ROLLBACK").execute(&mut keeper).await.expect("unlocked");

        until(&format!("{name} is in the ledger"), async || standing().await.is_some()).await;
        let counted = async || (nodes[1].spent(name, "tokens").await, nodes[1].held(name, "tokens").await);
        until(&format!("{name} is in the counters"), async || counted().await == left).await;
        let standing = standing().await.expect("it stands");
        assert_eq!(
            (standing.entry.is_some(), standing.end.is_some()),
            match name {
                "settled" => (true, true),
                "released" => (false, true),
                _ => (false, false),
            }
        );
        books_agree(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_redis_loads_its_data_plans_say_what_happens_and_who_waited_is_answered() {
    if !stores::can_be_production() {
        return;
    }
    let mut server = redis::Server::start();
    let node = TestApp::on(Stores::empty_production_on(server.url()).await).await;
    strict_and_lenient(&node).await;
    let settled = node.authorize("strict").tokens(100, 0).reserved().await;
    node.settle(&settled, 100, 0).await.expect(200);
    node.authorize("strict").tokens(20, 0).reserved().await;
    node.authorize("lenient").tokens(20, 0).reserved().await;
    server.run_loading();
    let (refused, degraded, ready) = tokio::join!(
        node.authorize("strict").send_once(),
        node.authorize("lenient").tokens(10, 10).allowed(),
        node.get_once("/readyz")
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    refused.problem(503, "store_unavailable");
    assert_eq!(degraded["degraded"], true);
    assert_eq!(ready.json()["counters"], "unavailable");
    // Who asks while it loads is answered when it has loaded, if that is soon enough.
    let (refused, waited) = (server.refused_while_loading(), async {
        let refused = server.refused_while_loading();
        until("somebody waits", async || server.refused_while_loading() > refused + 3).await;
        server.load_the_rest();
    });
    assert!(refused > 0, "it was Redis that refused");
    let (answer, ()) = tokio::join!(node.authorize("strict").tokens(1, 0).send_once(), waited);
    let answer = answer.expect(200);
    assert_eq!(
        (&answer["decision"], &answer["degraded"]),
        (&json!("allow"), &json!(false)),
        "{answer}"
    );
    // What it had came back, of another process: it was read from the ledger again, and what is held is held.
    assert_eq!(
        (node.spent("strict", "tokens").await, node.held("strict", "tokens").await),
        (100, 21)
    );
    assert_eq!(node.get_once("/readyz").await.status.as_u16(), 200);
    books_agree(&node).await;
}
