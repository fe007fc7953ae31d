//! Who calls, and what they may do. A credential is verified once and remembered until it expires; what a route asks for is a value.
//!
//! Invariants: a token's algorithm is that of the key it is verified with, never one that the token names; a credential bound to a
//! workspace sees no other; no token or key is ever logged, sent back or shown by Debug.

mod cache;
mod keys;
mod scope;
mod token;

pub use keys::{Keys, KeysError, SECRET_BYTES_MIN};
pub use scope::{Scope, ScopeSet};
pub use token::{Claims, TOKEN_BYTES_MAX, mint};

use super::problem::Problem;
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use cache::Verified;
use std::fmt;
use token::{Refused, Rules};

/// Whoever a verified credential stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The credential's `sub`: the actor in the audit log.
    pub subject: String,
    pub scopes: ScopeSet,
    /// The one workspace that the credential may see; `None`: all.
    pub workspace: Option<WorkspaceId>,
}

impl Identity {
    /// Whoever calls an open route.
    pub fn anonymous() -> Self {
        Self {
            subject: "anonymous".to_owned(),
            scopes: ScopeSet::EMPTY,
            workspace: None,
        }
    }

    /// False: the workspace must look as if it did not exist.
    pub fn sees(&self, workspace: &WorkspaceId) -> bool {
        self.workspace.as_ref().is_none_or(|bound| bound == workspace)
    }

    /// Customers never see what a request cost.
    pub fn sees_no_costs(&self) -> bool {
        !self.scopes.allows(ScopeSet::of(Scope::Read))
    }
}

/// What a route asks of its callers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    /// Any of these will do; none: open to everybody.
    scopes: ScopeSet,
    /// Whether a credential that is bound to a workspace may use it.
    takes_bound: bool,
}

impl Access {
    /// Without a credential.
    pub const fn open() -> Self {
        Self {
            scopes: ScopeSet::EMPTY,
            takes_bound: true,
        }
    }

    pub const fn scope(scope: Scope) -> Self {
        Self {
            scopes: ScopeSet::of(scope),
            takes_bound: true,
        }
    }

    /// The other scope will do as well.
    pub const fn or(self, scope: Scope) -> Self {
        Self {
            scopes: self.scopes.with(scope),
            ..self
        }
    }

    /// For what belongs to all workspaces (plans, models, routing, keys, billing): no bound credential, not even with `admin`.
    pub const fn unbound(self) -> Self {
        Self {
            takes_bound: false,
            ..self
        }
    }

    pub const fn is_open(self) -> bool {
        self.scopes.is_empty()
    }

    /// Whether a credential that is bound to a workspace may be enough.
    pub const fn takes_bound(self) -> bool {
        self.takes_bound
    }

    /// The scopes of which one is needed, for people.
    pub fn scopes_joined(self) -> String {
        self.scopes.joined("` or `")
    }
}

/// Whether `identity` may use what asks for `access`.
pub fn admit(identity: &Identity, access: Access) -> Result<(), Problem> {
    if !access.is_open() && !identity.scopes.allows(access.scopes) {
        return Err(Problem::insufficient_scope(&access.scopes.joined(" or ")));
    }
    if !access.takes_bound && identity.workspace.is_some() {
        return Err(Problem::bound_credential());
    }
    Ok(())
}

/// Turns credentials into identities.
pub struct Verifier {
    rules: Rules,
    cache: cache::Cache,
}

impl Verifier {
    /// Takes tokens of `issuer` for `audience`, signed with one of `keys`.
    pub fn new(keys: Keys, issuer: &str, audience: &str) -> Self {
        Self {
            rules: Rules {
                keys,
                issuer: issuer.to_owned(),
                audience: audience.to_owned(),
            },
            cache: cache::Cache::default(),
        }
    }

    /// Who calls with `headers`, and whether they may use what asks for `access`.
    pub fn admit(&self, headers: &HeaderMap, access: Access, now: Timestamp) -> Result<Identity, Problem> {
        if access.is_open() {
            return Ok(Identity::anonymous());
        }
        let identity = self.identify(headers, now).map_err(refusal)?;
        admit(&identity, access)?;
        Ok(identity)
    }

    fn identify(&self, headers: &HeaderMap, now: Timestamp) -> Result<Identity, Refused> {
        let token = bearer(headers)?;
        if let Some(identity) = self.cache.find(token, now) {
            return Ok(identity);
        }
        let verified: Verified = self.rules.verify(token, now)?;
        let identity = verified.identity.clone();
        self.cache.keep(token, verified, now);
        Ok(identity)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// The token of the one `Authorization: Bearer …`. Two such headers are nobody's: proxies and services disagree on which counts.
fn bearer(headers: &HeaderMap) -> Result<&str, Refused> {
    let mut all = headers.get_all(AUTHORIZATION);
    let value = all.next().ok_or(Refused::Missing)?;
    if all.next().is_some() {
        return Err(Refused::Doubled);
    }
    if value.len() > TOKEN_BYTES_MAX {
        return Err(Refused::TooLong);
    }
    let text = value.to_str().map_err(|_| Refused::Scheme)?;
    let (scheme, token) = text.split_once(' ').ok_or(Refused::Scheme)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim_matches(' '))
    } else {
        Err(Refused::Scheme)
    }
}

/// What the caller is told. Only what a token with a good signature says about itself is told in detail: that helps no guesser.
fn refusal(refused: Refused) -> Problem {
    let description = match &refused {
        Refused::Missing => return Problem::unauthorized(None),
        Refused::Doubled => "There is more than one Authorization header",
        Refused::Scheme => "The Authorization header is not of the form: Bearer credential",
        Refused::Expired => "The credential has expired",
        Refused::NotYet => "The credential is not valid yet",
        Refused::Issuer => "The credential is of another issuer",
        Refused::Audience => "The credential is for another audience",
        Refused::TooLong | Refused::Form(_) | Refused::Header(_) | Refused::Signature | Refused::Claims(_) => "The credential is not valid",
    };
    Problem::unauthorized(Some(description)).because(refused)
}

#[cfg(test)]
mod tests;
