//! What a classifier learns, that it is the same each time, and that what it says is as often so as it says.

use super::curve::{Judged, curve, recovered};
use super::features::{Attribute, Features, TEXT_BYTES_MAX};
use super::train::{ROWS_MIN, Row, quality, train};

/// Prompts of two kinds: additions, which the weak model can do, and proofs, which it cannot; every tenth is the other way round.
fn rows() -> Vec<Row> {
    let row = |n: usize| {
        let easy = n.is_multiple_of(2);
        let text = match easy {
            true => format!("What is {n} plus {}?", n * 7),
            false => format!("Prove that polynomial {n} is irreducible over the rationals, step by step."),
        };
        Row::new(&Features::new(Some(&text), []), easy != (n % 10 == 3))
    };
    (0..10 * ROWS_MIN).map(row).collect()
}

#[test]
fn it_learns_and_is_the_same_each_time() {
    let rows = rows();
    let trained = train(&rows, 7);
    assert_eq!(trained, train(&rows, 7));
    assert!(trained.quality.auc > 0.85, "{:?}", trained.quality);
    assert!(trained.quality.log_loss < trained.quality.log_loss_of_share);
    let says = |text: &str| trained.classifier.weak_suffices(&Features::new(Some(text), []));
    let (easy, hard) = (
        says("What is 12 plus 30?"),
        says("Prove that the polynomial is irreducible, step by step."),
    );
    assert!(easy > 0.7 && hard < 0.3, "{easy} {hard}");
    // What was held out is predicted as it is, within what so few rows can tell.
    for band in &trained.quality.bands {
        assert!((band.predicted - band.observed).abs() < 0.25, "{band:?}");
    }
}

#[test]
fn where_nothing_can_be_learned_it_says_the_share() {
    // Each text once as sufficing and once as not.
    let rows: Vec<Row> = (0..100)
        .map(|n| Row::new(&Features::new(Some(&format!("text {}", n / 2)), []), n % 2 == 0))
        .collect();
    let trained = train(&rows, 1);
    let says = trained.classifier.weak_suffices(&Features::new(Some("text 3"), []));
    assert!((says - 0.5).abs() < 0.15, "{says}");
}

#[test]
fn attributes_alone_are_enough() {
    let row = |n: usize| {
        let attributes = [
            ("kind", Attribute::Text(if n.is_multiple_of(3) { "legal" } else { "faq" })),
            ("depth", Attribute::Number(n as f64)),
        ];
        Row::new(&Features::new(None, attributes), !n.is_multiple_of(3))
    };
    let rows: Vec<Row> = (0..300).map(row).collect();
    let trained = train(&rows, 1);
    let says = |kind: &str| {
        trained
            .classifier
            .weak_suffices(&Features::new(None, [("kind", Attribute::Text(kind))]))
    };
    assert!(says("faq") > 0.8 && says("legal") < 0.4, "{} {}", says("faq"), says("legal"));
}

#[test]
fn of_a_long_text_its_ends_are_looked_at_and_any_text_is_a_vector() {
    let long = |middle: &str| format!("{}{middle}{}", "begin ".repeat(TEXT_BYTES_MAX), "end ".repeat(TEXT_BYTES_MAX));
    let (one, two) = (Features::new(Some(&long("x y z ")), []), Features::new(Some(&long("a b c ")), []));
    assert_eq!(one, two);
    for text in ["", " ", "\u{0}", "ä", &"ß".repeat(5_000), "\u{1f600}\u{200d}", "a\u{301}"] {
        let features = Features::new(Some(text), []);
        assert!(
            features
                .buckets
                .iter()
                .chain(features.figures.iter().flatten())
                .all(|x| x.is_finite()),
            "{text:?}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_a_probability_that_is_none(text in ".{0,300}") {
        let trained = super::Classifier { bias: 1e6, slope: 1e6, ..super::Classifier::blank() };
        let says = trained.weak_suffices(&Features::new(Some(&text), []));
        proptest::prop_assert!((0.0..=1.0).contains(&says));
    }
}

#[test]
fn random_routing_is_a_line_and_perfect_routing_lies_above_it() {
    let judged = |score: f64, weak: bool| Judged {
        score,
        weak_correct: weak,
        strong_correct: true,
    };
    let rows: Vec<Judged> = (0..100).map(|n| judged(f64::from(n), n >= 50)).collect();
    let points = curve(&rows, 10.0, 10);
    assert_eq!((points[0].quality, points[10].quality, points[5].quality), (0.5, 1.0, 1.0));
    assert_eq!((points[5].random, points[0].cost_saved, points[10].cost_saved), (0.75, 0.9, 0.0));
    assert!((recovered(&points) - 0.75).abs() < 1e-9);
    let blind: Vec<Judged> = (0..100).map(|n| judged(f64::from(n), n % 2 == 0)).collect();
    assert!((recovered(&curve(&blind, 10.0, 50)) - 0.5).abs() < 0.02);
}

#[test]
fn quality_is_told_by_ranks() {
    let told = quality(&[0.1, 0.4, 0.4, 0.9], &[false, false, true, true]);
    assert!((told.auc - 0.875).abs() < 1e-9);
    assert_eq!((told.rows, told.weak_sufficed), (4, 2));
}
