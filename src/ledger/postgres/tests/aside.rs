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
