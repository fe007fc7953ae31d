//! What a plan costs its customer: the base, the seats, what passes a limit, and results. Knows nothing of what models cost.

use super::id::{BudgetId, OutcomeName};
use super::money::{Usd, half_even};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MONTHS_PER_YEAR: i128 = 12;

/// The price of a plan. Every part may be present in every kind; the kind says which part leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pricing {
    pub model: PricingModel,
    /// Per interval.
    pub base: Usd,
    /// Per seat and interval.
    pub seat: Usd,
    pub interval: Interval,
    pub overage: Option<OveragePrice>,
    /// Per billable outcome that a settle reports.
    pub outcomes: BTreeMap<OutcomeName, Usd>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PricingModel {
    #[default]
    Flat,
    Usage,
    SeatPlusUsage,
    TieredSeats,
    Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    #[default]
    Month,
    Year,
}

/// What is billed of the use that passes a budget's hard limit and its grants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OveragePrice {
    pub budget_id: BudgetId,
    /// In the unit of the budget; usd in nano-dollars.
    pub per: i64,
    pub usd: Usd,
}

impl OveragePrice {
    /// The price of `beyond`, pro rata, rounded once; `None` when it is more than 64 bits can say.
    pub fn of(&self, beyond: i64) -> Option<Usd> {
        let whole = i128::from(self.usd.nanos()) * i128::from(beyond.max(0));
        i64::try_from(half_even(whole, i128::from(self.per.max(1))))
            .ok()
            .map(Usd::from_nanos)
    }
}

impl Pricing {
    /// What the base comes to in a month, rounded once where it is paid by the year.
    pub fn base_per_month(&self) -> Usd {
        self.per_month(self.base)
    }

    /// What base and `seats` come to in a month; `None` when it is more than 64 bits can say.
    pub fn per_month_with(&self, seats: i64) -> Option<Usd> {
        let seats = self.seat.nanos().checked_mul(seats)?;
        Some(self.per_month(self.base.checked_add(Usd::from_nanos(seats))?))
    }

    fn per_month(&self, per_interval: Usd) -> Usd {
        match self.interval {
            Interval::Month => per_interval,
            Interval::Year => {
                let month = half_even(i128::from(per_interval.nanos()), MONTHS_PER_YEAR);
                Usd::from_nanos(i64::try_from(month).expect("a twelfth of 64 bits fits into 64 bits"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(text: &str) -> Usd {
        Usd::parse(text).expect(text)
    }

    fn pricing(interval: Interval) -> Pricing {
        Pricing {
            model: PricingModel::SeatPlusUsage,
            base: usd("100"),
            seat: usd("20"),
            interval,
            overage: None,
            outcomes: BTreeMap::new(),
        }
    }

    #[test]
    fn a_yearly_price_is_a_twelfth_each_month_rounded_once() {
        assert_eq!(pricing(Interval::Month).base_per_month(), usd("100"));
        assert_eq!(pricing(Interval::Year).base_per_month(), usd("8.333333333"));
        assert_eq!(pricing(Interval::Year).per_month_with(1), Some(usd("10")));
        assert_eq!(pricing(Interval::Month).per_month_with(i64::MAX), None);
    }

    #[test]
    fn overage_is_billed_pro_rata_and_never_below_zero() {
        let overage = OveragePrice {
            budget_id: BudgetId::parse("monthly_tokens").expect("a budget id"),
            per: 1_000_000,
            usd: usd("4"),
        };
        for (beyond, expected) in [(0, "0"), (1, "0.000004"), (250_000, "1"), (1_500_000, "6"), (-5, "0")] {
            assert_eq!(overage.of(beyond), Some(usd(expected)), "{beyond}");
        }
        assert_eq!(overage.of(i64::MAX), None);
    }
}
