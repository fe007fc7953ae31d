//! OpenAI's two APIs and all that speak them: cached and written tokens are inside the input, reasoning is inside the output.
//!
//! The two differ in names only. What relays and other providers (DeepSeek, Mistral, Moonshot, xAI, OpenRouter, LiteLLM, Google's
//! compatible endpoint) do differently under these names is read from the total, which all of them send.

use super::counts::{Counts, fill_up, fresh, sum_of, take_out};
use super::fields::Fields;
use super::unreadable::Unreadable;

struct Names {
    input: &'static str,
    /// The Realtime and transcription APIs say `token` where Responses says `tokens`.
    input_details: &'static [&'static str],
    output: &'static str,
    output_details: &'static [&'static str],
}

const CHAT: Names = Names {
    input: "prompt_tokens",
    input_details: &["prompt_tokens_details"],
    output: "completion_tokens",
    output_details: &["completion_tokens_details"],
};

const RESPONSES: Names = Names {
    input: "input_tokens",
    input_details: &["input_tokens_details", "input_token_details"],
    output: "output_tokens",
    output_details: &["output_tokens_details", "output_token_details"],
};

/// Where a cached count stands if it is not among the details: DeepSeek, Moonshot and Together, Mistral, LiteLLM.
const CACHE_READ: [&str; 4] = [
    "prompt_cache_hit_tokens",
    "cached_tokens",
    "num_cached_tokens",
    "cache_read_input_tokens",
];

pub(super) fn read_chat(fields: &Fields<'_>) -> Result<Counts, Unreadable> {
    read(fields, &CHAT)
}

pub(super) fn read_responses(fields: &Fields<'_>) -> Result<Counts, Unreadable> {
    read(fields, &RESPONSES)
}

fn read(fields: &Fields<'_>, names: &Names) -> Result<Counts, Unreadable> {
    let input_details = fields.inner(names.input_details)?;
    let output_details = fields.inner(names.output_details)?;
    let cached_details = input_details.inner(&["cached_tokens_details"])?;
    let total = fields.count("total_tokens")?;

    let cache_read = input_details.count("cached_tokens")?.max(fields.largest(&CACHE_READ)?);
    let cache_write = input_details.largest(&["cache_write_tokens", "cache_creation_tokens"])?;
    let cache_write = cache_write.max(fields.count("cache_creation_input_tokens")?);
    let reasoning = output_details.largest(&["reasoning_tokens", "thinking_tokens"])?;

    let output = fields.count(names.output)?;
    let input = fields.count(names.input)?.or(hits_and_misses(fields)?);
    let input = with_what_is_beside(input, sum_of([cache_read, cache_write]), output, reasoning, total);
    let (input, output) = fill_up(input, with_thoughts(output, reasoning, total), total);
    Ok(Counts {
        input: take_out([cache_read, cache_write], input, fields, names.input)?,
        cache_read,
        cache_write,
        cache_write_1h: None,
        output,
        reasoning,
        audio_input: fresh(input_details.count("audio_tokens")?, cached_details.count("audio_tokens")?),
        audio_output: output_details.count("audio_tokens")?,
        image_input: fresh(input_details.count("image_tokens")?, cached_details.count("image_tokens")?),
    })
}

/// DeepSeek's prompt is what its cache had and what it had not.
fn hits_and_misses(fields: &Fields<'_>) -> Result<Option<i64>, Unreadable> {
    let missed = fields.count("prompt_cache_miss_tokens")?;
    let hit = fields.count("prompt_cache_hit_tokens")?;
    Ok(missed.and_then(|missed| sum_of([Some(missed), hit])))
}

/// Relays in front of Anthropic leave cached tokens beside the prompt, where only the total gives them away.
fn with_what_is_beside(
    input: Option<i64>,
    cached: Option<i64>,
    output: Option<i64>,
    reasoning: Option<i64>,
    total: Option<i64>,
) -> Option<i64> {
    let makes_the_total = |parts: [Option<i64>; 3]| total.is_some() && sum_of(parts) == total;
    let reasoning_explains_it = reasoning > Some(0) && makes_the_total([input, output, reasoning]);
    if makes_the_total([input, cached, output]) && !reasoning_explains_it {
        sum_of([input, cached])
    } else {
        input
    }
}

/// Without a total, reasoning that cannot be inside the output is beside it, as xAI counts it. With one, the total decides.
fn with_thoughts(output: Option<i64>, reasoning: Option<i64>, total: Option<i64>) -> Option<i64> {
    match (output, reasoning, total) {
        (Some(output), Some(reasoning), None) if reasoning > output => Some(output.saturating_add(reasoning)),
        _ => output,
    }
}
