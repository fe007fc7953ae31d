//! `weir policy diff`, `apply` and `rollback`: one proposal, shown; written if it was asked for.

use super::store::{Absent, by, with_ledger};
use super::{Failure, existing, say};
use crate::api::by::check_reason;
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::flow::FlowError;
use crate::flow::policy::lifecycle::{self, Proposal, Stranded, Wanted, stranded_words};
use crate::policy::compare::Comparison;
use crate::policy::files::{Files, Sources};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(in crate::cli) struct DiffArgs {
    /// The directory; absent: the one of the settings.
    directory: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(in crate::cli) struct ApplyArgs {
    /// The directory; absent: the one of the settings.
    directory: Option<PathBuf>,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Args)]
pub(in crate::cli) struct RollbackArgs {
    /// The policy version to go back to; `weir policy history` lists them.
    version: i64,
    #[command(flatten)]
    how: HowArgs,
}

#[derive(Args)]
struct HowArgs {
    /// Why, for the history.
    #[arg(long, value_parser = reason)]
    reason: Option<String>,
    /// Show what would change, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// The policy version that was looked at; another one refuses.
    #[arg(long)]
    expected_version: Option<i64>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("a reason has at least one character".to_owned());
    }
    check_reason(text).map_err(|why| format!("a reason {why}"))?;
    Ok(text.to_owned())
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    comparison: &'a Comparison,
    stranded: &'a [Stranded],
    /// The version that was made; none where nothing was written.
    applied_version: Option<i64>,
}

fn files(directory: &Path) -> Result<Files, Failure> {
    let loaded = Sources::read(directory).and_then(|sources| Files::load(&sources));
    loaded.map_err(|problems| {
        format!(
            "the files in {} are not good, see `weir policy check`:\n{problems}",
            directory.display()
        )
        .into()
    })
}

pub(super) fn diff(settings: &Settings, args: &DiffArgs) -> Result<ExitCode, Failure> {
    let files = files(existing(settings, args.directory.as_deref())?)?;
    with_ledger(settings, Absent::IsRefused, |ledger| async move {
        let proposal = lifecycle::propose(&*ledger, &Wanted::Files(&files)).await?;
        show(&proposal, None, args.json)?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) fn apply(settings: &Settings, args: &ApplyArgs) -> Result<ExitCode, Failure> {
    let directory = existing(settings, args.directory.as_deref())?;
    let files = files(directory)?;
    let absent = if args.how.dry_run { Absent::IsRefused } else { Absent::IsMade };
    let reason = format!("files of {}", directory.display());
    make(settings, absent, &Wanted::Files(&files), reason, &args.how)
}

pub(super) fn rollback(settings: &Settings, args: &RollbackArgs) -> Result<ExitCode, Failure> {
    let reason = format!("rollback to version {}", args.version);
    make(settings, Absent::IsRefused, &Wanted::Version(args.version), reason, &args.how)
}

fn make(settings: &Settings, absent: Absent, wanted: &Wanted<'_>, reason: String, how: &HowArgs) -> Result<ExitCode, Failure> {
    with_ledger(settings, absent, |ledger| async move {
        if how.dry_run {
            let proposal = lifecycle::propose(&*ledger, wanted).await?;
            if let Some(expected) = how.expected_version.filter(|expected| *expected != proposal.before.version) {
                let version = proposal.before.version;
                return Err(format!("the policy is at version {version} and no longer at {expected}; look at it again").into());
            }
            show(&proposal, None, how.json)?;
            return Ok(if proposal.stranded.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            });
        }
        let by = by(how.reason.clone().unwrap_or(reason));
        match lifecycle::apply(&*ledger, wanted, &by, how.expected_version, &SystemClock).await {
            Ok((proposal, version)) => {
                show(&proposal, Some(version), how.json)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(FlowError::WouldStrand(stranded)) => {
                let proposal = lifecycle::propose(&*ledger, wanted).await?;
                match how.json {
                    true => show(&proposal, None, true)?,
                    // Why it is refused is said by the error.
                    false => say(proposal.comparison())?,
                }
                Err(FlowError::WouldStrand(stranded).into())
            }
            Err(error) => Err(error.into()),
        }
    })
}

fn show(proposal: &Proposal, version: Option<i64>, json: bool) -> Result<(), Failure> {
    let comparison = proposal.comparison();
    let made = version.filter(|version| *version != proposal.before.version);
    if json {
        let told = Told {
            comparison: &comparison,
            stranded: &proposal.stranded,
            applied_version: made,
        };
        say(serde_json::to_string_pretty(&told)?)?;
        return Ok(());
    }
    say(&comparison)?;
    if !proposal.stranded.is_empty() && version.is_none() {
        say(format_args!("refused: {}", stranded_words(&proposal.stranded)))?;
    }
    if let Some(version) = made.filter(|_| proposal.changes.is_empty()) {
        say(format_args!("version {version} notes that these files were applied"))?;
    } else if let Some(version) = made {
        say(format_args!(
            "policy version {version} is in force; running nodes follow within 2 s"
        ))?;
    }
    Ok(())
}
