//! Cohere: `billed_units` are what it charges; `tokens` also has the template around the text, which is free.
//!
//! Its `cached_tokens` are a part of `tokens`. How many of them are among the billed ones is not told, and they cost the same, so
//! none are taken out: nothing is under-billed.

use super::counts::{Counts, sum_of};
use super::fields::Fields;
use super::unreadable::Unreadable;

pub(super) fn read(fields: &Fields<'_>) -> Result<Counts, Unreadable> {
    let billed = fields.inner(&["billed_units"])?;
    let tokens = fields.inner(&["tokens"])?;
    // Embeddings have their units at the top. Pictures are counted beside the text.
    let image_input = billed.count("image_tokens")?.or(fields.count("image_tokens")?);
    let text = billed.count("input_tokens")?.or(fields.count("input_tokens")?);
    let input = sum_of([text, image_input]).or(tokens.count("input_tokens")?);
    let output = billed
        .count("output_tokens")?
        .or(fields.count("output_tokens")?)
        .or(tokens.count("output_tokens")?);
    Ok(Counts {
        input,
        output,
        image_input,
        ..Counts::default()
    })
}
