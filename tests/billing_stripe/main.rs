//! Billing against a fake Stripe over real HTTP: the fake's own rules, the provider, reconciliation, and runs in which everything goes wrong.

#[path = "../support/stripe/mod.rs"]
mod stripe;

mod provider;
mod rules;
