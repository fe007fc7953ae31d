//! Cases of promises 3 and 4: what is claimed waits for the ledger, and only what was applied ends a claim.

use super::desk::{Desk, HOLD_SECONDS, Store, daily, row, tokens};
use crate::counters::{CLAIM_OPEN_SECONDS, Claim, Progress};
use crate::decision::amount::Amounts;
use crate::decision::standing::End;

pub(crate) async fn a_claimed_hold_does_not_expire_by_itself(store: Store) {
    for (key, claim) in [("final", Claim::Final), ("checkpoint", Claim::UpTo(tokens(1)))] {
        let day = daily();
        let mut desk = Desk::open(store.clone(), &[&day]).await;
        let id = desk.held(key, 60, &[(&day, 100)]).await;
        let record = desk.claim(id, claim).await;
        assert_eq!((record.claimed, record.end), (Some(claim), None));
        desk.later(HOLD_SECONDS + 3_600);
        assert_eq!(desk.balance(&day).await, (0, 60), "{key}");
        assert_eq!(desk.end_of(id).await, None);
        assert!(!desk.fits("another", 60, &[(&day, 100)]).await);
        desk.release(id).await;
    }
}

pub(crate) async fn nothing_but_an_apply_frees_a_claimed_hold(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.claim(id, Claim::Final).await;
    desk.later(2 * HOLD_SECONDS);
    desk.claim(id, Claim::Final).await;
    desk.hold(&desk.ask("a", 60, &[(&day, 100)])).await;
    desk.store.extend(id, desk.now.plus_seconds(60), desk.now).await.expect("extend");
    desk.rebuild(&[row(&day, 60, 2)]).await;
    desk.apply_rows(&[row(&day, 60, 3)]).await;
    assert_eq!(desk.due(10).await, [], "it was claimed a moment ago");
    assert_eq!(desk.free_at(&day, 100, 1).await, None);
    assert_eq!(
        desk.balance(&day).await,
        (60, 60),
        "its own commit is in the sum already, and it still holds"
    );
    desk.apply(&[row(&day, 60, 3)], id, Progress::Ended(End::Settled)).await;
    assert_eq!(desk.balance(&day).await, (60, 0));
}

pub(crate) async fn claims_only_grow(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    let usd = Amounts { usd: 5, ..Amounts::ZERO };
    let both = Amounts { usd: 5, ..tokens(30) };
    for (claim, expected) in [
        (Claim::UpTo(tokens(30)), Claim::UpTo(tokens(30))),
        (Claim::UpTo(tokens(20)), Claim::UpTo(tokens(30))),
        (Claim::UpTo(usd), Claim::UpTo(both)),
        (Claim::Final, Claim::Final),
        (Claim::UpTo(tokens(50)), Claim::Final),
    ] {
        assert_eq!(desk.claim(id, claim).await.claimed, Some(expected), "{claim:?}");
    }
    assert_eq!(desk.find(id).await.and_then(|record| record.claimed), Some(Claim::Final));
}

pub(crate) async fn a_claim_ends_only_when_what_was_applied_reaches_it(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.claim(id, Claim::UpTo(tokens(20))).await;
    desk.claim(id, Claim::UpTo(tokens(40))).await;
    desk.apply(&[row(&day, 20, 2)], id, Progress::Used(tokens(20))).await;
    assert_eq!(desk.balance(&day).await, (20, 40));
    desk.later(HOLD_SECONDS);
    assert_eq!(desk.balance(&day).await, (20, 40), "the second checkpoint is still on its way");
    assert_eq!(desk.end_of(id).await, None);
    desk.apply(&[row(&day, 40, 3)], id, Progress::Used(tokens(40))).await;
    assert_eq!(desk.balance(&day).await, (40, 0), "now nothing keeps it from expiring");
    assert_eq!(desk.end_of(id).await, Some(End::Expired));
}

pub(crate) async fn a_hold_that_has_ended_is_not_claimed(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let (released, expired) = (desk.held("r", 10, &[(&day, 100)]).await, desk.held("e", 10, &[(&day, 100)]).await);
    desk.release(released).await;
    desk.later(HOLD_SECONDS);
    for (id, end) in [(released, End::Released), (expired, End::Expired)] {
        let record = desk.claim(id, Claim::Final).await;
        assert_eq!((record.end, record.claimed), (Some(end), None));
    }
    desk.later(2 * CLAIM_OPEN_SECONDS);
    assert_eq!(desk.due(10).await, []);
    assert_eq!(desk.balance(&day).await, (0, 0));
}

pub(crate) async fn checkpoints_out_of_order_and_doubled_come_to_one_total(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    for used in [10, 20, 30] {
        desk.claim(id, Claim::UpTo(tokens(used))).await;
    }
    // The ledger's rows rise with each of the three; their applies arrive as they like.
    for (used, version, expected) in [
        (20, 3, (20, 40)),
        (10, 2, (20, 40)),
        (20, 3, (20, 40)),
        (30, 4, (30, 30)),
        (30, 4, (30, 30)),
    ] {
        desk.apply(&[row(&day, used, version)], id, Progress::Used(tokens(used))).await;
        assert_eq!(desk.balance(&day).await, expected, "after {used}");
    }
    assert_eq!(desk.find(id).await.map(|record| record.used), Some(tokens(30)));
    desk.settle(id, &[row(&day, 35, 5)]).await;
    assert_eq!(desk.balance(&day).await, (35, 0));
}

pub(crate) async fn a_checkpointed_hold_frees_only_the_rest_when_it_expires(store: Store) {
    let day = daily();
    let mut desk = Desk::open(store, &[&day]).await;
    let id = desk.held("a", 60, &[(&day, 100)]).await;
    desk.claim(id, Claim::UpTo(tokens(20))).await;
    desk.apply(&[row(&day, 20, 2)], id, Progress::Used(tokens(20))).await;
    assert_eq!(desk.balance(&day).await, (20, 40));
    desk.later(HOLD_SECONDS);
    assert_eq!(desk.balance(&day).await, (20, 0), "what was reported stays spent");
    let record = desk.find(id).await.expect("expired");
    assert_eq!((record.end, record.used), (Some(End::Expired), tokens(20)));
}

pub(crate) async fn usage_beyond_the_hold_frees_the_hold_and_no_more(store: Store) {
    let day = daily();
    let desk = Desk::open(store, &[&day]).await;
    desk.held("other", 5, &[(&day, 100)]).await;
    let id = desk.held("a", 10, &[(&day, 100)]).await;
    desk.claim(id, Claim::UpTo(tokens(90))).await;
    desk.apply(&[row(&day, 90, 2)], id, Progress::Used(tokens(90))).await;
    assert_eq!(desk.balance(&day).await, (90, 5));
    desk.settle(id, &[row(&day, 120, 3)]).await;
    assert_eq!(desk.balance(&day).await, (120, 5));
    assert!(!desk.fits("next", 1, &[(&day, 100)]).await);
}
