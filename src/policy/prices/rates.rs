//! The rates that a table names for one model, put together as a price of ours, or the reason why they make none.

use super::decimal::{Decimal, NotWhole};
use super::{Flaw, LeftOut, Reason};
use crate::decision::amount::{COUNT_MAX, Ratio};
use crate::decision::money::{NANOS_PER_USD, Usd};
use crate::decision::price::RATE_USD_MAX;
use crate::policy::document::{Dollars, EffectiveFrom, PriceDocument, StepDocument, Steps, Whole};
use std::collections::BTreeMap;

/// What a rate is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Pool {
    Input,
    Output,
    CacheRead,
    CacheWrite,
    CacheWrite1h,
    AudioInput,
    AudioOutput,
    ImageInput,
    /// Tokens that Weir does not count apart from the output, the cache reads: fine only at the same rate.
    Reasoning,
    CachedAudio,
    CachedImage,
}

impl Pool {
    /// The pool in which these tokens are counted, where they have none of their own.
    fn counted_in(self) -> Option<Pool> {
        match self {
            Pool::Reasoning => Some(Pool::Output),
            Pool::CachedAudio | Pool::CachedImage => Some(Pool::CacheRead),
            _ => None,
        }
    }

    fn is_cache(self) -> bool {
        matches!(self, Pool::CacheRead | Pool::CacheWrite | Pool::CacheWrite1h)
    }
}

/// Rates by their pool.
type Rates = BTreeMap<Pool, i64>;

/// Everything that a table says of one price. Steps by the tokens that a request's input must pass; 0 is the price below all of them.
#[derive(Debug, Default)]
pub(super) struct Said {
    rates: BTreeMap<i64, Rates>,
    batch: BTreeMap<i64, Rates>,
    request: Usd,
    left_out: Vec<LeftOut>,
}

impl Said {
    /// `shift`: the power of ten that makes nano-dollars per million tokens of the table's number.
    pub(super) fn rate(&mut self, above: i64, pool: Pool, number: Decimal, shift: i32, name: &str) -> Result<(), Flaw> {
        put(&mut self.rates, above, pool, nanos(number, shift, name)?, name)
    }

    pub(super) fn batch_rate(&mut self, above: i64, pool: Pool, number: Decimal, shift: i32, name: &str) -> Result<(), Flaw> {
        // What is not exact here only costs the batch price.
        match nanos(number, shift, name) {
            Ok(nanos) => put(&mut self.batch, above, pool, nanos, name),
            Err((Reason::Inexact, _)) => put(&mut self.batch, above, pool, -1, name),
            Err(flaw) => Err(flaw),
        }
    }

    /// Per request, in a unit of which `10^shift` are a nano-dollar.
    pub(super) fn request(&mut self, number: Decimal, shift: i32, name: &str) -> Result<(), Flaw> {
        self.request = Usd::from_nanos(nanos(number, shift, name)?);
        Ok(())
    }

    pub(super) fn leave_out(&mut self, what: LeftOut) {
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
        }
    }

    /// The price, and what of what was said is left out of it.
    pub(super) fn price(mut self, allow_zero: bool) -> Result<(PriceDocument, Vec<LeftOut>), Flaw> {
        let base = self.rates.get(&0).cloned().unwrap_or_default();
        if ![Pool::Input, Pool::Output].iter().all(|pool| base.contains_key(pool)) {
            return Err((Reason::NoTokenPrice, String::new()));
        }
        self.complete_steps(&base);
        self.check_pools()?;
        self.refuse_zeros(allow_zero)?;
        let batch_discount = self.batch_discount();
        let mut steps = self.rates.into_iter().filter(|(above, _)| *above > 0);
        let above = steps.try_fold(Vec::new(), |mut steps, (tokens, rates)| {
            steps.push(step(tokens, &rates)?);
            Ok::<_, Flaw>(steps)
        })?;
        let base = base_of(&base, allow_zero);
        let price = PriceDocument {
            effective_from: EffectiveFrom::always(),
            input: dollars(&base, Pool::Input).unwrap_or_default(),
            output: dollars(&base, Pool::Output).unwrap_or_default(),
            cache_read: dollars(&base, Pool::CacheRead),
            cache_write: dollars(&base, Pool::CacheWrite),
            cache_write_1h: dollars(&base, Pool::CacheWrite1h),
            audio_input: dollars(&base, Pool::AudioInput),
            audio_output: dollars(&base, Pool::AudioOutput),
            image_input: dollars(&base, Pool::ImageInput),
            request: Dollars::new(self.request).unwrap_or_default(),
            batch_discount,
            above: Steps(above),
            off_peak: None,
            source: None,
        };
        Ok((price, self.left_out))
    }

    /// A step says only what it changes; the rest is as below it.
    fn complete_steps(&mut self, base: &Rates) {
        for (above, rates) in &mut self.rates {
            if *above > 0 {
                for (pool, nanos) in base {
                    rates.entry(*pool).or_insert(*nanos);
                }
            }
        }
    }

    /// Tokens without a pool of their own must cost what the pool costs in which they are counted.
    fn check_pools(&self) -> Result<(), Flaw> {
        for (above, rates) in &self.rates {
            for (pool, nanos) in rates {
                let Some(counted) = pool.counted_in() else { continue };
                let other = rates.get(&counted).or_else(|| rates.get(&Pool::Input));
                if other != Some(nanos) {
                    let step = if *above > 0 {
                        format!(" above {above} tokens")
                    } else {
                        String::new()
                    };
                    return Err((Reason::PoolApart, format!("{pool:?}{step}")));
                }
            }
        }
        Ok(())
    }

    /// Nothing is free by accident. Of the caches zero mostly means that nobody filled it in: such tokens then cost what input costs.
    fn refuse_zeros(&mut self, allow_zero: bool) -> Result<(), Flaw> {
        if allow_zero {
            return Ok(());
        }
        let mut has_zero_cache = false;
        for (above, rates) in &mut self.rates {
            let zero = rates
                .iter()
                .find(|(pool, nanos)| **nanos == 0 && !pool.is_cache() && pool.counted_in().is_none());
            if let Some((pool, _)) = zero {
                let step = if *above > 0 {
                    format!(" above {above} tokens")
                } else {
                    String::new()
                };
                return Err((Reason::Zero, format!("{pool:?}{step}")));
            }
            let count = rates.len();
            rates.retain(|pool, nanos| *nanos != 0 || !pool.is_cache());
            has_zero_cache |= rates.len() < count;
        }
        if has_zero_cache {
            self.leave_out(LeftOut::ZeroCache);
        }
        Ok(())
    }

    /// The one share that the batch saves of every rate, if there is one.
    fn batch_discount(&mut self) -> Ratio {
        if self.batch.is_empty() {
            return Ratio::ZERO;
        }
        let pairs = self
            .rates
            .iter()
            .flat_map(|(above, rates)| rates.iter().map(move |(pool, nanos)| (*above, *pool, *nanos)));
        let pairs: Vec<(i64, Option<i64>)> = pairs
            .filter(|(_, pool, nanos)| pool.counted_in().is_none() && *nanos > 0)
            .map(|(above, pool, nanos)| (nanos, self.batch.get(&above).and_then(|rates| rates.get(&pool)).copied()))
            .collect();
        let shares: Option<Vec<Ratio>> = pairs.iter().map(|(nanos, batch)| saved(*nanos, (*batch)?)).collect();
        match shares.as_deref() {
            Some([first, rest @ ..]) if rest.iter().all(|share| share == first) => *first,
            _ => {
                self.leave_out(LeftOut::Batch);
                Ratio::ZERO
            }
        }
    }
}

fn put(all: &mut BTreeMap<i64, Rates>, above: i64, pool: Pool, nanos: i64, name: &str) -> Result<(), Flaw> {
    match all.entry(above).or_default().insert(pool, nanos) {
        Some(other) if other != nanos => Err((Reason::Malformed, format!("{name} says another rate than another field"))),
        _ => Ok(()),
    }
}

fn nanos(number: Decimal, shift: i32, name: &str) -> Result<i64, Flaw> {
    if number.is_negative() {
        return Err((Reason::Negative, name.to_owned()));
    }
    match number.times_ten_to(shift) {
        Ok(nanos) if nanos <= RATE_USD_MAX * NANOS_PER_USD => Ok(nanos),
        Err(NotWhole::Fraction) => Err((Reason::Inexact, name.to_owned())),
        _ => Err((Reason::TooLarge, name.to_owned())),
    }
}

/// Which part of `whole` is saved, where that is a ratio of at most four decimals.
fn saved(whole: i64, batch: i64) -> Option<Ratio> {
    let part = i128::from(whole.checked_sub(batch)?) * i128::from(Ratio::DENOMINATOR);
    let is_share = batch >= 0 && part >= 0 && part % i128::from(whole) == 0;
    let share = u16::try_from(part / i128::from(whole)).ok().filter(|_| is_share)?;
    Ratio::from_ten_thousandths(share)
}

/// The base as it is written: without cache rates of zero, unless they are taken at their word.
fn base_of(base: &Rates, allow_zero: bool) -> Rates {
    let mut base = base.clone();
    base.retain(|pool, nanos| allow_zero || *nanos != 0 || !pool.is_cache());
    base
}

fn dollars(rates: &Rates, pool: Pool) -> Option<Dollars> {
    rates.get(&pool).and_then(|nanos| Dollars::new(Usd::from_nanos(*nanos)))
}

fn step(tokens: i64, rates: &Rates) -> Result<StepDocument, Flaw> {
    Ok(StepDocument {
        tokens: Whole::<1, COUNT_MAX>::new(tokens).ok_or_else(|| (Reason::Tiers, format!("a step above {tokens} tokens")))?,
        input: dollars(rates, Pool::Input).unwrap_or_default(),
        output: dollars(rates, Pool::Output).unwrap_or_default(),
        cache_read: dollars(rates, Pool::CacheRead),
        cache_write: dollars(rates, Pool::CacheWrite),
        cache_write_1h: dollars(rates, Pool::CacheWrite1h),
        audio_input: dollars(rates, Pool::AudioInput),
        audio_output: dollars(rates, Pool::AudioOutput),
        image_input: dollars(rates, Pool::ImageInput),
    })
}
