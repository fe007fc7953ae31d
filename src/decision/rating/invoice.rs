//! What a period comes to by a plan's price: its lines, exact and in cents.
//!
//! In this order: base, seats, use by tiers, overage, outcomes; then most spend, credit, and least spend. A credit is burned before anything
//! that was used is charged and never pays base or seats; what is left of it ends with the period. Least spend is asked of what is left to
//! pay, so a credit does not count towards it.

use super::{Charge, ChargeKind, Commitment, Metered, TooMuch, plus, to_cents};
use crate::decision::amount::Unit;
use crate::decision::id::{BudgetId, Feature, OutcomeName};
use crate::decision::money::Usd;
use crate::decision::period::Period;
use crate::decision::pricing::Pricing;
use serde::{Deserialize, Serialize};

/// What a line is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    Base,
    Seats,
    Usage,
    Overage,
    Outcome,
    /// What passes the most spend of the period; below zero.
    Maximum,
    /// What the plan's credit pays; below zero.
    Credit,
    /// What is missing to the least spend of the period.
    Minimum,
}

/// One line of an invoice.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    pub kind: LineKind,
    /// The price's name, the budget or the outcome that it is about.
    pub subject: Option<String>,
    pub budget: Option<BudgetId>,
    pub feature: Option<Feature>,
    pub unit: Option<Unit>,
    /// Of overage: the budget's period.
    pub period: Option<Period>,
    pub charge: Charge,
    /// The charge in whole cents: with those of the other lines it adds up to the invoice's total.
    pub cents: Usd,
}

/// What was counted for one of a plan's prices of use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    pub spent: i64,
    /// What grants paid of it: that is not charged once more.
    pub granted: i64,
}

/// What a budget was passed by in one of its periods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beyond {
    pub period: Period,
    pub amount: i64,
}

/// A billable outcome, and how often it was reported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutcomeCount {
    pub name: OutcomeName,
    pub count: i64,
}

/// What a period is priced by.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Figures {
    pub seats: i64,
    /// For each price of use, in the order of the plan.
    pub usage: Vec<Counted>,
    pub overage: Vec<Beyond>,
    pub outcomes: Vec<OutcomeCount>,
}

/// What a period comes to.
#[derive(Clone, PartialEq, Debug)]
pub struct Invoice {
    pub lines: Vec<Line>,
    /// The sum of the lines' cents, which is their exact sum rounded once.
    pub total: Usd,
    pub exact: Usd,
}

/// The invoice of a period by `pricing`.
pub fn invoice(pricing: &Pricing, figures: &Figures) -> Result<Invoice, TooMuch> {
    let mut lines = fixed(pricing, figures.seats)?;
    let mut used = usage(pricing, figures)?;
    used.extend(overage(pricing, &figures.overage)?);
    used.extend(outcomes(pricing, &figures.outcomes)?);
    let used_exact = exact(&used)?;
    lines.extend(used);
    let cap = pricing.commitment.beyond(exact(&lines)?, Usd::ZERO)?;
    let capped = cap.map_or(Usd::ZERO, |charge| charge.amount);
    lines.extend(cap.map(|charge| line(LineKind::Maximum, charge)));
    // What a cap took is not there to be paid by a credit.
    let payable = plus(used_exact, capped)?.max(Usd::ZERO);
    let credit = pricing.credit.min(payable);
    if credit > Usd::ZERO {
        let amount = Usd::from_nanos(-credit.nanos());
        lines.push(line(LineKind::Credit, Charge::one(ChargeKind::Flat, None, amount)));
    }
    let missing = Commitment::missing(&pricing.commitment, exact(&lines)?, Usd::ZERO)?;
    lines.extend(missing.map(|charge| line(LineKind::Minimum, charge)));
    in_cents(lines)
}

fn in_cents(mut lines: Vec<Line>) -> Result<Invoice, TooMuch> {
    let exact = exact(&lines)?;
    let cents = to_cents(&lines.iter().map(|line| line.charge.amount).collect::<Vec<_>>())?;
    let mut total = Usd::ZERO;
    for (line, cents) in lines.iter_mut().zip(cents) {
        line.cents = cents;
        total = plus(total, cents)?;
    }
    Ok(Invoice { lines, total, exact })
}

fn exact(lines: &[Line]) -> Result<Usd, TooMuch> {
    lines.iter().try_fold(Usd::ZERO, |sum, line| plus(sum, line.charge.amount))
}

fn line(kind: LineKind, charge: Charge) -> Line {
    Line {
        kind,
        subject: None,
        budget: None,
        feature: None,
        unit: None,
        period: None,
        charge,
        cents: Usd::ZERO,
    }
}

/// What is paid whatever is used.
fn fixed(pricing: &Pricing, seats: i64) -> Result<Vec<Line>, TooMuch> {
    let mut lines = Vec::new();
    if pricing.base > Usd::ZERO {
        let charge = Charge::one(ChargeKind::Flat, None, pricing.base_per_month());
        lines.push(line(LineKind::Base, charge));
    }
    let charges = pricing.seat_charges(seats)?;
    lines.extend(charges.into_iter().map(|charge| line(LineKind::Seats, charge)));
    Ok(lines)
}

fn usage(pricing: &Pricing, figures: &Figures) -> Result<Vec<Line>, TooMuch> {
    let mut lines = Vec::new();
    for (priced, counted) in pricing.usage.iter().zip(&figures.usage) {
        let seats = if priced.included_per_seat { figures.seats } else { 1 };
        let included = priced.included.saturating_mul(seats);
        let quantity = counted.spent.saturating_sub(included).saturating_sub(counted.granted).max(0);
        let charges = priced.price.charges(&Metered::whole(quantity))?;
        lines.extend(charges.into_iter().map(|charge| Line {
            subject: Some(priced.id.clone()),
            feature: priced.feature.clone(),
            unit: Some(priced.unit),
            ..line(LineKind::Usage, charge)
        }));
    }
    Ok(lines)
}

fn overage(pricing: &Pricing, beyond: &[Beyond]) -> Result<Vec<Line>, TooMuch> {
    let Some(overage) = &pricing.overage else { return Ok(Vec::new()) };
    let passed = beyond.iter().filter(|beyond| beyond.amount > 0);
    passed
        .map(|beyond| {
            let charge = Charge {
                kind: ChargeKind::Unit,
                tier: None,
                quantity: beyond.amount,
                price: overage.usd,
                per: overage.per,
                amount: overage.of(beyond.amount).ok_or(TooMuch)?,
            };
            Ok(Line {
                subject: Some(overage.budget_id.to_string()),
                budget: Some(overage.budget_id.clone()),
                period: Some(beyond.period),
                ..line(LineKind::Overage, charge)
            })
        })
        .collect()
}

/// Outcomes that the plan has no price for are there all the same, at nothing: who reads the invoice sees that they are free.
fn outcomes(pricing: &Pricing, counts: &[OutcomeCount]) -> Result<Vec<Line>, TooMuch> {
    let reported = counts.iter().filter(|outcome| outcome.count != 0);
    reported
        .map(|outcome| {
            let price = pricing.outcomes.get(&outcome.name).copied().unwrap_or(Usd::ZERO);
            let charge = Charge {
                kind: ChargeKind::Unit,
                tier: None,
                quantity: outcome.count,
                price,
                per: 1,
                amount: super::times(price, outcome.count, 1)?,
            };
            Ok(Line {
                subject: Some(outcome.name.to_string()),
                ..line(LineKind::Outcome, charge)
            })
        })
        .collect()
}
