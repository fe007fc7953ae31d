//! Random histories: whatever happens to a store and to the naive one, in whatever order, both answer the same, and limits hold.
//!
//! The names of fields and the sizes of numbers are chosen so that collisions are common: few keys, few counters, tight ceilings.

use super::desk::Store;
use super::naive::Naive;
use super::world::{Ask, GROUPS, KEYS, Key, MENU, Mode, Op, WORKSPACES, World};
use crate::counters::Counters;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::sync::Arc;

/// How many histories a run tries, and how long each is at most.
const HISTORIES: u32 = 200;
const OPS_MAX: usize = 120;

fn key() -> impl Strategy<Value = Key> {
    (prop::bool::weighted(0.2).prop_map(usize::from), 0..KEYS).prop_map(|(workspace, number)| Key(workspace, number))
}

/// Steps around all that the promises say of time: milliseconds for rebuilds, a minute for claims, up to more than a day for tombstones.
fn micros() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 0..400_000i64,
        8 => (1..100i64).prop_map(|seconds| seconds * 1_000_000),
        3 => (100..3_000i64).prop_map(|seconds| seconds * 1_000_000),
        1 => (1..30i64).prop_map(|hours| hours * 3_600_000_000),
    ]
}

fn ago() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![3 => Just(None), 1 => (0..4_000i64).prop_map(Some)]
}

fn ask() -> impl Strategy<Value = Ask> {
    let amounts = (0..80i64, 0..150i64, prop_oneof![3 => 1..200i64, 1 => 200..100_000i64]);
    let who = (key(), prop_oneof![9 => Just(1u128), 1 => Just(2)], 0..1u8 << MENU);
    let how = (prop::bool::weighted(0.2), prop_oneof![4 => Just(100u32), 1 => 1..4u32], ago());
    (who, amounts, how).prop_map(
        |((key, fingerprint, counters), (tokens, ceiling, seconds), (charged, open_max, named_seconds_ago))| Ask {
            key,
            fingerprint,
            counters,
            tokens,
            ceiling,
            seconds,
            charged,
            open_max,
            named_seconds_ago,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let percent = || 0..150i64;
    let delivered = || prop::bool::weighted(0.6);
    let workspace = || 0..WORKSPACES;
    prop_oneof![
        8 => micros().prop_map(|micros| Op::Pass { micros }),
        24 => ask().prop_map(Op::Hold),
        3 => (key(), prop::option::of(percent())).prop_map(|(key, percent)| Op::Claim { key, percent }),
        7 => (key(), percent(), delivered()).prop_map(|(key, percent, delivered)| Op::Settle { key, percent, delivered }),
        8 => (key(), percent(), delivered()).prop_map(|(key, percent, delivered)| Op::Checkpoint { key, percent, delivered }),
        2 => (key(), delivered()).prop_map(|(key, delivered)| Op::Release { key, delivered }),
        3 => delivered().prop_map(|delivered| Op::Resolve { delivered }),
        4 => (0..1_000usize).prop_map(|commit| Op::Deliver { commit }),
        2 => (0..MENU, -50..50i64, delivered()).prop_map(|(counter, by, delivered)| Op::Correct { counter, by, delivered }),
        2 => (key(), -10..2_000i64).prop_map(|(key, seconds)| Op::Extend { key, seconds }),
        2 => key().prop_map(|key| Op::Find { key }),
        2 => (workspace(), ago()).prop_map(|(workspace, named_seconds_ago)| Op::Balances { workspace, named_seconds_ago }),
        3 => (workspace(), 0..MENU, 0..100i64).prop_map(|(workspace, counter, room)| Op::FreeAt { workspace, counter, room }),
        3 => (workspace(), 0..GROUPS).prop_map(|(workspace, group)| Op::Rebuild { workspace, group }),
        2 => (workspace(), 0..GROUPS).prop_map(|(workspace, group)| Op::Begin { workspace, group }),
        2 => (0..1_000usize).prop_map(|rebuild| Op::Finish { rebuild }),
    ]
}

/// Mostly with all groups built before it begins, so that not everything is refused for want of them.
fn history() -> impl Strategy<Value = Vec<Op>> {
    let build_all = || (0..WORKSPACES).flat_map(|workspace| (0..GROUPS).map(move |group| Op::Rebuild { workspace, group }));
    let built = prop::bool::weighted(0.9);
    (built, prop::collection::vec(op(), 1..OPS_MAX)).prop_map(move |(built, ops)| build_all().filter(|_| built).chain(ops).collect())
}

/// Lets the same happen to both stores. Says where they part, or which limit was passed.
async fn run(stores: [Store; 2], mode: Mode, ops: &[Op]) -> Result<(), String> {
    let [mut one, mut other] = stores.map(|store| World::new(store, mode));
    for (place, op) in ops.iter().enumerate() {
        let answers = (one.apply(op).await, other.apply(op).await);
        if answers.0 != answers.1 {
            return Err(format!(
                "op {place}, {op:?}: {:#?}\nbut the naive store: {:#?}",
                answers.0, answers.1
            ));
        }
        one.check().await.map_err(|wrong| format!("after op {place}, {op:?}: {wrong}"))?;
    }
    Ok(())
}

/// Tries random histories over stores that `fresh` makes. A failure is shrunk to few ops before it is told.
pub(crate) fn histories_agree<S: Counters + 'static>(mode: Mode, fresh: impl AsyncFn() -> S) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let config = Config {
        cases: HISTORIES,
        failure_persistence: None,
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&history(), |ops| {
        let stores = || async { [Arc::new(fresh().await) as Store, Arc::new(Naive::default()) as Store] };
        runtime
            .block_on(async { run(stores().await, mode, &ops).await })
            .map_err(TestCaseError::fail)
    });
    if let Err(failure) = tried {
        panic!("{mode:?}: {failure}");
    }
}
