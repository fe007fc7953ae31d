//! Usage. Stands in until the whole of it is merged.
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pools {
    pub input_tokens: i64,
    pub cache_read_tokens: i64,
    pub cache_write_tokens: i64,
    pub cache_write_1h_tokens: i64,
    pub output_tokens: i64,
    pub reasoning_tokens: i64,
    pub audio_input_tokens: i64,
    pub audio_output_tokens: i64,
    pub image_input_tokens: i64,
}

impl Pools {
    pub fn total(&self) -> i64 {
        self.input_tokens
            + self.cache_read_tokens
            + self.cache_write_tokens
            + self.cache_write_1h_tokens
            + self.output_tokens
            + self.audio_input_tokens
            + self.audio_output_tokens
            + self.image_input_tokens
    }
    pub fn output_side(&self) -> i64 {
        self.output_tokens + self.audio_output_tokens
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Named {
    pub audio_input: bool,
    pub audio_output: bool,
    pub image_input: bool,
}

/// Stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pools: Pools,
}

impl Usage {
    pub fn pools(&self, _named: Named) -> Pools {
        self.pools
    }
    pub fn canonical(&self) -> Vec<u8> {
        Vec::new()
    }
}

impl Pools {
    pub fn max(self, _other: &Pools) -> Pools {
        self
    }
    pub fn checked_sub(&self, _other: &Pools) -> Option<Pools> {
        None
    }
    pub fn uncached(&self) -> Pools {
        *self
    }
}
