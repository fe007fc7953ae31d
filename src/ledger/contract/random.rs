//! Whatever is posted, in whatever order: each row is the sum of the entries and open checkpoints that fall into it.

use super::book::{Book, But, Draft, at, checkpoint, end, month, period, settle};
use crate::counters::SumRow;
use crate::decision::amount::{Amounts, Unit};
use crate::decision::counter::{Counter, Whose};
use crate::decision::entry::Entry;
use crate::decision::period::{Period, PeriodKind};
use crate::decision::standing::End;
use crate::decision::time::Timestamp;
use crate::ledger::Posted;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::collections::{BTreeMap, BTreeSet};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

/// How many sequences are tried.
const CASES: u32 = 48;
const REQUESTS: [&str; 4] = ["r0", "r1", "r2", "r3"];
const USERS: [&str; 3] = ["", "usr_1", "usr_2"];
const FEATURES: [&str; 2] = ["chat", "search"];
/// Around the edges of the periods below.
const SECONDS: [i64; 5] = [999, 1_000, 1_500, 1_999, 2_000];

/// Counters that a post may name, of all dimensions and of periods that overlap.
fn universe() -> Vec<Counter> {
    let ever = Period {
        start: Timestamp::MIN,
        end: Timestamp::MAX,
    };
    let lifetime = Counter {
        kind: PeriodKind::Lifetime,
        ..month(Unit::Requests).within(ever)
    };
    vec![
        month(Unit::Tokens),
        month(Unit::Usd),
        month(Unit::Tokens).within(period(2_000, 3_000)),
        month(Unit::Tokens).within(period(999, 1_500)),
        month(Unit::Tokens).of_feature("search"),
        month(Unit::Tokens).of_user("usr_1"),
        month(Unit::Credits).of_user(""),
        month(Unit::Tokens).of_user("usr_2").of_feature("chat"),
        lifetime.clone(),
        lifetime.of_user("usr_1"),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Checkpoint(Use),
    Settle(Use),
    /// An end without usage.
    End(End),
    Read(Whose),
}

#[derive(Clone, Debug)]
struct Use {
    user: &'static str,
    feature: &'static str,
    second: i64,
    counted: Amounts,
}

/// A step of one of the requests, and the places of the counters that it names.
type Act = (Step, &'static str, BTreeSet<usize>);

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let counted = (-50i64..1_000, 0i64..1_000_000_000, 0i64..3, 0i64..5);
    let counted = counted.prop_map(|(tokens, usd, requests, credits)| Amounts {
        tokens,
        usd,
        requests,
        credits,
    });
    let used = (
        prop::sample::select(&USERS[..]),
        prop::sample::select(&FEATURES[..]),
        prop::sample::select(&SECONDS[..]),
        counted,
    );
    let used = used.prop_map(|(user, feature, second, counted)| Use {
        user,
        feature,
        second,
        counted,
    });
    let whose = prop::sample::select(universe()).prop_map(|counter| counter.whose);
    let step = prop_oneof![
        3 => used.clone().prop_map(Step::Checkpoint),
        4 => used.prop_map(Step::Settle),
        1 => prop::sample::select(&[End::Settled, End::Released, End::Expired][..]).prop_map(Step::End),
        1 => whose.prop_map(Step::Read),
    ];
    let named = prop::collection::btree_set(0..universe().len(), 0..4);
    vec((step, prop::sample::select(&REQUESTS[..]), named), 1..30)
}

fn draft(step: &Step, request: &str, named: &BTreeSet<usize>) -> Option<Draft> {
    let of = |draft: Draft, used: &Use| draft.user(used.user).feature(used.feature).at(used.second).counted(used.counted);
    let draft = match step {
        Step::Checkpoint(used) => of(checkpoint(request), used),
        Step::Settle(used) => of(settle(request), used),
        Step::End(how) => end(request, *how),
        Step::Read(_) => return None,
    };
    Some(draft.naming(named.iter().map(|place| universe()[*place].clone())))
}

/// The same ledger, said in the simplest way.
#[derive(Default)]
struct Model {
    revisions: BTreeMap<String, i64>,
    entries: Vec<Entry>,
    open: BTreeMap<String, Entry>,
    born: BTreeSet<Counter>,
    /// Each row as it was seen last.
    seen: BTreeMap<Counter, (i64, i64)>,
}

impl Model {
    fn posted(&mut self, request: &str, post: &crate::ledger::Post) {
        *self.revisions.entry(request.to_owned()).or_default() += 1;
        self.open.remove(request);
        self.open
            .extend(post.checkpoint.iter().map(|open| (request.to_owned(), open.entry.clone())));
        self.entries.extend(post.entries.iter().cloned());
        self.born.extend(post.counters.iter().cloned());
    }

    fn spent(&self, counter: &Counter) -> i64 {
        let parts = self.entries.iter().chain(self.open.values());
        parts
            .filter(|entry| entry.falls_into(counter))
            .map(|entry| entry.counted.of(counter.unit))
            .sum()
    }

    fn agrees(&mut self, rows: &[SumRow]) {
        for row in rows {
            assert!(self.born.contains(&row.counter), "nobody named {:?}", row.counter);
            assert_eq!(row.spent, self.spent(&row.counter), "{:?}", row.counter);
            let before = self.seen.insert(row.counter.clone(), (row.spent, row.version));
            let unchanged = before == Some((row.spent, row.version));
            assert!(
                unchanged || before.is_none_or(|(_, version)| version < row.version),
                "{row:?} after {before:?}"
            );
        }
    }

    /// Every row that was ever named is there, and says what it must.
    async fn agrees_at_the_end(&mut self, book: &Book, workspace: &str) {
        let groups: BTreeSet<Whose> = universe().into_iter().map(|counter| counter.whose).collect();
        let mut found = BTreeSet::new();
        for whose in &groups {
            let rows = book.rows(workspace, whose).await;
            self.agrees(&rows);
            found.extend(rows.into_iter().map(|row| row.counter));
        }
        assert_eq!(found, self.born);
        book.balances().await;
    }
}

/// Tries a property of many sequences; each has a workspace of its own.
fn tried(property: impl Fn(String, Vec<Act>)) {
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let next = std::cell::Cell::new(0);
    let result = runner.run(&acts(), |acts| {
        next.set(next.get() + 1);
        property(format!("ws_{}", next.get()), acts);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

pub(in crate::ledger) async fn whatever_is_posted_every_row_is_the_sum_of_its_entries(book: Book) {
    block_in_place(|| tried(|workspace, acts| Handle::current().block_on(one_after_the_other(&book, &workspace, acts))));
}

async fn one_after_the_other(book: &Book, workspace: &str, acts: Vec<Act>) {
    let mut model = Model::default();
    for (step, request, named) in acts {
        let Some(draft) = draft(&step, request, &named) else {
            model.agrees(&read(book, workspace, &step).await);
            continue;
        };
        let revision = model.revisions.get(request).copied().unwrap_or_default();
        let post = draft.of(workspace).on(revision).post();
        let Posted::Done { rows, .. } = book.ledger().post(post.clone()).await.expect("the ledger answers") else {
            panic!("{request} was not at {revision}");
        };
        model.posted(request, &post);
        model.agrees(&rows);
        let told: BTreeSet<&Counter> = rows.iter().map(|row| &row.counter).collect();
        assert!(
            post.counters.iter().all(|counter| told.contains(counter)),
            "a named row is not in the answer"
        );
    }
    model.agrees_at_the_end(book, workspace).await;
}

async fn read(book: &Book, workspace: &str, step: &Step) -> Vec<SumRow> {
    match step {
        Step::Read(whose) => book.rows(workspace, whose).await,
        _ => Vec::new(),
    }
}

pub(in crate::ledger) async fn whatever_is_posted_at_once_every_row_is_the_sum_of_its_entries(book: Book) {
    block_in_place(|| tried(|workspace, acts| Handle::current().block_on(all_at_once(&book, &workspace, acts))));
}

async fn all_at_once(book: &Book, workspace: &str, acts: Vec<Act>) {
    let mut model = Model::default();
    let mut racing = Vec::new();
    for (place, (step, _, named)) in acts.iter().enumerate() {
        let request = format!("r{place}");
        if let Some(draft) = draft(step, &request, named) {
            let draft = draft.of(workspace);
            model.posted(&request, &draft.clone().post());
            racing.push(draft);
        }
    }
    for answer in book.race(racing).await {
        let Posted::Done { rows, .. } = answer else {
            panic!("each request is posted once");
        };
        assert!(rows.iter().all(|row| row.version > 0), "a row in an answer is in the ledger");
    }
    let due = book
        .ledger()
        .checkpoints_due(at(1_000_000), usize::MAX)
        .await
        .expect("the ledger answers");
    let open = due.iter().filter(|(_, standing)| standing.workspace.as_str() == workspace).count();
    assert_eq!(open, model.open.len());
    model.agrees_at_the_end(book, workspace).await;
}
