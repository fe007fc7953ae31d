//! Which model serves a request that asks for `auto`: rules over the request, the first that matches decides. Chooses a model, a tier or
//! a mode; which model of a tier is the ladder's matter.
//!
//! Invariants: a rule whose condition cannot be evaluated (an attribute that the request does not have, text compared with a number) does
//! not match and is named in the answer, never a failure of the request. The work of a condition is bounded before a [`Condition`] is made.

use super::amount::{Ratio, Unit};
use super::ask::Ask;
use super::cascade::Escalation;
use super::counter::Balance;
use super::id::{BudgetId, ModelId, PlanId, Tier};
use super::price::Mode;
use super::time::Timestamp;
use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

/// What a request is said to be routed by when no rule matched.
pub const BY_DEFAULT_MODEL: &str = "default_model";
/// The variables of a condition.
pub const VARIABLES: [&str; 5] = ["request", "workspace", "plan", "budgets", "now"];
/// The fields of `request`; those that a request does not have are absent, so that `has(request.user_id)` tells.
pub const REQUEST_FIELDS: [&str; 14] = [
    "feature",
    "model",
    "input_tokens",
    "max_output_tokens",
    "mode",
    "user_id",
    "requests",
    "attributes",
    "tags",
    "allow_batch",
    "max_delay_seconds",
    WEAK_SUFFICES,
    COMPLEXITY,
    LLM_TIER,
];
/// By the trained classifier, from 0 to 1: how likely it is that the weak model suffices. Absent without a classifier or anything to judge.
pub const WEAK_SUFFICES: &str = "weak_suffices";
/// What is missing of [`WEAK_SUFFICES`] to 1.
pub const COMPLEXITY: &str = "complexity";
/// The tier that a language model was asked for. Absent where none is configured, or it did not answer in time.
pub const LLM_TIER: &str = "llm_tier";
pub const WORKSPACE_FIELDS: [&str; 4] = ["id", "plan", "seats", "tags"];
pub const PLAN_FIELDS: [&str; 1] = ["id"];
/// The fields of each member of `budgets`. usd is in micro-dollars; `share` is what is spent and held of hard, from 0 on.
pub const BUDGET_FIELDS: [&str; 5] = ["spent", "held", "soft", "hard", "share"];
/// In UTC; `weekday` is 1 on Mondays.
pub const NOW_FIELDS: [&str; 7] = ["year", "month", "day", "weekday", "hour", "minute", "unix"];

const NANOS_PER_MICRO: i64 = 1_000;

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// The rules of a policy.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    pub rules: Vec<RouteRule>,
    pub default_model: Option<ModelId>,
}

#[derive(Clone, Debug)]
pub struct RouteRule {
    pub name: Arc<str>,
    pub when: Condition,
    pub target: Target,
    /// Also for requests that name a model.
    pub overrides_named: bool,
    /// Only says what it would have done.
    pub shadow: bool,
    /// What may be tried after it, if its answer was not good enough.
    pub escalation: Option<Escalation>,
}

/// What a rule chooses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    Model(ModelId),
    Tier(Tier),
    Mode(Mode),
    /// The caller shall wait so many milliseconds.
    Throttle(u32),
}

/// What a condition looks at that is not read of every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mentions {
    pub budgets: bool,
    /// [`WEAK_SUFFICES`] or [`COMPLEXITY`].
    pub difficulty: bool,
    pub llm_tier: bool,
}

/// A compiled condition. Made by `policy` alone, which bounds its size, its depth and its work.
#[derive(Clone, Debug)]
pub struct Condition {
    program: Arc<Program>,
    mentions: Mentions,
}

impl Condition {
    pub fn new(program: Program, mentions: Mentions) -> Self {
        Self {
            program: Arc::new(program),
            mentions,
        }
    }

    /// `None`: it cannot be told for this request.
    fn holds(&self, context: &Context<'_, '_>) -> Option<bool> {
        match self.program.execute(context) {
            Ok(Value::Bool(holds)) => Some(holds),
            _ => None,
        }
    }
}

/// What the rules may look at.
#[derive(Clone, Copy, Debug)]
pub struct RouteFacts<'a> {
    pub ask: &'a Ask,
    /// Flat scalars that the caller gave for routing.
    pub attributes: &'a serde_json::Map<String, serde_json::Value>,
    pub seats: i64,
    /// Of the workspace.
    pub tags: &'a BTreeMap<String, String>,
    pub plan: &'a PlanId,
    /// Whether the caller can wait for a batch; if not, no rule makes it one.
    pub may_defer: bool,
    pub max_delay_seconds: Option<i64>,
    /// By the classifier; left `None` unless [`Routing::reads_difficulty`].
    pub weak_suffices: Option<f64>,
    pub llm: LlmTier<'a>,
    /// Left empty unless [`Routing::needs_budgets`].
    pub budgets: &'a [BudgetFacts<'a>],
    pub now: Timestamp,
}

/// What is known of the tier that a language model would choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LlmTier<'a> {
    /// It may be asked, once a rule needs it.
    NotAsked,
    /// There is none, or it did not answer.
    Unknown,
    Told(&'a str),
}

/// One budget that applies to the request, with its limits as they are for this workspace.
#[derive(Clone, Copy, Debug)]
pub struct BudgetFacts<'a> {
    pub id: &'a BudgetId,
    pub unit: Unit,
    pub balance: Balance,
    pub soft: Option<i64>,
    pub hard: Option<i64>,
}

/// What the rules chose. At most one of `model` and `tier` is there; neither means that nothing can serve `auto`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routed {
    pub model: Option<ModelId>,
    pub tier: Option<Tier>,
    pub mode: Option<Mode>,
    /// How long the caller shall wait.
    pub delay_ms: u32,
    pub escalation: Option<Escalation>,
    /// A rule needs to know what a language model would choose: ask it, and route again.
    pub asks_llm: bool,
    /// What chose: a rule, [`BY_DEFAULT_MODEL`], or nothing where the asked model goes on.
    pub rule: Option<Arc<str>>,
    /// Shadow rules that would have chosen, before or after the one that did.
    pub shadow_hits: Vec<Arc<str>>,
    /// Rules that could not be evaluated, for a metric.
    pub failed: Vec<Arc<str>>,
}

impl Routing {
    /// Whether a rule that looks at such a request looks at budgets too; `asked` is `None` for `auto`.
    pub fn needs_budgets(&self, asked: Option<&ModelId>) -> bool {
        self.rules_for(asked).any(|rule| rule.when.mentions.budgets)
    }

    /// Whether such a rule looks at what the classifier says.
    pub fn reads_difficulty(&self, asked: Option<&ModelId>) -> bool {
        self.rules_for(asked).any(|rule| rule.when.mentions.difficulty)
    }

    /// Whether such a rule may need the text of the request: for the classifier, or to ask a language model.
    pub fn reads_text(&self, asked: Option<&ModelId>) -> bool {
        self.rules_for(asked)
            .any(|rule| rule.when.mentions.difficulty || rule.when.mentions.llm_tier)
    }

    /// Whether any rule looks at requests that name a model; without one they need no routing at all.
    pub fn concerns_named(&self) -> bool {
        self.rules.iter().any(|rule| rule.overrides_named)
    }

    fn rules_for<'r>(&'r self, asked: Option<&ModelId>) -> impl Iterator<Item = &'r RouteRule> {
        let auto = asked.is_none();
        self.rules.iter().filter(move |rule| auto || rule.overrides_named)
    }

    /// What serves this request; `asked` is the model that it names, `None` for `auto`.
    pub fn route(&self, facts: &RouteFacts<'_>, asked: Option<&ModelId>) -> Routed {
        let mut routed = Routed::default();
        let mut chosen: Option<&RouteRule> = None;
        let mut context: Option<Context<'_, '_>> = None;
        for rule in self.rules_for(asked) {
            if chosen.is_some() && !rule.shadow {
                continue;
            }
            // Nobody waits who did not say that he can.
            if rule.target == Target::Mode(Mode::Batch) && !facts.may_defer {
                continue;
            }
            if rule.when.mentions.llm_tier && facts.llm == LlmTier::NotAsked {
                // What only says what it would have done is not worth a call that costs; it says so where another rule has it made.
                if rule.shadow {
                    continue;
                }
                routed.asks_llm = true;
                return routed;
            }
            let context = context.get_or_insert_with(|| self.context(facts, asked));
            match rule.when.holds(context) {
                Some(true) if rule.shadow => routed.shadow_hits.push(rule.name.clone()),
                Some(true) => chosen = Some(rule),
                Some(false) => {}
                None => routed.failed.push(rule.name.clone()),
            }
        }
        self.choose(chosen, asked, &mut routed);
        routed
    }

    fn choose(&self, chosen: Option<&RouteRule>, asked: Option<&ModelId>, routed: &mut Routed) {
        routed.rule = chosen.map(|rule| rule.name.clone());
        routed.escalation = chosen.and_then(|rule| rule.escalation.clone());
        match chosen.map(|rule| &rule.target) {
            Some(Target::Model(model)) => routed.model = Some(model.clone()),
            Some(Target::Tier(tier)) => routed.tier = Some(tier.clone()),
            other => {
                match other {
                    Some(Target::Mode(mode)) => routed.mode = Some(*mode),
                    Some(Target::Throttle(ms)) => routed.delay_ms = *ms,
                    _ => {}
                }
                routed.model = asked.or(self.default_model.as_ref()).cloned();
                if asked.is_none() && routed.rule.is_none() && routed.model.is_some() {
                    routed.rule = Some(BY_DEFAULT_MODEL.into());
                }
            }
        }
    }

    fn context(&self, facts: &RouteFacts<'_>, asked: Option<&ModelId>) -> Context<'static, 'static> {
        let mut context = Context::with_env(ENVIRONMENT.clone());
        context.add_variable_from_value("request", request(facts));
        context.add_variable_from_value("workspace", workspace(facts));
        context.add_variable_from_value("plan", map([("id", facts.plan.as_str().into())]));
        context.add_variable_from_value("now", now(facts.now));
        if self.needs_budgets(asked) {
            context.add_variable_from_value("budgets", budgets(facts.budgets));
        }
        context
    }
}

fn map<'k>(members: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    let members: HashMap<Key, Value> = members.into_iter().map(|(key, value)| (key.into(), value)).collect();
    Value::Map(Map { map: Arc::new(members) })
}

fn request(facts: &RouteFacts<'_>) -> Value {
    let ask = facts.ask;
    let attributes = facts
        .attributes
        .iter()
        .filter_map(|(name, value)| Some((name.as_str(), scalar(value)?)));
    let tags = ask.tags.iter().map(|(name, value)| (name.as_str(), value.as_str().into()));
    let user = ask.user.as_ref().map(|user| ("user_id", user.as_str().into()));
    let output = ask.max_output_tokens.map(|tokens| ("max_output_tokens", tokens.into()));
    let delay = facts.max_delay_seconds.map(|seconds| ("max_delay_seconds", seconds.into()));
    let weak = facts.weak_suffices.map(|p| (WEAK_SUFFICES, Value::Float(p)));
    let complexity = facts.weak_suffices.map(|p| (COMPLEXITY, Value::Float(1.0 - p)));
    let tier = match facts.llm {
        LlmTier::Told(tier) => Some((LLM_TIER, tier.into())),
        LlmTier::NotAsked | LlmTier::Unknown => None,
    };
    let sometimes = [user, output, delay, weak, complexity, tier].into_iter().flatten();
    let always = [
        ("feature", ask.feature.as_str().into()),
        ("model", ask.model.as_str().into()),
        ("input_tokens", ask.input_tokens.into()),
        ("mode", ask.mode.as_str().into()),
        ("requests", ask.requests.into()),
        ("attributes", map(attributes)),
        ("tags", map(tags)),
        ("allow_batch", ask.allow_batch.into()),
    ];
    map(always.into_iter().chain(sometimes))
}

/// A flat attribute; lists and objects are not for routing.
fn scalar(value: &serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::Bool(value) => Some((*value).into()),
        serde_json::Value::String(text) => Some(text.as_str().into()),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(value) => Some(value.into()),
            None => number.as_f64().map(Value::Float),
        },
        _ => None,
    }
}

fn workspace(facts: &RouteFacts<'_>) -> Value {
    let tags = facts.tags.iter().map(|(name, value)| (name.as_str(), value.as_str().into()));
    map([
        ("id", facts.ask.workspace.as_str().into()),
        ("plan", facts.plan.as_str().into()),
        ("seats", facts.seats.into()),
        ("tags", map(tags)),
    ])
}

fn budgets(budgets: &[BudgetFacts<'_>]) -> Value {
    map(budgets.iter().map(|budget| (budget.id.as_str(), budget_value(budget))))
}

fn budget_value(budget: &BudgetFacts<'_>) -> Value {
    let shown = |amount: i64| match budget.unit {
        Unit::Usd => Value::Int(amount.div_euclid(NANOS_PER_MICRO)),
        _ => Value::Int(amount),
    };
    let soft = budget.soft.map(|soft| ("soft", shown(soft)));
    let hard = budget.hard.map(|hard| ("hard", shown(hard)));
    let share = budget.hard.map(|hard| ("share", share(budget.balance, hard)));
    let always = [("spent", shown(budget.balance.spent)), ("held", shown(budget.balance.held))];
    map(always.into_iter().chain(soft).chain(hard).chain(share))
}

/// What is used of a limit, in steps of a ten-thousandth; all of it where the limit is zero.
fn share(balance: Balance, hard: i64) -> Value {
    let used = i128::from(balance.spent) + i128::from(balance.held);
    let steps = match hard {
        0 => i128::from(Ratio::DENOMINATOR),
        hard => (used * i128::from(Ratio::DENOMINATOR)).div_euclid(i128::from(hard)),
    };
    let steps = i32::try_from(steps.max(0)).unwrap_or(i32::MAX);
    Value::Float(f64::from(steps) / 10_000.0)
}

fn now(now: Timestamp) -> Value {
    let zoned = now.to_jiff().to_zoned_datetime(jiff::tz::TimeZone::UTC);
    let number = |number: i8| i64::from(number).into();
    map([
        ("year", i64::from(zoned.year()).into()),
        ("month", number(zoned.month())),
        ("day", number(zoned.day())),
        ("weekday", number(zoned.weekday().to_monday_one_offset())),
        ("hour", number(zoned.hour())),
        ("minute", number(zoned.minute())),
        ("unix", zoned.timestamp().as_second().into()),
    ])
}

#[cfg(test)]
mod tests;
