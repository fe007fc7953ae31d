//! `weir cache`: `evaluate FILE` tells how often similar prompts would be answered from the cache, and how often wrongly, by threshold, with and
//! without vetoes, on pairs that somebody has labelled; it asks nothing but the endpoint for vectors. `report` tells from the ledger how often
//! they were. Both change nothing.

use super::policy::store::{Absent, with_ledger};
use super::{Failure, say, serve, tell};
use crate::cache::embedder::Embedder;
use crate::cache::vector::Vector;
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::decision::amount::Ratio;
use crate::decision::cache::veto::Signature;
use crate::decision::id::WorkspaceId;
use clap::{Args, Subcommand};
use futures_util::StreamExt;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long one request for vectors may take; no decision waits for it here.
const REQUEST_SECONDS_MAX: u64 = 120;
/// How many texts wait for vectors at once.
const TEXTS_AT_ONCE: usize = 128;
/// Between which thresholds one is looked for, and how far apart, in ten-thousandths.
const LOOKED_FROM: u16 = 5_000;
const LOOKED_STEP: usize = 50;
const DAY_SECONDS: i64 = 24 * 3600;
const DAYS_MAX: i64 = 3_650;

#[derive(Subcommand)]
pub enum CacheCommand {
    /// Tell hit rate and false-hit rate by threshold, and recommend one.
    Evaluate(EvaluateArgs),
    /// How many requests of each feature were answered from the cache, and what that saved.
    Report(ReportArgs),
}

#[derive(Args)]
pub struct ReportArgs {
    /// Of the last so many days.
    #[arg(long, default_value_t = 30)]
    days: i64,
    /// Of one workspace alone.
    #[arg(long, value_parser = WorkspaceId::parse)]
    workspace: Option<WorkspaceId>,
}

#[derive(Args)]
pub struct EvaluateArgs {
    /// JSON lines: {"a", "b", "duplicate": true | false} or {"label": 1 | 0}; optionally "set", and "embedding_a" and "embedding_b" or
    /// "similarity", where WEIR_EMBEDDINGS_URL is not to be asked.
    file: PathBuf,
    /// The thresholds to tell of.
    #[arg(long, value_delimiter = ',', default_values = ["0.90", "0.92", "0.93", "0.95", "0.97"], value_parser = Ratio::parse)]
    thresholds: Vec<Ratio>,
    /// Which share of the answers that are given may be wrong.
    #[arg(long, default_value = "0.01", value_parser = Ratio::parse)]
    max_false_hit_rate: Ratio,
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    a: String,
    b: String,
    duplicate: Option<bool>,
    label: Option<u8>,
    set: Option<String>,
    embedding_a: Option<Vec<f64>>,
    embedding_b: Option<Vec<f64>>,
    similarity: Option<f64>,
}

/// A pair as it is judged.
struct Pair {
    set: String,
    is_duplicate: bool,
    similarity: Ratio,
    is_vetoed: bool,
}

/// What a threshold makes of a set.
#[derive(Clone, Copy, Default)]
struct Count {
    duplicates: u32,
    others: u32,
    hits: u32,
    false_hits: u32,
}

impl Count {
    fn of<'a>(pairs: impl Iterator<Item = &'a Pair>, threshold: Ratio, with_vetoes: bool) -> Self {
        let mut count = Self::default();
        for pair in pairs {
            let is_hit = pair.similarity >= threshold && !(with_vetoes && pair.is_vetoed);
            let (all, hits) = match pair.is_duplicate {
                true => (&mut count.duplicates, &mut count.hits),
                false => (&mut count.others, &mut count.false_hits),
            };
            *all += 1;
            *hits += u32::from(is_hit);
        }
        count
    }

    /// Which share of the answers that are given is wrong.
    fn false_hit_rate(&self) -> f64 {
        share(self.false_hits, self.hits + self.false_hits)
    }
}

fn share(part: u32, whole: u32) -> f64 {
    match whole {
        0 => 0.0,
        whole => f64::from(part) / f64::from(whole),
    }
}

pub(super) fn cache(settings: &Settings, command: &CacheCommand) -> Result<ExitCode, Failure> {
    match command {
        CacheCommand::Evaluate(args) => evaluate(settings, args),
        CacheCommand::Report(args) => use_of_features(settings, args),
    }
}

fn use_of_features(settings: &Settings, args: &ReportArgs) -> Result<ExitCode, Failure> {
    if !(1..=DAYS_MAX).contains(&args.days) {
        return Err(format!("--days is from 1 to {DAYS_MAX}").into());
    }
    with_ledger(settings, Absent::IsRefused, |ledger| async move {
        let now = SystemClock.now();
        let (from, to) = (now.plus_seconds(-args.days * DAY_SECONDS), now.plus_seconds(DAY_SECONDS));
        let features = ledger.cache_use(args.workspace.as_ref(), from, to).await?;
        if features.is_empty() {
            say(format_args!("nothing was used in the last {} days", args.days))?;
            return Ok(ExitCode::SUCCESS);
        }
        say("feature                           requests       hits  hit rate        cost USD     avoided USD")?;
        for one in features {
            let all = one.requests + one.hits;
            let rate = if all == 0 { 0.0 } else { 100.0 * one.hits as f64 / all as f64 };
            let (feature, requests, hits) = (one.feature.as_str(), one.requests, one.hits);
            let (cost, avoided) = (one.cost.to_string(), one.avoided.to_string());
            say(format_args!(
                "{feature:<32}  {requests:>8}  {hits:>9}  {rate:>6.1} %  {cost:>14}  {avoided:>14}"
            ))?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn evaluate(settings: &Settings, args: &EvaluateArgs) -> Result<ExitCode, Failure> {
    let lines = read(&args.file)?;
    let vectors = actix_web::rt::System::new().block_on(vectors(settings, &lines))?;
    let pairs: Vec<Pair> = lines.iter().map(|line| pair(line, &vectors)).collect::<Result<_, _>>()?;
    if pairs.is_empty() {
        return Err(format!("{} has no labelled pairs", args.file.display()).into());
    }
    report(&pairs, &args.thresholds)?;
    let wanted = args.max_false_hit_rate.ten_thousandths() as f64 / Ratio::DENOMINATOR as f64;
    let Some(threshold) = recommended(&pairs, wanted) else {
        say(format_args!(
            "\nNo threshold keeps false hits at or below {:.2} % of hits on these pairs.",
            100.0 * wanted
        ))?;
        return Ok(ExitCode::FAILURE);
    };
    let count = Count::of(pairs.iter(), threshold, true);
    say(format_args!(
        "\nRecommended threshold: {:.4} (with vetoes, {:.1} % of duplicates are hits, and {:.2} % of hits are false; wanted at most {:.2} %)",
        shown(threshold),
        100.0 * share(count.hits, count.duplicates),
        100.0 * count.false_hit_rate(),
        100.0 * wanted,
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn shown(ratio: Ratio) -> f64 {
    ratio.ten_thousandths() as f64 / Ratio::DENOMINATOR as f64
}

/// The lines that have a label.
fn read(file: &Path) -> Result<Vec<Line>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    let numbered = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let mut lines = Vec::new();
    for (line, number) in numbered {
        let line: Line = serde_json::from_str(line).map_err(|error| format!("{}:{number}: {error}", file.display()))?;
        if line.duplicate.is_some() || line.label.is_some() {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// Vectors of all texts that came without one.
async fn vectors(settings: &Settings, lines: &[Line]) -> Result<HashMap<Arc<str>, Vector>, Failure> {
    let mut texts: HashSet<&str> = HashSet::new();
    for line in lines.iter().filter(|line| line.similarity.is_none()) {
        texts.extend(line.embedding_a.is_none().then_some(&*line.a));
        texts.extend(line.embedding_b.is_none().then_some(&*line.b));
    }
    if texts.is_empty() {
        return Ok(HashMap::new());
    }
    let Some(mut endpoint) = serve::embeddings(settings) else {
        return Err("these pairs have no vectors; set WEIR_EMBEDDINGS_URL and WEIR_EMBEDDINGS_MODEL, or put embedding_a and embedding_b into the file".into());
    };
    endpoint.timeout = Duration::from_secs(REQUEST_SECONDS_MAX);
    tell(format_args!("asking {} for vectors of {} texts", endpoint.host(), texts.len()));
    let embedder = Embedder::new(&endpoint);
    let made = futures_util::stream::iter(texts).map(|text| {
        let (text, embedder): (Arc<str>, _) = (text.into(), &embedder);
        async move { (text.clone(), embedder.embed(&text).await) }
    });
    let made: Vec<_> = made.buffer_unordered(TEXTS_AT_ONCE).collect().await;
    let mut vectors = HashMap::with_capacity(made.len());
    for (text, vector) in made {
        let vector = vector.map_err(|error| format!("no vector was made of {text:?}: {error}"))?;
        vectors.insert(text, vector);
    }
    Ok(vectors)
}

fn pair(line: &Line, vectors: &HashMap<Arc<str>, Vector>) -> Result<Pair, Failure> {
    let vector = |text: &str, given: &Option<Vec<f64>>| -> Result<Vector, Failure> {
        let vector = match given {
            Some(numbers) => Vector::of(numbers),
            None => vectors.get(text).cloned(),
        };
        vector.ok_or_else(|| format!("the vector of {text:?} has no direction").into())
    };
    let similarity = match line.similarity {
        Some(similarity) => {
            let whole = (similarity * Ratio::DENOMINATOR as f64)
                .round()
                .clamp(0.0, Ratio::DENOMINATOR as f64);
            Ratio::from_ten_thousandths(whole as u16).unwrap_or(Ratio::ONE)
        }
        None => vector(&line.a, &line.embedding_a)?.similarity(&vector(&line.b, &line.embedding_b)?),
    };
    Ok(Pair {
        set: line.set.clone().unwrap_or_else(|| "pairs".to_owned()),
        is_duplicate: line.duplicate.unwrap_or(line.label == Some(1)),
        similarity,
        is_vetoed: Signature::of(&line.a).veto(&Signature::of(&line.b)).is_some(),
    })
}

/// The lowest threshold from which on no higher one has more false hits than wanted.
fn recommended(pairs: &[Pair], wanted: f64) -> Option<Ratio> {
    let looked = (LOOKED_FROM..=Ratio::ONE.ten_thousandths() as u16).rev().step_by(LOOKED_STEP);
    let thresholds = looked.filter_map(Ratio::from_ten_thousandths);
    let good = thresholds.take_while(|threshold| Count::of(pairs.iter(), *threshold, true).false_hit_rate() <= wanted);
    good.last()
}

fn report(pairs: &[Pair], thresholds: &[Ratio]) -> std::io::Result<()> {
    let mut sets: BTreeMap<&str, Vec<&Pair>> = BTreeMap::new();
    for pair in pairs {
        sets.entry(&pair.set).or_default().push(pair);
    }
    if sets.len() > 1 {
        sets.insert("all together", pairs.iter().collect());
    }
    say(
        "set                                       threshold   hits of duplicates      with vetoes   false of others      with vetoes   false of hits  with vetoes",
    )?;
    for (set, pairs) in &sets {
        for threshold in thresholds {
            let count = |with_vetoes: bool| Count::of(pairs.iter().copied(), *threshold, with_vetoes);
            let (plain, vetoed) = (count(false), count(true));
            let of = |part: u32, whole: u32| format!("{part} ({:.1} %)", 100.0 * share(part, whole));
            say(format_args!(
                "{set:<42} {:>8.4} {:>20} {:>16} {:>17} {:>16} {:>13.2} % {:>10.2} %",
                shown(*threshold),
                of(plain.hits, plain.duplicates),
                of(vetoed.hits, vetoed.duplicates),
                of(plain.false_hits, plain.others),
                of(vetoed.false_hits, vetoed.others),
                100.0 * plain.false_hit_rate(),
                100.0 * vetoed.false_hit_rate(),
            ))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(similarity: u16, is_duplicate: bool, is_vetoed: bool) -> Pair {
        Pair {
            set: "s".to_owned(),
            is_duplicate,
            similarity: Ratio::from_ten_thousandths(similarity).expect("a share"),
            is_vetoed,
        }
    }

    #[test]
    fn the_lowest_threshold_is_recommended_above_which_all_is_well() {
        let pairs = [
            pair(9_900, true, false),
            pair(9_850, false, true),
            pair(9_700, true, false),
            pair(9_420, false, false),
            pair(9_300, true, false),
        ];
        let threshold = |wanted: f64| recommended(&pairs, wanted).map(Ratio::ten_thousandths);
        assert_eq!(threshold(0.0), Some(9_450));
        assert_eq!(threshold(0.34), Some(5_000), "a third of what is found from there on is false");
        assert_eq!(threshold(0.26), Some(9_450));
        let count = Count::of(pairs.iter(), Ratio::from_ten_thousandths(9_400).expect("a share"), false);
        assert_eq!((count.duplicates, count.others, count.hits, count.false_hits), (3, 2, 2, 2));
    }
}
