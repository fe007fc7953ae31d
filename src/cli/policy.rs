//! `weir policy check`: reads the policy files like a compiler, every problem with file, line and column.

use super::{Failure, say};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::policy::check::check;
use clap::Subcommand;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Check policy files without using them.
    Check {
        /// The directory; absent: the one of the settings.
        directory: Option<PathBuf>,
    },
}

pub(super) fn policy(settings: &Settings, command: &PolicyCommand) -> Result<ExitCode, Failure> {
    let PolicyCommand::Check { directory } = command;
    let directory = directory.as_ref().unwrap_or(&settings.policies);
    if !directory.is_dir() {
        return Err(format!(
            "there is no directory {}; name the one with models.yaml, plans.yaml and routing.yaml",
            directory.display()
        )
        .into());
    }
    let report = check(directory, SystemClock.now());
    if report.is_good() {
        say(report)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("{report}");
    Ok(ExitCode::FAILURE)
}
