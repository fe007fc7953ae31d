//! Periods that end while several nodes are at work in them.

use super::{books_agree, id, three};
use futures_util::future::join_all;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use weir::decision::period::PeriodKind;

const CLIENTS: usize = 12;
const MINUTES: usize = 8;
const A_MINUTE: i64 = 25;
/// How often the clock moves in a minute, and how many requests there are between two moves.
const MOVES: usize = 6;
const REQUESTS: usize = 20;

/// Each client asks one node and settles at another one after its next request, so that many a settle is of the minute before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn minutes_that_end_under_load_are_full_each_and_no_more() {
    let Some(nodes) = three().await else { return };
    for node in &nodes {
        node.set_clock("2025-11-21T23:56:00Z");
    }
    let plan = json!({"budgets": [{"id": "rate", "unit": "tokens", "period": "minute", "hard": A_MINUTE},
        {"id": "daily", "unit": "tokens", "period": "day", "hard": 100_000}, {"id": "ever", "unit": "tokens", "period": "lifetime", "hard": 100_000}]});
    nodes[0].workspace_on("ws", plan).await;
    join_all(nodes.iter().map(|node| node.follow())).await;
    let (asked, settled) = (AtomicUsize::new(0), AtomicI64::new(0));
    let work = async |client: usize| {
        let mut before: Option<String> = None;
        for n in 0.. {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            if number >= MINUTES * MOVES * REQUESTS {
                break;
            }
            if number % REQUESTS == REQUESTS - 1 {
                nodes[0].pass_seconds(60 / MOVES as i64);
            }
            let node = &nodes[(client + n) % 3];
            let answer = node
                .authorize("ws")
                .id(&format!("{client}-{n}"))
                .tokens(1, 0)
                .send()
                .await
                .expect(200);
            let held = (answer["decision"] == "allow").then(|| id(&answer).to_owned());
            if let Some(reservation) = std::mem::replace(&mut before, held) {
                nodes[(client + n + 1) % 3].settle(&reservation, 1, 0).await.expect(200);
                settled.fetch_add(1, Ordering::SeqCst);
            }
        }
        if let Some(reservation) = before {
            nodes[0].settle(&reservation, 1, 0).await.expect(200);
            settled.fetch_add(1, Ordering::SeqCst);
        }
    };
    join_all((0..CLIENTS).map(work)).await;

    let page = nodes[0].service.ledger.verify_page(None, 1_000).await.expect("a page");
    let spent = |kind: PeriodKind| {
        let rows = page.rows.iter().filter(move |(_, row)| row.counter.kind == kind);
        rows.map(|(_, row)| (row.counter.period.start, row.spent))
            .collect::<BTreeMap<_, _>>()
    };
    let minutes: Vec<i64> = spent(PeriodKind::Minute).into_values().collect();
    assert!(minutes.len() >= MINUTES, "{minutes:?}");
    assert!(minutes[..MINUTES].iter().all(|spent| *spent == A_MINUTE), "{minutes:?}");
    let settled = settled.load(Ordering::SeqCst);
    assert_eq!(minutes.iter().sum::<i64>(), settled);
    let days: Vec<i64> = spent(PeriodKind::Day).into_values().collect();
    assert_eq!(
        (days.len(), days.iter().sum::<i64>()),
        (2, settled),
        "midnight was in between: {days:?}"
    );
    assert_eq!(nodes[1].spent("ws", "ever").await, settled);
    assert_eq!(nodes[2].held("ws", "ever").await, 0);
    books_agree(&nodes[2]).await;
}
