//! What settings say of the parts that have any: made by `cli` from the settings, by tests by hand, handed down by the composition root.

use super::billing::BillingOptions;

/// The default is what a service without configuration does.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub billing: BillingOptions,
}
