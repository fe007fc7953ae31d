//! What the caller is told once a store has answered: actions and reasons of an allowed request, or what stands in the way of a denied one.

use super::anomaly::{self, Act};
use super::ask::Ask;
use super::counter::Balance;
use super::detour::Detour;
use super::id::BudgetId;
use super::ladder::{Ladder, Step};
use super::limits::{BudgetView, Limited};
use super::message::{self, Voice};
use super::plan::AtHard;
use super::refusal::{BlockedBy, Code, Refusal};
use super::rung::Taken;
use super::time::Timestamp;
use serde::{Deserialize, Serialize};

mod short;

pub use short::{Short, shortages};

/// What makes an allowed answer other than plain. Told in this order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Warn,
    Downgrade,
    Throttle,
    Cap,
    Defer,
    Overage,
    Route,
}

/// Why an answer is what it is.
#[derive(Clone, PartialEq, Debug)]
pub struct Reason {
    pub code: Code,
    pub budget: Option<BudgetId>,
    pub message: String,
    /// Only on denials.
    pub block: Option<Block>,
}

/// What stands in the way, and until when.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    pub by: BlockedBy,
    /// `None`: never by itself.
    pub retry_after_seconds: Option<i64>,
    pub upgrade_url: Option<String>,
}

/// An allowed request: which offer it takes, and what is said about it.
#[derive(Clone, PartialEq, Debug)]
pub struct Allowed {
    pub taken: Taken,
    pub actions: Vec<Action>,
    pub reasons: Vec<Reason>,
    pub shadow_reasons: Vec<Reason>,
    pub budgets: Vec<BudgetView>,
    pub delay_ms: u32,
}

/// A denied request. Nothing is held anywhere.
#[derive(Clone, PartialEq, Debug)]
pub struct Denied {
    pub code: Code,
    pub reasons: Vec<Reason>,
    pub shadow_reasons: Vec<Reason>,
    pub budgets: Vec<BudgetView>,
}

/// How the routing rules changed the request, if they did.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct RouteNote {
    /// The rule, or the default model, that chose.
    pub routed: Option<String>,
    /// What shadow rules would have done.
    pub shadows: Vec<String>,
    /// What else became of its way; mostly nothing.
    pub detour: Option<Box<Detour>>,
}

/// The answer for the rung that was taken; `before` are the balances just before it.
pub fn allowed(voice: Voice<'_>, ask: &Ask, ladder: &Ladder, taken: Taken, before: &[Balance], route: &RouteNote) -> Allowed {
    let offer = &ladder.offers[taken.rung];
    let after = |limited: &Limited| {
        let balance = before[limited.counter];
        let unit = ladder.limits.counters[limited.counter].unit;
        Balance {
            spent: balance.spent,
            held: balance.held.saturating_add(taken.amounts.of(unit)),
            granted: balance.granted,
        }
    };
    let mut said = Said {
        voice,
        ask,
        ladder,
        actions: Vec::new(),
        reasons: Vec::new(),
        shadows: Vec::new(),
        delay_ms: 0,
    };
    if let Some(name) = &route.routed {
        said.act(Action::Route, Code::Routed, None, message::routed(voice, name, &offer.model.id));
    }
    if let Some(detour) = &route.detour {
        detour.tell(&mut said, offer);
    }
    said.shadows.extend(
        route
            .shadows
            .iter()
            .map(|name| note(Code::Routed, None, message::would_route(voice, name))),
    );
    for limited in &ladder.limits.budgets {
        said.soft(limited, before[limited.counter]);
    }
    for action in &ladder.fair_use {
        said.fair_use(action, offer.downgraded);
    }
    if !matches!(offer.step, Step::Asked | Step::AskedPastSoft) {
        said.why_not_asked(before);
    }
    if offer.downgraded {
        said.add(Action::Downgrade);
    }
    if offer.step == Step::Batch {
        said.add(Action::Defer);
    }
    if taken.output < ladder.rungs[taken.rung].output {
        said.act(Action::Cap, Code::AnswerCapped, None, message::capped(voice, taken.output));
    }
    for limited in &ladder.limits.budgets {
        said.overage(limited, after(limited));
    }
    let view = |limited: &Limited| {
        BudgetView::new(
            limited,
            ladder.budget(limited),
            &ladder.limits.counters[limited.counter],
            after(limited),
        )
    };
    let budgets = ladder.limits.budgets.iter().map(view).collect();
    said.actions.sort_unstable();
    Allowed {
        taken,
        actions: said.actions,
        reasons: said.reasons,
        shadow_reasons: said.shadows,
        budgets,
        delay_ms: said.delay_ms,
    }
}

/// Collects what is said of an allowed request.
pub(super) struct Said<'a> {
    pub(super) voice: Voice<'a>,
    ask: &'a Ask,
    ladder: &'a Ladder,
    actions: Vec<Action>,
    reasons: Vec<Reason>,
    shadows: Vec<Reason>,
    pub(super) delay_ms: u32,
}

impl Said<'_> {
    pub(super) fn add(&mut self, action: Action) {
        if !self.actions.contains(&action) {
            self.actions.push(action);
        }
    }

    pub(super) fn act(&mut self, action: Action, code: Code, budget: Option<&BudgetId>, message: String) {
        self.add(action);
        self.reasons.push(note(code, budget, message));
    }

    /// At or past soft, judged before the request, every budget adds its action; the longest delay wins.
    fn soft(&mut self, limited: &Limited, before: Balance) {
        let limited = &limited.raised(before);
        let budget = self.ladder.budget(limited);
        let counter = &self.ladder.limits.counters[limited.counter];
        let past_soft = limited.soft_line().is_some_and(|line| before.taken() >= line);
        if budget.shadow {
            let need = self.ladder.rungs[self.ladder.asked].needs.of(budget.unit);
            if limited
                .overage_line(budget)
                .is_some_and(|line| before.taken().saturating_add(need) > line)
            {
                self.shadows.push(note(
                    Code::HardLimitReached,
                    Some(&budget.id),
                    message::would_deny(self.voice, budget, limited),
                ));
            } else if past_soft {
                self.shadows.push(note(
                    Code::SoftLimitReached,
                    Some(&budget.id),
                    message::soft(self.voice, self.ask, budget, limited, counter, before),
                ));
            }
            return;
        }
        if !past_soft {
            return;
        }
        if budget.at_soft.warn {
            self.add(Action::Warn);
        }
        if budget.at_soft.throttle {
            self.add(Action::Throttle);
            self.delay_ms = self.delay_ms.max(budget.throttle_ms);
        }
        self.reasons.push(note(
            Code::SoftLimitReached,
            Some(&budget.id),
            message::soft(self.voice, self.ask, budget, limited, counter, before),
        ));
    }

    /// What rules of fair use do to this answer, or would have done.
    fn fair_use(&mut self, action: &anomaly::Action, downgraded: bool) {
        let Some(code) = action.code() else { return };
        if action.shadow {
            return self.shadows.push(note(code, None, action.message(self.voice)));
        }
        match action.act {
            Act::Throttle { delay_ms } => {
                self.delay_ms = self.delay_ms.max(delay_ms);
                self.act(Action::Throttle, code, None, action.message(self.voice));
            }
            // Where nothing cheaper would do the asked model serves, and nothing was changed.
            Act::Downgrade { .. } if downgraded => self.act(Action::Downgrade, code, None, action.message(self.voice)),
            Act::Downgrade { .. } | Act::Event | Act::Pause => {}
        }
    }

    /// Names the hard limits that the asked model would have passed.
    fn why_not_asked(&mut self, before: &[Balance]) {
        let needs = self.ladder.rungs[self.ladder.asked].needs;
        for limited in &self.ladder.limits.budgets {
            let limited = &limited.raised(before[limited.counter]);
            let budget = self.ladder.budget(limited);
            let need = needs.of(budget.unit);
            let short = limited
                .hard_line()
                .is_some_and(|line| before[limited.counter].taken().saturating_add(need) > line);
            if short && !budget.shadow {
                let text = message::asked_does_not_fit(self.voice, budget, limited, before[limited.counter], need);
                self.reasons.push(note(Code::HardLimitReached, Some(&budget.id), text));
            }
        }
    }

    fn overage(&mut self, limited: &Limited, after: Balance) {
        let limited = &limited.raised(after);
        let budget = self.ladder.budget(limited);
        let beyond = limited.hard_line().map_or(0, |line| after.taken().saturating_sub(line));
        if budget.at_hard == AtHard::Overage && !budget.shadow && beyond > 0 {
            self.act(
                Action::Overage,
                Code::OverageCharged,
                Some(&budget.id),
                message::overage(self.voice, budget, beyond),
            );
        }
    }
}

fn note(code: Code, budget: Option<&BudgetId>, message: String) -> Reason {
    Reason {
        code,
        budget: budget.cloned(),
        message,
        block: None,
    }
}

/// The denial for budgets. `free_at` says, for each shortage that holds cause, when expiring holds alone make room.
pub fn denied(
    voice: Voice<'_>,
    ask: &Ask,
    ladder: &Ladder,
    balances: &[Balance],
    shortages: &[Short],
    free_at: &[Option<Timestamp>],
    now: Timestamp,
) -> Denied {
    let reasons: Vec<Reason> = shortages
        .iter()
        .zip(free_at)
        .map(|(short, free_at)| reason(voice, ask, ladder, balances, short, *free_at, now))
        .collect();
    Denied {
        code: reasons.first().map_or(Code::HardLimitReached, |reason| reason.code),
        reasons,
        shadow_reasons: Vec::new(),
        budgets: views(ladder, balances),
    }
}

/// The denial of a workspace that has too many reservations open already.
pub fn too_many_open(voice: Voice<'_>, ask: &Ask, ladder: &Ladder, balances: &[Balance]) -> Denied {
    let message = message::too_many_open(voice, &ask.workspace, ladder.plan.max_open_reservations);
    // Each settle makes room, so there is no better moment to name than soon.
    let block = Block {
        by: BlockedBy::Held,
        retry_after_seconds: Some(1),
        upgrade_url: upgrade_url(ask, ladder),
    };
    let reason = Reason {
        code: Code::TooManyOpenReservations,
        budget: None,
        message,
        block: Some(block),
    };
    Denied {
        code: reason.code,
        reasons: vec![reason],
        shadow_reasons: Vec::new(),
        budgets: views(ladder, balances),
    }
}

/// The denial for a refusal: no budget was asked.
pub fn refused(voice: Voice<'_>, ask: &Ask, refusal: &Refusal, upgrade_url: Option<&str>, now: Timestamp) -> Denied {
    let (by, until) = refusal.blocked();
    let upgrade_url = upgrade_url.map(|url| message::upgrade_url(url, &ask.workspace));
    let block = Block {
        by,
        retry_after_seconds: until.map(|until| now.seconds_until(until).max(1)),
        upgrade_url,
    };
    let reason = Reason {
        code: refusal.code(),
        budget: None,
        message: message::refused(voice, refusal),
        block: Some(block),
    };
    Denied {
        code: refusal.code(),
        reasons: vec![reason],
        shadow_reasons: Vec::new(),
        budgets: Vec::new(),
    }
}

fn views(ladder: &Ladder, balances: &[Balance]) -> Vec<BudgetView> {
    let view = |limited: &Limited| {
        BudgetView::new(
            limited,
            ladder.budget(limited),
            &ladder.limits.counters[limited.counter],
            balances[limited.counter],
        )
    };
    ladder.limits.budgets.iter().map(view).collect()
}

fn reason(
    voice: Voice<'_>,
    ask: &Ask,
    ladder: &Ladder,
    balances: &[Balance],
    short: &Short,
    free_at: Option<Timestamp>,
    now: Timestamp,
) -> Reason {
    let limited = &ladder.limits.budgets[short.limited];
    let limited = &limited.raised(balances[limited.counter]);
    let budget = ladder.budget(limited);
    let counter = &ladder.limits.counters[limited.counter];
    let period_end = Some(counter.period.end).filter(|end| *end != Timestamp::MAX);
    let until = match short.by {
        BlockedBy::Policy => None,
        BlockedBy::Held => free_at.or(period_end),
        BlockedBy::Spent | BlockedBy::Rate => period_end,
    };
    let block = Block {
        by: short.by,
        retry_after_seconds: until.map(|until| now.seconds_until(until).max(1)),
        upgrade_url: upgrade_url(ask, ladder),
    };
    let message = message::short(voice, ask, budget, limited, counter, balances[limited.counter], short);
    Reason {
        code: short.code,
        budget: Some(budget.id.clone()),
        message,
        block: Some(block),
    }
}

fn upgrade_url(ask: &Ask, ladder: &Ladder) -> Option<String> {
    ladder
        .plan
        .upgrade_url
        .as_deref()
        .map(|url| message::upgrade_url(url, &ask.workspace))
}

/// The enforced budget that is nearest to its end: least remaining share, then earliest end. What RateLimit header fields tell.
pub fn tightest(budgets: &[BudgetView]) -> Option<&BudgetView> {
    let limited = budgets.iter().filter(|budget| !budget.shadow && budget.remaining.is_some());
    limited.min_by(|a, b| {
        let share = |view: &BudgetView| (i128::from(view.remaining.unwrap_or(0)), i128::from(line(view).max(1)));
        let ((left_a, of_a), (left_b, of_b)) = (share(a), share(b));
        (left_a * of_b).cmp(&(left_b * of_a)).then_with(|| a.period.end.cmp(&b.period.end))
    })
}

/// Hard limit and grants of a budget together.
pub fn line(view: &BudgetView) -> i64 {
    view.hard.unwrap_or(0).saturating_add(view.granted)
}
