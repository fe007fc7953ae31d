//! Weir: quota and billing metering for AI products. This file is the map; folders stand in the order in which a request meets them.
//!
//! ```text
//! request ─ api ─ flow ─┬─ decision  pure rules: price, ladder, verdict, entry
//!                       ├─ policy    the snapshot of plans, prices and rules
//!                       ├─ cache     is there an answer already?
//!                       ├─ counters  what is spent and held now: hold all or none, in one step
//!                       ├─ router    a language model that rules may ask, if one is configured
//!                       └─ ledger    what happened: one transaction, shared by concurrent writers
//!                             ├─ billing   what is told to the billing provider, in batches
//!                             └─ webhooks  what is told to customers' systems, from a queue that is a table of the ledger
//! ```
//!
//! Two profiles, both always compiled and chosen by settings: embedded (counters in this process, the ledger in SQLite) and production
//! (Redis and PostgreSQL, any number of nodes). One contract suite holds both stores of a kind to the same answers.
//!
//! `api → flow → {policy, cache, counters, router, ledger} → decision`, and `{billing, webhooks} → ledger`; only [`app`] and [`cli`] see
//! everything. `tests/tidy.rs` holds it.
//!
//! Architecture invariants, each kept by the folder that is named first:
//! - [`decision`] does no I/O, is never async and reads no clock: a decision is a function of its arguments, a refusal a value.
//! - [`counters`] are never the truth: each `spent` is a versioned copy of a row of the ledger, and is only ever set if newer.
//! - [`ledger`] entries are never changed. A reservation has one end, and the ledger decides which.
//! - [`cache`] is never looked into under less than workspace, feature, family, system prompt and parameters; whatever fails there is a miss.
//! - [`flow`] has one verb per file, which says what a crash costs at each of its steps.
//! - [`billing`] is never called inside of a transaction, and decides neither what a batch is worth nor when it is told again.
//! - [`webhooks`] dials no address that was not checked at that moment, and is never called inside of a transaction.
//! - [`api`] chooses statuses and shapes, and nothing else. There is no other way in than its route table.

pub mod api;
pub mod flow;

pub mod decision;

pub mod policy;

pub mod cache;
pub mod router;

pub mod counters;
pub mod ledger;

pub mod billing;
pub mod webhooks;

pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod telemetry;
