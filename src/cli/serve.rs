//! `weir serve`, and a service of its own for `weir replay` where none runs.

use super::replay::{self, ReplayArgs, Target};
use super::{Failure, billing, say, token};
use crate::api::auth::{Scope, ScopeSet};
use crate::clock::{Clock, SystemClock};
use crate::config::data_dir::{self, Lock};
use crate::config::{Secret, Settings, SigningKey};
use crate::counters::redis::RedisSettings;
use crate::decision::address::Range;
use crate::decision::id::ModelId;
use crate::decision::webhook::retry::Schedule;
use crate::decision::webhook::seal::SealKey;
use crate::flow::billing::BillingOptions;
use crate::flow::{EmbeddingSettings, Options, Service, SigningSecrets, WebhookOptions};
use crate::router::RouterSettings;
use crate::webhooks::Running;
use crate::{app, telemetry};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// How long the credential lives that is printed at start.
const FIRST_TOKEN_SECONDS: u32 = 24 * 3600;

/// A service that listens, and the directory that it holds while it does.
struct Started {
    server: actix_web::dev::Server,
    service: Arc<Service>,
    webhooks: Running,
    url: String,
    /// Only this machine can reach it.
    is_local: bool,
    /// Of the embedded profile; nodes of the production profile share no directory.
    _lock: Option<Lock>,
}

async fn start(settings: &Settings, secret: Option<&Secret<SigningKey>>, listen: &str) -> Result<Started, Failure> {
    let mut lock = None;
    if !settings.is_production() {
        data_dir::create(&settings.data_dir)?;
        lock = Some(Lock::take(&settings.data_dir)?);
    }
    let verifier = token::verifier(settings, secret)?;
    if verifier.seal().is_none() {
        tracing::warn!("there are no API keys and no portal tokens: set WEIR_SECRET_KEY (32 bytes or more) to have them");
    }
    let service = service(settings, secret).await?;
    app::billing::employ(&service, billing::provider(settings, service.clock.clone())?);
    // So that the first request need not wait for it. An issuer that is away is no reason not to start.
    verifier.fetch_keys(service.clock.now()).await;
    let (server, address) = app::serve(service.clone(), verifier, listen)?;
    app::background(&service, Duration::from_secs(settings.policy_poll_seconds.get()));
    let webhooks = app::deliver(&service)?;
    let url = url(address);
    if let Some(lock) = &mut lock {
        lock.announce(&url)?;
        tracing::info!(%address, data_dir = %settings.data_dir.display(), "listening");
    } else {
        tracing::info!(%address, "listening, with counters in Redis and the ledger in PostgreSQL");
    }
    Ok(Started {
        server,
        service,
        webhooks,
        url,
        is_local: address.ip().is_loopback(),
        _lock: lock,
    })
}

/// The service of the profile that the settings choose.
pub(super) async fn service(settings: &Settings, secret: Option<&Secret<SigningKey>>) -> Result<Arc<Service>, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = options(settings, secret);
    Ok(match settings.production() {
        Some((database, redis)) => {
            app::production(
                database,
                RedisSettings::new(redis).trusting(settings.redis_ca_file.as_deref()).bounded(),
                &settings.policies,
                clock,
                options,
            )
            .await?
        }
        None => app::embedded(&settings.data_dir, &settings.policies, clock, options).await?,
    })
}

/// The language model that rules may ask. Settings that were checked have a model where they have an address.
fn router(settings: &Settings) -> Option<RouterSettings> {
    let (url, model) = (settings.router_url.as_ref()?, settings.router_model.as_ref()?);
    let key = settings.router_api_key.as_ref();
    Some(RouterSettings {
        url: url.as_str().to_owned(),
        model: ModelId::parse(model.as_str()).ok()?,
        api_key: key.map(|key| Secret::new(key.expose().as_str().to_owned())),
        timeout: Duration::from_millis(settings.router_timeout_ms.get()),
    })
}

/// What these settings say of the parts of a service. `secret` is what it signs credentials with, if it does.
fn options(settings: &Settings, secret: Option<&Secret<SigningKey>>) -> Options {
    let ranges = settings.webhook_allow_cidrs.as_slice().iter().map(|cidr| Range {
        address: cidr.address,
        prefix_bits: cidr.prefix_bits,
    });
    let delays = settings.webhook_retry_schedule.as_slice().iter();
    let delays = delays.map(|seconds| i64::try_from(seconds.get()).unwrap_or(i64::MAX));
    // The same key as for API keys.
    let seal = settings.secret_key.as_ref().or(secret);
    // The bounds of the settings are far below what a signed number holds.
    let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    let stripe = settings.stripe_webhook_secret.as_ref();
    Options {
        router: router(settings),
        embeddings: embeddings(settings),
        billing: BillingOptions {
            window_seconds: seconds(settings.billing_window_seconds.get()),
            seal_after_seconds: seconds(settings.billing_seal_after_seconds.get()),
            late_after_seconds: seconds(settings.billing_late_after_seconds.get()),
        },
        stripe_webhook_secrets: stripe.and_then(|secret| SigningSecrets::parse(secret.expose().as_str())),
        webhooks: WebhookOptions {
            allowed: ranges.collect(),
            schedule: Schedule(delays.collect()),
            seal: seal.map(|key| Arc::new(SealKey::new(key.expose().as_bytes()))),
        },
    }
}

/// Where vectors of prompts come from, where the settings say so.
pub(super) fn embeddings(settings: &Settings) -> Option<EmbeddingSettings> {
    let (url, model) = settings.embeddings_url.as_ref().zip(settings.embeddings_model.as_ref())?;
    Some(EmbeddingSettings {
        url: url.as_str().to_owned(),
        api_key: settings.embeddings_api_key.as_ref().map(|key| key.expose().as_str().to_owned()),
        model: model.as_str().to_owned(),
        timeout: Duration::from_millis(settings.embeddings_timeout_ms.get()),
    })
}

/// An address that a browser can be pointed to: "any" is reached by loopback.
fn url(address: SocketAddr) -> String {
    let host = match address.ip() {
        ip if ip.is_unspecified() => "127.0.0.1".to_owned(),
        std::net::IpAddr::V6(ip) => format!("[{ip}]"),
        ip => ip.to_string(),
    };
    format!("http://{host}:{}", address.port())
}

pub(super) fn serve(settings: &Settings) -> Result<ExitCode, Failure> {
    telemetry::init(settings.log.as_str(), settings.log_format)?;
    // With public keys alone there is nothing to sign with, and nothing to make: others sign.
    let secret = match settings.is_production() && settings.jwt_secret.is_none() {
        true => None,
        false => Some(token::secret(settings)?),
    };
    actix_web::rt::System::new().block_on(async {
        let started = start(settings, secret.as_ref(), settings.listen.as_str()).await?;
        say(format_args!(
            "Weir listens on {0}/ (API at {0}/docs/)
",
            started.url
        ))?;
        if let Some(secret) = secret.as_ref().filter(|_| started.is_local && !settings.is_production()) {
            say(greeting(settings, secret, &started.url))?;
        }
        let Started {
            server,
            service,
            webhooks,
            _lock,
            ..
        } = started;
        let (handle, closer) = (server.handle(), webhooks.closer());
        tokio::spawn(async move {
            stop_signal().await;
            tracing::info!("stopping: new connections are refused, running requests are answered");
            closer.close();
            handle.stop(true).await;
        });
        server.await?;
        webhooks.stop().await;
        // What was decided last; the ledger takes it as long as it is open.
        crate::flow::decided::flush_all(&service).await.ok();
        crate::flow::llm::record_spent(&service).await.ok();
        if let Some(desk) = service.billing.desk() {
            desk.close().await;
        }
        service.ledger.close().await;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    })
}

/// What a newcomer needs: a credential, and a command that works. Not where others can reach the service, because there what it prints is
/// kept in somebody's logs.
fn greeting(settings: &Settings, secret: &Secret<SigningKey>, url: &str) -> String {
    let scopes = ScopeSet::of(Scope::Authorize).with(Scope::Read).with(Scope::UsageWrite);
    let token = token::sign(settings, secret, "first-steps", scopes, None, FIRST_TOKEN_SECONDS);
    let ask = r#"{"workspace_id": "ws_demo", "feature": "document_summarization", "model": "claude-sonnet-4-5", "input_tokens": 4521, "max_output_tokens": 1024}"#;
    [
        &format!("A credential for a day:\n  {token}\n"),
        "May this workspace spend? Paste this:",
        &format!("  curl -s {url}/v1/authorize -H 'Content-Type: application/json' \\"),
        &format!("    -H 'Authorization: Bearer {token}' \\"),
        &format!("    -d '{ask}'\n"),
        "README.md goes on from there: settle, budgets, ledger. Stop with Ctrl-C.",
    ]
    .join("\n")
}

async fn stop_signal() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        match terminate {
            Ok(mut terminate) => tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            },
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
}

/// The service that already runs on the data directory of the settings.
pub(super) fn running(settings: &Settings) -> Option<String> {
    let directory = Some(&settings.data_dir).filter(|_| !settings.is_production())?;
    data_dir::running(directory)?.address
}

pub(super) fn replay(settings: &Settings, args: &ReplayArgs) -> Result<ExitCode, Failure> {
    let run = format!("{:x}", SystemClock.now().micros());
    let trace = replay::read(args)?;
    actix_web::rt::System::new().block_on(async {
        if let Some((url, token)) = args.url.as_ref().zip(token::given(&args.token)) {
            return outcome(replay::replay(args, trace, Target::new(url, token, run)?).await?);
        }
        let secret = token::secret(settings)?;
        let scopes = ScopeSet::of(Scope::Admin);
        let token = token::sign(settings, &secret, "replay", scopes, None, FIRST_TOKEN_SECONDS);
        if let Some(url) = args.url.clone().or_else(|| running(settings)) {
            eprintln!("replaying against {url}");
            return outcome(replay::replay(args, trace, Target::new(&url, token, run)?).await?);
        }
        let Started {
            server,
            service,
            webhooks,
            url,
            _lock,
            ..
        } = start(settings, Some(&secret), "127.0.0.1:0").await?;
        match settings.is_production() {
            true => eprintln!("replaying against a node of its own"),
            false => eprintln!(
                "replaying against a service of its own with the data directory {}",
                settings.data_dir.display()
            ),
        }
        let handle = server.handle();
        let server = tokio::spawn(server);
        let good = replay::replay(args, trace, Target::new(&url, token, run)?).await?;
        let differences = service.ledger.verify().await?;
        for difference in &differences {
            say(format_args!(
                "the sum of {:?} in workspace {} is {}, its entries say {}",
                difference.counter, difference.workspace, difference.row, difference.entries
            ))?;
        }
        say(format_args!("ledger       {} sums differ from their entries", differences.len()))?;
        handle.stop(true).await;
        server.await??;
        webhooks.stop().await;
        service.ledger.close().await;
        outcome(good && differences.is_empty())
    })
}

fn outcome(good: bool) -> Result<ExitCode, Failure> {
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
