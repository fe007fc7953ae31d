//! What a count is multiplied by: an integer, or a quoted decimal. A bare `0.001` would be a binary fraction.

use crate::decision::meter::FACTOR_BILLIONTHS;
use crate::decision::money::Usd;
use crate::decision::value::unacceptable;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// A factor of at most nine decimals, in billionths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Factor(i64);

impl Factor {
    /// What it may be at most.
    pub const WHOLE_MAX: i64 = 1_000_000_000;

    /// Used by tests; `None` outside of the bounds.
    pub const fn of_billionths(billionths: i64) -> Option<Self> {
        let is_good = billionths >= 0 && billionths <= Self::WHOLE_MAX * FACTOR_BILLIONTHS;
        if is_good { Some(Self(billionths)) } else { None }
    }

    pub const fn billionths(self) -> i64 {
        self.0
    }

    fn whole(number: i64) -> Option<Self> {
        number.checked_mul(FACTOR_BILLIONTHS).and_then(Self::of_billionths)
    }
}

pub(super) fn factor_of_one() -> Factor {
    Factor(FACTOR_BILLIONTHS)
}

fn outside<E: de::Error>() -> E {
    unacceptable(format_args!("a factor must be from 0 to {}", Factor::WHOLE_MAX))
}

impl Serialize for Factor {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 % FACTOR_BILLIONTHS == 0 {
            return to.serialize_i64(self.0 / FACTOR_BILLIONTHS);
        }
        // An amount of money has nine decimals too.
        let text = Usd::from_nanos(self.0).to_string();
        to.serialize_str(text.trim_end_matches('0'))
    }
}

impl<'de> Deserialize<'de> for Factor {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct FactorVisitor;
        impl Visitor<'_> for FactorVisitor {
            type Value = Factor;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer, or a quoted decimal such as \"1.25\"")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Factor, E> {
                let read = Usd::parse(v).map_err(unacceptable)?;
                Factor::of_billionths(read.nanos()).ok_or_else(outside)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Factor, E> {
                i64::try_from(v).ok().and_then(Factor::whole).ok_or_else(outside)
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Factor, E> {
                Factor::whole(v).ok_or_else(outside)
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Factor, E> {
                Err(E::custom(format_args!("a factor is an integer or a decimal in quotes: \"{v}\"")))
            }
        }
        from.deserialize_any(FactorVisitor)
    }
}
