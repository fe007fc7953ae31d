//! Several nodes over one database: they race for the same reservations, cross in the same workspaces, and hear of each other's changes.

use super::*;
use crate::decision::amount::Unit;
use crate::decision::standing::End;
use crate::decision::workspace::Workspace;
use crate::ledger::PolicyChange;
use crate::ledger::contract::book::{Draft, end, month, reservation, settle, workspace, written};
use crate::ledger::contract::book::{at, audited, by};
use crate::ledger::health::HealthLedger;
use tokio::task::JoinSet;

async fn nodes(url: &str, nodes: usize) -> Vec<Arc<PostgresLedger>> {
    let mut opened = Vec::new();
    for _ in 0..nodes {
        opened.push(open(url).await);
    }
    opened
}

/// Each draft from the node of its number, all at once.
async fn race(nodes: &[Arc<PostgresLedger>], drafts: impl IntoIterator<Item = (usize, Draft)>) -> Vec<Posted> {
    let mut racing = JoinSet::new();
    for (node, draft) in drafts {
        let ledger = nodes[node % nodes.len()].clone();
        racing.spawn(async move { ledger.post(draft.post()).await.expect("the ledger answers") });
    }
    racing.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_same_reservations_on_several_nodes_each_ends_once() {
    const RESERVATIONS: usize = 80;
    let (book, _, url) = plain(server!()).await;
    let nodes = nodes(&url, 3).await;
    let drafts = (0..RESERVATIONS * 6).map(|n| {
        let request = format!("r{}", n / 6);
        let draft = match n % 6 {
            0 => end(&request, End::Released),
            1 => end(&request, End::Expired),
            _ => settle(&request).tokens(1_000 + n as i64),
        };
        (n, draft.naming([month(Unit::Tokens)]))
    });
    assert_eq!(written(&race(&nodes, drafts).await), RESERVATIONS);
    let mut tokens = 0;
    for n in 0..RESERVATIONS {
        let standing = book.standing(&format!("r{n}")).await.expect("one was written");
        assert_eq!(standing.revision, 1);
        assert_eq!(standing.entry.is_some(), standing.end == Some(End::Settled));
        tokens += standing.entry.map_or(0, |entry| entry.counted.tokens);
    }
    assert_eq!(book.spent(&month(Unit::Tokens)).await, tokens);
    assert_eq!(
        book.entries("ws_a").await.iter().map(|entry| entry.counted.tokens).sum::<i64>(),
        tokens
    );
    book.balances().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_cross_in_many_workspaces_never_wait_for_each_other_in_a_circle() {
    const WORKSPACES: usize = 12;
    const POSTS: usize = 1_200;
    let (book, ledger, url) = plain(server!()).await;
    let mut watcher = stranger(&url).await;
    let deadlocks = async |watcher: &mut PgConnection| {
        let count = sqlx::query_scalar::<_, i64>("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()");
        count.fetch_one(watcher).await.expect("the database")
    };
    let before = deadlocks(&mut watcher).await;
    let nodes = nodes(&url, 4).await;
    // None of the workspaces exists: their births cross as well. Odd nodes meet them backwards.
    let drafts = (0..POSTS).map(|n| {
        let (node, step) = (n % 4, n / 4);
        let place = if node % 2 == 0 {
            step % WORKSPACES
        } else {
            WORKSPACES - 1 - step % WORKSPACES
        };
        let draft = settle(&format!("r{n}")).of(&format!("ws_{place}")).tokens(1);
        (node, draft.naming([month(Unit::Tokens)]))
    });
    assert_eq!(written(&race(&nodes, drafts).await), POSTS);
    let mut spent = 0;
    for place in 0..WORKSPACES {
        spent += book.rows(&format!("ws_{place}"), &Whose::Workspace).await[0].spent;
    }
    assert_eq!(spent, POSTS as i64);
    assert!(ledger.verify().await.expect("the ledger answers").is_empty());
    assert_eq!(deadlocks(&mut watcher).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_nodes_that_open_a_new_database_at_once_one_makes_the_schema() {
    let url = new_schema(server!()).await;
    let mut racing = JoinSet::new();
    for n in 0..5 {
        let url = url.clone();
        racing.spawn(async move {
            let ledger = open(&url).await;
            ledger.post(settle(&format!("r{n}")).post()).await.expect("the ledger answers")
        });
    }
    assert_eq!(written(&racing.join_all().await), 5);
    let mut stranger = stranger(&url).await;
    let applied: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut stranger)
        .await
        .expect("the database");
    assert_eq!(applied, server::MIGRATIONS.iter().count() as i64);
    // A node of an earlier version starts on it too.
    execute(
        &mut stranger,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (999, 'later', true, '', 0)",
    )
    .await
    .expect("a later migration");
    open(&url).await.ping().await.expect("the ledger answers");
}

/// A table that somebody reads for long is not waited for without end: whoever wants it next would wait behind that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_whose_table_is_in_use_steps_back_and_tries_again() {
    let (_book, _ledger, url) = plain(server!()).await;
    let (mut reader, mut watcher) = (stranger(&url).await, stranger(&url).await);
    execute(&mut reader, "BEGIN; LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("the lock");
    let migrating = tokio::spawn(async move { open(&url).await });
    let mut waits = async |how_many: i64| {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = '_sqlx_migrations'::regclass";
        sqlx::query_scalar::<_, i64>(waiting)
            .fetch_one(&mut watcher)
            .await
            .expect("the database")
            == how_many
    };
    for (what, waiting) in [("it waits", 1), ("it steps back", 0), ("it tries again", 1)] {
        until(what, async || waits(waiting).await).await;
    }
    assert!(!migrating.is_finished());
    execute(&mut reader, "COMMIT").await.expect("the lock is let go");
    migrating.await.expect("a task").ping().await.expect("it serves");
}

#[tokio::test]
async fn a_node_hears_of_what_another_one_describes() {
    let (_book, here, url) = plain(server!()).await;
    let there = open(&url).await;
    let hears = async || {
        let heard = tokio::time::timeout(Duration::from_secs(5), here.changed()).await;
        heard.expect("word within seconds");
    };
    // The first word is that it listens now.
    hears().await;
    let new = Workspace::unknown(workspace("ws_a"), at(1));
    assert!(
        there
            .put_workspace(&new, 0, audited("workspace.put", "ws_a"))
            .await
            .expect("the ledger answers")
    );
    hears().await;
    assert_eq!(here.workspaces_changed(0, 10).await.expect("the ledger answers"), [(1, new)]);
    let change = PolicyChange {
        expected_version: 0,
        objects: vec![],
        by: by("somebody"),
        audited: vec![],
        files_hash: None,
        now: at(1),
    };
    assert_eq!(there.change_policy(change).await.expect("the ledger answers"), Some(1));
    hears().await;
    assert_eq!(here.policy_version().await.expect("the ledger answers"), 1);
}

#[tokio::test]
async fn a_lead_that_another_node_has_is_free_when_that_node_is_gone() {
    let (_book, here, url) = plain(server!()).await;
    let there = open(&url).await;
    let mut lead = there
        .try_lead("sweep")
        .await
        .expect("the ledger answers")
        .expect("nobody leads yet");
    assert!(here.try_lead("sweep").await.expect("the ledger answers").is_none());
    // The other node's connection is lost: it finds out, and somebody else may lead.
    let mut stranger = stranger(&url).await;
    let ended = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = \
                 (hashtext('weir leads ' || current_schema())::BIGINT & 4294967295)::OID";
    execute(&mut stranger, ended).await.expect("ended");
    until("somebody else leads", async || {
        here.try_lead("sweep").await.expect("the ledger answers").is_some()
    })
    .await;
    assert!(!lead.is_held().await);
}

#[tokio::test]
async fn what_is_described_by_a_caller_who_hangs_up_is_written() {
    let (_book, ledger, _) = plain(server!()).await;
    let new = Workspace::unknown(workspace("ws_a"), at(1));
    let gave_up = tokio::time::timeout(Duration::ZERO, ledger.put_workspace(&new, 0, audited("workspace.put", "ws_a")))
        .await
        .is_err();
    assert!(gave_up, "the caller was to go away before the answer");
    until("it is written", async || {
        ledger.workspace(&new.id).await.expect("the ledger answers").is_some()
    })
    .await;
    assert_eq!(ledger.standing(reservation("ws_a", "r")).await.expect("the ledger answers"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_hear_what_the_others_told_lately_and_nothing_of_themselves() {
    let (_, _, url) = plain(server!()).await;
    let nodes = nodes(&url, 2).await;
    let exchange = async |node: usize, report: Option<&str>, now: i64| {
        let report = report.map(|report| report.as_bytes().to_vec());
        let heard = nodes[node]
            .exchange_reports(&format!("node-{node}"), report, at(now), at(now - 60))
            .await;
        let heard = heard.expect("the ledger answers");
        heard
            .into_iter()
            .map(|bytes| String::from_utf8(bytes).expect("text"))
            .collect::<Vec<_>>()
    };
    assert_eq!(exchange(0, Some("a1"), 100).await, Vec::<String>::new());
    assert_eq!(exchange(1, Some("b1"), 100).await, ["a1"]);
    assert_eq!(exchange(0, Some("a2"), 101).await, ["b1"]);
    assert_eq!(exchange(1, None, 102).await, ["a2"], "only the newest");
    assert_eq!(exchange(0, None, 161).await, Vec::<String>::new(), "what is old is not heard");
    // Who tells something takes rows away that are too old.
    assert_eq!(exchange(0, Some("a3"), 300).await, Vec::<String>::new());
    assert_eq!(exchange(1, None, 101).await, ["a3"]);
}
