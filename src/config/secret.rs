//! Text that must not be seen: whoever prints, logs or serializes it gets a placeholder.

use serde::{Serialize, Serializer};
use std::fmt;

pub(super) const PLACEHOLDER: &str = "(hidden)";

/// A secret. Only [`Secret::expose`] gives it away, so that every use can be found.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    pub const fn new(secret: T) -> Self {
        Self(secret)
    }

    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PLACEHOLDER)
    }
}

impl<T> Serialize for Secret<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(PLACEHOLDER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nowhere() {
        let secret = Secret::new("planted-secret".to_owned());
        let all = [
            format!("{secret}"),
            format!("{secret:?}"),
            format!("{secret:#?}"),
            serde_json::to_string(&secret).expect("JSON"),
        ];
        for shown in all {
            assert!(!shown.contains("planted"), "{shown}");
        }
        assert_eq!(secret.expose(), "planted-secret");
    }
}
