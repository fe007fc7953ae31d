//! The SQL of billing, in the subset that SQLite and Postgres share. State and reason words stand in it as they are, so that the engines
//! see which of the partial indexes they may use.

use super::billing::{BatchQuery, MeteredQuery};
use super::record::BATCH_COLUMNS;
use crate::decision::amount::Unit;

// Collecting.

pub(super) const BEGIN_METER: &str = "INSERT INTO billing_meter (meter_id, since, rounds) VALUES ($1, $2, 0) \
     ON CONFLICT (meter_id) DO NOTHING";

pub(super) const METER: &str = "SELECT meter_number, since, rounds FROM billing_meter WHERE meter_id = $1";

/// The same, and nobody else notes anything of the meter until the transaction ends.
pub(super) const LOCK_METER: &str = "UPDATE billing_meter SET since = since WHERE meter_id = $1 RETURNING meter_number, since";

/// What meter `$1` was, oldest first.
pub(super) const REIGNS: &str = "SELECT meter.meter_id, reign.event_name, reign.unit, reign.feature, reign.model, reign.tier, \
     reign.factor_numerator, reign.factor_denominator, reign.from_at, reign.until_at FROM billing_reign AS reign \
     JOIN billing_meter AS meter ON meter.meter_number = reign.meter_number WHERE reign.meter_number = $1 ORDER BY reign.from_at";

/// What the meters were last that are not there any more and were until `$1` at least.
pub(super) const REIGNS_ENDED: &str = "SELECT meter.meter_id, reign.event_name, reign.unit, reign.feature, reign.model, reign.tier, \
     reign.factor_numerator, reign.factor_denominator, reign.from_at, reign.until_at FROM billing_reign AS reign \
     JOIN billing_meter AS meter ON meter.meter_number = reign.meter_number WHERE reign.until_at >= $1 AND NOT EXISTS \
     (SELECT 1 FROM billing_reign AS later WHERE later.meter_number = reign.meter_number AND later.from_at > reign.from_at) \
     ORDER BY meter.meter_id";

/// The meters that are there since before `$1`.
pub(super) const REIGNING: &str = "SELECT reign.meter_number, meter.meter_id FROM billing_reign AS reign JOIN billing_meter AS meter \
     ON meter.meter_number = reign.meter_number WHERE reign.until_at IS NULL AND reign.from_at < $1";

pub(super) const END_REIGN: &str = "UPDATE billing_reign SET until_at = $2 WHERE meter_number = $1 AND until_at IS NULL AND from_at < $2";

pub(super) const LAST_REIGN: &str = "SELECT MAX(COALESCE(until_at, from_at)) FROM billing_reign";

/// Whether `meter` counts `entry`, which corrects `original` or nothing, in that unit: it was there when the use was recorded, and what it
/// was then admits the entry. A correction counts where its original does.
pub(super) fn is_metered(unit: Unit) -> String {
    let unit = unit.as_str();
    format!(
        "(EXISTS (SELECT 1 FROM billing_member AS corrected WHERE corrected.meter_number = meter.meter_number \
         AND corrected.entry_id = entry.corrects) OR EXISTS (SELECT 1 FROM billing_reign AS reign \
         WHERE reign.meter_number = meter.meter_number AND reign.unit = '{unit}' \
         AND reign.from_at <= COALESCE(original.recorded_at, entry.recorded_at) \
         AND (reign.until_at IS NULL OR reign.until_at > COALESCE(original.recorded_at, entry.recorded_at)) \
         AND (reign.feature IS NULL OR reign.feature = entry.feature) AND (reign.model IS NULL OR reign.model = entry.model) \
         AND (reign.tier IS NULL OR reign.tier = entry.tier)))"
    )
}

/// Of those who read meter `$1` after `$2` rounds the first takes its turn; the others have read what is not so any more.
pub(super) const TAKE_TURN: &str = "UPDATE billing_meter SET rounds = rounds + 1 WHERE meter_number = $1 AND rounds = $2";

pub(super) const PASS: &str = "SELECT recorded_at, entry_id FROM billing_pass WHERE meter_number = $1 AND pass = $2";

pub(super) const MOVE_PASS: &str = "INSERT INTO billing_pass (meter_number, pass, recorded_at, entry_id) VALUES ($1, $2, $3, $4) \
     ON CONFLICT (meter_number, pass) DO UPDATE SET recorded_at = excluded.recorded_at, entry_id = excluded.entry_id";

/// Entries after the place (`$1`, `$2`) in the order of recording, until `$3`, each with whether it, or what it corrects, is a member of
/// meter `$4`, with when what it corrects was recorded, and with calendar and customer of its workspace; `$5` limit.
pub(super) const UNCOLLECTED: &str = "SELECT page.recorded_at, page.entry_id, page.workspace_id, page.feature, page.model, page.tier, \
     page.occurred_at, page.counted_tokens, page.counted_usd, page.counted_requests, page.counted_credits, \
     CAST(CASE WHEN EXISTS (SELECT 1 FROM billing_member AS member WHERE member.meter_number = $4 AND member.entry_id = page.entry_id) \
     THEN 1 ELSE 0 END AS BIGINT) AS is_member, CAST(CASE WHEN EXISTS (SELECT 1 FROM billing_member AS member \
     WHERE member.meter_number = $4 AND member.entry_id = page.corrects) THEN 1 ELSE 0 END AS BIGINT) AS corrects_member, \
     original.recorded_at AS original_recorded_at, workspace.calendar, workspace.stripe_customer_id FROM (SELECT recorded_at, entry_id, corrects, workspace_id, feature, \
     model, tier, occurred_at, counted_tokens, counted_usd, counted_requests, counted_credits FROM entry \
     WHERE (recorded_at, entry_id) > ($1, $2) AND recorded_at <= $3 ORDER BY recorded_at, entry_id LIMIT $5) AS page \
     JOIN workspace ON workspace.workspace_id = page.workspace_id LEFT JOIN entry AS original ON original.entry_id = page.corrects \
     ORDER BY page.recorded_at, page.entry_id";

/// The column of what an entry counts in a unit.
pub(super) const fn column(unit: Unit) -> &'static str {
    match unit {
        Unit::Tokens => "counted_tokens",
        Unit::Usd => "counted_usd",
        Unit::Requests => "counted_requests",
        Unit::Credits => "counted_credits",
    }
}

pub(super) const BEGIN_ACCOUNT: &str = "INSERT INTO billing_account (workspace_id, meter_id, seals, due_at, lease_until, lease) \
     VALUES ($1, $2, 0, NULL, 0, 0) ON CONFLICT (workspace_id, meter_id) DO NOTHING";

/// Adds `$9` members that count `$10`, the last used at `$11`, to the open batch of workspace `$1`, meter `$2` and window `$3` to `$4` that
/// is defined by `$5` to `$8`. What comes near the edge of 64 bits takes no more.
pub(super) const ADD_TO_OPEN: &str = "UPDATE billing_batch SET members = members + $9, counted = counted + $10, \
     last_used_at = CASE WHEN last_used_at < $11 THEN $11 ELSE last_used_at END \
     WHERE workspace_id = $1 AND meter_id = $2 AND window_start = $3 AND window_end = $4 AND state = 'open' AND event_name = $5 \
     AND unit = $6 AND factor_numerator = $7 AND factor_denominator = $8 AND counted > -4000000000000000000 \
     AND counted < 4000000000000000000 RETURNING batch_number";

pub(super) const NEXT_SEQUENCE: &str = "SELECT CAST(COALESCE(MAX(sequence), 0) + 1 AS BIGINT) FROM billing_batch \
     WHERE workspace_id = $1 AND meter_id = $2 AND window_start = $3 AND window_end = $4";

pub(super) const OPEN_BATCH: &str = "INSERT INTO billing_batch (batch_id, workspace_id, meter_id, window_start, window_end, sequence, \
     event_name, unit, factor_numerator, factor_denominator, members, counted, last_used_at, opened_at, seals_at, state, generation, tries) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, 'open', 1, 0) RETURNING batch_number";

// Sealing.

/// Open batches that were to be sealed by `$1`; `$2` limit. `$locked` is how a store passes over rows that others have.
pub(super) fn to_seal(locked: &str) -> String {
    format!(
        "SELECT {BATCH_COLUMNS} FROM billing_batch WHERE state = 'open' AND seals_at <= $1 ORDER BY seals_at, batch_number LIMIT $2{locked}"
    )
}

/// Takes the lock of a workspace and meter, and counts a batch.
pub(super) const COUNT_SEAL: &str = "UPDATE billing_account SET seals = seals + 1 WHERE workspace_id = $1 AND meter_id = $2 \
     RETURNING seals";

/// What workspace `$1` carries of meter `$2` as it is defined by `$3` to `$6`.
pub(super) const CARRIED: &str = "SELECT carry FROM billing_carry WHERE workspace_id = $1 AND meter_id = $2 AND event_name = $3 \
     AND unit = $4 AND factor_numerator = $5 AND factor_denominator = $6";

/// It carries `$7` now, which owes `$8` whole ones, as of `$9` if none were before.
pub(super) const CARRY: &str = "INSERT INTO billing_carry (workspace_id, meter_id, event_name, unit, factor_numerator, factor_denominator, \
     carry, owed, owed_since) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $8 > 0 THEN $9 END) \
     ON CONFLICT (workspace_id, meter_id, event_name, unit, factor_numerator, factor_denominator) DO UPDATE \
     SET carry = excluded.carry, owed = excluded.owed, owed_since = CASE WHEN excluded.owed > 0 AND billing_carry.owed > 0 \
     THEN billing_carry.owed_since ELSE excluded.owed_since END";

/// All that workspace `$1` carries of meter `$2`, of each of its definitions.
pub(super) const CARRIES: &str = "SELECT event_name, unit, factor_numerator, factor_denominator, carry FROM billing_carry \
     WHERE workspace_id = $1 AND meter_id = $2 ORDER BY event_name, unit, factor_numerator, factor_denominator";

/// What is carried and no later use is sure to take up: what is owed back, and what is left of a definition that its meter has no more;
/// of workspace `$1` and meter `$2` (empty: all); `$3` limit.
pub(super) const CARRIED_ON: &str = "SELECT carried.workspace_id, carried.meter_id, carried.event_name, carried.carry, carried.owed, \
     carried.owed_since, workspace.stripe_customer_id, CAST(CASE WHEN reign.meter_number IS NULL THEN 0 ELSE 1 END AS BIGINT) \
     FROM billing_carry AS carried JOIN workspace ON workspace.workspace_id = carried.workspace_id \
     LEFT JOIN billing_meter AS meter ON meter.meter_id = carried.meter_id LEFT JOIN billing_reign AS reign \
     ON reign.meter_number = meter.meter_number AND reign.until_at IS NULL AND reign.event_name = carried.event_name \
     AND reign.unit = carried.unit AND reign.factor_numerator = carried.factor_numerator \
     AND reign.factor_denominator = carried.factor_denominator \
     WHERE (carried.owed > 0 OR (carried.carry <> '0' AND reign.meter_number IS NULL)) AND ($1 = '' OR carried.workspace_id = $1) \
     AND ($2 = '' OR carried.meter_id = $2) ORDER BY CASE WHEN carried.owed > 0 THEN 0 ELSE 1 END, carried.owed_since, \
     carried.workspace_id, carried.meter_id, carried.event_name LIMIT $3";

/// How many workspaces and meters are owed something back.
pub(super) const OWED: &str = "SELECT CAST(COUNT(*) AS BIGINT) FROM billing_carry WHERE owed > 0";

pub(super) const SEAL: &str = "UPDATE billing_batch SET sealed_at = $2, seal_number = $3, value = $4, carry = $5 WHERE batch_id = $1";

// Adjusting.

/// What batch `original` must be so that something may be taken back from it; nothing was before.
const IS_ORIGINAL: &str = "original.state = 'acknowledged' AND original.value > 0 AND original.adjusts IS NULL \
     AND NOT EXISTS (SELECT 1 FROM billing_batch AS adjusting WHERE adjusting.adjusts = original.batch_id \
     AND (adjusting.reason_code IS NULL OR adjusting.reason_code <> 'nothing_to_tell'))";

/// The batch that takes something back from batch `$1`, not in vain.
pub(super) fn adjusting() -> String {
    format!(
        "SELECT {BATCH_COLUMNS} FROM billing_batch WHERE adjusts = $1 AND (reason_code IS NULL OR reason_code <> 'nothing_to_tell') LIMIT 1"
    )
}

/// What is owed back since `$1` at the latest, after the debt of `$2` to `$8`, where something was told after `$9` that may be taken back;
/// `$10` limit.
pub(super) fn debts() -> String {
    format!(
        "SELECT owed.workspace_id, owed.meter_id, owed.event_name, owed.unit, owed.factor_numerator, owed.factor_denominator, owed.owed_since \
         FROM billing_carry AS owed WHERE owed.owed > 0 AND owed.owed_since <= $1 AND (owed.owed_since, owed.workspace_id, owed.meter_id, \
         owed.event_name, owed.unit, owed.factor_numerator, owed.factor_denominator) > ($2, $3, $4, $5, $6, $7, $8) \
         AND EXISTS (SELECT 1 FROM billing_batch AS original WHERE original.workspace_id = owed.workspace_id \
         AND original.meter_id = owed.meter_id AND original.told_at > $9 AND original.event_name = owed.event_name \
         AND original.unit = owed.unit AND original.factor_numerator = owed.factor_numerator \
         AND original.factor_denominator = owed.factor_denominator AND {IS_ORIGINAL}) \
         ORDER BY owed.owed_since, owed.workspace_id, owed.meter_id, owed.event_name, owed.unit, owed.factor_numerator, \
         owed.factor_denominator LIMIT $10"
    )
}

/// Batches of workspace `$1` and meter `$2`, as it is defined by `$3` to `$6`, that were told as of `$7` or later and from which something may
/// be taken back, told of customer `$9` if of any: the smallest that is worth `$10` or more, then the largest others; `$8` limit.
pub(super) fn originals() -> String {
    format!(
        "SELECT {BATCH_COLUMNS} FROM billing_batch AS original WHERE workspace_id = $1 AND meter_id = $2 AND event_name = $3 AND unit = $4 \
         AND factor_numerator = $5 AND factor_denominator = $6 AND told_at >= $7 AND (customer IS NULL OR customer = $9) AND {IS_ORIGINAL} \
         ORDER BY CASE WHEN value >= $10 THEN 0 ELSE 1 END, CASE WHEN value >= $10 THEN value ELSE -value END, batch_number LIMIT $8"
    )
}

pub(super) const OPEN_ADJUSTING: &str = "INSERT INTO billing_batch (batch_id, workspace_id, meter_id, window_start, window_end, sequence, \
     event_name, unit, factor_numerator, factor_denominator, members, counted, last_used_at, opened_at, seals_at, state, generation, tries, \
     adjusts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0, $11, $12, $12, 'open', 1, 0, $13)";

// Sending.

/// Who has something to send by `$1`; `$2` limit.
pub(super) fn accounts_due(locked: &str) -> String {
    format!(
        "SELECT workspace_id, meter_id FROM billing_account WHERE due_at <= $1 AND lease_until <= $1 \
         ORDER BY due_at, workspace_id, meter_id LIMIT $2{locked}"
    )
}

/// Takes the lock of a workspace and meter.
pub(super) const LOCK_ACCOUNT: &str = "UPDATE billing_account SET lease = lease WHERE workspace_id = $1 AND meter_id = $2 RETURNING lease";

pub(super) fn under_way() -> String {
    format!("SELECT {BATCH_COLUMNS} FROM billing_batch WHERE workspace_id = $1 AND meter_id = $2 AND state = 'sending'")
}

/// The batch of workspace `$1` and meter `$2` that is to be sent first of those due by `$3`.
pub(super) fn due() -> String {
    format!(
        "SELECT {BATCH_COLUMNS} FROM billing_batch WHERE workspace_id = $1 AND meter_id = $2 AND next_try_at <= $3 \
         ORDER BY next_try_at, batch_number LIMIT 1"
    )
}

pub(super) const CALENDAR_AND_CUSTOMER: &str = "SELECT calendar, stripe_customer_id FROM workspace WHERE workspace_id = $1";

pub(super) const TAKE_LEASE: &str =
    "UPDATE billing_account SET lease = lease + 1, lease_until = $3 WHERE workspace_id = $1 AND meter_id = $2 RETURNING lease";

pub(super) const END_LEASE: &str = "UPDATE billing_account SET lease_until = 0 WHERE workspace_id = $1 AND meter_id = $2 AND lease = $3";

/// When something is due again: when the lease ends, or with the first try of what waits.
pub(super) const REFRESH_DUE: &str = "UPDATE billing_account SET due_at = CASE WHEN lease_until > 0 THEN lease_until ELSE \
     (SELECT MIN(next_try_at) FROM billing_batch WHERE billing_batch.workspace_id = $1 AND billing_batch.meter_id = $2 \
     AND next_try_at >= -9223372036854775807) END WHERE workspace_id = $1 AND meter_id = $2";

/// Whoever claims has this row, so that no two look at once who is being sent to.
pub(super) const CLAIM_TURN: &str = "UPDATE billing_turn SET turns = turns + 1 WHERE turn_number = 1";

/// The batches that somebody is telling customer `$1` of event name `$2` by a lease that goes on after `$3`.
pub(super) const BEING_TOLD: &str = "SELECT batch.batch_id FROM billing_batch AS batch JOIN billing_account AS account \
     ON account.workspace_id = batch.workspace_id AND account.meter_id = batch.meter_id WHERE batch.state = 'sending' \
     AND batch.customer = $1 AND batch.event_name = $2 AND account.lease_until > $3";

pub(super) const PUT_OFF: &str = "UPDATE billing_account SET due_at = $3 WHERE workspace_id = $1 AND meter_id = $2";

pub(super) const DELIVER: &str = "UPDATE billing_batch SET state = $2, generation = $3, customer = $4, told_at = $5, tries = $6, \
     claimed_at = $7, unsure_since = $8, next_try_at = $9, reason_code = $10, reason = $11, acknowledged_at = $12 WHERE batch_id = $1";

/// Batches that wait for a customer, where there is one by now or none is needed (`$1` = 1); `$2` limit.
pub(super) const RESUMABLE: &str = "SELECT batch.batch_id FROM billing_batch AS batch JOIN workspace \
     ON workspace.workspace_id = batch.workspace_id WHERE batch.state = 'unbillable' AND batch.state <> 'acknowledged' \
     AND batch.reason_code = 'no_customer' AND ($1 = 1 OR workspace.stripe_customer_id IS NOT NULL) ORDER BY batch.opened_at LIMIT $2";

// Reading.

pub(super) fn batch() -> String {
    format!("SELECT {BATCH_COLUMNS} FROM billing_batch WHERE batch_id = $1")
}

/// Batches newest first, before the place (`$1`, `$2`); `$3` limit, then the workspace and the meter, as far as they are named.
pub(super) fn list(query: &BatchQuery) -> String {
    let state = match query.state {
        None => "AND state <> 'open' ".to_owned(),
        Some(state) if state.as_str() == "acknowledged" => "AND state = 'acknowledged' ".to_owned(),
        Some(state) => format!("AND state = '{}' AND state <> 'acknowledged' ", state.as_str()),
    };
    let named = [("workspace_id", query.workspace.is_some()), ("meter_id", query.meter.is_some())];
    let named = named.iter().filter(|(_, is_named)| *is_named).zip(4..);
    let filters: String = named.map(|((column, _), place)| format!("AND {column} = ${place} ")).collect();
    format!(
        "SELECT {BATCH_COLUMNS} FROM billing_batch WHERE (opened_at, batch_id) < ($1, $2) {state}{filters}\
         ORDER BY opened_at DESC, batch_id DESC LIMIT $3"
    )
}

pub(super) const STATES: &str = "SELECT state, CAST(COUNT(*) AS BIGINT), MIN(opened_at) FROM billing_batch \
     WHERE state <> 'acknowledged' GROUP BY state ORDER BY state";

/// Workspaces and meters after the place (`$1`, `$2`); `$3` limit.
pub(super) const ACCOUNTS: &str = "SELECT workspace_id, meter_id FROM billing_account WHERE (workspace_id, meter_id) > ($1, $2) \
     ORDER BY workspace_id, meter_id LIMIT $3";

/// What the entries add up to that meter `$1` counts, used from `$2` to before `$3`: those that are its members, and those that it counts
/// since it is there and are not yet; of workspace `$4` (empty: all).
pub(super) fn metered(query: &MeteredQuery) -> String {
    let unit = query.meter.unit;
    let (counted, is_metered) = (column(unit), is_metered(unit));
    format!(
        "SELECT entry.workspace_id, CAST(SUM(COALESCE(member.counted, entry.{counted})) AS BIGINT), \
         CAST(SUM(CASE WHEN member.entry_id IS NULL THEN entry.{counted} ELSE 0 END) AS BIGINT) FROM entry \
         JOIN billing_meter AS meter ON meter.meter_id = $1 LEFT JOIN billing_member AS member \
         ON member.meter_number = meter.meter_number AND member.entry_id = entry.entry_id \
         LEFT JOIN entry AS original ON original.entry_id = entry.corrects WHERE entry.occurred_at >= $2 AND entry.occurred_at < $3 \
         AND ($4 = '' OR entry.workspace_id = $4) AND (member.entry_id IS NOT NULL OR {is_metered}) \
         GROUP BY entry.workspace_id ORDER BY entry.workspace_id"
    )
}

/// All batches of workspace `$1` and meter `$2` in the order of their seals, open ones last.
pub(super) fn of_account() -> String {
    format!(
        "SELECT {BATCH_COLUMNS} FROM billing_batch WHERE workspace_id = $1 AND meter_id = $2 \
         ORDER BY CASE WHEN seal_number IS NULL THEN 1 ELSE 0 END, seal_number, batch_number"
    )
}

/// How many members each batch of workspace `$1` and meter `$2` has, what they count, and what their entries do.
pub(super) const MEMBERS: &str = "SELECT batch.batch_number, CAST(COUNT(member.entry_id) AS BIGINT), \
     CAST(COALESCE(SUM(member.counted), 0) AS BIGINT), CAST(COALESCE(SUM(CASE batch.unit WHEN 'tokens' THEN entry.counted_tokens \
     WHEN 'usd' THEN entry.counted_usd WHEN 'requests' THEN entry.counted_requests ELSE entry.counted_credits END), 0) AS BIGINT) \
     FROM billing_batch AS batch LEFT JOIN billing_member AS member ON member.batch_number = batch.batch_number \
     LEFT JOIN entry ON entry.entry_id = member.entry_id AND entry.workspace_id = batch.workspace_id \
     WHERE batch.workspace_id = $1 AND batch.meter_id = $2 GROUP BY batch.batch_number";
