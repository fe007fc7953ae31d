//! The ledger's disk is full for a while: requests are told to come again, nothing that was answered for is lost, and it goes on by itself.

use super::support::TestApp;
use super::support::disk::Disk;
use super::support::postgres::Postgres;
use super::support::redis;
use super::support::stores::Stores;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weir::flow::verify::verify;

const CLIENTS: usize = 8;
/// How many settles are refused before the disk has room again.
const REFUSED: usize = CLIENTS;
/// How long any of it may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What clients did and were told.
#[derive(Default)]
struct Seen {
    stop: AtomicBool,
    settled: AtomicUsize,
    refused: AtomicUsize,
}

/// Holds and settles until it is stopped, and then until the last settle is answered for. Returns what was, with its entry.
async fn client(app: &TestApp, number: usize, seen: &Seen) -> HashMap<String, (String, i64)> {
    let (mut settled, mut asked) = (HashMap::new(), 0);
    while !seen.stop.load(Ordering::SeqCst) {
        asked += 1;
        let held = app
            .authorize("ws")
            .id(&format!("{number}-{asked}"))
            .tokens(10, asked % 7)
            .send_once()
            .await;
        if held.status == 503 {
            come_again(&held.json(), held.header("retry-after"));
            continue;
        }
        let reservation = held.expect(200)["reservation_id"].as_str().expect("a reservation").to_owned();
        let report = json!({"usage": {"input_tokens": 10, "output_tokens": asked % 7}});
        let began = Instant::now();
        loop {
            let answer = app
                .post_once(&format!("/v1/reservations/{reservation}/settle"), report.clone())
                .await;
            if answer.status == 503 {
                come_again(&answer.json(), answer.header("retry-after"));
                seen.refused.fetch_add(1, Ordering::SeqCst);
                assert!(began.elapsed() < 2 * PATIENCE, "it goes on when there is room: {}", answer.text);
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            let entry = answer.expect(200)["entry"]["entry_id"].as_str().expect("an entry").to_owned();
            settled.insert(reservation, (entry, 10 + asked % 7));
            seen.settled.fetch_add(1, Ordering::SeqCst);
            break;
        }
    }
    settled
}

fn come_again(body: &Value, retry_after: Option<&str>) {
    assert_eq!(body["code"], "store_unavailable", "{body}");
    assert!(retry_after.is_some_and(|seconds| seconds.parse::<u32>().is_ok()), "{retry_after:?}");
}

async fn until(what: &str, is_true: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !is_true() {
        assert!(began.elapsed() < PATIENCE, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    began.elapsed()
}

/// Fills the disk under load, frees it, and compares what was answered for with the ledger. What else happens while it is full, and what an
/// operator's supervisor does then, is told.
async fn goes_on(app: &TestApp, disk: &Disk, full: impl AsyncFn(), freed: impl Fn()) {
    app.workspace_with_tokens("ws", 1_000_000_000).await;
    let seen = Seen::default();
    let faults = async {
        until("some are settled", || seen.settled.load(Ordering::SeqCst) > 50).await;
        disk.fill();
        full().await;
        let noticed = until("some are refused", || seen.refused.load(Ordering::SeqCst) > REFUSED).await;
        disk.free();
        freed();
        let before = seen.settled.load(Ordering::SeqCst);
        let back = until("it goes on", || seen.settled.load(Ordering::SeqCst) > before + CLIENTS).await;
        until("more are settled", || seen.settled.load(Ordering::SeqCst) > before + 50).await;
        seen.stop.store(true, Ordering::SeqCst);
        println!("noticed after {noticed:?}, settled again {back:?} after there was room");
    };
    let clients = join_all((0..CLIENTS).map(|number| client(app, number, &seen)));
    let (settled, ()) = tokio::join!(clients, faults);
    let settled: HashMap<_, _> = settled.into_iter().flatten().collect();
    let mut entries: HashMap<String, (String, i64)> = HashMap::new();
    for entry in app.ledger("ws").await {
        let text = |name: &str| entry[name].as_str().expect("text").to_owned();
        let counted = entry["counted"]["tokens"].as_i64().expect("tokens");
        let other = entries.insert(text("reservation_id"), (text("entry_id"), counted));
        assert_eq!(other, None, "an entry stands twice: {entry}");
    }
    println!(
        "{} settles answered for, {} refused; the ledger has {}",
        settled.len(),
        seen.refused.load(Ordering::SeqCst),
        entries.len()
    );
    assert_eq!(entries, settled, "what was answered for is there, once, and nothing else");
    let spent: i64 = settled.values().map(|(_, tokens)| tokens).sum();
    assert_eq!(app.spent("ws", "tokens").await, spent);
    let service = &app.service;
    let found = verify(&*service.ledger, Some(&*service.counters), &*service.clock, |_| {}).await;
    assert_eq!(found.expect("verified").differences, Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_sqlite() {
    let Some(disk) = Disk::of(24, "disk::a_full_disk_under_sqlite") else {
        return;
    };
    let data = tempfile::tempdir_in(disk.path()).expect("a folder");
    let app = TestApp::on(Stores::Embedded(data)).await;
    goes_on(&app, &disk, async || (), || ()).await;
}

/// On PostgreSQL it is refused to grow a table, and what is refused is an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_postgres() {
    if !redis::is_there() {
        return;
    }
    let Some(disk) = Disk::of(256, "disk::a_full_disk_under_postgres") else {
        return;
    };
    let Some(server) = Postgres::start_in(disk.path()) else { return };
    let app = TestApp::on(Stores::empty_production_in(&server).await).await;
    goes_on(&app, &disk, async || (), || ()).await;
}

/// Where there is no room for its log it ends, cannot start while that is so, and is started by a supervisor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_under_the_log_of_postgres() {
    if !redis::is_there() {
        return;
    }
    let Some(disk) = Disk::of(256, "disk::a_full_disk_under_the_log_of_postgres") else {
        return;
    };
    let Some(server) = Postgres::start_in(disk.path()) else { return };
    let app = TestApp::on(Stores::empty_production_in(&server).await).await;
    let direct = server.url("public");
    let ends = async || {
        let mut connection = PgConnection::connect(&direct).await.expect("it still answers");
        // It ends on the first of these for which it cannot make the file, and the connection with it.
        let mut ended = false;
        for _ in 0..20 {
            let switched = sqlx::raw_sql("SELECT pg_switch_wal(), pg_logical_emit_message(false, 'weir', 'x')");
            ended = ended || switched.execute(&mut connection).await.is_err();
        }
        assert!(ended, "there is room for its log");
    };
    goes_on(&app, &disk, ends, || server.revive()).await;
}
