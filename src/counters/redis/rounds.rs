//! Questions that take more than one script: about many holds of a workspace, and about all workspaces.

use super::call::{Call, CallError, unknown_word};
use super::keys::{self, TAGS};
use super::pack::{self, Pack};
use super::reply::Reply;
use super::script::{self, Script};
use super::{RedisCounters, request};
use crate::counters::FREE_AT_HOLDS_MAX;
use crate::decision::counter::Counter;
use crate::decision::id::WorkspaceId;
use crate::decision::time::Timestamp;
use futures_util::future::try_join_all;

/// How many holds one script after the other looks at to tell when a budget frees up. Few are enough for most, and while a script looks at
/// them nobody else is answered.
const FREE_AT_PAGES: [usize; 4] = [16, 32, 64, 128];
const _: () = assert!(FREE_AT_PAGES[0] + FREE_AT_PAGES[1] + FREE_AT_PAGES[2] + FREE_AT_PAGES[3] == FREE_AT_HOLDS_MAX);

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
        let mut before: Option<(Vec<u8>, i64)> = None;
        let mut looked_until = None;
        for page in FREE_AT_PAGES {
            let mut call = self.of_workspace(&script::FREE_AT, workspace, now);
            call.keys.push(self.keys.group(workspace, counter.whose.column()));
            call.pack.text(workspace.as_str().as_bytes());
            call.pack.text(keys::slot_text(workspace).as_bytes());
            call.pack.text(counter.whose.column().as_bytes());
            call.pack.text(keys::field(counter).as_bytes());
            call.pack.int(keys::unit_place(counter.unit)).int(request::born_at(counter));
            call.pack.wide(ceiling).int(room.clamp(0, pack::EXACT)).int(page as i64);
            match &before {
                Some((member, missing)) => call.pack.text(member).int(*missing),
                None => call.pack.no().int(0),
            };
            let (word, mut reply) = self.send(&call).await?;
            match word.as_str() {
                "at" => return Ok(Some(reply.moment()?)),
                "none" => return Ok(None),
                "more" => {
                    let last = reply.bytes()?;
                    looked_until = Some(reply.moment()?);
                    before = Some((last, reply.int()?));
                }
                other => return Err(unknown_word(other)),
            }
        }
        Ok(looked_until)
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

    pub(super) async fn try_open(&self) -> Result<u64, CallError> {
        let mut open = 0;
        for (_, mut reply) in self.everywhere(&script::OPEN, Timestamp::from_micros(0), |_, _| ()).await? {
            open += u64::try_from(reply.int()?).unwrap_or(0);
        }
        Ok(open)
    }
}
