//! Weir: quota and billing metering for AI products.

pub mod counters;
pub mod decision;
pub mod ledger;
pub mod policy;
