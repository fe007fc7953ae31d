//! A trained classifier as it is kept: what `weir router train` writes and nobody edits. Bounded: 4,096 weights of a byte, and how good it was.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How difficult requests are, learned from requests whose outcome is known. Holds nothing of their texts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a classifier as a mapping")]
pub struct ClassifierDocument {
    /// Of how features are made; another one means another thing by the same weights.
    pub layout: u32,
    /// One signed byte for each bucket, in base64.
    pub weights: String,
    /// What a weight of one step is worth.
    pub step: f64,
    pub figures: Vec<FigureDocument>,
    pub bias: f64,
    pub slope: f64,
    pub offset: f64,
    pub trained: TrainedDocument,
}

/// How one figure of a text counts.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a figure as a mapping")]
pub struct FigureDocument {
    pub mean: f64,
    pub deviation: f64,
    pub weight: f64,
}

/// How good it was on requests that it had not seen.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a training as a mapping")]
pub struct TrainedDocument {
    pub rows: u64,
    pub weak_sufficed: u64,
    pub seed: u64,
    pub auc: f64,
    pub log_loss: f64,
    /// The log loss of always telling the share of rows in which the weak model sufficed.
    pub log_loss_of_share: f64,
    pub calibration: Vec<CalibrationDocument>,
}

/// A tenth of the requests by their probability: what was predicted, and what was so.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a band as a mapping")]
pub struct CalibrationDocument {
    pub rows: u64,
    pub predicted: f64,
    pub observed: f64,
}
