//! Evaluate: one node compares what everybody used lately with what is usual, and begins what rules say. A crash costs one round; the next
//! leader finds the same, and an action that was begun is not begun twice.

use super::{FlowError, Service, begin, end_without_rule, follow, gather};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::anomaly::baseline::{Cohort, HISTORY_HOURS, HOUR_SECONDS, History, Usual, hour_of};
use crate::decision::anomaly::{Action, OVER_MINUTES_MAX, Observed, Rule, Watch, is_excess};
use crate::decision::counter::Whose;
use crate::decision::id::{FairUseId, PlanId, WorkspaceId};
use crate::decision::plan::{Plan, Scope};
use crate::decision::time::Timestamp;
use crate::flow::workspace;
use crate::ledger::Lead;
use crate::ledger::fair_use::{HOUR, MINUTE, Used};
use crate::ledger::slices::{self, Cleared};
use crate::policy::Policy;
use foldhash::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name under which nodes agree on who does it.
const LEAD: &str = "fair_use";
/// How many workspaces, or users, are looked at in one round for one window, and how many of them are read at once. Where there are more, the
/// next round goes on behind them.
const CANDIDATES_MAX: usize = 5_000;
const CANDIDATES_AT_ONCE: usize = 500;
/// How many others make a cohort at most.
const COHORT_MAX: usize = 1_000;
/// How many histories are remembered until the hour ends, some 16 kB each.
const HISTORIES_MAX: usize = 2_000;
/// In which of its rounds the leader deletes what is too old: ten minutes apart.
const PRUNE_EVERY_ROUNDS: u32 = 60;
/// How many rows of each kind are deleted in one step, and for how long one round does so; what is left the next round goes on with.
const PRUNE_ROWS: usize = 20_000;
const PRUNE_SECONDS_MAX: i64 = 2;
const MICROS: i64 = 1_000_000;

/// What a node remembers from round to round.
#[derive(Default)]
pub struct Evaluator {
    lead: Option<Box<dyn Lead>>,
    rounds: u32,
    /// The time was over before all that no window reaches any more had gone.
    is_behind: bool,
    /// Where the next round goes on, of windows that more fill than one round looks at.
    places: BTreeMap<Window, (WorkspaceId, Whose)>,
    remembered: Remembered,
}

/// What is usual changes with the hour.
#[derive(Default)]
struct Remembered {
    hour: i64,
    histories: HashMap<(WorkspaceId, Whose), Arc<History>>,
    cohorts: HashMap<(PlanId, bool, i64), Vec<Amounts>>,
}

/// Whether of users, and over how many minutes.
type Window = (bool, i64);

/// Rules that look at the same window of the same kind of subject are answered by one question.
type Windows = BTreeMap<Window, Amounts>;

impl Evaluator {
    /// One round: writes what this node gathered, and looks at what all have if it leads. Returns how many actions began.
    pub async fn round(&mut self, service: &Service) -> Result<usize, FlowError> {
        let flushed = gather::flush(service).await;
        let held = match &mut self.lead {
            Some(lead) => lead.is_held().await,
            None => false,
        };
        if !held {
            self.lead = service.ledger.try_lead(LEAD).await?;
        }
        if self.lead.is_none() {
            return flushed.map(|_| 0);
        }
        end_without_rule(service).await?;
        let begun = self.evaluate(service).await?;
        if self.is_behind || self.rounds.is_multiple_of(PRUNE_EVERY_ROUNDS) {
            self.is_behind = !prune(service).await?.is_all;
        }
        self.rounds = self.rounds.wrapping_add(1);
        flushed.map(|_| begun)
    }

    async fn evaluate(&mut self, service: &Service) -> Result<usize, FlowError> {
        let (policy, now) = (service.policy.load(), service.clock.now());
        self.remembered.renew(now);
        let mut begun = 0;
        for ((of_users, over_minutes), least) in windows(&policy) {
            // The minute that has begun counts as the last one.
            let minute = now.micros().div_euclid(MINUTE * MICROS) - (over_minutes - 1);
            let begins = Timestamp::from_micros(minute * MINUTE * MICROS);
            let window = (begins, begins.plus_seconds(over_minutes * MINUTE));
            let looks_at = (of_users, over_minutes);
            let mut place = self.places.remove(&looks_at);
            for _ in 0..CANDIDATES_MAX / CANDIDATES_AT_ONCE {
                let page = service
                    .ledger
                    .usage_since(of_users, window.0, least, place.as_ref(), CANDIDATES_AT_ONCE)
                    .await?;
                for used in &page {
                    let Some(workspace) = workspace::find(service, &used.workspace).await? else {
                        continue;
                    };
                    let Some(plan) = policy.plan(workspace.plan_id.as_ref()) else {
                        continue;
                    };
                    for rule in &plan.fair_use {
                        begun += usize::from(self.consider(service, plan, rule, looks_at, window, used).await?);
                    }
                }
                place = page.last().map(|used| (used.workspace.clone(), used.whose.clone()));
                if page.len() < CANDIDATES_AT_ONCE {
                    place = None;
                    break;
                }
            }
            self.places.extend(place.map(|place| (looks_at, place)));
        }
        if begun > 0 {
            follow(service).await?;
        }
        Ok(begun)
    }

    /// Whether `rule` began an action.
    async fn consider(
        &mut self,
        service: &Service,
        plan: &Plan,
        rule: &Rule,
        looked_at: Window,
        window: (Timestamp, Timestamp),
        used: &Used,
    ) -> Result<bool, FlowError> {
        let Watch::Use {
            unit,
            scope,
            over_minutes,
            ratio,
            min_amount,
        } = rule.watch
        else {
            return Ok(false);
        };
        if (scope == Scope::User, over_minutes) != looked_at || used.amounts.of(unit) < min_amount {
            return Ok(false);
        }
        let (mut from, until) = window;
        let now = service.clock.now();
        let mut action = Action {
            id: FairUseId::from_uuid(service.clock.uuid()),
            workspace: used.workspace.clone(),
            whose: used.whose.clone(),
            feature: None,
            rule: rule.name.to_string(),
            plan: plan.id.clone(),
            act: rule.act.clone(),
            shadow: rule.shadow,
            observed: Observed {
                unit,
                amount: used.amounts.of(unit),
                typical: None,
                window_seconds: over_minutes * MINUTE,
            },
            started_at: now,
            ends_at: now.plus_seconds(rule.for_seconds),
            ended_at: None,
        };
        match service.ledger.last_end(&action).await? {
            Some(end) if end > now => return Ok(false),
            // What led to the action before is not held against anybody twice.
            Some(end) if end > from => {
                from = end;
                let since = service.ledger.usage_of(&used.workspace, &used.whose, MINUTE, end).await?;
                action.observed.amount = since.iter().map(|used| used.amounts.of(unit)).fold(0, i64::saturating_add);
            }
            _ => {}
        }
        if ratio.is_some() {
            let usual = self.remembered.usual(service, plan, used, unit, (from, until)).await?;
            // Of whom nothing is known the least amount is thought to be usual.
            let usual = usual.unwrap_or(Usual {
                typical: min_amount,
                spread: 0,
            });
            if !is_excess(ratio, min_amount, action.observed.amount, usual) {
                return Ok(false);
            }
            action.observed.typical = Some(usual.typical);
        } else if action.observed.amount < min_amount {
            return Ok(false);
        }
        begin(service, &action).await
    }
}

/// What must be asked, with the least that any rule is about.
fn windows(policy: &Policy) -> Windows {
    let mut windows = Windows::new();
    for rule in policy.plans.values().flat_map(|plan| &plan.fair_use) {
        if let Watch::Use {
            unit,
            scope,
            over_minutes,
            min_amount,
            ..
        } = rule.watch
        {
            let least = windows.entry((scope == Scope::User, over_minutes)).or_insert(Amounts::MAX);
            match unit {
                Unit::Usd => least.usd = least.usd.min(min_amount),
                Unit::Requests => least.requests = least.requests.min(min_amount),
                Unit::Tokens | Unit::Credits => least.tokens = least.tokens.min(min_amount),
            }
        }
    }
    windows
}

impl Remembered {
    fn renew(&mut self, now: Timestamp) {
        let hour = hour_of(now);
        if self.hour != hour || self.histories.len() > HISTORIES_MAX {
            *self = Self { hour, ..Self::default() };
        }
    }

    async fn usual(
        &mut self,
        service: &Service,
        plan: &Plan,
        used: &Used,
        unit: Unit,
        (from, to): (Timestamp, Timestamp),
    ) -> Result<Option<Usual>, FlowError> {
        let history = self.history(service, used).await?;
        if let Some(usual) = history.usual(unit, from, to) {
            return Ok(Some(usual));
        }
        let of_users = used.whose != Whose::Workspace;
        let mut cohort = Cohort::default();
        for hour in Cohort::hours_of(from, to) {
            let key = (plan.id.clone(), of_users, hour);
            if !self.cohorts.contains_key(&key) {
                let at = Timestamp::from_micros(hour * HOUR_SECONDS * MICROS);
                let others = service.ledger.usage_of_plan(&plan.id, of_users, at, COHORT_MAX).await?;
                self.cohorts.insert(key.clone(), others);
            }
            cohort.hours.push((hour, self.cohorts.get(&key).cloned().unwrap_or_default()));
        }
        Ok(cohort.usual(unit, from, to))
    }

    async fn history(&mut self, service: &Service, used: &Used) -> Result<Arc<History>, FlowError> {
        let key = (used.workspace.clone(), used.whose.clone());
        if let Some(history) = self.histories.get(&key) {
            return Ok(history.clone());
        }
        let from = Timestamp::from_micros((self.hour - HISTORY_HOURS) * HOUR_SECONDS * MICROS);
        let rows = service.ledger.usage_of(&used.workspace, &used.whose, HOUR, from).await?;
        let hours: Vec<(i64, Amounts)> = rows.iter().map(|used| (hour_of(used.starts_at), used.amounts)).collect();
        let since = hours.first().map_or(self.hour, |(hour, _)| *hour);
        let history = Arc::new(History::new(hours, since));
        self.histories.insert(key, history.clone());
        Ok(history)
    }
}

/// Deletes what no window and no history reaches any more.
async fn prune(service: &Service) -> Result<Cleared, FlowError> {
    let now = service.clock.now();
    let minutes_before = now.plus_seconds(-(OVER_MINUTES_MAX + 5) * MINUTE);
    let hours_before = now.plus_seconds(-(HISTORY_HOURS + 2) * HOUR);
    let slice = |limit| service.ledger.prune_usage(minutes_before, hours_before, limit);
    Ok(slices::clear(|| service.clock.now(), PRUNE_SECONDS_MAX, PRUNE_ROWS, slice).await?)
}
