//! What is asked of all workspaces at once: what is due, and how much is open. One call on a server; on a cluster one for each index, all on
//! their way together.

use super::call::{Call, CallError};
use super::keys::TAGS;
use super::pack::Pack;
use super::reply::Reply;
use super::script::{self, Script};
use super::{RedisCounters, reservation};
use crate::counters::Record;
use crate::decision::time::Timestamp;
use futures_util::future::try_join_all;
use std::sync::atomic::Ordering;

/// How many indexes a round looks into for holds that expired in idle workspaces, and how many members of each it draws.
const SWEPT_TAGS: usize = 16;
const SWEPT_MEMBERS: i64 = 32;

impl RedisCounters {
    /// Calls a script over all indexes: at once on a server, index by index on a cluster, all of them on their way together.
    async fn everywhere(
        &self,
        script: &Script,
        now: Timestamp,
        pack: impl Fn(&mut Pack, Option<usize>),
    ) -> Result<Vec<(String, Reply)>, CallError> {
        if !self.link.is_cluster() {
            let mut call = Call::new(script, 0, now);
            call.keys = self.keys.indexes();
            pack(&mut call.pack, None);
            return Ok(vec![self.send(&call).await?]);
        }
        let calls = (0..TAGS).map(|tag| {
            let mut call = Call::new(script, (tag as u32) << 16, now);
            call.keys.push(self.keys.index(tag));
            pack(&mut call.pack, Some(tag));
            async move { self.send(&call).await }
        });
        try_join_all(calls).await
    }

    pub(super) async fn try_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Record>, CallError> {
        let first = self.sweep.fetch_add(SWEPT_TAGS, Ordering::Relaxed) % TAGS;
        let most = i64::try_from(limit).unwrap_or(i64::MAX).min(i64::from(u16::MAX));
        let replies = self.everywhere(&script::DUE, now, |pack, tag| {
            let sweeps = tag.is_none_or(|tag| (first..first + SWEPT_TAGS).contains(&tag));
            // On one server a script sweeps a few members of each index instead of many of some.
            let members = if tag.is_none() {
                SWEPT_MEMBERS / SWEPT_TAGS as i64
            } else {
                SWEPT_MEMBERS
            };
            pack.int(most).int(if sweeps { members } else { 0 });
        });
        let mut due = Vec::new();
        for (_, mut reply) in replies.await? {
            let mut list = reply.list()?;
            while list.len() >= 3 {
                let since = list.moment()?;
                let id = reservation(&list.text()?)?;
                due.push((since, list.record(id)?));
            }
        }
        due.sort_by_key(|(since, record)| (*since, record.reservation));
        due.truncate(limit);
        Ok(due.into_iter().map(|(_, record)| record).collect())
    }

    pub(super) async fn try_open(&self) -> Result<u64, CallError> {
        let mut open = 0;
        for (_, mut reply) in self.everywhere(&script::OPEN, Timestamp::from_micros(0), |_, _| ()).await? {
            open += u64::try_from(reply.int()?).unwrap_or(0);
        }
        Ok(open)
    }
}
