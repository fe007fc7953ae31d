//! A hold as `plain_hold_v2.lua` takes it: what it will write is made here, as far as it can be known, so that the store only puts it in place.

use super::call::{Call, CallError};
use super::keys::{Columns, field, hex, purse_field, slot_text, unit_place};
use super::pack::{EXACT, Pack, micros, values};
use super::reply::{Reply, Unexpected};
use super::request::{born_at, is_dropped, limit_place, on_expiry};
use crate::counters::{HoldOutcome, HoldRequest};
use crate::decision::counter::Counter;
use crate::decision::grant::PurseUse;
use crate::decision::rung::{Limit, Rung, Taken};

/// What the script reads of each group before its counters.
const OWN_FIELDS: [&str; 6] = ["e", "n", "b", "u", "a", "o"];
/// More values than this may not fit on Lua's stack.
const VALUES_MAX: usize = 4_000;
/// How many places a record of a hold has.
const PLACES: usize = 29;

/// Whether the short script may decide a request. Which one does makes no difference to the answer.
pub(super) fn is_plain(request: &HoldRequest) -> bool {
    let exact = |line: Option<i64>| line.is_none_or(|line| (-EXACT + 1..EXACT).contains(&line));
    let mut limits = request.rungs.iter().flat_map(|rung| &rung.limits);
    let counters = request.counters.len();
    !request.charge_on_expiry
        && (request.rungs.len() + 2) * (12 + 4 * counters) < VALUES_MAX
        && request.purses.iter().all(|used| exact(Some(used.hard)))
        && limits.all(|limit| exact(limit.open_below) && exact(limit.ceiling))
        && !request.counters.iter().any(|counter| is_dropped(counter, request.now))
}

/// What the script is told after the caller's deadline, and the first part of the record that it would write.
pub(super) fn pack_plain(call: &mut Call<'_>, request: &HoldRequest, columns: &Columns<'_>, nonce: u64) {
    let slot = slot_text(&request.workspace);
    let pack = &mut call.pack;
    pack.moment(request.now)
        .moment(request.named_since)
        .int(i64::from(request.open_max));
    pack.text(format!("[{slot}").as_bytes()).text(format!("({slot}~").as_bytes());
    pack.text(format!("{:016}", micros(request.now)).as_bytes());
    let holds_on_workspace = columns.has_workspace();
    pack.int(i64::from(holds_on_workspace));
    let groups = columns.groups.len() + usize::from(!holds_on_workspace);
    // Without counters the first rung is taken, so the others need not travel.
    let rungs = if request.counters.is_empty() { 1 } else { request.rungs.len() };
    let all = [
        groups,
        request.counters.len(),
        rungs,
        groups * (OWN_FIELDS.len() + 1) + request.counters.len() + request.purses.len(),
        request.purses.len(),
    ];
    for count in all {
        pack.int(count as i64);
    }
    pack.int(i64::from(request.tell_on_expiry));

    let of_group = |place: i64| {
        let counters = request.counters.iter().enumerate();
        counters.filter(move |(_, counter)| columns.place(counter) == place)
    };
    if !holds_on_workspace {
        pack_group(pack, &request.counters, std::iter::empty(), &request.purses);
    }
    for place in 1..=columns.groups.len() as i64 {
        let is_first = holds_on_workspace && place == 1;
        let purses = if is_first { request.purses.as_slice() } else { &[] };
        pack_group(pack, &request.counters, of_group(place).map(|(_, counter)| counter), purses);
    }
    for (number, counter) in (1..=columns.groups.len() as i64).flat_map(of_group) {
        pack.int(number as i64 + 1).int(unit_place(counter.unit)).int(born_at(counter));
    }
    for used in &request.purses {
        let counter = &request.counters[used.counter];
        let line = format!(":{} {} {}\n", counter.whose.column(), field(counter), used.hard);
        pack.int(used.counter as i64 + 1).int(used.hard).text(line.as_bytes());
    }
    let id = hex(request.reservation);
    let mut rest = format!("{id},{}", request.workspace);
    for column in columns.texts() {
        rest.push(',');
        rest.push_str(column);
    }
    for (number, rung) in request.rungs.iter().take(rungs).enumerate() {
        let member = format!("{slot}{:016}{rest}", micros(rung.expires_at));
        pack_rung(pack, (number, rung), &request.counters, &member);
    }
    call.more = Some(first_part(request, columns, nonce));
}

/// The rung that was taken whole.
pub(super) fn held(request: &HoldRequest, reply: &mut Reply) -> Result<HoldOutcome, CallError> {
    let number = reply.place()?;
    let Some(rung) = request.rungs.get(number) else {
        return Err(Unexpected::of("a rung of the request", &number.to_string()).into());
    };
    let taken = Taken {
        rung: number,
        output: rung.output,
        amounts: rung.needs,
    };
    Ok(HoldOutcome::Held {
        taken,
        before: reply.granted_balances(request.counters.len())?,
    })
}

/// `all` are the counters of the request, of which `counters` are this group's.
fn pack_group<'a>(pack: &mut Pack, all: &[Counter], counters: impl Iterator<Item = &'a Counter> + Clone, purses: &[PurseUse]) {
    pack.int((OWN_FIELDS.len() + counters.clone().count() + purses.len()) as i64);
    for name in OWN_FIELDS {
        pack.text(name.as_bytes());
    }
    for counter in counters {
        pack.text(field(counter).as_bytes());
    }
    for used in purses {
        pack.text(purse_field(&used.budget, all[used.counter].unit).as_bytes());
    }
}

fn pack_rung(pack: &mut Pack, (number, rung): (usize, &Rung), counters: &[Counter], member: &str) {
    let needs = rung.needs;
    pack.int(needs.tokens).int(needs.usd).int(needs.requests).int(needs.credits);
    pack.int(rung.limits.len() as i64).yes_or_no(rung.cap.is_some());
    let part = values(|part| {
        part.int(number as i64).int(rung.output);
        part.int(needs.tokens).int(needs.usd).int(needs.requests).int(needs.credits);
        part.moment(rung.expires_at);
    });
    pack.text(&part).text(member.as_bytes());
    for Limit {
        counter,
        open_below,
        ceiling,
        granted,
    } in &rung.limits
    {
        pack.int(limit_place(*counter, *granted)).int(unit_place(counters[*counter].unit));
        for line in [open_below, ceiling] {
            match line {
                Some(line) => pack.int(*line),
                None => pack.no(),
            };
        }
    }
}

/// A live record from END to COUNTERS, which `store_v3.lua` names; what follows depends on the rung and on what is found.
fn first_part(request: &HoldRequest, columns: &Columns<'_>, nonce: u64) -> Vec<u8> {
    let mut part = Pack::default();
    part.int(0).int(0).text(request.workspace.as_str().as_bytes());
    part.text(format!("{:032x}", request.fingerprint).as_bytes());
    part.int(on_expiry(request.charge_on_expiry, request.tell_on_expiry))
        .moment(request.now);
    part.int(0).moment(request.now);
    for _claimed_and_used in 0..8 {
        part.int(0);
    }
    part.text(&request.context).text(&nonce.to_be_bytes()).texts(columns.texts());
    part.list(|list| {
        for counter in &request.counters {
            list.int(columns.place(counter)).text(field(counter).as_bytes());
            list.int(unit_place(counter.unit));
        }
    });
    part.as_list_of(PLACES)
}
