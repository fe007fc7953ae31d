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
        if self
            .kid
            .as_ref()
            .is_some_and(|kid| kid.is_empty() || kid.chars().count() > KID_CHARS_MAX)
        {
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
        let modulus = keys::significant(&modulus);
        if keys::is_short(modulus) {
            return Err("its modulus is shorter than 2048 bits");
        }
        if modulus.len() > RSA_MODULUS_BYTES_MAX {
            return Err("its modulus is longer than 8192 bits");
        }
        let exponent = bytes(self.e.as_deref())
            .filter(|e| (1..=8).contains(&e.len()))
            .ok_or("its e is not an exponent")?;
        let value = exponent.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        if value < 3 || value.is_multiple_of(2) {
            return Err("its e is not an exponent");
        }
        Ok((Algorithm::RS256, "RS256", DecodingKey::from_rsa_raw_components(modulus, &exponent)))
    }

    /// A point of a curve whose coordinates have `N` bytes, written as 4, x, y.
    fn point<const N: usize>(&self) -> Result<DecodingKey, &'static str> {
        let coordinate = |text: &Option<String>| bytes(text.as_deref()).filter(|bytes| bytes.len() == N);
        let (x, y) = coordinate(&self.x)
            .zip(coordinate(&self.y))
            .ok_or("its x and y are not of its curve")?;
        Ok(DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
    }
}

fn bytes(text: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn b64(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn rsa(change: Value) -> Value {
        with(
            json!({"kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": b64(&[0xc1; 256]), "e": "AQAB"}),
            change,
        )
    }

    fn ec(change: Value) -> Value {
        with(
            json!({"kty": "EC", "kid": "e", "crv": "P-256", "x": b64(&[1; 32]), "y": b64(&[2; 32])}),
            change,
        )
    }

    fn ed(change: Value) -> Value {
        with(json!({"kty": "OKP", "kid": "d", "crv": "Ed25519", "x": b64(&[1; 32])}), change)
    }

    /// A null takes a member away.
    fn with(mut key: Value, change: Value) -> Value {
        for (name, value) in change.as_object().expect("an object") {
            match value {
                Value::Null => drop(key.as_object_mut().expect("an object").shift_remove(name)),
                value => key[name] = value.clone(),
            }
        }
        key
    }

    fn read_one(key: Value) -> Result<String, &'static str> {
        let (keys, skipped) = read(json!({"keys": [key]}).to_string().as_bytes()).expect("a set");
        match skipped.first() {
            Some(why) => Err(why),
            None => Ok(format!("{keys:?}")),
        }
    }

    #[test]
    fn a_key_is_pinned_to_the_algorithm_on_which_its_members_agree() {
        for (key, expected) in [
            (rsa(json!({})), r#"[("RS256", Some("r"))]"#),
            (rsa(json!({"alg": null, "use": null, "kid": null})), r#"[("RS256", None)]"#),
            (
                rsa(json!({"n": b64(&[&[0][..], &[0xc1; 256]].concat()), "x5c": ["MIIB"], "x5t": "abc"})),
                r#"[("RS256", Some("r"))]"#,
            ),
            (rsa(json!({"key_ops": ["verify"], "use": null})), r#"[("RS256", Some("r"))]"#),
            (ec(json!({})), r#"[("ES256", Some("e"))]"#),
            (ec(json!({"alg": "ES256"})), r#"[("ES256", Some("e"))]"#),
            (
                ec(json!({"crv": "P-384", "x": b64(&[1; 48]), "y": b64(&[2; 48]), "alg": "ES384"})),
                r#"[("ES384", Some("e"))]"#,
            ),
            (ed(json!({"alg": "EdDSA"})), r#"[("EdDSA", Some("d"))]"#),
            (ed(json!({"alg": "Ed25519"})), r#"[("EdDSA", Some("d"))]"#),
        ] {
            assert_eq!(read_one(key.clone()).as_deref(), Ok(expected), "{key}");
        }
    }

    #[test]
    fn what_does_not_agree_or_is_for_something_else_is_no_key() {
        for (key, part) in [
            (rsa(json!({"use": "enc"})), "use"),
            (rsa(json!({"use": ""})), "use"),
            (rsa(json!({"key_ops": ["encrypt"]})), "key_ops"),
            (rsa(json!({"alg": "RS512"})), "alg"),
            (rsa(json!({"alg": "PS256"})), "alg"),
            (rsa(json!({"alg": "HS256"})), "alg"),
            (rsa(json!({"alg": "none"})), "alg"),
            (rsa(json!({"alg": "ES256"})), "alg"),
            (rsa(json!({"crv": "P-256"})), "kty and crv"),
            (rsa(json!({"n": b64(&[0xc1; 128])})), "2048"),
            (rsa(json!({"n": b64(&[&[0x7f][..], &[0xc1; 255]].concat())})), "2048"),
            (rsa(json!({"n": b64(&[&[0; 200][..], &[0xc1; 128]].concat())})), "2048"),
            (rsa(json!({"n": b64(&[0xc1; 2048])})), "8192"),
            (rsa(json!({"n": null})), "n is"),
            (rsa(json!({"n": "not base64!"})), "n is"),
            (rsa(json!({"e": "AQ"})), "exponent"),
            (rsa(json!({"e": "AA"})), "exponent"),
            (rsa(json!({"e": "Ag"})), "exponent"),
            (rsa(json!({"e": b64(&[0xff; 9])})), "exponent"),
            (rsa(json!({"d": "AQAB"})), "private"),
            (rsa(json!({"kid": ""})), "kid"),
            (rsa(json!({"kid": 5})), "JSON Web Key"),
            (ec(json!({"alg": "ES384"})), "alg"),
            (ec(json!({"crv": "P-384"})), "curve"),
            (ec(json!({"crv": "secp256k1"})), "kty and crv"),
            (ec(json!({"crv": null})), "kty and crv"),
            (ec(json!({"x": b64(&[1; 31])})), "curve"),
            (ec(json!({"y": null})), "curve"),
            (ed(json!({"crv": "X25519"})), "kty and crv"),
            (ed(json!({"x": b64(&[1; 33])})), "32 bytes"),
            (json!({"kty": "oct", "k": b64(&[7; 32]), "alg": "HS256"}), "kty and crv"),
            (json!({}), "JSON Web Key"),
            (json!("x"), "JSON Web Key"),
        ] {
            let why = read_one(key.clone()).expect_err(&key.to_string());
            assert!(why.contains(part), "{key}: {why}");
        }
    }

    #[test]
    fn a_set_is_an_object_with_a_bounded_number_of_keys() {
        for (text, expected) in [
            ("", KeysError::NoSet),
            ("[]", KeysError::NoSet),
            ("{}", KeysError::NoSet),
            (r#"{"keys": {}}"#, KeysError::NoSet),
            (r#"{"keys": [], "keys": []}"#, KeysError::NoSet),
            ("<html>", KeysError::NoSet),
        ] {
            assert_eq!(read(text.as_bytes()).expect_err(text), expected, "{text}");
        }
        let many = |count: usize| json!({"keys": vec![ed(json!({})); count]}).to_string();
        assert_eq!(read(many(SET_KEYS_MAX + 1).as_bytes()).expect_err("too many"), KeysError::TooMany);
        assert!(read(many(SET_KEYS_MAX).as_bytes()).is_ok());
        assert!(read(br#"{"keys": [], "more": 1}"#).expect("a set").0.is_empty());
    }

    #[test]
    fn a_file_may_be_a_set_of_which_every_key_is_used() {
        let set = |keys: Value| json!({"keys": keys}).to_string();
        let good = Keys::none()
            .with_file(&set(json!([rsa(json!({})), ec(json!({}))])))
            .expect("good keys");
        assert_eq!(format!("{good:?}"), r#"[("RS256", Some("r")), ("ES256", Some("e"))]"#);
        let refused = Keys::none().with_file(&set(json!([rsa(json!({})), rsa(json!({"use": "enc"}))])));
        assert_eq!(refused.expect_err("one is not"), KeysError::OtherKey("its use is not sig"));
        assert_eq!(Keys::none().with_file(&set(json!([]))).expect_err("empty"), KeysError::NoKey);
    }
}
