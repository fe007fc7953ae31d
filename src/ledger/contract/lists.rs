//! Lists of entries: newest first, filtered, in pages that fit together.

use super::book::{Book, all, at, checkpoint, settle};
use crate::decision::entry::Entry;
use crate::decision::id::{Feature, ModelId, UserId};
use crate::ledger::{EntryQuery, PAGE_ENTRIES_MAX};

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.request_id.as_str()).collect()
}

pub(in crate::ledger) async fn entries_are_listed_newest_first(book: Book) {
    for (request, second) in [("b", 200), ("d", 400), ("a", 100), ("c", 300)] {
        book.done(settle(request).at(second)).await;
    }
    book.done(checkpoint("open").at(500)).await;
    assert_eq!(names(&book.entries("ws_a").await), ["d", "c", "b", "a"], "a checkpoint is no entry");
    for request in ["e", "f"] {
        book.done(settle(request).at(300)).await;
    }
    let listed = book.entries("ws_a").await;
    assert_eq!(
        names(&listed),
        ["d", "f", "e", "c", "b", "a"],
        "of one moment, the greatest id first"
    );
}

pub(in crate::ledger) async fn pages_have_no_gap_and_no_double_while_entries_are_added(book: Book) {
    for n in 0..30 {
        // Three of each moment, so that pages end inside of one.
        book.done(settle(&format!("r{n}")).at(1_000 + n / 3)).await;
    }
    let before = book.entries("ws_a").await;
    let mut paged: Vec<Entry> = Vec::new();
    let mut query = EntryQuery { limit: 4, ..all("ws_a") };
    for page in 0.. {
        let entries = book.list(&query).await;
        assert!(entries.len() <= 4, "page {page}");
        let Some(last) = entries.last() else { break };
        query.after = Some((last.occurred_at, last.entry_id));
        paged.extend(entries);
        book.done(settle(&format!("newer{page}")).at(2_000 + page)).await;
        book.done(settle(&format!("older{page}")).at(page)).await;
        if page == 40 {
            panic!("the pages do not end");
        }
    }
    let of_before: Vec<Entry> = paged
        .iter()
        .filter(|entry| entry.request_id.as_str().starts_with('r'))
        .cloned()
        .collect();
    assert_eq!(of_before, before);
    let mut ids: Vec<_> = paged.iter().map(|entry| entry.entry_id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), paged.len(), "no entry stands on two pages");
}

pub(in crate::ledger) async fn a_list_has_its_from_and_not_its_to(book: Book) {
    for second in [100, 200, 300] {
        book.done(settle(&second.to_string()).at(second)).await;
    }
    for (from, to, expected) in [
        (Some(100), Some(300), vec!["200", "100"]),
        (Some(101), None, vec!["300", "200"]),
        (None, Some(201), vec!["200", "100"]),
        (Some(300), Some(300), vec![]),
        (Some(300), Some(100), vec![]),
        (None, None, vec!["300", "200", "100"]),
    ] {
        let query = EntryQuery {
            from: from.map(at),
            to: to.map(at),
            ..all("ws_a")
        };
        assert_eq!(names(&book.list(&query).await), expected, "{from:?} to {to:?}");
    }
    let newest = book.entries("ws_a").await.remove(0);
    let after_the_end = EntryQuery {
        to: Some(at(200)),
        after: Some((newest.occurred_at, newest.entry_id)),
        ..all("ws_a")
    };
    assert_eq!(
        names(&book.list(&after_the_end).await),
        ["100"],
        "the earlier of to and the page's place bounds the list"
    );
}

pub(in crate::ledger) async fn lists_are_filtered(book: Book) {
    let drafts = [
        settle("a").user("usr_1").feature("chat").model("m1"),
        settle("b").user("usr_2").feature("chat").model("m1"),
        settle("c").user("usr_1").feature("search").model("m1"),
        settle("d").user("usr_1").feature("chat").model("m2"),
        settle("e").user("").feature("chat").model("m1"),
    ];
    for (second, draft) in (1_000..).zip(drafts) {
        book.done(draft.at(second)).await;
    }
    for (user, feature, model, expected) in [
        (None, None, None, vec!["e", "d", "c", "b", "a"]),
        (Some("usr_1"), None, None, vec!["d", "c", "a"]),
        (None, Some("chat"), None, vec!["e", "d", "b", "a"]),
        (None, None, Some("m1"), vec!["e", "c", "b", "a"]),
        (Some("usr_1"), Some("chat"), None, vec!["d", "a"]),
        (Some("usr_1"), Some("chat"), Some("m1"), vec!["a"]),
        (Some("usr_3"), None, None, vec![]),
    ] {
        let query = EntryQuery {
            user: user.map(|user| UserId::parse(user).expect(user)),
            feature: feature.map(|feature| Feature::parse(feature).expect(feature)),
            model: model.map(|model| ModelId::parse(model).expect(model)),
            ..all("ws_a")
        };
        assert_eq!(names(&book.list(&query).await), expected, "{user:?} {feature:?} {model:?}");
    }
}

pub(in crate::ledger) async fn a_list_is_of_one_workspace(book: Book) {
    book.done(settle("a")).await;
    book.done(settle("b").of("ws_b")).await;
    assert_eq!(names(&book.entries("ws_a").await), ["a"]);
    assert_eq!(names(&book.entries("ws_b").await), ["b"]);
    assert_eq!(names(&book.entries("ws_c").await), Vec::<&str>::new());
}

pub(in crate::ledger) async fn a_page_has_a_limit(book: Book) {
    book.race((0..PAGE_ENTRIES_MAX + 20).map(|n| settle(&format!("r{n}")))).await;
    for (limit, expected) in [
        (0, 0),
        (1, 1),
        (PAGE_ENTRIES_MAX + 1, PAGE_ENTRIES_MAX + 1),
        (usize::MAX, PAGE_ENTRIES_MAX + 1),
    ] {
        let query = EntryQuery { limit, ..all("ws_a") };
        assert_eq!(book.list(&query).await.len(), expected, "at most {limit}");
    }
}
