//! Weir: quota and billing metering for AI products.

pub mod clock;
pub mod counters;
pub mod decision;
pub mod flow;
pub mod ledger;
pub mod policy;
