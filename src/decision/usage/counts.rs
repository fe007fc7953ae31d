//! What the readers share: counts as they are named, on their way to becoming pools, and the arithmetic of parts and wholes.

use super::super::amount::COUNT_MAX;
use super::fields::Fields;
use super::format::UsageFormat;
use super::unreadable::Unreadable;
use super::{Pools, Usage};

/// Counts that a report named, already exclusive; `None` where it was silent. Audio and images are also inside input and output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) input: Option<i64>,
    pub(super) cache_read: Option<i64>,
    pub(super) cache_write: Option<i64>,
    pub(super) cache_write_1h: Option<i64>,
    pub(super) output: Option<i64>,
    pub(super) reasoning: Option<i64>,
    pub(super) audio_input: Option<i64>,
    pub(super) audio_output: Option<i64>,
    pub(super) image_input: Option<i64>,
}

impl Counts {
    /// A side that the report is silent about is zero only because it told the other one.
    pub(super) fn usage(self, format: UsageFormat) -> Result<Usage, Unreadable> {
        let told = [self.input, self.cache_read, self.cache_write, self.cache_write_1h, self.output];
        if told.iter().all(Option::is_none) {
            return Err(Unreadable::NoCount { format: Some(format) });
        }
        let [
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            output_tokens,
        ] = told.map(Option::unwrap_or_default);
        if [
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            output_tokens,
        ]
        .iter()
        .any(|n| *n > COUNT_MAX)
        {
            return Err(Unreadable::TooMany);
        }
        // Details tell how a whole divides. Some relays round them up beyond it; the whole is what is billed, so it bounds them.
        let within = |part: Option<i64>, whole: i64| part.unwrap_or_default().min(whole);
        let pools = Pools {
            input_tokens,
            cache_read_tokens,
            cache_write_tokens,
            cache_write_1h_tokens,
            output_tokens,
            reasoning_tokens: within(self.reasoning, output_tokens),
            ..Pools::default()
        };
        Ok(Usage {
            pools,
            audio_input: within(self.audio_input, input_tokens),
            audio_output: within(self.audio_output, output_tokens),
            image_input: within(self.image_input, input_tokens),
        })
    }
}

/// The sum of those that are told.
pub(super) fn sum_of<const N: usize>(parts: [Option<i64>; N]) -> Option<i64> {
    parts.into_iter().flatten().reduce(i64::saturating_add)
}

/// What remains of a whole input when the cached tokens that lie inside of it are taken out.
///
/// More cached tokens than input mean that the object does not count as its format does, so that neither number can be trusted:
/// taking the smaller one could forget most of the tokens, and taking the sum could bill them twice. The caller knows, and is asked.
pub(super) fn take_out(cached: [Option<i64>; 2], whole: Option<i64>, fields: &Fields<'_>, key: &str) -> Result<Option<i64>, Unreadable> {
    let parts = sum_of(cached).unwrap_or_default();
    match whole {
        None if parts == 0 => Ok(None),
        Some(whole) if parts <= whole => Ok(Some(whole - parts)),
        whole => Err(Unreadable::LessThanParts {
            pointer: fields.pointer(key),
            whole,
            parts,
        }),
    }
}

/// Input and output such that they make the provider's own total.
///
/// Tokens of the total that no part names are thoughts: Google's OpenAI-compatible endpoint and xAI count them only there. They are
/// billed as output. A total below its parts says nothing; embeddings, for one, have only a prompt.
pub(super) fn fill_up(input: Option<i64>, output: Option<i64>, total: Option<i64>) -> (Option<i64>, Option<i64>) {
    match (input, output, total) {
        (Some(input), output, Some(total)) => (Some(input), Some(output.unwrap_or_default().max(total - input))),
        (None, Some(output), Some(total)) => (Some((total - output).max(0)), Some(output)),
        (input, output, _) => (input, output),
    }
}

/// How many of the tokens of one kind were not read from the cache.
pub(super) fn fresh(all: Option<i64>, cached: Option<i64>) -> Option<i64> {
    Some((all? - cached.unwrap_or_default()).max(0))
}
