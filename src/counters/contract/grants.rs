//! Cases of promise 10: a purse raises the limits of all counters that share it, and no more is held on it than there is.

use super::desk::{Desk, Store, counter_at, daily, of_user, row, tokens};
use crate::counters::{Applied, HoldOutcome, HoldRequest, Progress, Rebuilt, SumRow};
use crate::decision::amount::Unit;
use crate::decision::counter::{Counter, Whose};
use crate::decision::grant::{Purse, PurseUse};
use crate::decision::id::BudgetId;
use crate::decision::period::PeriodKind;
use crate::decision::rung::{Cap, Limit, Line};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;

const HARD: i64 = 100;

fn budget() -> BudgetId {
    BudgetId::parse("tokens").expect("a budget")
}

fn purse(left: i64, version: i64) -> Purse {
    Purse {
        budget: budget(),
        unit: Unit::Tokens,
        left,
        until: Timestamp::MAX,
        version,
    }
}

fn paid(counter: &Counter, spent: i64, paid: i64, version: i64) -> SumRow {
    SumRow {
        paid,
        ..row(counter, spent, version)
    }
}

impl Desk {
    /// A workspace whose counters have spent nothing, and whose purse has this much left.
    async fn granted(store: Store, counters: &[&Counter], left: i64) -> Desk {
        let desk = Desk::open(store, counters).await;
        desk.refill(&purse(left, 1)).await;
        desk
    }

    /// Rebuilds the workspace's own group with this purse.
    async fn refill(&self, purse: &Purse) {
        let token = self.begun(&Whose::Workspace).await;
        let rebuilt = Rebuilt {
            token,
            adopted: &[],
            rows: &[],
            purses: std::slice::from_ref(purse),
        };
        let finished = self.store.finish(&self.workspace, &Whose::Workspace, &rebuilt, self.now).await;
        assert!(finished.expect("finish"));
    }

    /// A request on one counter under [`HARD`], which the purse raises.
    fn ask_granted(&self, key: &str, amount: i64, counter: &Counter) -> HoldRequest {
        let mut request = self.ask(key, amount, &[(counter, HARD)]);
        request.rungs[0].limits[0].granted = true;
        request.purses = vec![PurseUse {
            budget: budget(),
            counter: 0,
            hard: HARD,
        }];
        request
    }

    async fn takes(&self, key: &str, amount: i64, counter: &Counter) -> bool {
        match self.hold(&self.ask_granted(key, amount, counter)).await {
            HoldOutcome::Held { .. } => true,
            HoldOutcome::Short { .. } => false,
            other => panic!("{key}: {other:?}"),
        }
    }

    /// What a counter says to be granted; `None`: the ledger must be asked.
    async fn granted_to(&self, counter: &Counter) -> Option<i64> {
        let used = PurseUse {
            budget: budget(),
            counter: 0,
            hard: HARD,
        };
        let asked = std::slice::from_ref(counter);
        let answer = self.store.balances(&self.workspace, asked, &[used], Timestamp::MIN, self.now).await;
        match answer.expect("balances") {
            Ok(balances) => Some(balances[0].granted),
            Err(groups) => {
                assert_eq!(groups, [Whose::Workspace]);
                None
            }
        }
    }

    async fn commit(&self, rows: Vec<SumRow>, purse: Purse, ended: Option<&str>) {
        let applied = Applied {
            rows,
            reservation: ended.map(|key| (self.id(key), Progress::Ended(End::Settled))),
            purses: vec![purse],
        };
        self.store
            .apply(&self.workspace, &applied, &[], &[], self.now)
            .await
            .expect("apply");
    }
}

pub(crate) async fn a_purse_raises_a_limit_by_what_is_left_of_it(store: Store) {
    let day = daily();
    let desk = Desk::granted(store, &[&day], 50).await;
    assert!(!desk.takes("too-much", 151, &day).await);
    assert!(desk.takes("all", 150, &day).await);
    assert!(!desk.takes("one-more", 1, &day).await);
    assert_eq!(desk.granted_to(&day).await, Some(50), "its own holds are in what it holds");
    let mut plain = desk.ask("without", 1, &[(&day, 151)]);
    plain.rungs[0].limits[0].granted = false;
    assert!(
        matches!(desk.hold(&plain).await, HoldOutcome::Held { .. }),
        "a limit that is not raised is as it says"
    );
}

pub(crate) async fn counters_that_share_a_purse_hold_no_more_than_it_has(store: Store) {
    let [ann, ben, cid] = ["ann", "ben", "cid"].map(|name| of_user(name, daily()));
    let desk = Desk::granted(store, &[&ann, &ben, &cid], 50).await;
    assert!(desk.takes("a", 130, &ann).await);
    assert_eq!((desk.granted_to(&ann).await, desk.granted_to(&ben).await), (Some(50), Some(20)));
    assert!(!desk.takes("b", 121, &ben).await);
    assert!(desk.takes("b", 120, &ben).await);
    assert!(
        !desk.takes("a2", 1, &ann).await,
        "it still sees 50, of which it holds 30 and ben 20"
    );
    assert!(desk.takes("c", 100, &cid).await, "what the plan allows needs no purse");
    assert!(!desk.takes("c2", 1, &cid).await);
    desk.release(desk.id("a")).await;
    assert_eq!(desk.granted_to(&cid).await, Some(30));
    assert!(desk.takes("c3", 30, &cid).await, "what was released is there for others");
}

pub(crate) async fn racing_holds_of_several_counters_take_exactly_the_purse(store: Store) {
    let users: Vec<Counter> = (0..4).map(|number| of_user(&format!("u{number}"), daily())).collect();
    let desk = Desk::granted(store, &users.iter().collect::<Vec<_>>(), 77).await;
    let racing: Vec<_> = (0..1_000usize)
        .map(|number| {
            let (desk, counter) = (desk.clone(), users[number % users.len()].clone());
            tokio::spawn(async move { desk.takes(&format!("r{number}"), 1, &counter).await })
        })
        .collect();
    let mut taken = 0;
    for one in racing {
        taken += i64::from(one.await.expect("no panic"));
    }
    assert_eq!(taken, 4 * HARD + 77);
}

pub(crate) async fn what_was_paid_stays_with_its_counter(store: Store) {
    let [ann, ben] = ["ann", "ben"].map(|name| of_user(name, daily()));
    let desk = Desk::granted(store, &[&ann, &ben], 50).await;
    assert!(desk.takes("a", 130, &ann).await);
    desk.commit(vec![paid(&ann, 130, 30, 2)], purse(20, 2), Some("a")).await;
    assert_eq!((desk.granted_to(&ann).await, desk.granted_to(&ben).await), (Some(50), Some(20)));
    desk.commit(Vec::new(), purse(0, 3), None).await;
    assert_eq!((desk.granted_to(&ann).await, desk.granted_to(&ben).await), (Some(30), Some(0)));
    assert!(!desk.takes("a2", 1, &ann).await);
}

pub(crate) async fn a_commit_that_was_not_applied_yet_counts_as_held(store: Store) {
    let [ann, ben] = ["ann", "ben"].map(|name| of_user(name, daily()));
    let desk = Desk::granted(store, &[&ann, &ben], 50).await;
    assert!(desk.takes("a", 130, &ann).await);
    // Ben's commit comes first and knows of both; ann's hold is counted once more, never less.
    desk.commit(vec![paid(&ben, 110, 10, 3)], purse(10, 3), None).await;
    assert_eq!(desk.granted_to(&ben).await, Some(10), "all of the ten is held by ann");
    desk.commit(vec![paid(&ann, 130, 30, 2)], purse(20, 2), Some("a")).await;
    assert_eq!((desk.granted_to(&ann).await, desk.granted_to(&ben).await), (Some(40), Some(20)));
}

pub(crate) async fn an_older_purse_never_replaces_a_newer_one(store: Store) {
    let day = daily();
    let mut desk = Desk::granted(store, &[&day], 50).await;
    let ends = |left, version, seconds: i64| Purse {
        until: Timestamp::from_micros(desk.now.micros() + seconds * 1_000_000),
        ..purse(left, version)
    };
    let order = [ends(40, 3, 10), ends(45, 2, 900), ends(30, 3, 20), ends(35, 3, 10)];
    for purse in order {
        desk.commit(Vec::new(), purse, None).await;
    }
    assert_eq!(desk.granted_to(&day).await, Some(30), "of one version the later one");
    desk.refill(&purse(60, 1)).await;
    assert_eq!(desk.granted_to(&day).await, Some(30), "a rebuild knows no more than it read");
    assert_eq!(desk.later(19).granted_to(&day).await, Some(30));
    assert_eq!(desk.later(1).granted_to(&day).await, None, "from then on only the ledger knows");
    desk.refill(&purse(5, 3)).await;
    assert_eq!(desk.granted_to(&day).await, Some(5));
}

pub(crate) async fn a_purse_that_is_not_known_asks_for_its_group(store: Store) {
    let ann = of_user("ann", daily());
    let desk = Desk::open(store, &[&ann]).await;
    let unready = HoldOutcome::Unready(vec![Whose::Workspace]);
    assert_eq!(desk.hold(&desk.ask_granted("r", 1, &ann)).await, unready);
    assert!(
        desk.fits("plain", 1, &[(&ann, HARD)]).await,
        "who needs no purse needs no group of the workspace"
    );
    desk.refill(&purse(0, 1)).await;
    assert!(desk.takes("r", 1, &ann).await);
    let other = PurseUse {
        budget: BudgetId::parse("other").expect("a budget"),
        counter: 0,
        hard: HARD,
    };
    let request = HoldRequest {
        purses: vec![other],
        ..desk.ask_granted("s", 1, &ann)
    };
    assert_eq!(desk.hold(&request).await, unready);
}

pub(crate) async fn what_the_period_before_still_holds_is_not_there_for_the_next_one(store: Store) {
    let mut desk = Desk::bare(store, "ws_a");
    let hour = counter_at(Unit::Tokens, PeriodKind::Hour, desk.now);
    desk.rebuild(&[row(&daily(), 0, 1), row(&hour, 0, 1)]).await;
    desk.refill(&purse(50, 1)).await;
    let mut request = desk.ask_granted("old", 130, &hour);
    request.rungs[0].expires_at = desk.now.plus_seconds(5_400);
    assert!(matches!(desk.hold(&request).await, HoldOutcome::Held { .. }));
    let next = desk.next_hour().await;
    assert_eq!(desk.granted_to(&next).await, Some(20));
    assert!(!desk.takes("too-much", 121, &next).await);
    assert!(desk.takes("r", 120, &next).await);
    desk.later(1_800).commit(Vec::new(), purse(50, 2), None).await;
    assert_eq!(desk.granted_to(&next).await, Some(50), "both have expired");
}

pub(crate) async fn a_replay_tells_what_was_granted(store: Store) {
    let day = daily();
    let desk = Desk::granted(store, &[&day], 50).await;
    let request = desk.ask_granted("r", 120, &day);
    let HoldOutcome::Held { before, .. } = desk.hold(&request).await else {
        panic!("it fits");
    };
    assert_eq!(before[0].granted, 50);
    desk.commit(Vec::new(), purse(7, 2), None).await;
    let HoldOutcome::Replayed(record) = desk.hold(&request).await else {
        panic!("it is known");
    };
    assert_eq!(record.before, before);
    assert_eq!(desk.find(desk.id("r")).await.map(|record| record.before), Some(before));
}

pub(crate) async fn a_capped_rung_takes_what_a_purse_has_left(store: Store) {
    let day = daily();
    let desk = Desk::granted(store, &[&day], 50).await;
    let line = Line::new(0, 1, 1, 1_000, false);
    let mut request = desk.ask_granted("r", 1_000, &day);
    request.rungs[0].cap = Some(Cap {
        least: 10,
        tokens: line,
        usd: Line::new(0, 0, 1, 1_000, false),
        credits: Line::new(0, 0, 1, 1_000, true),
    });
    let HoldOutcome::Held { taken, .. } = desk.hold(&request).await else {
        panic!("150 fit");
    };
    assert_eq!((taken.output, taken.amounts.tokens), (150, tokens(150).tokens));
}

pub(crate) async fn soft_limits_are_raised_too(store: Store) {
    let day = daily();
    let desk = Desk::granted(store, &[&day], 50).await;
    desk.apply_rows(&[row(&day, 90, 2)]).await;
    let mut request = desk.ask_granted("r", 1, &day);
    let soft = |below| Limit {
        open_below: Some(below),
        ..request.rungs[0].limits[0]
    };
    let (open, closed) = (soft(41), soft(40));
    for (key, limit, fits) in [("closed", closed, false), ("open", open, true)] {
        request.reservation = desk.id(key);
        request.rungs[0].limits = vec![limit];
        let outcome = desk.hold(&request).await;
        assert_eq!(matches!(outcome, HoldOutcome::Held { .. }), fits, "{key}: {outcome:?}");
    }
}

pub(crate) async fn a_purse_is_of_one_unit(store: Store) {
    let (day, usd) = (
        daily(),
        Counter {
            unit: Unit::Usd,
            ..daily()
        },
    );
    let desk = Desk::granted(store, &[&day, &usd], 0).await;
    let dollars = Purse {
        unit: Unit::Usd,
        ..purse(50, 1)
    };
    desk.commit(Vec::new(), dollars, None).await;
    assert_eq!((desk.granted_to(&day).await, desk.granted_to(&usd).await), (Some(0), Some(50)));
    assert!(!desk.takes("more", HARD + 1, &day).await);
}
