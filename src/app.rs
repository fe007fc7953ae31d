//! The composition root: builds the service of a profile, mounts the API, and runs what happens in the background. The same function
//! serves the program and its tests.

use crate::api;
use crate::api::auth::Verifier;
use crate::api::idempotency::Running;
use crate::clock::Clock;
use crate::counters::memory::MemoryCounters;
use crate::flow::policy::By;
use crate::flow::{self, FlowError, Service};
use crate::ledger::LedgerError;
use crate::ledger::sqlite::SqliteLedger;
use crate::policy::Holder;
use crate::policy::files::{FileProblems, Files, Sources};
use actix_web::dev::Server;
use actix_web::web::{Data, ServiceConfig};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often holds that only the ledger can end are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

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
    Flow(#[from] FlowError),
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

/// The embedded profile: counters in this process, the ledger in SQLite below `data_dir`. Policies come from `policies`. Where nobody
/// named a directory and there is none, what is in force stays, and a new ledger begins with the samples inside the program.
pub async fn embedded(data_dir: &Path, policies: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Service>, StartError> {
    let files = policy_files(policies)?;
    let ledger = SqliteLedger::open(data_dir).await?;
    let (policy, origin) = match (files, flow::policy::in_force(&ledger).await?) {
        (None, Some(policy)) => (policy, "the ledger".to_owned()),
        (files, _) => {
            let (files, origin) = match files {
                Some(files) => (files, policies.display().to_string()),
                None => (Files::load(&Sources::samples())?, "the samples inside the program".to_owned()),
            };
            let by = By {
                actor: "files".to_owned(),
                reason: origin.clone(),
            };
            (flow::policy::apply_files(&ledger, &files, &by, clock.now()).await?, origin)
        }
    };
    tracing::info!(
        version = policy.version,
        plans = policy.plans.len(),
        models = policy.catalogue.models().len(),
        from = origin,
        "policy in force"
    );
    Ok(Arc::new(Service::new(
        Arc::new(MemoryCounters::new()),
        Arc::new(ledger),
        Holder::new(policy),
        clock,
    )))
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

/// What runs beside requests, until the process ends: ending what only the ledger can end, and following policy that others change.
pub fn background(service: &Arc<Service>, policy_poll: Duration) {
    let expiring = service.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(EXPIRE_EVERY).await;
            if let Err(error) = flow::expire::expire_due(&expiring).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "expired reservations wait for the next round"
                );
            }
        }
    });
    let following = service.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(policy_poll).await;
            match flow::policy::follow(&following).await {
                Ok(false) => {}
                Ok(true) => tracing::info!(version = following.policy.load().version, "policy changed"),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the policy in force stays; a newer one cannot be read"
                ),
            }
        }
    });
}
