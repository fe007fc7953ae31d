//! `weir policy …`: the life of a policy from the file to the ledger and back. Files are read like a compiler would; what is changed is shown
//! before it is, and nothing is changed that would leave a workspace without a plan.
//!
//! These commands work on the ledger that the settings name, while a service runs on it too: a running node follows within 2 s.

mod changes;
mod export;
mod golden;
mod history;
pub(super) mod store;

use super::{Failure, say, tell};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::policy::check::check;
use clap::Subcommand;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Check policy files without using them.
    Check {
        /// The directory; absent: the one of the settings.
        directory: Option<PathBuf>,
    },
    /// Show what policy files would change, and for how many workspaces.
    Diff(changes::DiffArgs),
    /// Make the policy what the files say.
    Apply(changes::ApplyArgs),
    /// Write the policy in force as files.
    Export(export::ExportArgs),
    /// List the versions of the policy: who, when, why, what.
    History(history::HistoryArgs),
    /// Make the policy again what it was at a version.
    Rollback(changes::RollbackArgs),
    /// Run golden cases: example requests against expected decisions.
    Test(golden::TestArgs),
}

impl PolicyCommand {
    /// Whether it needs the ledger, and so settings that go together.
    pub(super) fn needs_ledger(&self) -> bool {
        !matches!(self, PolicyCommand::Check { .. } | PolicyCommand::Test(_))
    }
}

pub(super) fn policy(settings: &Settings, command: &PolicyCommand) -> Result<ExitCode, Failure> {
    match command {
        PolicyCommand::Check { directory } => check_files(settings, directory.as_deref()),
        PolicyCommand::Diff(args) => changes::diff(settings, args),
        PolicyCommand::Apply(args) => changes::apply(settings, args),
        PolicyCommand::Export(args) => export::export(settings, args),
        PolicyCommand::History(args) => history::history(settings, args),
        PolicyCommand::Rollback(args) => changes::rollback(settings, args),
        PolicyCommand::Test(args) => golden::test(settings, args),
    }
}

fn check_files(settings: &Settings, directory: Option<&Path>) -> Result<ExitCode, Failure> {
    let report = check(existing(settings, directory)?, SystemClock.now());
    if report.is_good() {
        say(report)?;
        return Ok(ExitCode::SUCCESS);
    }
    tell(report);
    Ok(ExitCode::FAILURE)
}

/// The directory of policy files that was named, or the one of the settings.
fn existing<'a>(settings: &'a Settings, directory: Option<&'a Path>) -> Result<&'a Path, Failure> {
    let directory = directory.unwrap_or(&settings.policies);
    if directory.is_dir() {
        return Ok(directory);
    }
    Err(format!(
        "there is no directory {}; name the one with models.yaml, plans.yaml and routing.yaml",
        directory.display()
    )
    .into())
}
