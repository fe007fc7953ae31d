//! One call: its identity, its body and the service, as every handler gets them. A handler unwraps, calls and wraps.

use super::auth::Identity;
use super::json;
use super::problem::Problem;
use crate::decision::id::{DecisionId, RequestId, ReservationId, WorkspaceId};
use crate::decision::message::language::ACCEPTED_BYTES_MAX;
use crate::decision::value;
use crate::flow::Service;
use actix_web::http::header::ACCEPT_LANGUAGE;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::sync::Arc;

/// What a handler answers.
pub type Answer = Result<HttpResponse, Problem>;

/// A call that was authenticated and admitted, its body read.
pub struct Call {
    pub service: Data<Service>,
    pub identity: Identity,
    pub request: HttpRequest,
    pub body: Bytes,
}

impl Call {
    /// The body as strict JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        json::read(&self.request, &self.body)
    }

    /// Refuses what is longer than one object may be, on paths that also take batches.
    pub fn single(&self) -> Result<(), Problem> {
        if self.body.len() > json::BODY_BYTES_MAX {
            return Err(Problem::too_large(json::BODY_BYTES_MAX));
        }
        Ok(())
    }

    /// The query string; unknown and doubled parameters are refused.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let read = actix_web::web::Query::<T>::from_query(self.request.query_string());
        read.map(actix_web::web::Query::into_inner).map_err(|error| {
            let text = error.to_string();
            // actix puts its own words before those of whatever refused.
            let why = text.rsplit("deserialize error: ").next().unwrap_or(&text);
            let told = |why: &str| format!("the query string: {why}");
            match why.strip_prefix(value::UNACCEPTABLE) {
                Some(why) => Problem::unacceptable("", told(why)),
                None if why.starts_with("unknown variant") => Problem::unacceptable("", told(why)),
                None => Problem::malformed("", told(why)),
            }
        })
    }

    /// The languages in which the caller reads, as it names them; nothing where that asks for none in particular.
    pub fn accept_language(&self) -> Option<Arc<str>> {
        let given = self.request.headers().get(ACCEPT_LANGUAGE)?.to_str().ok()?;
        (given != "*" && given.len() <= ACCEPTED_BYTES_MAX).then(|| given.into())
    }

    /// A part of the path, percent-decoded; where that gives no text, as it came.
    pub fn path(&self, name: &str) -> Cow<'_, str> {
        // The router has decoded all but what means something to it: `/`, `%` and `+` are still as they came, so nothing is decoded twice.
        let part = self.request.match_info().get(name).unwrap_or_default();
        match part.contains('%').then(|| percent_decoded(part)).flatten() {
            Some(decoded) => Cow::Owned(decoded),
            None => Cow::Borrowed(part),
        }
    }

    /// Whether a credential that may set workspaces may set this one.
    pub fn may_see(&self, workspace: &WorkspaceId) -> Result<(), Problem> {
        if self.identity.sees(workspace) {
            Ok(())
        } else {
            Err(Problem::not_found())
        }
    }

    /// Whether the caller would rather have CSV.
    pub fn accepts_csv(&self) -> bool {
        let accept = self
            .request
            .headers()
            .get("accept")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        accept
            .split(',')
            .any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/csv"))
    }

    /// For verbs that say all in their path: a body may be absent, or an empty object.
    pub fn no_body_or_empty_object(&self) -> Result<(), Problem> {
        if self.body.is_empty() {
            return Ok(());
        }
        let object: json::OpenObject = self.json()?;
        match object.keys().next() {
            None => Ok(()),
            Some(name) => Err(Problem::malformed(
                format!("/{name}"),
                "there is no such field; this path takes no body",
            )),
        }
    }

    /// The workspace in the path, which a bound credential may only see if it is its own.
    pub fn path_workspace(&self) -> Result<WorkspaceId, Problem> {
        let workspace = WorkspaceId::parse(&self.path("id")).map_err(|_| Problem::not_found())?;
        if self.identity.sees(&workspace) {
            Ok(workspace)
        } else {
            Err(Problem::not_found())
        }
    }

    /// The reservation in the path; what is no id of ours is unknown.
    pub fn path_reservation(&self) -> Result<ReservationId, Problem> {
        ReservationId::parse(&self.path("id")).map_err(|_| Problem::not_found())
    }

    /// The decision in the path; what is no id of ours is unknown.
    pub fn path_decision(&self) -> Result<DecisionId, Problem> {
        DecisionId::parse(&self.path("id")).map_err(|_| Problem::not_found())
    }

    /// The workspace that a body names; a bound credential may leave it out, and sees no other.
    pub fn workspace(&self, named: Option<WorkspaceId>) -> Result<WorkspaceId, Problem> {
        match (named, &self.identity.workspace) {
            (Some(named), _) if self.identity.sees(&named) => Ok(named),
            (Some(_), _) => Err(Problem::not_found()),
            (None, Some(bound)) => Ok(bound.clone()),
            (None, None) => Err(Problem::malformed(
                "/workspace_id",
                "workspace_id is required: the credential is not bound to a workspace",
            )),
        }
    }

    /// The key of a request that can be repeated: the header, or the request id of the body; both must agree. Without either a new one.
    pub fn request_key(&self, named: Option<RequestId>) -> Result<RequestId, Problem> {
        match (self.idempotency_key()?, named) {
            (Some(key), Some(named)) if key != named => Err(Problem::unacceptable(
                "/request_id",
                "differs from the Idempotency-Key header; send one of them, or both alike",
            )),
            (Some(key), _) => Ok(key),
            (None, Some(named)) => Ok(named),
            (None, None) => RequestId::parse(&format!("req_{}", self.service.clock.uuid().simple())).map_err(|_| Problem::overloaded()),
        }
    }

    /// The `Idempotency-Key` header, if there is one.
    pub fn idempotency_key(&self) -> Result<Option<RequestId>, Problem> {
        let Some(value) = self.request.headers().get("idempotency-key") else {
            return Ok(None);
        };
        let text = value.to_str().unwrap_or_default();
        RequestId::parse(text)
            .map(Some)
            .map_err(|why| Problem::unacceptable_header("Idempotency-Key", why))
    }
}

/// The text that `text` stands for; `None`: an escape is broken, or it is not UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let hex = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Wraps a body as JSON. The bodies are plain data of this crate, which always can be written.
pub fn answer(mut response: HttpResponseBuilder, body: &impl Serialize) -> HttpResponse {
    match json::write(body) {
        Ok(bytes) => response.content_type("application/json").body(bytes),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// A plain 200.
pub fn ok(body: &impl Serialize) -> Answer {
    Ok(answer(HttpResponse::Ok(), body))
}
