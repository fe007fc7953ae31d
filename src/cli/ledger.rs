//! `weir ledger verify` and `weir rebuild-counters`: proves that everything derived is what the entries say, and derives it again.

use super::{Failure, say, serve, tell, token};
use crate::api::auth::{Scope, ScopeSet};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::counters::SumRow;
use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::decision::counter::{Counter, Whose};
use crate::decision::id::WorkspaceId;
use crate::decision::period::PeriodKind;
use crate::flow::verify::{self, CounterDifference, Difference, Verification};
use crate::flow::{Options, Service, policy};
use crate::ledger::Ledger;
use crate::ledger::postgres::PostgresLedger;
use crate::ledger::sqlite::SqliteLedger;
use crate::policy::Holder;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

/// How many sums are listed in one step.
const PAGE_SUMS: usize = 500;
/// How often a counter that differs is looked at again while its sum moves.
const LOOKS_AGAIN: usize = 5;

#[derive(Subcommand)]
pub(super) enum LedgerCommand {
    /// Recompute every sum from its entries, compare every counter with its sum, every end with its entry and every batch
    /// with its members, and name each difference (then the exit code is 1).
    Verify,
}

pub(super) fn ledger(settings: &Settings, command: &LedgerCommand) -> Result<ExitCode, Failure> {
    let LedgerCommand::Verify = command;
    actix_web::rt::System::new().block_on(async {
        let found = match settings.production() {
            Some((database, redis)) => {
                let (ledger, counters) = (
                    PostgresLedger::open_as_it_is(database).await?,
                    RedisCounters::connect(RedisSettings::new(redis).trusting(settings.redis_ca_file.as_deref()).bounded()).await?,
                );
                let progress = bar();
                let found = verify::verify(&ledger, Some(&counters), &SystemClock, |sums| progress.set_position(sums)).await?;
                progress.finish_and_clear();
                ledger.close().await;
                found
            }
            None => embedded(settings).await?,
        };
        told(&found)
    })
}

/// The sums of the data directory, and the counters of the service that runs on it, if one does.
async fn embedded(settings: &Settings) -> Result<Verification, Failure> {
    let ledger = existing(settings).await?;
    let progress = bar();
    let mut found = verify::verify(&ledger, None, &SystemClock, |sums| progress.set_position(sums)).await?;
    progress.finish_and_clear();
    match serve::running(settings) {
        Some(url) => {
            let token = token::sign(
                settings,
                &token::secret(settings)?,
                "ledger-verify",
                ScopeSet::of(Scope::Read),
                None,
                3_600,
            );
            let running = super::running::Service::new(&url, token)?;
            compare(&ledger, &running, &mut found).await?;
        }
        None => tell("no service runs on this data directory, so there are no counters to compare; each start derives them anew"),
    }
    ledger.close().await;
    Ok(found)
}

/// The ledger of a data directory that has one.
pub(super) async fn existing(settings: &Settings) -> Result<SqliteLedger, Failure> {
    if !SqliteLedger::is_in(&settings.data_dir) {
        let directory = settings.data_dir.display();
        return Err(format!("there is no ledger in {directory}; name the service's data directory with --data-dir").into());
    }
    Ok(SqliteLedger::open(&settings.data_dir).await?)
}

/// Compares the sums with what the running service answers about its budgets.
async fn compare(ledger: &SqliteLedger, running: &super::running::Service, found: &mut Verification) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = ledger.verify_page(after.as_ref(), PAGE_SUMS).await?;
        for (workspace, rows) in verify::by_workspace(page.rows) {
            let users: BTreeSet<&Whose> = rows.iter().map(|row| &row.counter.whose).collect();
            for whose in users {
                let budgets = running.budgets(&workspace, whose).await?;
                for row in rows.iter().filter(|row| row.counter.whose == *whose) {
                    let Some(store) = budgets.spent(&row.counter) else { continue };
                    found.counters += 1;
                    if store != row.spent
                        && let Some(difference) = look_again(ledger, running, &workspace, row).await?
                    {
                        found.differences.push(Difference::Counter(difference));
                    }
                }
            }
        }
        match page.last {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

/// The difference, unless a commit was on its way.
async fn look_again(
    ledger: &SqliteLedger,
    running: &super::running::Service,
    workspace: &WorkspaceId,
    row: &SumRow,
) -> Result<Option<CounterDifference>, Failure> {
    let whose = &row.counter.whose;
    // The sum is read on both sides of the counter: only one that stood still meanwhile can be compared.
    for _ in 0..LOOKS_AGAIN {
        let spent = |rows: Vec<SumRow>| rows.into_iter().find(|found| found.counter == row.counter).map(|found| found.spent);
        let before = spent(ledger.rows(workspace, whose, &[], SystemClock.now()).await?);
        let store = running.budgets(workspace, whose).await?.spent(&row.counter);
        let after = spent(ledger.rows(workspace, whose, &[], SystemClock.now()).await?);
        let (Some(ledger), Some(store)) = (after, store) else {
            return Ok(None);
        };
        if before == after {
            return Ok((ledger != store).then(|| CounterDifference {
                workspace: workspace.clone(),
                counter: row.counter.clone(),
                ledger,
                store,
            }));
        }
    }
    Ok(None)
}

fn told(found: &Verification) -> Result<ExitCode, Failure> {
    say(format_args!("sums      {} recomputed from their entries", found.sums))?;
    say(format_args!("counters  {} compared with their sums", found.counters))?;
    say(format_args!(
        "ends      {} compared with their entries, and entries with them",
        found.ends
    ))?;
    say(format_args!("batches   {} compared with their members", found.batches))?;
    for difference in &found.differences {
        if let Difference::Grant(grant) = difference {
            let (workspace, id, segment) = (&grant.workspace, grant.grant, grant.segment);
            let what = match grant.paid == grant.payments {
                true => format!("it paid {}, more than it had", grant.paid),
                false => format!("it paid {}, its payments say {}", grant.paid, grant.payments),
            };
            say(format_args!("differs   workspace {workspace}, grant {id} since {segment}: {what}"))?;
            continue;
        }
        if let Difference::Purse(purse) = difference {
            let (workspace, budget, unit) = (&purse.workspace, &purse.budget, purse.unit.as_str());
            say(format_args!(
                "differs   workspace {workspace}, grants of budget {budget}: the counters say {} {unit} are left, the ledger says {}",
                purse.store, purse.ledger
            ))?;
            continue;
        }
        let (workspace, counter, what) = match difference {
            Difference::Batch(batch) => {
                let (workspace, meter) = (&batch.workspace, &batch.meter);
                say(format_args!("differs   workspace {workspace}, meter {meter}: {}", batch.what))?;
                continue;
            }
            Difference::End(end) => {
                say(format_args!(
                    "differs   workspace {}, reservation {}: {}",
                    end.workspace, end.reservation, end.what
                ))?;
                continue;
            }
            Difference::Sum(sum) => (
                &sum.workspace,
                &sum.counter,
                format!("the sum says {}, its entries say {}", sum.row, sum.entries),
            ),
            Difference::Paid(sum) => (
                &sum.workspace,
                &sum.counter,
                format!("grants paid {} of it, their payments say {}", sum.row, sum.entries),
            ),
            Difference::Grant(_) | Difference::Purse(_) => continue,
            Difference::Counter(found) => (
                &found.workspace,
                &found.counter,
                format!("the counter says {}, the ledger says {}", found.store, found.ledger),
            ),
        };
        say(format_args!("differs   workspace {workspace}, {}: {what}", words(counter)))?;
    }
    if found.differences.is_empty() {
        say(format_args!("agree     everything that is derived is what the entries say"))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!(
        "the ledger wins: `weir rebuild-counters` copies it to the counters again; a sum or an end that differs needs a person"
    ))?;
    Ok(ExitCode::FAILURE)
}

/// A counter for people.
fn words(counter: &Counter) -> String {
    let whose = match &counter.whose {
        Whose::Workspace => String::new(),
        Whose::User(None) => " of the shared user".to_owned(),
        Whose::User(Some(user)) => format!(" of user {user}"),
    };
    let feature = counter
        .feature
        .as_ref()
        .map(|feature| format!(" for {feature}"))
        .unwrap_or_default();
    let since = match counter.kind == PeriodKind::Lifetime {
        true => String::new(),
        false => format!(" from {}", counter.period.start),
    };
    format!("{}{whose}{feature}, {}{since}", counter.unit.as_str(), counter.kind.as_str())
}

fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{pos} sums recomputed ({per_sec})").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::no_length().with_style(style)
}

/// Reads every group of counters from the ledger again, by the policy that is in force there: no file is read.
pub(super) fn rebuild_counters(settings: &Settings) -> Result<ExitCode, Failure> {
    let Some((database, redis)) = settings.production() else {
        say(format_args!(
            "the embedded profile keeps its counters in the serving process and derives them from the ledger at each start: restart it"
        ))?;
        return Ok(ExitCode::SUCCESS);
    };
    actix_web::rt::System::new().block_on(async {
        let ledger: Arc<dyn Ledger> = Arc::new(PostgresLedger::open_as_it_is(database).await?);
        let counters = RedisCounters::connect(RedisSettings::new(redis).trusting(settings.redis_ca_file.as_deref()).bounded()).await?;
        let policy = policy::in_force(&*ledger)
            .await?
            .ok_or("the ledger has no policy yet, so nothing was ever counted")?;
        let clock = Arc::new(SystemClock);
        let service = Service::new(Arc::new(counters), ledger, Holder::new(policy), clock, Options::default());
        let progress = bar();
        let rebuilt = crate::flow::rebuild::all(&service, |sums| progress.set_position(sums)).await?;
        progress.finish_and_clear();
        service.ledger.close().await;
        say(format_args!(
            "{rebuilt} groups of counters were read from the ledger again; what is held stays held"
        ))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Opening a ledger brings its schema up to date; this does nothing else, for who wants it done before the first new node starts.
pub(super) fn migrate(settings: &Settings) -> Result<ExitCode, Failure> {
    actix_web::rt::System::new().block_on(async {
        let ledger: Box<dyn Ledger> = match settings.production() {
            Some((database, _)) => Box::new(PostgresLedger::open(database).await?),
            None => Box::new(existing(settings).await?),
        };
        for finding in ledger.inspect(SystemClock.now()).await?.iter().take(1) {
            say(format_args!("up to date: {}", finding.detail))?;
        }
        ledger.close().await;
        Ok(ExitCode::SUCCESS)
    })
}
