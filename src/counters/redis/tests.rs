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

use crate::counters::contract::{Mode, counters_contract_over, histories_agree_in};
use crate::counters::redis_server::is_there;

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

/// How many histories each of the three modes tries. Each is some hundred round trips, so that more would take more than half a minute of two
/// cores; `WEIR_TEST_HISTORIES` asks for more, and 3,400 in each mode agreed.
const HISTORIES: u32 = 200;

fn agree(mode: Mode) {
    if is_there() {
        let asked = std::env::var("WEIR_TEST_HISTORIES").ok();
        let histories = asked.map_or(HISTORIES, |number| number.parse().expect("WEIR_TEST_HISTORIES is a number"));
        histories_agree_in(mode, histories, shared::fresh_stores());
    }
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
