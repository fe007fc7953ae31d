//! `weir policy export`: the policy in force as the files that an operator would have written. What they say is the same; comments and the
//! order of what has none are not kept.

use super::store::{Absent, with_ledger};
use super::{Failure, say};
use crate::config::Settings;
use crate::flow;
use crate::policy;
use crate::policy::files::{BILLING_FILE, CLASSIFIER_FILE, MESSAGES_FILE, MODELS_FILE, PLANS_FILE, ROUTING_FILE, Sources};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(in crate::cli) struct ExportArgs {
    /// The directory to write into; it is made if it is not there.
    directory: PathBuf,
    /// Another version than the one in force.
    #[arg(long)]
    version: Option<i64>,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

pub(super) fn export(settings: &Settings, args: &ExportArgs) -> Result<ExitCode, Failure> {
    with_ledger(settings, Absent::IsRefused, |ledger| async move {
        let policy = match args.version {
            Some(version) => flow::policy::was_in_force(&*ledger, version).await?,
            None => flow::policy::in_force(&*ledger).await?.ok_or("the ledger has no policy yet")?,
        };
        write(&args.directory, &policy::export::export(&policy)?, args.force)?;
        say(format_args!("policy version {} is in {}", policy.version, args.directory.display()))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Writes all files, or none if one is there that nobody gave up.
fn write(directory: &Path, sources: &Sources, force: bool) -> Result<(), Failure> {
    std::fs::create_dir_all(directory).map_err(|cause| format!("{} cannot be made: {cause}", directory.display()))?;
    // A file that is left from another version would say more than this one does: nothing of billing is said by empty lists.
    let nothing = "meters: []\nplans_by_price: {}\n".to_owned();
    let is_there = directory.join(BILLING_FILE).exists();
    let billing = sources.billing.as_ref().or(is_there.then_some(&nothing));
    let as_shipped = "locales: []\n".to_owned();
    let is_there = directory.join(MESSAGES_FILE).exists();
    let messages = sources.messages.as_ref().or(is_there.then_some(&as_shipped));
    let mut files = vec![
        (MODELS_FILE, &sources.models),
        (PLANS_FILE, &sources.plans),
        (ROUTING_FILE, &sources.routing),
    ];
    files.extend(sources.classifier.as_ref().map(|text| (CLASSIFIER_FILE, text)));
    files.extend(billing.map(|text| (BILLING_FILE, text)));
    files.extend(messages.map(|text| (MESSAGES_FILE, text)));
    if let Some((name, _)) = files.iter().find(|(name, _)| !force && directory.join(name).exists()) {
        let path = directory.join(name);
        return Err(format!(
            "{} is there already; choose another directory, or replace it with --force",
            path.display()
        )
        .into());
    }
    for (name, text) in files {
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|cause| format!("{} cannot be written: {cause}", path.display()))?;
    }
    Ok(())
}
