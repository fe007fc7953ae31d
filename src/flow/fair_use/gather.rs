//! What was used, gathered in memory by minute and written every few seconds. Bounded: what does not fit is left out of the measure and
//! counted.

use super::Service;
use crate::decision::amount::Amounts;
use crate::decision::anomaly::{OVER_MINUTES_MAX, Watch};
use crate::decision::counter::Whose;
use crate::decision::entry::Entry;
use crate::decision::id::{PlanId, WorkspaceId};
use crate::decision::plan::{Plan, Scope};
use crate::decision::time::Timestamp;
use crate::flow::FlowError;
use crate::ledger::fair_use::{HOUR, MINUTE, Used};
use foldhash::HashMap;
use std::sync::{Mutex, PoisonError};

/// The most minutes of workspaces and users between two flushes: about 20 MB.
const KEYS_MAX: usize = 100_000;
const MICROS: i64 = 1_000_000;

#[derive(PartialEq, Eq, Hash)]
struct Key {
    workspace: WorkspaceId,
    whose: Whose,
    minute: i64,
}

/// By whom and when.
#[derive(Default)]
pub(super) struct Gathered(Mutex<HashMap<Key, (PlanId, Amounts)>>);

impl Gathered {
    /// What an entry counts, in the minute in which it was used. What is told later than any window reaches says nothing of now.
    pub(super) fn add(&self, plan: &Plan, entry: &Entry, now: Timestamp) {
        let minute = entry.occurred_at.micros().div_euclid(MINUTE * MICROS);
        if entry.occurred_at > now || now.micros().div_euclid(MINUTE * MICROS) - minute > OVER_MINUTES_MAX {
            return;
        }
        let of_users = |rule: &crate::decision::anomaly::Rule| matches!(rule.watch, Watch::Use { scope: Scope::User, .. });
        let user = plan.fair_use.iter().any(of_users).then(|| Whose::User(entry.user_id.clone()));
        let mut gathered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for whose in std::iter::once(Whose::Workspace).chain(user) {
            let key = Key {
                workspace: entry.workspace_id.clone(),
                whose,
                minute,
            };
            if gathered.len() >= KEYS_MAX && !gathered.contains_key(&key) {
                metrics::counter!("weir_fair_use_dropped_total").increment(1);
                continue;
            }
            let (known_plan, amounts) = gathered.entry(key).or_insert_with(|| (plan.id.clone(), Amounts::ZERO));
            known_plan.clone_from(&plan.id);
            *amounts = amounts.plus(entry.counted);
        }
    }

    fn take(&self) -> HashMap<Key, (PlanId, Amounts)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Writes what was gathered, each minute also to its hour. What cannot be written is lost: it may have been, and added twice it would be a
/// burst that never was.
pub async fn flush(service: &Service) -> Result<usize, FlowError> {
    let taken = service.fair_use.gathered.take();
    let mut rows: Vec<Used> = Vec::with_capacity(taken.len() * 2);
    let mut hours: HashMap<(WorkspaceId, Whose, i64), (PlanId, Amounts)> = HashMap::default();
    for (key, (plan, amounts)) in taken {
        let hour = key.minute.div_euclid(HOUR / MINUTE);
        let (of_plan, sum) = hours
            .entry((key.workspace.clone(), key.whose.clone(), hour))
            .or_insert_with(|| (plan.clone(), Amounts::ZERO));
        of_plan.clone_from(&plan);
        *sum = sum.plus(amounts);
        rows.push(Used {
            workspace: key.workspace,
            whose: key.whose,
            width_seconds: MINUTE,
            starts_at: Timestamp::from_micros(key.minute * MINUTE * MICROS),
            plan,
            amounts,
        });
    }
    rows.extend(hours.into_iter().map(|((workspace, whose, hour), (plan, amounts))| Used {
        workspace,
        whose,
        width_seconds: HOUR,
        starts_at: Timestamp::from_micros(hour * HOUR * MICROS),
        plan,
        amounts,
    }));
    let count = rows.len();
    let written = service.ledger.add_usage(rows).await;
    if written.is_err() {
        metrics::counter!("weir_fair_use_dropped_total").increment(count as u64);
    }
    written?;
    Ok(count)
}
