//! What callers are told when something is refused or fails, as RFC 9457 problem documents. The only file that chooses a status.
//!
//! A problem has an outside text, which is sent, and an inside cause, which is logged once when the answer is made and never sent.
//! What is unknown and what another tenant owns look exactly alike.

mod body;
mod chain;

pub use body::{FieldProblem, ProblemBody};

use super::request_id;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use chain::Chain;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;

pub const CONTENT_TYPE: &str = "application/problem+json";

/// How long callers should wait when a store is away or too much is going on.
pub const RETRY_AFTER_SECONDS: u32 = 1;
/// How long to wait for an operator.
const NOT_CONFIGURED_RETRY_SECONDS: u32 = 3_600;

macro_rules! codes {
    ($($name:ident $text:literal $status:ident $meaning:literal;)*) => {
        /// What went wrong, in one word that never changes. Each has one status.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum ProblemCode { $($name),* }

        impl ProblemCode {
            pub const ALL: &'static [ProblemCode] = &[$(ProblemCode::$name),*];

            pub const fn as_str(self) -> &'static str {
                match self { $(ProblemCode::$name => $text),* }
            }

            pub const fn status(self) -> StatusCode {
                match self { $(ProblemCode::$name => StatusCode::$status),* }
            }

            /// For the API's document: when it is answered, and what to do.
            pub const fn meaning(self) -> &'static str {
                match self { $(ProblemCode::$name => $meaning),* }
            }
        }
    };
}

codes! {
    Malformed "malformed" BAD_REQUEST
        "The request has the wrong shape: not JSON, a doubled key, an unknown or missing field, a wrong type. `errors` says where.";
    SignatureInvalid "signature_invalid" BAD_REQUEST
        "The body is not signed by whom it must be from, or its signature is too old; sign it with the secret of this service.";
    Unauthorized "unauthorized" UNAUTHORIZED "There is no credential, or it is not valid here.";
    InsufficientScope "insufficient_scope" FORBIDDEN "The credential is valid, and may not do this.";
    NotFound "not_found" NOT_FOUND "Unknown, or of a workspace that the credential may not see.";
    ReservationUnknown "reservation_unknown" NOT_FOUND "No such reservation is known; send the report again with the fields that the detail names.";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED "The path exists; `Allow` says with which methods.";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT "The body took too long to arrive.";
    AlreadySettled "already_settled" CONFLICT "The reservation is settled.";
    ReservationReleased "reservation_released" CONFLICT "The reservation is released.";
    ReservationExpired "reservation_expired" CONFLICT "The reservation has expired. It can still be settled.";
    ReservationIsParent "reservation_is_parent" CONFLICT "Calls of a run draw from it: it has no entry; settle the calls, and release it.";
    EscalationNotDue "escalation_not_due" CONFLICT "It permits no second try: not settled, offered none, or `quality_score` not too low.";
    AlreadyEscalated "already_escalated" CONFLICT "The reservation was tried again already, under another request id.";
    SettleConflict "settle_conflict" CONFLICT "The reservation is settled with another report; correct its entry instead.";
    UsageConflict "usage_conflict" CONFLICT "Another use is recorded under this request id.";
    RequestIdHeld "request_id_held" CONFLICT "A reservation with this request id is held; settle it instead.";
    BatchConflict "batch_conflict" CONFLICT "The batch cannot be sent again as it stands; the detail says why.";
    CreditConflict "credit_conflict" CONFLICT "The credit of this grant cannot be sent again as it stands; the detail says why.";
    GrantConflict "grant_conflict" CONFLICT "Another grant was given under this key; choose another key.";
    IdempotencyInFlight "idempotency_in_flight" CONFLICT "The first request with this key still runs; ask again shortly.";
    PlanInUse "plan_in_use" CONFLICT "Workspaces are on this plan; move them first.";
    PreconditionFailed "precondition_failed" PRECONDITION_FAILED "It changed since it was read; read it again and decide anew.";
    BodyTooLarge "body_too_large" PAYLOAD_TOO_LARGE "The body is longer than this path takes.";
    UnsupportedMediaType "unsupported_media_type" UNSUPPORTED_MEDIA_TYPE "The body is not of a type that this path takes.";
    Unacceptable "unacceptable" UNPROCESSABLE_ENTITY "The request has the right shape, and a value that cannot be accepted. `errors` says where.";
    IdempotencyMismatch "idempotency_mismatch" UNPROCESSABLE_ENTITY "The key was used for another request.";
    UsageUnreadable "usage_unreadable" UNPROCESSABLE_ENTITY "The usage object has no count that is understood; unknown is not zero.";
    AmountTooLarge "amount_too_large" UNPROCESSABLE_ENTITY "An amount passes what one entry or one limit may be.";
    UserRequired "user_required" UNPROCESSABLE_ENTITY "The plan counts by user: name `user_id`.";
    TooManyRequests "too_many_requests" TOO_MANY_REQUESTS "The caller is too fast; `Retry-After` says when to go on.";
    Internal "internal" INTERNAL_SERVER_ERROR "A fault of the service. The request id finds it in the logs.";
    StoreUnavailable "store_unavailable" SERVICE_UNAVAILABLE "A store is down; the same request may be sent again after `Retry-After`.";
    KeysUnavailable "keys_unavailable" SERVICE_UNAVAILABLE
        "The public keys of the credential's issuer cannot be fetched; the same request may be sent again after `Retry-After`.";
    NotConfigured "not_configured" SERVICE_UNAVAILABLE
        "The service lacks a setting that this needs; its operator is told in the detail. The same request may be sent again later.";
    Overloaded "overloaded" SERVICE_UNAVAILABLE "Too much is going on; the same request may be sent again after `Retry-After`.";
}

/// All codes as the rows of a Markdown table, for README and the OpenAPI document.
pub fn codes_as_markdown() -> String {
    let row = |code: &ProblemCode| format!("| {} | `{}` | {} |\n", code.status().as_u16(), code.as_str(), code.meaning());
    "| status | code | meaning |\n| --- | --- | --- |\n".to_owned() + &ProblemCode::ALL.iter().map(row).collect::<String>()
}

type Cause = Box<dyn Error + Send + Sync>;

/// A refusal or a failure on its way to the caller.
#[derive(Debug)]
pub struct Problem(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: ProblemCode,
    detail: Cow<'static, str>,
    errors: Vec<FieldProblem>,
    headers: Vec<(HeaderName, HeaderValue)>,
    cause: Option<Cause>,
}

impl Problem {
    fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
            cause: None,
        }))
    }

    fn at(code: ProblemCode, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(code, "");
        problem.0.errors.push(FieldProblem {
            pointer: pointer.into(),
            detail: detail.into(),
        });
        problem
    }

    /// Adds a header; text that no header can carry is left out.
    fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.0.headers.push((name, value));
        }
        self
    }

    fn retry_after(self, seconds: u32) -> Self {
        self.header(header::RETRY_AFTER, &seconds.to_string())
    }

    /// The wrong shape at `pointer`; `detail` says what would be right.
    pub fn malformed(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::at(ProblemCode::Malformed, pointer, detail)
    }

    /// The right shape, and an unacceptable value at `pointer`; `detail` says what would be accepted.
    pub fn unacceptable(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::at(ProblemCode::Unacceptable, pointer, detail)
    }

    /// An unacceptable header; `why` goes on from its name.
    pub fn unacceptable_header(name: &str, why: impl fmt::Display) -> Self {
        Self::new(ProblemCode::Unacceptable, format!("The header {name} {why}."))
    }

    /// No credential, or one that is not valid here. `description` is told to the caller, so it must not help a guesser.
    pub fn unauthorized(description: Option<&'static str>) -> Self {
        match description {
            None => Self::new(
                ProblemCode::Unauthorized,
                "Send a credential: Authorization: Bearer … (`weir token` makes one).",
            )
            .header(header::WWW_AUTHENTICATE, "Bearer"),
            Some(description) => Self::new(ProblemCode::Unauthorized, format!("{description}.")).header(
                header::WWW_AUTHENTICATE,
                &format!("Bearer error=\"invalid_token\", error_description=\"{description}\""),
            ),
        }
    }

    /// A setting that this path needs is not there; who sends again after it was made loses nothing.
    pub fn not_configured(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::NotConfigured, detail.into()).retry_after(NOT_CONFIGURED_RETRY_SECONDS)
    }

    /// A valid credential that may not do this; `scope` names what would be needed, by the words of the credential.
    pub fn insufficient_scope(scope: &str) -> Self {
        let detail = format!("This needs a credential with the scope {scope}.");
        let challenge = format!("Bearer error=\"insufficient_scope\", scope=\"{}\"", scope.replace(" or ", " "));
        Self::new(ProblemCode::InsufficientScope, detail).header(header::WWW_AUTHENTICATE, &challenge)
    }

    /// A credential of one workspace at something that belongs to all of them.
    pub fn bound_credential() -> Self {
        let detail = "This belongs to all workspaces, and the credential is bound to one; use one that is not bound.";
        Self::new(ProblemCode::InsufficientScope, detail).header(header::WWW_AUTHENTICATE, "Bearer error=\"insufficient_scope\"")
    }

    /// Unknown, or somebody else's: one body for both.
    pub fn not_found() -> Self {
        Self::new(ProblemCode::NotFound, "Nothing of that name is known here.")
    }

    /// A reservation of which nothing is known; `detail` says what to resend.
    pub fn reservation_unknown(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::ReservationUnknown, detail.into())
    }

    /// The path is known and the method is not; `allow` lists the others, as the header does.
    pub fn method_not_allowed(allow: &str) -> Self {
        let detail = format!("This path takes {allow}.");
        Self::new(ProblemCode::MethodNotAllowed, detail).header(header::ALLOW, allow)
    }

    pub fn request_timeout(seconds: u64) -> Self {
        let detail = format!("The body did not arrive within {seconds} seconds.");
        Self::new(ProblemCode::RequestTimeout, detail)
    }

    /// A refusal by its code that is about one place of the body.
    pub fn of_place(code: ProblemCode, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::at(code, pointer, detail)
    }

    /// Any other refusal by its code; `detail` is a sentence with the ids that it is about.
    pub fn of(code: ProblemCode, detail: impl Into<String>) -> Self {
        Self::new(code, detail.into())
    }

    pub fn precondition_failed(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::PreconditionFailed, detail.into())
    }

    pub fn too_large(bytes_max: usize) -> Self {
        Self::new(
            ProblemCode::BodyTooLarge,
            format!("The body is longer than {bytes_max} bytes, the most that this path takes."),
        )
    }

    /// The body is of another type than `accepted`.
    pub fn unsupported_media(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let types: Vec<&str> = accepted.iter().map(|one| one.split(' ').next().unwrap_or(one)).collect();
        Self::new(
            ProblemCode::UnsupportedMediaType,
            format!("Send the body as Content-Type: {list}, in UTF-8."),
        )
        .header(header::ACCEPT, &types.join(", "))
    }

    /// The body is compressed, which no path takes.
    pub fn unsupported_encoding() -> Self {
        Self::new(
            ProblemCode::UnsupportedMediaType,
            "Send the body as it is, without a Content-Encoding.",
        )
        .header(header::ACCEPT_ENCODING, "identity")
    }

    pub fn usage_unreadable(why: &impl fmt::Display) -> Self {
        let mut problem = Self::at(ProblemCode::UsageUnreadable, "/usage", why.to_string());
        problem.0.detail = format!("The usage object cannot be read: {why}").into();
        problem
    }

    pub fn amount_too_large(detail: impl Into<String>) -> Self {
        Self::new(ProblemCode::AmountTooLarge, detail.into())
    }

    pub fn amount_too_large_at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::at(ProblemCode::AmountTooLarge, pointer, detail)
    }

    pub fn user_required(detail: impl Into<String>) -> Self {
        Self::at(ProblemCode::UserRequired, "/user_id", detail)
    }

    pub fn too_many_requests(retry_after_seconds: u32) -> Self {
        Self::new(ProblemCode::TooManyRequests, "Too many calls; go on after the time in Retry-After.").retry_after(retry_after_seconds)
    }

    /// A fault of ours: give the cause with [`Problem::because`].
    pub fn internal() -> Self {
        Self::new(
            ProblemCode::Internal,
            "The service failed. Tell its operator the request id; it finds the cause in the logs.",
        )
    }

    pub fn store_unavailable(retry_after_seconds: u32) -> Self {
        let detail = "A store is not available. Nothing is known to be lost; send the same request again after the time in Retry-After.";
        Self::new(ProblemCode::StoreUnavailable, detail).retry_after(retry_after_seconds)
    }

    /// Nothing can be said of a credential, because its issuer's keys are not known.
    pub fn keys_unavailable() -> Self {
        let detail =
            "The credential cannot be verified, because its issuer does not answer. Nothing was done; send the same request again.";
        Self::new(ProblemCode::KeysUnavailable, detail).retry_after(RETRY_AFTER_SECONDS)
    }

    pub fn overloaded() -> Self {
        let detail = "Too much is going on at once. Nothing was done; send the same request again after the time in Retry-After.";
        Self::new(ProblemCode::Overloaded, detail).retry_after(RETRY_AFTER_SECONDS)
    }

    /// The inside cause: logged once, never sent.
    pub fn because(mut self, cause: impl Into<Cause>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// The same problem with its places below `prefix`, when what was read was a part of the body.
    pub fn under(mut self, prefix: &str) -> Self {
        for error in &mut self.0.errors {
            error.pointer.insert_str(0, prefix);
        }
        self
    }

    pub fn code(&self) -> &'static str {
        self.0.code.as_str()
    }

    pub fn status(&self) -> StatusCode {
        self.0.code.status()
    }

    /// What is wrong where, if it is about places of the body.
    pub fn errors(&self) -> &[FieldProblem] {
        &self.0.errors
    }

    /// The document for an answer to `request`, also inside of a batch. Logs the cause.
    pub fn body(&self, request: &HttpRequest) -> ProblemBody {
        let id = request_id::of(request);
        self.log(id.as_deref());
        self.document(id)
    }

    /// The answer to `request`. Logs the cause.
    pub fn response(&self, request: &HttpRequest) -> HttpResponse {
        self.wrap(&self.body(request))
    }

    fn document(&self, instance: Option<String>) -> ProblemBody {
        let status = self.status();
        ProblemBody {
            kind: "about:blank",
            // RFC 9457, 4.2.1: with about:blank, the title is that of the status.
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: self.detail(),
            instance,
            code: self.code(),
            errors: self.0.errors.clone(),
        }
    }

    fn detail(&self) -> String {
        let Some(FieldProblem { pointer, detail }) = self.0.errors.first().filter(|_| self.0.detail.is_empty()) else {
            return self.0.detail.to_string();
        };
        let begins = match (self.0.code, pointer.is_empty()) {
            (ProblemCode::Malformed, true) => "The request has the wrong shape".to_owned(),
            (ProblemCode::Malformed, false) => format!("The request has the wrong shape at {pointer}"),
            (_, true) => "The request cannot be accepted".to_owned(),
            (_, false) => format!("The value at {pointer} cannot be accepted"),
        };
        let ends = if detail.ends_with(['.', '?', '…']) { "" } else { "." };
        format!("{begins}: {detail}{ends}")
    }

    fn wrap(&self, body: &ProblemBody) -> HttpResponse {
        let mut response = HttpResponse::build(self.status());
        for (name, value) in &self.0.headers {
            response.insert_header((name.clone(), value.clone()));
        }
        match serde_json::to_vec(body) {
            Ok(bytes) => response.content_type(CONTENT_TYPE).body(bytes),
            Err(error) => {
                tracing::error!(%error, "a problem document could not be written");
                response.finish()
            }
        }
    }

    fn log(&self, request_id: Option<&str>) {
        let Some(cause) = self.0.cause.as_deref() else { return };
        let chain = Chain(cause);
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            // One for each request while a store is away: the metric and /readyz tell of that, and callers come again.
            tracing::warn!(code = self.code(), request_id, cause = %chain, "a request is to be sent again");
        } else if self.status().is_server_error() {
            tracing::error!(code = self.code(), request_id, cause = %chain, "a request failed");
        } else {
            tracing::debug!(code = self.code(), request_id, cause = %chain, "a request was refused");
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code(), self.detail())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.log(None);
        self.wrap(&self.document(None))
    }
}

#[cfg(test)]
mod tests;
