//! What a customer paid for a grant, as a billing provider is told of it: an amount in the smallest unit of a currency. Weir never converts it,
//! and does not ask what it has to do with what the grant gives.

use serde::{Deserialize, Serialize};

/// The most that one grant may have cost, in the currency's smallest unit.
pub const PURCHASE_AMOUNT_MAX: i64 = 999_999_999_999;
/// Letters of a currency's code.
pub const CURRENCY_CHARS: usize = 3;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Purchase {
    /// In the currency's smallest unit, such as cents.
    pub amount: i64,
    /// Its code of ISO 4217 in lower case. Whether there is such a currency the provider knows.
    pub currency: String,
}

impl Purchase {
    /// Says what is wrong with a currency's code; `None`: nothing.
    pub fn fault_of_currency(code: &str) -> Option<&'static str> {
        let is_code = code.len() == CURRENCY_CHARS && code.bytes().all(|byte| byte.is_ascii_lowercase());
        (!is_code).then_some("must be a currency's code of three lower-case letters, such as usd")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_three_small_letters() {
        for code in ["usd", "eur", "jpy"] {
            assert_eq!(Purchase::fault_of_currency(code), None, "{code}");
        }
        for code in ["", "us", "usdt", "USD", "u5d", "é1"] {
            assert!(Purchase::fault_of_currency(code).is_some(), "{code}");
        }
    }
}
