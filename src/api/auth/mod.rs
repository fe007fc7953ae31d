//! Who calls, and what they may do. A credential is verified once and remembered until it expires; what a route asks for is a value.
//!
//! Invariants: a token's algorithm is that of the key it is verified with, never one that the token names; a credential bound to a
//! workspace sees no other; no token or key is ever logged, sent back or shown by Debug.

mod cache;
mod jwk;
mod jwks;
mod keys;
mod seal;
mod token;

pub use crate::decision::scope::{Scope, ScopeSet};
pub use jwks::{FETCH_EVERY_SECONDS, FETCH_PAUSE_SECONDS, Jwks, KEYS_SECONDS_MAX};
pub use keys::{Keys, KeysError, SECRET_BYTES_MIN};
pub use seal::{KEY_PREFIX, PORTAL_PREFIX, Seal};
pub use token::{Claims, TOKEN_BYTES_MAX, mint};

use super::problem::Problem;
use crate::decision::api_key::SecretHash;
use crate::decision::id::{KeyId, WorkspaceId};
use crate::decision::time::Timestamp;
use crate::flow::{self, Service};
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use cache::Verified;
use std::fmt;
use std::sync::Arc;
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

    /// Any of these will do; none: it is open.
    pub const fn scopes(self) -> ScopeSet {
        self.scopes
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
    /// Without it there are neither API keys nor portal tokens.
    seal: Option<Seal>,
    jwks: Option<Arc<Jwks>>,
    cache: cache::Cache,
    /// What API keys say that bear our mark. The mark is good for ever; whether the key still works is asked each time.
    read_keys: cache::Cache<(KeyId, SecretHash)>,
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
            seal: None,
            jwks: None,
            cache: cache::Cache::default(),
            read_keys: cache::Cache::default(),
        }
    }

    /// Makes and takes API keys and portal tokens, which are sealed with `secret`.
    pub fn with_secret(self, secret: &[u8]) -> Result<Self, KeysError> {
        let seal = Seal::new(secret, &self.rules.audience)?;
        Ok(Self { seal: Some(seal), ..self })
    }

    /// Takes tokens that are signed by keys of this issuer too.
    pub fn with_jwks(self, jwks: Arc<Jwks>) -> Self {
        Self { jwks: Some(jwks), ..self }
    }

    /// Fetches the issuer's keys, if there is one.
    pub async fn fetch_keys(&self, now: Timestamp) {
        if let Some(jwks) = &self.jwks {
            jwks.renew(now).await;
        }
    }

    /// What API keys and portal tokens are made with.
    pub fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// Who calls with `headers`, and whether they may use what asks for `access`.
    pub async fn admit(&self, service: &Service, headers: &HeaderMap, access: Access) -> Result<Identity, Problem> {
        if access.is_open() {
            return Ok(Identity::anonymous());
        }
        let now = service.clock.now();
        let credential = bearer(headers).map_err(refusal)?;
        let identity = if credential.starts_with(KEY_PREFIX) {
            self.identify_key(service, credential, now).await?
        } else {
            self.identify(credential, now).await.map_err(refusal)?
        };
        admit(&identity, access)?;
        Ok(identity)
    }

    /// Whoever bears an API key. The work is the same for one that never was and for one with another secret: one hash. For one that
    /// came before it is a look-up.
    async fn identify_key(&self, service: &Service, key: &str, now: Timestamp) -> Result<Identity, Problem> {
        let refused = || refusal(Refused::ApiKey);
        let (id, hash) = self.read_key(key).ok_or_else(refused)?;
        let known = flow::api_keys::find(service, id).await?.ok_or_else(refused)?;
        let identity = seal::identity(&known.key, &hash, now).ok_or_else(refused)?;
        known.note_use(now);
        Ok(identity)
    }

    fn read_key(&self, key: &str) -> Option<(KeyId, SecretHash)> {
        let seal = self.seal.as_ref()?;
        self.read_keys.find_or(key, || seal.read_key(key))
    }

    /// Whoever bears a token. Where it names a key that an issuer may have made since, the issuer's keys are asked for first.
    async fn identify(&self, token: &str, now: Timestamp) -> Result<Identity, Refused> {
        let jwks = match (self.identify_at_once(token, now), &self.jwks) {
            (Err(Refused::UnknownKey), Some(jwks)) => jwks,
            (done, _) => return done,
        };
        jwks.renew(now).await;
        match self.identify_at_once(token, now) {
            Err(Refused::UnknownKey) if jwks.current(now).number == 0 => Err(Refused::KeysAway),
            done => done,
        }
    }

    fn identify_at_once(&self, token: &str, now: Timestamp) -> Result<Identity, Refused> {
        let fetched = self.jwks.as_ref().map(|jwks| {
            jwks.keep_fresh(now);
            jwks.current(now)
        });
        let set = fetched.as_ref().map_or(0, |set| set.number);
        if let Some(identity) = self.cache.find(token, now, set) {
            return Ok(identity);
        }
        let mut verified: Verified = match &self.seal {
            Some(seal) if token.starts_with(PORTAL_PREFIX) => seal.read_portal(token, now)?,
            _ => match &fetched {
                Some(fetched) => self.rules.verify(&fetched.keys, token, now)?,
                None => self.rules.verify(&Keys::none(), token, now)?,
            },
        };
        verified.set = set;
        let identity = verified.identity.clone();
        self.cache.keep(token, verified, now);
        Ok(identity)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("rules", &self.rules)
            .field("jwks", &self.jwks)
            .finish_non_exhaustive()
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
    // Not `to_str`, which looks at each byte for one that is not visible: no credential that is good has such.
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| Refused::Scheme)?;
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
        Refused::KeysAway => return Problem::keys_unavailable().because(refused),
        Refused::TooLong
        | Refused::Form(_)
        | Refused::Header(_)
        | Refused::Signature
        | Refused::UnknownKey
        | Refused::ApiKey
        | Refused::Claims(_) => "The credential is not valid",
    };
    Problem::unauthorized(Some(description)).because(refused)
}

#[cfg(test)]
mod tests;
