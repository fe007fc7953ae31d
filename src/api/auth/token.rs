//! JSON Web Tokens (RFC 7519), read strictly (RFC 8725), and made for `weir token`.
//!
//! Order of questions: form, header, signature, claims. Nothing of the claims is looked at before the signature is good. Keys come from
//! the settings alone: `jku`, `x5u`, `jwk` and `x5c` of a header are never followed, and `kid` only chooses among keys that have a name.

use super::cache::Verified;
use super::keys::{Keys, is_public};
use super::{Identity, Scope, ScopeSet};
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The longest credential that is looked at.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// How far apart the clocks of issuer and service may be.
pub(super) const LEEWAY_SECONDS: i64 = 60;
/// The longest `sub`: it is written into the audit log.
const SUBJECT_CHARS_MAX: usize = 255;

/// Why a credential is refused. For the log: what the caller is told is chosen by [`super::refusal`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("there is no credential")]
    Missing,
    #[error("there is more than one Authorization header")]
    Doubled,
    #[error("the Authorization header is no Bearer credential")]
    Scheme,
    #[error("the credential is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("the token has the wrong form: {0}")]
    Form(&'static str),
    #[error("the token's header: {0}")]
    Header(&'static str),
    #[error("no key verifies the token's signature")]
    Signature,
    #[error("the token is signed by a key that is not known here")]
    UnknownKey,
    #[error("the token may be signed by an issuer whose keys could not be fetched")]
    KeysAway,
    #[error("no such API key was made here, or it has another secret now, or it has ended")]
    ApiKey,
    #[error("the token's claims: {0}")]
    Claims(&'static str),
    #[error("the token is of another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
}

/// What a token must satisfy.
#[derive(Debug)]
pub(super) struct Rules {
    pub keys: Keys,
    pub issuer: String,
    pub audience: String,
}

/// A JOSE header: what matters of it. What would change how the token is to be read is refused, the rest is ignored.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    #[serde(default, borrow, deserialize_with = "given")]
    kid: Option<Cow<'a, str>>,
    #[serde(default, borrow, deserialize_with = "given")]
    typ: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "given")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "given")]
    b64: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "given")]
    zip: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Given<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
    #[serde(borrow)]
    aud: Audience<'a>,
    exp: f64,
    #[serde(default, deserialize_with = "given")]
    nbf: Option<f64>,
    #[serde(default, deserialize_with = "given")]
    iat: Option<f64>,
    #[serde(borrow)]
    sub: Cow<'a, str>,
    #[serde(default, borrow, deserialize_with = "given")]
    scope: Option<Cow<'a, str>>,
    #[serde(default, deserialize_with = "given")]
    workspace_id: Option<WorkspaceId>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(#[serde(borrow)] Cow<'a, str>),
    Several(#[serde(borrow)] Vec<Cow<'a, str>>),
}

/// A member that may be absent, but not null: a workspace of null must not become a credential for all of them.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads a JSON object; serde would take its members from an array as well.
fn object<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Option<T> {
    if json.trim_ascii_start().first() == Some(&b'{') {
        serde_json::from_slice(json).ok()
    } else {
        None
    }
}

/// A NumericDate: seconds since 1970, which may have a fraction. Beyond what fits it is the last moment that does.
fn moment(seconds: f64) -> Timestamp {
    Timestamp::from_micros((seconds * 1e6) as i64)
}

impl Rules {
    /// Whom a token is of. `fetched` are keys of an issuer, beside those of the settings.
    pub(super) fn verify(&self, fetched: &Keys, token: &str, now: Timestamp) -> Result<Verified, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refused::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Refused::Form("it has no signature"))?;
        let (header, claims) = signed.split_once('.').ok_or(Refused::Form("it has two parts"))?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Refused::Form("a part is not base64url"));
        let (header, claims) = (decode(header)?, decode(claims)?);
        self.check_signature(fetched, &header, signed, signature)?;
        self.check_claims(&claims, now)
    }

    fn check_signature(&self, fetched: &Keys, header: &[u8], signed: &str, signature: &str) -> Result<(), Refused> {
        let header: Header<'_> = object(header).ok_or(Refused::Header("it is not a JOSE header"))?;
        if header.crit.is_some() || header.b64.is_some() || header.zip.is_some() {
            return Err(Refused::Header("it asks for an extension (crit, b64, zip)"));
        }
        // Tokens made for another purpose (logout, security events, proofs) may bear a good signature of the same issuer.
        if !header.typ.is_none_or(|typ| {
            ["JWT", "at+jwt", "application/at+jwt"]
                .iter()
                .any(|known| typ.eq_ignore_ascii_case(known))
        }) {
            return Err(Refused::Header("it is a token for another purpose"));
        }
        let (algorithm, kid) = (&*header.alg, header.kid.as_deref());
        let all = [&self.keys, fetched];
        if all.iter().any(|keys| keys.verify(algorithm, kid, signed.as_bytes(), signature)) {
            return Ok(());
        }
        match is_public(algorithm) && !all.iter().any(|keys| keys.has(algorithm, kid)) {
            true => Err(Refused::UnknownKey),
            false => Err(Refused::Signature),
        }
    }

    fn check_claims(&self, claims: &[u8], now: Timestamp) -> Result<Verified, Refused> {
        let claims: Given<'_> = object(claims).ok_or(Refused::Claims("a required one is missing, or one has the wrong type"))?;
        if claims.iss != self.issuer {
            return Err(Refused::Issuer);
        }
        let is_for_us = match &claims.aud {
            Audience::One(audience) => *audience == self.audience,
            Audience::Several(audiences) => audiences.iter().any(|audience| *audience == self.audience),
        };
        if !is_for_us {
            return Err(Refused::Audience);
        }
        let begins = [claims.nbf, claims.iat].into_iter().flatten().map(moment).max();
        let from = begins.map_or(Timestamp::MIN, |begins| begins.plus_seconds(-LEEWAY_SECONDS));
        let until = moment(claims.exp).plus_seconds(LEEWAY_SECONDS);
        if now < from {
            return Err(Refused::NotYet);
        }
        if now >= until {
            return Err(Refused::Expired);
        }
        let identity = identity(&claims)?;
        Ok(Verified {
            identity,
            from,
            until,
            set: 0,
        })
    }
}

fn identity(claims: &Given<'_>) -> Result<Identity, Refused> {
    let length = claims.sub.chars().count();
    if length == 0 || length > SUBJECT_CHARS_MAX || claims.sub.chars().any(char::is_control) {
        return Err(Refused::Claims("sub must have 1 to 255 printable characters"));
    }
    let mut scopes = claims.scope.as_deref().map_or(ScopeSet::EMPTY, ScopeSet::of_claim);
    if claims.workspace_id.is_none() {
        // A portal shows a customer's own usage; without a workspace it would show everybody's.
        scopes = scopes.without(Scope::Portal);
    }
    Ok(Identity {
        subject: claims.sub.clone().into_owned(),
        scopes,
        workspace: claims.workspace_id.clone(),
    })
}

/// What a token that is made here says.
#[derive(Clone, Debug)]
pub struct Claims<'a> {
    pub issuer: &'a str,
    pub audience: &'a str,
    pub subject: &'a str,
    pub scopes: ScopeSet,
    pub workspace: Option<&'a WorkspaceId>,
    pub issued_at: Timestamp,
    pub ttl_seconds: u32,
}

#[derive(Serialize)]
struct Written<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_id: Option<&'a WorkspaceId>,
    iat: i64,
    exp: i64,
}

/// Makes a token, signed with HS256.
pub fn mint(secret: &[u8], claims: &Claims<'_>) -> String {
    let iat = claims.issued_at.micros().div_euclid(1_000_000);
    let written = Written {
        iss: claims.issuer,
        aud: claims.audience,
        sub: claims.subject,
        scope: claims.scopes.joined(" "),
        workspace_id: claims.workspace,
        iat,
        exp: iat + i64::from(claims.ttl_seconds),
    };
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    jsonwebtoken::encode(&header, &written, &key).expect("texts and numbers are JSON, and an HMAC key signs anything")
}
