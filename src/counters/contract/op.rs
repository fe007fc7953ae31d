//! What may happen in a [`World`](super::world::World), and random histories of it.
//!
//! The names and the sizes of numbers are chosen so that collisions are common: few keys, few counters, tight ceilings.

use proptest::prelude::*;

/// How long a random history is at most.
const OPS_MAX: usize = 120;

/// How many holds are asked for together, at most one less than this.
const TOGETHER_MAX: usize = 6;

pub(super) const WORKSPACES: usize = 2;
pub(super) const KEYS: usize = 7;
/// How many counters the menu of a moment has.
pub(super) const MENU: usize = 8;
/// And of how many groups they are.
pub(super) const GROUPS: usize = 3;
/// How many budgets have grants.
pub(super) const BUDGETS: usize = 2;

/// A reservation: of which workspace, by which key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key(pub(super) usize, pub(super) usize);

/// A request to hold, in the numbers of this world.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) key: Key,
    pub(super) fingerprint: u128,
    /// One bit for each counter of the menu.
    pub(super) counters: u8,
    pub(super) tokens: i64,
    pub(super) requests: i64,
    pub(super) ceiling: i64,
    pub(super) seconds: i64,
    pub(super) charged: bool,
    pub(super) told: bool,
    /// Whether grants raise its limits, where there are any.
    pub(super) granted: bool,
    pub(super) open_max: u32,
    pub(super) named_seconds_ago: Option<i64>,
}

/// A call that takes its need from the hold of another reservation.
#[derive(Clone, Debug)]
pub(super) struct Draw {
    pub(super) ask: Ask,
    pub(super) parent: Key,
    pub(super) calls_max: Option<i64>,
    /// The caller knows of an earlier hold of the parent than the one that is.
    pub(super) is_stale: bool,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Pass {
        micros: i64,
    },
    Hold(Ask),
    /// Several holds of one workspace together.
    HoldMany(Vec<Ask>),
    Draw(Draw),
    /// A settle or checkpoint that dies before it commits. `None`: final.
    Claim {
        key: Key,
        percent: Option<i64>,
    },
    Settle {
        key: Key,
        percent: i64,
        delivered: bool,
    },
    Checkpoint {
        key: Key,
        percent: i64,
        delivered: bool,
    },
    Release {
        key: Key,
        delivered: bool,
    },
    /// Asks the ledger about everything that is due.
    Resolve {
        delivered: bool,
    },
    /// Applies an earlier commit, again or at last.
    Deliver {
        commit: usize,
    },
    /// Changes what a counter has spent, as a correction or direct usage would.
    Correct {
        counter: usize,
        by: i64,
        delivered: bool,
    },
    /// Gives a grant to one of the budgets that have some.
    Give {
        workspace: usize,
        budget: usize,
        amount: i64,
        seconds: Option<i64>,
        delivered: bool,
    },
    Extend {
        key: Key,
        seconds: i64,
    },
    Find {
        key: Key,
    },
    Balances {
        workspace: usize,
        named_seconds_ago: Option<i64>,
    },
    FreeAt {
        workspace: usize,
        counter: usize,
        room: i64,
    },
    Rebuild {
        workspace: usize,
        group: usize,
    },
    Begin {
        workspace: usize,
        group: usize,
    },
    /// Ends an earlier begin with what it read then.
    Finish {
        rebuild: usize,
    },
}

fn key() -> impl Strategy<Value = Key> {
    (prop::bool::weighted(0.2).prop_map(usize::from), 0..KEYS).prop_map(|(workspace, number)| Key(workspace, number))
}

/// Steps around all that the promises say of time: milliseconds for rebuilds, a minute for claims, up to more than a day for tombstones.
fn micros() -> impl Strategy<Value = i64> {
    prop_oneof![
        15 => 0..400_000i64,
        20 => (1..100i64).prop_map(|seconds| seconds * 1_000_000),
        8 => (100..3_000i64).prop_map(|seconds| seconds * 1_000_000),
        // Seldom: each hour of them rebuilds all groups.
        1 => (1..30i64).prop_map(|hours| hours * 3_600_000_000),
    ]
}

fn ago() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![3 => Just(None), 1 => (0..4_000i64).prop_map(Some)]
}

fn ask() -> impl Strategy<Value = Ask> {
    let amounts = (
        (0..80i64, prop_oneof![3 => Just(1i64), 1 => 2..4i64]),
        0..150i64,
        prop_oneof![3 => 1..200i64, 1 => 200..100_000i64],
    );
    let who = (key(), prop_oneof![9 => Just(1u128), 1 => Just(2)], 0..=u8::MAX);
    let how = (
        (prop::bool::weighted(0.2), prop::bool::weighted(0.3)),
        any::<bool>(),
        prop_oneof![4 => Just(100u32), 1 => 1..4u32],
        ago(),
    );
    (who, amounts, how).prop_map(
        |(
            (key, fingerprint, counters),
            ((tokens, requests), ceiling, seconds),
            ((charged, told), granted, open_max, named_seconds_ago),
        )| Ask {
            key,
            fingerprint,
            counters,
            tokens,
            requests,
            ceiling,
            seconds,
            charged,
            told,
            granted,
            open_max,
            named_seconds_ago,
        },
    )
}

/// Holds of one workspace, in which one key may come twice. Every other time none is charged: only then are they short calls.
fn asks() -> impl Strategy<Value = Vec<Ask>> {
    (key(), any::<bool>(), prop::collection::vec(ask(), 1..TOGETHER_MAX)).prop_map(|(Key(workspace, _), plain, mut asks)| {
        for ask in &mut asks {
            ask.key.0 = workspace;
            ask.charged &= !plain;
        }
        asks
    })
}

/// Mostly less than what parents hold, so that a run has several calls.
fn draw() -> impl Strategy<Value = Draw> {
    let run = (
        key(),
        prop_oneof![3 => Just(None), 1 => (1..4i64).prop_map(Some)],
        prop::bool::weighted(0.03),
    );
    (ask(), 0..40i64, run).prop_map(|(ask, tokens, (parent, calls_max, is_stale))| {
        let ask = Ask {
            tokens,
            requests: 1,
            ..ask
        };
        Draw {
            ask,
            parent,
            calls_max,
            is_stale,
        }
    })
}

fn op() -> impl Strategy<Value = Op> {
    let percent = || 0..150i64;
    let delivered = || prop::bool::weighted(0.6);
    let workspace = || 0..WORKSPACES;
    prop_oneof![
        8 => micros().prop_map(|micros| Op::Pass { micros }),
        20 => ask().prop_map(Op::Hold),
        4 => asks().prop_map(Op::HoldMany),
        20 => draw().prop_map(Op::Draw),
        3 => (key(), prop::option::of(percent())).prop_map(|(key, percent)| Op::Claim { key, percent }),
        7 => (key(), percent(), delivered()).prop_map(|(key, percent, delivered)| Op::Settle { key, percent, delivered }),
        8 => (key(), percent(), delivered()).prop_map(|(key, percent, delivered)| Op::Checkpoint { key, percent, delivered }),
        2 => (key(), delivered()).prop_map(|(key, delivered)| Op::Release { key, delivered }),
        3 => delivered().prop_map(|delivered| Op::Resolve { delivered }),
        4 => (0..1_000usize).prop_map(|commit| Op::Deliver { commit }),
        2 => (0..MENU, -50..50i64, delivered()).prop_map(|(counter, by, delivered)| Op::Correct { counter, by, delivered }),
        3 => (workspace(), 0..BUDGETS, 1..80i64, prop::option::of(1..5_000i64), delivered())
            .prop_map(|(workspace, budget, amount, seconds, delivered)| Op::Give { workspace, budget, amount, seconds, delivered }),
        2 => (key(), -10..2_000i64).prop_map(|(key, seconds)| Op::Extend { key, seconds }),
        2 => key().prop_map(|key| Op::Find { key }),
        2 => (workspace(), ago()).prop_map(|(workspace, named_seconds_ago)| Op::Balances { workspace, named_seconds_ago }),
        3 => (workspace(), 0..MENU, 0..100i64).prop_map(|(workspace, counter, room)| Op::FreeAt { workspace, counter, room }),
        3 => (workspace(), 0..GROUPS).prop_map(|(workspace, group)| Op::Rebuild { workspace, group }),
        2 => (workspace(), 0..GROUPS).prop_map(|(workspace, group)| Op::Begin { workspace, group }),
        2 => (0..1_000usize).prop_map(|rebuild| Op::Finish { rebuild }),
    ]
}

/// Mostly with all groups built before it begins, so that not everything is refused for want of them.
pub(super) fn history() -> impl Strategy<Value = Vec<Op>> {
    let build_all = || (0..WORKSPACES).flat_map(|workspace| (0..GROUPS).map(move |group| Op::Rebuild { workspace, group }));
    let built = prop::bool::weighted(0.9);
    (built, prop::collection::vec(op(), 1..OPS_MAX)).prop_map(move |(built, ops)| build_all().filter(|_| built).chain(ops).collect())
}
