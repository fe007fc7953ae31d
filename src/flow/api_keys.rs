//! API keys as requests meet them: held in memory, read from the ledger on first sight, followed like workspaces, so that a key that is
//! revoked anywhere ends here within the poll.
//!
//! Only ids whose key bears the mark of this service get here, so strangers cannot make the ledger be asked. What is asked for is asked
//! once: a key that is not there is remembered too, for a while and in bounded number.
//!
//! When a key was used last is noted in memory, at most once a minute, and written in the background: a crash loses the last of it.

use super::audit::{self, By, Subject};
use super::{DECIDE_AGAIN_MAX, FlowError, Service};
use crate::decision::api_key::{ApiKey, SecretHash};
use crate::decision::id::KeyId;
use crate::decision::time::Timestamp;
pub use crate::ledger::api_keys::{ApiKeyQuery, PAGE_KEYS_MAX};
use foldhash::HashMap;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::Semaphore;

/// How many keys are kept in memory; beyond it, those are forgotten that the ledger can tell again.
const KNOWN_MAX: usize = 65_536;
const SHARDS: usize = 16;
/// How many keys that are not there are remembered, and for how long.
const ABSENT_MAX: usize = 1_024;
const ABSENT_SECONDS: i64 = 10;
/// How many keys are read from the ledger at a time.
const READS_MAX: usize = 4;
/// How many changes are followed at a time, and how many uses are written.
const PAGE: usize = 500;
/// A use that follows another one sooner is not noted.
const USE_EVERY_SECONDS: i64 = 60;

/// A key that this process has met.
#[derive(Debug)]
pub struct Known {
    pub key: ApiKey,
    used: Arc<Used>,
}

/// When a key was used last, and up to when the ledger knows of it: microseconds.
#[derive(Debug)]
struct Used {
    seen: AtomicI64,
    written: AtomicI64,
}

impl Used {
    fn of(key: &ApiKey) -> Arc<Self> {
        let at = key.last_used_at.unwrap_or(Timestamp::MIN).micros();
        Arc::new(Self {
            seen: AtomicI64::new(at),
            written: AtomicI64::new(at),
        })
    }
}

impl Known {
    /// Notes that the key was used: mostly one comparison.
    pub fn note_use(&self, now: Timestamp) {
        let seen = Timestamp::from_micros(self.used.seen.load(Ordering::Relaxed));
        if now >= seen.plus_seconds(USE_EVERY_SECONDS) {
            self.used.seen.fetch_max(now.micros(), Ordering::Relaxed);
        }
    }
}

/// The keys that this process has met.
pub struct ApiKeys {
    shards: [RwLock<HashMap<KeyId, Arc<Known>>>; SHARDS],
    /// Those that are not there, each with the moment from which on it may be asked for again.
    absent: Mutex<BTreeMap<KeyId, Timestamp>>,
    /// The number of the last change that was looked at. It moves before what is known is renewed, so that whoever read an older state
    /// in the meantime sees it move, and reads again.
    followed: AtomicI64,
    reading: Semaphore,
    reads: AtomicU64,
}

impl Default for ApiKeys {
    fn default() -> Self {
        Self {
            shards: Default::default(),
            absent: Mutex::default(),
            followed: AtomicI64::new(0),
            reading: Semaphore::new(READS_MAX),
            reads: AtomicU64::new(0),
        }
    }
}

impl ApiKeys {
    /// How often the ledger was asked for a key.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    fn shard(&self, id: KeyId) -> &RwLock<HashMap<KeyId, Arc<Known>>> {
        // The last bits of an id are chance.
        &self.shards[usize::from(id.as_bytes()[15]) % SHARDS]
    }

    fn get(&self, id: KeyId) -> Option<Arc<Known>> {
        self.shard(id).read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Keeps the newer of what is known and `key`; `only_known`: what is not known is read when it is asked for.
    fn keep(&self, key: ApiKey, only_known: bool) -> Option<Arc<Known>> {
        let mut known = self.shard(key.id).write().unwrap_or_else(PoisonError::into_inner);
        let used = match known.get(&key.id) {
            Some(newer) if newer.key.version >= key.version => return Some(newer.clone()),
            Some(older) => older.used.clone(),
            None if only_known => return None,
            None => Used::of(&key),
        };
        if known.len() >= KNOWN_MAX / SHARDS {
            known.clear();
        }
        let kept = Arc::new(Known { key, used });
        known.insert(kept.key.id, kept.clone());
        Some(kept)
    }

    fn is_absent(&self, id: KeyId, now: Timestamp) -> bool {
        let absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        absent.get(&id).is_some_and(|until| now < *until)
    }

    fn note_absent(&self, id: KeyId, now: Timestamp) {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.len() >= ABSENT_MAX {
            absent.clear();
        }
        absent.insert(id, now.plus_seconds(ABSENT_SECONDS));
    }

    fn no_longer_absent(&self, id: KeyId) {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Keys whose last use the ledger does not know yet, in the order of their ids.
    fn unwritten(&self) -> BTreeMap<KeyId, (Arc<Used>, i64)> {
        let mut unwritten = BTreeMap::new();
        for shard in &self.shards {
            for (id, known) in shard.read().unwrap_or_else(PoisonError::into_inner).iter() {
                let seen = known.used.seen.load(Ordering::Relaxed);
                if seen > known.used.written.load(Ordering::Relaxed) {
                    unwritten.insert(*id, (known.used.clone(), seen));
                }
            }
        }
        unwritten
    }
}

/// The key of this id, be it revoked or expired; `None`: there is none.
pub async fn find(service: &Service, id: KeyId) -> Result<Option<Arc<Known>>, FlowError> {
    let (keys, now) = (&service.api_keys, service.clock.now());
    let remembered = || match keys.get(id) {
        Some(known) => Some(Some(known)),
        None => keys.is_absent(id, now).then_some(None),
    };
    if let Some(remembered) = remembered() {
        return Ok(remembered);
    }
    // Nobody closes it; and whoever waited for it may find the answer that another one got.
    let _turn = keys.reading.acquire().await;
    if let Some(remembered) = remembered() {
        return Ok(remembered);
    }
    loop {
        let followed = keys.followed.load(Ordering::SeqCst);
        keys.reads.fetch_add(1, Ordering::Relaxed);
        let Some(stored) = service.ledger.api_key(id).await? else {
            keys.note_absent(id, now);
            return Ok(None);
        };
        let kept = keys.keep(stored, false);
        if keys.followed.load(Ordering::SeqCst) == followed {
            return Ok(kept);
        }
    }
}

/// From here on changes are followed. To be called before any key is known.
pub async fn follow_from_now(service: &Service) -> Result<(), FlowError> {
    let newest = service.ledger.api_key_change().await?;
    service.api_keys.followed.store(newest, Ordering::SeqCst);
    Ok(())
}

/// Takes over what other nodes have changed of the keys that are known here. Returns how many changes there were to look at.
pub async fn follow(service: &Service) -> Result<usize, FlowError> {
    let (keys, mut seen) = (&service.api_keys, 0);
    loop {
        let after = keys.followed.load(Ordering::SeqCst);
        let changes = service.ledger.api_keys_changed(after, PAGE).await?;
        seen += changes.len();
        let Some((last, _)) = changes.last() else { return Ok(seen) };
        keys.followed.store(*last, Ordering::SeqCst);
        let is_last_page = changes.len() < PAGE;
        for (_, key) in changes {
            keys.no_longer_absent(key.id);
            keys.keep(key, true);
        }
        if is_last_page {
            return Ok(seen);
        }
    }
}

/// Writes down when keys were used last. What cannot be written is written the next time.
pub async fn write_uses(service: &Service) -> Result<usize, FlowError> {
    let mut unwritten: Vec<_> = service.api_keys.unwritten().into_iter().collect();
    let count = unwritten.len();
    while !unwritten.is_empty() {
        let page: Vec<_> = unwritten.drain(..unwritten.len().min(PAGE)).collect();
        let uses = page.iter().map(|(id, (_, seen))| (*id, Timestamp::from_micros(*seen)));
        service.ledger.use_api_keys(uses.collect()).await?;
        for (_, (used, seen)) in page {
            used.written.fetch_max(seen, Ordering::Relaxed);
        }
    }
    Ok(count)
}

/// An id for a new key.
pub fn new_id(service: &Service) -> KeyId {
    KeyId::from_uuid(service.clock.uuid())
}

/// Writes a new key.
pub async fn create(service: &Service, key: ApiKey, by: &By) -> Result<ApiKey, FlowError> {
    match service
        .ledger
        .put_api_key(&key, 0, record(service, by, "create", None, &key))
        .await?
    {
        true => Ok(key),
        // Ids are made of chance.
        false => Err(raced(key.id)),
    }
}

/// Gives a key another secret. The one that it has now works for `overlap_seconds` more.
pub async fn rotate(service: &Service, id: KeyId, hash: SecretHash, overlap_seconds: i64, by: &By) -> Result<ApiKey, FlowError> {
    change(service, id, by, "rotate", |key, now| {
        key.rotated(hash, now.plus_seconds(overlap_seconds))
    })
    .await
}

/// Ends a key, on this node at once and on the others within their poll.
pub async fn revoke(service: &Service, id: KeyId, by: &By) -> Result<ApiKey, FlowError> {
    change(service, id, by, "revoke", ApiKey::revoked).await
}

/// Changes a key that is not revoked.
async fn change(
    service: &Service,
    id: KeyId,
    by: &By,
    verb: &str,
    change: impl Fn(&ApiKey, Timestamp) -> ApiKey,
) -> Result<ApiKey, FlowError> {
    for _ in 0..DECIDE_AGAIN_MAX {
        let stored = service.ledger.api_key(id).await?;
        let stored = stored.filter(|key| key.revoked_at.is_none()).ok_or(FlowError::NotFound)?;
        let next = change(&stored, service.clock.now());
        let record = record(service, by, verb, Some(&stored), &next);
        if service.ledger.put_api_key(&next, stored.version, record).await? {
            service.api_keys.keep(next.clone(), true);
            return Ok(next);
        }
    }
    Err(raced(id))
}

/// How a change of a key is told in the audit log: without any secret or hash of one.
fn record(service: &Service, by: &By, verb: &str, before: Option<&ApiKey>, after: &ApiKey) -> audit::Audited {
    let subject = match &after.workspace {
        Some(workspace) => Subject::of(workspace, "api_key", after.id.to_string()),
        None => Subject::shared("api_key", after.id.to_string()),
    };
    let after = Some(after).filter(|key| key.revoked_at.is_none());
    audit::record(
        &*service.clock,
        by,
        format!("api_key.{verb}"),
        subject,
        before.map(document),
        after.map(document),
    )
}

/// A key as callers see it, but for when it was used.
fn document(key: &ApiKey) -> Value {
    json!({
        "key_id": key.id,
        "name": key.name,
        "scopes": key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "workspace_id": key.workspace,
        "created_by": key.created_by,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "replaced_secret_expires_at": key.replaced.map(|replaced| replaced.until),
    })
}

/// A key that is not revoked, as the ledger has it.
pub async fn read(service: &Service, id: KeyId) -> Result<ApiKey, FlowError> {
    let stored = service.ledger.api_key(id).await?;
    stored.filter(|key| key.revoked_at.is_none()).ok_or(FlowError::NotFound)
}

/// Keys that are not revoked, newest first.
pub async fn list(service: &Service, query: &ApiKeyQuery) -> Result<Vec<ApiKey>, FlowError> {
    Ok(service.ledger.api_keys(query).await?)
}

fn raced(id: KeyId) -> FlowError {
    FlowError::Raced {
        what: format!("API key {id}"),
    }
}
