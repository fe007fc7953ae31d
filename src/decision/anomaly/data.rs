//! What `usage.anomaly_detected` says, and what an action looks like to an administrator.

use super::Action;
use crate::decision::amount::Unit;
use crate::decision::counter::Whose;
use crate::decision::id::{FairUseId, Feature, PlanId, UserId, WorkspaceId};
use crate::decision::message::{self, Voice};
use crate::decision::money::Usd;
use crate::decision::plan::{Plan, Scope};
use crate::decision::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What a fair-use rule saw and does.
#[derive(Clone, PartialEq, Debug, Serialize, ToSchema)]
pub struct AnomalyData {
    /// The id that Weir made.
    #[schema(value_type = String, example = "fua_0198c1f04a7b7c3e9f2d5a6b7c8d9e0f")]
    pub fair_use_id: FairUseId,
    #[schema(value_type = String)]
    pub workspace_id: WorkspaceId,
    /// Whether it is about the workspace or about one user of it.
    pub scope: Scope,
    /// Null with scope `user`: requests without one.
    #[schema(value_type = Option<String>)]
    pub user_id: Option<UserId>,
    /// Null: every feature.
    #[schema(value_type = Option<String>)]
    pub feature: Option<Feature>,
    #[schema(value_type = String)]
    pub plan_id: PlanId,
    /// The rule's name in its plan.
    #[schema(example = "ten_times_usual")]
    pub rule: String,
    pub unit: Unit,
    /// What was used within the window, or how many calls were made.
    #[schema(value_type = Object, example = 250_000)]
    pub observed: Value,
    /// What is usual in such a window at that hour of the week; null where the rule compares with nothing.
    #[schema(value_type = Object, example = 9_000)]
    pub typical: Value,
    /// How long the window was in which that was seen.
    #[schema(minimum = 1, maximum = 86_400, example = 900)]
    pub window_seconds: i64,
    /// event, throttle, downgrade or pause.
    #[schema(example = "throttle")]
    pub action: &'static str,
    /// It only says what it would have done.
    pub shadow: bool,
    /// When the rule saw it and began to act.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it ends by itself.
    #[schema(value_type = String, format = DateTime)]
    pub until: Timestamp,
    /// When an administrator ended it; null: nobody did.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    pub upgrade_url: Option<String>,
    /// What happened, what still works and until when, for people.
    pub message: String,
}

impl AnomalyData {
    /// `plan` is the one that the rule is of, if it is still there.
    pub fn new(action: &Action, plan: Option<&Plan>, voice: Voice<'_>) -> Self {
        let observed = &action.observed;
        let amount = |amount: i64| match observed.unit {
            Unit::Usd => Value::from(Usd::from_nanos(amount).to_string()),
            _ => Value::from(amount),
        };
        let url = plan.and_then(|plan| plan.upgrade_url.as_deref());
        Self {
            fair_use_id: action.id,
            workspace_id: action.workspace.clone(),
            scope: match action.whose {
                Whose::Workspace => Scope::Workspace,
                Whose::User(_) => Scope::User,
            },
            user_id: match &action.whose {
                Whose::Workspace => None,
                Whose::User(user) => user.clone(),
            },
            feature: action.feature.clone(),
            plan_id: action.plan.clone(),
            rule: action.rule.clone(),
            unit: observed.unit,
            observed: amount(observed.amount),
            typical: observed.typical.map_or(Value::Null, amount),
            window_seconds: observed.window_seconds,
            action: action.act.as_str(),
            shadow: action.shadow,
            started_at: action.started_at,
            until: action.ends_at,
            ended_at: action.ended_at,
            upgrade_url: url.map(|url| message::upgrade_url(url, &action.workspace)),
            message: action.message(voice),
        }
    }
}
