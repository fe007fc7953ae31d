//! Weir's own pools, as ledger entries show them: no token is in two of them, reasoning apart.
//!
//! The object is open, but a misspelt pool must not be dropped in silence: here, where no provider's novelty can be meant, a name
//! that looks like a count and holds one is refused.

use super::counts::{Counts, sum_of};
use super::fields::{Fields, says_something};
use super::unreadable::Unreadable;
use serde_json::Value;

const POOLS: [&str; 9] = [
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "image_input_tokens",
];
const TOTAL: &str = "total_tokens";

pub(super) fn read(fields: &Fields<'_>) -> Result<Counts, Unreadable> {
    if let Some((key, _)) = fields.entries().find(|(key, value)| is_unknown_count(key, value)) {
        return Err(Unreadable::UnknownCount {
            pointer: fields.pointer(key),
        });
    }
    let audio_input = fields.count("audio_input_tokens")?;
    let image_input = fields.count("image_input_tokens")?;
    let audio_output = fields.count("audio_output_tokens")?;
    let counts = Counts {
        input: sum_of([fields.count("input_tokens")?, audio_input, image_input]),
        cache_read: fields.count("cache_read_tokens")?,
        cache_write: fields.count("cache_write_tokens")?,
        cache_write_1h: fields.count("cache_write_1h_tokens")?,
        output: sum_of([fields.count("output_tokens")?, audio_output]),
        reasoning: fields.count("reasoning_tokens")?,
        audio_input,
        audio_output,
        image_input,
    };
    check_sums(&counts, fields)?;
    Ok(counts)
}

/// Both checks catch a caller who counts as another provider does: reasoning beside the output, or cached tokens inside the input.
fn check_sums(counts: &Counts, fields: &Fields<'_>) -> Result<(), Unreadable> {
    let reasoning = counts.reasoning.unwrap_or_default();
    if reasoning > counts.output.unwrap_or_default() {
        return Err(Unreadable::LessThanParts {
            pointer: fields.pointer("output_tokens"),
            whole: counts.output,
            parts: reasoning,
        });
    }
    let sum = sum_of([
        counts.input,
        counts.cache_read,
        counts.cache_write,
        counts.cache_write_1h,
        counts.output,
    ]);
    match (fields.count(TOTAL)?, sum) {
        (Some(total), Some(sum)) if total != sum => Err(Unreadable::OtherTotal {
            pointer: fields.pointer(TOTAL),
            total,
            sum,
        }),
        _ => Ok(()),
    }
}

fn is_unknown_count(key: &str, value: &Value) -> bool {
    if key == TOTAL || POOLS.contains(&key) || !says_something(value) {
        return false;
    }
    match value {
        // A rate such as tokens_per_second is no count, and neither is a fraction.
        Value::Number(number) => {
            !holds(key, "per") && (number.is_i64() || number.is_u64()) && (holds(key, "token") || is_pool_without_its_unit(key))
        }
        _ => holds(key, "token"),
    }
}

fn is_pool_without_its_unit(key: &str) -> bool {
    POOLS.iter().any(|pool| pool.strip_suffix("_tokens") == Some(key))
}

/// Whether `key` has `part` in it, in any case.
fn holds(key: &str, part: &str) -> bool {
    key.as_bytes()
        .windows(part.len())
        .any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
}
