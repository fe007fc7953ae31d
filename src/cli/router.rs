//! `weir router`: trains the classifier that routing rules may ask, tells what routing by it would save and lose, and reports how second
//! tries went. Training and evaluation read a file and need no ledger; nothing of its texts is kept.

mod labelled;

use super::policy::store::{Absent, by, with_ledger};
use super::{Failure, say};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::decision::amount::Ratio;
use crate::decision::cascade::{Advice, GAIN_MIN, advise};
use crate::decision::classifier::curve::{Judged, Point, curve, recovered};
use crate::decision::classifier::train::{Quality, ROWS_MIN, Trained, train};
use crate::flow::policy::lifecycle::{self, Wanted};
use crate::policy::compile::classifier_document;
use crate::policy::object::{ObjectId, classifier_body};
use clap::{Args, Subcommand};
use labelled::{Labelled, read};
use std::path::PathBuf;
use std::process::ExitCode;

/// A day's seconds.
const DAY_SECONDS: i64 = 24 * 3600;
/// In how many steps a curve is printed.
const STEPS: usize = 10;
/// In how many it is summed up.
const FINE_STEPS: usize = 200;

#[derive(Subcommand)]
pub(super) enum RouterCommand {
    /// Train the classifier on requests whose outcome is known, as JSON lines: prompt, weak_correct, perhaps attributes.
    Train(TrainArgs),
    /// What routing would save and lose on such requests, by the classifier, by length and at random.
    Evaluate(EvaluateArgs),
    /// How often answers were tried again on a better model, what that cost, and from which score on it helps.
    Report(ReportArgs),
}

#[derive(Args)]
pub(super) struct TrainArgs {
    file: PathBuf,
    /// Write it into a file, such as policies/classifier.json.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Put it in force, as a new version of the policy.
    #[arg(long)]
    apply: bool,
    /// Why, for the history.
    #[arg(long, requires = "apply")]
    reason: Option<String>,
    /// The same seed and file give the same classifier.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
pub(super) struct EvaluateArgs {
    file: PathBuf,
    /// How many times as much the strong model costs.
    #[arg(long, default_value_t = 10.0)]
    cost_ratio: f64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
pub(super) struct ReportArgs {
    /// Of the last so many days.
    #[arg(long, default_value_t = 30)]
    days: i64,
    /// How much better an answer must become for a second try to be worth it, from 0 to 1.
    #[arg(long, default_value = "0.05", value_parser = Ratio::parse)]
    gain: Ratio,
}

impl RouterCommand {
    pub(super) fn needs_ledger(&self) -> bool {
        match self {
            RouterCommand::Train(args) => args.apply,
            RouterCommand::Evaluate(_) => false,
            RouterCommand::Report(_) => true,
        }
    }
}

pub(super) fn router(settings: &Settings, command: &RouterCommand) -> Result<ExitCode, Failure> {
    match command {
        RouterCommand::Train(args) => trains(settings, args),
        RouterCommand::Evaluate(args) => evaluate(args),
        RouterCommand::Report(args) => report(settings, args),
    }
}

/// Trains on rows of which there are enough.
fn trained(rows: &[Labelled], seed: u64) -> Result<Trained, Failure> {
    let sufficed = rows.iter().filter(|row| row.row.weak_sufficed).count();
    if sufficed < ROWS_MIN || rows.len() - sufficed < ROWS_MIN {
        let told = format!(
            "there are {} requests, and the weak model sufficed for {sufficed}: at least {ROWS_MIN} of each kind are needed",
            rows.len()
        );
        return Err(told.into());
    }
    let rows: Vec<_> = rows.iter().map(|row| row.row.clone()).collect();
    Ok(train(&rows, seed))
}

fn trains(settings: &Settings, args: &TrainArgs) -> Result<ExitCode, Failure> {
    let trained = trained(&read(&args.file)?, args.seed)?;
    show(&trained.quality)?;
    let document = classifier_document(&trained, args.seed);
    let body = classifier_body(&document);
    if let Some(path) = &args.out {
        std::fs::write(path, format!("{body:#}\n")).map_err(|cause| format!("{} cannot be written: {cause}", path.display()))?;
        say(format_args!("written to {}; `weir policy apply` puts it in force", path.display()))?;
    }
    if !args.apply {
        if args.out.is_none() {
            say("nothing was kept: --out FILE writes it, --apply puts it in force")?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let reason = args.reason.clone();
    let by = by(reason.unwrap_or_else(|| format!("trained on {} requests", trained.quality.rows)));
    let changes = [(ObjectId::classifier(), Some(body))];
    with_ledger(settings, Absent::IsRefused, |ledger| async move {
        let (_, version) = lifecycle::apply(&*ledger, &Wanted::Changes(&changes), &by, None, &SystemClock).await?;
        say(format_args!(
            "policy version {version} is in force; running nodes follow within 2 s"
        ))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn show(quality: &Quality) -> Result<(), Failure> {
    say(format_args!(
        "{} requests, the weak model sufficed for {}; each was judged by a model that had not seen it:",
        quality.rows, quality.weak_sufficed
    ))?;
    say(format_args!(
        "AUC {:.3} (0.5: no better than chance), log loss {:.4} (always the share: {:.4})",
        quality.auc, quality.log_loss, quality.log_loss_of_share
    ))?;
    say("\n  requests  predicted  observed")?;
    for band in &quality.bands {
        say(format_args!("{:>10}  {:>9.2}  {:>8.2}", band.rows, band.predicted, band.observed))?;
    }
    say("")?;
    Ok(())
}

fn evaluate(args: &EvaluateArgs) -> Result<ExitCode, Failure> {
    if !(args.cost_ratio.is_finite() && args.cost_ratio >= 1.0) {
        return Err("--cost-ratio is how many times as much the strong model costs: 1 or more".into());
    }
    let rows = read(&args.file)?;
    let trained = trained(&rows, args.seed)?;
    show(&trained.quality)?;
    let judged = |score: &dyn Fn(usize) -> f64| -> Vec<Judged> {
        let judged = rows.iter().enumerate().map(|(place, row)| Judged {
            score: score(place),
            weak_correct: row.row.weak_sufficed,
            strong_correct: row.strong_correct,
        });
        judged.collect()
    };
    let by_classifier = judged(&|place| trained.held_out[place]);
    let by_length = judged(&|place| -(rows[place].prompt_bytes as f64));
    let points = |rows: &[Judged]| curve(rows, args.cost_ratio, STEPS);
    print(&points(&by_classifier), &points(&by_length))?;
    let summed = |rows: &[Judged]| 100.0 * recovered(&curve(rows, args.cost_ratio, FINE_STEPS));
    say(format_args!(
        "\nof the way from all weak to all strong, on average over all shares: classifier {:.1} %, length {:.1} %, random 50 %",
        summed(&by_classifier),
        summed(&by_length)
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn print(classifier: &[Point], length: &[Point]) -> Result<(), Failure> {
    say("good answers, with the requests that look hardest on the strong model:")?;
    say("\n  strong  cost saved  classifier  length  random")?;
    for (by_classifier, by_length) in classifier.iter().zip(length) {
        say(format_args!(
            "{:>6.0} %  {:>8.1} %  {:>8.1} %  {:>4.1} %  {:>4.1} %",
            100.0 * by_classifier.strong_share,
            100.0 * by_classifier.cost_saved,
            100.0 * by_classifier.quality,
            100.0 * by_length.quality,
            100.0 * by_classifier.random,
        ))?;
    }
    Ok(())
}

fn report(settings: &Settings, args: &ReportArgs) -> Result<ExitCode, Failure> {
    if !(1..=3_650).contains(&args.days) {
        return Err("--days is from 1 to 3650".into());
    }
    with_ledger(settings, Absent::IsRefused, |ledger| async move {
        let now = SystemClock.now();
        let from = now.plus_seconds(-args.days * DAY_SECONDS);
        let bands = ledger.escalations(from, now.plus_seconds(DAY_SECONDS)).await?;
        if bands.is_empty() {
            say(format_args!("no answer of the last {} days was offered a second try", args.days))?;
        }
        for advice in advise(&bands, args.gain.ten_thousandths()) {
            tell(&advice, args.gain)?;
            say("   score   answers  escalated  judged  before  after")?;
            let of_pair = |band: &&_| is_of(band, &advice);
            for band in bands.iter().filter(of_pair) {
                let mean = |sum: i64| match band.judged {
                    0 => "-".to_owned(),
                    judged => format!("{:.2}", sum as f64 / judged as f64 / 10_000.0),
                };
                let score = band.tenth.map_or_else(|| "none".to_owned(), |tenth| format!("0.{tenth}"));
                say(format_args!(
                    "{score:>8}  {:>8}  {:>9}  {:>6}  {:>6}  {:>5}",
                    band.answers,
                    band.escalated,
                    band.judged,
                    mean(band.score_before),
                    mean(band.score_after)
                ))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn is_of(band: &crate::decision::cascade::Band, advice: &Advice) -> bool {
    band.model == advice.model && band.next_model == advice.next_model
}

fn tell(advice: &Advice, gain: Ratio) -> Result<(), Failure> {
    let share = |ratio: Ratio| ratio.ten_thousandths() as f64 / 10_000.0;
    say(format_args!(
        "{} → {}: {} answers, {} tried again ({:.1} %); the answers cost {} USD, the second tries {} USD",
        advice.model,
        advice.next_model,
        advice.answers,
        advice.escalated,
        advice.rate() as f64 / 100.0,
        advice.cost,
        advice.escalated_cost
    ))?;
    match advice.recommended {
        Some(recommended) => say(format_args!(
            "min_quality_score is {}; {} is recommended: up to there a second try gained {} or more (default {})",
            share(advice.threshold),
            share(recommended),
            share(gain),
            GAIN_MIN as f64 / 10_000.0
        ))?,
        None => say(format_args!(
            "min_quality_score is {}; too few second tries were judged to recommend another",
            share(advice.threshold)
        ))?,
    }
    Ok(())
}
