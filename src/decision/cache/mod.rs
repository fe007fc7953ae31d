//! What is pure about keeping answers: who may share them, which texts may, which answers are whole, and what giving one again counts
//! for.

pub mod bill;
pub mod key;
pub mod veto;
pub mod whole;
