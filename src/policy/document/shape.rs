//! The JSON Schemas of the single values, for editors and for the API's document. They may be laxer than reading is, never stricter.

use super::factor::Factor;
use super::scalar::{Bill, Dollars, EffectiveFrom, Fraction, Limit, Whole};
use crate::decision::amount::LIMIT_COUNT_MAX;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// What ids look like, for editors; the ids themselves check more.
pub const NAME_PATTERN: &str = "^[A-Za-z0-9._:/@|+=~-]{1,128}$";
/// What an amount in usd looks like.
pub const USD_PATTERN: &str = "^[0-9]+(\\.[0-9]{1,9})?$";

impl<const MIN: i64, const MAX: i64> JsonSchema for Whole<MIN, MAX> {
    fn schema_name() -> Cow<'static, str> {
        format!("Whole{MIN}To{MAX}").into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": MIN, "maximum": MAX})
    }
}

impl JsonSchema for Dollars {
    fn schema_name() -> Cow<'static, str> {
        "Dollars".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": USD_PATTERN, "description": "USD as a quoted decimal with at most nine decimals."})
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An integer for tokens, requests and credits; a quoted decimal for usd.",
            "oneOf": [
                {"type": "integer", "minimum": 0, "maximum": LIMIT_COUNT_MAX},
                {"type": "string", "pattern": USD_PATTERN},
            ],
        })
    }
}

impl JsonSchema for Factor {
    fn schema_name() -> Cow<'static, str> {
        "Factor".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An integer, or a quoted decimal with at most nine decimals.",
            "oneOf": [
                {"type": "integer", "minimum": 0, "maximum": Factor::WHOLE_MAX},
                {"type": "string", "pattern": USD_PATTERN},
            ],
        })
    }
}

impl JsonSchema for Fraction {
    fn schema_name() -> Cow<'static, str> {
        "Fraction".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": Fraction::WHOLE_MAX})
    }
}

impl JsonSchema for EffectiveFrom {
    fn schema_name() -> Cow<'static, str> {
        "EffectiveFrom".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "description": "A date such as 2025-09-29 (midnight UTC), or an RFC 3339 time."})
    }
}

impl JsonSchema for Bill {
    fn schema_name() -> Cow<'static, str> {
        "Bill".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"type": "string", "enum": ["free", "full"]}, {"type": "number", "minimum": 0, "maximum": 1}]})
    }
}

/// The schema of the ids, which check themselves when they are read.
pub(super) struct Name;

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": NAME_PATTERN})
    }
}

/// The schema of [`Ratio`].
pub(super) struct Share;

impl JsonSchema for Share {
    fn schema_name() -> Cow<'static, str> {
        "Share".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": 1, "description": "A share from 0 to 1 with at most four decimals."})
    }
}

/// Limits in usd are quoted decimals, all others are integers.
pub(super) fn limits_by_unit(schema: &mut Schema) {
    let limits = |unit: serde_json::Value, kind: &str| {
        let limit = serde_json::json!({"type": [kind, "null"]});
        serde_json::json!({"properties": {"unit": unit, "soft": limit, "hard": limit, "overage_hard": limit}})
    };
    let usd = limits(serde_json::json!({"enum": ["usd"]}), "string");
    let others = limits(serde_json::json!({"enum": ["tokens", "requests", "credits"]}), "integer");
    schema.insert("anyOf".to_owned(), serde_json::json!([usd, others]));
}
