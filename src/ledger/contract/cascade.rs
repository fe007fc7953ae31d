//! What settlements permit, who takes it, and what came of it.

use super::book::{Book, NOON, at, reservation, settle, workspace};
use crate::decision::amount::Ratio;
use crate::decision::cascade::{Band, Escalation, Offered};
use crate::decision::id::{Feature, ModelId};
use crate::decision::money::Usd;
use tokio::task::JoinSet;

fn ratio(steps: u16) -> Ratio {
    Ratio::from_ten_thousandths(steps).expect("a share")
}

fn model(id: &str) -> ModelId {
    ModelId::parse(id).expect("a name")
}

/// What the settlement of this request of `ws_a` will permit.
fn offer(request: &str) -> Offered {
    Offered {
        reservation: reservation("ws_a", request),
        workspace: workspace("ws_a"),
        feature: Feature::parse("chat").expect("a name"),
        escalation: Escalation {
            model: model("big"),
            min_quality_score: ratio(7_000),
        },
        offered_at: at(NOON),
        taken_by: None,
    }
}

pub(in crate::ledger) async fn an_offer_stays_as_it_was_written_and_is_taken_by_one(mut book: Book) {
    let (first, second, other) = (reservation("ws_a", "r1"), reservation("ws_a", "r2"), reservation("ws_a", "r3"));
    assert_eq!(book.ledger().escalation(first).await.expect("an answer"), None);
    assert!(
        !book.ledger().take_escalation(first, second).await.expect("an answer"),
        "there is nothing to take"
    );
    book.ledger().offer_escalation(&offer("r1")).await.expect("an answer");
    let mut changed = offer("r1");
    changed.escalation.model = model("other");
    book.ledger().offer_escalation(&changed).await.expect("an answer");
    assert_eq!(book.ledger().escalation(first).await.expect("an answer"), Some(offer("r1")));
    for (taker, taken) in [(second, true), (second, true), (other, false)] {
        assert_eq!(book.ledger().take_escalation(first, taker).await.expect("an answer"), taken);
    }
    book.ledger().give_back_escalation(first, other).await.expect("an answer");
    book.reopen().await;
    let known = book.ledger().escalation(first).await.expect("an answer").expect("it is there");
    assert_eq!(known.taken_by, Some(second), "another one has nothing to give back");
    for (asked, links) in [(first, (None, Some(second))), (second, (Some(first), None)), (other, (None, None))] {
        assert_eq!(book.ledger().escalation_links(asked).await.expect("an answer"), links);
    }
    book.ledger().give_back_escalation(first, second).await.expect("an answer");
    assert!(book.ledger().take_escalation(first, other).await.expect("an answer"));
}

pub(in crate::ledger) async fn of_racing_second_tries_one_takes_the_offer(book: Book) {
    let first = reservation("ws_a", "r1");
    book.ledger().offer_escalation(&offer("r1")).await.expect("an answer");
    let mut racing = JoinSet::new();
    for n in 0..20 {
        let ledger = book.ledger();
        racing.spawn(async move { ledger.take_escalation(first, reservation("ws_a", &format!("t{n}"))).await });
    }
    let taken = racing
        .join_all()
        .await
        .into_iter()
        .filter(|taken| *taken.as_ref().expect("an answer"))
        .count();
    assert_eq!(taken, 1);
}

pub(in crate::ledger) async fn what_came_of_second_tries_is_summed_up_by_models_and_score(book: Book) {
    // The first answers with their scores, and what became of their second tries.
    for (request, score, second) in [
        ("a", Some(3_100), Some(("big", 9_000, 50))),
        ("b", Some(3_900), Some(("big", 5_000, 70))),
        // Answered by another model than was offered.
        ("g", Some(3_200), Some(("mid", 9_900, 30))),
        ("c", Some(6_500), None),
        ("d", Some(10_000), None),
        ("e", None, None),
    ] {
        book.ledger().offer_escalation(&offer(request)).await.expect("an answer");
        let mut draft = settle(request).model("small");
        draft.entry.quality_score = score.map(ratio);
        draft.entry.cost_usd = Some(Usd::from_nanos(10));
        book.done(draft).await;
        if let Some((by, score, cost)) = second {
            let again = format!("{request}-again");
            let mut draft = settle(&again).model(by);
            draft.entry.quality_score = Some(ratio(score));
            draft.entry.cost_usd = Some(Usd::from_nanos(cost));
            let taker = reservation("ws_a", &again);
            assert!(
                book.ledger()
                    .take_escalation(reservation("ws_a", request), taker)
                    .await
                    .expect("an answer")
            );
            book.done(draft).await;
        }
    }
    // Offered, and never settled: no answer.
    book.ledger().offer_escalation(&offer("f")).await.expect("an answer");
    let band = |tenth: Option<i64>, answers: i64| Band {
        model: model("small"),
        next_model: model("big"),
        tenth,
        min_quality_score: ratio(7_000),
        answers,
        cost: Usd::from_nanos(10 * answers),
        escalated: 0,
        escalated_cost: Usd::ZERO,
        judged: 0,
        score_before: 0,
        score_after: 0,
    };
    let escalated = Band {
        escalated: 3,
        escalated_cost: Usd::from_nanos(150),
        judged: 2,
        score_before: 7_000,
        score_after: 14_000,
        ..band(Some(3), 3)
    };
    let bands = book.ledger().escalations(at(NOON), at(NOON + 1)).await.expect("an answer");
    assert_eq!(bands, [band(None, 1), escalated, band(Some(6), 1), band(Some(9), 1)]);
    assert_eq!(book.ledger().escalations(at(0), at(NOON)).await.expect("an answer"), []);
}
