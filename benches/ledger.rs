//! Posts a second into a ledger: `cargo bench --bench ledger`. Over SQLite in a temporary directory and, where a PostgreSQL is installed,
//! over a private one of those, or over the database that `WEIR_BENCH_DATABASE_URL` names (which is filled with entries).
//!
//! Each post settles a request of its own and names three counters. With one workspace all posts meet in the same rows; with 20,000 hardly
//! any two do. Figures of a busy machine are ratios at best.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weir::decision::amount::{Amounts, Unit};
use weir::decision::counter::{Counter, Whose};
use weir::decision::entry::{Entry, Kind, Outcome};
use weir::decision::id::{EntryId, Feature, ModelId, RequestId, ReservationId, UserId, WorkspaceId};
use weir::decision::period::{Period, PeriodKind};
use weir::decision::price::Mode;
use weir::decision::standing::End;
use weir::decision::time::Timestamp;
use weir::decision::usage::Pools;
use weir::ledger::postgres::PostgresLedger;
use weir::ledger::sqlite::SqliteLedger;
use weir::ledger::{Ledger, Post, Posted, Tells};

#[path = "../tests/support/postgres.rs"]
mod server;

const CALLERS: [u64; 5] = [1, 4, 16, 64, 256];
const WORKSPACES: [u64; 2] = [1, 20_000];
const ROUND_SECONDS: f64 = 3.0;
const QUICK_ROUND_SECONDS: f64 = 0.2;
/// A moment of a month that has a partition of its own when this runs, or will not need one.
const NOW_SECONDS: i64 = 1_764_000_000;
const MONTH_SECONDS: i64 = 2_592_000;

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let seconds = if is_quick { QUICK_ROUND_SECONDS } else { ROUND_SECONDS };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a directory");
        measure(
            "sqlite",
            Arc::new(SqliteLedger::open(folder.path()).await.expect("a ledger")),
            seconds,
        )
        .await;
        let own = server::Postgres::start();
        let url = std::env::var("WEIR_BENCH_DATABASE_URL")
            .ok()
            .or(own.as_ref().map(|own| own.url("public")));
        if let Some(url) = url {
            measure("postgres", Arc::new(PostgresLedger::open(&url).await.expect("a ledger")), seconds).await;
        }
    });
}

async fn measure(store: &str, ledger: Arc<dyn Ledger>, seconds: f64) {
    for workspaces in WORKSPACES {
        for callers in CALLERS {
            let mut waits = round(&ledger, workspaces, callers, seconds).await;
            waits.sort_unstable();
            let wait = |share: usize| waits.get(waits.len() * share / 100).copied().unwrap_or_default().as_secs_f64() * 1_000.0;
            println!(
                "{store:9} {workspaces:6} workspaces {callers:4} callers {:8.0} posts/s   p50 {:7.2} ms   p99 {:7.2} ms",
                waits.len() as f64 / seconds,
                wait(50),
                wait(99),
            );
        }
    }
    let differences = ledger.verify().await.expect("the ledger answers");
    assert!(differences.is_empty(), "{} sums differ from their entries", differences.len());
    ledger.close().await;
}

async fn round(ledger: &Arc<dyn Ledger>, workspaces: u64, callers: u64, seconds: f64) -> Vec<Duration> {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let ledger = ledger.clone();
        tasks.spawn(async move {
            let mut waits = Vec::new();
            loop {
                let begun = Instant::now();
                if begun >= end {
                    return waits;
                }
                let posted = ledger.post(post(workspaces)).await.expect("the ledger answers");
                assert!(matches!(posted, Posted::Done { .. }));
                waits.push(begun.elapsed());
            }
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// A settle that nobody made before.
fn post(workspaces: u64) -> Post {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    // Spread, and the same each time.
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let workspace = WorkspaceId::parse(&format!("ws_{}", spread % workspaces)).expect("a workspace");
    let user = UserId::parse(&format!("usr_{}", spread % 7)).expect("a user");
    let request_id = RequestId::parse(&format!("req_{number}_{}", uuid::Uuid::now_v7().simple())).expect("a request");
    let reservation = ReservationId::derive(&workspace, &request_id);
    let now = Timestamp::from_micros(0).plus_seconds(NOW_SECONDS);
    let model = ModelId::parse("claude-sonnet-4-5").expect("a model");
    let entry = Entry {
        entry_id: EntryId::from_uuid(uuid::Uuid::now_v7()),
        kind: Kind::Usage,
        corrects: None,
        request_id: request_id.clone(),
        reservation_id: Some(reservation),
        workspace_id: workspace.clone(),
        user_id: Some(user.clone()),
        feature: Feature::parse("chat").expect("a feature"),
        model: model.clone(),
        requested_model: model,
        tier: None,
        provider: None,
        mode: Mode::Interactive,
        requests: 1,
        pools: Pools::default(),
        cache_hit: false,
        latency_ms: Some(1_842),
        outcome: Outcome::Success,
        priced: true,
        late: false,
        cost_usd: None,
        list_cost_usd: None,
        counted: Amounts {
            tokens: 300,
            usd: 6_456_000,
            requests: 1,
            credits: 0,
        },
        price_version: Some("2025-10-15.9f2c01ab".into()),
        plan_id: None,
        plan_version: None,
        occurred_at: now,
        recorded_at: now,
        tags: [("team".to_owned(), "search".to_owned())].into(),
        provider_request_id: None,
        quality_score: None,
        other_cost_usd: None,
        billable_outcomes: std::collections::BTreeMap::new(),
    };
    Post {
        charges: Vec::new(),
        tells: Tells::default(),
        workspace,
        reservation,
        request_id,
        revision: 0,
        end: Some(End::Settled),
        fingerprint: Some(u128::from(number)),
        checkpoint: None,
        entries: vec![entry],
        counters: vec![
            month(Whose::Workspace, Unit::Tokens),
            month(Whose::Workspace, Unit::Usd),
            month(Whose::User(Some(user)), Unit::Tokens),
        ],
        now,
    }
}

fn month(whose: Whose, unit: Unit) -> Counter {
    let start = Timestamp::from_micros(0).plus_seconds(NOW_SECONDS - MONTH_SECONDS / 2);
    Counter {
        whose,
        feature: None,
        unit,
        kind: PeriodKind::Month,
        period: Period {
            start,
            end: start.plus_seconds(MONTH_SECONDS),
        },
    }
}
