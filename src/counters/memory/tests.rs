//! The contract over this store, and what only this store promises: memory is given back, and a panic costs one shard.

use super::*;
use crate::counters::contract::desk::Store;
use crate::counters::contract::{Mode, Naive, Stores, counters_contract_over, histories_agree};
use crate::counters::{GROUP_IDLE_SECONDS, KEEP_ENDED_SECONDS, Progress, SumRow, TOMBSTONE_SECONDS};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::grant::Purse;
use crate::decision::id::{BudgetId, RequestId, UserId};
use crate::decision::period::{Period, PeriodKind};
use crate::decision::rung::{Limit, Rung};
use crate::decision::standing::End;

async fn store() -> MemoryCounters {
    MemoryCounters::new()
}

counters_contract_over!(store);

/// How many histories each of the three modes tries: a few seconds, since those of Redis are this store's too.
const HISTORIES: u32 = 400;

async fn stores() -> Stores {
    vec![("memory", Arc::new(store().await) as Store), ("naive", Arc::new(Naive::default()))]
}

#[test]
fn any_history_is_answered_as_the_naive_store_answers_it() {
    histories_agree(Mode::Wild, HISTORIES, stores);
}

#[test]
fn whatever_order_applies_come_in_the_ledger_never_passes_a_ceiling() {
    histories_agree(Mode::Strict, HISTORIES, stores);
}

#[test]
fn spent_and_held_never_pass_a_ceiling_while_applies_come_in_order() {
    histories_agree(Mode::Orderly, HISTORIES, stores);
}

/// The naive store names the oldest first, whatever it named before; Redis has cases of its own, with more than a page.
#[tokio::test]
async fn what_cannot_be_ended_keeps_nobody_waiting() {
    crate::counters::contract::what_is_due_is_named_in_turn(std::sync::Arc::new(store().await)).await;
}

const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const HOLD_SECONDS: i64 = 30;

fn at(seconds: i64) -> Timestamp {
    START.plus_seconds(seconds)
}

fn workspace(name: &str) -> WorkspaceId {
    WorkspaceId::parse(name).expect("a name")
}

fn id(workspace_name: &str, key: &str) -> ReservationId {
    ReservationId::derive(&workspace(workspace_name), &RequestId::parse(key).expect("a key"))
}

/// Tokens of a user in a period that runs from the start for so long.
fn counter(user: &str, seconds: i64) -> Counter {
    Counter {
        whose: Whose::User(UserId::parse(user).ok()),
        feature: None,
        unit: Unit::Tokens,
        kind: PeriodKind::Day,
        period: Period {
            start: START,
            end: at(seconds),
        },
    }
}

fn request(workspace_name: &str, key: &str, counters: &[Counter], now: Timestamp) -> HoldRequest {
    let amounts = Amounts {
        tokens: 10,
        ..Amounts::ZERO
    };
    let rung = Rung {
        needs: amounts,
        output: 10,
        cap: None,
        limits: Vec::new(),
        expires_at: now.plus_seconds(HOLD_SECONDS),
    };
    HoldRequest {
        workspace: workspace(workspace_name),
        reservation: id(workspace_name, key),
        fingerprint: 1,
        counters: counters.to_vec(),
        purses: Vec::new(),
        named_since: Timestamp::MIN,
        rungs: vec![rung],
        open_max: u32::MAX,
        charge_on_expiry: false,
        tell_on_expiry: false,
        context: Arc::from([7; 450]),
        now,
    }
}

impl MemoryCounters {
    async fn build(&self, workspace_name: &str, whose: &Whose, now: Timestamp) {
        let workspace = workspace(workspace_name);
        let Begun::Started { token, .. } = self.begin(&workspace, whose, now).await.expect("begin") else {
            panic!("nobody else rebuilds");
        };
        let rebuilt = Rebuilt {
            token,
            adopted: &[],
            rows: &[],
            purses: &[],
        };
        assert!(self.finish(&workspace, whose, &rebuilt, now).await.expect("finish"));
    }

    async fn held(&self, request: &HoldRequest) {
        let outcome = self.hold(request).await.expect("hold");
        assert!(matches!(outcome, HoldOutcome::Held { .. }), "{outcome:?}");
    }

    async fn end(&self, workspace_name: &str, key: &str, now: Timestamp) {
        let applied = Applied {
            rows: Vec::new(),
            reservation: Some((id(workspace_name, key), Progress::Ended(End::Settled))),
            purses: Vec::new(),
        };
        self.apply(&workspace(workspace_name), &applied, &[], &[], now)
            .await
            .expect("apply");
    }

    async fn end_of(&self, workspace_name: &str, key: &str, now: Timestamp) -> Option<Option<End>> {
        let found = self.find(id(workspace_name, key), now).await.expect("find");
        found.map(|record| record.end)
    }

    /// Lets upkeep run at a moment, as often as it takes for a store that holds little.
    async fn tidy(&self, now: Timestamp) {
        for _ in 0..100 {
            self.due(now, 0).await.expect("due");
        }
    }

    /// How many workspaces, groups, counters and reservations there are in memory.
    fn sizes(&self) -> [usize; 4] {
        let mut sizes = [0; 4];
        for shard in &self.shards {
            let shard = self.lock(shard);
            let groups = || shard.workspaces.values().flat_map(|workspace| workspace.groups.values());
            let counts = [
                shard.workspaces.len(),
                groups().count(),
                groups().map(group::Group::len).sum(),
                shard.records.len(),
            ];
            sizes.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        sizes
    }
}

#[tokio::test]
async fn an_idle_store_gives_everything_back() {
    let store = MemoryCounters::new();
    for number in 0..50 {
        let (name, user) = (format!("ws_{number}"), format!("u{number}"));
        let day = counter(&user, 86_400);
        store.build(&name, &day.whose, START).await;
        store.held(&request(&name, "settled", std::slice::from_ref(&day), START)).await;
        store.held(&request(&name, "expires", &[day], START)).await;
        store.held(&request(&name, "unlimited", &[], START)).await;
        store.end(&name, "settled", START).await;
    }
    assert_eq!(store.sizes(), [50, 50, 50, 150]);
    assert_eq!(store.open().await.expect("open"), 100);
    store.tidy(at(GROUP_IDLE_SECONDS - 1)).await;
    assert_eq!(
        store.open().await.expect("open"),
        0,
        "expired holds are found without being asked about"
    );
    assert_eq!(store.sizes(), [50, 50, 50, 150], "groups are kept for an hour");
    for seconds in [2 * GROUP_IDLE_SECONDS, 3 * GROUP_IDLE_SECONDS] {
        store.tidy(at(seconds)).await;
    }
    assert_eq!(store.sizes(), [0, 0, 0, 150]);
    store.tidy(at(TOMBSTONE_SECONDS + HOLD_SECONDS)).await;
    assert_eq!(store.sizes(), [0, 0, 0, 0]);
    assert_eq!(store.tombstones.used(), 0);
}

#[tokio::test]
async fn what_is_in_use_is_not_given_back() {
    let store = MemoryCounters::new();
    let (day, idle) = (counter("ann", 10 * 86_400), counter("ben", 10 * 86_400));
    for counter in [&day, &idle] {
        store.build("ws", &counter.whose, START).await;
        store
            .held(&request("ws", counter.whose.column(), std::slice::from_ref(counter), START))
            .await;
    }
    store.held(&request("ws_unlimited", "r", &[], START)).await;
    for claimed in [id("ws", "ann"), id("ws_unlimited", "r")] {
        let record = store.claim(claimed, Claim::Final, START).await.expect("claim");
        assert!(record.is_ok_and(|record| record.is_some()));
    }
    for hours in 1..30 {
        store.tidy(at(hours * 3_600)).await;
    }
    assert_eq!(store.sizes(), [2, 1, 1, 2], "claimed holds keep their groups and workspaces");
    store.end("ws", "ann", at(30 * 3_600)).await;
    store.end("ws_unlimited", "r", at(30 * 3_600)).await;
    assert_eq!(store.open().await.expect("open"), 0);
    let balances = store.balances(&workspace("ws"), &[day], &[], Timestamp::MIN, at(30 * 3_600)).await;
    assert_eq!(balances.expect("balances"), Ok(vec![Balance::default()]));
}

#[tokio::test]
async fn what_is_held_on_a_grant_is_known_as_long_as_it_is_held() {
    let store = MemoryCounters::new();
    let [ann, ben] = ["ann", "ben"].map(|user| counter(user, 10 * 86_400));
    for whose in [&Whose::Workspace, &ann.whose, &ben.whose] {
        store.build("ws", whose, START).await;
    }
    let budget = BudgetId::parse("seats").expect("a budget");
    let purse = |version| Applied {
        purses: vec![Purse {
            budget: budget.clone(),
            unit: Unit::Tokens,
            left: 10,
            until: Timestamp::MAX,
            version,
        }],
        ..Applied::default()
    };
    store.apply(&workspace("ws"), &purse(1), &[], &[], START).await.expect("apply");
    let on_grant = |key: &str, counter: &Counter, now| {
        let mut request = request("ws", key, std::slice::from_ref(counter), now);
        request.purses = vec![PurseUse {
            budget: budget.clone(),
            counter: 0,
            hard: 0,
        }];
        request.charge_on_expiry = true;
        request.rungs[0].limits = vec![Limit {
            counter: 0,
            open_below: None,
            ceiling: Some(0),
            granted: true,
        }];
        request
    };
    store.held(&on_grant("r1", &ann, START)).await;
    let later = at(2 * GROUP_IDLE_SECONDS);
    store.tidy(later).await;
    // A store that had dropped the workspace's own group would be told anew what is left, and not who holds on it.
    for whose in [&Whose::Workspace, &ben.whose] {
        store.build("ws", whose, later).await;
    }
    let row = SumRow {
        counter: ben.clone(),
        spent: 0,
        version: 2,
        paid: 0,
    };
    let told = Applied {
        rows: vec![row],
        ..purse(2)
    };
    store.apply(&workspace("ws"), &told, &[], &[], later).await.expect("apply");
    let outcome = store.hold(&on_grant("r2", &ben, later)).await.expect("hold");
    assert!(matches!(outcome, HoldOutcome::Short { .. }), "{outcome:?}");
}

#[tokio::test]
async fn counters_leave_a_busy_group_with_their_period() {
    let store = MemoryCounters::new();
    let (minute, day) = (counter("ann", 60), counter("ann", 86_400));
    store.build("ws", &day.whose, START).await;
    store.held(&request("ws", "r", &[minute, day.clone()], START)).await;
    let mut left = Vec::new();
    for now in [at(KEEP_ENDED_SECONDS), at(KEEP_ENDED_SECONDS + 60), at(KEEP_ENDED_SECONDS + 700)] {
        let balances = store
            .balances(&workspace("ws"), std::slice::from_ref(&day), &[], Timestamp::MIN, now)
            .await;
        assert!(balances.expect("balances").is_ok());
        store.tidy(now).await;
        left.push(store.sizes()[2]);
    }
    assert_eq!(left, [2, 2, 1], "at the next visit after its hour");
}

#[tokio::test]
async fn ended_reservations_take_no_more_memory_than_they_may() {
    const BYTES_MAX: usize = 1 << 20;
    let store = MemoryCounters::with_tombstone_bytes(BYTES_MAX);
    store.end("ws_quiet", "first", START).await;
    for number in 0..20_000 {
        let now = at(number);
        store.held(&request("ws_busy", &format!("r{number}"), &[], now)).await;
        if number % 2 == 0 {
            store.end("ws_busy", &format!("r{number}"), now).await;
        }
        assert!(store.tombstones.used() <= BYTES_MAX, "after {number}");
    }
    let now = at(20_000);
    assert_eq!(store.end_of("ws_busy", "r0", now).await, None, "the oldest go first");
    assert_eq!(store.end_of("ws_busy", "r19998", now).await, Some(Some(End::Settled)));
    assert_eq!(store.end_of("ws_busy", "r19901", now).await, Some(Some(End::Expired)));
    assert_eq!(
        store.end_of("ws_quiet", "first", now).await,
        Some(Some(End::Settled)),
        "not at the cost of others"
    );
    assert!(store.tombstones.used() > BYTES_MAX / 3, "what may be used is used");
}

#[tokio::test]
async fn a_reservation_that_is_held_again_is_not_forgotten_with_its_old_end() {
    let store = MemoryCounters::new();
    for number in 0..100 {
        store.end("ws", &format!("r{number}"), START).await;
    }
    let later = at(TOMBSTONE_SECONDS);
    store.held(&request("ws", "r99", &[], later)).await;
    store.tidy(later).await;
    assert_eq!(store.end_of("ws", "r99", later).await, Some(None));
    assert_eq!(store.sizes()[3], 1);
}

#[tokio::test]
async fn a_panic_under_a_lock_costs_its_shard_and_nothing_else() {
    let store = Arc::new(MemoryCounters::new());
    for name in ["ws_a", "ws_b"] {
        store.held(&request(name, "live", &[], START)).await;
        store.end(name, "ended", START).await;
    }
    assert_ne!(
        slot(&workspace("ws_a")) as usize % SHARDS,
        slot(&workspace("ws_b")) as usize % SHARDS
    );
    let panicking = store.clone();
    let panicked = std::thread::spawn(move || {
        let _guard = panicking.shard(slot(&workspace("ws_a")));
        panic!("on purpose, under the lock");
    });
    assert!(panicked.join().is_err());
    assert_eq!(store.end_of("ws_a", "live", START).await, None);
    assert_eq!(store.end_of("ws_b", "live", START).await, Some(None));
    store.held(&request("ws_a", "live", &[], START)).await;
    assert_eq!(store.end_of("ws_a", "live", START).await, Some(None), "the shard goes on");
    assert_eq!(store.sizes()[3], 3, "the other shard has all it had");
}
