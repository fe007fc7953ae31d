//! `weir explain ID`: why a decision was what it was, for people.

use super::running::Service as Running;
use super::{Failure, say, serve, token};
use crate::api::auth::{Scope, ScopeSet};
use crate::api::explain::ExplainOut;
use crate::clock::SystemClock;
use crate::config::Settings;
use crate::counters::Counters;
use crate::counters::memory::MemoryCounters;
use crate::counters::redis::{RedisCounters, RedisSettings};
use crate::decision::id::{DecisionId, ReservationId};
use crate::flow::{self, Options, Service};
use crate::ledger::Ledger;
use crate::ledger::postgres::PostgresLedger;
use crate::policy::Holder;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::Arc;

/// A service is asked where there is one: that of `--url`, or the one that runs on the data directory. Otherwise the stores that the settings
/// name are read, in the production profile Redis and PostgreSQL; of the embedded profile the ledger, since what a service that has ended
/// held is gone, and only decisions that were logged can be explained.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// A decision (dec_…) or a reservation (rsv_…).
    id: String,
    /// Print the answer as the API gives it.
    #[arg(long)]
    json: bool,
    /// A running service.
    #[arg(long)]
    url: Option<String>,
    /// A credential with the scope read, which is better given in WEIR_TOKEN, where other users of the machine do not see it; absent: one is
    /// made with the key of the settings.
    #[arg(long, requires = "url")]
    token: Option<String>,
}

#[derive(Clone, Copy)]
enum Id {
    Decision(DecisionId),
    Reservation(ReservationId),
}

const TOKEN_SECONDS: u32 = 60;

pub(super) fn explain(settings: &Settings, args: &ExplainArgs) -> Result<ExitCode, Failure> {
    let id = DecisionId::parse(&args.id)
        .map(Id::Decision)
        .or_else(|_| ReservationId::parse(&args.id).map(Id::Reservation))
        .map_err(|_| format!("{} is neither a decision (dec_…) nor a reservation (rsv_…)", args.id))?;
    let found = actix_web::rt::System::new().block_on(async {
        match args.url.clone().or_else(|| serve::running(settings)) {
            Some(url) => ask(settings, args, &url, id).await,
            None => read(settings, id).await,
        }
    })?;
    let Some(found) = found else {
        return Err(format!(
            "nothing is known of {}: it is not of this deployment, or not kept any more",
            args.id
        )
        .into());
    };
    match args.json {
        true => say(serde_json::to_string_pretty(&found)?)?,
        false => say(told(&found).trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(settings: &Settings, args: &ExplainArgs, url: &str, id: Id) -> Result<Option<Value>, Failure> {
    let token = match args.url.as_ref().and_then(|_| token::given(&args.token)) {
        Some(token) => token,
        None => {
            let scopes = ScopeSet::of(Scope::Read);
            token::sign(settings, &token::known_secret(settings)?, "explain", scopes, None, TOKEN_SECONDS)
        }
    };
    let (noun, id) = match id {
        Id::Decision(id) => ("decisions", id.to_string()),
        Id::Reservation(id) => ("reservations", id.to_string()),
    };
    Running::new(url, token)?.get(&["v1", noun, &id, "explain"]).await
}

/// Reads the stores of the settings, without a service.
async fn read(settings: &Settings, id: Id) -> Result<Option<Value>, Failure> {
    let (ledger, counters): (Arc<dyn Ledger>, Arc<dyn Counters>) = match settings.production() {
        Some((database, redis)) => (
            Arc::new(PostgresLedger::open_as_it_is(database).await?),
            Arc::new(RedisCounters::connect(RedisSettings::new(redis).trusting(settings.redis_ca_file.as_deref()).bounded()).await?),
        ),
        None => (Arc::new(super::ledger::existing(settings).await?), Arc::new(MemoryCounters::new())),
    };
    let policy = flow::policy::in_force(&*ledger).await?.ok_or("the ledger has no policy yet")?;
    let service = Service::new(counters, ledger, Holder::new(policy), Arc::new(SystemClock), Options::default());
    let explained = match id {
        Id::Decision(id) => flow::explain::decision(&service, id, None).await,
        Id::Reservation(id) => flow::explain::reservation(&service, id, None).await,
    };
    service.ledger.close().await;
    match explained {
        Ok(explained) => Ok(Some(serde_json::to_value(ExplainOut::from(&explained))?)),
        Err(flow::FlowError::NotFound) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The explanation as a small tree.
fn told(found: &Value) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = head(&mut text, found)
        .and_then(|()| questions(&mut text, found))
        .and_then(|()| rungs(&mut text, found));
    text
}

/// A field as a person reads it.
fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn head(text: &mut String, found: &Value) -> std::fmt::Result {
    let of = |name: &str| word(&found[name]);
    let code = found["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
    let degraded = if found["degraded"] == true { ", without counters" } else { "" };
    writeln!(text, "{} {}{code}{degraded}", of("decision_id"), of("decision"))?;
    if found["reservation_id"].is_string() {
        writeln!(text, "  reservation  {}", of("reservation_id"))?;
    }
    if found["cache_entry_id"].is_string() {
        writeln!(text, "  answer       {}", of("cache_entry_id"))?;
    }
    writeln!(
        text,
        "  asked        {} by workspace {}, user {}, feature {}, request {}",
        of("decided_at"),
        of("workspace_id"),
        of("user_id"),
        of("feature"),
        of("request_id")
    )?;
    writeln!(
        text,
        "  versions     plan {} version {}, policy {}, workspace {}, price {}",
        of("plan_id"),
        of("plan_version"),
        of("policy_version"),
        of("workspace_version"),
        of("price_version")
    )?;
    let (routing, estimates) = (&found["routing"], &found["estimates"]);
    let rule = routing["rule"].as_str().map(|rule| format!(", by rule {rule}")).unwrap_or_default();
    writeln!(
        text,
        "  model        {} asked, {} chosen{rule}",
        word(&routing["requested_model"]),
        word(&routing["model"])
    )?;
    for rule in list(&routing["shadow_rules"]) {
        writeln!(text, "               shadow rule {} would have matched", word(rule))?;
    }
    let guessed = |name: &str| if estimates[name] == true { " (estimated)" } else { "" };
    writeln!(
        text,
        "  tokens       {} in{}, at most {} out{}, {} requests",
        word(&estimates["input_tokens"]),
        guessed("input_tokens_estimated"),
        word(&estimates["max_output_tokens"]),
        guessed("max_output_tokens_estimated"),
        word(&estimates["requests"])
    )
}

fn questions(text: &mut String, found: &Value) -> std::fmt::Result {
    writeln!(text, "\nQuestions")?;
    for question in list(&found["questions"]) {
        let mark = match question["answer"].as_str() {
            Some("passed") => "ok",
            Some("refused") => "NO",
            _ => "-",
        };
        writeln!(
            text,
            "  {mark:<3} {:<26} {}",
            word(&question["question"]),
            word(&question["detail"])
        )?;
    }
    Ok(())
}

fn rungs(text: &mut String, found: &Value) -> std::fmt::Result {
    writeln!(text, "\nRungs")?;
    for (number, rung) in (1..).zip(list(&found["rungs"])) {
        let mark = if rung["taken"] == true { "=>" } else { "  " };
        let needs = &rung["needs"];
        writeln!(
            text,
            "{mark}{number:>2} {:<16} {} {}: {} tokens, {} usd, {} requests",
            word(&rung["step"]),
            word(&rung["model"]),
            word(&rung["mode"]),
            word(&needs["tokens"]),
            word(&needs["usd"]),
            word(&needs["requests"])
        )?;
        writeln!(text, "     {}", word(&rung["detail"]))?;
        for ceiling in list(&rung["ceilings"]) {
            let of = |name: &str| word(&ceiling[name]);
            let mark = if ceiling["fits"] == true { "ok" } else { "NO" };
            let below = ceiling["open_below"]
                .as_null()
                .map_or_else(|| format!(", open below {}", of("open_below")), |()| String::new());
            writeln!(
                text,
                "     {mark:<3} {:<22} {} {} of {}: {} spent, {} held, {} granted, {} left, {} needed{below}",
                of("budget_id"),
                of("unit"),
                of("period"),
                of("ceiling"),
                of("spent"),
                of("held"),
                of("granted"),
                of("room"),
                of("need")
            )?;
        }
        if rung["cap"].is_object() {
            let cap = &rung["cap"];
            writeln!(
                text,
                "     cap: at least {}, at most {} fit",
                word(&cap["min_output_tokens"]),
                word(&cap["longest"])
            )?;
        }
    }
    for (number, skipped) in list(&found["skipped"]).enumerate() {
        if number == 0 {
            writeln!(text, "\nNot there")?;
        }
        writeln!(
            text,
            "     {:<16} {:<22} {}",
            word(&skipped["step"]),
            word(&skipped["model"]),
            word(&skipped["because"])
        )?;
    }
    for overage in list(&found["overage"]) {
        writeln!(
            text,
            "\nOverage of {}: {} beyond {}, billed up to {}",
            word(&overage["budget_id"]),
            word(&overage["beyond"]),
            word(&overage["hard"]),
            word(&overage["overage_hard"])
        )?;
    }
    Ok(())
}
