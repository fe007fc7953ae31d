//! What use costs its customer: tiers, packages, included amounts, least and most spend; and how a period's charges become an invoice.
//!
//! Pure, in whole nano-dollars, every operation checked: what leaves 64 bits is [`TooMuch`], never a smaller number. A charge is
//! rounded once, half to even, where its price is per more than one; everything after is addition. Knows neither plans nor counters.

mod cents;
mod invoice;
#[cfg(test)]
mod tests;
mod tiers;

pub use cents::{NANOS_PER_CENT, to_cents};
pub use invoice::{Beyond, Counted, Figures, Invoice, Line, LineKind, OutcomeCount, invoice};
pub use tiers::{Mode, TIERS_MAX, Tier, Tiers};

use super::money::{Usd, half_even};
use serde::{Deserialize, Serialize};

/// An amount of money, or of use, beyond 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooMuch;

/// Which part of a period a line is for. Most are for a whole one; a period that is invoiced in parts has several.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Position {
    /// The whole period.
    #[default]
    Single,
    First,
    Mid,
    Last,
}

impl Position {
    fn is_first(self) -> bool {
        matches!(self, Position::Single | Position::First)
    }

    fn is_last(self) -> bool {
        matches!(self, Position::Single | Position::Last)
    }
}

/// The use that a line is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Metered {
    /// What earlier lines of the same period were for.
    pub before: i64,
    pub quantity: i64,
    pub position: Position,
    /// What those lines came to.
    pub billed: Usd,
}

impl Metered {
    /// All of a period in one line.
    pub fn whole(quantity: i64) -> Self {
        Self {
            quantity,
            ..Self::default()
        }
    }
}

/// The least and the most that a period comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Commitment {
    pub minimum: Option<Usd>,
    pub maximum: Option<Usd>,
}

/// What a charge is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChargeKind {
    /// So many at a price for each.
    Unit,
    /// A tier that was entered.
    Flat,
    /// Packages that were begun.
    Package,
    /// What is missing to the least spend.
    Minimum,
    /// What passes the most spend; below zero.
    Maximum,
}

/// One part of what a use comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Charge {
    pub kind: ChargeKind,
    /// The place of the tier, from 0.
    pub tier: Option<usize>,
    pub quantity: i64,
    /// The price of `per` of it.
    pub price: Usd,
    pub per: i64,
    pub amount: Usd,
}

impl Charge {
    fn one(kind: ChargeKind, tier: Option<usize>, amount: Usd) -> Self {
        Self {
            kind,
            tier,
            quantity: 1,
            price: amount,
            per: 1,
            amount,
        }
    }
}

/// How a use is priced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Price {
    pub tiers: Tiers,
    pub commitment: Commitment,
}

impl Price {
    /// What `metered` comes to. Most spend comes before least: what was capped can still be too little, never the other way round, since a
    /// minimum above the maximum is refused when a plan is read.
    pub fn charges(&self, metered: &Metered) -> Result<Vec<Charge>, TooMuch> {
        let mut charges = self.tiers.charges(metered)?;
        charges.extend(self.commitment.beyond(sum(&charges)?, metered.billed)?);
        if metered.position.is_last() {
            charges.extend(self.commitment.missing(sum(&charges)?, metered.billed)?);
        }
        Ok(charges)
    }
}

impl Commitment {
    /// What of `amount` passes the most spend, when `billed` was billed before.
    fn beyond(&self, amount: Usd, billed: Usd) -> Result<Option<Charge>, TooMuch> {
        let Some(maximum) = self.maximum else { return Ok(None) };
        let room = minus(maximum, billed)?.max(Usd::ZERO);
        let beyond = minus(amount, room)?;
        Ok((beyond > Usd::ZERO).then(|| Charge::one(ChargeKind::Maximum, None, Usd::from_nanos(-beyond.nanos()))))
    }

    /// What `amount` and what was billed before lack of the least spend.
    fn missing(&self, amount: Usd, billed: Usd) -> Result<Option<Charge>, TooMuch> {
        let Some(minimum) = self.minimum else { return Ok(None) };
        let missing = minus(minimum, plus(amount, billed)?)?;
        Ok((missing > Usd::ZERO).then(|| Charge::one(ChargeKind::Minimum, None, missing)))
    }
}

/// What charges come to.
pub fn sum(charges: &[Charge]) -> Result<Usd, TooMuch> {
    charges.iter().try_fold(Usd::ZERO, |sum, charge| plus(sum, charge.amount))
}

fn plus(a: Usd, b: Usd) -> Result<Usd, TooMuch> {
    a.checked_add(b).ok_or(TooMuch)
}

fn minus(a: Usd, b: Usd) -> Result<Usd, TooMuch> {
    a.checked_sub(b).ok_or(TooMuch)
}

/// `quantity` at `price` for each `per`, rounded once.
pub fn times(price: Usd, quantity: i64, per: i64) -> Result<Usd, TooMuch> {
    let exact = i128::from(price.nanos()) * i128::from(quantity);
    let nanos = half_even(exact, i128::from(per.max(1)));
    i64::try_from(nanos).map(Usd::from_nanos).map_err(|_| TooMuch)
}
