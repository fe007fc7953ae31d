//! What every counter store must make true, as sentences. They speak through the trait alone, so one list serves each store: it gives an
//! `async fn store() -> impl Counters`, empty and for itself, and says `counters_contract_over!(store)` in its tests.
//!
//! Time is an argument everywhere, so nothing here sleeps. Beside the sentences, `agreement.rs` runs random operations over a store and over
//! `naive.rs`, a second store that is too simple to be wrong, and wants the same answers.

mod admission;
mod agreement;
mod books;
mod claims;
pub(crate) mod desk;
mod ends;
mod expiry;
mod grants;
mod idempotency;
pub(crate) mod many;
mod model;
mod model_runs;
mod naive;
mod op;
mod rebuild;
mod runs;
mod sums;
mod waiting;
mod world;

pub(crate) use admission::*;
pub(crate) use agreement::{Stores, histories_agree};
pub(crate) use claims::*;
pub(crate) use ends::*;
pub(crate) use expiry::*;
pub(crate) use grants::*;
pub(crate) use idempotency::*;
pub(crate) use many::*;
pub(crate) use naive::Naive;
pub(crate) use rebuild::*;
pub(crate) use runs::*;
pub(crate) use sums::*;
pub(crate) use waiting::*;
pub(crate) use world::Mode;

/// Of stores that need nothing which may be missing.
pub(crate) fn always() -> bool {
    true
}

/// The list. It defines `counters_contract_over!`, which makes a test of each sentence for one store.
macro_rules! counters_contract {
    ($($case:ident),* $(,)?) => {
        macro_rules! counters_contract_over {
            ($store:path) => {
                $crate::counters::contract::counters_contract_over!($store, $crate::counters::contract::always);
            };
            // `if` says whether there can be such a store here.
            ($store:path, $if:path) => { $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    if $if() {
                        $crate::counters::contract::$case(std::sync::Arc::new($store().await)).await;
                    }
                }
            )* };
        }
        pub(crate) use counters_contract_over;
    };
}

counters_contract![
    // Admission
    two_racing_holds_cannot_both_take_the_last_token,
    a_thousand_racing_holds_take_exactly_what_there_is,
    racing_holds_over_crossing_counters_are_whole_or_nothing,
    one_short_budget_leaves_every_other_counter_untouched,
    the_first_rung_that_fits_is_taken,
    a_capped_rung_takes_what_is_left_and_no_more,
    a_soft_limit_closes_its_rung_before_the_hard_one,
    an_answer_tells_the_balances_just_before_it,
    a_hold_of_nothing_fits_a_full_counter,
    a_hold_without_counters_takes_the_first_rung,
    a_workspace_holds_no_more_reservations_than_it_may,
    workspaces_users_and_features_do_not_share_counters,
    a_limit_on_a_counter_that_is_not_there_is_an_error_and_holds_nothing,
    // Together
    of_holds_asked_for_together_the_first_get_what_is_left,
    holds_asked_for_together_are_each_decided_by_themselves,
    one_id_twice_among_many_holds_once,
    a_capped_hold_among_many_takes_its_turn,
    what_needs_a_second_look_keeps_its_turn_among_many,
    expired_holds_are_free_for_many_at_once,
    many_at_a_fresh_store_ask_for_what_must_be_rebuilt,
    racing_batches_take_exactly_what_there_is,
    // Idempotency
    the_same_reservation_twice_holds_once,
    fifty_equal_requests_at_once_hold_once_and_are_answered_alike,
    a_replay_needs_no_room_and_no_rebuilt_group,
    the_same_id_with_another_body_is_a_mismatch,
    an_ended_reservation_answers_with_its_end,
    an_end_is_remembered_for_a_day,
    an_apply_may_end_and_forget_at_once,
    the_end_of_an_unknown_reservation_is_remembered,
    an_unknown_reservation_is_not_found,
    // Expiry
    a_hold_past_its_expiry_is_free_even_if_no_sweeper_ran,
    an_expired_hold_keeps_what_a_late_settle_needs,
    a_charged_hold_waits_for_the_ledger,
    an_extension_never_shortens_and_never_passes_seven_days,
    an_extended_hold_lives_until_its_new_expiry,
    what_has_ended_cannot_be_extended,
    // Claims
    a_claimed_hold_does_not_expire_by_itself,
    nothing_but_an_apply_frees_a_claimed_hold,
    claims_only_grow,
    a_claim_ends_only_when_what_was_applied_reaches_it,
    a_hold_that_has_ended_is_not_claimed,
    checkpoints_out_of_order_and_doubled_come_to_one_total,
    a_checkpointed_hold_frees_only_the_rest_when_it_expires,
    usage_beyond_the_hold_frees_the_hold_and_no_more,
    // Ends
    a_settle_frees_what_is_left_at_once,
    the_first_end_stays,
    an_expired_hold_may_be_settled_late_and_gives_nothing_back_twice,
    a_reservation_of_another_workspace_is_left_alone,
    an_attempt_stays_counted_in_its_minute_after_a_release,
    an_attempt_stays_counted_in_its_hour_after_an_expiry,
    a_settled_attempt_is_counted_once,
    an_attempt_that_is_settled_late_is_counted_once,
    an_attempt_that_is_charged_is_counted_once,
    // Sums
    an_older_sum_never_replaces_a_newer_one,
    a_correction_lowers_a_counter,
    an_apply_answers_with_what_it_left,
    a_new_counter_comes_with_its_row,
    counters_stay_for_an_hour_after_their_period,
    sums_and_ends_of_a_dropped_period_are_harmless,
    // Rebuild
    a_fresh_store_asks_for_every_group,
    a_group_is_ready_once_its_rebuild_ended,
    of_two_rebuilders_one_waits_and_joins_in_time,
    whoever_joined_a_rebuild_may_end_it_and_each_makes_the_next_wait_longer,
    clocks_that_differ_make_no_two_rebuild_against_each_other,
    a_rebuild_of_the_far_future_keeps_nobody_waiting,
    a_finish_whose_token_is_not_the_current_one_is_thrown_away,
    a_finish_ends_one_rebuild,
    an_apply_during_a_rebuild_is_not_undone_by_it,
    a_rebuild_of_a_live_group_keeps_what_is_held_and_stops_nobody,
    a_thousand_requests_at_a_fresh_store_rebuild_it_once,
    a_period_that_began_after_the_build_begins_at_zero,
    a_counter_that_was_named_in_mid_period_is_read_from_the_ledger,
    a_lifetime_is_never_taken_for_zero,
    a_zero_that_no_row_confirmed_does_not_outlive_its_policy,
    // Grants
    a_purse_raises_a_limit_by_what_is_left_of_it,
    counters_that_share_a_purse_hold_no_more_than_it_has,
    racing_holds_of_several_counters_take_exactly_the_purse,
    what_was_paid_stays_with_its_counter,
    a_commit_that_was_not_applied_yet_counts_as_held,
    an_older_purse_never_replaces_a_newer_one,
    a_purse_that_is_not_known_asks_for_its_group,
    a_purse_is_of_one_unit,
    what_the_period_before_still_holds_is_not_there_for_the_next_one,
    a_replay_tells_what_was_granted,
    a_capped_rung_takes_what_a_purse_has_left,
    soft_limits_are_raised_too,
    // Waiting
    a_claim_that_stays_open_is_due_after_a_minute,
    a_charged_hold_is_due_at_its_expiry,
    a_charged_hold_with_a_claim_in_flight_is_due_by_the_claim,
    what_is_due_is_named_until_it_ends_and_no_more_than_asked,
    an_expiry_that_is_to_be_told_is_due_until_its_end_is_applied,
    what_ended_before_it_was_told_is_not_told,
    a_claim_in_flight_puts_off_what_is_told,
    an_extended_hold_is_told_at_its_new_expiry,
    parents_and_calls_of_runs_are_told,
    what_is_charged_is_told_by_whoever_ends_it,
    free_at_names_the_expiry_that_makes_room,
    free_at_counts_on_nothing_that_does_not_expire_by_itself,
    free_at_looks_as_far_as_it_must,
    free_at_looks_at_so_many_holds_and_tells_how_far,
    free_at_passes_over_holds_of_others,
    open_reservations_are_counted,
    // Runs
    a_call_takes_its_need_from_its_parent_and_no_counter_changes,
    racing_calls_take_no_more_than_their_parent_holds,
    racing_calls_are_no_more_than_their_parent_admits,
    what_a_call_did_not_use_goes_back_once,
    a_call_that_was_settled_without_a_word_gives_nothing_back,
    a_call_that_is_released_or_expires_gives_all_back,
    a_streaming_call_moves_what_it_used_as_it_goes,
    what_a_call_used_beyond_its_hold_its_parent_has_less,
    a_parent_that_owes_more_than_it_has_pays_from_what_comes_back,
    a_parent_that_is_released_frees_what_no_call_holds,
    a_parent_that_expires_frees_what_no_call_holds,
    a_call_lives_no_longer_than_its_parent,
    a_call_that_outlasts_its_parent_is_extended_no_more,
    a_call_that_is_charged_or_claimed_outlasts_its_parent_until_the_ledger_ends_it,
    a_late_settle_of_a_call_gives_nothing_back_twice,
    the_same_call_twice_takes_once,
    fifty_equal_calls_at_once_take_once,
    a_parent_must_be_there_live_and_of_this_workspace,
    runs_have_one_level_and_begin_before_any_report,
    a_parent_is_neither_claimed_nor_charged,
    calls_count_among_the_open_before_their_parent_is_asked,
    a_parent_is_a_ceiling_in_the_units_that_its_counters_count,
    a_capped_call_takes_what_its_parent_has_left,
    attempts_of_calls_stay_counted_in_their_minute,
    free_at_counts_what_calls_hold_at_the_expiry_of_their_parent,
    another_hold_of_the_same_id_is_another_parent,
];

/// The naive store keeps the contract too; otherwise agreeing with it would mean little.
mod over_the_naive_store {
    async fn store() -> super::naive::Naive {
        super::naive::Naive::default()
    }

    super::counters_contract_over!(store);
}
