//! What routing saves and loses: the answers' quality and cost when the requests that score lowest go to the strong model, for each share
//! of them. Random routing is the straight line between all weak and all strong.

/// A request whose outcome on both models is known, and how well the weak one is expected to do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Judged {
    pub score: f64,
    pub weak_correct: bool,
    pub strong_correct: bool,
}

/// At one share of requests on the strong model.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Point {
    pub strong_share: f64,
    /// Of what it would cost to send all to the strong model.
    pub cost_saved: f64,
    /// The share of good answers.
    pub quality: f64,
    /// The same for random routing at the same cost.
    pub random: f64,
}

/// The curve at `steps` equal steps. `cost_ratio`: how many times as much the strong model costs.
pub fn curve(rows: &[Judged], cost_ratio: f64, steps: usize) -> Vec<Point> {
    let mut sorted: Vec<&Judged> = rows.iter().collect();
    // A stable order, so that rows of one score stay as they came.
    sorted.sort_by(|a, b| a.score.total_cmp(&b.score));
    let count = |of: &dyn Fn(&Judged) -> bool| rows.iter().filter(|row| of(row)).count() as f64;
    let all = rows.len().max(1) as f64;
    let (weak, strong) = (count(&|row| row.weak_correct) / all, count(&|row| row.strong_correct) / all);
    let point = |step: usize| {
        let to_strong = step * rows.len() / steps.max(1);
        let good = sorted.iter().enumerate().filter(|(place, row)| match *place < to_strong {
            true => row.strong_correct,
            false => row.weak_correct,
        });
        let share = to_strong as f64 / all;
        Point {
            strong_share: share,
            cost_saved: (1.0 - share) * (1.0 - 1.0 / cost_ratio.max(1.0)),
            quality: good.count() as f64 / all,
            random: weak + share * (strong - weak),
        }
    };
    (0..=steps).map(point).collect()
}

/// How much of what lies between all weak and all strong is won on average over all shares; random routing wins a half.
pub fn recovered(points: &[Point]) -> f64 {
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return 0.0;
    };
    let span = last.quality - first.quality;
    if span <= 0.0 {
        return 0.0;
    }
    let area: f64 = points
        .windows(2)
        .map(|pair| (pair[1].strong_share - pair[0].strong_share) * (pair[0].quality + pair[1].quality - 2.0 * first.quality) / 2.0)
        .sum();
    area / span
}
