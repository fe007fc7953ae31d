//! Pure rules. Does no I/O, is never async, reads no clock and no chance, imports no other folder of this crate.

pub mod amount;
pub mod catalogue;
pub mod counter;
pub mod entry;
pub mod id;
pub mod money;
pub mod period;
pub mod plan;
pub mod price;
pub mod rung;
pub mod standing;
pub mod time;
pub mod usage;
pub mod value;
pub mod workspace;
