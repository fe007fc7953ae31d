//! HTTP and JSON in and out. A handler unwraps, calls and wraps; the route table is [`routes`], and [`problem`] alone chooses a status.
//! Touches no store and holds no rule.

pub mod ask;
pub mod auth;
pub mod authorize;
pub mod call;
pub mod events;
pub mod failure;
mod grants;
pub mod idempotency;
pub mod json;
pub mod ledger;
pub mod openapi;
pub mod operations;
pub mod policies;
pub mod problem;
pub mod report;
pub mod request_id;
pub mod reservations;
pub mod routes;
pub mod server;
pub mod top_ups;
pub mod usage;
pub mod wire;
pub mod workspaces;
