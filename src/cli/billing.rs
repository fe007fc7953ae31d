//! `weir billing reconcile`: the ledger, its batches and the provider's sums, side by side. Works on the stores, beside a service or without.

use super::{Failure, ledger, say};
use crate::billing::Provider;
use crate::billing::cloudevents::CloudEvents;
use crate::billing::none::NoProvider;
use crate::billing::reconcile::Reconciler;
use crate::billing::stripe::{Stripe, StripeSettings};
use crate::clock::{Clock, SystemClock};
use crate::config::{BillingProvider, Secret, Settings};
use crate::decision::billing::report::{Outcome, Report};
use crate::decision::finding::Finding;
use crate::decision::id::{MeterId, WorkspaceId};
use crate::decision::meter::Meter;
use crate::decision::time::Timestamp;
use crate::flow::policy;
use crate::flow::reconcile::{self, Wanted};
use crate::ledger::Ledger;
use crate::ledger::audit::By;
use crate::ledger::postgres::PostgresLedger;
use clap::{Args, Subcommand};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Subcommand)]
pub(super) enum BillingCommand {
    /// Compare the ledger, its batches and the provider's sums, name each difference, and mend what needs no guess. The exit code is 1 when a
    /// difference has no explanation.
    Reconcile(ReconcileArgs),
}

#[derive(Args)]
pub(super) struct ReconcileArgs {
    /// From this moment on (RFC 3339); three days back where it is not given.
    #[arg(long)]
    from: Option<String>,
    /// Before this moment; now where it is not given.
    #[arg(long)]
    to: Option<String>,
    /// Only this workspace.
    #[arg(long)]
    workspace: Option<String>,
    /// Only this meter.
    #[arg(long)]
    meter: Option<String>,
    /// As JSON, as the API has it.
    #[arg(long)]
    json: bool,
}

/// Whoever is to be told by these settings.
pub(super) fn provider(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Arc<dyn Provider>, Failure> {
    Ok(match settings.billing_provider {
        BillingProvider::None => Arc::new(NoProvider),
        BillingProvider::Stripe => {
            let key = settings
                .stripe_secret_key
                .as_ref()
                .ok_or("WEIR_BILLING_PROVIDER=stripe needs WEIR_STRIPE_SECRET_KEY")?;
            let key = Secret::new(key.expose().as_str().to_owned());
            let stripe = StripeSettings::new(key, settings.stripe_api_base.as_str());
            Arc::new(Stripe::new(&stripe, clock)?)
        }
        BillingProvider::Cloudevents => {
            let url = settings
                .cloudevents_url
                .as_ref()
                .ok_or("WEIR_BILLING_PROVIDER=cloudevents needs WEIR_CLOUDEVENTS_URL")?;
            Arc::new(CloudEvents::new(url.as_str(), None)?)
        }
    })
}

pub(super) fn billing(settings: &Settings, command: &BillingCommand) -> Result<ExitCode, Failure> {
    let BillingCommand::Reconcile(args) = command;
    let wanted = wanted(args)?;
    actix_web::rt::System::new().block_on(async {
        let ledger: Arc<dyn Ledger> = match settings.production() {
            Some((database, _)) => Arc::new(PostgresLedger::open_as_it_is(database).await?),
            None => Arc::new(ledger::existing(settings).await?),
        };
        let report = report(settings, ledger.clone(), wanted).await;
        ledger.close().await;
        let report = report?;
        match args.json {
            true => say(serde_json::to_string_pretty(&report)?)?,
            false => show(&report)?,
        }
        Ok(match report.unexplained {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    })
}

fn wanted(args: &ReconcileArgs) -> Result<Wanted, Failure> {
    let time = |text: &Option<String>| text.as_deref().map(Timestamp::parse).transpose();
    Ok(Wanted {
        from: time(&args.from)?,
        to: time(&args.to)?,
        workspace: args.workspace.as_deref().map(WorkspaceId::parse).transpose()?,
        meter: args.meter.as_deref().map(MeterId::parse).transpose()?,
    })
}

async fn report(settings: &Settings, ledger: Arc<dyn Ledger>, wanted: Wanted) -> Result<Report, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let by = By {
        actor: "cli".to_owned(),
        reason: "weir billing reconcile".to_owned(),
        request_id: None,
    };
    let scope = reconcile::scope(wanted, clock.now(), &by)?;
    let policy = policy::in_force(&*ledger).await?;
    let reconciler = Reconciler {
        provider: provider(settings, clock.clone())?,
        ledger,
        clock,
        meters: policy.map(|policy| policy.billing.meters.clone()).unwrap_or_default(),
        window_seconds: i64::try_from(settings.billing_window_seconds.get())?,
    };
    Ok(reconciler.reconcile(&scope).await?)
}

fn show(report: &Report) -> Result<(), Failure> {
    say(format_args!("provider {}, from {} to {}", report.provider, report.from, report.to))?;
    for line in &report.lines {
        let whose = match &line.customer {
            Some(customer) => customer.clone(),
            None => line.workspaces.iter().map(WorkspaceId::as_str).collect::<Vec<_>>().join(", "),
        };
        let provider = line.provider.map_or("-".to_owned(), |value| value.to_string());
        say(format_args!(
            "{} {}: ledger {}, batches {}, acknowledged {}, told {}, provider {provider}",
            whose, line.event_name, line.ledger, line.batches, line.acknowledged, line.told
        ))?;
        for named in &line.differences {
            say(format_args!("    {} {}: {}", named.code.as_str(), named.value, named.detail))?;
        }
    }
    for repair in &report.repairs {
        let outcome = match repair.outcome {
            Outcome::Acknowledged => "acknowledged",
            Outcome::SentAgain => "is sent again",
            Outcome::Left => "stays unknown",
        };
        say(format_args!(
            "batch {} of {} ({}) {outcome}: {}",
            repair.batch_id, repair.workspace_id, repair.value, repair.detail
        ))?;
    }
    for credit in &report.credits {
        say(format_args!(
            "grant {} of {} ({} {}) {}: {}",
            credit.grant_id,
            credit.workspace_id,
            credit.amount,
            credit.currency,
            credit.state.as_str(),
            credit.detail
        ))?;
    }
    let lines = report.lines.len();
    match report.unexplained {
        0 => say(format_args!("{lines} customers and meters, every difference has a name"))?,
        unexplained => say(format_args!("{lines} customers and meters, {unexplained} without an explanation"))?,
    }
    Ok(())
}

/// What `weir doctor` says of the provider.
pub(super) async fn look(settings: &Settings, meters: &[Meter], found: &mut Vec<Finding>) {
    let provider = match provider(settings, Arc::new(SystemClock)) {
        Ok(provider) => provider,
        Err(failure) => {
            found.push(Finding::failed("billing", failure.to_string()));
            return;
        }
    };
    if !provider.terms().sends {
        found.push(Finding::fine("billing", "no provider: batches are sealed and kept"));
        return;
    }
    if meters.is_empty() {
        found.push(Finding::warning(
            "billing",
            "policies/billing.yaml names no meters, so nothing is told",
        ));
    }
    let names: Vec<String> = meters.iter().map(|meter| meter.event_name.clone()).collect();
    match provider.check(&names).await {
        Ok(wrong) if wrong.is_empty() => {
            found.push(Finding::fine(
                "billing",
                format!("{} is set up for {} meters", provider.name(), names.len()),
            ));
        }
        Ok(wrong) => found.extend(wrong.into_iter().map(|what| Finding::failed("billing", what))),
        Err(untold) => found.push(Finding::failed("billing", format!("{}: {untold}", provider.name()))),
    }
    if settings.billing_provider == BillingProvider::Stripe && settings.stripe_webhook_secret.is_none() {
        let what = "without WEIR_STRIPE_WEBHOOK_SECRET Stripe cannot report events that it took and could not bill; reconcile finds them";
        found.push(Finding::warning("billing", what));
    }
}
