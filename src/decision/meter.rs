//! Meters: what a provider is told of recorded use, and by which name. Knows neither batches nor a provider's API.
//!
//! A meter's value is `counted × markup × scale`, whole. What is left below one is carried to the next value of the same workspace, so
//! that values add up to what was counted whatever way it is cut into batches. Invariant: whole and carried are exact, never rounded.

use super::amount::Unit;
use super::id::{Feature, MeterId, ModelId, PlanId, PriceId, Tier};
use super::money::NANOS_PER_USD;
use super::time::Timestamp;
use std::collections::BTreeMap;

/// What `billing.yaml` says.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Billing {
    pub meters: Vec<Meter>,
    /// The plan that a provider's price stands for.
    pub plans_by_price: BTreeMap<PriceId, PlanId>,
}

/// One figure that a provider is told of each workspace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meter {
    pub id: MeterId,
    /// What the provider calls it; no two meters of a policy have the same.
    pub event_name: String,
    /// What of an entry's `counted` is told.
    pub unit: Unit,
    /// Which entries it counts.
    pub only: MeterFilter,
    pub factor: Factor,
}

/// What a meter was for a time: a policy had it, and said this of it. Of one meter they follow each other, with gaps where no policy had it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reign {
    pub meter: Meter,
    pub from: Timestamp,
    /// `None`: it is so now.
    pub until: Option<Timestamp>,
}

/// Which entries a meter counts: those that are all that is said here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MeterFilter {
    pub feature: Option<Feature>,
    /// The id of a model of the catalogue, never an alias: entries have ids.
    pub model: Option<ModelId>,
    pub tier: Option<Tier>,
}

impl MeterFilter {
    pub fn admits(&self, feature: &str, model: &str, tier: &str) -> bool {
        let is = |wanted: Option<&str>, found: &str| wanted.is_none_or(|wanted| wanted == found);
        is(self.feature.as_ref().map(Feature::as_str), feature)
            && is(self.model.as_ref().map(ModelId::as_str), model)
            && is(self.tier.as_ref().map(Tier::as_str), tier)
    }
}

/// How many billionths are in one, for markup and scale.
pub const FACTOR_BILLIONTHS: i64 = 1_000_000_000;

/// `markup × scale` in lowest terms, made for counts in the smallest part of their unit: usd is counted in nano-dollars and told in dollars.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Factor {
    numerator: i64,
    denominator: i64,
}

impl Factor {
    /// From billionths; `None` when the fraction has more digits than 64 bits hold.
    pub fn new(markup_billionths: i64, scale_billionths: i64, unit: Unit) -> Option<Factor> {
        let one = i128::from(FACTOR_BILLIONTHS) * i128::from(FACTOR_BILLIONTHS);
        let denominator = match unit {
            Unit::Usd => one * i128::from(NANOS_PER_USD),
            Unit::Tokens | Unit::Requests | Unit::Credits => one,
        };
        let numerator = i128::from(markup_billionths) * i128::from(scale_billionths);
        let common = gcd(numerator.unsigned_abs(), denominator.unsigned_abs());
        let common = i128::try_from(common).ok().filter(|common| *common > 0)?;
        Some(Factor {
            numerator: i64::try_from(numerator / common).ok()?,
            denominator: i64::try_from(denominator / common).ok()?,
        })
    }

    /// As it was written down; `None`: it is no fraction that [`Self::new`] makes.
    pub fn of(numerator: i64, denominator: i64) -> Option<Factor> {
        let one = i128::from(FACTOR_BILLIONTHS) * i128::from(FACTOR_BILLIONTHS) * i128::from(NANOS_PER_USD);
        let is_good = numerator >= 0 && denominator > 0 && one % i128::from(denominator) == 0;
        is_good.then_some(Factor { numerator, denominator })
    }

    pub const fn numerator(self) -> i64 {
        self.numerator
    }

    /// What one of the carried parts is a share of: a carried part is below it and not below zero.
    pub const fn denominator(self) -> i64 {
        self.denominator
    }

    /// The whole value of `counted` and of what was `carried` before, and what is carried on. A negative count, which corrections make, has
    /// a value rounded down, so that what is carried is never below zero. `None` when the value leaves 64 bits.
    pub fn value(self, counted: i64, carried: i64) -> Option<(i64, i64)> {
        let denominator = i128::from(self.denominator);
        let exact = i128::from(counted) * i128::from(self.numerator) + i128::from(carried);
        let whole = i64::try_from(exact.div_euclid(denominator)).ok()?;
        Some((whole, i64::try_from(exact.rem_euclid(denominator)).ok()?))
    }
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factor(markup: i64, scale: i64, unit: Unit) -> Factor {
        Factor::new(markup, scale, unit).expect("a factor")
    }

    #[test]
    fn values_are_whole_and_fractions_are_carried() {
        const ONE: i64 = FACTOR_BILLIONTHS;
        for (markup, scale, unit, counted, carried, expected) in [
            (ONE, ONE, Unit::Tokens, 5_545, 0, (5_545, 0)),
            // 1.2 of 7 is 8.4: two fifths are carried, and make one with the next.
            (1_200_000_000, ONE, Unit::Requests, 7, 0, (8, 2)),
            (1_200_000_000, ONE, Unit::Requests, 3, 2, (4, 0)),
            // Thousands of tokens.
            (ONE, ONE / 1_000, Unit::Tokens, 1_999, 0, (1, 999)),
            // Cents of dollars that are counted in billionths.
            (ONE, 100 * ONE, Unit::Usd, 29_999_999, 0, (2, 9_999_999)),
            (ONE, ONE, Unit::Tokens, -3, 0, (-3, 0)),
            (1_500_000_000, ONE, Unit::Tokens, -3, 0, (-5, 1)),
            (0, ONE, Unit::Tokens, 3, 0, (0, 0)),
        ] {
            let told = factor(markup, scale, unit).value(counted, carried);
            assert_eq!(told, Some(expected), "{counted} {unit:?} by {markup} and {scale}");
        }
        assert_eq!(factor(ONE, 2 * ONE, Unit::Tokens).value(i64::MAX, 0), None);
        assert_eq!(Factor::new(ONE + 1, ONE + 1, Unit::Usd), None);
    }

    proptest::proptest! {
        /// However use is cut into pieces, the values and what is carried last say the same as one value of all of it.
        #[test]
        fn cutting_changes_no_sum(markup in 0..5_000_000_000i64, pieces in proptest::collection::vec(-1_000_000..5_000_000i64, 0..12)) {
            let factor = factor(markup, FACTOR_BILLIONTHS, Unit::Tokens);
            let (mut sum, mut carried) = (0, 0);
            for piece in &pieces {
                let (whole, rest) = factor.value(*piece, carried).expect("small");
                proptest::prop_assert!((0..factor.denominator()).contains(&rest));
                sum += whole;
                carried = rest;
            }
            proptest::prop_assert_eq!(factor.value(pieces.iter().sum(), 0), Some((sum, carried)));
        }
    }

    #[test]
    fn a_filter_admits_what_is_all_that_it_says() {
        let only = MeterFilter {
            feature: Some(Feature::parse("chat").expect("a feature")),
            tier: Some(Tier::parse("fast").expect("a tier")),
            model: None,
        };
        assert!(only.admits("chat", "any", "fast"));
        assert!(!only.admits("chat", "any", "mid"));
        assert!(!only.admits("faq", "any", "fast"));
        assert!(MeterFilter::default().admits("faq", "any", "mid"));
    }
}
