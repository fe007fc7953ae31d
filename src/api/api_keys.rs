//! `/v1/admin/api-keys`: credentials that Weir makes. A secret is in one answer and nowhere else; whoever loses it rotates the key.

use super::auth::{Scope, ScopeSet, Seal, Verifier};
use super::by::is_invisible;
use super::call::{Answer, Call, answer, ok};
use super::idempotency::KeptAs;
use super::page;
use super::problem::Problem;
use super::reservations::durably;
use super::routes::part;
use crate::decision::api_key::{ApiKey, KEY_NAME_CHARS_MAX, OVERLAP_SECONDS_MAX, SecretHash};
use crate::decision::id::{KeyId, WorkspaceId};
use crate::decision::nearest::nearest;
use crate::decision::time::Timestamp;
use crate::decision::value;
use crate::flow;
use crate::flow::api_keys::ApiKeyQuery;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How long a replaced secret goes on to work unless the caller says otherwise.
const OVERLAP_SECONDS_DEFAULT: i64 = 24 * 3600;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyBody {
    /// What it may do. `portal` needs a `workspace_id`. No more than the credential that makes it may do itself.
    #[schema(value_type = Vec<String>, min_items = 1, example = json!(["authorize", "read"]))]
    #[serde(deserialize_with = "scopes")]
    scopes: ScopeSet,
    /// The one workspace that it sees; null: all.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "ws_456")]
    workspace_id: Option<WorkspaceId>,
    /// From this moment on it is refused; null: never.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime, example = "2027-01-01T00:00:00Z")]
    expires_at: Option<Timestamp>,
    /// For people.
    #[serde(default, deserialize_with = "name")]
    #[schema(max_length = 128, example = "production backend")]
    name: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateBody {
    /// How long the secret that is replaced goes on to work.
    #[serde(default = "overlap_default", deserialize_with = "overlap")]
    #[schema(minimum = 0, maximum = 2592000, default = 86400, example = 3600)]
    overlap_seconds: i64,
}

fn scopes<'de, D: Deserializer<'de>>(from: D) -> Result<ScopeSet, D::Error> {
    let words = Vec::<String>::deserialize(from)?;
    let mut scopes = ScopeSet::EMPTY;
    for word in &words {
        let unknown = || {
            let known = Scope::ALL.map(Scope::as_str);
            let hint = nearest(word, known).map(|meant| format!("; did you mean {meant}?"));
            let hint = hint.unwrap_or_else(|| format!("; there are {}", known.join(", ")));
            value::unacceptable(format_args!("there is no such scope{hint}"))
        };
        scopes = scopes.with(Scope::parse(word).ok_or_else(unknown)?);
    }
    if scopes.is_empty() {
        return Err(value::unacceptable("name at least one scope"));
    }
    Ok(scopes)
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(from)?;
    let is_good = |name: &String| (1..=KEY_NAME_CHARS_MAX).contains(&name.chars().count()) && !name.chars().any(is_invisible);
    if name.as_ref().is_some_and(|name| !is_good(name)) {
        return Err(value::unacceptable(format_args!(
            "a name has 1 to {KEY_NAME_CHARS_MAX} printable characters"
        )));
    }
    Ok(name)
}

fn overlap_default() -> i64 {
    OVERLAP_SECONDS_DEFAULT
}

fn overlap<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    value::integer(from, "overlap_seconds", 0, OVERLAP_SECONDS_MAX)
}

/// A key as its operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiKeyOut<'a> {
    /// Also the actor in the audit log, for what is done with the key.
    #[schema(value_type = String, example = "key_019a7c2e5b6f7d3c8e1f2a3b4c5d6e7f")]
    key_id: KeyId,
    name: Option<&'a str>,
    scopes: Vec<&'static str>,
    #[schema(value_type = Option<String>)]
    workspace_id: Option<&'a WorkspaceId>,
    /// The `sub` of the credential that made it.
    created_by: &'a str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// To the minute or so; null: never yet.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// Until when the secret works that was replaced last; null: there is none.
    #[schema(value_type = Option<String>, format = DateTime)]
    replaced_secret_expires_at: Option<Timestamp>,
    /// The key itself, to be sent as `Authorization: Bearer …`. Shown once: in the answer to the request that made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "weir_sk_…")]
    secret: Option<&'a str>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ApiKeyPage<'a> {
    data: Vec<ApiKeyOut<'a>>,
    /// Null on the last page.
    next_cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ApiKeysQuery {
    /// Only keys that are bound to this workspace.
    #[param(value_type = Option<String>)]
    workspace_id: Option<WorkspaceId>,
    /// 1 to 500, 100 by default.
    #[serde(default, deserialize_with = "page::read_limit")]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    #[param(value_type = Option<String>)]
    cursor: Option<KeyId>,
}

fn out<'a>(key: &'a ApiKey, secret: Option<&'a str>, now: Timestamp) -> ApiKeyOut<'a> {
    ApiKeyOut {
        key_id: key.id,
        name: key.name.as_deref(),
        scopes: key.scopes.iter().map(Scope::as_str).collect(),
        workspace_id: key.workspace.as_ref(),
        created_by: &key.created_by,
        created_at: key.created_at,
        expires_at: key.expires_at,
        last_used_at: key.last_used_at,
        replaced_secret_expires_at: key.replaced.map(|replaced| replaced.until).filter(|until| now < *until),
        secret,
    }
}

/// The answer with a new secret. What is kept for repeated requests has none.
fn told_once(call: &Call, key: &ApiKey, secret: &str, status: StatusCode) -> Answer {
    let now = call.service.clock.now();
    let kept = serde_json::to_string(&out(key, None, now)).map_err(|error| Problem::internal().because(error))?;
    let mut response = HttpResponse::build(status);
    response.insert_header(("Cache-Control", "no-store"));
    let mut response = answer(response, &out(key, Some(secret), now));
    response.extensions_mut().insert(KeptAs(kept));
    Ok(response)
}

/// What makes keys; without it, what the operator must do.
pub(super) fn seal(call: &Call) -> Result<&Seal, Problem> {
    part::<Verifier>(&call.request)?.seal().ok_or_else(|| {
        let detail = "This service has no secret to seal credentials with; set WEIR_SECRET_KEY (32 bytes or more) and start it again.";
        Problem::unacceptable("", detail)
    })
}

fn made(seal: &Seal, id: KeyId) -> Result<(String, SecretHash), Problem> {
    seal.make_key(id).map_err(|error| Problem::internal().because(error))
}

fn path_key(call: &Call) -> Result<KeyId, Problem> {
    KeyId::parse(&call.path("id")).map_err(|_| Problem::not_found())
}

/// Makes a key. Its secret is in this answer and nowhere else: repeated with the same `Idempotency-Key` the answer comes without it.
#[utoipa::path(post, path = "/v1/admin/api-keys", tag = "admin", request_body = ApiKeyBody, responses((status = 201, body = ApiKeyOut)))]
pub async fn create(call: Call) -> Answer {
    let body: ApiKeyBody = call.json()?;
    let now = call.service.clock.now();
    if !call.identity.scopes.covers(body.scopes) {
        return Err(Problem::insufficient_scope(&body.scopes.joined(" ")));
    }
    if body.scopes.contains(Scope::Portal) && body.workspace_id.is_none() {
        let why = "is required with the scope portal, which shows a customer's own usage";
        return Err(Problem::unacceptable("/workspace_id", why));
    }
    if body.expires_at.is_some_and(|end| end <= now) {
        return Err(Problem::unacceptable("/expires_at", "must be in the future"));
    }
    let id = flow::api_keys::new_id(&call.service);
    let (secret, hash) = made(seal(&call)?, id)?;
    let by = call.by()?;
    let key = ApiKey {
        id,
        name: body.name,
        scopes: body.scopes,
        workspace: body.workspace_id,
        hash,
        replaced: None,
        created_by: by.actor.clone(),
        created_at: now,
        expires_at: body.expires_at,
        revoked_at: None,
        last_used_at: None,
        version: 1,
    };
    let service = call.service.clone();
    let key = durably(async move { flow::api_keys::create(&service, key, &by).await }).await?;
    told_once(&call, &key, &secret, StatusCode::CREATED)
}

/// All keys that are not revoked, newest first.
#[utoipa::path(get, path = "/v1/admin/api-keys", tag = "admin", params(ApiKeysQuery), responses((status = 200, body = ApiKeyPage)))]
pub async fn list(call: Call) -> Answer {
    let query: ApiKeysQuery = call.query()?;
    let limit = page::limit(query.limit)?;
    let wanted = ApiKeyQuery {
        workspace: query.workspace_id,
        after: query.cursor,
        // One more than asked for tells whether there is another page.
        limit: limit + 1,
    };
    let mut keys = flow::api_keys::list(&call.service, &wanted).await?;
    let more = keys.len() > limit;
    keys.truncate(limit);
    let now = call.service.clock.now();
    ok(&ApiKeyPage {
        data: keys.iter().map(|key| out(key, None, now)).collect(),
        next_cursor: keys.last().filter(|_| more).map(|key| key.id.to_string()),
    })
}

/// A key, without its secret.
#[utoipa::path(get, path = "/v1/admin/api-keys/{id}", tag = "admin", params(("id" = String, Path)), responses((status = 200, body = ApiKeyOut)))]
pub async fn get(call: Call) -> Answer {
    let key = flow::api_keys::read(&call.service, path_key(&call)?).await?;
    ok(&out(&key, None, call.service.clock.now()))
}

/// Revokes a key: here at once, on every other node within two seconds.
#[utoipa::path(delete, path = "/v1/admin/api-keys/{id}", tag = "admin", params(("id" = String, Path)), responses((status = 204)))]
pub async fn delete(call: Call) -> Answer {
    let (id, by, service) = (path_key(&call)?, call.by()?, call.service.clone());
    durably(async move { flow::api_keys::revoke(&service, id, &by).await }).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Gives a key a new secret. The one before works for `overlap_seconds` more, and one that was replaced earlier no longer.
#[utoipa::path(post, path = "/v1/admin/api-keys/{id}/rotate", tag = "admin", params(("id" = String, Path)), request_body = RotateBody,
    responses((status = 200, body = ApiKeyOut)))]
pub async fn rotate(call: Call) -> Answer {
    let id = path_key(&call)?;
    let overlap_seconds = match call.body.is_empty() {
        true => OVERLAP_SECONDS_DEFAULT,
        false => call.json::<RotateBody>()?.overlap_seconds,
    };
    let (secret, hash) = made(seal(&call)?, id)?;
    let (by, service) = (call.by()?, call.service.clone());
    let key = durably(async move { flow::api_keys::rotate(&service, id, hash, overlap_seconds, &by).await }).await?;
    told_once(&call, &key, &secret, StatusCode::OK)
}
