//! The scripts. Each is one file with a version in its name: another behaviour is another file, so nodes of two versions can run at once, as
//! long as what is kept has the same layout; another one raises `LAYOUT` in `settings.rs`.

use std::sync::LazyLock;

/// A script as it is sent: its own lines after those that it shares with others.
pub(super) struct Script {
    pub(super) name: &'static str,
    pub(super) code: String,
    pub(super) hash: String,
}

const HEADER: &str = "#!lua";

impl Script {
    /// The parts in their order, below one header.
    fn new(name: &'static str, parts: &[&str]) -> Self {
        let bodies = parts.iter().map(|part| part.strip_prefix(HEADER).unwrap_or(part));
        let code: String = std::iter::once(HEADER).chain(bodies).collect();
        let hash = ::redis::Script::new(&code).get_hash().to_owned();
        Self { name, code, hash }
    }
}

macro_rules! scripts {
    ($($name:ident = $($file:literal),+;)*) => { $(
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(stringify!($name), &[$(include_str!(concat!("scripts/", $file, ".lua"))),+]));
    )* };
}

scripts! {
    PLAIN_HOLD = "plain_hold_v5";
    HOLD = "store_v4", "epoch_v2", "ends_v3", "read_v1", "recall_v1", "cap_v1", "grants_v2", "hold_v2";
    HOLD_CHILD = "store_v4", "epoch_v2", "ends_v3", "recall_v1", "cap_v1", "hold_child_v3";
    BALANCES = "store_v4", "epoch_v2", "ends_v3", "read_v1", "grants_v2", "balances_v1";
    FIND = "store_v4", "ends_v3", "find_v1";
    CLAIM = "store_v4", "epoch_v2", "ends_v3", "claim_v1";
    EXTEND = "store_v4", "ends_v3", "extend_v2";
    APPLY = "store_v4", "epoch_v2", "ends_v3", "rows_v1", "grants_v2", "apply_v1";
    BEGIN = "store_v4", "epoch_v2", "begin_v4";
    FINISH = "store_v4", "epoch_v2", "ends_v3", "rows_v1", "grants_v2", "finish_v1";
    MARK = "store_v4", "epoch_v2", "mark_v2";
    DUE = "store_v4", "ends_v3", "due_v4";
    FREE_AT = "store_v4", "epoch_v2", "ends_v3", "read_v1", "free_at_v3";
    FORGET = "store_v4", "forget_v3";
    OPEN = "open_v1";
}
