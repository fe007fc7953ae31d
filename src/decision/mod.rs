//! Pure rules. Does no I/O, is never async, reads no clock and no chance, imports no other folder of this crate.

pub mod money;
pub mod period;
pub mod time;
pub mod usage;
pub mod value;
