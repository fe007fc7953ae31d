//! What goes wrong, by a seeded plan: the same seed and order of requests, the same faults.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

/// One way in which a call goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// 429, and nothing happened.
    RateLimited,
    /// 500, and nothing happened.
    Fails,
    /// 500, but it happened.
    FailsAfter,
    /// It happened, and the connection ends before the answer does.
    Drops,
    /// The connection ends, and nothing happened.
    DropsBefore,
    /// It happened, and no answer comes within any patience.
    Hangs,
    /// It happened, and the answer says that it had happened already.
    SaysDuplicate,
    /// It happens, late.
    Slow,
}

impl Fault {
    pub const ALL: [Fault; 8] = [
        Fault::RateLimited,
        Fault::Fails,
        Fault::FailsAfter,
        Fault::Drops,
        Fault::DropsBefore,
        Fault::Hangs,
        Fault::SaysDuplicate,
        Fault::Slow,
    ];
}

/// Which calls go wrong.
pub struct Plan {
    rng: StdRng,
    /// Of 10,000 calls, how many meet each fault.
    rates: Vec<(Fault, u32)>,
    /// These come first, one for each call.
    next: Vec<Fault>,
    /// The same for calls that ask for an event.
    next_events: Vec<Fault>,
    /// Everything is away: no call is answered but by a closed connection.
    pub is_down: bool,
    pub hang: Duration,
    pub slow: Duration,
}

impl Plan {
    pub fn none() -> Self {
        Self::seeded(0, &[])
    }

    /// `rates`: of 10,000 calls, how many meet each fault.
    pub fn seeded(seed: u64, rates: &[(Fault, u32)]) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            rates: rates.to_vec(),
            next: Vec::new(),
            next_events: Vec::new(),
            is_down: false,
            hang: Duration::from_secs(30),
            slow: Duration::from_millis(40),
        }
    }

    /// How long a call hangs, and how slow a slow one is.
    pub fn waiting(self, hang: Duration, slow: Duration) -> Self {
        Self { hang, slow, ..self }
    }

    /// The next calls that change something meet these, in this order.
    pub fn queue(&mut self, faults: &[Fault]) {
        self.next.extend(faults);
    }

    /// The next calls that ask for an event meet these, in this order.
    pub fn queue_events(&mut self, faults: &[Fault]) {
        self.next_events.extend(faults);
    }

    /// What a call that asks for an event meets.
    pub fn draw_event(&mut self) -> Option<Fault> {
        if self.is_down || self.next_events.is_empty() {
            return self.draw(false);
        }
        Some(self.next_events.remove(0))
    }

    pub fn draw(&mut self, writes: bool) -> Option<Fault> {
        if self.is_down {
            return Some(Fault::DropsBefore);
        }
        if writes && !self.next.is_empty() {
            return Some(self.next.remove(0));
        }
        let mut drawn = self.rng.random_range(0..10_000u32);
        for (fault, rate) in &self.rates {
            if drawn < *rate {
                return Some(*fault);
            }
            drawn -= rate;
        }
        None
    }
}
