//! The sentences of events: what happened, what still works, when it ends and what to do. Their words are a policy's, as those of answers
//! are; where an answer says the same, so do they.

use super::amount::Ratio;
use super::counter::Counter;
use super::grant::Grant;
use super::id::{PlanId, WorkspaceId};
use super::level::{Level, LevelName};
use super::message::{self, Slot, Text, Voice};
use super::plan::{AtHard, Budget};
use super::time::Timestamp;
use super::webhook::retry::Disable;

/// A level of a budget was reached.
pub fn reached(voice: Voice<'_>, workspace: &WorkspaceId, budget: &Budget, counter: &Counter, level: Level, hard: Option<i64>) -> String {
    let who = message::who(voice, workspace, counter);
    let of = voice.amount(budget.unit, hard.unwrap_or(level.at));
    let (period, renews) = (message::for_period(voice, counter), message::renews(voice, counter));
    let all = [
        (Slot::Subject, &*who),
        (Slot::Limit, &of),
        (Slot::Period, &period),
        (Slot::Renews, &renews),
    ];
    match (level.name, budget.at_hard) {
        (LevelName::Share(share), _) => {
            let percent = percent(voice, share);
            voice.say(Text::ThresholdReached, &[&all[..], &[(Slot::Percent, &percent)]].concat())
        }
        (LevelName::Soft, _) => {
            let taken = voice.amount(budget.unit, level.at);
            let more = [(Slot::Taken, &*taken), (Slot::Budget, budget.id.as_str())];
            voice.say(Text::SoftLimitSpent, &[&all[..], &more].concat())
        }
        (LevelName::Hard, AtHard::Deny) => message::spent(voice, &who, &of, counter),
        (LevelName::Hard, AtHard::Overage) => voice.say(Text::LimitSpentOverage, &all),
    }
}

/// A budget is below its limit again.
pub fn renewed(voice: Voice<'_>, workspace: &WorkspaceId, budget: &Budget, counter: &Counter, left: Option<i64>) -> String {
    let (who, period) = (message::who(voice, workspace, counter), message::for_period(voice, counter));
    let all = [(Slot::Subject, &*who), (Slot::Period, &period), (Slot::Budget, budget.id.as_str())];
    match left {
        Some(left) => {
            let left = voice.amount(budget.unit, left);
            voice.say(Text::BudgetHasRoom, &[&all[..], &[(Slot::Left, &left)]].concat())
        }
        None => voice.say(Text::BudgetRenewed, &all),
    }
}

/// At this pace it runs out.
pub fn forecast(voice: Voice<'_>, workspace: &WorkspaceId, budget: &Budget, counter: &Counter, hard: i64, at: Timestamp) -> String {
    voice.say(
        Text::BudgetForecast,
        &[
            (Slot::Subject, &message::who(voice, workspace, counter)),
            (Slot::Limit, &voice.amount(budget.unit, hard)),
            (Slot::Period, &message::for_period(voice, counter)),
            (Slot::Date, &voice.date(at)),
            (Slot::Renews, &message::renews(voice, counter)),
        ],
    )
}

pub fn grant_expiring(voice: Voice<'_>, workspace: &WorkspaceId, grant: &Grant, left: i64, at: Timestamp) -> String {
    voice.say(
        Text::GrantExpiring,
        &[
            (Slot::Workspace, workspace.as_str()),
            (Slot::Left, &voice.amount(grant.unit, left)),
            (Slot::Budget, grant.budget.as_str()),
            (Slot::Time, &voice.time(at)),
        ],
    )
}

pub fn plan_changed(voice: Voice<'_>, workspace: &WorkspaceId, from: Option<&PlanId>, to: Option<&PlanId>) -> String {
    let workspace = (Slot::Workspace, workspace.as_str());
    match (from, to) {
        (Some(from), Some(to)) => voice.say(
            Text::PlanChanged,
            &[workspace, (Slot::Plan, to.as_str()), (Slot::Before, from.as_str())],
        ),
        (None, Some(to)) => voice.say(Text::PlanChosen, &[workspace, (Slot::Plan, to.as_str())]),
        (_, None) => voice.say(Text::PlanGone, &[workspace]),
    }
}

pub fn suspended(voice: Voice<'_>, workspace: &WorkspaceId) -> String {
    message::workspace_suspended(voice, workspace)
}

pub fn expired(voice: Voice<'_>, charged: bool) -> String {
    voice.say(
        if charged {
            Text::ReservationCharged
        } else {
            Text::ReservationExpired
        },
        &[],
    )
}

/// An endpoint is not tried any more.
pub fn endpoint_disabled(voice: Voice<'_>, host: &str, why: Disable) -> String {
    let text = match why {
        Disable::Gone => Text::EndpointGone,
        Disable::OnlyFailures => Text::EndpointFails,
    };
    voice.say(text, &[(Slot::Host, host)])
}

/// 80, or 12.5: what of a hundred.
fn percent(voice: Voice<'_>, share: Ratio) -> String {
    let parts = share.ten_thousandths();
    voice.decimal(parts / 100, &format!("{:02}", parts % 100))
}
