//! The suites that speak to a service over HTTP, in one program: they share a build, a Redis and a PostgreSQL. `cargo test --test http
//! admission::` runs one of them; `WEIR_TEST_PROFILE=production` runs them on those stores.

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod admission;
mod audit;
mod batch;
mod billing;
mod billing_in;
mod breakers;
mod cache;
mod cache_quality;
mod corrections;
mod events;
mod expiry;
mod explain;
mod fair_use;
mod grants;
mod hostile;
mod idempotency;
mod identities;
mod lifecycle;
mod matrix;
mod messages;
mod money_crossings;
mod money_edges;
mod money_random;
mod paid_grants;
mod periods;
mod routing;
mod runs;
mod settlement;
