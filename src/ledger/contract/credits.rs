//! Credits of paid grants: written with the grant and voided with it, in one hand at a time, and never forgotten.

use super::book::{Book, NOON, at, audited, settle, workspace};
use crate::decision::amount::Unit;
use crate::decision::billing::credit::{Credit, CreditAnswer, CreditEvent, CreditImpossible, CreditState, Task};
use crate::decision::billing::delivery::ReasonCode;
use crate::decision::grant::{Grant, Purchase, Source};
use crate::decision::id::{BudgetId, GrantId};
use crate::decision::workspace::Workspace;
use crate::ledger::audit::AuditQuery;
use crate::ledger::credits::{CreditAnswered, CreditChange, CreditChanged, CreditClaiming, CreditClaims, LostCredits};
use tokio::task::JoinSet;
use uuid::Uuid;

const LEASE: i64 = 120;

fn id(number: u128) -> GrantId {
    GrantId::from_uuid(Uuid::from_u128(number))
}

fn paid(number: u128) -> Grant {
    Grant {
        id: id(number),
        key: Some(format!("key-{number}")),
        budget: BudgetId::parse("tokens").expect("a name"),
        unit: Unit::Tokens,
        amount: 500,
        priority: 100,
        effective_at: at(NOON + 7),
        expires_at: Some(at(NOON + 100_000)),
        recurrence: None,
        rollover_min: None,
        rollover_max: None,
        source: Source::Manual,
        paid: Some(Purchase {
            amount: 2_500,
            currency: "eur".to_owned(),
        }),
        created_at: at(NOON + number as i64),
        voided_at: None,
    }
}

impl Book {
    /// `ws_a` with this customer, which replaces one at this version.
    async fn with_customer(&self, version: u32, customer: Option<&str>) {
        if version == 0 {
            let described = Workspace {
                stripe_customer_id: customer.map(str::to_owned),
                version: 1,
                ..Workspace::unknown(workspace("ws_a"), at(1))
            };
            let put = self.ledger().put_workspace(&described, 0, audited("workspace.put", "ws_a")).await;
            assert!(put.expect("the ledger answers"));
            return;
        }
        let found = self.ledger().workspace(&workspace("ws_a")).await.expect("the ledger answers");
        let mut described = found.expect("it is there");
        let expected = described.version;
        described.stripe_customer_id = customer.map(str::to_owned);
        described.version += 1;
        let put = self
            .ledger()
            .put_workspace(&described, expected, audited("workspace.put", "ws_a"))
            .await;
        assert!(put.expect("the ledger answers"));
    }

    async fn sell(&self, grant: Grant) {
        let given = self
            .ledger()
            .give(&workspace("ws_a"), grant, None, audited("grant.give", "grant"))
            .await;
        given.expect("the ledger answers");
    }

    async fn void_grant(&self, number: u128, now: i64) {
        let voided = self
            .ledger()
            .void(&workspace("ws_a"), id(number), at(now), audited("grant.void", "grant"))
            .await;
        assert!(voided.expect("the ledger answers").is_some());
    }

    async fn claim_credits(&self, now: i64) -> CreditClaims {
        let claiming = CreditClaiming {
            lease_seconds: LEASE,
            limit: 100,
            now: at(now),
        };
        self.ledger().claim_credits(claiming).await.expect("the ledger answers")
    }

    async fn answer_credit(&self, credit: &Credit, answer: CreditAnswer, now: i64) -> Option<Credit> {
        let answered = CreditAnswered {
            grant: credit.grant,
            claim: credit.delivery.claims,
            answer,
            now: at(now),
            chance: 0,
        };
        self.ledger().credit_answered(answered).await.expect("the ledger answers")
    }

    async fn change_credit(&self, number: u128, event: CreditEvent, now: i64) -> CreditChanged {
        let change = CreditChange {
            grant: id(number),
            event,
            now: at(now),
            audited: Some(audited("billing.credit.resend", "grant")),
        };
        self.ledger().change_credit(change).await.expect("the ledger answers")
    }

    async fn credits(&self) -> Vec<Credit> {
        let credits = self.ledger().credits_of(&workspace("ws_a"), at(0), at(NOON + 1_000)).await;
        let mut credits = credits.expect("the ledger answers");
        credits.sort_by_key(|credit| credit.created_at);
        credits
    }

    async fn only_credit(&self) -> Credit {
        let mut credits = self.credits().await;
        assert_eq!(credits.len(), 1, "{credits:#?}");
        credits.remove(0)
    }

    /// The only one that is due, in hand.
    async fn claimed(&self, now: i64) -> Credit {
        let mut claims = self.claim_credits(now).await;
        assert_eq!((claims.claims.len(), claims.set_aside.len()), (1, 0), "{claims:#?}");
        claims.claims.remove(0)
    }

    async fn open(&self) -> Vec<GrantId> {
        let open = self
            .ledger()
            .open_credits(Some(&workspace("ws_a")), 10)
            .await
            .expect("the ledger answers");
        assert_eq!(self.ledger().open_credits(None, 10).await.expect("the ledger answers"), open);
        open.into_iter().map(|credit| credit.grant).collect()
    }
}

fn given() -> CreditAnswer {
    CreditAnswer::Given("credgr_1".to_owned())
}

fn silent() -> CreditAnswer {
    CreditAnswer::Unsure {
        is_answered: false,
        reason: "no answer in time".to_owned(),
    }
}

pub(in crate::ledger) async fn a_paid_grant_has_a_credit_and_another_has_none(mut book: Book) {
    book.with_customer(0, Some("cus_1")).await;
    book.sell(paid(1)).await;
    book.sell(paid(1)).await;
    book.sell(Grant { paid: None, ..paid(2) }).await;
    book.reopen().await;
    let known = book.ledger().grant(&workspace("ws_a"), id(1)).await.expect("the ledger answers");
    assert_eq!(known, Some(paid(1)), "what was paid comes back as it was written");
    let credit = book.only_credit().await;
    assert_eq!((credit.grant, credit.workspace.as_str()), (id(1), "ws_a"));
    assert_eq!(Some(&credit.paid), paid(1).paid.as_ref());
    assert_eq!((credit.effective_at, credit.expires_at), (at(NOON + 7), Some(at(NOON + 100_000))));
    assert_eq!((credit.delivery.state, credit.key()), (CreditState::Pending, id(1).to_string()));
    assert_eq!(book.open().await, [id(1)]);
    assert_eq!(book.change_credit(2, CreditEvent::Resend, NOON).await, CreditChanged::Gone);
}

pub(in crate::ledger) async fn of_racing_claims_one_has_a_credit(book: Book) {
    book.with_customer(0, Some("cus_1")).await;
    for number in 1..=6 {
        book.sell(paid(number)).await;
    }
    let mut racing = JoinSet::new();
    for _ in 0..8 {
        let ledger = book.ledger();
        racing.spawn(async move {
            let claiming = CreditClaiming {
                lease_seconds: LEASE,
                limit: 2,
                now: at(NOON + 10),
            };
            ledger.claim_credits(claiming).await.expect("the ledger answers").claims
        });
    }
    let mut claimed: Vec<Credit> = racing.join_all().await.into_iter().flatten().collect();
    claimed.extend(book.claim_credits(NOON + 10).await.claims);
    claimed.sort_by_key(|credit| credit.created_at);
    let grants: Vec<GrantId> = claimed.iter().map(|credit| credit.grant).collect();
    assert_eq!(grants, (1..=6).map(id).collect::<Vec<_>>());
    for credit in &claimed {
        assert_eq!((credit.delivery.state, credit.delivery.tries), (CreditState::Sending, 1));
        assert_eq!(credit.delivery.customer.as_deref(), Some("cus_1"));
    }
}

pub(in crate::ledger) async fn what_the_provider_answered_is_kept(mut book: Book) {
    book.with_customer(0, Some("cus_1")).await;
    book.sell(paid(1)).await;
    let credit = book.claimed(NOON + 10).await;
    let busy = CreditAnswer::NotNow {
        seconds: Some(30),
        is_away: false,
        reason: "too many".to_owned(),
    };
    book.answer_credit(&credit, busy, NOON + 11).await.expect("it counts");
    assert_eq!(
        book.claim_credits(NOON + 40).await,
        CreditClaims::default(),
        "not before it was asked for"
    );
    let credit = book.claimed(NOON + 41).await;
    let refused = CreditAnswer::Refused("no such customer".to_owned());
    book.answer_credit(&credit, refused, NOON + 42).await.expect("it counts");
    let rejected = book.only_credit().await;
    let reason = rejected.delivery.reason.clone().expect("a reason");
    assert_eq!((rejected.delivery.state, reason.code), (CreditState::Rejected, ReasonCode::Refused));
    assert_eq!(reason.detail, "no such customer");
    assert_eq!(book.claim_credits(NOON + 9_000).await, CreditClaims::default());
    let states = book.ledger().credit_states().await.expect("the ledger answers");
    assert_eq!(states, [(CreditState::Rejected, 1)]);
    // Somebody mends it, which is noted, and it is another request then.
    assert!(matches!(
        book.change_credit(1, CreditEvent::Resend, NOON + 50).await,
        CreditChanged::Done(_)
    ));
    let credit = book.claimed(NOON + 51).await;
    assert_eq!(credit.key(), format!("{}-2", id(1)));
    book.answer_credit(&credit, given(), NOON + 52).await.expect("it counts");
    book.reopen().await;
    let there = book.only_credit().await.delivery;
    assert_eq!(
        (there.state, there.provider_id.as_deref()),
        (CreditState::Acknowledged, Some("credgr_1"))
    );
    assert_eq!((there.acknowledged_at, there.next_try_at), (Some(at(NOON + 52)), None));
    assert_eq!(book.open().await, []);
    let CreditChanged::Refused(_, why) = book.change_credit(1, CreditEvent::Resend, NOON + 60).await else {
        panic!("there is nothing to send");
    };
    assert_eq!(why, CreditImpossible::Acknowledged);
    let query = AuditQuery {
        action: Some("billing.credit.resend".to_owned()),
        limit: 10,
        ..AuditQuery::default()
    };
    assert_eq!(book.ledger().audit_log(&query).await.expect("the ledger answers").len(), 1);
}

pub(in crate::ledger) async fn what_a_lost_sender_left_is_looked_for_by_another(book: Book) {
    book.with_customer(0, Some("cus_1")).await;
    book.sell(paid(1)).await;
    let lost = book.claimed(NOON + 10).await;
    assert_eq!(book.claim_credits(NOON + 10 + LEASE - 1).await, CreditClaims::default());
    // The customer changes meanwhile: whom it may have been given, it is looked for at.
    book.with_customer(1, Some("cus_2")).await;
    let other = book.claimed(NOON + 10 + LEASE).await;
    assert_eq!((other.delivery.customer.as_deref(), other.key()), (Some("cus_1"), lost.key()));
    assert!(other.delivery.unsure_since.is_some());
    assert_eq!(book.answer_credit(&lost, silent(), NOON + 140).await, None, "its claim has ended");
    let refused = CreditAnswer::Refused("no".to_owned());
    assert_eq!(book.answer_credit(&lost, refused, NOON + 140).await, None);
    // That the provider has it is true whoever says it.
    let known = book.answer_credit(&lost, given(), NOON + 141).await.expect("it is known");
    assert_eq!(known.delivery.state, CreditState::Acknowledged);
    assert_eq!(book.answer_credit(&other, silent(), NOON + 142).await, None);
    assert_eq!(book.only_credit().await.delivery.state, CreditState::Acknowledged);
}

pub(in crate::ledger) async fn silence_is_unknown_and_looked_for_again(book: Book) {
    book.with_customer(0, Some("cus_1")).await;
    book.sell(paid(1)).await;
    let credit = book.claimed(NOON + 10).await;
    book.answer_credit(&credit, silent(), NOON + 11).await.expect("it counts");
    let unknown = book.only_credit().await;
    assert_eq!((unknown.delivery.state, unknown.task()), (CreditState::Unknown, Task::Give));
    assert_eq!(unknown.delivery.unsure_since, Some(at(NOON + 11)));
    // However long that is ago: a look is no guess.
    let credit = book.claimed(NOON + 90_000).await;
    assert_eq!((credit.delivery.tries, credit.key()), (2, id(1).to_string()));
    book.answer_credit(&credit, given(), NOON + 90_001).await.expect("it counts");
    assert_eq!(book.only_credit().await.delivery.unsure_since, None);
}

pub(in crate::ledger) async fn the_lost_are_listed_apart_and_by_pages(book: Book) {
    book.with_customer(0, Some("cus_1")).await;
    for number in 1..=5 {
        book.sell(paid(number)).await;
    }
    let lost = |after, limit| LostCredits {
        workspace: Some(workspace("ws_a")),
        after,
        limit,
    };
    // The first is given, the second waits for its next try, and nobody looks for the others by himself.
    for credit in book.claim_credits(NOON + 10).await.claims {
        let answer = if credit.grant == id(1) { given() } else { silent() };
        book.answer_credit(&credit, answer, NOON + 11).await.expect("it counts");
    }
    assert_eq!(book.ledger().lost_credits(&lost(None, 10)).await.expect("the ledger answers"), []);
    let mut now = NOON + 10_000;
    loop {
        let claims = book.claim_credits(now).await.claims;
        let tried: Vec<Credit> = claims.into_iter().filter(|credit| credit.grant != id(2)).collect();
        if tried.is_empty() {
            break;
        }
        for credit in tried {
            let answer = CreditAnswer::Unsure {
                is_answered: true,
                reason: "a fault of theirs".to_owned(),
            };
            book.answer_credit(&credit, answer, now + 1).await.expect("it counts");
        }
        now += 10_000;
    }
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = book.ledger().lost_credits(&lost(after, 2)).await.expect("the ledger answers");
        after = page.last().map(|last| (last.created_at, last.grant));
        found.extend(page.iter().map(|credit| credit.grant));
        if page.len() < 2 {
            break;
        }
    }
    assert_eq!(found, [id(3), id(4), id(5)]);
    let elsewhere = LostCredits {
        workspace: Some(workspace("ws_b")),
        ..lost(None, 10)
    };
    assert_eq!(book.ledger().lost_credits(&elsewhere).await.expect("the ledger answers"), []);
}

pub(in crate::ledger) async fn a_credit_waits_for_a_customer_and_not_beyond_its_expiry(book: Book) {
    book.with_customer(0, None).await;
    book.sell(paid(1)).await;
    book.sell(Grant {
        expires_at: Some(at(NOON + 50)),
        ..paid(2)
    })
    .await;
    let claims = book.claim_credits(NOON + 10).await;
    assert_eq!((claims.claims.len(), claims.set_aside.len()), (0, 2));
    for credit in book.credits().await {
        let reason = credit.delivery.reason.expect("a reason");
        assert_eq!(
            (credit.delivery.state, reason.code),
            (CreditState::Unbillable, ReasonCode::NoCustomer)
        );
    }
    let resume = async || book.ledger().resume_credits(10, at(NOON + 60)).await.expect("the ledger answers");
    assert_eq!(resume().await, 0);
    book.with_customer(1, Some("cus_1")).await;
    assert_eq!(resume().await, 2);
    let claims = book.claim_credits(NOON + 60).await;
    assert_eq!((claims.claims[0].grant, claims.set_aside[0].grant), (id(1), id(2)));
    let reason = claims.set_aside[0].delivery.reason.clone().expect("a reason");
    assert_eq!(reason.code, ReasonCode::TooOld);
    assert_eq!(resume().await, 0, "what has expired does not wait for a customer");
}

pub(in crate::ledger) async fn a_void_goes_wherever_the_credit_is(book: Book) {
    book.with_customer(0, Some("cus_1")).await;
    for number in 1..=4 {
        book.sell(paid(number)).await;
    }
    // Before anybody took it in hand.
    book.void_grant(1, NOON + 5).await;
    let mut claims = book.claim_credits(NOON + 10).await.claims;
    claims.sort_by_key(|credit| credit.created_at);
    let [held, silenced, there] = claims.try_into().expect("the others");
    book.answer_credit(&silenced, silent(), NOON + 11).await.expect("it counts");
    book.answer_credit(&there, given(), NOON + 11).await.expect("it counts");
    for number in [2, 3, 4, 4] {
        book.void_grant(number, NOON + 12).await;
    }
    let states = async || -> Vec<CreditState> { book.credits().await.iter().map(|credit| credit.delivery.state).collect() };
    assert_eq!(
        states().await,
        [
            CreditState::Voided,
            CreditState::Sending,
            CreditState::Voiding,
            CreditState::Voiding
        ]
    );
    // The one in hand was given after all.
    book.answer_credit(&held, given(), NOON + 13).await.expect("it counts");
    let mut claims = book.claim_credits(NOON + 14).await.claims;
    claims.sort_by_key(|credit| credit.created_at);
    let tasks: Vec<Task> = claims.iter().map(Credit::task).collect();
    let void = || Task::Void("credgr_1".to_owned());
    assert_eq!(tasks, [void(), void()]);
    book.answer_credit(&claims[0], CreditAnswer::Gone, NOON + 15)
        .await
        .expect("it counts");
    // One that may be on its way is looked for when it must have arrived.
    let found = book.claimed(NOON + 132).await;
    assert_eq!(found.task(), Task::Find);
    book.answer_credit(&found, CreditAnswer::Gone, NOON + 133).await.expect("it counts");
    book.answer_credit(&claims[1], silent(), NOON + 134).await.expect("it counts");
    let last = book.claimed(NOON + 1_000).await;
    assert_eq!(last.task(), void());
    book.answer_credit(&last, CreditAnswer::Gone, NOON + 1_001)
        .await
        .expect("it counts");
    assert_eq!(states().await, [CreditState::Voided; 4]);
    assert_eq!(
        (book.open().await, book.claim_credits(NOON + 9_000).await),
        (vec![], CreditClaims::default())
    );
    let CreditChanged::Refused(_, why) = book.change_credit(1, CreditEvent::Resend, NOON + 9_000).await else {
        panic!("there is nothing to send");
    };
    assert_eq!(why, CreditImpossible::Voided);
    // The grants themselves were never in question.
    book.done(settle("r").tokens(1)).await;
}
