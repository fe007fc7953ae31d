//! Weir.

pub mod decision;
