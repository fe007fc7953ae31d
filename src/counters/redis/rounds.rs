//! Questions that take more than one script: about many holds of a workspace, and about all workspaces.

use super::call::{Call, CallError, unknown_word};
use super::keys::{self, TAGS};
use super::pack::{self, Pack};
use super::reply::Reply;
use super::script::{self, Script};
use super::{RedisCounters, request, reservation};
use crate::counters::{FREE_AT_HOLDS_MAX, Record};
use crate::decision::counter::Counter;
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;
use futures_util::future::try_join_all;
use std::sync::atomic::Ordering;

/// How many holds one script looks at to tell when a budget frees up.
const FREE_AT_PAGE: usize = 500;
/// How many indexes a round looks into for holds that expired in idle workspaces, and how many members of each it draws.
const SWEPT_TAGS: usize = 16;
const SWEPT_MEMBERS: i64 = 32;

impl RedisCounters {
    pub(super) async fn try_free_at(
        &self,
        workspace: &WorkspaceId,
        counter: &Counter,
        (ceiling, room): (i64, i64),
        now: Timestamp,
    ) -> Result<Option<Timestamp>, CallError> {
        if request::is_dropped(counter, now) {
            return Ok(None);
        }
        let mut page: Option<(Vec<u8>, i64)> = None;
        for _ in 0..FREE_AT_HOLDS_MAX / FREE_AT_PAGE {
            let mut call = self.of_workspace(&script::FREE_AT, workspace, now);
            call.keys.push(self.keys.group(workspace, counter.whose.column()));
            call.pack.text(workspace.as_str().as_bytes());
            call.pack.text(keys::slot_text(workspace).as_bytes());
            call.pack.text(counter.whose.column().as_bytes());
            call.pack.text(keys::field(counter).as_bytes());
            call.pack.int(keys::unit_place(counter.unit)).int(request::born_at(counter));
            call.pack.wide(ceiling).int(room.clamp(0, pack::EXACT)).int(FREE_AT_PAGE as i64);
            match &page {
                Some((member, missing)) => call.pack.text(member).int(*missing),
                None => call.pack.no().int(0),
            };
            let (word, mut reply) = self.send(&call).await?;
            match word.as_str() {
                "at" => return Ok(Some(reply.moment()?)),
                "none" => return Ok(None),
                "more" => page = Some((reply.bytes()?, reply.int()?)),
                other => return Err(unknown_word(other)),
            }
        }
        Ok(None)
    }

    /// Calls a script over all indexes: at once on a server, index by index on a cluster, all of them on their way together.
    pub(super) async fn everywhere(
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
