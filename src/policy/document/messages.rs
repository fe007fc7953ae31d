//! The texts of warnings, denials and events as they are written.

use crate::decision::id::PlanId;
use crate::decision::message::{LANGUAGE_DEFAULT, Text};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// `messages.yaml`: what callers and their customers read. Without it they read the English and German that Weir brings along.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `locales` and `default_locale`")]
pub struct MessagesDocument {
    /// Of callers that accept none of the languages, on plans that name none.
    #[serde(default = "english")]
    pub default_locale: String,
    /// English and German may leave out what Weir says well; every other language says all.
    #[serde(default)]
    pub locales: Vec<LocaleDocument>,
}

/// One language.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a language as a mapping")]
pub struct LocaleDocument {
    /// A language tag such as `de` or `pt-BR`.
    pub id: String,
    /// How it writes numbers.
    #[serde(default)]
    pub numbers: Option<NumbersDocument>,
    /// Twelve, from January on.
    #[serde(default)]
    pub months: Option<Vec<String>>,
    /// By name; `messages.schema.json` lists all of them, `{names in braces}` are filled in.
    #[serde(default)]
    #[schemars(with = "Texts")]
    #[schema(value_type = Object)]
    pub texts: BTreeMap<String, String>,
    /// What some plans say otherwise.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Texts>")]
    #[schema(value_type = BTreeMap<String, Object>)]
    pub plans: BTreeMap<PlanId, BTreeMap<String, String>>,
}

/// How numbers are written.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping with `group` and `decimal`")]
pub struct NumbersDocument {
    /// Between thousands; may be empty.
    pub group: String,
    /// Before the fraction.
    pub decimal: String,
}

fn english() -> String {
    LANGUAGE_DEFAULT.to_owned()
}

/// The schema of texts by their keys.
struct Texts;

impl JsonSchema for Texts {
    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = |text: &Text| {
            let schema = serde_json::json!({"type": "string", "description": text.english()});
            (text.key().to_owned(), schema)
        };
        let properties: serde_json::Map<_, _> = Text::ALL.iter().map(text).collect();
        json_schema!({"type": "object", "properties": properties, "additionalProperties": false})
    }
}
