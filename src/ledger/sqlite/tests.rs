//! The contract over SQLite, and what only a file can do: be tampered with, full, locked, or no database at all.

mod billing;
mod ends;

use super::writer::{BATCH_WRITES_MAX, QUEUE_WRITES_MAX};
use super::*;
use crate::decision::amount::Unit;
use crate::decision::standing::End;
use crate::ledger::SumDifference;
use crate::ledger::audit::{AuditLedger, AuditQuery};
use crate::ledger::contract::book::{Book, But, NOON, all, at, audited, checkpoint, month, of_one, settle, workspace, written};
use crate::ledger::contract::{Fixture, ledger_contract};
use sqlx::AssertSqlSafe;
use std::error::Error;
use std::future::Future;
use tempfile::TempDir;
use tokio::task::JoinSet;

struct InFolder {
    folder: TempDir,
    ledger: Arc<SqliteLedger>,
}

async fn in_folder() -> Option<Box<dyn Fixture>> {
    let folder = tempfile::tempdir().expect("a folder");
    let ledger = Arc::new(SqliteLedger::open(folder.path()).await.expect("a new ledger"));
    Some(Box::new(InFolder { folder, ledger }))
}

#[async_trait]
impl Fixture for InFolder {
    fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }

    async fn reopen(&mut self) {
        self.ledger.close().await;
        self.ledger = Arc::new(SqliteLedger::open(self.folder.path()).await.expect("the ledger that is there"));
    }
}

ledger_contract!(in_folder);

/// A ledger of these options, the book over it, and its folder, which lives as long as it is held.
async fn with_options(options: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions) -> (Book, Arc<SqliteLedger>, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_owned();
    let file = File::new(&path);
    let file = File {
        options: options(file.options),
        path: file.path,
    };
    let ledger = Arc::new(SqliteLedger::open_file(file).await.expect("a new ledger"));
    let book = Book::over(Box::new(InFolder {
        folder,
        ledger: ledger.clone(),
    }));
    (book, ledger, path)
}

async fn plain() -> (Book, Arc<SqliteLedger>, PathBuf) {
    with_options(|options| options).await
}

/// A stranger's way into the file.
async fn stranger(folder: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(folder.join(FILE_NAME));
    options.connect().await.expect("the file")
}

async fn execute(connection: &mut SqliteConnection, statement: &str) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}

/// The whole of an error, causes included.
fn told(error: &LedgerError) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        told += &format!(": {inner}");
        cause = inner.source();
    }
    told
}

#[tokio::test]
async fn entries_cannot_be_changed_or_deleted_by_anyone() {
    let (book, _, folder) = plain().await;
    book.done(settle("r")).await;
    let before = book.entries("ws_a").await;
    let mut stranger = stranger(&folder).await;
    execute(&mut stranger, "PRAGMA recursive_triggers = ON").await.expect("a setting");
    for statement in [
        "UPDATE entry SET counted_tokens = 0",
        "UPDATE entry SET tags = tags",
        "DELETE FROM entry",
        "INSERT OR REPLACE INTO entry SELECT * FROM entry",
    ] {
        let refused = execute(&mut stranger, statement).await.expect_err(statement);
        assert!(refused.to_string().contains("append-only"), "{statement}: {refused}");
    }
    assert_eq!(book.entries("ws_a").await, before);
}

#[tokio::test]
async fn the_audit_log_cannot_be_changed_or_deleted_by_anyone() {
    let (book, ledger, folder) = plain().await;
    let new = Workspace::unknown(workspace("ws_a"), at(1));
    let put = book.ledger().put_workspace(&new, 0, audited("workspace.put", "ws_a")).await;
    assert!(put.expect("the ledger answers"));
    let query = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    let before = ledger.audit_log(&query).await.expect("the ledger answers");
    assert_eq!(before.len(), 1);
    let mut stranger = stranger(&folder).await;
    execute(&mut stranger, "PRAGMA recursive_triggers = ON").await.expect("a setting");
    for statement in [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "INSERT OR REPLACE INTO audit_log SELECT * FROM audit_log",
    ] {
        let refused = execute(&mut stranger, statement).await.expect_err(statement);
        assert!(refused.to_string().contains("append-only"), "{statement}: {refused}");
    }
    assert_eq!(ledger.audit_log(&query).await.expect("the ledger answers"), before);
}

#[tokio::test]
async fn each_sum_that_was_tampered_with_is_named() {
    let (book, ledger, folder) = plain().await;
    let counters = [
        month(Unit::Tokens),
        month(Unit::Usd),
        month(Unit::Tokens).of_user("usr_1"),
        month(Unit::Requests).of_feature("chat"),
    ];
    book.done(settle("a").naming(counters.clone())).await;
    book.done(checkpoint("b").tokens(11)).await;
    book.balances().await;
    let mut stranger = stranger(&folder).await;
    execute(&mut stranger, "UPDATE counter_sum SET spent = spent - 1 WHERE unit = 'tokens'")
        .await
        .expect("tampered");
    let mut differences = ledger.verify().await.expect("the ledger answers");
    differences.sort_by(|a, b| a.counter.cmp(&b.counter));
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
    let (book, ledger, folder) = plain().await;
    book.done(checkpoint("r")).await;
    book.done(settle("s").naming([month(Unit::Tokens)])).await;
    let mut stranger = stranger(&folder).await;
    execute(&mut stranger, "UPDATE checkpoint SET entry = '{}'")
        .await
        .expect("tampered");
    execute(&mut stranger, "UPDATE workspace SET seats = 'many'")
        .await
        .expect("tampered");
    for error in [
        told(&ledger.workspace(&workspace("ws_a")).await.expect_err("seats are no number")),
        told(
            &ledger
                .checkpoints_due(at(1_000_000), 10)
                .await
                .expect_err("the checkpoint is no entry"),
        ),
    ] {
        assert!(
            error.contains("weir.db") && error.contains("column") && error.contains("backup"),
            "{error}"
        );
    }
    let mut racing = JoinSet::new();
    for n in 0..20 {
        let post = if n == 7 { settle("r").on(1) } else { settle(&format!("r{n}")) };
        let ledger = ledger.clone();
        racing.spawn(async move { ledger.post(post.post()).await });
    }
    let answers = racing.join_all().await;
    assert_eq!(
        answers
            .iter()
            .filter(|answer| matches!(answer, Err(LedgerError::Corrupt { .. })))
            .count(),
        1
    );
    assert_eq!(
        answers.iter().filter(|answer| matches!(answer, Ok(Posted::Done { .. }))).count(),
        19
    );
}

#[tokio::test]
async fn a_writer_that_panics_costs_its_batch_an_error_and_nothing_more() {
    let (book, ledger, _) = plain().await;
    book.done(settle("before").naming([month(Unit::Tokens)])).await;
    for _ in 0..3 {
        let failed = ledger.writer.ask("panic", (), Job::Panic).await.expect_err("it panicked");
        assert!(matches!(failed, LedgerError::Unavailable { act: "panic", .. }), "{failed:?}");
    }
    book.done(settle("after")).await;
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 200);
    book.balances().await;
}

#[tokio::test]
async fn a_full_disk_is_named_and_nothing_is_half_written() {
    let (book, ledger, _) = with_options(|options| options.pragma("max_page_count", "160")).await;
    let mut recorded = 0;
    let error = loop {
        let answer = ledger
            .post(settle(&format!("r{recorded}")).naming([month(Unit::Requests)]).post())
            .await;
        match answer {
            Ok(_) => recorded += 1,
            Err(error) => break told(&error),
        }
        assert!(recorded < 10_000, "the disk does not fill");
    };
    assert!(
        error.contains("full") && error.contains("free some space") && error.contains("weir.db"),
        "{error}"
    );
    assert!(recorded > 10, "{recorded}");
    assert_eq!(book.spent(&month(Unit::Requests)).await, recorded);
    assert_eq!(book.standing(&format!("r{recorded}")).await, None);
    let again = book.refused(settle("r0")).await;
    assert_eq!(again.end, Some(End::Settled), "what needs no space is still answered");
    book.balances().await;
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_named() {
    let (book, ledger, folder) = with_options(|options| options.busy_timeout(Duration::from_millis(20))).await;
    book.done(settle("before").naming([month(Unit::Tokens)])).await;
    let mut stranger = stranger(&folder).await;
    execute(&mut stranger, "BEGIN IMMEDIATE").await.expect("the lock");
    let error = ledger.post(settle("r").post()).await.expect_err("the file is locked");
    assert!(
        told(&error).contains("another process") && told(&error).contains("weir.db"),
        "{}",
        told(&error)
    );
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 100, "reads go on");
    execute(&mut stranger, "ROLLBACK").await.expect("the lock is let go");
    book.done(settle("r")).await;
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 200);
}

#[tokio::test]
async fn writes_beyond_the_queue_are_refused_at_once_and_the_others_are_written() {
    let (book, ledger, folder) = plain().await;
    book.done(settle("before").naming([month(Unit::Requests)])).await;
    let mut stranger = stranger(&folder).await;
    execute(&mut stranger, "BEGIN IMMEDIATE").await.expect("the lock");
    let most = QUEUE_WRITES_MAX + BATCH_WRITES_MAX;
    let mut waiting = Vec::new();
    let mut refused = 0;
    for n in 0..=most {
        let mut post = Box::pin(ledger.post(settle(&format!("r{n}")).post()));
        match poll_once(&mut post).await {
            None => waiting.push(post),
            Some(Err(LedgerError::Busy)) => refused += 1,
            Some(other) => panic!("{other:?}"),
        }
    }
    assert!(refused >= 1, "{} wait", waiting.len());
    assert!(waiting.len() >= QUEUE_WRITES_MAX, "{} wait", waiting.len());
    let taken = waiting.len();
    drop(waiting);
    execute(&mut stranger, "ROLLBACK").await.expect("the lock is let go");
    ledger.close().await;
    let reopened = SqliteLedger::open(&folder).await.expect("the ledger that is there");
    let rows = reopened
        .rows(&workspace("ws_a"), &Whose::Workspace, &[], at(NOON))
        .await
        .expect("the ledger answers");
    assert_eq!(usize::try_from(rows[0].spent).expect("a number of posts"), taken + 1);
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    std::future::poll_fn(|context| match std::pin::Pin::new(&mut *future).poll(context) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_closed_ledger_has_written_what_waited_and_says_that_it_is_closed() {
    let (_book, ledger, folder) = plain().await;
    let mut racing = JoinSet::new();
    for n in 0..200 {
        let ledger = ledger.clone();
        racing.spawn(async move { ledger.post(settle(&format!("r{n}")).post()).await });
    }
    tokio::task::yield_now().await;
    ledger.close().await;
    let answers = racing.join_all().await;
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(told(error).contains("closed"), "{}", told(error));
    }
    assert!(done > 0);
    assert!(told(&ledger.ping().await.expect_err("it is closed")).contains("closed"));
    ledger.close().await;
    let reopened = SqliteLedger::open(&folder).await.expect("the ledger that is there");
    let listed = reopened.entries(&all("ws_a")).await.expect("the ledger answers");
    assert_eq!(listed.len(), done, "each that was answered is there, and no other");
}

#[tokio::test]
async fn two_ledgers_over_one_file_keep_one_truth() {
    let (book, _, folder) = plain().await;
    let other = Arc::new(SqliteLedger::open(&folder).await.expect("the same file"));
    let mut racing = JoinSet::new();
    for n in 0..60 {
        let ledger: Arc<dyn Ledger> = if n % 2 == 0 { other.clone() } else { book.ledger() };
        let draft = settle(&format!("r{}", n / 3)).naming([month(Unit::Requests)]);
        racing.spawn(async move { ledger.post(draft.post()).await.expect("the ledger answers") });
    }
    assert_eq!(written(&racing.join_all().await), 20);
    assert_eq!(book.spent(&month(Unit::Requests)).await, 20);
    book.balances().await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join(FILE_NAME);
    let text = "someone's notes, and long enough to be looked at as if they were the first page of something".repeat(20);
    std::fs::write(&file, &text).expect("a file");
    let error = SqliteLedger::open(folder.path()).await.err().expect("it is no database");
    assert!(told(&error).contains("weir.db"), "{}", told(&error));
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), text);
}

#[tokio::test]
async fn a_directory_is_made_and_one_that_cannot_be_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("a/b");
    SqliteLedger::open(&deep).await.expect("a new ledger").close().await;
    assert!(deep.join(FILE_NAME).exists());
    let below_a_file = deep.join(FILE_NAME).join("c");
    let error = SqliteLedger::open(&below_a_file).await.err().expect("a file is no directory");
    assert!(told(&error).contains("directory"), "{}", told(&error));
}

#[tokio::test]
async fn no_statement_of_the_hot_path_or_of_a_list_walks_a_whole_table() {
    use crate::ledger::record::{StandingRecord, SumRecord};
    use crate::ledger::sql as shared;
    const STORED: [&str; 7] = [
        "entry",
        "part",
        "checkpoint",
        "standing",
        "reservation_end",
        "workspace",
        "policy_version",
    ];
    let (_book, _, folder) = plain().await;
    let mut stranger = stranger(&folder).await;
    let statements = [
        sql::CHECKPOINTS_DUE.to_owned(),
        shared::entries(&all("ws_a")),
        shared::entries(&of_one("usr_1", "chat", "m1")),
        shared::RECORDED.to_owned(),
        shared::SUMS.to_owned(),
        shared::WORKSPACE.to_owned(),
        shared::WORKSPACES_CHANGED.to_owned(),
        shared::WORKSPACE_CHANGE.to_owned(),
        shared::WORKSPACE_ON_PLAN.to_owned(),
        shared::POLICY_VERSION.to_owned(),
        sql::standings(3),
        sql::entries(3),
        sql::sum_versions(3),
        sql::sums_at(3),
        sql::sums_unborn(3),
        sql::insert::<StandingRecord>(3),
        sql::insert::<SumRecord>(3),
        sql::update_standings(3),
        sql::update_sums(3),
        sql::update_sum_versions(3),
        sql::delete_checkpoints(3),
        shared::EXTEND_CHECKPOINT.to_owned(),
    ];
    for statement in statements {
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
            .fetch_all(&mut stranger)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        for (_, _, _, step) in plan {
            // A batch's own rows, which it calls `item`, are walked; of what is stored nothing is.
            let scanned = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            let is_stored = scanned.is_some_and(|name| STORED.contains(&name) || (name == "counter" && statement.contains("counter_sum")));
            assert!(!is_stored, "{step}\n{statement}");
            // By the key alone a group's rows of all times would be passed over.
            assert!(
                statement != shared::SUMS || step.contains("counter_sum_by_end"),
                "{step}\n{statement}"
            );
            assert!(!step.contains("TEMP B-TREE FOR ORDER BY"), "{step}\n{statement}");
        }
    }
}

#[tokio::test]
async fn a_file_that_a_later_version_has_added_to_is_opened() {
    let (mut book, _, folder) = plain().await;
    book.done(settle("r")).await;
    let mut stranger = stranger(&folder).await;
    for statement in [
        "CREATE TABLE later (id TEXT NOT NULL PRIMARY KEY) STRICT",
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', true, x'00', 0)",
    ] {
        execute(&mut stranger, statement).await.expect("a later version may");
    }
    book.reopen().await;
    book.done(settle("another")).await;
}
