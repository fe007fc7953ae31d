//! A batch of writes from the queue to its answers: what to do when one of them spoils it, when others hold a lock, when a workspace does
//! not exist yet, and when a reservation stands otherwise than its writer thought.

use super::call::{self, Outcome, Teller, Write};
use super::fault::Fault;
use super::writer::{Job, Line};
use super::{Connection, paid, read, sql};
use crate::counters::SumRow;
use crate::decision::grant::Purse;
use crate::decision::id::{ReservationId, WorkspaceId};
use crate::decision::standing::Standing;
use crate::decision::time::Timestamp;
use crate::decision::workspace::Workspace;
use crate::ledger::record::WorkspaceRecord;
use crate::ledger::{Post, Posted};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How long a batch is tried again while others hold what it needs; then its callers are told to come back.
const CONTENTION_SECONDS_MAX: u64 = 5;
/// How long it waits before it tries again.
const TRY_AGAIN_MILLIS: u64 = 5;

/// Writes the jobs in a task of their own, and returns the line; after a panic one that connects anew.
pub(super) async fn write_apart(mut line: Line, jobs: Vec<Job>) -> Line {
    let anew = line.anew();
    let batch = async move {
        write(&mut line, jobs).await;
        line
    };
    tokio::spawn(batch).await.unwrap_or_else(|failure| {
        tracing::error!(%failure, "a batch of the ledger's writes failed");
        anew
    })
}

/// Writes the jobs and answers their callers.
async fn write(line: &mut Line, jobs: Vec<Job>) {
    let give_up = Instant::now() + Duration::from_secs(CONTENTION_SECONDS_MAX);
    // A reservation stands in a call once: the second write of it must see what became of the first one.
    let mut rounds: Vec<Vec<Job>> = Vec::new();
    let mut seen: HashMap<ReservationId, usize> = HashMap::new();
    for job in jobs {
        let round = match &job {
            Job::Post(call) => {
                let next = seen.entry(call.ask.reservation).or_insert(0);
                *next += 1;
                *next - 1
            }
            _ => 0,
        };
        if rounds.len() <= round {
            rounds.push(Vec::new());
        }
        rounds[round].push(job);
    }
    // Those that grants may pay for, or that something may have to be told of, take a few turns more, which the others do not wait for.
    let mut rounds: Vec<(Way, Vec<Job>)> = rounds.into_iter().flat_map(by_way).collect();
    rounds.reverse();
    while let Some((way, mut part)) = rounds.pop() {
        match attempt(line, way, &part).await {
            Ok(outcomes) => rounds.extend(settle(line, part, outcomes).await.map(|part| (way, part))),
            // It reached what nobody foresaw, and nothing of it was kept.
            Err(fault) if fault.is_level() => rounds.push((Way::InTurns, part)),
            // Nothing of it was kept. In halves, each write meets in the end no fault but its own.
            Err(fault) if part.len() > 1 && fault.blames_one() => {
                let half = part.split_off(part.len() / 2);
                rounds.extend([(way, half), (way, part)]);
            }
            // In halves by workspace, those that nobody holds are soon done.
            Err(fault) if fault.keeps_waiting() && is_of_several_workspaces(&part) => {
                let half = split_by_workspace(&mut part);
                rounds.extend([(way, half), (way, part)]);
            }
            Err(fault) if fault.keeps_waiting() && line.aside.is_some() => {
                // What comes after it of the same workspace goes with it, in its order.
                let workspace = part[0].workspace().clone();
                for (_, later) in rounds.iter_mut().rev() {
                    part.extend(later.extract_if(.., |job| *job.workspace() == workspace));
                }
                rounds.retain(|(_, jobs)| !jobs.is_empty());
                line.put_aside(part);
            }
            Err(fault) if fault.is_contention() && Instant::now() < give_up => {
                tokio::time::sleep(Duration::from_millis(TRY_AGAIN_MILLIS)).await;
                rounds.push((way, part));
            }
            Err(fault) => {
                let is_alone = fault.was_said();
                part.into_iter().for_each(|job| job.fail(&fault));
                if !is_alone {
                    // The server is away: what is left would only wait for the same news.
                    rounds.drain(..).flat_map(|(_, part)| part).for_each(|job| job.fail(&fault));
                }
            }
        }
    }
}

/// How a batch is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// In one call that commits by itself.
    AtOnce,
    /// In a transaction of a few turns.
    InTurns,
}

async fn attempt(line: &mut Line, way: Way, jobs: &[Job]) -> Result<Vec<Outcome>, Fault> {
    let writes: Vec<Write<'_>> = jobs.iter().map(Job::write).collect();
    match way {
        Way::AtOnce => {
            line.ask(async |connection| call::post_batch(connection, &writes, Teller::Nobody).await)
                .await
        }
        Way::InTurns => {
            line.ask(async |connection| paid::post_pay_and_tell(connection, &writes).await)
                .await
        }
    }
}

fn by_way(jobs: Vec<Job>) -> impl Iterator<Item = (Way, Vec<Job>)> {
    let (in_turns, at_once): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(Job::takes_turns);
    let both = [(Way::AtOnce, at_once), (Way::InTurns, in_turns)];
    both.into_iter().filter(|(_, jobs)| !jobs.is_empty())
}

fn is_of_several_workspaces(jobs: &[Job]) -> bool {
    jobs.iter().any(|job| job.workspace() != jobs[0].workspace())
}

/// Takes away about half of jobs that are of several workspaces, and no part of one workspace.
fn split_by_workspace(jobs: &mut Vec<Job>) -> Vec<Job> {
    jobs.sort_by(|a, b| a.workspace().cmp(b.workspace()));
    let middle = jobs[jobs.len() / 2].workspace().clone();
    match jobs.partition_point(|job| *job.workspace() < middle) {
        0 => jobs.split_off(jobs.partition_point(|job| *job.workspace() <= middle)),
        boundary => jobs.split_off(boundary),
    }
}

/// Answers everything that is answered. What must be tried again, since its workspace did not exist, comes back.
async fn settle(line: &mut Line, jobs: Vec<Job>, outcomes: Vec<Outcome>) -> Option<Vec<Job>> {
    let (mut refused, mut absent) = (Vec::new(), Vec::new());
    for (job, outcome) in jobs.into_iter().zip(outcomes) {
        match outcome {
            Outcome::Done(rows, purses) => job.done(rows, purses),
            Outcome::Stands => refused.push(job),
            Outcome::Absent => absent.push(job),
        }
    }
    if !refused.is_empty() {
        tell_standings(line, refused).await;
    }
    if absent.is_empty() {
        return None;
    }
    match create_workspaces(line, &absent).await {
        Ok(()) => Some(absent),
        Err(fault) => {
            absent.into_iter().for_each(|job| job.fail(&fault));
            None
        }
    }
}

/// Answers writes that were refused with how their reservations stand now, which may be further than when they were refused.
async fn tell_standings(line: &mut Line, jobs: Vec<Job>) {
    let mut calls = Vec::new();
    for job in jobs {
        match job {
            Job::Post(call) => calls.push(call),
            other => other.fail(&Fault::Unanswered),
        }
    }
    let ids: Vec<ReservationId> = calls.iter().map(|call| call.ask.reservation).collect();
    let mut standings = standings(line, &ids).await;
    if matches!(standings, Err(Fault::Unreadable(_))) && calls.len() > 1 {
        // One that cannot be read is no fault of the others.
        for call in calls {
            let one = self::standings(line, &[call.ask.reservation]).await;
            let answer = one.map(|mut one| stands(&call.ask, one.remove(&call.ask.reservation)));
            call.answer(answer);
        }
        return;
    }
    for call in calls {
        let answer = match &mut standings {
            Ok(standings) => Ok(stands(&call.ask, standings.get(&call.ask.reservation).cloned())),
            Err(fault) => Err(fault.clone()),
        };
        call.answer(answer);
    }
}

fn stands(post: &Post, standing: Option<Standing>) -> Posted {
    Posted::Stands(Box::new(standing.unwrap_or_else(|| post.unheard_of())))
}

async fn standings(line: &mut Line, ids: &[ReservationId]) -> Result<HashMap<ReservationId, Standing>, Fault> {
    let standings = line.ask(async |connection| read::standings(connection, ids).await).await?;
    Ok(standings.into_iter().collect())
}

/// Creates the workspaces of these writes, apart from them and committed before: so that a batch never holds one workspace's lock while it
/// waits for the birth of another one.
async fn create_workspaces(line: &mut Line, jobs: &[Job]) -> Result<(), Fault> {
    let mut new: BTreeMap<&WorkspaceId, Timestamp> = BTreeMap::new();
    for job in jobs {
        new.entry(job.workspace()).or_insert(job.now());
    }
    let new = new.into_iter().map(|(id, now)| Workspace::unknown(id.clone(), now)).collect();
    line.ask(async |connection| create(connection, new).await).await
}

async fn create(connection: &mut Connection, new: Vec<Workspace>) -> Result<(), Fault> {
    let rows: Vec<WorkspaceRecord> = new.iter().map(WorkspaceRecord::from).collect();
    let texts = |column: fn(&WorkspaceRecord) -> &String| rows.iter().map(|row| column(row).clone()).collect::<Vec<_>>();
    let numbers = |column: fn(&WorkspaceRecord) -> i64| rows.iter().map(column).collect::<Vec<_>>();
    let statement = sqlx::query(sql::CREATE_WORKSPACES)
        .bind(texts(|row| &row.workspace_id))
        .bind(texts(|row| &row.seats))
        .bind(texts(|row| &row.status))
        .bind(texts(|row| &row.calendar))
        .bind(texts(|row| &row.overrides))
        .bind(numbers(|row| row.version))
        .bind(numbers(|row| row.created_at))
        .bind(numbers(|row| row.updated_at));
    statement.execute(connection).await?;
    Ok(())
}

impl Job {
    fn write(&self) -> Write<'_> {
        match self {
            Job::Post(call) => Write::Post(&call.ask),
            Job::Name(call) => Write::Name(&call.ask),
            #[cfg(test)]
            Job::Panic => panic!("asked for by a test"),
        }
    }

    fn takes_turns(&self) -> bool {
        matches!(self, Job::Post(call) if !call.ask.charges.is_empty() || call.ask.may_tell())
    }

    pub(super) fn workspace(&self) -> &WorkspaceId {
        match self {
            Job::Post(call) => &call.ask.workspace,
            Job::Name(call) => &call.ask.workspace,
            #[cfg(test)]
            Job::Panic => panic!("asked for by a test"),
        }
    }

    fn now(&self) -> Timestamp {
        match self {
            Job::Post(call) => call.ask.now,
            Job::Name(call) => call.ask.now,
            #[cfg(test)]
            Job::Panic => panic!("asked for by a test"),
        }
    }

    fn done(self, rows: Vec<SumRow>, purses: Vec<Purse>) {
        match self {
            Job::Post(call) => call.answer(Ok(Posted::Done { rows, purses })),
            Job::Name(call) => call.answer(Ok(())),
            #[cfg(test)]
            Job::Panic => {}
        }
    }

    pub(super) fn fail(self, fault: &Fault) {
        match self {
            Job::Post(call) => call.answer(Err(fault.clone())),
            Job::Name(call) => call.answer(Err(fault.clone())),
            #[cfg(test)]
            Job::Panic => {}
        }
    }
}
