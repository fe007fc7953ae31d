//! One key of each kind is deleted behind the store's back. What is spent stays right, and what cannot be known any more is not held for ever.

use super::faults::desk;
use super::shared::store_at;
use crate::counters::contract::desk::{Desk, HOLD_SECONDS, daily, of_user, row};
use crate::counters::redis_server::{Server, is_there};
use crate::counters::{Applied, Begun, CLAIM_OPEN_SECONDS, Claim, HoldOutcome, Rebuilt};
use crate::decision::counter::Counter;
use std::sync::Arc;

/// Deletes all keys of a kind, and says how many there were.
fn delete(server: &Server, pattern: &str) -> usize {
    let keys = server.cli(&["KEYS", pattern]);
    let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
    for key in &keys {
        server.cli(&["DEL", key]);
    }
    keys.len()
}

/// Rebuilds as a flow would whenever it is told to, until a hold of one token on these counters is answered. The ledger knows of no end.
async fn hold_whatever_it_takes(desk: &Desk, key: &str, counters: [&Counter; 2]) -> HoldOutcome {
    let request = desk.ask(key, 1, &counters.map(|counter| (counter, 1_000)));
    for _ in 0..10 {
        let groups = match desk.hold(&request).await {
            HoldOutcome::Unready(groups) => groups,
            outcome => return outcome,
        };
        for whose in groups {
            let Begun::Started { token, .. } = desk.begin(&whose).await else {
                continue;
            };
            let rows = counters
                .iter()
                .filter(|counter| counter.whose == whose)
                .map(|counter| row(counter, 20, 2));
            let rows: Vec<_> = rows.collect();
            let rebuilt = Rebuilt {
                token,
                adopted: &[],
                rows: &rows,
                purses: &[],
            };
            let finished = desk.store.finish(&desk.workspace, &whose, &rebuilt, desk.now).await;
            assert!(finished.expect("finish"));
        }
    }
    panic!("{key} is told to rebuild without end");
}

/// Two holds, one of them claimed; then one kind of keys is gone. Returns what is held a long while after, when nothing should be.
async fn after_losing(pattern: &str) -> [(i64, i64); 2] {
    let server = Server::start();
    let (day, ann) = (daily(), of_user("ann", daily()));
    let mut desk = desk(Arc::new(store_at(&server.url()).await), &[&day, &ann]).await;
    desk.apply_rows(&[row(&day, 20, 2), row(&ann, 20, 2)]).await;
    let limits = [(&day, 1_000), (&ann, 1_000)];
    desk.held("plain", 100, &limits).await;
    let claimed = desk.held("claimed", 100, &limits).await;
    desk.claim(claimed, Claim::Final).await;
    assert!(delete(&server, pattern) > 0, "{pattern}");

    let outcome = hold_whatever_it_takes(&desk, "next", [&day, &ann]).await;
    assert!(matches!(outcome, HoldOutcome::Held { .. }), "{pattern}: {outcome:?}");
    desk.later(HOLD_SECONDS + CLAIM_OPEN_SECONDS);
    // The resolver asks the ledger for each that is due; here it had been settled, and its commit is in the rows.
    for record in desk.store.due(desk.now, 100).await.expect("due") {
        desk.apply(
            &[],
            record.reservation,
            crate::counters::Progress::Ended(crate::decision::standing::End::Settled),
        )
        .await;
    }
    hold_whatever_it_takes(&desk, "last", [&day, &ann]).await;
    let last = desk.id("last");
    desk.release(last).await;
    // Quiet: nothing is open, and whoever asks next finds the rest.
    hold_whatever_it_takes(&desk, "very-last", [&day, &ann]).await;
    desk.release(desk.id("very-last")).await;
    assert_eq!(desk.store.open().await.expect("open"), 0, "{pattern}");
    [desk.balance(&day).await, desk.balance(&ann).await]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_of_any_kind_is_found_out() {
    if !is_there() {
        return;
    }
    for pattern in ["*g:*,[*]", "*g:*,ann", "*r:*", "*i", "*}m"] {
        assert_eq!(after_losing(pattern).await, [(20, 0), (20, 0)], "{pattern}");
    }
}

/// A lost mark says nothing of what was copied, so it never says too much; the next round of copies makes it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_mark_claims_nothing_and_is_made_again() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let day = daily();
    let mut desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    let since = async |desk: &Desk| desk.store.begin_copy(desk.now).await.expect("told").since;
    assert_eq!(since(&desk).await, Some(desk.now), "its first rebuild");
    desk.held("open", 100, &[(&day, 1_000)]).await;
    assert_eq!(delete(&server, "*}m"), 1);
    assert_eq!(since(&desk).await, None);

    desk.later(1);
    let copying = desk.store.begin_copy(desk.now).await.expect("told");
    let missed = Applied {
        rows: vec![row(&day, 50, 3)],
        ..Applied::default()
    };
    desk.store.copy(&desk.workspace, &missed, &copying, desk.now).await.expect("copied");
    assert_eq!(since(&desk).await, None, "the round is not over");
    desk.store.end_copy(&copying, desk.now, desk.now).await.expect("remembered");
    assert_eq!(since(&desk).await, Some(desk.now));
    assert_eq!(desk.balance(&day).await, (50, 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_record_takes_nothing_from_the_index() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let day = daily();
    let desk = desk(Arc::new(store_at(&server.url()).await), &[&day]).await;
    desk.apply_rows(&[row(&day, 20, 2)]).await;
    desk.held("first", 100, &[(&day, 1_000)]).await;
    desk.held("again", 100, &[(&day, 1_000)]).await;
    assert_eq!(
        delete(&server, &format!("*r:{:032x}", u128::from_be_bytes(desk.id("again").as_bytes()))),
        1
    );
    let outcome = desk.hold(&desk.ask("again", 100, &[(&day, 1_000)])).await;
    assert!(matches!(outcome, HoldOutcome::Held { .. }), "{outcome:?}");
    let index = server.cli(&["KEYS", "*i"]);
    let guards = server.cli(&["ZLEXCOUNT", index.trim(), "[\u{7f}", "+"]);
    assert_eq!(guards.trim(), "1", "the others of this index would be taken for lost");
    assert_eq!(desk.store.open().await.expect("open"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_of_an_earlier_generation_counts_nothing_and_is_not_claimed() {
    if !is_there() {
        return;
    }
    let server = Server::start();
    let (day, ann) = (daily(), of_user("ann", daily()));
    let desk = desk(Arc::new(store_at(&server.url()).await), &[&day, &ann]).await;
    let id = desk.held("a", 100, &[(&day, 100), (&ann, 100)]).await;
    delete(&server, "*g:*,ann");
    desk.rebuild(&[row(&ann, 0, 1)]).await;
    assert_eq!(desk.known(&ann).await, Some((0, 0)));
    assert_eq!(desk.balance(&day).await, (0, 100), "here it still counts");
    let record = desk.claim(id, Claim::Final).await;
    assert!(record.end.is_some() && record.claimed.is_none(), "its settle is late: {record:?}");
    // Asked again, it holds anew, on both.
    let outcome = desk.hold(&desk.ask("a", 100, &[(&day, 100), (&ann, 100)])).await;
    assert!(matches!(outcome, HoldOutcome::Held { .. }), "{outcome:?}");
    assert_eq!(desk.balance(&day).await, (0, 100));
    assert_eq!(desk.balance(&ann).await, (0, 100));
}
