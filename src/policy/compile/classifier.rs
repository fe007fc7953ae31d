//! A classifier out of its document, and into it: the weights are bytes there, and every number must be one.

use super::Found;
use crate::decision::classifier::features::{BUCKETS, FIGURES};
use crate::decision::classifier::train::{Quality, Trained};
use crate::decision::classifier::{Classifier, Figure};
use crate::policy::document::{CalibrationDocument, ClassifierDocument, FigureDocument, TrainedDocument};
use crate::policy::object::ObjectId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::sync::Arc;

/// Of how `decision::classifier::features` makes them: rises with each change there.
const LAYOUT: u32 = 1;
/// Numbers of a document have so many digits after the point.
const DIGITS: f64 = 1e6;
/// Beyond this no number of a classifier means anything.
const NUMBER_MAX: f64 = 1e6;
/// The most bands of a calibration.
const BANDS_MAX: usize = 100;

pub(super) fn classifier(document: &ClassifierDocument, found: &mut Found) -> Option<Arc<Classifier>> {
    found.about(&ObjectId::classifier());
    if document.layout != LAYOUT {
        found.value(
            "/layout",
            format!("this version of Weir makes features of layout {LAYOUT}; train the classifier again"),
        );
        return None;
    }
    let bytes = STANDARD_NO_PAD.decode(&document.weights).unwrap_or_default();
    if bytes.len() != BUCKETS {
        found.value("/weights", format!("must be {BUCKETS} bytes in base64"));
    }
    if document.figures.len() != FIGURES {
        found.value("/figures", format!("must have {FIGURES} members"));
    }
    if document.trained.calibration.len() > BANDS_MAX {
        found.value("/trained/calibration", format!("has at most {BANDS_MAX} bands"));
    }
    let figures = document
        .figures
        .iter()
        .flat_map(|figure| [figure.mean, figure.deviation, figure.weight]);
    let numbers = [document.step, document.bias, document.slope, document.offset];
    if numbers
        .into_iter()
        .chain(figures)
        .any(|number| !number.is_finite() || number.abs() > NUMBER_MAX)
    {
        found.value("", format!("its numbers must be between -{NUMBER_MAX} and {NUMBER_MAX}"));
    }
    if bytes.len() != BUCKETS || document.figures.len() != FIGURES {
        return None;
    }
    let mut figures = [Figure::default(); FIGURES];
    for (figure, written) in figures.iter_mut().zip(&document.figures) {
        *figure = Figure {
            mean: written.mean as f32,
            deviation: written.deviation as f32,
            weight: written.weight as f32,
        };
    }
    let step = document.step as f32;
    Some(Arc::new(Classifier {
        weights: bytes.iter().map(|byte| f32::from(byte.cast_signed()) * step).collect(),
        figures,
        bias: document.bias as f32,
        slope: document.slope as f32,
        offset: document.offset as f32,
    }))
}

/// What is kept of a training.
pub fn document(trained: &Trained, seed: u64) -> ClassifierDocument {
    let Classifier {
        weights,
        figures,
        bias,
        slope,
        offset,
    } = &trained.classifier;
    let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    let step = (f64::from(largest) / f64::from(i8::MAX)).max(1e-9);
    let byte = |weight: &f32| ((f64::from(*weight) / step).round() as i8).cast_unsigned();
    let bytes: Vec<u8> = weights.iter().map(byte).collect();
    let figure = |figure: &Figure| FigureDocument {
        mean: rounded(figure.mean.into()),
        deviation: rounded(figure.deviation.into()),
        weight: rounded(figure.weight.into()),
    };
    ClassifierDocument {
        layout: LAYOUT,
        weights: STANDARD_NO_PAD.encode(bytes),
        step,
        figures: figures.iter().map(figure).collect(),
        bias: rounded((*bias).into()),
        slope: rounded((*slope).into()),
        offset: rounded((*offset).into()),
        trained: told(&trained.quality, seed),
    }
}

fn told(quality: &Quality, seed: u64) -> TrainedDocument {
    let bands = quality.bands.iter().map(|band| CalibrationDocument {
        rows: band.rows as u64,
        predicted: rounded(band.predicted),
        observed: rounded(band.observed),
    });
    TrainedDocument {
        rows: quality.rows as u64,
        weak_sufficed: quality.weak_sufficed as u64,
        seed,
        auc: rounded(quality.auc),
        log_loss: rounded(quality.log_loss),
        log_loss_of_share: rounded(quality.log_loss_of_share),
        calibration: bands.collect(),
    }
}

fn rounded(number: f64) -> f64 {
    (number * DIGITS).round() / DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::classifier::features::Features;
    use crate::decision::classifier::train::{Row, train};
    use crate::policy::Policy;
    use crate::policy::export::export;
    use crate::policy::files::Files;
    use crate::policy::object::{classifier_body, diff};
    use serde_json::{Value, json};

    const TEXTS: [&str; 2] = ["What is 12 plus 30?", "Prove that the polynomial is irreducible, step by step."];

    fn trained() -> Trained {
        let row = |n: usize| Row::new(&Features::new(Some(TEXTS[n % 2]), []), n.is_multiple_of(2) != n.is_multiple_of(7));
        train(&(0..140).map(row).collect::<Vec<_>>(), 3)
    }

    fn with(body: Value) -> Result<Policy, String> {
        let policy = Policy::samples().with(&[(ObjectId::classifier(), Some(body))]);
        policy.map_err(|problems| problems.to_string())
    }

    #[test]
    fn what_is_kept_says_what_was_trained_and_survives_files() {
        let trained = trained();
        let body = classifier_body(&document(&trained, 3));
        assert!(body.to_string().len() < 16_384, "{} bytes", body.to_string().len());
        let policy = with(body).expect("a good policy");
        let kept = policy.classifier.as_ref().expect("a classifier");
        for text in TEXTS {
            let features = Features::new(Some(text), []);
            let (before, after) = (trained.classifier.weak_suffices(&features), kept.weak_suffices(&features));
            assert!((before - after).abs() < 0.01, "{before} {after}");
        }
        let files = Files::load(&export(&policy).expect("files")).unwrap_or_else(|problems| panic!("{problems}"));
        let known: Vec<_> = policy.objects().cloned().collect();
        assert_eq!(diff(&known, &files.objects()), []);
    }

    #[test]
    fn a_classifier_that_is_none_is_refused() {
        for (member, value, expected) in [
            ("layout", json!(LAYOUT + 1), "train the classifier again"),
            ("weights", json!("AAAA"), "4096 bytes"),
            ("weights", json!("?"), "4096 bytes"),
            ("figures", json!([]), "must have 14 members"),
            ("bias", json!(1e300), "its numbers"),
        ] {
            let mut body = classifier_body(&document(&trained(), 3));
            body[member] = value;
            let refused = with(body).expect_err(member);
            assert!(refused.contains(expected), "{member}: {refused}");
        }
    }
}
