//! What the database keeps by itself: entries that nobody changes, months, and what is named when somebody tampered with it.

use super::*;
use crate::decision::amount::Unit;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::SumDifference;
use crate::ledger::audit::{AuditLedger, AuditQuery};
use crate::ledger::contract::book::{But, at, audited, checkpoint, month, settle, workspace};
use tokio::task::JoinSet;

#[tokio::test]
async fn entries_cannot_be_changed_or_deleted_by_anyone() {
    let (book, _, url) = plain(server!()).await;
    book.done(settle("r")).await;
    let before = book.entries("ws_a").await;
    let mut stranger = stranger(&url).await;
    for statement in [
        "UPDATE entry SET counted_tokens = 0",
        "UPDATE entry SET tags = tags",
        "DELETE FROM entry",
        "DELETE FROM entry_other",
        "TRUNCATE entry",
        "TRUNCATE entry_other",
        "INSERT INTO entry SELECT * FROM entry ON CONFLICT (entry_id, occurred_at) DO UPDATE SET late = true",
    ] {
        let refused = execute(&mut stranger, statement).await.expect_err(statement);
        assert!(refused.to_string().contains("append-only"), "{statement}: {refused}");
    }
    let months: Vec<String> = sqlx::query_scalar("SELECT inhrelid::regclass::TEXT FROM pg_inherits WHERE inhparent = 'entry'::regclass")
        .fetch_all(&mut stranger)
        .await
        .expect("the database");
    assert_eq!(
        months.len(),
        7,
        "two months back, this one, three ahead, and all others: {months:?}"
    );
    for month in months {
        let refused = execute(&mut stranger, &format!("TRUNCATE {month}")).await.expect_err(&month);
        assert!(refused.to_string().contains("append-only"), "{month}: {refused}");
    }
    assert_eq!(book.entries("ws_a").await, before);
}

#[tokio::test]
async fn the_audit_log_cannot_be_changed_or_deleted_by_anyone() {
    let (book, ledger, url) = plain(server!()).await;
    let new = Workspace::unknown(workspace("ws_a"), at(1));
    let put = book.ledger().put_workspace(&new, 0, audited("workspace.put", "ws_a")).await;
    assert!(put.expect("the ledger answers"));
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let before = ledger.audit_log(&query).await.expect("the ledger answers");
    assert_eq!(before.len(), 1);
    let mut stranger = stranger(&url).await;
    for statement in [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "INSERT INTO audit_log SELECT * FROM audit_log ON CONFLICT (audit_id) DO UPDATE SET actor = 'nobody'",
    ] {
        let refused = execute(&mut stranger, statement).await.expect_err(statement);
        assert!(refused.to_string().contains("append-only"), "{statement}: {refused}");
    }
    assert_eq!(ledger.audit_log(&query).await.expect("the ledger answers"), before);
}

#[tokio::test]
async fn an_entry_of_now_is_in_the_partition_of_its_month_and_one_of_long_ago_is_kept_too() {
    let (book, _, url) = plain(server!()).await;
    let mut stranger = stranger(&url).await;
    let now: i64 = sqlx::query_scalar("SELECT CAST(EXTRACT(EPOCH FROM now()) AS BIGINT)")
        .fetch_one(&mut stranger)
        .await
        .expect("the database");
    book.done(settle("now").at(now)).await;
    book.done(settle("once").at(1)).await;
    let places: Vec<(String, bool)> = sqlx::query_as(
        "SELECT request_id, tableoid::regclass::TEXT = 'entry_' || to_char(to_timestamp(occurred_at / 1000000) AT TIME ZONE 'UTC', 'YYYY_MM') \
         FROM entry ORDER BY request_id",
    )
    .fetch_all(&mut stranger)
    .await
    .expect("the database");
    assert_eq!(places, [("now".to_owned(), true), ("once".to_owned(), false)]);
    assert_eq!(book.entries("ws_a").await.len(), 2);
    assert!(book.standing("now").await.expect("it was posted").entry.is_some());
}

#[tokio::test]
async fn a_month_whose_entries_are_elsewhere_already_is_left_there() {
    let (book, _, url) = plain(server!()).await;
    book.done(settle("r").at(1_500)).await;
    let mut stranger = stranger(&url).await;
    let make = async |stranger: &mut PgConnection, name: &str, start: i64| {
        let made = sqlx::query_scalar::<_, bool>("SELECT make_entry_month($1, $2, $3)")
            .bind(name)
            .bind(at(start).micros());
        made.bind(at(start + 1_000).micros()).fetch_one(stranger).await.expect("an answer")
    };
    assert!(!make(&mut stranger, "entry_taken", 1_000).await);
    assert!(make(&mut stranger, "entry_free", 2_000).await);
    assert!(make(&mut stranger, "entry_free", 2_000).await, "it is there");
    book.done(settle("s").at(2_500)).await;
    assert_eq!(book.entries("ws_a").await.len(), 2);
}

#[tokio::test]
async fn each_sum_that_was_tampered_with_is_named() {
    let (book, ledger, url) = plain(server!()).await;
    let counters = [
        month(Unit::Tokens),
        month(Unit::Usd),
        month(Unit::Tokens).of_user("usr_1"),
        month(Unit::Requests).of_feature("chat"),
    ];
    book.done(settle("a").naming(counters.clone())).await;
    book.done(checkpoint("b").tokens(11)).await;
    book.balances().await;
    let mut stranger = stranger(&url).await;
    execute(&mut stranger, "UPDATE counter_sum SET spent = spent - 1 WHERE unit = 'tokens'")
        .await
        .expect("tampered");
    let differences = ledger.verify().await.expect("the ledger answers");
    let expected = [&counters[0], &counters[2]].map(|counter| SumDifference {
        workspace: workspace("ws_a"),
        counter: counter.clone(),
        row: 110,
        entries: 111,
    });
    assert_eq!(differences, expected);
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_spoils_nothing_else() {
    let (book, ledger, url) = plain(server!()).await;
    book.done(checkpoint("r")).await;
    book.done(settle("s")).await;
    let mut stranger = stranger(&url).await;
    execute(
        &mut stranger,
        "UPDATE checkpoint SET entry = '{}'; UPDATE workspace SET seats = 'many'",
    )
    .await
    .expect("tampered");
    for error in [
        told(&ledger.workspace(&workspace("ws_a")).await.expect_err("seats are no number")),
        told(
            &ledger
                .checkpoints_due(Timestamp::MAX, 10)
                .await
                .expect_err("the checkpoint is no entry"),
        ),
    ] {
        assert!(
            error.contains("PostgreSQL at 127.0.0.1") && error.contains("column") && error.contains("backup"),
            "{error}"
        );
    }
    let mut racing = JoinSet::new();
    for n in 0..20 {
        // Two are refused; the standing of one of them cannot be told.
        let post = match n {
            7 => settle("r"),
            8 => settle("s"),
            _ => settle(&format!("r{n}")),
        };
        let ledger = ledger.clone();
        racing.spawn(async move { ledger.post(post.post()).await });
    }
    let answers = racing.join_all().await;
    let count = |is_one: fn(&Result<Posted, LedgerError>) -> bool| answers.iter().filter(|answer| is_one(answer)).count();
    assert_eq!(count(|answer| matches!(answer, Err(LedgerError::Corrupt { .. }))), 1);
    assert_eq!(count(|answer| matches!(answer, Ok(Posted::Stands(_)))), 1);
    assert_eq!(count(|answer| matches!(answer, Ok(Posted::Done { .. }))), 18);
}

#[tokio::test]
async fn a_writer_that_panics_costs_its_batch_an_error_and_nothing_more() {
    let (book, ledger, _) = plain(server!()).await;
    book.done(settle("before").naming([month(Unit::Tokens)])).await;
    for _ in 0..5 {
        ledger.writers.queue(writer::Job::Panic).expect("room in the queue");
    }
    until("the writers are back", async || ledger.post(settle("after").post()).await.is_ok()).await;
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 200);
    book.balances().await;
}
