//! The contract over one server and over a cluster, the agreement with the naive store, and what only this store has to survive.
//!
//! The servers are real and shared by all cases; each case has keys of its own.

mod due;
mod exact;
mod faults;
mod following;
mod keys_lost;
mod moving;
mod runs;
mod set_back;
mod shared;
mod tls;

use crate::counters::contract::desk::{Desk, Store, daily};
use crate::counters::contract::many::race_in_batches;
use crate::counters::contract::{Mode, Naive, counters_contract_over, histories_agree};
use crate::counters::memory::MemoryCounters;
use crate::counters::redis_server::is_there;
use std::sync::Arc;

mod over_one_server {
    use super::shared::on_one_server as store;

    super::counters_contract_over!(store, super::is_there);
}

mod over_a_cluster {
    use super::shared::on_a_cluster as store;

    super::counters_contract_over!(store, super::is_there);
}

mod over_a_cluster_whose_slots_move {
    use super::moving::on_a_cluster_whose_slots_move as store;

    super::counters_contract_over!(store, super::is_there);
}

/// Not so while slots move: of a batch whose counters must be rebuilt first, some may be decided after that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_batches_that_race_the_first_come_first() {
    if !is_there() {
        return;
    }
    for store in [shared::on_one_server().await, shared::on_a_cluster().await] {
        let desk = Desk::open(Arc::new(store), &[&daily()]).await;
        for told in race_in_batches(&desk).await {
            let held = told.iter().take_while(|word| **word == "held").count();
            assert!(told[held..].iter().all(|word| *word == "short"), "{told:?}");
        }
    }
}

/// How many histories each of the three modes tries: 3,000 in all, a minute of two cores. Each is about seventy operations, and some two
/// hundred questions to three stores: 25 ms of processor time in a debug build and 12 ms of Redis, so 54 a second where two cores have nothing
/// else to do, and 10,000 would be three minutes. Each tree has other ones, and `WEIR_TEST_HISTORIES=3400` tries more than 10,000.
const HISTORIES: u32 = 1_000;

/// The same happens to a store in Redis, to one in memory and to the naive one.
fn agree(mode: Mode) {
    if !is_there() {
        return;
    }
    let fresh = shared::fresh_stores();
    histories_agree(mode, HISTORIES, async || {
        vec![
            ("Redis", Arc::new(fresh().await) as Store),
            ("memory", Arc::new(MemoryCounters::new())),
            ("naive", Arc::new(Naive::default())),
        ]
    });
}

#[test]
fn any_history_is_answered_as_the_naive_store_answers_it() {
    agree(Mode::Wild);
}

#[test]
fn whatever_order_applies_come_in_the_ledger_never_passes_a_ceiling() {
    agree(Mode::Strict);
}

#[test]
fn spent_and_held_never_pass_a_ceiling_while_applies_come_in_order() {
    agree(Mode::Orderly);
}
