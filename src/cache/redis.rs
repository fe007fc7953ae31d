//! Exact answers in the Redis of the counters: one script for each step, all keys of a workspace in one slot.
//!
//! Keys, behind the tag of the workspace's slot: `ce:` an answer, `cl:` who leads for one, `cp:` where the answer of an id is, `ci:` and `cs:`
//! when each answer of a feature expires and how large it is, `cf:` the features of a workspace. All but the last two bear a time to live, and
//! these are bounded with what they list. Redis must not evict counters, so nothing is put once more than [`MEMORY_PERCENT_MAX`] of its
//! memory is used.

use super::exact::{ExactError, ExactStore, FEATURE_BYTES_MAX, LEADER_SECONDS, Looked, Put};
use crate::counters::CountersError;
use crate::counters::redis::{Beside, OwnScript};
use crate::decision::cache::key::Key;
use crate::decision::id::{CacheEntryId, Feature, ReservationId, WorkspaceId, slot};
use crate::decision::time::Timestamp;
use ::redis::Value;
use async_trait::async_trait;
use std::sync::LazyLock;

/// How much of a bounded Redis answers may help to fill.
const MEMORY_PERCENT_MAX: u32 = 60;
/// How long it is known of an answer that went whose it was.
const REMEMBERED_SECONDS: i64 = 3_600;

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => { $(
        static $name: LazyLock<OwnScript> = LazyLock::new(|| OwnScript::new(include_str!(concat!("scripts/", $file, ".lua"))));
    )* };
}

scripts! {
    LOOK = "look_v1";
    LEAD = "lead_v1";
    GIVE_UP = "give_up_v1";
    PUT = "put_v2";
    FORGET = "forget_v1";
    PURGE = "purge_v2";
}

/// Exact answers that all nodes share.
pub struct RedisExact {
    beside: Beside,
}

fn failed(error: CountersError) -> ExactError {
    ExactError(error.into())
}

fn unexpected(value: &Value) -> ExactError {
    ExactError(format!("an answer that no script of this version gives: {value:?}").into())
}

/// Where an entry is kept.
struct Place {
    workspace: WorkspaceId,
    feature: Feature,
    key: String,
}

impl RedisExact {
    pub fn new(beside: Beside) -> Self {
        Self { beside }
    }

    fn pointer(&self, id: CacheEntryId) -> String {
        self.beside.key(id.slot(), format_args!("cp:{id}"))
    }

    /// What the keys of places begin with, before the digits of an id.
    fn places(&self, slot: u32) -> String {
        self.beside.key(slot, format_args!("cp:{}", CacheEntryId::PREFIX))
    }

    fn entry(&self, slot: u32, key: &str) -> String {
        self.beside.key(slot, format_args!("ce:{key}"))
    }

    fn leader(&self, workspace: &WorkspaceId, key: &Key) -> String {
        self.beside.key(slot(workspace), format_args!("cl:{key}"))
    }

    /// What a script says that answers yes or no.
    async fn ask(&self, script: &OwnScript, keys: &[String], args: &[&[u8]]) -> Result<bool, ExactError> {
        match self.beside.run(script, keys, args).await.map_err(failed)? {
            Value::Int(answer) => Ok(answer != 0),
            other => Err(unexpected(&other)),
        }
    }

    fn of_feature(&self, kind: &str, workspace: &WorkspaceId, feature: &Feature) -> String {
        self.beside.key(slot(workspace), format_args!("{kind}:{workspace},{feature}"))
    }

    async fn place(&self, id: CacheEntryId) -> Result<Option<Place>, ExactError> {
        let pointer = self.beside.command("GET", &[self.pointer(id)], &[]).await.map_err(failed)?;
        let Value::BulkString(pointer) = pointer else { return Ok(None) };
        let read = || {
            let text = std::str::from_utf8(&pointer).ok()?;
            let mut parts = text.split(',');
            Some(Place {
                workspace: WorkspaceId::parse(parts.next()?).ok()?,
                feature: Feature::parse(parts.next()?).ok()?,
                key: parts.next()?.to_owned(),
            })
        };
        Ok(read())
    }

    /// For how many seconds it is known whose an answer is.
    #[cfg(test)]
    pub(super) async fn known_for(&self, id: CacheEntryId) -> Value {
        self.beside.command("TTL", &[self.pointer(id)], &[]).await.expect("an answer")
    }

    async fn purge_feature(&self, workspace: &WorkspaceId, feature: &Feature) -> Result<u64, ExactError> {
        let keys = [self.of_feature("ci", workspace, feature), self.of_feature("cs", workspace, feature)];
        let (prefix, places) = (self.entry(slot(workspace), ""), self.places(slot(workspace)));
        let seconds = REMEMBERED_SECONDS.to_string();
        match self
            .beside
            .run(&PURGE, &keys, &[prefix.as_bytes(), places.as_bytes(), seconds.as_bytes()])
            .await
            .map_err(failed)?
        {
            Value::Int(gone) => Ok(u64::try_from(gone).unwrap_or(0)),
            other => Err(unexpected(&other)),
        }
    }
}

#[async_trait]
impl ExactStore for RedisExact {
    async fn look(&self, workspace: &WorkspaceId, reservation: ReservationId, key: &Key, now: Timestamp) -> Result<Looked, ExactError> {
        let entry = self.entry(slot(workspace), &key.to_string());
        let keys = [self.beside.reservation(reservation), entry, self.leader(workspace, key)];
        let (until, seconds) = (now.plus_seconds(LEADER_SECONDS).micros().to_string(), LEADER_SECONDS.to_string());
        let now = now.micros().to_string();
        let args = [now.as_bytes(), until.as_bytes(), seconds.as_bytes()];
        let answer = self.beside.run(&LOOK, &keys, &args).await.map_err(failed)?;
        let Value::Array(parts) = &answer else {
            return Err(unexpected(&answer));
        };
        match &parts[..] {
            [Value::Int(decided), answer, Value::Int(leads)] => Ok(Looked {
                is_decided: Some(*decided != 0),
                answer: match answer {
                    Value::BulkString(bytes) => Some(bytes.clone()),
                    _ => None,
                },
                leads: *leads != 0,
            }),
            _ => Err(unexpected(&answer)),
        }
    }

    async fn lead(&self, workspace: &WorkspaceId, key: &Key, now: Timestamp) -> Result<bool, ExactError> {
        let (until, seconds) = (now.plus_seconds(LEADER_SECONDS).micros().to_string(), LEADER_SECONDS.to_string());
        let now = now.micros().to_string();
        let args = [now.as_bytes(), until.as_bytes(), seconds.as_bytes()];
        self.ask(&LEAD, &[self.leader(workspace, key)], &args).await
    }

    async fn give_up(&self, workspace: &WorkspaceId, key: &Key, until: Timestamp) -> Result<bool, ExactError> {
        let until = until.micros().to_string();
        self.ask(&GIVE_UP, &[self.leader(workspace, key)], &[until.as_bytes()]).await
    }

    async fn put(&self, put: &Put<'_>, now: Timestamp) -> Result<bool, ExactError> {
        let (slot, key) = (slot(put.workspace), put.key.to_string());
        let keys = [
            self.entry(slot, &key),
            self.leader(put.workspace, &put.key),
            self.pointer(put.id),
            self.of_feature("ci", put.workspace, put.feature),
            self.of_feature("cs", put.workspace, put.feature),
            self.beside.key(slot, format_args!("cf:{}", put.workspace)),
        ];
        let seconds = now.seconds_until(put.expires_at).max(1);
        let pointer = format!("{},{},{key}", put.workspace, put.feature);
        let numbers = [
            seconds.to_string(),
            put.expires_at.micros().to_string(),
            now.micros().to_string(),
            put.entries_max.to_string(),
            FEATURE_BYTES_MAX.to_string(),
            MEMORY_PERCENT_MAX.to_string(),
            self.places(slot),
            REMEMBERED_SECONDS.to_string(),
        ];
        let prefix = self.entry(slot, "");
        let mut args: Vec<&[u8]> = vec![
            put.answer,
            pointer.as_bytes(),
            prefix.as_bytes(),
            key.as_bytes(),
            put.feature.as_str().as_bytes(),
        ];
        args.extend(numbers.iter().map(|number| number.as_bytes()));
        self.ask(&PUT, &keys, &args).await
    }

    async fn find(&self, id: CacheEntryId, _now: Timestamp) -> Result<Option<(WorkspaceId, Option<Vec<u8>>)>, ExactError> {
        let Some(place) = self.place(id).await? else { return Ok(None) };
        // The id names a slot, and so many workspaces; the place says which one.
        if slot(&place.workspace) != id.slot() {
            return Ok(None);
        }
        let entry = self
            .beside
            .command("GET", &[self.entry(id.slot(), &place.key)], &[])
            .await
            .map_err(failed)?;
        let entry = match entry {
            Value::BulkString(bytes) => super::answer::Answer::decode(&bytes)
                .filter(|answer| answer.id == id)
                .map(|_| bytes),
            _ => None,
        };
        Ok(Some((place.workspace, entry)))
    }

    async fn forget(&self, id: CacheEntryId, _now: Timestamp) -> Result<bool, ExactError> {
        let Some(place) = self.place(id).await? else { return Ok(false) };
        let keys = [
            self.pointer(id),
            self.entry(id.slot(), &place.key),
            self.of_feature("ci", &place.workspace, &place.feature),
            self.of_feature("cs", &place.workspace, &place.feature),
        ];
        let seconds = REMEMBERED_SECONDS.to_string();
        let args = [&id.to_bytes()[..], place.key.as_bytes(), seconds.as_bytes()];
        self.ask(&FORGET, &keys, &args).await
    }

    async fn purge(&self, workspace: &WorkspaceId, feature: Option<&Feature>) -> Result<u64, ExactError> {
        if let Some(feature) = feature {
            return self.purge_feature(workspace, feature).await;
        }
        let features = self.beside.key(slot(workspace), format_args!("cf:{workspace}"));
        let listed = self.beside.command("SMEMBERS", &[features], &[]).await.map_err(failed)?;
        let (Value::Array(listed) | Value::Set(listed)) = listed else {
            return Err(unexpected(&listed));
        };
        let mut gone = 0;
        for feature in listed {
            if let Value::BulkString(feature) = feature
                && let Some(feature) = std::str::from_utf8(&feature).ok().and_then(|feature| Feature::parse(feature).ok())
            {
                gone += self.purge_feature(workspace, &feature).await?;
            }
        }
        Ok(gone)
    }
}
