//! `weir policy history`: the versions of the policy, newest first.

use super::store::{Absent, with_ledger};
use super::{Failure, say, tell};
use crate::config::Settings;
use crate::ledger::history::{ChangedObject, HistoryQuery, PolicyVersion};
use crate::policy::object::{BILLING_ID, DEFAULT_PLAN_ID, DEFAULT_PRICE_ID, FILES_ID, Kind, MESSAGES_ID, ObjectId, ROUTING_ID};
use clap::Args;
use serde_json::{Value, json};
use std::process::ExitCode;

/// How many objects of one version are named to people; JSON names all.
const OBJECTS_SHOWN: usize = 8;

#[derive(Args)]
pub(in crate::cli) struct HistoryArgs {
    /// Only versions that changed this object: plan/ID, model/ID, routing, messages, billing, default_plan or default_price.
    #[arg(long, value_parser = object)]
    object: Option<ObjectId>,
    /// Only versions before this one.
    #[arg(long)]
    before: Option<i64>,
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

fn object(text: &str) -> Result<ObjectId, String> {
    match (text, text.split_once('/')) {
        (ROUTING_ID, _) => Ok(ObjectId::routing()),
        (MESSAGES_ID, _) => Ok(ObjectId::messages()),
        (BILLING_ID, _) => Ok(ObjectId::billing()),
        (DEFAULT_PLAN_ID, _) => Ok(ObjectId::default_plan()),
        (DEFAULT_PRICE_ID, _) => Ok(ObjectId::default_price()),
        (_, Some(("plan", id))) => Ok(ObjectId::plan(id)),
        (_, Some(("model", id))) => Ok(ObjectId::model(id)),
        _ => Err("plan/ID, model/ID, routing, billing, default_plan or default_price".to_owned()),
    }
}

pub(super) fn history(settings: &Settings, args: &HistoryArgs) -> Result<ExitCode, Failure> {
    with_ledger(settings, Absent::IsRefused, |ledger| async move {
        let query = HistoryQuery {
            object: args.object.as_ref().map(|id| (id.kind.as_str().to_owned(), id.id.clone())),
            before: args.before,
            limit: usize::try_from(args.limit)?,
        };
        let versions = ledger.policy_history(&query).await?;
        if args.json {
            let told: Vec<Value> = versions.iter().map(as_json).collect();
            say(serde_json::to_string_pretty(&told)?)?;
        } else {
            versions.iter().try_for_each(|version| say(line(version)))?;
            if versions.is_empty() {
                tell("no version of the policy is of this kind");
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What the files named is how Weir keeps house.
fn told(version: &PolicyVersion) -> impl Iterator<Item = &ChangedObject> {
    let kept = |object: &&ChangedObject| (object.kind.as_str(), object.id.as_str()) != (Kind::Settings.as_str(), FILES_ID);
    version.objects.iter().filter(kept)
}

fn as_json(version: &PolicyVersion) -> Value {
    let object =
        |object: &ChangedObject| json!({"kind": object.kind, "id": object.id, "version": object.version, "deleted": object.is_deleted});
    json!({"version": version.version, "changed_at": version.changed_at, "actor": version.actor, "reason": version.reason,
        "files_hash": version.files_hash, "objects": told(version).map(object).collect::<Vec<_>>()})
}

fn line(version: &PolicyVersion) -> String {
    let objects: Vec<String> = told(version).map(words).collect();
    let rest = objects.len().saturating_sub(OBJECTS_SHOWN);
    let mut shown = objects[..objects.len() - rest].join(", ");
    if rest > 0 {
        shown.push_str(&format!(" and {rest} more"));
    }
    if objects.is_empty() {
        shown.push_str("nothing: these files were applied, and said the same");
    }
    let head = format!(
        "{:>5}  {}  {}  {}",
        version.version, version.changed_at, version.actor, version.reason
    );
    format!("{}\n       {shown}", head.trim_end())
}

fn words(object: &ChangedObject) -> String {
    let title = Kind::parse(&object.kind).map_or_else(|| object.kind.clone(), |kind| ObjectId::new(kind, &*object.id).to_string());
    match object.is_deleted {
        true => format!("{title} removed"),
        false => format!("{title} ({})", object.version),
    }
}
