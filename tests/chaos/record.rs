//! What clients did and were told, and what was done to them. Nothing here asks Weir anything.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970.
pub type Micros = i64;

pub const SECOND: Micros = 1_000_000;

pub fn now() -> Micros {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    since.as_micros().try_into().expect("a clock before 292,000 AD")
}

/// What a client means to do with what it holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fate {
    Settle,
    Release,
    /// Settles and releases at once, through two nodes.
    Race,
    CheckpointThenSettle,
    CheckpointThenRelease,
    CheckpointThenAbandon,
    Abandon,
}

impl Fate {
    pub fn has_checkpoints(self) -> bool {
        matches!(
            self,
            Self::CheckpointThenSettle | Self::CheckpointThenRelease | Self::CheckpointThenAbandon
        )
    }
}

/// One call and what came of it.
#[derive(Clone, Debug)]
pub struct Call {
    pub verb: &'static str,
    pub node: usize,
    pub sent: Micros,
    pub answered: Micros,
    /// 0: nothing came back, and `word` says how.
    pub status: u16,
    /// The decision, the code of a problem, or `ok`.
    pub word: String,
    /// What it said of the tokens that the workspace has spent.
    pub spent: Option<i64>,
}

/// A settle that was answered 200.
#[derive(Clone, Debug)]
pub struct Settled {
    pub entry_id: String,
    pub late: bool,
    pub replayed: bool,
}

/// One request from its first authorize to its end, as its client saw it.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: String,
    pub workspace: String,
    pub user: Option<String>,
    pub feature: &'static str,
    pub fate: Fate,
    pub input: i64,
    pub output_max: i64,
    /// What it used in the end, where it settles.
    pub output: i64,
    pub hold_seconds: i64,
    pub calls: Vec<Call>,
    pub reservation: Option<String>,
    pub expires_at: Micros,
    /// The most output that a checkpoint was acknowledged with.
    pub checkpoint: Option<i64>,
    /// The most output that a checkpoint was sent with.
    pub checkpoint_sent: Option<i64>,
    pub settled: Vec<Settled>,
    pub released: bool,
}

impl Request {
    pub fn held(&self) -> i64 {
        self.input + self.output_max
    }

    pub fn used(&self) -> i64 {
        self.input + self.output
    }

    fn first(&self, is_it: impl Fn(&Call) -> bool) -> Option<&Call> {
        self.calls.iter().find(|call| is_it(call))
    }

    /// When it was first asked for.
    pub fn asked_at(&self) -> Micros {
        self.calls.first().map_or(Micros::MAX, |call| call.sent)
    }

    /// When the client first knew that it was allowed.
    pub fn allowed_at(&self) -> Micros {
        self.first(|call| call.word == "allow").map_or(Micros::MAX, |call| call.answered)
    }

    /// When the client first knew that it had ended.
    pub fn ended_at(&self) -> Micros {
        let ends = |call: &Call| matches!(call.verb, "settle" | "release") && call.status == 200;
        self.first(ends).map_or(Micros::MAX, |call| call.answered)
    }

    /// When its first settle was sent.
    pub fn settling_at(&self) -> Micros {
        self.first(|call| call.verb == "settle").map_or(Micros::MAX, |call| call.sent)
    }

    /// For people: all of it.
    pub fn trace(&self) -> String {
        let first = self.asked_at();
        let mut text = format!(
            "{} in {} ({:?}, user {:?}, {}, holds {} + {} for {} s, uses {} + {}, checkpoint {:?} of {:?}) {}\n",
            self.id,
            self.workspace,
            self.fate,
            self.user,
            self.feature,
            self.input,
            self.output_max,
            self.hold_seconds,
            self.input,
            self.output,
            self.checkpoint,
            self.checkpoint_sent,
            self.reservation.as_deref().unwrap_or("no reservation"),
        );
        for call in &self.calls {
            text.push_str(&format!(
                "    at {} +{:.3} s, after {:.3} s: node {} {} -> {} {}\n",
                call.sent,
                (call.sent - first) as f64 / SECOND as f64,
                (call.answered - call.sent) as f64 / SECOND as f64,
                call.node,
                call.verb,
                call.status,
                call.word
            ));
        }
        text
    }
}

/// Something that was done to the service.
#[derive(Clone, Debug)]
pub struct Happened {
    pub what: String,
    pub began: Micros,
    pub ended: Micros,
    /// Whether a node may have missed answers of Redis meanwhile.
    pub hides_redis: bool,
    /// Whether what was settled meanwhile may have reached another copy of the counters, and this one only later.
    pub parts_redis: bool,
    pub loss: Option<Loss>,
}

/// Holds died with a copy of the counters.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// Holds that were acknowledged before this were on the copy that stayed. `None`: no copy stayed.
    pub kept_before: Option<Micros>,
    /// Holds that ended before this were not alive any more.
    pub began: Micros,
    /// Holds that were asked for after this are on the new copy.
    pub ended: Micros,
}

impl Loss {
    /// Whether a request may have had a hold that died here.
    pub fn took(&self, request: &Request) -> bool {
        self.took_record(request) && request.expires_at >= self.began
    }

    /// Whether what was known of a request may have died here, be it that its hold had run out before.
    pub fn took_record(&self, request: &Request) -> bool {
        let was_there = request.asked_at() <= self.ended && request.ended_at() >= self.began;
        let kept = self.kept_before.is_some_and(|kept| request.allowed_at() <= kept);
        request.reservation.is_some() && was_there && !kept
    }
}

/// Everything that was seen.
#[derive(Default)]
pub struct Record {
    requests: Mutex<Vec<Request>>,
    happened: Mutex<Vec<Happened>>,
    wrong: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Record {
    pub fn request(&self, request: Request) {
        lock(&self.requests).push(request);
    }

    pub fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    pub fn count(&self) -> usize {
        lock(&self.requests).len()
    }

    pub fn happened(&self, happened: Happened) {
        lock(&self.happened).push(happened);
    }

    pub fn all_that_happened(&self) -> Vec<Happened> {
        lock(&self.happened).clone()
    }

    /// Something that must not be.
    pub fn wrong(&self, what: impl Into<String>) {
        lock(&self.wrong).push(what.into());
    }

    pub fn all_wrong(&self) -> Vec<String> {
        lock(&self.wrong).clone()
    }
}

/// How many calls there were by verb and answer.
pub fn tally(requests: &[Request]) -> BTreeMap<(&'static str, u16, String), usize> {
    let mut tally = BTreeMap::new();
    for call in requests.iter().flat_map(|request| &request.calls) {
        *tally.entry((call.verb, call.status, call.word.clone())).or_default() += 1;
    }
    tally
}
