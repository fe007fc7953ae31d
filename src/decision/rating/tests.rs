//! Tables of our own making, of the kinds that billing systems agree on.

use super::*;
use crate::decision::amount::Unit;
use crate::decision::id::{BudgetId, OutcomeName};
use crate::decision::period::Period;
use crate::decision::pricing::{Interval, OveragePrice, Pricing, PricingModel, UsagePrice};
use crate::decision::time::Timestamp;
use std::collections::BTreeMap;

fn usd(text: &str) -> Usd {
    Usd::parse(text).expect(text)
}

fn tier(up_to: Option<i64>, flat: Option<&str>, unit: Option<&str>) -> Tier {
    Tier {
        up_to,
        flat: flat.map(usd),
        unit: unit.map(usd),
    }
}

fn price(mode: Mode, tiers: Vec<Tier>) -> Price {
    Price {
        tiers: Tiers {
            mode,
            per: 1,
            tiers,
            package_size: 20,
        },
        commitment: Commitment::default(),
    }
}

/// A first tier that is a flat fee with free units, one that is only a fee, then units.
fn graduated() -> Price {
    let tiers = vec![
        tier(Some(10), Some("30"), Some("0")),
        tier(Some(20), Some("12"), None),
        tier(Some(50), None, Some("3")),
        tier(None, None, Some("0.5")),
    ];
    price(Mode::Graduated, tiers)
}

#[track_caller]
fn check(price: &Price, before: i64, quantity: i64, position: Position, billed: &str, expected: &[(i64, &str)], total: &str) {
    let metered = Metered {
        before,
        quantity,
        position,
        billed: usd(billed),
    };
    let charges = price.charges(&metered).expect("small");
    let told: Vec<(i64, Usd)> = charges.iter().map(|charge| (charge.quantity, charge.price)).collect();
    let expected: Vec<(i64, Usd)> = expected.iter().map(|(quantity, price)| (*quantity, usd(price))).collect();
    assert_eq!(told, expected, "{metered:?}");
    assert_eq!(sum(&charges), Ok(usd(total)), "{metered:?}");
}

#[test]
fn each_unit_has_the_price_of_its_tier_and_a_tier_its_fee_when_it_is_entered() {
    let price = graduated();
    for (before, quantity, position, expected, total) in [
        (0, 0, Position::Single, &[(1, "30")][..], "30"),
        (0, 0, Position::Last, &[], "0"),
        (0, 4, Position::First, &[(4, "0"), (1, "30")], "30"),
        (0, 10, Position::Single, &[(10, "0"), (1, "30")], "30"),
        (0, 11, Position::Single, &[(10, "0"), (1, "30"), (1, "12")], "42"),
        (4, 8, Position::Mid, &[(6, "0"), (1, "12")], "12"),
        (10, 0, Position::Mid, &[], "0"),
        (10, 1, Position::Mid, &[(1, "12")], "12"),
        (12, 3, Position::Last, &[], "0"),
        (12, 10, Position::Mid, &[(2, "3")], "6"),
        (
            0,
            60,
            Position::Single,
            &[(10, "0"), (1, "30"), (1, "12"), (30, "3"), (10, "0.5")],
            "137",
        ),
        (45, 15, Position::Last, &[(5, "3"), (10, "0.5")], "20"),
    ] {
        check(&price, before, quantity, position, "0", expected, total);
    }
}

#[test]
fn all_units_have_the_price_of_the_tier_that_the_period_ends_in() {
    let tiers = vec![
        tier(Some(10), Some("40"), None),
        tier(Some(20), Some("5"), Some("3")),
        tier(None, None, Some("2")),
    ];
    let price = price(Mode::Volume, tiers);
    for (before, quantity, position, expected, total) in [
        (0, 0, Position::Last, &[(1, "40")][..], "40"),
        (0, 10, Position::Single, &[(1, "40")], "40"),
        (0, 11, Position::Single, &[(1, "5"), (11, "3")], "38"),
        (4, 16, Position::Last, &[(1, "5"), (20, "3")], "65"),
        (4, 17, Position::Last, &[(21, "2")], "42"),
        (0, 21, Position::First, &[], "0"),
        (5, 21, Position::Mid, &[], "0"),
    ] {
        check(&price, before, quantity, position, "0", expected, total);
    }
}

#[test]
fn a_package_that_is_begun_is_charged_once() {
    let price = price(Mode::Package, vec![tier(None, Some("9"), None)]);
    for (before, quantity, expected, total) in [
        (0, 0, &[][..], "0"),
        (0, 1, &[(1, "9")], "9"),
        (0, 20, &[(1, "9")], "9"),
        (0, 21, &[(2, "9")], "18"),
        (15, 5, &[], "0"),
        (15, 6, &[(1, "9")], "9"),
        (40, 41, &[(3, "9")], "27"),
    ] {
        check(&price, before, quantity, Position::Mid, "0", expected, total);
    }
}

#[test]
fn least_spend_is_asked_at_the_end_and_most_spend_always() {
    let with = |minimum: Option<&str>, maximum: Option<&str>| Price {
        commitment: Commitment {
            minimum: minimum.map(usd),
            maximum: maximum.map(usd),
        },
        ..graduated()
    };
    let least = with(Some("100"), None);
    check(&least, 4, 0, Position::Mid, "30", &[], "0");
    check(&least, 4, 0, Position::Last, "30", &[(1, "70")], "70");
    check(&least, 4, 0, Position::Last, "130", &[], "0");
    check(
        &least,
        0,
        11,
        Position::Single,
        "0",
        &[(10, "0"), (1, "30"), (1, "12"), (1, "58")],
        "100",
    );
    let most = with(None, Some("50"));
    check(&most, 10, 1, Position::Mid, "30", &[(1, "12")], "12");
    check(&most, 20, 5, Position::Mid, "42", &[(5, "3"), (1, "-7")], "8");
    check(&most, 20, 5, Position::Last, "60", &[(5, "3"), (1, "-15")], "0");
    let both = with(Some("50"), Some("50"));
    check(&both, 0, 0, Position::Single, "0", &[(1, "30"), (1, "20")], "50");
}

#[test]
fn a_price_for_many_is_rounded_once_for_all_of_them() {
    let mut price = price(Mode::Graduated, vec![tier(None, None, Some("0.000001"))]);
    price.tiers.per = 3_000;
    for (quantity, nanos) in [(1, 0), (2, 1), (3, 1), (4, 1), (5, 2), (4_500, 1_500), (4_501, 1_500)] {
        let charges = price.charges(&Metered::whole(quantity)).expect("small");
        assert_eq!(sum(&charges), Ok(Usd::from_nanos(nanos)), "{quantity}");
    }
}

#[test]
fn what_leaves_64_bits_is_refused_and_not_cut() {
    let dear = price(Mode::Graduated, vec![tier(None, None, Some("4000000"))]);
    assert_eq!(dear.charges(&Metered::whole(i64::MAX)), Err(TooMuch));
    let before = Metered {
        before: i64::MAX,
        ..Metered::whole(1)
    };
    assert_eq!(graduated().charges(&before), Err(TooMuch));
}

#[test]
fn cents_add_up_to_the_sum_and_the_missing_ones_go_where_most_was_lost() {
    for (amounts, expected) in [
        (&[][..], &[][..]),
        (&["0.004", "0.004"], &["0.01", "0"]),
        (&["0.005"], &["0"]),
        (&["0.015"], &["0.02"]),
        (&["1.234", "1.235", "1.231"], &["1.23", "1.24", "1.23"]),
        (&["10", "-0.333", "0.333"], &["10", "-0.33", "0.33"]),
        (&["0.006", "-0.006"], &["0.01", "-0.01"]),
        (&["0.003", "0.003", "0.003", "0.003"], &["0.01", "0", "0", "0"]),
    ] {
        let read = |amounts: &[&str]| -> Vec<Usd> { amounts.iter().map(|text| usd(text)).collect() };
        assert_eq!(to_cents(&read(amounts)), Ok(read(expected)), "{amounts:?}");
    }
}

proptest::proptest! {
    #[test]
    fn cents_are_within_one_of_each_amount_and_exact_in_all(amounts in proptest::collection::vec(-5_000_000_000..50_000_000_000i64, 0..20)) {
        let amounts: Vec<Usd> = amounts.into_iter().map(Usd::from_nanos).collect();
        let cents = to_cents(&amounts).expect("small");
        let total: i64 = cents.iter().map(|usd| usd.nanos()).sum();
        let exact: i64 = amounts.iter().map(|usd| usd.nanos()).sum();
        proptest::prop_assert_eq!(i128::from(total), half_even(i128::from(exact), i128::from(NANOS_PER_CENT)) * i128::from(NANOS_PER_CENT));
        for (amount, cents) in amounts.iter().zip(&cents) {
            proptest::prop_assert!((amount.nanos() - cents.nanos()).abs() < NANOS_PER_CENT);
        }
    }

    /// However a period is cut into lines, they come to what one line comes to.
    #[test]
    fn the_lines_of_a_period_come_to_what_it_comes_to(parts in proptest::collection::vec(0..40i64, 1..6), mode in 0..3usize) {
        let mode = [Mode::Graduated, Mode::Volume, Mode::Package][mode];
        let mut price = price(mode, graduated().tiers.tiers);
        price.commitment = Commitment { minimum: Some(usd("33")), maximum: Some(usd("90")) };
        let whole = sum(&price.charges(&Metered::whole(parts.iter().sum())).expect("small"));
        let (mut before, mut billed) = (0, Usd::ZERO);
        for (n, quantity) in parts.iter().enumerate() {
            let position = match (n == 0, n + 1 == parts.len()) {
                (true, true) => Position::Single,
                (true, false) => Position::First,
                (false, true) => Position::Last,
                (false, false) => Position::Mid,
            };
            let metered = Metered { before, quantity: *quantity, position, billed };
            billed = billed.checked_add(sum(&price.charges(&metered).expect("small")).expect("small")).expect("small");
            before += quantity;
        }
        proptest::prop_assert_eq!(Ok(billed), whole);
    }
}

fn plan() -> Pricing {
    Pricing {
        model: PricingModel::SeatPlusUsage,
        base: usd("100"),
        seat: usd("20"),
        interval: Interval::Month,
        overage: Some(OveragePrice {
            budget_id: BudgetId::parse("tokens").expect("a budget"),
            per: 1_000_000,
            usd: usd("4"),
        }),
        outcomes: BTreeMap::from([(OutcomeName::parse("drafted").expect("a name"), usd("2"))]),
        seat_tiers: None,
        included_seats: 2,
        usage: vec![UsagePrice {
            id: "words".to_owned(),
            unit: Unit::Credits,
            feature: None,
            budget: None,
            included: 10,
            included_per_seat: true,
            price: price(Mode::Graduated, vec![tier(None, None, Some("0.333"))]),
        }],
        commitment: Commitment::default(),
        credit: Usd::ZERO,
    }
}

fn figures() -> Figures {
    let week = |n: i64| Period {
        start: Timestamp::from_micros(n * 604_800_000_000),
        end: Timestamp::from_micros((n + 1) * 604_800_000_000),
    };
    let outcome = |name: &str, count| OutcomeCount {
        name: OutcomeName::parse(name).expect("a name"),
        count,
    };
    Figures {
        seats: 5,
        usage: vec![Counted { spent: 60, granted: 3 }],
        overage: vec![
            Beyond {
                period: week(0),
                amount: 250_001,
            },
            Beyond {
                period: week(1),
                amount: 0,
            },
            Beyond {
                period: week(2),
                amount: 3,
            },
        ],
        outcomes: vec![outcome("drafted", 3), outcome("sent", 7), outcome("never", 0)],
    }
}

#[track_caller]
fn lines(pricing: &Pricing, expected: &[(LineKind, i64, &str, &str)], total: &str) {
    let invoice = invoice(pricing, &figures()).expect("small");
    let told: Vec<(LineKind, i64, Usd, Usd)> = invoice
        .lines
        .iter()
        .map(|line| (line.kind, line.charge.quantity, line.charge.amount, line.cents))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(kind, n, amount, cents)| (*kind, *n, usd(amount), usd(cents)))
        .collect();
    assert_eq!(told, expected);
    assert_eq!(invoice.total, usd(total));
}

#[test]
fn an_invoice_has_a_line_for_each_thing_and_adds_up() {
    use LineKind::{Base, Credit, Maximum, Minimum, Outcome, Overage, Seats, Usage};
    let before = [
        (Base, 1, "100", "100"),
        (Seats, 3, "60", "60"),
        (Usage, 7, "2.331", "2.33"),
        (Overage, 250_001, "1.000004", "1"),
        (Overage, 3, "0.000012", "0"),
        (Outcome, 3, "6", "6"),
        (Outcome, 7, "0", "0"),
    ];
    lines(&plan(), &before, "169.33");
    let with = |change: &dyn Fn(&mut Pricing)| {
        let mut pricing = plan();
        change(&mut pricing);
        pricing
    };
    let and = |more: &[(LineKind, i64, &'static str, &'static str)]| [&before[..], more].concat();
    // A credit pays what was used, not base and seats.
    let credit = with(&|pricing| pricing.credit = usd("50"));
    lines(&credit, &and(&[(Credit, 1, "-9.331016", "-9.33")]), "160");
    let little = with(&|pricing| pricing.credit = usd("5"));
    lines(&little, &and(&[(Credit, 1, "-5", "-5")]), "164.33");
    let capped = with(&|pricing| {
        pricing.commitment.maximum = Some(usd("165"));
        pricing.credit = usd("50");
    });
    lines(&capped, &and(&[(Maximum, 1, "-4.331016", "-4.33"), (Credit, 1, "-5", "-5")]), "160");
    let least = with(&|pricing| {
        pricing.commitment.minimum = Some(usd("200"));
        pricing.credit = usd("50");
    });
    lines(&least, &and(&[(Credit, 1, "-9.331016", "-9.33"), (Minimum, 1, "40", "40")]), "200");
}

#[test]
fn seats_may_have_tiers_of_their_own_and_a_year_is_paid_by_the_month() {
    let tiers = Tiers {
        mode: Mode::Volume,
        per: 1,
        tiers: vec![tier(Some(2), None, Some("30")), tier(None, None, Some("24"))],
        package_size: 1,
    };
    let mut pricing = plan();
    pricing.seat_tiers = Some(tiers);
    let seats = |pricing: &Pricing| sum(&pricing.seat_charges(5).expect("small"));
    assert_eq!(seats(&pricing), Ok(usd("72")));
    pricing.interval = Interval::Year;
    assert_eq!(seats(&pricing), Ok(usd("6")));
    assert_eq!(pricing.per_month_with(5), Some(usd("14.333333333")));
    pricing.included_seats = 9;
    assert_eq!(pricing.seat_charges(5), Ok(Vec::new()));
}
