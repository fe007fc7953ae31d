//! Grants: what passes a limit is paid in the transaction that records it, in order, and no balance twice.

use super::book::{Book, But, Draft, NOON, at, checkpoint, end, month, period, settle, workspace};
use crate::counters::SumRow;
use crate::decision::amount::Unit;
use crate::decision::counter::Counter;
use crate::decision::grant::{Charge, Grant, Interval, Purse, Recurrence, Source, TopUp};
use crate::decision::id::{AuditId, BudgetId, GrantId};
use crate::decision::standing::End;
use crate::ledger::audit::{AuditQuery, Audited, By, Subject};
use crate::ledger::{EarlierKey, Given, Posted, grant_document};
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

const HARD: i64 = 100;

fn budget(name: &str) -> BudgetId {
    BudgetId::parse(name).expect(name)
}

fn id(number: u128) -> GrantId {
    GrantId::from_uuid(Uuid::from_u128(number))
}

/// A grant of tokens that began long ago.
fn grant(number: u128, amount: i64) -> Grant {
    Grant {
        id: id(number),
        key: Some(format!("key-{number}")),
        budget: budget("tokens"),
        unit: Unit::Tokens,
        amount,
        priority: 100,
        effective_at: at(0),
        expires_at: None,
        recurrence: None,
        rollover_min: None,
        rollover_max: None,
        source: Source::Manual,
        paid: None,
        created_at: at(number as i64),
        voided_at: None,
    }
}

/// What the audit log is told; each has an id of its own.
fn record(grant: &Grant) -> Audited {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Audited {
        id: AuditId::from_uuid(Uuid::from_u128(u128::from(number) << 64)),
        changed_at: at(NOON),
        by: By {
            actor: "tester".to_owned(),
            reason: String::new(),
            request_id: None,
        },
        action: "grant.test".to_owned(),
        subject: Subject::of(&workspace("ws_a"), "grant", grant.id.to_string()),
        before: None,
        after: Some(grant_document(grant)),
    }
}

fn charge(counter: &Counter) -> Charge {
    Charge {
        budget: budget("tokens"),
        counter: counter.clone(),
        hard: HARD,
        period: month(Unit::Tokens).period,
        top_up: None,
    }
}

/// A use of so many tokens that falls under the budget.
fn used(request: &str, tokens: i64) -> Draft {
    let counter = month(Unit::Tokens);
    settle(request).tokens(tokens).naming([counter.clone()]).charged([charge(&counter)])
}

impl Book {
    async fn give(&self, grant: Grant) -> Given {
        let given = self.ledger().give(&workspace("ws_a"), grant.clone(), None, record(&grant)).await;
        given.expect("the ledger answers")
    }

    /// A workspace with these grants.
    async fn granted(&self, grants: impl IntoIterator<Item = Grant>) {
        self.done(settle("first").tokens(0)).await;
        for grant in grants {
            assert_eq!(self.give(grant.clone()).await, Given::New(grant));
        }
    }

    /// Posts, and returns the row of the month and the purses.
    async fn paid(&self, draft: Draft) -> (SumRow, Vec<Purse>) {
        match self.ledger().post(draft.post()).await.expect("the ledger answers") {
            Posted::Done { rows, purses } => {
                let row = rows.into_iter().find(|row| row.counter == month(Unit::Tokens));
                (row.expect("the month is named"), purses)
            }
            Posted::Stands(standing) => panic!("refused: {standing:?}"),
        }
    }

    /// What grants of these numbers have left at noon.
    async fn left<const N: usize>(&self, numbers: [u128; N]) -> [i64; N] {
        let pots = self.ledger().pots(&workspace("ws_a"), at(NOON)).await.expect("the ledger answers");
        let pot = pots.by_budget.get(&budget("tokens")).cloned().unwrap_or_default();
        numbers.map(|number| {
            let grant = pot.grants().iter().find(|grant| grant.id == id(number));
            grant.map_or(-1, |grant| pot.left_of(grant, at(NOON), month(Unit::Tokens).period))
        })
    }

    async fn grants_balance(&self) {
        assert_eq!(self.ledger().verify_grants().await.expect("the ledger answers"), []);
        let page = self.ledger().verify_page(None, 500).await.expect("the ledger answers");
        assert_eq!(page.paid_differences, []);
        self.balances().await;
    }
}

pub(in crate::ledger) async fn what_passes_the_limit_is_paid_and_noted_in_the_row(book: Book) {
    book.granted([grant(1, 50)]).await;
    for (request, tokens, spent, paid, left) in [
        ("under", 90, 90, 0, None),
        ("over", 30, 120, 20, Some(30)),
        ("far", 100, 220, 50, Some(0)),
        ("beyond", 10, 230, 50, None),
    ] {
        let (row, purses) = book.paid(used(request, tokens)).await;
        assert_eq!((row.spent, row.paid), (spent, paid), "{request}");
        assert_eq!(purses.first().map(|purse| purse.left), left, "{request}");
        let stored = book.row(&month(Unit::Tokens)).await.expect("a row");
        assert_eq!(stored, row, "{request}: the answer is what is stored, under its version");
    }
    book.grants_balance().await;
}

pub(in crate::ledger) async fn grants_pay_in_their_order(book: Book) {
    let soon = Grant {
        expires_at: Some(at(NOON + 10)),
        ..grant(1, 10)
    };
    let never = grant(2, 10);
    let first = Grant {
        priority: 5,
        ..grant(3, 10)
    };
    let old = Grant {
        created_at: at(1),
        ..grant(4, 10)
    };
    let other = Grant {
        budget: budget("others"),
        ..grant(5, 10)
    };
    let usd = Grant {
        unit: Unit::Usd,
        priority: 0,
        ..grant(6, 10)
    };
    book.granted([soon, never, first, old, other, usd]).await;
    for (tokens, left) in [
        (105, [10, 10, 5, 10]),
        (10, [5, 10, 0, 10]),
        (10, [0, 10, 0, 5]),
        (10, [0, 5, 0, 0]),
        (10, [0; 4]),
    ] {
        book.paid(used(&format!("r{tokens}{left:?}").replace(['[', ']', ' ', ','], "-"), tokens))
            .await;
        assert_eq!(book.left([1, 2, 3, 4]).await, left);
    }
    book.grants_balance().await;
}

pub(in crate::ledger) async fn what_was_used_before_a_grant_came_is_paid_by_the_next_use(book: Book) {
    book.granted([]).await;
    book.paid(used("early", 130)).await;
    book.give(grant(1, 50)).await;
    let (row, _) = book.paid(used("next", 5)).await;
    assert_eq!((row.spent, row.paid, book.left([1]).await), (135, 35, [15]));
    book.grants_balance().await;
}

pub(in crate::ledger) async fn users_and_periods_share_one_balance(book: Book) {
    book.granted([grant(1, 100)]).await;
    let of = |user: &str| month(Unit::Tokens).of_user(user);
    let next = month(Unit::Tokens).within(period(2_000, 3_000));
    for (number, user) in ["ann", "ben", "cid"].into_iter().enumerate() {
        let draft = settle(user).user(user).tokens(130).naming([of(user)]).charged([charge(&of(user))]);
        book.done(draft).await;
        assert_eq!(book.left([1]).await, [100 - 30 * (number as i64 + 1)]);
    }
    let draft = settle("later")
        .at(2_500)
        .tokens(130)
        .naming([next.clone()])
        .charged([charge(&next)]);
    book.done(draft).await;
    assert_eq!(
        book.row(&next).await.expect("a row").paid,
        10,
        "what three users left of it in the month before"
    );
    assert_eq!(book.left([1]).await, [0]);
    book.grants_balance().await;
}

pub(in crate::ledger) async fn racing_posts_pay_no_balance_twice(book: Book) {
    book.granted([grant(1, 70), grant(2, 60)]).await;
    let posts = (0..40).map(|number| {
        let user = format!("u{}", number % 3);
        let counter = month(Unit::Tokens).of_user(&user);
        let draft = settle(&format!("r{number}")).user(&user).tokens(20);
        draft.naming([counter.clone()]).charged([charge(&counter)])
    });
    let answers = book.race(posts).await;
    assert!(answers.iter().all(|answer| matches!(answer, Posted::Done { .. })));
    let mut paid = 0;
    for user in ["u0", "u1", "u2"] {
        paid += book.row(&month(Unit::Tokens).of_user(user)).await.expect("a row").paid;
    }
    assert_eq!((paid, book.left([1, 2]).await), (130, [0, 0]));
    let newest = |answer: &Posted| match answer {
        Posted::Done { purses, .. } => purses.iter().map(|purse| (purse.version, purse.left)).max(),
        Posted::Stands(_) => None,
    };
    assert_eq!(
        answers.iter().filter_map(newest).max().map(|(_, left)| left),
        Some(0),
        "the last to pay saw the purse empty"
    );
    book.grants_balance().await;
}

pub(in crate::ledger) async fn a_use_is_paid_by_what_was_active_when_it_occurred(book: Book) {
    let expired = Grant {
        expires_at: Some(at(NOON)),
        ..grant(1, 50)
    };
    let recurring = Grant {
        effective_at: at(NOON),
        recurrence: Some(Recurrence {
            interval: Interval::Day,
            anchor: at(NOON),
        }),
        ..grant(2, 5)
    };
    book.granted([expired, recurring]).await;
    book.paid(used("limit", HARD).at(1_100)).await;
    // At once, so that they may share a transaction: each is paid as if it were alone.
    book.race([used("before", 20).at(NOON - 1), used("after", 20).at(NOON)]).await;
    let row = book.row(&month(Unit::Tokens)).await.expect("a row");
    assert!((25..=50).contains(&row.paid), "{row:?}");
    assert_eq!(book.left([2]).await, [0]);
    let late = book.paid(used("late", 50).at(NOON - 1)).await.0;
    assert_eq!(late.paid, 55, "all that both have ever had");
    book.grants_balance().await;
}

pub(in crate::ledger) async fn a_voided_grant_pays_for_what_was_authorized_before(book: Book) {
    book.granted([grant(1, 50)]).await;
    book.paid(used("limit", HARD + 10).at(1_100)).await;
    let voided = book
        .ledger()
        .void(&workspace("ws_a"), id(1), at(1_200), record(&grant(1, 1_200)))
        .await
        .expect("the ledger answers");
    assert_eq!(voided.expect("it is there").voided_at, Some(at(1_200)));
    let again = book
        .ledger()
        .void(&workspace("ws_a"), id(1), at(1_300), record(&grant(1, 1_300)))
        .await
        .expect("the ledger answers");
    assert_eq!(again.expect("it is there").voided_at, Some(at(1_200)), "it stays void since then");
    assert_eq!(
        book.ledger()
            .void(&workspace("ws_a"), id(9), at(1_300), record(&grant(9, 1_300)))
            .await
            .expect("the ledger answers"),
        None
    );
    assert_eq!(
        book.ledger()
            .void(&workspace("ws_b"), id(1), at(1_300), record(&grant(1, 1_300)))
            .await
            .expect("the ledger answers"),
        None
    );
    assert_eq!(
        book.paid(used("after", 5).at(1_200)).await.0.paid,
        10,
        "what it paid stays paid, and no more is"
    );
    let before = book.paid(used("before", 5).at(1_199)).await.0;
    assert_eq!((before.spent, before.paid), (120, 20));
    book.grants_balance().await;
}

pub(in crate::ledger) async fn a_correction_gives_nothing_back_to_a_grant(book: Book) {
    book.granted([grant(1, 50)]).await;
    let original = used("r", HARD + 30);
    book.paid(original.clone()).await;
    let (row, purses) = book.paid(used("less", -80).correcting(&original.entry)).await;
    assert_eq!((row.spent, row.paid, purses.len()), (50, 30, 0));
    assert_eq!(book.left([1]).await, [20]);
    let (row, _) = book.paid(used("more", 80)).await;
    assert_eq!(
        (row.spent, row.paid),
        (130, 30),
        "what was paid raised the limit of this period for good"
    );
    book.grants_balance().await;
}

pub(in crate::ledger) async fn a_checkpoint_is_paid_and_the_entry_that_takes_its_place_pays_the_rest(book: Book) {
    book.granted([grant(1, 50)]).await;
    let counter = month(Unit::Tokens);
    let open = |tokens| checkpoint("r").tokens(tokens).naming([counter.clone()]).charged([charge(&counter)]);
    assert_eq!(book.paid(open(HARD + 10)).await.0.paid, 10);
    assert_eq!(book.paid(open(HARD + 20).on(1)).await.0.paid, 20);
    assert_eq!(book.paid(used("r", HARD + 35).on(2)).await.0.paid, 35);
    assert_eq!(book.left([1]).await, [15]);
    book.done(end("other", End::Released).naming([counter.clone()]).charged([charge(&counter)]))
        .await;
    assert_eq!(book.left([1]).await, [15], "an end without use pays nothing");
    book.grants_balance().await;
}

pub(in crate::ledger) async fn a_grant_is_given_once_under_its_key(book: Book) {
    book.granted([]).await;
    let ledger = book.ledger();
    let mut racing = tokio::task::JoinSet::new();
    for number in 1..=10 {
        let (ledger, grant) = (
            ledger.clone(),
            Grant {
                key: Some("key".to_owned()),
                ..grant(number, 10)
            },
        );
        racing.spawn(async move {
            {
                let audited = record(&grant);
                ledger.give(&workspace("ws_a"), grant, None, audited).await
            }
            .expect("the ledger answers")
        });
    }
    let given = racing.join_all().await;
    let query = AuditQuery {
        action: Some("grant.test".to_owned()),
        limit: 100,
        ..AuditQuery::default()
    };
    let told = book.ledger().audit_log(&query).await.expect("the ledger answers");
    assert_eq!(told.len(), 1, "what was not given is not told: {told:?}");
    let workspace_now = book
        .ledger()
        .workspace(&workspace("ws_a"))
        .await
        .expect("the ledger answers")
        .expect("it is there");
    assert!(
        workspace_now.granted.contains(&budget("tokens")) && workspace_now.version == 2,
        "{workspace_now:?}"
    );
    let new: Vec<&Grant> = given
        .iter()
        .filter_map(|given| if let Given::New(grant) = given { Some(grant) } else { None })
        .collect();
    let [first] = new[..] else { panic!("one of them: {new:?}") };
    assert!(
        given
            .iter()
            .all(|given| matches!(given, Given::New(grant) | Given::Known(grant) if grant == first))
    );
    book.done(settle("r").of("ws_b")).await;
    let workspace_a = workspace("ws_a");
    let elsewhere = Grant {
        key: Some("key".to_owned()),
        ..grant(20, 10)
    };
    assert!(
        matches!(
            ledger.give(&workspace("ws_b"), elsewhere.clone(), None, record(&elsewhere)).await,
            Ok(Given::New(_))
        ),
        "keys are of a workspace"
    );
    // Under the key of another day, as long as that is not too long ago.
    let today = Grant {
        key: Some("today".to_owned()),
        ..grant(21, 10)
    };
    let since = |seconds: i64| {
        let (key, since) = ("key".to_owned(), first.created_at.plus_seconds(seconds));
        ledger.give(&workspace_a, today.clone(), Some(EarlierKey { key, since }), record(&today))
    };
    assert_eq!(since(-1).await.expect("the ledger answers"), Given::Known(first.clone()));
    assert_eq!(since(0).await.expect("the ledger answers"), Given::New(today.clone()));
    let without = |number| Grant {
        key: None,
        ..grant(number, 10)
    };
    for number in [30, 31] {
        assert!(matches!(book.give(without(number)).await, Given::New(_)));
    }
}

pub(in crate::ledger) async fn grants_are_listed_newest_first_in_pages(book: Book) {
    book.granted((1..=5).map(|number| grant(number, 10))).await;
    let page = async |after, limit| {
        book.ledger()
            .grants(&workspace("ws_a"), after, limit)
            .await
            .expect("the ledger answers")
    };
    let first = page(None, 3).await;
    assert_eq!(first.iter().map(|grant| grant.id).collect::<Vec<_>>(), [id(5), id(4), id(3)]);
    let rest = page(first.last().map(|grant| (grant.created_at, grant.id)), 3).await;
    assert_eq!(rest, [grant(2, 10), grant(1, 10)], "as they were given");
    assert_eq!(
        book.ledger().grants(&workspace("ws_b"), None, 3).await.expect("the ledger answers"),
        []
    );
}

pub(in crate::ledger) async fn racing_uses_top_up_no_oftener_than_they_may(book: Book) {
    book.granted([]).await;
    let top_up = TopUp {
        unit: Some(Unit::Tokens),
        below: 50,
        amount: 30,
        per_period_max: 3,
        priority: 7,
        expires_after_seconds: Some(60),
    };
    let topped = |number: u128| {
        let counter = month(Unit::Tokens);
        let charge = Charge {
            top_up: Some((top_up, id(100 + number))),
            ..charge(&counter)
        };
        settle(&format!("r{number}")).tokens(10).naming([counter]).charged([charge])
    };
    for number in 0..5 {
        book.paid(topped(number)).await;
    }
    let all = async || {
        book.ledger()
            .grants(&workspace("ws_a"), None, 500)
            .await
            .expect("the ledger answers")
    };
    assert_eq!(all().await, [], "50 are left: not below");
    book.race((5..30).map(topped)).await;
    let given = all().await;
    assert_eq!(given.len(), 3);
    for grant in &given {
        assert_eq!((grant.amount, grant.priority, grant.source), (30, 7, Source::TopUp));
        assert_eq!((grant.effective_at, grant.expires_at), (at(NOON), Some(at(NOON + 60))));
    }
    let query = AuditQuery {
        action: Some("grant.give".to_owned()),
        limit: 100,
        ..AuditQuery::default()
    };
    let told = book.ledger().audit_log(&query).await.expect("the ledger answers");
    assert_eq!(told.len(), 3, "{told:?}");
    let row = book.row(&month(Unit::Tokens)).await.expect("a row");
    assert_eq!((row.spent, row.paid), (300, 90));
    book.grants_balance().await;
}

pub(in crate::ledger) async fn what_was_given_and_paid_is_there_after_a_restart(mut book: Book) {
    let whole = Grant {
        expires_at: Some(at(9_000)),
        recurrence: Some(Recurrence {
            interval: Interval::Month,
            anchor: at(7),
        }),
        rollover_min: Some(1),
        rollover_max: Some(20),
        ..grant(1, 50)
    };
    book.granted([whole.clone()]).await;
    book.paid(used("r", HARD + 15)).await;
    book.reopen().await;
    assert_eq!(
        book.ledger().grants(&workspace("ws_a"), None, 5).await.expect("the ledger answers"),
        [whole]
    );
    assert_eq!(book.row(&month(Unit::Tokens)).await.expect("a row").paid, 15);
    book.grants_balance().await;
}
