//! When budgets that are full of holds free up, as denials tell it. The store has to look through a workspace's holds for that, and whoever was
//! refused may ask again at once; so what it answered is kept for a moment, and a loop of refused requests asks it ten times a second.
//!
//! What is kept is how much of a counter comes free and when. That depends on its holds alone, neither on what is asked for nor on what is
//! spent, and more never comes free before less does: between two amounts with the same answer there is no other.

use super::{FlowError, Service};
use crate::counters::CountersError;
use crate::decision::counter::{Balance, Counter};
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;
use crate::decision::verdict::Short;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long an answer is kept.
const KEPT_MILLIS: i64 = 100;
/// Of how many counters answers are kept; beyond it, all are forgotten.
const COUNTERS_MAX: usize = 1_024;
/// For how many amounts the store is asked while answers are kept. Whoever asks for more is told a moment that is not too late.
const AMOUNTS_MAX: usize = 64;

/// What this node was told lately.
#[derive(Default)]
pub struct Freeing {
    kept: Mutex<HashMap<(WorkspaceId, Counter), Kept>>,
}

struct Kept {
    since: Timestamp,
    answers: Arc<tokio::sync::Mutex<Answers>>,
}

/// When so much has come free, by how much that is; `None`: not by holds that expire.
#[derive(Default)]
struct Answers(BTreeMap<i64, Option<Timestamp>>);

impl Answers {
    fn told(&self, amount: i64, now: Timestamp) -> Option<Option<Timestamp>> {
        let is_full = self.0.len() >= AMOUNTS_MAX;
        let less = self.0.range(..=amount).next_back();
        let more = self.0.range(amount..).next();
        match (less, more) {
            (Some((_, less)), Some((_, more))) if less == more => Some(*less),
            (Some((_, None)), _) => Some(None),
            (Some((_, less)), _) if is_full => Some(*less),
            (None, _) if is_full => Some(Some(now)),
            _ => None,
        }
    }
}

impl Freeing {
    fn of(&self, workspace: &WorkspaceId, counter: &Counter, now: Timestamp) -> Arc<tokio::sync::Mutex<Answers>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let name = (workspace.clone(), counter.clone());
        // Requests that run at the same time have read the clock in another order.
        let is_fresh = |kept: &Kept| (now.micros() - kept.since.micros()).abs() < KEPT_MILLIS * 1_000;
        if let Some(known) = kept.get(&name).filter(|known| is_fresh(known)) {
            return known.answers.clone();
        }
        if kept.len() >= COUNTERS_MAX {
            kept.clear();
        }
        let answers = Arc::default();
        let new = Kept {
            since: now,
            answers: Arc::clone(&answers),
        };
        kept.insert(name, new);
        answers
    }
}

/// When expiring holds alone make room for a request that found this balance; `None`: they do not.
pub(super) async fn free_at(
    service: &Service,
    workspace: &WorkspaceId,
    counter: &Counter,
    (short, balance): (&Short, Balance),
    now: Timestamp,
) -> Result<Option<Timestamp>, FlowError> {
    let amount = balance.taken().saturating_add(short.need).saturating_sub(short.ceiling);
    let ask = || service.counters.free_at(workspace, counter, short.ceiling, short.need, now);
    let answers = service.freeing.of(workspace, counter, now);
    Ok(kept_or_asked(&answers, amount, now, ask).await?)
}

async fn kept_or_asked<F>(
    answers: &tokio::sync::Mutex<Answers>,
    amount: i64,
    now: Timestamp,
    ask: impl FnOnce() -> F,
) -> Result<Option<Timestamp>, CountersError>
where
    F: Future<Output = Result<Option<Timestamp>, CountersError>>,
{
    // Those that come together wait for one answer, but not one after the other for a store that does not answer.
    let patience = Duration::from_millis(KEPT_MILLIS as u64);
    let Ok(mut answers) = tokio::time::timeout(patience, answers.lock()).await else {
        return ask().await;
    };
    if let Some(told) = answers.told(amount, now) {
        return Ok(told);
    }
    let told = ask().await?;
    answers.0.insert(amount, told);
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::amount::Unit;
    use crate::decision::counter::Whose;
    use crate::decision::period::{Period, PeriodKind};

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    fn after(seconds: i64) -> Option<Timestamp> {
        Some(NOW.plus_seconds(seconds))
    }

    #[test]
    fn between_two_amounts_with_one_answer_there_is_no_other() {
        let answers = Answers(BTreeMap::from([(10, after(60)), (20, after(60)), (30, after(90)), (40, None)]));
        for (amount, told) in [
            (9, None),
            (10, Some(after(60))),
            (15, Some(after(60))),
            (20, Some(after(60))),
            (21, None),
            (30, Some(after(90))),
            (31, None),
            (40, Some(None)),
            (1 << 40, Some(None)),
        ] {
            assert_eq!(answers.told(amount, NOW), told, "{amount}");
        }
    }

    #[tokio::test]
    async fn whoever_asks_for_ever_other_amounts_is_told_nothing_that_is_too_late() {
        let answers = tokio::sync::Mutex::default();
        let mut asked = 0;
        for amount in (1..=1_000).map(|number| 1_000 + number * 7_919 % 1_000) {
            let answer = after(amount);
            let told = kept_or_asked(&answers, amount, NOW, async || {
                asked += 1;
                Ok(answer)
            });
            let told = told.await.expect("an answer");
            assert!(told <= answer, "{amount}: {told:?}");
        }
        assert_eq!(asked, AMOUNTS_MAX);
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let freeing = Freeing::default();
        let counter = Counter {
            whose: Whose::Workspace,
            feature: None,
            unit: Unit::Tokens,
            kind: PeriodKind::Lifetime,
            period: Period {
                start: Timestamp::MIN,
                end: Timestamp::MAX,
            },
        };
        for number in 0..3 * COUNTERS_MAX {
            let workspace = WorkspaceId::parse(&format!("ws-{number}")).expect("a name");
            freeing.of(&workspace, &counter, NOW);
        }
        assert!(freeing.kept.lock().expect("no panic").len() <= COUNTERS_MAX);
    }
}
