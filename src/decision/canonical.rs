//! A digest of JSON by what it says: the order of members, spaces, escapes and how a number is written do not count, and no two values share
//! their bytes.

use serde_json::{Map, Number, Value};
use sha2::{Digest, Sha256};

/// Whole numbers below it are told apart by a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Takes a value in: each part with its kind and length before it, and the members of an object by name.
pub fn digest(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null | Value::Bool(_) => leaf(hash, b'v', &value.to_string()),
        Value::Number(number) => leaf(hash, b'v', &shortest(number)),
        Value::String(text) => leaf(hash, b's', text),
        Value::Array(items) => {
            leaf(hash, b'a', &items.len().to_string());
            items.iter().for_each(|item| digest(hash, item));
        }
        Value::Object(members) => digest_members(hash, members),
    }
}

/// Takes an object in, as [`digest`] does.
pub fn digest_members(hash: &mut Sha256, members: &Map<String, Value>) {
    leaf(hash, b'o', &members.len().to_string());
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|(name, _)| name.as_str());
    for (name, value) in members {
        leaf(hash, b's', name);
        digest(hash, value);
    }
}

/// A number as it is told shortest: `1.0` and `1e0` are `1`.
fn shortest(number: &Number) -> String {
    let whole = number
        .as_f64()
        .filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() < EXACT);
    match whole {
        Some(whole) => (whole as i64).to_string(),
        None => number.to_string(),
    }
}

fn leaf(hash: &mut Sha256, kind: u8, text: &str) {
    hash.update([kind]);
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<u8> {
        let mut hash = Sha256::new();
        digest(&mut hash, &serde_json::from_str(text).expect("JSON"));
        hash.finalize().to_vec()
    }

    #[test]
    fn equal_values_digest_alike() {
        for (a, b) in [
            (
                "{\"a\": 1, \"b\": {\"c\": [2], \"d\": null}}",
                "{\"b\":{\"d\":null,\"c\":[2]},\"a\":1}",
            ),
            ("\"\\u0061\"", "\"a\""),
            ("[1, 0.70, -0.0]", "[1.0, 7e-1, 0]"),
        ] {
            assert_eq!(of(a), of(b), "{a} {b}");
        }
    }

    #[test]
    fn values_that_only_look_alike_differ() {
        for (a, b) in [
            ("1", "\"1\""),
            ("0.7", "0.70001"),
            ("9007199254740993", "9007199254740992.0"),
            ("[1,2]", "[12]"),
            ("{\"a\":\"b\"}", "[\"a\",\"b\"]"),
            ("[[1],2]", "[[1,2]]"),
            ("null", "\"null\""),
            ("{\"a\":{\"b\":1}}", "{\"a\":{\"b\":2}}"),
        ] {
            assert_ne!(of(a), of(b), "{a} {b}");
        }
    }
}
