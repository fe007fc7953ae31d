//! The keys that verify tokens. Each is pinned to one algorithm when it is read; a token that names another is refused.
//!
//! Public keys come as PEM (SubjectPublicKeyInfo, RFC 5280; or PKCS#1 for RSA), several in one file while a key is being replaced. The
//! few bytes of ASN.1 around them are read here; the cryptography is aws-lc's. A line `kid: NAME` before a block names its key. A file may be a
//! JSON Web Key Set instead ([`super::jwk`]).

use super::jwk::{self, SET_KEYS_MAX};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, DecodingKey};
use std::fmt;

/// Shorter HMAC secrets can be guessed (RFC 7518, 3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Shorter RSA moduli are refused (RFC 7518, 3.3).
const RSA_MODULUS_BYTES_MIN: usize = 256;
const KEYS_MAX: usize = 16;

/// What is wrong with a key. Says nothing of the key itself.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the secret has {0} bytes; HS256 needs at least {SECRET_BYTES_MIN}")]
    ShortSecret(usize),
    #[error("there is no public key in it; a PEM block begins with -----BEGIN PUBLIC KEY-----")]
    NoKey,
    #[error("it holds a block {0:?}; only PUBLIC KEY and RSA PUBLIC KEY are read (openssl pkey -in key.pem -pubout makes one)")]
    OtherBlock(String),
    #[error("a PEM block is not complete, or not base64")]
    Broken,
    #[error("a key is of a kind that is not supported; RSA, EC P-256, EC P-384 and Ed25519 are")]
    OtherAlgorithm,
    #[error("an RSA key is shorter than 2048 bits")]
    ShortRsa,
    #[error("there are more than {KEYS_MAX} keys, or more than {SET_KEYS_MAX} in a set")]
    TooMany,
    #[error("it is not a JSON Web Key Set: {{\"keys\": [...]}}")]
    NoSet,
    #[error("a key of the set cannot be used: {0}")]
    OtherKey(&'static str),
}

struct Key {
    /// Keys with a name verify only tokens that name them (`kid`).
    name: Option<String>,
    algorithm: Algorithm,
    decoding: DecodingKey,
}

/// The keys that are trusted.
#[derive(Default)]
pub struct Keys(Vec<Key>);

impl Keys {
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a secret for HS256.
    pub fn with_secret(self, secret: &[u8]) -> Result<Self, KeysError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeysError::ShortSecret(secret.len()));
        }
        self.with(None, Algorithm::HS256, DecodingKey::from_secret(secret))
    }

    /// Adds the public keys of a file: a PEM text, or a JSON Web Key Set. Whoever wrote it meant every one of them to be used.
    pub fn with_file(mut self, text: &str) -> Result<Self, KeysError> {
        if !text.trim_start().starts_with('{') {
            return self.with_pem(text);
        }
        let (keys, refused) = jwk::read(text.as_bytes())?;
        if let Some(why) = refused.first() {
            return Err(KeysError::OtherKey(why));
        }
        if keys.is_empty() {
            return Err(KeysError::NoKey);
        }
        self.0.extend(keys.0);
        Ok(self)
    }

    /// Adds the public keys of a PEM text: RS256, ES256, ES384 or EdDSA, as each key is made.
    pub fn with_pem(self, pem: &str) -> Result<Self, KeysError> {
        self.with_pem_of(None, pem)
    }

    /// Adds the public keys of a PEM text for tokens with this `kid`.
    pub fn with_named_pem(self, name: &str, pem: &str) -> Result<Self, KeysError> {
        self.with_pem_of(Some(name), pem)
    }

    fn with_pem_of(mut self, name: Option<&str>, pem: &str) -> Result<Self, KeysError> {
        for block in blocks(pem)? {
            let (algorithm, decoding) = match block.label {
                "PUBLIC KEY" => public_key(&block.der)?,
                "RSA PUBLIC KEY" => rsa(&block.der)?,
                other => return Err(KeysError::OtherBlock(other.to_owned())),
            };
            self = self.with(name.or(block.name).map(str::to_owned), algorithm, decoding)?;
        }
        Ok(self)
    }

    fn with(mut self, name: Option<String>, algorithm: Algorithm, decoding: DecodingKey) -> Result<Self, KeysError> {
        if self.0.len() == KEYS_MAX {
            return Err(KeysError::TooMany);
        }
        self.push(name, algorithm, decoding);
        Ok(self)
    }

    pub(super) fn push(&mut self, name: Option<String>, algorithm: Algorithm, decoding: DecodingKey) {
        self.0.push(Key { name, algorithm, decoding });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is a key that may verify what is signed with this algorithm by the key of this name.
    pub(super) fn has(&self, algorithm: &str, kid: Option<&str>) -> bool {
        self.0.iter().any(|key| key.may(algorithm, kid))
    }

    /// Whether one of the keys made `signature` (base64url) over `signed`. Constant in time where it compares secrets.
    pub(super) fn verify(&self, algorithm: &str, kid: Option<&str>, signed: &[u8], signature: &str) -> bool {
        let verifies = |key: &Key| {
            matches!(
                jsonwebtoken::crypto::verify(signature, signed, &key.decoding, key.algorithm),
                Ok(true)
            )
        };
        self.0.iter().filter(|key| key.may(algorithm, kid)).any(verifies)
    }
}

impl Key {
    fn may(&self, algorithm: &str, kid: Option<&str>) -> bool {
        name_of(self.algorithm) == algorithm && (self.name.is_none() || self.name.as_deref() == kid)
    }
}

/// Whether tokens are signed with this algorithm by a private key, of which the public one may be fetched.
pub(super) fn is_public(algorithm: &str) -> bool {
    ["RS256", "ES256", "ES384", "EdDSA"].contains(&algorithm)
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|key| (name_of(key.algorithm), &key.name)))
            .finish()
    }
}

/// The algorithm as a header names it. Only those of [`public_key`] and HS256 ever belong to a key.
const fn name_of(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::HS256 => "HS256",
        Algorithm::RS256 => "RS256",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        Algorithm::EdDSA => "EdDSA",
        _ => "",
    }
}

/// A block of a PEM text.
struct Block<'a> {
    /// What a line before it says.
    name: Option<&'a str>,
    label: &'a str,
    der: Vec<u8>,
}

/// The blocks of a PEM text. Text between them is a comment (RFC 7468), but for names.
fn blocks(pem: &str) -> Result<Vec<Block<'_>>, KeysError> {
    let mut found = Vec::new();
    let mut rest = pem;
    while let Some((before, begun)) = rest.split_once("-----BEGIN ") {
        let name = before.lines().filter_map(|line| line.trim().strip_prefix("kid:")).next_back();
        let (label, after) = begun.split_once("-----").ok_or(KeysError::Broken)?;
        let end = format!("-----END {label}-----");
        let (body, after) = after.split_once(end.as_str()).ok_or(KeysError::Broken)?;
        let packed: String = body.split_ascii_whitespace().collect();
        found.push(Block {
            name: name.map(str::trim).filter(|name| !name.is_empty()),
            label,
            // A private key is named as such before anything of it is decoded.
            der: match label.ends_with("PUBLIC KEY") {
                true => STANDARD.decode(packed).map_err(|_| KeysError::Broken)?,
                false => Vec::new(),
            },
        });
        rest = after;
    }
    if found.is_empty() { Err(KeysError::NoKey) } else { Ok(found) }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;

/// 1.2.840.113549.1.1.1, rsaEncryption.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.2.840.10045.2.1, id-ecPublicKey.
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.10045.3.1.7, prime256v1.
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// 1.3.132.0.34, secp384r1.
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// 1.3.101.112, id-Ed25519.
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// Reads a SubjectPublicKeyInfo: the algorithm that it names decides, and nothing else ever does.
fn public_key(der: &[u8]) -> Result<(Algorithm, DecodingKey), KeysError> {
    let (info, _) = element(der, SEQUENCE)?;
    let (kind, rest) = element(info, SEQUENCE)?;
    let (kind, parameters) = element(kind, OBJECT)?;
    let (bits, _) = element(rest, BIT_STRING)?;
    // The first byte of a bit string tells how many of its last bits do not count: none, for keys.
    let key = bits.strip_prefix(&[0]).ok_or(KeysError::Broken)?;
    match kind {
        RSA => rsa(key),
        ED25519 if key.len() == 32 => Ok((Algorithm::EdDSA, DecodingKey::from_ed_der(key))),
        EC => match element(parameters, OBJECT)?.0 {
            // An uncompressed point: 4, x, y.
            P256 if key.len() == 65 && key[0] == 4 => Ok((Algorithm::ES256, DecodingKey::from_ec_der(key))),
            P384 if key.len() == 97 && key[0] == 4 => Ok((Algorithm::ES384, DecodingKey::from_ec_der(key))),
            _ => Err(KeysError::OtherAlgorithm),
        },
        _ => Err(KeysError::OtherAlgorithm),
    }
}

/// Reads an RSAPublicKey (PKCS#1): modulus and exponent.
fn rsa(der: &[u8]) -> Result<(Algorithm, DecodingKey), KeysError> {
    let (numbers, _) = element(der, SEQUENCE)?;
    let (modulus, rest) = element(numbers, INTEGER)?;
    element(rest, INTEGER)?;
    if is_short(significant(modulus)) {
        return Err(KeysError::ShortRsa);
    }
    Ok((Algorithm::RS256, DecodingKey::from_rsa_der(der)))
}

/// A number without the zeros before it.
pub(super) fn significant(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Whether a modulus, without zeros before it, has less than 2048 bits.
pub(super) fn is_short(modulus: &[u8]) -> bool {
    modulus.len() < RSA_MODULUS_BYTES_MIN || (modulus.len() == RSA_MODULUS_BYTES_MIN && modulus[0] < 0x80)
}

/// Takes one element of DER with this tag off the front: its content, and what follows it.
fn element(der: &[u8], tag: u8) -> Result<(&[u8], &[u8]), KeysError> {
    let (&found, rest) = der.split_first().ok_or(KeysError::Broken)?;
    let (&first, rest) = rest.split_first().ok_or(KeysError::Broken)?;
    if found != tag {
        return Err(KeysError::Broken);
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The length itself has one or two bytes; no key is longer.
        0x81 | 0x82 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(KeysError::Broken)?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return Err(KeysError::Broken),
    };
    rest.split_at_checked(length).ok_or(KeysError::Broken)
}
