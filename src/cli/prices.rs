//! `weir prices import FILE`: prices from the table of LiteLLM or genai-prices, into `models.yaml` or straight into the ledger.
//!
//! Everything that it does is listed, and so is what it refuses. A price of a model that is there changes only where that was accepted;
//! otherwise nothing at all is written.

use super::policy::store::{Absent, by, with_ledger};
use super::{Failure, say};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::decision::id::Tier;
use crate::decision::plan::glob_matches;
use crate::flow;
use crate::flow::policy::lifecycle::{self, Wanted};
use crate::policy::document::{EffectiveFrom, ModelDocument, SourceDocument};
use crate::policy::files::{FileProblems, Files, MODELS_FILE, Sources};
use crate::policy::object::{Change, Kind, ObjectId, model_body};
use crate::policy::prices::merge::{FAST_OUTPUT_USD_MAX, FRONTIER_OUTPUT_USD_MIN, Merge, Terms, TierRule, merge};
use crate::policy::prices::{Format, Reason, Refused, Selection, TABLE_BYTES_MAX, Table, edit, read};
use crate::policy::{Policy, read as documents};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How many models are named for each reason, unless all are asked for.
const NAMES_SHOWN: usize = 5;

#[derive(Subcommand)]
pub(super) enum PricesCommand {
    /// Take prices over from a table of LiteLLM or genai-prices (JSON).
    Import(Box<ImportArgs>),
}

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The table, as it was fetched.
    file: PathBuf,
    /// litellm or genai-prices; absent: the file's shape tells.
    #[arg(long, value_parser = format)]
    format: Option<Format>,
    /// Only models of these names; * and ? stand for others. May be given again.
    #[arg(long)]
    models: Vec<String>,
    /// Only models of this provider, as the table names it.
    #[arg(long)]
    provider: Option<String>,
    /// From when prices hold that the table has no date for; absent: today, UTC.
    #[arg(long, value_parser = EffectiveFrom::parse)]
    effective_from: Option<EffectiveFrom>,
    /// The tier of models that are new here; auto: by the price of output (to 5 USD per million fast, below 20 mid, else frontier).
    #[arg(long, value_parser = tier)]
    tier: Option<TierRule>,
    /// Change prices of models that are there.
    #[arg(long)]
    accept_changes: bool,
    /// Change prices of these models only, and leave those of others as they are. May be given again.
    #[arg(long, conflicts_with = "accept_changes")]
    accept: Vec<String>,
    /// Take rates of zero at their word.
    #[arg(long)]
    allow_zero: bool,
    /// Show what would be done, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write into the ledger instead of the policy files.
    #[arg(long)]
    apply: bool,
    /// Where the file was fetched from, to be kept with the prices; absent: its name.
    #[arg(long)]
    source: Option<String>,
    /// Name every model that is refused or missing.
    #[arg(long)]
    all: bool,
}

fn format(text: &str) -> Result<Format, String> {
    Format::parse(text).ok_or_else(|| "litellm or genai-prices".to_owned())
}

fn tier(text: &str) -> Result<TierRule, String> {
    const _: () = assert!(FAST_OUTPUT_USD_MAX == 5 && FRONTIER_OUTPUT_USD_MIN == 20, "the help says so");
    match text {
        "auto" => Ok(TierRule::ByPrice),
        name => Tier::parse(name).map(TierRule::Named),
    }
}

pub(super) fn prices(settings: &Settings, command: &PricesCommand) -> Result<ExitCode, Failure> {
    let PricesCommand::Import(args) = command;
    let selection = Selection {
        models: args.models.clone(),
        provider: args.provider.clone(),
        allow_zero: args.allow_zero,
    };
    let unreadable = |why| format!("{}: {why}", args.file.display());
    let table = read(&table_text(&args.file)?, args.format, &selection).map_err(unreadable)?;
    let terms = terms(args, &table)?;
    match args.apply {
        true => into_ledger(settings, args, &table, &terms),
        false => into_files(&settings.policies, args, &table, &terms),
    }
}

fn table_text(path: &Path) -> Result<String, Failure> {
    let cannot = |cause: std::io::Error| format!("{} cannot be read: {cause}", path.display());
    let mut text = String::new();
    let limit = u64::try_from(TABLE_BYTES_MAX + 1)?;
    std::fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(cannot)?;
    Ok(text)
}

fn terms(args: &ImportArgs, table: &Table) -> Result<Terms, Failure> {
    let now = SystemClock.now().to_string();
    let today = EffectiveFrom::parse(now.split('T').next().unwrap_or_default())?;
    let name = || args.file.file_name().map(|name| name.to_string_lossy().into_owned());
    Ok(Terms {
        effective_from: args.effective_from.clone().unwrap_or_else(|| today.clone()),
        tier: args.tier.clone(),
        source: SourceDocument {
            name: table.format.as_str().to_owned(),
            origin: args.source.clone().or_else(name).unwrap_or_default(),
            sha256: table.sha256.clone(),
            imported_on: today,
        },
    })
}

fn into_files(directory: &Path, args: &ImportArgs, table: &Table, terms: &Terms) -> Result<ExitCode, Failure> {
    let told = |problems: FileProblems| format!("the files in {} are not good:\n{problems}", directory.display());
    if !directory.is_dir() {
        let told = format!(
            "there is no directory {}; `weir policy export` writes one, --apply needs none",
            directory.display()
        );
        return Err(told.into());
    }
    let sources = Sources::read(directory).map_err(told)?;
    let files = Files::load(&sources).map_err(told)?;
    let models: Vec<ModelDocument> = files.documents.models.into_iter().map(|(_, model)| model).collect();
    let merge = chosen(merge(&models, table, terms), args);
    if let Some(code) = shown(&merge, args)? {
        return Ok(code);
    }
    let edited = Sources {
        models: edit::edited(&sources.models, &models, &merge)?,
        ..sources
    };
    Files::load(&edited).map_err(|problems| format!("these prices make no good policy, and nothing was written:\n{problems}"))?;
    replace(&directory.join(MODELS_FILE), &edited.models)?;
    say(format_args!(
        "written to {}; `weir policy apply` puts it in force",
        directory.join(MODELS_FILE).display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Whoever reads the file meanwhile sees the old one or the new one.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("yaml.new");
    let replaced = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path));
    replaced.map_err(|cause| format!("{} cannot be written: {cause}", path.display()).into())
}

fn into_ledger(settings: &Settings, args: &ImportArgs, table: &Table, terms: &Terms) -> Result<ExitCode, Failure> {
    with_ledger(settings, Absent::IsRefused, |ledger| async move {
        let policy = flow::policy::in_force(&*ledger).await?.ok_or("the ledger has no policy yet")?;
        let models = models_of(&policy)?;
        let merge = chosen(merge(&models, table, terms), args);
        if let Some(code) = shown(&merge, args)? {
            return Ok(code);
        }
        let applied = merge.applied(&models);
        let change = |model: &ModelDocument| -> Change { (ObjectId::model(model.id.as_str()), Some(model_body(model))) };
        let changes: Vec<Change> = applied.iter().map(change).collect();
        let by = by(format!("prices of {} from {}", terms.source.name, terms.source.origin));
        // What was shown is what is written, or nothing is.
        let (_, version) = lifecycle::apply(&*ledger, &Wanted::Changes(&changes), &by, Some(policy.version), &SystemClock).await?;
        say(format_args!(
            "policy version {version} is in force; running nodes follow within 2 s"
        ))?;
        Ok(ExitCode::SUCCESS)
    })
}

fn models_of(policy: &Policy) -> Result<Vec<ModelDocument>, Failure> {
    let models = policy.objects().filter(|object| object.id.kind == Kind::Model);
    let read = models.map(|object| documents::read(&object.body).map_err(|_| format!("model {} cannot be read", object.id.id).into()));
    read.collect()
}

/// Without the changes that were not asked for where some were.
fn chosen(mut merge: Merge, args: &ImportArgs) -> Merge {
    if !args.accept.is_empty() {
        let before = merge.changed.len();
        merge
            .changed
            .retain(|change| args.accept.iter().any(|glob| glob_matches(glob, change.model.as_str())));
        merge.unchanged += before - merge.changed.len();
    }
    merge
}

/// Tells everything, and whether that is all: nothing to write, nothing that may be written, or nothing that shall.
fn shown(merge: &Merge, args: &ImportArgs) -> Result<Option<ExitCode>, Failure> {
    for model in &merge.added {
        let from = model.prices.first().map(|price| price.effective_from.as_str()).unwrap_or_default();
        say(format_args!(
            "+ model {} ({}, {}) from {from}",
            model.id, model.provider, model.tier
        ))?;
    }
    for change in &merge.changed {
        say(format_args!("~ model {} from {}", change.model, change.new.effective_from.as_str()))?;
        for field in &change.fields {
            let value = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string);
            say(format_args!("    {}: {} → {}", field.pointer, value(&field.old), value(&field.new)))?;
        }
    }
    refusals(merge, args.all)?;
    if !merge.missing.is_empty() {
        let names: Vec<String> = merge.missing.iter().map(ToString::to_string).collect();
        say(format_args!(
            "no longer in the table, and left as they are: {}",
            listed(&names, args.all)
        ))?;
    }
    for (left_out, count) in &merge.left_out {
        say(format_args!("left out of {count} models: {left_out}"))?;
    }
    let (added, changed, refused) = (merge.added.len(), merge.changed.len(), merge.refused.len());
    say(format_args!(
        "{added} added, {changed} changed, {} unchanged, {} missing, {refused} refused",
        merge.unchanged,
        merge.missing.len()
    ))?;
    if !merge.without_tier.is_empty() {
        let names: Vec<String> = merge.without_tier.iter().map(ToString::to_string).collect();
        let told = "new models need a tier: name it with --tier, or say --tier auto; nothing was written";
        return Err(format!("{} {told}: {}", names.len(), listed(&names, args.all)).into());
    }
    if !merge.changed.is_empty() && !args.accept_changes && args.accept.is_empty() {
        return Err(format!("{changed} prices would change, so nothing was written: say --accept-changes, or --accept MODEL").into());
    }
    if merge.is_empty() {
        say("there is nothing to write")?;
        return Ok(Some(ExitCode::SUCCESS));
    }
    Ok(args.dry_run.then_some(ExitCode::SUCCESS))
}

fn refusals(merge: &Merge, all: bool) -> Result<(), Failure> {
    let mut rest: &[Refused] = &merge.refused;
    while let Some(first) = rest.first() {
        let reason: Reason = first.reason;
        let (same, others) = rest.split_at(rest.iter().take_while(|refused| refused.reason == reason).count());
        let name = |refused: &Refused| match refused.detail.as_str() {
            "" => visible(&refused.model),
            detail => visible(&format!("{} ({detail})", refused.model)),
        };
        let names: Vec<String> = same.iter().map(name).collect();
        let count = same.len();
        say(format_args!("refused, {count}: {reason}\n    {}", listed(&names, all)))?;
        rest = others;
    }
    Ok(())
}

/// What strangers wrote into a table must not move a terminal's cursor.
fn visible(text: &str) -> String {
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

fn listed(names: &[String], all: bool) -> String {
    let shown = if all { names.len() } else { NAMES_SHOWN };
    let rest = names.len().saturating_sub(shown);
    let mut text = names[..names.len() - rest].join(", ");
    if rest > 0 {
        text.push_str(&format!(" and {rest} more; --all names them"));
    }
    text
}
