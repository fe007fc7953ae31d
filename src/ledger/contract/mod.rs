//! The promises of a ledger as a list of sentences. Each ledger makes all of them true, through the trait alone.

use super::Ledger;
use async_trait::async_trait;
use std::sync::Arc;

pub(super) mod admin;
pub(super) mod api_keys;
pub(super) mod audit;
pub(super) mod billing;
pub(super) mod book;
pub(super) mod cached;
pub(super) mod cascade;
pub(super) mod checkpoints;
pub(super) mod credits;
pub(super) mod decisions;
pub(super) mod described;
pub(super) mod ends;
pub(super) mod events;
pub(super) mod fair_use;
pub(super) mod grants;
pub(super) mod history;
pub(super) mod inbound;
pub(super) mod invoices;
pub(super) mod levels;
pub(super) mod lists;
pub(super) mod nodes;
pub(super) mod posts;
pub(super) mod random;
pub(super) mod sums;
pub(super) mod webhooks;

/// What a ledger brings to be tested: made with nothing in it.
#[async_trait]
pub(super) trait Fixture: Send {
    fn ledger(&self) -> Arc<dyn Ledger>;

    /// Ends the ledger and opens it again over what it left.
    async fn reopen(&mut self);
}

/// Runs every case over the ledgers of `$fixture`, an `async fn() -> Option<Box<dyn Fixture>>`; `None`: what it needs is not installed here,
/// and it has said so.
macro_rules! ledger_contract {
    ($fixture:path) => {
        $crate::ledger::contract::ledger_contract! { $fixture:
            posts::a_post_is_how_the_reservation_stands,
            posts::an_entry_comes_back_as_it_was_written,
            posts::nothing_is_known_of_an_id_before_its_first_post,
            posts::the_same_post_twice_is_written_once,
            posts::a_post_decided_on_an_old_revision_writes_nothing,
            posts::a_post_decided_on_a_revision_that_never_was_writes_nothing,
            posts::fifty_racing_settles_have_one_winner,
            posts::of_racing_settle_release_and_expiry_one_wins,
            posts::an_end_is_not_taken_back_by_a_post_that_leaves_it_open,
            posts::an_expired_reservation_is_settled_late_once,
            posts::a_post_without_entries_keeps_the_entry_that_is_known,
            posts::a_post_may_record_a_use_and_its_correction,
            posts::a_request_id_is_of_one_workspace,
            posts::a_refused_post_leaves_its_neighbours_alone,
            posts::a_post_that_cannot_be_written_leaves_its_neighbours_alone,
            posts::a_sum_that_would_leave_64_bits_is_refused_alone,
            posts::the_post_of_a_caller_who_went_away_is_written,
            posts::the_first_post_creates_the_workspace,
            posts::a_refused_post_creates_nothing,
            posts::everything_is_there_after_a_restart,
            sums::a_named_row_is_born_with_all_that_was_there_and_its_own_part,
            sums::a_row_is_born_once_among_racing_posts,
            sums::a_row_is_born_once_among_racing_readers_and_posts,
            sums::a_row_that_no_post_names_moves_all_the_same,
            sums::a_row_that_is_named_without_use_is_born_empty,
            sums::a_refused_post_gives_birth_to_no_row,
            sums::a_users_row_counts_that_user_alone,
            sums::requests_without_a_user_count_as_one_shared_user,
            sums::a_features_row_counts_that_feature_alone,
            sums::units_are_counted_apart,
            sums::a_period_has_its_start_and_not_its_end,
            sums::a_lifetime_counts_everything,
            sums::periods_of_equal_bounds_and_other_kinds_are_other_rows,
            sums::a_use_of_long_ago_moves_the_rows_of_its_own_time,
            sums::a_correction_lowers_a_sum,
            sums::a_post_moves_no_row_of_another_workspace,
            sums::versions_rise_with_each_post_that_moves_a_row,
            sums::the_answer_has_every_row_that_the_post_fell_into_or_named,
            sums::a_reader_gives_birth_to_what_it_names_and_sees_the_rest_of_the_group,
            sums::a_reader_creates_the_workspace,
            sums::rows_of_ended_periods_are_not_read,
            checkpoints::an_open_checkpoint_is_spent,
            checkpoints::a_checkpoint_replaces_the_one_before,
            checkpoints::the_final_entry_takes_the_place_of_the_checkpoint,
            checkpoints::a_checkpoint_of_another_time_user_and_feature_leaves_no_trace,
            checkpoints::a_checkpoint_that_is_taken_away_is_given_back,
            checkpoints::a_row_born_beside_an_open_checkpoint_counts_it,
            checkpoints::open_checkpoints_are_told_in_pages_with_the_sums_that_they_fell_into,
            checkpoints::a_checkpoint_that_becomes_the_entry_moves_nothing_and_names_its_rows,
            checkpoints::checkpoints_are_due_from_their_expiry_on_oldest_first,
            checkpoints::an_extended_checkpoint_is_due_later_and_never_earlier,
            ends::each_end_has_its_entry_whatever_way_it_came_to_be,
            lists::entries_are_listed_newest_first,
            lists::pages_have_no_gap_and_no_double_while_entries_are_added,
            lists::a_list_has_its_from_and_not_its_to,
            lists::lists_are_filtered,
            lists::a_list_is_of_one_workspace,
            lists::a_page_has_a_limit,
            decisions::a_logged_decision_is_found_as_it_was_written,
            decisions::a_decision_that_is_logged_twice_stays_as_it_was,
            decisions::many_decisions_are_logged_at_once,
            decisions::decisions_are_pruned_by_age_in_slices,
            decisions::decisions_are_pruned_to_the_newest_of_their_kind,
            described::a_workspace_is_created_once_and_replaced_at_its_version,
            described::of_racing_changes_of_a_workspace_one_wins,
            described::describing_a_workspace_moves_no_sum,
            described::a_workspace_is_found_by_its_plan,
            described::policy_begins_empty_and_each_change_makes_a_version,
            described::a_change_of_policy_on_an_old_version_changes_nothing,
            described::of_racing_changes_of_policy_one_wins,
            described::the_hash_of_the_files_outlives_changes_without_files,
            described::of_the_answers_under_a_key_the_first_is_kept_for_its_time,
            described::racing_answers_are_all_told_the_first,
            described::a_ledger_that_works_answers_a_ping,
            history::history_lists_versions_newest_first_with_what_they_changed,
            history::workspaces_are_counted_by_the_plan_that_they_chose,
            history::a_plan_that_a_workspace_is_on_is_not_taken_away,
            history::a_workspace_is_not_put_on_a_plan_that_is_gone,
            history::a_plan_that_goes_and_a_workspace_that_comes_never_both_win,
            grants::what_passes_the_limit_is_paid_and_noted_in_the_row,
            grants::grants_pay_in_their_order,
            grants::what_was_used_before_a_grant_came_is_paid_by_the_next_use,
            grants::users_and_periods_share_one_balance,
            grants::racing_posts_pay_no_balance_twice,
            grants::a_use_is_paid_by_what_was_active_when_it_occurred,
            grants::a_voided_grant_pays_for_what_was_authorized_before,
            grants::a_correction_gives_nothing_back_to_a_grant,
            grants::a_checkpoint_is_paid_and_the_entry_that_takes_its_place_pays_the_rest,
            grants::a_grant_is_given_once_under_its_key,
            grants::grants_are_listed_newest_first_in_pages,
            grants::racing_uses_top_up_no_oftener_than_they_may,
            grants::what_was_given_and_paid_is_there_after_a_restart,
            audit::a_change_is_audited_as_it_was_told,
            audit::a_change_that_is_refused_leaves_no_record,
            audit::a_change_whose_record_cannot_be_written_is_not_made,
            audit::each_object_of_a_change_of_policy_has_its_record,
            audit::of_racing_changes_only_the_winner_is_audited,
            audit::the_audit_log_is_filtered,
            audit::pages_of_the_audit_log_have_no_gap_and_no_double,
            admin::a_correction_moves_the_rows_of_its_originals_time_and_is_audited,
            admin::a_correction_decided_on_an_old_revision_leaves_nothing_behind,
            admin::of_racing_corrections_on_one_revision_one_is_made,
            admin::a_correction_whose_record_cannot_be_written_is_not_made,
            admin::what_has_no_price_is_listed_until_a_correction_has_one,
            admin::a_policy_object_tells_when_it_changed,
            admin::a_provider_is_remembered_as_it_was_set_last,
            admin::workspaces_are_listed_newest_first_and_filtered,
            cascade::an_offer_stays_as_it_was_written_and_is_taken_by_one,
            cascade::of_racing_second_tries_one_takes_the_offer,
            cascade::what_came_of_second_tries_is_summed_up_by_models_and_score,
            nodes::many_standings_are_told_at_once,
            nodes::changes_of_workspaces_are_told_in_their_order,
            nodes::who_follows_the_numbers_of_racing_changes_misses_none,
            nodes::a_lead_is_of_one_until_it_is_given_up,
            nodes::the_sums_of_what_was_recorded_lately_are_told_in_pages,
            nodes::sums_are_verified_in_pages_that_leave_none_out,
            api_keys::a_key_comes_back_as_it_was_put,
            api_keys::a_key_is_put_at_its_version_or_not_at_all,
            api_keys::of_racing_puts_of_a_key_one_wins,
            api_keys::keys_are_listed_newest_first_without_revoked_ones,
            api_keys::changes_of_keys_are_told_in_their_order,
            api_keys::who_follows_the_numbers_of_racing_keys_misses_none,
            api_keys::when_a_key_was_used_only_rises_and_is_no_change,
            cached::a_kept_answer_comes_back_as_it_was_put,
            cached::what_came_and_went_is_told_in_its_order,
            cached::who_follows_racing_changes_of_answers_misses_none,
            cached::a_purge_takes_what_it_names_and_nothing_else,
            cached::answers_are_pruned_by_expiry_age_and_number,
            cached::hits_are_counted_beside_the_requests_of_their_feature,
            billing::entries_of_one_workspace_and_hour_make_one_batch,
            billing::an_entry_is_collected_once_whoever_collects,
            billing::a_commit_that_comes_late_is_found_by_a_later_pass,
            billing::a_look_ahead_moves_no_pass,
            billing::a_meter_counts_what_it_is_for,
            billing::a_meter_begins_with_the_billing_period_in_which_it_came,
            billing::a_use_is_counted_by_what_its_meter_was_when_it_was_recorded,
            billing::a_correction_counts_as_its_original_does,
            billing::what_comes_after_the_seal_makes_the_next_batch_of_its_window,
            billing::fractions_and_debts_are_carried,
            billing::usd_is_told_in_dollars,
            billing::a_meter_that_is_defined_anew_begins_another_batch,
            billing::of_racing_claims_one_has_a_batch,
            billing::one_batch_of_a_workspace_and_meter_is_under_way,
            billing::one_claim_has_what_a_customer_is_told,
            billing::what_a_lost_sender_left_goes_to_another,
            billing::silence_of_thirty_hours_is_nobodys_to_send,
            billing::who_has_no_customer_keeps_nobody_waiting,
            billing::what_is_too_old_is_named,
            billing::a_batch_is_sent_again_and_who_wants_it_is_noted,
            billing::batches_are_listed_newest_first_and_counted,
            billing::what_is_carried_of_one_definition_is_none_of_another,
            billing::what_is_owed_back_is_named_until_it_is_set_off,
            billing::what_is_owed_back_is_taken_back_once_or_is_owed_again,
            billing::whatever_is_recorded_is_told_once_or_named,
            credits::a_paid_grant_has_a_credit_and_another_has_none,
            credits::of_racing_claims_one_has_a_credit,
            credits::what_the_provider_answered_is_kept,
            credits::what_a_lost_sender_left_is_looked_for_by_another,
            credits::silence_is_unknown_and_looked_for_again,
            credits::the_lost_are_listed_apart_and_by_pages,
            credits::a_credit_waits_for_a_customer_and_not_beyond_its_expiry,
            credits::a_void_goes_wherever_the_credit_is,
            inbound::an_event_is_kept_for_as_long_as_it_may_come_again,
            inbound::an_event_is_handled_once_with_all_that_follows,
            inbound::an_event_without_effect_is_taken_when_it_comes_again,
            inbound::what_changed_since_an_event_was_decided_takes_all_of_it_back,
            inbound::of_racing_receivers_of_an_event_one_handles_it,
            inbound::what_was_paid_is_kept_once_and_read_by_period,
            inbound::reports_of_refused_usage_are_kept_in_their_order,
            inbound::a_report_is_worked_on_once_until_it_is_done_or_given_up,
            billing::what_was_told_meanwhile_is_found_by_when_it_was_sent,
            inbound::workspaces_are_found_by_their_customer,
            invoices::what_was_used_adds_up_by_what_prices_it,
            invoices::sums_that_passed_a_limit_are_told_by_the_end_of_their_period,
            invoices::what_grants_paid_is_told_by_when_it_was_used,
            events::an_event_comes_back_as_it_was_written,
            events::an_event_happens_once,
            events::of_racing_writers_of_one_event_one_has_written_it,
            events::events_wait_until_they_are_handed_on,
            events::the_events_of_a_workspace_are_numbered_as_they_are_seen,
            events::events_are_listed_both_ways_in_pages_and_filtered,
            events::a_budget_at_its_limit_is_due_until_its_end_is_told,
            events::events_are_pruned_when_they_are_not_needed,
            levels::a_level_is_told_by_the_post_that_reaches_it,
            levels::a_level_that_nobody_foresaw_is_told_all_the_same,
            levels::a_row_that_is_born_past_a_level_has_reached_it,
            levels::racing_posts_reach_each_level_once,
            levels::a_refused_post_tells_nothing,
            levels::a_checkpoint_and_a_correction_reach_levels,
            levels::a_raised_level_is_told_when_it_is_passed_from_below,
            levels::what_happens_with_a_workspace_is_told_with_it,
            fair_use::usage_adds_up_by_minute_and_by_hour,
            fair_use::what_others_of_a_plan_used_is_told_by_the_hour,
            fair_use::old_usage_is_pruned_minutes_before_hours,
            fair_use::an_action_is_begun_once_until_it_comes_to_its_end,
            fair_use::of_racing_beginners_of_an_action_one_has_begun_it,
            fair_use::an_action_is_ended_once_and_its_rule_stays_quiet_until_its_end,
            fair_use::actions_are_listed_newest_first_in_pages,
            webhooks::an_endpoint_comes_back_as_it_was_put,
            webhooks::an_endpoint_is_put_at_its_version_or_not_at_all,
            webhooks::of_racing_endpoints_no_more_are_made_than_there_may_be,
            webhooks::an_event_is_handed_on_once_to_all_who_want_it,
            webhooks::events_of_each_use_are_handed_on_after_all_others,
            webhooks::of_racing_nodes_each_event_is_handed_on_and_claimed_by_one,
            webhooks::a_claim_runs_out_and_is_noted_by_who_holds_it,
            webhooks::one_endpoint_has_few_tries_at_once_and_keeps_nobody_waiting,
            webhooks::what_there_is_for_each_use_is_delivered_after_all_else,
            webhooks::a_success_that_took_long_proves_nothing,
            webhooks::what_was_due_for_too_long_is_given_up,
            webhooks::a_try_that_fails_is_due_again_at_its_time,
            webhooks::an_endpoint_that_only_fails_ends_with_an_event,
            webhooks::what_is_disabled_or_deleted_has_nothing_pending,
            webhooks::events_are_replayed_and_delivered_again_under_their_ids,
            webhooks::each_try_of_a_delivery_is_kept_and_forgotten_with_it,
            webhooks::deliveries_are_listed_filtered_and_forgotten,
            random::whatever_is_posted_every_row_is_the_sum_of_its_entries,
            random::whatever_is_posted_at_once_every_row_is_the_sum_of_its_entries,
        }
    };
    ($fixture:path: $($group:ident::$case:ident,)*) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            if let Some(fixture) = $fixture().await {
                let book = $crate::ledger::contract::book::Book::over(fixture);
                $crate::ledger::contract::$group::$case(book).await;
            }
        }
    )* };
}
pub(super) use ledger_contract;
