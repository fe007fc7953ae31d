//! The ledger of the models: a row, and how each reservation stands. What a report may record, and what it counts, is decided by the
//! functions that the flows ask; a post is refused here as the databases refuse it, if it was decided on what is not so any more.

use super::super::desk::{NOON, counter, workspace};
use crate::counters::SumRow;
use crate::decision::amount::{Amounts, Unit};
use crate::decision::catalogue::Catalogue;
use crate::decision::counter::Counter;
use crate::decision::entry::{Checkpoint, Entry, Outcome};
use crate::decision::id::{EntryId, Feature, ModelId, RequestId, ReservationId, WorkspaceId};
use crate::decision::period::PeriodKind;
use crate::decision::price::Mode;
use crate::decision::settlement::{self, Next, Report, Subject};
use crate::decision::standing::{End, Standing};
use crate::decision::time::Timestamp;
use crate::decision::usage::{Pools, Usage};
use std::collections::BTreeMap;
use std::fmt;

/// What the models are about: a workspace, its counter, and reservations by number.
pub(in super::super) fn of() -> WorkspaceId {
    workspace("ws")
}

pub(in super::super) fn lifetime() -> Counter {
    counter(Unit::Tokens, PeriodKind::Lifetime)
}

pub(in super::super) fn id(number: usize) -> ReservationId {
    ReservationId::derive(&of(), &RequestId::parse(&format!("r{number}")).expect("a key"))
}

/// Of the one report that there is of each reservation.
const FINGERPRINT: u128 = 7;

/// Rules of the ledger that a model may take away.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in super::super) struct Posting {
    /// What was decided on a standing that has changed is not written, so each reservation has one end.
    pub(in super::super) one_end: bool,
    /// What a checkpoint had counted is part of what comes after it.
    pub(in super::super) cumulative: bool,
}

impl Posting {
    pub(in super::super) const ALL: Posting = Posting {
        one_end: true,
        cumulative: true,
    };
}

/// How a reservation stood when it was read.
#[derive(Clone)]
pub(in super::super) struct Seen(Option<Box<Standing>>);

/// What became of a final report.
pub(in super::super) enum Settled {
    Recorded,
    /// It had been recorded before.
    Replayed,
    /// There was another end before.
    Refused(End),
}

#[derive(Clone, Debug)]
pub(in super::super) struct Ledger {
    rules: Posting,
    pub(in super::super) row: SumRow,
    standings: Vec<Seen>,
    /// How much was recorded late, in all.
    pub(in super::super) late: i64,
}

impl fmt::Debug for Seen {
    /// What tells one standing of a model from another, in a few bytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(standing) = &self.0 else { return f.write_str("-") };
        let entry = standing.entry.as_ref().map(|entry| (entry.kind, entry.counted.tokens));
        let checkpoint = standing.checkpoint.as_ref().map(|checkpoint| checkpoint.entry.counted.tokens);
        write!(
            f,
            "{} {:?} {entry:?} {checkpoint:?} {:?}",
            standing.revision, standing.end, standing.fingerprint
        )
    }
}

/// The entry of a report of so many tokens, as the flows make it.
fn entry(id: ReservationId, tokens: i64, at_least: Option<&Pools>, late: bool, now: Timestamp) -> Entry {
    let model = ModelId::parse("model").expect("a name");
    let subject = Subject {
        workspace: of(),
        user: None,
        feature: Feature::parse("feature").expect("a name"),
        request_id: RequestId::parse("r").expect("a key"),
        reservation: Some(id),
        requested_model: model.clone(),
        model,
        mode: Mode::Interactive,
        requests: 1,
        held: Amounts::ZERO,
        occurred_at: NOON,
        plan: None,
        tags: BTreeMap::new(),
        late,
    };
    let pools = Pools {
        output_tokens: tokens,
        ..Pools::default()
    };
    let report = Report {
        model: None,
        usage: Usage::from(pools),
        mode: None,
        requests: None,
        outcome: Outcome::Success,
        latency_ms: None,
        provider_request_id: None,
        quality_score: None,
        other_cost_usd: None,
        billable_outcomes: BTreeMap::new(),
    };
    let id = EntryId::from_uuid(uuid::Uuid::nil());
    settlement::entry(&subject, &report, at_least, &Catalogue::default(), id, now).expect("a small cost")
}

/// A write about a reservation.
struct Post {
    revision: i64,
    end: Option<End>,
    fingerprint: Option<u128>,
    entry: Option<Entry>,
    checkpoint: Option<Checkpoint>,
}

impl Ledger {
    pub(in super::super) fn new(rules: Posting, reservations: usize) -> Self {
        let row = SumRow {
            counter: lifetime(),
            spent: 0,
            version: 1,
            paid: 0,
        };
        Self {
            rules,
            row,
            standings: vec![Seen(None); reservations],
            late: 0,
        }
    }

    pub(in super::super) fn seen(&self, number: usize) -> Seen {
        self.standings[number].clone()
    }

    fn standing(&self, number: usize) -> Option<&Standing> {
        self.standings[number].0.as_deref()
    }

    pub(in super::super) fn end(&self, number: usize) -> Option<End> {
        self.standing(number)?.end
    }

    /// What the last checkpoint counted, of a reservation that has not ended.
    pub(in super::super) fn checkpoint(&self, number: usize) -> Option<&Checkpoint> {
        self.standing(number)?.checkpoint.as_ref()
    }

    /// Adds what nobody held.
    pub(in super::super) fn add(&mut self, amount: i64) {
        self.row.spent += amount;
        self.row.version += 1;
    }

    /// False: nothing was written, since it does not stand any more as it did.
    fn post(&mut self, number: usize, post: Post) -> bool {
        let before = self.standing(number);
        let current = before.map_or(0, |standing| standing.revision);
        if self.rules.one_end && post.revision != current {
            return false;
        }
        let counts = |entry: &Entry| entry.counted.tokens;
        let checkpoint = before.and_then(|standing| standing.checkpoint.as_ref());
        let counted = checkpoint
            .map(|checkpoint| counts(&checkpoint.entry))
            .filter(|_| self.rules.cumulative);
        let written = post.entry.as_ref().or(post.checkpoint.as_ref().map(|checkpoint| &checkpoint.entry));
        let more = written.map_or(0, counts) - counted.unwrap_or(0);
        let late = if post.entry.as_ref().is_some_and(|entry| entry.late) {
            more
        } else {
            0
        };
        let entry = post.entry.or_else(|| before?.entry.clone());
        self.standings[number] = Seen(Some(Box::new(Standing {
            workspace: of(),
            request_id: RequestId::parse("r").expect("a key"),
            revision: current + 1,
            end: post.end,
            entry,
            fingerprint: post.fingerprint,
            checkpoint: post.checkpoint,
        })));
        self.late += late;
        if more != 0 {
            self.add(more);
        }
        true
    }

    /// A final report of so much, by a flow that saw the reservation stand so; `live`: its hold was claimed.
    pub(in super::super) fn settle(&mut self, number: usize, mut seen: Seen, tokens: i64, live: bool, now: Timestamp) -> Settled {
        loop {
            let fresh = |late| entry(self.id(number), tokens, None, late, now);
            let (revision, entry) = match settlement::next(seen.0.as_deref(), FINGERPRINT) {
                Next::Record { revision, .. } => (revision, fresh(!live)),
                Next::RecordLate { revision } => (revision, fresh(true)),
                Next::Correct { revision, entry } => {
                    let difference = settlement::correction(&entry, fresh(true));
                    (revision, difference.expect("small numbers"))
                }
                Next::Replay(_) => return Settled::Replayed,
                Next::Conflict => return Settled::Refused(End::Settled),
                Next::Released { .. } => return Settled::Refused(End::Released),
            };
            let post = Post {
                revision,
                end: Some(End::Settled),
                fingerprint: Some(FINGERPRINT),
                entry: Some(entry),
                checkpoint: None,
            };
            if self.post(number, post) {
                return Settled::Recorded;
            }
            seen = self.seen(number);
        }
    }

    /// What a checkpoint of so much would count after those that were seen; `None`: it has ended.
    pub(in super::super) fn counted(&self, number: usize, seen: &Seen, tokens: i64, now: Timestamp) -> Option<Entry> {
        let before = match &seen.0 {
            Some(standing) if standing.end.is_some() => return None,
            seen => seen.as_ref().and_then(|standing| standing.checkpoint.as_ref()),
        };
        let pools = before.map(|checkpoint| &checkpoint.entry.pools);
        Some(entry(self.id(number), tokens, pools, false, now))
    }

    /// Records a checkpoint that was decided on what was seen. False: it does not stand so any more.
    pub(in super::super) fn check(&mut self, number: usize, seen: &Seen, entry: Entry, expires_at: Timestamp) -> bool {
        let post = Post {
            revision: seen.0.as_ref().map_or(0, |standing| standing.revision),
            end: None,
            fingerprint: None,
            entry: None,
            checkpoint: Some(Checkpoint { entry, expires_at }),
        };
        self.post(number, post)
    }

    /// Ends a reservation that has not ended with what its checkpoints counted, read and written at once.
    pub(in super::super) fn end_with_checkpoint(&mut self, number: usize, end: End) {
        let post = Post {
            revision: self.standing(number).map_or(0, |standing| standing.revision),
            end: Some(end),
            fingerprint: None,
            entry: self.checkpoint(number).map(|checkpoint| checkpoint.entry.clone()),
            checkpoint: None,
        };
        assert!(self.post(number, post), "nobody came in between");
    }

    fn id(&self, number: usize) -> ReservationId {
        id(number)
    }
}
