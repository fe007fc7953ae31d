//! Slices: what is deleted, or given up, in steps that hold no lock for long, until all of it is or the time for it is over.

use crate::decision::time::Timestamp;

/// What a round of slices came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cleared {
    pub rows: usize,
    /// Nothing is left; else the time was over, and the next round goes on.
    pub is_all: bool,
}

/// Takes slices of `limit` rows until one is short, or `seconds` are over by `now`; at least one. A busy service fills faster than any fixed
/// number of slices clears, so only time ends it.
pub async fn clear<F, E>(now: impl Fn() -> Timestamp, seconds: i64, limit: usize, mut slice: impl FnMut(usize) -> F) -> Result<Cleared, E>
where
    F: Future<Output = Result<usize, E>>,
{
    let until = now().plus_seconds(seconds);
    let mut cleared = Cleared::default();
    loop {
        let rows = slice(limit).await?;
        cleared.rows += rows;
        cleared.is_all = rows < limit;
        if cleared.is_all || now() >= until {
            return Ok(cleared);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Each slice takes a second.
    async fn cleared(rows: usize, seconds: i64) -> (Cleared, usize) {
        let (left, second) = (Cell::new(rows), Cell::new(0));
        let cleared = clear(
            || Timestamp::from_micros(second.get() * 1_000_000),
            seconds,
            10,
            async |limit: usize| {
                let taken = left.get().min(limit);
                left.set(left.get() - taken);
                second.set(second.get() + 1);
                Ok::<_, ()>(taken)
            },
        );
        (cleared.await.expect("a slice"), left.get())
    }

    #[tokio::test]
    async fn all_goes_however_many_slices_it_takes() {
        assert_eq!(cleared(2_005, 1_000).await, (Cleared { rows: 2_005, is_all: true }, 0));
        assert_eq!(cleared(20, 1_000).await, (Cleared { rows: 20, is_all: true }, 0));
        assert_eq!(cleared(0, 1_000).await, (Cleared { rows: 0, is_all: true }, 0));
    }

    #[tokio::test]
    async fn what_the_time_is_too_short_for_is_left_to_the_next_round() {
        assert_eq!(cleared(95, 3).await, (Cleared { rows: 30, is_all: false }, 65));
        assert_eq!(
            cleared(95, 0).await,
            (Cleared { rows: 10, is_all: false }, 85),
            "at least one slice"
        );
    }
}
