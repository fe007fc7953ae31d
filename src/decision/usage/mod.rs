//! Usage: how many tokens a use took, in pools that share no token, and the readers that make them of what providers report.
//!
//! Providers disagree about what their numbers mean: cached tokens lie inside the input of one and beside that of another. Each
//! reader knows its provider; beyond this folder nobody asks who counted.
//! Invariants: what [`read`] returns has no negative pool and no pool above [`COUNT_MAX`](super::amount::COUNT_MAX), and reasoning is
//! never more than output. Nothing is guessed: an object without a count is refused, because unknown is not zero.

mod anthropic;
mod bedrock;
mod cohere;
mod counts;
mod fields;
mod format;
mod gemini;
mod openai;
#[cfg(test)]
mod tests;
mod unreadable;
mod weir;

pub use format::UsageFormat;
pub use unreadable::{Fault, Unreadable};

use fields::Fields;
use format::Signs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Tokens by what they cost. No token is in two pools, but for `reasoning_tokens`, which tells how much of `output_tokens` was
/// thought. A correction's pools are signed differences.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Pools {
    /// Neither read from a cache nor written to one.
    pub input_tokens: i64,
    pub cache_read_tokens: i64,
    /// Written to live as long as the provider's default, five minutes with Anthropic.
    pub cache_write_tokens: i64,
    pub cache_write_1h_tokens: i64,
    /// Reasoning included.
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    pub audio_input_tokens: i64,
    pub audio_output_tokens: i64,
    pub image_input_tokens: i64,
}

/// Which kinds of tokens have a price of their own, and so a pool of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Named {
    pub audio_input: bool,
    pub audio_output: bool,
    pub image_input: bool,
}

/// What a report said, before a price decides which kinds of tokens it wants apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Audio and images are still inside input and output here.
    pools: Pools,
    audio_input: i64,
    audio_output: i64,
    image_input: i64,
}

/// Reads a provider's usage object, or Weir's own, or a whole answer that has one in it. The shape tells whose it is; `format` forces it.
pub fn read(object: &Map<String, Value>, format: Option<UsageFormat>) -> Result<Usage, Unreadable> {
    let whole = Fields::top(object);
    let signs = Signs::of(object);
    if signs.is_empty()
        && let Some((fields, inner)) = whole.container()
    {
        return read_as(&fields, format.map_or_else(|| Signs::of(inner).format(), Ok)?);
    }
    read_as(&whole, format.map_or_else(|| signs.format(), Ok)?)
}

fn read_as(fields: &Fields<'_>, format: UsageFormat) -> Result<Usage, Unreadable> {
    let counts = match format {
        UsageFormat::Weir => weir::read(fields),
        // DeepSeek speaks Chat Completions, with two fields more.
        UsageFormat::OpenaiChat | UsageFormat::Deepseek => openai::read_chat(fields),
        UsageFormat::OpenaiResponses => openai::read_responses(fields),
        UsageFormat::Anthropic => anthropic::read(fields),
        UsageFormat::Gemini => gemini::read(fields),
        UsageFormat::Bedrock => bedrock::read(fields),
        UsageFormat::Cohere => cohere::read(fields),
    }?;
    counts.usage(format)
}

impl Usage {
    /// The pools for a price that names these kinds of tokens; the others stay inside input and output. Every choice has the same total.
    ///
    /// Where a report does not say how much of its audio came from the cache, uncached input is taken to be audio first: the dearer reading.
    pub fn pools(&self, named: Named) -> Pools {
        let mut pools = self.pools;
        let carve = |wanted: bool, count: i64, from: &mut i64| {
            let part = if wanted { count.min(*from) } else { 0 };
            *from -= part;
            part
        };
        pools.audio_input_tokens = carve(named.audio_input, self.audio_input, &mut pools.input_tokens);
        pools.image_input_tokens = carve(named.image_input, self.image_input, &mut pools.input_tokens);
        pools.audio_output_tokens = carve(named.audio_output, self.audio_output, &mut pools.output_tokens);
        pools.reasoning_tokens = pools.reasoning_tokens.min(pools.output_tokens);
        pools
    }

    /// The same bytes for reports that say the same, however they were written.
    pub fn canonical(&self) -> [u8; 72] {
        let pools = &self.pools;
        let numbers = [
            pools.input_tokens,
            pools.cache_read_tokens,
            pools.cache_write_tokens,
            pools.cache_write_1h_tokens,
            pools.output_tokens,
            pools.reasoning_tokens,
            self.audio_input,
            self.audio_output,
            self.image_input,
        ];
        let mut bytes = [0; 72];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}

impl From<Pools> for Usage {
    fn from(pools: Pools) -> Self {
        let [audio_input, audio_output, image_input] = [pools.audio_input_tokens, pools.audio_output_tokens, pools.image_input_tokens];
        let pools = Pools {
            input_tokens: sum([pools.input_tokens, audio_input, image_input]),
            output_tokens: sum([pools.output_tokens, audio_output]),
            audio_input_tokens: 0,
            audio_output_tokens: 0,
            image_input_tokens: 0,
            ..pools
        };
        Self {
            pools,
            audio_input,
            audio_output,
            image_input,
        }
    }
}

impl Pools {
    /// All tokens, reasoning once.
    pub fn total(&self) -> i64 {
        sum([self.input_side(), self.output_side()])
    }

    /// Everything that was sent to the model: uncached, read from its cache and written to it.
    pub fn input_side(&self) -> i64 {
        sum([
            self.input_tokens,
            self.cache_read_tokens,
            self.cache_write_tokens,
            self.cache_write_1h_tokens,
            self.audio_input_tokens,
            self.image_input_tokens,
        ])
    }

    /// Everything that came back.
    pub fn output_side(&self) -> i64 {
        sum([self.output_tokens, self.audio_output_tokens])
    }

    pub fn is_empty(&self) -> bool {
        *self == Pools::default()
    }

    /// Pool by pool the most that either says: checkpoints are running totals that may come twice and in any order.
    pub fn max(self, other: &Pools) -> Pools {
        self.zip(other, |a, b| Some(a.max(b))).unwrap_or(self)
    }

    /// Pool by pool; `None` when a sum leaves 64 bits.
    pub fn checked_add(&self, other: &Pools) -> Option<Pools> {
        self.zip(other, i64::checked_add)
    }

    /// Pool by pool; `None` when a difference leaves 64 bits.
    pub fn checked_sub(&self, other: &Pools) -> Option<Pools> {
        self.zip(other, i64::checked_sub)
    }

    /// The same tokens as if there were no cache.
    pub fn uncached(&self) -> Pools {
        Pools {
            input_tokens: sum([
                self.input_tokens,
                self.cache_read_tokens,
                self.cache_write_tokens,
                self.cache_write_1h_tokens,
            ]),
            cache_read_tokens: 0,
            cache_write_tokens: 0,
            cache_write_1h_tokens: 0,
            ..*self
        }
    }

    fn zip(&self, other: &Pools, f: impl Fn(i64, i64) -> Option<i64>) -> Option<Pools> {
        Some(Pools {
            input_tokens: f(self.input_tokens, other.input_tokens)?,
            cache_read_tokens: f(self.cache_read_tokens, other.cache_read_tokens)?,
            cache_write_tokens: f(self.cache_write_tokens, other.cache_write_tokens)?,
            cache_write_1h_tokens: f(self.cache_write_1h_tokens, other.cache_write_1h_tokens)?,
            output_tokens: f(self.output_tokens, other.output_tokens)?,
            reasoning_tokens: f(self.reasoning_tokens, other.reasoning_tokens)?,
            audio_input_tokens: f(self.audio_input_tokens, other.audio_input_tokens)?,
            audio_output_tokens: f(self.audio_output_tokens, other.audio_output_tokens)?,
            image_input_tokens: f(self.image_input_tokens, other.image_input_tokens)?,
        })
    }
}

/// Exact for everything that was read, since each count is at most 2^36. Only damaged storage could reach the bounds, and there the
/// largest number denies where a wrapped one would give away.
fn sum<const N: usize>(parts: [i64; N]) -> i64 {
    parts.into_iter().fold(0, i64::saturating_add)
}
