//! Pure rules. Does no I/O, is never async, reads no clock and no chance, imports no other folder of this crate.

pub mod amount;
pub mod ask;
pub mod catalogue;
pub mod counter;
pub mod entry;
pub mod estimate;
pub mod id;
pub mod ladder;
pub mod limits;
pub mod message;
pub mod money;
pub mod period;
pub mod plan;
pub mod price;
pub mod refusal;
pub mod rung;
pub mod settlement;
pub mod standing;
pub mod time;
pub mod usage;
pub mod value;
pub mod verdict;
pub mod workspace;
