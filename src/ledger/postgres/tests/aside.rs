//! One workspace whose statement takes long, or whose lock somebody keeps, while the others go on.

use super::*;
use crate::decision::amount::Unit;
use crate::decision::counter::Counter;
use crate::ledger::contract::book::{NOON, at, month, settle, workspace};
use tokio::task::JoinSet;

/// From here on sums that are begun for workspaces called "big..." take until the gate is opened.
const GATE: &str = "CREATE TABLE gate (is_shut BOOLEAN); INSERT INTO gate VALUES (true); \
     CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
       WHILE NEW.workspace_id LIKE 'big%' AND EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NEW; END $$; \
     CREATE TRIGGER gate BEFORE INSERT ON counter_sum FOR EACH ROW EXECUTE FUNCTION wait_at_gate()";

/// The same, and they do not end when their time is up.
const STUBBORN: &str = "CREATE OR REPLACE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
       WHILE NEW.workspace_id LIKE 'big%' LOOP BEGIN \
         EXIT WHEN NOT EXISTS (SELECT FROM gate); PERFORM pg_sleep(0.01); \
       EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; RETURN NEW; END $$";

/// A ledger in which one connection writes all posts, and the URL of its schema.
async fn with_one_writer(server: &TestServer) -> (Arc<PostgresLedger>, String) {
    let url = new_schema(server).await;
    let mut place = Server::parse(&url).expect("a URL");
    place.writers = 1;
    let ledger = PostgresLedger::open_with(place, Schema::BroughtUpToDate).await.expect("a ledger");
    (Arc::new(ledger), url)
}

async fn born(ledger: Arc<PostgresLedger>, id: String, named: Counter) -> i64 {
    let rows = ledger
        .rows(&workspace(&id), &Whose::Workspace, std::slice::from_ref(&named), at(NOON))
        .await;
    let rows = rows.expect("the ledger answers");
    rows.iter().find(|row| row.counter == named).expect("a row").spent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sum_whose_birth_takes_long_keeps_no_other_workspace_waiting() {
    let (book, ledger, url) = plain(server!()).await;
    let big: Vec<String> = (0..3).map(|n| format!("big_{n}")).collect();
    for id in &big {
        book.done(settle("before").of(id).naming([month(Unit::Requests)])).await;
    }
    let mut stranger = stranger(&url).await;
    execute(&mut stranger, GATE).await.expect("a gate");
    let mut slow = JoinSet::new();
    for id in &big {
        slow.spawn(born(ledger.clone(), id.clone(), month(Unit::Tokens)));
        // Behind its birth; and one that begins a sum itself.
        let (posting, id) = (ledger.clone(), id.clone());
        slow.spawn(async move {
            let post = settle("behind")
                .of(&id)
                .naming([month(Unit::Requests), month(Unit::Credits)])
                .post();
            assert!(matches!(posting.post(post).await, Ok(Posted::Done { .. })));
            0
        });
    }
    for n in 0..60 {
        let id = format!("small_{}", n % 6);
        book.done(settle(&format!("r{n}")).of(&id).naming([month(Unit::Requests)])).await;
        assert!(born(ledger.clone(), format!("new_{n}"), month(Unit::Tokens)).await == 0);
    }
    assert!(slow.try_join_next().is_none(), "those at the gate wait");
    execute(&mut stranger, "DELETE FROM gate").await.expect("the gate opens");
    let spent: Vec<i64> = slow.join_all().await;
    assert_eq!(spent.iter().filter(|spent| **spent >= 1).count(), big.len(), "{spent:?}");
    for id in &big {
        assert_eq!(book.rows(id, &Whose::Workspace).await.len(), 3, "{id}");
    }
    book.balances().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_birth_that_does_not_even_end_in_its_time_keeps_no_post_waiting() {
    let (ledger, url) = with_one_writer(server!()).await;
    ledger.post(settle("before").of("big").post()).await.expect("the ledger answers");
    let (mut stranger, mut watcher) = (stranger(&url).await, super::stranger(&url).await);
    execute(&mut stranger, GATE).await.expect("a gate");
    execute(&mut stranger, STUBBORN).await.expect("a gate");
    let slow = tokio::spawn(born(ledger.clone(), "big".to_owned(), month(Unit::Tokens)));
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE mode = 'RowExclusiveLock' AND relation = 'counter_sum'::regclass)";
    until("it is at the gate", async || is_true(&mut watcher, waits).await).await;
    for n in 0..5 {
        let post = ledger.post(settle(&format!("r{n}")).of("small").naming([month(Unit::Requests)]).post());
        let answer = tokio::time::timeout(Duration::from_secs(10), post).await.expect("nobody waits");
        assert!(matches!(answer, Ok(Posted::Done { .. })), "{answer:?}");
    }
    assert!(!slow.is_finished(), "it is at the gate");
    execute(&mut stranger, "DELETE FROM gate").await.expect("the gate opens");
    assert_eq!(slow.await.expect("a task"), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_whose_workspace_is_locked_keeps_no_other_workspace_waiting() {
    let (ledger, url) = with_one_writer(server!()).await;
    for id in ["locked", "free"] {
        ledger.post(settle("before").of(id).post()).await.expect("the ledger answers");
    }
    let (mut stranger, mut watcher) = (stranger(&url).await, super::stranger(&url).await);
    execute(
        &mut stranger,
        "BEGIN; SELECT FROM workspace WHERE workspace_id = 'locked' FOR UPDATE",
    )
    .await
    .expect("the lock");
    let mut slow = JoinSet::new();
    let post_slowly = |slow: &mut JoinSet<_>, number: usize| {
        let (posting, post) = (ledger.clone(), settle(&format!("r{number}")).of("locked").post());
        slow.spawn(async move { posting.post(post).await });
    };
    post_slowly(&mut slow, 0);
    let waits = "SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) \
                 WHERE l.relation = 'workspace'::regclass AND a.wait_event_type = 'Lock')";
    until("it waits for the lock", async || is_true(&mut watcher, waits).await).await;
    // What comes behind it goes aside untried: each try would take the only writer 200 ms, and the first gives up after 5 s.
    for n in 1..=40 {
        post_slowly(&mut slow, n);
        let answer = ledger.post(settle(&format!("r{n}")).of("free").post()).await;
        assert!(matches!(answer, Ok(Posted::Done { .. })), "{answer:?}");
        assert!(slow.try_join_next().is_none(), "they wait aside");
    }
    execute(&mut stranger, "ROLLBACK").await.expect("the lock is let go");
    for answer in slow.join_all().await {
        assert!(matches!(answer, Ok(Posted::Done { .. })), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_aside_is_written_before_the_ledger_is_closed() {
    let (book, ledger, url) = plain(server!()).await;
    book.done(settle("before").of("big").naming([month(Unit::Requests)])).await;
    let mut stranger = stranger(&url).await;
    execute(&mut stranger, GATE).await.expect("a gate");
    let mut waiting = JoinSet::new();
    for n in 0..20 {
        let ledger = ledger.clone();
        let post = settle(&format!("r{n}")).of("big").naming([month(Unit::Tokens)]).post();
        waiting.spawn(async move { ledger.post(post).await });
    }
    // Beyond the time of a batch, so that it is aside.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let closing = tokio::spawn({
        let ledger = ledger.clone();
        async move { ledger.close().await }
    });
    execute(&mut stranger, "DELETE FROM gate").await.expect("the gate opens");
    closing.await.expect("it is closed");
    for answer in waiting.join_all().await {
        assert!(matches!(answer, Ok(Posted::Done { .. })), "{answer:?}");
    }
    let again = open(&url).await;
    assert_eq!(born(again, "big".to_owned(), month(Unit::Requests)).await, 21);
}
