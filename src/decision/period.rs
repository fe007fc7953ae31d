//! Periods.
