//! The audit log: one record for each change that was made, none for what was refused, kept as it was written.

use super::book::{Book, at, audited, by, workspace};
use crate::decision::workspace::Workspace;
use crate::ledger::audit::{AuditQuery, Audited, By, Subject};
use crate::ledger::{PAGE_ENTRIES_MAX, PolicyChange};
use serde_json::json;
use tokio::task::JoinSet;

async fn list(book: &Book, query: &AuditQuery) -> Vec<Audited> {
    book.ledger().audit_log(query).await.expect("the ledger answers")
}

fn all() -> AuditQuery {
    AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    }
}

async fn put(book: &Book, id: &str, version: u32, audited: Audited) -> bool {
    let mut next = Workspace::unknown(workspace(id), at(1));
    next.version = version;
    let put = book.ledger().put_workspace(&next, version - 1, audited).await;
    put.expect("the ledger answers")
}

/// A record at this second with every member.
fn full(second: i64) -> Audited {
    Audited {
        changed_at: at(second),
        by: By {
            actor: "usr_'ä\"1".to_owned(),
            reason: "because 'so'; DROP TABLE audit_log".to_owned(),
            request_id: Some("req_7".to_owned()),
        },
        subject: Subject::of(&workspace("ws_a"), "workspace", "ws_a"),
        before: Some(json!({"seats": 1, "text": "a\u{0}b", "nothing": null})),
        after: Some(json!(null)),
        ..audited("workspace.put", "ws_a")
    }
}

pub(in crate::ledger) async fn a_change_is_audited_as_it_was_told(mut book: Book) {
    assert_eq!(list(&book, &all()).await, []);
    let (first, second) = (full(10), audited("workspace.put", "ws_b"));
    assert!(put(&book, "ws_a", 1, first.clone()).await);
    assert!(put(&book, "ws_b", 1, second.clone()).await);
    let expected = [second, first];
    assert_eq!(list(&book, &all()).await, expected, "newest first");
    book.reopen().await;
    assert_eq!(list(&book, &all()).await, expected, "also after a restart");
}

pub(in crate::ledger) async fn a_change_that_is_refused_leaves_no_record(book: Book) {
    assert!(put(&book, "ws_a", 1, audited("workspace.put", "ws_a")).await);
    assert!(!put(&book, "ws_a", 1, full(20)).await);
    assert!(!put(&book, "ws_a", 7, full(30)).await);
    let late = PolicyChange {
        expected_version: 3,
        objects: vec![("plan".to_owned(), "pro".to_owned(), Some(json!({})))],
        by: by("usr_1"),
        audited: vec![full(40)],
        files_hash: None,
        now: at(40),
    };
    assert_eq!(book.ledger().change_policy(late).await.expect("the ledger answers"), None);
    assert_eq!(list(&book, &all()).await.len(), 1);
}

pub(in crate::ledger) async fn a_change_whose_record_cannot_be_written_is_not_made(book: Book) {
    let record = audited("workspace.put", "ws_a");
    assert!(put(&book, "ws_a", 1, record.clone()).await);
    let mut next = Workspace::unknown(workspace("ws_b"), at(1));
    next.version = 1;
    // An id that is taken.
    let refused = book.ledger().put_workspace(&next, 0, record.clone()).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(book.ledger().workspace(&workspace("ws_b")).await.expect("the ledger answers"), None);
    let change = PolicyChange {
        expected_version: 0,
        objects: vec![("plan".to_owned(), "pro".to_owned(), Some(json!({})))],
        by: by("usr_1"),
        audited: vec![record],
        files_hash: None,
        now: at(40),
    };
    assert!(book.ledger().change_policy(change).await.is_err());
    assert_eq!(book.ledger().policy_version().await.expect("the ledger answers"), 0);
    assert_eq!(list(&book, &all()).await.len(), 1);
}

pub(in crate::ledger) async fn each_object_of_a_change_of_policy_has_its_record(book: Book) {
    // More than one statement takes.
    const OBJECTS: usize = 1_203;
    let named = |n: usize| (format!("model_{n}"), audited("model.put", &format!("model_{n}")));
    let (names, records): (Vec<String>, Vec<Audited>) = (0..OBJECTS).map(named).unzip();
    let change = PolicyChange {
        expected_version: 0,
        objects: names
            .iter()
            .map(|name| ("model".to_owned(), name.clone(), Some(json!({}))))
            .collect(),
        by: by("files"),
        audited: records,
        files_hash: Some("hash".to_owned()),
        now: at(5),
    };
    assert_eq!(book.ledger().change_policy(change).await.expect("the ledger answers"), Some(1));
    let mut found = Vec::new();
    let mut query = AuditQuery { limit: 500, ..all() };
    loop {
        let page = list(&book, &query).await;
        let Some(last) = page.last() else { break };
        query.after = Some((last.changed_at, last.id));
        found.extend(page.into_iter().map(|record| record.subject.id));
    }
    assert_eq!(found.len(), OBJECTS);
    found.sort();
    let mut names = names;
    names.sort();
    assert_eq!(found, names);
}

pub(in crate::ledger) async fn of_racing_changes_only_the_winner_is_audited(book: Book) {
    let mut racing = JoinSet::new();
    for n in 0..20 {
        let ledger = book.ledger();
        racing.spawn(async move {
            let mut next = Workspace::unknown(workspace("ws_a"), at(1));
            next.seats.change(2 + n, at(2));
            let record = Audited {
                after: Some(json!(n)),
                ..audited("workspace.put", "ws_a")
            };
            let is_put = ledger.put_workspace(&next, 0, record).await.expect("the ledger answers");
            is_put.then_some(json!(n))
        });
    }
    let won: Vec<_> = racing.join_all().await.into_iter().flatten().collect();
    let told = list(&book, &all()).await.into_iter().map(|record| record.after);
    assert_eq!(told.collect::<Vec<_>>(), [won.first().cloned()]);
    assert_eq!(won.len(), 1);
}

pub(in crate::ledger) async fn the_audit_log_is_filtered(book: Book) {
    let record = |second, actor: &str, action: &str, id: &str, whose: Option<&str>| Audited {
        changed_at: at(second),
        by: by(actor),
        subject: Subject {
            workspace: whose.map(workspace),
            ..audited(action, id).subject
        },
        ..audited(action, id)
    };
    let records = [
        record(100, "usr_1", "plan.put", "pro", None),
        record(200, "usr_2", "plan.delete", "pro", None),
        record(300, "usr_1", "workspace.put", "ws_a", Some("ws_a")),
        record(300, "usr_2", "grant.put", "g1", Some("ws_a")),
        record(400, "usr_1", "plan.put", "free", None),
        record(500, "usr_1", "workspace.put", "ws_b", Some("ws_b")),
    ];
    for (version, audited) in (1..).zip(&records) {
        assert!(put(&book, "ws", version, audited.clone()).await);
    }
    let text = |text: &str| Some(text.to_owned());
    for (query, expected) in [
        (
            AuditQuery {
                actor: text("usr_1"),
                ..all()
            },
            vec![5, 4, 2, 0],
        ),
        (
            AuditQuery {
                action: text("plan.put"),
                ..all()
            },
            vec![4, 0],
        ),
        (
            AuditQuery {
                subject_kind: text("plan"),
                ..all()
            },
            vec![4, 1, 0],
        ),
        (
            AuditQuery {
                subject_kind: text("plan"),
                subject_id: text("pro"),
                ..all()
            },
            vec![1, 0],
        ),
        (
            AuditQuery {
                subject_id: text("ws_a"),
                ..all()
            },
            vec![2],
        ),
        (
            AuditQuery {
                workspace: Some(workspace("ws_a")),
                ..all()
            },
            vec![3, 2],
        ),
        (
            AuditQuery {
                workspace: Some(workspace("ws_a")),
                actor: text("usr_2"),
                action: text("grant.put"),
                ..all()
            },
            vec![3],
        ),
        (
            AuditQuery {
                from: Some(at(200)),
                to: Some(at(400)),
                ..all()
            },
            vec![3, 2, 1],
        ),
        (
            AuditQuery {
                from: Some(at(400)),
                to: Some(at(200)),
                ..all()
            },
            vec![],
        ),
        (
            AuditQuery {
                actor: text("usr_' OR 1=1"),
                ..all()
            },
            vec![],
        ),
        (AuditQuery { limit: 2, ..all() }, vec![5, 4]),
        (AuditQuery { limit: 0, ..all() }, vec![]),
    ] {
        let expected: Vec<Audited> = expected.into_iter().map(|n: usize| records[n].clone()).collect();
        assert_eq!(list(&book, &query).await, expected, "{query:?}");
    }
}

pub(in crate::ledger) async fn pages_of_the_audit_log_have_no_gap_and_no_double(book: Book) {
    for version in 1..=30 {
        // Three of each moment, so that pages end inside of one.
        let record = Audited {
            changed_at: at(1_000 + i64::from(version) / 3),
            ..audited("workspace.put", &format!("r{version}"))
        };
        assert!(put(&book, "ws_a", version, record).await);
    }
    let before = list(&book, &all()).await;
    assert_eq!(before.len(), 30);
    let mut paged: Vec<Audited> = Vec::new();
    let mut query = AuditQuery { limit: 4, ..all() };
    for page in 31.. {
        let records = list(&book, &query).await;
        let Some(last) = records.last() else { break };
        query.after = Some((last.changed_at, last.id));
        paged.extend(records);
        let newer = Audited {
            changed_at: at(5_000),
            ..audited("workspace.put", "newer")
        };
        assert!(put(&book, "ws_a", page, newer).await);
    }
    assert_eq!(paged, before);
    let most = AuditQuery {
        limit: usize::MAX,
        ..all()
    };
    assert!(list(&book, &most).await.len() <= PAGE_ENTRIES_MAX + 1);
}
