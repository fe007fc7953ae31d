//! A ledger that was set back: its rows bear lower versions than what was copied. They are thrown away, as those of any late commit are, until
//! what was copied is forgotten; what is held is held throughout.

use super::shared::{on_a_cluster, on_one_server};
use crate::counters::contract::desk::{Desk, counter_at, daily, of_user, row, user};
use crate::counters::redis::RedisCounters;
use crate::counters::redis_server::is_there;
use crate::counters::{Applied, HoldOutcome};
use crate::decision::amount::Unit;
use crate::decision::counter::Whose;
use crate::decision::grant::{Purse, PurseUse};
use crate::decision::id::BudgetId;
use crate::decision::period::PeriodKind;
use crate::decision::time::Timestamp;
use std::slice;
use std::sync::Arc;

async fn is_followed_once_it_is_told(store: RedisCounters) {
    let (day, ann) = (daily(), of_user("ann", daily()));
    let mut desk = Desk::open(Arc::new(store), &[&day, &ann]).await;
    // Of a period that began after the build, so that it needs no row to be zero.
    let minute = counter_at(Unit::Tokens, PeriodKind::Minute, desk.later(60).now);
    desk.apply_rows(&[row(&day, 4_500, 47), row(&ann, 4_500, 47), row(&minute, 4_500, 47)])
        .await;
    let purse = |left, version| Purse {
        budget: BudgetId::parse("tokens").expect("a budget"),
        unit: Unit::Tokens,
        left,
        until: Timestamp::MAX,
        version,
    };
    let refill = async |desk: &Desk, purse: Purse| {
        let applied = Applied {
            purses: vec![purse],
            ..Applied::default()
        };
        let refilled = desk.store.apply(&desk.workspace, &applied, &[], &[], desk.now).await;
        refilled.expect("apply");
    };
    refill(&desk, purse(4_500, 47)).await;
    desk.held("before", 100, &[(&day, 10_000), (&ann, 10_000)]).await;
    let back = [row(&day, 500, 7), row(&ann, 500, 7)];
    desk.apply_rows(&back).await;
    assert_eq!(desk.balance(&day).await, (4_500, 100), "the row of a late commit");

    // Two that read the ledger before it was set back, one of a group that is not even ready.
    let read_before = desk.begun(&Whose::Workspace).await;
    let bens = desk.begun(&user("ben")).await;
    assert!(desk.store.forget_rows(desk.now).await.expect("forgotten") >= 2);
    for (whose, token) in [(Whose::Workspace, read_before), (user("ben"), bens)] {
        assert!(!desk.finish(&whose, token, &[row(&day, 4_500, 47)]).await, "{whose:?}");
    }
    let wanted = desk.ask("after", 100, &[(&day, 10_000), (&ann, 10_000)]);
    let HoldOutcome::Unready(groups) = desk.hold(&wanted).await else {
        panic!("nothing is known of the rows");
    };
    assert_eq!(groups, [Whose::Workspace, user("ann")]);
    assert_eq!(desk.known(&minute).await, None, "nor that there is none");
    desk.rebuild(&back).await;
    for counter in [&day, &ann] {
        assert_eq!(desk.balance(counter).await, (500, 100), "{counter:?}");
    }
    refill(&desk, purse(500, 7)).await;
    let used = [PurseUse {
        budget: purse(0, 0).budget,
        counter: 0,
        hard: 10_000,
    }];
    let (asked, since) = (slice::from_ref(&day), Timestamp::MIN);
    let balances = desk.store.balances(&desk.workspace, asked, &used, since, desk.now).await;
    let balances = balances.expect("balances").expect("all is known");
    assert_eq!(balances[0].granted, 500);
    // From here on its versions count as ever.
    desk.apply_rows(&[row(&day, 600, 8)]).await;
    assert_eq!(desk.balance(&day).await, (600, 100));
    desk.held("after", 100, &[(&day, 10_000), (&ann, 10_000)]).await;
    assert_eq!(desk.balance(&day).await, (600, 200));
}

#[tokio::test]
async fn is_followed_once_it_is_told_on_one_server() {
    if is_there() {
        is_followed_once_it_is_told(on_one_server().await).await;
    }
}

#[tokio::test]
async fn is_followed_once_it_is_told_on_a_cluster() {
    if is_there() {
        is_followed_once_it_is_told(on_a_cluster().await).await;
    }
}
