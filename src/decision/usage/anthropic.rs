//! Anthropic Messages: what is read from and written to the cache is counted beside the input; thinking is inside the output.
//!
//! Never adds up `iterations`. What the top level leaves out there is of another kind: an advisor ran on another model at another
//! price, and a compaction read a context of its own, which would move the whole entry to the long-context price. One entry has one
//! model and one context, so a caller who uses these reports such an iteration, which has this same shape, as a use of its own.

use super::counts::{Counts, sum_of};
use super::fields::Fields;
use super::unreadable::Unreadable;

pub(super) fn read(fields: &Fields<'_>) -> Result<Counts, Unreadable> {
    let by_lifetime = fields.inner(&["cache_creation"])?;
    let hour = by_lifetime.count("ephemeral_1h_input_tokens")?;
    let divided = sum_of([hour, by_lifetime.count("ephemeral_5m_input_tokens")?]);
    // A merged stream can have the division without the sum, or an older sum; what is written for an hour is part of either.
    let written = fields.count("cache_creation_input_tokens")?.max(divided);
    Ok(Counts {
        input: fields.count("input_tokens")?,
        cache_read: fields.count("cache_read_input_tokens")?,
        cache_write: written.map(|written| written - hour.unwrap_or_default()),
        cache_write_1h: hour,
        output: fields.count("output_tokens")?,
        reasoning: fields
            .inner(&["output_tokens_details"])?
            .largest(&["thinking_tokens", "reasoning_tokens"])?,
        ..Counts::default()
    })
}
