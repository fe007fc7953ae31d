//! The index: what is found, in which order, and what goes first when there is no room.

use super::*;
use crate::decision::cache::key::{Identity, Prompt, Told};
use crate::decision::plan::Scope;
use proptest::prelude::*;
use uuid::Uuid;

fn workspace(name: &str) -> WorkspaceId {
    WorkspaceId::parse(name).expect("a name")
}

fn feature(name: &str) -> Feature {
    Feature::parse(name).expect("a name")
}

fn partition(name: &str) -> Partition {
    let (workspace, feature) = (workspace("ws"), feature("faq"));
    let told = Told {
        workspace: &workspace,
        user: None,
        scope: Scope::Workspace,
        feature: &feature,
        family: name,
        system: None,
        params: None,
    };
    Identity::of(&told).partition(&Prompt::of_text(""), None, 2)
}

fn id(number: u128) -> CacheEntryId {
    CacheEntryId::of(&workspace("ws"), Uuid::from_u128(number << 32))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// A vector at this angle in degrees.
fn vector(degrees: f64) -> Vector {
    Vector::of(&[degrees.to_radians().cos(), degrees.to_radians().sin()]).expect("a direction")
}

fn item(number: u128, degrees: f64, text: &str) -> Item {
    Item {
        workspace: workspace("ws"),
        feature: feature("faq"),
        partition: partition("p"),
        id: id(number),
        vector: vector(degrees),
        signature: Signature::of(text),
        stored_at: at(number as i64),
        expires_at: at(1_000),
    }
}

fn look(index: &Index, degrees: f64, text: &str, now: i64) -> Found {
    let (workspace, feature, partition) = (workspace("ws"), feature("faq"), partition("p"));
    let wanted = Wanted {
        workspace: &workspace,
        feature: &feature,
        partition: &partition,
        vector: &vector(degrees),
        signature: &Signature::of(text),
        threshold: Ratio::from_ten_thousandths(9_300).expect("a share"),
    };
    index.nearest(&wanted, at(now))
}

fn ids(found: &Found) -> Vec<CacheEntryId> {
    found.candidates.iter().map(|(id, _)| *id).collect()
}

#[test]
fn the_most_similar_come_first_and_what_is_not_similar_enough_does_not() {
    let index = Index::default();
    for (number, degrees) in [(1, 15.0), (2, 5.0), (3, 40.0), (4, -10.0)] {
        assert_eq!(index.insert(item(number, degrees, "text"), 10), Vec::new());
    }
    let found = look(&index, 0.0, "text", 10);
    assert_eq!(ids(&found), [id(2), id(4), id(1)]);
    assert_eq!(found.candidates[0].1.ten_thousandths(), 9_962);
    assert_eq!(ids(&look(&index, 180.0, "text", 10)), [], "the other way is not alike");
    assert_eq!(ids(&look(&index, 0.0, "text", 1_000)), [], "expired");
    index.expire(at(1_000));
    assert_eq!(index.size(), (0, 0));
}

#[test]
fn a_veto_passes_over_and_is_told() {
    let index = Index::default();
    index.insert(item(1, 0.0, "in 2016"), 10);
    index.insert(item(2, 5.0, "in 2017"), 10);
    let found = look(&index, 0.0, "in 2017", 10);
    assert_eq!(ids(&found), [id(2)]);
    assert_eq!(found.vetoed, BTreeMap::from([(Veto::Number, 1)]));
}

#[test]
fn what_was_used_longest_ago_makes_room() {
    let index = Index::default();
    for number in 1..=3 {
        index.insert(item(number, 0.0, "text"), 3);
    }
    index.used(id(1), at(50));
    assert_eq!(index.insert(item(4, 0.0, "text"), 3), [id(2)]);
    assert_eq!(index.insert(item(4, 0.0, "text"), 3), [], "it is there already");
    assert_eq!(
        index.insert(item(5, 0.0, "text"), 1),
        [id(3), id(4), id(1)],
        "the plan keeps fewer now"
    );
    assert_eq!(index.size().0, 1);
}

#[test]
fn all_together_keep_within_their_bytes() {
    let index = Index::bounded(20_000);
    for number in 1..=500 {
        index.insert(item(number, 0.0, "text"), 1_000);
        assert!(index.size().1 <= 20_000, "{:?}", index.size());
    }
    assert!(index.size().1 > 15_000, "{:?}", index.size());
    assert_eq!(ids(&look(&index, 0.0, "text", 600))[0], id(500), "the newest stays");
}

#[test]
fn a_workspace_a_feature_and_a_partition_see_their_own() {
    let index = Index::default();
    index.insert(item(1, 0.0, "text"), 10);
    let others = [
        Item {
            workspace: workspace("other"),
            ..item(2, 0.0, "text")
        },
        Item {
            feature: feature("other"),
            ..item(3, 0.0, "text")
        },
        Item {
            partition: partition("other"),
            ..item(4, 0.0, "text")
        },
    ];
    for other in others {
        index.insert(other, 10);
    }
    assert_eq!(ids(&look(&index, 0.0, "text", 10)), [id(1)]);
    index.purge(&workspace("ws"), Some(&feature("other")));
    assert_eq!(index.size().0, 3);
    index.purge(&workspace("ws"), None);
    assert_eq!(index.size().0, 1);
}

proptest! {
    /// Against looking at each by itself, after entries came and went.
    #[test]
    fn a_scan_finds_what_comparing_each_finds(angles in prop::collection::vec(-90.0f64..90.0, 1..40), gone in prop::collection::vec(any::<prop::sample::Index>(), 0..10)) {
        let index = Index::default();
        for (number, degrees) in (1..).zip(&angles) {
            index.insert(item(number, *degrees, "text"), 1_000);
        }
        let gone: Vec<usize> = gone.iter().map(|gone| gone.index(angles.len())).collect();
        for place in &gone {
            index.forget(id(*place as u128 + 1));
        }
        let asked = vector(0.0);
        let left = angles.iter().enumerate().filter(|(place, _)| !gone.contains(place));
        let mut expected: Vec<Ratio> = left.map(|(_, degrees)| vector(*degrees).similarity(&asked)).filter(|found| found.ten_thousandths() >= 9_300).collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        expected.truncate(CANDIDATES_MAX);
        let found: Vec<Ratio> = look(&index, 0.0, "text", 900).candidates.iter().map(|(_, found)| *found).collect();
        prop_assert_eq!(found, expected);
    }
}
