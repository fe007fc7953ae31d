//! Doubles decide, and yet to the unit: whatever the numbers, this store takes the rung that the rules in 128 bits take.

use super::shared::fresh_stores;
use crate::counters::contract::desk::{Desk, daily, row};
use crate::counters::memory::MemoryCounters;
use crate::counters::redis_server::is_there;
use crate::counters::{Counters, HoldRequest};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::Counter;
use crate::decision::rung::{Cap, EXACT_MAX, Limit, Line, Rung};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::sync::Arc;

/// How many requests are tried.
const REQUESTS: u32 = 400;
const COUNTERS: [Unit; 4] = [Unit::Tokens, Unit::Usd, Unit::Requests, Unit::Credits];

/// Amounts of every size up to what may be asked for, with an inclination to the edges.
fn amount() -> impl Strategy<Value = i64> {
    let edge = (EXACT_MAX - 1) as i64;
    prop_oneof![
        4 => 0..2_000i64,
        3 => (0..52u32, 0..1_000i64).prop_map(move |(bits, less)| ((1i64 << bits) - less).clamp(0, edge)),
        1 => 0..=edge,
    ]
}

/// Sums and limits of every size that 64 bits can be trusted with.
fn sum() -> impl Strategy<Value = i64> {
    prop_oneof![
        3 => 0..4_000i64,
        3 => (0..62u32, -1_000..1_000i64).prop_map(|(bits, more)| (1i64 << bits) + more),
        1 => (0..62u32, -1_000..1_000i64).prop_map(|(bits, more)| more - (1i64 << bits)),
    ]
}

fn line(output: i64) -> impl Strategy<Value = Line> {
    let whole = (
        amount(),
        amount(),
        prop_oneof![Just(1i64), 1..10_000i64, Just(1_000_000_000_000i64)],
        any::<bool>(),
    );
    whole.prop_map(move |(base, per_output, denominator, up)| {
        let line = Line::new(i128::from(base), i128::from(per_output), i128::from(denominator), output, up);
        // What the rules bound before a store is asked.
        let longest = i128::from(line.base) + i128::from(line.per_output) * i128::from(output);
        if longest < EXACT_MAX {
            line
        } else {
            Line {
                base: 0,
                per_output: 1,
                denominator: 1,
                up,
            }
        }
    })
}

fn rung(now: crate::decision::time::Timestamp) -> impl Strategy<Value = Rung> {
    let limits = prop::collection::vec(
        (
            0..COUNTERS.len(),
            prop::option::weighted(0.2, sum()),
            prop::option::weighted(0.9, sum()),
        ),
        0..4,
    );
    (prop::array::uniform4(amount()), 0..100_000i64, limits, any::<bool>()).prop_flat_map(move |(needs, output, limits, capped)| {
        let cap = (line(output), line(output), line(output), 0..=output);
        cap.prop_map(move |(tokens, usd, credits, least)| {
            let cap = Cap {
                least,
                tokens,
                usd,
                credits,
            };
            Rung {
                needs: Amounts {
                    tokens: needs[0],
                    usd: needs[1],
                    requests: needs[2],
                    credits: needs[3],
                },
                output,
                cap: capped.then_some(cap),
                limits: limits
                    .iter()
                    .map(|(counter, open_below, ceiling)| Limit {
                        granted: false,
                        counter: *counter,
                        open_below: *open_below,
                        ceiling: *ceiling,
                    })
                    .collect(),
                expires_at: now.plus_seconds(60),
            }
        })
    })
}

/// Both stores get the same rows and the same requests, and must give the same answers.
async fn agree(stores: [Arc<dyn Counters>; 2], spent: [i64; 4], requests: &[Vec<Rung>]) -> Result<(), String> {
    let counters = COUNTERS.map(|unit| Counter { unit, ..daily() });
    let mut told: Vec<Vec<String>> = Vec::new();
    for store in stores {
        let desk = Desk::open(store, &counters.iter().collect::<Vec<_>>()).await;
        let rows: Vec<_> = counters.iter().zip(spent).map(|(counter, spent)| row(counter, spent, 2)).collect();
        desk.apply_rows(&rows).await;
        let mut answers = Vec::new();
        for (place, rungs) in requests.iter().enumerate() {
            let request = HoldRequest {
                counters: counters.to_vec(),
                rungs: rungs.clone(),
                ..desk.ask(&format!("r{place}"), 0, &[])
            };
            answers.push(format!("{:?}", desk.hold(&request).await));
        }
        desk.release(desk.id("r0")).await;
        for counter in &counters {
            answers.push(format!("{:?}", desk.known(counter).await));
        }
        told.push(answers);
    }
    if told[0] == told[1] {
        Ok(())
    } else {
        Err(format!("{:#?}\nbut in memory {:#?}", told[0], told[1]))
    }
}

#[test]
fn the_scripts_take_the_rung_that_exact_arithmetic_takes() {
    if !is_there() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let fresh = fresh_stores();
    let config = Config {
        cases: REQUESTS,
        failure_persistence: None,
        ..Config::default()
    };
    let now = crate::counters::contract::desk::NOON;
    let asked = (
        prop::array::uniform4(sum()),
        prop::collection::vec(prop::collection::vec(rung(now), 1..4), 1..6),
    );
    let tried = TestRunner::new(config).run(&asked, |(spent, requests)| {
        let both = async { agree([Arc::new(fresh().await), Arc::new(MemoryCounters::new())], spent, &requests).await };
        runtime.block_on(both).map_err(TestCaseError::fail)
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}
