//! A problem document as it is sent.

use serde::Serialize;
use utoipa::ToSchema;

/// One place of the request, and what is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct FieldProblem {
    /// A JSON pointer into the body; empty for the whole.
    #[schema(example = "/max_output_tokens")]
    pub pointer: String,
    #[schema(example = "must be an integer, not a string")]
    pub detail: String,
}

/// A problem document, as it is sent.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    pub(super) kind: &'static str,
    /// The status in words.
    #[schema(example = "Bad Request")]
    pub(super) title: &'static str,
    /// The status of the answer.
    #[schema(example = 400)]
    pub(super) status: u16,
    /// What happened, and what to do about it.
    pub(super) detail: String,
    /// The request id: also in the header `X-Request-Id`, and in the logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) instance: Option<String>,
    /// Stable, for programs.
    #[schema(example = "malformed")]
    pub(super) code: &'static str,
    pub(super) errors: Vec<FieldProblem>,
}
