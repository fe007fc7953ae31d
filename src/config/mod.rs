//! Settings: flags beat `WEIR_…` variables beat the file of `--config` beat defaults, and each value knows where it came from.
//!
//! The table in [`settings`] is the only list of them. Nothing here reads a clock or opens a store; invariant: a secret's text leaves its
//! [`Secret`] only where it is used, and shows in no message, log or listing.

pub mod data_dir;
pub mod keys;
mod secret;
mod settings;
mod sources;
mod value;

pub use secret::Secret;
pub use settings::Settings;
pub use sources::{ConfigError, Given, Loaded, Origin};
pub use value::{BillingProvider, Cidr, LogFormat, SigningKey};
