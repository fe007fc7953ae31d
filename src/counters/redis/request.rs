//! A request to hold, and counters to read or to set, as scripts take them. Refuses what could not be computed exactly in doubles.

use super::keys::{Columns, field, hex, purse_field, unit_place};
use super::pack::{EXACT, Pack, micros};
use crate::counters::{HoldRequest, KEEP_ENDED_SECONDS, SumRow};
use crate::decision::counter::Counter;
use crate::decision::grant::{Purse, PurseUse};
use crate::decision::period::PeriodKind;
use crate::decision::rung::{Cap, Line, Rung};
use crate::decision::time::Timestamp;

/// Why a request cannot be decided, if it cannot.
pub(super) fn check(request: &HoldRequest) -> Result<(), &'static str> {
    let mut limits = request.rungs.iter().flat_map(|rung| &rung.limits);
    if limits.any(|limit| limit.counter >= request.counters.len()) {
        return Err("a limit names a counter that is not there");
    }
    check_rungs(&request.rungs)
}

pub(super) fn check_rungs(rungs: &[Rung]) -> Result<(), &'static str> {
    if rungs.iter().all(is_exact) {
        Ok(())
    } else {
        Err("an amount is 2^52 or more, or below zero, and would not be counted exactly")
    }
}

fn is_exact(rung: &Rung) -> bool {
    let exact = |amount: i64| (0..EXACT).contains(&amount);
    let needs = rung.needs;
    let line = |line: &Line| {
        let longest = i128::from(line.base) + i128::from(line.per_output) * i128::from(rung.output);
        exact(line.base) && exact(line.per_output) && line.denominator >= 1 && exact(line.denominator) && longest < i128::from(EXACT)
    };
    let cap = |cap: &Cap| exact(cap.least) && line(&cap.tokens) && line(&cap.usd) && line(&cap.credits);
    let amounts = [needs.tokens, needs.usd, needs.requests, needs.credits, rung.output];
    amounts.into_iter().all(exact) && rung.cap.as_ref().is_none_or(cap)
}

/// Whether the period of `counter` ended so long ago that it is no longer kept.
pub(super) fn is_dropped(counter: &Counter, now: Timestamp) -> bool {
    counter.period.end.plus_seconds(KEEP_ENDED_SECONDS) <= now
}

/// From when on a group must have been watched for `counter` to be zero without a row; −1: it never is.
pub(super) fn born_at(counter: &Counter) -> i64 {
    match counter.kind {
        PeriodKind::Lifetime => -1,
        _ => micros(counter.period.start),
    }
}

/// Counters as `read()` in the scripts takes them.
pub(super) fn pack_read(pack: &mut Pack, counters: &[Counter], columns: &Columns<'_>, now: Timestamp) {
    pack.list(|list| {
        for counter in counters {
            list.int(columns.place(counter)).text(field(counter).as_bytes());
            list.int(unit_place(counter.unit)).int(born_at(counter));
            list.int(i64::from(is_dropped(counter, now)));
        }
    });
}

/// Rows, but for those of dropped periods; with the places of their groups, if there are several.
pub(super) fn pack_rows(pack: &mut Pack, rows: &[SumRow], columns: Option<&Columns<'_>>, now: Timestamp) {
    pack.list(|list| {
        for row in rows.iter().filter(|row| !is_dropped(&row.counter, now)) {
            if let Some(columns) = columns {
                list.int(columns.place(&row.counter));
            }
            // Versions count the writes of one workspace: they never come near 2^53.
            list.text(field(&row.counter).as_bytes()).wide(row.spent).int(row.version);
            list.int(exactly(row.paid));
        }
    });
}

pub(super) fn pack_hold(pack: &mut Pack, request: &HoldRequest, columns: &Columns<'_>, nonce: u64) {
    pack.text(request.workspace.as_str().as_bytes());
    pack.text(hex(request.reservation).as_bytes());
    pack.text(&request.fingerprint.to_be_bytes());
    pack.int(on_expiry(request.charge_on_expiry, request.tell_on_expiry))
        .moment(request.named_since);
    pack.int(i64::from(request.open_max))
        .text(&nonce.to_be_bytes())
        .text(&request.context);
    pack.texts(columns.texts());
    pack_read(pack, &request.counters, columns, request.now);
    // Without counters the first rung is taken, so the others need not travel.
    let rungs = if request.counters.is_empty() { 1 } else { request.rungs.len() };
    pack.list(|list| {
        for rung in request.rungs.iter().take(rungs) {
            list.list(|list| pack_rung(list, rung));
        }
    });
    pack_uses(pack, &request.purses, &request.counters);
}

/// What becomes of a hold that runs out, as records keep it.
pub(super) fn on_expiry(charge: bool, tell: bool) -> i64 {
    i64::from(charge) + 2 * i64::from(tell)
}

/// The place of a limit's counter, negative where grants raise it.
pub(super) fn limit_place(counter: usize, granted: bool) -> i64 {
    let place = counter as i64 + 1;
    if granted { -place } else { place }
}

/// What more than a double can tell is cut off: then less is granted.
fn exactly(amount: i64) -> i64 {
    amount.clamp(0, EXACT - 1)
}

/// Uses of purses as `grants_v2.lua` takes them.
pub(super) fn pack_uses(pack: &mut Pack, purses: &[PurseUse], counters: &[Counter]) {
    pack.list(|list| {
        for used in purses {
            let counter = &counters[used.counter];
            list.int(used.counter as i64 + 1)
                .text(purse_field(&used.budget, counter.unit).as_bytes());
            list.int(exactly(used.hard)).text(counter.whose.column().as_bytes());
            list.text(field(counter).as_bytes());
        }
    });
}

pub(super) fn pack_purses(pack: &mut Pack, purses: &[Purse]) {
    pack.list(|list| {
        for purse in purses {
            list.text(purse_field(&purse.budget, purse.unit).as_bytes())
                .int(exactly(purse.left));
            list.moment(purse.until).int(purse.version);
        }
    });
}

fn pack_rung(pack: &mut Pack, rung: &Rung) {
    let needs = rung.needs;
    pack.int(needs.tokens).int(needs.usd).int(needs.requests).int(needs.credits);
    pack.int(rung.output).moment(rung.expires_at);
    pack.list(|list| {
        for limit in &rung.limits {
            list.int(limit_place(limit.counter, limit.granted));
            for line in [limit.open_below, limit.ceiling] {
                match line {
                    Some(line) => list.wide(line),
                    None => list.no(),
                };
            }
        }
    });
    pack_cap(pack, rung.cap.as_ref());
}

/// A cap as `shortened()` in the scripts takes it.
pub(super) fn pack_cap(pack: &mut Pack, cap: Option<&Cap>) {
    match cap {
        Some(cap) => pack.list(|list| {
            list.int(cap.least);
            for line in [&cap.tokens, &cap.usd, &cap.credits] {
                list.int(line.base)
                    .int(line.per_output)
                    .int(line.denominator)
                    .int(i64::from(line.up));
            }
        }),
        None => pack.no(),
    };
}
