//! Billing against a fake Stripe over real HTTP: the fake's own rules, the providers, reconciliation, and runs in which everything goes wrong.
//!
//! `WEIR_BILLING_RUN_ENTRIES=100000 cargo test --test billing_stripe -- --nocapture long_run` is the long run: processes of the real program
//! on Redis and PostgreSQL that are killed while they send.

#[path = "../support/stripe/mod.rs"]
mod stripe;
#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code, reason = "what chaos needs besides")]
#[path = "../chaos/node.rs"]
mod node;

mod adjustments;
mod billed;
mod credits;
mod long_run;
mod meters;
mod periods;
mod provider;
mod reports;
mod rules;
mod run;
mod scenes;
