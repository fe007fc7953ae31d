//! Batch: many requests to authorize at once, each decided by itself. One round trip of the counters for each workspace, workspaces beside
//! each other; within a workspace the order of the requests decides who gets what is left.
//!
//! Routing rules that look at budgets see them as they were before the batch.

use super::authorize::{Decision, Request, conclude, wanted};
use super::prepare::{Prepared, Ready, prepare};
use super::rebuild::{self, Patience};
use super::{FlowError, Service, cache, cascade, fair_use, run};
use crate::counters::{CountersError, HoldOutcome, HoldRequest};
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::WorkspaceId;
use crate::ledger::LedgerError;
use futures_util::future::join_all;
use std::collections::HashSet;

/// The most requests of one batch.
pub const REQUESTS_MAX: usize = 100;

/// Decides these requests, in their order.
pub async fn authorize_all(service: &Service, requests: Vec<Request>) -> Vec<Result<Decision, FlowError>> {
    let requests: Vec<Request> = requests.into_iter().map(|request| request.avoiding(&service.drained)).collect();
    let mut decided: Vec<Option<Result<Decision, FlowError>>> = Vec::with_capacity(requests.len());
    let mut groups: Vec<(&WorkspaceId, Vec<Waiting<'_>>)> = Vec::new();
    let (called_at, called) = (service.clock.now(), calls(&requests));
    // A language model that rules ask is asked for all at once: one budget of time is enough for them.
    let preparing = requests
        .iter()
        .zip(&called)
        .map(|(request, is_call)| prepare(service, request, *is_call));
    let mut prepared: Vec<_> = join_all(preparing).await;
    if requests.iter().any(|request| request.cache.is_some()) {
        let looks = requests
            .iter()
            .zip(prepared)
            .map(|(request, prepared)| or_answered(service, request, prepared));
        prepared = join_all(looks).await;
    }
    for (place, (request, prepared)) in requests.iter().zip(prepared).enumerate() {
        decided.push(match prepared {
            Ok(Prepared::Decided(decision)) => Some(Ok(*decision)),
            // It draws from its parent, and asks no budget of which others of the batch could take something.
            Ok(Prepared::OfRun(course, parent)) => Some(run::authorize(*course, parent).await),
            Err(error) => Some(Err(error)),
            Ok(Prepared::Ready(ready)) => {
                let waiting = Waiting { place, request, ready };
                let workspace = &request.ask.workspace;
                match groups.iter_mut().find(|(known, _)| *known == workspace) {
                    Some((_, group)) => group.push(waiting),
                    None => groups.push((workspace, vec![waiting])),
                }
                None
            }
        });
    }
    let groups = groups
        .into_iter()
        .map(|(workspace, group)| authorize_group(service, workspace, group));
    for (place, decision) in join_all(groups).await.into_iter().flatten() {
        decided[place] = Some(decision);
    }
    for ((request, is_call), decision) in requests.iter().zip(called).zip(&decided) {
        if let Some(decided) = decision {
            if is_call {
                fair_use::decided(service, request, decided, called_at).await;
            }
            cascade::give_back(service, request, decided).await;
        }
    }
    // Each request is in one group or decided before; none is left out.
    let decided = decided.into_iter().map(|decision| decision.unwrap_or(Err(FlowError::NotFound)));
    let told = requests
        .iter()
        .zip(decided)
        .map(|(request, decided)| cache::told(service, request, decided));
    join_all(told).await
}

/// Which of these requests count as calls where rules watch how fast those come: of each user and feature the first. Who asks for many at once
/// does not go round in circles.
fn calls(requests: &[Request]) -> Vec<bool> {
    let mut known = HashSet::with_capacity(requests.len());
    let asks = requests.iter().map(|request| &request.ask);
    asks.map(|ask| known.insert((&ask.workspace, &ask.user, &ask.feature))).collect()
}

/// The answer that is there already, or the request as it is.
async fn or_answered<'a>(
    service: &'a Service,
    request: &'a Request,
    prepared: Result<Prepared<'a>, FlowError>,
) -> Result<Prepared<'a>, FlowError> {
    match prepared {
        Ok(Prepared::Ready(mut ready)) if request.cache.is_some() => Ok(match cache::instead(service, request, &mut ready).await? {
            Some(given) => Prepared::Decided(Box::new(given)),
            None => Prepared::Ready(ready),
        }),
        prepared => prepared,
    }
}

/// A request that waits for the counters, with its place in the batch.
struct Waiting<'a> {
    place: usize,
    request: &'a Request,
    ready: Box<Ready>,
}

async fn authorize_group(service: &Service, workspace: &WorkspaceId, group: Vec<Waiting<'_>>) -> Vec<(usize, Result<Decision, FlowError>)> {
    let outcomes = hold_all(service, workspace, &group).await;
    let mut decided = Vec::with_capacity(group.len());
    for (waiting, outcome) in group.iter().zip(outcomes) {
        decided.push((waiting.place, conclude(service, &waiting.ready, outcome).await));
    }
    decided
}

/// Holds for requests of one workspace, whatever has to be rebuilt for it.
async fn hold_all(service: &Service, workspace: &WorkspaceId, group: &[Waiting<'_>]) -> Vec<Result<HoldOutcome, FlowError>> {
    let mut outcomes: Vec<Result<HoldOutcome, FlowError>> = group.iter().map(|_| Ok(HoldOutcome::Unready(Vec::new()))).collect();
    let mut left: Vec<usize> = (0..group.len()).collect();
    let mut patience = Patience::default();
    while !left.is_empty() {
        let asked: Vec<HoldRequest> = left
            .iter()
            .map(|place| wanted(service, group[*place].request, &group[*place].ready))
            .collect();
        let answers = service.counters.hold_many(&asked).await;
        for (place, answer) in left.iter().zip(answers) {
            outcomes[*place] = answer.map_err(FlowError::from);
        }
        left.retain(|place| matches!(outcomes[*place], Ok(HoldOutcome::Unready(_))));
        if left.is_empty() {
            break;
        }
        let again = match make_ready(service, workspace, group, &left, &outcomes).await {
            Ok(is_ready) => patience.spend(workspace, is_ready).await,
            Err(error) => Err(error),
        };
        if let Err(error) = again {
            for place in left {
                outcomes[place] = Err(alike(&error, workspace));
            }
            break;
        }
    }
    outcomes
}

/// The failure that all who waited for the same rebuild are told.
fn alike(error: &FlowError, workspace: &WorkspaceId) -> FlowError {
    let cause = || error.to_string().into();
    match error {
        FlowError::Counters(failed) => FlowError::Counters(CountersError {
            act: failed.act,
            cause: cause(),
        }),
        FlowError::Ledger(_) => FlowError::Ledger(LedgerError::Unavailable {
            act: "read sums",
            cause: cause(),
        }),
        _ => FlowError::RebuildTimeout(workspace.clone()),
    }
}

/// Rebuilds what the requests at these places need. False: somebody else is at it.
async fn make_ready(
    service: &Service,
    workspace: &WorkspaceId,
    group: &[Waiting<'_>],
    places: &[usize],
    outcomes: &[Result<HoldOutcome, FlowError>],
) -> Result<bool, FlowError> {
    let (mut unready, mut named): (Vec<Whose>, Vec<Counter>) = (Vec::new(), Vec::new());
    for place in places {
        if let Ok(HoldOutcome::Unready(groups)) = &outcomes[*place] {
            unready.extend(groups.iter().cloned());
        }
        named.extend(group[*place].ready.counters());
    }
    unready.sort_unstable();
    unready.dedup();
    named.sort_unstable();
    named.dedup();
    rebuild::rebuild(service, workspace, &unready, &named).await
}
