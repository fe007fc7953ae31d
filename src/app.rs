//! The composition root: builds the service of a profile, mounts the API, and runs what happens in the background. The same function
//! serves the program and its tests.

pub mod billing;
mod reconcile;

use crate::api;
use crate::api::auth::Verifier;
use crate::api::idempotency::Running;
use crate::billing::none::NoProvider;
use crate::clock::Clock;
use crate::counters::memory::MemoryCounters;
use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::counters::{Counters, CountersError};
use crate::flow::fair_use::evaluate::Evaluator;
use crate::flow::lookout::Lookout;
use crate::flow::policy::By;
use crate::flow::sweep::Sweeper;
use crate::flow::{self, FlowError, Options, Service};
use crate::ledger::postgres::PostgresLedger;
use crate::ledger::sqlite::SqliteLedger;
use crate::ledger::{Ledger, LedgerError};
use crate::policy::Holder;
use crate::policy::files::{FileProblems, Files, Sources};
use crate::webhooks as outgoing;
use crate::webhooks::client::{ClientError, Limits};
use crate::webhooks::dial::SystemNames;
use actix_web::dev::Server;
use actix_web::web::{Data, ServiceConfig};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub mod webhooks;

/// How often holds that only the ledger can end are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// How long a node waits after a notification, so that a burst of changes is read once.
const FOLLOW_PAUSE: Duration = Duration::from_millis(20);

/// How often it is written down when API keys were used last.
const NOTE_USES_EVERY: Duration = Duration::from_secs(10);

/// The directory of policy files where nobody names one.
const POLICIES_DEFAULT: &str = "./policies";

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Policy(#[from] FileProblems),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Counters(#[from] CountersError),
    #[error(transparent)]
    Flow(#[from] FlowError),
    #[error(transparent)]
    Webhooks(#[from] ClientError),
    #[error("{refusal}. What is in force stays; put back what is gone in {}, or start with the files as they were and move the workspaces", .files.display())]
    Stranding { files: PathBuf, refusal: FlowError },
    #[error("there is no directory {} with policies; without --policies the samples inside the program are used", .0.display())]
    NoPolicies(PathBuf),
    #[error("cannot listen on {address}: {cause}{}", hint(.cause))]
    Listen { address: String, cause: std::io::Error },
}

/// What to do about a port that cannot be opened.
fn hint(cause: &std::io::Error) -> &'static str {
    match cause.kind() {
        std::io::ErrorKind::AddrInUse => "; choose another port with --listen, or 0 for any that is free",
        _ => "",
    }
}

/// The embedded profile: counters in this process, the ledger in SQLite below `data_dir`.
pub async fn embedded(data_dir: &Path, policies: &Path, clock: Arc<dyn Clock>, options: Options) -> Result<Arc<Service>, StartError> {
    // Whatever is wrong with the files is told before anything is opened, or made.
    let files = policy_files(policies)?;
    let ledger = SqliteLedger::open(data_dir).await?;
    compose(Arc::new(MemoryCounters::new()), Arc::new(ledger), files, policies, clock, options).await
}

/// The production profile: counters in Redis, the ledger in PostgreSQL, both shared with any number of other nodes.
pub async fn production(
    database_url: &str,
    redis: RedisSettings,
    policies: &Path,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<Arc<Service>, StartError> {
    let files = policy_files(policies)?;
    let ledger = PostgresLedger::open(database_url).await?;
    let counters = RedisCounters::connect(redis).await?;
    compose(Arc::new(counters), Arc::new(ledger), files, policies, clock, options).await
}

/// A service of these stores. Policies come from `files`, which were read from `policies`; where nobody named a directory and there is none,
/// what is in force stays, and a new ledger begins with the samples inside the program.
async fn compose(
    counters: Arc<dyn Counters>,
    ledger: Arc<dyn Ledger>,
    files: Option<Files>,
    policies: &Path,
    clock: Arc<dyn Clock>,
    options: Options,
) -> Result<Arc<Service>, StartError> {
    let (policy, origin) = match (files, flow::policy::in_force(&*ledger).await?) {
        (None, Some(policy)) => (policy, "the ledger".to_owned()),
        (files, _) => {
            let (files, origin) = match files {
                Some(files) => (files, policies.display().to_string()),
                None => (Files::load(&Sources::samples())?, "the samples inside the program".to_owned()),
            };
            let by = By {
                actor: "files".to_owned(),
                reason: origin.clone(),
                request_id: None,
            };
            let applied = flow::policy::apply_files(&*ledger, &files, &by, &*clock).await;
            let refused = |refusal| match refusal {
                FlowError::WouldStrand(_) => StartError::Stranding {
                    files: policies.to_owned(),
                    refusal,
                },
                other => StartError::Flow(other),
            };
            (applied.map_err(refused)?, origin)
        }
    };
    tracing::info!(
        version = policy.version,
        plans = policy.plans.len(),
        models = policy.catalogue.models().len(),
        from = origin,
        "policy in force"
    );
    let messenger = webhooks::LazyMessenger::new(options.webhooks.allowed.clone());
    let service = Service::new(counters, ledger, Holder::new(policy), clock, options).with_messenger(Box::new(messenger));
    let service = Arc::new(service);
    billing::employ(&service, Arc::new(NoProvider));
    flow::billing::begin(&service).await?;
    flow::workspace::follow_from_now(&service).await?;
    flow::providers::follow(&service).await?;
    flow::fair_use::follow(&service).await?;
    flow::api_keys::follow_from_now(&service).await?;
    flow::cache::follow(&service).await?;
    flow::webhooks::follow(&service).await?;
    Ok(service)
}

/// The files of a directory. Only the default one may be missing: with another, nobody meant to go on without.
fn policy_files(directory: &Path) -> Result<Option<Files>, StartError> {
    if directory.is_dir() {
        return Ok(Some(Files::load(&Sources::read(directory)?)?));
    }
    if directory == Path::new(POLICIES_DEFAULT) {
        return Ok(None);
    }
    Err(StartError::NoPolicies(directory.to_owned()))
}

/// Listens and answers; port 0 takes any free port. The server runs once it is awaited.
pub fn serve(service: Arc<Service>, verifier: Verifier, listen: &str) -> Result<(Server, SocketAddr), StartError> {
    let failed = |cause| StartError::Listen {
        address: listen.to_owned(),
        cause,
    };
    let listeners = api::server::bind(listen).map_err(failed)?;
    let address = listeners[0].local_addr().map_err(failed)?;
    let clock = service.clock.clone();
    let (service, verifier, running) = (Data::from(service), Data::new(verifier), Data::new(Running::default()));
    let mount = move |config: &mut ServiceConfig| {
        config
            .app_data(service.clone())
            .app_data(verifier.clone())
            .app_data(running.clone());
        api::routes::configure(config);
    };
    Ok((api::server::start(listeners, clock, mount).map_err(failed)?, address))
}

/// What runs beside requests, until the process ends: ending what only the ledger can end, following what other nodes change, copying
/// once more what may not have reached the counters, writing the decision log, and telling the billing provider.
pub fn background(service: &Arc<Service>, policy_poll: Duration) {
    tokio::spawn(expire(service.clone()));
    tokio::spawn(follow(service.clone(), policy_poll));
    tokio::spawn(sweep(service.clone()));
    tokio::spawn(note_uses(service.clone()));
    tokio::spawn(log_decisions(service.clone()));
    tokio::spawn(exchange(service.clone()));
    if let Some(model) = service.llm.model() {
        if !flow::llm::is_priced(service, &service.policy.load().catalogue, service.clock.now()) {
            tracing::warn!(%model, "the model of WEIR_ROUTER_MODEL has no price, so no rule can ask it: give it one in models.yaml");
        }
        tokio::spawn(record_router(service.clone()));
    }
    tokio::spawn(watch(service.clone()));
    tokio::spawn(write_noticed(service.clone()));
    tokio::spawn(look_out(service.clone()));
    tokio::spawn(billing::run(service.clone()));
    tokio::spawn(reconcile::run(service.clone()));
}

/// Compares what is used with what is usual.
async fn watch(service: Arc<Service>) {
    let mut evaluator = Evaluator::default();
    loop {
        tokio::time::sleep(Duration::from_secs(flow::fair_use::EVERY_SECONDS)).await;
        if let Err(error) = evaluator.round(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "fair use is not watched in this round; requests are decided without it");
        }
    }
}

async fn write_noticed(service: Arc<Service>) {
    loop {
        flow::fair_use::noticed(&service).await;
        while let Err(error) = flow::fair_use::write_noticed(&service).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a loop acts on this node alone until it can be written"
            );
            tokio::time::sleep(EXPIRE_EVERY).await;
        }
    }
}

async fn exchange(service: Arc<Service>) {
    loop {
        tokio::time::sleep(flow::exchange::EXCHANGE_EVERY).await;
        if let Err(error) = flow::exchange::exchange(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "nodes do not hear which models fail and which calls come too fast; what this one sees still counts here"
            );
        }
    }
}

async fn record_router(service: Arc<Service>) {
    loop {
        tokio::time::sleep(flow::llm::RECORD_EVERY).await;
        if let Err(error) = flow::llm::record_spent(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what the routing model costs is recorded in the next round");
        }
    }
}

/// Delivers webhooks, until it is stopped.
pub fn deliver(service: &Arc<Service>) -> Result<outgoing::Running, StartError> {
    let worker = webhooks::worker(service, Arc::new(SystemNames), Limits::default())?;
    Ok(outgoing::start(Arc::new(worker)))
}

async fn log_decisions(service: Arc<Service>) {
    loop {
        tokio::time::sleep(flow::decided::FLUSH_EVERY).await;
        if let Err(error) = flow::decided::flush(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "decisions were not logged, so they cannot be explained later");
        }
        if let Err(error) = flow::wall::tell(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "that budgets refuse is told at their next denial");
        }
    }
}

async fn expire(service: Arc<Service>) {
    loop {
        tokio::time::sleep(EXPIRE_EVERY).await;
        if let Err(error) = flow::expire::expire_due(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "expired reservations wait for the next round");
        }
    }
}

async fn follow(service: Arc<Service>, poll: Duration) {
    loop {
        // A notification makes it sooner; the clock makes it sure.
        tokio::select! {
            () = tokio::time::sleep(poll) => {}
            () = service.ledger.changed() => tokio::time::sleep(FOLLOW_PAUSE).await,
        }
        metrics::gauge!("weir_policy_version").set(service.policy.load().version as f64);
        match flow::policy::follow(&service).await {
            Ok(false) => {}
            Ok(true) => tracing::info!(version = service.policy.load().version, "policy changed"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "the policy in force stays; a newer one cannot be read");
            }
        }
        if let Err(error) = flow::workspace::follow(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "workspaces stay as they are known; what other nodes changed cannot be read");
        }
        if let Err(error) = flow::providers::follow(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "providers stay as they are known; what other nodes set cannot be read");
        }
        if let Err(error) = flow::fair_use::follow(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "fair use acts as it is known; what other nodes began or ended cannot be read"
            );
        }
        if let Err(error) = flow::api_keys::follow(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "API keys stay as they are known; what other nodes revoked cannot be read");
        }
        if let Err(error) = flow::cache::follow(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "kept answers of other nodes are not given here; they cannot be read");
        }
        if let Err(error) = flow::webhooks::follow(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "who is told of each use stays as it is known; what other nodes set cannot be read"
            );
        }
    }
}

async fn note_uses(service: Arc<Service>) {
    loop {
        tokio::time::sleep(NOTE_USES_EVERY).await;
        if let Err(error) = flow::api_keys::write_uses(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "when API keys were used last is written in the next round");
        }
    }
}

async fn sweep(service: Arc<Service>) {
    let mut sweeper = Sweeper::default();
    loop {
        match sweeper.sweep(&service).await {
            Ok(rows) => tracing::debug!(rows, "sums were copied to the counters once more"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what was recorded lately is copied to the counters in the next round");
            }
        }
        tokio::time::sleep(Duration::from_secs(flow::sweep::EVERY_SECONDS)).await;
    }
}

async fn look_out(service: Arc<Service>) {
    let mut lookout = Lookout::default();
    loop {
        tokio::time::sleep(flow::lookout::EVERY).await;
        if let Err(error) = lookout.look(&service).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "what the clock brings about is told in the next round");
        }
    }
}
