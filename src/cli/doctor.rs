//! `weir doctor`: whether the stores are reachable, in good order and do what they are told, and whether the policy holds together.

use super::{Failure, billing, say, serve};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::counters::Counters;
use crate::counters::memory::MemoryCounters;
use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::decision::finding::{Finding, Gravity};
use crate::flow::{policy, selftest};
use crate::ledger::Ledger;
use crate::ledger::postgres::PostgresLedger;
use crate::ledger::sqlite::SqliteLedger;
use std::error::Error;
use std::process::ExitCode;

pub(super) fn doctor(settings: &Settings) -> Result<ExitCode, Failure> {
    let found = actix_web::rt::System::new().block_on(look(settings))?;
    let worst = found.iter().map(|finding| finding.gravity).max().unwrap_or(Gravity::Fine);
    for finding in &found {
        let word = match finding.gravity {
            Gravity::Fine => "ok",
            Gravity::Warning => "warning",
            Gravity::Failed => "FAILED",
        };
        say(format_args!("{word:<8} {:<14} {}", finding.what, finding.detail))?;
    }
    Ok(if worst == Gravity::Failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn look(settings: &Settings) -> Result<Vec<Finding>, Failure> {
    let mut found = Vec::new();
    let (ledger, counters) = match settings.production() {
        Some((database, redis)) => {
            found.push(Finding::fine("profile", "production: counters in Redis, the ledger in PostgreSQL"));
            (
                PostgresLedger::open_as_it_is(database).await.map(boxed_ledger),
                RedisCounters::connect(RedisSettings::new(redis).trusting(settings.redis_ca_file.as_deref()).bounded())
                    .await
                    .map(boxed_counters),
            )
        }
        None => {
            let directory = settings.data_dir.display();
            found.push(Finding::fine(
                "profile",
                format!("embedded: everything in this process and in {directory}"),
            ));
            if let Some(url) = serve::running(settings) {
                found.push(Finding::fine("service", format!("runs at {url}")));
            }
            let ledger = match SqliteLedger::is_in(&settings.data_dir) {
                true => SqliteLedger::open(&settings.data_dir).await.map(boxed_ledger),
                false => {
                    found.push(Finding::fine(
                        "ledger",
                        format!("none yet in {directory}: the first start makes it"),
                    ));
                    return Ok(found);
                }
            };
            (ledger, Ok(boxed_counters(MemoryCounters::new())))
        }
    };
    match &ledger {
        Ok(ledger) => look_at_ledger(&**ledger, &mut found).await,
        Err(error) => found.push(failed("ledger", error)),
    }
    match &counters {
        Ok(counters) => look_at_counters(&**counters, &mut found).await,
        Err(error) => found.push(failed("counters", error)),
    }
    if let Ok(ledger) = ledger {
        let policy = policy::in_force(&*ledger).await.ok().flatten();
        let meters = policy.map(|policy| policy.billing.meters.clone()).unwrap_or_default();
        billing::look(settings, &meters, &mut found).await;
        ledger.close().await;
    }
    Ok(found)
}

fn boxed_ledger(ledger: impl Ledger + 'static) -> Box<dyn Ledger> {
    Box::new(ledger)
}

fn boxed_counters(counters: impl Counters + 'static) -> Box<dyn Counters> {
    Box::new(counters)
}

async fn look_at_ledger(ledger: &dyn Ledger, found: &mut Vec<Finding>) {
    match ledger.inspect(SystemClock.now()).await {
        Ok(findings) => found.extend(findings),
        Err(error) => found.push(failed("ledger", &error)),
    }
    match selftest::ledger(ledger, &SystemClock).await {
        Ok(true) => found.push(Finding::fine("ledger test", "what was written was read back")),
        Ok(false) => found.push(Finding::failed("ledger test", "what was written was not read back")),
        Err(error) => found.push(failed("ledger test", &error)),
    }
    match policy::in_force(ledger).await {
        Ok(Some(policy)) => found.push(Finding::fine(
            "policy",
            format!(
                "version {} with {} plans and {} models",
                policy.version,
                policy.plans.len(),
                policy.catalogue.models().len()
            ),
        )),
        Ok(None) => found.push(Finding::warning("policy", "there is none yet: the first `weir serve` writes it")),
        Err(error) => found.push(failed("policy", &error)),
    }
}

async fn look_at_counters(counters: &dyn Counters, found: &mut Vec<Finding>) {
    match counters.inspect(SystemClock.now()).await {
        Ok(findings) => found.extend(findings),
        Err(error) => found.push(failed("counters", &error)),
    }
    match selftest::counters(counters, &SystemClock).await {
        Ok(true) => found.push(Finding::fine("counters test", "a hold was taken, found, ended and remembered")),
        Ok(false) => found.push(Finding::failed("counters test", "a hold was not found again as it was taken")),
        Err(error) => found.push(failed("counters test", &error)),
    }
}

/// An error with all its causes on one line.
fn failed(what: &'static str, error: &(dyn Error + 'static)) -> Finding {
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        detail = format!("{detail}: {inner}");
        cause = inner.source();
    }
    Finding::failed(what, detail)
}
