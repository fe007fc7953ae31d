//! Random histories: whatever happens to a store and to the naive one, in whatever order, both answer the same, and limits hold.

use super::desk::Store;
use super::naive::Naive;
use super::op::{Op, history};
use super::world::{Mode, World};
use crate::counters::Counters;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::sync::Arc;

/// How many histories a run tries, and more or fewer where `PROPTEST_CASES` asks for more or fewer than proptest's own 256.
const HISTORIES: u32 = 200;
const CASES_USUALLY: u32 = 256;

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

/// Tries random histories over stores that `fresh` makes.
pub(crate) fn histories_agree<S: Counters + 'static>(mode: Mode, fresh: impl AsyncFn() -> S) {
    histories_agree_in(mode, HISTORIES, fresh);
}

/// Tries so many of them. A failure is shrunk to few ops before it is told.
pub(crate) fn histories_agree_in<S: Counters + 'static>(mode: Mode, histories: u32, fresh: impl AsyncFn() -> S) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let usual = Config::default();
    let config = Config {
        cases: histories.saturating_mul(usual.cases) / CASES_USUALLY,
        failure_persistence: None,
        ..usual
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
