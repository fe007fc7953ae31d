//! `weir replay FILE`: a recorded trace against a service, every request authorized and settled over HTTP as a product would do it.
//!
//! Without `--url` the service of the data directory is used if it runs, else one is started in this process. Each run uses workspaces of
//! its own, so that in the end their counters must be what their settlements sum up to, to the token and the nano-dollar.

mod drive;
mod spread;
mod summary;
mod trace;

use super::say;
pub use drive::Target;
use indicatif::{ProgressBar, ProgressStyle};
use spread::{PLANS, Spread};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use summary::Summary;
use tokio::sync::Mutex;

/// The most requests under way at once.
const CONCURRENCY_MAX: usize = 256;
const WORKSPACES_MAX: usize = 10_000;

#[derive(Clone, Debug, clap::Args)]
pub struct ReplayArgs {
    /// CSV (TIMESTAMP, ContextTokens, GeneratedTokens) or JSONL (timestamp, input_length, output_length).
    pub file: PathBuf,
    /// How many times faster than recorded: a number, or max.
    #[arg(long, default_value = "max", value_parser = parse_speed)]
    pub speed: Speed,
    /// Over how many workspaces the requests are spread.
    #[arg(long, default_value_t = 50)]
    pub workspaces: usize,
    /// The same seed spreads alike.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Requests under way at once.
    #[arg(long, default_value_t = 16)]
    pub concurrency: usize,
    /// Stop after so many requests.
    #[arg(long)]
    pub limit: Option<usize>,
    /// A running service; absent: that of the data directory, or one started here.
    #[arg(long)]
    pub url: Option<String>,
    /// A credential with the scopes authorize, read and admin, better given in WEIR_TOKEN; absent: one is made with the key of the data
    /// directory.
    #[arg(long, requires = "url")]
    pub token: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Speed {
    Max,
    Times(f64),
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.parse::<f64>() {
        Ok(times) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err("a positive number, or max".to_owned()),
    }
}

/// The requests of a trace, read before anything is started for them.
pub struct Trace(Vec<trace::Traced>);

/// Checks the arguments and reads the trace.
pub fn read(args: &ReplayArgs) -> Result<Trace, String> {
    let bounds = [
        ("--concurrency", args.concurrency, CONCURRENCY_MAX),
        ("--workspaces", args.workspaces, WORKSPACES_MAX),
    ];
    for (flag, given, most) in bounds {
        if given == 0 || given > most {
            return Err(format!("{flag} must be from 1 to {most}"));
        }
    }
    let mut traced = trace::read(&args.file)?;
    traced.truncate(args.limit.unwrap_or(usize::MAX));
    Ok(Trace(traced))
}

/// Runs a replay against `target` and prints what it found; false: something went wrong on the way.
pub async fn replay(args: &ReplayArgs, Trace(traced): Trace, target: Target) -> Result<bool, String> {
    let target = Arc::new(target);
    target.prepare(args.workspaces, &PLANS).await?;

    let mut spread = Spread::new(args.seed, args.workspaces);
    let planned: Vec<_> = traced.into_iter().map(|request| (request, spread.draw())).collect();
    let progress = ProgressBar::new(planned.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}") {
        progress.set_style(style);
    }
    let queue = Arc::new(Mutex::new(planned.into_iter().enumerate()));
    let began = Instant::now();
    let workers = (0..args.concurrency).map(|_| {
        let (target, queue, progress, speed) = (target.clone(), queue.clone(), progress.clone(), args.speed);
        tokio::spawn(async move {
            let mut summary = Summary::default();
            loop {
                let next = queue.lock().await.next();
                let Some((number, (request, who))) = next else { return summary };
                if let Speed::Times(times) = speed {
                    let due = Duration::from_micros((request.at_micros as f64 / times) as u64);
                    tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
                }
                target.one(number, &request, &who, &mut summary).await;
                progress.inc(1);
            }
        })
    });
    let mut summary = Summary::default();
    for worker in workers.collect::<Vec<_>>() {
        summary.add(worker.await.map_err(|error| format!("a worker broke off: {error}"))?);
    }
    summary.took = began.elapsed();
    progress.finish_and_clear();
    target.check(&mut summary).await;
    say(&summary).map_err(|error| format!("the summary cannot be printed: {error}"))?;
    Ok(summary.errors == 0 && summary.disagree.is_empty())
}
