//! The trap of a statement that locks and reads at once: it reads as of its beginning, which is before it waited for the lock. The wrong
//! form is kept here to show what it does; ours is held to the same interleaving, and to many that nobody chose.

use super::*;
use crate::decision::amount::Unit;
use crate::ledger::contract::book::{But, Draft, at, month, period, settle, workspace};
use crate::ledger::postgres::call::{Outcome, Teller, Write, post_batch};
use crate::ledger::record::EntryRecord;
use tokio::task::JoinSet;

/// Locks, records, moves the row and gives birth to it where it is missing: all in one statement. Looks right.
const IN_ONE_STATEMENT: &str = "WITH locked AS MATERIALIZED (SELECT workspace_id FROM workspace WHERE workspace_id = 'ws_a' FOR NO KEY UPDATE), \
     written AS (INSERT INTO entry SELECT new.* FROM locked, json_populate_record(NULL::entry, $1::JSON) AS new \
     RETURNING workspace_id, occurred_at, counted_tokens), \
     moved AS (UPDATE counter_sum AS c SET spent = c.spent + written.counted_tokens FROM written \
     WHERE c.workspace_id = written.workspace_id AND c.period_start <= written.occurred_at AND c.period_end > written.occurred_at \
     RETURNING c.workspace_id) \
     INSERT INTO counter_sum SELECT written.workspace_id, '*', '*', 'tokens', 'month', $2, $3, written.counted_tokens + COALESCE((\
     SELECT SUM(e.counted_tokens)::BIGINT FROM entry AS e WHERE e.workspace_id = written.workspace_id AND e.occurred_at >= $2 \
     AND e.occurred_at < $3), 0), 1 FROM written WHERE NOT EXISTS (SELECT FROM moved) ON CONFLICT DO NOTHING";

async fn record_in_one_statement(connection: &mut PgConnection, draft: &Draft) -> Result<(), sqlx::Error> {
    let doc = serde_json::to_string(&EntryRecord::from(&draft.entry)).expect("a document");
    let month = month(Unit::Tokens).period;
    let statement = sqlx::query(IN_ONE_STATEMENT)
        .bind(doc)
        .bind(month.start.micros())
        .bind(month.end.micros());
    statement.execute(connection).await.map(drop)
}

/// How many statements wait for locks in this database, of those that say `text`.
async fn waiting(watcher: &mut PgConnection, text: &str) -> i64 {
    let waiting = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND position($1 in query) > 0 AND pid <> pg_backend_pid()",
    );
    waiting.bind(text).fetch_one(watcher).await.expect("the database")
}

#[tokio::test]
async fn a_statement_that_locks_and_reads_at_once_loses_what_was_written_while_it_waited() {
    let (book, ledger, url) = plain(server!()).await;
    book.done(settle("before").at(1)).await;
    let (mut first, mut second, mut watcher) = (stranger(&url).await, stranger(&url).await, stranger(&url).await);
    execute(&mut first, "BEGIN").await.expect("a transaction");
    record_in_one_statement(&mut first, &settle("a").tokens(100))
        .await
        .expect("recorded");
    let racing = tokio::spawn(async move {
        let recorded = record_in_one_statement(&mut second, &settle("b").tokens(20)).await;
        recorded.expect("recorded");
    });
    until("the second one waits", async || waiting(&mut watcher, "WITH locked").await > 0).await;
    execute(&mut first, "COMMIT").await.expect("committed");
    racing.await.expect("no error: that is the trap");
    let differences = ledger.verify().await.expect("the ledger answers");
    assert_eq!(
        differences.iter().map(|wrong| (wrong.row, wrong.entries)).collect::<Vec<_>>(),
        [(100, 120)],
        "the row was born while the second one waited, and it never saw it"
    );
}

#[tokio::test]
async fn a_batch_sees_what_was_written_while_it_waited() {
    let (book, ledger, url) = plain(server!()).await;
    book.done(settle("before").at(1)).await;
    let (mut first, mut watcher) = (stranger(&url).await, stranger(&url).await);
    execute(&mut first, "BEGIN").await.expect("a transaction");
    let a = settle("a").tokens(100).naming([month(Unit::Tokens)]).post();
    let outcomes = post_batch(&mut first, &[Write::Post(&a)], Teller::Nobody).await.expect("written");
    assert!(
        matches!(&outcomes[..], [Outcome::Done(rows, _)] if rows[0].spent == 100),
        "{outcomes:?}"
    );
    let b = settle("b").tokens(20).naming([month(Unit::Tokens)]).post();
    let same = settle("a").tokens(7).post();
    let racing = tokio::spawn(async move { tokio::join!(ledger.post(b), ledger.post(same)) });
    until("the second one waits", async || waiting(&mut watcher, "post_batch").await > 0).await;
    execute(&mut first, "COMMIT").await.expect("committed");
    let (b, same) = racing.await.expect("a task");
    assert!(matches!(b, Ok(Posted::Done { rows, .. }) if rows[0].spent == 120));
    assert!(matches!(same, Ok(Posted::Stands(standing)) if standing.entry.as_ref() == a.entries.first()));
    book.balances().await;
}

#[tokio::test]
async fn a_batch_refuses_every_isolation_but_read_committed() {
    let (book, _, url) = plain(server!()).await;
    book.done(settle("before")).await;
    for isolation in ["REPEATABLE READ", "SERIALIZABLE"] {
        let mut stranger = stranger(&url).await;
        execute(&mut stranger, &format!("BEGIN ISOLATION LEVEL {isolation}"))
            .await
            .expect("a transaction");
        let post = settle("r").post();
        let refused = post_batch(&mut stranger, &[Write::Post(&post)], Teller::Nobody)
            .await
            .expect_err(isolation);
        assert!(refused.to_string().contains("READ COMMITTED"), "{refused}");
    }
    assert_eq!(book.standing("r").await, None);
}

/// A counter of the hundred seconds around this one, so that new rows are born all the time.
fn around(second: i64) -> Counter {
    let start = second / 100 * 100;
    month(Unit::Tokens).within(period(start, start + 100))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_born_in_mid_flight_on_several_nodes_are_the_sums_of_their_entries() {
    const NODES: usize = 4;
    const POSTS: i64 = 150;
    let (book, _, url) = plain(server!()).await;
    let mut racing = JoinSet::new();
    for node in 0..NODES {
        let ledger = open(&url).await;
        racing.spawn(async move {
            for n in 0..POSTS {
                // All nodes come to a new row at about the same time; half of the posts name it, the others only fall into it.
                let second = 1_000 + n * 10;
                let draft = settle(&format!("r{node}_{n}")).tokens(1 + n).at(second);
                let draft = match n % 2 {
                    0 => draft.naming([
                        around(second),
                        around(second).of_user("usr_1"),
                        month(Unit::Requests).within(period(0, 9_000)),
                    ]),
                    _ => draft,
                };
                let posted = ledger.post(draft.post()).await.expect("the ledger answers");
                assert!(matches!(posted, Posted::Done { .. }));
            }
        });
    }
    racing.join_all().await;
    book.balances().await;
    let rows = book.rows("ws_a", &Whose::Workspace).await;
    let tokens: i64 = rows
        .iter()
        .filter(|row| row.counter.unit == Unit::Tokens)
        .map(|row| row.spent)
        .sum();
    assert_eq!(
        tokens,
        NODES as i64 * (1..=POSTS).sum::<i64>(),
        "each entry falls into exactly one of these rows"
    );
    let requests = rows.iter().find(|row| row.counter.unit == Unit::Requests).expect("a row");
    assert_eq!(requests.spent, NODES as i64 * POSTS);
    let readers = book.ledger().rows(&workspace("ws_a"), &Whose::Workspace, &[], at(0)).await;
    assert_eq!(readers.expect("the ledger answers").len(), rows.len());
}
