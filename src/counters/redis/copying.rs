//! Until when all that the ledger recorded has reached this store. The store remembers it by itself, with its epoch: so a copy of it that
//! takes its place, be it after a partition in which both were written to, says how much it has missed, whoever asks and however long it was.

use super::RedisCounters;
use super::call::{CallError, unknown_word};
use super::keys::tag_of;
use super::pack;
use super::reply::Unexpected;
use super::script;
use crate::counters::{Applied, Copying};
use crate::decision::id::{WorkspaceId, slot};
use crate::decision::time::Timestamp;

impl RedisCounters {
    pub(super) async fn try_begin_copy(&self, now: Timestamp) -> Result<Copying, CallError> {
        let replies = self.everywhere(&script::MARK, now, |pack, _| {
            pack.no();
        });
        let mut copying = Copying::default();
        for (word, mut reply) in replies.await? {
            if word != "marks" {
                return Err(unknown_word(&word));
            }
            copying.epochs.push(reply.text()?);
            let since = reply.moment_if_any()?;
            copying.since = copying.since.into_iter().chain(since).min();
        }
        Ok(copying)
    }

    pub(super) async fn try_copy(
        &self,
        workspace: &WorkspaceId,
        applied: &Applied,
        copying: &Copying,
        now: Timestamp,
    ) -> Result<(), CallError> {
        let epoch = epoch(copying, tag_of(slot(workspace)))?;
        self.try_apply(workspace, applied, (&[], &[]), Some(epoch), now).await.map(drop)
    }

    pub(super) async fn try_end_copy(&self, copying: &Copying, until: Timestamp, now: Timestamp) -> Result<(), CallError> {
        let replies = self.everywhere(&script::MARK, now, |pack, tag| {
            // Without a tag it is one server, which has one epoch.
            let epoch = epoch(copying, tag.unwrap_or(0)).unwrap_or_default();
            pack.text(epoch.as_bytes()).int(pack::micros(until));
        });
        for (word, _) in replies.await? {
            match word.as_str() {
                "marks" => {}
                "other" => return Err(CallError::Replaced),
                other => return Err(unknown_word(other)),
            }
        }
        Ok(())
    }
}

/// Of the process that had a tag when the copy began.
fn epoch(copying: &Copying, tag: usize) -> Result<&str, Unexpected> {
    let epochs = &copying.epochs;
    let found = epochs.get(tag).or_else(|| epochs.first());
    found.map(String::as_str).ok_or_else(|| Unexpected::of("an epoch", "nothing"))
}
