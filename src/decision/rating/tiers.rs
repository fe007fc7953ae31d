//! Tiers and packages: which of them a use falls into, and what that comes to.
//!
//! Tiers are by rising `up_to`, which is inclusive; the last one has none. *Graduated*: each unit has the price of the tier that it falls
//! into, and a tier's flat price is due when it is entered (the first tier's from the start, used or not). *Volume*: all units have the
//! price of the tier that the whole period ends in, so it is known only at the end of the period. *Package*: each package that is begun.

use super::{Charge, ChargeKind, Metered, TooMuch, times};
use crate::decision::money::Usd;
use serde::{Deserialize, Serialize};

/// The most tiers of one price.
pub const TIERS_MAX: usize = 64;

/// How tiers are applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RatingMode)]
#[schemars(rename = "RatingMode")]
pub enum Mode {
    /// Each unit at the price of the tier that it falls into.
    #[default]
    Graduated,
    /// All units at the price of the tier that the period ends in.
    Volume,
    /// Each package that is begun.
    Package,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tier {
    /// The last unit of it; `None`: there is no last one.
    pub up_to: Option<i64>,
    pub flat: Option<Usd>,
    pub unit: Option<Usd>,
}

/// The prices of a use.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tiers {
    pub mode: Mode,
    /// What a unit's price is for: so many of what is counted.
    pub per: i64,
    /// By rising `up_to`, the last without; one tier with a price for each package where the mode is that.
    pub tiers: Vec<Tier>,
    /// How many are in a package.
    pub package_size: i64,
}

impl Tiers {
    pub(super) fn charges(&self, metered: &Metered) -> Result<Vec<Charge>, TooMuch> {
        let after = metered.before.checked_add(metered.quantity.max(0)).ok_or(TooMuch)?;
        match self.mode {
            Mode::Graduated => self.graduated(metered, after),
            Mode::Volume if metered.position.is_last() => self.volume(after),
            Mode::Volume => Ok(Vec::new()),
            Mode::Package => self.packages(metered.before, after),
        }
    }

    fn graduated(&self, metered: &Metered, after: i64) -> Result<Vec<Charge>, TooMuch> {
        let mut charges = Vec::new();
        let mut start = 0;
        for (n, tier) in self.tiers.iter().enumerate() {
            let end = tier.up_to.unwrap_or(i64::MAX);
            let quantity = after.min(end) - metered.before.max(start);
            if let Some(unit) = tier.unit.filter(|_| quantity > 0) {
                charges.push(self.units(n, quantity, unit)?);
            }
            // The first tier is entered by whoever has the plan, and every other one by its first unit.
            let is_entered = match n {
                0 => metered.position.is_first() && metered.before == 0,
                _ => metered.before <= start && start < after,
            };
            if let Some(flat) = tier.flat.filter(|_| is_entered) {
                charges.push(Charge::one(ChargeKind::Flat, Some(n), flat));
            }
            start = end;
        }
        Ok(charges)
    }

    fn volume(&self, quantity: i64) -> Result<Vec<Charge>, TooMuch> {
        let is_in = |tier: &Tier| tier.up_to.is_none_or(|up_to| quantity <= up_to);
        let Some((n, tier)) = self.tiers.iter().enumerate().find(|(_, tier)| is_in(tier)) else {
            return Ok(Vec::new());
        };
        let flat = tier.flat.map(|flat| Charge::one(ChargeKind::Flat, Some(n), flat));
        let unit = tier.unit.filter(|_| quantity > 0).map(|unit| self.units(n, quantity, unit));
        flat.map(Ok).into_iter().chain(unit).collect()
    }

    fn packages(&self, before: i64, after: i64) -> Result<Vec<Charge>, TooMuch> {
        let size = self.package_size.max(1);
        let begun = |quantity: i64| quantity / size + i64::from(quantity % size > 0);
        let packages = begun(after) - begun(before);
        let price = self.tiers.first().and_then(|tier| tier.flat.or(tier.unit)).unwrap_or(Usd::ZERO);
        if packages == 0 {
            return Ok(Vec::new());
        }
        Ok(vec![Charge {
            kind: ChargeKind::Package,
            tier: None,
            quantity: packages,
            price,
            per: 1,
            amount: times(price, packages, 1)?,
        }])
    }

    fn units(&self, tier: usize, quantity: i64, price: Usd) -> Result<Charge, TooMuch> {
        Ok(Charge {
            kind: ChargeKind::Unit,
            tier: Some(tier),
            quantity,
            price,
            per: self.per.max(1),
            amount: times(price, quantity, self.per)?,
        })
    }
}
