//! Bedrock Converse, for every model behind it: what is read from and written to the cache is counted beside the input.

use super::counts::{Counts, sum_of};
use super::fields::Fields;
use super::unreadable::Unreadable;

pub(super) fn read(fields: &Fields<'_>) -> Result<Counts, Unreadable> {
    let (mut hour, mut divided) = (None, None);
    fields.each("cacheDetails", |written| {
        let count = written.count("inputTokens")?;
        divided = sum_of([divided, count]);
        if written.text("ttl") == Some("1h") {
            hour = sum_of([hour, count]);
        }
        Ok(())
    })?;
    let written = fields
        .largest(&["cacheWriteInputTokens", "cacheWriteInputTokenCount"])?
        .max(divided);
    Ok(Counts {
        input: fields.count("inputTokens")?,
        cache_read: fields.largest(&["cacheReadInputTokens", "cacheReadInputTokenCount"])?,
        cache_write: written.map(|written| written - hour.unwrap_or_default()),
        cache_write_1h: hour,
        output: fields.count("outputTokens")?,
        ..Counts::default()
    })
}
