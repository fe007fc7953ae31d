//! Counters in the process.
