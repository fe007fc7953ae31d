//! A server that is stopped, silent, slow or full, a network that loses answers, and callers of whom there are too many. What was answered
//! is there once; what was not can be asked again with the same ids.

use super::proxy::{Proxy, Replies};
use super::*;
use crate::decision::amount::Unit;
use crate::decision::standing::End;
use crate::ledger::contract::book::{NOON, all, at, month, reservation, settle, workspace};
use crate::ledger::postgres::writer::{BATCH_WRITES_MAX, QUEUE_WRITES_MAX};
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use tokio::task::JoinSet;

/// A proxy before the server, and a ledger that knows no other way to it.
async fn behind_a_proxy(server: &TestServer, url: &str, options: impl Fn(&mut Server)) -> (Proxy, Arc<PostgresLedger>) {
    let proxy = Proxy::to(SocketAddr::from(([127, 0, 0, 1], server.port())));
    let through = url.replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    assert_ne!(through, url);
    let mut place = Server::parse(&through).expect("a URL");
    options(&mut place);
    (
        proxy,
        Arc::new(PostgresLedger::open_with(place, Schema::BroughtUpToDate).await.expect("a ledger")),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_before_a_power_cut_is_there_once_and_the_rest_can_be_asked_again() {
    const CALLERS: usize = 24;
    const ANSWERS_BEFORE: usize = 300;
    let Some(server) = TestServer::start() else { return };
    let (book, here, url) = plain(&server).await;
    let there = open(&url).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut racing = JoinSet::new();
    for caller in 0..CALLERS {
        let ledger = if caller % 2 == 0 { here.clone() } else { there.clone() };
        let answered = answered.clone();
        racing.spawn(async move {
            let mut asked = Vec::new();
            for n in 0.. {
                let draft = settle(&format!("r{caller}_{n}"))
                    .tokens(1)
                    .fingerprint(u128::from(u32::MAX) + n)
                    .naming([month(Unit::Tokens)]);
                let answer = ledger.post(draft.clone().post()).await;
                let is_cut = answer.is_err();
                if answer.is_ok() {
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                asked.push((draft, answer));
                if is_cut {
                    break;
                }
            }
            asked
        });
    }
    until("enough is answered", async || answered.load(Ordering::SeqCst) >= ANSWERS_BEFORE).await;
    tokio::task::block_in_place(|| server.stop_immediately());
    let asked: Vec<_> = racing.join_all().await.into_iter().flatten().collect();
    assert!(matches!(
        here.post(settle("while_away").post()).await,
        Err(LedgerError::Unavailable { .. })
    ));
    assert!(told(&here.ping().await.expect_err("it is away")).contains("PostgreSQL at 127.0.0.1"));

    tokio::task::block_in_place(|| server.start_again());
    let mut unknown = 0;
    for (draft, answer) in &asked {
        let request = draft.entry.request_id.as_str();
        match answer {
            Ok(Posted::Done { .. }) => {
                let standing = book
                    .standing(request)
                    .await
                    .unwrap_or_else(|| panic!("{request} was answered, and is gone"));
                assert_eq!((standing.revision, standing.entry.as_ref()), (1, Some(&draft.entry)), "{request}");
            }
            Ok(stands) => panic!("each is posted once: {stands:?}"),
            Err(_) => {
                unknown += 1;
                match here.post(draft.clone().post()).await.expect("the ledger answers again") {
                    Posted::Done { .. } => {}
                    Posted::Stands(standing) => assert_eq!(standing.entry.as_ref(), Some(&draft.entry), "{request}"),
                }
            }
        }
    }
    assert!(unknown > 0 && asked.len() >= ANSWERS_BEFORE, "{unknown} of {}", asked.len());
    assert_eq!(book.spent(&month(Unit::Tokens)).await, asked.len() as i64, "each once");
    book.balances().await;
    tokio::time::timeout(Duration::from_secs(10), here.changed())
        .await
        .expect("it listens again");
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_when_it_is_asked_again() {
    let server = server!();
    let (book, _, url) = plain(server).await;
    // One writer, whose connection has prepared the call by then: another one would wait for more answers than that of the commit.
    let (proxy, ledger) = behind_a_proxy(server, &url, |place| place.writers = 1).await;
    let draft = settle("r").fingerprint(7).naming([month(Unit::Tokens)]);
    ledger.post(settle("before").post()).await.expect("the ledger answers");
    proxy.replies(Replies::Dropped);
    let asking = tokio::spawn({
        let (ledger, post) = (ledger.clone(), draft.clone().post());
        async move { ledger.post(post).await }
    });
    until("it is committed", async || book.standing("r").await.is_some()).await;
    until("its answer is lost", async || proxy.dropped_bytes() > 0).await;
    proxy.mend();
    proxy.cut_once();
    let lost = asking.await.expect("a task").expect_err("nobody heard the answer");
    assert!(
        matches!(lost, LedgerError::Unavailable { .. }) && told(&lost).contains("same ids"),
        "{}",
        told(&lost)
    );
    let Posted::Stands(stands) = ledger.post(draft.clone().post()).await.expect("the ledger answers again") else {
        panic!("written twice");
    };
    assert_eq!((stands.fingerprint, stands.entry.as_ref()), (Some(7), Some(&draft.entry)));
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 200);
    book.balances().await;
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_given_up_and_recovered_from() {
    let server = server!();
    let (book, _, url) = plain(server).await;
    let (proxy, ledger) = behind_a_proxy(server, &url, |place| place.answer_wait = Duration::from_millis(800)).await;
    book.done(settle("before").naming([month(Unit::Tokens)])).await;
    ledger.ping().await.expect("the ledger answers");
    proxy.replies(Replies::Dropped);
    for _ in 0..2 {
        let error = ledger.post(settle("r").post()).await.expect_err("nothing comes back");
        assert!(matches!(error, LedgerError::Unavailable { .. }), "{error:?}");
    }
    let error = ledger.standing(crate::ledger::contract::book::reservation("ws_a", "r")).await;
    assert!(matches!(error, Err(LedgerError::Unavailable { .. })));
    proxy.mend();
    proxy.cut_once();
    until("it is back", async || ledger.ping().await.is_ok()).await;
    until("its writers are back", async || ledger.post(settle("after").post()).await.is_ok()).await;
    until("it is asked again", async || ledger.post(settle("r").post()).await.is_ok()).await;
    let times = book
        .entries("ws_a")
        .await
        .iter()
        .filter(|entry| entry.request_id.as_str() == "r")
        .count();
    assert_eq!(times, 1);
    book.balances().await;
}

#[tokio::test]
async fn a_slow_network_slows_and_breaks_nothing() {
    let server = server!();
    let (book, _, url) = plain(server).await;
    let (proxy, ledger) = behind_a_proxy(server, &url, |_| {}).await;
    proxy.replies(Replies::Delayed(Duration::from_millis(30)));
    let mut racing = JoinSet::new();
    for n in 0..200 {
        let ledger = ledger.clone();
        racing.spawn(async move {
            ledger
                .post(settle(&format!("r{n}")).tokens(1).naming([month(Unit::Tokens)]).post())
                .await
        });
    }
    assert!(racing.join_all().await.iter().all(Result::is_ok));
    assert_eq!(book.spent(&month(Unit::Tokens)).await, 200);
    book.balances().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_for_a_server_that_refuses_connections_is_told_so_before_the_pool_gives_up() {
    let Some(server) = TestServer::start() else { return };
    let (book, _, url) = plain(&server).await;
    book.done(settle("before").of("ws_a")).await;
    let mut place = Server::parse(&url).expect("a URL");
    place.pool_wait = Duration::from_secs(600);
    let ledger = PostgresLedger::open_with(place, Schema::BroughtUpToDate).await.expect("a ledger");
    let ws = workspace("ws_a");
    assert!(ledger.workspace(&ws).await.expect("the ledger answers").is_some());
    tokio::task::block_in_place(|| server.stop_immediately());
    let in_time = Duration::from_secs(60);
    for _ in 0..2 {
        let read = tokio::time::timeout(in_time, ledger.workspace(&ws)).await.expect("told");
        let error = read.expect_err("it is away");
        assert!(told(&error).contains("could not be reached"), "{}", told(&error));
        let extend = ledger.extend_checkpoint(reservation("ws_a", "before"), at(NOON));
        let written = tokio::time::timeout(in_time, extend).await.expect("told");
        assert!(matches!(written, Err(LedgerError::Unavailable { .. })), "{written:?}");
    }
    tokio::task::block_in_place(|| server.start_again());
    assert!(ledger.workspace(&ws).await.expect("the ledger answers again").is_some());
}

#[tokio::test]
async fn a_pool_of_which_every_connection_is_busy_is_named_and_posts_go_on() {
    let url = new_schema(server!()).await;
    let mut place = Server::parse(&url).expect("a URL");
    place.pool_max = 1;
    place.pool_wait = Duration::from_millis(100);
    let ledger = PostgresLedger::open_with(place, Schema::BroughtUpToDate).await.expect("a ledger");
    let busy = ledger.pool.acquire().await.expect("the only one");
    let error = ledger.workspace(&workspace("ws_a")).await.expect_err("every connection is busy");
    assert!(told(&error).contains("busy"), "{}", told(&error));
    assert!(matches!(ledger.post(settle("r").post()).await, Ok(Posted::Done { .. })));
    drop(busy);
    assert!(ledger.workspace(&workspace("ws_a")).await.expect("the ledger answers").is_some());
}

#[tokio::test]
async fn a_workspace_that_somebody_keeps_locked_is_busy_and_the_others_go_on() {
    let (book, ledger, url) = plain(server!()).await;
    for id in ["ws_a", "ws_b", "ws_c"] {
        book.done(settle("before").of(id).naming([month(Unit::Requests)])).await;
    }
    let mut stranger = stranger(&url).await;
    execute(&mut stranger, "BEGIN; SELECT FROM workspace WHERE workspace_id = 'ws_b' FOR UPDATE")
        .await
        .expect("the lock");
    let mut racing = JoinSet::new();
    for n in 0..30 {
        let id = ["ws_a", "ws_b", "ws_c"][n % 3];
        let ledger = ledger.clone();
        racing.spawn(async move { (id, ledger.post(settle(&format!("r{n}")).of(id).post()).await) });
    }
    for (id, answer) in racing.join_all().await {
        match answer {
            Ok(Posted::Done { .. }) => assert_ne!(id, "ws_b"),
            Err(LedgerError::Busy) => assert_eq!(id, "ws_b", "a lock that others hold is not this post's"),
            other => panic!("{id}: {other:?}"),
        }
    }
    execute(&mut stranger, "ROLLBACK").await.expect("the lock is let go");
    assert_eq!(book.rows("ws_b", &Whose::Workspace).await[0].spent, 1, "busy: nothing was written");
    book.done(settle("r1").of("ws_b")).await;
    book.balances().await;
}

/// Somebody locks the workspaces of a batch in the opposite order, and the server ends the batch to set the other one free.
#[tokio::test]
async fn a_batch_that_is_ended_for_a_deadlock_is_written_once_all_the_same() {
    const POSTS: usize = 20;
    /// How often the stranger may be too late: who waits looks for a deadlock once.
    const TRIES_MAX: usize = 60;
    let Some(server) = TestServer::start() else { return };
    let (book, _, url) = plain(&server).await;
    for id in ["ws_a", "ws_b", "ws_c"] {
        book.done(settle("before").of(id).naming([month(Unit::Requests)])).await;
    }
    let lock = |id: &str| format!("SELECT FROM workspace WHERE workspace_id = '{id}' FOR UPDATE");
    let (mut keeper, mut crosswise, mut watcher) = (stranger(&url).await, stranger(&url).await, stranger(&url).await);
    // Of those in a circle the one is ended that looks first. The batch is to look before its wait for a lock is over.
    execute(&mut crosswise, "SET deadlock_timeout = '60s'").await.expect("set");
    for statement in ["ALTER SYSTEM SET deadlock_timeout = '80ms'", "SELECT pg_reload_conf()"] {
        execute(&mut keeper, statement).await.expect("set");
    }
    let mut place = Server::parse(&url).expect("a URL");
    place.writers = 1;
    let ledger = Arc::new(PostgresLedger::open_with(place, Schema::BroughtUpToDate).await.expect("a ledger"));
    let mut waits = async || {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'weir')";
        is_true(&mut watcher, waits).await
    };
    let log = server.data().parent().expect("its folder").join("log");
    let deadlocks = || std::fs::read_to_string(&log).expect("a log").matches("deadlock detected").count();
    let mut written = 0;
    for _ in 0..TRIES_MAX {
        // The only writer is kept until all posts wait for it, and so are one batch.
        execute(&mut keeper, &format!("BEGIN; {}", lock("ws_c"))).await.expect("the lock");
        let busy = tokio::spawn({
            let (ledger, post) = (ledger.clone(), settle(&format!("busy{written}")).of("ws_c").post());
            async move { ledger.post(post).await }
        });
        until("the writer waits", &mut waits).await;
        execute(&mut crosswise, &format!("BEGIN; {}", lock("ws_b")))
            .await
            .expect("the lock");
        let mut batch = Vec::new();
        for n in written..written + POSTS {
            let mut post = Box::pin(ledger.post(settle(&format!("r{n}")).of(["ws_a", "ws_b"][n % 2]).post()));
            assert!(futures_util::poll!(&mut post).is_pending(), "it is in the queue");
            batch.push(post);
        }
        written += POSTS;
        execute(&mut keeper, "ROLLBACK").await.expect("the lock is let go");
        busy.await.expect("a task").expect("written");
        until("the batch has the one and waits for the other", &mut waits).await;
        execute(&mut crosswise, &lock("ws_a"))
            .await
            .expect("it is not this one that is ended");
        execute(&mut crosswise, "ROLLBACK").await.expect("the locks are let go");
        for answer in futures_util::future::join_all(batch).await {
            assert!(matches!(answer, Ok(Posted::Done { .. })), "{answer:?}");
        }
        if deadlocks() > 0 {
            break;
        }
    }
    assert_eq!(deadlocks(), 1, "in {} tries", written / POSTS);
    for id in ["ws_a", "ws_b"] {
        let entries = book.entries(id).await.len();
        assert_eq!(
            (entries, book.rows(id, &Whose::Workspace).await[0].spent),
            (1 + written / 2, 1 + written as i64 / 2),
            "{id}"
        );
    }
    book.balances().await;
}

#[tokio::test]
async fn writes_beyond_the_queue_are_refused_at_once_and_the_others_are_written() {
    let (book, ledger, url) = plain(server!()).await;
    book.done(settle("before").naming([month(Unit::Requests)])).await;
    let mut stranger = stranger(&url).await;
    execute(&mut stranger, "BEGIN; SELECT FROM workspace WHERE workspace_id = 'ws_a' FOR UPDATE")
        .await
        .expect("the lock");
    let most = QUEUE_WRITES_MAX + 4 * BATCH_WRITES_MAX;
    let mut waiting = Vec::new();
    let mut refused = 0;
    for n in 0..=most {
        let mut post = Box::pin(ledger.post(settle(&format!("r{n}")).post()));
        match futures_util::poll!(&mut post) {
            std::task::Poll::Pending => waiting.push(post),
            std::task::Poll::Ready(Err(LedgerError::Busy)) => refused += 1,
            std::task::Poll::Ready(other) => panic!("{other:?}"),
        }
    }
    assert!(
        refused >= 1 && waiting.len() >= QUEUE_WRITES_MAX,
        "{refused} refused, {} wait",
        waiting.len()
    );
    let taken = waiting.len();
    execute(&mut stranger, "ROLLBACK").await.expect("the lock is let go");
    drop(waiting);
    ledger.close().await;
    assert!(told(&ledger.post(settle("late").post()).await.expect_err("it is closed")).contains("closed"));
    assert!(told(&ledger.ping().await.expect_err("it is closed")).contains("closed"));
    let again = open(&url).await;
    let rows = again
        .rows(&workspace("ws_a"), &Whose::Workspace, &[], at(NOON))
        .await
        .expect("the ledger answers");
    assert_eq!(usize::try_from(rows[0].spent).expect("a number of posts"), taken + 1);
    assert_eq!(again.entries(&all("ws_a")).await.expect("the ledger answers").len(), 500);
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_and_writes_nothing() {
    let (book, ledger, url) = plain(server!()).await;
    book.done(settle("before").naming([month(Unit::Tokens)])).await;
    let mut stranger = stranger(&url).await;
    // What a writer of this node does is ended by somebody, in the middle of its wait.
    execute(&mut stranger, "BEGIN; SELECT FROM workspace WHERE workspace_id = 'ws_a' FOR UPDATE")
        .await
        .expect("the lock");
    let asking = tokio::spawn(async move { ledger.post(settle("r").post()).await });
    let cancel = "SELECT COALESCE(bool_or(pg_cancel_backend(pid)), false) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                  AND position('post_batch' in query) > 0 AND pid = ANY (SELECT pid FROM pg_locks WHERE relation = 'workspace'::regclass)";
    let mut watcher = super::stranger(&url).await;
    until("it is ended", async || is_true(&mut watcher, cancel).await).await;
    let error = asking.await.expect("a task").expect_err("it was ended");
    assert!(told(&error).contains("nothing was written"), "{}", told(&error));
    execute(&mut stranger, "ROLLBACK").await.expect("the lock is let go");
    assert_eq!(book.standing("r").await, None);
    let done = book.done(settle("r").ending(End::Settled)).await;
    assert_eq!(done[0].spent, 200);
}

#[tokio::test]
async fn an_address_without_a_database_is_named_without_its_password() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    for url in [format!("postgres://weir:hush@{closed}/weir"), "no url, hush".to_owned()] {
        let error = told(&PostgresLedger::open(&url).await.err().expect("nobody is there"));
        assert!(!error.contains("hush"), "{error}");
        assert!(error.contains(&closed.to_string()) || error.contains("postgres://user"), "{error}");
    }
    if let Some(server) = server_of_tests::shared() {
        let url = server.url("public").replace("/postgres?", "/nowhere?");
        let error = told(&PostgresLedger::open(&url).await.err().expect("there is no such database"));
        assert!(error.contains("does not let this user in") && error.contains("nowhere"), "{error}");
    }
}

/// A standby refuses writes, as a server does that is told to: whoever was led there by mistake looks for the primary again at once.
#[tokio::test]
async fn a_server_that_takes_no_writes_is_left_as_soon_as_it_says_so() {
    let Some(server) = TestServer::start() else { return };
    let url = new_schema(&server).await;
    let mut place = Server::parse(&url).expect("a URL");
    (place.writers, place.pool_max) = (1, 1);
    let ledger = PostgresLedger::open_with(place, Schema::BroughtUpToDate).await.expect("a ledger");
    assert!(matches!(ledger.post(settle("before").post()).await, Ok(Posted::Done { .. })));
    let mut stranger = stranger(&url).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir'";
    for statement in ["ALTER ROLE weir SET default_transaction_read_only = on", cut] {
        execute(&mut stranger, statement).await.expect("the database");
    }
    let held = reservation("ws_a", "before");
    until("it is led to where nothing can be written", async || {
        let (post, extend) = (
            ledger.post(settle("r").post()).await,
            ledger.extend_checkpoint(held, at(NOON)).await,
        );
        let refused = |error: &LedgerError| told(error).contains("is a standby");
        post.is_err_and(|error| refused(&error)) && extend.is_err_and(|error| refused(&error))
    })
    .await;
    execute(
        &mut stranger,
        "SET default_transaction_read_only = off; ALTER ROLE weir RESET default_transaction_read_only",
    )
    .await
    .expect("the database");
    assert!(matches!(ledger.post(settle("r").post()).await, Ok(Posted::Done { .. })));
    ledger.extend_checkpoint(held, at(NOON)).await.expect("written");
}
