//! `weir policy test`: golden cases run against the real service, from the HTTP body to the answer, on stores that nobody else uses.
//!
//! One service of the embedded profile with the policy files of the directory and a clock that each case sets; each case is a workspace of
//! its own. What a case says is spent or held is put into the counters: nothing but a request's own answer is looked at afterwards.

use super::existing;
use crate::api::auth::{Claims, Keys, Scope, ScopeSet, Verifier, mint};
use crate::app;
use crate::cli::{Failure, say, tell};
use crate::clock::{Clock, MovableClock, secret_bytes};
use crate::config::{Settings, data_dir};
use crate::counters::{Applied, FINGERPRINT_UNKNOWN, HoldOutcome, HoldRequest, SumRow};
use crate::decision::amount::{Amounts, Unit};
use crate::decision::ask::HOLD_SECONDS;
use crate::decision::counter::Counter;
use crate::decision::id::{BudgetId, RequestId, ReservationId, UserId, WorkspaceId};
use crate::decision::limits::Limits;
use crate::decision::rung::Rung;
use crate::decision::time::Timestamp;
use crate::flow::{self, Options, Service, rebuild};
use crate::policy::cases::{self, Case};
use crate::policy::document::Limit;
use crate::policy::object::hex;
use crate::policy::yaml::Place;
use clap::Args;
use reqwest::{Client, Method};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Where cases are, below the policies.
const FOLDER: &str = "tests";
/// The version of rows that cases put into the counters: newer than any that the ledger gives an empty one.
const SEEDED_VERSION: i64 = 1 << 40;
/// The policy was there before any case asks.
const BEFORE_SECONDS: i64 = 24 * 3600;
const TOKEN_SECONDS: u32 = 3_600;

#[derive(Args)]
pub(in crate::cli) struct TestArgs {
    /// Files of cases; absent: all of `tests/` below the policies.
    files: Vec<PathBuf>,
    /// Print the whole answer of a case that fails.
    #[arg(long)]
    verbose: bool,
}

/// A case and where it stands.
struct Placed {
    file: PathBuf,
    place: Place,
    case: Case,
}

pub(super) fn test(settings: &Settings, args: &TestArgs) -> Result<ExitCode, Failure> {
    let policies = existing(settings, None)?;
    let files = if args.files.is_empty() {
        files_of(&policies.join(FOLDER))?
    } else {
        args.files.clone()
    };
    let (mut placed, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        match cases::load(&file) {
            Ok(cases) => placed.extend(cases.into_iter().map(|(place, case)| Placed {
                file: file.clone(),
                place,
                case,
            })),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        problems.iter().for_each(tell);
        return Ok(ExitCode::FAILURE);
    }
    if placed.is_empty() {
        return Err("these files have no cases: nothing was tested".into());
    }
    let interrupted = || Failure::from("interrupted");
    let failed = actix_web::rt::System::new().block_on(async {
        // The folder of the cases goes with what is dropped.
        tokio::select! {
            failed = run(policies, &placed, args.verbose) => failed,
            _ = tokio::signal::ctrl_c() => Err(interrupted()),
        }
    })?;
    say(format_args!("{} cases, {failed} failed", placed.len()))?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot = |cause: std::io::Error| format!("{} cannot be read: {cause}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(format!("{} has no cases (*.yaml)", folder.display()).into());
    }
    Ok(files)
}

/// A folder for the ledger of the cases, gone with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("weir-policy-test-{}", hex(&secret_bytes::<8>()?)));
        data_dir::create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left behind is in the way of nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs the cases and returns how many failed.
async fn run(policies: &Path, placed: &[Placed], verbose: bool) -> Result<usize, Failure> {
    let Some(first) = placed.iter().map(|placed| placed.case.at).min() else {
        return Ok(0);
    };
    let scratch = Scratch::make()?;
    let clock = Arc::new(MovableClock::at(first.plus_seconds(-BEFORE_SECONDS)));
    let service = app::embedded(&scratch.0, policies, clock.clone(), Options::default()).await?;
    let desk = Desk::open(service, clock)?;
    let mut failed = 0;
    for (number, placed) in placed.iter().enumerate() {
        let told = desk.failures(number, &placed.case, verbose).await;
        if !told.is_empty() {
            failed += 1;
            let (file, place) = (placed.file.display(), placed.place);
            say(format_args!("{file}:{}:{}: {}", place.line, place.column, placed.case.name))?;
            told.iter().try_for_each(|line| say(format_args!("    {line}")))?;
        }
    }
    desk.handle.stop(false).await;
    desk.service.ledger.close().await;
    Ok(failed)
}

/// A service that listens to its cases alone.
struct Desk {
    service: Arc<Service>,
    clock: Arc<MovableClock>,
    handle: actix_web::dev::ServerHandle,
    client: Client,
    url: String,
    secret: [u8; 32],
}

impl Desk {
    fn open(service: Arc<Service>, clock: Arc<MovableClock>) -> Result<Self, Failure> {
        let secret = secret_bytes::<32>()?;
        let keys = Keys::none()
            .with_secret(&secret)
            .map_err(|why| format!("no key for the cases: {why}"))?;
        let (server, address) = app::serve(service.clone(), Verifier::new(keys, "weir", "weir"), "127.0.0.1:0")?;
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self {
            service,
            clock,
            handle,
            client: Client::builder().no_proxy().build()?,
            url: format!("http://{address}"),
            secret,
        })
    }

    /// What is not as the case expects.
    async fn failures(&self, number: usize, case: &Case, verbose: bool) -> Vec<String> {
        self.clock.set(case.at);
        match self.answer(number, case).await {
            Err(failure) => vec![failure.to_string()],
            Ok((status, answer)) => {
                let differences = case.expect.differences(status, &answer);
                let words = |found: &cases::Difference| format!("{}: expected {}, got {}", found.field, found.expected, found.got);
                let mut told: Vec<String> = differences.iter().map(words).collect();
                if !told.is_empty() && (verbose || status != case.expect.status.unwrap_or(200)) {
                    told.push(format!("the answer was {status} {answer}"));
                }
                told
            }
        }
    }

    async fn answer(&self, number: usize, case: &Case) -> Result<(u16, Value), Failure> {
        let workspace = WorkspaceId::parse(&format!("case-{number}"))?;
        let path = format!("/v1/admin/workspaces/{workspace}");
        let (status, told) = self.call(Method::PUT, &path, &Value::Object(case.workspace.clone())).await?;
        if status >= 300 {
            return Err(format!("the workspace is not accepted: {told}").into());
        }
        let user = case
            .request
            .get("user_id")
            .and_then(Value::as_str)
            .and_then(|user| UserId::parse(user).ok());
        seed(&self.service, case, &workspace, user.as_ref()).await?;
        let mut request: Map<String, Value> = case.request.clone();
        request.insert("workspace_id".to_owned(), json!(workspace));
        self.call(Method::POST, "/v1/authorize", &Value::Object(request)).await
    }

    async fn call(&self, method: Method, path: &str, body: &Value) -> Result<(u16, Value), Failure> {
        let claims = Claims {
            issuer: "weir",
            audience: "weir",
            subject: "policy-test",
            scopes: ScopeSet::of(Scope::Admin),
            workspace: None,
            issued_at: self.clock.now(),
            ttl_seconds: TOKEN_SECONDS,
        };
        let request = self
            .client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(mint(&self.secret, &claims));
        let response = request.json(body).send().await?;
        Ok((response.status().as_u16(), response.json().await?))
    }
}

/// Makes what the case says is spent and held so.
async fn seed(service: &Service, case: &Case, id: &WorkspaceId, user: Option<&UserId>) -> Result<(), Failure> {
    if case.spent.is_empty() && case.held.is_empty() {
        return Ok(());
    }
    let now = service.clock.now();
    let workspace = flow::workspace::find_or_create(service, id).await?;
    let policy = service.policy.load();
    let plan = policy
        .plan(workspace.plan_id.as_ref())
        .ok_or("without a plan nothing is spent or held")?;
    let limits = Limits::of_workspace(plan, &workspace, user, now);
    let counter = |budget: &BudgetId| -> Result<&Counter, String> {
        let place = limits.budgets.iter().find(|limited| plan.budgets[limited.budget].id == *budget);
        let place = place.ok_or_else(|| format!("plan {} has no budget {budget} for this request", plan.id))?;
        Ok(&limits.counters[place.counter])
    };
    rebuild::balances(service, id, (&limits.counters, &[]), &limits.counters, now).await?;
    let mut rows: Vec<SumRow> = Vec::new();
    for (budget, spent) in &case.spent {
        let counter = counter(budget)?;
        let spent = amount(budget, counter.unit, *spent)?;
        if rows.iter().any(|row| row.counter == *counter && row.spent != spent) {
            return Err(format!("budget {budget} counts what another one counts that has spent something else").into());
        }
        rows.push(SumRow {
            counter: counter.clone(),
            spent,
            paid: 0,
            version: SEEDED_VERSION,
        });
    }
    let applied = Applied {
        rows,
        ..Applied::default()
    };
    service.counters.apply(id, &applied, &[], &[], now).await?;
    for (budget, held) in &case.held {
        let counter = counter(budget)?;
        let held = amount(budget, counter.unit, *held)?;
        hold(service, id, budget, counter, held, now).await?;
    }
    Ok(())
}

fn amount(budget: &BudgetId, unit: Unit, limit: Limit) -> Result<i64, String> {
    match (unit, limit) {
        (Unit::Usd, Limit::Usd(usd)) => Ok(usd.nanos()),
        (Unit::Usd, Limit::Count(_)) => Err(format!("budget {budget} counts usd: write a decimal in quotes")),
        (_, Limit::Count(count)) => Ok(count),
        (_, Limit::Usd(_)) => Err(format!("budget {budget} counts {}: write an integer", unit.as_str())),
    }
}

async fn hold(
    service: &Service,
    workspace: &WorkspaceId,
    budget: &BudgetId,
    counter: &Counter,
    held: i64,
    now: Timestamp,
) -> Result<(), Failure> {
    let of = |unit: Unit| if counter.unit == unit { held } else { 0 };
    let needs = Amounts {
        tokens: of(Unit::Tokens),
        usd: of(Unit::Usd),
        requests: of(Unit::Requests),
        credits: of(Unit::Credits),
    };
    let request = HoldRequest {
        workspace: workspace.clone(),
        reservation: ReservationId::derive(workspace, &RequestId::parse(&format!("held-{budget}"))?),
        fingerprint: FINGERPRINT_UNKNOWN + 1,
        counters: vec![counter.clone()],
        purses: Vec::new(),
        named_since: now,
        rungs: vec![Rung {
            needs,
            output: 0,
            cap: None,
            limits: Vec::new(),
            expires_at: now.plus_seconds(HOLD_SECONDS),
        }],
        open_max: u32::MAX,
        charge_on_expiry: false,
        tell_on_expiry: false,
        context: Arc::from([]),
        now,
    };
    match service.counters.hold(&request).await? {
        HoldOutcome::Held { .. } => Ok(()),
        other => Err(format!("budget {budget} cannot hold that: {other:?}").into()),
    }
}
