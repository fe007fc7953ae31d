//! A model as it is written: what it can, and its prices since when. Rates are USD per million tokens, as quoted decimals.

use super::scalar::{Dollars, EffectiveFrom, Fraction, Whole, whole};
use super::shape::{Name, Share};
use crate::decision::amount::{COUNT_MAX, Ratio};
use crate::decision::id::{ModelId, Provider, Tier};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use utoipa::ToSchema;

/// One line that people can read.
const SOURCE_PATTERN: &str = "^[ -~]+$";

/// A priced model.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a model as a mapping")]
pub struct ModelDocument {
    #[schemars(with = "Name")]
    #[schema(value_type = String)]
    pub id: ModelId,
    #[schemars(with = "Name")]
    #[schema(value_type = String)]
    pub provider: Provider,
    /// A class of models: `frontier`, `mid`, `fast`, or another name.
    #[schemars(with = "Name")]
    #[schema(value_type = String)]
    pub tier: Tier,
    /// Models of one family may answer from each other's cached answers; absent: the id.
    #[serde(default)]
    pub family: Option<String>,
    #[serde(default)]
    #[schemars(with = "Vec<Name>")]
    #[schema(value_type = Vec<String>)]
    pub aliases: Vec<ModelId>,
    /// Absent: no limit of its own.
    #[serde(default = "whole::<1, COUNT_MAX, COUNT_MAX>")]
    #[schema(value_type = i64, minimum = 1)]
    pub max_input_tokens: Whole<1, COUNT_MAX>,
    /// Absent: no limit of its own.
    #[serde(default = "whole::<1, COUNT_MAX, COUNT_MAX>")]
    #[schema(value_type = i64, minimum = 1)]
    pub max_output_tokens: Whole<1, COUNT_MAX>,
    /// What may serve instead when a budget says `downgrade`, best first.
    #[serde(default)]
    #[schemars(with = "Vec<Name>")]
    #[schema(value_type = Vec<String>)]
    pub downgrades: Vec<ModelId>,
    /// What may serve instead when the caller excludes the provider, best first.
    #[serde(default)]
    #[schemars(with = "Vec<Name>")]
    #[schema(value_type = Vec<String>)]
    pub fallbacks: Vec<ModelId>,
    /// How many tokens this model makes of a text that is one token long in a common measure.
    #[serde(default = "one")]
    #[schema(value_type = f64)]
    pub token_factor: Fraction,
    /// None: known, yet refused until it has a price.
    #[serde(default)]
    pub prices: Vec<PriceDocument>,
    #[serde(default)]
    pub credits: Option<CreditsDocument>,
}

/// What a model costs from a day on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a price as a mapping")]
pub struct PriceDocument {
    /// A date (its midnight in UTC) or a time; absent: since ever.
    #[serde(default = "EffectiveFrom::always")]
    #[schema(value_type = String, example = "2025-09-29")]
    pub effective_from: EffectiveFrom,
    /// For input that is neither read from a cache nor written to one.
    #[schema(value_type = String, example = "3")]
    pub input: Dollars,
    #[schema(value_type = String, example = "15")]
    pub output: Dollars,
    /// Absent: as `input`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cache_read: Option<Dollars>,
    /// Absent: as `input`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cache_write: Option<Dollars>,
    /// Absent: as `cache_write`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cache_write_1h: Option<Dollars>,
    /// Absent: audio counts as text.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub audio_input: Option<Dollars>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub audio_output: Option<Dollars>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub image_input: Option<Dollars>,
    /// Per request, on top of its tokens.
    #[serde(default)]
    #[schema(value_type = String, example = "0")]
    pub request: Dollars,
    /// What part of the token rates a batch saves.
    #[serde(default)]
    #[schemars(with = "Share")]
    #[schema(value_type = f64, minimum = 0, maximum = 1)]
    pub batch_discount: Ratio,
    /// Rates of long requests: one step, or several.
    #[serde(default)]
    #[schema(value_type = Vec<StepDocument>)]
    pub above: Steps,
    /// Other rates at some hours of the week, whatever the length of a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off_peak: Option<OffPeakDocument>,
    /// Where it was taken from; absent where somebody wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceDocument>,
}

/// Rates at some hours. One that is not named is as at all other hours.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "off-peak rates as a mapping")]
pub struct OffPeakDocument {
    /// When they hold.
    pub windows: Vec<WindowDocument>,
    /// For input that is neither read from a cache nor written to one.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub input: Option<Dollars>,
    /// For the answer.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub output: Option<Dollars>,
    /// Absent here and at all other hours: as `input`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cache_read: Option<Dollars>,
    /// Absent here and at all other hours: as `input`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cache_write: Option<Dollars>,
    /// Absent here and at all other hours: as `cache_write`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cache_write_1h: Option<Dollars>,
}

/// Stretches of some days of the week.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a window as a mapping")]
pub struct WindowDocument {
    /// Such as `16:30-00:30`, in UTC: with its first minute and without its last. One that ends at or before its begin goes on into the next day.
    pub hours_utc: Vec<String>,
    /// From 1, Monday, to 7; of a window that goes on into the next day the day of its begin.
    #[serde(default = "every_day")]
    #[schema(value_type = Vec<u8>)]
    pub weekdays: Vec<Whole<1, 7>>,
}

/// The table that a price was imported from.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "the source of a price as a mapping")]
pub struct SourceDocument {
    /// `litellm` or `genai-prices`.
    #[schemars(length(min = 1, max = 512), regex(pattern = SOURCE_PATTERN))]
    #[schema(example = "litellm")]
    pub name: String,
    /// Its file, or the address that it was fetched from.
    #[schemars(length(min = 1, max = 512), regex(pattern = SOURCE_PATTERN))]
    #[schema(example = "model_prices_and_context_window.json")]
    pub origin: String,
    /// Of the whole file, in hexadecimal.
    #[schemars(length(min = 1, max = 512), regex(pattern = SOURCE_PATTERN))]
    pub sha256: String,
    /// When it was imported.
    #[schema(value_type = String, example = "2026-11-24")]
    pub imported_on: EffectiveFrom,
}

/// The rates of a whole request whose input passes `tokens`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "a long-context step as a mapping")]
pub struct StepDocument {
    /// More input, read and written tokens together than this.
    #[schema(value_type = i64, minimum = 1)]
    pub tokens: Whole<1, COUNT_MAX>,
    /// For input that is neither read from a cache nor written to one.
    #[schema(value_type = String)]
    pub input: Dollars,
    #[schema(value_type = String)]
    pub output: Dollars,
    /// Absent: as this step's `input`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cache_read: Option<Dollars>,
    /// Absent: as this step's `input`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cache_write: Option<Dollars>,
    /// Absent: as this step's `cache_write`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub cache_write_1h: Option<Dollars>,
    /// Absent, as for the next two: the rate below the step.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub audio_input: Option<Dollars>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub audio_output: Option<Dollars>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub image_input: Option<Dollars>,
}

/// Long-context steps. One may be written without the list around it; they are always given back as a list.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Steps(pub Vec<StepDocument>);

impl<'de> Deserialize<'de> for Steps {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct StepsVisitor;
        impl<'de> Visitor<'de> for StepsVisitor {
            type Value = Steps;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a long-context step as a mapping, or a list of them")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Steps, A::Error> {
                StepDocument::deserialize(MapAccessDeserializer::new(map)).map(|step| Steps(vec![step]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Steps, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Steps)
            }
            fn visit_unit<E>(self) -> Result<Steps, E> {
                Ok(Steps::default())
            }
        }
        from.deserialize_any(StepsVisitor)
    }
}

impl JsonSchema for Steps {
    fn schema_name() -> Cow<'static, str> {
        "Steps".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let step = generator.subschema_for::<StepDocument>();
        json_schema!({"oneOf": [step, {"type": "array", "items": step}, {"type": "null"}]})
    }
}

/// Credits per 1,000 tokens, for budgets of unit `credits`; rounded up once per entry.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(deny_unknown_fields, expecting = "credits as a mapping")]
pub struct CreditsDocument {
    /// For input tokens of every kind.
    #[schema(value_type = f64)]
    pub input: Fraction,
    #[schema(value_type = f64)]
    pub output: Fraction,
}

fn every_day() -> Vec<Whole<1, 7>> {
    (1..=7).filter_map(Whole::new).collect()
}

fn one() -> Fraction {
    Fraction::ONE
}
