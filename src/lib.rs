//! Weir: quota and billing metering for AI products.

pub mod decision;
pub mod policy;
