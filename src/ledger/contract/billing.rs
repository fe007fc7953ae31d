//! Batches: an entry is in one, whoever collects; what is counted is told and carried to the last fraction; one sender has a batch.

use super::book::{Book, Draft, at, audited, settle, workspace};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::billing::delivery::{Answer, Event, Impossible, PAUSE_SECONDS_MAX, ReasonCode};
use crate::decision::billing::exact::Exact;
use crate::decision::billing::{Batch, State, Terms, adjust};
use crate::decision::id::{BatchId, Feature, MeterId, Tier, WorkspaceId};
use crate::decision::meter::{FACTOR_BILLIONTHS, Factor, Meter, MeterFilter};
use crate::decision::workspace::Workspace;
use crate::ledger::audit::AuditQuery;
use crate::ledger::billing::{
    Adjusting, Answered, BatchChange, BatchQuery, Carried, CarriedQuery, Changed, Claim, Claiming, Claims, Collected, Collecting, Debt,
    DebtQuery, Metered, MeteredQuery, PASS_LAG_SECONDS, Place, Sealing,
};
use crate::ledger::told::Stretch;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use tokio::runtime::Handle;
use tokio::task::{JoinSet, block_in_place};

const HOUR: i64 = 3_600;
/// A time of which the hour begins at `NOW - 1_800`.
const NOW: i64 = 1_000_000 * HOUR + 1_800;
const LEASE: i64 = 120;

const TERMS: Terms = Terms {
    sends: true,
    dedupe_seconds: Some(86_400),
    accepts_negative: false,
    oldest_seconds: Some(35 * 86_400),
    needs_customer: false,
    closes_periods: true,
    takes_back: true,
    calls_per_second: 100,
};

fn meter() -> Meter {
    Meter {
        id: MeterId::parse("tokens").expect("a name"),
        event_name: "weir_tokens".to_owned(),
        unit: Unit::Tokens,
        only: MeterFilter::default(),
        factor: Factor::new(FACTOR_BILLIONTHS, FACTOR_BILLIONTHS, Unit::Tokens).expect("one"),
    }
}

/// A meter of thousands of tokens.
fn thousands() -> Meter {
    Meter {
        factor: Factor::new(FACTOR_BILLIONTHS, FACTOR_BILLIONTHS / 1_000, Unit::Tokens).expect("a thousandth"),
        ..meter()
    }
}

/// A use at [`NOW`], recorded a moment later.
fn used(request: &str, tokens: i64) -> Draft {
    settle(request).tokens(tokens).at(NOW).recorded(NOW + 1)
}

fn collecting(meter: &Meter, place: Place, now: i64) -> Collecting {
    Collecting {
        meter: meter.clone(),
        since: at(NOW - 10 * HOUR),
        place,
        until: at(now),
        limit: 500,
        window_seconds: HOUR,
        seal_after_seconds: 60,
        now: at(now),
    }
}

/// Collects as the leader does a few seconds after `now`.
async fn collect(book: &Book, meter: &Meter, now: i64) -> Collected {
    let collected = book.ledger().collect(collecting(meter, Place::Pass(0), now)).await;
    collected.expect("the ledger answers")
}

async fn seal(book: &Book, now: i64) -> usize {
    let sealing = Sealing {
        due: at(now),
        accepts_negative: false,
        limit: 100,
        now: at(now),
        audited: None,
    };
    book.ledger().seal(sealing).await.expect("the ledger answers")
}

async fn claim_by(book: &Book, terms: Terms, now: i64) -> Claims {
    let claiming = Claiming {
        terms,
        late_after_seconds: 3_000,
        lease_seconds: LEASE,
        limit: 100,
        now: at(now),
    };
    book.ledger().claim(claiming).await.expect("the ledger answers")
}

async fn claim(book: &Book, now: i64) -> Vec<Claim> {
    let claims = claim_by(book, TERMS, now).await;
    assert_eq!(claims.set_aside, []);
    claims.claims
}

async fn answer(book: &Book, claim: &Claim, answer: Answer, now: i64) -> Option<Batch> {
    let answered = Answered {
        batch: claim.batch.id,
        generation: claim.batch.delivery.generation,
        lease: claim.lease,
        answer,
        terms: TERMS,
        now: at(now),
        chance: 0,
    };
    book.ledger().answered(answered).await.expect("the ledger answers")
}

async fn change(book: &Book, batch: BatchId, event: Event, now: i64) -> Changed {
    let change = BatchChange {
        batch,
        generation: None,
        event,
        terms: TERMS,
        now: at(now),
        audited: Some(audited("billing.batch.resend", &batch.to_string())),
    };
    book.ledger().change_batch(change).await.expect("the ledger answers")
}

/// All batches, oldest first, open ones too.
async fn batches(book: &Book) -> Vec<Batch> {
    let mut found = Vec::new();
    for state in [None, Some(State::Open)] {
        let query = BatchQuery {
            state,
            limit: 500,
            ..BatchQuery::default()
        };
        found.extend(book.ledger().batches(&query).await.expect("the ledger answers"));
    }
    found.sort_by_key(|batch| (batch.opened_at, batch.window.start, batch.sequence));
    found
}

async fn only(book: &Book) -> Batch {
    let mut all = batches(book).await;
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

async fn balances(book: &Book) {
    let verified = book.ledger().verify_batches(None, 500).await.expect("the ledger answers");
    assert_eq!(verified.differences, []);
}

/// One sealed batch of 100 tokens, due at once.
async fn sealed(book: &Book) -> Batch {
    book.done(used("r", 100)).await;
    collect(book, &meter(), NOW + 10).await;
    assert_eq!(seal(book, NOW + 2 * HOUR).await, 1);
    only(book).await
}

/// Two sealed batches of 100 and 50 tokens, an hour apart.
pub(in crate::ledger) async fn sealed_twice(book: &Book) {
    book.done(used("a", 100)).await;
    book.done(used("b", 50).at(NOW + HOUR).recorded(NOW + HOUR)).await;
    collect(book, &meter(), NOW + HOUR + 10).await;
    assert_eq!(seal(book, NOW + 3 * HOUR).await, 2);
}

async fn put(book: &Book, id: &str, version: u32, customer: Option<&str>) {
    let described = Workspace {
        stripe_customer_id: customer.map(str::to_owned),
        version,
        ..Workspace::unknown(workspace(id), at(NOW - HOUR))
    };
    let ledger = book.ledger();
    let put = ledger.put_workspace(&described, version - 1, audited("workspace.put", id)).await;
    assert!(put.expect("the ledger answers"));
}

pub(in crate::ledger) async fn entries_of_one_workspace_and_hour_make_one_batch(mut book: Book) {
    book.done(used("a", 100)).await;
    book.done(used("b", 50).at(NOW + 60).recorded(NOW + 61)).await;
    book.done(used("other_hour", 7).at(NOW - HOUR).recorded(NOW + 2)).await;
    book.done(used("other_workspace", 9).of("ws_b")).await;
    assert_eq!(collect(&book, &meter(), NOW + 100).await, Collected { members: 4, next: None });
    assert_eq!(collect(&book, &meter(), NOW + 200).await.members, 0);
    let all = batches(&book).await;
    let told: Vec<(&str, i64, i64, i64)> = all
        .iter()
        .map(|batch| {
            (
                batch.workspace.as_str(),
                batch.window.start.micros() / 1_000_000,
                batch.members,
                batch.counted,
            )
        })
        .collect();
    let hour = NOW - 1_800;
    assert_eq!(told, [("ws_a", hour - HOUR, 1, 7), ("ws_a", hour, 2, 150), ("ws_b", hour, 1, 9)]);
    assert_eq!((all[1].last_used_at, all[1].delivery.state), (at(NOW + 60), State::Open));
    assert_eq!(all[1].seals_at, at(hour + HOUR + 60));
    assert_eq!(seal(&book, hour + HOUR + 59).await, 1, "the hour before was over");
    book.reopen().await;
    assert_eq!(seal(&book, hour + HOUR + 60).await, 2);
    balances(&book).await;
}

pub(in crate::ledger) async fn an_entry_is_collected_once_whoever_collects(book: Book) {
    for n in 0..40 {
        book.done(used(&format!("r{n}"), 10).recorded(NOW + n)).await;
    }
    let mut racing = JoinSet::new();
    for n in 0..8 {
        let (ledger, place) = (book.ledger(), [Place::Pass(0), Place::Pass(1), Place::Ahead(None)][n % 3].clone());
        racing.spawn(async move {
            let page = Collecting {
                limit: 7,
                ..collecting(&meter(), place, NOW + 500)
            };
            let mut members = 0;
            for _ in 0..10 {
                members += ledger.collect(page.clone()).await.expect("the ledger answers").members;
            }
            members
        });
    }
    let members: usize = racing.join_all().await.into_iter().sum();
    assert_eq!(members, 40);
    assert_eq!((only(&book).await.members, only(&book).await.counted), (40, 400));
    balances(&book).await;
}

pub(in crate::ledger) async fn a_commit_that_comes_late_is_found_by_a_later_pass(book: Book) {
    book.done(used("seen", 1).recorded(NOW + 50)).await;
    assert_eq!(collect(&book, &meter(), NOW + 60).await.members, 1);
    book.done(used("late", 2).recorded(NOW + 40)).await;
    assert_eq!(collect(&book, &meter(), NOW + 60).await.members, 0, "the first pass is past it");
    let second = NOW + 60 + PASS_LAG_SECONDS[1];
    let found = book.ledger().collect(collecting(&meter(), Place::Pass(1), second)).await;
    assert_eq!(found.expect("the ledger answers").members, 1);
    assert_eq!(only(&book).await.counted, 3);
}

pub(in crate::ledger) async fn a_look_ahead_moves_no_pass(book: Book) {
    book.done(used("a", 1)).await;
    let ahead = book.ledger().collect(collecting(&meter(), Place::Ahead(None), NOW + 10)).await;
    assert_eq!(ahead.expect("the ledger answers").members, 1);
    book.done(used("b", 2).recorded(NOW)).await;
    assert_eq!(
        collect(&book, &meter(), NOW + 10).await.members,
        1,
        "it was recorded before what was seen ahead"
    );
}

pub(in crate::ledger) async fn a_meter_counts_what_it_is_for(book: Book) {
    let tier = Tier::parse("fast").expect("a tier");
    let mut fast = used("fast", 5);
    fast.entry.tier = Some(tier.clone());
    book.done(fast).await;
    book.done(used("slow", 3)).await;
    book.done(used("nothing", 0)).await;
    book.done(used("search", 2).feature("search")).await;
    let of = |only: MeterFilter, id: &str| Meter {
        id: MeterId::parse(id).expect("a name"),
        only,
        ..meter()
    };
    let by_tier = of(
        MeterFilter {
            tier: Some(tier),
            ..MeterFilter::default()
        },
        "fast",
    );
    let by_feature = of(
        MeterFilter {
            feature: Some(Feature::parse("search").expect("a feature")),
            ..MeterFilter::default()
        },
        "search",
    );
    let requests = Meter {
        unit: Unit::Requests,
        ..of(MeterFilter::default(), "requests")
    };
    for meter in [&by_tier, &by_feature, &meter(), &requests] {
        collect(&book, meter, NOW + 10).await;
    }
    let counted: BTreeMap<String, (i64, i64)> = batches(&book)
        .await
        .into_iter()
        .map(|batch| (batch.meter.to_string(), (batch.members, batch.counted)))
        .collect();
    let expected = [("fast", (1, 5)), ("requests", (4, 4)), ("search", (1, 2)), ("tokens", (3, 10))];
    assert_eq!(counted, expected.map(|(id, told)| (id.to_owned(), told)).into());
    let query = MeteredQuery {
        meter: by_tier,
        workspace: Some(workspace("ws_a")),
        from: at(NOW),
        to: at(NOW + 1),
    };
    let metered = book.ledger().metered(&query).await.expect("the ledger answers");
    let expected = Metered {
        workspace: workspace("ws_a"),
        counted: 5,
        uncollected: 0,
    };
    assert_eq!(metered, [expected]);
}

pub(in crate::ledger) async fn a_meter_begins_with_the_billing_period_in_which_it_came(book: Book) {
    // The hour lies in the middle of a month; forty days before it is another one.
    book.done(used("before", 1).at(NOW - 40 * 86_400).recorded(NOW - 20 * HOUR)).await;
    book.done(used("in_time", 2).at(NOW - 20 * HOUR).recorded(NOW - 20 * HOUR)).await;
    book.done(used("late", 4).at(NOW - 34 * 86_400).recorded(NOW)).await;
    assert_eq!(collect(&book, &meter(), NOW + 10).await.members, 2);
    let counted: i64 = batches(&book).await.iter().map(|batch| batch.counted).sum();
    assert_eq!(counted, 6, "what is recorded since is counted, whenever it was used");
}

/// Notes the meters of a policy that came then.
async fn begin(book: &Book, meters: &[Meter], since: i64) {
    book.ledger().begin_meters(meters, at(since)).await.expect("the ledger answers");
}

pub(in crate::ledger) async fn a_use_is_counted_by_what_its_meter_was_when_it_was_recorded(mut book: Book) {
    let ended = async |book: &Book| book.ledger().meters_ended(at(NOW)).await.expect("the ledger answers");
    let changed_at = async |book: &Book| book.ledger().meters_changed_at().await.expect("the ledger answers");
    let counted = async |book: &Book| batches(book).await.iter().map(|batch| batch.counted).sum::<i64>();
    assert_eq!(changed_at(&book).await, None);
    begin(&book, &[meter()], NOW - HOUR).await;
    book.done(used("there", 100)).await;
    collect(&book, &meter(), NOW + 2).await;
    book.done(used("there_still", 1).recorded(NOW + 9)).await;
    begin(&book, &[], NOW + 10).await;
    assert_eq!((ended(&book).await, changed_at(&book).await), (vec![meter()], Some(at(NOW + 10))));
    book.done(used("away", 7).recorded(NOW + 20)).await;
    assert_eq!(
        collect(&book, &meter(), NOW + 25).await.members,
        1,
        "what was recorded while it was there"
    );
    begin(&book, &[meter()], NOW + 30).await;
    book.reopen().await;
    // Somebody who has not heard of the later policies.
    begin(&book, &[thousands()], NOW - HOUR).await;
    begin(&book, &[], NOW + 10).await;
    assert_eq!(ended(&book).await, []);
    book.done(used("back", 3).recorded(NOW + 40)).await;
    collect(&book, &meter(), NOW + 41).await;
    assert_eq!(counted(&book).await, 104);
    // Other features were counted too, and are not any more.
    let only_search = Meter {
        only: MeterFilter {
            feature: Some(Feature::parse("search").expect("a feature")),
            ..MeterFilter::default()
        },
        ..meter()
    };
    begin(&book, std::slice::from_ref(&only_search), NOW + 50).await;
    book.done(used("before", 20).recorded(NOW + 49)).await;
    book.done(used("after", 400).recorded(NOW + 60)).await;
    book.done(used("of_search", 5).feature("search").recorded(NOW + 61)).await;
    assert_eq!(collect(&book, &only_search, NOW + 70).await.members, 2);
    assert_eq!(counted(&book).await, 129);
    begin(&book, &[meter()], NOW + 80).await;
    let later = book.ledger().collect(collecting(&meter(), Place::Pass(2), NOW + 100)).await;
    assert_eq!(
        later.expect("the ledger answers").members,
        0,
        "a wider meter counts nothing of the past"
    );
    let stretch = Stretch {
        workspace: None,
        from: at(NOW - HOUR),
        to: at(NOW + HOUR),
    };
    let forgotten = book.ledger().forgotten(&meter(), &stretch).await.expect("the ledger answers");
    assert_eq!(forgotten, []);
    let query = MeteredQuery {
        meter: meter(),
        workspace: None,
        from: at(NOW),
        to: at(NOW + 1),
    };
    book.done(used("new", 50).recorded(NOW + 90)).await;
    let metered = book.ledger().metered(&query).await.expect("the ledger answers");
    assert_eq!(
        metered
            .iter()
            .map(|metered| (metered.counted, metered.uncollected))
            .collect::<Vec<_>>(),
        [(179, 50)]
    );
    balances(&book).await;
}

pub(in crate::ledger) async fn a_correction_counts_as_its_original_does(book: Book) {
    let corrects = |original: &Draft, name: &str, tokens: i64, recorded: i64| {
        let occurred_at = original.entry.occurred_at.micros() / 1_000_000;
        used(name, tokens).correcting(&original.entry).at(occurred_at).recorded(recorded)
    };
    // Of an earlier period, which was invoiced before the meter came.
    let old = used("old", 1_000).at(NOW - 40 * 86_400).recorded(NOW - 20 * HOUR);
    let (there, away) = (used("there", 100), used("away", 7).recorded(NOW + 15));
    let corrections = [
        corrects(&old, "old_less", -1_000, NOW + 5),
        corrects(&there, "there_less", -40, NOW + 20),
        corrects(&away, "away_more", 5, NOW + 40),
        corrects(&there, "there_more", 3, NOW + 41),
    ];
    for draft in [old, there, away] {
        book.done(draft).await;
    }
    for draft in corrections {
        book.done(draft).await;
    }
    for (meters, since) in [(vec![meter()], NOW - 10 * HOUR), (vec![], NOW + 10), (vec![meter()], NOW + 30)] {
        begin(&book, &meters, since).await;
    }
    assert_eq!(collect(&book, &meter(), NOW + 100).await.members, 3);
    assert_eq!(batches(&book).await.iter().map(|batch| batch.counted).sum::<i64>(), 63);
    let stretch = Stretch {
        workspace: None,
        from: at(NOW - 50 * 86_400),
        to: at(NOW + HOUR),
    };
    let forgotten = book.ledger().forgotten(&meter(), &stretch).await.expect("the ledger answers");
    assert_eq!(forgotten, []);
    balances(&book).await;
}

pub(in crate::ledger) async fn what_comes_after_the_seal_makes_the_next_batch_of_its_window(book: Book) {
    let first = sealed(&book).await;
    book.done(used("late", 7).at(NOW + 5).recorded(NOW + 2 * HOUR)).await;
    collect(&book, &meter(), NOW + 2 * HOUR + 10).await;
    let all = batches(&book).await;
    let (again, late) = (&all[0], &all[1]);
    assert_eq!((again, late.window, late.sequence), (&first, first.window, 2));
    assert_ne!(late.id, first.id);
    assert_eq!(
        late.seals_at,
        at(NOW + 2 * HOUR + 10 + 60),
        "its window is over: what comes late waits a little for its like"
    );
    assert_eq!(late.last_used_at, at(NOW + 5));
}

pub(in crate::ledger) async fn fractions_and_debts_are_carried(book: Book) {
    for (n, (counted, value, carry)) in [
        (1_999, 1, "0.999"),
        (1, 1, "0"),
        (-2_500, 0, "-2.5"),
        (3_000, 0, "0.5"),
        (500, 1, "0"),
    ]
    .into_iter()
    .enumerate()
    {
        let (n, hour) = (n as i64, NOW + n as i64 * HOUR);
        book.done(used(&format!("r{n}"), counted).at(hour).recorded(hour + 1)).await;
        collect(&book, &thousands(), hour + 10).await;
        assert_eq!(seal(&book, hour + 2 * HOUR).await, 1);
        let last = batches(&book).await.pop().expect("a batch");
        let sealed = last.sealed.as_ref().expect("it is sealed");
        assert_eq!(
            (sealed.value, sealed.carry.to_string(), sealed.number),
            (value, carry.to_owned(), n + 1),
            "{counted}"
        );
        let state = if value == 0 { State::Acknowledged } else { State::Sealed };
        assert_eq!(last.delivery.state, state);
    }
    balances(&book).await;
}

async fn carried(book: &Book) -> Vec<Carried> {
    let query = CarriedQuery {
        limit: 100,
        ..CarriedQuery::default()
    };
    book.ledger().carried(&query).await.expect("the ledger answers")
}

/// What is carried is in units of the definition: half a thousand is not half of one, and what is owed in tokens is not owed in cents.
pub(in crate::ledger) async fn what_is_carried_of_one_definition_is_none_of_another(book: Book) {
    let renamed = Meter {
        event_name: "calls".to_owned(),
        unit: Unit::Requests,
        ..meter()
    };
    let steps: [(&Meter, i64, i64, &str); 5] = [
        (&thousands(), 1_500, 1, "0.5"),
        (&meter(), 40, 40, "0"),
        (&renamed, 7, 1, "0"),
        (&meter(), 3, 3, "0"),
        (&thousands(), 700, 1, "0.2"),
    ];
    for (n, (defined, counted, value, carry)) in steps.into_iter().enumerate() {
        let hour = NOW + n as i64 * HOUR;
        begin(&book, std::slice::from_ref(defined), hour - 10).await;
        book.done(used(&format!("r{n}"), counted).at(hour).recorded(hour + 1)).await;
        collect(&book, defined, hour + 10).await;
        assert_eq!(seal(&book, hour + 2 * HOUR).await, 1);
        let last = batches(&book).await.pop().expect("a batch");
        let sealed = last.sealed.as_ref().expect("it is sealed");
        assert_eq!((sealed.value, sealed.carry.to_string().as_str()), (value, carry), "step {n}");
        let left: Vec<(String, bool)> = carried(&book)
            .await
            .iter()
            .map(|carried| (carried.carry.to_string(), carried.is_in_force))
            .collect();
        let expected = if (1..4).contains(&n) {
            vec![("0.5".to_owned(), false)]
        } else {
            vec![]
        };
        assert_eq!(
            left, expected,
            "step {n}: what is left of a definition that the meter has no more is named"
        );
    }
    balances(&book).await;
}

pub(in crate::ledger) async fn what_is_owed_back_is_named_until_it_is_set_off(book: Book) {
    put(&book, "ws_a", 1, Some("cus_a")).await;
    begin(&book, &[thousands()], NOW - 10).await;
    let steps = [(2_000, None), (-2_500, Some((3, 1))), (-600, Some((4, 1))), (3_300, None)];
    for (n, (counted, owed)) in steps.into_iter().enumerate() {
        let hour = NOW + n as i64 * HOUR;
        book.done(used(&format!("r{n}"), counted).at(hour).recorded(hour + 1)).await;
        collect(&book, &thousands(), hour + 10).await;
        assert_eq!(seal(&book, hour + 2 * HOUR).await, 1);
        let named = carried(&book).await;
        assert_eq!(book.ledger().owed().await.expect("the ledger answers"), named.len() as i64);
        let named = named
            .first()
            .map(|carried| (carried.owed, carried.owed_since, carried.customer.as_deref()));
        let expected = owed.map(|(owed, since)| (owed, Some(at(NOW + since * HOUR + 2 * HOUR)), Some("cus_a")));
        assert_eq!(named, expected, "step {n}");
    }
    balances(&book).await;
}

/// Whether there was something to tell of it.
fn is_told(batch: &Batch) -> bool {
    let reason = batch.delivery.reason.as_ref().map(|reason| reason.code);
    reason != Some(ReasonCode::NothingToTell)
}

/// The debts that are old enough, page by page.
async fn debts(book: &Book, now: i64, limit: usize) -> Vec<Debt> {
    let mut query = DebtQuery {
        until: adjust::owed_until(&TERMS, at(now)).expect("it takes back"),
        after: None,
        limit,
    };
    let mut all = Vec::new();
    loop {
        let page = book.ledger().debts(&query).await.expect("the ledger answers");
        query.after = page.last().cloned();
        let is_last = page.len() < limit;
        all.extend(page);
        if is_last {
            return all;
        }
    }
}

async fn take_back(book: &Book, now: i64) -> usize {
    let mut made = 0;
    for debt in debts(book, now, 2).await {
        let adjusting = Adjusting { debt, now: at(now) };
        made += usize::from(book.ledger().adjust(adjusting).await.expect("the ledger answers"));
    }
    made
}

pub(in crate::ledger) async fn what_is_owed_back_is_taken_back_once_or_is_owed_again(book: Book) {
    put(&book, "ws_a", 1, Some("cus_a")).await;
    begin(&book, &[meter()], NOW - 10).await;
    let mut now = NOW + 2 * HOUR;
    for (n, counted) in [100, 40, -130].into_iter().enumerate() {
        let used_at = NOW + n as i64;
        book.done(used(&format!("r{n}"), counted).at(used_at).recorded(now)).await;
        collect(&book, &meter(), now + 10).await;
        now += HOUR;
        assert_eq!(seal(&book, now).await, 1);
        for claim in claim(&book, now).await {
            answer(&book, &claim, Answer::Acknowledged, now)
                .await
                .expect("its lease is not over");
        }
    }
    assert_eq!(take_back(&book, now + 2 * HOUR - 1).await, 0, "it waits for use");
    now += 2 * HOUR;
    let mut racing = JoinSet::new();
    let debt = debts(&book, now, 1).await.pop().expect("a debt");
    for _ in 0..4 {
        let (ledger, debt, now) = (book.ledger(), debt.clone(), at(now));
        racing.spawn(async move { ledger.adjust(Adjusting { debt, now }).await.expect("the ledger answers") });
    }
    // From each of two batches once, whoever looks: 100 of the larger, and 30 of the other.
    let made = racing.join_all().await.into_iter().filter(|is_made| *is_made).count();
    assert_eq!(made, 2);
    assert_eq!(carried(&book).await, []);
    balances(&book).await;
    for expected in [-100, -30] {
        let claim = claim(&book, now).await.pop().expect("a claim");
        let adjusted = claim.batch.adjusts.expect("what it adjusts");
        let original = book.ledger().batch(adjusted).await.expect("the ledger answers").expect("a batch");
        assert_eq!(
            (claim.batch.value(), claim.batch.delivery.told_at),
            (expected, original.delivery.told_at)
        );
        let said = match expected {
            -100 => Answer::Acknowledged,
            _ => Answer::Rejected { reason: "no".to_owned() },
        };
        answer(&book, &claim, said, now).await.expect("its lease is not over");
    }
    let owed: Vec<i64> = carried(&book).await.iter().map(|carried| carried.owed).collect();
    assert_eq!(owed, [30], "what was refused is owed again");
    // In vain once is not for good; what was taken back is.
    assert_eq!(take_back(&book, now + 3 * HOUR).await, 1);
    assert_eq!(take_back(&book, now + 6 * HOUR).await, 0);
    let told: i64 = batches(&book).await.iter().map(Batch::value).sum();
    assert_eq!(told, 10);
    balances(&book).await;
}

pub(in crate::ledger) async fn usd_is_told_in_dollars(book: Book) {
    let cents = Meter {
        unit: Unit::Usd,
        factor: Factor::new(1_250_000_000, 100 * FACTOR_BILLIONTHS, Unit::Usd).expect("a factor"),
        ..meter()
    };
    let counted = Amounts {
        usd: 123_456_789,
        ..Amounts::ZERO
    };
    book.done(used("r", 0).counted(counted)).await;
    collect(&book, &cents, NOW + 10).await;
    seal(&book, NOW + 2 * HOUR).await;
    let sealed = only(&book).await.sealed.expect("it is sealed");
    assert_eq!((sealed.value, sealed.carry.to_string().as_str()), (15, "0.432098625"));
    balances(&book).await;
}

pub(in crate::ledger) async fn a_meter_that_is_defined_anew_begins_another_batch(book: Book) {
    book.done(used("a", 10)).await;
    collect(&book, &meter(), NOW + 10).await;
    book.done(used("b", 1_500).recorded(NOW + 20)).await;
    begin(&book, &[thousands()], NOW + 15).await;
    collect(&book, &thousands(), NOW + 30).await;
    assert_eq!(seal(&book, NOW + 2 * HOUR).await, 2);
    let values: Vec<(i64, i64)> = batches(&book).await.iter().map(|batch| (batch.sequence, batch.value())).collect();
    assert_eq!(values, [(1, 10), (2, 1)]);
    balances(&book).await;
}

pub(in crate::ledger) async fn of_racing_claims_one_has_a_batch(book: Book) {
    sealed(&book).await;
    let now = NOW + 2 * HOUR;
    let mut racing = JoinSet::new();
    for _ in 0..8 {
        let ledger = book.ledger();
        racing.spawn(async move {
            let claiming = Claiming {
                terms: TERMS,
                late_after_seconds: 3_000,
                lease_seconds: LEASE,
                limit: 100,
                now: at(now),
            };
            ledger.claim(claiming).await.expect("the ledger answers").claims
        });
    }
    let claims: Vec<Claim> = racing.join_all().await.into_iter().flatten().collect();
    assert_eq!(claims.len(), 1);
    let batch = &claims[0].batch;
    assert_eq!((batch.delivery.state, batch.delivery.tries), (State::Sending, 1));
    assert_eq!(batch.delivery.told_at, Some(at(NOW)), "as of its last use");
    let done = answer(&book, &claims[0], Answer::Acknowledged, now + 1).await.expect("it counts");
    assert_eq!((done.delivery.state, done), (State::Acknowledged, only(&book).await));
    assert_eq!(claim(&book, now + 10 * HOUR).await, []);
}

pub(in crate::ledger) async fn one_batch_of_a_workspace_and_meter_is_under_way(book: Book) {
    for hour in 0..3 {
        book.done(used(&format!("r{hour}"), 10).at(NOW + hour * HOUR).recorded(NOW + hour * HOUR))
            .await;
    }
    book.done(used("other", 5).of("ws_b")).await;
    collect(&book, &meter(), NOW + 3 * HOUR).await;
    let now = NOW + 4 * HOUR;
    assert_eq!(seal(&book, now).await, 4);
    let first = claim(&book, now).await;
    let workspaces: BTreeSet<&WorkspaceId> = first.iter().map(|claim| &claim.batch.workspace).collect();
    assert_eq!((first.len(), workspaces.len()), (2, 2));
    assert_eq!(claim(&book, now).await, [], "one of each is under way");
    let mut told = 0;
    let mut next = first;
    while !next.is_empty() {
        for claim in &next {
            answer(&book, claim, Answer::Duplicate, now).await.expect("it counts");
            told += claim.batch.value();
        }
        next = claim(&book, now).await;
    }
    assert_eq!(told, 35);
}

/// Two workspaces of one customer, and one of another.
pub(in crate::ledger) async fn one_claim_has_what_a_customer_is_told(book: Book) {
    for (workspace, customer) in [("ws_a", "cus_1"), ("ws_b", "cus_1"), ("ws_c", "cus_2")] {
        put(&book, workspace, 1, Some(customer)).await;
        book.done(used(workspace, 100).of(workspace)).await;
    }
    collect(&book, &meter(), NOW + 10).await;
    assert_eq!(seal(&book, NOW + 2 * HOUR).await, 3);
    let now = NOW + 2 * HOUR;
    let terms = Terms {
        needs_customer: true,
        ..TERMS
    };
    let claiming = |now: i64| Claiming {
        terms,
        late_after_seconds: 3_000,
        lease_seconds: LEASE,
        limit: 1,
        now: at(now),
    };
    // Whoever claims next gets what is of the other customer, however many race.
    let first = book.ledger().claim(claiming(now)).await.expect("the ledger answers").claims;
    let mut racing = JoinSet::new();
    for _ in 0..4 {
        let (ledger, claiming) = (book.ledger(), claiming(now));
        racing.spawn(async move { ledger.claim(claiming).await.expect("the ledger answers").claims });
    }
    let mut all: Vec<Claim> = racing.join_all().await.into_iter().flatten().chain(first).collect();
    all.extend(claim_by(&book, terms, now).await.claims);
    let mut customers: Vec<&str> = all.iter().filter_map(|claim| claim.batch.delivery.customer.as_deref()).collect();
    customers.sort_unstable();
    assert_eq!(customers, ["cus_1", "cus_2"]);
    let of_first = all.iter().find(|claim| claim.batch.delivery.customer.as_deref() == Some("cus_1"));
    answer(&book, of_first.expect("a claim"), Answer::Acknowledged, now + 1)
        .await
        .expect("its lease is not over");
    assert_eq!(claim_by(&book, terms, now + 1).await.claims, [], "it is put off a little");
    assert_eq!(claim_by(&book, terms, now + 3).await.claims.len(), 1);
    // What is claimed together may be of one customer: it is told one after the other.
    assert_eq!(
        claim_by(&book, terms, now + LEASE + HOUR).await.claims.len(),
        2,
        "those whose senders are lost"
    );
}

pub(in crate::ledger) async fn what_a_lost_sender_left_goes_to_another(mut book: Book) {
    sealed(&book).await;
    let now = NOW + 2 * HOUR;
    let lost = claim(&book, now).await.remove(0);
    assert_eq!(claim(&book, now + LEASE - 1).await, []);
    book.reopen().await;
    let found = claim(&book, now + LEASE).await.remove(0);
    assert_eq!((found.batch.id, found.batch.identifier()), (lost.batch.id, lost.batch.identifier()));
    assert_eq!((found.batch.delivery.tries, found.batch.delivery.unsure_since), (2, Some(at(now))));
    let late = Answer::Unknown { reason: "late".to_owned() };
    assert_eq!(answer(&book, &lost, late, now + LEASE + 1).await, None, "it is another's by now");
    let known = answer(&book, &lost, Answer::Acknowledged, now + LEASE + 2)
        .await
        .expect("what is known counts");
    assert_eq!(known.delivery.state, State::Acknowledged);
    let late = Answer::Rejected { reason: "no".to_owned() };
    assert_eq!(answer(&book, &found, late, now + LEASE + 3).await, None, "nor is it taken back");
    assert_eq!(only(&book).await.delivery.state, State::Acknowledged);
    book.done(used("next", 1).at(NOW + 3 * HOUR).recorded(NOW + 3 * HOUR)).await;
    collect(&book, &meter(), NOW + 4 * HOUR).await;
    seal(&book, NOW + 5 * HOUR).await;
    assert_eq!(claim(&book, NOW + 5 * HOUR).await.len(), 1, "the way is free again");
}

pub(in crate::ledger) async fn silence_of_thirty_hours_is_nobodys_to_send(book: Book) {
    sealed(&book).await;
    let now = NOW + 2 * HOUR;
    let first = claim(&book, now).await.remove(0);
    let silence = Answer::Unknown {
        reason: "timed out".to_owned(),
    };
    answer(&book, &first, silence.clone(), now + 30).await.expect("it counts");
    let second = claim(&book, now + HOUR).await.remove(0);
    answer(&book, &second, silence, now + HOUR + 30).await.expect("it counts");
    let late = claim_by(&book, TERMS, now + 30 * HOUR).await;
    assert_eq!((late.claims.len(), late.set_aside.len()), (0, 1));
    let batch = only(&book).await;
    assert_eq!((batch.delivery.state, batch.delivery.tries), (State::Unknown, 2));
    let refused = change(&book, batch.id, Event::Resend { is_forced: false }, now + 31 * HOUR).await;
    assert_eq!(refused, Changed::Refused(Box::new(batch.clone()), Impossible::Unknown));
    assert_eq!(claim(&book, now + 40 * HOUR).await, []);
    let Changed::Done(found) = change(&book, batch.id, Event::Found { is_there: true }, now + 41 * HOUR).await else {
        panic!("reconcile knows");
    };
    assert_eq!(found.delivery.state, State::Acknowledged);
}

pub(in crate::ledger) async fn who_has_no_customer_keeps_nobody_waiting(book: Book) {
    let terms = Terms {
        needs_customer: true,
        ..TERMS
    };
    put(&book, "ws_b", 1, Some("cus_b")).await;
    book.done(used("a", 10)).await;
    book.done(used("b", 20).of("ws_b")).await;
    collect(&book, &meter(), NOW + 10).await;
    let now = NOW + 2 * HOUR;
    seal(&book, now).await;
    let claims = claim_by(&book, terms, now).await;
    assert_eq!(claims.claims.len(), 1);
    assert_eq!(claims.claims[0].batch.delivery.customer.as_deref(), Some("cus_b"));
    let reasons: Vec<Option<ReasonCode>> = claims
        .set_aside
        .iter()
        .map(|batch| batch.delivery.reason.as_ref().map(|reason| reason.code))
        .collect();
    assert_eq!(reasons, [Some(ReasonCode::NoCustomer)]);
    let resume = || async { book.ledger().resume_batches(terms, 100, at(now)).await.expect("the ledger answers") };
    assert_eq!(resume().await, 0);
    put(&book, "ws_a", 2, Some("cus_a")).await;
    assert_eq!(resume().await, 1);
    let claims = claim_by(&book, terms, now).await;
    assert_eq!(claims.claims[0].batch.delivery.customer.as_deref(), Some("cus_a"));
}

pub(in crate::ledger) async fn what_is_too_old_is_named(book: Book) {
    const DAY: i64 = 86_400;
    let set_aside = |claims: &Claims| -> Vec<(i64, Option<ReasonCode>)> {
        let named = claims.set_aside.iter();
        named
            .map(|batch| (batch.value(), batch.delivery.reason.as_ref().map(|reason| reason.code)))
            .collect()
    };
    // Used 35 days ago and recorded yesterday: the books of then are closed, and it is told as of now.
    book.done(used("old", 10).at(NOW - 34 * DAY)).await;
    collect(&book, &meter(), NOW + 10).await;
    seal(&book, NOW + DAY).await;
    let claims = claim_by(&book, TERMS, NOW + DAY).await;
    assert_eq!(set_aside(&claims), []);
    assert_eq!(
        (claims.claims[0].batch.value(), claims.claims[0].batch.delivery.told_at),
        (10, Some(at(NOW + DAY)))
    );
    answer(&book, &claims.claims[0], Answer::Acknowledged, NOW + DAY).await;
    // A provider that closes no books is told of the time of the use.
    book.done(used("own_time", 20).at(NOW - 34 * DAY).recorded(NOW + DAY)).await;
    collect(&book, &meter(), NOW + DAY + 10).await;
    seal(&book, NOW + 2 * DAY).await;
    let keeps_open = Terms {
        closes_periods: false,
        ..TERMS
    };
    let claims = claim_by(&book, keeps_open, NOW + 2 * DAY).await;
    assert_eq!(set_aside(&claims), [(20, Some(ReasonCode::TooOld))]);
    // What waited for so long is not told as of now either.
    book.done(used("waits", 30).recorded(NOW + 2 * DAY)).await;
    collect(&book, &meter(), NOW + 2 * DAY + 10).await;
    seal(&book, NOW + 3 * DAY).await;
    let claims = claim_by(&book, TERMS, NOW + 37 * DAY + 11).await;
    assert_eq!(set_aside(&claims), [(30, Some(ReasonCode::TooOld))]);
}

pub(in crate::ledger) async fn a_batch_is_sent_again_and_who_wants_it_is_noted(book: Book) {
    let batch = sealed(&book).await;
    let now = NOW + 2 * HOUR;
    let sent = claim(&book, now).await.remove(0);
    let no = Answer::Rejected {
        reason: "no such meter".to_owned(),
    };
    let rejected = answer(&book, &sent, no, now).await.expect("it counts");
    assert_eq!(rejected.delivery.state, State::Rejected);
    assert!(matches!(
        change(&book, batch.id, Event::Resend { is_forced: false }, now + 1).await,
        Changed::Done(_)
    ));
    let again = claim(&book, now + 1).await.remove(0);
    answer(&book, &again, Answer::Acknowledged, now + 2).await.expect("it counts");
    let done = change(&book, batch.id, Event::Resend { is_forced: false }, now + 3).await;
    assert!(matches!(done, Changed::Refused(_, Impossible::Acknowledged)));
    let Changed::Done(forced) = change(&book, batch.id, Event::Resend { is_forced: true }, now + 4).await else {
        panic!("whoever forces it knows why");
    };
    let again = claim(&book, now + 5).await.remove(0);
    assert_eq!(
        (again.batch.id, again.batch.delivery.generation),
        (batch.id, forced.delivery.generation)
    );
    let late = answer(&book, &sent, Answer::Acknowledged, now + 5).await;
    assert_eq!(late, None, "what is said of the event before is not about this one");
    answer(&book, &again, Answer::Acknowledged, now + 6).await.expect("it counts");
    assert_eq!(
        change(
            &book,
            BatchId::parse("bat_00000000000080008000000000000001").expect("an id"),
            Event::Resumed,
            now
        )
        .await,
        Changed::Gone
    );
    let log = AuditQuery {
        limit: 10,
        ..AuditQuery::default()
    };
    assert_eq!(
        book.ledger().audit_log(&log).await.expect("the ledger answers").len(),
        2,
        "what was refused leaves no record"
    );

    let reported = change(
        &book,
        batch.id,
        Event::Reported {
            reason: "no meter".to_owned(),
        },
        now + 4,
    )
    .await;
    assert!(matches!(reported, Changed::Done(_)));
    change(&book, batch.id, Event::Resend { is_forced: false }, now + 5).await;
    let anew = claim(&book, now + 5).await.remove(0);
    assert_ne!(anew.batch.identifier(), batch.identifier(), "the provider knows the old one");
    assert_eq!(anew.batch.id, batch.id);
}

pub(in crate::ledger) async fn what_was_told_meanwhile_is_found_by_when_it_was_sent(book: Book) {
    let terms = Terms {
        needs_customer: true,
        ..TERMS
    };
    put(&book, "ws_a", 1, Some("cus_a")).await;
    sealed_twice(&book).await;
    let sent = NOW + 3 * HOUR;
    let first = claim_by(&book, terms, sent).await.claims.remove(0);
    let found = async |from: i64, to: i64| {
        let found = book.ledger().told_while(at(from), at(to)).await.expect("the ledger answers");
        found.iter().map(|batch| (batch.counted, batch.delivery.state)).collect::<Vec<_>>()
    };
    assert_eq!(found(sent, sent + 1).await, [(100, State::Sending)]);
    answer(&book, &first, Answer::Acknowledged, sent + 2).await.expect("it counts");
    let second = claim_by(&book, terms, sent + HOUR).await.claims.remove(0);
    let silence = Answer::Unknown {
        reason: "timed out".to_owned(),
    };
    answer(&book, &second, silence, sent + HOUR + 30).await.expect("it counts");
    // Tried again hours later, and known since.
    let again = claim_by(&book, terms, sent + 9 * HOUR).await.claims.remove(0);
    let unsure = [(100, State::Acknowledged), (50, State::Sending)];
    assert_eq!(found(sent - HOUR, sent + 2 * HOUR).await, unsure);
    answer(&book, &again, Answer::Duplicate, sent + 9 * HOUR + 1)
        .await
        .expect("it counts");
    // A call takes two minutes at most, and whatever time was told is another matter.
    for (from, to, expected) in [
        (sent - HOUR, sent, &[][..]),
        (sent + 119, sent + HOUR, &[100]),
        (sent + 121, sent + HOUR, &[]),
        (sent + 121, sent + HOUR + 1, &[50]),
        (sent + 8 * HOUR, sent + 9 * HOUR, &[50]),
        (sent + 10 * HOUR, sent + 20 * HOUR, &[]),
        (NOW, NOW + HOUR, &[]),
    ] {
        let counted: Vec<i64> = found(from, to).await.into_iter().map(|(counted, _)| counted).collect();
        assert_eq!(counted, expected, "{} to {}", from - sent, to - sent);
    }
    change(&book, first.batch.id, Event::Reported { reason: "no".to_owned() }, sent + 10 * HOUR).await;
    assert_eq!(found(sent, sent + 1).await, [], "what was rejected is not thought to be there");
}

pub(in crate::ledger) async fn batches_are_listed_newest_first_and_counted(book: Book) {
    for (n, workspace) in ["ws_a", "ws_b", "ws_a"].into_iter().enumerate() {
        let hour = NOW + n as i64 * HOUR;
        book.done(used(&format!("r{n}"), 10 + n as i64).of(workspace).at(hour).recorded(hour))
            .await;
        collect(&book, &meter(), hour + 10).await;
    }
    seal(&book, NOW + 2 * HOUR).await;
    let list = |query: BatchQuery| {
        let ledger = book.ledger();
        async move {
            let found = ledger.batches(&query).await.expect("the ledger answers");
            found.iter().map(|batch| batch.counted).collect::<Vec<_>>()
        }
    };
    let all = BatchQuery {
        limit: 10,
        ..BatchQuery::default()
    };
    assert_eq!(list(all.clone()).await, [11, 10]);
    let first = BatchQuery { limit: 1, ..all.clone() };
    let last = book.ledger().batches(&first).await.expect("the ledger answers").remove(0);
    let after = Some((last.opened_at, last.id));
    assert_eq!(list(BatchQuery { after, ..all.clone() }).await, [10]);
    let workspace_a = Some(workspace("ws_a"));
    assert_eq!(
        list(BatchQuery {
            workspace: workspace_a.clone(),
            ..all.clone()
        })
        .await,
        [10]
    );
    assert_eq!(
        list(BatchQuery {
            meter: Some(meter().id),
            workspace: workspace_a,
            ..all.clone()
        })
        .await,
        [10]
    );
    assert_eq!(
        list(BatchQuery {
            state: Some(State::Open),
            ..all.clone()
        })
        .await,
        [12]
    );
    assert_eq!(
        list(BatchQuery {
            state: Some(State::Acknowledged),
            ..all
        })
        .await,
        [0i64; 0]
    );
    assert_eq!(
        book.ledger().batch(last.id).await.expect("the ledger answers").as_ref(),
        Some(&last)
    );

    let states = book.ledger().batch_states().await.expect("the ledger answers");
    let states: Vec<(State, i64)> = states.iter().map(|count| (count.state, count.batches)).collect();
    assert_eq!(states, [(State::Open, 1), (State::Sealed, 2)]);
}

/// How many sequences are tried.
const CASES: u32 = 12;

#[derive(Clone, Debug)]
enum Step {
    /// Of one of two workspaces, so many thousandths, so long ago, recorded by a clock that is behind.
    Use(usize, i64, i64, i64),
    Collect(usize),
    Ahead,
    Seal,
    /// Takes back what is owed.
    Adjust,
    /// Claims all, and the provider does this with each.
    Send(Fate),
    Later(i64),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Acknowledged,
    /// It was taken, and the answer was lost.
    TakenSilently,
    /// It was not taken, and the answer was lost.
    LostSilently,
    Busy,
    /// The sender died before it called, or after.
    Crash {
        is_taken: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        3 => Just(Fate::Acknowledged),
        1 => Just(Fate::TakenSilently),
        1 => Just(Fate::LostSilently),
        1 => Just(Fate::Busy),
        1 => any::<bool>().prop_map(|is_taken| Fate::Crash { is_taken }),
    ];
    let step = prop_oneof![
        4 => (0..2usize, -3_000..9_000i64, 0..4 * HOUR, 0..900i64).prop_map(|(whose, tokens, ago, behind)| Step::Use(whose, tokens, ago, behind)),
        2 => (0..3usize).prop_map(Step::Collect),
        1 => Just(Step::Ahead),
        2 => Just(Step::Seal),
        2 => Just(Step::Adjust),
        3 => fate.prop_map(Step::Send),
        3 => (1..3 * HOUR).prop_map(Step::Later),
    ];
    vec(step, 1..40)
}

/// What one sequence is about: its own meter, feature and workspaces, since all of them share a ledger.
struct Case {
    meter: Meter,
    workspaces: [String; 2],
    /// What was counted in each workspace.
    counted: [i64; 2],
    /// What the provider took, by identifier: it recognises what it has.
    taken: BTreeMap<String, (WorkspaceId, i64)>,
}

impl Case {
    fn new(number: u32) -> Self {
        let name = format!("case_{number}");
        let only = MeterFilter {
            feature: Some(Feature::parse(&name).expect("a feature")),
            ..MeterFilter::default()
        };
        Self {
            meter: Meter {
                id: MeterId::parse(&name).expect("a name"),
                only,
                ..thousands()
            },
            workspaces: [format!("{name}_a"), format!("{name}_b")],
            counted: [0, 0],
            taken: BTreeMap::new(),
        }
    }

    /// All of its batches but open ones.
    async fn batches(&self, book: &Book) -> Vec<Batch> {
        let query = BatchQuery {
            meter: Some(self.meter.id.clone()),
            limit: 500,
            ..BatchQuery::default()
        };
        book.ledger().batches(&query).await.expect("the ledger answers")
    }

    async fn collect(&self, book: &Book, place: Place, until: i64, limit: usize, now: i64) -> Collected {
        let page = Collecting {
            until: at(until),
            limit,
            ..collecting(&self.meter, place, now)
        };
        book.ledger().collect(page).await.expect("the ledger answers")
    }

    /// Plays the steps, and settles everything afterwards as time does.
    async fn play(&mut self, book: &Book, steps: Vec<Step>) {
        let mut now = NOW;
        let mut done: BTreeSet<String> = BTreeSet::new();
        for (n, step) in steps.into_iter().enumerate() {
            match step {
                Step::Use(whose, tokens, ago, behind) => {
                    let draft = used(&format!("r{n}"), tokens).of(&self.workspaces[whose]);
                    let feature = self.meter.id.as_str();
                    book.done(draft.feature(feature).at(now - ago).recorded(now - behind)).await;
                    self.counted[whose] += tokens;
                }
                Step::Collect(pass) => {
                    self.collect(book, Place::Pass(pass), now - PASS_LAG_SECONDS[pass], 3, now).await;
                }
                Step::Ahead => {
                    self.collect(book, Place::Ahead(None), now, 500, now).await;
                }
                Step::Seal => drop(seal(book, now).await),
                Step::Adjust => drop(take_back(book, now).await),
                Step::Send(fate) => {
                    for claim in claim(book, now).await {
                        self.send(book, &claim, fate, now).await;
                    }
                }
                Step::Later(seconds) => now += seconds,
            }
            let batches = self.batches(book).await;
            let told = batches
                .iter()
                .filter(|batch| batch.delivery.state == State::Acknowledged && is_told(batch));
            let now_done: BTreeSet<String> = told.map(Batch::identifier).collect();
            assert!(done.is_subset(&now_done), "what is acknowledged stays so");
            assert!(
                now_done.iter().all(|identifier| self.taken.contains_key(identifier)),
                "only what was taken is acknowledged"
            );
            done = now_done;
        }
        self.settle(book, now).await;
        balances(book).await;
        self.agrees(book).await;
    }

    /// Silence is broken within the hour, and a day later each pass has seen everything.
    async fn settle(&mut self, book: &Book, mut now: i64) {
        for later in [LEASE + PAUSE_SECONDS_MAX, PAUSE_SECONDS_MAX, 86_400 + 6 * HOUR, 6 * HOUR] {
            now += later;
            for (pass, lag) in PASS_LAG_SECONDS.into_iter().enumerate() {
                while self.collect(book, Place::Pass(pass), now - lag, 500, now).await.next.is_some() {}
            }
            seal(book, now).await;
            take_back(book, now).await;
            loop {
                let claims = claim_by(book, TERMS, now).await.claims;
                if claims.is_empty() {
                    break;
                }
                for claim in claims {
                    self.send(book, &claim, Fate::Acknowledged, now).await;
                }
            }
        }
    }

    async fn send(&mut self, book: &Book, claim: &Claim, fate: Fate, now: i64) {
        let (identifier, told) = (claim.batch.identifier(), (claim.batch.workspace.clone(), claim.batch.value()));
        let is_known = self.taken.contains_key(&identifier);
        if matches!(fate, Fate::Acknowledged | Fate::TakenSilently | Fate::Crash { is_taken: true }) {
            self.taken.entry(identifier).or_insert(told);
        }
        let said = match fate {
            Fate::Crash { .. } => return,
            Fate::Acknowledged if is_known => Answer::Duplicate,
            Fate::Acknowledged => Answer::Acknowledged,
            Fate::TakenSilently | Fate::LostSilently => Answer::Unknown {
                reason: "silence".to_owned(),
            },
            Fate::Busy => Answer::RetryAfter {
                seconds: Some(1),
                is_away: false,
                reason: "busy".to_owned(),
            },
        };
        answer(book, claim, said, now).await.expect("its lease is not over");
    }

    /// What was counted is what batches say and what is carried; the provider has that, but for what is named as unknown.
    async fn agrees(&self, book: &Book) {
        let batches = self.batches(book).await;
        for (name, counted) in self.workspaces.iter().zip(self.counted) {
            let own: Vec<&Batch> = batches.iter().filter(|batch| batch.workspace.as_str() == name).collect();
            let last = own
                .iter()
                .filter_map(|batch| batch.sealed.as_ref())
                .max_by_key(|sealed| sealed.number);
            let carried = last.map_or(Exact::ZERO, |sealed| sealed.carry);
            let told: i64 = own.iter().map(|batch| batch.value()).sum();
            assert_eq!(carried.minus(-told), Exact::of(self.meter.factor, counted), "{name}");
            let has = |batch: &&&Batch| self.taken.contains_key(&batch.identifier());
            for batch in own.iter().filter(|batch| is_told(batch)) {
                match batch.delivery.state {
                    State::Acknowledged => assert!(has(&batch)),
                    State::Unknown => {}
                    other => panic!("{other:?} is neither told nor named: {batch:#?}"),
                }
            }
            let acknowledged = own.iter().filter(|batch| batch.delivery.state == State::Acknowledged);
            let unknown = own.iter().filter(|batch| batch.delivery.state == State::Unknown).filter(has);
            let expected: i64 = acknowledged.chain(unknown).map(|batch| batch.value()).sum();
            let provider = self.taken.values().filter(|(workspace, _)| workspace.as_str() == name);
            assert_eq!(
                provider.map(|(_, value)| value).sum::<i64>(),
                expected,
                "{name}: nothing is told twice"
            );
        }
    }
}

pub(in crate::ledger) async fn whatever_is_recorded_is_told_once_or_named(book: Book) {
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let next = std::cell::Cell::new(0);
    let result = block_in_place(|| {
        runner.run(&steps(), |steps| {
            next.set(next.get() + 1);
            Handle::current().block_on(Case::new(next.get()).play(&book, steps));
            Ok(())
        })
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}
