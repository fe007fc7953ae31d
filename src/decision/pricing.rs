//! What a plan costs its customer: the base, the seats, what passes a limit, and results. Knows nothing of what models cost.

use super::amount::Unit;
use super::id::{BudgetId, Feature, OutcomeName};
use super::money::{Usd, half_even};
use super::rating::{self, Charge, ChargeKind, Commitment, Metered, Price, Tiers, TooMuch, times};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const MONTHS_PER_YEAR: i128 = 12;

/// The price of a plan. Every part may be present in every kind; the kind says which part leads.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
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
    /// In the place of `seat`.
    pub seat_tiers: Option<Tiers>,
    /// How many seats cost nothing.
    pub included_seats: i64,
    /// Prices of use besides what passes a limit.
    pub usage: Vec<UsagePrice>,
    /// Of the whole period.
    pub commitment: Commitment,
    /// Pays what was used in a period, before anything of it is charged.
    pub credit: Usd,
}

/// A price of what was used in a period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsagePrice {
    pub id: String,
    pub unit: Unit,
    /// Only the use of this feature; `None`: all.
    pub feature: Option<Feature>,
    /// A budget whose counter counts this use: what its grants pay is not charged.
    pub budget: Option<BudgetId>,
    /// What of it costs nothing.
    pub included: i64,
    /// For each seat.
    pub included_per_seat: bool,
    pub price: Price,
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
        let seats = rating::sum(&self.charges_of_seats(seats).ok()?).ok()?;
        Some(self.per_month(self.base.checked_add(seats)?))
    }

    /// What `seats` come to in a month. Where they are paid by the year each charge is a twelfth of the year's.
    pub fn seat_charges(&self, seats: i64) -> Result<Vec<Charge>, TooMuch> {
        let charges = self.charges_of_seats(seats)?.into_iter();
        Ok(charges
            .map(|charge| Charge {
                amount: self.per_month(charge.amount),
                ..charge
            })
            .collect())
    }

    /// What `seats` come to in an interval.
    fn charges_of_seats(&self, seats: i64) -> Result<Vec<Charge>, TooMuch> {
        let quantity = seats.saturating_sub(self.included_seats).max(0);
        if let Some(tiers) = &self.seat_tiers {
            let price = Price {
                tiers: tiers.clone(),
                commitment: Commitment::default(),
            };
            return if quantity == 0 {
                Ok(Vec::new())
            } else {
                price.charges(&Metered::whole(quantity))
            };
        }
        if quantity == 0 || self.seat == Usd::ZERO {
            return Ok(Vec::new());
        }
        Ok(vec![Charge {
            kind: ChargeKind::Unit,
            tier: None,
            quantity,
            price: self.seat,
            per: 1,
            amount: times(self.seat, quantity, 1)?,
        }])
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
            seat_tiers: None,
            included_seats: 0,
            usage: Vec::new(),
            commitment: Commitment::default(),
            credit: Usd::ZERO,
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
