//! Tell: what must be told of a post is written with it. One place through which every use goes on its way to the ledger, so that none is
//! counted without its budgets being watched.
//!
//! Whether a level is reached is decided by the ledger, by the sums that its transaction leaves. What this node remembers of them only spares
//! the look: a level that was told is not looked for again, and a post that cannot reach one is written without turns. A node that
//! remembers nothing, or something old, is slower and not wrong.

use super::{FlowError, Service, grant, workspace};
use crate::decision::counter::Counter;
use crate::decision::entry::Entry;
use crate::decision::event::{Event, EventType, UsageData};
use crate::decision::id::{BudgetId, EventId, WorkspaceId};
use crate::decision::level::{self, Watch};
use crate::decision::limits::{Limited, Limits};
use crate::decision::message::Messages;
use crate::decision::plan::Plan;
use crate::decision::time::Timestamp;
use crate::ledger::{Post, Posted};
use foldhash::HashMap;
use foldhash::fast::RandomState;
use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use uuid::Uuid;

/// How many counters are remembered; beyond it, they are forgotten and looked at again.
const SEEN_MAX: usize = 400_000;
const SHARDS: usize = 16;

/// What this node knows of what is to be told.
#[derive(Default)]
pub struct Telling {
    hashers: [RandomState; 2],
    seen: [Mutex<HashMap<u128, Seen>>; SHARDS],
    /// When this node began to look; 0: not yet.
    since: AtomicI64,
    wanted: RwLock<Wanted>,
}

/// What this node knows of a budget's counter.
#[derive(Clone, Copy)]
struct Seen {
    /// Of which limits it is.
    limits: u64,
    /// Everything at or below it was told.
    told: i64,
    spent: i64,
}

/// Who asks for what is only told where somebody does.
#[derive(Default)]
struct Wanted {
    recorded: Askers,
    expired: Askers,
}

/// Of which workspaces an event is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Askers {
    pub of_all: bool,
    pub of: HashSet<WorkspaceId>,
}

impl Askers {
    fn has(&self, workspace: &WorkspaceId) -> bool {
        self.of_all || self.of.contains(workspace)
    }
}

impl From<Vec<Option<WorkspaceId>>> for Askers {
    /// `None` among them: of all.
    fn from(asking: Vec<Option<WorkspaceId>>) -> Self {
        Self {
            of_all: asking.contains(&None),
            of: asking.into_iter().flatten().collect(),
        }
    }
}

/// A watch, and where to note what came of it.
struct Noting {
    key: u128,
    limits: u64,
    counter: Counter,
}

impl Telling {
    /// From now on `usage.recorded` is written for these workspaces and for no others.
    pub fn want_usage_recorded(&self, by: Askers) {
        self.wanted.write().unwrap_or_else(PoisonError::into_inner).recorded = by;
    }

    /// From now on what is held for these workspaces is watched, so that it is told if it expires by itself.
    pub fn want_expired(&self, by: Askers) {
        self.wanted.write().unwrap_or_else(PoisonError::into_inner).expired = by;
    }

    /// Whether somebody asks to be told of each use of a workspace.
    pub fn wants_usage_recorded(&self, workspace: &WorkspaceId) -> bool {
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        wanted.recorded.has(workspace)
    }

    /// Whether somebody asks to be told of holds of a workspace that expire.
    pub fn wants_expired(&self, workspace: &WorkspaceId) -> bool {
        let wanted = self.wanted.read().unwrap_or_else(PoisonError::into_inner);
        wanted.expired.has(workspace)
    }

    fn key(&self, workspace: &WorkspaceId, budget: &BudgetId, counter: &Counter) -> u128 {
        let [high, low] = [0, 1].map(|n| u128::from(self.hashers[n].hash_one((workspace, budget, counter))));
        (high << 64) | low
    }

    fn shard(&self, key: u128) -> MutexGuard<'_, HashMap<u128, Seen>> {
        self.seen[(key % SHARDS as u128) as usize]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, noting: &Noting, spent: i64) {
        let mut seen = self.shard(noting.key);
        if seen.len() >= SEEN_MAX / SHARDS {
            seen.clear();
        }
        let before = seen.get(&noting.key).filter(|seen| seen.limits == noting.limits);
        let told = before.map_or(spent, |seen| seen.told.max(spent));
        let now = Seen {
            limits: noting.limits,
            told,
            spent,
        };
        seen.insert(noting.key, now);
    }

    /// A counter whose period began later than this node did has had nothing that this node could have missed long ago.
    fn is_young(&self, counter: &Counter, now: Timestamp) -> bool {
        let _ = self.since.compare_exchange(0, now.micros(), Ordering::Relaxed, Ordering::Relaxed);
        counter.period.start.micros() >= self.since.load(Ordering::Relaxed)
    }
}

/// Posts a use: with what grants may have to pay of it, and with what is to be told of it.
pub(super) async fn post(service: &Service, post: Post) -> Result<Posted, FlowError> {
    let (post, noting) = prepared(service, post).await?;
    let posted = service.ledger.post(post).await?;
    note(service, &noting, &posted);
    Ok(posted)
}

fn note(service: &Service, noting: &[Noting], posted: &Posted) {
    let Posted::Done { rows, .. } = posted else { return };
    for noting in noting {
        if let Some(row) = rows.iter().find(|row| row.counter == noting.counter) {
            service.telling.note(noting, row.spent);
        }
    }
}

/// The post, with the budgets that its use falls under: by the plan and workspace as they are now, at the moment of the use.
async fn prepared(service: &Service, mut post: Post) -> Result<(Post, Vec<Noting>), FlowError> {
    let open = post.checkpoint.as_ref().map(|checkpoint| &checkpoint.entry);
    let Some(entry) = post.entries.first().or(open) else {
        return Ok((post, Vec::new()));
    };
    let Some(workspace) = workspace::find(service, &post.workspace).await? else {
        return Ok((post, Vec::new()));
    };
    let policy = service.policy.load();
    let Some(plan) = policy.plan(workspace.plan_id.as_ref()) else {
        recorded(service, &mut post);
        return Ok((post, Vec::new()));
    };
    let limits = Limits::of_request(plan, &workspace, &entry.feature, entry.user_id.as_ref(), entry.occurred_at);
    post.charges = grant::charges(service, plan, &workspace, &limits, post.now);
    let noting = watch(service, (plan, &policy.messages), &limits, &mut post);
    recorded(service, &mut post);
    let named: Vec<Counter> = post
        .charges
        .iter()
        .map(|charge| &charge.counter)
        .chain(post.tells.watches.iter().map(|watch| &watch.counter))
        .filter(|counter| !post.counters.contains(counter))
        .cloned()
        .collect();
    for counter in named {
        if !post.counters.contains(&counter) {
            post.counters.push(counter);
        }
    }
    Ok((post, noting))
}

/// The same for a correction, whose use is of the time of what it corrects.
pub(super) async fn watched(service: &Service, post: Post) -> Result<Post, FlowError> {
    let (prepared, _) = prepared(service, post).await?;
    // What a grant paid stays paid.
    Ok(Post {
        charges: Vec::new(),
        ..prepared
    })
}

fn watch(service: &Service, (plan, messages): (&Arc<Plan>, &Arc<Messages>), limits: &Limits, post: &mut Post) -> Vec<Noting> {
    let mut noting = Vec::with_capacity(limits.budgets.len());
    let mut seed = None;
    for limited in &limits.budgets {
        let budget = &plan.budgets[limited.budget];
        if budget.shadow || (limited.soft, limited.hard) == (None, None) {
            continue;
        }
        let counter = &limits.counters[limited.counter];
        let noted = Noting {
            key: service.telling.key(&post.workspace, &budget.id, counter),
            limits: service.telling.hashers[0].hash_one((&plan.id, plan.version, limited.soft, limited.hard)),
            counter: counter.clone(),
        };
        let seen = service.telling.shard(noted.key).get(&noted.key).copied();
        let floor = floor(plan, limited, seen.filter(|seen| seen.limits == noted.limits));
        if let Some(floor) = floor {
            post.tells.watches.push(Watch {
                plan: plan.clone(),
                messages: messages.clone(),
                limited: *limited,
                counter: counter.clone(),
                floor,
                known: seen
                    .map(|seen| seen.spent)
                    .or(service.telling.is_young(counter, post.now).then_some(0)),
                seed: seed_of(*seed.get_or_insert_with(|| service.clock.uuid()), limited),
            });
            noting.push(noted);
        }
    }
    noting
}

/// Of chance that was drawn once, a part for each budget.
fn seed_of(drawn: Uuid, limited: &Limited) -> Uuid {
    Uuid::from_u128(drawn.as_u128() ^ ((limited.budget as u128) << level::SEED_BITS))
}

/// Below which sum nothing is to be told. Grants come and go, so of budgets that have some each level is looked at again.
fn floor(plan: &Plan, limited: &Limited, seen: Option<Seen>) -> Option<i64> {
    let told = seen.filter(|_| !limited.has_grants).map_or(0, |seen| seen.told);
    level::lowest_above(limited, &plan.budgets[limited.budget], told)
}

/// Adds `usage.recorded`, where somebody asks for it.
fn recorded(service: &Service, post: &mut Post) {
    if post.entries.is_empty() || !service.telling.wants_usage_recorded(&post.workspace) {
        return;
    }
    let events = post.entries.iter().map(|entry| {
        let data = serde_json::to_value(usage_data(entry)).unwrap_or_default();
        let id = EventId::from_uuid(service.clock.uuid());
        let once = format!("recorded {}", entry.entry_id);
        Event::new(id, Some(entry.workspace_id.clone()), EventType::UsageRecorded, once, post.now, data)
    });
    post.tells.events.extend(events);
}

fn usage_data(entry: &Entry) -> UsageData {
    UsageData {
        workspace_id: entry.workspace_id.clone(),
        entry_id: entry.entry_id,
        request_id: entry.request_id.clone(),
        reservation_id: entry.reservation_id,
        user_id: entry.user_id.clone(),
        feature: entry.feature.clone(),
        model: entry.model.clone(),
        requests: entry.requests,
        input_tokens: entry.pools.input_tokens,
        output_tokens: entry.pools.output_tokens,
        tokens: entry.counted.tokens,
        credits: entry.counted.credits,
        occurred_at: entry.occurred_at,
    }
}
