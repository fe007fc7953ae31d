//! JSON Web Keys (RFC 7517): public keys as issuers publish them. Each is pinned to the one algorithm that its type, curve and `alg` agree
//! on; what does not agree, is for something else than signatures, or holds a private part, is no key.

use super::keys::{self, Keys, KeysError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// The most keys of a set.
pub(super) const SET_KEYS_MAX: usize = 64;
/// Longer moduli would make each signature slow.
const RSA_MODULUS_BYTES_MAX: usize = 1_024;
const KID_CHARS_MAX: usize = 255;

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

/// The keys of a set that verify tokens, and why the others do not.
pub(super) fn read(text: &[u8]) -> Result<(Keys, Vec<&'static str>), KeysError> {
    let set: Set = serde_json::from_slice(text).map_err(|_| KeysError::NoSet)?;
    if set.keys.len() > SET_KEYS_MAX {
        return Err(KeysError::TooMany);
    }
    let (mut keys, mut skipped) = (Keys::none(), Vec::new());
    for jwk in set.keys {
        match Jwk::deserialize(jwk).map_err(|_| "it is not a JSON Web Key").and_then(Jwk::compile) {
            Ok((kid, algorithm, decoding)) => keys.push(kid, algorithm, decoding),
            Err(why) => skipped.push(why),
        }
    }
    Ok((keys, skipped))
}

impl Jwk {
    fn compile(self) -> Result<(Option<String>, Algorithm, DecodingKey), &'static str> {
        if self.d.is_some() {
            return Err("it holds a private key: whoever published it must replace it");
        }
        if self.r#use.as_deref().is_some_and(|purpose| purpose != "sig") {
            return Err("its use is not sig");
        }
        if self.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("its key_ops have no verify");
        }
        if self.kid.as_ref().is_some_and(|kid| kid.is_empty() || kid.chars().count() > KID_CHARS_MAX) {
            return Err("its kid is empty or too long");
        }
        let (algorithm, name, decoding) = self.key()?;
        // RFC 9864 gives EdDSA over Ed25519 a name of its own; tokens say the older one.
        let agrees = |alg: &str| alg == name || (name == "EdDSA" && alg == "Ed25519");
        if !self.alg.as_deref().is_none_or(agrees) {
            return Err("its alg is not the one that is taken for its type: RS256, ES256, ES384 or EdDSA");
        }
        Ok((self.kid, algorithm, decoding))
    }

    fn key(&self) -> Result<(Algorithm, &'static str, DecodingKey), &'static str> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => self.rsa(),
            ("EC", Some("P-256")) => Ok((Algorithm::ES256, "ES256", self.point::<32>()?)),
            ("EC", Some("P-384")) => Ok((Algorithm::ES384, "ES384", self.point::<48>()?)),
            ("OKP", Some("Ed25519")) => {
                let x = bytes(self.x.as_deref()).filter(|x| x.len() == 32).ok_or("its x is not 32 bytes")?;
                Ok((Algorithm::EdDSA, "EdDSA", DecodingKey::from_ed_der(&x)))
            }
            _ => Err("its kty and crv are not among RSA, EC P-256, EC P-384 and OKP Ed25519"),
        }
    }

    fn rsa(&self) -> Result<(Algorithm, &'static str, DecodingKey), &'static str> {
        let modulus = bytes(self.n.as_deref()).ok_or("its n is not base64url")?;
        let modulus: &[u8] = modulus.strip_prefix(&[0]).unwrap_or(&modulus);
        if keys::is_short(modulus) {
            return Err("its modulus is shorter than 2048 bits");
        }
        if modulus.len() > RSA_MODULUS_BYTES_MAX {
            return Err("its modulus is longer than 8192 bits");
        }
        let exponent = bytes(self.e.as_deref()).filter(|e| (1..=8).contains(&e.len())).ok_or("its e is not an exponent")?;
        let value = exponent.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        if value < 3 || value.is_multiple_of(2) {
            return Err("its e is not an exponent");
        }
        Ok((Algorithm::RS256, "RS256", DecodingKey::from_rsa_raw_components(modulus, &exponent)))
    }

    /// A point of a curve whose coordinates have `N` bytes, written as 4, x, y.
    fn point<const N: usize>(&self) -> Result<DecodingKey, &'static str> {
        let coordinate = |text: &Option<String>| bytes(text.as_deref()).filter(|bytes| bytes.len() == N);
        let (x, y) = coordinate(&self.x).zip(coordinate(&self.y)).ok_or("its x and y are not of its curve")?;
        Ok(DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
    }
}

fn bytes(text: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}
