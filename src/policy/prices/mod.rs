//! Prices from the tables that others keep: LiteLLM's `model_prices_and_context_window.json` and genai-prices' `data.json`.
//!
//! A number is read from its text and never passes through a binary fraction; what does not come out whole in nano-dollars per million
//! tokens is refused. So is every model whose price says more than ours can: a rule that is left out would undercount. What is only about
//! other services (tools, search, faster queues) is left out and said so. The way: text → [`json`] → [`litellm`] or [`genai`] → [`Table`] →
//! [`merge`] with the catalogue → the ledger, or [`edit`] of `models.yaml`. Invariant: nothing here writes, and no price of a model that is
//! known changes unless it is named in [`merge::Merge::changed`].

mod decimal;
pub mod edit;
mod genai;
mod json;
mod litellm;
pub mod merge;
mod rates;
#[cfg(test)]
mod tests;

use super::document::{EffectiveFrom, PriceDocument};
use super::object::hex;
use crate::decision::id::{ModelId, Provider};
use crate::decision::plan::glob_matches;
use json::Json;
use sha2::{Digest, Sha256};
use std::fmt;

/// The longest table.
pub const TABLE_BYTES_MAX: usize = 64 << 20;

/// Whose table it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    LiteLlm,
    GenaiPrices,
}

impl Format {
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::LiteLlm => "litellm",
            Format::GenaiPrices => "genai-prices",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Format::LiteLlm, Format::GenaiPrices]
            .into_iter()
            .find(|format| format.as_str() == text)
    }
}

/// What of a table is wanted.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Selection {
    /// Globs over the names of models; none: all.
    pub models: Vec<String>,
    /// As the table names it; none: all.
    pub provider: Option<String>,
    /// Take rates of zero at their word.
    pub allow_zero: bool,
}

impl Selection {
    fn takes(&self, name: &str, provider: &str) -> bool {
        let by_name = self.models.is_empty() || self.models.iter().any(|glob| glob_matches(glob, name));
        by_name && self.provider.as_ref().is_none_or(|wanted| wanted == provider)
    }
}

/// A table, as far as it was wanted and can be represented.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    pub format: Format,
    /// Of the whole file.
    pub sha256: String,
    /// What of it was wanted.
    pub selection: Selection,
    pub quotes: Vec<Quote>,
    pub refused: Vec<Refused>,
}

/// What a table says of one model.
#[derive(Clone, PartialEq, Debug)]
pub struct Quote {
    pub id: ModelId,
    pub provider: Provider,
    pub max_input_tokens: Option<i64>,
    pub max_output_tokens: Option<i64>,
    /// In the order of their dates; without a date: in force already.
    pub prices: Vec<(Option<EffectiveFrom>, PriceDocument)>,
    /// What the table says besides and is left out.
    pub left_out: Vec<LeftOut>,
}

/// A model that is not taken, and why.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Refused {
    pub reason: Reason,
    pub model: String,
    pub detail: String,
}

macro_rules! words {
    ($(#[$doc:meta])* enum $type:ident { $($name:ident $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum $type { $($name),* }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($type::$name => $text),* })
            }
        }
    };
}

words! {
    /// Why a model is not taken.
    enum Reason {
        Mode "is not for chat or completion",
        NoTokenPrice "has no price for both input and output tokens",
        OtherUnit "is also priced by something else than tokens and requests",
        Tiers "has tiers that are not one step by the length of the input",
        TimeOfDay "has prices by the time of day",
        PoolApart "has a rate of its own for tokens that are not counted apart",
        Negative "has a price below zero",
        Zero "costs nothing (--allow-zero takes it)",
        Inexact "has a rate that is not whole in nano-dollars per million tokens",
        TooLarge "has a rate above the largest that is taken",
        Unknown "has a price field that is not known",
        Malformed "cannot be read",
        Name "has a name that is no id here",
        Twice "is in the table twice",
        Alias "is another name of a model that is there",
        SameDay "has another price from that very day on (choose another --effective-from)",
    }
}

words! {
    /// What of a model's price is left out although the model is taken.
    enum LeftOut {
        ToolFees "fees of tools and searches",
        ServiceTiers "prices of other service tiers (priority, flex)",
        Batch "the batch price, which is not one discount on all rates",
        ZeroCache "cache rates of zero: cached tokens cost what input costs",
        Regions "regional surcharges",
    }
}

/// What a reader of a table found wrong with one model.
type Flaw = (Reason, String);

/// Reads a table. `format`: whose it is; `None`: its shape tells.
pub fn read(text: &str, format: Option<Format>, selection: &Selection) -> Result<Table, String> {
    if text.len() > TABLE_BYTES_MAX {
        return Err(format!("a price table has at most {TABLE_BYTES_MAX} bytes"));
    }
    let table = Json::parse(text)?;
    let format = match (format, &table) {
        (Some(format), _) => format,
        (None, Json::Map(_)) => Format::LiteLlm,
        (None, Json::List(_)) => Format::GenaiPrices,
        (None, _) => {
            return Err("this is no price table: neither models by name (litellm) nor a list of providers (genai-prices)".to_owned());
        }
    };
    let (quotes, mut refused) = match format {
        Format::LiteLlm => litellm::read(&table, selection)?,
        Format::GenaiPrices => genai::read(&table, selection)?,
    };
    refused.sort();
    Ok(Table {
        format,
        sha256: hex(&Sha256::digest(text)),
        selection: selection.clone(),
        quotes,
        refused,
    })
}
