//! The life cycle of policies: what files or an earlier version would change, for how many workspaces, and the one way in which it is
//! written. `serve` at its start, the command line and the API all go through [`Proposal`], so each makes the same versions.
//!
//! A change is one transaction of the ledger, which checks once more that nothing changed since it was decided and that no plan goes that a
//! workspace is on. A crash before it changes nothing; one after it leaves the ledger ahead of the nodes, which follow by themselves.

use super::{By, DECIDE_AGAIN_MAX, build, objects_of, raced, refused, written};
use crate::clock::Clock;
use crate::flow::FlowError;
use crate::ledger::{Ledger, PolicyChange};
use crate::policy::Policy;
use crate::policy::compare::{Comparison, PlanCounts, compare, workspaces};
use crate::policy::files::Files;
use crate::policy::object::{self, Change, Object, ObjectId};

/// What a policy shall become.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// What these files say. Plans and models that no file ever named stay: they came through the API.
    Files(&'a Files),
    /// What it was at this version.
    Version(i64),
    /// As it is, with these objects.
    Changes(&'a [Change]),
}

/// Workspaces that a change would leave without a plan.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Stranded {
    /// The plan that they are on; `None`: the default plan, which they have by choosing none.
    pub plan: Option<String>,
    pub workspaces: u64,
}

/// A change that is decided and not yet written.
#[derive(Debug)]
pub struct Proposal {
    pub before: Policy,
    pub after: Policy,
    pub changes: Vec<Change>,
    /// Empty, or it is refused.
    pub stranded: Vec<Stranded>,
    counts: PlanCounts,
}

impl Proposal {
    /// Checks that the whole policy holds together with `changes`, and for whom they are.
    pub async fn new(ledger: &dyn Ledger, before: Policy, changes: Vec<Change>) -> Result<Self, FlowError> {
        let first = changes.first().map_or_else(ObjectId::routing, |(id, _)| id.clone());
        let after = before.with(&changes).map_err(|problems| refused(problems, &first))?;
        let counts = counts(ledger).await?;
        Ok(Self {
            stranded: stranded(&before, &after, &counts),
            before,
            after,
            changes,
            counts,
        })
    }

    /// For people, and for `--json`.
    pub fn comparison(&self) -> Comparison {
        compare(&self.before, &self.after, &self.changes, &self.counts)
    }

    /// Writes it and returns the new version; `None`: the policy, or who is on which plan, has changed since.
    pub async fn write(
        &self,
        ledger: &dyn Ledger,
        by: &By,
        files_hash: Option<String>,
        clock: &dyn Clock,
    ) -> Result<Option<i64>, FlowError> {
        if !self.stranded.is_empty() {
            return Err(FlowError::WouldStrand(self.stranded.clone()));
        }
        let body = |id: &ObjectId| self.before.object(id).map(|object| object.body.clone());
        let change = PolicyChange {
            files_hash,
            ..written(self.before.version, &self.changes, body, by, clock)
        };
        Ok(ledger.change_policy(change).await?)
    }
}

/// What `wanted` would change, which is not written.
pub async fn propose(ledger: &dyn Ledger, wanted: &Wanted<'_>) -> Result<Proposal, FlowError> {
    let state = ledger.policy().await?;
    let present = objects_of(&state);
    let changes = match wanted {
        Wanted::Files(files) => object::apply_files(&present, &files.objects()),
        Wanted::Version(version) => object::diff(&present, &at(ledger, *version).await?),
        Wanted::Changes(changes) => real(changes, &present),
    };
    Proposal::new(ledger, build(state)?, changes).await
}

/// Makes the policy what is wanted, and returns what that changed and the version in force. `expected`: the policy version that the caller
/// saw; another one refuses. Where nothing changes, no version is made.
pub async fn apply(
    ledger: &dyn Ledger,
    wanted: &Wanted<'_>,
    by: &By,
    expected: Option<i64>,
    clock: &dyn Clock,
) -> Result<(Proposal, i64), FlowError> {
    for _ in 0..DECIDE_AGAIN_MAX {
        let proposal = propose(ledger, wanted).await?;
        let version = proposal.before.version;
        if let Some(expected) = expected.filter(|expected| *expected != version) {
            return Err(FlowError::Raced {
                what: format!("the policy, which is at version {version} and no longer at {expected},"),
            });
        }
        let files_hash = match wanted {
            Wanted::Files(files) => Some(files.hash()),
            Wanted::Version(_) | Wanted::Changes(_) => None,
        };
        let is_known = match &files_hash {
            Some(hash) => ledger.policy().await?.files_hash.as_ref() == Some(hash),
            None => true,
        };
        if proposal.changes.is_empty() && is_known {
            return Ok((proposal, version));
        }
        if let Some(version) = proposal.write(ledger, by, files_hash, clock).await? {
            return Ok((proposal, version));
        }
    }
    Err(raced())
}

/// The objects of an earlier version.
async fn at(ledger: &dyn Ledger, version: i64) -> Result<Vec<Object>, FlowError> {
    let state = ledger.policy_at(version).await?;
    Ok(objects_of(&state.ok_or(FlowError::NoSuchVersion(version))?))
}

/// Of `changes` those that change something.
fn real(changes: &[Change], present: &[Object]) -> Vec<Change> {
    let body = |id: &ObjectId| present.iter().find(|object| object.id == *id).map(|object| &object.body);
    changes.iter().filter(|(id, new)| body(id) != new.as_ref()).cloned().collect()
}

async fn counts(ledger: &dyn Ledger) -> Result<PlanCounts, FlowError> {
    let mut counts = PlanCounts::default();
    for (plan, count) in ledger.workspaces_by_plan().await? {
        match plan {
            Some(plan) => {
                counts.by_plan.insert(plan, count);
            }
            None => counts.without = count,
        }
    }
    Ok(counts)
}

/// Who has a plan before and none after.
fn stranded(before: &Policy, after: &Policy, counts: &PlanCounts) -> Vec<Stranded> {
    let mut gone: Vec<&str> = before
        .plans
        .keys()
        .filter(|plan| !after.plans.contains_key(*plan))
        .map(|plan| plan.as_str())
        .collect();
    gone.sort_unstable();
    let mut stranded: Vec<Stranded> = gone
        .into_iter()
        .map(|plan| Stranded {
            plan: Some(plan.to_owned()),
            workspaces: counts.on(plan),
        })
        .collect();
    if before.default_plan.is_some() && after.default_plan.is_none() {
        stranded.push(Stranded {
            plan: None,
            workspaces: counts.without,
        });
    }
    stranded.retain(|stranded| stranded.workspaces > 0);
    stranded
}

/// What stands in the way, and what to do about it.
pub fn stranded_words(stranded: &[Stranded]) -> String {
    let words = |stranded: &Stranded| match &stranded.plan {
        Some(plan) => format!(
            "plan {plan} would go, and {} on it: keep the plan, or give them another one first (plan_id)",
            are(stranded.workspaces)
        ),
        None => format!(
            "default_plan would go, and {} on it by having no plan of their own: keep it, or name another default_plan",
            are(stranded.workspaces)
        ),
    };
    let words: Vec<String> = stranded.iter().map(words).collect();
    format!(
        "nothing was changed, because workspaces would be left without a plan: {}",
        words.join("; ")
    )
}

fn are(count: u64) -> String {
    format!("{} {}", workspaces(count), if count == 1 { "is" } else { "are" })
}
