//! Names and ids: what they are made of, and what is none.

use super::*;

#[test]
fn names_are_what_the_contract_allows() {
    for good in ["a", "ws_456", "usr:1/2@x|y+z=~-.", &"x".repeat(128)] {
        assert!(WorkspaceId::parse(good).is_ok(), "{good}");
    }
    for bad in ["", ".", "..", "a b", "ä", "a\0", "a*", "a\n", &"x".repeat(129)] {
        assert!(WorkspaceId::parse(bad).is_err(), "{bad:?}");
    }
    assert!(RequestId::parse("any!visible{ascii}").is_ok());
    assert!(RequestId::parse("with space").is_err());
}

#[test]
fn a_reservation_id_is_made_of_workspace_and_key_and_names_the_slot() {
    let id = |ws: &str, key: &str| ReservationId::derive(&WorkspaceId::parse(ws).expect(ws), &RequestId::parse(key).expect(key));
    assert_eq!(id("a", "k"), id("a", "k"));
    assert_ne!(id("a", "k"), id("a", "l"));
    assert_ne!(id("ab", "c"), id("a", "bc"));
    assert_eq!(id("a", "k").slot(), slot(&WorkspaceId::parse("a").expect("a")));
    let uuid = Uuid::from_u128(id("a", "k").0);
    assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, uuid::Variant::RFC4122));
}

#[test]
fn the_id_of_a_kept_answer_is_a_uuid_that_names_the_slot() {
    let workspace = WorkspaceId::parse("a").expect("a name");
    let uuid = Uuid::from_u128(0x019a_a2f1_c5d7_7e3c_8a8b_9a0b_1c2d_3e4f);
    let id = CacheEntryId::of(&workspace, uuid);
    assert_eq!(id.slot(), slot(&workspace));
    let made = Uuid::from_u128(id.0);
    assert_eq!((made.get_version_num(), made.get_variant()), (7, uuid::Variant::RFC4122));
    assert_eq!(CacheEntryId::parse(&id.to_string()), Ok(id));
}

#[test]
fn a_decision_id_tells_when_it_was_made() {
    let id = DecisionId::parse("dec_019aa2f1c5d77e3c8a8b9a0b1c2d3e4f").expect("an id");
    assert_eq!(id.made_at(), Timestamp::from_micros(0x019a_a2f1_c5d7 * 1_000));
}

#[test]
fn made_ids_are_read_only_as_they_were_written() {
    let id = EntryId::from_uuid(Uuid::from_u128(7));
    assert_eq!(id.to_string(), "ent_00000000000000000000000000000007");
    assert_eq!(serde_json::to_string(&id).ok(), Some(format!("\"{id}\"")));
    assert_eq!(EntryId::parse(&id.to_string()), Ok(id));
    for bad in [
        "",
        "ent_",
        "rsv_00000000000000000000000000000007",
        "ent_+0000000000000000000000000000007",
        "ent_0000000000000000000000000000000A",
    ] {
        assert!(EntryId::parse(bad).is_err(), "{bad}");
    }
}
