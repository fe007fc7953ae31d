//! What a credential may do: a handful of words, kept as bits. Which route asks for which stands in the table of `api/routes.rs`.

/// One thing that a credential may do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// Ask for spending, and report it.
    Authorize,
    /// Record usage that was not asked for first.
    UsageWrite,
    Read,
    /// A customer's own usage and events, without costs. Only for credentials that are bound to a workspace.
    Portal,
    /// All of the others too.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 5] = [Scope::Authorize, Scope::UsageWrite, Scope::Read, Scope::Portal, Scope::Admin];

    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Authorize => "authorize",
            Scope::UsageWrite => "usage:write",
            Scope::Read => "read",
            Scope::Portal => "portal",
            Scope::Admin => "admin",
        }
    }

    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// Some of the scopes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ScopeSet(u8);

impl ScopeSet {
    pub const EMPTY: ScopeSet = ScopeSet(0);

    pub const fn of(scope: Scope) -> Self {
        ScopeSet(1 << scope as u8)
    }

    pub const fn with(self, scope: Scope) -> Self {
        ScopeSet(self.0 | 1 << scope as u8)
    }

    pub const fn without(self, scope: Scope) -> Self {
        ScopeSet(self.0 & !(1 << scope as u8))
    }

    pub const fn contains(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8) != 0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a credential with these may do what any of `wanted` may.
    pub const fn allows(self, wanted: ScopeSet) -> bool {
        self.contains(Scope::Admin) || self.0 & wanted.0 != 0
    }

    /// Reads the `scope` of a token: words between spaces. Words of other services are none of ours.
    pub fn of_claim(text: &str) -> Self {
        text.split(' ').filter_map(Scope::parse).fold(ScopeSet::EMPTY, ScopeSet::with)
    }

    /// Whether a credential with these may hand all of `wanted` on: nobody makes a credential that may do more than its maker.
    pub fn covers(self, wanted: ScopeSet) -> bool {
        wanted.iter().all(|scope| self.allows(ScopeSet::of(scope)))
    }

    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.contains(*scope))
    }

    pub fn joined(self, between: &str) -> String {
        self.iter().map(Scope::as_str).collect::<Vec<_>>().join(between)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read_word_by_word() {
        for (claim, expected) in [
            ("", ""),
            ("authorize", "authorize"),
            ("read authorize", "authorize read"),
            ("openid  usage:write profile", "usage:write"),
            ("ADMIN", ""),
            ("admin,read", ""),
            ("administrator", ""),
            ("usage", ""),
        ] {
            assert_eq!(ScopeSet::of_claim(claim).joined(" "), expected, "{claim:?}");
        }
    }

    #[test]
    fn admin_includes_all_and_nothing_else_includes_another() {
        for own in Scope::ALL {
            for wanted in Scope::ALL {
                assert_eq!(
                    ScopeSet::of(own).allows(ScopeSet::of(wanted)),
                    own == wanted || own == Scope::Admin,
                    "{own:?} {wanted:?}"
                );
            }
        }
        let both = ScopeSet::of(Scope::Read).with(Scope::Authorize);
        assert!(both.covers(both) && both.covers(ScopeSet::of(Scope::Read)) && both.covers(ScopeSet::EMPTY));
        assert!(!both.covers(ScopeSet::of(Scope::UsageWrite)) && !both.covers(both.with(Scope::Admin)));
        assert!(ScopeSet::of(Scope::Admin).covers(both.with(Scope::Admin).with(Scope::Portal)));
        assert!(!ScopeSet::EMPTY.allows(ScopeSet::of(Scope::Read)));
        assert!(ScopeSet::of(Scope::Portal).allows(ScopeSet::of(Scope::Read).with(Scope::Portal)));
    }
}
