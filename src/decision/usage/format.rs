//! Whose usage object it is, told by its field names in one pass.
//!
//! Names that several formats share decide nothing. Where fields of two formats that count differently both hold something, the
//! caller is asked instead of guessed at: reading cached tokens on the wrong side of the input would bill them twice or not at all.

use super::fields::says_something;
use super::unreadable::Unreadable;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Who counts, and so what the numbers mean.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageFormat {
    /// Weir's own pools.
    Weir,
    /// OpenAI Chat Completions, and the many that speak it. Cached tokens are inside the prompt.
    OpenaiChat,
    /// OpenAI Responses. Cached tokens are inside the input.
    OpenaiResponses,
    /// Anthropic Messages. Cached tokens are beside the input.
    Anthropic,
    /// Gemini's `usageMetadata`. Cached tokens are inside the prompt, thoughts beside the candidates.
    Gemini,
    /// Bedrock Converse. Cached tokens are beside the input.
    Bedrock,
    /// Cohere: the units that it bills.
    Cohere,
    /// Chat Completions with cache hits and misses.
    Deepseek,
}

impl UsageFormat {
    pub const ALL: [UsageFormat; 8] = [
        UsageFormat::Weir,
        UsageFormat::OpenaiChat,
        UsageFormat::OpenaiResponses,
        UsageFormat::Anthropic,
        UsageFormat::Gemini,
        UsageFormat::Bedrock,
        UsageFormat::Cohere,
        UsageFormat::Deepseek,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            UsageFormat::Weir => "weir",
            UsageFormat::OpenaiChat => "openai_chat",
            UsageFormat::OpenaiResponses => "openai_responses",
            UsageFormat::Anthropic => "anthropic",
            UsageFormat::Gemini => "gemini",
            UsageFormat::Bedrock => "bedrock",
            UsageFormat::Cohere => "cohere",
            UsageFormat::Deepseek => "deepseek",
        }
    }

    const fn sign(self) -> u16 {
        1 << self as u16
    }
}

const WEIR: u16 = UsageFormat::Weir.sign();
const CHAT: u16 = UsageFormat::OpenaiChat.sign();
const RESPONSES: u16 = UsageFormat::OpenaiResponses.sign();
const ANTHROPIC: u16 = UsageFormat::Anthropic.sign();
const GEMINI: u16 = UsageFormat::Gemini.sign();
const BEDROCK: u16 = UsageFormat::Bedrock.sign();
const COHERE: u16 = UsageFormat::Cohere.sign();
const DEEPSEEK: u16 = UsageFormat::Deepseek.sign();
/// `input_tokens` and `output_tokens`, which half of the formats say.
const SHARED: u16 = 1 << 8;
/// Beside shared names these speak for Responses, unless something stronger speaks.
const WEAK_RESPONSES: u16 = 1 << 9;
const STRONG: u16 = SHARED - 1;
/// The formats that say `input_tokens`.
const SAY_SHARED: u16 = WEIR | RESPONSES | ANTHROPIC | COHERE;

/// What the field names of an object speak for.
#[derive(Clone, Copy)]
pub(super) struct Signs {
    /// By every field that is not null.
    present: u16,
    /// By the fields that are not just zeros.
    counting: u16,
}

impl Signs {
    pub(super) fn of(object: &Map<String, Value>) -> Self {
        let mut signs = Self { present: 0, counting: 0 };
        for (key, value) in object.iter().filter(|(_, value)| !value.is_null()) {
            let sign = sign(key, value);
            if sign != 0 {
                signs.present |= sign;
                signs.counting |= if says_something(value) { sign } else { 0 };
            }
        }
        signs
    }

    pub(super) fn is_empty(self) -> bool {
        self.present == 0
    }

    pub(super) fn format(self) -> Result<UsageFormat, Unreadable> {
        // Relays fill in other formats' fields with zeros, so fields that count decide before fields that are merely there.
        if self.counting & STRONG != 0 {
            return told_by(self.counting & STRONG);
        }
        if self.counting & SHARED != 0 {
            // Nothing is cached, so the formats that say input_tokens agree about what it means.
            return told_by(self.present & SAY_SHARED).or_else(|_| self.told_by_shared());
        }
        if self.present & STRONG != 0 {
            return told_by(self.present & STRONG);
        }
        self.told_by_shared()
    }

    fn told_by_shared(self) -> Result<UsageFormat, Unreadable> {
        match self.present {
            0 => Err(Unreadable::NoCount { format: None }),
            present if present & WEAK_RESPONSES != 0 => Ok(UsageFormat::OpenaiResponses),
            _ => Ok(UsageFormat::Weir),
        }
    }
}

fn told_by(strong: u16) -> Result<UsageFormat, Unreadable> {
    let mut formats = UsageFormat::ALL.into_iter().filter(|format| strong & format.sign() != 0);
    match (formats.next(), formats.next()) {
        (None, _) => Err(Unreadable::NoCount { format: None }),
        (Some(format), None) => Ok(format),
        _ if strong == CHAT | DEEPSEEK => Ok(UsageFormat::Deepseek),
        // Relays that speak Chat Completions pass on what the provider behind them said, or say the same under both of OpenAI's names.
        _ if strong & !(CHAT | RESPONSES | ANTHROPIC) == 0 && strong & CHAT != 0 => Ok(UsageFormat::OpenaiChat),
        (Some(one), Some(other)) => Err(Unreadable::Ambiguous { formats: [one, other] }),
    }
}

/// What one field speaks for.
fn sign(key: &str, value: &Value) -> u16 {
    match key {
        "input_tokens" | "output_tokens" | "reasoning_tokens" => SHARED,
        "total_tokens" | "output_tokens_details" | "output_token_details" => WEAK_RESPONSES,
        "cache_read_tokens" | "cache_write_tokens" | "cache_write_1h_tokens" => WEIR,
        "audio_input_tokens" | "audio_output_tokens" | "image_input_tokens" => WEIR,
        "prompt_tokens" | "completion_tokens" | "prompt_tokens_details" | "completion_tokens_details" => CHAT,
        "prompt_cache_hit_tokens" | "prompt_cache_miss_tokens" => DEEPSEEK,
        "input_tokens_details" | "input_token_details" => RESPONSES,
        "cache_creation_input_tokens" | "cache_read_input_tokens" | "cache_creation" | "iterations" => ANTHROPIC,
        "promptTokenCount" | "candidatesTokenCount" | "responseTokenCount" | "thoughtsTokenCount" => GEMINI,
        "prompt_token_count" | "candidates_token_count" | "response_token_count" | "thoughts_token_count" => GEMINI,
        "toolUsePromptTokenCount" | "cachedContentTokenCount" | "totalTokenCount" => GEMINI,
        "tool_use_prompt_token_count" | "cached_content_token_count" | "total_token_count" => GEMINI,
        "inputTokens" | "outputTokens" | "totalTokens" | "cacheDetails" => BEDROCK,
        "cacheReadInputTokens" | "cacheReadInputTokenCount" | "cacheWriteInputTokens" | "cacheWriteInputTokenCount" => BEDROCK,
        "billed_units" | "image_tokens" => COHERE,
        "tokens" if value.is_object() => COHERE,
        _ => 0,
    }
}
