//! Weir.

pub mod counters;
pub mod decision;
pub mod ledger;
