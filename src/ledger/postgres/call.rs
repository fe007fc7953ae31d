//! One call of `post_batch_watched`: writes as arrays, its answer as an outcome for each of them.
//!
//! Nothing is decided here. What a reservation or a sum is like is read and judged by the function, behind the workspaces' locks.

use super::fault::Fault;
use super::{Connection, sql};
use crate::counters::SumRow;
use crate::decision::counter::Counter;
use crate::decision::entry::Entry;
use crate::decision::grant::Purse;
use crate::decision::id::WorkspaceId;
use crate::ledger::record::{CheckpointRecord, EntryRecord, SumRecord, hex, user_column};
use crate::ledger::{Naming, Post};
use serde::Serialize;
use std::collections::BTreeSet;

/// A write of a batch.
#[derive(Clone, Copy)]
pub(super) enum Write<'a> {
    Post(&'a Post),
    Name(&'a Naming),
}

/// What became of a write.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Written; the rows that it met or named, and what grants have left that paid for it.
    Done(Vec<SumRow>, Vec<Purse>),
    /// Decided on another revision; nothing was written.
    Stands,
    /// Its workspace does not exist; nothing was written.
    Absent,
}

/// The arguments, column by column. Items are of the post whose number, from 1, stands in the group's `post`.
#[derive(Default)]
struct Columns {
    workspaces: Vec<String>,
    posts: Posts,
    entries: Documents,
    checkpoints: Documents,
    uses: Uses,
    named: Named,
}

#[derive(Default)]
struct Posts {
    workspace: Vec<String>,
    reservation: Vec<Option<String>>,
    request: Vec<Option<String>>,
    revision: Vec<i64>,
    end: Vec<Option<&'static str>>,
    entry: Vec<Option<String>>,
    entry_at: Vec<Option<i64>>,
    fingerprint: Vec<Option<String>>,
}

/// Rows of a table as JSON, by the names of their columns.
#[derive(Default)]
struct Documents {
    post: Vec<i32>,
    doc: Vec<String>,
}

#[derive(Default)]
struct Uses {
    post: Vec<i32>,
    workspace: Vec<String>,
    user: Vec<String>,
    feature: Vec<String>,
    at: Vec<i64>,
    tokens: Vec<i64>,
    usd: Vec<i64>,
    requests: Vec<i64>,
    credits: Vec<i64>,
}

#[derive(Default)]
struct Named {
    post: Vec<i32>,
    workspace: Vec<String>,
    user: Vec<String>,
    feature: Vec<String>,
    unit: Vec<&'static str>,
    kind: Vec<&'static str>,
    start: Vec<i64>,
    end: Vec<i64>,
    floor: Vec<Option<i64>>,
}

/// A row of the answer. Of the kinds that have no sum its columns are empty.
#[derive(sqlx::FromRow)]
struct AnswerRow {
    answer: String,
    posts: Vec<i32>,
    #[sqlx(flatten)]
    sum: SumRecord,
}

/// Who tells of the levels that a batch reaches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Teller {
    /// Nobody: if it reaches one, nothing of it is written, and [`Fault::is_level`].
    Nobody,
    /// Its caller, in the same transaction.
    Caller,
}

/// Has these writes done, all or none, and tells what became of each, in their order. No reservation may stand in it twice.
pub(super) async fn post_batch(connection: &mut Connection, writes: &[Write<'_>], teller: Teller) -> Result<Vec<Outcome>, Fault> {
    let columns = Columns::of(writes, teller);
    let (posts, entries, checkpoints, uses, named) = (columns.posts, columns.entries, columns.checkpoints, columns.uses, columns.named);
    // The order of the function's parameters.
    let call = sqlx::query_as::<_, AnswerRow>(sql::POST_BATCH).bind(columns.workspaces);
    let call = call
        .bind(posts.workspace)
        .bind(posts.reservation)
        .bind(posts.request)
        .bind(posts.revision);
    let call = call.bind(posts.end).bind(posts.entry).bind(posts.entry_at).bind(posts.fingerprint);
    let call = call
        .bind(entries.post)
        .bind(entries.doc)
        .bind(checkpoints.post)
        .bind(checkpoints.doc);
    let call = call
        .bind(uses.post)
        .bind(uses.workspace)
        .bind(uses.user)
        .bind(uses.feature)
        .bind(uses.at);
    let call = call.bind(uses.tokens).bind(uses.usd).bind(uses.requests).bind(uses.credits);
    let call = call.bind(named.post).bind(named.workspace).bind(named.user).bind(named.feature);
    let call = call
        .bind(named.unit)
        .bind(named.kind)
        .bind(named.start)
        .bind(named.end)
        .bind(named.floor);
    outcomes(call.fetch_all(connection).await?, writes.len())
}

impl Columns {
    fn of(writes: &[Write<'_>], teller: Teller) -> Self {
        let mut columns = Self::default();
        let workspaces: BTreeSet<&WorkspaceId> = writes.iter().map(Write::workspace).collect();
        columns.workspaces = workspaces.into_iter().map(WorkspaceId::to_string).collect();
        for (number, write) in (1..).zip(writes) {
            columns.posts.push(*write);
            match write {
                Write::Post(post) => columns.push_post(number, post, teller),
                Write::Name(naming) => columns.named.push(number, &naming.workspace, &naming.counters, |_| None),
            }
        }
        columns
    }

    fn push_post(&mut self, number: i32, post: &Post, teller: Teller) {
        for entry in &post.entries {
            debug_assert_eq!(entry.workspace_id, post.workspace, "an entry is of its post's workspace");
            self.entries.push(number, &EntryRecord::from(entry));
            self.uses.push(number, entry);
        }
        if let Some(checkpoint) = &post.checkpoint {
            self.checkpoints.push(number, &CheckpointRecord::new(post.reservation, checkpoint));
            self.uses.push(number, &checkpoint.entry);
        }
        let is_watched = teller == Teller::Nobody && !post.tells.watches.is_empty();
        let floor = |counter: &Counter| is_watched.then(|| post.floor(counter)).flatten();
        self.named.push(number, &post.workspace, &post.counters, floor);
    }
}

impl Posts {
    fn push(&mut self, write: Write<'_>) {
        let post = match write {
            Write::Post(post) => Some(post),
            Write::Name(_) => None,
        };
        let entry = post.and_then(|post| post.entries.first());
        self.workspace.push(write.workspace().to_string());
        self.reservation.push(post.map(|post| post.reservation.to_string()));
        self.request.push(post.map(|post| post.request_id.to_string()));
        self.revision.push(post.map_or(0, |post| post.revision));
        self.end.push(post.and_then(|post| post.end).map(|end| end.as_str()));
        self.entry.push(entry.map(|entry| entry.entry_id.to_string()));
        self.entry_at.push(entry.map(|entry| entry.occurred_at.micros()));
        self.fingerprint.push(post.and_then(|post| post.fingerprint).map(hex));
    }
}

impl Documents {
    fn push(&mut self, post: i32, record: &impl Serialize) {
        self.post.push(post);
        self.doc
            .push(serde_json::to_string(record).expect("a record has text keys, text, integers and booleans"));
    }
}

impl Uses {
    fn push(&mut self, post: i32, entry: &Entry) {
        self.post.push(post);
        self.workspace.push(entry.workspace_id.to_string());
        self.user.push(user_column(entry).to_owned());
        self.feature.push(entry.feature.to_string());
        self.at.push(entry.occurred_at.micros());
        self.tokens.push(entry.counted.tokens);
        self.usd.push(entry.counted.usd);
        self.requests.push(entry.counted.requests);
        self.credits.push(entry.counted.credits);
    }
}

impl Named {
    fn push(&mut self, post: i32, workspace: &WorkspaceId, counters: &[Counter], floor: impl Fn(&Counter) -> Option<i64>) {
        for counter in counters {
            self.post.push(post);
            self.workspace.push(workspace.to_string());
            self.user.push(counter.whose.column().to_owned());
            self.feature.push(counter.feature_column().to_owned());
            self.unit.push(counter.unit.as_str());
            self.kind.push(counter.kind.as_str());
            self.start.push(counter.period.start.micros());
            self.end.push(counter.period.end.micros());
            self.floor.push(floor(counter));
        }
    }
}

impl Write<'_> {
    pub(super) fn workspace(&self) -> &WorkspaceId {
        match self {
            Write::Post(post) => &post.workspace,
            Write::Name(naming) => &naming.workspace,
        }
    }
}

fn outcomes(answers: Vec<AnswerRow>, writes: usize) -> Result<Vec<Outcome>, Fault> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    outcomes.resize_with(writes, || Outcome::Done(Vec::new(), Vec::new()));
    for answer in answers {
        let places = answer.posts.iter().map(|number| usize::try_from(*number - 1).unwrap_or(usize::MAX));
        let places: Vec<usize> = places.filter(|place| *place < writes).collect();
        match answer.answer.as_str() {
            "stands" => places.into_iter().for_each(|place| outcomes[place] = Outcome::Stands),
            "absent" => places.into_iter().for_each(|place| outcomes[place] = Outcome::Absent),
            _ => {
                let (_, row) = answer.sum.read()?;
                for place in places {
                    if let Outcome::Done(rows, _) = &mut outcomes[place] {
                        rows.push(row.clone());
                    }
                }
            }
        }
    }
    for outcome in &mut outcomes {
        if let Outcome::Done(rows, _) = outcome {
            rows.sort_unstable_by(|a, b| a.counter.cmp(&b.counter));
        }
    }
    Ok(outcomes)
}
