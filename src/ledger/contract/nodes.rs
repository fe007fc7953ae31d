//! What nodes need of each other: many standings at once, changes to follow, one who leads, what to copy to the counters again.

use super::book::{Book, But, at, audited, checkpoint, end, month, period, reservation, settle, workspace};
use crate::counters::SumRow;
use crate::decision::amount::Unit;
use crate::decision::counter::Counter;
use crate::decision::id::WorkspaceId;
use crate::decision::standing::End;
use crate::decision::workspace::Workspace;
use crate::ledger::Lead;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::task::JoinSet;

pub(in crate::ledger) async fn many_standings_are_told_at_once(book: Book) {
    book.done(settle("settled").fingerprint(9)).await;
    book.done(checkpoint("open")).await;
    book.done(end("released", End::Released)).await;
    let ids = ["settled", "unheard_of", "open", "released"].map(|request| reservation("ws_a", request));
    let told = book.ledger().standings(&ids).await.expect("the ledger answers");
    let told: BTreeMap<_, _> = told.into_iter().collect();
    assert_eq!(told.len(), 3);
    for (request, id) in ["settled", "unheard_of", "open", "released"].into_iter().zip(ids) {
        assert_eq!(told.get(&id).cloned(), book.standing(request).await, "{request}");
    }
    assert_eq!(book.ledger().standings(&[]).await.expect("the ledger answers"), []);
}

/// The workspace at this version, with seats that no other one has.
fn described(id: &str, version: u32) -> Workspace {
    let mut workspace = Workspace::unknown(workspace(id), at(1));
    workspace.seats.change(i64::from(version) + 1, at(2));
    workspace.version = version;
    workspace
}

async fn put(book: &Book, id: &str, version: u32) -> bool {
    let put = book
        .ledger()
        .put_workspace(&described(id, version), version - 1, audited("workspace.put", id))
        .await;
    put.expect("the ledger answers")
}

/// What follows change `after`, as the workspaces' names and versions.
async fn changed(book: &Book, after: i64, limit: usize) -> Vec<(i64, String, u32)> {
    let changed = book.ledger().workspaces_changed(after, limit).await.expect("the ledger answers");
    let told = changed
        .into_iter()
        .map(|(number, workspace)| (number, workspace.id.to_string(), workspace.version));
    told.collect()
}

pub(in crate::ledger) async fn changes_of_workspaces_are_told_in_their_order(book: Book) {
    assert_eq!(book.ledger().workspace_change().await.expect("the ledger answers"), 0);
    book.done(settle("r").of("ws_used")).await;
    assert_eq!(changed(&book, 0, 10).await, [], "one that came into being by use was not changed");
    for (id, version) in [("ws_b", 1), ("ws_c", 1), ("ws_b", 2), ("ws_used", 2)] {
        assert!(put(&book, id, version).await, "{id}");
    }
    assert!(!put(&book, "ws_c", 1).await && !put(&book, "ws_c", 7).await);
    let told = changed(&book, 0, 10).await;
    let names: Vec<_> = told.iter().map(|(_, id, version)| (id.as_str(), *version)).collect();
    assert_eq!(
        names,
        [("ws_c", 1), ("ws_b", 2), ("ws_used", 2)],
        "each once, at its last change; what was refused is no change"
    );
    assert!(told.is_sorted_by(|a, b| a.0 < b.0), "{told:?}");
    assert_eq!(changed(&book, 0, 1).await, told[..1]);
    assert_eq!(changed(&book, told[0].0, 10).await, told[1..]);
    assert_eq!(changed(&book, told[2].0, 10).await, []);
    assert_eq!(book.ledger().workspace_change().await.expect("the ledger answers"), told[2].0);
}

pub(in crate::ledger) async fn who_follows_the_numbers_of_racing_changes_misses_none(book: Book) {
    const WORKSPACES: usize = 60;
    let mut racing = JoinSet::new();
    for n in 0..WORKSPACES {
        let ledger = book.ledger();
        racing.spawn(async move {
            ledger
                .put_workspace(&described(&format!("ws_{n}"), 1), 0, audited("workspace.put", "many"))
                .await
                .expect("the ledger answers")
        });
    }
    let mut seen = BTreeSet::new();
    let mut after = 0;
    // Looks on while they race, and once more when all are done.
    loop {
        let is_over = racing.is_empty();
        for (number, id, _) in changed(&book, after, 7).await {
            assert!(number > after, "{number} after {after}");
            after = number;
            assert!(seen.insert(id));
        }
        while let Some(put) = racing.try_join_next() {
            assert!(put.expect("a task"), "nobody else puts it");
        }
        if is_over && changed(&book, after, 1).await.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), WORKSPACES);
}

pub(in crate::ledger) async fn a_lead_is_of_one_until_it_is_given_up(book: Book) {
    let lead = |what: &'static str| {
        let ledger = book.ledger();
        async move { ledger.try_lead(what).await.expect("the ledger answers") }
    };
    let mut sweep = lead("sweep").await.expect("nobody leads yet");
    assert!(sweep.is_held().await);
    assert!(lead("sweep").await.is_none(), "it is taken");
    assert!(lead("seal").await.is_some(), "another thing is another lead");
    drop(sweep);
    // A server may need a moment to see that the connection is gone.
    let mut again: Option<Box<dyn Lead>> = None;
    for _ in 0..500 {
        again = lead("sweep").await;
        if again.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(again.is_some(), "it was given up");
}

/// The rows of `recorded_since` from this second on, page by page, with the number of pages.
async fn recorded(book: &Book, second: i64, limit: usize) -> (BTreeMap<(WorkspaceId, Counter), SumRow>, usize) {
    let (mut rows, mut after, mut pages) = (BTreeMap::new(), None, 0);
    loop {
        let page = book
            .ledger()
            .recorded_since(at(second), after, limit)
            .await
            .expect("the ledger answers");
        rows.extend(
            page.rows
                .into_iter()
                .map(|(workspace, row)| ((workspace, row.counter.clone()), row)),
        );
        pages += 1;
        match page.last {
            Some(last) => after = Some(last),
            None => return (rows, pages),
        }
        assert!(pages < 100, "the pages do not end");
    }
}

pub(in crate::ledger) async fn the_sums_of_what_was_recorded_lately_are_told_in_pages(book: Book) {
    let (tokens, user) = (month(Unit::Tokens), month(Unit::Tokens).of_user("usr_9"));
    let before = month(Unit::Tokens).within(period(0, 1_000));
    book.done(settle("old").recorded(100).naming([tokens.clone(), before.clone()]))
        .await;
    for n in 0..5 {
        book.done(settle(&format!("r{n}")).recorded(200).naming([tokens.clone()])).await;
    }
    book.done(settle("of_user").user("usr_9").recorded(300).naming([user.clone()]))
        .await;
    book.done(settle("elsewhere").of("ws_b").recorded(300).naming([tokens.clone()]))
        .await;

    for (second, limit, expected, pages) in [
        (0, 100, vec!["ws_a/*", "ws_a/usr_9", "ws_b/*"], 1),
        (200, 2, vec!["ws_a/*", "ws_a/usr_9", "ws_b/*"], 4),
        (300, 100, vec!["ws_a/*", "ws_a/usr_9", "ws_b/*"], 1),
        (301, 100, vec![], 1),
    ] {
        let (rows, seen) = recorded(&book, second, limit).await;
        let names: Vec<String> = rows
            .keys()
            .map(|(workspace, counter)| format!("{workspace}/{}", counter.whose.column()))
            .collect();
        assert_eq!(names, expected, "since {second}");
        assert_eq!(seen, pages, "since {second}, {limit} a page");
        for ((workspace, counter), row) in rows {
            let now = book.rows(workspace.as_str(), &counter.whose).await;
            assert!(now.contains(&row), "{row:?} is the row as it is now");
        }
    }
    assert!(
        !recorded(&book, 0, 100).await.0.contains_key(&(workspace("ws_a"), before)),
        "nothing fell into it"
    );
}

pub(in crate::ledger) async fn sums_are_verified_in_pages_that_leave_none_out(book: Book) {
    let counters = [
        month(Unit::Tokens),
        month(Unit::Usd),
        month(Unit::Tokens).of_user("usr_1"),
        month(Unit::Tokens).of_user(""),
        month(Unit::Tokens).of_feature("chat"),
    ];
    book.done(settle("a").naming(counters.clone())).await;
    book.done(settle("b").of("ws_b").naming(counters.clone())).await;
    for (limit, expected) in [(1, 11), (3, 4), (5, 3), (10, 2), (11, 1)] {
        let (mut after, mut pages, mut places) = (None, 0, BTreeSet::new());
        loop {
            let page = book.ledger().verify_page(after.as_ref(), limit).await.expect("the ledger answers");
            assert_eq!(page.differences, []);
            pages += 1;
            match page.last {
                Some(last) => {
                    assert!(places.insert(last.clone()), "a page that ends where another one did");
                    after = Some(last);
                }
                None => break,
            }
            assert!(pages <= 11, "the pages do not end");
        }
        assert_eq!(pages, expected, "{limit} a page");
    }
}
