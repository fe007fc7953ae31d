//! What invoices are made of: sums of entries by what prices them, sums that passed a limit, what grants paid.

use super::book::{Book, But, Draft, NOON, at, audited, month, period, settle, workspace};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::Counter;
use crate::decision::grant::{Charge, Grant, Source};
use crate::decision::id::{BudgetId, Feature, GrantId, PlanId};
use crate::decision::time::Timestamp;
use crate::ledger::invoices::{GrantPaid, Passed, PassedQuery, Used};
use std::collections::BTreeMap;
use uuid::Uuid;

fn of_plan(mut draft: Draft, version: u32, outcomes: &[(&str, i64)]) -> Draft {
    draft.entry.plan_id = Some(PlanId::parse("pro").expect("a plan"));
    draft.entry.plan_version = Some(version);
    draft.entry.billable_outcomes = outcomes.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    draft
}

pub(in crate::ledger) async fn what_was_used_adds_up_by_what_prices_it(book: Book) {
    let drafted = [("drafted", 2)];
    let first = of_plan(settle("a").tokens(10).at(1_000), 1, &drafted);
    let original = first.entry.clone();
    book.done(first).await;
    for draft in [
        of_plan(settle("b").tokens(20).at(1_999), 1, &drafted),
        of_plan(settle("c").tokens(40).at(1_500), 1, &[]),
        of_plan(settle("d").tokens(80).at(1_600).recorded(2_000), 2, &[("a'b", -1)]),
        settle("e").tokens(160).at(1_700).feature("faq"),
        // Outside, and of somebody else.
        of_plan(settle("f").tokens(1).at(999), 1, &drafted),
        of_plan(settle("g").tokens(1).at(2_000), 1, &drafted),
        settle("h").of("ws_b").tokens(1),
    ] {
        book.done(draft).await;
    }
    let mut taken_back = of_plan(settle("i").correcting(&original).at(1_000), 1, &[]);
    taken_back.entry.counted = Amounts {
        tokens: -4,
        usd: -9,
        requests: 0,
        credits: 3,
    };
    book.done(taken_back).await;
    let used = |version: Option<u32>, feature: &str, outcomes: &[(&str, i64)], entries, counted, last: Option<Timestamp>| Used {
        plan: version.map(|version| (PlanId::parse("pro").expect("a plan"), version)),
        feature: Feature::parse(feature).expect("a feature"),
        outcomes: outcomes
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect::<BTreeMap<_, _>>(),
        entries,
        counted,
        last_at: last,
    };
    let counted = |tokens, usd, requests, credits| Amounts {
        tokens,
        usd,
        requests,
        credits,
    };
    let mut found = book
        .ledger()
        .used(&workspace("ws_a"), period(1_000, 2_000))
        .await
        .expect("the ledger answers");
    // Stores may sort nothing first or last.
    found.sort_by_key(|used| (used.plan.as_ref().map(|(_, version)| *version), used.entries, used.counted.tokens));
    assert_eq!(
        found,
        [
            used(None, "faq", &[], 1, counted(160, 0, 1, 0), Some(at(1_700))),
            used(Some(1), "chat", &drafted, 2, counted(30, 0, 2, 0), Some(at(1_999))),
            used(Some(1), "chat", &[], 2, counted(36, -9, 1, 3), Some(at(1_500))),
            used(Some(2), "chat", &[("a'b", -1)], 1, counted(80, 0, 1, 0), None),
        ]
    );
}

pub(in crate::ledger) async fn sums_that_passed_a_limit_are_told_by_the_end_of_their_period(book: Book) {
    let week = |n: i64| month(Unit::Tokens).within(period(1_000 + n * 100, 1_100 + n * 100));
    for (n, tokens) in [(0, 90), (1, 150), (2, 300), (3, 101)] {
        let request = format!("w{n}");
        let counter = week(n);
        book.done(settle(&request).tokens(tokens).at(1_010 + n * 100).naming([
            counter.clone(),
            counter.of_user("usr_1"),
            week(n).of_feature("chat"),
        ]))
        .await;
    }
    let query = |after, until, above| PassedQuery {
        workspace: workspace("ws_a"),
        by_user: false,
        feature: None,
        unit: Unit::Tokens,
        kind: month(Unit::Tokens).kind,
        after: at(after),
        until: at(until),
        above,
    };
    let passed = async |query: PassedQuery| -> Vec<(i64, i64)> {
        let found = book.ledger().passed(&query).await.expect("the ledger answers");
        assert!(found.iter().all(|passed: &Passed| passed.paid == 0));
        found
            .iter()
            .map(|passed| (passed.period.end.seconds_until(at(9_999)), passed.spent))
            .collect()
    };
    let end = |second: i64| 9_999 - second;
    assert_eq!(
        passed(query(0, 9_000, 100)).await,
        [(end(1_200), 150), (end(1_300), 300), (end(1_400), 101)]
    );
    // A period that ends with the first moment is of the one before; with the last one, of this.
    assert_eq!(passed(query(1_200, 1_300, 100)).await, [(end(1_300), 300)]);
    assert_eq!(passed(query(0, 9_000, 101)).await, [(end(1_200), 150), (end(1_300), 300)]);
    let by_user = PassedQuery {
        by_user: true,
        ..query(0, 9_000, 200)
    };
    assert_eq!(passed(by_user).await, [(end(1_300), 300)]);
    let of_feature = |feature: &str| PassedQuery {
        feature: Some(Feature::parse(feature).expect("a feature")),
        ..query(0, 9_000, 200)
    };
    assert_eq!(passed(of_feature("chat")).await, [(end(1_300), 300)]);
    assert_eq!(passed(of_feature("faq")).await, []);
    let of_others = PassedQuery {
        workspace: workspace("ws_b"),
        ..query(0, 9_000, 0)
    };
    assert_eq!(passed(of_others).await, []);
}

fn grant(number: u128, budget: &str, amount: i64) -> Grant {
    Grant {
        id: GrantId::from_uuid(Uuid::from_u128(number)),
        key: (number == 1).then(|| "key".to_owned()),
        budget: BudgetId::parse(budget).expect(budget),
        unit: Unit::Tokens,
        amount,
        priority: 100,
        effective_at: at(0),
        expires_at: None,
        recurrence: None,
        rollover_min: None,
        rollover_max: None,
        source: Source::Manual,
        paid: None,
        created_at: at(number as i64),
        voided_at: None,
    }
}

pub(in crate::ledger) async fn what_grants_paid_is_told_by_when_it_was_used(book: Book) {
    let charge = |counter: &Counter| Charge {
        budget: BudgetId::parse("tokens").expect("a budget"),
        counter: counter.clone(),
        hard: 100,
        period: month(Unit::Tokens).period,
        top_up: None,
    };
    book.done(settle("first").tokens(0)).await;
    for (number, amount) in [(1, 50), (2, 500)] {
        let grant = grant(number, "tokens", amount);
        let given = book
            .ledger()
            .give(&workspace("ws_a"), grant, None, audited("grant.give", &number.to_string()))
            .await;
        given.expect("the ledger answers");
    }
    let counter = month(Unit::Tokens);
    for (request, second, tokens) in [("a", 1_100, 120), ("b", NOON, 70), ("c", NOON + 1, 5)] {
        let draft = settle(request).tokens(tokens).at(second);
        book.done(draft.naming([counter.clone()]).charged([charge(&counter)])).await;
    }
    let paid = async |from, to| -> Vec<GrantPaid> {
        let found = book.ledger().paid_by_grants(&workspace("ws_a"), period(from, to)).await;
        found.expect("the ledger answers")
    };
    let of = |number: u128, amount| GrantPaid {
        grant: GrantId::from_uuid(Uuid::from_u128(number)),
        key: (number == 1).then(|| "key".to_owned()),
        budget: BudgetId::parse("tokens").expect("a budget"),
        unit: Unit::Tokens,
        source: Source::Manual,
        paid: amount,
    };
    assert_eq!(paid(1_000, 2_000).await, [of(1, 50), of(2, 45)]);
    assert_eq!(paid(1_000, NOON).await, [of(1, 20)]);
    assert_eq!(paid(NOON, NOON + 1).await, [of(1, 30), of(2, 40)]);
    assert_eq!(paid(1_600, 2_000).await, []);
}
