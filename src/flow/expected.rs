//! Which version a change may replace, as its caller saw it.

/// Both conditions must hold; without either a change replaces whatever is there.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Expected {
    pub one_of: Option<Versions>,
    pub none_of: Option<Versions>,
}

/// Versions that a caller names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Versions {
    /// Whatever is there, if anything is.
    Any,
    These(Vec<u32>),
}

impl Versions {
    /// 0: nothing is there.
    pub fn has(&self, version: u32) -> bool {
        match self {
            Versions::Any => version > 0,
            Versions::These(these) => these.contains(&version),
        }
    }
}

impl Expected {
    /// Whether what is at `version` may be replaced; 0: nothing is there.
    pub fn accepts(&self, version: u32) -> bool {
        self.one_of.as_ref().is_none_or(|these| these.has(version)) && !self.none_of.as_ref().is_some_and(|these| these.has(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_replaces_what_its_caller_saw() {
        let these = |versions: &[u32]| Some(Versions::These(versions.to_vec()));
        for (one_of, none_of, accepted) in [
            (None, None, vec![0, 1, 2, 3]),
            (Some(Versions::Any), None, vec![1, 2, 3]),
            (None, Some(Versions::Any), vec![0]),
            (these(&[2, 3]), None, vec![2, 3]),
            (these(&[]), None, vec![]),
            (None, these(&[2]), vec![0, 1, 3]),
            (Some(Versions::Any), these(&[2]), vec![1, 3]),
            (Some(Versions::Any), Some(Versions::Any), vec![]),
        ] {
            let expected = Expected { one_of, none_of };
            let found: Vec<u32> = (0..4).filter(|version| expected.accepts(*version)).collect();
            assert_eq!(found, accepted, "{expected:?}");
        }
    }
}
