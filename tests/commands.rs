//! The commands that look after the stores of the production profile: what they find, what they mend, and what they leave alone. The real
//! program over a real Redis and a real PostgreSQL; without those these are skipped, and say so.

mod support;

use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::stores::{self, Stores};
use support::{TestApp, postgres, redis};
use weir::clock::{Clock, SystemClock};
use weir::decision::finding::Gravity;
use weir::flow;
use weir::ledger::Ledger;
use weir::ledger::postgres::PostgresLedger;

/// What a command came to.
struct Ran {
    code: Option<i32>,
    /// What it said, on both outputs.
    text: String,
}

impl Ran {
    /// What doctor says of a thing: its word and the detail.
    #[track_caller]
    fn line(&self, what: &str) -> (&str, &str) {
        let cut = |line| {
            let (word, rest): (&str, &str) = str::split_at_checked(line, 9)?;
            let (found, detail) = rest.split_at_checked(14)?;
            (found.trim() == what).then(|| (word.trim(), detail.trim()))
        };
        let found = self.text.lines().find_map(cut);
        found.unwrap_or_else(|| panic!("nothing about {what}: {}", self.text))
    }
}

/// Runs a command of the program on these stores, with a directory of policies beside it that nobody has applied.
fn command(stores: &Stores, arguments: &[&str]) -> Ran {
    let Stores::Production { database, redis } = stores else {
        panic!("the production profile");
    };
    let folder = tempfile::tempdir().expect("a directory");
    std::os::unix::fs::symlink(support::policies(), folder.path().join("policies")).expect("a link");
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .envs([("WEIR_DATABASE_URL", database.as_str()), ("WEIR_REDIS_URL", redis.as_str())])
        .env("WEIR_JWT_SECRET", support::SECRET)
        .output()
        .expect("it runs");
    Ran {
        code: output.status.code(),
        text: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    }
}

#[tokio::test]
async fn commands_that_look_change_neither_schema_nor_policy() {
    if !stores::can_be_production() {
        return;
    }
    let stores = Stores::empty_production().await;
    for _ in 0..2 {
        for arguments in [
            &["doctor"][..],
            &["ledger", "verify"],
            &["rebuild-counters"],
            &["billing", "reconcile"],
        ] {
            let ran = command(&stores, arguments);
            assert!(
                ran.code == Some(1) && ran.text.contains("weir migrate"),
                "{arguments:?}: {}",
                ran.text
            );
        }
    }
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let clock = Arc::new(weir::clock::SystemClock);
    let service = stores.open(&samples, clock, flow::Options::default()).await.expect("a service");
    let before = service.ledger.policy().await.expect("a policy");
    for arguments in [&["rebuild-counters"][..], &["ledger", "verify"], &["doctor"]] {
        let ran = command(&stores, arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.text);
    }
    let after = service.ledger.policy().await.expect("a policy");
    assert_eq!((after.version, after.files_hash), (before.version, before.files_hash));
}

async fn sql(database: &str, statements: &str) {
    let mut connection = PgConnection::connect(database).await.expect("the database");
    let run = sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await;
    run.unwrap_or_else(|error| panic!("{statements}: {error}"));
}

async fn one_of(database: &str, query: &str) -> String {
    let mut connection = PgConnection::connect(database).await.expect("the database");
    let found = sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut connection).await;
    found.unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// Waits until a query of one text answers so.
async fn until(database: &str, query: &str, answer: &str) {
    let began = Instant::now();
    while one_of(database, query).await != answer {
        assert!(began.elapsed() < Duration::from_secs(20), "never {answer}: {query}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The same new stores for a node and for commands beside it, and the URL of their database.
async fn twice() -> (Stores, Stores, String) {
    let Stores::Production { database, redis } = Stores::empty_production().await else {
        panic!("the production profile");
    };
    let stores = || Stores::Production {
        database: database.clone(),
        redis: redis.clone(),
    };
    (stores(), stores(), database)
}

/// The tables that a settlement writes.
const SETTLED: [&str; 4] = ["entry", "reservation_end", "counter_sum", "workspace"];

async fn back_up(database: &str) {
    for table in SETTLED {
        sql(database, &format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}")).await;
    }
}

/// What was written since is gone, and nobody is told. No trigger runs, as in a restore.
async fn restore(database: &str) {
    for table in SETTLED {
        sql(
            database,
            &format!("BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM {table}; INSERT INTO {table} SELECT * FROM saved_{table}; COMMIT"),
        )
        .await;
    }
}

#[tokio::test]
async fn counters_are_rebuilt_from_a_ledger_that_a_backup_has_set_back() {
    if !stores::can_be_production() {
        return;
    }
    let (stores, beside, database) = twice().await;
    let node = TestApp::on(stores).await;
    // The command goes by the machine's clock, and its periods are those that count.
    node.clock.set(SystemClock.now());
    let plan = json!({"budgets": [
        {"id": "tokens", "unit": "tokens", "period": "month", "hard": 10_000},
        {"id": "each", "scope": "user", "unit": "tokens", "period": "month", "hard": 10_000}]});
    for name in ["ws", "late"] {
        node.workspace_on(name, plan.clone()).await;
    }
    let spend = async |workspace: &str, tokens: i64| {
        let held = node.authorize(workspace).user("ann").tokens(tokens, 0).reserved().await;
        node.settle(&held, tokens, 0).await.expect(200);
    };
    let each = async |workspace: &str| {
        let usage = node.get(&format!("/v1/workspaces/{workspace}/usage?user_id=ann")).await.expect(200);
        let budgets = usage["budgets"].as_array().expect("budgets").clone();
        budgets.into_iter().map(|budget| budget["spent"].as_i64()).collect::<Vec<_>>()
    };
    spend("ws", 200).await;
    let held = node.authorize("ws").user("ann").tokens(30, 0).reserved().await;
    back_up(&database).await;
    spend("ws", 300).await;
    spend("late", 70).await;
    let agree = command(&beside, &["ledger", "verify"]);
    assert_eq!(agree.code, Some(0), "{}", agree.text);
    restore(&database).await;

    assert_eq!((each("ws").await, each("late").await), (vec![Some(500); 2], vec![Some(70); 2]));
    let found = command(&beside, &["ledger", "verify"]);
    assert_eq!(found.code, Some(1), "{}", found.text);
    let names = |line: &&str| line.contains("workspace ws, tokens") && line.contains("the counter says 500, the ledger says 200");
    assert_eq!(found.text.lines().filter(names).count(), 2, "{}", found.text);
    assert!(found.text.contains("tokens of user ann"), "{}", found.text);
    // Of the second workspace the ledger has no sum any more.
    let names = |line: &&str| line.contains("workspace late, tokens") && line.contains("the counter says 70, the ledger says 0");
    assert_eq!(found.text.lines().filter(names).count(), 2, "{}", found.text);

    let rebuilt = command(&beside, &["rebuild-counters"]);
    assert_eq!(rebuilt.code, Some(0), "{}", rebuilt.text);
    assert!(rebuilt.text.contains("2 groups of counters"), "{}", rebuilt.text);
    assert_eq!((each("ws").await, each("late").await), (vec![Some(200); 2], vec![Some(0); 2]));
    assert_eq!(node.held("ws", "tokens").await, 30, "what is held stays held");
    let agree = command(&beside, &["ledger", "verify"]);
    assert_eq!(agree.code, Some(0), "{}", agree.text);
    // Life goes on: what is recorded from now on is newer than what the counters have.
    node.settle(&held, 30, 0).await.expect(200);
    spend("late", 5).await;
    assert_eq!((each("ws").await, each("late").await), (vec![Some(230); 2], vec![Some(5); 2]));
    assert_eq!(node.held("ws", "tokens").await, 0);
}

#[tokio::test]
async fn verify_names_a_sum_and_an_end_that_their_entries_do_not_bear_out() {
    if !stores::can_be_production() {
        return;
    }
    let (stores, beside, database) = twice().await;
    let node = TestApp::on(stores).await;
    node.workspace_with_tokens("ws", 1_000).await;
    let reservation = node.authorize("ws").tokens(100, 0).reserved().await;
    node.settle(&reservation, 100, 0).await.expect(200);
    let verify = || command(&beside, &["ledger", "verify"]);
    assert_eq!(verify().code, Some(0));
    for (breaks, mends, names) in [
        (
            "UPDATE counter_sum SET spent = spent + 7 WHERE unit = 'tokens'",
            "UPDATE counter_sum SET spent = spent - 7 WHERE unit = 'tokens'",
            "the sum says 107, its entries say 100".to_owned(),
        ),
        (
            "CREATE TABLE saved AS SELECT * FROM reservation_end; DELETE FROM reservation_end",
            "INSERT INTO reservation_end SELECT * FROM saved",
            reservation.clone(),
        ),
    ] {
        sql(&database, breaks).await;
        let found = verify();
        assert_eq!(found.code, Some(1), "{breaks}: {}", found.text);
        let named = found
            .text
            .lines()
            .any(|line| line.starts_with("differs") && line.contains("workspace ws") && line.contains(&names));
        assert!(named, "{breaks}: {}", found.text);
        sql(&database, mends).await;
        assert_eq!(verify().code, Some(0), "{mends}");
    }
}

/// Stores in which nothing is wrong, with a schema of today.
async fn good(stores: &Stores) {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let opened = stores.open(&samples, Arc::new(SystemClock), flow::Options::default()).await;
    opened.expect("a service").ledger.close().await;
}

#[tokio::test]
async fn doctor_says_what_it_found_of_good_stores() {
    if !stores::can_be_production() {
        return;
    }
    let server = redis::Server::start();
    let stores = Stores::empty_production_on(server.url()).await;
    good(&stores).await;
    let Stores::Production { database, .. } = &stores else {
        panic!("the production profile");
    };
    let found = command(&stores, &["doctor"]);
    assert_eq!(found.code, Some(0), "{}", found.text);
    let version = one_of(database, "SHOW server_version").await;
    assert!(found.line("ledger").1.contains(&format!("version {version}")), "{}", found.text);
    let info = server.cli(&["INFO", "server"]);
    let version = info
        .lines()
        .find_map(|line| line.strip_prefix("redis_version:"))
        .expect("a version");
    assert!(
        found.line("counters").1.contains(&format!("Redis {}", version.trim())),
        "{}",
        found.text
    );
    for what in [
        "release",
        "primary",
        "durability",
        "standbys",
        "ledger clock",
        "ledger test",
        "policy",
        "counters clock",
        "counters test",
    ] {
        assert_eq!(found.line(what).0, "ok", "{what}: {}", found.text);
    }
    // What a restart or a failure would cost: this server has neither a file nor a replica.
    for what in ["persistence", "replicas"] {
        assert_eq!(found.line(what).0, "warning", "{what}: {}", found.text);
    }
    assert!(server.cli(&["KEYS", "*"]).lines().count() < 5, "its test leaves nothing that grows");
}

#[tokio::test]
async fn doctor_fails_for_counters_that_are_absent_that_evict_or_that_cannot_be_written() {
    if !stores::can_be_production() {
        return;
    }
    let evicting = redis::Server::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let server = redis::Server::start();
    server.cli(&["ACL", "SETUSER", "reader", "on", ">hush", "~*", "&*", "+@all", "-@write"]);
    let reader = server.url().replace("redis://", "redis://reader:hush@");
    let absent = format!("redis://127.0.0.1:{}", redis::free_port());
    for (url, what, says) in [
        (absent, "counters", "refused"),
        (evicting.url(), "counters", "set it to noeviction"),
        (reader, "counters test", "can't run this command"),
    ] {
        let stores = Stores::empty_production_on(url).await;
        // A node cannot start on such counters, so the ledger's schema is all that is made.
        let Stores::Production { database, .. } = &stores else {
            panic!("the production profile");
        };
        PostgresLedger::open(database).await.expect("a ledger").close().await;
        let found = command(&stores, &["doctor"]);
        assert_eq!(found.code, Some(1), "{what}: {}", found.text);
        let (word, detail) = found.line(what);
        assert!(word == "FAILED" && detail.contains(says), "{what}: {}", found.text);
        assert_eq!(
            found.line("ledger test").0,
            "ok",
            "the other store is looked at all the same: {}",
            found.text
        );
        assert!(!found.text.contains("hush"), "{}", found.text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_says_what_a_ledger_would_lose_or_not_take() {
    if !stores::can_be_production() {
        return;
    }
    let Some(primary) = postgres::Postgres::start() else { return };
    let stores = Stores::empty_production_in(&primary).await;
    good(&stores).await;
    let Stores::Production { database, redis } = &stores else {
        panic!("the production profile");
    };
    let doctor = || command(&stores, &["doctor"]);
    assert_eq!(doctor().line("standbys").0, "ok");

    let standby = primary.standby();
    let followers = "SELECT COUNT(*)::TEXT FROM pg_stat_replication WHERE state = 'streaming'";
    until(database, followers, "1").await;
    let found = doctor();
    assert_eq!(found.code, Some(0), "a warning is no failure: {}", found.text);
    let (word, detail) = found.line("standbys");
    assert!(
        word == "warning"
            && detail.contains("a failover may lose commits that were answered 200")
            && detail.contains("synchronous_standby_names"),
        "{detail}"
    );
    let schema = database.rsplit('=').next().expect("a schema");
    let led_wrong = Stores::Production {
        database: standby.url(schema),
        redis: redis.clone(),
    };
    let found = command(&led_wrong, &["doctor"]);
    assert_eq!(found.code, Some(1), "{}", found.text);
    let (word, detail) = found.line("primary");
    assert!(
        word == "FAILED" && detail.contains("point WEIR_DATABASE_URL at the primary"),
        "{detail}"
    );
    assert_eq!(found.line("ledger test").0, "FAILED", "{}", found.text);
    assert_eq!(found.line("counters test").0, "ok", "{}", found.text);

    let set = async |setting: &str, value: &str| {
        sql(database, &format!("ALTER SYSTEM SET {setting} = '{value}'")).await;
        sql(database, "SELECT pg_reload_conf()").await;
        until(database, &format!("SHOW {setting}"), value).await;
    };
    set("synchronous_standby_names", "standby").await;
    until(database, "SELECT MIN(sync_state) FROM pg_stat_replication", "sync").await;
    assert_eq!(doctor().line("standbys").0, "ok");
    set("synchronous_standby_names", "").await;

    // Its own test is what finds a server that lets nobody write.
    sql(database, "ALTER ROLE weir SET default_transaction_read_only = on").await;
    let found = doctor();
    assert_eq!((found.code, found.line("ledger test").0), (Some(1), "FAILED"), "{}", found.text);
    sql(
        database,
        "BEGIN READ WRITE; ALTER ROLE weir RESET default_transaction_read_only; COMMIT",
    )
    .await;

    set("full_page_writes", "off").await;
    let found = doctor();
    assert_eq!((found.code, found.line("durability").0), (Some(0), "warning"), "{}", found.text);
    set("fsync", "off").await;
    let found = doctor();
    assert_eq!((found.code, found.line("durability").0), (Some(1), "FAILED"), "{}", found.text);
    assert!(found.line("durability").1.contains("set fsync = on"), "{}", found.text);

    // A clock cannot be set back on this machine, so the look is given another one.
    let ledger = PostgresLedger::open_as_it_is(database).await.expect("a ledger");
    for (seconds, gravity) in [(0, Gravity::Fine), (5, Gravity::Warning), (-5, Gravity::Warning)] {
        let found = ledger.inspect(SystemClock.now().plus_seconds(seconds)).await.expect("inspected");
        let clock = found.iter().find(|finding| finding.what == "ledger clock").expect("a clock");
        assert_eq!(clock.gravity, gravity, "{clock:?}");
    }
    ledger.close().await;
}
