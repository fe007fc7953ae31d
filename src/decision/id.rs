//! Names and ids. Names that callers choose are checked once, when they are read; ids that Weir makes bear a prefix.
//!
//! A reservation's id is made from its workspace and idempotency key, so an answer that got lost is simply asked for again.

use super::time::Timestamp;
use super::value;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;
use uuid::fmt::Simple;

/// The most characters of a name that a caller chooses.
pub const NAME_CHARS_MAX: usize = 128;
/// The most characters of a request id or an idempotency key.
pub const REQUEST_ID_CHARS_MAX: usize = 255;

fn check_name(text: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:/@|+=~-".contains(&b);
    if text.is_empty() || text.len() > NAME_CHARS_MAX {
        return Err(format!("must have 1 to {NAME_CHARS_MAX} characters"));
    }
    if !text.bytes().all(allowed) {
        return Err("may only have letters, digits and ._:/@|+=~-".to_owned());
    }
    if text == "." || text == ".." {
        return Err("must not be \".\" or \"..\"".to_owned());
    }
    Ok(())
}

fn check_request_id(text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > REQUEST_ID_CHARS_MAX {
        return Err(format!("must have 1 to {REQUEST_ID_CHARS_MAX} characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("may only have visible ASCII characters, without spaces".to_owned());
    }
    Ok(())
}

macro_rules! text_newtypes {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $check:path;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn parse(text: &str) -> Result<Self, String> {
                $check(text)?;
                Ok(Self(text.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                value::text(from, $what, Self::parse)
            }
        }
    )* };
}

text_newtypes! {
    /// The customer tenant whose money is spent.
    WorkspaceId, "a workspace id", check_name;
    /// A person inside a workspace.
    UserId, "a user id", check_name;
    /// A part of the product that makes LLM calls.
    Feature, "a feature", check_name;
    /// A priced model of the catalogue, or the name under which a caller asks for one.
    ModelId, "a model id", check_name;
    /// A class of models: `frontier`, `mid`, `fast`, or another name that the catalogue declares.
    Tier, "a tier", check_name;
    /// Whoever serves a model.
    Provider, "a provider", check_name;
    /// What a workspace bought.
    PlanId, "a plan id", check_name;
    /// A ceiling on a counter.
    BudgetId, "a budget id", check_name;
    /// A figure that a billing provider is told.
    MeterId, "a meter id", check_name;
    /// A billing provider's price, such as `price_1ABC`.
    PriceId, "a price id", check_name;
    /// A result that a plan bills for, such as `contract_drafted`.
    OutcomeName, "a billable outcome", check_name;
    /// One attempt at a request, named by the caller.
    RequestId, "a request id", check_request_id;
}

impl Tier {
    /// Of a model that the catalogue does not list.
    pub fn unknown() -> Self {
        Self("unknown".into())
    }
}

impl Provider {
    /// Of a model that the catalogue does not list.
    pub fn unknown() -> Self {
        Self("unknown".into())
    }
}

/// How many bits of a reservation id name the slot of its workspace.
const SLOT_BITS: u32 = 24;

/// An identified hold: a UUIDv8 of workspace and idempotency key whose first 24 bits name the workspace's slot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReservationId(u128);

impl ReservationId {
    pub fn derive(workspace: &WorkspaceId, key: &RequestId) -> Self {
        let mut hash = Sha256::new();
        hash.update([workspace.as_str().len() as u8]); // A name has at most 128 characters, so its length keeps both parts apart.
        hash.update(workspace.as_str());
        hash.update(key.as_str());
        Self::of_digest(workspace, &hash.finalize())
    }

    /// Under which the corrections of an entry are counted, so that of two that race one is decided anew. No caller's key makes it: the
    /// first byte, the length of a workspace's name, is never zero there.
    pub fn of_corrections(workspace: &WorkspaceId, entry: EntryId) -> Self {
        let mut hash = Sha256::new();
        hash.update([0]);
        hash.update(workspace.as_str());
        hash.update(entry.0.to_be_bytes());
        Self::of_digest(workspace, &hash.finalize())
    }

    fn of_digest(workspace: &WorkspaceId, digest: &[u8]) -> Self {
        let mut bytes = [0u8; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes[..3].copy_from_slice(&slot(workspace).to_be_bytes()[1..]);
        Self(Uuid::new_v8(bytes).as_u128())
    }

    /// The slot of the workspace: stores find a reservation by it when only the id is known.
    pub const fn slot(self) -> u32 {
        (self.0 >> (128 - SLOT_BITS)) as u32
    }

    pub const fn as_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }
}

/// The slot of a workspace: 24 bits of its hash.
pub fn slot(workspace: &WorkspaceId) -> u32 {
    let digest = Sha256::digest(workspace.as_str());
    u32::from_be_bytes([0, digest[0], digest[1], digest[2]])
}

/// A recorded use in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(u128);

/// One answer of authorize.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(u128);

/// An API key. It stands in the key itself, and is no secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u128);

impl KeyId {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }

    /// The digits alone, as an API key has them.
    pub fn digits(self) -> String {
        Uuid::from_u128(self.0).simple().to_string()
    }

    pub fn from_digits(text: &str) -> Option<Self> {
        let is_good = text.len() == Simple::LENGTH && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        is_good.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }

    pub const fn as_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// Extra allowance for one budget.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(u128);

impl GrantId {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }

    pub const fn uuid(self) -> Uuid {
        Uuid::from_u128(self.0)
    }
}

/// A batch of what a billing provider is told: made of what it is about, so that whoever makes it again makes the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(u128);

impl BatchId {
    /// Of so many bytes of a digest.
    pub fn of_digest(digest: &[u8; 16]) -> Self {
        Self(Uuid::new_v8(*digest).as_u128())
    }
}

/// One record of the audit log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuditId(u128);

impl AuditId {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }
}

/// What a rule of fair use does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FairUseId(u128);

impl FairUseId {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }
}

/// A kept answer: a UUIDv7 whose last 24 bits, which are chance otherwise, name the slot of its workspace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheEntryId(u128);

impl CacheEntryId {
    pub fn of(workspace: &WorkspaceId, uuid: Uuid) -> Self {
        let rest = uuid.as_u128() >> SLOT_BITS << SLOT_BITS;
        Self(rest | u128::from(slot(workspace)))
    }

    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// The slot of the workspace: stores find the answer by it when only the id is known.
    pub const fn slot(self) -> u32 {
        (self.0 & ((1 << SLOT_BITS) - 1)) as u32
    }
}

/// Something that happened and is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(u128);

impl EventId {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }
}

/// Where somebody is told of events.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WebhookEndpointId(u128);

impl WebhookEndpointId {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }
}

/// An event on its way to one endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(u128);

impl DeliveryId {
    /// Of this event to this endpoint, put on its way at `at`. Sorts by that, to the millisecond.
    pub fn of(endpoint: WebhookEndpointId, event: EventId, at: Timestamp) -> Self {
        let mut hash = Sha256::new();
        hash.update(endpoint.0.to_be_bytes());
        hash.update(event.0.to_be_bytes());
        let mut random = [0u8; 10];
        random.copy_from_slice(&hash.finalize()[..10]);
        let millis = u64::try_from(at.micros() / 1_000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().as_u128())
    }

    /// Sorts before every id that is made at `at` or later.
    pub const fn first_at(at: Timestamp) -> Self {
        let millis = at.micros() / 1_000;
        Self(if millis > 0 { (millis as u128) << 80 } else { 0 })
    }
}

impl EntryId {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }
}

impl DecisionId {
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid.as_u128())
    }

    /// When it was made, to the millisecond: a UUIDv7 begins with it.
    pub const fn made_at(self) -> Timestamp {
        Timestamp::from_micros((self.0 >> 80) as i64 * 1_000)
    }
}

macro_rules! prefixed {
    ($($name:ident, $prefix:literal, $what:literal;)*) => { $(
        impl $name {
            /// What stands before its digits.
            pub const PREFIX: &str = $prefix;

            /// Reads the id as it was given out; anything else is no id of ours.
            pub fn parse(text: &str) -> Result<Self, String> {
                let unknown = || concat!("is not an id that Weir made; it begins with ", $prefix).to_owned();
                let hex = text.strip_prefix($prefix).ok_or_else(unknown)?;
                let lower = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
                if hex.len() != 32 || !hex.bytes().all(lower) {
                    return Err(unknown());
                }
                u128::from_str_radix(hex, 16).map(Self).map_err(|_| unknown())
            }
        }

        impl $name {
            /// Writes the id as it is given out, without the machinery of formatting: each answer has several.
            fn write<'a>(&self, buffer: &'a mut [u8; $prefix.len() + Simple::LENGTH]) -> &'a str {
                let (prefix, digits) = buffer.split_at_mut($prefix.len());
                prefix.copy_from_slice($prefix.as_bytes());
                Uuid::from_u128(self.0).simple().encode_lower(digits);
                std::str::from_utf8(buffer).unwrap_or_default()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.write(&mut [0; $prefix.len() + Simple::LENGTH]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() {
                    to.serialize_str(self.write(&mut [0; $prefix.len() + Simple::LENGTH]))
                } else {
                    to.serialize_u128(self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if !from.is_human_readable() {
                    return u128::deserialize(from).map(Self);
                }
                value::text(from, $what, Self::parse)
            }
        }
    )* };
}

prefixed! {
    ReservationId, "rsv_", "a reservation id";
    EntryId, "ent_", "an entry id";
    DecisionId, "dec_", "a decision id";
    KeyId, "key_", "an API key id";
    GrantId, "grt_", "a grant id";
    BatchId, "bat_", "a batch id";
    AuditId, "aud_", "an id of the audit log";
    CacheEntryId, "cch_", "the id of a kept answer";
    WebhookEndpointId, "whe_", "a webhook endpoint id";
    DeliveryId, "whd_", "a webhook delivery id";
    EventId, "evt_", "an event id";
    FairUseId, "fua_", "an id of a fair-use action";
}

#[cfg(test)]
mod tests;
