//! The sentences of warnings and denials: what happened, what still works, when it ends and what to do. The same functions make them for
//! answers, events and pages; their words are a policy's ([`Voice`]).
//!
//! What is put into a text are ids, whose characters are bounded, numbers and names that an operator wrote on one line; a text is at most
//! [`template::TEXT_CHARS_MAX`] long before it is filled.

use super::amount::Unit;
use super::anomaly::{Act, Action};
use super::ask::Ask;
use super::counter::{Balance, Counter, Whose};
use super::id::{Feature, ModelId, ReservationId, UserId, WorkspaceId};
use super::limits::Limited;
use super::period::PeriodKind;
use super::plan::Budget;
use super::refusal::{BlockedBy, Refusal};
use super::time::Timestamp;
use super::verdict::Short;

pub mod language;
pub mod template;
pub mod texts;
mod voice;

pub use texts::{Slot, Text};
pub use voice::{LANGUAGE_DEFAULT, Locale, Messages, Voice};

pub fn routed(voice: Voice<'_>, rule: &str, model: &ModelId) -> String {
    voice.say(Text::Routed, &[(Slot::Rule, rule), (Slot::Model, model.as_str())])
}

pub fn provider_unhealthy(voice: Voice<'_>, model: &ModelId) -> String {
    voice.say(Text::ProviderUnhealthy, &[(Slot::Model, model.as_str())])
}

pub fn escalated(voice: Voice<'_>, model: &ModelId) -> String {
    voice.say(Text::Escalated, &[(Slot::Model, model.as_str())])
}

pub fn would_route(voice: Voice<'_>, rule: &str) -> String {
    voice.say(Text::WouldRoute, &[(Slot::Rule, rule)])
}

pub fn capped(voice: Voice<'_>, output: i64) -> String {
    voice.say(Text::AnswerCapped, &[(Slot::Output, &voice.number(output))])
}

pub fn would_deny(voice: Voice<'_>, budget: &Budget, limited: &Limited) -> String {
    let limit = limit(voice, budget, limited);
    voice.say(Text::ShadowWouldDeny, &[(Slot::Budget, budget.id.as_str()), (Slot::Limit, &limit)])
}

pub fn soft(voice: Voice<'_>, ask: &Ask, budget: &Budget, limited: &Limited, counter: &Counter, before: Balance) -> String {
    voice.say(
        Text::SoftLimitReached,
        &[
            (Slot::Subject, &who(voice, &ask.workspace, counter)),
            (Slot::Taken, &voice.amount(budget.unit, before.taken())),
            (Slot::Limit, &limit(voice, budget, limited)),
            (Slot::Period, &for_period(voice, counter)),
            (Slot::Renews, &renews(voice, counter)),
            (Slot::Budget, budget.id.as_str()),
        ],
    )
}

pub fn asked_does_not_fit(voice: Voice<'_>, budget: &Budget, limited: &Limited, before: Balance, need: i64) -> String {
    let left = limited.hard_line().unwrap_or(0).saturating_sub(before.taken()).max(0);
    voice.say(
        Text::AskedDoesNotFit,
        &[
            (Slot::Need, &voice.amount(budget.unit, need)),
            (Slot::Budget, budget.id.as_str()),
            (Slot::Left, &voice.amount(budget.unit, left)),
        ],
    )
}

pub fn overage(voice: Voice<'_>, budget: &Budget, beyond: i64) -> String {
    let beyond = voice.amount(budget.unit, beyond);
    voice.say(Text::OverageCharged, &[(Slot::Budget, budget.id.as_str()), (Slot::Beyond, &beyond)])
}

pub fn too_many_open(voice: Voice<'_>, workspace: &WorkspaceId, open_max: u32) -> String {
    let open = voice.number(i64::from(open_max));
    voice.say(Text::TooManyOpen, &[(Slot::Workspace, workspace.as_str()), (Slot::Open, &open)])
}

pub fn run_has_no_calls(voice: Voice<'_>, parent: ReservationId, calls_max: i64) -> String {
    let (parent, calls) = (parent.to_string(), voice.number(calls_max));
    voice.say(Text::RunHasNoCalls, &[(Slot::Parent, &parent), (Slot::Calls, &calls)])
}

/// Why what a parent has left does not do for a call.
pub fn run_is_short(voice: Voice<'_>, parent: ReservationId, unit: Unit, left: i64, taken: i64, need: i64) -> String {
    voice.say(
        Text::RunIsShort,
        &[
            (Slot::Parent, &parent.to_string()),
            (Slot::Left, &voice.amount(unit, left)),
            (Slot::Taken, &voice.amount(unit, taken)),
            (Slot::Need, &voice.amount(unit, need)),
        ],
    )
}

/// Why a budget stands in the way of a request.
pub fn short(
    voice: Voice<'_>,
    ask: &Ask,
    budget: &Budget,
    limited: &Limited,
    counter: &Counter,
    balance: Balance,
    short: &Short,
) -> String {
    let who = who(voice, &ask.workspace, counter);
    let need = voice.amount(budget.unit, short.need);
    let ceiling = voice.amount(budget.unit, short.ceiling);
    let left = short.ceiling.saturating_sub(balance.taken()).max(0);
    match short.by {
        BlockedBy::Policy => voice.say(
            Text::NeverFits,
            &[(Slot::Need, &need), (Slot::Budget, budget.id.as_str()), (Slot::Limit, &ceiling)],
        ),
        BlockedBy::Held => voice.say(
            Text::LimitHeld,
            &[
                (Slot::Subject, &who),
                (Slot::Held, &voice.amount(budget.unit, balance.held)),
                (Slot::Spent, &voice.amount(budget.unit, balance.spent)),
                (Slot::Need, &need),
                (Slot::Limit, &ceiling),
            ],
        ),
        BlockedBy::Rate => voice.say(
            Text::LimitRate,
            &[
                (Slot::Subject, &who),
                (Slot::Limit, &limit(voice, budget, limited)),
                (Slot::Rate, &rate(voice, counter.kind)),
                (Slot::Clock, &voice.clock(counter.period.end)),
            ],
        ),
        BlockedBy::Spent => nearly_spent(voice, &ask.workspace, budget, counter, (left, short.need, short.ceiling)),
    }
}

/// That what is left of a budget is too little for a request: the same to who asks and to who is told.
pub(super) fn nearly_spent(
    voice: Voice<'_>,
    workspace: &WorkspaceId,
    budget: &Budget,
    counter: &Counter,
    (left, need, ceiling): (i64, i64, i64),
) -> String {
    let (who, ceiling) = (who(voice, workspace, counter), voice.amount(budget.unit, ceiling));
    if left <= 0 {
        return spent(voice, &who, &ceiling, counter);
    }
    voice.say(
        Text::LimitNearlySpent,
        &[
            (Slot::Subject, &who),
            (Slot::Left, &voice.amount(budget.unit, left)),
            (Slot::Limit, &ceiling),
            (Slot::Period, &for_period(voice, counter)),
            (Slot::Need, &voice.amount(budget.unit, need)),
            (Slot::Renews, &renews(voice, counter)),
        ],
    )
}

/// That a budget is used up: the same to who asks and to who is told.
pub(super) fn spent(voice: Voice<'_>, who: &str, ceiling: &str, counter: &Counter) -> String {
    voice.say(
        Text::LimitSpent,
        &[
            (Slot::Subject, who),
            (Slot::Limit, ceiling),
            (Slot::Period, &for_period(voice, counter)),
            (Slot::Renews, &renews(voice, counter)),
        ],
    )
}

pub fn workspace_suspended(voice: Voice<'_>, workspace: &WorkspaceId) -> String {
    voice.say(Text::WorkspaceSuspended, &[(Slot::Workspace, workspace.as_str())])
}

/// Why a request is refused before any counter is asked, and what to do about it.
pub fn refused(voice: Voice<'_>, refusal: &Refusal) -> String {
    match refusal {
        Refusal::WorkspaceSuspended(workspace) => workspace_suspended(voice, workspace),
        Refusal::NoPlan(workspace) => voice.say(Text::NoPlan, &[(Slot::Workspace, workspace.as_str())]),
        Refusal::FeatureDisabled { feature, plan, known } => {
            let text = if *known { Text::FeatureNotInPlan } else { Text::FeatureUnknown };
            voice.say(text, &[(Slot::Feature, feature.as_str()), (Slot::Plan, plan.as_str())])
        }
        Refusal::ModelNotAllowed { model, plan } => {
            voice.say(Text::ModelNotAllowed, &[(Slot::Model, model.as_str()), (Slot::Plan, plan.as_str())])
        }
        Refusal::ModelUnpriced { model } => voice.say(Text::ModelUnpriced, &[(Slot::Model, model.as_str())]),
        Refusal::ContextTooLong {
            model,
            input_tokens,
            max_input_tokens,
        } => voice.say(
            Text::ContextTooLong,
            &[
                (Slot::Model, model.as_str()),
                (Slot::Limit, &voice.amount(Unit::Tokens, *max_input_tokens)),
                (Slot::Need, &voice.amount(Unit::Tokens, *input_tokens)),
            ],
        ),
        Refusal::NoBudget { plan, feature } => voice.say(Text::NoBudget, &[(Slot::Plan, plan.as_str()), (Slot::Feature, feature.as_str())]),
        Refusal::FairUse(action) => fair_use(voice, action),
    }
}

/// What a rule of fair use saw, what it does, what still works and until when.
pub fn fair_use(voice: Voice<'_>, action: &Action) -> String {
    let user = match &action.whose {
        Whose::Workspace => None,
        Whose::User(user) => Some(user.as_ref()),
    };
    let seen = &action.observed;
    let subject = (Slot::Subject, &*subject(voice, &action.workspace, user, action.feature.as_ref()));
    let (amount, window) = (voice.amount(seen.unit, seen.amount), self::window(voice, seen.window_seconds));
    let rule = (Slot::Rule, action.rule.as_str());
    // Only a loop is of a feature.
    let observed = match (seen.typical, &action.feature) {
        (Some(typical), _) => voice.say(
            Text::FairUseObserved,
            &[
                subject,
                (Slot::Observed, &amount),
                (Slot::Window, &window),
                (Slot::Typical, &voice.amount(seen.unit, typical)),
                rule,
            ],
        ),
        (None, Some(_)) => voice.say(
            Text::FairUseLoop,
            &[subject, (Slot::Calls, &voice.number(seen.amount)), (Slot::Seconds, &window), rule],
        ),
        (None, None) => voice.say(
            Text::FairUseVelocity,
            &[subject, (Slot::Observed, &amount), (Slot::Window, &window), rule],
        ),
    };
    let text = match action.act {
        Act::Event => return voice.say(Text::FairUseEvent, &[(Slot::Observed, &observed)]),
        Act::Throttle { .. } => Text::FairUseThrottle,
        Act::Downgrade { .. } => Text::FairUseDowngrade,
        Act::Pause => Text::FairUsePause,
    };
    voice.say(text, &[(Slot::Observed, &observed), (Slot::Until, &voice.time(action.ends_at))])
}

fn window(voice: Voice<'_>, seconds: i64) -> String {
    let (text, amount) = match (seconds % 60, seconds / 60) {
        (0, 1) => (Text::OneMinute, 1),
        (0, minutes) => (Text::Minutes, minutes),
        _ => (Text::Seconds, seconds),
    };
    voice.say(text, &[(Slot::Amount, &voice.number(amount))])
}

/// The upgrade link of a plan for one workspace.
pub fn upgrade_url(template: &str, workspace: &WorkspaceId) -> String {
    let mut encoded = String::with_capacity(workspace.as_str().len());
    for byte in workspace.as_str().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    template.replace("{workspace_id}", &encoded)
}

pub(super) fn who(voice: Voice<'_>, workspace: &WorkspaceId, counter: &Counter) -> String {
    let user = match &counter.whose {
        Whose::Workspace => None,
        Whose::User(user) => Some(user.as_ref()),
    };
    subject(voice, workspace, user, counter.feature.as_ref())
}

/// Whose use it is. `user`: `None` is all of the workspace, `Some(None)` the user without a name.
pub fn subject(voice: Voice<'_>, workspace: &WorkspaceId, user: Option<Option<&UserId>>, feature: Option<&Feature>) -> String {
    let workspace = (Slot::Workspace, workspace.as_str());
    let whose = match user {
        None => voice.say(Text::SubjectWorkspace, &[workspace]),
        Some(Some(user)) => voice.say(Text::SubjectUser, &[workspace, (Slot::User, user.as_str())]),
        Some(None) => voice.say(Text::SubjectUnnamedUser, &[workspace]),
    };
    match feature {
        None => whose,
        Some(feature) => voice.say(
            Text::SubjectOfFeature,
            &[(Slot::Subject, &whose), (Slot::Feature, feature.as_str())],
        ),
    }
}

fn limit(voice: Voice<'_>, budget: &Budget, limited: &Limited) -> String {
    voice.amount(budget.unit, limited.hard_line().or(limited.soft_line()).unwrap_or(0))
}

fn rate(voice: Voice<'_>, kind: PeriodKind) -> String {
    let text = if kind == PeriodKind::Minute {
        Text::PerMinute
    } else {
        Text::PerHour
    };
    voice.say(text, &[])
}

pub(super) fn for_period(voice: Voice<'_>, counter: &Counter) -> String {
    let text = match counter.kind {
        PeriodKind::Minute => Text::ForMinute,
        PeriodKind::Hour => Text::ForHour,
        PeriodKind::Day => Text::ForDay,
        PeriodKind::Week => Text::ForWeek,
        PeriodKind::Month => {
            // A month's middle lies in it whatever the time zone.
            let middle = voice::utc(counter.period.start.plus_seconds(14 * 24 * 3600));
            return voice.say(Text::ForMonth, &[(Slot::Month, voice.month(middle.month()))]);
        }
        PeriodKind::Year => Text::ForYear,
        PeriodKind::Billing => Text::ForBilling,
        PeriodKind::Lifetime => return String::new(),
    };
    voice.say(text, &[])
}

pub(super) fn renews(voice: Voice<'_>, counter: &Counter) -> String {
    if counter.period.end == Timestamp::MAX {
        return String::new();
    }
    let (end, is_usd) = (voice::utc(counter.period.end), counter.unit == Unit::Usd);
    if end.hour() == 0 && end.minute() == 0 && end.second() == 0 {
        let text = if is_usd { Text::UsdRenewsOn } else { Text::RenewOn };
        voice.say(text, &[(Slot::Date, &voice.date(counter.period.end))])
    } else {
        let text = if is_usd { Text::UsdRenewsAt } else { Text::RenewAt };
        voice.say(text, &[(Slot::Time, &voice.time(counter.period.end))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_link_cannot_be_bent_by_a_workspace_id() {
        let workspace = WorkspaceId::parse("a/b+c=d|e").expect("a name");
        assert_eq!(
            upgrade_url("https://x.example/?ws={workspace_id}", &workspace),
            "https://x.example/?ws=a%2Fb%2Bc%3Dd%7Ce"
        );
    }
}
