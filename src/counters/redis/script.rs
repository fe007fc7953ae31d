//! The scripts. Each is one file with a version in its name: another behaviour is another file, so nodes of two versions can run at once.

use std::sync::LazyLock;

/// A script as it is sent, with what all of them share before its own lines.
pub(super) struct Script {
    pub(super) name: &'static str,
    pub(super) code: String,
    pub(super) hash: String,
}

const HEADER: &str = "#!lua";
const STORE: &str = include_str!("scripts/store_v1.lua");

impl Script {
    fn new(name: &'static str, own: &str) -> Self {
        let shared = STORE.strip_prefix(HEADER).unwrap_or(STORE);
        let own = own.strip_prefix(HEADER).unwrap_or(own);
        let code = format!("{HEADER}{shared}{own}");
        let hash = ::redis::Script::new(&code).get_hash().to_owned();
        Self { name, code, hash }
    }
}

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => { $(
        pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new($file, include_str!(concat!("scripts/", $file, ".lua"))));
    )* };
}

scripts! {
    HOLD = "hold_v1";
    BALANCES = "balances_v1";
    FIND = "find_v1";
    CLAIM = "claim_v1";
    EXTEND = "extend_v1";
    APPLY = "apply_v1";
    BEGIN = "begin_v1";
    FINISH = "finish_v1";
    DUE = "due_v1";
    FREE_AT = "free_at_v1";
    OPEN = "open_v1";
}
