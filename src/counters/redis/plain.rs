//! A hold as `plain_hold_v5.lua` takes it: what it will write is made here, as far as it can be known, so that the store only puts it in place.

use super::call::{CallError, Plain};
use super::keys::{Columns, GENERATION_BYTES, SLOT_DIGITS, field, hex, purse_field, unit_place};
use super::pack::{self, EXACT, Pack, micros};
use super::reply::{COUNTER_BYTES, GRANTED_BYTES, Unexpected, balances_of};
use super::request::{born_at, is_dropped, on_expiry};
use crate::counters::{HoldOutcome, HoldRequest};
use crate::decision::counter::Counter;
use crate::decision::rung::{Limit, Rung, Taken};

/// What the script reads of each group before its counters.
const BRIEF: &str = "m";
/// How many values stand before those of the groups, now among them.
const VALUES_OF_ALL: usize = 12;
/// How many values a counter has.
const COUNTER_VALUES: usize = 2;
/// More values than this may not fit on Lua's stack.
const VALUES_MAX: usize = 4_000;
/// What most values fit into, and what most records have beside their context.
const VALUES_BYTES_USUALLY_MAX: usize = 640;
const RECORD_BYTES_USUALLY_MAX: usize = 384;
const MEMBER_BYTES_USUALLY_MAX: usize = 128;
/// What the script answers in place of a rung.
const SHORT: i16 = -1;
const ELSE: i16 = -2;
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

/// What the script is told, and the first part of the record that it would write.
pub(super) fn plain(request: &HoldRequest, columns: &Columns<'_>, nonce: u64) -> Plain {
    let fields: Vec<String> = request.counters.iter().map(field).collect();
    let holds_on_workspace = columns.has_workspace();
    // The workspace's own group is read in any case.
    let groups = columns.groups.len() + usize::from(!holds_on_workspace);
    let (counters, purses) = (request.counters.len(), request.purses.len());
    // Without counters the first rung is taken, so the others need not travel.
    let rungs = if counters == 0 { 1 } else { request.rungs.len() };
    let of_counters = VALUES_OF_ALL + 2 * groups + counters + purses + 1;

    let mut values = Pack::with_capacity(VALUES_BYTES_USUALLY_MAX);
    let pack = &mut values;
    pack.moment(request.named_since).int(i64::from(request.open_max));
    pack.int(i64::from(holds_on_workspace));
    for count in [groups, rungs, purses] {
        pack.int(count as i64);
    }
    pack.int(i64::from(request.tell_on_expiry));
    for place in [of_counters, of_counters + COUNTER_VALUES * counters] {
        pack.int(place as i64);
    }
    pack.text(&pack::values(|last| {
        last.head_of_text(balances_bytes(request));
    }));
    pack.text(format!(">{}", "ddd".repeat(counters)).as_bytes());
    debug_assert_eq!(pack.count() + 1, VALUES_OF_ALL, "places are as the script counts them");

    let places = columns.places(&request.counters);
    let of_group = |place: i64| {
        let counters = request.counters.iter().enumerate();
        counters
            .zip(&places)
            .filter(move |(_, own)| **own == place)
            .map(|(numbered, _)| numbered)
    };
    let first = i64::from(holds_on_workspace);
    for place in first..=columns.groups.len() as i64 {
        let purses = if place == first { request.purses.as_slice() } else { &[] };
        pack.int((1 + of_group(place).count() + purses.len()) as i64).text(BRIEF.as_bytes());
        for (number, _) in of_group(place) {
            pack.text(fields[number].as_bytes());
        }
        for used in purses {
            pack.text(purse_field(&used.budget, request.counters[used.counter].unit).as_bytes());
        }
    }
    // Where the first of three doubles of each counter stands, as the script reads them.
    let mut cells = vec![0; counters];
    for (place, (number, counter)) in (1..=columns.groups.len() as i64).flat_map(of_group).enumerate() {
        cells[number] = 3 * place as i64 + 1;
        pack.int(unit_offset(counter)).int(born_at(counter));
    }
    for used in &request.purses {
        let counter = &request.counters[used.counter];
        let line = format!(":{} {} {}\n", counter.whose.column(), fields[used.counter], used.hard);
        pack.int(cells[used.counter]).int(used.counter as i64 + 1);
        pack.int(used.hard).text(line.as_bytes()).int(unit_offset(counter));
    }
    let id = hex(request.reservation);
    let mut rest = String::with_capacity(MEMBER_BYTES_USUALLY_MAX);
    for part in [&id, ",", request.workspace.as_str()] {
        rest.push_str(part);
    }
    for column in columns.texts() {
        rest.push(',');
        rest.push_str(column);
    }
    let slot = &id[..SLOT_DIGITS];
    for (number, rung) in request.rungs.iter().take(rungs).enumerate() {
        let member = format!("{slot}{:016}{rest}", micros(rung.expires_at));
        pack_rung(pack, (number, rung), &member, columns.groups.len());
        for limit in &rung.limits {
            pack_limit(pack, limit, cells[limit.counter], &request.counters[limit.counter]);
        }
    }
    Plain {
        now: request.now,
        values,
        record: first_part(request, columns, (&fields, &places), nonce),
    }
}

/// The place of a counter's unit among the needs of a rung, from 0 on.
fn unit_offset(counter: &Counter) -> i64 {
    unit_place(counter.unit) - 1
}

/// How many bytes the balances of a request are.
pub(super) fn balances_bytes(request: &HoldRequest) -> usize {
    COUNTER_BYTES * request.counters.len() + GRANTED_BYTES * request.purses.len()
}

/// What the script said of one hold: a rung or what stands in its place, and balances.
pub(super) struct Answer {
    what: i16,
    balances: Vec<u8>,
}

/// What the script said of all holds of a call, one after the other.
pub(super) struct Answers {
    bytes: Vec<u8>,
    at: usize,
}

impl Answers {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next one, whose balances are so many bytes. After one that cannot be read nobody knows where others begin.
    pub(super) fn next(&mut self, balances_bytes: usize) -> Result<Answer, Unexpected> {
        let answer = self.read(balances_bytes);
        if answer.is_err() {
            self.at = self.bytes.len();
        }
        answer
    }

    fn read(&mut self, balances_bytes: usize) -> Result<Answer, Unexpected> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let what = rest.first_chunk().copied().map(i16::from_be_bytes);
        let what = what.ok_or_else(|| Unexpected::of("an answer to each hold", "the end"))?;
        let end = size_of_val(&what) + if what == ELSE { 0 } else { balances_bytes };
        let balances = rest.get(size_of_val(&what)..end);
        let balances = balances.ok_or_else(|| Unexpected::of("balances of counters", &format!("{} bytes", rest.len())))?;
        self.at += end;
        Ok(Answer {
            what,
            balances: balances.to_vec(),
        })
    }
}

/// What the script answered; `None`: it is not for it to decide.
pub(super) fn outcome(request: &HoldRequest, columns: &Columns<'_>, answer: &Answer) -> Result<Option<HoldOutcome>, CallError> {
    if answer.what == ELSE {
        return Ok(None);
    }
    let balances = balances_of(&answer.balances, &columns.places(&request.counters))?;
    if answer.what == SHORT {
        return Ok(Some(HoldOutcome::Short { balances }));
    }
    // The rung that was taken whole.
    let place = usize::try_from(answer.what).ok();
    let Some((place, rung)) = place.and_then(|place| Some((place, request.rungs.get(place)?))) else {
        return Err(Unexpected::of("a rung of the request", &answer.what.to_string()).into());
    };
    let taken = Taken {
        rung: place,
        output: rung.output,
        amounts: rung.needs,
    };
    Ok(Some(HoldOutcome::Held { taken, before: balances }))
}

fn pack_rung(pack: &mut Pack, (number, rung): (usize, &Rung), member: &str, holders: usize) {
    let needs = rung.needs;
    pack.int(needs.tokens).int(needs.usd).int(needs.requests).int(needs.credits);
    pack.int(rung.limits.len() as i64).yes_or_no(rung.cap.is_some());
    let part = pack::values(|part| {
        part.int(number as i64).int(rung.output);
        part.int(needs.tokens).int(needs.usd).int(needs.requests).int(needs.credits);
        part.moment(rung.expires_at).head_of_text(GENERATION_BYTES * holders);
    });
    pack.text(&part).text(member.as_bytes()).moment(rung.expires_at);
}

fn pack_limit(pack: &mut Pack, limit: &Limit, cell: i64, counter: &Counter) {
    pack.int(if limit.granted { -cell } else { cell }).int(unit_offset(counter));
    for line in [limit.open_below, limit.ceiling] {
        match line {
            Some(line) => pack.int(line),
            None => pack.no(),
        };
    }
}

/// A live record from END to COUNTERS, which `store_v4.lua` names; what follows depends on the rung and on what is found.
fn first_part(request: &HoldRequest, columns: &Columns<'_>, (fields, places): (&[String], &[i64]), nonce: u64) -> Vec<u8> {
    let mut part = Pack::with_capacity(request.context.len() + RECORD_BYTES_USUALLY_MAX);
    part.int(0).int(0).text(request.workspace.as_str().as_bytes());
    part.text(&request.fingerprint.to_be_bytes());
    part.int(on_expiry(request.charge_on_expiry, request.tell_on_expiry))
        .moment(request.now);
    part.int(0).moment(request.now);
    for _claimed_and_used in 0..8 {
        part.int(0);
    }
    part.text(&request.context).text(&nonce.to_be_bytes()).texts(columns.texts());
    part.list(|list| {
        for ((counter, field), place) in request.counters.iter().zip(fields).zip(places) {
            list.int(*place).text(field.as_bytes());
            list.int(unit_place(counter.unit));
        }
    });
    part.as_list_of(PLACES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_what_each_asked() {
        let told = [
            SHORT.to_be_bytes().as_slice(),
            &[1; 24],
            &ELSE.to_be_bytes(),
            &3_i16.to_be_bytes(),
            &[2; 40],
        ]
        .concat();
        let mut answers = Answers::new(told);
        for (balances_bytes, what, balances) in [(24, SHORT, vec![1; 24]), (24, ELSE, vec![]), (40, 3, vec![2; 40])] {
            let answer = answers.next(balances_bytes).expect("an answer");
            assert_eq!((answer.what, answer.balances), (what, balances));
        }
        assert!(answers.next(0).is_err(), "there are no more");
    }

    #[test]
    fn after_an_answer_that_is_cut_off_there_is_none() {
        for bytes in [0, 1, 2, 25] {
            let mut answers = Answers::new(vec![0; bytes]);
            assert!(answers.next(24).is_err(), "{bytes} bytes");
            assert!(answers.next(0).is_err(), "nor is any after it");
        }
    }
}
