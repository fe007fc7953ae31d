//! Random histories: whatever happens to several stores, in whatever order, all of them answer each operation alike, and limits hold.
//!
//! Many histories are under way at once, each over stores of its own, so that nobody waits for a round trip. Every lane of them draws from a
//! seed of its own. A failure is shrunk to few operations and told with its seed: as `PROPTEST_RNG_SEED` that is the first lane's, which
//! then draws the same histories again.

use super::desk::Store;
use super::op::{Op, WORKSPACES, history};
use super::world::{Mode, World};
use futures_util::future::try_join_all;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};

/// How many histories are under way at once.
const LANES: u32 = 8;
/// `PROPTEST_CASES` asks for more or fewer than proptest's own, and so for more or fewer histories.
const CASES_USUALLY: u32 = 256;
/// How many shorter histories are tried once one has failed.
const SHORTER_MAX: u32 = 4_000;

/// What is compared: each store with its name, the last of them the one to which the others are held.
pub(crate) type Stores = Vec<(&'static str, Store)>;

/// Lets the same happen to all stores, and asks at last for what nobody asked. Says where they part, or which limit was passed.
async fn run(stores: Stores, mode: Mode, ops: &[Op]) -> Result<(), String> {
    let mut worlds: Vec<_> = stores.into_iter().map(|(name, store)| (name, World::new(store, mode))).collect();
    let (last, others) = worlds.split_last_mut().ok_or("no store")?;
    let balances = |workspace| Op::Balances {
        workspace,
        named_seconds_ago: None,
    };
    let all = ops.iter().cloned().chain((0..WORKSPACES).map(balances));
    for (place, op) in all.enumerate() {
        let told = last.1.apply(&op).await;
        for (name, world) in &mut *others {
            let answer = world.apply(&op).await;
            if answer != told {
                return Err(format!("op {place}, {op:?}: {name} answers {answer:#?}\nbut {}: {told:#?}", last.0));
            }
        }
        // All gave the same answers, so one may speak for them.
        last.1.check().await.map_err(|wrong| format!("after op {place}, {op:?}: {wrong}"))?;
    }
    Ok(())
}

/// Tries one history after the other, of those that come from a seed.
async fn lane(seed: u64, mode: Mode, histories: u32, fresh: &impl AsyncFn() -> Stores) -> Result<(), String> {
    let config = Config {
        rng_seed: RngSeed::Fixed(seed),
        // The usual one is a tenth of all that a debug build does here.
        rng_algorithm: RngAlgorithm::XorShift,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new(config);
    let strategy = history();
    for number in 0..histories {
        let mut drawn = strategy.new_tree(&mut runner).map_err(|why| why.to_string())?;
        let mut ops = drawn.current();
        let Err(mut wrong) = run(fresh().await, mode, &ops).await else {
            continue;
        };
        let mut goes_on = drawn.simplify();
        for _ in 0..SHORTER_MAX {
            if !goes_on {
                break;
            }
            let shorter = drawn.current();
            goes_on = match run(fresh().await, mode, &shorter).await {
                Ok(()) => drawn.complicate(),
                Err(why) => {
                    (ops, wrong) = (shorter, why);
                    drawn.simplify()
                }
            };
        }
        return Err(format!("history {number} of PROPTEST_RNG_SEED={seed}: {wrong}\nof {ops:#?}"));
    }
    Ok(())
}

/// Tries about so many random histories over stores that `fresh` makes; `WEIR_TEST_HISTORIES` asks for another number.
pub(crate) fn histories_agree(mode: Mode, histories: u32, fresh: impl AsyncFn() -> Stores) {
    let usual = Config::default();
    let asked = std::env::var("WEIR_TEST_HISTORIES").ok();
    let histories = match asked {
        Some(number) => number.parse().expect("WEIR_TEST_HISTORIES is a number"),
        None => histories.saturating_mul(usual.cases) / CASES_USUALLY,
    };
    let first = match usual.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand::random(),
    };
    println!("{mode:?}: {histories} histories, of seeds from {first} on");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let seeds = (0..LANES).map(|number| first.wrapping_add(u64::from(number)));
    let lanes = seeds.map(|seed| lane(seed, mode, histories.div_ceil(LANES), &fresh));
    if let Err(wrong) = runtime.block_on(try_join_all(lanes)) {
        panic!("{mode:?}: {wrong}");
    }
}
