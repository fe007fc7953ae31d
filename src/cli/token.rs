//! `weir token`: a credential for a service of this data directory, or of the secret that the settings name.

use super::{Failure, say};
use crate::api::auth::{Claims, Jwks, Keys, Scope, ScopeSet, Verifier, mint};
use crate::clock::{Clock, SystemClock};
use crate::config::{Secret, Settings, SigningKey, data_dir, keys};
use crate::decision::id::WorkspaceId;
use crate::decision::nearest::nearest;
use clap::Args;
use std::process::ExitCode;

/// A year: what lives longer should be an API key.
const TTL_SECONDS_MAX: u32 = 366 * 24 * 3600;

#[derive(Args)]
pub(super) struct TokenArgs {
    /// What it may do: authorize, usage:write, read, portal, admin; several with commas.
    #[arg(long, default_value = "authorize,read", value_parser = parse_scopes)]
    scope: ScopeSet,
    /// The one workspace that it sees; absent: all.
    #[arg(long)]
    workspace: Option<String>,
    /// How long it lives, in seconds.
    #[arg(long, default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..=i64::from(TTL_SECONDS_MAX)))]
    ttl: u32,
    /// Whose it is, for the records.
    #[arg(long, default_value = "weir-token")]
    subject: String,
}

fn parse_scopes(text: &str) -> Result<ScopeSet, String> {
    let known = Scope::ALL.map(Scope::as_str);
    let mut scopes = ScopeSet::EMPTY;
    for name in text.split([',', ' ']).filter(|name| !name.is_empty()) {
        let unknown = || match nearest(name, known) {
            Some(meant) => format!("there is no scope {name}; did you mean {meant}?"),
            None => format!("there is no scope {name}; there are {}", known.join(", ")),
        };
        scopes = scopes.with(Scope::parse(name).ok_or_else(unknown)?);
    }
    if scopes.is_empty() {
        Err("name at least one scope".to_owned())
    } else {
        Ok(scopes)
    }
}

pub(super) fn token(settings: &Settings, args: &TokenArgs) -> Result<ExitCode, Failure> {
    let workspace = args
        .workspace
        .as_deref()
        .map(WorkspaceId::parse)
        .transpose()
        .map_err(|why| format!("--workspace {why}"))?;
    if args.scope.contains(Scope::Portal) && workspace.is_none() {
        return Err("the scope portal shows a customer's own usage: name the customer with --workspace".into());
    }
    // A mistaken directory would otherwise be noticed only by what the service says to the credential.
    if settings.jwt_secret.is_none() && !settings.is_production() && !settings.data_dir.join(keys::FILE).exists() {
        let directory = settings.data_dir.display();
        eprintln!("weir: no service has used the data directory {directory} yet; its signing key is made now");
    }
    let secret = secret(settings)?;
    say(sign(settings, &secret, &args.subject, args.scope, workspace.as_ref(), args.ttl))?;
    Ok(ExitCode::SUCCESS)
}

/// The secret that signs: of the settings, else of the data directory, made there at first use.
pub(super) fn secret(settings: &Settings) -> Result<Secret<SigningKey>, Failure> {
    if let Some(secret) = &settings.jwt_secret {
        return Ok(secret.clone());
    }
    if settings.is_production() {
        return Err("the production profile makes no keys of its own; set WEIR_JWT_SECRET to sign credentials here".into());
    }
    data_dir::create(&settings.data_dir)?;
    Ok(keys::load_or_create(&settings.data_dir)?)
}

/// Where commands find a credential for a service elsewhere. An argument would be seen by every user of the machine.
const TOKEN_VARIABLE: &str = "WEIR_TOKEN";

/// The credential that was given for a service elsewhere: as an argument, else in the environment.
pub(super) fn given(argument: &Option<String>) -> Option<String> {
    let of_environment = || std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
    argument.clone().or_else(of_environment)
}

/// As [`secret`], for commands that ask a service: a key that is made now would open none.
pub(super) fn known_secret(settings: &Settings) -> Result<Secret<SigningKey>, Failure> {
    let directory = &settings.data_dir;
    if settings.jwt_secret.is_none() && !settings.is_production() && !directory.join(keys::FILE).exists() {
        let directory = directory.display();
        return Err(
            format!("there is no key in {directory} to make a credential with: give one in {TOKEN_VARIABLE}, or name --data-dir").into(),
        );
    }
    secret(settings)
}

/// What verifies credentials: that secret if there is one, the public keys that the settings name, and what is sealed here.
pub(super) fn verifier(settings: &Settings, secret: Option<&Secret<SigningKey>>) -> Result<Verifier, Failure> {
    let mut keys = Keys::none();
    if let Some(secret) = secret {
        keys = keys.with_secret(secret.expose().as_bytes())?;
    }
    if let Some(path) = &settings.jwt_public_key_file {
        let wrong = |why: String| format!("the file of WEIR_JWT_PUBLIC_KEY_FILE, {}: {why}", path.display());
        let pem = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        keys = keys.with_file(&pem).map_err(|error| wrong(error.to_string()))?;
    }
    let mut verifier = Verifier::new(keys, settings.jwt_issuer.as_str(), settings.jwt_audience.as_str());
    if let Some(secret) = settings.secret_key.as_ref().or(secret) {
        verifier = verifier.with_secret(secret.expose().as_bytes())?;
    }
    if let Some(url) = &settings.jwt_jwks_url {
        verifier = verifier.with_jwks(Jwks::new(url.as_str())?);
    }
    Ok(verifier)
}

pub(super) fn sign(
    settings: &Settings,
    secret: &Secret<SigningKey>,
    subject: &str,
    scopes: ScopeSet,
    workspace: Option<&WorkspaceId>,
    ttl_seconds: u32,
) -> String {
    let claims = Claims {
        issuer: settings.jwt_issuer.as_str(),
        audience: settings.jwt_audience.as_str(),
        subject,
        scopes,
        workspace,
        issued_at: SystemClock.now(),
        ttl_seconds,
    };
    mint(secret.expose().as_bytes(), &claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_words_between_commas_or_spaces() {
        for (text, expected) in [
            ("authorize,read", "authorize read"),
            ("usage:write  admin", "usage:write admin"),
            ("read,read", "read"),
        ] {
            assert_eq!(
                parse_scopes(text).map(|scopes| scopes.joined(" ")),
                Ok(expected.to_owned()),
                "{text}"
            );
        }
        for (text, told) in [
            ("", "at least one"),
            ("everything", "there is no scope everything"),
            ("reed", "did you mean read?"),
        ] {
            let error = parse_scopes(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
