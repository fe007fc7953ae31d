//! HTTP and JSON in and out. A handler unwraps, calls and wraps; the route table is [`routes`], and [`problem`] alone chooses a status.
//! Touches no store and holds no rule.

pub mod api_keys;
pub mod ask;
pub mod audit_log;
pub mod auth;
pub mod authorize;
pub mod batch;
pub mod by;
pub mod call;
pub mod corrections;
pub mod events;
pub mod explain;
pub mod failure;
mod grants;
pub mod idempotency;
pub mod json;
pub mod ledger;
pub mod openapi;
pub mod operations;
pub mod page;
pub mod policies;
pub mod portal_tokens;
pub mod precondition;
pub mod problem;
pub mod providers;
pub mod report;
pub mod request_id;
pub mod reservations;
pub mod routes;
pub mod server;
pub mod stream;
pub mod top_ups;
pub mod usage;
pub mod wire;
pub mod workspace_list;
pub mod workspace_usage;
pub mod workspaces;
