//! What a replay found, for people: decisions by kind, money, latencies, and how well lengths were estimated.

use crate::decision::money::Usd;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Sums over all requests of a replay.
#[derive(Default)]
pub struct Summary {
    /// allow, each action, `deny` and its code.
    pub decisions: BTreeMap<String, u64>,
    pub requests: u64,
    pub settled: u64,
    pub tokens: i64,
    pub cost: i64,
    pub saved_by_downgrade: i64,
    pub late: u64,
    pub errors: u64,
    /// The first few, so that a person can look.
    pub first_errors: Vec<String>,
    pub authorize: Vec<Duration>,
    pub settle: Vec<Duration>,
    /// Estimated against actual output of requests that named no length.
    pub estimates: Vec<(i64, i64)>,
    pub took: Duration,
    /// Workspaces whose counters are what their settlements sum up to, and those that are not.
    pub agree: u64,
    pub disagree: Vec<String>,
}

const ERRORS_SHOWN_MAX: usize = 5;

impl Summary {
    pub fn count(&mut self, decision: impl Into<String>) {
        *self.decisions.entry(decision.into()).or_default() += 1;
    }

    pub fn fail(&mut self, what: String) {
        self.errors += 1;
        if self.first_errors.len() < ERRORS_SHOWN_MAX {
            self.first_errors.push(what);
        }
    }

    pub fn add(&mut self, other: Summary) {
        for (decision, count) in other.decisions {
            *self.decisions.entry(decision).or_default() += count;
        }
        self.requests += other.requests;
        self.settled += other.settled;
        self.tokens += other.tokens;
        self.cost += other.cost;
        self.saved_by_downgrade += other.saved_by_downgrade;
        self.late += other.late;
        self.errors += other.errors;
        self.first_errors.extend(other.first_errors);
        self.first_errors.truncate(ERRORS_SHOWN_MAX);
        self.authorize.extend(other.authorize);
        self.settle.extend(other.settle);
        self.estimates.extend(other.estimates);
    }
}

/// The value that `percent` of the sorted values do not pass.
fn percentile<T: Copy + Ord>(values: &[T], percent: usize) -> Option<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.requests as f64 / self.took.as_secs_f64().max(0.001);
        writeln!(
            f,
            "{} requests in {:.1} s ({rate:.0}/s), {} settled, {} errors",
            self.requests,
            self.took.as_secs_f64(),
            self.settled,
            self.errors
        )?;
        writeln!(f, "\ndecisions")?;
        for (decision, count) in &self.decisions {
            writeln!(
                f,
                "  {decision:<32} {count:>9}  {:>5.1} %",
                100.0 * *count as f64 / self.requests.max(1) as f64
            )?;
        }
        writeln!(f, "\ntokens                {:>20}", self.tokens)?;
        writeln!(f, "cost                  {:>20} USD", Usd::from_nanos(self.cost).to_string())?;
        writeln!(
            f,
            "saved by downgrade    {:>20} USD",
            Usd::from_nanos(self.saved_by_downgrade).to_string()
        )?;
        writeln!(f, "settled late          {:>20}", self.late)?;
        for (name, values) in [("authorize", &self.authorize), ("settle", &self.settle)] {
            let show = |percent| percentile(values, percent).map_or_else(|| "-".to_owned(), |d| format!("{:.2} ms", d.as_secs_f64() * 1e3));
            writeln!(f, "{name:<12} p50 {:>12}   p99 {:>12}", show(50), show(99))?;
        }
        let longer = self.estimates.iter().filter(|(estimate, actual)| actual > estimate).count();
        let mut errors: Vec<i64> = self
            .estimates
            .iter()
            .map(|(estimate, actual)| (estimate - actual).abs() * 100 / actual.max(&1))
            .collect();
        errors.sort_unstable();
        if let Some(median) = percentile(&errors, 50) {
            let share = 100.0 * longer as f64 / self.estimates.len() as f64;
            writeln!(
                f,
                "estimator    median error {median} % of the answer; {share:.1} % of answers were longer than estimated"
            )?;
        }
        writeln!(
            f,
            "counters     {} workspaces agree with their settlements, {} do not",
            self.agree,
            self.disagree.len()
        )?;
        for workspace in &self.disagree {
            writeln!(f, "  {workspace}")?;
        }
        for error in &self.first_errors {
            writeln!(f, "error: {error}")?;
        }
        Ok(())
    }
}
