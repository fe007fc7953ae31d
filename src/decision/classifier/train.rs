//! Training: logistic regression by stochastic gradient descent with steps of its own for each weight (AdaGrad) and L2, then the slope and
//! offset that make its probabilities true. The same rows and the same seed give the same model.
//!
//! How good it is, is told of rows that were held out: the rows are parted into folds, and each is judged by a model of all the others.

use super::features::{BUCKETS, FIGURES, Features};
use super::{Classifier, Figure, sigmoid};

/// In how many parts rows are held out.
pub const FOLDS: usize = 5;
/// How many bands a calibration has.
pub const BANDS: usize = 10;
/// The fewest rows of each outcome from which anything can be learned.
pub const ROWS_MIN: usize = 20;
/// The most rows that are learned from.
pub const ROWS_MAX: usize = 200_000;
const EPOCHS: usize = 10;
const STEP: f32 = 0.05;
/// The cost of a weight, for buckets and for figures: there are many buckets and few figures.
const L2_BUCKETS: f32 = 4e-3;
const L2_FIGURES: f32 = 1e-3;
/// How often slope and offset are improved; they are two numbers, so it is soon enough.
const CALIBRATING_STEPS: usize = 50;

/// A request whose outcome is known.
#[derive(Clone, PartialEq, Debug)]
pub struct Row {
    /// The place and weight of each bucket that is not empty.
    buckets: Vec<(u16, f32)>,
    figures: Option<[f32; FIGURES]>,
    pub weak_sufficed: bool,
}

impl Row {
    pub fn new(features: &Features, weak_sufficed: bool) -> Self {
        let full = features.buckets.iter().enumerate().filter(|(_, x)| **x != 0.0);
        Self {
            buckets: full.filter_map(|(place, x)| Some((u16::try_from(place).ok()?, *x))).collect(),
            figures: features.figures,
            weak_sufficed,
        }
    }
}

/// What came of a training.
#[derive(Clone, PartialEq, Debug)]
pub struct Trained {
    pub classifier: Classifier,
    pub quality: Quality,
    /// Of each row, in their order, by a model that did not see it.
    pub held_out: Vec<f64>,
}

/// How good probabilities are.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Quality {
    pub rows: usize,
    pub weak_sufficed: usize,
    /// How often a row in which the weak model sufficed scores above one in which it did not.
    pub auc: f64,
    pub log_loss: f64,
    /// The log loss of always telling the share of rows.
    pub log_loss_of_share: f64,
    pub bands: Vec<Band>,
}

/// A tenth of the rows by their probability: what was predicted, and what was so.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Band {
    pub rows: usize,
    pub predicted: f64,
    pub observed: f64,
}

/// Trains on all rows, and judges by those that were held out.
pub fn train(rows: &[Row], seed: u64) -> Trained {
    let order = shuffled(rows.len(), seed);
    let mut scores = vec![0.0_f32; rows.len()];
    for fold in 0..FOLDS {
        // By their shuffled places: rows may have come in any pattern.
        let part = |is_held_out: bool| -> Vec<usize> {
            let places = order.iter().enumerate().filter(|(place, _)| (place % FOLDS == fold) == is_held_out);
            places.map(|(_, row)| *row).collect()
        };
        let (held_out, learned) = (part(true), part(false));
        let model = fit(rows, &learned, seed);
        held_out.iter().for_each(|row| scores[*row] = raw(&model, &rows[*row]));
    }
    let all: Vec<usize> = (0..rows.len()).collect();
    let mut classifier = fit(rows, &all, seed);
    (classifier.slope, classifier.offset) = calibrate(rows, &scores);
    let probability = |score: &f32| f64::from(sigmoid(classifier.slope * score + classifier.offset));
    let held_out: Vec<f64> = scores.iter().map(probability).collect();
    let outcomes: Vec<bool> = rows.iter().map(|row| row.weak_sufficed).collect();
    Trained {
        quality: quality(&held_out, &outcomes),
        classifier,
        held_out,
    }
}

/// Numbers as good as any for shuffling, from a seed (SplitMix64).
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut order: Vec<usize> = (0..count).collect();
    for place in (1..count).rev() {
        order.swap(place, (next() % (place as u64 + 1)) as usize);
    }
    order
}

fn raw(model: &Classifier, row: &Row) -> f32 {
    let buckets: f32 = row.buckets.iter().map(|(place, x)| model.weights[usize::from(*place)] * x).sum();
    model.bias + buckets + model.of_figures(row.figures.as_ref())
}

fn fit(rows: &[Row], learned: &[usize], seed: u64) -> Classifier {
    let mut model = Classifier::blank();
    usual(&mut model.figures, rows, learned);
    let mut steps = Steps::new();
    for epoch in 0..EPOCHS {
        for place in shuffled(learned.len(), seed ^ (epoch as u64 + 1)) {
            let row = &rows[learned[place]];
            let error = sigmoid(raw(&model, row)) - f32::from(u8::from(row.weak_sufficed));
            for (bucket, x) in &row.buckets {
                let bucket = usize::from(*bucket);
                let weight = &mut model.weights[bucket];
                *weight -= steps.buckets[bucket].step(error * x + L2_BUCKETS * *weight);
            }
            for (place, figure) in model.figures.iter_mut().enumerate() {
                let Some(figures) = &row.figures else { break };
                let gradient = error * figure.of(figures[place]) + L2_FIGURES * figure.weight;
                figure.weight -= steps.figures[place].step(gradient);
            }
            model.bias -= steps.bias.step(error);
        }
    }
    model
}

/// How far a weight has been moved so far: one that was moved much is moved less.
#[derive(Clone, Copy)]
struct Moved(f32);

impl Moved {
    fn step(&mut self, gradient: f32) -> f32 {
        self.0 += gradient * gradient;
        STEP * gradient / (self.0.sqrt() + 1e-6)
    }
}

struct Steps {
    buckets: Vec<Moved>,
    figures: [Moved; FIGURES],
    bias: Moved,
}

impl Steps {
    fn new() -> Self {
        Self {
            buckets: vec![Moved(0.0); BUCKETS],
            figures: [Moved(0.0); FIGURES],
            bias: Moved(0.0),
        }
    }
}

/// Mean and deviation of each figure.
fn usual(figures: &mut [Figure; FIGURES], rows: &[Row], learned: &[usize]) {
    let texts: Vec<&[f32; FIGURES]> = learned.iter().filter_map(|row| rows[*row].figures.as_ref()).collect();
    let count = texts.len().max(1) as f32;
    for (place, figure) in figures.iter_mut().enumerate() {
        let values = || texts.iter().map(|figures| figures[place]);
        figure.mean = values().sum::<f32>() / count;
        let variance = values().map(|value| (value - figure.mean).powi(2)).sum::<f32>() / count;
        figure.deviation = variance.sqrt();
    }
}

/// The slope and offset with the least log loss, by Newton's method with steps that never make it worse (Platt's scaling).
fn calibrate(rows: &[Row], scores: &[f32]) -> (f32, f32) {
    let pairs: Vec<(f64, f64)> = rows
        .iter()
        .zip(scores)
        .map(|(row, score)| (f64::from(*score), f64::from(u8::from(row.weak_sufficed))))
        .collect();
    // The logarithm of 1 + e^x, which does not overflow.
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let loss = |(slope, offset): (f64, f64)| -> f64 {
        let each = pairs.iter().map(|(score, so)| {
            let x = slope * score + offset;
            softplus(x) - so * x
        });
        each.sum()
    };
    let mut best = (1.0, 0.0);
    for _ in 0..CALIBRATING_STEPS {
        let Some((by_slope, by_offset)) = newton(&pairs, best) else { break };
        let mut share = 1.0;
        let better = std::iter::repeat_with(|| {
            let next = (best.0 - share * by_slope, best.1 - share * by_offset);
            share /= 2.0;
            next
        });
        let before = loss(best);
        let Some(next) = better.take(CALIBRATING_STEPS).find(|next| loss(*next) < before) else {
            break;
        };
        best = next;
    }
    // A model that knows nothing may come out the wrong way round; it then says the share of rows.
    if best.0.is_finite() && best.1.is_finite() && best.0 > 0.0 {
        return (best.0 as f32, best.1 as f32);
    }
    let share = rows.iter().filter(|row| row.weak_sufficed).count() as f32 / rows.len().max(1) as f32;
    (0.0, (share / (1.0 - share).max(1e-6)).max(1e-6).ln())
}

/// One step of Newton's method; `None`: the scores are all alike.
fn newton(pairs: &[(f64, f64)], (slope, offset): (f64, f64)) -> Option<(f64, f64)> {
    let (mut g, mut h) = ([0.0_f64; 2], [1e-9_f64, 0.0, 1e-9]);
    for (score, so) in pairs {
        let p = 1.0 / (1.0 + (-(slope * score + offset)).exp());
        let (error, weight) = (p - so, p * (1.0 - p));
        g[0] += error * score;
        g[1] += error;
        h[0] += weight * score * score;
        h[1] += weight * score;
        h[2] += weight;
    }
    let determinant = h[0] * h[2] - h[1] * h[1];
    let step = ((h[2] * g[0] - h[1] * g[1]) / determinant, (h[0] * g[1] - h[1] * g[0]) / determinant);
    (determinant.is_normal() && step.0.is_finite() && step.1.is_finite()).then_some(step)
}

/// How good these probabilities are.
pub fn quality(probabilities: &[f64], outcomes: &[bool]) -> Quality {
    let mut sorted: Vec<(f64, bool)> = probabilities.iter().copied().zip(outcomes.iter().copied()).collect();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let rows = sorted.len();
    let sufficed = sorted.iter().filter(|(_, so)| *so).count();
    let loss = |p: f64, so: bool| -(if so { p } else { 1.0 - p }).max(1e-9).ln();
    let share = sufficed as f64 / rows.max(1) as f64;
    let mean = |sum: f64| sum / rows.max(1) as f64;
    let bands = (0..BANDS).map(|band| &sorted[band * rows / BANDS..(band + 1) * rows / BANDS]);
    Quality {
        rows,
        weak_sufficed: sufficed,
        auc: auc(&sorted),
        log_loss: mean(sorted.iter().map(|(p, so)| loss(*p, *so)).sum()),
        log_loss_of_share: mean(sorted.iter().map(|(_, so)| loss(share, *so)).sum()),
        bands: bands.filter(|band| !band.is_empty()).map(band).collect(),
    }
}

fn band(rows: &[(f64, bool)]) -> Band {
    let count = rows.len() as f64;
    Band {
        rows: rows.len(),
        predicted: rows.iter().map(|(p, _)| p).sum::<f64>() / count,
        observed: rows.iter().filter(|(_, so)| *so).count() as f64 / count,
    }
}

/// By ranks; rows of the same probability share theirs.
fn auc(sorted: &[(f64, bool)]) -> f64 {
    let (mut below, mut won, mut at) = (0.0, 0.0, 0);
    let (mut good, mut bad) = (0.0, 0.0);
    while at < sorted.len() {
        let alike = sorted[at..].iter().take_while(|(p, _)| *p == sorted[at].0).count();
        let so = sorted[at..at + alike].iter().filter(|(_, so)| *so).count() as f64;
        let not = alike as f64 - so;
        won += so * (below + not / 2.0);
        below += not;
        good += so;
        bad += not;
        at += alike;
    }
    if good * bad == 0.0 { 0.5 } else { won / (good * bad) }
}
