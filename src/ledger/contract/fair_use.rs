//! Fair use: usage adds up, an action of a rule on one subject is begun once until its end, and ended once.

use super::book::{Book, at, workspace};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::anomaly::{Act, Action, Observed};
use crate::decision::counter::Whose;
use crate::decision::event::{Event, EventType};
use crate::decision::id::{AuditId, EventId, FairUseId, PlanId, UserId};
use crate::decision::time::Timestamp;
use crate::ledger::Ledger;
use crate::ledger::audit::{AuditQuery, Audited, By, Subject};
use crate::ledger::events::EventQuery;
use crate::ledger::fair_use::{ActionQuery, HOUR, MINUTE, Used};
use serde_json::json;
use uuid::Uuid;

/// The seconds of whole hours, so that minutes and hours begin at them.
const BEGIN: i64 = 3_600 * 500_000;

fn plan(id: &str) -> PlanId {
    PlanId::parse(id).expect("a name")
}

fn user(id: &str) -> Whose {
    Whose::User(Some(UserId::parse(id).expect("a name")))
}

fn used(of: &str, whose: Whose, width: i64, second: i64, tokens: i64) -> Used {
    Used {
        workspace: workspace(of),
        whose,
        width_seconds: width,
        starts_at: at(BEGIN + second),
        plan: plan("pro"),
        amounts: Amounts {
            tokens,
            usd: tokens * 10,
            requests: 1,
            credits: 0,
        },
    }
}

async fn add(book: &Book, rows: Vec<Used>) {
    book.ledger().add_usage(rows).await.expect("the ledger answers");
}

async fn since(book: &Book, of_users: bool, second: i64, tokens: i64, requests: i64) -> Vec<(String, String, i64)> {
    let least = Amounts {
        tokens,
        requests,
        ..Amounts::MAX
    };
    let found = book
        .ledger()
        .usage_since(of_users, at(BEGIN + second), least, None, 10)
        .await
        .expect("the ledger answers");
    // One at a time they are the same.
    let (mut paged, mut after) = (Vec::new(), None);
    while let [used] = book
        .ledger()
        .usage_since(of_users, at(BEGIN + second), least, after.as_ref(), 1)
        .await
        .expect("the ledger answers")
        .as_slice()
    {
        after = Some((used.workspace.clone(), used.whose.clone()));
        paged.push(used.clone());
    }
    assert_eq!(paged, found);
    let told = |used: Used| (used.workspace.to_string(), used.whose.column().to_owned(), used.amounts.tokens);
    found.into_iter().map(told).collect()
}

pub(in crate::ledger) async fn usage_adds_up_by_minute_and_by_hour(mut book: Book) {
    add(&book, Vec::new()).await;
    for _ in 0..2 {
        add(
            &book,
            vec![
                used("ws_a", Whose::Workspace, MINUTE, 0, 10),
                used("ws_a", Whose::Workspace, MINUTE, 60, 5),
                used("ws_a", user("u"), MINUTE, 60, 7),
                used("ws_a", Whose::User(None), MINUTE, 60, 1),
                used("ws_b", Whose::Workspace, MINUTE, 60, 100),
                used("ws_a", Whose::Workspace, HOUR, 0, 15),
            ],
        )
        .await;
    }
    book.reopen().await;
    let told = |of: &str, who: &str, tokens| (of.to_owned(), who.to_owned(), tokens);
    assert_eq!(
        since(&book, false, 0, 30, i64::MAX).await,
        [told("ws_a", "*", 30), told("ws_b", "*", 200)]
    );
    assert_eq!(since(&book, false, 60, 30, i64::MAX).await, [told("ws_b", "*", 200)]);
    assert_eq!(
        since(&book, false, 60, i64::MAX, 2).await,
        [told("ws_a", "*", 10), told("ws_b", "*", 200)]
    );
    assert_eq!(
        since(&book, true, 0, 0, i64::MAX).await,
        [told("ws_a", "", 2), told("ws_a", "u", 14)]
    );
    let of = |width, second| {
        let ledger = book.ledger();
        async move {
            let found = ledger
                .usage_of(&workspace("ws_a"), &Whose::Workspace, width, at(BEGIN + second))
                .await;
            found.expect("the ledger answers")
        }
    };
    let minutes: Vec<(Timestamp, i64)> = of(MINUTE, 0)
        .await
        .iter()
        .map(|used| (used.starts_at, used.amounts.tokens))
        .collect();
    assert_eq!(minutes, [(at(BEGIN), 20), (at(BEGIN + 60), 10)]);
    assert_eq!(of(MINUTE, 60).await.len(), 1);
    assert_eq!(of(HOUR, 0).await[0].amounts.usd, 300);
}

pub(in crate::ledger) async fn what_others_of_a_plan_used_is_told_by_the_hour(book: Book) {
    let other = Used {
        plan: plan("free"),
        ..used("ws_c", Whose::Workspace, HOUR, 0, 4)
    };
    let rows = vec![
        used("ws_a", Whose::Workspace, HOUR, 0, 1),
        used("ws_b", Whose::Workspace, HOUR, 0, 2),
        used("ws_b", user("u"), HOUR, 0, 8),
        used("ws_b", Whose::Workspace, HOUR, 3_600, 16),
        other,
    ];
    add(&book, rows).await;
    let of = async |plan_id: &str, of_users, second, limit| {
        let found = book
            .ledger()
            .usage_of_plan(&plan(plan_id), of_users, at(BEGIN + second), limit)
            .await;
        let mut tokens: Vec<i64> = found.expect("the ledger answers").iter().map(|amounts| amounts.tokens).collect();
        tokens.sort_unstable();
        tokens
    };
    assert_eq!(of("pro", false, 0, 10).await, [1, 2]);
    assert_eq!(of("pro", true, 0, 10).await, [8]);
    assert_eq!(of("pro", false, 3_600, 10).await, [16]);
    assert_eq!(of("pro", false, 0, 1).await.len(), 1);
    assert!(of("none", false, 0, 10).await.is_empty());
}

pub(in crate::ledger) async fn old_usage_is_pruned_minutes_before_hours(book: Book) {
    let rows = vec![
        used("ws_a", Whose::Workspace, MINUTE, 0, 1),
        used("ws_a", Whose::Workspace, MINUTE, 7_200, 1),
        used("ws_a", Whose::Workspace, HOUR, 0, 1),
        used("ws_a", Whose::Workspace, HOUR, 3_600, 1),
    ];
    add(&book, rows).await;
    let prune = async |minutes, hours, limit| {
        let pruned = book.ledger().prune_usage(at(BEGIN + minutes), at(BEGIN + hours), limit).await;
        pruned.expect("the ledger answers")
    };
    assert_eq!(prune(0, 0, 10).await, 0);
    assert_eq!(prune(7_200, 0, 10).await, 1);
    assert_eq!(prune(7_200, 7_200, 1).await, 1);
    assert_eq!(prune(7_200, 7_200, 10).await, 1);
    assert_eq!(since(&book, false, 0, 0, i64::MAX).await.len(), 1);
}

fn action(number: u128, whose: Whose, second: i64) -> Action {
    Action {
        id: FairUseId::from_uuid(Uuid::from_u128(number)),
        workspace: workspace("ws_a"),
        whose,
        feature: None,
        rule: "burst".to_owned(),
        plan: plan("pro"),
        act: Act::Downgrade {
            to: Some("fast".to_owned()),
        },
        shadow: false,
        observed: Observed {
            unit: Unit::Tokens,
            amount: 5_000,
            typical: Some(10),
            window_seconds: 900,
        },
        started_at: at(BEGIN + second),
        ends_at: at(BEGIN + second + 600),
        ended_at: None,
    }
}

fn record(action: &Action, verb: &str) -> Audited {
    Audited {
        id: AuditId::from_uuid(Uuid::now_v7()),
        changed_at: action.started_at,
        by: By {
            actor: "fair_use:burst".to_owned(),
            reason: String::new(),
            request_id: None,
        },
        action: format!("fair_use.{verb}"),
        subject: Subject::of(&action.workspace, "fair_use", action.id.to_string()),
        before: None,
        after: Some(json!({})),
    }
}

async fn begin(book: &Book, action: &Action) -> bool {
    begin_on(book.ledger(), action).await
}

async fn begin_on(ledger: std::sync::Arc<dyn Ledger>, action: &Action) -> bool {
    let event = Event::new(
        EventId::from_uuid(Uuid::now_v7()),
        Some(action.workspace.clone()),
        EventType::UsageAnomalyDetected,
        format!("anomaly {}", action.id),
        action.started_at,
        json!({}),
    );
    let begun = ledger.begin_action(action, record(action, "begin"), event).await;
    begun.expect("the ledger answers")
}

async fn written(book: &Book) -> (usize, usize) {
    let events = EventQuery {
        limit: 100,
        ..EventQuery::default()
    };
    let records = AuditQuery {
        limit: 100,
        ..AuditQuery::default()
    };
    let events = book.ledger().events(&events).await.expect("the ledger answers");
    let records = book.ledger().audit_log(&records).await.expect("the ledger answers");
    let of_ours = |record: &&Audited| record.subject.kind == "fair_use";
    (events.len(), records.iter().filter(of_ours).count())
}

pub(in crate::ledger) async fn an_action_is_begun_once_until_it_comes_to_its_end(mut book: Book) {
    let first = action(1, Whose::Workspace, 0);
    assert_eq!(book.ledger().last_end(&first).await.expect("the ledger answers"), None);
    assert!(begin(&book, &first).await);
    assert!(!begin(&book, &action(2, Whose::Workspace, 599)).await, "the first has not ended");
    assert!(begin(&book, &action(3, user("u"), 5)).await, "another subject");
    assert_eq!(written(&book).await, (2, 2), "what was not begun is not told");
    book.reopen().await;
    assert_eq!(
        book.ledger().action(first.id).await.expect("the ledger answers"),
        Some(first.clone())
    );
    assert_eq!(
        book.ledger().last_end(&first).await.expect("the ledger answers"),
        Some(first.ends_at)
    );
    // At its end another one may begin, in its place.
    let next = action(4, Whose::Workspace, 600);
    assert!(begin(&book, &next).await);
    assert_eq!(book.ledger().action(first.id).await.expect("the ledger answers"), None);
    assert_eq!(written(&book).await, (3, 3));
}

pub(in crate::ledger) async fn of_racing_beginners_of_an_action_one_has_begun_it(book: Book) {
    let mut racing = tokio::task::JoinSet::new();
    for number in 1..=8 {
        let ledger = book.ledger();
        racing.spawn(async move { begin_on(ledger, &action(number, Whose::Workspace, 0)).await });
    }
    let begun: Vec<bool> = racing.join_all().await;
    assert_eq!(begun.iter().filter(|begun| **begun).count(), 1, "{begun:?}");
    assert_eq!(written(&book).await, (1, 1));
}

pub(in crate::ledger) async fn an_action_is_ended_once_and_its_rule_stays_quiet_until_its_end(book: Book) {
    let begun = action(1, Whose::Workspace, 0);
    assert!(begin(&book, &begun).await);
    let end = async |second| {
        let ended = book.ledger().end_action(begun.id, at(BEGIN + second), record(&begun, "end")).await;
        ended.expect("the ledger answers")
    };
    assert!(end(100).await);
    assert!(!end(101).await, "it has ended");
    assert_eq!(written(&book).await, (1, 2));
    let found = book
        .ledger()
        .action(begun.id)
        .await
        .expect("the ledger answers")
        .expect("it is remembered");
    assert_eq!((found.ended_at, found.ends_at), (Some(at(BEGIN + 100)), begun.ends_at));
    assert!(!begin(&book, &action(2, Whose::Workspace, 200)).await);
    assert!(!end(700).await, "it is over");
}

pub(in crate::ledger) async fn actions_are_listed_newest_first_in_pages(book: Book) {
    for number in 0..5_i64 {
        let of = user(&format!("u{number}"));
        assert!(begin(&book, &action(number as u128 + 1, of, number / 2)).await);
    }
    let list = async |query: ActionQuery| {
        let found = book.ledger().actions(&query).await.expect("the ledger answers");
        found.iter().map(|action| (action.started_at, action.id)).collect::<Vec<_>>()
    };
    let query = ActionQuery {
        limit: 2,
        ..ActionQuery::default()
    };
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let page = list(ActionQuery { after, ..query.clone() }).await;
        after = page.last().copied();
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    let mut sorted = all.clone();
    sorted.sort();
    sorted.reverse();
    assert_eq!((all.len(), &all), (5, &sorted));
    let of = |id: &str, second: Option<i64>| ActionQuery {
        workspace: Some(workspace(id)),
        active_at: second.map(|second| at(BEGIN + second)),
        limit: 10,
        ..ActionQuery::default()
    };
    assert_eq!(list(of("ws_a", None)).await.len(), 5);
    assert_eq!(list(of("ws_b", None)).await.len(), 0);
    assert_eq!(list(of("ws_a", Some(600))).await.len(), 3, "two have come to their end");
    let everywhere = ActionQuery {
        workspace: None,
        ..of("ws_a", Some(602))
    };
    assert_eq!(list(everywhere).await.len(), 0);
}
